# demo: sets up, then trains, compresses and reports. test: sets up, then checks all.
# lint: what test checks before it runs anything. lowest: the tests with the least
# versions of all dependencies. docs: the site, into .site/. figures: those of the guide,
# drawn anew. dist: sdist and wheel, built and tried.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)
BIN = .venv/bin

.PHONY: demo test lint lowest vectors figures docs dist format benchmarks

demo: .venv/experiments.stamp
	$(BIN)/python -m experiments.vgg19_cifar10

test: lint
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: .venv/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

lowest:
	$(PYTHON) -m venv --clear build/lowest
	build/lowest/bin/python -m pip install --quiet uv
	build/lowest/bin/uv pip install --quiet --python build/lowest/bin/python \
		--resolution lowest-direct --editable ".[test]"
	build/lowest/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -W ignore::DeprecationWarning

vectors: .venv/test.stamp
	$(BIN)/python -m tests.make_vectors

figures: .venv/test.stamp
	$(BIN)/python -m tests.make_figures

# Not quietly: warnings of broken links that are not printed do not end the build.
docs: .venv/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --config-file .mkdocs.yml

dist: .venv/dist.stamp
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/python tests/try_dist.py dist/*

benchmarks: .venv/experiments.stamp
	$(BIN)/python -m experiments.benchmarks.coding
	$(BIN)/python -m experiments.benchmarks.clustering
	$(BIN)/python -m experiments.benchmarks.clustering_large --sklearn
	$(BIN)/python -m experiments.benchmarks.sizes
	$(BIN)/python -m experiments.benchmarks.training
	$(BIN)/python -m experiments.benchmarks.coding_leaves
	$(BIN)/python -m experiments.benchmarks.epoch

format: .venv/test.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/%.stamp: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed" >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	touch $@
