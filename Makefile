# make demo   a fresh clone to the open app
# make test   everything CI runs, with its own set-up
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: help setup demo quick test test-full check format lock wheel bench clean

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## setup      make .venv with everything in it (.venv/bin/emt)
setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@.ci/make-venv $(PYTHON) $(VENV)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

## demo       set up, run the embedded demo from sources to select, open the app
demo: setup
	$(BIN)/emt demo --workspace $(or $(WORKSPACE),workspace-demo) $(ARGS)

## quick      the tests that need no model, no browser and no long run: under two minutes on two cores
QUICK := tests/recipe tests/workspace tests/data tests/selection tests/cli tests/run/test_plan.py \
    tests/test_architecture.py tests/test_docs.py --ignore=tests/data/readers/test_mutants.py
quick: setup
	$(BIN)/python -m pytest -m "not slow and not browser" $(QUICK) $(ARGS)

## test       set up (with browser and graphics libraries), lint, types, tests; minutes per group
# two processes, a file at a time: files share what they built
PARALLEL := -n 2 --dist loadfile --durations 15
test: setup
	@.ci/system-packages
	@$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL) $(ARGS)

## test-full  the same with the slow tests
test-full: setup
	@.ci/system-packages
	@$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL) $(ARGS)
	$(BIN)/python -m pytest -m slow $(ARGS)

## check      ruff and the type checker
check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

## format     let ruff rewrite
format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

## lock       resolve requirements.lock anew (versions and hashes, no addresses)
lock:
	$(BIN)/uv pip compile pyproject.toml --extra sim --extra test --extra dev --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet --upgrade -o requirements.lock

## wheel      build dist/embodied_midtrain-VERSION-py3-none-any.whl: package, app, recipes, demo
wheel: setup
	$(BIN)/python -m hatchling build -t wheel

## bench      all speed and memory measurements, printed; one that fails does not stop the others (an hour; leave the machine alone)
# category_accuracy.py counts right answers and asks for --split
BENCHMARKS := $(filter-out speed/category_accuracy.py speed/faults.py speed/kills.py speed/mutants.py \
    speed/million.py speed/pages.py speed/training_start.py speed/compare.py speed/contender.py,$(wildcard speed/*.py))
bench: setup
	@test -d .venv-peers || { $(BIN)/uv venv -q .venv-peers && \
	    $(BIN)/uv pip install -q --python .venv-peers/bin/python -r speed/peers.txt; }
	@failed=""; $(BIN)/python speed/compare.py --peers .venv-peers/bin/python --write || failed=" compare.py"; \
	$(BIN)/python speed/compare.py --growth --write || failed="$$failed growth"; \
	for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script || failed="$$failed $$script"; done; \
	$(BIN)/emt run demo --workspace workspace-demo && rm -rf workspace-million && \
	$(BIN)/python speed/million.py --demo workspace-demo --out workspace-million && \
	$(BIN)/python speed/training_start.py --workspace workspace-million && \
	$(BIN)/python speed/pages.py --workspace workspace-million || failed="$$failed a-million-samples"; \
	if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

## clean      remove the environment and caches (never a workspace)
clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache dist
