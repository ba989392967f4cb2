#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the two captures of causes.py back through tshark and says where they are not what was
declared: the ends as verify.py does, the RST's form, and what each cause must have left behind.

The truth never comes from here: this finds scenarios whose traffic is not what their author
meant.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Callable, Dict, FrozenSet, List, Tuple

from verify import Declared, Segment, compare, read

_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
# Who answers in the server's place is one hop nearer.
_BY_ROUTER = ("firewall_reject", "state_lost")


def view(declared: Declared, end: str) -> Declared:
    """What was declared about one end's capture."""
    at = declared.get("at", {})
    assert isinstance(at, dict)
    return {**declared, **at.get(end, {})}


def trigger(segments: List[Segment], reset: Segment) -> Segment:
    """The last segment of the other side before a RST."""
    before = [segment for segment in segments[:segments.index(reset)]
              if segment.source != reset.source]
    return before[-1]


def form_faults(declared: Declared, segments: List[Segment]) -> List[str]:
    """Where the first RST has not the form that was declared."""
    reset = next((segment for segment in segments if segment.flags & _RST), None)
    if reset is None:
        return [] if declared["form"] is None else ["there is no RST"]
    own = [segment for segment in segments if segment.source == reset.source
           and not segment.flags & _RST]
    if declared["form"] == "active":
        end = max((segment.end for segment in own), default=0)
        right = reset.flags & _ACK and reset.window and reset.seq == end
    elif declared["form"] == "passive":
        cause = trigger(segments, reset)
        right = not reset.window and (
            not reset.flags & _ACK and reset.seq == cause.ack if cause.flags & _ACK
            else reset.flags & _ACK and reset.ack == cause.end)
    else:
        right = any(abs(segment.ttl - reset.ttl) > 2 for segment in own)
    faults = [] if right else [f"the RST is not {declared['form']}"]
    if own and declared["form"] != "injected":
        nearer = own[0].ttl != reset.ttl
        if nearer != (declared["cause"] in _BY_ROUTER):
            faults.append(f"the RST has TTL {reset.ttl}, its side {own[0].ttl}")
    return faults


def _count(segments: List[Segment], wanted: Callable[[Segment], object]) -> int:
    return sum(1 for segment in segments if wanted(segment))


def _overflow(declared: Declared, segments: List[Segment]) -> object:
    synacks = _count(segments, lambda s: s.flags & _SYN and s.flags & _ACK)
    # None for a SYN that met a full queue, one where the kernel says so, else repetitions.
    expected = {None: 0, "before_request": 1, "awaiting_response": 2}
    return synacks == expected[declared["phase"]]  # type: ignore[index]


def _probes(declared: Declared, segments: List[Segment]) -> object:
    # Probes and RST are at the end that probed; nothing of them at the other.
    side = str(declared[str(declared["reset_by"])]) if declared["reset_by"] else ""
    end = max((s.end for s in segments if s.source == side and not s.flags & _RST), default=0)
    probes = _count(segments, lambda s: s.source == side and s.seq == end - 1
                    and not s.length and not s.flags & (_SYN | _FIN))
    return probes == (3 if side else 0)


def _reused(_: Declared, segments: List[Segment]) -> object:
    syns = _count(segments, lambda s: s.flags & (_SYN | _ACK) == _SYN)
    old = segments[1]
    return syns == 2 and old.flags == _ACK and old.ack != segments[0].end


def _dropped(_: Declared, segments: List[Segment]) -> object:
    requests = [s.seq for s in segments if s.length]
    return not requests or (len(requests) > 2 and len(set(requests)) == 1)


def _gave_up(_: Declared, segments: List[Segment]) -> object:
    reset = next(s for s in segments if s.flags & _RST)
    return reset.time - segments[0].time > 0.9


def _alert(_: Declared, segments: List[Segment]) -> object:
    reset = next(s for s in segments if s.flags & _RST)
    return trigger(segments, reset).length in range(24, 32)


def _raced(_: Declared, segments: List[Segment]) -> object:
    fin = next(s for s in segments if s.flags & _FIN)
    reset = next(s for s in segments if s.flags & _RST)
    return trigger(segments, reset).length and reset.source == fin.source


def _silent(declared: Declared, segments: List[Segment]) -> object:
    """A long silence, where it is seen that it ended."""
    gaps = [later.time - earlier.time for earlier, later in zip(segments, segments[1:])]
    return declared["form"] is None or len(segments) == 2 or max(gaps) > 1.5


# What must be seen of a cause, at each end that sees anything of it.
_TRACES: Dict[str, Callable[[Declared, List[Segment]], object]] = {
    "accept_queue_overflow": _overflow,
    "client_gave_up": _gave_up,
    "data_after_close": _raced,
    "keepalive_probes_failed": _probes,
    "keepalive_race": _raced,
    "late_tls_alert": _alert,
    "nat_mismatch": _silent,
    "peer_lost_socket": _silent,
    "port_reuse": _reused,
    "request_dropped": _dropped,
    "state_lost": _silent,
}


def pair(truth: List[Declared], end: str, streams: Dict[int, List[Segment]]
         ) -> Tuple[List[str], List[Tuple[Declared, List[Segment]]]]:
    """Declared streams and captured ones by addresses and, where a port came twice, by order."""
    captured: Dict[FrozenSet[str], List[int]] = defaultdict(list)
    for number in sorted(streams):
        captured[frozenset((streams[number][0].source, streams[number][0].target))].append(number)
    faults, pairs = [], []
    for declared in truth:
        seen = declared["seen"]
        assert isinstance(seen, dict)
        if not seen[end]:
            continue
        numbers = captured[frozenset((str(declared["client"]), str(declared["server"])))]
        if numbers:
            pairs.append((view(declared, end), streams[numbers.pop(0)]))
        else:
            faults.append(f"{declared['scenario']}: no stream")
    faults += [f"stream {number} is not declared: {set(addresses)}"
               for addresses, numbers in captured.items() for number in numbers]
    return faults, pairs


def restarts(pairs: List[Tuple[Declared, List[Segment]]]) -> List[str]:
    """A listener that closes resets its whole queue at once."""
    times = [segments[-1].time for declared, segments in pairs
             if declared["cause"] == "listener_restart"]
    return ["listener_restart: not a burst"] if times and max(times) - min(times) > 0.05 else []


def main() -> int:
    """verify_causes.py OUTDIR"""
    directory = Path(sys.argv[1])
    truth = json.loads((directory / "truth.json").read_text(encoding="utf-8"))["streams"]
    faults, count = [], 0
    for end in ("client", "server"):
        found, pairs = pair(truth, end, read(directory / f"{end}.pcap"))
        found += restarts(pairs)
        for declared, segments in pairs:
            wrong = compare(declared, segments) + form_faults(declared, segments)
            trace = _TRACES.get(str(declared["cause"]))
            if trace and not trace(declared, segments):
                wrong.append(f"no trace of {declared['cause']}")
            found += [f"{declared['scenario']} ({declared['client']}): {fault}"
                      for fault in wrong]
        faults += [f"{end}'s capture: {fault}" for fault in found]
        count += len(pairs)
    print("\n".join(faults + [f"{count} views of {len(truth)} streams, "
                              f"{len(faults)} disagreements"]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
