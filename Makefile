# Two commands do all the set-up: `make run` and `make test`. Everything else builds on the same environment.
PYTHON ?= python3
BIN := .venv/bin
# Two processes, each with whole folders of tests, in the order they stand in.
PYTEST := $(BIN)/python -m pytest -n 2 --no-loadscope-reorder --durations 20

.PHONY: run test check unit browser bench peers zoo examples matrix format

run: .venv/.installed
	$(BIN)/streamlit run app.py

test: check
	$(PYTEST)

check: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: .venv/.installed-dev
	$(BIN)/python -m pytest -m "not browser and not adapter and not matrix"

browser: .venv/.installed-dev
	$(BIN)/python -m pytest -m browser

matrix: .venv/.installed-dev
	$(BIN)/python -m pytest -m matrix

bench: .venv/.installed-dev
	$(BIN)/python -m benchmarks

peers: .venv/.installed
	$(BIN)/python -m benchmarks.peers $(ARGS)

zoo: .venv/.installed
	$(BIN)/python -m models.train --check

examples: .venv/.installed
	$(BIN)/python -m experiments.examples

format: .venv/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/.installed: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

.venv/.installed-dev: requirements-dev.txt requirements-samples.txt .venv/.installed
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-samples.txt
	touch $@
