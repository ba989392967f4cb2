#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# One row for each reset stream of the bundled capture: what happened, and where it is logged.
set -euo pipefail
sample=$1

options=(-o "rstdiag.error_log:$(realpath "$sample")/error.log" -o rstdiag.time_zone:UTC)
fields=(frame.number rstdiag.client rstdiag.phase rstdiag.reset.by rstdiag.transaction
    rstdiag.log.line rstdiag.match.score rstdiag.summary)
columns=()
for field in "${fields[@]}"; do columns+=(-e "$field"); done

echo "tshark -2 -r $sample/sample.pcap -Y 'rstdiag.reset.frame == frame.number' ..."
echo
{
    printf 'frame\tclient\tphase\tby\ttransaction\tline\tscore\tsummary\n'
    tshark -2 -n -r "$sample/sample.pcap" "${options[@]}" \
        -Y 'rstdiag.reset.frame == frame.number' -T fields "${columns[@]}" 2>/dev/null
} | awk -F'\t' '
    { for (i = 1; i <= NF; i++) { cell[NR, i] = $i == "" ? "-" : $i
        if (length(cell[NR, i]) > width[i]) width[i] = length(cell[NR, i]) } }
    END { for (row = 1; row <= NR; row++) {
        for (i = 1; i < NF; i++) printf "%-*s  ", width[i], cell[row, i]
        print cell[row, NF] } }'
echo
echo "line: of $sample/error.log; score: 90 and more means that no other stream fits."
echo "'-' is a reset that nginx never wrote a line about."
echo "The same in words, with what to do:  tshark -q -z rstdiag,report ... (docs/report.md)"
echo "In Wireshark: make gui"
