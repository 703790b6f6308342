#!/usr/bin/env bash
# Runs every target of the fuzzer, or those named, for so many seconds each:
#
#   fuzz/run.sh [SECONDS [TARGET...]]
#
# 20 seconds is the default. Seeds and dictionary are made anew; what is found new stays in
# fuzz/corpus, what fails in fuzz/artifacts. Mend it, keep it as fuzz/cases/TARGET/NAME, and it is
# replayed with the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-20}
shift || true
if [ $# -gt 0 ]; then targets=("$@"); else mapfile -t targets < <(cd fuzz && cargo fuzz list); fi

FUZZ_SEEDS=write cargo test --quiet --locked --package fulmar-tests --test corpus
cd fuzz
# Safe code needs no sanitizer, and stable Rust has none.
cargo fuzz build --sanitizer none
for target in "${targets[@]}"; do
    echo "fuzzing $target for $seconds s"
    mkdir -p "corpus/$target" "cases/$target"
    log=$(mktemp)
    if ! cargo fuzz run --sanitizer none "$target" "corpus/$target" "seeds/$target" \
        "cases/$target" -- -max_total_time="$seconds" -max_len=4096 -timeout=20 \
        -dict=dictionary >"$log" 2>&1; then
        cat "$log"
        exit 1
    fi
    grep -E "^#[0-9]+.*DONE" "$log"
    rm "$log"
done
