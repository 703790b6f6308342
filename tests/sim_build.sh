#!/usr/bin/env bash
# Builds the simulation alone, which needs neither the broker's binary nor what the other tests
# need, with a cfg that only the workspace's own packages get, so that dependencies are those of
# every other build; in a folder of its own. Prints where that is: the program is called `sim`.
#
#   tests/sim_build.sh FOLDER CFG...  below the folder of builds
set -euo pipefail
cd "$(dirname "$0")/.."

target="$(realpath -m "${CARGO_TARGET_DIR:-target}")/$1"
mkdir -p "$target"
export CARGO_TARGET_DIR="$target" CARGO_INCREMENTAL=0
export CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=0

wrapper="$target/rustc"
printf '#!/bin/sh\nexec "$@"%s\n' "$(printf ' --cfg %s' "${2:?}" "${@:3}")" >"$wrapper"
chmod +x "$wrapper"
RUSTC_WORKSPACE_WRAPPER="$wrapper" cargo build --quiet --locked --package fulmar-tests --lib
rustc --test --edition 2024 tests/tests/sim.rs -o "$target/sim" \
    --extern fulmar_tests="$target/debug/libfulmar_tests.rlib" -L "dependency=$target/debug/deps"
echo "$target"
