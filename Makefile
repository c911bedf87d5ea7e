PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EVENTS ?= 6000
DEMO_FLAGS ?=

.PHONY: help setup demo test lint test-kafka bench schema lock clean

help:  ## Say what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.done  ## Make .venv with everything in it

$(VENV)/.done: requirements.lock pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python >= 3.11 is needed')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	$(BIN)/python -m headwater warm-up
	touch $@

demo: setup  ## Watch the engine learn from live traffic
	$(BIN)/headwater demo --events $(EVENTS) $(DEMO_FLAGS)

test: setup  ## Run the tests, with a real broker and a real store
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: setup  ## Style, types, import contracts, generated documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/headwater schema --check
	$(BIN)/headwater settings --check
	$(BIN)/headwater retention --check
	$(BIN)/headwater features --check

test-kafka: setup  ## Run the integration tests and a short demo on Apache Kafka 4.x and 3.9
	$(BIN)/python -m tests.kafka.broker --version 4.x -- $(BIN)/python -m pytest -q tests/kafka tests/state/test_topics.py tests/integration tests/headwater/test_deadletters.py tests/headwater/test_demo_run.py
	$(BIN)/python -m tests.kafka.broker --version 3.9.x -- $(BIN)/python -m pytest -q tests/kafka tests/state/test_topics.py tests/headwater/test_demo_run.py

bench: setup  ## Run the benchmarks and print their tables
	$(BIN)/python -m benchmarks.ingest
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.freshness

schema: setup  ## Write the generated documents
	$(BIN)/headwater schema
	$(BIN)/headwater settings
	$(BIN)/headwater retention
	$(BIN)/headwater features

lock: setup  ## Resolve the lock file anew
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --extra embedded --extra dev pyproject.toml --output-file requirements.lock

clean:  ## Remove what setup made
	rm -rf $(VENV)
