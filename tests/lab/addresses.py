#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The seventh lab: clients that nginx knows by another address than the capture does.

    addresses.py OUTDIR      needs root, nginx, tcpdump, openssl, nft

A router stands between clients and nginx. Some clients it translates, as the bridge of a
container's network does: nginx sees them all under the router's address. Some ask as proxies do,
for clients that a header names, and nginx takes those for its clients. Some come as they are.

Writes OUTDIR/capture.pcap, taken at the clients, before the translation, error.log, and
truth.json: for each line of the log its number, how its connection came to nginx, what became of
it, and the client's end of it as the capture shows it. Connections are opened in batches and ended
one by one, each when nginx has written its line about the one before; so a line that appears is
about the one that was ended.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

from network import CLIENT, Capture, settle
from proxy import Nginx, error_lines
from routed import CLIENT_NET, ROUTER, SERVER, SERVER_NET, SERVICE_NET, RoutedNetwork

NGINX, SERVICE = f"{SERVER_NET}.250", f"{SERVICE_NET}.250"
PLAIN, FORWARDED = 80, 81
# The router's own address on nginx's side.
BRIDGE = "10.78.102.254"
# By how a connection comes to nginx: the addresses of its clients.
ADDRESSES = {
    "translated": [f"{CLIENT_NET}.{n}" for n in range(1, 13)],
    "forwarded": [f"{CLIENT_NET}.{n}" for n in range(200, 203)],
    "direct": [f"{CLIENT_NET}.{n}" for n in range(129, 133)],
}
BATCHES, BATCH, PAGES = 14, 12, 4

_RULES = f"""
add element ip lab tracked {{ {", ".join(ADDRESSES["translated"])}, {BRIDGE} }}
add element ip lab services {{ {SERVICE} : {NGINX} }}
table ip translation {{
    chain disguise {{
        type nat hook postrouting priority srcnat;
        ip saddr {CLIENT_NET}.0/25 oifname "port-server" masquerade
    }}
}}
"""


def configuration(home: Path) -> str:
    """nginx.conf: a download that takes long, and an answer that does not."""
    temporary = "\n".join(f"  {kind}_temp_path {home}/temp-{kind};"
                          for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    locations = f"""
    location /slow/ {{ alias {home}/files/; limit_rate 10k; }}
    location / {{ return 200 "ok\\n"; }}"""
    return f"""
user root; daemon off; pid {home}/nginx.pid;
error_log {home}/error.log info;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off;
{temporary}
  default_type text/plain;
  keepalive_timeout 30s;
  server {{ listen {PLAIN}; {locations} }}
  server {{
    listen {FORWARDED};
    set_real_ip_from {CLIENT_NET}.0/24; set_real_ip_from 203.0.113.0/24;
    real_ip_header X-Forwarded-For; real_ip_recursive on;
    {locations}
  }}
}}
"""


class TranslatingNetwork(RoutedNetwork):
    """The router hides some clients behind its own address."""

    def _build(self) -> None:
        super()._build()
        subprocess.run(self.command(ROUTER, "nft", "-f", "-"), input=_RULES.encode(), check=True)


# ---- Connections --------------------------------------------------------------------------------

@dataclass
class Client:
    """A connection, how it comes to nginx, and the header field that it sends."""

    sock: socket.socket
    way: str
    header: str

    @property
    def end(self) -> str:
        """Its end, before any translation."""
        host, port = self.sock.getsockname()
        return f"{host}:{port}"

    def ask(self, uri: str) -> None:
        """A request."""
        self.sock.sendall(f"GET {uri} HTTP/1.1\r\nHost: shop\r\n{self.header}\r\n".encode())

    def reset(self) -> None:
        """RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def connect(network: RoutedNetwork, way: str, chance: random.Random) -> Client:
    """A client that comes to nginx in this way."""
    sock = network.tcp_socket(CLIENT)
    sock.settimeout(10)
    sock.bind((chance.choice(ADDRESSES[way]), 0))
    sock.connect((SERVICE if way == "translated" else NGINX,
                  FORWARDED if way == "forwarded" else PLAIN))
    header = ""
    if way == "forwarded":
        chain = [f"192.0.2.{chance.randrange(1, 250)}"] + ["203.0.113.7"] * chance.randrange(2)
        header = f"X-Forwarded-For: {', '.join(chain)}\r\n"
    return Client(sock, way, header)


# What is done before any connection of the batch is ended, how this one is, and whether nginx is
# at a whole request then: else its line bears the address of its peer, and no request and host.
Story = Tuple[Callable[[Client, str], None], Callable[[Client], None], bool]


def _download(client: Client, uri: str) -> None:
    client.ask(uri)
    client.sock.recv(100)


def _answered(client: Client, _: str) -> None:
    client.ask("/small")
    client.sock.recv(1000)


def _half(client: Client, uri: str) -> None:
    client.sock.sendall(f"GET {uri} HTTP/1.1\r\nHost: sh".encode())


def _close(client: Client) -> None:
    client.sock.shutdown(socket.SHUT_WR)


STORIES: Dict[str, Story] = {
    "reset_in_download": (_download, Client.reset, True),
    "close_in_download": (_download, _close, True),
    "reset_idle": (_answered, Client.reset, False),
    "reset_in_head": (_half, Client.reset, False),
    "reset_before_request": (lambda client, uri: None, Client.reset, False),
}
# How often each of them is told.
SHARES = (5, 3, 1, 1, 1)


# ---- Recording ----------------------------------------------------------------------------------

class Log:
    """The error log, line by line."""

    def __init__(self, nginx: Nginx) -> None:
        self._nginx = nginx
        self._taken = 0

    def next(self, story: str) -> Tuple[int, str]:
        """Number and text of the line about the connection that was just ended."""
        for _ in range(1000):
            lines = error_lines(self._nginx.error_log())[self._taken:]
            if len(lines) > 1:
                raise RuntimeError(f"{story}: one line was expected, not {lines}")
            if lines:
                self._taken += 1
                return self._taken, lines[0]
            time.sleep(0.002)
        raise RuntimeError(f"{story}: nginx did not log it")


def named_client(line: str) -> Optional[str]:
    """The client that a line names."""
    found = re.search(r"(?:, client: |: \*\d+ client )([0-9.]+)", line)
    return found[1] if found else None


def expected_client(client: Client, whole: bool) -> str:
    """The address by which nginx knows a client."""
    if client.way == "translated":
        return BRIDGE
    if client.way == "forwarded" and whole:
        return re.findall(r"192\.0\.2\.\d+", client.header)[0]
    return client.end.split(":")[0]


def record(target: Path, home: Path, ways: List[str], seed: int) -> None:
    """Opens and ends connections, batch by batch."""
    chance = random.Random(seed)
    truth: List[Dict[str, object]] = []
    with TranslatingNetwork() as network, \
            Nginx(network, home, SERVER, NGINX, configuration) as nginx:
        settle(0.2)  # what it writes about the connection by which it was tried
        nginx.forget_start()
        log = Log(nginx)
        with Capture(network, target / "capture.pcap", CLIENT, NGINX) as capture:
            left: List[Client] = []
            for _ in range(BATCHES):
                batch = []
                for _ in range(BATCH):
                    way = chance.choice(ways)
                    story = chance.choices(list(STORIES), SHARES)[0]
                    client = connect(network, way, chance)
                    STORIES[story][0](client, f"/slow/catalog.txt?page={chance.randrange(PAGES)}")
                    batch.append((client, story))
                # What was sent last is read before anything is ended.
                settle(0.02)
                chance.shuffle(batch)
                for client, story in batch:
                    _, end, whole = STORIES[story]
                    shown = client.end
                    expected = expected_client(client, whole)
                    end(client)
                    left.append(client)
                    number, line = log.next(story)
                    if named_client(line) != expected:
                        raise RuntimeError(f"{story}, {client.way}: not {expected}: {line}")
                    truth.append({"line": number, "way": client.way, "story": story,
                                  "whole": whole, "client": shown})
            settle(0.3)
            capture.stop()
            for client in left:
                client.sock.close()
        (target / "error.log").write_bytes(nginx.error_log())
    (target / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directory", type=Path, metavar="OUTDIR")
    parser.add_argument("--ways", nargs="+", choices=sorted(ADDRESSES), metavar="WAY",
                        default=["translated", "translated", "forwarded", "direct"],
                        help="how clients come, each as often as it is named")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 100_000)
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    print(f"seed {arguments.seed}")
    with tempfile.TemporaryDirectory(prefix="rstdiag-addresses-") as home:
        Path(home).chmod(0o755)
        record(arguments.directory, Path(home), arguments.ways, arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
