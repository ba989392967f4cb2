#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The tenth lab: clients that write into nginx's log, and into each other's requests.

    forging.py OUTDIR [--level LEVEL]      needs root, nginx, tcpdump, openssl

Clients reset connections, or ask for what their upstream resets. Beside each of them an attacker,
who is taken to know all about it, tells nginx the same of it at that moment: whole lines of the log
through %0A in a path, and the words of the log in Host, Referer and User-Agent; headers that name
its address, in front of the same request, which then ends in the same way.

Writes OUTDIR/capture.pcap, taken at nginx's only port, and error.log, at the level that is nginx's
default. Whose a stream is, its address tells; the attackers' lines bear the process 9#9, and each
request a number of its own, which the attackers' copies have as well.
"""

from __future__ import annotations

import argparse
import itertools
import socket
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Callable, Iterator, List
from urllib.parse import quote

from network import (CLIENT, CLIENT_NET, NGINX, NGINX_IP, UPSTREAM, UPSTREAM_NET, Capture, Network,
                     settle)
from proxy import Nginx

APP = f"{UPSTREAM_NET}.1"
APP_PORT = 8080
ATTACKERS = 100
ROUNDS = 8


def configuration(level: str) -> Callable[[Path], str]:
    """nginx.conf at this log level."""
    def write(home: Path) -> str:
        temporary = "\n".join(f"  {kind}_temp_path {home}/temp-{kind};"
                              for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        return f"""
user root; daemon off; pid {home}/nginx.pid;
error_log {home}/error.log {level};
worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off;
{temporary}
  default_type text/plain;
  server {{
    listen 80;
    root {home}/files;
    set_real_ip_from {CLIENT_NET}.250; real_ip_header X-Forwarded-For;
    location = /small {{ return 200 "ok\\n"; }}
    location /up/ {{ proxy_pass http://{APP}:{APP_PORT}; }}
  }}
}}
"""
    return write


def reset(sock: socket.socket) -> None:
    """RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Application:
    """An upstream that takes a request, and resets those that ask for it."""

    def __init__(self, network: Network) -> None:
        self._sock = network.tcp_socket(UPSTREAM)
        self._sock.bind((APP, APP_PORT))
        self._sock.listen(64)
        self.asked = threading.Semaphore(0)
        self._held: List[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(4096) or b"\r\n\r\n"
            self.asked.release()
            if b"/die" in head.split(b"\r\n")[0]:
                time.sleep(0.05)
                reset(sock)
            else:
                self._held.append(sock)

    def close(self) -> None:
        """The end."""
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        for sock in self._held:
            sock.close()


class Stage:
    """Who is there."""

    def __init__(self, network: Network, application: Application) -> None:
        self._network = network
        self._application = application
        self.attackers = itertools.cycle(range(ATTACKERS, ATTACKERS + 20))

    def connect(self, number: int) -> socket.socket:
        """A client with this address."""
        sock = self._network.tcp_socket(CLIENT)
        sock.settimeout(10)
        sock.bind((f"{CLIENT_NET}.{number}", 0))
        sock.connect((NGINX_IP, 80))
        return sock

    def asks(self, sock: socket.socket, uri: str, headers: str, first: str = "") -> None:
        """A request, which has come to where it goes when this returns."""
        sock.sendall(f"{first}GET {uri} HTTP/1.1\r\nHost: shop\r\n{headers}\r\n".encode())
        if first or not uri.startswith("/up/"):
            sock.recv(4096)
        else:
            self._application.asked.acquire(timeout=10)

    def ends(self, sock: socket.socket, uri: str) -> None:
        """The client's end, or its upstream's."""
        if "/die" in uri:
            sock.recv(4096)
        reset(sock)


def lines(address: str, uri: str) -> Iterator[str]:
    """What an attacker has the log say of a client."""
    now = time.strftime("%Y/%m/%d %H:%M:%S", time.gmtime())
    context = (f'client: {address}, server: , request: "GET {uri} HTTP/1.1", '
               f'upstream: "http://{APP}:{APP_PORT}{uri}", host: "shop"')
    lost = "(104: Connection reset by peer)"
    if uri == "/small":
        yield f"{now} [info] 9#9: *4242 client {address} closed keepalive connection {lost}"
    elif "/die" in uri:
        yield (f"{now} [error] 9#9: *4243 recv() failed {lost} while reading response header from "
               f"upstream, {context}")
    else:
        yield (f"{now} [info] 9#9: *4244 epoll_wait() reported that client prematurely closed "
               f"connection, so upstream connection is closed too {lost} while sending request "
               f"to upstream, {context}")


def paths(line: str) -> List[str]:
    """Paths that bring a line into the log."""
    now = line[:19]
    whole = ('" failed (2: No such file or directory), client: 9.9.9.9, server: , '
             'request: "GET / HTTP/1.1", host: "shop"')
    opens = f'{now} [error] 9#9: *5 open() "/y'
    return [f"/x\n{line}\n", f"/x{whole}\n{line}\n", f"/x{whole}\n{line}\n{opens}",
            f"/x\n{line}", f"/x\nnginx-1  | {line}\n{line}\nz", f"/x\n{line}\n{'y' * 900}",
            f"/x\n{now} [info] 9#9: *6 x\n{line}\n{now} [info] 9#9: *6 recv() failed"]


def headers(address: str, line: str) -> List[str]:
    """Headers that name a client, or speak as the log does."""
    words = line[line.index("client"):]
    return [f"X-Forwarded-For: {address}\r\n", f"X-Real-IP: {address}\r\n",
            f"CF-Connecting-IP: {address}, {address}\r\n", f"Forwarded: for={address}\r\n",
            f'Referer: http://r/", {words}\r\n', f'User-Agent: x", {words}\r\n',
            f'X-Request-ID: {words[:20]}\r\nReferer: http://r/"\r\n']


def play(stage: Stage) -> None:
    """Every client and every attack."""
    number = 0
    for turn in range(ROUNDS):
        for uri in ("/small", "/up/slow", "/up/die"):
            number += 1
            uri = uri if uri == "/small" else f"{uri}?n={number}"
            victim = stage.connect(number)
            address = f"{CLIENT_NET}.{number}"
            stage.asks(victim, uri, "")
            line = next(lines(address, uri))
            attacks = [(uri, name, "") for name in headers(address, line)]
            attacks.append((uri, "", f"PROXY TCP4 {address} {NGINX_IP} 4711 80\r\n"))
            attacks += [(quote(path), "", "") for path in paths(line)]
            attacker = stage.connect(next(stage.attackers))
            attack = attacks[(number + turn) % len(attacks)]
            stage.asks(attacker, *attack)
            forger = stage.connect(next(stage.attackers))
            stage.asks(forger, quote(paths(line)[number % len(paths(line))]), "")
            stage.ends(victim, uri)
            if attack[2] or attack[0] != uri:
                reset(attacker)
            else:
                stage.ends(attacker, uri)
            forger.close()
        settle(0.3)


def record(target: Path, home: Path, level: str) -> None:
    """Plays everything, and keeps what was captured and logged."""
    with Network() as network:
        application = Application(network)
        with Nginx(network, home, NGINX, NGINX_IP, configuration(level)) as nginx:
            settle(0.2)  # what it writes about the connection by which it was tried
            nginx.forget_start()
            with Capture(network, target / "capture.pcap") as capture:
                play(Stage(network, application))
                settle(0.3)
                capture.stop()
            (target / "error.log").write_bytes(nginx.error_log())
        application.close()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directory", type=Path, metavar="OUTDIR")
    parser.add_argument("--level", default="error", choices=("error", "info"))
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rstdiag-forging-") as home:
        Path(home).chmod(0o755)
        record(arguments.directory, Path(home), arguments.level)


if __name__ == "__main__":
    sys.exit(main())
