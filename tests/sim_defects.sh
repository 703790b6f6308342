#!/usr/bin/env bash
# Shows that the simulation can fail: builds a core in which each of the deliberate defects can be
# chosen, and looks for a seed at which a checker sees it, one after the other. Prints a table;
# ends with 1 if a defect stays unseen, or if one is seen that was not chosen. A panic of the core
# does not count, and its assertions are off.
#
#   tests/sim_defects.sh [NAME...]    all defects, or those named
#   SIM_SEEDS=n                       seeds tried for each, 2,000 by default
set -euo pipefail
cd "$(dirname "$0")/.."

# The settings of the assertions are others: a folder of its own.
target="$(realpath -m "${CARGO_TARGET_DIR:-target}")/defects"
mkdir -p "$target"
export CARGO_TARGET_DIR="$target" CARGO_INCREMENTAL=0 SIM_SEEDS="${SIM_SEEDS:-2000}"
export CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=0
export CARGO_PROFILE_DEV_DEBUG_ASSERTIONS=false CARGO_PROFILE_DEV_OVERFLOW_CHECKS=false
export RUST_BACKTRACE=0

names=("$@")
if [ ${#names[@]} = 0 ]; then
    mapfile -t names < <(grep -rhoP 'defect!\("\K\w+' core/src | sort -u)
fi

# The simulation alone: it needs neither the broker's binary nor what the other tests need. Only
# the workspace's own packages get the flag, so that dependencies are those of every other build.
wrapper="$target/rustc"
printf '#!/bin/sh\nexec "$@" --cfg fulmar_defects\n' >"$wrapper"
chmod +x "$wrapper"
RUSTC_WORKSPACE_WRAPPER="$wrapper" cargo build --quiet --locked --package fulmar-tests --lib
rustc --test --edition 2024 tests/tests/sim.rs -o "$target/sim" \
    --extern fulmar_tests="$target/debug/libfulmar_tests.rlib" -L "dependency=$target/debug/deps"

# The seeds that are written down are of runs with one shard, but for rules between several: of
# three, or of two where three do not show it.
shards_for() {
    case $1 in hand_over_*) echo 3 2 && return ;; esac
    if grep -rqF "defect!(\"$1\")" core/src/broker/peers; then echo 3 2; else echo 1; fi
}

for shards in 1 3; do
    SIM_SEEDS=100 SIM_SHARDS=$shards "$target/sim" every_rule >"$target/none.log" 2>&1 ||
        { cat "$target/none.log" >&2; echo "seen without any defect" >&2; exit 1; }
done

unseen=()
echo "| Defect | Checker | Shards | Seed | What it said |"
echo "|---|---|---|---|---|"
for name in "${names[@]}"; do
    log="$target/$name.log"
    for shards in $(shards_for "$name"); do
        FULMAR_DEFECT=$name SIM_SHARDS=$shards "$target/sim" every_rule >"$log" 2>&1 || true
        found="$(grep -aoP '^SIM_FOUND seed=\K.*' "$log" || true)"
        if [ -n "$found" ]; then break; fi
    done
    seed="${found%% *}" checker="${found#*checker=}"
    said="$(grep -a -A1 '^SIM_FOUND' "$log" | tail -n 1 | cut -c 1-70 | tr '|' '/' || true)"
    if [ -z "$found" ] || [ "$checker" = panic ]; then
        unseen+=("$name")
        checker="**not found** $checker"
    fi
    echo "| \`$name\` | $checker | $shards | $seed | $said |"
done
if [ ${#unseen[@]} != 0 ]; then
    echo "not found by the simulation: ${unseen[*]}" >&2
    exit 1
fi
