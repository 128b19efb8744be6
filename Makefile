# make demo: learn a word and look at it · make lab: JupyterLab · make docs: the site, in outputs/site/html
# make quick: while you write · make test: before you send a change · make test-all: what takes long or other environments too
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
export PIP_DISABLE_PIP_VERSION_CHECK = 1

# A file's tests stay in one process, which share what they load, on one core each. Those that take longest come first.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# Of the other environments, the two farthest from this one: Colab's, and the last ipykernel that lets clicks into a busy cell.
FARTHEST := colab ipykernel-7.3.0
TESTS := $(patsubst %,tests/test_%.py,notebooks stacks checkpoints kernels train_panel) tests

.PHONY: demo quick checks test thorough test-all stacks browser pictures docs lab address benchmark gpu-bundle clean

$(VENV)/.base: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt torch
	$(PIP) install -q -c constraints.txt -e '.[test]'
	@touch $@

$(VENV)/.lab: $(VENV)/.base
	$(PIP) install -q -c constraints.txt jupyterlab
	@touch $@

demo: $(VENV)/.base
	$(BIN)/python -m ti_nb demo

checks: $(VENV)/.base
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

quick: checks
	$(PYTEST) -m "not slow and not thorough" tests

test: checks
	$(PYTEST) -m "not thorough" $(TESTS)

thorough: $(VENV)/.base
	$(BIN)/python -m tools.stacks $(FARTHEST)
	$(PYTEST) -m thorough $(TESTS)
	$(PYTEST) --nbval-lax --nbval-current-env --ignore-glob='*/0[234679]_*' notebooks  # these six: with few steps, among the tests

test-all: test browser
	TI_NB_NOTEBOOKS=all $(MAKE) thorough

stacks: $(VENV)/.base
	$(BIN)/python -m tools.stacks

browser: $(VENV)/.base stacks
	$(PIP) install -q -c constraints.txt -e '.[browser]'

pictures: browser
	$(BIN)/python -m tests.browser pictures

docs: $(VENV)/.base
	$(PIP) install -q -c constraints.txt -e '.[docs]'
	$(BIN)/python -m tools.site

lab: $(VENV)/.lab
	$(BIN)/jupyter lab notebooks

benchmark: $(VENV)/.base
	$(BIN)/python -m benchmarks.quality

gpu-bundle: $(VENV)/.base
	$(PIP) download -q --no-deps -c constraints.txt -d wheels diffusers

address: $(VENV)/.base
	$(BIN)/python -m tools.address $(REPO)

clean:
	rm -rf $(VENV) outputs
