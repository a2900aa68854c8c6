# Every target sets up what it needs: only Python 3.11+ and make have to be there.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
BENCH  := $(VENV)/.bench-installed

.PHONY: quickstart test test-pythons test-compat bench bench-full check format clean

quickstart: $(STAMP)  ## judge the packaged samples on the embedded emulator: no key, no network
	$(BIN)/judge-runner quickstart

test: $(STAMP)  ## the whole suite
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --dist worksteal  # compiled once, not in every process

test-pythons: $(STAMP)  ## the tests of verdicts (with JUDGE_RUNNER_WHOLE=1: all) on the other Pythons of this machine
	PYTHONDONTWRITEBYTECODE= $(BIN)/python .ci/pythons.py

test-compat: $(STAMP)  ## with clients and servers of others, installed into .compat/: opt-in, needs the network
	JUDGE_RUNNER_COMPAT=1 $(BIN)/python -m pytest tests/compat -rs --durations=5

bench: $(BENCH)  ## speed, limits and memory beside the baseline and installed peers, on a local server: about five minutes
	$(BIN)/python benchmarks/run.py --quick

bench-full: $(BENCH)  ## all workloads at their full size, 10,000 in flight and a million samples: about half an hour
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/scale.py in-flight
	$(BIN)/python benchmarks/scale.py million

check: $(STAMP)  ## style, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and what tests and runs left
	rm -rf $(VENV) .compat .pythons .mypy_cache .ruff_cache .pytest_cache .hypothesis runs quickstart

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("judge-runner needs Python 3.11 or newer; name one with make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

$(BENCH): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	touch $(BENCH)
