# Everything one does with a clone. Needs make, and python3 >= 3.11 with venv.
#
#   make run     start Entrepot on 127.0.0.1:5000, keeping its data in .entrepot
#   make check   what to run before each commit; a minute or two
#   make test    all there is: check, whole flows, real clients, the coverage gate
#   make wheel   sdist, wheel, and the wheels of all it needs, in dist/
#   make dist    the same, and the image archive
#   make demo    a small fleet under load, to look at
#   make bench   Entrepot and its peers side by side; bench-check: its counts only
#   make bench-cluster   three replicas with Redis and S3, loaded, robbed and killed
#   make clean   remove what these made (but not .entrepot, which is your cache)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
RUNTIME := $(VENV)/.runtime
DEVELOPMENT := $(VENV)/.development
INSTALLED := $(VENV)/wheel

# Decisions without I/O: every branch of them is tested, or the gate closes.
comma := ,
empty :=
# Much of it waits. What starts servers gets fewer neighbours.
TOGETHER := --numprocesses 4 --dist loadfile
SERVERS := --numprocesses 2 --dist loadfile
AS_USERS := DIST_FOLDER=$(CURDIR)/dist INSTALLED_PYTHON=$(CURDIR)/$(INSTALLED)/bin/python
PURE := proxy/oci/*.py proxy/cache/freshness.py proxy/cache/eviction.py

.DELETE_ON_ERROR:
.PHONY: run check test lint gate wheel dist installed demo bench bench-check bench-peers \
	bench-chart bench-cluster clean

run: $(RUNTIME)
	$(BIN)/entrepot serve --data-dir .entrepot

check: lint
	$(BIN)/python -m pytest $(TOGETHER) tests/unit
	$(BIN)/python -m pytest $(SERVERS) tests/conformance

# What needs nothing of the machine but ports runs side by side. Fleets come last, alone:
# a Redis that does not answer for half a second on a busy machine is done without, and
# then a blob is fetched twice. So do container runtimes, of which there is one of each.
# What they start is the wheel in an environment of its own, as users install it.
test: lint gate installed
	$(BIN)/python -m pytest $(TOGETHER) tests/unit --ignore tests/unit/oci --ignore tests/unit/cache
	$(AS_USERS) $(BIN)/python -m pytest $(SERVERS) tests \
		--ignore tests/unit --ignore tests/cluster --ignore tests/e2e
	$(AS_USERS) $(BIN)/python -m pytest tests/cluster tests/e2e
	$(BIN)/python -m tests.bench.check

lint: $(DEVELOPMENT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

gate: $(DEVELOPMENT)
	@ls $(PURE) >/dev/null
	$(BIN)/coverage run -m pytest -q tests/unit/oci tests/unit/cache
	$(BIN)/coverage report --show-missing --fail-under=100 \
		--include='$(subst $(empty) $(empty),$(comma),$(PURE))'

wheel: $(DEVELOPMENT)
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(PIP) wheel -c constraints.txt -w dist/wheels dist/entrepot-*.whl

dist: wheel
	deploy/image/archive.sh dist/entrepot-image.tar

installed: wheel
	rm -rf $(INSTALLED)
	$(PYTHON) -m venv $(INSTALLED)
	$(INSTALLED)/bin/python -m pip --disable-pip-version-check --quiet install \
		--no-index --find-links dist/wheels dist/entrepot-*.whl

demo: $(DEVELOPMENT)
	$(BIN)/python -m tests.demo

# Counts and ratios only, against the last ones kept: no time decides.
bench-check: $(DEVELOPMENT)
	$(BIN)/python -m tests.bench.check

# distribution 3, where there is Go; `make bench` looks for it in .bench
bench-peers:
	GOBIN=$(CURDIR)/.bench go install github.com/distribution/distribution/v3/cmd/registry@v3.1.2

bench-chart: $(DEVELOPMENT)
	$(PIP) install -c constraints.txt -e '.[bench]'
	$(BIN)/python -m tests.bench.chart
	$(BIN)/python -m tests.bench.readme

bench: $(DEVELOPMENT)
	$(BIN)/python -m tests.bench

bench-cluster: $(DEVELOPMENT)
	$(BIN)/python -m tests.bench.cluster

clean:
	rm -rf $(VENV) .bench build dist *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache \
		.ruff_cache .import_linter_cache
	find proxy tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Entrepot needs Python 3.11 or newer; say which: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e .
	touch $@

$(DEVELOPMENT): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e '.[dev]'
	touch $@ $(RUNTIME)
