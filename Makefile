# Two commands set up a fresh Debian 12 machine: `make demo` shows the main job, `make test` runs all tests.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: help demo stack setup test unit check lint docs bench clean packages

help:
	@echo "make demo [KEEP=1]  a git push, seen from the outside, on a server of its own"
	@echo "make stack          the images that apps are built and run in on a container engine (minutes, once)"
	@echo "make test           everything: unit, contract, acceptance and packaging tests"
	@echo "make unit           only the tests that need no server (seconds)"
	@echo "make check          format, ruff, mypy, import contracts, wheel contents, generated documents"
	@echo "make lint           check, after mending what can be mended by itself"
	@echo "make docs           write the generated documents anew"
	@echo "make bench          measure against the peers (minutes)"
	@echo "make setup          only install what the others need"

# Debian packages, asked for only when a command is missing.
packages:
	@contrib/packages.sh

$(BIN)/moor: setup.cfg pyproject.toml | packages
	@echo "-----> Installing Mooring into $(VENV)"
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $(BIN)/moor

$(VENV)/.dev: setup.cfg pyproject.toml | $(BIN)/moor
	@echo "-----> Installing the tools for tests and checks"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(VENV)/.dev

setup: packages $(BIN)/moor $(VENV)/.dev

demo: export MOOR_PACKAGES := demo
demo: packages $(BIN)/moor
	@$(BIN)/python -m contrib.demo $(if $(KEEP),--keep)

stack: packages $(BIN)/moor
	@contrib/stack/build

test: export MOOR_PACKAGES := test
test: setup
	MOOR_TEST_REAL=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m 'not alone'
	MOOR_TEST_REAL=1 $(BIN)/python -m pytest -m alone

unit: setup
	$(BIN)/python -m pytest tests/unit

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config setup.cfg --no-logo
	$(BIN)/python -m contrib.reference --check
	$(BIN)/python -m pytest tests/packaging

lint: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(MAKE) check

docs: setup
	$(BIN)/python -m contrib.reference

bench: export MOOR_PACKAGES := bench
bench: setup
	$(BIN)/python -m contrib.bench

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
