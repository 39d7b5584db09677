# make demo    the main job on drawings, from S3 to S3, on this machine
# make test    ruff, mypy and every test
# Both make .venv on their first call. PYTHON=python3.12 chooses the interpreter; ARGS="--weights IMAGENET1K_V2" and the
# like go to the demo.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := demo,test,lint

.PHONY: demo test lint pytest constraints facts clean

demo: $(VENV)/.installed
	$(BIN)/python -m pipeline.demo $(ARGS)

test: lint pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

pytest: $(VENV)/.installed
	$(BIN)/python -m pytest $(ARGS)

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("error: this needs Python 3.11 or newer, and $(PYTHON) is %d.%d; name another with make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

# Resolves pyproject.toml anew in a virtual environment of its own and pins what came.
constraints:
	rm -rf build/constraints && $(PYTHON) -m venv build/constraints
	build/constraints/bin/python -m pip install --quiet --disable-pip-version-check '.[$(EXTRAS)]'
	{ echo '# Every version that the tests pass with. Written by: make constraints'; \
	  build/constraints/bin/python -m pip freeze --all --exclude pip --exclude dask-image-inference; } > constraints.txt
	rm -rf build/constraints

# What torchvision knows of the models, for commands that should not have to import it.
facts: $(VENV)/.installed
	$(BIN)/python -m tests.torchvision_facts

clean:
	rm -rf $(VENV) demo build dist
