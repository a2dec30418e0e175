# make demo: score the bundled model with EAGER.   make test: what every change must pass.   make docs: the site.
# Both work in .venv, made from PYTHON (3.10 or newer) with the versions in constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
SOURCES := pyproject.toml constraints.txt packaging/eager_lmeval_register.pth

# Some tests need Chromium or bubblewrap, and tests that are skipped cannot fail: where `make test` runs as root on Debian
# without them, as CI does, they install these system packages. EAGER_TESTS_INSTALL_PACKAGES=0 forbids it.
EAGER_TESTS_INSTALL_PACKAGES ?= 1

.PHONY: demo test lint docs clean

demo: .venv/installed
	$(BIN)/eager-lmeval demo

test: lint
	EAGER_TESTS_INSTALL_PACKAGES=$(EAGER_TESTS_INSTALL_PACKAGES) $(BIN)/python -m pytest

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: .venv/installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Built: build/site/index.html"

clean:
	rm -rf .venv build dist out .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv

# torch goes first and alone: left to the resolver, a newer and much larger build could be fetched on the way.
.venv/torch: constraints.txt | $(BIN)/python
	@echo "Installing torch; the first time this takes minutes"
	$(INSTALL) torch
	@touch $@

.venv/installed: .venv/torch $(SOURCES)
	$(INSTALL) -e .
	@touch $@

.venv/installed-test: .venv/installed
	$(INSTALL) -e '.[test]'
	@touch $@
