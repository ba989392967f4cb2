# SPDX-License-Identifier: GPL-2.0-or-later
"""What upstreams do to nginx, phase by phase, and what its clients see of it."""

from __future__ import annotations

import time

from client_leg import KEEPALIVE_LEFT, What, serve, served
from peers import Client
from proxy import APP, APP_PORT, BLACK_HOLE, CLOSED_PORT
from stage import Stage, sample_scenario, scenario
from truth import Log, closed, reset, still_open, timer

REFUSED = Log("connect() failed (111: Connection refused) while connecting to upstream")
HEADER_RESET = "recv() failed (104: Connection reset by peer) while reading response header"
HEADER_CLOSED = "upstream prematurely closed connection while reading response header"
BODY_CLOSED = "upstream prematurely closed connection while reading upstream"


def leaves_with(s: Stage, client: Client, what: What) -> None:
    """The client has read nginx's answer, whichever it was, and closes its idle connection. A busy
    nginx may take longer to do so than its kernel delays the ACK, and how it closes is not the point.
    """
    client.close()
    s.client_ends(client, closed("three_way", "client", "after_response", "completed", (1, 1),
                                 what, KEEPALIVE_LEFT, unasserted=("close",)))


def leaves_promptly(s: Stage, client: Client, what: What) -> None:
    """As `leaves_with`, of a client towards which nginx's kernel does not delay ACKs."""
    client.close()
    s.client_ends(client, closed("four_way", "client", "after_response", "completed", (1, 1),
                                 what, KEEPALIVE_LEFT))


def cut_short(s: Stage, client: Client, what: What, flushed: bool = False) -> None:
    """nginx ended an answer early: FIN where more was promised. The client closes after it.

    Where nginx still flushes what it had buffered, its FIN may ride on that."""
    client.end_four_way()
    s.client_ends(client, closed(
        "four_way", "server", "during_response", "failed", (1, 0), what,
        piggybacked=None if flushed else False,
        unasserted=("piggybacked",) if flushed else ()))


# Connecting


@sample_scenario
def upstream_refuses(s: Stage) -> None:
    """Nobody listens there: 502."""
    client = s.connect()
    port = s.bind_port()
    opened = time.time()
    client.ask("GET", "/legacy/invoices", f"X-Bind: {port}")
    client.response()
    leaves_with(s, client, ("GET /legacy/invoices", 502))
    s.unaccepted_ends((APP, CLOSED_PORT), port, client, opened,
                      reset("server", "handshake", "none", (0, 0), (None, None), REFUSED))


@scenario
def upstream_refuses_two_clients(s: Stage) -> None:
    """The same for two clients at once: the entries differ in nothing but number and address."""
    clients = [s.connect(), s.connect(prompt=True)]
    opened = time.time()
    for nth, client in enumerate(clients):
        client.ask("GET", "/legacy/invoices", f"X-Bind: {s.bind_port(nth)}")
    for nth, client in enumerate(clients):
        client.response()
        client.close()
        s.client_ends(client, closed("four_way" if nth else "three_way", "client",
                                     "after_response", "completed", (1, 1),
                                     ("GET /legacy/invoices", 502), KEEPALIVE_LEFT))
        s.unaccepted_ends((APP, CLOSED_PORT), s.bind_port(nth), client, opened,
                          reset("server", "handshake", "none", (0, 0), (None, None), REFUSED))


@scenario
def upstream_does_not_answer_syn(s: Stage) -> None:
    """A black hole: 504 after a second, and never more than SYNs on the wire."""
    client = s.connect()
    port = s.bind_port()
    opened = time.time()
    client.ask("GET", "/void/status", f"X-Bind: {port}")
    client.response()
    leaves_with(s, client, ("GET /void/status", 504))
    s.unaccepted_ends(
        (BLACK_HOLE, APP_PORT), port, client, opened,
        still_open("handshake", "none", (0, 0), (None, None),
                   timer("upstream timed out (110: Connection timed out) "
                         "while connecting to upstream")))


@scenario
def no_upstream_alive(s: Stage) -> None:
    """502 without a single packet towards an upstream."""
    client = s.connect()
    client.ask("GET", "/down/status")
    client.response()
    leaves_with(s, client, ("GET /down/status", 502))
    s.remark(client, Log("no live upstreams while connecting to upstream", packet=False),
             leg="upstream")


# During the request


@scenario
def upstream_resets_in_request(s: Stage) -> None:
    """The upstream aborts an upload that nginx passes on. nginx answers 502 before the body is
    complete and lingers behind its FIN."""
    client = s.connect()
    client.send(client.request("POST", "/upload/film.mp4", body=b"x" * 2000, length=5000))
    server = s.upstream(client)
    server.read_until(b"x" * 2000)
    server.reset()
    client.response()
    client.end_four_way()
    s.client_ends(client, closed("four_way", "server", "after_response", "completed", (1, 1),
                                 ("POST /upload/film.mp4", 502)))
    s.upstream_ends(server, client, reset("server", "during_request", "failed", (1, 0),
                                          ("POST /upload/film.mp4", None), Log(HEADER_RESET)))


# Before the first byte of the answer


@sample_scenario
def upstream_resets_while_waited_for(s: Stage) -> None:
    """The upstream read the request and aborts: 502."""
    client = s.connect()
    client.ask("GET", "/api/recommend")
    server = s.upstream(client)
    server.take_request()
    s.pause()
    server.reset()
    client.response()
    leaves_with(s, client, ("GET /api/recommend", 502))
    s.upstream_ends(server, client, reset("server", "awaiting_response", "failed", (1, 0),
                                          ("GET /api/recommend", None), Log(HEADER_RESET)))


@scenario
def upstream_closes_with_request_unread(s: Stage) -> None:
    """close() without having read the request: the upstream's kernel makes it a RST."""
    client = s.connect()
    client.ask("POST", "/api/orders", body=b"tea=2")
    server = s.upstream(client)
    s.pause()
    server.close()
    client.response()
    leaves_with(s, client, ("POST /api/orders", 502))
    s.upstream_ends(server, client, reset("server", "awaiting_response", "failed", (1, 0),
                                          ("POST /api/orders", None), Log(HEADER_RESET)))


@scenario
def upstream_closes_before_answer(s: Stage) -> None:
    """FIN instead of an answer: 502."""
    client = s.connect(prompt=True)
    client.ask("GET", "/api/recommend")
    server = s.upstream(client)
    server.take_request()
    server.close()
    client.response()
    leaves_promptly(s, client, ("GET /api/recommend", 502))
    s.upstream_ends(server, client, closed("four_way", "server", "awaiting_response", "failed",
                                           (1, 0), ("GET /api/recommend", None),
                                           Log(HEADER_CLOSED)))


@sample_scenario
def upstream_is_too_slow(s: Stage) -> None:
    """504: nginx's patience ends, and its FIN ends the connection."""
    client = s.connect()
    client.ask("GET", "/report/sales")
    server = s.upstream(client)
    server.take_request()
    server.end_four_way()
    client.response()
    leaves_with(s, client, ("GET /report/sales", 504))
    s.upstream_ends(server, client, closed(
        "four_way", "client", "awaiting_response", "failed", (1, 0), ("GET /report/sales", None),
        timer("upstream timed out (110: Connection timed out) while reading response header")))


# During the answer


@scenario
def upstream_resets_in_header(s: Stage) -> None:
    """Half a status line and header, then RST: 502."""
    client = s.connect()
    client.ask("GET", "/api/stock/7")
    server = s.upstream(client)
    server.take_request()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    s.pause()
    server.reset()
    client.response()
    leaves_with(s, client, ("GET /api/stock/7", 502))
    # Whether a status counts whose header has no end is nobody's to assert.
    s.upstream_ends(server, client, reset("server", "during_response", "failed", (1, 0),
                                          ("GET /api/stock/7", None), Log(HEADER_RESET),
                                          unasserted=("status",)))


@scenario
def upstream_closes_in_header(s: Stage) -> None:
    """Half a status line and header, then FIN: 502."""
    client = s.connect()
    client.ask("GET", "/api/stock/8")
    server = s.upstream(client)
    server.take_request()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    s.pause()
    server.close()
    client.response()
    leaves_with(s, client, ("GET /api/stock/8", 502))
    s.upstream_ends(server, client, closed("three_way", "server", "during_response", "failed",
                                           (1, 0), ("GET /api/stock/8", None),
                                           Log(HEADER_CLOSED), unasserted=("status",)))


@sample_scenario
def upstream_resets_in_body(s: Stage) -> None:
    """Half of a large answer, buffered by nginx: the client gets a part, and FIN."""
    what = ("GET /api/catalog", 200)
    client = s.connect()
    client.ask("GET", "/api/catalog")
    server = s.upstream(client)
    server.take_request()
    server.answer(b"x" * 20_000, length=60_000)
    client.read(8000)
    s.pause()
    server.reset()
    cut_short(s, client, what, flushed=True)
    s.upstream_ends(server, client, reset(
        "server", "during_response", "failed", (1, 0), what,
        Log("readv() failed (104: Connection reset by peer) while reading upstream")))


@scenario
def upstream_resets_in_unbuffered_body(s: Stage) -> None:
    """The same where nginx does not buffer: another call, another message."""
    what = ("GET /events/prices", 200)
    client = s.connect()
    client.ask("GET", "/events/prices")
    server = s.upstream(client)
    server.take_request()
    server.answer(b"half\n", length=10)
    client.read_until(b"half\n")
    server.reset()
    cut_short(s, client, what)
    s.upstream_ends(server, client, reset(
        "server", "during_response", "failed", (1, 0), what,
        Log("recv() failed (104: Connection reset by peer) while reading upstream")))


@scenario
def upstream_resets_while_client_blocks(s: Stage) -> None:
    """The RST waits in nginx's socket while nginx waits for its client: the entry is late, and
    says "while sending to client" of the upstream's connection."""
    what = ("GET /events/history", 200)
    client = s.connect(receive=4096)
    client.ask("GET", "/events/history")
    server = s.upstream(client)
    server.take_request()
    server.push(b"x" * 200_000)
    server.reset()
    s.pause(1.1)
    cut_short(s, client, what, flushed=True)
    s.upstream_ends(server, client, reset(
        "server", "during_response", "failed", (1, 0), what,
        Log("recv() failed (104: Connection reset by peer) while sending to client")))


@scenario
def upstream_closes_in_body(s: Stage) -> None:
    """FIN where Content-Length promised more."""
    what = ("GET /events/prices", 200)
    client = s.connect()
    client.ask("GET", "/events/prices")
    server = s.upstream(client)
    server.take_request()
    server.answer(b"half\n", length=10)
    client.read_until(b"half\n")
    server.close()
    cut_short(s, client, what)
    s.upstream_ends(server, client, closed("three_way", "server", "during_response", "failed",
                                           (1, 0), what, Log(BODY_CLOSED)))


@scenario
def upstream_stalls_in_body(s: Stage) -> None:
    """The answer stops half-way; nginx gives up after a second and ends both legs."""
    what = ("GET /report/stock", 200)
    client = s.connect()
    client.ask("GET", "/report/stock")
    server = s.upstream(client)
    server.take_request()
    server.answer(b"half\n", length=10)
    client.read_until(b"half\n")
    server.end_four_way()
    cut_short(s, client, what)
    s.upstream_ends(server, client, closed(
        "four_way", "client", "during_response", "failed", (1, 0), what,
        timer("upstream timed out (110: Connection timed out) while reading upstream")))


# After the answer


@scenario
def idle_pool_connection_is_reset(s: Stage) -> None:
    """RST on a kept upstream connection: nginx drops it and logs nothing."""
    what = ("GET /pool/0/session", 200)
    client = s.connect()
    client.ask("GET", "/pool/0/session")
    server = s.upstream(client)
    server.take_request()
    server.answer()
    client.response()
    s.pause()
    server.reset()
    leaves_with(s, client, what)
    s.upstream_ends(server, client, reset("server", "after_response", "completed", (1, 1), what))


@scenario
def idle_pool_connection_is_closed(s: Stage) -> None:
    """FIN on a kept upstream connection, as an upstream's keep-alive timeout makes it."""
    what = ("GET /pool/1/session", 200)
    client = s.connect()
    client.ask("GET", "/pool/1/session")
    server = s.upstream(client)
    server.take_request()
    server.answer()
    client.response()
    s.pause()
    server.close()
    leaves_with(s, client, what)
    s.upstream_ends(server, client, closed("three_way", "server", "after_response", "completed",
                                           (1, 1), what))


@scenario
def pool_connection_serves_two_clients(s: Stage) -> None:
    """One upstream connection, two clients; the second one's request meets a RST, and nginx
    asks again on a new connection. The entry bears the second client's number."""
    first, second = s.connect(), s.connect(prompt=True)
    first.ask("GET", "/pool/2/profile")
    shared = s.upstream(first)
    shared.take_request()
    shared.answer()
    first.response()
    s.pause()
    second.ask("GET", "/pool/2/profile")
    shared.take_request()
    shared.reset()
    again = s.upstream(second)
    again.take_request()
    again.answer()
    second.response()
    s.pause()
    again.close()
    what = ("GET /pool/2/profile", 200)
    leaves_with(s, first, what)
    second.close()
    s.client_ends(second, closed("four_way", "client", "after_response", "completed", (1, 1),
                                 what, KEEPALIVE_LEFT))
    s.upstream_ends(shared, second, reset(
        "server", "awaiting_response", "failed", (2, 1), ("GET /pool/2/profile", None),
        Log(HEADER_RESET)))
    s.upstream_ends(again, second, closed("three_way", "server", "after_response", "completed",
                                          (1, 1), what))


@scenario
def pool_connection_is_closed_under_request(s: Stage) -> None:
    """The keep-alive race with FIN: the request arrives, the upstream closes, nginx retries."""
    first, second = s.connect(), s.connect(prompt=True)
    first.ask("GET", "/pool/3/a")
    shared = s.upstream(first)
    shared.take_request()
    shared.answer()
    first.response()
    s.pause()
    second.ask("GET", "/pool/3/b")
    shared.take_request()
    shared.close()
    again = s.upstream(second)
    again.take_request()
    again.answer()
    second.response()
    s.pause()
    again.reset()
    leaves_with(s, first, ("GET /pool/3/a", 200))
    second.close()
    s.client_ends(second, closed("four_way", "client", "after_response", "completed", (1, 1),
                                 ("GET /pool/3/b", 200), KEEPALIVE_LEFT))
    s.upstream_ends(shared, second, closed(
        "three_way", "server", "awaiting_response", "failed", (2, 1), ("GET /pool/3/b", None),
        Log(HEADER_CLOSED)))
    s.upstream_ends(again, second, reset("server", "after_response", "completed", (1, 1),
                                         ("GET /pool/3/b", 200)))


@scenario
def upstream_fails_two_clients_alike(s: Stage) -> None:
    """Same second, same URI, same message; only one upstream connection resets before a byte,
    the other one in the header."""
    uri = "/api/stock/9"
    clients = [s.connect(), s.connect()]
    for client in clients:
        client.ask("GET", uri)
    servers = [s.upstream(client) for client in clients]
    for server in servers:
        server.take_request()
    servers[1].send(b"HTTP/1.1 200 OK\r\nContent-Le")
    s.pause()
    for server in servers:
        server.reset()
    for client in clients:
        client.response()
        leaves_with(s, client, (f"GET {uri}", 502))
    for server, client, phase in zip(servers, clients, ("awaiting_response", "during_response")):
        s.upstream_ends(server, client, reset("server", phase, "failed", (1, 0),
                                              (f"GET {uri}", None), Log(HEADER_RESET),
                                              unasserted=("status",)))


@scenario
def upstream_recovers(s: Stage) -> None:
    """One client connection: 502 from a reset, then a good answer to the same request."""
    client = s.connect()
    client.ask("GET", "/api/quote")
    bad = s.upstream(client)
    bad.take_request()
    bad.reset()
    client.response()
    client.ask("GET", "/api/quote")
    good = serve(s, client)
    client.response()
    client.close()
    s.client_ends(client, closed("three_way", "client", "after_response", "completed", (2, 2),
                                 ("GET /api/quote", 200), KEEPALIVE_LEFT))
    s.upstream_ends(bad, client, reset("server", "awaiting_response", "failed", (1, 0),
                                       ("GET /api/quote", None), Log(HEADER_RESET)))
    served(s, good, client, ("GET /api/quote", 200))
