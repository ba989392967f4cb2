# SPDX-License-Identifier: GPL-2.0-or-later
"""What upstreams that speak no HTTP/1 do to nginx: FastCGI, uwsgi, SCGI and gRPC, each of which
the scenario answers byte for byte."""

from __future__ import annotations

import struct
import time
from typing import Callable, Dict, Tuple

from client_leg import KEEPALIVE_LEFT, What
from peers import Client, Server
from proxy import APP, CLOSED_PORT, FASTCGI_POOLS, GRPC_POOLS, pool_address
from stage import Stage, scenario
from truth import Log, closed, reset
from upstream_leg import (HEADER_CLOSED, HEADER_RESET, REFUSED, cut_short, leaves_promptly,
                          leaves_with)

HEAD = b"Status: 200 OK\r\nContent-Type: text/plain\r\n"
BODY_RESET = "recv() failed (104: Connection reset by peer) while reading upstream"

# FastCGI

END, STDIN, STDOUT, STDERR = 3, 5, 6, 7


def record(kind: int, content: bytes = b"", padding: int = 0) -> bytes:
    """One record of the request 1."""
    return struct.pack("!BBHHBx", 1, kind, 1, len(content), padding) + content + bytes(padding)


def fastcgi_answer(body: bytes = b"ok\n") -> bytes:
    """A whole answer."""
    return (record(STDOUT, HEAD + b"\r\n" + body, 5) + record(STDOUT) + record(END, bytes(8)))


def take_fastcgi(server: Server) -> None:
    """Reads a request to its end."""
    kind, length = 0, 1
    while (kind, length) != (STDIN, 0):
        _, kind, _, length, padding = struct.unpack("!BBHHBx", server.read(8))
        if length + padding:
            server.read(length + padding)


@scenario
def fastcgi_refuses(s: Stage) -> None:
    """Nobody listens there."""
    client = s.connect()
    port = s.bind_port()
    opened = time.time()
    client.ask("GET", "/fastcgi/refused/a", f"X-Bind: {port}")
    client.response()
    leaves_with(s, client, ("GET /fastcgi/refused/a", 502))
    s.unaccepted_ends((APP, CLOSED_PORT), port, client, opened,
                      reset("server", "handshake", "none", (0, 0), (None, None), REFUSED))


@scenario
def fastcgi_resets_while_waited_for(s: Stage) -> None:
    """The application died over the request: RST, and 502."""
    client = s.connect()
    client.ask("GET", "/fastcgi/report?y=1")
    server = s.upstream(client)
    take_fastcgi(server)
    server.reset()
    client.response()
    leaves_with(s, client, ("GET /fastcgi/report?y=1", 502))
    s.upstream_ends(server, client, reset("server", "awaiting_response", "failed", (1, 0),
                                          ("GET /fastcgi/report?y=1", None), Log(HEADER_RESET)))


@scenario
def fastcgi_closes_before_answer(s: Stage) -> None:
    """The application died over the request: FIN, and 502."""
    client = s.connect()
    client.ask("POST", "/fastcgi/orders", body=b"tea=2")
    server = s.upstream(client)
    take_fastcgi(server)
    server.close()
    client.response()
    leaves_with(s, client, ("POST /fastcgi/orders", 502))
    s.upstream_ends(server, client, closed(
        "three_way", "server", "awaiting_response", "failed", (1, 0),
        ("POST /fastcgi/orders", None), Log(HEADER_CLOSED), unasserted=("close",)))


@scenario
def fastcgi_closes_with_request_unread(s: Stage) -> None:
    """close() without having read the request: the kernel makes it a RST."""
    client = s.connect()
    client.ask("POST", "/fastcgi/orders", body=b"tea=3")
    server = s.upstream(client)
    s.pause()
    server.close()
    client.response()
    leaves_with(s, client, ("POST /fastcgi/orders", 502))
    s.upstream_ends(server, client, reset("server", "awaiting_response", "failed", (1, 0),
                                          ("POST /fastcgi/orders", None), Log(HEADER_RESET)))


@scenario
def fastcgi_complains_and_resets(s: Stage) -> None:
    """What it writes to STDERR, line by line, is no answer."""
    client = s.connect()
    client.ask("GET", "/fastcgi/broken")
    server = s.upstream(client)
    take_fastcgi(server)
    server.send(record(STDERR, b"PHP message: PHP Fatal error:  no tea\nStack trace:\n#0 {main}"))
    s.pause()
    server.reset()
    client.response()
    leaves_with(s, client, ("GET /fastcgi/broken", 502))
    s.remark(client, Log("FastCGI sent in stderr", packet=False), leg="upstream")
    s.upstream_ends(server, client, reset("server", "awaiting_response", "failed", (1, 0),
                                          ("GET /fastcgi/broken", None), Log(HEADER_RESET)))


@scenario
def fastcgi_resets_in_header(s: Stage) -> None:
    """Half a header, then RST: 502."""
    client = s.connect()
    client.ask("GET", "/fastcgi/stock")
    server = s.upstream(client)
    take_fastcgi(server)
    server.send(record(STDOUT, HEAD, 3))
    s.pause()
    server.reset()
    client.response()
    leaves_with(s, client, ("GET /fastcgi/stock", 502))
    s.upstream_ends(server, client, reset("server", "during_response", "failed", (1, 0),
                                          ("GET /fastcgi/stock", None), Log(HEADER_RESET)))


@scenario
def fastcgi_resets_in_body(s: Stage) -> None:
    """Half a body, then RST."""
    what = ("GET /fastcgi/catalog", 200)
    client = s.connect()
    client.ask("GET", "/fastcgi/catalog")
    server = s.upstream(client)
    take_fastcgi(server)
    server.send(record(STDOUT, HEAD + b"Content-Length: 10\r\n\r\nhalf\n"))
    client.read_until(b"half\n")
    server.reset()
    cut_short(s, client, what)
    s.upstream_ends(server, client, reset("server", "during_response", "failed", (1, 0), what,
                                          Log(BODY_RESET)))


@scenario
def fastcgi_closes_in_body(s: Stage) -> None:
    """FIN without END_REQUEST: nginx takes the answer for whole, and logs nothing."""
    what = ("GET /fastcgi/catalog", 200)
    client = s.connect()
    client.ask("GET", "/fastcgi/catalog")
    server = s.upstream(client)
    take_fastcgi(server)
    server.send(record(STDOUT, HEAD + b"\r\nhalf\n"))
    client.read_until(b"half\n\r\n")
    server.close()
    client.read_until(b"0\r\n\r\n")
    leaves_with(s, client, what)
    s.upstream_ends(server, client, closed("three_way", "server", "during_response", "failed",
                                           (1, 0), what))


@scenario
def fastcgi_answers_and_closes(s: Stage) -> None:
    """As an application does that is asked once per connection."""
    what = ("GET /fastcgi/", 200)
    client = s.connect()
    client.ask("GET", "/fastcgi/")
    server = s.upstream(client)
    take_fastcgi(server)
    server.send_with_fin(fastcgi_answer())
    client.response()
    server.end_three_way()
    leaves_with(s, client, what)
    s.upstream_ends(server, client, closed(
        "three_way", "server", "after_response", "completed", (1, 1), what, piggybacked=True))


@scenario
def fastcgi_idle_connection_is_reset(s: Stage) -> None:
    """RST on a kept connection: nginx logs nothing."""
    number = FASTCGI_POOLS[0]
    what = (f"GET /fastcgi/{number}/a", 200)
    client = s.connect()
    client.ask("GET", f"/fastcgi/{number}/a")
    server = s.upstream(client)
    take_fastcgi(server)
    server.send(fastcgi_answer())
    client.response()
    s.pause()
    server.reset()
    leaves_with(s, client, what)
    s.upstream_ends(server, client, reset("server", "after_response", "completed", (1, 1), what))


@scenario
def fastcgi_connection_is_reset_under_request(s: Stage) -> None:
    """The keep-alive race: the second request meets a RST, and nginx asks again elsewhere."""
    number = FASTCGI_POOLS[1]
    first, second = s.connect(), s.connect(prompt=True)
    first.ask("GET", f"/fastcgi/{number}/a")
    shared = s.upstream(first)
    take_fastcgi(shared)
    shared.send(fastcgi_answer())
    first.response()
    s.pause()
    second.ask("GET", f"/fastcgi/{number}/b")
    take_fastcgi(shared)
    shared.reset()
    again = s.upstream(second)
    take_fastcgi(again)
    again.send(fastcgi_answer())
    second.response()
    s.pause()
    again.close()
    leaves_with(s, first, (f"GET /fastcgi/{number}/a", 200))
    leaves_promptly(s, second, (f"GET /fastcgi/{number}/b", 200))
    s.upstream_ends(shared, second, reset(
        "server", "awaiting_response", "failed", (2, 1), (f"GET /fastcgi/{number}/b", None),
        Log(HEADER_RESET)))
    s.upstream_ends(again, second, closed("three_way", "server", "after_response", "completed",
                                          (1, 1), (f"GET /fastcgi/{number}/b", 200)))


@scenario
def fastcgi_ends_without_answer(s: Stage) -> None:
    """END_REQUEST behind an empty STDOUT: nginx closes."""
    client = s.connect()
    client.ask("GET", "/fastcgi/nothing")
    server = s.upstream(client)
    take_fastcgi(server)
    server.send(record(STDOUT) + record(END, bytes(8)))
    server.end_four_way()
    client.response()
    leaves_with(s, client, ("GET /fastcgi/nothing", 502))
    s.upstream_ends(server, client, closed(
        "four_way", "client", "awaiting_response", "failed", (1, 0),
        ("GET /fastcgi/nothing", None),
        Log("upstream prematurely closed FastCGI stdout", packet=False)))


# uwsgi and SCGI, whose answers are the same


def take_uwsgi(server: Server) -> None:
    """Reads the variables, and none of a body."""
    _, length, _ = struct.unpack("<BHB", server.read(4))
    server.read(length)


def take_scgi(server: Server) -> None:
    """Reads the variables, and none of a body."""
    server.read(int(server.read_until(b":")[:-1]) + 1)


GATEWAYS: Dict[str, Callable[[Server], None]] = {"uwsgi": take_uwsgi, "scgi": take_scgi}


def resets_while_waited_for(s: Stage, name: str) -> None:
    """RST after the request was read: 502."""
    client = s.connect()
    client.ask("GET", f"/{name}/report?y=1")
    server = s.upstream(client)
    GATEWAYS[name](server)
    server.reset()
    client.response()
    leaves_with(s, client, (f"GET /{name}/report?y=1", 502))
    s.upstream_ends(server, client, reset(
        "server", "awaiting_response", "failed", (1, 0), (f"GET /{name}/report?y=1", None),
        Log(HEADER_RESET)))


def closes_with_body_unread(s: Stage, name: str) -> None:
    """close() without having read the body: the kernel makes it a RST."""
    client = s.connect()
    client.ask("POST", f"/{name}/orders", body=b"tea=3")
    server = s.upstream(client)
    GATEWAYS[name](server)
    s.pause()
    server.close()
    client.response()
    leaves_with(s, client, (f"POST /{name}/orders", 502))
    s.upstream_ends(server, client, reset(
        "server", "awaiting_response", "failed", (1, 0), (f"POST /{name}/orders", None),
        Log(HEADER_RESET)))


def closes_in_header(s: Stage, name: str) -> None:
    """Half a header, then FIN: 502."""
    client = s.connect()
    client.ask("GET", f"/{name}/stock")
    server = s.upstream(client)
    GATEWAYS[name](server)
    server.send(HEAD)
    s.pause()
    server.close()
    client.response()
    leaves_with(s, client, (f"GET /{name}/stock", 502))
    s.upstream_ends(server, client, closed(
        "three_way", "server", "during_response", "failed", (1, 0), (f"GET /{name}/stock", None),
        Log(HEADER_CLOSED)))


def resets_in_body(s: Stage, name: str) -> None:
    """Half a body of a length that was told, then RST."""
    what = (f"GET /{name}/catalog", 200)
    client = s.connect()
    client.ask("GET", f"/{name}/catalog")
    server = s.upstream(client)
    GATEWAYS[name](server)
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf\n")
    client.read_until(b"half\n")
    server.reset()
    cut_short(s, client, what)
    s.upstream_ends(server, client, reset("server", "during_response", "failed", (1, 0), what,
                                          Log(BODY_RESET)))


def answers_until_close(s: Stage, name: str) -> None:
    """The FIN is the end of the answer."""
    what = (f"GET /{name}/", 200)
    client = s.connect()
    client.ask("GET", f"/{name}/")
    server = s.upstream(client)
    GATEWAYS[name](server)
    server.send(HEAD + b"\r\nok\n")
    s.pause()
    server.close()
    client.response()
    leaves_with(s, client, what)
    s.upstream_ends(server, client, closed("three_way", "server", "during_response", "completed",
                                           (1, 1), what, unasserted=("stage",)))


def _gateway_scenarios() -> None:
    for name in GATEWAYS:
        for play in (resets_while_waited_for, closes_with_body_unread, closes_in_header,
                     resets_in_body, answers_until_close):
            def one(s: Stage, play: Callable[[Stage, str], None] = play,
                    name: str = name) -> None:
                play(s, name)
            one.__name__ = f"{name}_{play.__name__}"
            scenario(one)


_gateway_scenarios()


# gRPC: HTTP/2 with prior knowledge

DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
INTERNAL_ERROR = 2


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header that no table holds (RFC 7541, section 6.2.2)."""
    return bytes((0, len(name))) + name + bytes((len(value),)) + value


STATUS_200 = b"\x88"
GRPC_HEAD = STATUS_200 + literal(b"content-type", b"application/grpc")
GRPC_STATUS = literal(b"grpc-status", b"0")
GRPC_MESSAGE = b"\0\0\0\0\x03tea"


def take_grpc(server: Server, first: bool = True) -> int:
    """Reads a call to its end, tells its stream. The first one comes with the preface."""
    if first:
        server.read(len(PREFACE))
        server.send(frame(SETTINGS, 0, 0))
    while True:
        head = server.read(9)
        kind, flags, stream = struct.unpack("!BBI", head[3:])
        if length := int.from_bytes(head[:3], "big"):
            server.read(length)
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            return stream


def grpc_answer(stream: int) -> bytes:
    """A unary answer: header, message, trailers."""
    return (frame(HEADERS, END_HEADERS, stream, GRPC_HEAD)
            + frame(DATA, 0, stream, GRPC_MESSAGE)
            + frame(HEADERS, END_HEADERS | END_STREAM, stream, GRPC_STATUS))


def call(s: Stage, number: int, method: str = "tea.Tea/Pour") -> Tuple[Client, str, Server]:
    """A call through one of the locations, and the connection that nginx opens for it."""
    client = s.connect()
    uri = f"/grpc/{number}/{method}"
    client.ask("POST", uri, "Content-Type: application/grpc", body=GRPC_MESSAGE)
    return client, f"POST {uri}", s.upstream_at(pool_address(number))


# Texts of HTTP/2 are compressed, so they are another test's.
COMPRESSED = ("request", "status")


@scenario
def grpc_resets_while_waited_for(s: Stage) -> None:
    """RST before the answer: 502."""
    client, what, server = call(s, GRPC_POOLS[0])
    take_grpc(server)
    s.pause()
    server.reset()
    client.response()
    leaves_with(s, client, (what, 502))
    s.upstream_ends(server, client, reset(
        "server", "awaiting_response", "failed", (1, 0), (what, None), Log(HEADER_RESET),
        unasserted=COMPRESSED))


@scenario
def grpc_resets_in_stream(s: Stage) -> None:
    """A stream of messages, and a RST instead of the trailers."""
    client, what, server = call(s, GRPC_POOLS[1])
    stream = take_grpc(server)
    server.send(frame(HEADERS, END_HEADERS, stream, GRPC_HEAD))
    server.send(frame(DATA, 0, stream, GRPC_MESSAGE))
    client.read_until(b"tea")
    s.pause()  # nginx may yet have to write what it thinks of the message
    server.reset()
    cut_short(s, client, (what, 200))
    s.upstream_ends(server, client, reset(
        "server", "during_response", "failed", (1, 0), (what, 200), Log(BODY_RESET),
        unasserted=COMPRESSED))


@scenario
def grpc_idle_connection_is_reset(s: Stage) -> None:
    """A unary call, and a RST on the connection that nginx keeps."""
    client, what, server = call(s, GRPC_POOLS[2])
    server.send(grpc_answer(take_grpc(server)))
    client.response()
    s.pause()
    server.reset()
    leaves_with(s, client, (what, 200))
    s.upstream_ends(server, client, reset("server", "after_response", "completed", (1, 1),
                                          (what, 200), unasserted=COMPRESSED))


@scenario
def grpc_connection_is_reset_under_second_call(s: Stage) -> None:
    """Two calls on one connection: the second one meets a RST, and nginx asks
    nobody else, as calls are no GETs."""
    number = GRPC_POOLS[3]
    client, _, server = call(s, number)
    server.send(grpc_answer(take_grpc(server)))
    client.response()
    s.pause()
    client.ask("POST", f"/grpc/{number}/tea.Tea/Drink", "Content-Type: application/grpc",
               body=GRPC_MESSAGE)
    take_grpc(server, first=False)
    s.pause()
    server.reset()
    client.response()
    what = f"POST /grpc/{number}/tea.Tea/Drink"
    leaves_twice(s, client, (what, 502))
    s.upstream_ends(server, client, reset(
        "server", "awaiting_response", "failed", (2, 1), (what, None), Log(HEADER_RESET),
        unasserted=COMPRESSED))


def leaves_twice(s: Stage, client: Client, what: What) -> None:
    """As `leaves_with`, of a client that asked twice."""
    client.close()
    s.client_ends(client, closed("three_way", "client", "after_response", "completed", (2, 2),
                                 what, KEEPALIVE_LEFT))


@scenario
def grpc_rejects_call(s: Stage) -> None:
    """RST_STREAM is no RST: nginx closes the connection."""
    client, what, server = call(s, GRPC_POOLS[4])
    stream = take_grpc(server)
    server.send(frame(RST_STREAM, 0, stream, struct.pack("!I", INTERNAL_ERROR)))
    server.end_four_way()
    client.response()
    leaves_with(s, client, (what, 502))
    s.upstream_ends(server, client, closed(
        "four_way", "client", "after_response", "failed", (1, 0), (None, None),
        Log("upstream rejected request with error 2", packet=False),
        unasserted=("stage", "transaction", *COMPRESSED)))


@scenario
def grpc_says_goodbye(s: Stage) -> None:
    """GOAWAY on a kept connection, which nginx does not read: its close() is a RST."""
    client, what, server = call(s, GRPC_POOLS[5])
    stream = take_grpc(server)
    server.send(grpc_answer(stream))
    client.response()
    s.pause()
    server.send(frame(GOAWAY, 0, 0, struct.pack("!II", stream, 0)))
    try:
        server.drain()
        raise RuntimeError("nginx sent FIN: it was to reset")
    except ConnectionResetError:
        server.close()
    leaves_with(s, client, (what, 200))
    s.upstream_ends(server, client, reset("client", "after_response", "completed", (1, 1),
                                          (what, 200), unasserted=COMPRESSED))


@scenario
def grpc_answers_with_trailers_only(s: Stage) -> None:
    """A call that fails by its trailers is answered all the same."""
    client, what, server = call(s, GRPC_POOLS[6])
    stream = take_grpc(server)
    trailers = GRPC_HEAD + literal(b"grpc-status", b"5")
    server.send_with_fin(frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers))
    client.response()
    server.end_three_way()
    leaves_with(s, client, (what, 200))
    s.upstream_ends(server, client, closed(
        "three_way", "server", "after_response", "completed", (1, 1), (what, 200),
        piggybacked=True, unasserted=(*COMPRESSED, "close")))
