# Each target does all its own set-up from a fresh clone: it needs Python 3.11 or newer (with
# venv) and a package index, nothing else. A second call finds everything in place.
#
#   make quickstart [FRESH=1]   the whole way on real text: corpus to report, on a CPU
#   make test                   all tests, on a CPU (PYTEST_ARGS='-m "not slow"' for a part)
#   make test-beam              the Beam runner's tests, in an environment of their own (Python 3.11)
#   make torch                  PyTorch for CPUs and lm_eval (Python 3.11): what models are tested against
#   make lint                   style and types
#   make docs                   the documentation as a site: build/site/index.html
#   make constraints [UPGRADE=1]  new pins for constraints/ (needs uv)
#   make clean                  removes what was installed and built, never runs or caches of rows
#
# PYTHON=... picks the interpreter, VENV=... the folder of the environment.

SHELL := /bin/bash
# Packages are installed without bytecode, half of the time: what is imported is compiled once, here.
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help

VENV ?= .venv

# A name on PATH may be a pyenv shim that fails, or a Python without venv: each is tried for real.
ifndef PYTHON
PYTHON := $(shell for python in \
    python3.12 "$$HOME"/.pyenv/versions/3.12*/bin/python \
    python3.11 "$$HOME"/.pyenv/versions/3.11*/bin/python \
    python3.13 "$$HOME"/.pyenv/versions/3.13*/bin/python python3; do \
  "$$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
    >/dev/null 2>&1 && { echo "$$python"; break; }; done)
endif
ifneq ($(PYTHON),)
MINOR := $(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
endif
PINS := $(wildcard constraints/py$(MINOR).txt)
DEPENDENCIES := $(VENV)/.dependencies-$(MINOR)
INSTALLED := $(VENV)/.installed-$(MINOR)
PIP := "$(VENV)/bin/python" -m pip --disable-pip-version-check

.PHONY: help quickstart test test-beam torch lint docs constraints clean
help:
	@sed -n '4,13s/^# \{0,1\}//p' Makefile

ifeq ($(MINOR),)
$(DEPENDENCIES):
	@echo "twjax needs Python 3.11, 3.12 or 3.13 with venv; none was found. Name one: make PYTHON=/path/to/python3.12" >&2
	@exit 1
else
$(DEPENDENCIES): $(or $(PINS),pyproject.toml)
	@"$(VENV)/bin/python" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$(MINOR)")' \
	  2>/dev/null || "$(PYTHON)" -m venv --clear "$(VENV)"
ifneq ($(PINS),)
	@echo "Installing the pinned dependencies of $(PINS) into $(VENV) (a few minutes the first time)"
	$(PIP) install --no-compile --require-hashes -r "$(PINS)"
else
	@echo "No pins for Python $(MINOR): installing the newest versions that pyproject.toml allows into $(VENV)"
	$(PIP) install -e '.[dev]'
endif
	@touch "$@"
endif

$(INSTALLED): $(DEPENDENCIES) pyproject.toml
	$(PIP) install --quiet --no-deps -e .
	@touch "$@"

quickstart: $(INSTALLED)
	"$(VENV)/bin/twjax" quickstart $(if $(filter-out 0,$(FRESH)),--fresh)

test: $(INSTALLED)
	JAX_PLATFORMS=cpu "$(VENV)/bin/python" -m pytest -n auto --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# Beam needs an older protobuf than everybody else: its pins are another set.
BEAM := .venv-beam
BEAM_PINS := constraints/beam-py3.11.txt
test-beam: $(BEAM)/.installed
	JAX_PLATFORMS=cpu "$(BEAM)/bin/python" -m pytest $(PYTEST_ARGS) tests/test_corpus_beam.py

$(BEAM)/.installed: $(BEAM_PINS) pyproject.toml
	@test "$(MINOR)" = 3.11 || { echo "$(BEAM_PINS) is for Python 3.11, not $(MINOR): make test-beam PYTHON=/path/to/python3.11" >&2; exit 1; }
	"$(PYTHON)" -m venv --clear "$(BEAM)"
	"$(BEAM)/bin/python" -m pip --disable-pip-version-check install --no-compile --quiet --require-hashes -r "$(BEAM_PINS)"
	"$(BEAM)/bin/python" -m pip --disable-pip-version-check install --quiet --no-deps -e .
	@touch "$@"

# The build for CPUs, pinned by its hash: it is where `pip download torch` finds it, or a folder
# that PIP_FIND_LINKS names. The default index of Linux has a build with gigabytes of CUDA instead.
TORCH_PINS := constraints/torch-py3.11.txt
HARNESS_PINS := constraints/harness-py3.11.txt
torch: $(INSTALLED)
	@test "$(MINOR)" = 3.11 || { echo "$(TORCH_PINS) is for Python 3.11, not $(MINOR): make torch PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PIP) install --no-compile --quiet --require-hashes --no-deps --only-binary :all: -r "$(TORCH_PINS)"
	$(PIP) install --no-compile --quiet --require-hashes --no-deps -r "$(HARNESS_PINS)"

lint: $(INSTALLED)
	"$(VENV)/bin/ruff" check .
	"$(VENV)/bin/ruff" format --check .
	"$(VENV)/bin/pyright" --pythonpath "$(VENV)/bin/python"

# Strict: a link or an anchor that leads nowhere fails it. Reading SeqIO's registries takes a while.
docs: $(VENV)/.docs-$(MINOR)
	NO_MKDOCS_2_WARNING=1 "$(VENV)/bin/python" -m mkdocs build --strict

$(VENV)/.docs-$(MINOR): $(INSTALLED)
	$(PIP) install --quiet -e '.[docs]'
	@touch "$@"

constraints:
	python3 constraints/compile.py $(if $(filter-out 0,$(UPGRADE)),--upgrade)

clean:
	rm -rf .venv .venv-* build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -path ./.git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
