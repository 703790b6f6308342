#!/usr/bin/env bash
# Checks of what is outside the workspace: a build for a microcontroller and the fuzzer. Called by
# .ci/run. FUZZ_SECONDS is the time for each target of the fuzzer, 20 by default.
set -euo pipefail
cd "$(dirname "$0")/.."

heading() {
    printf '\n==> %s\n' "$*"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

apt_install() {
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends)
    as_root "${install[@]}" "$@" || { as_root apt-get update && as_root "${install[@]}" "$@"; }
}

heading "Format of what is outside the workspace"
for package in fuzz tests/no_std; do
    cargo fmt --manifest-path "$package/Cargo.toml" -- --check
done

heading "The core for a microcontroller"
tests/no_std/embedded.sh

heading "Fuzzing"
command -v c++ >/dev/null || apt_install g++
command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz@0.13.2
cargo clippy --manifest-path fuzz/Cargo.toml --locked -- -D warnings
fuzz/run.sh "${FUZZ_SECONDS:-20}"
