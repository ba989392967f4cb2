#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The C of the boundary's tests and of the glue with AddressSanitizer and
# UndefinedBehaviorSanitizer, the glue in a real tshark.
set -euo pipefail
cd "$(dirname "$0")/.."

# Neither program is a sanitizer's, so the runtime has to be there before anything else is.
runtime=$(gcc -print-file-name=libasan.so)
target=${CARGO_TARGET_DIR:-target}/sanitized

# In a folder of its own, and not optimized: nothing that the other builds made is of use here.
RSTDIAG_SANITIZE=1 cargo test --locked --profile dev --target-dir "$target" --test abi \
    --config "target.'cfg(all())'.runner = ['env', 'LD_PRELOAD=$runtime']"

home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
series=$(pkg-config --modversion wireshark | cut -d. -f1,2)
install -D -m 644 "$target/debug/deps/librstdiag.so" "$home/plugins/$series/epan/rstdiag.so"
cp tests/data/sample/{sample.pcap,error.log} tests/data/causes/*.pcap "$home"
chmod -R a+rX "$home"
# As root, tshark would load no plugin from here.
as_user=()
[ "$(id -u)" != 0 ] || as_user=(setpriv --reuid 65534 --regid 65534 --clear-groups)

# What the host itself leaves allocated at its end is no matter of ours.
host() {
    "${as_user[@]}" env HOME="$home" WIRESHARK_PLUGIN_DIR="$home/plugins" \
        LD_PRELOAD="$runtime" ASAN_OPTIONS=detect_leaks=0 \
        tshark -n -o rstdiag.error_log:"$home/error.log" -o rstdiag.time_zone:UTC "$@" \
        >"$home/out" 2>"$home/complaint" || { cat "$home/complaint" >&2; return 1; }
}

for capture in sample client server http2; do
    for way in "-V" "-2 -V" "-2 -Y rstdiag.phase -T json" "-q -z rstdiag -z rstdiag,report"; do
        read -ra words <<<"$way"
        host -r "$home/$capture.pcap" "${words[@]}"
        grep -qiE 'rstdiag|reset' "$home/out" || { echo "$capture $way: no plugin" >&2; exit 1; }
        echo "tshark $way -r $capture.pcap ... ok"
    done
done
