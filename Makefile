# make demo: set up, run the demo, say where the report is.   make test: set up, run every test.
PYTHON ?= python3
VENV ?= .venv
MARVIN_PYTHON ?= $(PYTHON)
MARVIN_VENV ?= .venv-marvin
CORES ?= 2
RUN ?= demo
DEMO ?=
export PATH := $(abspath $(VENV))/bin:$(PATH)

.PHONY: help install marvin browser demo test lint manual clean

help:
	@echo "make demo   set up .venv, run the demo workflow on $(CORES) cores, print where its report is"
	@echo "make test   set up .venv, run every test, list what was skipped and why"
	@echo "make marvin set up .venv-marvin, which the setting 'manga: {reader: marvin}' needs (make test does it too)"
	@echo "make browser install Chromium where there is none (apt, as root), which the tests of the report use (make test does it too)"
	@echo "make lint   check the code and the workflow"
	@echo "make clean  remove .venv and .venv-marvin; results and downloads stay"

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; found $$($(PYTHON) --version). Try: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[workflow,test]'
	@touch $@

install: $(VENV)/.installed

$(MARVIN_VENV)/.installed: envs/marvin.txt
	@$(MARVIN_PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || { echo "Marvin needs Python 3.11 or 3.12; found $$($(MARVIN_PYTHON) --version). Try: make marvin MARVIN_PYTHON=python3.12"; exit 2; }
	$(MARVIN_PYTHON) -m venv $(MARVIN_VENV)
	$(MARVIN_VENV)/bin/pip install --quiet --disable-pip-version-check --no-compile -r envs/marvin.txt
	@touch $@

marvin: $(MARVIN_VENV)/.installed

browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	|| { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } \
	|| echo "No Chromium, and it cannot be installed here: the tests of the report in a browser will be skipped."

demo: install
	snakemake --cores $(CORES) $(DEMO)
	@echo; echo "The report: file://$(CURDIR)/results/$(RUN)/report/index.html"

test: install lint browser
	pytest

manual: install
	$(VENV)/bin/python -c 'import sys; from pathlib import Path; from tullyflow.settings import manual; page = Path("config/README.md"); \
	parts = page.read_text().split("<!-- generated -->"); parts[1] = "\n" + manual() + "\n"; page.write_text("<!-- generated -->".join(parts))'

lint: install
	ruff check
	snakemake --lint

clean:
	rm -rf $(VENV) $(MARVIN_VENV)
