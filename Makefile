# Two commands: `make run` and `make test`. Both set up what is missing first; everything else is one line each, and most of
# it a command of `vldac`, which `source .venv/bin/activate` puts on PATH.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run test perf study benchmark gallery serve envs lint docs lock prefect mlflow setup system

VENV := .venv
PYTHON := $(VENV)/bin/python
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# A container often runs as another user than the owner of the checkout; git (and DVC through it) would refuse that.
export GIT_CONFIG_COUNT := 1
export GIT_CONFIG_KEY_0 := safe.directory
export GIT_CONFIG_VALUE_0 := $(CURDIR)

help: ## list the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## (.*)/make \1\t\2/' | expand -t 16

run: setup ## set up, then train, evaluate and register a policy; a second run finds everything cached
	@vldac run $(ARGS)

test: setup $(VENV)/.dev ## set up, then run every test (`make test ARGS='-m "not slow"'` leaves the long ones out)
	@$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

perf: envs ## measure speed: training, benchmarks, serving and each environment; steps/s, tokens/s, shares of time, memory
	@vldac perf train $(ARGS)
	@vldac perf benchmarks
	@vldac perf serving
	@vldac perf envs --episodes 0 --seconds 3

study: setup ## compare algorithms (PROFILE=smoke, laptop, laptop-ablations, full or transfer); without: three seeds (ARGS='--params conf/numberline.yaml')
	@vldac study $(PROFILE) $(ARGS)

benchmark: setup ## benchmark a model (MODEL=models:/NAME@champion BENCH=balrog ARGS='--profile full'); without BENCH: all
	@test -n "$(MODEL)" || { echo "error: name a model: make benchmark MODEL=models:/NAME@champion" >&2; exit 1; }
	@vldac benchmark $(MODEL) $(if $(BENCH),--benchmark $(BENCH)) $(ARGS)

gallery: envs ## draw a page with a filmstrip of each environment: gallery/index.html
	@vldac gallery $(ARGS)

lint: setup $(VENV)/.dev ## ruff and mypy
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy

docs: setup $(VENV)/.docs ## build the pages of docs/ and the reference in site/, and serve them (PORT=8080)
	@NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --quiet
	@echo "site/index.html; until Ctrl-C also at http://127.0.0.1:$(or $(PORT),8080)"
	@$(PYTHON) -m http.server $(or $(PORT),8080) --bind 127.0.0.1 --directory site

lock: ## write constraints.txt anew: nothing moves that need not (ARGS=--upgrade moves all; UV=/path/to/uv)
	@UV="$(UV)" scripts/lock $(ARGS)

serve: setup ## Prefect, MLflow and a worker together until Ctrl-C (ARGS='--prefect-port 4300')
	@vldac serve $(ARGS)

prefect: setup ## open the pages of past runs (PORT=4200)
	@vldac prefect $(if $(PORT),--port $(PORT))

mlflow: setup ## open metrics and the model registry (PORT=5000)
	@vldac mlflow $(if $(PORT),--port $(PORT))

setup: system $(VENV)/.ready ## system libraries and .venv, without running anything

system:
	@scripts/system-libraries

envs: setup $(VENV)/.envs ## add what ALFWorld and WebShop need: two extras, a compiler and a browser

$(VENV)/.envs: $(VENV)/.ready
	@scripts/system-libraries chromium-headless-shell g++
	@scripts/packages $(PYTHON) alfworld,webshop
	@touch $@

$(VENV)/.dev: $(VENV)/.ready
	@scripts/system-libraries chromium-headless-shell g++
	@scripts/packages $(PYTHON) alfworld,webshop,dev
	@touch $(VENV)/.envs $@

$(VENV)/.docs: $(VENV)/.ready
	@scripts/packages $(PYTHON) docs
	@touch $@

$(VENV)/.ready: pyproject.toml constraints.txt
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed, this is $$(python3 --version 2>&1); put one first on PATH" >&2; exit 1; }
	@test -x $(PYTHON) || python3 -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "error: python3 cannot make $(VENV); on Debian: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || \
	  { echo "error: $(VENV) holds no pip; remove it (rm -r $(VENV)) and run make again" >&2; exit 1; }
	@scripts/packages $(PYTHON) benchmarks
	@touch $@
