.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON := .venv/bin/python

.PHONY: help
help: ## print this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/installed: requirements-dev.lock
	python3 -c 'import venv, ensurepip' 2>/dev/null || { apt-get -qq update && apt-get -qqy install python3-venv; }
	python3 -m venv .venv
	.venv/bin/pip --quiet install --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

.PHONY: lint
lint: .venv/installed ## format, lint and type checks
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

.PHONY: unit
unit: .venv/installed ## the fast tests: no root, no host
	$(PYTHON) -m pytest tests/unit

.PHONY: test
test: unit ## every test
