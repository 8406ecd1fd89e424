# Two commands for a stranger: `make serve` and `make test`. The rest is for those who change the code.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=
# cpu or cuda. The CPU build is taken where pip finds it (PIP_ARGS="--find-links FOLDER"), else the one with CUDA.
TORCH    ?= cpu
PIP_ARGS ?=
PIP    := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: serve test setup setup-dev fmt lint types unit test-ray test-e2e chart proto schema dashboards lock peers clean help

help:            ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | sort | expand -t 16

serve: setup     ## everything, then the whole cluster on this machine (ARGS="--http-port 8080")
	@exec $(BIN)/gemmule serve $(ARGS)

test: setup-dev lint types  ## everything, then every test
	@$(BIN)/python -m pytest $(ARGS)

setup: $(VENV)/.runtime      ## environment and dependencies for serving
setup-dev: $(VENV)/.dev      ## the same and what the tests need

$(VENV)/.python:
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh scripts/setup.sh python

$(VENV)/.runtime: $(VENV)/.python locks/runtime.txt locks/torch-cpu.txt locks/torch-cuda.txt pyproject.toml
	@VENV="$(VENV)" PIP_ARGS="$(PIP_ARGS)" TORCH="$(TORCH)" sh scripts/setup.sh runtime

$(VENV)/.dev: $(VENV)/.runtime locks/dev.txt locks/helm.txt
	@VENV="$(VENV)" PIP_ARGS="$(PIP_ARGS)" TORCH="$(TORCH)" sh scripts/setup.sh dev

fmt: setup-dev   ## format and sort imports
	@$(BIN)/ruff check -q --fix . ; $(BIN)/ruff format .

lint: setup-dev  ## ruff and the import rules
	@$(BIN)/ruff format --check -q . && $(BIN)/ruff check -q .
	@$(BIN)/lint-imports --no-cache

types: setup-dev ## mypy, strict
	@$(BIN)/mypy

unit: setup-dev  ## tests that need no cluster, under two minutes
	@$(BIN)/python -m pytest -q -m "not ray and not e2e" $(ARGS)

test-ray: setup-dev  ## tests on a real local Ray
	@$(BIN)/python -m pytest -q -m ray $(ARGS)

test-e2e: setup-dev  ## tests of the whole service
	@$(BIN)/python -m pytest -q -m e2e $(ARGS)

chart: setup-dev ## tests of the Helm chart
	@$(BIN)/python -m pytest -q tests/chart $(ARGS)

proto: setup-dev ## generate the gRPC code from the proto
	@$(BIN)/python scripts/generate_proto.py

schema: setup-dev ## generate the chart's values schema from the code
	@$(BIN)/python helm/generate_schema.py

dashboards: setup-dev ## generate the chart's Grafana dashboards
	@$(BIN)/python helm/generate_dashboards.py

lock: setup-dev  ## write the lock files anew
	@sh scripts/lock.sh

peers:           ## vLLM and llama.cpp in environments of their own, for `gemmule bench engine`
	@PYTHON="$(PYTHON)" PIP_ARGS="$(PIP_ARGS)" sh scripts/peers.sh

clean:           ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
