# SPDX-License-Identifier: GPL-2.0-or-later
"""WebSockets through nginx, tunnels through a forward proxy, and clients behind a header of the PROXY protocol."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from typing import Tuple

from client_leg import GONE_BY_RESET
from peers import Client, Server, response
from proxy import PROXIED
from stage import Stage, scenario
from truth import Log, closed, reset, timer

WHAT = ("GET /socket/chat", 101)
SWITCH = (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
          b"Connection: Upgrade\r\n\r\n")
RESET = Log("recv() failed (104: Connection reset by peer) while proxying upgraded")
TEXT, CLOSE = 0x81, 0x88


def frame(first: int, payload: bytes, masked: bool) -> bytes:
    """A frame of less than 126 bytes."""
    key = b"\0\0\0\0" if masked else b""
    return bytes([first, len(payload) | (0x80 if masked else 0)]) + key + payload


def upgrade(s: Stage, uri: str = "/socket/chat") -> Tuple[Client, Server]:
    """A WebSocket through nginx, on which each side has said something."""
    client = s.connect()
    client.ask("GET", uri, "Upgrade: websocket", "Connection: Upgrade",
               "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13")
    server = s.upstream(client)
    server.take_request()
    server.send(SWITCH)
    client.read_until(b"\r\n\r\n")
    client.send(frame(TEXT, b"hello", masked=True))
    server.read(11)
    server.send(frame(TEXT, b"welcome", masked=False))
    client.read(9)
    return client, server


@scenario
def socket_idle_is_reset(s: Stage) -> None:
    """The browser is gone between two messages, without a Close frame."""
    client, server = upgrade(s)
    client.reset()
    server.end_four_way()
    s.client_ends(client, reset("client", "after_response", "unknown", (1, 1), WHAT,
                                RESET))
    s.upstream_ends(server, client, closed("four_way", "client", "after_response", "unknown",
                                           (1, 1), WHAT))


@scenario
def socket_message_of_client_is_cut(s: Stage) -> None:
    """Half of a message, which nginx passes on, then RST."""
    client, server = upgrade(s)
    client.send(frame(TEXT, b"x" * 100, masked=True)[:50])
    server.read(50)
    client.reset()
    server.end_four_way()
    s.client_ends(client, reset("client", "during_request", "failed", (1, 1), WHAT,
                                RESET))
    s.upstream_ends(server, client, closed("four_way", "client", "during_request", "failed",
                                           (1, 1), WHAT))


@scenario
def socket_message_of_server_is_cut(s: Stage) -> None:
    """The application dies in the middle of a message."""
    client, server = upgrade(s)
    server.send(frame(TEXT, b"x" * 100, masked=False)[:50])
    client.read(50)
    server.reset()
    client.end_four_way()
    s.client_ends(client, closed("four_way", "server", "during_response", "failed", (1, 1), WHAT))
    s.upstream_ends(server, client, reset("server", "during_response", "failed", (1, 1), WHAT,
                                          RESET))


@scenario
def socket_is_reset_after_close_frames(s: Stage) -> None:
    """Both sides said goodbye; the browser does not wait for FINs."""
    client, server = upgrade(s)
    client.send(frame(CLOSE, b"\x03\xe8", masked=True))
    server.read(8)
    server.send(frame(CLOSE, b"\x03\xe8", masked=False))
    client.read(4)
    client.reset()
    server.end_four_way()
    s.client_ends(client, reset("client", "after_response", "completed", (1, 1), WHAT,
                                RESET))
    s.upstream_ends(server, client, closed("four_way", "client", "after_response", "completed",
                                           (1, 1), WHAT))


@scenario
def socket_is_silent_for_too_long(s: Stage) -> None:
    """nginx's patience ends a WebSocket on which nobody speaks: FIN on both legs."""
    what = ("GET /socket/quiet", 101)
    client, server = upgrade(s, "/socket/quiet")
    server.end_four_way()
    client.end_four_way()
    s.client_ends(client, closed("four_way", "server", "after_response", "unknown", (1, 1), what))
    s.upstream_ends(server, client, closed(
        "four_way", "client", "after_response", "unknown", (1, 1), what,
        timer("upstream timed out (110: Connection timed out) while proxying upgraded")))


# Through a forward proxy

CONNECT = ("CONNECT shop.example.com:443", 200)


@scenario
def tunnel_is_reset_unused(s: Stage) -> None:
    """The tunnel stands, and nothing goes through it."""
    client, proxy = s.through_proxy("shop.example.com:443")
    client.reset()
    s.pause()
    proxy.close()
    s.client_ends(client, reset("client", "before_request", "none", (1, 1), CONNECT))


@scenario
def tunnel_is_reset_in_tls_handshake(s: Stage) -> None:
    """TLS begins in the tunnel, and the proxy loses the other side."""
    hello = ssl.MemoryBIO()
    context = ssl.create_default_context()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="shop").do_handshake()
    client, proxy = s.through_proxy("shop.example.com:443")
    client.send(hello.read())
    proxy.read(100)
    proxy.reset()
    s.pause()
    client.close()
    s.client_ends(client, reset("server", "tls_handshake", "none", (1, 1), CONNECT))


@scenario
def tunnel_is_reset_in_inner_response(s: Stage) -> None:
    """HTTP in the tunnel: the exchange inside is the one that fails."""
    client, proxy = s.through_proxy("shop.example.com:80")
    client.ask("GET", "/inner")
    proxy.read_until(b"\r\n\r\n")
    proxy.send(response(b"half\n", length=10))
    client.read_until(b"half\n")
    proxy.reset()
    s.pause()
    client.close()
    s.client_ends(client, reset("server", "during_response", "failed", (2, 1),
                                ("GET /inner", 200)))


# Behind a load balancer

V1 = b"PROXY TCP4 192.0.2.7 10.77.0.2 56324 81\r\n"
V2 = (b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(">H", 12) + socket.inet_aton("192.0.2.8")
      + socket.inet_aton("10.77.0.2") + struct.pack(">HH", 56324, 81))


@scenario
def proxied_header_is_broken(s: Stage) -> None:
    """Half of a header: nginx does not wait for the rest, and closes."""
    client = s.connect(PROXIED)
    client.send(V1[:20])
    client.end_four_way()
    s.client_ends(client, closed("four_way", "server", "before_request", "none", (0, 0),
                                 (None, None), timer("broken header")))


@scenario
def proxied_client_asks_nothing(s: Stage) -> None:
    """The header of version 2 is all that comes."""
    client = s.connect(PROXIED)
    client.send(V2)
    s.pause()
    client.reset()
    s.client_ends(client, reset(
        "client", "before_request", "none", (0, 0), (None, None),
        Log("recv() failed (104: Connection reset by peer) while waiting for request")))


@scenario
def proxied_client_leaves_in_headers(s: Stage) -> None:
    """A header of version 1, and half of a request."""
    client = s.connect(PROXIED)
    client.send(V1 + b"GET /api/cart HTTP/1.1\r\nHost: shop.example.com\r\nCookie: s=")
    s.pause()
    client.reset()
    s.client_ends(client, reset(
        "client", "during_request", "failed", (1, 0), ("GET /api/cart", None),
        Log("recv() failed (104: Connection reset by peer) while reading client request headers")))


@scenario
def proxied_client_leaves_while_waiting(s: Stage) -> None:
    """nginx names the client of the header by now, and not the load balancer."""
    what = ("GET /api/proxied", None)
    client = s.connect(PROXIED)
    client.send(V2 + client.request("GET", "/api/proxied"))
    server = s.upstream(client)
    server.take_request()
    client.reset()
    server.end_four_way()
    s.client_ends(client, reset("client", "awaiting_response", "failed", (1, 0), what,
                                Log(GONE_BY_RESET)))
    s.upstream_ends(server, client, closed("four_way", "client", "awaiting_response", "failed",
                                           (1, 0), what))
