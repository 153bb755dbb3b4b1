# `make demo` and `make test` set everything up themselves: Python 3.10+ and make are all they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint lab notebooks assignments reproduce bench soak clean

help:
	@echo "make demo       train a CLIP on the embedded emoji (about 3 minutes on two CPU cores) -> runs/demo/"
	@echo "make test       lint, unit tests, and every notebook"
	@echo "make lab        open the notebooks in JupyterLab"
	@echo "make reproduce  run the claims of CLAIMS.md again (one: CLAIM=siglip-bias-init; only the minutes: DRY=1)"
	@echo "make bench      time the losses and the training against open_clip's (about 15 minutes)"
	@echo "make assignments  make the students' notebooks from assignments/py/ (nbgrader)"
	@echo "make soak       kills, hostile files and a long run, at length (about 40 minutes): the numbers of docs/guarantees.md"
	@echo "make notebooks  run every notebook again and keep its outputs"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "minclip needs Python 3.10 or newer; say which one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.core: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/.all: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[dev,bench,class]'
	touch $@ $(VENV)/.core

demo: $(VENV)/.core
	$(BIN)/python -m minclip.train --output_dir runs/demo --overwrite

test: $(VENV)/.all lint
	$(BIN)/python -m pytest tests
	$(BIN)/python -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=300 -p no:cacheprovider notebooks/*.ipynb

lint: $(VENV)/.all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lab: $(VENV)/.all
	$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.app_settings_dir=notebooks/lab --LabApp.default_url=/lab/tree/notebooks/README.md

notebooks: $(VENV)/.all
	$(BIN)/python notebooks/run.py

assignments: $(VENV)/.all
	$(BIN)/python assignments/make.py

reproduce: $(VENV)/.core
	$(BIN)/python -m experiments.claims --again $(if $(CLAIM),--claim $(CLAIM)) $(if $(DRY),--dry_run)

bench: $(VENV)/.all
	$(BIN)/python benchmarks/losses.py --dims 256 --repetitions 3
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/training.py

soak: $(VENV)/.all
	$(BIN)/python soak/kills.py --count 30 --torchrun 4 --output results/soak_kills.json
	$(BIN)/python soak/fuzz.py --minutes 5 --seed 0 --output results/soak_fuzz.json
	$(BIN)/python soak/weights.py --count 2000 --seed 0 --output results/soak_weights.json
	$(BIN)/python soak/threads.py --steps 20 --output results/soak_threads.json
	$(BIN)/python soak/memory.py --minutes 30 --output results/soak_memory.json

clean:
	rm -rf $(VENV) runs
