#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The seventh lab: a capture that is looked at while it happens, and a log that is rotated.

    live.py OUTDIR COMMANDS      needs root, nginx, tcpdump

COMMANDS is a JSON list of programs with their arguments, to each of which the capture is piped as
it is taken. Each prints, line by line as the packets come, the end of the stream that is the
client's and the place of the log's entry: CLIENT, FILE and LINE, apart by U+001E. nginx's log is
OUTDIR/nginx/error.log.

Writes what they print to OUTDIR/shown-0.txt and so on, and truth.json: for each client the places
at which the entry about it stood, one after the other, the last of them now. It fails if a
program does not show an entry where it stands.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

from network import CLIENT, NGINX, NGINX_IP, PUPPET_NET, Network
from proxy import MAIN, Nginx
from puppet import ACK, PSH, PUPPET_MACS, RST, Puppet

# Name of a file and number of a line.
Place = Tuple[str, int]

# A busy machine may let a program wait for long.
PATIENCE = 90.0
SEPARATOR = "\x1e"


def wait(until: Callable[[], object], what: str, meanwhile: Callable[[], None] = lambda: None,
         pause: float = 0.05) -> None:
    """Waits until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not until():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        meanwhile()
        time.sleep(pause)


class Spectator(threading.Thread):
    """A program that looks at the capture, and what it has shown last of each client."""

    def __init__(self, command: List[str], target: Path) -> None:
        super().__init__(daemon=True)
        self.last: Dict[str, Place] = {}
        self._target = target
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self) -> None:
        assert self.process.stdout
        with open(self._target, "wb") as target:
            for line in self.process.stdout:
                target.write(line)
                target.flush()
                cells = line.decode().rstrip("\n").split(SEPARATOR)
                if len(cells) == 3 and cells[2]:
                    self.last[cells[0]] = (Path(cells[1]).name, int(cells[2]))

    def take(self, capture: bytes) -> None:
        """Gives it the next bytes of the capture."""
        assert self.process.stdin
        self.process.stdin.write(capture)
        self.process.stdin.flush()

    def end(self) -> None:
        """Lets it end, as it does when the capture ends."""
        assert self.process.stdin
        self.process.stdin.close()
        self.join(PATIENCE)
        if self.process.wait(PATIENCE):
            raise RuntimeError(f"{self.process.args!r}: {self.process.returncode}")


class Broadcast(threading.Thread):
    """tcpdump at nginx's only port, piped to every spectator as it captures."""

    def __init__(self, network: Network, spectators: List[Spectator]) -> None:
        super().__init__(daemon=True)
        self._spectators = spectators
        self.tcpdump = subprocess.Popen(
            network.command(NGINX, "tcpdump", "-i", "eth0", "--immediate-mode", "-s", "0", "-U",
                            "-Z", "root", "-w", "-", "tcp"),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
            start_new_session=True)
        self.taken = b""

    def run(self) -> None:
        assert self.tcpdump.stdout
        while piece := self.tcpdump.stdout.read(1 << 16):
            self.taken += piece  # first the file's head, which is written when capturing begins
            for spectator in self._spectators:
                spectator.take(piece)

    def has_reset(self, client: Puppet) -> bool:
        """Whether the RST of a client has been captured."""
        assert client.peer
        ends = (*map(socket.inet_aton, (client.local[0], client.peer[0])),
                struct.pack("!HH", client.local[1], client.peer[1]))
        # Sequence numbers, length of the header, flags.
        segment = re.escape(b"".join(ends)) + rb".{8}\x50" + re.escape(bytes([RST | ACK]))
        return bool(re.search(segment, self.taken, re.DOTALL))

    def end(self) -> None:
        """Ends the capture, and gives on what is left of it."""
        self.tcpdump.send_signal(signal.SIGINT)
        self.tcpdump.wait(PATIENCE)
        self.join(PATIENCE)


class Rotation:
    """nginx's log and the rotated ones, and what logrotate does with them."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._log = home / "error.log"

    def place(self, client: str) -> Optional[Place]:
        """Where the entry about a client's address stands now."""
        words = f", client: {client},".encode()
        for path in self._home.glob("error.log*"):
            for number, line in enumerate(path.read_bytes().splitlines(), 1):
                if words in line:
                    return path.name, number
        return None

    def _shift(self) -> None:
        older = sorted(self._home.glob("error.log.*"), reverse=True)
        for path in older:
            path.rename(path.with_suffix(f".{int(path.suffix[1:]) + 1}"))

    def rename(self) -> None:
        """What `create` begins with: nginx goes on in the renamed file."""
        self._shift()
        self._log.rename(self._home / "error.log.1")

    def create(self) -> None:
        """The rest of it: a new file, and nginx is told, which does it a little later."""
        self._log.touch()
        master = int((self._home / "nginx.pid").read_text())
        os.kill(master, signal.SIGUSR1)
        workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        wait(lambda: all(self._is_open_in(pid) for pid in workers), "nginx does not reopen its log")

    def _is_open_in(self, pid: str) -> bool:
        try:
            open_files = [os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()]
        except FileNotFoundError:
            return False  # it was just about it
        older = str(self._home / "error.log.")
        return str(self._log) in open_files and not any(f.startswith(older) for f in open_files)

    def copy_and_truncate(self) -> None:
        """`copytruncate`."""
        self._shift()
        shutil.copyfile(self._log, self._home / "error.log.1")
        os.truncate(self._log, 0)


class Story:
    """Clients that reset their connections, each from an address of its own."""

    def __init__(self, network: Network, rotation: Rotation, spectators: List[Spectator]) -> None:
        self._network = network
        self._rotation = rotation
        self._spectators = spectators
        self._clients: Dict[str, Puppet] = {}
        # All places where the entry about a client has stood.
        self.places: Dict[str, List[Place]] = {}

    def reset(self) -> Puppet:
        """A client resets in the middle of its request, and nginx has logged it."""
        address = f"{PUPPET_NET}.{len(self._clients) + 1}"
        self._network.neighbour(address, PUPPET_MACS[CLIENT])
        client = Puppet(self._network, CLIENT, (address, 40000))
        client.connect((NGINX_IP, MAIN))
        client.send(PSH | ACK, b"GET /basket HTTP/1.1\r\nHost: shop.example.com\r\n")
        client.await_ack()
        client.send(RST | ACK)
        self._clients[address] = client
        self.places[address] = []
        wait(lambda: self._rotation.place(address), f"nginx logs nothing about {address}")
        self._note()
        return client

    def _note(self) -> None:
        """Notes where each entry stands now."""
        for address, places in self.places.items():
            place = self._rotation.place(address)
            assert place, address
            if place not in places[-1:]:
                places.append(place)

    def entries_are_shown(self) -> None:
        """Each spectator shows each entry where it stands now, on a late packet of its stream.

        When a RST is looked at, nginx may not have logged it, and logs are looked at once a
        second. So another packet follows, as from a network that is slow, until it shows."""
        self._note()

        def missing() -> List[str]:
            return [address for address, places in self.places.items() for spectator in
                    self._spectators if spectator.last.get(f"{address}:40000") != places[-1]]

        def remind() -> None:
            for address in set(missing()):
                self._clients[address].send(ACK)

        start = time.monotonic()
        remind()  # what has been shown so far may be by chance
        wait(lambda: not missing(), f"not shown: {self.places}", remind, 0.4)
        print(f"{len(self.places)} entries shown after {time.monotonic() - start:.1f} s")


def play(story: Story, rotation: Rotation) -> None:
    """The three ways of a log: it grows, it is renamed, it is copied and truncated."""
    for _ in range(2):
        story.reset()
        story.entries_are_shown()
    rotation.rename()
    story.reset()
    story.entries_are_shown()
    rotation.create()
    story.reset()
    story.entries_are_shown()
    # Nobody has looked at the log when it is copied.
    story.reset()
    rotation.copy_and_truncate()
    story.reset()
    story.entries_are_shown()


def record(target: Path, commands: List[List[str]]) -> None:
    """Plays the story before the eyes of everybody."""
    home = target / "nginx"
    home.mkdir()
    with Network() as network, Nginx(network, home) as nginx:
        nginx.forget_start()
        spectators = [Spectator(command, target / f"shown-{number}.txt")
                      for number, command in enumerate(commands)]
        broadcast = Broadcast(network, spectators)
        try:
            for thread in (*spectators, broadcast):
                thread.start()
            wait(lambda: broadcast.taken, "tcpdump does not capture")
            rotation = Rotation(home)
            story = Story(network, rotation, spectators)
            play(story, rotation)
            # What is logged at last is in the report, however soon the capture ends.
            last = story.reset()
            wait(lambda: broadcast.has_reset(last), "the last RST is not captured")
            broadcast.end()
            for spectator in spectators:
                spectator.end()
        finally:
            for process in (*(spectator.process for spectator in spectators), broadcast.tcpdump):
                if process.poll() is None:
                    process.kill()
                    process.wait()
    (target / "truth.json").write_text(json.dumps(story.places, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directory", type=Path, metavar="OUTDIR")
    parser.add_argument("commands", type=json.loads, metavar="COMMANDS")
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    record(arguments.directory, arguments.commands)


if __name__ == "__main__":
    sys.exit(main())
