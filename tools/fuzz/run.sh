#!/usr/bin/env bash
# Runs one fuzz target under libFuzzer for some seconds: run.sh TARGET SECONDS. Needs Rust's nightly.
# What it learns stays in build/fuzz/corpus, inputs that fail in build/fuzz/failures.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${1:-}
seconds=${2:-60}

if [ -z "$target" ]; then
  echo "Say which target: make fuzz TARGET=name SECONDS=60. There are:" >&2
  cargo run --quiet --release --locked --package selvage-fuzz -- list >&2
  exit 2
fi
if ! cargo +nightly --version >/dev/null 2>&1; then
  echo "Fuzzing with libFuzzer needs Rust's nightly, which is not installed: rustup toolchain install nightly." >&2
  echo "The same targets run on stable, without knowing what they reach: cargo test --release -p selvage-fuzz" >&2
  exit 3
fi

host=$(rustc -vV | sed -n 's/^host: //p')
# What cargo-fuzz sets, but for --cfg fuzzing, under which some libraries leave checks out.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address -Ccodegen-units=16"
export CARGO_TARGET_DIR=$PWD/build/fuzz/target
cargo +nightly build --release --locked --manifest-path tools/fuzz/libfuzzer/Cargo.toml --target "$host"

corpus=build/fuzz/corpus/$target
failures=build/fuzz/failures/
mkdir -p "$corpus" "$failures"
export SELVAGE_FUZZ_TARGET=$target SELVAGE_FUZZ_CORPUS=$corpus
# Leaks are not looked for: what lives as long as the process is not one.
exec nice -n 19 "$CARGO_TARGET_DIR/$host/release/selvage-libfuzzer" "$corpus" \
  -max_total_time="$seconds" -timeout=10 -rss_limit_mb=3072 -max_len=32768 -detect_leaks=0 \
  -artifact_prefix="$failures$target-" -print_final_stats=1
