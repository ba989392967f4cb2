# SPDX-License-Identifier: GPL-2.0-or-later
"""Resets of the client's connection, phase by phase; the upstream's connection where there is one.

Steps first, then what they must have made. A declared message is one that nginx logs for it;
the recorder fails when nginx logged another, or none.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Optional, Tuple

from network import NGINX_IP
from peers import Client, Server
from proxy import ABORTING, MAIN, SECURE, TIMED
from puppet import ACK, FIN, PSH, RST, SYN
from stage import Stage, sample_scenario, scenario
from truth import Log, closed, late_reset, reset, timer

What = Tuple[Optional[str], Optional[int]]
KEEPALIVE_RESET = Log("closed keepalive connection (104: Connection reset by peer)")
KEEPALIVE_LEFT = Log("closed keepalive connection")
GONE = ("epoll_wait() reported that client prematurely closed connection, "
        "so upstream connection is closed too")
GONE_BY_RESET = f"{GONE} (104: Connection reset by peer)"


def serve(s: Stage, client: Client, body: bytes = b"ok\n") -> Server:
    """The upstream reads the request, answers, and waits for nginx to close first."""
    server = s.upstream(client)
    server.take_request()
    server.answer(body)
    server.end_four_way()
    return server


def served(s: Stage, server: Server, client: Client, what: What) -> None:
    """Declares the upstream connection of `serve`."""
    s.upstream_ends(server, client, closed("four_way", "client", "after_response", "completed",
                                           (1, 1), what))


# In the handshake


@sample_scenario
def syn_answered_by_kernel_reset(s: Stage) -> None:
    """A port scanner's SYN: its kernel knows no such socket and resets the SYN-ACK."""
    scanner = s.spoofing_puppet()
    scanner.peer = (NGINX_IP, MAIN)
    scanner.send(SYN)
    s.pause()
    # nginx never learns of it: no message.
    s.client_ends(scanner, reset("client", "handshake", "none", (0, 0)))


@scenario
def syn_ack_refused(s: Stage) -> None:
    """The third packet of the handshake is RST+ACK instead of ACK."""
    client = s.client_puppet()
    client.open_half((NGINX_IP, MAIN))
    client.send(RST | ACK)
    s.client_ends(client, reset("client", "handshake", "none", (0, 0)))


@scenario
def closed_port(s: Stage) -> None:
    """nginx's host listens on no such port."""
    client = s.client_puppet()
    client.peer = (NGINX_IP, 3128)
    client.send(SYN)
    s.pause()
    s.client_ends(client, reset("server", "handshake", "none", (0, 0)))


@scenario
def reset_in_tls_handshake(s: Stage) -> None:
    """The client has said hello, and aborts when it has seen the server's answer."""
    hello = ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = False
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), hello).do_handshake()
    client = s.connect(SECURE)
    client.send(hello.read())
    client.read(100)
    client.reset()
    s.client_ends(client, reset(
        "client", "tls_handshake", "none", (0, 0), (None, None),
        Log("peer closed connection in SSL handshake (104: Connection reset by peer)"),
        # Nobody can count requests that are not readable.
        unasserted=("requests", "responses")))


# Before and during the request


@sample_scenario
def reset_before_request(s: Stage) -> None:
    """A health check that says nothing and aborts."""
    client = s.connect()
    s.pause()
    client.reset()
    s.client_ends(client, reset(
        "client", "before_request", "none", (0, 0), (None, None),
        Log("recv() failed (104: Connection reset by peer) while waiting for request")))


@scenario
def reset_in_request_line(s: Stage) -> None:
    """Half a request line."""
    client = s.connect()
    client.send(b"GET /api/ca")
    s.pause()
    client.reset()
    # What stands for the request when its line has no end is nobody's to assert.
    s.client_ends(client, reset(
        "client", "during_request", "failed", (1, 0), (None, None),
        Log("recv() failed (104: Connection reset by peer) while reading client request line"),
        unasserted=("request",)))


@sample_scenario
def reset_in_headers(s: Stage) -> None:
    """The request line is complete, the headers are not."""
    client = s.connect()
    client.send(b"GET /api/cart HTTP/1.1\r\nHost: shop.example.com\r\nCookie: s=")
    s.pause()
    client.reset()
    s.client_ends(client, reset(
        "client", "during_request", "failed", (1, 0), ("GET /api/cart", None),
        Log("recv() failed (104: Connection reset by peer) while reading client request headers")))


@sample_scenario
def reset_in_body(s: Stage) -> None:
    """Half a body, which nginx collects before it asks the upstream."""
    client = s.connect()
    client.send(client.request("POST", "/api/orders", body=b"x" * 2000, length=5000))
    s.pause()
    client.reset()
    s.client_ends(client, reset(
        "client", "during_request", "failed", (1, 0), ("POST /api/orders", None),
        Log("recv() failed (104: Connection reset by peer), client:")))


@scenario
def reset_in_streamed_body(s: Stage) -> None:
    """Half a body, which nginx passes on as it comes: both legs are in the request."""
    what = ("POST /upload/photo.jpg", None)
    client = s.connect()
    client.send(client.request("POST", "/upload/photo.jpg", body=b"x" * 2000, length=5000))
    server = s.upstream(client)
    server.read_until(b"x" * 2000)
    client.reset()
    server.end_four_way()
    s.client_ends(client, reset(
        "client", "during_request", "failed", (1, 0), what,
        Log("recv() failed (104: Connection reset by peer) while sending request to upstream")))
    s.upstream_ends(server, client, closed("four_way", "client", "during_request", "failed",
                                           (1, 0), what))


@scenario
def header_timeout_with_reset(s: Stage) -> None:
    """nginx waits a second for the rest of the headers and aborts."""
    client = s.connect(ABORTING)
    client.send(b"GET /api/cart HTTP/1.1\r\nHost: shop.example.com\r\n")
    s.pause(1.4)
    s.client_ends(client, reset(
        "server", "during_request", "failed", (1, 0), ("GET /api/cart", None),
        timer("client timed out (110: Connection timed out) while reading client request headers")))


@scenario
def body_timeout_with_reset(s: Stage) -> None:
    """The same for the body, about which nginx logs nothing: noise."""
    client = s.connect(ABORTING)
    client.send(client.request("POST", "/api/orders", body=b"x" * 100, length=5000))
    s.pause(1.4)
    s.client_ends(client, reset("server", "during_request", "failed", (1, 0),
                                ("POST /api/orders", None)))


# Waiting for the answer


@sample_scenario
def reset_while_waiting(s: Stage) -> None:
    """The client gives up: 499, and nginx ends the upstream connection in order."""
    what = ("GET /api/search?q=tea", None)
    client = s.connect()
    client.ask("GET", "/api/search?q=tea")
    server = s.upstream(client)
    server.take_request()
    s.pause()
    client.reset()
    server.end_four_way()
    s.client_ends(client, reset("client", "awaiting_response", "failed", (1, 0), what,
                                Log(f"{GONE_BY_RESET} while sending request to upstream")))
    s.upstream_ends(server, client, closed("four_way", "client", "awaiting_response", "failed",
                                           (1, 0), what))


@scenario
def reset_while_third_waits(s: Stage) -> None:
    """Two exchanges go well; the client aborts in the third."""
    client = s.connect()
    servers = []
    for _ in range(2):
        client.ask("GET", "/api/cart")
        servers.append(serve(s, client))
        client.response()
    client.ask("POST", "/api/checkout", body=b"pay=card")
    third = s.upstream(client)
    third.take_request()
    client.reset()
    third.end_four_way()
    s.client_ends(client, reset("client", "awaiting_response", "failed", (3, 2),
                                ("POST /api/checkout", None), Log(GONE_BY_RESET)))
    for server in servers:
        served(s, server, client, ("GET /api/cart", 200))
    s.upstream_ends(third, client, closed("four_way", "client", "awaiting_response", "failed",
                                          (1, 0), ("POST /api/checkout", None)))


@scenario
def reset_while_pipelined_waits(s: Stage) -> None:
    """Two requests in one segment; the client has the first answer when it aborts."""
    client = s.connect()
    client.send(client.request("GET", "/api/price/1") + client.request("GET", "/api/price/2"))
    first = serve(s, client)
    client.response()
    second = s.upstream(client)
    second.take_request()
    client.reset()
    second.end_four_way()
    s.client_ends(client, reset("client", "awaiting_response", "failed", (2, 1),
                                ("GET /api/price/2", None), Log(GONE_BY_RESET)))
    served(s, first, client, ("GET /api/price/1", 200))
    s.upstream_ends(second, client, closed("four_way", "client", "awaiting_response", "failed",
                                           (1, 0), ("GET /api/price/2", None)))


@scenario
def reset_after_continue(s: Stage) -> None:
    """100 Continue is no answer: the exchange still waits for one."""
    what = ("POST /api/orders", None)
    client = s.connect()
    client.send(client.request("POST", "/api/orders", "Expect: 100-continue", length=300))
    client.read_until(b"\r\n\r\n")
    client.send(b"x" * 300)
    server = s.upstream(client)
    server.take_request()
    client.reset()
    server.end_four_way()
    s.client_ends(client, reset("client", "awaiting_response", "failed", (1, 0), what,
                                Log(GONE_BY_RESET)))
    s.upstream_ends(server, client, closed("four_way", "client", "awaiting_response", "failed",
                                           (1, 0), what))


@scenario
def refused_by_rule_with_reset(s: Stage) -> None:
    """`return 444` where timed-out connections are reset: an abort without a log line. Noise."""
    client = s.connect(ABORTING)
    client.ask("GET", "/wp-login.php")
    s.pause(0.2)
    s.client_ends(client, reset("server", "awaiting_response", "failed", (1, 0),
                                ("GET /wp-login.php", None)))


@scenario
def refused_by_rule_with_body_unread(s: Stage) -> None:
    """`return 444` closes while half of the body lies unread in nginx's socket: its kernel makes
    that a RST. Nothing is logged."""
    client = s.connect()
    # More than nginx reads at once, less than would take a second segment.
    client.ask("POST", "/wp-login.php", body=b"x" * 1200)
    s.pause(0.2)
    s.client_ends(client, reset("server", "awaiting_response", "failed", (1, 0),
                                ("POST /wp-login.php", None)))


@scenario
def reset_after_fin_while_waiting(s: Stage) -> None:
    """FIN, then RST, while nginx (which ignores departures here) waits for the upstream."""
    client = s.connect()
    client.ask("GET", "/batch/report")
    server = s.upstream(client)
    server.take_request()
    client.fin()
    s.pause()
    client.reset()
    s.pause()
    server.answer()
    server.end_four_way()
    s.client_ends(client, late_reset(
        "client", "awaiting_response", "failed", (1, 0), ("GET /batch/report", None),
        Log("failed (32: Broken pipe)"), fin_by="client"))
    served(s, server, client, ("GET /batch/report", 200))


@scenario
def answer_to_a_closed_client(s: Stage) -> None:
    """The client closed while waiting; the half answer that comes all the same is reset."""
    client = s.connect()
    client.ask("GET", "/batch/export")
    server = s.upstream(client)
    server.take_request()
    client.close()
    s.pause()
    server.answer(b"half\n", length=10)
    s.pause()
    server.send(b"rest\n")
    server.end_four_way()
    s.client_ends(client, late_reset(
        "client", "awaiting_response", "failed", (1, 0), ("GET /batch/export", 200),
        Log("failed (32: Broken pipe)"), fin_by="client"))
    served(s, server, client, ("GET /batch/export", 200))


# During the response


@sample_scenario
def reset_in_response(s: Stage) -> None:
    """The client has half of the answer."""
    what = ("GET /events/prices", 200)
    client = s.connect()
    client.ask("GET", "/events/prices")
    server = s.upstream(client)
    server.take_request()
    server.answer(b"half\n", length=10)
    client.read_until(b"half\n")
    client.reset()
    server.end_four_way()
    s.client_ends(client, reset("client", "during_response", "failed", (1, 0), what,
                                Log(GONE_BY_RESET)))
    s.upstream_ends(server, client, closed("four_way", "client", "during_response", "failed",
                                           (1, 0), what))


@scenario
def reset_in_buffered_response(s: Stage) -> None:
    """The same where nginx buffers: it passes full buffers on."""
    what = ("GET /api/catalog", 200)
    client = s.connect()
    client.ask("GET", "/api/catalog")
    server = s.upstream(client)
    server.take_request()
    server.answer(b"x" * 20_000, length=60_000)
    client.read(8000)
    s.pause()
    client.reset()
    server.end_four_way()
    s.client_ends(client, reset("client", "during_response", "failed", (1, 0), what,
                                Log(GONE_BY_RESET)))
    s.upstream_ends(server, client, closed("four_way", "client", "during_response", "failed",
                                           (1, 0), what))


@scenario
def reset_in_chunked_response(s: Stage) -> None:
    """A chunked answer without its last chunk."""
    what = ("GET /events/feed", 200)
    client = s.connect()
    client.ask("GET", "/events/feed")
    server = s.upstream(client)
    server.take_request()
    server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\none.\n\r\n")
    client.read_until(b"one.\n\r\n")
    client.reset()
    server.end_four_way()
    s.client_ends(client, reset("client", "during_response", "failed", (1, 0), what,
                                Log(GONE_BY_RESET)))
    s.upstream_ends(server, client, closed("four_way", "client", "during_response", "failed",
                                           (1, 0), what))


@sample_scenario
def close_with_download_unread(s: Stage) -> None:
    """The tab is closed in the middle of a download: unread data turns close() into RST."""
    client = s.connect(receive=4096)
    client.ask("GET", "/static/catalog.txt")
    s.pause(0.2)
    client.close()
    s.client_ends(client, reset("client", "during_response", "failed", (1, 0),
                                ("GET /static/catalog.txt", 200),
                                Log("(104: Connection reset by peer)")))


@scenario
def blocked_client_resets(s: Stage) -> None:
    """The client stopped reading, so nginx stopped too: its close() finds unread upstream data
    and resets the upstream as well."""
    what = ("GET /export/orders.csv", 200)
    client = s.connect(receive=4096)
    client.ask("GET", "/export/orders.csv")
    server = s.upstream(client)
    server.take_request()
    server.push(b"x" * 200_000)
    client.reset()
    s.pause(0.2)
    s.client_ends(client, reset("client", "during_response", "failed", (1, 0), what,
                                Log(GONE_BY_RESET)))
    s.upstream_ends(server, client, reset("client", "during_response", "failed", (1, 0), what))


@scenario
def upstream_talks_to_a_closed_socket(s: Stage) -> None:
    """nginx ended the upstream connection because its client left; the upstream goes on."""
    what = ("GET /events/stock", 200)
    client = s.connect()
    client.ask("GET", "/events/stock")
    server = s.upstream(client)
    server.take_request()
    server.answer(b"half\n", length=5000)
    client.read_until(b"half\n")
    client.reset()
    server.drain()
    server.send(b"more\n")
    s.pause()
    s.client_ends(client, reset("client", "during_response", "failed", (1, 0), what,
                                Log(GONE_BY_RESET)))
    s.upstream_ends(server, client, late_reset("client", "during_response", "failed", (1, 0),
                                               what, fin_by="client"))


@scenario
def send_timeout_with_reset(s: Stage) -> None:
    """The client reads nothing for a second; nginx aborts."""
    client = s.connect(ABORTING, receive=4096)
    client.ask("GET", "/static/catalog.txt")
    s.pause(1.5)
    s.client_ends(client, reset(
        "server", "during_response", "failed", (1, 0), ("GET /static/catalog.txt", 200),
        timer("client timed out (110: Connection timed out) while sending response to client")))


# After the response


@sample_scenario
def reset_after_response(s: Stage) -> None:
    """The answer is complete and acknowledged: nothing is lost."""
    client = s.connect()
    client.ask("POST", "/wallet/notify", body=b"order=4711&paid=1")
    server = serve(s, client, b"success\n")
    client.response()
    client.reset()
    s.client_ends(client, reset("client", "after_response", "completed", (1, 1),
                                ("POST /wallet/notify", 200), KEEPALIVE_RESET))
    served(s, server, client, ("POST /wallet/notify", 200))


@scenario
def reset_while_idle(s: Stage) -> None:
    """Three answers, and a second of silence."""
    client = s.connect()
    servers = []
    for _ in range(3):
        client.ask("GET", "/api/cart")
        servers.append(serve(s, client))
        client.response()
    s.pause(1.0)
    client.reset()
    s.client_ends(client, reset("client", "after_response", "completed", (3, 3),
                                ("GET /api/cart", 200), KEEPALIVE_RESET))
    for server in servers:
        served(s, server, client, ("GET /api/cart", 200))


@scenario
def close_with_answer_unread(s: Stage) -> None:
    """The client's kernel acknowledged the answer, the application never read it."""
    client = s.connect()
    client.ask("GET", "/api/ping")
    server = serve(s, client)
    s.pause(0.3)  # the kernel's ACK is due within 40 ms
    client.close()
    s.client_ends(client, reset("client", "after_response", "completed", (1, 1),
                                ("GET /api/ping", 200), KEEPALIVE_RESET))
    served(s, server, client, ("GET /api/ping", 200))


@scenario
def reset_without_ack(s: Stage) -> None:
    """The answer was sent, and the client ends without having acknowledged a byte of it."""
    client = s.client_puppet()
    client.connect((NGINX_IP, MAIN))
    client.send(PSH | ACK, b"GET /beacon HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
    before = client.next_in
    client.read(b"thanks\n")
    s.pause(0.02)
    client.send(RST | ACK, ack=before)
    s.client_ends(client, reset("client", "after_response", "failed", (1, 1),
                                ("GET /beacon", 200), KEEPALIVE_RESET))


@scenario
def disordered_and_reset_twice(s: Stage) -> None:
    """A bad line: the request's halves arrive in the wrong order and one of them twice, and so
    does the RST. It is one request, one answer, one reset."""
    client = s.client_puppet()
    client.connect((NGINX_IP, MAIN))
    request = b"GET /beacon HTTP/1.1\r\nHost: shop.example.com\r\n\r\n"
    start = client.next_out
    client.send(PSH | ACK, request[20:], seq=start + 20)
    client.send(PSH | ACK, request[:20], seq=start)
    client.send(PSH | ACK, request[20:], seq=start + 20)
    client.read(b"thanks\n")
    client.send(ACK)
    s.pause()
    client.send(RST | ACK)
    client.send(RST | ACK)
    s.client_ends(client, reset("client", "after_response", "completed", (1, 1),
                                ("GET /beacon", 200), KEEPALIVE_RESET))


@scenario
def reset_after_early_answer(s: Stage) -> None:
    """nginx answers at once and throws the rest of the body away; the client stops sending."""
    client = s.connect()
    client.send(client.request("POST", "/beacon", body=b"x" * 200, length=5000))
    client.response()
    client.reset()
    s.client_ends(client, reset("client", "after_response", "completed", (1, 1),
                                ("POST /beacon", 200),
                                Log("recv() failed (104: Connection reset by peer)")))


@sample_scenario
def reset_while_nginx_lingers(s: Stage) -> None:
    """nginx sent answer and FIN and listens; the RST comes after the FIN: nothing is lost."""
    client = s.connect()
    client.ask("POST", "/pay/notify", "Connection: close", body=b"order=4711&paid=1")
    server = serve(s, client, b"success\n")
    client.response()
    s.pause(0.2)
    client.reset()
    s.client_ends(client, late_reset(
        "client", "after_response", "completed", (1, 1), ("POST /pay/notify", 200),
        Log("recv() failed (104: Connection reset by peer) while sending to client"),
        fin_by="server"))
    served(s, server, client, ("POST /pay/notify", 200))


@scenario
def too_large_and_reset(s: Stage) -> None:
    """413 before the body is complete. nginx throws away what still comes, and would not send
    FIN before its patience ends; the client aborts."""
    client = s.connect()
    client.send(client.request("POST", "/avatar/1.png", body=b"x" * 500, length=3000))
    client.response()
    s.pause()
    client.reset()
    s.client_ends(client, reset(
        "client", "after_response", "completed", (1, 1), ("POST /avatar/1.png", 413),
        Log("recv() failed (104: Connection reset by peer)")))
    s.remark(client, Log("client intended to send too large body: 3000 bytes", packet=False))


@scenario
def body_after_early_answer(s: Stage) -> None:
    """The upstream answers before the upload is complete. Without lingering, nginx's socket is
    gone when the rest arrives, and its kernel resets: teardown, with the answer received."""
    what = ("POST /import/orders.csv", 200)
    client = s.connect()
    client.send(client.request("POST", "/import/orders.csv", body=b"x" * 2000, length=5000))
    server = s.upstream(client)
    server.read_until(b"x" * 2000)
    server.answer()
    server.end_four_way()
    client.response()
    s.pause()
    client.send(b"x" * 1000)
    s.pause()
    s.client_ends(client, late_reset("server", "after_response", "completed", (1, 1), what,
                                     fin_by="server"))
    served(s, server, client, what)


@scenario
def reset_after_both_fins(s: Stage) -> None:
    """A stray RST after a complete four-way close changes nothing."""
    client = s.client_puppet()
    client.connect((NGINX_IP, MAIN))
    client.send(PSH | ACK, b"POST /beacon HTTP/1.1\r\nHost: shop.example.com\r\n"
                           b"Content-Length: 2\r\nConnection: close\r\n\r\nhi")
    client.read(b"thanks\n")
    client.send(ACK)
    client.await_fin()
    client.take_fin()
    client.send(FIN | ACK)
    client.await_ack()
    client.send(RST)
    s.client_ends(client, late_reset("client", "after_response", "completed", (1, 1),
                                     ("POST /beacon", 200), fin_by="server", close="four_way"))


# Many at once


@scenario
def same_uri_same_second(s: Stage) -> None:
    """One URI, one second, one client address (and a second one), five endings."""
    uri = "/wallet/notify"
    clients = [s.connect() for _ in range(4)] + [s.connect(prompt=True)]
    for client in clients:
        client.ask("POST", uri, body=b"order=4712&paid=1")
    servers = [s.upstream(client) for client in clients]
    for server in servers:
        server.take_request()
    impatient, waiting, good, idle, other = clients
    impatient.reset()
    servers[0].end_four_way()
    for client, server in list(zip(clients, servers))[2:]:
        server.answer()
        server.end_four_way()
        client.response()
    idle.reset()
    good.close()
    other.reset()
    waiting.reset()
    servers[1].end_four_way()
    lost, done = (f"POST {uri}", None), (f"POST {uri}", 200)
    for client, server in ((impatient, servers[0]), (waiting, servers[1])):
        s.client_ends(client, reset("client", "awaiting_response", "failed", (1, 0), lost,
                                    Log(GONE_BY_RESET)))
        s.upstream_ends(server, client, closed("four_way", "client", "awaiting_response",
                                               "failed", (1, 0), lost))
    for client, server in ((idle, servers[3]), (other, servers[4])):
        s.client_ends(client, reset("client", "after_response", "completed", (1, 1), done,
                                    KEEPALIVE_RESET))
        served(s, server, client, done)
    s.client_ends(good, closed("three_way", "client", "after_response", "completed", (1, 1),
                               done, KEEPALIVE_LEFT))
    served(s, servers[2], good, done)


@scenario
def port_used_again(s: Stage) -> None:
    """After a RST the client's port is free at once, and its next connection has the same name."""
    what = ("GET /api/ping", 200)
    for ending in ("reset", "close"):
        client = s.connect(source=15000)
        client.ask("GET", "/api/ping")
        server = serve(s, client)
        client.response()
        if ending == "reset":
            client.reset()
            s.client_ends(client, reset("client", "after_response", "completed", (1, 1), what,
                                        KEEPALIVE_RESET))
        else:
            client.close()
            s.client_ends(client, closed("three_way", "client", "after_response", "completed",
                                         (1, 1), what, KEEPALIVE_LEFT))
        served(s, server, client, what)


@scenario
def header_timeout_in_order(s: Stage) -> None:
    """408 by nginx's own patience, with FIN."""
    client = s.connect(TIMED)
    client.send(b"GET /api/cart HTTP/1.1\r\nHost: shop.example.com\r\n")
    client.end_four_way()
    s.client_ends(client, closed(
        "four_way", "server", "during_request", "failed", (1, 0), ("GET /api/cart", None),
        timer("client timed out (110: Connection timed out) while reading client request headers")))
