#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Takes the picture of the README: Wireshark with the plugin's profile on the sample.
# usage: screenshot.sh PLUGIN SERIES OUT.png [FILTER [FRAME]]
set -euo pipefail
plugin=$1 series=$2 out=$3 filter=${4-'rstdiag.reset.frame == frame.number'} frame=${5-}
sample=$(cd "$(dirname "$0")/data/sample" && pwd)

home=$(mktemp -d)
chmod 755 "$home"
server=
window=
cleanup() {
    [ -z "$window" ] || kill "$window" 2>/dev/null || true
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$home"
}
trap cleanup EXIT

install -D -m 644 "$plugin" "$home/plugins/$series/epan/rstdiag.so"
install -d "$home/config/profiles/rstdiag"
install -m 644 "$(dirname "$0")"/../wireshark/profile/* "$home/config/profiles/rstdiag"
cp "$sample/sample.pcap" "$sample/error.log" "$home"
chmod -R a+rX "$home"
# As root, Wireshark loads no plugin from here.
as_user=()
if [ "$(id -u)" = 0 ]; then
    chown -R 65534:65534 "$home"
    as_user=(setpriv --reuid 65534 --regid 65534 --clear-groups)
fi

exec 3< <(exec Xvfb -displayfd 1 -screen 0 1600x860x24 2>/dev/null)
server=$!
read -r -u 3 display
export DISPLAY=":$display"

(cd "$home" && exec "${as_user[@]}" env HOME="$home" XDG_RUNTIME_DIR="$home" \
    WIRESHARK_PLUGIN_DIR="$home/plugins" WIRESHARK_CONFIG_DIR="$home/config" \
    wireshark -C rstdiag -o rstdiag.error_log:error.log -o rstdiag.time_zone:UTC \
    ${filter:+-Y "$filter"} ${frame:+-g "$frame"} -o gui.update.enabled:FALSE \
    -r sample.pcap >"$home/out" 2>&1) &
window=$!

found=
for _ in $(seq 60); do
    found=$(xdotool search --name 'sample.pcap' 2>/dev/null | head -n 1) || true
    [ -z "$found" ] || break
    sleep 0.5
done
[ -n "$found" ] || { echo "Wireshark showed no window:" >&2; cat "$home/out" >&2; exit 1; }
xdotool windowsize "$found" 1600 860 windowmove "$found" 0 0
sleep 3
# Unfold the last item of the packet's details, which is ours.
xdotool mousemove 300 560 click 1 key End key Right
sleep 1
import -window root "$out"
echo "took $out"
