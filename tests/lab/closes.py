# SPDX-License-Identifier: GPL-2.0-or-later
"""Orderly ends of every kind, and connections that never end: what a reset must be told from.

nginx's kernel delays the ACK of a FIN by up to 40 ms, within which nginx closes: three-way.
Towards prompt clients (network.py) the ACK goes first: four-way. A client closes at once, or
makes its kernel acknowledge first.
"""

from __future__ import annotations

from client_leg import GONE, KEEPALIVE_LEFT, serve, served
from network import NGINX_IP
from proxy import MAIN, TIMED
from puppet import ACK, FIN, PSH
from peers import response
from stage import Stage, sample_scenario, scenario
from truth import Log, closed, still_open, timer

PUPPET_REQUEST = (b"GET /beacon HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n")
BEACON = ("GET /beacon", 200)


# By the client


@sample_scenario
def client_closes_idle_connection(s: Stage) -> None:
    """The everyday end, in three segments."""
    client = s.connect()
    client.ask("GET", "/api/cart")
    server = serve(s, client)
    client.response()
    s.pause()
    client.close()
    s.client_ends(client, closed("three_way", "client", "after_response", "completed", (1, 1),
                                 ("GET /api/cart", 200), KEEPALIVE_LEFT))
    served(s, server, client, ("GET /api/cart", 200))


@scenario
def client_closes_and_nginx_acknowledges_first(s: Stage) -> None:
    """The everyday end, in four segments."""
    client = s.connect(prompt=True)
    client.ask("GET", "/api/cart")
    server = serve(s, client)
    client.response()
    client.close()
    s.client_ends(client, closed("four_way", "client", "after_response", "completed", (1, 1),
                                 ("GET /api/cart", 200), KEEPALIVE_LEFT))
    served(s, server, client, ("GET /api/cart", 200))


@scenario
def client_leaves_without_a_word(s: Stage) -> None:
    """A health check that connects and closes in order."""
    client = s.connect(prompt=True)
    s.pause()
    client.close()
    s.client_ends(client, closed("four_way", "client", "before_request", "none", (0, 0),
                                 (None, None),
                                 Log("client closed connection while waiting for request")))


@scenario
def client_leaves_in_headers(s: Stage) -> None:
    """FIN where headers should go on."""
    client = s.connect(prompt=True)
    client.send(b"GET /api/cart HTTP/1.1\r\nHost: shop.example.com\r\n")
    s.pause()
    client.close()
    s.client_ends(client, closed(
        "four_way", "client", "during_request", "failed", (1, 0), ("GET /api/cart", None),
        Log("client prematurely closed connection while reading client request headers")))


@scenario
def client_leaves_in_body(s: Stage) -> None:
    """FIN where the body should go on."""
    client = s.connect()
    client.send(client.request("POST", "/api/orders", body=b"x" * 100, length=500))
    s.pause()
    client.close()
    s.client_ends(client, closed("three_way", "client", "during_request", "failed", (1, 0),
                                 ("POST /api/orders", None),
                                 Log("client prematurely closed connection, client:")))


@sample_scenario
def client_leaves_while_waiting(s: Stage) -> None:
    """499 by FIN."""
    what = ("GET /api/search?q=coffee", None)
    client = s.connect()
    client.ask("GET", "/api/search?q=coffee")
    server = s.upstream(client)
    server.take_request()
    client.close()
    server.end_four_way()
    s.client_ends(client, closed("three_way", "client", "awaiting_response", "failed", (1, 0),
                                 what, Log(f"{GONE} while sending request to upstream")))
    s.upstream_ends(server, client, closed("four_way", "client", "awaiting_response", "failed",
                                           (1, 0), what))


@scenario
def client_leaves_in_response(s: Stage) -> None:
    """FIN by a client that has half of the answer. nginx's answering FIN brings no data."""
    what = ("GET /events/prices", 200)
    client = s.connect(prompt=True)
    client.ask("GET", "/events/prices")
    server = s.upstream(client)
    server.take_request()
    server.answer(b"half\n", length=10)
    client.read_until(b"half\n")
    client.close()
    server.end_three_way()
    s.client_ends(client, closed("four_way", "client", "during_response", "failed", (1, 0),
                                 what, Log(GONE)))
    s.upstream_ends(server, client, closed("three_way", "client", "during_response", "failed",
                                           (1, 0), what))


@sample_scenario
def fin_hides_on_post(s: Stage) -> None:
    """The first FIN rides on a POST; nginx closes without an answer. Three segments, and the
    list of packets shows only nginx's FIN."""
    client = s.connect()
    client.send_with_fin(client.request("POST", "/wp-login.php", body=b"log=admin&pwd=1"))
    client.drain()
    s.client_ends(client, closed("three_way", "client", "awaiting_response", "failed", (1, 0),
                                 ("POST /wp-login.php", None), piggybacked=True))


@sample_scenario
def half_close_on_post(s: Stage) -> None:
    """The first FIN rides on a POST, and the answer comes after it."""
    what = ("POST /batch/import", 200)
    client = s.connect()
    client.send_with_fin(client.request("POST", "/batch/import", body=b"sku=1&n=5"))
    server = serve(s, client)
    client.response()
    client.drain()
    s.client_ends(client, closed("half_close", "client", "awaiting_response", "completed",
                                 (1, 1), what, KEEPALIVE_LEFT, piggybacked=True))
    served(s, server, client, what)


@scenario
def half_close_while_waiting(s: Stage) -> None:
    """The same with a FIN of its own."""
    what = ("GET /batch/report", 200)
    client = s.connect()
    client.ask("GET", "/batch/report")
    server = s.upstream(client)
    server.take_request()
    client.fin()
    s.pause()
    server.answer()
    server.end_four_way()
    client.response()
    client.drain()
    s.client_ends(client, closed("half_close", "client", "awaiting_response", "completed",
                                 (1, 1), what, KEEPALIVE_LEFT))
    served(s, server, client, what)


@scenario
def half_close_on_static_file(s: Stage) -> None:
    """nginx's own file for a client that has said its last word with the request."""
    client = s.connect(prompt=True)
    client.send_with_fin(client.request("GET", "/static/logo.txt"))
    client.response()
    client.drain()
    s.client_ends(client, closed("half_close", "client", "awaiting_response", "completed",
                                 (1, 1), ("GET /static/logo.txt", 200), KEEPALIVE_LEFT,
                                 piggybacked=True))


# By nginx


@sample_scenario
def nginx_closes_as_asked(s: Stage) -> None:
    """Connection: close, in four segments."""
    what = ("GET /api/cart", 200)
    client = s.connect()
    client.ask("GET", "/api/cart", "Connection: close")
    server = serve(s, client)
    client.response()
    client.end_four_way()
    s.client_ends(client, closed("four_way", "server", "after_response", "completed", (1, 1),
                                 what))
    served(s, server, client, what)


@scenario
def nginx_closes_and_client_at_once(s: Stage) -> None:
    """Connection: close, in three segments. A kernel's ACK may go out when its application
    reads the answer, so the client is a puppet."""
    client = s.client_puppet()
    client.connect((NGINX_IP, MAIN))
    client.send(PSH | ACK, PUPPET_REQUEST)
    client.read(b"thanks\n")
    client.send(ACK)
    client.await_fin()
    client.take_fin(FIN | ACK)
    s.client_ends(client, closed("three_way", "server", "after_response", "completed", (1, 1),
                                 BEACON))


@scenario
def keepalive_timeout(s: Stage) -> None:
    """nginx's own patience with an idle connection: no log line. Noise."""
    what = ("GET /api/cart", 200)
    client = s.connect(TIMED)
    client.ask("GET", "/api/cart")
    server = serve(s, client)
    client.response()
    client.end_four_way()
    s.client_ends(client, closed("four_way", "server", "after_response", "completed", (1, 1),
                                 what))
    served(s, server, client, what)


@scenario
def request_timeout(s: Stage) -> None:
    """A second without a request."""
    client = s.connect(TIMED)
    client.end_four_way()
    s.client_ends(client, closed(
        "four_way", "server", "before_request", "none", (0, 0), (None, None),
        timer("client timed out (110: Connection timed out) while waiting for request")))


@scenario
def body_timeout(s: Stage) -> None:
    """408 for a body that stops, without a log line. Noise."""
    client = s.connect(TIMED)
    client.send(client.request("POST", "/api/orders", body=b"x" * 100, length=5000))
    client.end_four_way()
    s.client_ends(client, closed("four_way", "server", "during_request", "failed", (1, 0),
                                 ("POST /api/orders", None)))


@scenario
def send_timeout(s: Stage) -> None:
    """The client reads nothing for a second. nginx's FIN waits behind what its kernel holds."""
    client = s.connect(TIMED, receive=4096)
    client.ask("GET", "/static/catalog.txt")
    s.pause(1.5)
    client.end_four_way()
    s.client_ends(client, closed(
        "four_way", "server", "during_response", "failed", (1, 0),
        ("GET /static/catalog.txt", 200),
        timer("client timed out (110: Connection timed out) while sending response to client"),
        piggybacked=None, unasserted=("piggybacked",)))


@scenario
def refused_by_rule(s: Stage) -> None:
    """`return 444`: FIN instead of an answer, without a log line. Noise."""
    client = s.connect()
    client.ask("GET", "/wp-login.php")
    client.end_four_way()
    s.client_ends(client, closed("four_way", "server", "awaiting_response", "failed", (1, 0),
                                 ("GET /wp-login.php", None)))


@scenario
def too_large(s: Stage) -> None:
    """413 to a client that waits politely: the answer is complete, the request is not."""
    client = s.connect()
    client.send(client.request("POST", "/avatar/2.png", body=b"x" * 500, length=4000))
    client.response()
    client.end_four_way()
    s.client_ends(client, closed("four_way", "server", "after_response", "completed", (1, 1),
                                 ("POST /avatar/2.png", 413)))
    s.remark(client, Log("client intended to send too large body: 4000 bytes", packet=False))


# By the upstream


@scenario
def answer_ends_with_the_connection(s: Stage) -> None:
    """HTTP/1.0 without a length: the upstream's FIN completes the answer."""
    what = ("GET /events/log", 200)
    client = s.connect()
    client.ask("GET", "/events/log")
    server = s.upstream(client)
    server.take_request()
    server.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nall there is\n")
    s.pause()
    server.close()
    client.response()
    client.close()
    s.client_ends(client, closed("three_way", "client", "after_response", "completed", (1, 1),
                                 what, KEEPALIVE_LEFT))
    s.upstream_ends(server, client, closed("three_way", "server", "after_response", "completed",
                                           (1, 1), what))


@scenario
def answer_to_old_client_ends_with_the_connection(s: Stage) -> None:
    """The same towards an HTTP/1.0 client: nginx's FIN completes the answer."""
    what = ("GET /events/log", 200)
    client = s.connect(prompt=True)
    client.send(client.request("GET", "/events/log", version="1.0"))
    server = s.upstream(client)
    server.take_request()
    server.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nall there is\n")
    client.read_until(b"there is\n")
    server.close()
    client.end_four_way()
    s.client_ends(client, closed("four_way", "server", "after_response", "completed", (1, 1),
                                 what))
    # The upstream's address is prompt as well: nginx's kernel acknowledges its FIN first.
    s.upstream_ends(server, client, closed("four_way", "server", "after_response", "completed",
                                           (1, 1), what))


@scenario
def fin_rides_on_the_answer(s: Stage) -> None:
    """The upstream's FIN is on the segment with its answer."""
    what = ("GET /api/motd", 200)
    client = s.connect()
    client.ask("GET", "/api/motd")
    server = s.upstream(client)
    server.take_request()
    server.send_with_fin(response(b"hello\n"))
    client.response()
    client.close()
    s.client_ends(client, closed("three_way", "client", "after_response", "completed", (1, 1),
                                 what, KEEPALIVE_LEFT))
    # How nginx's kernel acknowledges data with FIN depends on how much it had to acknowledge.
    s.upstream_ends(server, client, closed("three_way", "server", "after_response", "completed",
                                           (1, 1), what, piggybacked=True))


# Both


@scenario
def both_close_at_once(s: Stage) -> None:
    """Neither FIN acknowledges the other."""
    client = s.client_puppet()
    client.connect((NGINX_IP, MAIN))
    client.send(PSH | ACK, PUPPET_REQUEST)
    client.read(b"thanks\n")
    client.send(ACK)
    client.await_fin()
    client.send(FIN | ACK)
    client.take_fin()
    s.client_ends(client, closed("simultaneous", "server", "after_response", "completed", (1, 1),
                                 BEACON))


@scenario
def nginx_and_upstream_close_at_once(s: Stage) -> None:
    """The same on the upstream's side."""
    what = ("GET /puppet/status", 200)
    server = s.upstream_puppet()
    client = s.connect()
    client.ask("GET", "/puppet/status")
    server.accept()
    server.read(b"\r\n\r\n")
    server.send(PSH | ACK, response())
    server.await_fin()
    server.send(FIN | ACK)
    server.take_fin()
    client.response()
    client.close()
    s.client_ends(client, closed("three_way", "client", "after_response", "completed", (1, 1),
                                 what, KEEPALIVE_LEFT))
    s.upstream_ends(server, client, closed("simultaneous", "client", "after_response",
                                           "completed", (1, 1), what))


# Without an end


@sample_scenario
def client_never_closes(s: Stage) -> None:
    """nginx's FIN stays the only one."""
    what = ("GET /api/cart", 200)
    client = s.connect()
    client.ask("GET", "/api/cart", "Connection: close")
    server = serve(s, client)
    client.response()
    s.client_ends(client, closed("one_fin", "server", "after_response", "completed", (1, 1),
                                 what))
    served(s, server, client, what)


@scenario
def nginx_never_closes(s: Stage) -> None:
    """The client's FIN stays the only one: nginx ignores it and waits for the upstream."""
    client = s.connect()
    client.ask("GET", "/batch/forever")
    server = s.upstream(client)
    server.take_request()
    client.fin()
    # The answer might still have come after the capture: whether it was lost, nobody knows.
    s.client_ends(client, closed("one_fin", "client", "awaiting_response", "unknown", (1, 0),
                                 ("GET /batch/forever", None), unasserted=("transaction",)))
    s.upstream_ends(server, client, still_open("awaiting_response", "unknown", (1, 0),
                                               ("GET /batch/forever", None),
                                               unasserted=("transaction",)))


@scenario
def client_vanishes(s: Stage) -> None:
    """The answer was sent and never acknowledged; nginx closed behind it."""
    client = s.client_puppet()
    client.connect((NGINX_IP, MAIN))
    client.send(PSH | ACK, PUPPET_REQUEST)
    client.read(b"thanks\n")
    client.await_fin()
    s.client_ends(client, closed("one_fin", "server", "after_response", "unknown", (1, 1),
                                 BEACON))


@scenario
def still_idle(s: Stage) -> None:
    """Keep-alive on both legs until the capture ends."""
    what = ("GET /pool/4/session", 200)
    client = s.connect()
    client.ask("GET", "/pool/4/session")
    server = s.upstream(client)
    server.take_request()
    server.answer()
    client.response()
    s.client_ends(client, still_open("after_response", "completed", (1, 1), what))
    s.upstream_ends(server, client, still_open("after_response", "completed", (1, 1), what))


# What HTTP knows of answers without a body, or without a length


@scenario
def answers_of_every_shape(s: Stage) -> None:
    """HEAD, 204, 304 and chunked on one client connection; every one is complete."""
    client = s.connect()
    shapes = (
        ("HEAD", "/api/item/1", b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n", 200),
        ("DELETE", "/api/item/2", b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("GET", "/api/item/3", b"HTTP/1.1 304 Not Modified\r\nETag: \"3\"\r\n\r\n", 304),
        ("GET", "/api/item/4", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                               b"4\r\ntea\n\r\n0\r\n\r\n", 200),
    )
    servers = []
    for method, uri, raw, status in shapes:
        client.ask(method, uri)
        server = s.upstream(client)
        server.take_request()
        server.send(raw)
        server.end_four_way()
        client.response(method)
        servers.append((server, (f"{method} {uri}", status)))
    client.close()
    s.client_ends(client, closed("three_way", "client", "after_response", "completed", (4, 4),
                                 ("GET /api/item/4", 200), KEEPALIVE_LEFT))
    for server, what in servers:
        served(s, server, client, what)


@scenario
def continue_then_answer(s: Stage) -> None:
    """100 Continue is no answer; one response is complete in the end."""
    what = ("PUT /api/item/5", 200)
    client = s.connect(prompt=True)
    client.send(client.request("PUT", "/api/item/5", "Expect: 100-continue", length=300))
    client.read_until(b"\r\n\r\n")
    client.send(b"x" * 300)
    server = serve(s, client)
    client.response()
    client.close()
    s.client_ends(client, closed("four_way", "client", "after_response", "completed", (1, 1),
                                 what, KEEPALIVE_LEFT))
    served(s, server, client, what)


@scenario
def pipelined_answers(s: Stage) -> None:
    """Two requests in one segment, both answered."""
    client = s.connect()
    client.send(client.request("GET", "/api/price/1") + client.request("GET", "/api/price/2"))
    servers = []
    for _ in range(2):
        servers.append(serve(s, client))
        client.response()
    client.close()
    s.client_ends(client, closed("three_way", "client", "after_response", "completed", (2, 2),
                                 ("GET /api/price/2", 200), KEEPALIVE_LEFT))
    served(s, servers[0], client, ("GET /api/price/1", 200))
    served(s, servers[1], client, ("GET /api/price/2", 200))


@scenario
def static_over_shared_connection(s: Stage) -> None:
    """Ten files over one connection, no upstream at all."""
    client = s.connect()
    for _ in range(10):
        client.ask("GET", "/static/logo.txt")
        client.response()
    client.close()
    s.client_ends(client, closed("three_way", "client", "after_response", "completed", (10, 10),
                                 ("GET /static/logo.txt", 200), KEEPALIVE_LEFT))
