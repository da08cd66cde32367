# The verbs of this project. Each calls one small script in bootstrap/, which also runs alone.
# `make up` and `make test` need no preparation; `make help` lists the rest. STACK defaults to lab.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
STACK ?= lab
LAB := $(filter lab lab-kubernetes,$(STACK))
KUBERNETES := $(filter lab-kubernetes,$(STACK))
ENV := eval "$$(bootstrap/env.sh)" &&

##@ Every day
.PHONY: up preview down recover backup restore show env
up: ## set up what is missing, deploy stack $(STACK), show the table
	@$(MAKE) -j4 setup $(if $(LAB),images) $(if $(KUBERNETES),kubernetes SYSTEMS=kubernetes PARTS="cp node pause")
	@bootstrap/up.sh $(STACK)

preview: python pulumi ## show what `up` would change, restart or reboot; ARGS=--refresh also what others have changed
	@bootstrap/preview.sh $(STACK) $(ARGS)

show: ## show the table of what is deployed
	@$(ENV) fleet show -s $(STACK)

down: setup ## remove everything of the stack; stop the Docker daemon if `make` started it and no container runs
	@bootstrap/down.sh $(STACK)
	@$(if $(LAB),bootstrap/docker.sh stop-idle)

recover: setup ## after a kill -9 or with a truncated state file: repair the state, then deploy
	@bootstrap/recover.sh $(STACK)

backup: python pulumi ## write the state and the stack file into one file, secrets encrypted; TO=FOLDER or s3://BUCKET/PREFIX
	@bootstrap/backup.sh $(STACK) $(if $(TO),"$(TO)")

restore: python pulumi ## restore a stack: FILE=BACKUP; OVERWRITE=yes when it still exists, OVERWRITE=older when its state is newer
	@bootstrap/restore.sh "$(FILE)" $(if $(OVERWRITE),--overwrite$(if $(filter older,$(OVERWRITE)),=older))

env: ## print the environment for plain pulumi commands: eval "$$(make env)"
	@bootstrap/env.sh

##@ Set up
.PHONY: setup python pulumi go docker images kubernetes stop-docker clean-cache
setup: python pulumi $(if $(LAB),docker) $(if $(KUBERNETES),go) ## provide what `up` needs: .venv, Pulumi and, for the lab, Docker

python: ## make .venv from the locks; PYTHON=3.11, 3.12 or 3.13 chooses the version
	@STACK=$(STACK) bootstrap/python.sh $(LEVEL)

pulumi: ## provide the Pulumi engine: build it once, or use a kept build
	@bootstrap/pulumi.sh

go: ## provide Go, for the lab's Kubernetes: the one on PATH, or one from the package index
	@bootstrap/go.sh >/dev/null

docker: ## start a Docker daemon, or use the running one
	@bootstrap/docker.sh

images: python docker ## build the lab's images
	@$(ENV) python -m lab.build $(SYSTEMS)

kubernetes: python go ## build the lab's Kubernetes from the Go module proxy; PARTS="min cp node pause kubeadm"
	@$(ENV) python -m lab.kubernetes.build $(PARTS)

stop-docker: ## stop the Docker daemon, if `make` started it
	@bootstrap/docker.sh stop

clean-cache: ## remove what was built in the user's cache directory
	@bootstrap/clean-cache.sh

##@ Develop
.PHONY: test test-all check check-pythons format docs lock bench
test: export LEVEL := dev
test: ## run all tests: unit, provider, roles, whole deployments
	@$(MAKE) -j4 setup images kubernetes SYSTEMS=all PARTS="min cp"
	@$(ENV) python -m pytest --numprocesses 2 --no-loadscope-reorder $(ARGS)

test-all: ## run also the tests that `test` leaves out for their time (hours)
	@$(MAKE) test ARGS="--exhaustive $(ARGS)"

check: export LEVEL := dev
check: python ## check format, lint, types, import rules; run the fast tests: about two minutes
	@$(ENV) bootstrap/check.sh

check-pythons: ## run the fast tests on the oldest and the newest Python of a controller
	@bootstrap/check-pythons.sh $(ARGS)

format: export LEVEL := dev
format: python ## write the format that `check` expects
	@$(ENV) ruff format . && ruff check --fix .

docs: export LEVEL := dev
docs: python ## write the pages of docs/ that are generated from data
	@$(ENV) python -m tests.support.pages

lock: ## write new versions into the locks
	@bootstrap/lock.sh

bench: export LEVEL := dev
bench: ## measure what the project promises: JSON and a table
	@$(MAKE) -j4 setup images kubernetes PARTS=cp
	@$(ENV) python -m tests.bench $(ARGS)

.PHONY: help
help: ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {gsub(/\$$\(STACK\)/, "$(STACK)"); gsub(/\$$\$$/, "$$"); printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
