#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Records connections that end on purpose, nginx's logs about them, and the truth.

See README.md next to this file. Needs root (network namespaces), nginx, tcpdump, openssl.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import List, Sequence

import client_leg  # noqa: F401  (each registers its scenarios)
import closes  # noqa: F401
import gateways  # noqa: F401
import tunnels  # noqa: F401
import upstream_leg  # noqa: F401
from network import UPSTREAM, Capture, Network, settle
from peers import Application
from proxy import APP_PORT, BLACK_HOLE, Nginx
from puppet import PUPPET_MACS
from stage import SCENARIOS, Entry, Stage
from truth import Ledger

# As many scenarios at a time as share seconds, and as few as two cores play without stutter.
CONCURRENT = 12
SAMPLE_LIMIT = 250_000
# A story is read from top to bottom: in the sample, scenarios hardly overlap.
SAMPLE_CONCURRENT, SAMPLE_REST = 2, 0.7


@dataclass(frozen=True)
class Target:
    """The files of one recording."""

    capture: Path
    error_log: Path
    access_log: Path
    truth: Path

    @staticmethod
    def within(directory: Path, sample: bool) -> "Target":
        """The names inside a directory: those of the sample differ, so that both fit in one."""
        prefix = "sample-" if sample else ""
        return Target(directory / ("sample.pcap" if sample else "capture.pcap"),
                      directory / f"{prefix}error.log", directory / f"{prefix}access.json",
                      directory / f"{prefix}truth.json")


class Recorder:
    """One run: plays scenarios, keeps what they declare and hold open."""

    def __init__(self, network: Network, application: Application) -> None:
        self.ledger = Ledger()
        self.faults: List[str] = []
        self._network = network
        self._application = application
        self._lock = threading.Lock()
        self._stages: List[Stage] = []

    def play(self, entries: Sequence[Entry], sample: bool) -> None:
        """Plays scenarios, many at a time. A scenario's number, and so its addresses, depend on
        its place among all scenarios, not on the selection."""
        numbers = {entry.name: number for number, entry in enumerate(SCENARIOS, 1)}
        stages = [Stage(self._network, self._application, self.ledger, self._lock,
                        entry.name, numbers[entry.name]) for entry in entries]
        self._stages += stages
        rest = SAMPLE_REST if sample else 0.0
        with ThreadPoolExecutor(SAMPLE_CONCURRENT if sample else CONCURRENT) as pool:
            list(pool.map(lambda entry, stage: self._play_one(entry, stage, rest),
                          entries, stages))

    def _play_one(self, entry: Entry, stage: Stage, rest: float) -> None:
        try:
            entry.play(stage)
        except Exception:  # one broken scenario must not hide what the others found
            self.faults.append(f"{entry.name}: {traceback.format_exc()}")
        time.sleep(rest)


def record(target: Target, entries: Sequence[Entry], sample: bool) -> List[str]:
    """Records `entries`; returns what went otherwise than declared."""
    with tempfile.TemporaryDirectory(prefix="rstdiag-lab-") as home, Network() as network:
        network.neighbour(BLACK_HOLE, PUPPET_MACS[UPSTREAM])
        with Application(network, APP_PORT) as application, Nginx(network, Path(home)) as nginx:
            recorder = Recorder(network, application)
            with Capture(network, target.capture) as capture:
                nginx.forget_start()
                recorder.play(entries, sample)
                settle(0.5)  # the last packets, and what nginx says about them
                capture.stop()
            error_log, access_log = nginx.error_log(), nginx.access_log()
    target.error_log.write_bytes(error_log)
    target.access_log.write_bytes(access_log)
    truth, faults = recorder.ledger.as_json(error_log, access_log)
    target.truth.write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    return recorder.faults + faults


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directory", type=Path, metavar="OUTDIR")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these scenarios")
    parser.add_argument("--sample", action="store_true", help="the small story of the demo")
    return parser.parse_args()


def _chosen(only: Sequence[str], sample: bool) -> List[Entry]:
    unknown = set(only) - {entry.name for entry in SCENARIOS}
    if unknown:
        sys.exit(f"no such scenario: {', '.join(sorted(unknown))}")
    return [entry for entry in SCENARIOS
            if (not sample or entry.sample) and (not only or entry.name in only)]


def main() -> int:
    """Command line."""
    arguments = _arguments()
    if os.geteuid():
        sys.exit("the lab needs root: it makes network namespaces")
    arguments.directory.mkdir(parents=True, exist_ok=True)
    target = Target.within(arguments.directory, arguments.sample)
    entries = _chosen(arguments.only or (), arguments.sample)
    # A plain kill cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        faults = record(target, entries, arguments.sample)
    except KeyboardInterrupt:
        sys.exit("interrupted; the lab is taken down")
    size = target.capture.stat().st_size + target.error_log.stat().st_size
    if arguments.sample and size > SAMPLE_LIMIT:
        faults.append(f"the sample takes {size} bytes, more than {SAMPLE_LIMIT}")
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{len(entries)} scenarios, {size} bytes of capture and log, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
