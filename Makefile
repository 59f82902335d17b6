# Everything happens in a virtual environment of its own, .venv, made on first use. The tests of kerasnac rtl need
# Verilator and Yosys (apt install verilator yosys), and are skipped without.
#
#   make demo                      PYTHON=python3.12 make test                  CXX=clang++ make demo

VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= runs/demo
PYTEST_ARGS ?= -n 2 --dist loadfile
PYTEST = $(BIN)/python -m pytest

# What need not be there, and what comes with the extras of [all].
TOOLS := verilator,yosys,rule4ml,torch,torch_geometric
EXTRAS := da4ml,dask,distributed,ipykernel,IPython,nbclient,nbformat

# Without PYTHON, the first of these that is new enough.
PYTHON ?= python3
PYTHONS := $(if $(filter file,$(origin PYTHON)),python3 python3.13 python3.12 python3.11,$(PYTHON))

.PHONY: help demo test bare slow lint clean compiler

help: ## Show this help.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: compiler $(VENV)/.all ## Find Bragg peaks: search, tune, compress, convert, compare. Run again, it resumes.
	$(BIN)/kerasnac run bragg_exact --profile quick --out $(OUT)

test: compiler $(VENV)/.dev ## Run all tests but the slow ones.
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

bare: compiler $(VENV)/.dev ## Run these as without Verilator, Yosys and rule4ml, then as without all extras.
	$(BIN)/python tests/bare.py --without $(TOOLS) -- $(PYTEST) -m "not slow" $(PYTEST_ARGS)
	$(BIN)/python tests/bare.py --without $(TOOLS),$(EXTRAS) -- $(PYTEST) -m "not slow" $(PYTEST_ARGS)

slow: compiler $(VENV)/.dev ## Run the slow tests.
	$(PYTEST) -m slow

lint: $(VENV)/.dev ## Check style and types.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean: ## Remove .venv, builds and caches; results in runs/ stay.
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find kerasnac searchspaces tests -name __pycache__ -prune -exec rm -rf {} +

compiler:
	@set -- $${CXX:-g++}; command -v "$$1" >/dev/null || { \
	    echo "error: the C++ compiler $$1 is not installed: apt install g++, or set CXX to another one" >&2; exit 2; }

$(BIN)/python:
	@for python in $(PYTHONS); do \
	    if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then \
	        echo "$$($$python --version) in $(VENV)"; \
	        $$python -m venv --clear $(VENV) && exit; rm -rf $(VENV); exit 2; \
	    fi; \
	done; \
	found=$$($(firstword $(PYTHONS)) --version 2>/dev/null || echo not installed); \
	echo "error: kerasnac needs Python 3.11, 3.12 or 3.13, and $(firstword $(PYTHONS)) is $$found:" \
	    "set PYTHON, for example make demo PYTHON=/usr/bin/python3.12" >&2; exit 2

# Installed in place, so that the tests see every edit. The stamps let this happen once, and again when versions change.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

$(VENV)/.all: setup.cfg pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing TensorFlow, QKeras, hls4ml and the rest: some minutes, once"
	$(INSTALL) --editable ".[all]"
	@touch $@

$(VENV)/.dev: setup.cfg pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing TensorFlow, QKeras, hls4ml and the tools: some minutes, once"
	$(INSTALL) --editable ".[dev]"
	@touch $@ $(VENV)/.all
