# SPDX-License-Identifier: GPL-2.0-or-later
"""Ends that the server causes: its application, its kernel, its nginx."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from typing import Tuple

from causes_nginx import ABORTING, NGINX, SECURE
from causes_stage import HTTP, CauseStage, Flow, cause_scenario, refusal
from causes_truth import active, passive, quiet
from network import UPSTREAM
from peers import Client
from routed import SERVER
from truth import closed, late_reset, reset, still_open

GET = ("GET /", 200)
SECOND = ("GET /second", None)
# What cannot be told from outside: an abort on purpose, and one because of unread data.
ABORT_WORDS = ("forced_abort", "unread_data")


@cause_scenario
def port_closed(s: CauseStage) -> None:
    """Nobody listens there. An ordinary connection shows that it is the host that says so."""
    s.ordinary()
    s.ends(s.refused(3128), "port_closed", refusal())


# The queue of a listener. Whether its overflow is said is a setting of the whole host.
_OVERFLOW = threading.Lock()


@cause_scenario
def accept_queue_overflow_aborts(s: CauseStage) -> None:
    """An application that does not accept: the queue has room for one, and another connection
    took it between this one's SYN and its ACK. Where the kernel is told to, it answers the ACK
    by RST. For the client, and for who counts packets, the handshake was complete."""
    with _OVERFLOW:
        s.set(SERVER, "tcp_abort_on_overflow", "1")
        try:
            late, filler = _overflow(s)
            s.expect_reset(late)  # the ACK goes out without a request after at most 200 ms
        finally:
            s.set(SERVER, "tcp_abort_on_overflow", "0")
    s.ends(late, "accept_queue_overflow", passive(reset("server", "before_request", "none",
                                                        (0, 0))))
    s.ends(filler, None, quiet(still_open("before_request", "none", (0, 0))))


@cause_scenario
def accept_queue_overflow(s: CauseStage) -> None:
    """The same where the kernel is not told to, as usual: it acts as if the ACK had not come,
    repeats its SYN-ACK, and has forgotten the connection when the request comes once more."""
    with _OVERFLOW:
        late, filler = _overflow(s)
        late.ask("GET", "/")
        s.expect_reset(late)
    s.ends(late, "accept_queue_overflow", passive(reset(
        "server", "awaiting_response", "failed", (1, 0), ("GET /", None))))
    s.ends(filler, None, quiet(still_open("before_request", "none", (0, 0))))


def _overflow(s: CauseStage) -> Tuple[Client, Client]:
    """A connection that the kernel cannot put into its listener's queue any more, and the one
    that fills it."""
    listener = s.listen(backlog=0)
    late = s.connect(hasty=True)
    filler = s.connect()
    if listener.waiting() != 1:
        raise RuntimeError("the queue is not full")
    return late, filler


@cause_scenario
def listener_restart(s: CauseStage) -> None:
    """A server that is restarted closes its listener: every connection of the queue is reset,
    and the kernel had acknowledged their requests."""
    listener = s.listen()
    clients = [s.connect() for _ in range(4)]
    for client in clients:
        client.ask("GET", "/")
    s.pause()
    listener.close()
    for client in clients:
        s.expect_reset(client)
        s.ends(client, "listener_restart", active(reset(
            "server", "awaiting_response", "failed", (1, 0), ("GET /", None))))


# Unread data, and aborts


@cause_scenario
def server_leaves_request_unread(s: CauseStage) -> None:
    """The application looks at the first line, does not like it, and closes."""
    client, server = s.pair()
    client.ask("POST", "/upload", body=b"x" * 3000)
    server.read_until(b"\r\n")
    s.pause()
    server.close()
    s.expect_reset(client)
    s.ends(client, "unread_data", active(reset(
        "server", "awaiting_response", "failed", (1, 0), ("POST /upload", None))))


@cause_scenario
def server_answers_unread_request(s: CauseStage) -> None:
    """It says 413 before it closes, the body unread. This client was quick enough to read that;
    the RST would have taken the answer from a slower one."""
    client, server = s.pair()
    client.ask("POST", "/avatar", body=b"x" * 3000)
    server.read_until(b"\r\n\r\n")
    server.answer(status="413 Content Too Large")
    client.response("POST")
    s.pause()
    server.close()
    s.expect_reset(client)
    s.ends(client, "unread_data", active(reset(
        "server", "after_response", "completed", (1, 1), ("POST /avatar", 413))))


@cause_scenario
def server_aborts_idle_connection(s: CauseStage) -> None:
    """SO_LINGER with zero seconds, on a connection on which nothing can lie unread."""
    client, server = s.pair()
    s.exchange(client, server)
    s.pause(0.5)
    server.reset()
    s.expect_reset(client)
    s.ends(client, "forced_abort", active(reset("server", "after_response", "completed", (1, 1),
                                                GET)))


@cause_scenario
def administrator_kills_connection(s: CauseStage) -> None:
    """`ss -K` on the server, while its application thinks about the answer."""
    client, server = s.pair()
    client.ask("GET", "/report")
    server.take_request()
    s.pause()
    s.command(SERVER, "ss", "-Kt", "state", "established", "src", s.server)
    s.expect_reset(client)
    s.ends(client, "forced_abort", active(reset(
        "server", "awaiting_response", "failed", (1, 0), ("GET /report", None))),
        client_says=ABORT_WORDS, server_says=ABORT_WORDS)


@cause_scenario
def nginx_aborts_slow_client(s: CauseStage) -> None:
    """reset_timedout_connection: the headers did not become complete in time."""
    client = s.connect((NGINX, ABORTING))
    client.send(b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n")
    s.expect_reset(client)
    s.ends(client, "forced_abort", active(reset(
        "server", "during_request", "failed", (1, 0), ("GET /", None))),
        client_says=ABORT_WORDS, server_says=ABORT_WORDS)


@cause_scenario
def server_is_killed(s: CauseStage) -> None:
    """SIGKILL in the middle of an answer: the kernel closes in order, and the body is short."""
    client, server = s.pair()
    client.ask("GET", "/export")
    server.take_request()
    server.answer(b"x" * 3000, length=20000)
    client.read_until(b"\r\n\r\n")
    client.read(3000)
    process = s.hand_to_process(server)
    s.pause()
    process.kill()
    process.wait()
    client.end_four_way()
    s.pause()
    s.ends(client, "crash", quiet(closed("four_way", "server", "during_response", "failed",
                                         (1, 0), ("GET /export", 200))))


@cause_scenario
def server_is_killed_before_reading(s: CauseStage) -> None:
    """SIGKILL with the request unread: the RST is that of any close with unread data."""
    says = ("unread_data", "forced_abort", "crash")
    client, server = s.pair()
    client.ask("GET", "/export")
    s.pause()
    process = s.hand_to_process(server)
    s.pause()
    process.kill()
    process.wait()
    s.expect_reset(client)
    s.ends(client, "crash", active(reset(
        "server", "awaiting_response", "failed", (1, 0), ("GET /export", None))),
        client_says=says, server_says=says)


@cause_scenario
def server_vanishes(s: CauseStage) -> None:
    """The server's host has been started anew between two requests: for its kernel, what goes
    on there belongs to nothing. It is so for every connection to that host."""
    listener = s.listen()
    pairs = [s.pair(listener) for _ in range(2)]
    for client, server in pairs:
        s.exchange(client, server)
    s.pause()
    for _, server in pairs:
        s.vanish(server)
    s.pause(2)
    for client, _ in pairs:
        client.ask("GET", "/second")
        s.expect_reset(client)
        s.ends(client, "peer_lost_socket", passive(reset(
            "server", "awaiting_response", "failed", (2, 1), SECOND)))


# Keep-alive, and what comes after the end


@cause_scenario
def keepalive_timeout(s: CauseStage) -> None:
    """nginx waits five seconds for another request."""
    client = s.connect((NGINX, HTTP))
    client.ask("GET", "/")
    client.response()
    client.end_four_way()
    s.pause()
    s.ends(client, "keepalive_timeout", quiet(closed(
        "four_way", "server", "after_response", "completed", (1, 1), GET)))


@cause_scenario
def keepalive_race_lost(s: CauseStage) -> None:
    """The FIN has arrived, and the client's pool of connections has not looked."""
    client, server = s.pair()
    s.exchange(client, server)
    s.pause(1)
    server.close()
    s.pause()
    client.ask("GET", "/second")
    s.expect_reset(client)
    s.ends(client, "keepalive_race", passive(late_reset(
        "server", "after_response", "failed", (2, 1), SECOND, fin_by="server")))


@cause_scenario
def keepalive_race_crossing(s: CauseStage) -> None:
    """On a long line the request and the FIN pass each other: neither side did wrong. In the
    client's capture the request comes before the FIN that was sent before it."""
    s.router.slow(s.server, SERVER)
    client, server = s.pair()
    s.exchange(client, server)
    s.pause(1)
    s.router.hold(s.server)
    server.close()
    s.pause()
    client.ask("GET", "/second")
    s.pause()
    s.router.let_go(s.server)
    s.expect_reset(client)
    crossed = late_reset("server", "after_response", "failed", (2, 1), SECOND, fin_by="server")
    s.ends(client, "keepalive_race", client=passive(late_reset(
        "server", "awaiting_response", "failed", (2, 1), SECOND, fin_by="server",
        unasserted=("stage",))), server=passive(crossed))


@cause_scenario
def body_after_early_answer(s: CauseStage) -> None:
    """The server answers and closes in order, everything read that had come; the client goes
    on with its body."""
    client, server = s.pair()
    client.send(client.request("POST", "/avatar", body=b"x" * 2000, length=5000))
    server.read_until(b"x" * 2000)
    server.answer(status="413 Content Too Large")
    client.response("POST")
    s.pause()
    server.close()
    s.pause()
    client.send(b"x" * 3000)
    s.expect_reset(client)
    s.ends(client, "data_after_close", passive(late_reset(
        "server", "after_response", "completed", (1, 1), ("POST /avatar", 413),
        fin_by="server")))


@cause_scenario
def late_tls_alert(s: CauseStage) -> None:
    """nginx said close_notify and FIN; the client's own close_notify comes to nobody."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client = s.connect((NGINX, SECURE))
    secure = s.keep(context.wrap_socket(client.socket))
    secure.sendall(client.request("GET", "/", "Connection: close"))
    while secure.recv(65536):
        pass
    s.pause(0.2)  # close_notify has come, and the FIN behind it must have
    with contextlib.suppress(OSError):
        secure.unwrap()
    s.pause()
    secure.close()
    # Without the keys, nobody can tell requests and responses.
    s.ends(client, "late_tls_alert", passive(late_reset(
        "server", "after_response", "completed", (1, 1), GET, fin_by="server",
        unasserted=("stage", "transaction", "requests", "responses", "request", "status",
                    "piggybacked"))))


# nginx's other side


@cause_scenario
def upstream_refuses(s: CauseStage) -> None:
    """502: nobody listens at the upstream. nginx ends its client's connection in order."""
    client, leg = _ask_upstream(s, "/refused/")
    client.response()
    client.fin()
    client.drain()
    s.pause()
    _failed(s, client, "/refused/", 502)
    s.ends(leg, "port_closed", server=refusal())


@cause_scenario
def upstream_resets(s: CauseStage) -> None:
    """502: the upstream takes the request and aborts."""
    listener = s.listen(host=UPSTREAM)
    client, leg = _ask_upstream(s, "/app/")
    server = s.keep(listener.accept())
    server.take_request()
    s.pause()
    server.reset()
    client.response()
    client.fin()
    client.drain()
    s.pause()
    _failed(s, client, "/app/", 502)
    s.ends(leg, "forced_abort", server=active(reset(
        "server", "awaiting_response", "failed", (1, 0), ("GET /app/", None))),
        server_says=ABORT_WORDS)


@cause_scenario
def upstream_is_too_slow(s: CauseStage) -> None:
    """504: nginx does not wait any longer, and leaves the upstream as any client does."""
    says = ("client_abort", "upstream_failed", None)
    listener = s.listen(host=UPSTREAM)
    client, leg = _ask_upstream(s, "/slow/")
    server = s.keep(listener.accept())
    server.take_request()
    server.end_four_way()
    client.response()
    client.fin()
    client.drain()
    s.pause()
    _failed(s, client, "/slow/", 504)
    s.ends(leg, "client_abort", server=quiet(closed(
        "four_way", "client", "awaiting_response", "failed", (1, 0), ("GET /slow/", None))),
        server_says=says)


def _ask_upstream(s: CauseStage, uri: str) -> Tuple[Client, Flow]:
    """A request that nginx passes on, and the connection on which it does: nginx is told which
    address and port to use, because nobody else could say so later."""
    port = s.port()
    client = s.connect((NGINX, HTTP))
    upstream = (s.upstream, 9000 if uri == "/refused/" else HTTP)
    leg = Flow((s.server, port), upstream, time.time())
    client.ask("GET", uri, f"X-From: {s.server}:{port}", f"X-To: {upstream[0]}:{upstream[1]}")
    return client, leg


def _failed(s: CauseStage, client: Client, uri: str, status: int) -> None:
    """Declares what the client saw of it."""
    s.ends(client, "upstream_failed", quiet(closed(
        "four_way", "client", "after_response", "completed", (1, 1), (f"GET {uri}", status))))
