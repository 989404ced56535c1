# demo: sets up, then trains, compresses and reports. test: sets up, then checks all.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)
BIN = .venv/bin

.PHONY: demo test vectors format benchmarks

demo: .venv/experiments.stamp
	$(BIN)/python -m experiments.vgg19_cifar10

test: .venv/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/pytest -n 2 --dist loadfile

vectors: .venv/test.stamp
	$(BIN)/python -m tests.make_vectors

benchmarks: .venv/experiments.stamp
	$(BIN)/python -m experiments.benchmarks.coding
	$(BIN)/python -m experiments.benchmarks.clustering
	$(BIN)/python -m experiments.benchmarks.sizes
	$(BIN)/python -m experiments.benchmarks.training
	$(BIN)/python -m experiments.benchmarks.epoch

format: .venv/test.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/%.stamp: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed" >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	touch $@
