# What people and CI call. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PYTEST_ARGS ?=
# Each suite remembers for itself what failed: `make test PYTEST_ARGS=--last-failed` runs that again.
REMEMBER = -o cache_dir=.pytest_cache/$@
PACKAGING := setup.cfg pyproject.toml mlmp_spawner/__init__.py
EXTENSION := $(wildcard lab_extension/src/*.ts lab_extension/style/* lab_extension/*.json lab_extension/*.toml)

.DELETE_ON_ERROR:
.PHONY: help up test test-faults test-cluster test-cluster-faults bench bench-cluster images lint types contracts format docs docs-serve lock clean

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 15

up: $(VENV)/.hub $(VENV)/.lab node_modules/.production ## hub, proxy and service on this machine (ARGS="--simulate")
	@exec $(BIN)/mlmp up $(ARGS)

test: $(VENV)/.dev $(VENV)/.lab node_modules/.all ## the fast suite
	tests/install.sh
	$(MAKE) --no-print-directory lint types contracts
	$(BIN)/pytest -m "not faults and not cluster" -n 2 --dist loadfile $(REMEMBER) $(PYTEST_ARGS)

test-faults: $(VENV)/.dev $(VENV)/.lab node_modules/.all ## kills, races, fuzz, long property runs (FAULT_ROUNDS=100 for more)
	tests/install.sh faults
	$(BIN)/pytest -m "faults and not cluster" -n 2 --dist loadfile $(REMEMBER) $(PYTEST_ARGS)

test-cluster: $(VENV)/.dev node_modules/.all ## on a real Kubernetes: the one KUBECONFIG names, else one made for it
	@[ -n "$$KUBECONFIG" ] || tests/install.sh cluster
	@$(BIN)/python -m tests.cluster.rig run --with-kueue $(BIN)/pytest -m "cluster and not faults" $(REMEMBER) $(PYTEST_ARGS)

test-cluster-faults: $(VENV)/.dev node_modules/.all ## there, what takes nodes and parts away from jobs for minutes, and Spark
	@[ -n "$$KUBECONFIG" ] || tests/install.sh cluster
	@$(BIN)/python -m tests.cluster.rig run --with-kueue $(BIN)/pytest -m "cluster and faults" $(REMEMBER) $(PYTEST_ARGS)

bench: $(VENV)/.dev node_modules/.all ## benchmarks: JSON lines on stdout, a table on stderr
	@tests/install.sh >&2
	@$(BIN)/python -m benchmarks $(ARGS)

bench-cluster: $(VENV)/.dev node_modules/.all ## benchmarks on a real Kubernetes, with simulated nodes
	@[ -n "$$KUBECONFIG" ] || tests/install.sh cluster >&2
	@$(BIN)/python -m tests.cluster.rig run --with-kwok $(BIN)/python -m benchmarks.cluster $(ARGS)

images: ## container images, by buildah, podman or docker (ARGS="--help" tells more)
	@$(PYTHON) -m images.build $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev node_modules/.all
	$(BIN)/mypy
	tools/npm.sh exec --offline -- tsc --project .

contracts: $(VENV)/.dev
	$(BIN)/lint-imports

format: $(VENV)/.dev ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev ## the pages of docs/reference from the code, then the site, strictly, into build/site
	$(BIN)/python -m tools.chart
	$(BIN)/python -m tools.reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html"

docs-serve: $(VENV)/.dev ## show the site while you write it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

lock: $(VENV)/.dev ## resolve requirements/*.lock anew
	tools/lock.sh

clean: ## remove what was made here (never the data of `mlmp up`)
	rm -rf $(VENV) node_modules lab_extension/node_modules lab_extension/lib lab_extension/mlmp_lab lab_extension/build lab_extension/*.egg-info build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# One environment; .dev holds everything that .hub does and more, at the same versions.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "MLMP needs Python 3.10 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12 …" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.hub: requirements/hub.lock $(PACKAGING) | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements/hub.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.dev: requirements/dev.lock $(VENV)/.hub
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements/dev.lock
	@touch $@

node_modules/.production: package-lock.json $(VENV)/.hub
	tools/npm.sh ci --omit=dev --no-audit --no-fund --loglevel=error
	@touch $@

node_modules/.all: package-lock.json $(VENV)/.hub
	tools/npm.sh ci --no-audit --no-fund --loglevel=error
	@touch node_modules/.production $@

# The extension of JupyterLab, built and put where the JupyterLab of this environment finds it.
$(VENV)/.lab: $(EXTENSION) $(VENV)/.hub
	tools/npm.sh --prefix lab_extension ci --ignore-scripts --no-audit --no-fund --loglevel=error
	tools/npm.sh --prefix lab_extension run build --silent >/dev/null
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --force-reinstall ./lab_extension
	@touch $@
