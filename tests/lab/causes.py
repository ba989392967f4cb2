#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Records connections whose cause of death is known, at both of their ends.

See README.md next to this file. Needs root (network namespaces), nginx, tcpdump, openssl, nft.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import List, Sequence

import causes_client  # noqa: F401  (each registers its scenarios)
import causes_controls  # noqa: F401
import causes_path  # noqa: F401
import causes_server  # noqa: F401
from causes_nginx import NGINX, configuration
from causes_stage import CAUSES, CauseStage
from causes_truth import truth
from network import CLIENT, Capture, settle
from proxy import Nginx
from routed import SERVER, RoutedNetwork, Router

# Scenarios wait more than they work; two cores play these without stutter.
CONCURRENT = 12


def record(directory: Path, names: Sequence[str]) -> List[str]:
    """Records the scenarios of these names; returns what went wrong."""
    faults: List[str] = []
    with tempfile.TemporaryDirectory(prefix="rstdiag-causes-") as home, \
            RoutedNetwork() as network, Router(network) as router, \
            Nginx(network, Path(home), SERVER, NGINX, configuration):
        numbers = {name: number for number, name in enumerate(CAUSES, 1)}
        stages = [CauseStage(network, router, name, numbers[name]) for name in names]

        def play(stage: CauseStage) -> None:
            try:
                CAUSES[stage.scenario](stage)
            except Exception:  # one broken scenario must not hide what the others found
                faults.append(f"{stage.scenario}: {traceback.format_exc()}")

        with Capture(network, directory / "client.pcap", CLIENT, NGINX) as at_client, \
                Capture(network, directory / "server.pcap", SERVER, NGINX) as at_server:
            with ThreadPoolExecutor(CONCURRENT) as pool:
                list(pool.map(play, stages))
            settle(0.5)  # the last packets
            at_client.stop()
            at_server.stop()
    streams = [stream for stage in stages for stream in stage.streams]
    (directory / "truth.json").write_text(json.dumps(truth(streams), indent=1) + "\n",
                                          encoding="utf-8")
    return faults


def _chosen(only: Sequence[str]) -> List[str]:
    unknown = set(only) - set(CAUSES)
    if unknown:
        sys.exit(f"no such scenario: {', '.join(sorted(unknown))}")
    return [name for name in CAUSES if not only or name in only]


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directory", type=Path, metavar="OUTDIR")
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help="these scenarios")
    arguments = parser.parse_args()
    if os.geteuid():
        sys.exit("the lab needs root: it makes network namespaces")
    names = _chosen(arguments.only)
    arguments.directory.mkdir(parents=True, exist_ok=True)
    # A plain kill cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        faults = record(arguments.directory, names)
    except KeyboardInterrupt:
        sys.exit("interrupted; the lab is taken down")
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{len(names)} scenarios, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
