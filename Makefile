# The two commands for a newcomer are `make demo` and `make test`. Each installs what is missing, and says so.
.DEFAULT_GOAL := help
.PHONY: help demo test lint unit lab kind vm kind-up kind-down kind-status bench lock venv wheel clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Tune three local nodes (network namespaces), verify them and show the report
	@scripts/bootstrap demo
	@scripts/demo

test: ## Run every lane: unit, lint, lab, kind, cilium, vm
	@scripts/bootstrap test
	@scripts/test unit+lint lab build+disk kind+cilium vm

lint: ## Run the linters and type checks only
	@scripts/bootstrap lint
	@scripts/test lint

unit: ## Run the tests that need no node
	@scripts/bootstrap test
	@scripts/test unit

lab: ## Run the tests on real local nodes (needs root)
	@scripts/bootstrap test
	@scripts/test lab

kind: ## Run the tests on Kubernetes clusters (needs root; the first time builds them, about 15 minutes)
	@scripts/bootstrap test
	@scripts/test build kind+cilium

vm: ## Run the tests on virtual machines (needs root)
	@scripts/bootstrap test
	@scripts/test disk vm

kind-up: ## Bring up a Kubernetes cluster on this machine: CNI=flannel|cilium NAME=tune-nodes WORKERS=2
	@scripts/bootstrap $(if $(filter cilium,$(CNI)),cilium,kind)
	@scripts/kind up --name "$(or $(NAME),tune-nodes)" --cni "$(or $(CNI),flannel)" --workers "$(or $(WORKERS),2)"

kind-down: ## Take a cluster down: NAME=tune-nodes
	@scripts/kind down --name "$(or $(NAME),tune-nodes)"

kind-status: ## Say which clusters are up, and what of them is not ready
	@scripts/kind status

bench: ## Compare with a loop over ansible.posix.sysctl on 60 local nodes (about 15 minutes)
	@scripts/bootstrap test
	@scripts/bench

lock: venv ## Regenerate requirements/*.txt (newest versions: scripts/lock --upgrade)
	@scripts/lock

venv: ## Make or update .venv only
	@scripts/bootstrap lint

wheel: venv ## Build the wheel (command line and collection) into dist/
	@.venv/bin/python -m hatchling build -t wheel

clean: ## Take the lab and the clusters down and remove everything that was made here
	@scripts/clean
