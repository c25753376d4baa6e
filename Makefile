# Quorate: everything a person does with this checkout, one word each. `make help` lists it.
#
# Build output goes to the user's cache (scripts/env.sh says where), so a fresh checkout starts warm.

.NOTPARALLEL:
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-unit test-explorer test-sim test-planted test-demo test-kill crash \
  check lint fix sim sim-build soak planted bench bench-peers interop walkthrough newcomer \
  clean

# Arguments for `make demo`, `make bench-peers` and `make interop`, seeds and scenario for `make sim`.
ARGS ?=
SEEDS ?= 1..100
SCENARIO ?=
# How many seeds that never ran before `make test` and `make soak` run.
FRESH ?= 200
SOAK ?= 5000
# How many rounds of kills, power cuts and pauses `make test` does, and how many `make crash`.
KILL_ROUNDS ?= 3
ROUNDS ?= 100
# How many payments and transfers the bank of `make crash` carries out.
TRANSACTIONS ?= 1000000

cargo := scripts/cargo
target := $(shell . scripts/env.sh && echo "$$quorate_target")
sim_target := $(shell . scripts/env.sh && echo "$$quorate_sim_target")
quorate := $(target)/release/quorate

define heading
	@printf '\n== %s\n\n' '$(1)'
endef

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do \
	  printf '  make %-14s %s\n' "$$name" "$$text"; done

setup: ## install what is missing (compilers, libclang) and build RocksDB once; quick the second time
	@scripts/setup.sh

demo: setup ## a cluster on this machine, with data, load and faults; ARGS="..." goes to `quorate demo`
	@$(cargo) build --release -p quorate-cli
	@$(quorate) demo $(ARGS)

test: test-unit test-explorer test-sim test-planted test-demo test-kill ## every test, from units to killed processes
	@printf '\n== all tests passed\n'

test-unit: setup ## unit, property, conformance and doc tests
	$(call heading,1/6 unit tests and property tests and doc tests)
	@# The explorer runs for real below, in a release build.
	QUORATE_SEEDS=0..10 $(cargo) test --workspace --exclude quorate-sim

test-explorer: setup ## the Paxos core: every interleaving of small scenarios, random schedules of large ones
	$(call heading,2/6 random schedules of the Paxos core)
	$(cargo) test --release -p quorate-paxos --test model -- --nocapture --test-threads 1
	$(cargo) test --release -p quorate-paxos --test explorer -- --nocapture

test-sim: setup ## simulated clusters: tests of the simulator, every seed that ever failed, fresh ones
	$(call heading,3/6 simulated clusters)
	MADSIM_TEST_SEED=1 $(cargo) --sim test --profile sim -p quorate-sim
	scripts/sim.sh regressions
	scripts/sim.sh run --fresh $(FRESH)

test-planted: setup ## every planted bug must be caught, in one hunt each
	$(call heading,4/6 planted bugs)
	scripts/planted.sh --trials 1

test-demo: setup ## the demo from beginning to end, with its report in target/demo/report.json
	$(call heading,5/6 the demo from beginning to end)
	$(cargo) build --release -p quorate-cli
	mkdir -p target/demo
	$(quorate) demo --report target/demo/report.json </dev/null

test-kill: setup ## real processes, broken in every way this machine allows (as root: in more)
	$(call heading,6/6 real processes broken in every way this machine allows)
	$(cargo) build --release -p quorate-cli -p quorate-jepsen
	$(target)/release/quorate-jepsen --server $(quorate) --rounds $(KILL_ROUNDS)

crash: setup ## the same for longer: ROUNDS=100, and every kind of file damaged in every way
	$(cargo) build --release -p quorate-cli -p quorate-jepsen
	mkdir -p target/crash
	$(target)/release/quorate-jepsen --server $(quorate) --rounds $(ROUNDS) --thorough \
	  --transactions $(TRANSACTIONS) --report target/crash/report.json

check: lint test ## formatting, lints and docs with warnings denied, then every test; writes nothing

# The simulation lints the crates it is built of; the others do not exist in it.
lint: setup ## formatting, clippy in both builds and docs, warnings denied
	$(cargo) fmt --all --check
	$(cargo) clippy --workspace --all-targets -- -D warnings
	$(cargo) --sim clippy -p quorate-sim -p quorate-server -p quorate-replica -p quorate-client \
	  -p quorate-log -p quorate-store -p quorate-txn -p quorate-proto -p quorate-paxos -p quorate-types \
	  --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(cargo) doc --workspace --no-deps

fix: setup ## format, let clippy repair what it can, and write docs/errors anew
	$(cargo) fmt --all
	$(cargo) clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	$(cargo) run --quiet -p quorate-cli -- error --write-docs docs/errors

sim: setup ## seeds of the simulation: SEEDS=1..100, or SEEDS=4711 to see one; SCENARIO=name
	@SCENARIO='$(SCENARIO)' scripts/sim.sh $(SEEDS)

sim-build: setup ## the program that `quorate sim` starts
	$(cargo) --sim build --profile sim -p quorate-sim --bin quorate-sim

soak: setup ## thousands of fresh seeds: SOAK=5000
	@scripts/sim.sh run --fresh $(SOAK)

planted: setup ## three hunts for each planted bug; a table of the seeds it takes to catch it
	@scripts/planted.sh $(ARGS)

bench: setup ## micro benches of the write path
	$(cargo) bench -p quorate-benches

# Data of both lie in this checkout, as those of `quorate bench`: a folder for temporary files may be
# memory, where nothing is synced.
bench-peers: setup ## the load of `quorate bench` on etcd too (Debian's etcd-server), as ratios; ARGS="--rounds 3"
	@$(cargo) build --release -p quorate-cli
	@CARGO_TARGET_DIR='$(target)/peers' $(cargo) build --release --locked --manifest-path benches/peers/Cargo.toml
	@mkdir -p target/peers
	@'$(target)/peers/release/quorate-peers' --quorate '$(quorate)' --dir target/peers $(ARGS)

walkthrough: setup ## the commands of docs/OPERATIONS.md on three machines made of network namespaces (as root)
	@$(cargo) build --release -p quorate-cli
	@scripts/walkthrough.sh $(quorate)

newcomer: setup ## the commands of docs/FIRST_HALF_HOUR.md, as printed, on the usual ports
	@$(cargo) build --release -p quorate-cli
	@scripts/newcomer.sh $(quorate)

interop: setup ## a Python client against a cluster of three processes
	@$(cargo) build --release -p quorate-cli
	@interop/run.sh $(quorate) $(ARGS)

clean: ## remove build output; RocksDB stays (it is in the cache too, see scripts/rocksdb.sh)
	rm -rf target '$(target)' '$(sim_target)'
