# SPDX-License-Identifier: GPL-2.0-or-later
"""Ends that look like one of the causes and are not: what is said too much shows here."""

from __future__ import annotations

import socket
import time

from causes_stage import HTTP, CauseStage, Flow, cause_scenario
from causes_truth import quiet
from truth import closed, still_open

GET = ("GET /", 200)
UNANSWERED = quiet(still_open("handshake", "none", (0, 0)))


@cause_scenario
def orderly(s: CauseStage) -> None:
    """Nothing to explain."""
    s.ordinary()


@cause_scenario
def firewall_drops_syn(s: CauseStage) -> None:
    """No cause of the table: SYNs without an answer, and nothing of them at the server."""
    s.router.put("dropped", f"{s.client} . {s.server}")
    s.ends(_unanswered(s), None, client=UNANSWERED)


@cause_scenario
def accept_queue_full(s: CauseStage) -> None:
    """The queue was full before the SYN came, which is then dropped: at the packets, the same
    as a firewall behind the capture."""
    listener = s.listen(backlog=0)
    filler = s.connect()
    if listener.waiting() != 1:
        raise RuntimeError("the queue is not full")
    says = ("accept_queue_overflow", None)
    s.ends(_unanswered(s), "accept_queue_overflow", UNANSWERED, client_says=says,
           server_says=says)
    s.ends(filler, None, quiet(still_open("before_request", "none", (0, 0))))


def _unanswered(s: CauseStage) -> Flow:
    with s.client_socket() as sock:
        sock.settimeout(1.5)
        flow = Flow(sock.getsockname(), (s.server, HTTP), time.time())
        try:
            sock.connect(flow.peer)
        except socket.timeout:
            return flow
    raise RuntimeError("the SYN was answered")


@cause_scenario
def probes_that_are_answered(s: CauseStage) -> None:
    """Keep-alive probes on a connection that lives."""
    client, server = s.pair()
    s.exchange(client, server)
    s.probe(client)
    s.pause(2.5)
    client.fin()
    server.end_four_way()
    s.pause()
    s.ends(client, None, quiet(closed("four_way", "client", "after_response", "completed",
                                      (1, 1), GET)))


@cause_scenario
def port_used_again_in_peace(s: CauseStage) -> None:
    """The same port as a connection in TIME_WAIT, which a newer SYN may take."""
    port, listener = s.port(), s.listen()
    for uri in ("/", "/again"):
        client = s.finish(s.client_socket(port), listener.address)
        server = s.keep(listener.accept())
        s.exchange(client, server, uri)
        server.close()
        client.end_four_way()
        s.pause()
        says = (None, "keepalive_timeout")  # a server that closes an idle connection
        s.ends(client, None, quiet(closed("four_way", "server", "after_response", "completed",
                                          (1, 1), (f"GET {uri}", 200))),
               client_says=says, server_says=says)


@cause_scenario
def answer_that_ends_with_the_connection(s: CauseStage) -> None:
    """HTTP/1.0 without a length: a FIN in time, not a crash."""
    client, server = s.pair()
    client.send(client.request("GET", "/log", version="1.0"))
    server.take_request()
    server.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nall there is\n")
    client.read_until(b"there is\n")
    server.close()
    client.end_four_way()
    s.pause()
    s.ends(client, None, quiet(closed("four_way", "server", "after_response", "completed",
                                      (1, 1), ("GET /log", 200))))
