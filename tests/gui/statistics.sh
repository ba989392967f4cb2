#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Opens the statistics and the report from the menu of a running Wireshark, waits for the window
# of each, and takes two pictures: table.png and report.png.
# usage: statistics.sh PLUGIN SERIES DIR
set -euo pipefail
. "$(dirname "$0")/window.sh"

# Clicks on the item of the Statistics menu at a height, and waits for a window of this name.
statistic() {
    act xdotool mousemove 325 10 click 1
    xdotool mousemove 372 "$1" click 1
    for _ in $(seq "$patience"); do
        if xdotool search --onlyvisible --name "$2" >/dev/null 2>&1; then
            rest
            return
        fi
        sleep 0.5
    done
    take "$home/menu.png"
    echo "no window '$2'" >&2
    return 1
}

open_screen "$1" "$2"
open_window -o rstdiag.time_zone:UTC
statistic 311 'Reset Diagnosis · sample.pcap'
take "$3/table.png"
close_window

open_window -o rstdiag.time_zone:UTC
statistic 336 'Reset Diagnosis Report'
take "$3/report.png"
