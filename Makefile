# What a person types here. The first target that needs it makes .venv from requirements.lock; after that it costs nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CRF := pydensecrf2==1.1
NOTEBOOKS := $(sort $(wildcard nbs/*.ipynb nbs/tutorials/*.ipynb))
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# a thread that waits spins for some microseconds and then sleeps: spinning on cripples a busy machine, sleeping at once halves the speed of small images
export GOMP_SPINCOUNT := 10000

.PHONY: help demo test browser lab docs notebooks readme lock clean
help:  ## this list
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 18

$(READY): requirements.lock setup.py settings.ini
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "Python 3.11 to 3.13 is needed, found %d.%d. Say PYTHON=python3.12 make ..." % v)'
	@echo "Setting up $(VENV) from requirements.lock: two minutes and about 6 GB, once (PyTorch brings its CUDA libraries along)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --requirement requirements.lock
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/pip install --quiet --constraint requirements.lock "$(CRF)" 2>/dev/null \
	  || echo "No CRF post-processing: $(CRF) could not be built: it needs a C++ compiler and Python 3.11 or 3.12. Everything else works."
	@touch $@

demo: $(READY)  ## segment lesions, cells, lungs … from one labelled image each; pictures in out/demo/
	@echo "Adapting to six drawn sample sets with the embedded network; nothing is downloaded"
	@$(BIN)/cdfss demo --out out/demo

# two threads for sums as small as the tests' cost twice the processor time of one and are not sooner done: two processes are
test: export OMP_NUM_THREADS := 1
test: $(READY)  ## everything CI checks: notebooks, modules and README in sync, all notebooks run, docs built, pytest
	@echo "1/2 Running every notebook's tests"
	@$(BIN)/python tests/notebooks.py
	@echo "2/2 Sync of notebooks and modules, command line, properties, docs"
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile tests

browser: $(READY)  ## fetch Chromium for the tests that need a browser; they are skipped where there is none
	@for name in chromium chromium-browser google-chrome chrome; do command -v $$name && exit; done; $(BIN)/playwright install chromium \
	  || { echo "Chromium could not be fetched. Install your system's instead, for example: sudo apt install chromium" >&2; exit 1; }

lab: $(READY)  ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab --notebook-dir nbs

docs: $(READY)  ## build the docs from the notebooks, offline, and open them in a browser
	@$(BIN)/python docs/build.py --open

notebooks: $(READY)  ## run all notebooks and store their outputs
	@for f in $(NOTEBOOKS); do echo "$$f"; $(BIN)/jupyter execute --inplace "$$f" || exit 1; done
	@$(BIN)/nbdev_clean
	@$(MAKE) --no-print-directory readme

readme: $(READY)  ## write README.md from nbs/index.ipynb
	@$(BIN)/python docs/make_readme.py

lock: $(READY)  ## resolve requirements.lock anew from settings.ini (needs uv)
	@$(BIN)/python docs/print_requirements.py | uv pip compile --universal --python-version 3.11 --no-annotate --no-header --output-file requirements.lock -

clean:  ## remove what these targets made, but not .venv
	rm -rf out build dist _docs _proc docs/_build .pytest_cache .hypothesis
