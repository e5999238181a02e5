# Each target sets up what it needs by itself, on a fresh clone. Everything is installed into .venv and nowhere else;
# a stamp inside .venv says what has been installed from which files, so a second run starts at once.
# Paths are relative: the clone may stand in a folder whose name has spaces. (`set -e …` stands in the recipes, because the
# make of macOS does not know .SHELLFLAGS.)

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
INDEX ?=
SYSTEM_TORCH ?=
PYTEST_ARGS ?=
LESSON ?=
FUZZ_ARGS ?= --out results/fuzz.json
GPU_ARGS ?=
CELL_TIMEOUT ?= 900
JOBS ?= 2

venv_python := .venv/bin/python
torch_pins := ^torch(|audio|vision)==
# What pip says, less its hundreds of lines: the large downloads, and that it is still at work.
brief := awk '/^ *(Downloading|Using cached) .*\(([0-9][0-9][0-9.]* MB|[0-9.]+ GB)\)$$/ { sub(/^ +/, "  "); print; fflush() } \
	/^Installing collected packages/ { print "  Unpacking …"; fflush() }'
pip_install := $(venv_python) -m pip install --disable-pip-version-check --progress-bar off --no-compile
wanted_torch := $(if $(filter-out 0 no,$(SYSTEM_TORCH)),system,$(if $(INDEX),index $(INDEX)))
notebooks := $(wildcard notebooks/*.ipynb)
nbval := $(if $(notebooks),--nbval --nbval-current-env --nbval-cell-timeout=$(CELL_TIMEOUT) --nbval-kernel-startup-timeout=180 \
	$(if $(wildcard notebooks/nbval_sanitize.cfg),--nbval-sanitize-with notebooks/nbval_sanitize.cfg))
# Browser tests drive the Chromium that is installed; make test runs their quick part where there are Chromium and npm.
browser := $(if $(and $(shell command -v chromium chromium-browser google-chrome),$(shell command -v npm)),tests/browser/node_modules/.installed)

.PHONY: help
help: ## say what there is
	@echo 'make TARGET [NAME=VALUE …]'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  PYTHON=python3.12    the Python (3.11 or newer) that .venv is made from; python3 by default'
	@echo '  INDEX=https://…      the package index torch, torchvision and torchaudio come from. On Linux the usual index'
	@echo '                       brings several GB of CUDA; the CPU-only build is some 200 MB: give the address'
	@echo '                       that the install page of pytorch.org names for Linux, pip, CPU'
	@echo '  SYSTEM_TORCH=1       use the torch, torchvision and torchaudio that PYTHON already has, and download none'
	@echo '  PYTEST_ARGS="-k …"   more arguments for make test'
	@echo '  JOBS=2               processes that make test runs in, of one thread and some 3 GB each'
	@echo '  LESSON=03_masking    the lesson that make slides takes; all by default'
	@echo '  GPU_ARGS="--dry …"   what make test-gpu is told: --dry rehearses on the CPU, --only 06 10 takes some lessons'
	@echo '  FUZZ_ARGS="--only …" what make fuzz is to do; all of it by default, and written to results/fuzz.json'
	@echo
	@echo '  INDEX and SYSTEM_TORCH are remembered; to change them: rm -r .venv'

.PHONY: install
install: .venv/.installed ## make .venv and install the package into it
	@echo 'Installed. Try: make demo, or .venv/bin/mavil-edu --help'

.PHONY: demo
demo: .venv/.installed ## train a tiny model on generated clips and show what it has learnt: runs/demo/report.html
	@.venv/bin/mavil-edu demo

.PHONY: lab
lab: .venv/.installed-notebooks ## open the first notebook in JupyterLab
	@$(venv_python) -m jupyter lab --ServerApp.root_dir="$(CURDIR)" notebooks/00_quickstart.ipynb

.PHONY: test
test: .venv/.installed-dev ## run the tests, and the notebooks against their stored outputs
	@$(if $(browser),$(MAKE) --no-print-directory $(browser) || echo 'playwright-core was not installed: the browser tests are skipped')
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(venv_python) -m pytest --numprocesses $(JOBS) --dist loadfile $(nbval) $(PYTEST_ARGS)

.PHONY: browser
browser: .venv/.installed-dev tests/browser/node_modules/.installed ## visit every lesson in Chromium: opened, run, by keyboard, dark and light
	@$(venv_python) -m pytest tests/browser -m '' $(PYTEST_ARGS)

.PHONY: test-threads
test-threads: .venv/.installed-dev ## run the notebooks twice in a row, and with one thread
	@$(venv_python) -m pytest notebooks $(nbval) $(PYTEST_ARGS)
	@$(venv_python) -m pytest notebooks $(nbval) $(PYTEST_ARGS)
	@OMP_NUM_THREADS=1 $(venv_python) -m pytest notebooks $(nbval) $(PYTEST_ARGS)

.PHONY: test-gpu
test-gpu: .venv/.installed-dev ## on a machine with CUDA, run every lesson at its GPU budget, and compare its verdicts
	@$(venv_python) scripts/gpu_lessons.py $(GPU_ARGS)

.PHONY: fuzz
fuzz: .venv/.installed-dev ## throw thousands of damaged files at the package (Linux; about half an hour of one core): docs/robustness.md
	@OMP_NUM_THREADS=1 nice -n 5 $(venv_python) scripts/fuzz.py $(FUZZ_ARGS)

.PHONY: lint
lint: .venv/.installed-dev ## check style and spelling
	@$(venv_python) -m ruff check
	@$(venv_python) -m ruff format --check
	@$(venv_python) -m codespell_lib

.PHONY: format
format: .venv/.installed-dev ## mend what of the style can be mended by itself
	@$(venv_python) -m ruff check --fix
	@$(venv_python) -m ruff format

.PHONY: notebooks
notebooks: .venv/.installed-dev ## build the notebooks from their sources, outputs included
	@$(venv_python) notebooks/build.py

.PHONY: site
site: .venv/.installed-dev ## build the website into build/site: the lessons, the docs, the package's reference
	@$(venv_python) website/build.py

.PHONY: slides
slides: .venv/.installed-dev ## make slides of the lessons in build/slides, each one page for any browser
	@$(venv_python) website/slides.py $(LESSON)

.PHONY: wheel
wheel: .venv/.installed-dev ## build the package into dist/
	@$(venv_python) -m build

.PHONY: constraints
constraints: .venv/.installed-dev ## write the versions in .venv to constraints.txt
	@set -euo pipefail; { sed -n '/^#/p' constraints.txt; $(venv_python) -m pip list --format=freeze --exclude-editable | tr 'A-Z_' 'a-z-' \
		| grep -Ev '^(nvidia|cuda|triton|setuptools|wheel|pip)[-=]' | sed 's/+.*//' | LC_ALL=C sort; } > constraints.new
	@mv constraints.new constraints.txt

tests/browser/node_modules/.installed: tests/browser/package-lock.json
	@npm ci --prefix tests/browser --no-audit --no-fund --loglevel=error
	@touch $@

# .venv, the torch it is to have, and the package with more and more around it

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo 'Python 3.11 or newer is needed; "$(PYTHON)" is'" $$($(PYTHON) --version 2>&1 || true)." \
		'Name another one: make install PYTHON=python3.12' >&2; exit 1; }
	@[[ '$(wanted_torch)' != system ]] || $(PYTHON) -c 'import torch, torchaudio, torchvision' || { \
		echo 'SYSTEM_TORCH=1 needs a PYTHON that has torch, torchaudio and torchvision; "$(PYTHON)" lacks them.' >&2; exit 1; }
	@echo 'Making .venv'
	@$(PYTHON) -m venv .venv
	@echo '$(wanted_torch)' > .venv/torch-from
	@touch $@

# A goal that finds another torch than the one asked for says so instead of going on with it.
.PHONY: same-torch
same-torch: .venv/.made
	@[[ -z '$(wanted_torch)' || '$(wanted_torch)' == "$$(cat .venv/torch-from)" ]] || { \
		echo '.venv was made with another INDEX or SYSTEM_TORCH. To change it: rm -r .venv' >&2; exit 1; }

# The versions for this .venv: those of constraints.txt, but torch and its two relatives as PYTHON has them with SYSTEM_TORCH.
.venv/constraints.txt: constraints.txt .venv/.made | same-torch
	@set -euo pipefail; torch_from="$$(cat .venv/torch-from)"; case "$$torch_from" in \
	system) \
		echo 'Using the torch of $(PYTHON)'; \
		site="$$($(venv_python) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"; \
		$(PYTHON) -c 'import sys; print(*(p for p in sys.path if p.endswith("-packages")), sep="\n")' > "$$site/system-torch.pth"; \
		grep -Ev '$(torch_pins)' constraints.txt > $@; \
		$(PYTHON) -c 'from importlib.metadata import version; [print(f"{name}=={version(name)}") \
			for name in ("torch", "torchaudio", "torchvision")]' >> $@;; \
	index*) \
		echo "Installing torch, torchaudio and torchvision from $${torch_from#index }"; \
		$(pip_install) --no-deps --index-url "$${torch_from#index }" $$(grep -E '$(torch_pins)' constraints.txt) | $(brief) || { \
			echo 'Nothing came from that index. For another one, or none: rm -r .venv, then make install INDEX=…' >&2; exit 1; }; \
		cp constraints.txt $@;; \
	*) \
		cp constraints.txt $@;; \
	esac

# $(1): what to install, $(2): what it is in words
define install_into_venv
	@echo 'Installing $(2) into .venv; the first time takes some minutes'
	@set -o pipefail; $(pip_install) --constraint .venv/constraints.txt --editable '$(1)' | $(brief)
	@$(venv_python) -m compileall -qq -j 0 .venv/lib || true  # what pip would do on one core; some files are templates, no Python
	@touch $@
endef

.venv/.installed: pyproject.toml .venv/constraints.txt | same-torch
	$(call install_into_venv,.,the package)

.venv/.installed-notebooks: pyproject.toml .venv/constraints.txt | same-torch
	$(call install_into_venv,.[notebooks],the package and JupyterLab)
	@touch .venv/.installed

.venv/.installed-dev: pyproject.toml .venv/constraints.txt | same-torch
	$(call install_into_venv,.[dev],the package and everything for its development)
	@touch .venv/.installed .venv/.installed-notebooks
