#!/usr/bin/env bash
# Runs every target of the fuzzer, or those named, for so many seconds each, as many at a time as
# there are processors:
#
#   fuzz/run.sh [SECONDS [TARGET...]]
#
# 20 seconds is the default. Seeds and dictionary are made anew; what is found new stays in
# fuzz/corpus, what fails in fuzz/artifacts. Mend it, keep it as fuzz/cases/TARGET/NAME, and it is
# replayed with the tests.
#
# This is what `cargo fuzz run --sanitizer none` does, without having to build cargo-fuzz first and
# with any Rust: safe code needs no sanitizer, and only those need nightly.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-20}
shift || true
targets=("$@")
if [ $# = 0 ]; then
    mapfile -t targets < <(sed -n 's/^name = "\(.*\)"/\1/p' fuzz/Cargo.toml | tail -n +2)
fi

FUZZ_SEEDS=write cargo test --quiet --locked --package fulmar-tests --test corpus

host=$(rustc --version --verbose | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
export bin=$CARGO_TARGET_DIR/$host/release seconds
# Counters of edges and a look at what is compared, for libFuzzer; not in build scripts.
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
RUSTFLAGS="--cfg fuzzing $coverage" cargo build --release --locked --target "$host" \
    --manifest-path fuzz/Cargo.toml

# What failed, a file for each target.
failed=$(mktemp -d)
export failed
trap 'rm -rf "$failed"' EXIT

run() {
    local target=$1 log folders done
    echo "$target (it did not run to its end)" >"$failed/$target"
    cd fuzz
    log=$(mktemp)
    mkdir -p "corpus/$target" "artifacts/$target"
    folders=("corpus/$target" "seeds/$target")
    if [ -d "cases/$target" ]; then folders+=("cases/$target"); fi
    if "$bin/$target" "${folders[@]}" -max_total_time="$seconds" -max_len=4096 -timeout=10 \
        -rss_limit_mb=1024 -dict=dictionary -artifact_prefix="artifacts/$target/" >"$log" 2>&1; then
        done=$(grep -E "^#[0-9]+.*DONE" "$log")
        printf '%-20s%s\n' "$target" "$done"
        rm "$failed/$target"
    else
        tail -n 60 "$log"
        name_input "$target" "$log" >"$failed/$target"
    fi
    rm "$log"
}

# Where the input is that a target failed with, and the input itself if it is small.
name_input() {
    local input
    input=$(sed -n 's/.*Test unit written to //p' "$2" | tail -n 1)
    printf '%s (%s' "$1" "${input:+fuzz/}${input:-no input was kept}"
    if [ -n "$input" ] && [ "$(stat -c %s "$input")" -le 300 ]; then
        printf ', base64 %s' "$(base64 -w 0 "$input")"
    fi
    printf ')\n'
}
export -f run name_input
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I '{}' bash -euc 'run {}' || true
if [ -n "$(ls "$failed")" ]; then
    echo "fuzzing failed: $(cat "$failed"/* | paste -sd ';')" >&2
    exit 1
fi
