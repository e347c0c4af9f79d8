# Everything a fresh machine needs beside this file: Python 3.11 and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-server drills audit lint bench bench-server clean

demo: $(READY)  ## render a small catalogue, ingest it, find what was sampled
	$(BIN)/asid demo

test: lint  ## ruff, import rules, tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

test-server: $(READY)  ## contract and whole path against a real Milvus server, which it starts
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,server-test]'
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.milvus_server $(BIN)/python -m pytest tests/store/test_references.py tests/store/test_index.py tests/server

drills: $(READY)  ## all kills, all mutated files, a killed Milvus server, `asid serve` as a whole; half an hour
	ASID_DRILLS=1 ASID_HOSTILE_FILES=2400 ASID_TEST_SERVE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/drills tests/flows/test_serve_drill.py

audit: $(READY)  ## known vulnerabilities of the pins
	$(BIN)/python -m pip check
	test -x $(VENV)/audit/bin/pip-audit || ($(PYTHON) -m venv $(VENV)/audit && $(VENV)/audit/bin/python -m pip install --quiet pip-audit==2.10.1)
	$(VENV)/audit/bin/python .ci/audit.py constraints.txt

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

bench: $(READY)  ## speed of the encoder, of ingestion, of correlation and of training pairs
	$(BIN)/python -m benchmarks.encoder
	$(BIN)/python -m benchmarks.ingest
	$(BIN)/python -m benchmarks.correlate
	$(BIN)/python -m benchmarks.pairs

bench-server: $(READY)  ## recall and speed of a Milvus server up to a million segments, then ten minutes of load
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.load

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v[:2] != (3, 11) and f"Python {v[0]}.{v[1]} found, 3.11 needed: make PYTHON=/path/to/python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,cluster,sounds]'
	touch $@

clean:
	rm -rf $(VENV) demo .pytest_cache .ruff_cache .import_linter_cache
