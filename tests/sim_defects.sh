#!/usr/bin/env bash
# Shows that the simulation can fail: builds the core with one deliberate defect after the other
# and looks for a seed at which a checker sees it. Prints a table; ends with 1 if a defect stays
# unseen. A panic of the core does not count, and its assertions are off.
#
#   tests/sim_defects.sh [NAME...]    all defects, or those named
#   SIM_SEEDS=n                       seeds tried for each, 2,000 by default
set -euo pipefail
cd "$(dirname "$0")/.."

target="$(realpath -m "${CARGO_TARGET_DIR:-target}")/defects"
mkdir -p "$target"
export CARGO_TARGET_DIR="$target" CARGO_INCREMENTAL=0 SIM_SEEDS="${SIM_SEEDS:-2000}"
export CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_DEBUG=0
export CARGO_PROFILE_DEV_DEBUG_ASSERTIONS=false CARGO_PROFILE_DEV_OVERFLOW_CHECKS=false
export RUST_BACKTRACE=0

names=("$@")
if [ ${#names[@]} = 0 ]; then
    mapfile -t names < <(grep -rhoP 'defect!\("\K\w+' core/src | sort -u)
fi

# The simulation with a core that has this defect: needs neither the broker's binary nor what the
# other tests need. A wrapper of its own for each: dependencies are built once.
build() {
    local wrapper="$target/$1.rustc" lib="$target/debug/libfulmar_tests.rlib"
    printf '#!/bin/sh\nexec "$@" --cfg '"'"'fulmar_defect="%s"'"'"'\n' "$1" >"$wrapper"
    chmod +x "$wrapper"
    RUSTC_WORKSPACE_WRAPPER="$wrapper" cargo build --quiet --locked --package fulmar-tests --lib &&
        rustc --test --edition 2024 tests/tests/sim.rs -o "$target/sim" \
            --extern fulmar_tests="$lib" -L "dependency=$target/debug/deps"
}

unseen=()
echo "| Defect | Checker | Seed | What it said |"
echo "|---|---|---|---|"
for name in "${names[@]}"; do
    log="$target/$name.log"
    build "$name" >"$log" 2>&1 ||
        { cat "$log" >&2; echo "the core with the defect $name does not build" >&2; exit 1; }
    # The seeds that are written down are of runs with one shard, but for rules between several.
    shards=1
    case $name in hand_over_*) shards=3 ;; esac
    if grep -rqF "defect!(\"$name\")" core/src/broker/peers; then shards=3; fi
    SIM_SHARDS=$shards "$target/sim" every_rule >"$log" 2>&1 || true
    found="$(grep -aoP '^SIM_FOUND seed=\K.*' "$log" || true)"
    seed="${found%% *}" checker="${found#*checker=}"
    said="$(grep -a -A1 '^SIM_FOUND' "$log" | tail -n 1 | cut -c 1-70 | tr '|' '/' || true)"
    if [ -z "$found" ] || [ "$checker" = panic ]; then
        unseen+=("$name")
        checker="**not found** $checker"
    fi
    echo "| \`$name\` | $checker | $seed | $said |"
    # Each has files of its own.
    find "$target/debug/deps" -name '*fulmar*' -delete
done
if [ ${#unseen[@]} != 0 ]; then
    echo "not found by the simulation: ${unseen[*]}" >&2
    exit 1
fi
