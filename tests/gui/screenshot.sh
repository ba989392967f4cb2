#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Takes the picture of the README: Wireshark with the plugin's profile on the sample.
# usage: screenshot.sh PLUGIN SERIES OUT.png
set -euo pipefail
. "$(dirname "$0")/window.sh"

open_screen "$1" "$2"
open_window -o rstdiag.time_zone:UTC
select_ours
act xdotool key Right
take "$3"
echo "took $3"
