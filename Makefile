# Every target sets up what it needs: on a fresh machine `make demo` or `make test` is all there is to type.
SHELL := /bin/bash
VENV ?= .venv
VENV_ADDONS ?= .venv-addons
# First interpreter that starts and has a supported version; name another with PYTHON=... or PYTHON_ADDONS=...
PYTHON ?= $(shell scripts/find_python.sh 3.10 3.13)
PYTHON_ADDONS ?= $(shell scripts/find_python.sh 3.10 3.11)
# A photograph for `make demo`; empty takes scikit-image's astronaut.
IMAGE ?=
DEMO_DIR ?= demo
# Real COCO pictures (annotations/, train2017/) for `make demo-mixed`; it goes without where the folder is missing. It may
# be a whole release; of several annotation files the smallest whose pictures are there is taken, or that named here.
COCO_DIR ?= ../shared/data/coco
COCO_ANNOTATIONS ?=
DEMO_MIXED_DIR ?= demo_mixed
DEMO_CENTERNET_DIR ?= demo_centernet
# Test processes: two fill the two cores that the time limits are stated for.
PYTEST_ARGS ?= -q -n 2 --dist loadfile

export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: help install install-addons demo demo-centernet demo-mixed test test-addons test-slow lint format benchmark flags-readme clean

help:
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

install: $(VENV)/.installed-dev ## create .venv with everything for use and development
install-addons: $(VENV_ADDONS)/.installed-dev ## create .venv-addons: TensorFlow 2.15 with TensorFlow Addons

demo: $(VENV)/.installed-demo ## synthetic data -> training -> evaluation -> export -> prediction on a photograph
	$(VENV)/bin/python scripts/demo.py --output_dir="$(DEMO_DIR)" --image="$(IMAGE)"

demo-centernet: $(VENV)/.installed-demo ## synthetic crowds -> a detector of people -> average precision -> SavedModel -> prediction
	$(VENV)/bin/python scripts/demo_centernet.py --output_dir="$(DEMO_CENTERNET_DIR)" --image="$(IMAGE)"

demo-mixed: $(VENV)/.installed-dev ## five data sets in native layout + synthetic people + COCO -> contact sheets -> one training
	$(VENV)/bin/python scripts/demo_mixed.py --output_dir="$(DEMO_MIXED_DIR)" --coco_dir="$(COCO_DIR)" \
		--coco_annotations="$(COCO_ANNOTATIONS)"

test: $(VENV)/.installed-dev ## all tests but the slow ones, newest TensorFlow
	$(VENV)/bin/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-addons: $(VENV_ADDONS)/.installed-dev ## the same tests with TensorFlow 2.15 and TensorFlow Addons
	$(VENV_ADDONS)/bin/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-dev ## the slow tests: large backbones, long runs
	$(VENV)/bin/python -m pytest -m slow $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev ## ruff: rules and format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/.installed-dev ## ruff: apply the format and the safe fixes
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

benchmark: $(VENV)/.installed-dev ## the table of measured speeds and memory, also as JSON
	$(VENV)/bin/python scripts/benchmark.py --output=benchmark.json

flags-readme: $(VENV)/.installed-dev ## write flags/README.md anew from the configs
	$(VENV)/bin/python scripts/generate_flag_reference.py

clean: ## remove what the targets made, the data and runs excepted
	rm -rf $(VENV) $(VENV_ADDONS) build *.egg-info .pytest_cache .ruff_cache

$(VENV)/.installed-%: setup.cfg pyproject.toml scripts/install_venv.sh
	scripts/install_venv.sh "$(PYTHON)" "$(VENV)" "$*"
	touch "$@"

$(VENV_ADDONS)/.installed-%: setup.cfg pyproject.toml scripts/install_venv.sh
	scripts/install_venv.sh "$(PYTHON_ADDONS)" "$(VENV_ADDONS)" "addons,$*"
	touch "$@"
