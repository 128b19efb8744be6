# make demo: learn a word and look at it · make test: every check · make lab: JupyterLab
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
export PIP_DISABLE_PIP_VERSION_CHECK = 1

# make stacks: other notebook versions to test on · make browser: what real clicks in Chromium need
# make gpu-bundle: a wheel of diffusers, for `python -m benchmarks.gpu` where there is no network
.PHONY: demo test stacks browser pictures lab address benchmark gpu-bundle clean

$(VENV)/.base: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt torch
	$(PIP) install -q -c constraints.txt -e '.[test]'
	@touch $@

$(VENV)/.lab: $(VENV)/.base
	$(PIP) install -q -c constraints.txt jupyterlab
	@touch $@

demo: $(VENV)/.base
	$(BIN)/python -m tools.demo

test: $(VENV)/.base
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests
	$(BIN)/python -m pytest --nbval-lax --nbval-current-env -p no:cacheprovider notebooks/

stacks: $(VENV)/.base
	$(BIN)/python -m tools.stacks

browser: $(VENV)/.base stacks
	$(PIP) install -q -c constraints.txt -e '.[browser]'

pictures: browser
	$(BIN)/python -m tests.browser pictures

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
