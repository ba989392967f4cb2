#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A storm: thousands of connections by one client address through one nginx with several
workers, the same few URIs, and resets in every phase on both legs; `wrk` between them.

The truth is by ports, from what rstdiag does not get: nginx's debug lines about connections that
it accepts, and a header that it sends to the upstream. See README.md next to this file.
"""

from __future__ import annotations

import argparse
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
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Generator, List, Optional, Tuple

from network import CLIENT, CLIENT_NET, NGINX_IP, UPSTREAM, UPSTREAM_NET, Capture, Network
from proxy import Nginx
from storm_truth import Recording, tell

WORKERS = 3
PORT, APP_PORT, CLOSED_PORT = 80, 8080, 3128
ADDRESS = f"{CLIENT_NET}.1"
# An upstream address for each use, so that entries name it: alone, kept alive, and a pair of
# which the first fails and the second answers.
ALONE, POOL, FLAKY, SPARE = (f"{UPSTREAM_NET}.{host}" for host in (1, 2, 3, 4))
URIS = ("/pay", "/cart", "/list", "/item")
# Ports that the driver binds, those that requests name for connections that are refused, and
# those that the kernels choose.
CLIENT_PORTS, REFUSED_PORTS, OTHER_PORTS = 2000, 2000, "52000 65000"
# Of the capture, in KiB: a busy machine may not let tcpdump write for a second.
BUFFER = 262_144
# Connections and upstreams that are silent for this long have been forgotten.
PATIENCE = 20.0


def configuration(home: Path) -> str:
    """nginx.conf. The debug lines are the truth's; `error.log` is what any user has."""
    temporary = "\n".join(f"  {kind}_temp_path {home}/temp-{kind};"
                          for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""
user root;
daemon off;
pid {home}/nginx.pid;
error_log {home}/error.log info;
error_log {home}/debug.log debug_event;
worker_processes {WORKERS};
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  log_format lab '$connection $remote_addr [$time_local] $msec "$request" $status '
                 '$body_bytes_sent $request_time "$upstream_addr"';
  access_log {home}/access.json lab;
{temporary}
  default_type text/plain;
  keepalive_timeout 30s;
  upstream alone {{ server {ALONE}:{APP_PORT} max_fails=0; }}
  upstream pool {{ server {POOL}:{APP_PORT} max_fails=0; keepalive 16; }}
  upstream closed {{ server {ALONE}:{CLOSED_PORT} max_fails=0; }}
  upstream retry {{
    server {FLAKY}:{APP_PORT} max_fails=0;
    server {SPARE}:{APP_PORT} max_fails=0;
  }}
  map $http_x_bind $bind {{ "" ""; default {NGINX_IP}:$http_x_bind; }}
  server {{
    listen {NGINX_IP}:{PORT} backlog=4096;
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
        """None, one or two exchanges that go well, before the one that the story is about."""
        story = self.uri, self.group, self.mode
        for _ in range(self.rng.choice((0, 0, 0, 1, 2))):
            self.uri, self.group, self.mode = self.rng.choice(URIS), "pool", "ok"
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


def visit(story: Story, number: int, rng: random.Random) -> Task:
    """One connection, from its SYN to its end."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind((ADDRESS, CLIENT_PORTS + number))
    with sock:
        sock.connect_ex((NGINX_IP, PORT))
        yield sock, WRITE
        yield from story.play(Visit(sock, rng.choice(URIS), story.group, story.mode,
                                    REFUSED_PORTS + number, rng))


def drive(connections: int, rate: float, seed: int) -> Dict[int, str]:
    """Makes the connections; returns the name of each one's story by its client's port."""
    loop, rng = Loop(), random.Random(seed)
    stories = rng.choices(STORIES, [story.share for story in STORIES], k=connections)
    at = time.monotonic()
    for number, story in enumerate(stories):
        at += rng.expovariate(rate)
        loop.spawn(visit(story, number, rng), at)
    loop.run()
    return {CLIENT_PORTS + number: story.name for number, story in enumerate(stories)}


def normal_traffic(network: Network, seconds: float) -> List[subprocess.Popen[bytes]]:
    """wrk, from the same address, kept alive and not."""
    def wrk(*more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            network.command(CLIENT, "wrk", "-t1", "-c6", f"-d{max(1, round(seconds))}s",
                            "-H", "Host: shop.example.com", "-H", "X-Mode: slow", *more,
                            f"http://{NGINX_IP}{URIS[0]}"),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return [wrk("-H", "X-Group: pool"), wrk("-H", "X-Group: alone", "-H", "Connection: close")]


def storm(directory: Path, connections: int, rate: float, seed: int) -> None:
    """Records a storm and its truth."""
    recording = Recording(directory / "storm.pcap", directory / "error.log")
    with tempfile.TemporaryDirectory(prefix="rstdiag-storm-") as name, Network() as network:
        home = Path(name)
        for host in (CLIENT, "nginx", UPSTREAM):
            network.set(host, "net/ipv4/ip_local_port_range", f'"{OTHER_PORTS}"')
            network.set(host, "net/core/somaxconn", "4096")
        with network.tcp_socket(UPSTREAM) as listener:
            listener.setblocking(False)
            listener.bind(("", APP_PORT))
            listener.listen(4096)
            child = os.fork()
            if not child:
                try:
                    upstream(listener)
                finally:
                    os._exit(1)
        try:
            with Nginx(network, home, config=configuration) as nginx:
                with Capture(network, recording.capture, buffer=BUFFER) as capture:
                    nginx.forget_start()
                    (home / "debug.log").write_bytes(b"")
                    normal = normal_traffic(network, connections / rate)
                    with network.inside(CLIENT):
                        stories = drive(connections, rate, seed)
                    for process in normal:
                        process.wait()
                    time.sleep(0.5)  # the last packets, and what nginx says about them
                    capture.stop()
                recording.error_log.write_bytes(nginx.error_log())
                (directory / "access.log").write_bytes(nginx.access_log())
                debug = (home / "debug.log").read_bytes()
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    binds = {port: port - CLIENT_PORTS + REFUSED_PORTS for port in stories}
    truth = tell(recording, debug, stories, binds)
    (directory / "truth.json").write_text(json.dumps(truth) + "\n", encoding="utf-8")
    print(f"{len(truth['streams'])} streams, {len(truth['entries'])} entries, "
          f"{truth['resets_per_second']:.0f} resets a second")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("directory", type=Path, metavar="OUTDIR")
    parser.add_argument("--connections", type=int, default=24_000)
    parser.add_argument("--rate", type=float, default=700, help="connections a second")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if os.geteuid():
        sys.exit("the lab needs root: it makes network namespaces")
    arguments.directory.mkdir(parents=True, exist_ok=True)
    # A plain kill cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    storm(arguments.directory, arguments.connections, arguments.rate, arguments.seed)


if __name__ == "__main__":
    main()
