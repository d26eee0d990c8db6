# `make` lists what there is to make. Everything runs in .venv, which is made when it is needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench clean

help:  ## List these targets
	@grep -hE '^[a-z]+: .*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1 \t/' | expand -t 18

setup: $(READY)  ## Make .venv with pinned dependencies; nothing to do when it is up to date

$(READY): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "sharpreel needs Python 3.11 or newer: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "python3 cannot make virtual environments: install the Debian package python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: $(READY)  ## Make a small clip with sound, upscale it, and show the two side by side
	$(BIN)/python examples/demo.py

test: lint  ## Format, lint, types and tests: all that must pass before a commit
	$(BIN)/python -m pytest

lint: $(READY)  ## Format, lint and types, without changing anything
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: $(READY)  ## Format the code and mend what ruff can mend
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(READY)  ## Measure speed and memory beside ffmpeg, and write the README's table
	$(BIN)/python benchmarks/throughput.py --update-readme

clean:  ## Remove the demo and all caches; .venv stays
	rm -rf demo build dist .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
