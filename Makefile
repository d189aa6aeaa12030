# make demo     FP32, INT8 and INT4 of one trained network side by side (a few minutes)
# make test     everything that CI checks
# make bench    measures uqfc next to other runtimes, and rewrites the README's figures (slow)
# make models   installs torch and exports the networks that tests/models needs (optional)
# make nightly  all tests, the slow ones too, with 100 times the random examples
# make lint | types | layers | format | clean
#
# Each target makes a virtual environment in .venv and installs what it needs there. pip uses the
# index that it is configured for. PYTHON selects the interpreter, WORKERS the test processes.

PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist worksteal --durations 10
SOURCES := pyproject.toml constraints.txt

export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test bench pytest nightly lint types layers format models clean
.DELETE_ON_ERROR:

demo: .venv/demo.stamp
	$(BIN)/python examples/fashion_mnist/demo.py

test: lint types layers pytest

pytest: export UQFC_HYPOTHESIS_PROFILE ?= ci
pytest: .venv/dev.stamp
	$(PYTEST) -m "not slow"

nightly: export UQFC_HYPOTHESIS_PROFILE := nightly
nightly: .venv/dev.stamp
	$(PYTEST)

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/models.stamp  # pyright reads the types of torch
	$(BIN)/pyright

layers: .venv/dev.stamp
	$(BIN)/lint-imports --no-logo

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

models: .venv/models.stamp
	$(BIN)/python -m tests.models.torchvision_models

bench: models .venv/peers.stamp .venv-litert/stamp
	$(BIN)/python -m benchmarks

.venv/peers.stamp: $(SOURCES) | .venv/bin/python
	$(BIN)/pip install --quiet --editable '.[peers]'
	touch $@

# LiteRT's converter needs another xdsl than uqfc does, hence an environment of its own. It imports
# the other one's torch; the packages that it only needs for language models are left out.
.venv-litert/stamp: benchmarks/litert-requirements.txt .venv/peers.stamp .venv/models.stamp
	$(PYTHON) -m venv .venv-litert
	.venv-litert/bin/python -c 'import site, pathlib; \
	  here = pathlib.Path(site.getsitepackages()[0]); \
	  other = pathlib.Path(".venv").resolve() / here.relative_to(here.parents[2]); \
	  (here / "uqfc-peers.pth").write_text(f"{other}\n")'
	PIP_CONSTRAINT= .venv-litert/bin/pip install --quiet --no-deps -r $<
	touch $@

# torch comes first: torchvision must not choose another build of it. Both are only needed to
# export network architectures; neither uqfc nor its other tests use them.
.venv/models.stamp: .venv/dev.stamp
	$(BIN)/pip install torch==2.13.0
	$(BIN)/pip install --no-deps torchvision==0.28.0
	touch $@

# rapidocr-onnxruntime is installed for the trained network in it; its code is never imported.
.venv/dev.stamp: $(SOURCES) | .venv/bin/python
	$(BIN)/pip install --quiet --editable '.[dev]'
	$(BIN)/pip install --quiet --no-deps rapidocr-onnxruntime==1.4.4
	touch $@

.venv/demo.stamp: $(SOURCES) | .venv/bin/python
	$(BIN)/pip install --quiet --editable '.[bench]'
	touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "uqfc needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv

clean:
	rm -rf .venv .venv-litert build dist .hypothesis .pytest_cache .ruff_cache .import_linter_cache
