# make run    the main job: environment, build, a run        make test   everything that is checked
# PYTHON=...  the interpreter the environment is made from (3.11 or newer)

SHELL := /bin/bash
.DELETE_ON_ERROR:
.NOTPARALLEL:

PYTHON ?= python3
export PYTHON
VENV := .venv
BIN := $(VENV)/bin
BENCH_VENV := .venv-bench
BUILD := build/dev
SANITIZED := build/sanitize
CMAKE := $(BIN)/cmake -S . -G Ninja -DPython_EXECUTABLE=$(abspath $(BIN)/python) \
	-DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja)
CPP = $(shell find native -name '*.cpp' -o -name '*.h' -o -name '*.hpp')
SETUP := scripts/setup_env.sh pyproject.toml

.PHONY: help run test env build lint format sanitize docs bench-env bench clean distclean
help:
	@echo "make run       build, compile two models for two chips, simulate, report"
	@echo "make test      lint, types, sanitizer run, all tests"
	@echo "make env       the environment with all that development needs (.venv)"
	@echo "make build     the native core and the installed package; quick when little changed"
	@echo "make lint      ruff, clang-format, pyright       make format    put the sources into form"
	@echo "make sanitize  native tests with address and undefined behaviour sanitizers"
	@echo "make docs      the documentation as pages        make bench-env the peers (.venv-bench)"
	@echo "make bench     measurements beside the peers, and the tables of docs/benchmarks.md"
	@echo "make clean     what builds made                  make distclean the environments as well"

run: build
	$(BIN)/tapeout run resnet50 --chip mlu370-x4
	$(BIN)/tapeout run gpt2 --chip systolic-128

# Pytest comes last, so that its summary ends the output.
test: env build lint sanitize
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal

# One environment; a stamp for each set of requirements makes the second call instant.
$(VENV)/.core: $(SETUP) constraints.txt
	scripts/setup_env.sh $(VENV) constraints.txt core
	@touch $@
$(VENV)/.dev: $(SETUP) constraints.txt
	scripts/setup_env.sh $(VENV) constraints.txt core test torch dev
	@touch $(VENV)/.core $@
$(VENV)/.docs: $(SETUP) constraints.txt
	scripts/setup_env.sh $(VENV) constraints.txt core docs
	@touch $@
$(BENCH_VENV)/.bench: $(SETUP) constraints-bench.txt
	scripts/setup_env.sh $(BENCH_VENV) constraints-bench.txt bench
	@touch $@
env: $(VENV)/.dev
bench-env: $(BENCH_VENV)/.bench

# Python is linked in place once (entry points and a path file); only the native core is rebuilt.
$(VENV)/.linked: $(VENV)/.core pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation \
		--config-settings=wheel.cmake=false --config-settings=editable.mode=inplace -e . </dev/null
	@touch $@
$(BUILD)/build.ninja: $(VENV)/.core
	$(CMAKE) -B $(BUILD) -DTAPEOUT_IN_SOURCE=ON --log-level=WARNING
	@touch $@
build: $(VENV)/.linked $(BUILD)/build.ninja
	$(BIN)/cmake --build $(BUILD)

lint: env build
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run -Werror $(CPP)
	$(BIN)/pyright

format: env
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(CPP)

# The sanitizer runtimes must be loaded before Python; libstdc++ too, or they do not see exceptions
# being thrown. Python itself leaks by design. -s, or a report of the sanitizer is lost with the process.
# tests/conftest.py loads the module that TAPEOUT_NATIVE names.
PRELOAD = $(foreach lib,libasan.so libubsan.so libstdc++.so,$(shell $${CXX:-c++} -print-file-name=$(lib)))
$(SANITIZED)/build.ninja: $(VENV)/.core
	$(CMAKE) -B $(SANITIZED) -DTAPEOUT_SANITIZE=ON --log-level=WARNING
	@touch $@
sanitize: env build $(SANITIZED)/build.ninja
	$(BIN)/cmake --build $(SANITIZED)
	LD_PRELOAD="$(PRELOAD)" ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc OMP_NUM_THREADS=1 \
		TAPEOUT_NATIVE="$$(echo $(SANITIZED)/_native.*.so)" $(BIN)/pytest -q -s -m native \
		-p no:cacheprovider -p no:xdist $$(grep -rl --include='test_*.py' 'mark\.native' tests)

# Peers run in their own environment; what they found is in benchmarks/results, and the rest is measured against that.
bench: build bench-env
	$(BENCH_VENV)/bin/python benchmarks/peers_zigzag.py
	$(BENCH_VENV)/bin/python benchmarks/peers_scalesim.py
	$(BIN)/python benchmarks/side_by_side.py
	$(BIN)/python benchmarks/bench_speed.py
	$(BIN)/python benchmarks/tables.py

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

clean:
	rm -rf build dist site src/tapeout/_native* $(VENV)/.linked
distclean: clean
	rm -rf $(VENV) $(BENCH_VENV)
