#!/usr/bin/env bash
# check.c on processors that this machine is not: NEON, and x86-64 without the newer vectors; under qemu-user.
#
#     tests/simd/emulated.sh FOLDER MUTATIONS
#
# Says what it has to skip; where CI is set, that is a failure.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$1 mutations=$2
flags=(-O3 -static -Wall -Wextra -Werror -Ifastws/_simd tests/simd/check.c)
skipped=0

skip() {
    echo "simd: SKIPPED $1: there is no $2; on Debian and Ubuntu, apt-get install $3"
    skipped=1
}

# The best variant must be the one expected: neither more than that processor has, nor less.
on_x86() {
    local cpu=$1 best=$2 first
    echo "simd: $best on a processor like $cpu"
    first=$(qemu-x86_64 -cpu "$cpu" "$folder/check-static" --list 2>/dev/null | head -1)
    [ "$first" = "$best" ] || { echo "simd: FAILED: $first was chosen" >&2; exit 1; }
    qemu-x86_64 -cpu "$cpu" "$folder/check-static" --quick --mutations 10000 "$best" 2> >(grep -v 'TCG doesn.t' >&2)
}

if ! command -v qemu-aarch64 >/dev/null; then
    skip "NEON and older processors" qemu-aarch64 qemu-user
else
    if ! command -v aarch64-linux-gnu-gcc >/dev/null; then
        skip NEON aarch64-linux-gnu-gcc "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
    else
        aarch64-linux-gnu-gcc "${flags[@]}" -o "$folder/check-aarch64"
        if qemu-aarch64 "$folder/check-aarch64" --list | grep -qx neon; then
            echo "simd: neon, $mutations mutations"
            qemu-aarch64 "$folder/check-aarch64" --mutations "$mutations" neon
        fi
    fi
    if [ "$(uname -m)" = x86_64 ]; then
        gcc "${flags[@]}" -o "$folder/check-static"
        on_x86 qemu64 scalar
        if "$folder/check-static" --list | grep -qx sse; then
            on_x86 Nehalem sse
            on_x86 Haswell avx2
        fi
    fi
fi
[ "$skipped" = 0 ] || [ -z "${CI:-}" ]
