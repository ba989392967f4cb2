#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A storm: thousands of connections through one nginx with several workers, the same few URIs,
and resets in every phase on both legs; `wrk` between them. `PLAYS` has the kinds of storms.

The truth is by ports, from what rstdiag does not get: nginx's debug lines about connections that
it accepts, and a header that it sends to the upstream. See README.md next to this file.
"""

from __future__ import annotations

import argparse
import array
import fcntl
import heapq
import json
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Dict, Generator, List, Optional, Tuple

from network import CLIENT, CLIENT_NET, NGINX_IP, UPSTREAM, UPSTREAM_NET, Capture, Network, settle
from proxy import Nginx
from storm_truth import Recording, tell

PORT, APP_PORT, CLOSED_PORT = 80, 8080, 3128
# An upstream address for each use, so that entries name it: alone, kept alive, and a pair of
# which the first fails and the second answers.
ALONE, POOL, FLAKY, SPARE = (f"{UPSTREAM_NET}.{host}" for host in (1, 2, 3, 4))
# Ports that the driver binds, those that requests name for connections that are refused, and
# those that the kernels choose.
CLIENT_PORTS, REFUSED_PORTS, OTHER_PORTS = 2000, 2000, "52000 65000"
# Of the capture, in KiB: a busy machine may not let tcpdump write for a second.
BUFFER = 262_144
# Connections and upstreams that are silent for this long have been forgotten.
PATIENCE = 20.0


@dataclass(frozen=True)
class Play:
    """What nginx, its clients and the capture are like."""

    workers: int = 3
    # Each worker has a listening socket of its own.
    reuseport: bool = False
    # Seconds for which the reader of nginx's debug lines rests after each pipe full of them:
    # nginx waits until there is room. 0: they go to a file, and are few.
    rest: float = 0.0
    # Clients at a time; 0: they come at random, `rate` a second.
    at_once: int = 0
    rate: float = 700.0
    # Addresses of clients.
    addresses: int = 1
    uris: int = 4
    # Connections to one of the upstreams that each worker keeps; 0: none.
    pool: int = 16
    # Exchanges that may go well on a client's connection before its story.
    earlier: int = 2
    interface: str = "eth0"
    # Bytes of each frame that are captured; 0: all.
    snaplen: int = 0

    def uri(self, number: int) -> str:
        """One of the URIs."""
        names = ("/pay", "/cart", "/list", "/item")
        return names[number] if number < len(names) else f"/item/{number}"


PLAYS = {
    "fast": Play(),
    "slow": Play(rest=0.004, at_once=300, uris=3, interface="any", snaplen=1200),
    "slow_pair": Play(workers=2, rest=0.002, at_once=120, uris=12, pool=4, addresses=3),
    "reuseport": Play(workers=4, reuseport=True, at_once=100, uris=8, pool=64),
    "slow_reuseport": Play(workers=4, reuseport=True, rest=0.003, at_once=200, uris=20),
    "keepalive": Play(workers=2, at_once=150, uris=6, pool=64, earlier=6),
    "short": Play(workers=4, at_once=150, uris=3, snaplen=160),
    "slow_short": Play(workers=2, rest=0.003, at_once=100, uris=40, snaplen=160,
                       interface="any"),
    "alone": Play(workers=1, at_once=60, uris=1, pool=0),
    "many_uris": Play(workers=4, at_once=250, uris=40, pool=0, addresses=40),
}


def configuration(home: Path, play: Play) -> str:
    """nginx.conf. The debug lines are the truth's; `error.log` is what any user has."""
    debug = "debug.pipe debug" if play.rest else "debug.log debug_event"
    listen = " reuseport" if play.reuseport else ""
    pool = f" keepalive {play.pool};" if play.pool else ""
    temporary = "\n".join(f"  {kind}_temp_path {home}/temp-{kind};"
                          for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""
user root;
daemon off;
pid {home}/nginx.pid;
error_log {home}/error.log info;
error_log {home}/{debug};
worker_processes {play.workers};
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  log_format lab '$connection $remote_port $msec $remote_addr [$time_local] "$request" $status '
                 '$body_bytes_sent $request_time "$upstream_addr"';
  access_log {home}/access.json lab;
{temporary}
  default_type text/plain;
  keepalive_timeout 30s;
  upstream alone {{ server {ALONE}:{APP_PORT} max_fails=0; }}
  upstream pool {{ server {POOL}:{APP_PORT} max_fails=0;{pool} }}
  upstream closed {{ server {ALONE}:{CLOSED_PORT} max_fails=0; }}
  upstream retry {{
    server {FLAKY}:{APP_PORT} max_fails=0;
    server {SPARE}:{APP_PORT} max_fails=0;
  }}
  map $http_x_bind $bind {{ "" ""; default {NGINX_IP}:$http_x_bind; }}
  server {{
    listen {NGINX_IP}:{PORT} backlog=4096{listen};
    server_name shop.example.com;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header X-Lab $connection;
    proxy_bind $bind;
    proxy_max_temp_file_size 0;
    location / {{ proxy_pass http://$http_x_group; }}
  }}
}}
"""


# ---- Many sockets in one thread ------------------------------------------------------------

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
Task = Generator[object, None, None]


class Loop:
    """Runs generators that yield seconds to sleep, or a socket and what to wait for."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._waiting: Dict[int, Task] = {}
        self._timers: List[Tuple[float, int, Task]] = []
        self._count = 0

    def spawn(self, task: Task, at: Optional[float] = None) -> None:
        """Starts a task, at an instant of the monotonic clock if one is given."""
        self._count += 1
        heapq.heappush(self._timers, (at or time.monotonic(), self._count, task))

    def run(self) -> None:
        """Until every task has ended, or none goes on any more."""
        while self._timers or self._waiting:
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                self._step(heapq.heappop(self._timers)[2])
            if not self._timers and not self._waiting:
                return
            wait = self._timers[0][0] - time.monotonic() if self._timers else PATIENCE
            events = self._poll.poll(max(wait, 0))
            for descriptor, _ in events:
                self._poll.unregister(descriptor)
                self._step(self._waiting.pop(descriptor))
            if not events and not self._timers:
                return

    def _step(self, task: Task) -> None:
        try:
            wanted = next(task)
        except (StopIteration, OSError):
            return
        if isinstance(wanted, float):
            self.spawn(task, time.monotonic() + wanted)
            return
        sock, event = wanted  # type: ignore[misc]
        self._waiting[sock.fileno()] = task
        self._poll.register(sock.fileno(), event)


def reset(sock: socket.socket) -> None:
    """Ends a connection with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def head_of(sock: socket.socket) -> Generator[object, None, bytes]:
    """Reads up to the end of a message head; what came with it is returned, too."""
    got = b""
    while b"\r\n\r\n" not in got:
        yield sock, READ
        more = sock.recv(65536)
        if not more:
            raise ConnectionError("the peer has closed")
        got += more
    return got


def send(sock: socket.socket, data: bytes) -> Task:
    """Sends all of it, however slowly it is taken."""
    while data:
        try:
            data = data[sock.send(data):]
        except BlockingIOError:
            yield sock, WRITE


# ---- The upstream --------------------------------------------------------------------------

SMALL, BIG = b"x" * 300, b"x" * 60_000


def _answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def serve(sock: socket.socket, rng: random.Random) -> Task:
    """One connection of nginx's: each request says how it is to be answered."""
    sock.setblocking(False)
    try:
        while True:
            asked = yield from head_of(sock)
            mode = asked.split(b"X-Mode: ", 1)[1].split(b"\r\n", 1)[0]
            if mode == b"retry":
                mode = b"rst_header" if sock.getsockname()[0] == FLAKY else b"ok"
            if mode == b"slow":
                yield rng.uniform(0.05, 0.15)
            elif mode.endswith(b"_header"):
                yield rng.uniform(0.0, 0.01)
            if mode.endswith(b"_body"):
                yield from send(sock, _answer(BIG)[:rng.randrange(2_000, 20_000)])
                yield rng.uniform(0.001, 0.01)
            if mode.startswith(b"rst_") and mode != b"rst_idle":
                return reset(sock)
            if mode == b"fin_body":
                return
            yield from send(sock, _answer(BIG if mode == b"big" else SMALL))
            if mode == b"rst_idle":
                yield rng.uniform(0.0, 0.02)
                return reset(sock)
    finally:
        sock.close()


def upstream(listener: socket.socket) -> None:
    """Serves until it is killed."""
    loop, rng = Loop(), random.Random(1)

    def accept() -> Task:
        while True:
            yield listener, READ
            for _ in range(64):
                try:
                    sock = listener.accept()[0]
                except BlockingIOError:
                    break
                loop.spawn(serve(sock, rng))

    loop.spawn(accept())
    while True:
        loop.run()


# ---- The clients ---------------------------------------------------------------------------

@dataclass
class Visit:
    """One connection of a client's, and what it is to do."""

    sock: socket.socket
    play: Play
    uri: str
    group: str
    mode: str
    bind: int
    rng: random.Random

    def request(self, method: str = "GET", more: str = "") -> bytes:
        bind = f"X-Bind: {self.bind}\r\n" if self.group == "closed" else ""
        return (f"{method} {self.uri} HTTP/1.1\r\nHost: shop.example.com\r\n"
                f"X-Group: {self.group}\r\nX-Mode: {self.mode}\r\n{bind}{more}\r\n").encode()

    def pause(self, most: float = 0.02) -> float:
        return self.rng.uniform(0.0, most)

    def exchange(self) -> Task:
        """A request and all of its answer."""
        self.sock.send(self.request())
        got = yield from head_of(self.sock)
        head, body = got.split(b"\r\n\r\n", 1)
        length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        left = length - len(body)
        while left > 0:
            yield self.sock, READ
            more = self.sock.recv(65536)
            if not more:
                raise ConnectionError("the answer is cut short")
            left -= len(more)

    def earlier(self) -> Task:
        """Exchanges that go well, before the one that the story is about, if there are any."""
        story = self.uri, self.group, self.mode
        for _ in range(max(0, self.rng.randint(-self.play.earlier, self.play.earlier))):
            self.uri = self.play.uri(self.rng.randrange(self.play.uris))
            self.group, self.mode = "pool", "ok"
            yield from self.exchange()
        self.uri, self.group, self.mode = story


def before_request(visit: Visit) -> Task:
    yield visit.pause()
    reset(visit.sock)


def before_request_fin(visit: Visit) -> Task:
    yield visit.pause()


def during_request(visit: Visit) -> Task:
    yield from visit.earlier()
    visit.sock.send(visit.request()[:-2] + b"X-Cut: ")
    yield visit.pause()
    reset(visit.sock)


def during_body(visit: Visit) -> Task:
    yield from visit.earlier()
    visit.sock.send(visit.request("POST", "Content-Length: 5000\r\n") + b"x" * 700)
    yield visit.pause()
    reset(visit.sock)


def awaiting_response(visit: Visit) -> Task:
    yield from visit.earlier()
    visit.sock.send(visit.request())
    yield visit.pause(0.03)
    reset(visit.sock)


def awaiting_fin(visit: Visit) -> Task:
    yield from visit.earlier()
    visit.sock.send(visit.request())
    yield visit.pause(0.03)


def during_response(visit: Visit) -> Task:
    yield from visit.earlier()
    visit.sock.send(visit.request())
    yield visit.sock, READ
    visit.sock.recv(2000)
    yield visit.pause(0.005)
    reset(visit.sock)


def after_response(visit: Visit) -> Task:
    yield from visit.earlier()
    yield from visit.exchange()
    yield visit.pause()
    reset(visit.sock)


def after_response_fin(visit: Visit) -> Task:
    yield from visit.earlier()
    yield from visit.exchange()
    yield visit.pause()


def fin_then_reset(visit: Visit) -> Task:
    yield from visit.earlier()
    visit.sock.send(visit.request())
    yield visit.pause()
    visit.sock.shutdown(socket.SHUT_WR)
    yield visit.pause()
    reset(visit.sock)


@dataclass(frozen=True)
class Story:
    """What a connection of the storm is about, how often it comes, and what it asks for."""

    name: str
    share: int
    play: Callable[[Visit], Task]
    group: str = "alone"
    mode: str = "ok"


STORIES = (
    Story("before_request", 9, before_request),
    Story("before_request_fin", 3, before_request_fin),
    Story("during_request", 9, during_request),
    Story("during_body", 5, during_body),
    Story("awaiting_response", 12, awaiting_response, mode="slow"),
    Story("awaiting_fin", 4, awaiting_fin, mode="slow"),
    Story("during_response", 12, during_response, mode="big"),
    Story("after_response", 13, after_response, group="pool"),
    Story("after_response_fin", 5, after_response_fin),
    Story("fin_then_reset", 4, fin_then_reset, mode="slow"),
    Story("upstream_refused", 7, after_response_fin, group="closed"),
    Story("upstream_header", 8, after_response_fin, mode="rst_header"),
    Story("upstream_body", 6, after_response_fin, mode="rst_body"),
    Story("upstream_fin_body", 2, after_response_fin, mode="fin_body"),
    Story("upstream_idle", 5, after_response_fin, group="pool", mode="rst_idle"),
    Story("upstream_retry", 6, after_response_fin, group="retry", mode="retry"),
)


def visit(story: Story, number: int, play: Play, rng: random.Random) -> Task:
    """One connection, from its SYN to its end."""
    sock = socket.socket()
    sock.setblocking(False)
    address = f"{CLIENT_NET}.{1 + number % play.addresses}"
    sock.bind((address, CLIENT_PORTS + number))
    with sock:
        sock.connect_ex((NGINX_IP, PORT))
        yield sock, WRITE
        uri = play.uri(rng.randrange(play.uris))
        yield from story.play(Visit(sock, play, uri, story.group, story.mode,
                                    REFUSED_PORTS + number, rng))


def drive(connections: int, play: Play, seed: int) -> Dict[int, str]:
    """Makes the connections; returns the name of each one's story by its client's port."""
    loop, rng = Loop(), random.Random(seed)
    stories = rng.choices(STORIES, [story.share for story in STORIES], k=connections)
    visits = enumerate(stories)

    def client() -> Task:
        for number, story in visits:
            try:
                yield from visit(story, number, play, rng)
            except OSError:
                continue

    if play.at_once:
        for _ in range(play.at_once):
            loop.spawn(client())
    else:
        at = time.monotonic()
        for number, story in visits:
            at += rng.expovariate(play.rate)
            loop.spawn(visit(story, number, play, rng), at)
    loop.run()
    return {CLIENT_PORTS + number: story.name for number, story in enumerate(stories)}


def normal_traffic(network: Network, play: Play) -> List[subprocess.Popen[bytes]]:
    """wrk, from one of the addresses, kept alive and not, until it is ended."""
    def wrk(*more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            network.command(CLIENT, "wrk", "-t1", "-c6", "-d1h",
                            "-H", "Host: shop.example.com", "-H", "X-Mode: slow", *more,
                            f"http://{NGINX_IP}{play.uri(0)}"),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return [wrk("-H", "X-Group: pool"), wrk("-H", "X-Group: alone", "-H", "Connection: close")]


def fork(task: Callable[[], None]) -> int:
    """Does something in a process of its own, until that is killed."""
    child = os.fork()
    if not child:
        try:
            task()
        finally:
            os._exit(1)
    return child


def read_slowly(pipe: Path, log: Path, rest: float) -> None:
    """Takes debug lines from nginx at leisure, and keeps those that the truth needs."""
    with open(pipe, "rb", buffering=0) as source, open(log, "ab", buffering=0) as target:
        held = b""
        while True:
            lines = (held + source.read(65536)).split(b"\n")
            held = lines.pop()
            target.write(b"".join(line + b"\n" for line in lines if b" accept: " in line))
            time.sleep(rest)


def is_unread(pipe: Path) -> bool:
    """Whether nginx has said something that its reader has yet to take."""
    left = array.array("i", [0])
    with open(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as end:
        fcntl.ioctl(end, termios.FIONREAD, left)
    return left[0] > 0


def cut(whole: Path, snaplen: int, target: Path) -> None:
    """The same capture, as it would have been taken with a snaplen. The truth needs all of it."""
    with open(whole, "rb") as source, open(target, "wb") as out:
        out.write(source.read(24))
        while header := source.read(16):
            seconds, micros, size, length = struct.unpack("<IIII", header)
            frame = source.read(size)[:snaplen or size]
            out.write(struct.pack("<IIII", seconds, micros, len(frame), length) + frame)


def storm(directory: Path, connections: int, play: Play, seed: int) -> None:
    """Records a storm and its truth."""
    recording = Recording(directory / "whole.pcap", directory / "error.log")
    children: List[int] = []
    with tempfile.TemporaryDirectory(prefix="rstdiag-storm-") as name, Network() as network:
        home = Path(name)
        debug_log, pipe = home / "debug.log", home / "debug.pipe"
        for host in (CLIENT, "nginx", UPSTREAM):
            network.set(host, "net/ipv4/ip_local_port_range", f'"{OTHER_PORTS}"')
            network.set(host, "net/core/somaxconn", "4096")
        try:
            with network.tcp_socket(UPSTREAM) as listener:
                listener.setblocking(False)
                listener.bind(("", APP_PORT))
                listener.listen(4096)
                children.append(fork(lambda: upstream(listener)))
            if play.rest:
                os.mkfifo(pipe)
                children.append(fork(lambda: read_slowly(pipe, debug_log, play.rest)))
            with Nginx(network, home, config=lambda home: configuration(home, play)) as nginx:
                with Capture(network, recording.capture, buffer=BUFFER,
                             interface=play.interface) as capture:
                    is_held_up = (lambda: is_unread(pipe)) if play.rest else (lambda: False)
                    settle(0.5, is_held_up, PATIENCE)  # what nginx says while it starts
                    nginx.forget_start()
                    debug_log.write_bytes(b"")
                    normal = normal_traffic(network, play)
                    try:
                        with network.inside(CLIENT):
                            stories = drive(connections, play, seed)
                    finally:
                        for process in normal:
                            process.send_signal(signal.SIGINT)
                            process.wait()
                    # The last packets, and what nginx says about them.
                    settle(0.5, is_held_up, PATIENCE)
                    capture.stop()
                recording.error_log.write_bytes(nginx.error_log())
                (directory / "access.log").write_bytes(nginx.access_log())
                debug = debug_log.read_bytes()
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
    binds = {port: port - CLIENT_PORTS + REFUSED_PORTS for port in stories}
    truth = tell(recording, debug, stories, binds)
    (directory / "truth.json").write_text(json.dumps(truth) + "\n", encoding="utf-8")
    cut(recording.capture, play.snaplen, directory / "storm.pcap")
    recording.capture.unlink()
    print(f"{len(truth['streams'])} streams, {len(truth['entries'])} entries")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("directory", type=Path, metavar="OUTDIR")
    parser.add_argument("--connections", type=int, default=24_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--play", choices=PLAYS, default="fast")
    for name, value in vars(Play()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", help="in place of the play's",
                            type=int if isinstance(value, bool) else type(value))
    arguments = parser.parse_args()
    if os.geteuid():
        sys.exit("the lab needs root: it makes network namespaces")
    arguments.directory.mkdir(parents=True, exist_ok=True)
    # A plain kill cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    given = {name: getattr(arguments, name) for name in vars(Play())}
    play = replace(PLAYS[arguments.play],
                   **{name: value for name, value in given.items() if value is not None})
    storm(arguments.directory, arguments.connections, play, arguments.seed)


if __name__ == "__main__":
    main()
