.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON := .venv/bin/python
INVENTORY ?= inventories/home.py
HOST ?= h1

.PHONY: help
help: ## print this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/installed: requirements-dev.lock
	python3 -c 'import venv, ensurepip' 2>/dev/null || { apt-get -qq update && apt-get -qqy install python3-venv; }
	python3 -m venv .venv
	# The list is complete, and overrides.in says where it departs from what a package asks for.
	.venv/bin/pip --quiet install --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
	touch $@

.PHONY: init
init: .venv/installed ## a new site: asks, then writes inventories/NAME.py and its vault
	@$(PYTHON) -m roles.command.init $(ARGS)

.PHONY: plan
plan: .venv/installed ## what would change, as a diff: exit 0 nothing, 2 drift, 1 error
	@$(PYTHON) -m roles.command.plan $(INVENTORY)

.PHONY: apply
apply: .venv/installed ## bring the host to its desired state
	@$(PYTHON) -m roles.command.apply $(INVENTORY)

.PHONY: verify
verify: .venv/installed ## prove the host: exit 0 all holds, 1 something does not, 2 not tried
	@$(PYTHON) -m roles.command.verify $(INVENTORY)

.PHONY: report
report: .venv/installed ## the scorecard: table, JSON, JUnit, page (ARGS="--fail-under 90")
	@$(PYTHON) -m roles.command.report $(INVENTORY) $(ARGS)

.PHONY: backup
backup: .venv/installed ## back up now, to every repository
	@$(PYTHON) -m roles.command.backup $(INVENTORY) run

.PHONY: backups
backups: .venv/installed ## the repositories: newest snapshot, size, checks, drills, RPO, RTO
	@$(PYTHON) -m roles.command.backup $(INVENTORY) list

.PHONY: drill
drill: .venv/installed ## restore the newest backups elsewhere, start them, ask them: RPO, RTO
	@$(PYTHON) -m roles.command.backup $(INVENTORY) drill $(if $(REPOSITORY),--repository=$(REPOSITORY))

.PHONY: notify
notify: .venv/installed ## tell the operator something, to see that it arrives
	@.venv/bin/pyinfra -y $(INVENTORY) exec -- systemctl start nexus-failed@test.service

.PHONY: restore-service
restore-service: .venv/installed ## SERVICE=jellyfin [REPOSITORY=offsite] [AT=2026-11-25T03:00]
	@$(PYTHON) -m roles.command.backup $(INVENTORY) restore $(SERVICE) $(if $(REPOSITORY),--repository=$(REPOSITORY)) $(if $(AT),--at=$(AT))

.PHONY: restore-file
restore-file: .venv/installed ## SERVICE=sonarr FILE=/opt/nexus/data/... [REPOSITORY=offsite] [AT=...]
	@$(PYTHON) -m roles.command.backup $(INVENTORY) restore-file $(SERVICE) "$(FILE)" $(if $(REPOSITORY),--repository=$(REPOSITORY)) $(if $(AT),--at=$(AT))

.PHONY: restore
restore: .venv/installed ## a new bare host from the second repository: HOST=address [AT=...]
	@$(if $(filter command,$(origin HOST)),,echo 'HOST: is missing; write e.g. make restore HOST=192.0.2.7'; exit 1;) \
	$(PYTHON) -m roles.command.restore $(INVENTORY) $(HOST) $(if $(REPOSITORY),--repository=$(REPOSITORY)) $(if $(AT),--at=$(AT)) $(ARGS)

.PHONY: recovery-sheet
recovery-sheet: .venv/installed ## what opens the backups, on one page to print; keep it like a key
	@$(PYTHON) -m roles.command.recovery_sheet $(INVENTORY)

.PHONY: rebuild-repository
rebuild-repository: .venv/installed ## a damaged local repository is made anew from the second one
	@$(PYTHON) -m roles.command.backup $(INVENTORY) rebuild

.PHONY: vault
vault: .venv/installed ## the vault: make vault ARGS="show authelia_admin_password"
	@$(PYTHON) -m roles.command.vault --inventory $(INVENTORY) $(or $(ARGS),list)

.PHONY: images
images: .venv/installed ## what the locked tags stand for now: ARGS=--write keeps it
	@$(PYTHON) -m roles.command.images $(ARGS)

.PHONY: totp
totp: .venv/installed ## the portal's second factor, shown once: ARGS=--replace for a new phone
	@$(PYTHON) -m roles.command.totp --inventory $(INVENTORY) $(ARGS)

.PHONY: bans
bans: .venv/installed ## the addresses that are banned, by jail
	@.venv/bin/pyinfra -y $(INVENTORY) exec -- fail2ban-client banned

.PHONY: unban
unban: .venv/installed ## lift every ban of an address: make unban ADDRESS=198.51.100.7
	@$(if $(ADDRESS),,echo 'ADDRESS: is missing; write e.g. make unban ADDRESS=198.51.100.7'; exit 1;) \
	.venv/bin/pyinfra -y $(INVENTORY) exec -- fail2ban-client unban $(ADDRESS)

.PHONY: scan
scan: .venv/installed ## look for known vulnerabilities in the images that run, now
	@.venv/bin/pyinfra -y $(INVENTORY) exec -- 'systemctl start nexus-scan; ended=$$?; /usr/local/lib/nexus/scan list; exit $$ended'

.PHONY: audit
audit: .venv/installed ## any Compose file, without a host: COMPOSE=path, or ARGS="-f a -f b"
	@$(if $(COMPOSE)$(ARGS),,echo 'COMPOSE: is missing; write e.g. make audit COMPOSE=docker-compose.yml'; exit 2;) \
	$(PYTHON) -m roles.command.audit $(ARGS) $(COMPOSE)

.PHONY: lint
lint: .venv/installed ## lint and type checks of the toolkit
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# What is loaded of itself is also rewritten by pytest in each of its processes; what is compiled is
# kept for the programs that the tests start.
WITHOUT_HOST := env -u PYTHONDONTWRITEBYTECODE $(PYTHON) -m pytest --disable-plugin-autoload \
	-p hypothesispytest -p xdist -n auto

.PHONY: unit
unit: .venv/installed ## the fast tests: no root, no host
	$(WITHOUT_HOST) tests/unit

.PHONY: programs
programs: .venv/installed ## tests of whole programs and of the lab's parts: no root, no host
	$(WITHOUT_HOST) tests/programs tests/lab_unit

.PHONY: rules
rules: .venv/installed ## alerts and service levels, judged by Prometheus's own tool
	$(PYTHON) -m pytest tests/rules -n auto

.PHONY: lab-needs
lab-needs: .venv/installed
	@sh tests/lab/needs.sh

.PHONY: demo
demo: lab-needs ## the old NEXUS is replaced, the new one proven, deployed again; nothing stays
	@$(PYTHON) -m tests.lab.demo

.PHONY: attack
attack: lab-needs ## the report's findings as attacks, on the old NEXUS and on a hardened host
	@$(PYTHON) -m tests.lab.attacks

build/ansible/installed: .venv/installed tests/lab/bench/requirements.txt
	python3 -m venv build/ansible
	build/ansible/bin/pip --quiet install --disable-pip-version-check --require-hashes -r tests/lab/bench/requirements.txt
	touch $@

.PHONY: bench
bench: lab-needs build/ansible/installed ## the promises about speed, beside Ansible (ARGS=--json)
	@$(PYTHON) -m tests.lab.bench $(ARGS)

build/graders/installed: $(wildcard tests/lab/graders/*)
	@command -v npm >/dev/null || { apt-get -qq update && apt-get -qqy install nodejs npm; }
	rm -rf build/graders && mkdir -p build/graders
	python3 -m venv build/graders/python
	build/graders/python/bin/pip --quiet install --disable-pip-version-check --require-hashes \
		-r tests/lab/graders/requirements.txt
	cp tests/lab/graders/package.json tests/lab/graders/package-lock.json build/graders
	npm ci --prefix build/graders --ignore-scripts --no-audit --no-fund --omit=optional --silent
	@# Lists that it would fetch: of preloaded domains, which ours is not, and of public suffixes.
	echo '{}' > build/graders/node_modules/@mdn/mdn-http-observatory/conf/hsts-preload.json
	echo '["org"]' > build/graders/node_modules/@mdn/mdn-http-observatory/conf/tld-list.json
	touch $@

.PHONY: grade
grade: lab-needs build/graders/installed ## ssh-audit, sslyze and Mozilla's Observatory on a lab host
	@$(PYTHON) -m tests.lab.grade

build/axe/installed: .venv/installed tests/lab/axe/requirements.txt
	rm -rf build/axe
	.venv/bin/pip --quiet install --disable-pip-version-check --require-hashes --no-deps \
		--target build/axe -r tests/lab/axe/requirements.txt
	touch $@

.PHONY: own-lab
own-lab: lab-needs
	$(PYTHON) -m pytest tests/lab -m own_lab

.PHONY: shared-lab
shared-lab: lab-needs build/axe/installed
	@# A process for each processor, as hosts that starve fail for no reason of their own, and one for
	@# the tests of the monitoring, which mostly wait.
	$(PYTHON) -m pytest tests/lab -m "not own_lab" -n $$(($$(nproc) < 3 ? $$(nproc) + 1 : 4)) \
		--dist loadfile --durations=10

.PHONY: lab
lab: lab-needs ## the tests on disposable Debian hosts (root on Linux)
	@$(MAKE) --no-print-directory own-lab
	@$(MAKE) --no-print-directory shared-lab

.PHONY: lab-up
lab-up: lab-needs ## start the lab and the host h1 in it; they stay
	$(PYTHON) -m tests.lab up

.PHONY: lab-shell
lab-shell: .venv/installed ## a root shell in the host h1: make lab-shell HOST=h1
	$(PYTHON) -m tests.lab shell $(HOST)

.PHONY: lab-down
lab-down: .venv/installed ## remove the lab
	$(PYTHON) -m tests.lab down

.PHONY: test
test: lab-needs ## every test
	@# Two at a time, as some of these wait and some use one processor.
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint unit programs rules own-lab
	@$(MAKE) --no-print-directory shared-lab

.PHONY: lock
lock: .venv/installed ## compile the pinned requirements again
	python3 -m venv build/lock && build/lock/bin/pip --quiet install uv
	for each in requirements requirements-dev; do build/lock/bin/uv pip compile --quiet --generate-hashes \
		--python-version 3.11 --override overrides.in --no-header --upgrade --output-file $$each.lock $$each.in; done
