#!/usr/bin/env bash
# The simulation with the limits that fuzzing has, at which the shards change what they do: long
# deliveries are cut into slices, windows are full, routes are withdrawn after a few calls. With
# several shards: with one the oracle counts on it that a message reaches all in one call.
#
#   SIM_SEEDS=n                       seeds for each number of shards, 300 by default
set -euo pipefail
cd "$(dirname "$0")/.."

target="$(tests/sim_build.sh small fuzzing)"
export SIM_SEEDS="${SIM_SEEDS:-300}"
for shards in 2 3 8; do
    echo "$shards shards"
    if ! SIM_SHARDS=$shards "$target/sim" every_rule --show-output; then
        echo "repeat with: SIM_SHARDS=$shards SIM_SEED=n $target/sim every_rule" >&2
        exit 1
    fi
done
