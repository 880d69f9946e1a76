# `make train` and `make test` do everything on a fresh machine; set-up happens once, in .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=

.PHONY: setup train test test-slow check lint types format docs clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt scripts/setup.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh scripts/setup.sh
	@touch $(READY)

train: setup
	@$(BIN)/rudder train $(ARGS)

# Tests of one process share the cores; those that start real jobs have them to themselves.
test: setup
ifeq ($(ARGS),)
	$(BIN)/pytest -m "not slow and not distributed" --numprocesses auto
	$(BIN)/pytest -m "not slow and distributed"
else
	$(BIN)/pytest -m "not slow" $(ARGS)
endif

test-slow: setup
	$(BIN)/pytest -m slow $(ARGS)

check: lint types docs test

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
