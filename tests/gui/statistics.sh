#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Opens the statistics and the report from the menu of a running Wireshark, and prints the names
# of its windows after each. Takes two pictures: table.png and report.png.
# usage: statistics.sh PLUGIN SERIES DIR
set -euo pipefail
. "$(dirname "$0")/window.sh"

# Goes down the Statistics menu to the item so many from its top.
statistic() {
    xdotool mousemove 325 10 click 1
    sleep 1
    for _ in $(seq "$1"); do xdotool key Down; done
    xdotool key Return
}

# Waits for one more window than there were.
await_window() {
    for _ in $(seq 60); do
        [ "$(windows | wc -l)" -lt "$1" ] || return 0
        sleep 0.5
    done
    echo "no window opened" >&2
    return 1
}

windows() {
    xdotool search --onlyvisible --name '.' 2>/dev/null
}

names() {
    local id
    for id in $(windows); do xdotool getwindowname "$id"; done
}
