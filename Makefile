# What one can do here; `make` alone lists it. Needs python3 (3.11 or newer) and make, nothing else.
#   make run PORT=8001                  another port
#   make run HOST=0.0.0.0 MODELPERF_ALLOWED_HOSTS=name   for other machines too
#   make run MODELPERF_DATA_DIR=/srv/x  another place for the data than var/
#   make test PYTHON=python3.12         another Python; ARGS="-k drift" goes to pytest
#   make test WORKERS=0                 in one process, as a debugger wants it

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
WORKERS ?= auto

# Checks need settings but no real key, and a database of their own that `make clean` removes.
CHECK_ENV = env -u DATABASE_URL MODELPERF_DEMO=1 MODELPERF_DATA_DIR=$(VENV)/check \
	MODELPERF_SECRET_KEY=only-for-checks-which-serve-nobody-at-all

.PHONY: help run test check bench clean lock runtime development
.DEFAULT_GOAL := help

help:  ## list these targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

run: runtime  ## serve the demo, or the data that is there, on http://127.0.0.1:8000
	@exec $(VENV)/bin/python -m config.run $(ARGS)

test: development  ## run every test against throw-away databases, on every core
	@$(VENV)/bin/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadgroup $(ARGS)

check: development  ## lint, format, types, imports, migrations, API document, settings
	$(VENV)/bin/python -m ruff check
	$(VENV)/bin/python -m ruff format --check
	$(CHECK_ENV) $(VENV)/bin/python -m mypy
	$(VENV)/bin/lint-imports
	$(CHECK_ENV) $(VENV)/bin/python manage.py check --fail-level WARNING
	$(CHECK_ENV) $(VENV)/bin/python manage.py makemigrations --check --dry-run
	$(CHECK_ENV) $(VENV)/bin/python manage.py spectacular --validate --fail-on-warn --file $(VENV)/openapi.yaml
	@diff -u docs/api/openapi.yaml $(VENV)/openapi.yaml \
		|| { echo "The API changed: cp $(VENV)/openapi.yaml docs/api/openapi.yaml, and commit it."; exit 1; }

bench: development  ## measure speed and statistics against their targets
	$(VENV)/bin/python -m benchmarks.ingest
	$(VENV)/bin/python -m benchmarks.check
	$(VENV)/bin/python -m benchmarks.profiles
	$(VENV)/bin/python -m benchmarks.alerts
	$(VENV)/bin/python -m benchmarks.notifications
	$(VENV)/bin/python -m benchmarks.statistics --full

clean:  ## remove what was installed and cached; data stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache htmlcov .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: development  ## choose every dependency's version anew
	$(call compile,requirements.lock)
	$(call compile,requirements-dev.lock,--group dev)

compile = $(VENV)/bin/uv pip compile pyproject.toml $(2) --universal --python-version 3.11 --upgrade \
	--generate-hashes --no-emit-index-url --no-header --no-annotate --quiet --output-file $(1)

# The environment holds what a lock file says, for one minor version of Python, or is made anew.
# requirements-dev.lock contains requirements.lock: what is there for tests serves too.
runtime:
	@$(call install,requirements.lock)

development:
	@$(call install,requirements-dev.lock)

state = $(PYTHON) -c 'import hashlib, sys; \
	sys.version_info >= (3, 11) or sys.exit("modelperf needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.12"); \
	print("%d.%d" % sys.version_info[:2], hashlib.sha256(open("$(1)", "rb").read()).hexdigest())'

define install
base=$$($(call state,requirements.lock)) && want=$$($(call state,$(1))) || exit 1; \
if grep -qsxF "$$want" $(VENV)/installed; then exit 0; fi; \
echo "Installing $(1) into $(VENV) (once)"; \
if [ "$$(cat $(VENV)/installed 2>/dev/null)" != "$$base" ]; then \
	rm -rf $(VENV) && $(PYTHON) -m venv $(VENV) || exit 1; \
fi; \
$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(1) \
	&& printf '%s\n' "$$base" "$$want" | sort -u > $(VENV)/installed
endef
