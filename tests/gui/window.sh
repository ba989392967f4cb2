# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A Wireshark window on a screen of its own; to be sourced. Sets DISPLAY.
#
#   open_screen PLUGIN SERIES      a screen, and a home with the plugin, its profile, the sample
#   open_window [OPTION...]        Wireshark with the sample and these options
#   close_window                   ends it
#   act COMMAND...                 does it, and waits until the screen shows what comes of it
#   take FILE                      a picture of the screen

width=1600 height=860
# How often something is looked for before it is given up: a busy machine may take minutes.
patience=300
home='' screen='' window=''

cleanup() {
    close_window
    [ -z "$screen" ] || kill "$screen" 2>/dev/null || true
    [ -z "$home" ] || rm -rf "$home"
}
trap cleanup EXIT

open_screen() {
    local plugin=$1 series=$2 root
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
    home=$(mktemp -d)
    install -D -m 644 "$plugin" "$home/plugins/$series/epan/rstdiag.so"
    install -d "$home/config/profiles/rstdiag"
    install -m 644 "$root"/wireshark/profile/* "$home/config/profiles/rstdiag"
    cp "$root"/tests/data/sample/{sample.pcap,error.log} "$home"
    chmod -R a+rX "$home"
    # As root, Wireshark would load no plugin from here.
    as_user=()
    if [ "$(id -u)" = 0 ]; then
        chown -R 65534:65534 "$home"
        as_user=(setpriv --reuid 65534 --regid 65534 --clear-groups)
    fi
    exec 3< <(exec Xvfb -displayfd 1 -screen 0 "${width}x${height}x24" 2>/dev/null)
    screen=$!
    read -r -u 3 display
    export DISPLAY=":$display"
}

open_window() {
    (cd "$home" && exec "${as_user[@]}" env HOME="$home" XDG_RUNTIME_DIR="$home" TZ=UTC \
        WIRESHARK_PLUGIN_DIR="$home/plugins" WIRESHARK_CONFIG_DIR="$home/config" \
        wireshark -C rstdiag -o rstdiag.error_log:error.log \
        -Y 'rstdiag.reset.frame == frame.number' -g 125 "$@" -r sample.pcap \
        >"$home/out" 2>&1) &
    window=$!
    local id=
    for _ in $(seq "$patience"); do
        id=$(xdotool search --name 'sample.pcap' 2>/dev/null | head -n 1) || true
        [ -z "$id" ] || break
        sleep 0.5
    done
    [ -n "$id" ] || { echo "Wireshark showed no window:" >&2; cat "$home/out" >&2; return 1; }
    xdotool windowsize "$id" "$width" "$height" windowmove "$id" 0 0
    rest
}

close_window() {
    [ -z "$window" ] || kill "$window" 2>/dev/null || true
    [ -z "$window" ] || wait "$window" 2>/dev/null || true
    window=
}

# Selects the last item of the packet's details, which is the plugin's.
select_ours() {
    act xdotool mousemove 300 560 click 1 key End
}

take() {
    import -window root "$1"
}

# Whether two pictures are alike.
alike() {
    compare -metric AE "$1" "$2" null: 2>/dev/null
}

# Waits until nothing has changed on the screen for a while.
rest() {
    local still=0
    take "$home/last.png"
    for _ in $(seq "$patience"); do
        sleep 0.5
        take "$home/now.png"
        if alike "$home/last.png" "$home/now.png"; then still=$((still + 1)); else still=0; fi
        [ "$still" -lt 2 ] || return 0
        mv "$home/now.png" "$home/last.png"
    done
    echo "the screen does not come to rest" >&2
    return 1
}

act() {
    take "$home/before.png"
    "$@"
    for _ in $(seq "$patience"); do
        sleep 0.5
        take "$home/since.png"
        if ! alike "$home/before.png" "$home/since.png"; then
            rest
            return
        fi
    done
    echo "nothing comes of: $*" >&2
    return 1
}
