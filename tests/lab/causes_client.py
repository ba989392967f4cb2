# SPDX-License-Identifier: GPL-2.0-or-later
"""Ends that the client causes, and those that come of which ports it uses."""

from __future__ import annotations

import socket
import time

from causes_stage import HTTP, CauseStage, Flow, cause_scenario, refusal
from causes_truth import active, passive, quiet
from network import CLIENT
from puppet import SYN, ip_packet, tcp_segment
from truth import closed, late_reset, reset

GET = ("GET /", 200)


@cause_scenario
def client_gave_up(s: CauseStage) -> None:
    """The SYN-ACK is lost, the client's patience shorter than the repetition: when that comes,
    its kernel knows nothing of it any more."""
    s.listen()
    s.router.put("dropped", f"{s.server} . {s.client}")
    with s.client_socket() as sock:
        sock.settimeout(0.3)
        flow = Flow(sock.getsockname(), (s.server, HTTP), time.time())
        try:
            sock.connect(flow.peer)
            raise RuntimeError("the SYN-ACK came through")
        except socket.timeout:
            pass
    s.router.take("dropped", f"{s.server} . {s.client}")
    s.pause(1.2)
    s.ends(flow, "client_gave_up", passive(reset("client", "handshake", "none", (0, 0))))


@cause_scenario
def health_check_without_ack(s: CauseStage) -> None:
    """A balancer looks every now and then whether the port is open. It wants no ACK to be sent
    and aborts, as HAProxy does: SYN, SYN-ACK, RST."""
    s.listen()
    for _ in range(3):
        client = s.connect(hasty=True)
        client.reset()
        s.pause(0.5)
        s.ends(client, "health_check", active(reset("client", "handshake", "none", (0, 0))))


@cause_scenario
def health_check_with_ack(s: CauseStage) -> None:
    """The same with a plain connect(): SYN, SYN-ACK, ACK, RST."""
    listener = s.listen()
    for _ in range(3):
        client = s.connect()
        s.keep(listener.accept())
        client.reset()
        s.pause(0.5)
        s.ends(client, "health_check", active(reset("client", "before_request", "none", (0, 0))))


@cause_scenario
def port_scan(s: CauseStage) -> None:
    """A half-open scan: the tool makes SYNs of its own, and the kernel under it resets each
    SYN-ACK that it did not ask for."""
    ports = (21, 22, 25, 80, 443, 3306, 8000, 8080)
    opened = (80, 443)
    for port in opened:
        s.listen(port)
    source = s.port()
    with s.wire(CLIENT) as wire:
        for port in ports:
            flow = Flow((s.client, source), (s.server, port), time.time())
            segment = tcp_segment(flow.local, flow.peer, 0x5CA00000 + port, 0, SYN)
            wire.sendto(ip_packet(s.client, s.server, port, segment), (s.server, 0))
            s.pause(0.02)
            if port in opened:
                s.ends(flow, "port_scan", passive(reset("client", "handshake", "none", (0, 0))))
            else:  # one closed port is one, whoever asks
                s.ends(flow, "port_scan", refusal(), client_says=("port_scan", "port_closed"),
                       server_says=("port_scan", "port_closed"))


@cause_scenario
def port_reuse(s: CauseStage) -> None:
    """The server ended first and keeps the connection in TIME_WAIT. The client, or another one
    behind the same translated address, comes from the same port with an older sequence number:
    an ACK of the old connection, a RST of the new one, and a second SYN."""
    port, listener = s.port(), s.listen()
    # With timestamps the kernel would see that the SYN is new.
    s.set(CLIENT, "tcp_timestamps", "0")
    try:
        sock = s.client_socket(port)
        s.number_from(sock, 0x50000000)
        first = s.finish(sock, listener.address)
        first_server = s.keep(listener.accept())
        s.exchange(first, first_server)
        first_server.close()
        first.end_four_way()
        s.pause()
        sock = s.client_socket(port)
        s.number_from(sock, 0x4F000000)
        second = s.finish(sock, listener.address)
    finally:
        s.set(CLIENT, "tcp_timestamps", "1")
    second_server = s.keep(listener.accept())
    s.exchange(second, second_server)
    second.fin()
    second_server.end_four_way()
    s.pause()
    s.ends(first, None, quiet(closed("four_way", "server", "after_response", "completed", (1, 1),
                                     GET)), client_says=(None, "keepalive_timeout"),
           server_says=(None, "keepalive_timeout"))
    # The connection lived on: whether the RST or the FINs ended it is nobody's to assert.
    s.ends(second, "port_reuse", passive(reset(
        "client", "handshake", "completed", (1, 1), GET,
        unasserted=("stage", "close", "close_by", "piggybacked"))))


@cause_scenario
def client_leaves_while_waiting(s: CauseStage) -> None:
    """The user presses Stop: FIN, and the server does not answer what nobody wants."""
    client, server = s.pair()
    client.ask("GET", "/report")
    server.take_request()
    s.pause()
    client.fin()
    server.end_four_way()
    s.pause()
    s.ends(client, "client_abort", quiet(closed(
        "four_way", "client", "awaiting_response", "failed", (1, 0), ("GET /report", None))))


@cause_scenario
def client_resets_while_waiting(s: CauseStage) -> None:
    """A deadline passes and the library aborts."""
    client, server = s.pair()
    client.ask("GET", "/report")
    server.take_request()
    s.pause()
    client.reset()
    s.expect_reset(server)
    s.ends(client, "client_abort", active(reset(
        "client", "awaiting_response", "failed", (1, 0), ("GET /report", None))))


@cause_scenario
def client_resets_mid_body(s: CauseStage) -> None:
    """The user leaves the page in the middle of a download, everything read so far. That data
    lay unread cannot be excluded from outside."""
    says = ("client_abort", "unread_data")
    client, server = s.pair()
    client.ask("GET", "/film")
    server.take_request()
    server.answer(b"x" * 3000, length=20000)
    client.read_until(b"\r\n\r\n")
    client.read(3000)
    s.pause()
    client.reset()
    s.expect_reset(server)
    s.ends(client, "client_abort", active(reset(
        "client", "during_response", "failed", (1, 0), ("GET /film", 200))),
        client_says=says, server_says=says)


@cause_scenario
def client_resets_when_done(s: CauseStage) -> None:
    """The whole answer is there and acknowledged; the client saves itself TIME_WAIT."""
    client, server = s.pair()
    s.exchange(client, server)
    s.pause()
    client.reset()
    s.expect_reset(server)
    s.ends(client, "forced_abort", active(reset("client", "after_response", "completed", (1, 1),
                                                GET)),
           client_says=("forced_abort", None), server_says=("forced_abort", None))


@cause_scenario
def client_leaves_response_unread(s: CauseStage) -> None:
    """close() while a part of the answer lies unread: a RST for the rest of it."""
    says = ("unread_data", "client_abort")
    client, server = s.pair()
    client.ask("GET", "/film")
    server.take_request()
    server.answer(b"x" * 8000, length=20000)
    client.read_until(b"\r\n\r\n")
    s.pause()
    client.close()
    s.expect_reset(server)
    s.ends(client, "unread_data", active(reset(
        "client", "during_response", "failed", (1, 0), ("GET /film", 200))),
        client_says=says, server_says=says)


@cause_scenario
def answer_to_closed_client(s: CauseStage) -> None:
    """The client has gone in order; the server answers all the same."""
    says = ("data_after_close", "client_abort")
    client, server = s.pair()
    client.ask("GET", "/report")
    server.take_request()
    client.close()
    s.pause()
    server.answer()
    s.expect_reset(server)
    s.ends(client, "data_after_close", passive(late_reset(
        "client", "awaiting_response", "failed", (1, 1), ("GET /report", 200),
        fin_by="client")), client_says=says, server_says=says)


@cause_scenario
def client_vanishes(s: CauseStage) -> None:
    """The client's host lost its power while it waited, and is up again when the answer comes."""
    client, server = s.pair()
    client.ask("GET", "/report")
    server.take_request()
    s.pause()
    s.vanish(client)
    s.pause(2)
    server.answer()
    s.expect_reset(server)
    s.ends(client, "peer_lost_socket", passive(reset(
        "client", "after_response", "failed", (1, 1), ("GET /report", 200))))
