#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Changes a preference in a running Wireshark, which dissects everything again without the hook
# that opening a file calls. Takes three pictures of the list's first rows: right.png, started
# with the right zone; before.png, started with a wrong one; after.png, the zone then set right,
# taken as soon as it looks like the first.
# usage: preference.sh PLUGIN SERIES DIR
set -euo pipefail
. "$(dirname "$0")/window.sh"

# The rows above the selected one, from the phase to the summary.
rows() {
    take "$home/screen.png"
    convert "$home/screen.png" -crop 1200x130+310+115 +repage "$1"
}

open_screen "$1" "$2"
open_window -o rstdiag.time_zone:UTC
rows "$3/right.png"
close_window

open_window -o rstdiag.time_zone:+08:00
rows "$3/before.png"
select_ours
# The item's menu: from its end up to Protocol Preferences, and in there to the zone,
# behind both logs and the format.
act xdotool mousemove 200 546 click 3
act xdotool key Up key Up key Right
act xdotool key Down key Down key Down key Down key Return
act xdotool key ctrl+a type UTC
xdotool key Return
for _ in $(seq "$patience"); do
    rows "$3/after.png"
    ! alike "$3/right.png" "$3/after.png" || break
    sleep 0.5
done
