#!/usr/bin/env bash
# Links the core into a program without std and runs it: without a heap, and with one. With the
# core's std it must not link, or the rest would prove nothing.
set -euo pipefail
cd "$(dirname "$0")"

if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "skipped: the program without std is written for Linux on x86-64"
    exit 0
fi

target=${CARGO_TARGET_DIR:-target}
for profile in dev release; do
    for features in "" alloc; do
        cargo build --locked --quiet --profile "$profile" --features "$features"
        folder=$([ "$profile" = dev ] && echo debug || echo release)
        "$target/$folder/fulmar-no-std"
        echo "runs without std, features '$features', profile $profile"
    done
done

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if cargo build --locked --quiet --features std 2>"$log"; then
    echo "it links with std: this is no proof" >&2
    exit 1
fi
if ! grep -q "E0152" "$log"; then
    cat "$log" >&2
    exit 1
fi
echo "does not link with std, as it must not"
