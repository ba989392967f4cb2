#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads a recorded capture back through tshark and says where it is not what was declared.

The truth never comes from here: this finds scenarios whose traffic is not what their author
meant. It knows the definitions of the ends from INTERFACE in its own, simplest words, and no
HTTP beyond what tshark counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Tuple

_FIELDS = ("tcp.stream", "frame.time_epoch", "ip.src", "tcp.srcport", "ip.dst", "tcp.dstport",
           "tcp.flags", "tcp.seq_raw", "tcp.ack_raw", "tcp.len", "http.request.method",
           "http.response.code", "ip.ttl", "tcp.window_size_value")
_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
# Scenarios whose upstreams speak no HTTP/1, so that nothing counts their messages here.
_GATEWAYS = ("fastcgi_", "uwsgi_", "scgi_", "grpc_")
Declared = Dict[str, object]


@dataclass(frozen=True)
class Segment:
    """One line of tshark's output."""

    stream: int
    time: float
    source: str
    target: str
    flags: int
    seq: int
    ack: int
    length: int
    requests: int
    statuses: Tuple[int, ...]
    ttl: int
    window: int

    @property
    def end(self) -> int:
        """The sequence number after this segment."""
        return self.seq + self.length + bool(self.flags & _FIN) + bool(self.flags & _SYN)


def read(capture: Path) -> Dict[int, List[Segment]]:
    """The segments of each stream."""
    command = ["tshark", "-n", "-2", "-r", str(capture), "-Y", "tcp", "-T", "fields"]
    for name in _FIELDS:
        command += ["-e", name]
    lines = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                           check=True).stdout.decode().splitlines()
    streams: Dict[int, List[Segment]] = defaultdict(list)
    for line in lines:
        (stream, when, src, sport, dst, dport, flags, seq, ack, length, methods,
         codes, ttl, window) = line.split("\t")
        streams[int(stream)].append(Segment(
            int(stream), float(when), f"{src}:{sport}", f"{dst}:{dport}", int(flags, 16),
            int(seq), int(ack), int(length), len([m for m in methods.split(",") if m]),
            tuple(int(code) for code in codes.split(",") if code and int(code) >= 200),
            int(ttl), int(window)))
    return streams


def close_of(segments: List[Segment]) -> str:
    """How the stream closed, by INTERFACE's definitions."""
    fins: Dict[str, int] = {}
    for index, segment in enumerate(segments):
        if segment.flags & _RST:
            if len(fins) < 2:
                return "reset"
            break
        if segment.flags & _FIN:
            fins.setdefault(segment.source, index)
    if len(fins) < 2:
        return "one_fin" if fins else "open"
    (_, first), (second_side, second) = sorted(fins.items(), key=lambda item: item[1])
    first_end = segments[first].end
    if segments[second].ack < first_end:
        return "simultaneous"
    between = [segment for segment in segments[first + 1:second]
               if segment.source == second_side and segment.ack >= first_end]
    if segments[second].length or any(segment.length for segment in between):
        return "half_close"
    return "four_way" if between else "three_way"


def seen(segments: List[Segment], client: str) -> Dict[str, object]:
    """What the segments show of the declared values."""
    def side(segment: Segment) -> str:
        return "client" if segment.source == client else "server"

    ends = [segment for segment in segments if segment.flags & (_FIN | _RST)]
    resets = [segment for segment in ends if segment.flags & _RST]
    fins = [segment for segment in ends if segment.flags & _FIN]
    late = bool(resets and fins and segments.index(fins[0]) < segments.index(resets[0]))
    return {
        "close": close_of(segments),
        "close_by": side(ends[0]) if ends else None,
        "reset_by": side(resets[0]) if resets else None,
        "reset": bool(resets),
        "teardown": late,
        "piggybacked": bool(fins[0].length) if fins else None,
    }


def stage_of(segments: List[Segment], client: str) -> Optional[str]:
    """The stage as far as counting bytes and tshark's HTTP tells it."""
    cut = next((index for index, segment in enumerate(segments)
                if segment.flags & (_FIN | _RST)), len(segments))
    # Data on the segment of the first FIN counts.
    told = segments[:cut + 1]
    synack = next((s for s in told if s.flags & _SYN and s.flags & _ACK), None)
    if synack is None or not any(s.source == client and s.ack == synack.end and
                                 not s.flags & (_SYN | _RST) for s in told):
        return "handshake"
    asked = sum(s.length for s in told if s.source == client)
    if not asked:
        return "before_request"
    requests = sum(s.requests for s in told if s.source == client)
    answers = sum(len(s.statuses) for s in told if s.source != client)
    # tshark names the status on the segment that completes a response.
    data = [s for s in told if s.length]
    # ... or on the FIN, where that is what completes it.
    if data[-1].source != client and not data[-1].statuses and not told[-1].statuses:
        return "during_response"
    if answers >= max(requests, 1):  # more answers than requests: an early one
        return "after_response"
    return "awaiting_response" if requests > answers else "during_request"


def acknowledged(segments: List[Segment], client: str) -> bool:
    """Whether the client's TCP acknowledged every byte that the server sent."""
    sent = max((s.seq + s.length for s in segments if s.source != client and s.length), default=0)
    return bool(sent) and any(s.ack >= sent for s in segments
                              if s.source == client and s.flags & _ACK)


def compare(declared: Declared, segments: List[Segment]) -> List[str]:
    """Where one stream is not what was declared."""
    client = str(declared["client"])
    found = seen(segments, client)
    expected = {
        "close": declared["close"], "close_by": declared["close_by"],
        "reset_by": declared["reset_by"], "reset": declared["phase"] is not None,
        "teardown": declared["phase"] == "teardown", "piggybacked": declared["piggybacked"],
    }
    unasserted = declared["unasserted"]
    assert isinstance(unasserted, list)
    excused = {*unasserted, *(("reset", "teardown") if "phase" in unasserted else ())}
    faults = [f"{key}: declared {value!r}, seen {found[key]!r}"
              for key, value in expected.items() if key not in excused and value != found[key]]
    stage = stage_of(segments, client)
    scenario = str(declared["scenario"])
    is_http = declared["leg"] == "client" or not scenario.startswith(_GATEWAYS)
    if is_http and declared["stage"] not in ("tls_handshake", stage) and \
            "stage" not in unasserted:
        faults.append(f"stage: declared {declared['stage']!r}, counted {stage!r}")
    done = acknowledged(segments, client)
    answered = declared["responses"] == declared["requests"] != 0
    if answered and "transaction" not in unasserted and \
            (declared["transaction"] == "completed") != done:
        faults.append(f"transaction: declared {declared['transaction']!r}, acked {done}")
    return faults


def pair(truth: Dict[str, List[Declared]],
         streams: Dict[int, List[Segment]]) -> Tuple[List[str], List[Tuple[Declared, int]]]:
    """Declared streams and captured ones by addresses and, where a port came twice, by order."""
    captured: Dict[Tuple[str, str], List[int]] = defaultdict(list)
    for number in sorted(streams):
        opening = streams[number][0]
        captured[(opening.source, opening.target)].append(number)
    faults, pairs = [], []
    for declared in sorted(truth["streams"], key=lambda stream: float(str(stream["opened"]))):
        numbers = captured[(str(declared["client"]), str(declared["server"]))]
        if numbers:
            pairs.append((declared, numbers.pop(0)))
        else:
            faults.append(f"{declared['scenario']}: {declared['leg']} stream is not captured")
    for ends, numbers in captured.items():
        faults += [f"stream {number} {ends} is not declared" for number in numbers]
    return faults, pairs


def main() -> int:
    """verify.py OUTDIR [sample]"""
    directory = Path(sys.argv[1])
    prefix = "sample-" if "sample" in sys.argv[2:] else ""
    capture = directory / ("sample.pcap" if prefix else "capture.pcap")
    truth = json.loads((directory / f"{prefix}truth.json").read_text(encoding="utf-8"))
    streams = read(capture)
    faults, pairs = pair(truth, streams)
    for declared, number in pairs:
        faults += [f"{declared['scenario']}, {declared['leg']} leg, stream {number}: {fault}"
                   for fault in compare(declared, streams[number])]
    print("\n".join(faults + [f"{len(pairs)} streams, {len(faults)} disagreements"]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
