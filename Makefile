# Two commands: `make reproduce` and `make test`. Both make the environment they need.
# The newest interpreter found among those that are tested; PYTHON=python3.11 chooses another.
PYTHON ?= $(shell .ci/find-python)
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV ?= .venv/$(VERSION)
BIN := $(VENV)/bin

.PHONY: reproduce test test-slow torture lint types layers bench docs clean
.DELETE_ON_ERROR:

STUDY ?= article

reproduce: $(VENV)/installed  ## Run a study, the article's unless STUDY=paper, and write its report
	$(BIN)/scaling-study reproduce $(STUDY) --overwrite

TESTS ?= tests

test: $(VENV)/installed
	$(BIN)/python -m pytest -m "not slow" $(TESTS)

test-slow: $(VENV)/installed  ## The rest: kills at every file operation, signals, whole sweeps
	$(BIN)/python -m pytest -m slow

torture: $(VENV)/installed  ## 50 kills, kills at each operation, 1,000 studies; half an hour
	$(BIN)/python tests/support/torture.py

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/typos

types: $(VENV)/installed
	$(BIN)/pyright --pythonpath $(BIN)/python

layers: $(VENV)/installed
	$(BIN)/lint-imports

bench: $(VENV)/installed  ## Measure speed beside peers; write reports/bench/
	$(BIN)/python -m pytest bench --numprocesses 0 --benchmark-enable --benchmark-only -W default \
		--benchmark-columns=median,iqr,rounds --benchmark-json $(VENV)/bench.json
	$(BIN)/python bench/report.py $(VENV)/bench.json reports/bench
	$(BIN)/python bench/network.py reports/bench

docs: $(VENV)/documented  ## Write the documentation to build/docs; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs

$(VENV)/documented: $(VENV)/installed constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

$(VENV)/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found; say PYTHON=/path/to/python"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,lint]'
	@touch $@

clean:
	rm -rf .venv .pytest_cache results build *.egg-info
