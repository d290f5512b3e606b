# Two commands: `make demo` and `make test`. VENV=/another/place puts the 7 GB environment elsewhere.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed$(subst /,-,$(CURDIR))

.PHONY: demo test bench kill resume faults nights clean

demo: $(STAMP)
	$(BIN)/t4c demo

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

bench: $(STAMP)
	$(BIN)/python bench/speed.py

kill: $(STAMP)
	$(BIN)/python bench/kill.py

resume: $(STAMP)
	$(BIN)/python bench/resume.py

faults: $(STAMP)
	$(BIN)/python bench/faults.py

nights: $(STAMP)
	$(BIN)/python bench/nights.py

clean:
	rm -rf data/synthetic out/synthetic

# An environment belongs to one checkout at a time: it holds an editable install.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	rm -f $(VENV)/.installed-*
	touch $(STAMP)
