#!/usr/bin/env bash
# Builds the core for a microcontroller: ARM Cortex-M4 without an operating system, without a heap
# and with one.
#
# Cargo's own toolchain has no library for that target. Debian has a compiler with the library's
# source, which is unpacked into the target folder and not installed; where its packages cannot be
# had, one line says so and nothing is checked.
set -euo pipefail
cd "$(dirname "$0")"

skip() {
    echo "skipped: $*"
    exit 0
}

packages=(rustc-web rust-web-src libstd-rust-web-1.96 libstd-rust-web-dev libllvm22)
target=${CARGO_TARGET_DIR:-$PWD/target}
work=$target/embedded-toolchain
command -v apt-get >/dev/null && command -v dpkg >/dev/null || skip "no Debian packages here"
[ "$(dpkg --print-architecture)" = amd64 ] || skip "the packages are fetched for amd64 only"
if [ ! -e "$work/ready" ]; then
    rm -rf "$work"
    mkdir -p "$work/unpacked"
    (cd "$work" && apt-get download "${packages[@]}" >/dev/null 2>&1) ||
        skip "apt cannot provide ${packages[*]}"
    for package in "$work"/*.deb; do
        dpkg -x "$package" "$work/unpacked"
        rm "$package"
    done
    cat >"$work/rustc" <<EOF
#!/bin/sh
export LD_LIBRARY_PATH=$work/unpacked/usr/lib/x86_64-linux-gnu:$work/unpacked/usr/lib
exec $work/unpacked/usr/bin/rustc "\$@"
EOF
    chmod +x "$work/rustc"
    touch "$work/ready"
fi

# The library is built from source, which a stable compiler does only when it is told so.
export RUSTC=$work/rustc RUSTC_BOOTSTRAP=1
export CARGO_TARGET_DIR=$target/embedded
for features in "" alloc; do
    (cd ../.. && cargo build --quiet --locked --release --package fulmar-core \
        --no-default-features --features "$features" \
        --target thumbv7em-none-eabi -Z build-std=core,alloc)
    echo "builds for thumbv7em-none-eabi, features '$features'"
done
