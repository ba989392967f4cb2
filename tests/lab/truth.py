# SPDX-License-Identifier: GPL-2.0-or-later
"""What a scenario declares about its streams, and which error-log lines are about them.

Nothing here looks at the capture. A line of the error log finds its client connection by the
connection number, which the lab's access log joins to the client port that the scenario holds;
a connection that died without an access line is alone with its client address. Among the
streams of that connection the scenario has declared which message it provoked on which.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Callable, Dict, List, Optional, Sequence, Set, Tuple

from proxy import client_address, connection_number, error_lines

Address = Tuple[str, int]


@dataclass
class Log:
    """A message that a scenario provokes. `packet` is whether it reports a packet of the peer:
    a FIN, a RST, or what a write met because of one. Timers and refusals by nginx report none."""

    text: str
    packet: bool = True


def timer(text: str) -> Log:
    """A message about nginx's own patience: no packet provoked it."""
    return Log(text, packet=False)


@dataclass
class Ending:
    """The declared truth of one stream, by the names of the public fields."""

    stage: str
    transaction: str
    close: str
    close_by: Optional[str]
    requests: int
    responses: int
    request: Optional[str] = None
    status: Optional[int] = None
    phase: Optional[str] = None
    reset_by: Optional[str] = None
    piggybacked: Optional[bool] = False
    unasserted: Tuple[str, ...] = ()
    logs: Sequence[Log] = ()


@dataclass(eq=False)
class Stream:
    """One TCP connection of the lab."""

    scenario: str
    leg: str
    client: Address
    server: Address
    opened: float
    ending: Ending
    # On the upstream leg: the client's connection that carried the same, last, exchange.
    other_leg: Optional["Stream"] = None
    log_lines: List[int] = field(default_factory=list)

    def as_json(self, number: Callable[["Stream"], int]) -> Dict[str, object]:
        """The stream's object in truth.json; `number` tells a stream's place there."""
        ending = asdict(self.ending)
        ending.pop("logs")
        ending["unasserted"] = list(self.ending.unasserted)
        return {"scenario": self.scenario, "leg": self.leg, "client": _text(self.client),
                "server": _text(self.server), "opened": round(self.opened, 6), **ending,
                "other_leg": number(self.other_leg) if self.other_leg else None,
                "log_lines": self.log_lines}


@dataclass(frozen=True)
class Expected:
    """A message that nginx must log about `stream`: about its end, or only about its request."""

    stream: Stream
    log: Log
    leg: str
    end: bool


def _text(address: Address) -> str:
    return f"{address[0]}:{address[1]}"


# Declared endings in the words that scenarios use. `counts` is requests begun, responses
# complete; `what` is request and status of the exchange that `transaction` is about.
def reset(by: str, stage: str, transaction: str, counts: Tuple[int, int],
          what: Tuple[Optional[str], Optional[int]] = (None, None), *logs: Log,
          unasserted: Tuple[str, ...] = ()) -> Ending:
    """A RST came before any FIN."""
    return Ending(stage, transaction, "reset", by, *counts, *what, phase=stage, reset_by=by,
                  piggybacked=None, unasserted=unasserted, logs=logs)


def late_reset(by: str, stage: str, transaction: str, counts: Tuple[int, int],
               what: Tuple[Optional[str], Optional[int]], *logs: Log, fin_by: str,
               close: str = "reset", piggybacked: Optional[bool] = False,
               unasserted: Tuple[str, ...] = ()) -> Ending:
    """A RST came after a FIN; `close` says whether the other FIN came before it."""
    return Ending(stage, transaction, close, fin_by, *counts, *what, phase="teardown",
                  reset_by=by, piggybacked=piggybacked, unasserted=unasserted, logs=logs)


def closed(close: str, by: str, stage: str, transaction: str, counts: Tuple[int, int],
           what: Tuple[Optional[str], Optional[int]] = (None, None), *logs: Log,
           piggybacked: Optional[bool] = False, unasserted: Tuple[str, ...] = ()) -> Ending:
    """FINs and no RST."""
    return Ending(stage, transaction, close, by, *counts, *what, piggybacked=piggybacked,
                  unasserted=unasserted, logs=logs)


def still_open(stage: str, transaction: str, counts: Tuple[int, int],
               what: Tuple[Optional[str], Optional[int]] = (None, None), *logs: Log,
               unasserted: Tuple[str, ...] = ()) -> Ending:
    """Neither FIN nor RST until the capture ended."""
    return Ending(stage, transaction, "open", None, *counts, *what, piggybacked=None,
                  unasserted=unasserted, logs=logs)


class Ledger:
    """All declared streams and remarks, and the attribution of log lines to them."""

    def __init__(self) -> None:
        self.streams: List[Stream] = []
        self.remarks: List[Expected] = []

    def as_json(self, error_log: bytes, access_log: bytes) -> Tuple[Dict[str, object], List[str]]:
        """The content of truth.json, and what is wrong: messages that nobody declared, and
        declared ones that nginx did not log. Either means that a scenario is not what it says."""
        self.streams.sort(key=lambda stream: stream.opened)
        entries, faults = self._attribute(error_log, access_log)
        streams = [stream.as_json(self.streams.index) for stream in self.streams]
        return {"streams": streams, "entries": entries}, faults

    def _attribute(self, error_log: bytes,
                   access_log: bytes) -> Tuple[List[Dict[str, object]], List[str]]:
        owners = self._owners(access_log)
        pending = self._pending()
        entries: List[Dict[str, object]] = []
        faults: List[str] = []
        for number, line in enumerate(error_lines(error_log), 1):
            connection = connection_number(line)
            if connection is None:
                continue
            owner = owners.get(connection) or self._nameless(line, owners)
            expected = _take(pending[owner], line) if owner else None
            if expected:
                entries.append(self._entry(number, expected))
            else:
                whose = owner.scenario if owner else "nobody"
                faults.append(f"error.log:{number} is not declared ({whose}): {line}")
        faults += [f"{rest.stream.scenario}, {rest.leg} leg: nginx did not log: {rest.log.text}"
                   for expected_of_one in pending.values() for rest in expected_of_one]
        return entries, faults

    def _entry(self, number: int, expected: Expected) -> Dict[str, object]:
        if expected.end:
            expected.stream.log_lines.append(number)
        return {"line": number, "leg": expected.leg, "packet": expected.log.packet,
                "stream": self.streams.index(expected.stream) if expected.end else None}

    def _pending(self) -> Dict[Stream, List[Expected]]:
        """Declared messages by the client connection under whose number they are logged."""
        pending: Dict[Stream, List[Expected]] = defaultdict(list)
        for stream in self.streams:
            pending[stream.other_leg or stream] += [
                Expected(stream, log, stream.leg, end=True) for log in stream.ending.logs]
        for remark in self.remarks:
            pending[remark.stream].append(remark)
        return pending

    def _owners(self, access_log: bytes) -> Dict[int, Stream]:
        """Connection numbers of the access log and the client streams that they are.

        A client port used twice has two numbers; numbers and openings rise together."""
        numbers: Dict[Address, Set[int]] = defaultdict(set)
        for line in access_log.decode().split("\n")[:-1]:
            access = json.loads(line)
            address = (access["remote_addr"], int(access["remote_port"]))
            numbers[address].add(int(access["connection"]))
        owners: Dict[int, Stream] = {}
        for address, known in numbers.items():
            owners.update(zip(sorted(known), (stream for stream in self.streams
                                              if stream.client == address)))
        return owners

    def _nameless(self, line: str, owners: Dict[int, Stream]) -> Optional[Stream]:
        """The one connection of the line's client address that has no access line."""
        address = client_address(line)
        logged = set(owners.values())
        candidates = [stream for stream in self.streams
                      if stream.leg == "client" and stream.client[0] == address
                      and stream not in logged]
        return candidates[0] if len(candidates) == 1 else None


def _take(pending: List[Expected], line: str) -> Optional[Expected]:
    """The first declared message that the line is. An error number tells a RST from a FIN in
    messages that are the same otherwise, so it is not enough that one contains the other."""
    for index, expected in enumerate(pending):
        if expected.log.text in line and _errno(expected.log.text) == _errno(line):
            return pending.pop(index)
    return None


def _errno(text: str) -> Optional[str]:
    found = re.search(r"\((\d+): ", text)
    return found[1] if found else None
