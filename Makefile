.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON := .venv/bin/python
INVENTORY ?= inventories/home.py
ARGS ?= list

.PHONY: help
help: ## print this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/installed: requirements-dev.lock
	python3 -c 'import venv, ensurepip' 2>/dev/null || { apt-get -qq update && apt-get -qqy install python3-venv; }
	python3 -m venv .venv
	.venv/bin/pip --quiet install --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

.PHONY: plan
plan: .venv/installed ## what would change, as a diff: exit 0 nothing, 2 drift, 1 error
	@$(PYTHON) -m roles.command.plan $(INVENTORY)

.PHONY: apply
apply: .venv/installed ## bring the host to its desired state
	.venv/bin/pyinfra -y $(INVENTORY) deploy.py

.PHONY: vault
vault: .venv/installed ## the vault: make vault ARGS="show authelia_admin_password"
	@$(PYTHON) -m roles.command.vault --inventory $(INVENTORY) $(ARGS)

.PHONY: lint
lint: .venv/installed ## lint and type checks of the toolkit
	.venv/bin/ruff check roles deploy.py tests/unit tests/lab/machine tests/lab/deployment.py
	.venv/bin/mypy roles

.PHONY: unit
unit: .venv/installed ## the fast tests: no root, no host
	$(PYTHON) -m pytest tests/unit

.PHONY: lab-needs
lab-needs:
	@missing=(); for each in mmdebstrap:mmdebstrap systemd-nspawn:systemd-container ssh:openssh-client ip:iproute2 nft:nftables; do \
		command -v $${each%%:*} >/dev/null || missing+=($${each##*:}); done; \
	if [ $${#missing[@]} -gt 0 ]; then apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qqy install $${missing[@]}; fi

.PHONY: lab
lab: .venv/installed lab-needs ## deploy to a disposable Debian host (root on Linux)
	$(PYTHON) -m pytest tests/lab/test_deploy.py --durations=5

.PHONY: test
test: unit lab ## every test
