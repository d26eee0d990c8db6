# `make` lists the targets. Everything runs in .venv, which make creates in two stages: the core,
# which is all that the demo needs, and then what tests and checks need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
CORE := $(VENV)/.core
READY := $(VENV)/.ready
DOCS := $(VENV)/.docs

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format docs bench dist clean

help:  ## List these targets
	@grep -hE '^[a-z]+: .*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1 \t/' | expand -t 18

setup: $(READY)  ## Create .venv with pinned dependencies; does nothing when it is up to date

# Python compiles a module when it is first imported: --no-compile saves five seconds here.
$(CORE): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "sharpreel needs Python 3.11 or newer: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "python3 cannot create virtual environments: install the Debian package python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(PIP) --no-compile -r requirements.txt
	$(PIP) --no-deps --editable .
	@touch $@

$(READY): requirements-dev.txt $(CORE)
	$(PIP) -r requirements-dev.txt
	@touch $@

demo: $(CORE)  ## Upscale a small video with sound and show bicubic and sharpreel side by side
	$(BIN)/python examples/demo.py

test: lint  ## Format, lint, types and tests: all that must pass before a commit
	$(BIN)/python -m pytest

lint: $(READY)  ## Format, lint, types, imports, spelling and wording, without changing anything
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python .ci/words.py
	$(BIN)/hadolint Dockerfile examples/cluster/Dockerfile

format: $(READY)  ## Format the code and fix what ruff can fix
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# Zensical reads docstrings from the source: nothing of sharpreel is installed or imported.
$(DOCS): requirements-docs.txt $(CORE)
	$(PIP) -r requirements-docs.txt
	@touch $@

docs: $(DOCS)  ## Build the documentation site in site/; warnings are errors
	$(BIN)/zensical build --clean --strict

bench: $(READY)  ## Measure speed and memory beside ffmpeg, and write the tables in docs/
	$(BIN)/python benchmarks/throughput.py --update-docs

dist: $(READY)  ## Build the sdist and the wheel in dist/ and check what they contain
	rm -rf build dist
	$(BIN)/python -m build
	$(BIN)/python -m build --wheel --outdir build/from-tree
	$(BIN)/twine check --strict dist/*
	$(BIN)/python .ci/check_dist.py dist build/from-tree

clean:  ## Remove the demo and all caches; .venv stays
	rm -rf demo build dist site .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
