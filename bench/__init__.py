"""The suite behind `make bench`: pytest-benchmark times the scenarios of engine.cli.benching, limits.toml judges."""
