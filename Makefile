# make demo    the main job on drawings, from S3 to S3, on this machine
# make bench   this project against other ways of doing the job: by estimate a quarter of an hour on two slow cores
# make test    ruff, mypy and every test
# make chaos   the scenarios that take more than 20 s each: processes killed, stores failing, random schedules of both
# make audit   the pinned dependencies against the databases of known vulnerabilities (asks them over the internet)
# All but audit make .venv on their first call. PYTHON=python3.12 chooses the interpreter; ARGS="--weights IMAGENET1K_V2" and the
# like go to the demo, ARGS="--images 2000 --rounds 2" and the like to the benchmark.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := demo,test,lint,bench
# Holds the schemas that cluster/kubernetes.yaml is checked against. Only downloaded: installed, it and its 25 dependencies
# would be imported by every call of dask.
SCHEMAS := dask-kubernetes==2026.3.0

.PHONY: demo bench test lint pytest chaos audit constraints facts clean

demo: $(VENV)/.installed
	$(BIN)/python -m pipeline.demo $(ARGS)

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.bench $(ARGS)

test: lint pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

pytest: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("error: this needs Python 3.11 or newer, and $(PYTHON) is %d.%d; name another with make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS)]'
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --dest $(VENV)/schemas $(SCHEMAS)
	@touch $@

# SEEDS=100 runs as many random schedules; FIRST_SEED=4711 begins with that one, to repeat it.
SEEDS ?= 20
chaos: $(VENV)/.installed
	$(BIN)/python -m pytest tests/chaos --seeds $(SEEDS) $(if $(FIRST_SEED),--first-seed $(FIRST_SEED)) $(ARGS)

audit:
	rm -rf build/audit && $(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	build/audit/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip
	rm -rf build/audit

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
