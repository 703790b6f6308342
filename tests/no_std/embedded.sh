#!/usr/bin/env bash
# Builds the core for a microcontroller: ARM Cortex-M4 without an operating system, without a heap
# and with one.
#
# Where the toolchain has no library for that target (`rustup target add thumbv7em-none-eabi`),
# Debian has a compiler with the library's source, which is unpacked into the target folder and not
# installed; where its packages cannot be had, one line says so and nothing is checked.
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD

triple=thumbv7em-none-eabi
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$target/embedded-toolchain
build=(cargo build --quiet --locked --release --package fulmar-core --no-default-features
    --target "$triple")

skip() {
    echo "skipped, no library for $triple: $*"
    exit 0
}

# The packages that these need, of these names.
needs() {
    local names=$1
    shift
    apt-cache depends --important --recurse "$@" | sed -n 's/^ *Depends: *//p' |
        grep -E "^($names)\$" | sort -u
}

# Fetches the compiler, the libraries it is linked to, and the source of Rust's.
fetch() {
    local needed
    needed=$(needs 'libstd-rust-web-[0-9.]+|libllvm[0-9]+' rustc-web) || return 1
    # shellcheck disable=SC2086
    needed+=" $(needs '(lib|zlib).*' $needed | grep -vE '^(libc6|libgcc-s1)$')"
    # shellcheck disable=SC2086
    apt-get download rustc-web rust-web-src libstd-rust-web-dev $needed >/dev/null 2>&1
}

unpack() {
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || skip "no packages of Debian here"
    [ "$(dpkg --print-architecture)" = amd64 ] || skip "the packages are fetched for amd64 only"
    rm -rf "$work"
    mkdir -p "$work/unpacked"
    cd "$work"
    fetch || { apt-get update >/dev/null 2>&1 && fetch; } || skip "apt cannot provide rustc-web"
    for package in *.deb; do
        dpkg -x "$package" unpacked
        rm "$package"
    done
    cat >rustc <<END
#!/bin/sh
libraries=$work/unpacked/usr/lib
export LD_LIBRARY_PATH=\$libraries/x86_64-linux-gnu:\$libraries:$work/unpacked/lib/x86_64-linux-gnu
exec $work/unpacked/usr/bin/rustc "\$@"
END
    chmod +x rustc
    local version least
    version=$(./rustc --version | cut -d ' ' -f 2) || skip "the rustc of Debian does not run here"
    least=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$here/../../Cargo.toml")
    [ "$(printf '%s\n' "$least" "$version" | sort -V | head -n 1)" = "$least" ] ||
        skip "the rustc of Debian is $version, the core needs $least"
    touch ready
    cd - >/dev/null
}

if [ ! -d "$(rustc --print target-libdir --target "$triple")" ]; then
    [ -e "$work/ready" ] || unpack
    # The library is built from source, which a stable compiler does only when it is told so.
    export RUSTC=$work/rustc RUSTC_BOOTSTRAP=1
    build+=(-Z build-std=core,alloc)
fi
cd ../..
export CARGO_TARGET_DIR=$target/embedded
for features in "" alloc; do
    "${build[@]}" --features "$features"
    echo "builds for $triple, features '$features'"
done
