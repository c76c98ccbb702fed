# Works with GNU make 3.81, which macOS has. `make help` lists the targets.

VENV := .venv
BIN := $(VENV)/bin
PYTHONS := python3.13 python3.12 python3.11 python3
DATA ?=
PORT ?=
WORKERS ?=
ARGS ?=
# Of torch, to test the client with it: `make test TORCH=2.13.0`. It is large, so without one those
# tests are skipped.
TORCH ?=

LOCK := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet $(ARGS)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help serve test unit check format bench lock clean FORCE

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile
	@echo "  make serve takes DATA=/path/to/data.yaml, PORT= and WORKERS=; test and bench take ARGS="

serve: $(VENV)/.installed $(if $(DATA),,demo/data.yaml) ## serve DATA, or a demo data set, at http://127.0.0.1:8000
	@exec $(BIN)/mimicit serve "$(or $(DATA),demo/data.yaml)" \
		$(if $(PORT),--port "$(PORT)") $(if $(WORKERS),--workers "$(WORKERS)")

test: check $(if $(TORCH),$(VENV)/.installed-torch-$(TORCH)) ## every check, and every test
	$(BIN)/python -m pytest -n 3 $(ARGS)

unit: $(VENV)/.installed-dev ## the tests that take less than a minute together
	$(BIN)/python -m pytest -n 3 -m "not slow" $(ARGS)

check: $(VENV)/.installed-dev ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## put the code into its format
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-bench ## measure against the goals and the peers
	$(BIN)/python -m benchmarks $(ARGS)

lock: ## resolve the requirements files; ARGS=--upgrade for newer versions
	@uv --version >/dev/null || { echo "make lock needs uv: python3 -m pip install uv" >&2; exit 1; }
	$(LOCK) -o requirements.txt
	$(LOCK) --extra ray --extra otel --extra dev --extra interop -c requirements.txt -o requirements-dev.txt
	$(LOCK) --extra ray --extra otel --extra dev --extra interop --extra bench -c requirements-dev.txt -o requirements-bench.txt

clean: ## delete the environment, the demo data set and what tools left
	rm -rf $(VENV) demo build client/build *.egg-info client/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

demo/data.yaml: | $(VENV)/.installed
	@$(BIN)/mimicit demo demo

# A stamp is newer than what was installed, so nothing is installed twice.
$(VENV)/.installed: requirements.txt pyproject.toml $(VENV)/pyvenv.cfg
$(VENV)/.installed-dev: requirements-dev.txt pyproject.toml client/pyproject.toml $(VENV)/pyvenv.cfg
$(VENV)/.installed-bench: requirements-bench.txt pyproject.toml client/pyproject.toml $(VENV)/pyvenv.cfg
$(VENV)/.installed $(VENV)/.installed-dev $(VENV)/.installed-bench:
	@echo "installing $< into $(VENV)"
	@$(INSTALL) --require-hashes -r $<
	@$(INSTALL) --editable . $(if $(findstring -,$(notdir $@)),--editable client)
	@touch $@

$(VENV)/.installed-torch-%: $(VENV)/.installed-dev
	@echo "installing torch $* into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "torch==$*" torchdata
	@rm -f $(VENV)/.installed-torch-*
	@touch $@

# The newest Python that really runs (a pyenv shim may not) and can make an environment. It is made
# again where its Python is gone, as after an upgrade.
$(VENV)/pyvenv.cfg: $(shell test -x $(BIN)/python || echo FORCE)
	@for name in $(PYTHONS); do \
		"$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || continue; \
		found=$$name; \
		"$$name" -c 'import ensurepip, venv' 2>/dev/null || continue; \
		echo "making $(VENV) with $$("$$name" --version)"; \
		exec "$$name" -m venv --clear $(VENV); \
	done; \
	if [ -n "$$found" ]; then \
		echo "$$found can not make environments; on Debian: apt install $$found-venv" >&2; \
	else \
		echo "Python 3.11, 3.12 or 3.13 is needed, and none of $(PYTHONS) is one" >&2; \
	fi; \
	exit 1
