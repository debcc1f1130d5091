# What a newcomer runs. Each target does its own set-up, in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= tcp:8080

.PHONY: run test check conformance clean

run: $(VENV)/.run  ## serve on port 8080
	$(BIN)/twistd -n --pidfile= echod --port $(PORT)

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "echod needs Python 3.11 or newer; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable '.[test,dev]'
	touch $@ $(VENV)/.run

test: $(VENV)/.test  ## all tests but the long suites
	$(BIN)/python -m pytest

check: $(VENV)/.test  ## style, types, and tests with full branch coverage
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

clean:  ## remove what the others made
	rm -rf $(VENV) build dist reports .coverage* .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} + -o -name dropin.cache -delete
