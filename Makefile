# Two commands: `make demo` runs a whole day, `make test` runs the tests. Both set everything up first.
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 4

.PHONY: help setup demo test test-all mutants history gpu-proof check fmt lock docs

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup:  ## Java, .venv, wheels and packages; nothing when nothing changed
	@$(PYTHON) tools/setup.py

demo: setup  ## the whole day on generated data
	@$(BIN)/millrace demo

test: setup  ## what a change needs, each engine at least once, in JOBS=4 processes; 18 minutes on two cores
	@$(PYTHON) tools/setup.py tests
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not wide" $(PYTEST_OPTIONS)

test-all: setup  ## the wide matrix, too: every model on every backend, whole days on clusters, long searches
	@$(PYTHON) tools/setup.py tests
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_OPTIONS)

mutants: setup  ## changes of the heart's modules that no test catches, and the share that one does; MODULES="a.py b.py"
	@$(BIN)/python tools/mutate.py $(MODULES)

SEEDS ?= 4
history: setup  ## kills, freezes and broken disks by SEEDS=4 seeds, judged by a checker, and counts of them
	@PYTHONPATH=tests $(BIN)/python -m history --seeds $(SEEDS)

gpu-proof:  ## on a machine with a GPU: set up with CUDA, doctor --gpu, benchmark; 9 minutes at most
	@$(PYTHON) tools/gpu_proof.py

check: setup  ## lint, format, types, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: setup  ## format and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup  ## write docs/data-dictionary.md from the tables, and the tree of docs/architecture.md
	$(BIN)/python -m etl.warehouse.dictionary docs/data-dictionary.md
	$(BIN)/python tools/architecture.py

lock: setup  ## pin the newest versions that fit, without addresses; a build's local suffix stays for our own wheels only
	$(BIN)/uv pip compile pyproject.toml --group dev --python-version 3.11 --no-header --no-annotate -q \
	  $$(ls -d $${XDG_CACHE_HOME:-$$HOME/.cache}/millrace/wheels/cp311-* | sed 's/^/--find-links /') \
	  $${PIP_FIND_LINKS:+--find-links $$PIP_FIND_LINKS} --upgrade \
	  | sed -E 's/\+(cpu|cu[0-9]+)$$//; s/^(horovod|petastorm)==([0-9.]+)$$/\1==\2+millrace1/' > constraints.txt
