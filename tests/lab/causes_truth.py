# SPDX-License-Identifier: GPL-2.0-or-later
"""What is true of a stream whose cause is known, and what each end's capture can show of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Dict, List, Optional, Tuple

from truth import Address, Ending

ENDS = ("client", "server")
Words = Tuple[Optional[str], ...]


@dataclass(frozen=True)
class View:
    """An ending, and how its first RST came about: `form` and whether it `answers` a segment."""

    ending: Ending
    form: Optional[str] = None
    answers: bool = False

    def as_json(self) -> Dict[str, object]:
        """The view's part of truth.json."""
        fields = asdict(self.ending)
        del fields["logs"]
        fields["unasserted"] = list(self.ending.unasserted)
        return {**fields, "form": self.form, "answers": self.answers}


def active(ending: Ending) -> View:
    """A living socket aborted."""
    return View(ending, "active")


def passive(ending: Ending) -> View:
    """A kernel, be it the router's, answered a segment that it would not have."""
    return View(ending, "passive", answers=True)


def injected(ending: Ending) -> View:
    """A third party made it up."""
    return View(ending, "injected")


def quiet(ending: Ending) -> View:
    """No RST."""
    return View(ending)


@dataclass(frozen=True)
class CausedStream:
    """One TCP connection, why it ended, and what may be said of that at either end.

    `views` has a view for each end whose capture shows the stream. Where both do, the truth is
    written as one of them sees it, and the other's differences as overrides."""

    scenario: str
    client: Address
    server: Address
    opened: float
    cause: Optional[str]
    views: Dict[str, View]
    says: Dict[str, Words]

    def as_json(self) -> Dict[str, object]:
        """The stream's object in truth.json."""
        main = self.views.get("client") or self.views["server"]
        common = main.as_json()
        there = self.views["server"].as_json() if "server" in self.views else common
        differs = {key: value for key, value in there.items() if common[key] != value}
        return {"scenario": self.scenario, "client": _text(self.client),
                "server": _text(self.server), "opened": round(self.opened, 6), **common,
                "cause": self.cause,
                "causes_ok": {end: list(self.says[end]) for end in ENDS if end in self.views},
                "seen": {end: end in self.views for end in ENDS},
                **({"at": {"server": differs}} if differs else {})}


def truth(streams: List[CausedStream]) -> Dict[str, object]:
    """The content of truth.json, in the order of opening."""
    return {"streams": [stream.as_json()
                        for stream in sorted(streams, key=lambda stream: stream.opened)]}


def _text(address: Address) -> str:
    return f"{address[0]}:{address[1]}"
