# Every target sets up what it needs: a virtual environment in .venv, with the versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help demo test test-slow test-hostile test-timm check format clean

help:
	@echo "make demo       set up, run 'metaformer study quick', say where the page is"
	@echo "make test       set up, run the tests"
	@echo "make test-slow  the slow tests: whole models"
	@echo "make test-hostile  the campaign of hostile and broken input; ends with a table of its tries"
	@echo "make test-timm  timm's own model tests on our models; downloads timm's source release"
	@echo "make check      style, types and the import contract"
	@echo "make format     put the code into its standard form"
	@echo "make clean      remove .venv and caches"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"metaformer needs Python 3.11 or newer; {sys.executable} is {v[0]}.{v[1]}. Name another: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# A stamp per set of extras, renewed when what it was made from changes.
$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing into $(VENV); PyTorch is large, the first time takes a few minutes ..."
	$(PIP) install --quiet --constraint constraints.txt --editable '.[study]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing into $(VENV); PyTorch is large, the first time takes a few minutes ..."
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	$(BIN)/metaformer study quick --out runs/quick

# Tiny models: one thread a process and a process a core is several times faster than two threads for one.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --durations=10 -n auto

test-slow: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --durations=10 -n auto -m slow

# In one process, so that the table's peak memory is that of the campaign; slow tries too.
test-hostile: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "slow or not slow" tests/hostile

test-timm: $(VENV)/.dev
	$(BIN)/python tests/integrations/timm_suite.py

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
