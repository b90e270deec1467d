# make demo   set up, then verify a simulated cluster of 8 servers with seeded faults
# make test   set up, then run the tests (installs OpenSSH's server and Chromium with apt-get where it can)
# make test-e2e   the engine with torch and real vLLM on CPU, in a venv of its own (Python 3.11, 3.4 GiB, cached)
# make lint   ruff and mypy
# make docs   regenerate the pages that come from the code
# make bundle-wheels   what installs without a network, into dist/wheels (WHEELS=FOLDER, CONSTRAINT=FILE)
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-e2e lint docs clean

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 10) and "ascendctl needs Python 3.10 or newer; this is %d.%d. On openEuler 22.03 (Python 3.9): install a newer one beside it and run: make PYTHON=python3.11 ..." % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/ascendctl demo

# Whoever keeps Python from writing its bytecode has each of the hundreds of starts compile all modules anew.
test test-e2e: export PYTHONDONTWRITEBYTECODE :=

test: $(VENV)/.installed-dev
	@command -v sshd >/dev/null || test -x /usr/sbin/sshd || sh tests/install_openssh.sh
	@{ command -v chromium || command -v chromium-browser; } >/dev/null && command -v chromedriver >/dev/null \
	  || sh tests/install_chromium.sh
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

E2E_VENV ?= .venv-e2e
# Python 3.11 for it; looked for on the PATH when not named.
E2E_PYTHON ?=
# Starting vLLM keeps one core busy at a time: two workers, each with files of its own.
# The hosts' Python has torch and vLLM; the control machine's, which has ascendctl's dependencies, is the other one.
test-e2e: $(VENV)/.installed
	@command -v sshd >/dev/null || test -x /usr/sbin/sshd || sh tests/install_openssh.sh
	E2E_PYTHON='$(E2E_PYTHON)' sh tests/e2e/install_venv.sh '$(E2E_VENV)'
	E2E_CONTROL='$(abspath $(BIN))/python' $(E2E_VENV)/bin/python -m pytest -c tests/e2e/pytest.ini \
	  -n 2 --dist loadfile --no-loadscope-reorder tests/e2e

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed
	$(BIN)/ascendctl checks --format markdown >docs/checks.md
	$(BIN)/python docs/make_screen.py

WHEELS ?= dist/wheels
.PHONY: bundle-wheels
bundle-wheels: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'packaging>=24'
	$(BIN)/python -m offline.bundle_wheels --output '$(WHEELS)' $(if $(CONSTRAINT),--constraint '$(CONSTRAINT)')

clean:
	rm -rf $(VENV) $(E2E_VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
