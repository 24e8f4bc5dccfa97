# Two commands to know: `make demo` shows it, `make test` checks everything.
# Every step installs what it needs into .venv/ and target/, nothing anywhere else.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
# cargo and maturin set different flags; in one folder each would rebuild what the other built.
export CARGO_TARGET_DIR := target
WHEEL_TARGET := target/wheel
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1
PIP := $(BIN)/python -m pip install --quiet

RUST := $(shell find src -name '*.rs') Cargo.toml Cargo.lock
PYTHON_SOURCES := $(shell find python -type f -not -path '*/__pycache__/*') pyproject.toml README.md

.PHONY: help demo test check bench quality crash zoo docs wheel fmt clean clean-demo \
        lint lint-rust lint-python test-rust test-python

help:  ## This list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/.release  ## Runs the demo; kill it and run it again. FRESH=1 starts over.
	@exec $(BIN)/python examples/stdlib_report.py $(if $(FRESH),--fresh) $(ARGS)

test: lint test-rust test-python  ## Everything: formats, lints, types, Rust and Python tests, examples, docs.

check: $(VENV)/.test  ## The fast loop: compiles, lints, and runs the Rust unit tests.
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy --lib --features python -- -D warnings
	$(BIN)/ruff check .
	cargo test --quiet --lib

lint: lint-rust lint-python

lint-rust: $(VENV)/.python
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy --lib --features python -- -D warnings
	scripts/check-free-threaded

lint-python: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict python/goclaw
	$(BIN)/python -m mypy.stubtest goclaw._goclaw

test-rust:
	@if command -v cargo-nextest >/dev/null; then cargo nextest run; else cargo test; fi

test-python: $(VENV)/.dev
	$(BIN)/python -m pytest

bench: $(VENV)/.release  ## Measures beside its peers; prints on which machine. ARGS=--quick for a glance.
	@$(PIP) -r benches/requirements.txt || echo "some peers cannot be installed here and are left out"
	$(BIN)/python benches/run.py $(ARGS)

quality: $(VENV)/.release  ## How good the answers of the memory are, on public collections, beside peers.
	@$(PIP) -r benches/requirements.txt || echo "some peers cannot be installed here and are left out"
	$(BIN)/python -m benches.memory.quality $(ARGS)

crash: $(VENV)/.release  ## Kills the engine 200 times at random moments and checks what it promised.
	$(BIN)/python scripts/crash.py $(ARGS)

zoo: $(VENV)/.dev  ## Keeps each hostile agent 50 times beside healthy ones. TIMES=200 for more.
	GOCLAW_ZOO=$(or $(TIMES),50) $(BIN)/python -m pytest tests/zoo $(ARGS)

docs: $(VENV)/.docs  ## Builds the documentation into site/.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "open site/index.html"

wheel: $(VENV)/.build  ## Builds the wheel for release into dist/.
	CARGO_TARGET_DIR=$(WHEEL_TARGET) $(BIN)/maturin build --profile dist --out dist
	@ls -l dist/*.whl

fmt: $(VENV)/.test  ## Formats everything.
	cargo fmt
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean-demo:  ## Forgets the demo's run.
	rm -rf goclaw-demo

clean: clean-demo  ## Removes everything that was built.
	rm -rf target dist site $(VENV)

# What is in .venv, as files that say so.

# Groups of pyproject.toml; installing by group takes pip 25.1.
$(VENV)/.python: scripts/venv
	@scripts/venv $(VENV)
	@$(PIP) --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.build: pyproject.toml $(VENV)/.python
	@echo "installing the build tools into $(VENV)"
	@$(PIP) --group build
	@touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.build
	@echo "installing the test tools into $(VENV)"
	@$(PIP) --group dev
	@touch $@

$(VENV)/.docs: pyproject.toml $(VENV)/.python
	@echo "installing the documentation tools into $(VENV)"
	@$(PIP) --group docs
	@touch $@

# The venv holds the wheel of one profile at a time; installing one forgets the other.
define install
	@echo "building goclaw ($(1)); the first time takes a few minutes"
	@rm -rf target/wheels/$(1)
	CARGO_TARGET_DIR=$(WHEEL_TARGET) $(BIN)/maturin build $(2) --compatibility linux --out target/wheels/$(1)
	@$(PIP) --force-reinstall --no-deps target/wheels/$(1)/*.whl
	@$(PIP) target/wheels/$(1)/*.whl
	@rm -f $(VENV)/.dev $(VENV)/.release
	@touch $@
endef

$(VENV)/.release: $(RUST) $(PYTHON_SOURCES) | $(VENV)/.build
	$(call install,release,--release)

$(VENV)/.dev: $(RUST) $(PYTHON_SOURCES) | $(VENV)/.test
	$(call install,dev,)
