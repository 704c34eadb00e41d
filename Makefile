# Two commands do everything: `make demo` and `make test`. Both build .venv first, where it is missing or out of date.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

OLDEST := .venv-oldest
OLDEST_PYTHON ?= $(shell for python in python3.10 python3.11 $(PYTHON); do $$python -c "" 2>/dev/null && echo $$python && break; done)

.PHONY: demo test test-oldest docs linkcheck lint types format bench compatibility clean

demo: $(VENV)/.ready
	$(BIN)/lightning-robust demo $(ARGS)

test: $(VENV)/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(ARGS)

# The whole suite with the oldest release of everything that pyproject.toml asks for; they need Python 3.10 or 3.11.
test-oldest: $(OLDEST)/.ready
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n 2 $(ARGS)
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n 2 -m slow tests/test_examples.py

# The site, in docs/_build/html/index.html: every example is run, a warning is an error, and nothing is fetched.
docs: $(VENV)/.ready
	rm -rf docs/_build docs/gallery docs/api/parts
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -W --keep-going -q -b html $(ARGS) docs docs/_build/html
	@echo "The site: docs/_build/html/index.html"

# The links to other sites, which needs a network. Examples are not run.
linkcheck: $(VENV)/.ready
	$(BIN)/sphinx-build -q -b linkcheck -D plot_gallery=0 docs docs/_build/linkcheck

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready
	$(BIN)/mypy

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.ready
	$(BIN)/python benchmarks/attack_step.py

# docs/compatibility.md, from the table that the tests run.
compatibility: $(VENV)/.ready
	PYTHONPATH=.:tests $(BIN)/python -m tests.compatibility.page

clean:
	rm -rf $(VENV) $(OLDEST) dist build docs/_build docs/gallery docs/api/parts .pytest_cache .mypy_cache .ruff_cache

$(VENV)/.ready: pyproject.toml studies/pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "lightning_robust needs Python 3.10 or newer, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --editable studies
	$(BIN)/python -m pip install --quiet --no-deps 'adv-lib>=0.2.8'  # it asks for a plot server that does not build
	touch $@

$(OLDEST)/.ready: pyproject.toml studies/pyproject.toml tools/oldest.txt
	$(OLDEST_PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --upgrade pip
	$(OLDEST)/bin/python -m pip install --quiet --constraint tools/oldest.txt --editable '.[test]' --editable studies
	$(OLDEST)/bin/python -m pip install --quiet --no-deps 'adv-lib==0.2.8'
	touch $@
