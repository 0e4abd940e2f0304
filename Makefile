# Everything runs in .venv, which is made when it is missing. `make` alone lists what there is.
#   make demo ARGS="--duration 120"     make test ARGS="-k ladder"     make test PYTHON=/opt/python3.12/bin/python3

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
ARGS ?=
UV ?= uv
# How many at a time, each with its own broker and Redis; PARALLEL= runs them one after the other. Most tests wait more than they work, but
# for those with a JVM or of long loops.
test: PARALLEL ?= -n 4 --dist worksteal
test-slow test-apache test-checked: PARALLEL ?= -n 2 --dist worksteal
TESTS ?= tests/integration
# What makes use of compiled loops without servers.
COMPILED := $(addprefix tests/unit/test_,$(addsuffix .py,chunks decode decode_scan dedupe dedupe_properties grouping hashtable open_tables privacy record_batches sketches))
CHECKED := NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=.cache/checked
# Versions and hashes for every platform and Python; where to fetch them from is the machine's own setting.
LOCK := pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links

.DEFAULT_GOAL := help
.PHONY: help install demo chaos test test-slow test-apache test-cluster test-checked fuzz bench lint format types audit lock clean

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

install: $(VENV)/.installed ## .venv with everything, to the hash

demo: $(VENV)/.installed ## the whole way of an event on this machine, with faults and alerts
	@exec $(BIN)/campaignwatch demo $(ARGS)

test: $(VENV)/.installed ## unit and integration tests, on the embedded broker and a real Redis
	@exec $(BIN)/pytest -q -rfEs $(PARALLEL) -m "not slow" $(ARGS)

test-slow: $(VENV)/.installed ## those that take long: faults of half a minute, every moment of a shutdown, clusters that fail over
	@exec $(BIN)/pytest -q -rfEs $(PARALLEL) -m slow $(TESTS) $(ARGS)

test-apache: $(VENV)/.installed ## integration tests on a real Apache Kafka (needs Java 17 and Maven)
	@for tool in java mvn; do command -v $$tool >/dev/null || { \
	  echo "make test-apache: no $$tool on PATH; install a Java runtime (17 or newer) and Maven, or use make test" >&2; exit 2; }; done
	@CAMPAIGNWATCH_TEST_KAFKA=apache exec $(BIN)/pytest -q -rfEs $(PARALLEL) -m "not slow or apache" $(TESTS) $(ARGS)

test-cluster: $(VENV)/.installed ## integration tests on three Kafka nodes and a Redis Cluster of six (TESTS=... for some; needs Java and Maven)
	@CAMPAIGNWATCH_TEST_KAFKA=cluster CAMPAIGNWATCH_TEST_REDIS=cluster exec $(BIN)/pytest -q -rfEs $(PARALLEL) $(TESTS) $(ARGS)

test-checked: $(VENV)/.installed ## what is compiled, with every index checked: compiled loops do not look where an array ends
	@$(CHECKED) $(BIN)/python -m streams.ingest.warm_up  # compiled once, and not by each of the parallel processes
	@$(CHECKED) exec $(BIN)/pytest -q -rfEs $(PARALLEL) $(COMPILED) $(ARGS)

fuzz: $(VENV)/.installed ## hostile payloads, 100,000 of them (ARGS="--payloads 1000000 --seed 1"); the smallest that fails is saved
	@$(CHECKED) exec $(BIN)/python -m tests.fuzz $(ARGS)

chaos: $(VENV)/.installed ## kill, freeze, cut and empty everything, and see that the tables are what the log says (45 min; ARGS="--rounds 5")
	@exec $(BIN)/python -m tests.chaos $(ARGS)

bench: $(VENV)/.installed ## measure Campaignwatch beside its peers, one after the other (needs Java and Maven; ARGS=--quick for a trial)
	@exec $(BIN)/python -m bench $(ARGS)

lint: $(VENV)/.installed ## rules of style, and whether the code is formatted
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed ## format the code and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.installed ## static types, strict
	$(BIN)/mypy --strict $(ARGS)

audit: $(VENV)/.installed ## unsafe code, and packages with known vulnerabilities (ARGS=--must-answer fails when nobody can be asked)
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive streams alerts grafana bench .ci
	$(BIN)/python .ci/audit.py constraints.txt $(ARGS)

lock: ## write constraints.txt and requirements.txt (needs uv; ARGS=--upgrade takes newer versions)
	@command -v $(UV) >/dev/null || { echo "make lock: no uv on PATH; install it, or name it with UV=/path/to/uv" >&2; exit 2; }
	$(UV) $(LOCK) $(ARGS) --extra dev --extra embedded pyproject.toml --output-file constraints.txt
	$(UV) $(LOCK) --constraints constraints.txt pyproject.toml --output-file requirements.txt

clean: ## remove .venv and what the tools keep
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info

$(VENV)/.installed: constraints.txt pyproject.toml
	@for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  if $$candidate -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1; then \
	    found=$$candidate; break; fi; done; \
	if [ -z "$$found" ]; then \
	  echo "campaignwatch needs Python 3.11, 3.12 or 3.13 with its venv module, and finds none; install one (on Debian: python3 and" >&2; \
	  echo "python3-venv), or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 2; fi; \
	echo "making $(VENV) with $$($$found --version); the packages take a minute or two"; \
	$$found -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m streams.ingest.warm_up
	@touch $@
