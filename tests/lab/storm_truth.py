# SPDX-License-Identifier: GPL-2.0-or-later
"""The truth about a storm: which stream each line of the error log is about, and whether
somebody who has only packets and that log could know.

An entry is **decidable** if of all streams only its own agrees with these facts:
- leg, who ended it, FIN or RST, and of an upstream its address;
- the request of the last exchange, or that there was none;
- the second of the entry, as late as lines are at most in this recording;
- order: of a client's connection, that its handshake was complete after those of the entries with
  lower `*N` and before those with higher ones; of an upstream's, that it ended after those of the
  lines before and before those of the lines behind. Each order holds only as far as it does in
  this recording: by the longest time that two streams stand the other way round, of one process
  and of several.
These times and the neighbours' streams are taken from the truth, so no answer of rstdiag's has a
part in it.
"""

from __future__ import annotations

import calendar
import re
import struct
import time
from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Optional, Tuple

from network import NGINX_IP

Address = Tuple[str, int]
# Seconds by which nginx's idea of the time may lag behind the capture's.
TICK = 0.02

_FIN, _SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10
_REQUEST = re.compile(rb"(?:GET|POST) \S+")
_LAB = re.compile(rb"\r\nX-Lab: (\d+)\r\n")
_ACCEPT = re.compile(rb"\*(\d+) accept: ([0-9.]+):(\d+) fd:")
_LINE = re.compile(
    r"(?P<time>\S+ \S+) \[(?P<level>\w+)\] (?P<pid>\d+)#\d+: \*(?P<number>\d+) "
    r"(?P<message>.*?)(?:, client: |$)")


@dataclass(frozen=True)
class Recording:
    """What rstdiag gets."""

    capture: Path
    error_log: Path


@dataclass
class Stream:
    """A connection as it stands in the capture."""

    number: int
    client: Address
    server: Address
    opened: float
    shaken: bool = False
    request: Optional[str] = None
    # Numbers of the clients' connections that asked on it, the last one last.
    asked_by: List[int] = field(default_factory=list)
    # When each side ("client", "server") sent its FIN or the first RST of all.
    ends: Dict[Tuple[str, str], float] = field(default_factory=dict)


@dataclass
class Entry:
    """A line of the error log about an end."""

    line: int
    second: int
    pid: int
    number: int
    leg: str
    kind: Tuple[str, str]
    request: Optional[str]
    upstream: Optional[Address]
    # It is about a connection that was kept alive, and that nothing was sent on any more: no packet
    # tells which one that was.
    is_unasked: bool = False
    stream: Optional[Stream] = None


def _packets(capture: Path) -> Iterator[Tuple[float, Address, Address, int, int, bytes]]:
    """Time, source, target, sequence number, flags and payload of each TCP packet."""
    data = capture.read_bytes()
    at = 24
    # Where the protocol stands, and how long the header is.
    protocol, header = {1: (12, 14), 113: (14, 16), 276: (0, 20)}[
        int.from_bytes(data[20:24], "little")]
    while at + 16 <= len(data):
        seconds, micros, size, _ = struct.unpack_from("<IIII", data, at)
        frame = data[at + 16:at + 16 + size]
        at += 16 + size
        if frame[protocol:protocol + 2] != b"\x08\x00" or frame[header + 9] != 6:
            continue
        ip = header + (frame[header] & 15) * 4
        end = header + int.from_bytes(frame[header + 2:header + 4], "big")
        sport, dport, seq = struct.unpack_from(">HHI", frame, ip)
        payload = frame[ip + (frame[ip + 12] >> 4) * 4:end]
        source = (".".join(map(str, frame[header + 12:header + 16])), sport)
        target = (".".join(map(str, frame[header + 16:header + 20])), dport)
        yield seconds + micros / 1e6, source, target, seq, frame[ip + 13], payload


def read_streams(capture: Path) -> List[Stream]:
    """The streams of a capture, numbered as Wireshark does."""
    streams: List[Stream] = []
    known: Dict[Tuple[Address, Address], Tuple[Stream, int]] = {}
    for when, source, target, seq, flags, payload in _packets(capture):
        key = (min(source, target), max(source, target))
        found = known.get(key)
        if flags & _SYN and not flags & _ACK and (found is None or found[1] != seq):
            found = known[key] = (Stream(len(streams), source, target, when), seq)
            streams.append(found[0])
        if found is None:
            raise RuntimeError(f"{source} to {target}: not from the SYN on")
        stream = found[0]
        side = "client" if source == stream.client else "server"
        if side == "client" and not stream.shaken and not flags & (_SYN | _RST):
            stream.shaken, stream.opened = True, when
        if flags & _RST and not any(kind == "reset" for kind, _ in stream.ends):
            stream.ends["reset", side] = when
        if flags & _FIN:
            stream.ends.setdefault(("fin", side), when)
        if side == "client" and payload:
            request = _REQUEST.match(payload)
            stream.request = request[0].decode() if request else stream.request
            stream.asked_by += [int(number) for number in _LAB.findall(payload)]
    return streams


def read_entries(log: bytes) -> List[Entry]:
    """The lines of an error log. Errors of clients' connections are logged at info, those of
    nginx's own at error."""
    entries = []
    for number, line in enumerate(log.decode().split("\n")[:-1], 1):
        found = _LINE.match(line)
        if not found:
            raise RuntimeError(f"error.log:{number}: {line}")
        leg = "upstream" if found["level"] == "error" else "client"
        peer = "server" if leg == "upstream" else "client"
        reset = re.search(r"\((?:104|32|111): ", found["message"])
        request = re.search(r', request: "(\S+ \S+)', line)
        upstream = re.search(r', upstream: "http://([0-9.]+):(\d+)', line)
        entries.append(Entry(
            number, calendar.timegm(time.strptime(found["time"], "%Y/%m/%d %H:%M:%S")),
            int(found["pid"]), int(found["number"]), leg, ("reset" if reset else "fin", peer),
            request[1] if request else None,
            (upstream[1], int(upstream[2])) if upstream else None,
            found["message"].startswith("connect() failed (104: ")))
    return entries


def _attach(entries: List[Entry], streams: List[Stream], debug: bytes,
            binds: Dict[int, int]) -> Dict[int, Stream]:
    """Gives each entry its stream; returns the clients' streams by their numbers."""
    by_address: Dict[Address, List[Stream]] = defaultdict(list)
    for stream in streams:
        by_address[stream.client].append(stream)
    accepted: Dict[Address, List[int]] = defaultdict(list)
    for number, host, port in _ACCEPT.findall(debug):
        accepted[host.decode(), int(port)].append(int(number))
    clients: Dict[int, Stream] = {}
    for address, numbers in accepted.items():
        # A port that came several times was accepted in the order of its connections.
        mine = [s for s in by_address[address] if s.server[1] == 80 and s.shaken]
        assert len(mine) == len(numbers), f"{address}: {len(mine)} streams, {len(numbers)} accepted"
        clients.update(zip(sorted(numbers), mine))
    taken = set()
    asked: Dict[Tuple[int, Address], List[Stream]] = defaultdict(list)
    for stream in sorted(streams, key=lambda s: s.ends.get(("reset", "server"), s.opened)):
        if stream.asked_by:
            asked[stream.asked_by[-1], stream.server].append(stream)
    for entry in entries:
        if entry.leg == "client":
            entry.stream = clients[entry.number]
            continue
        assert entry.upstream
        if entry.is_unasked:
            continue
        bind = binds.get(clients[entry.number].client[1])
        tried = asked[entry.number, entry.upstream] or [
            s for s in by_address.get((NGINX_IP, bind or 0), ()) if s.server == entry.upstream]
        # Nothing is written about an end before it came, in the second of its line at the latest.
        ended = [s for s in tried if entry.kind in s.ends and s.number not in taken
                 and s.ends[entry.kind] < entry.second + 1 + TICK]
        if ended:
            entry.stream = ended[0]
            taken.add(ended[0].number)
    return clients


@dataclass
class Order:
    """An order of entries, and how far it holds: `across` and `within` are the seconds by which
    two streams stood the other way round at most, whoever wrote about them and of one process."""

    ranks: List[int]
    highest: List[float]
    lowest: List[float]
    across: float
    within: float

    def bounds(self, rank: int) -> Tuple[float, float]:
        """Between which instants a stream stands, as those before and behind tell."""
        before, behind = bisect_left(self.ranks, rank), bisect_right(self.ranks, rank)
        low = self.highest[before - 1] - self.across if before else -inf
        high = self.lowest[behind] + self.across if behind < len(self.ranks) else inf
        return low, high


def _inversion(times: Iterable[float]) -> float:
    """The most by which an instant is earlier than one before it."""
    times = list(times)
    return max((high - time for high, time in zip(accumulate(times, max), times)), default=0.0)


def _order(places: List[Tuple[int, float, int]]) -> Tuple[Order, Dict[int, Order]]:
    """The order of ranks, instants and processes: of all, and of each process."""
    places = sorted(places)
    by_process: Dict[int, List[Tuple[int, float, int]]] = defaultdict(list)
    for place in places:
        by_process[place[2]].append(place)
    within = max((_inversion(time for _, time, _ in series) for series in by_process.values()),
                 default=0.0)

    def order(series: List[Tuple[int, float, int]], across: float) -> Order:
        times = [time for _, time, _ in series]
        return Order([rank for rank, _, _ in series], list(accumulate(times, max)),
                     list(accumulate(reversed(times), min))[::-1], across, within)

    return (order(places, _inversion(time for _, time, _ in places)),
            {process: order(series, within) for process, series in by_process.items()})


def _decide(entries: List[Entry], streams: List[Stream]) -> Dict[int, int]:
    """Streams besides its own that an entry could be about, by its line."""
    def place(leg: str, kind: Tuple[str, str], stream: Stream) -> float:
        return stream.opened if leg == "client" else stream.ends[kind]

    def rank(entry: Entry) -> int:
        return entry.number if entry.leg == "client" else entry.line

    index: Dict[object, List[Tuple[float, float, int]]] = defaultdict(list)
    for stream in streams:
        leg = "client" if stream.server[1] == 80 else "upstream"
        for kind, when in stream.ends.items():
            server = stream.server if leg == "upstream" else None
            row = (place(leg, kind, stream), when, stream.number)
            for request in {stream.request, "any" if stream.request else None}:
                index[leg, kind, server, request].append(row)
    for rows in index.values():
        rows.sort()
    known = [e for e in entries if e.stream and e.kind in e.stream.ends]
    places: Dict[str, List[Tuple[int, float, int]]] = {"client": [], "upstream": []}
    logged: Dict[Tuple[str, Tuple[str, str], int], Entry] = {}
    early = late = 0.0
    for entry in known:
        assert entry.stream
        own = place(entry.leg, entry.kind, entry.stream)
        places[entry.leg].append((rank(entry), own, entry.pid))
        logged[entry.leg, entry.kind, entry.stream.number] = entry
        when = entry.stream.ends[entry.kind]
        early, late = max(early, when - entry.second - 1), max(late, entry.second - when)
    orders = {leg: _order(series) for leg, series in places.items()}
    rivals: Dict[int, int] = {}
    for entry in known:
        assert entry.stream
        whole, by_process = orders[entry.leg]
        low, high = whole.bounds(rank(entry))
        own_low, own_high = by_process[entry.pid].bounds(rank(entry))
        own = place(entry.leg, entry.kind, entry.stream)

        def may_swap(number: int, at: float) -> bool:
            other = logged.get((entry.leg, entry.kind, number))
            if other is None:
                return True
            # By how much the two would stand the other way round.
            apart = own - at if rank(other) < rank(entry) else at - own
            return apart <= (whole.within if other.pid == entry.pid else whole.across)

        idle = entry.request is None and entry.stream.request is not None
        server = entry.upstream if entry.leg == "upstream" else None
        # Whom an upstream refuses, it does not hear what for.
        request = entry.request if entry.stream.request else None
        rows = index[entry.leg, entry.kind, server, "any" if idle else request]
        start = bisect_left(rows, (max(low, own_low),))
        stop = bisect_right(rows, (min(high, own_high), inf, 0))
        rivals[entry.line] = sum(
            1 for at, when, number in rows[start:stop]
            if number != entry.stream.number
            and entry.second - late <= when <= entry.second + 1 + early
            and may_swap(number, at))
    return rivals


def _asked_for(entries: List[Entry], streams: List[Stream],
               clients: Dict[int, Stream]) -> Dict[int, int]:
    """The client's stream that each upstream's was asked for last, by their numbers. On one
    that was never asked, an entry tells the number of the client's connection."""
    numbers = {e.stream.number: e.number for e in entries if e.stream and e.leg == "upstream"}
    numbers.update((s.number, s.asked_by[-1]) for s in streams if s.asked_by)
    return {stream: clients[number].number for stream, number in numbers.items()}


def tell(recording: Recording, debug: bytes, stories: Dict[int, str],
         binds: Dict[int, int]) -> Dict[str, object]:
    """The truth, as JSON holds it."""
    streams = read_streams(recording.capture)
    entries = read_entries(recording.error_log.read_bytes())
    clients = _attach(entries, streams, debug, binds)
    rivals = _decide(entries, streams)
    asked_for = _asked_for(entries, streams, clients)
    resets = sorted(when for stream in streams for (kind, _), when in stream.ends.items()
                    if kind == "reset")
    story = {number: stories.get(stream.client[1], "normal")
             for number, stream in clients.items()}
    return {
        "connections": {number: stream.number for number, stream in clients.items()},
        "resets_per_second": len(resets) / (resets[-1] - resets[0]),
        "streams": [{"client": "%s:%d" % s.client, "server": "%s:%d" % s.server,
                     "asked_for": asked_for.get(s.number)} for s in streams],
        "entries": [{"line": e.line, "leg": e.leg, "story": story[e.number],
                     "stream": e.stream.number if e.stream else None,
                     "rivals": rivals.get(e.line)} for e in entries],
    }
