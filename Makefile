# Two commands do everything: `make demo` and `make test`. The rest are their parts.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

GPU_PYTHON ?= $(PYTHON)
GPU_VENV := .venv-gpu
GPU_BUILD := build/gpu
# One version, the newest for Python 3.11: what XLA fuses changes with it, and with that what is close.
JAX_VERSION := 0.10.2
# Without the CUDA libraries, which compiling for a GPU does not need and running on one does.
JAX := jax[cuda13-local]==$(JAX_VERSION)
JAX_RUN := jax[cuda13]==$(JAX_VERSION)

# The oldest TensorFlow, with the last TensorFlow Addons, which asks for it; the newest Python of both.
LEGACY_PYTHON ?= python3.11
LEGACY_VENV := .venv-legacy
# What differs most between TensorFlows and Kerases: layers and their files, optimizers, dispatch.
CONTRACT := $(addprefix tests/layers/test_contract.py::test_, config_round_trip one_fit_step_jit_on_and_off \
  reload_in_a_fresh_process the_backend_that_was_asked_for_runs)
MATRIX := $(CONTRACT) tests/layers/test_embedding.py tests/layers/test_recurrent.py tests/models/test_youtubednn.py \
  tests/test_dispatch.py tests/test_addons.py

# DeepCTR, on the TensorFlow of recops.
PEERS_VENV := .venv-peers
# FuxiCTR is of PyTorch, and takes any Python from 3.10.
FUXICTR_VENV := .venv-fuxictr

.PHONY: demo test test-tfkeras test-legacy matrix versions bench lifecycle sanitize fuzz lint install wheels peers gpu-export gpu-report gpu-run test-gpu clean

demo: install
	$(BIN)/python examples/demo.py --out demo

# In parts, each with workers of its own: XLA keeps all that it has compiled, 12 GB a worker by the end
# of one run of everything.
WORKERS := -n 2 --dist loadgroup

define in_parts
$(1) -m pytest $(WORKERS) tests/ops/test_contract.py
$(1) -m pytest $(WORKERS) tests/ops --ignore tests/ops/test_contract.py
$(1) -m pytest $(WORKERS) tests --ignore tests/ops
endef

test: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(call in_parts,$(BIN)/python)

# The whole suite under tf_keras, and on TensorFlow 2.15 with its own Keras and TensorFlow Addons.
# TESTS names a part of it.
test-tfkeras: export TF_USE_LEGACY_KERAS := 1
test-tfkeras: install
	$(if $(TESTS),$(BIN)/python -m pytest $(WORKERS) $(TESTS),$(call in_parts,$(BIN)/python))

test-legacy: $(LEGACY_VENV)/.installed
	$(if $(TESTS),$(LEGACY_VENV)/bin/python -m pytest $(WORKERS) $(TESTS),$(call in_parts,$(LEGACY_VENV)/bin/python))

# A part of both that takes minutes.
matrix:
	$(MAKE) test-tfkeras TESTS="$(MATRIX)"
	$(MAKE) test-legacy TESTS="$(MATRIX)"

# All tests on all of them, and the README's table of it.
versions: export RECOPS_TESTED := bench/results/versions.jsonl
versions: test test-tfkeras test-legacy
	$(BIN)/python bench/versions.py

bench: install
	$(BIN)/python bench/run.py

# Every model trained for an epoch, saved, and loaded in a fresh process: the same predictions.
lifecycle: install
	$(BIN)/python bench/lifecycle.py

gpu-export: install
	$(BIN)/python bench/gpu/export.py $(GPU_BUILD)
	$(BIN)/python bench/gpu/steps.py $(GPU_BUILD)

# What a GPU would get, worked out without one: lower, compile, count, write docs/gpu.md's table.
gpu-report: gpu-export $(GPU_VENV)/.installed
	$(GPU_VENV)/bin/python bench/gpu/compile.py $(GPU_BUILD)
	$(BIN)/python bench/gpu/report.py

# The same programs on a GPU, and what PyTorch takes: correctness, then times. ON=cpu runs all on a
# CPU instead, and keeps no row.
ON ?= gpu
gpu-run: gpu-export $(GPU_VENV)/.installed $(FUXICTR_VENV)/.installed
ifeq ($(ON),cpu)
	$(GPU_VENV)/bin/python bench/gpu/run.py $(GPU_BUILD) --platform cpu --calls 3 --out $(GPU_BUILD)/cpu.jsonl
	$(FUXICTR_VENV)/bin/python bench/gpu/peers.py $(GPU_BUILD) --device cpu --calls 3 --out $(GPU_BUILD)/cpu.jsonl
else
	$(GPU_VENV)/bin/python -m pip install --quiet "$(JAX_RUN)"
	$(GPU_VENV)/bin/python bench/gpu/run.py $(GPU_BUILD)
	$(FUXICTR_VENV)/bin/python bench/gpu/peers.py $(GPU_BUILD)
	$(BIN)/python bench/gpu/report.py
endif

# The tests that make sense where TensorFlow sees a GPU; ON=cpu runs the same on a CPU.
test-gpu: install
	$(BIN)/python -m tests.on_gpu --device $(ON)

# Other libraries to compare accuracies with: bench/accuracy.py --peers.
peers: $(PEERS_VENV)/.installed $(FUXICTR_VENV)/.installed

# The kernels under AddressSanitizer and UBSan in their contract tests, and the scheduler under
# ThreadSanitizer. TensorFlow itself has none of them, hence the preloading; what XLA calls shares
# memory that no sanitizer knows the bounds of, hence eager calls and graphs alone.
CXX ?= g++
SANITIZED := RECOPS_CXXFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g1 -O1"
PRELOAD := $(foreach lib,libasan.so libubsan.so libstdc++.so,$(shell $(CXX) -print-file-name=$(lib)))

sanitize: install
	mkdir -p build
	$(CXX) -std=c++17 -g -O1 -fsanitize=thread -pthread tests/native/blocks.cc -o build/blocks
	build/blocks
	$(SANITIZED) $(BIN)/recops build
	$(SANITIZED) LD_PRELOAD="$(PRELOAD)" ASAN_OPTIONS=detect_leaks=0:detect_odr_violation=0 \
	  $(BIN)/python -m pytest -q tests/ops/test_contract.py -k "cpp and (eager or graph)"

# Wrong calls of the native ops, under the same sanitizers. CALLS says how many.
CALLS ?= 100000

fuzz: install
	$(SANITIZED) $(BIN)/recops build
	$(SANITIZED) LD_PRELOAD="$(PRELOAD)" \
	  ASAN_OPTIONS=detect_leaks=0:detect_odr_violation=0:allocator_may_return_null=1 \
	  $(BIN)/python -m tests.native.fuzz --calls $(CALLS)

lint: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: $(VENV)/.installed

# With the native library inside, for the TensorFlow of .venv; docs/install.md says what is in it.
WHEEL_ISA ?= $(if $(filter x86_64,$(shell uname -m)),x86-64-v3 x86-64-v4 x86-64-v4+avx512bf16,armv8-a)
WHEELS ?= dist

wheels: install
	rm -rf build/lib.* build/bdist.*  # What is deleted in the sources would stay in the wheel.
	RECOPS_ISA="$(WHEEL_ISA)" $(BIN)/python -m build --wheel --no-isolation --outdir $(WHEELS) .

# Editable, so that a change of the code needs no new install; a change of what is required does.
$(VENV)/.installed: pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[test,bench]"
	touch $@

$(LEGACY_VENV)/.installed: pyproject.toml setup.py
	$(LEGACY_PYTHON) -m venv $(LEGACY_VENV)
	$(LEGACY_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(LEGACY_VENV)/bin/python -m pip install --quiet --editable ".[test,bench,addons]"
	touch $@

# No TensorFlow in it, and in the other no JAX: each brings an XLA of its own.
$(GPU_VENV)/.installed: Makefile
	$(GPU_PYTHON) -m venv $(GPU_VENV)
	$(GPU_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(GPU_VENV)/bin/python -m pip install --quiet "$(JAX)"
	touch $@

$(PEERS_VENV)/.installed: Makefile
	$(PYTHON) -m venv $(PEERS_VENV)
	$(PEERS_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(PEERS_VENV)/bin/python -m pip install --quiet "deepctr==0.9.4" "tensorflow-cpu==2.21.*" scikit-learn
	touch $@

# PyTorch first: FuxiCTR imports it and does not ask for it.
$(FUXICTR_VENV)/.installed: Makefile
	$(PYTHON) -m venv $(FUXICTR_VENV)
	$(FUXICTR_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(FUXICTR_VENV)/bin/python -m pip install --quiet "torch==2.13.0"
	$(FUXICTR_VENV)/bin/python -m pip install --quiet "fuxictr==2.3.10"
	touch $@

clean:
	rm -rf $(VENV) $(LEGACY_VENV) $(GPU_VENV) $(PEERS_VENV) $(FUXICTR_VENV) build dist demo *.egg-info
