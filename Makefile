# Everything a fresh machine needs beside this file: Python 3.11 and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint bench clean

demo: $(READY)  ## render a small catalogue, ingest it, find what was sampled
	$(BIN)/asid demo

test: lint  ## ruff, import rules, tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

bench: $(READY)  ## speed of the encoder, of ingestion, of correlation and of training pairs
	$(BIN)/python -m benchmarks.encoder
	$(BIN)/python -m benchmarks.ingest
	$(BIN)/python -m benchmarks.correlate
	$(BIN)/python -m benchmarks.pairs

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v[:2] != (3, 11) and f"Python {v[0]}.{v[1]} found, 3.11 needed: make PYTHON=/path/to/python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) demo .pytest_cache .ruff_cache .import_linter_cache
