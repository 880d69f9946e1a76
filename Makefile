# `make train` and `make test` do everything on a fresh machine; set-up happens once, in .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=

# Percent of lines that `make test` covers at least.
LOADING := training/loader.py,training/loading/*
LOADING_FLOOR := 93
AGENTS := agents/*
AGENTS_FLOOR := 94
AS_ROOT := $(shell test "$$(id -u)" = 0 || ! sudo -n true 2> /dev/null || \
  echo sudo -n --preserve-env=RUDDER_NO_CLUSTER env PYTHONDONTWRITEBYTECODE=1)
SCRIPT_TESTS := tests/end_to_end/test_own_script.py
UNITS := "not slow and not distributed and not cluster"
COVERING_TESTS := tests/agents tests/training/loading tests/cli/commands/test_ask.py

.PHONY: setup train test test-slow test-cluster coverage check lint types format docs clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt scripts/setup.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh scripts/setup.sh
	@touch $(READY)

# Without ARGS: plain DistDGL and Rudder over a slow link, one after the other, and how they compare.
train: setup
ifeq ($(ARGS),)
	@$(BIN)/rudder demo
else
	@$(BIN)/rudder train $(ARGS)
endif

# Tests of one process share the cores; those that start real jobs have them to themselves.
# Coverage is measured in the tests of what is to be covered, which take half as long again with it,
# and in the trainers that run a script.
test: setup
ifeq ($(ARGS),)
	$(BIN)/coverage erase
	$(BIN)/pytest -m $(UNITS) --numprocesses auto --cov --cov-report= $(COVERING_TESTS)
	$(BIN)/pytest -m $(UNITS) --numprocesses auto $(addprefix --ignore=,$(COVERING_TESTS))
	COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml COVERAGE_FILE=$(CURDIR)/.coverage \
	  $(BIN)/pytest -m "not slow" $(SCRIPT_TESTS)
	$(BIN)/pytest -m "not slow and distributed" $(addprefix --ignore=,$(SCRIPT_TESTS))
	$(BIN)/coverage combine --quiet --append
	@$(MAKE) --no-print-directory coverage
else
	$(BIN)/pytest -m "not slow and not cluster" $(ARGS)
endif

# What the last `make test` has covered; fails below the floors.
coverage:
	$(BIN)/coverage report --include="$(LOADING)" --fail-under=$(LOADING_FLOOR)
	$(BIN)/coverage report --include="$(AGENTS)" --fail-under=$(AGENTS_FLOOR)

test-slow: setup
	$(BIN)/pytest -m slow $(ARGS)

# Trains on three machines made of namespaces, which takes root and a few Debian packages. Where
# these are missing, or with RUDDER_NO_CLUSTER="why", nothing is tested, and the end of the output
# says so.
test-cluster: setup
	$(AS_ROOT) $(BIN)/pytest -m cluster -rs -p no:cacheprovider tests/cluster $(ARGS)

check: lint types docs test test-cluster

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

# The site in site/. A broken link or reference fails; nothing is fetched.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info
