#!/usr/bin/env bash
# Line coverage of core/src by all tests of the workspace:
#
#   tests/coverage.sh            lines, covered lines and per cent of each file
#   tests/coverage.sh missing    and the numbers of the lines that no test runs
#
# Modules of tests do not count, nor does core/src/fuzzing, which is a test itself. Ends with an
# error below 95 %.
#
# rustc writes the counters itself; to read them needs the tools of its own LLVM: Debian's llvm-22
# or whatever its number is, or those that LLVM_BIN names the folder of.
set -euo pipefail
cd "$(dirname "$0")/.."

llvm=$(rustc --version --verbose | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
tool() {
    if [ -n "${LLVM_BIN:-}" ]; then echo "$LLVM_BIN/$1"; else command -v "$1-$llvm"; fi
}
profdata=$(tool llvm-profdata) || { echo "needs llvm-profdata of LLVM $llvm" >&2; exit 1; }
cov=$(tool llvm-cov)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Only the workspace's own code gets counters; its dependencies are those of the other builds.
# bash, since dash drops variables with a hyphen in their name, as CARGO_BIN_EXE_fulmar-load.
printf '#!/bin/bash\nexec "$@" -C instrument-coverage\n' >"$work/rustc"
chmod +x "$work/rustc"
# A path that stays, or cargo would build all anew each time.
wrapper=${CARGO_TARGET_DIR:-$PWD/target}/coverage-rustc
mkdir -p "$(dirname "$wrapper")"
cmp -s "$work/rustc" "$wrapper" || cp "$work/rustc" "$wrapper"
export RUSTC_WORKSPACE_WRAPPER=$wrapper
# Programs that run at the same time add to the same eight files.
export LLVM_PROFILE_FILE=$work/%8m.profraw
tests=(cargo test --workspace --tests --locked)
"${tests[@]}" --no-run --message-format json >"$work/build"
# Those skipped measure the memory of a broker, in which counters take their part.
"${tests[@]}" --quiet -- --skip slow:: >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }

"$profdata" merge --sparse "$work"/*.profraw -o "$work/profile"
objects=()
while read -r program; do
    objects+=(--object "$program")
done < <(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' "$work/build")
"$cov" export --format lcov --instr-profile "$work/profile" "${objects[@]}" >"$work/lcov"

awk -v top="$PWD/" -v missing="${1:-}" '
    function report() {
        if (!name) return
        printf "%-38s %6d %6d %6.1f %%\n", name, lines, covered, 100 * covered / lines
        if (missing && uncovered) print "   " uncovered
        all_lines += lines; all_covered += covered; name = ""
    }
    /^SF:/ {
        report()
        file = substr($0, 4)
        name = substr(file, 1, length(top)) == top ? substr(file, length(top) + 1) : ""
        if (name !~ /^core\/src\// || name ~ /^core\/src\/fuzzing|\/tests\.rs$/) { name = ""; next }
        # Modules of tests stand at the end of a file.
        end = 0; number = 0
        while ((getline line < file) > 0) {
            number++
            if (line == "#[cfg(test)]" && !end) end = number
        }
        close(file)
        lines = covered = 0; uncovered = ""
    }
    name && /^DA:/ {
        split(substr($0, 4), part, ",")
        if (end && part[1] >= end) next
        lines++
        if (part[2] > 0) covered++; else uncovered = uncovered " " part[1]
    }
    END {
        report()
        if (!all_lines) exit 2
        printf "%-38s %6d %6d %6.1f %%\n", "core/src", all_lines, all_covered, \
            100 * all_covered / all_lines
        exit 100 * all_covered / all_lines < 95
    }
' "$work/lcov"
