# The verbs of this project. Each is a few words over one small script in bootstrap/, which can be run alone as well.
# `make up` and `make test` need nothing prepared; `make help` lists the rest. STACK=lab unless said otherwise.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
STACK ?= lab
ENV := eval "$$(bootstrap/env.sh)" &&

##@ Every day
.PHONY: up preview down recover backup restore show env
up: ## set up what is missing, deploy stack $(STACK), show the table
	@$(MAKE) -j4 setup $(if $(filter lab,$(STACK)),images)
	@bootstrap/up.sh $(STACK)

preview: python pulumi ## what `up` would change, restart or reboot
	@bootstrap/stack.sh $(STACK)
	@$(ENV) pulumi preview --policy-pack policies --stack $(STACK)

show: ## the table of what is deployed
	@$(ENV) fleet show -s $(STACK)

down: setup ## take everything of the stack away; the engine too, if we started it and nothing else runs in it
	@bootstrap/down.sh $(STACK)
	@$(if $(filter lab,$(STACK)),bootstrap/docker.sh stop-idle)

recover: setup ## after a kill -9, or with a state file that is cut off: make the state whole, then deploy
	@bootstrap/recover.sh $(STACK)

backup: python pulumi ## the state and the stack file in one file, secrets encrypted; TO=FOLDER
	@bootstrap/backup.sh $(STACK) $(if $(TO),"$(TO)")

restore: python pulumi ## bring a stack back: FILE=BACKUP; OVERWRITE=yes where it is still there
	@bootstrap/restore.sh "$(FILE)" $(if $(OVERWRITE),--overwrite)

env: ## the environment for plain pulumi commands: eval "$$(make env)"
	@bootstrap/env.sh

##@ Set up
.PHONY: setup python pulumi docker images stop-docker clean-cache
setup: python pulumi $(if $(filter lab,$(STACK)),docker) ## what `up` needs: .venv, Pulumi and, for the lab, Docker

python: ## .venv from the lock; PYTHON=3.11, 3.12 or 3.13 chooses the version
	@bootstrap/python.sh $(LEVEL)

pulumi: ## the Pulumi engine
	@bootstrap/pulumi.sh

docker: ## a Docker Engine that answers
	@bootstrap/docker.sh

images: python docker ## the lab's images
	@$(ENV) python -m lab.build $(SYSTEMS)

stop-docker: ## stop the Docker Engine, if we started it
	@bootstrap/docker.sh stop

clean-cache: ## remove what was built and kept under the user's cache directory
	@bootstrap/clean-cache.sh

##@ Develop
.PHONY: test test-all check check-pythons format docs lock bench
test: export LEVEL := dev
test: ## everything: unit, provider, roles, the whole road
	@$(MAKE) -j4 setup images SYSTEMS=all
	@$(ENV) python -m pytest --numprocesses 2 --no-loadscope-reorder $(ARGS)

test-all: ## the same, and everything that `test` leaves out for its time (hours)
	@$(MAKE) test ARGS="--exhaustive $(ARGS)"

check: export LEVEL := dev
check: python ## format, lint, types, import rules, fast tests: about a minute
	@$(ENV) bootstrap/check.sh

check-pythons: ## the fast tests on the oldest and the newest Python that a controller may have
	@bootstrap/check-pythons.sh $(ARGS)

format: export LEVEL := dev
format: python ## write the format that `check` wants
	@$(ENV) ruff format . && ruff check --fix .

docs: export LEVEL := dev
docs: python ## the pages of docs/ that are made from data
	@$(ENV) python -m tests.matrix.page >docs/systems.md
	@$(ENV) python -m tests.vendors.page >docs/vendors.md
	@$(ENV) python -m tests.road.page >docs/drift.md
	@$(ENV) python -m tests.changes.page >docs/changes.md
	@$(ENV) python -m tests.faults.page >docs/faults.md
	@$(ENV) python -m policies.docs >docs/policies.md
	@$(ENV) python -m fleet.stack.rules.page >docs/rules.md
	@$(ENV) python -m fleet.acceptance.page >docs/acceptance.md

lock: ## new versions into the locks
	@bootstrap/lock.sh

bench: export LEVEL := dev
bench: ## measure what the project promises: JSON and a table
	@$(MAKE) -j4 setup images
	@$(ENV) python -m tests.bench $(ARGS)

.PHONY: help
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {gsub(/\$$\(STACK\)/, "$(STACK)"); gsub(/\$$\$$/, "$$"); printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
