#!/usr/bin/env bash
# Shows that the simulation can fail: builds the core with one deliberate defect after the other
# and looks for a seed whose checkers see it. Prints a table; ends with 1 if a defect stays unseen.
#
#   tests/sim_defects.sh [NAME...]    all defects, or those named
#   SIM_SEEDS=n                       seeds tried for each, 2,000 by default
#
# Assertions inside the core are off: a defect has to be seen from outside.
set -euo pipefail
cd "$(dirname "$0")/.."

target="${CARGO_TARGET_DIR:-target}/defects"
mkdir -p "$target"
target="$(realpath "$target")"
export CARGO_TARGET_DIR="$target" SIM_SEEDS="${SIM_SEEDS:-2000}" RUST_BACKTRACE=0

names=("$@")
if [ ${#names[@]} = 0 ]; then
    mapfile -t names < <(grep -rhoP 'fulmar_defect = "\K\w+' core/src | sort -u)
fi

unseen=0
echo "| Defect | Seeds | Checker |"
echo "|---|---|---|"
for name in "${names[@]}"; do
    # A wrapper of its own for each defect: dependencies are built once.
    mkdir -p "$target/$name"
    cat >"$target/$name/rustc" <<SCRIPT
#!/bin/sh
exec "\$@" --cfg 'fulmar_defect="$name"' -C debug-assertions=off -C overflow-checks=off -A warnings
SCRIPT
    chmod +x "$target/$name/rustc"
    log="$target/$name/log"
    test=(cargo test --quiet --package fulmar-tests --test sim)
    export RUSTC_WORKSPACE_WRAPPER="$target/$name/rustc"
    "${test[@]}" --no-run 2>"$log" || { cat "$log" >&2; exit 1; }
    "${test[@]}" every_rule >"$log" 2>&1 || true
    found="$(grep -oP 'SIM_FOUND seed=\K.*' "$log" | tail -1 || true)"
    seed="${found%% *}" checker="${found#*checker=}"
    if [ -z "$found" ] || [ "$checker" = panic ]; then
        unseen=1
        checker="**not found** $checker"
    fi
    echo "| $name | $seed | $checker |"
done
exit $unseen
