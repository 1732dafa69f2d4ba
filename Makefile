# The one place where work on Cleave starts. Every target does all the set-up that it needs, from a fresh clone on.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test test-hosts test-threads test-moto test-full check format serve bench build lock clean
MAKEFLAGS += --no-print-directory

# What `make serve` and `make bench` pass on, such as ARGS="--data-dir /tmp/cleave" or ARGS="--rounds 50".
ARGS ?=

WITHOUT = echo "going on without: tests/compat skips what is missing, and fails where CI=true" >&2

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## start an engine, deploy and invoke a sample, print the timings, stop
	@.ci/setup run
	@.venv/bin/python examples/demo.py

test: ## run the tests with reduced counts
	@.ci/setup dev
	@.ci/sdks || $(WITHOUT)
	@CLEAVE_COUNTS=reduced .venv/bin/pytest

test-hosts: ## boot hosts of cgroup v2, v1, both and none under qemu and run the tests of the box in them
	@.ci/setup dev
	@.ci/v2-image
	@CLEAVE_HOSTS=1 .venv/bin/pytest tests/hosts

test-threads: ## look for races in the native code with ThreadSanitizer, with reduced counts
	@.ci/setup dev
	@.ci/sanitize thread

test-moto: ## run moto's own tests of Lambda, downloaded by hash, against engines and moto's server; ARGS="-k alias"
	@.ci/setup dev
	@.venv/bin/python -m tests.compat.moto $(ARGS)

test-full: ## run the tests with full counts, other hosts' kernels, the analyzer and the sanitizers
	@.ci/setup dev
	@.ci/v2-image
	@.ci/sdks || $(WITHOUT)
	@CLEAVE_COUNTS=full .venv/bin/pytest
	@.venv/bin/python -m tests.compat.moto
	@.ci/analyze
	@.ci/sanitize
	@CLEAVE_COUNTS=full .ci/sanitize thread

check: ## lint, types, import directions, formatting, warnings
	@.ci/setup dev
	@.ci/check

format: ## rewrite Python and C in the project's format
	@.ci/setup dev
	@.venv/bin/ruff check --quiet --fix-only
	@.venv/bin/ruff format --quiet
	@find native -name '*.[ch]' -exec .venv/bin/clang-format -i {} +

serve: ## run an engine in the foreground; ARGS="…" are passed on
	@.ci/setup run
	@exec .venv/bin/cleave serve $(ARGS)

bench: ## time and judge cold and warm calls beside a raw gRPC echo; results land in bench/results
	@.ci/setup dev
	@.ci/prerequisites bench >/dev/null || echo "going on without: the rows of what is missing say so"
	@mkdir -p bench/results
	@.venv/bin/pytest bench -q --benchmark-columns=min,median,max,rounds \
	    --benchmark-json=bench/results/pytest-benchmark.json $(ARGS); \
	status=$$?; .venv/bin/python -m bench.plot && exit $$status

build: ## set up .venv with all the tools, and build what is out of date
	@.ci/setup dev

# The versions that everything uses. --upgrade takes the newest that pyproject.toml allows: make lock LOCK=--upgrade
LOCK ?=
UV = build/lock-env/bin/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --universal \
     --python-version 3.11 $(LOCK)

lock: ## resolve pyproject.toml into requirements/*.lock; LOCK=--upgrade for newer versions
	@.ci/setup dev
	@.venv/bin/python -m venv build/lock-env
	@build/lock-env/bin/pip install --quiet --disable-pip-version-check uv
	@$(UV) --all-extras --group dev pyproject.toml --output-file requirements/dev.lock
	@$(UV) --group demo --constraints requirements/dev.lock pyproject.toml --output-file requirements/run.lock
	@$(UV) --group pyproject.toml:moto --constraints requirements/dev.lock --output-file requirements/moto.lock
	@rm -rf build/lock-env

clean: ## remove what was built, and .venv
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks
	rm -rf tests/compat/js/node_modules
	find engine -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
