#!/usr/bin/env bash
# Shows that the simulation can fail: builds a core in which each of the deliberate defects can be
# chosen, and looks for a seed at which a checker sees it, one after the other. Prints a table;
# ends with 1 if a defect stays unseen, or if its seed fails without it. A panic of the core
# does not count, and its assertions are off. The rules of long deliveries, `long_*`, show with the
# small limits that fuzzing has, and several shards.
#
#   tests/sim_defects.sh [NAME...]    all defects, or those named
#   SIM_SEEDS=n                       seeds tried for each, 2,000 by default
set -euo pipefail
cd "$(dirname "$0")/.."

export SIM_SEEDS="${SIM_SEEDS:-2000}" RUST_BACKTRACE=0
export CARGO_PROFILE_DEV_DEBUG_ASSERTIONS=false CARGO_PROFILE_DEV_OVERFLOW_CHECKS=false

names=("$@")
if [ ${#names[@]} = 0 ]; then
    mapfile -t names < <(grep -rhoP 'defect!\("\K\w+' core/src | sort -u)
fi

target="$(tests/sim_build.sh defects fulmar_defects)"
is_long() { [[ $1 == long_* ]]; }
case " ${names[*]}" in
    *" long_"*) small="$(tests/sim_build.sh small-defects fulmar_defects fuzzing)" ;;
esac

# Rules between shards. All other defects are looked for with one shard and with three.
is_between() {
    case $1 in hand_over_*) return ;; long_*) return 1 ;; esac
    grep -rqF "defect!(\"$1\")" core/src/broker/peers
}

# Sets `seed`, `checker` and `said` to what is found with so many shards; `seed` to nothing if none.
look_with() {
    local shards=$1 name=$2 log="$target/$2.$1.log" folder=$target found
    if is_long "$name"; then folder=$small; fi
    FULMAR_DEFECT=$name SIM_SHARDS=$shards "$folder/sim" every_rule >"$log" 2>&1 || true
    found="$(grep -aoP '^SIM_FOUND seed=\K.*' "$log" || true)"
    seed="${found%% *}"
    if [ "${found#*checker=}" = panic ]; then seed=""; fi
    if [ -z "$seed" ]; then return; fi
    checker="${found#*checker=}"
    SIM_SEED=$seed SIM_SHARDS=$shards "$folder/sim" every_rule >"$target/none.log" 2>&1 ||
        { cat "$target/none.log" >&2; echo "seed $seed fails without any defect" >&2; exit 1; }
    said="$(grep -a -A1 '^SIM_FOUND' "$log" | tail -n 1 | cut -c 1-70 | tr '|' '/')"
}

unseen=()
echo "| Defect | Checker | 1 shard | 3 shards | What it said |"
echo "|---|---|---|---|---|"
for name in "${names[@]}"; do
    one="" checker="**not found**" said="" seed=""
    if ! is_between "$name" && ! is_long "$name"; then
        look_with 1 "$name"
        one="${seed:-**not found**}"
    fi
    look_with 3 "$name"
    three="${seed:-**not found**}"
    # Some rules between shards show with two of them only.
    if [ -z "$seed" ] && is_between "$name"; then
        look_with 2 "$name"
        three="${seed:+$seed with 2}"
        three="${three:-**not found**}"
    fi
    case "$one$three" in *not*) unseen+=("$name") ;; esac
    echo "| \`$name\` | $checker | $one | $three | $said |"
done
if [ ${#unseen[@]} != 0 ]; then
    echo "not found by the simulation: ${unseen[*]}" >&2
    exit 1
fi
