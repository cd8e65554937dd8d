# Everything a person needs: `make demo` shows the whole system at work, `make test` proves it. Both set themselves up.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first Python that answers and is of a version that all parts support.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do $$p -c '$(SUPPORTED)' 2>/dev/null && { echo $$p; break; }; done)
ENGINE ?= $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
VENV := .venv
BIN := $(VENV)/bin
UV := $(VENV)/uv/bin/uv
STAMP := $(VENV)/.ready-$(ENGINE)
# pip's settings are for pip: some point at builds that don't fit together. uv takes over only the package index and the
# certificates from them.
UV_RUN = index=$${PIP_INDEX_URL:-$$($(VENV)/uv/bin/python -m pip config get global.index-url 2>/dev/null)}; \
  [ -z "$$index" ] || export UV_DEFAULT_INDEX="$$index"; [ -z "$$PIP_CERT" ] || export SSL_CERT_FILE="$$PIP_CERT"; \
  env -u PIP_FIND_LINKS -u PYTHONPATH UV_HTTP_TIMEOUT=300 $(UV)

.PHONY: help setup demo test bench check lock clean

help:
	@echo "make demo    the whole path on a small made-up world: shards in, a pre-trained and evaluated model out"
	@echo "make test    the test suite"
	@echo "make bench   all benchmarks that need no GPU, in under 40 minutes; rewrites benchmarks/RESULTS.md"
	@echo "make check   ruff and mypy"
	@echo "make setup   only the environment, in $(VENV) (ENGINE=cpu or gpu; here: $(ENGINE))"
	@echo "make lock    resolve requirements/*.txt anew from pyproject.toml"

setup: $(STAMP)

$(UV):
	@echo "setup: creating $(VENV) with $(PYTHON)"
	@[ -n "$(PYTHON)" ] && $(PYTHON) -c '$(SUPPORTED)' 2>/dev/null \
	  || { echo "setup failed: wanted: Python 3.11 or 3.12; got: $(or $(PYTHON),none); fix: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) > /dev/null && $(PYTHON) -m venv $(VENV)/uv > /dev/null \
	  || { echo "setup failed: $(PYTHON) can't make a virtual environment; fix: install its venv module" >&2; exit 1; }
	@$(VENV)/uv/bin/python -m pip install --quiet --disable-pip-version-check uv 2> $(VENV)/setup.log \
	  || { echo "setup failed: pip can't install uv: $$(tail -n 1 $(VENV)/setup.log); fix: check pip's package index" >&2; rm -rf $(VENV)/uv; exit 1; }

$(STAMP): $(UV) requirements/$(ENGINE).txt pyproject.toml
	@echo "setup: installing requirements/$(ENGINE).txt (several GB the first time)"
	@$(UV_RUN) pip sync --quiet --compile-bytecode --python $(BIN)/python requirements/$(ENGINE).txt 2> $(VENV)/setup.log \
	  || { echo "setup failed: $$(grep -v '^ *$$' $(VENV)/setup.log | head -n 2 | tr '\n' ' '); fix: see $(VENV)/setup.log" >&2; exit 1; }
	@$(UV_RUN) pip install --quiet --python $(BIN)/python --no-deps --editable . 2> $(VENV)/setup.log \
	  || { echo "setup failed: $$(tail -n 1 $(VENV)/setup.log)" >&2; exit 1; }
	@rm -f $(VENV)/.ready-*
	@touch $(STAMP)
	@echo "setup: done"

demo: $(STAMP)
	@$(BIN)/ipt-stream run jobs/configs/demo.yaml

test: $(STAMP)
	@echo "test: the suite takes about 20 minutes on 2 cores"
	@$(BIN)/python -m compileall -q ipt_stream tests
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder

bench: $(STAMP)
	@$(BIN)/python benchmarks/all.py

check: $(STAMP)
	@echo "check: ruff, mypy"
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet . && $(BIN)/mypy

lock: $(STAMP)
	@for engine in cpu gpu; do \
	  echo "lock: requirements/$$engine.txt"; \
	  $(UV_RUN) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    --no-emit-index-url --extra $$engine --extra dev pyproject.toml --output-file requirements/$$engine.txt || exit 1; \
	done

clean:
	rm -rf out $(VENV) build *.egg-info
