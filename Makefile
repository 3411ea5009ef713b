# The two commands: `make up` and `make test`. Both do the whole set-up first and say what they do.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

DATA ?= .selvage
SEEDS ?= 1000
BINARIES := selvage peer orderer

.PHONY: help
help: ## Say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.PHONY: setup
setup: ## Install what the build and the tests need
	@tools/setup/install.sh

.PHONY: web
web: ## Build the console into web/dist
	@tools/setup/web.sh

.PHONY: build
build: setup web ## Put every binary into build/bin
	cargo build --release --locked $(BINARIES:%=--package %)
	mkdir -p build/bin
	for name in $(BINARIES); do install -m 755 "$${CARGO_TARGET_DIR:-target}/release/$$name" build/bin/; done

.PHONY: up
up: build ## Start a network and the service, and say how to use them
	build/bin/selvage up --detach --data $(DATA)

.PHONY: down
down: ## Stop what `make up` started; the data stays
	build/bin/selvage down --data $(DATA)

.PHONY: test
test: build ## Set up, then run every check and every test
	cargo xtask tidy
	SELVAGE_BIN=$(CURDIR)/build/bin cargo test --release --locked --workspace --no-fail-fast
	cargo test --release --locked --package selvage-sim --features mistakes --test mistakes

.PHONY: fuzz
fuzz: ## Fuzz one decoder with libFuzzer: TARGET=name SECONDS=60
	@tools/fuzz/run.sh "$(TARGET)" "$(or $(SECONDS),60)"

.PHONY: bench
bench: build ## Measure; prints figures, changes nothing
	tools/bench/run.py

.PHONY: conformance
conformance: ## Run beside Fabric's own nodes (FABRIC_BIN=DIR, the folder of its programs)
	@test -x "$(FABRIC_BIN)/orderer" -a -x "$(FABRIC_BIN)/peer" || { echo "FABRIC_BIN names no folder with Fabric's orderer and peer: build them with 'make native' in Fabric's sources"; exit 1; }
	FABRIC_BIN="$(abspath $(FABRIC_BIN))" cargo test --release --locked --package selvage-orderer --test orderer -- mixed

.PHONY: soak
soak: ## Simulate clusters of orderers under faults for hours (SEEDS=1000 for each size)
	cargo build --release --locked --package selvage-sim
	for nodes in 3 5 7; do "$${CARGO_TARGET_DIR:-target}/release/selvage-sim" --engine raft --nodes $$nodes --count $(SEEDS); done
	for nodes in 4 6 7 9 10; do "$${CARGO_TARGET_DIR:-target}/release/selvage-sim" --engine bft --nodes $$nodes --count $(SEEDS); done

.PHONY: clean
clean: ## Remove what was built (not the data of a network)
	rm -rf target build web/dist web/node_modules {examples/*,tests/browser}/{node_modules,dist}
