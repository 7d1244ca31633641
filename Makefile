# make run | test | test-all | test-languages | languages | lint | lock | release | bench | bench-page | bench-cluster | chaos | screenshots | binary | images | web. Everything lives in .venv; see CONTRIBUTING.md.
PYTHON ?= python3
LISTEN ?= 127.0.0.1:8000
DATA_DIR ?= data
ROLES ?= all
SECONDS ?= 300
BINARY ?= dist/occd
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.setup
DEV := $(VENV)/.dev
LOCK := packaging/locked
PIP := $(BIN)/python -m pip -q --disable-pip-version-check
# The very files that `make lock` found. --no-deps: what they need is listed too.
EXACTLY := --require-hashes --only-binary :all: --no-deps
LOCKED := $(PIP) install $(EXACTLY)

.PHONY: run setup dev test test-all test-languages languages docs sizes lint lock release bench bench-page bench-cluster chaos screenshots binary images web clean

$(SETUP): pyproject.toml packaging/build_init.py $(wildcard sandbox/init/* sandbox/hold/*) sandbox/live/live.c $(LOCK)/run.txt $(LOCK)/build.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "occd needs Python 3.11 or newer; name one with: make PYTHON=python3.11 ...")'
	@$(PIP) show pip > /dev/null 2>&1 || $(PYTHON) -m venv $(VENV) # also where this was cut off before
	@echo "occd: setting up in $(VENV) (once) ..."
	@$(LOCKED) -r $(LOCK)/run.txt -r $(LOCK)/build.txt
	@$(PIP) install --no-index --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q occd # where PYTHONDONTWRITEBYTECODE is set, each start would compile all of it
	@touch $@

$(DEV): $(SETUP) $(LOCK)/dev.txt $(LOCK)/checkers.txt
	@packaging/system-packages.sh
	@$(LOCKED) -r $(LOCK)/dev.txt -r $(LOCK)/checkers.txt
	@touch $@

setup: $(SETUP)
dev: $(DEV)

# exec: make's shell becomes the daemon; make itself still stands in front, so run.sh replaces both.
run: $(SETUP)
	@exec $(BIN)/occd --roles $(ROLES) --listen $(LISTEN) --data-dir $(DATA_DIR)

# 114 and 128 do not see that task_status is handed on; 124: Quart's handlers must be async; 9xx, off
# by default, want a checkpoint in every function.
ASYNC_OFF := ASYNC114,ASYNC124,ASYNC128,ASYNC900,ASYNC910,ASYNC911,ASYNC912,ASYNC913

lint: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	git grep -lwE 'async|trio' -- '*.py' | xargs -P 2 -n 40 $(BIN)/python -m flake8_async --disable $(ASYNC_OFF)

# The newest releases that pyproject.toml allows; KEEP=1 changes only what it no longer allows, ONLY=NAME also this package.
lock: $(DEV)
	PYTHON=$(CURDIR)/$(BIN)/python UV=$(CURDIR)/$(BIN)/uv KEEP=$(KEEP) ONLY=$(ONLY) packaging/lock.sh

# Wheel, sdist, binary, bill of materials and sums, in dist/. Only of what is committed.
release: $(DEV)
	@$(BIN)/python packaging/release/release.py

# Two tests at once, a file's tests one after another; those marked `alone` have the machine to themselves.
TOGETHER := --dist loadfile --no-loadscope-reorder --tx '2*popen//python=$(BIN)/python tests/worker.py'

# PYTEST=tests/again.py gives what fails on a busy machine a second chance, as CI does.
PYTEST ?= -m pytest
test: lint
	$(BIN)/python $(PYTEST) $(TOGETHER) -m 'not long' --durations 50 --durations-min 8

# All languages that are installed; SET=popular or SET=all: all of the set, and one that is missing fails.
test-languages: $(DEV)
	$(BIN)/python -m pytest $(addprefix tests/languages/test_,proof.py columns.py hints.py several.py) --set=$(or $(SET),all) --missing=$(if $(SET),fail,skip)

# As root. SET=popular or SET=all.
languages: $(SETUP)
	@$(BIN)/occd languages install $(or $(SET),core)

test-all: test
	$(BIN)/python -m pytest -m long

# PARTS="judging" measures only this part; the same for bench-cluster. RUNNERS="piston=http://127.0.0.1:2000" measures
# others beside occd's hello.
bench: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m bench $(PARTS)

# What the page takes, in Chromium. FLOOD_SECONDS=5 FLOOD_RUNS=1 is shorter.
bench-page: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m bench page

bench-cluster: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m bench.cluster $(PARTS)

# In a private network of its own, so as root. SEED= repeats a run.
chaos: $(DEV)
	for form in faults empty drain; do \
		PYTHONPATH=tests unshare --net --mount $(BIN)/python tests/chaos/chaos.py --form $$form --seconds $(SECONDS) $(SEED:%=--seed %) \
			|| exit 1; \
	done

# The pictures of the README and the docs. FOLDER= takes all scenes instead, at both widths and in both themes.
screenshots: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m e2e.screenshots $(FOLDER)

# One file that needs no Python. It runs where glibc is not older than here, and here it must not be newer than 2.36.
binary: $(SETUP)
	@$(BIN)/python packaging/binary/build.py $(BINARY) $(EXACTLY) $(foreach part,run build binary,-r $(LOCK)/$(part).txt)

# As root; NAMES="debian-12 debian-13" builds these.
images: $(SETUP)
	@$(BIN)/occd --data-dir $(DATA_DIR) images $(NAMES)

# The part of docs/languages.md that the languages' files tell.
docs: $(DEV)
	$(BIN)/python packaging/languages.py

# The sizes that `occd languages --all` tells. Where all languages are installed.
sizes: $(DEV)
	$(BIN)/python packaging/sizes.py

web: web/node_modules
	cd web && npm run build

web/node_modules: web/package-lock.json
	cd web && npm ci --no-audit --no-fund
	@touch $@

clean:
	rm -rf $(VENV) web/node_modules sandbox/bin sandbox/shown/live/liblive.a sandbox/shown/live/live.so sandbox/shown/live/python/lib dist
