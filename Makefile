# Everything runs in .venv, which the first command makes. Another Python: make PYTHON=python3.13 demo

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# numpy reads it: the emulator's semantic vectors come ten times as fast from one thread.
demo test notebooks: export OPENBLAS_NUM_THREADS = 1

# Files whose tests reach every line and every branch, and those tests.
WHOLE := opensearch_embed/errors.py,opensearch_embed/models.py,opensearch_embed/settings.py,opensearch_embed/_api_key.py,opensearch_embed/_endpoint.py,opensearch_embed/_texts/check.py,opensearch_embed/_texts/batches.py,opensearch_embed/_wire/large.py,opensearch_embed/_wire/request.py,opensearch_embed/_wire/reply.py
REACHING := $(addprefix tests/test_, $(addsuffix .py, api_key cli environment errors input large_answers models options overflow plan refusal settings transport_tables wire))

# More options for pytest. CI has a failed test run again, and shows how it failed: see .ci/run.
export TEST_OPTIONS ?=

FUZZ_SECONDS ?= 60
SOAK_MINUTES ?= 30

# The theme prints an advertisement otherwise.
SITE := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs

.PHONY: help demo test coverage alive redis browser versions lowest cluster lint bench notebooks wheel-check peer fuzz soak mutation docs docs-serve dist clean
.NOTPARALLEL:
.DEFAULT_GOAL := help

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed  ## search a small corpus through LangChain and LlamaIndex, with no key
	@$(BIN)/opensearch-embed demo

test: $(VENV)/.group-test  ## run the tests: all that need no more than Python, and not the long ones of `alive`
	@$(BIN)/python -m pytest $(TEST_OPTIONS) --numprocesses=auto $(addprefix --ignore=tests/, alive browser cluster with_redis)

coverage: $(VENV)/.group-test  ## branch coverage; the pure files must be reached in every line and branch
	@$(BIN)/python -m pytest $(TEST_OPTIONS) --quiet --numprocesses=auto --cov --cov-report= $(REACHING)
	@$(BIN)/coverage report --include=$(WHOLE) --fail-under=100 --show-missing

redis: $(VENV)/.group-test  ## one quota over processes, with a real redis-server (Debian: apt install redis-server)
	@$(BIN)/python -m pytest $(TEST_OPTIONS) --numprocesses=auto tests/with_redis

alive: $(VENV)/.group-test  ## forks, dead threads, nested loops, Ctrl-C, outages, at length: some minutes
	@$(BIN)/python -m pytest $(TEST_OPTIONS) --numprocesses=auto tests/alive

browser: $(VENV)/.group-browser  ## pages in headless Chromium, which must be there (Debian: apt install chromium)
	@$(BIN)/python -m pytest $(TEST_OPTIONS) tests/browser

versions:  ## what must stay alive, on each other Python from 3.11 on that is to be had here
	@bash .ci/versions.sh

lowest:  ## the tests with the lowest version that is allowed of each dependency
	@bash .ci/lowest.sh

cluster: $(VENV)/.group-cluster  ## test Ray, and the recipes for Spark and Dask, on this machine
	@$(BIN)/python -m pytest $(TEST_OPTIONS) tests/cluster

lint: $(VENV)/.group-lint  ## check style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo

bench: $(VENV)/.group-bench  ## measure against the plugin that exists today
	$(BIN)/python -m benchmarks

notebooks: $(VENV)/.group-notebooks  ## execute the notebooks against the emulator, changing nothing
	$(BIN)/python .ci/run_notebooks.py

wheel-check: $(VENV)/.pip  ## build the wheel, and try it in a clean venv with each extra alone
	$(BIN)/python .ci/check_wheel.py

peer: $(VENV)/.group-peer  ## install the vendor's SDK and today's plugin: `make test` then runs their tests too
	@$(BIN)/python -c "import alibabacloud_searchplat20240529, llama_index.embeddings.alibabacloud_aisearch"

fuzz: $(VENV)/.group-fuzz  ## fuzz the decoder for a minute, or FUZZ_SECONDS=
	@$(BIN)/python fuzz/fuzz_decode.py --seconds $(FUZZ_SECONDS)

soak: $(VENV)/.group-soak  ## mixed load with random faults for half an hour, or SOAK_MINUTES=
	@$(BIN)/python -m soak --minutes $(SOAK_MINUTES)

mutation: $(VENV)/.group-mutation  ## change the pure modules a thousand times: do the tests see it? See docs/mutation.md
	@$(BIN)/mutmut run
	@$(BIN)/mutmut results

docs: $(VENV)/.group-docs  ## build the pages as a site into build/site; a broken link fails
	@$(SITE) build --strict

docs-serve: $(VENV)/.group-docs  ## show the site on this machine, and each change at once
	@$(SITE) serve

dist: $(VENV)/.group-release  ## build what would be published into dist/, and check how it describes itself
	@rm -rf dist
	@$(BIN)/python -m build
	@$(BIN)/twine check --strict dist/*

clean:  ## remove .venv, caches and reports
	rm -rf $(VENV) mutants build dist .coverage .coverage.* htmlcov .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- what is installed; each file says that a step is done ---

$(VENV)/.pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=... names one")'
	@echo "Making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.pip
	@echo "Installing the project and its extras into $(VENV): a minute or two, the first time"
	@$(PIP) install --editable ".[all]"
	@touch $@

$(VENV)/.group-%: pyproject.toml $(VENV)/.installed
	@echo "Installing what \`$*\` needs"
	@$(PIP) install --group $*
	@touch $@
