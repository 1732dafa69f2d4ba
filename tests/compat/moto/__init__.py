"""moto's own tests of Lambda, from its source distribution, run against engines: `make test-moto`.

`environment.py` makes what is fetched, under build/moto: a virtual environment by requirements/moto.lock, and the
source distribution whose hash stands there. `servers.py` starts moto's server, and an engine for each region that the
tests name, since AWS has endpoints by region too. The tests run in that environment with `plugin/against_engine.py`,
which sends `lambda` and `logs` to the engine of the client's region and every other service to moto's server, in place
of moto's own patching of botocore. `table.py` compares with expected.toml, which says of each test that it passes or
why it does not.

Nothing of moto is kept in the repository.
"""
