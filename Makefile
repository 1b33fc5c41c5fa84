# The doors of the project. A fresh machine needs Python 3.11 or newer and make, nothing else.
#
#   make run     set up .venv if needed and start the server with the offline provider; ARGS="--port 0" goes to it
#   make test    all tests, in two processes; ARGS="-k memory" goes to pytest
#   make check   ruff, formatting, mypy, import contracts        make fix    what ruff can mend by itself
#   make install all that development needs
#   make bench   a short run of agentd bench; ARGS="chat --floor --seconds 20" for another one, see bench/README.md
#   make bench-floor  CPU of a chat turn beside the floor server, in alternated rounds
#   make test-measured  the same tests, and what of agentd they run
#   make gate    whether this may be released: check, test-measured, and the named checks of each milestone
#   make gate-alone  those checks, after a make test-measured

VENV := .venv
BIN := $(VENV)/bin
# Each candidate is run, not only looked up: a version manager's shim may exist and refuse to work.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	if $$p -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	then echo $$p; break; fi; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
ARGS ?=

.PHONY: run install test test-measured check fix bench bench-floor gate gate-alone
.DEFAULT_GOAL := install

run: $(VENV)/.run-installed
	$(BIN)/agentd serve $(ARGS)

install: $(VENV)/.dev-installed

test: $(VENV)/.dev-installed
	$(BIN)/python -m pytest -n 2 --dist worksteal --junitxml=.test-results.xml $(if $(MEASURED),$(MEASURED) )$(ARGS)

# What the tests' own processes run is measured; servers that they start as children go at their own speed (decision 130).
test-measured: MEASURED := --cov=agentd --cov-branch --cov-report=json:.coverage.json
test-measured: test

check: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/.dev-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev-installed
	$(BIN)/agentd bench $(if $(ARGS),$(ARGS),--quick)

bench-floor: $(VENV)/.dev-installed
	$(BIN)/python -m bench.chat $(ARGS)

gate: check test-measured gate-alone

# What the gate looks at beside the tests; their results have to be there.
gate-alone: $(VENV)/.dev-installed
	$(BIN)/python -m tests.gate

# The stamps say what is installed; they are older than the file that changed, so a second call does nothing.
$(VENV)/.made:
	@python="$(PYTHON)"; if [ -z "$$python" ]; then \
		echo "agentd needs Python 3.11 or newer with its venv and ensurepip modules, and none was found." >&2; \
		echo "Install one (Debian, Ubuntu: apt install python3 python3-venv) or name it: make PYTHON=/path/to/python" >&2; \
		exit 1; fi; \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$$python does not run or is older than 3.11; name another: make PYTHON=/path/to/python" >&2; exit 1; }; \
	"$$python" -m venv $(VENV)
	@touch $@

$(VENV)/.run-installed: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "Installing agentd into $(VENV) (once; about half a minute)"
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.dev-installed: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "Installing agentd and its development tools into $(VENV) (once; about a minute)"
	@$(PIP) install -c constraints.txt -e '.[dev,fast,bench]'
	@touch $@ $(VENV)/.run-installed
