# Every target sets up what it needs. Nothing is downloaded but Rust crates, the clients that tests/e2b drives and, as root on Debian, Debian packages.
.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-e2b fuzz bench install setup

PREFIX ?= /usr/local
BINARY = $(or $(CARGO_TARGET_DIR),target)/release/skerry

help: ## Show this
	@grep -hE '^[a-z0-9-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

demo: ## Build, then fork a sandbox to try three fixes of a broken project at once
	@scripts/setup.sh run
	cargo build --release --package skerry
	examples/demo/demo.sh "$(BINARY)"

test: ## Check the code and run the tests; under 20 minutes from nothing
	@scripts/setup.sh test
	@scripts/tools.sh runsc qemu kernel criu >/dev/null || echo "note: the tests of drivers whose tools are missing are left out" >&2
	cargo xtask check
	scripts/interpreter.sh
	cargo test --workspace --no-fail-fast
	tests/e2b/run

test-all: ## Everything `test` does, then the long suites
	@scripts/setup.sh test
	@scripts/tools.sh runsc qemu kernel criu docker >/dev/null || echo "note: the tests of drivers whose tools are missing are left out" >&2
	cargo xtask check
	scripts/interpreter.sh
	SKERRY_TEST_ALL=1 RUST_TEST_THREADS=1 cargo test --workspace --profile soak --no-fail-fast # one at a time: some make twenty machines at once
	tests/e2b/run --all --skerry "$(or $(CARGO_TARGET_DIR),target)/soak/skerry"
	@scripts/setup.sh guest
	scripts/guest/run.sh

test-e2b: ## Drive every published client of the E2B protocol that we support; writes docs/e2b-methods.md
	@scripts/setup.sh test
	cargo build --package skerry
	tests/e2b/run --all

FUZZ_SECONDS ?= 60
# What libFuzzer needs to see which way a program goes.
FUZZ_FLAGS = --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares

fuzz: ## Feed the decoder of a protocol with whatever bytes; FUZZ_SECONDS says how long. Needs the nightly toolchain
	@mkdir -p fuzz/corpus/connect_frames
	cd fuzz && RUSTFLAGS="$(FUZZ_FLAGS)" cargo +nightly run --release --target "$$(rustc --print host-tuple)" --bin connect_frames -- \
		-max_total_time=$(FUZZ_SECONDS) -artifact_prefix=target/ corpus/connect_frames

bench: ## Measure, against other runtimes in the same run; writes bench/results
	@scripts/setup.sh bench
	cargo build --release --package skerry
	cargo run --release --package skerry-bench
	@scripts/tools.sh runsc qemu kernel criu >/dev/null || echo "note: drivers whose tools are missing are not measured" >&2
	cargo run --release --package skerry-bench memory
	tests/e2b/bench/run

install: ## Install the one binary to PREFIX/bin (/usr/local/bin unless said)
	@scripts/setup.sh run
	cargo build --release --package skerry
	install -D -m 0755 "$(BINARY)" "$(DESTDIR)$(PREFIX)/bin/skerry"

setup: ## Install what running, testing and measuring need
	@scripts/setup.sh bench
