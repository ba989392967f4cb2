# SPDX-License-Identifier: GPL-2.0-or-later
"""Ends that come of what stands between the two hosts: firewalls, translation, lost packets,
and third parties."""

from __future__ import annotations

from dataclasses import replace

from causes_stage import HTTP, CauseStage, Flow, cause_scenario, refusal
from causes_truth import active, injected, passive, quiet
from puppet import ACK, RST
from routed import SILENCE
from truth import closed, late_reset, reset, still_open

GET = ("GET /", 200)
SECOND = ("GET /second", None)
IDLE = quiet(still_open("after_response", "completed", (1, 1), GET))
WAITING = quiet(still_open("awaiting_response", "unknown", (1, 0), ("GET /report", None),
                           unasserted=("transaction",)))


# Firewalls


@cause_scenario
def firewall_rejects_syn(s: CauseStage) -> None:
    """The RST bears the server's address and comes from nearer. An ordinary connection shows
    how far away the server is."""
    s.ordinary()
    s.router.put("rejected_ports", f"{s.client} . {s.server} . 8443")
    s.ends(s.refused(8443), "firewall_reject", client=refusal())


@cause_scenario
def firewall_rejects_only_syn(s: CauseStage) -> None:
    """The same where nothing else is seen of that server: then the host could have said so."""
    s.router.put("rejected_ports", f"{s.client} . {s.server} . 8443")
    s.ends(s.refused(8443), "firewall_reject", client=refusal(),
           client_says=("firewall_reject", "port_closed", None))


@cause_scenario
def firewall_rejects_mid_stream(s: CauseStage) -> None:
    """A new rule, in both directions. The client's next request is rejected, of which the
    server learns nothing; and so is, later, the server's FIN."""
    client, server = s.pair()
    s.exchange(client, server)
    s.router.both_ways("rejected", s.client, s.server)
    client.ask("GET", "/second")
    s.expect_reset(client)
    s.pause()
    server.fin()
    s.expect_reset(server)
    s.ends(client, "firewall_reject",
           client=passive(reset("server", "awaiting_response", "failed", (2, 1), SECOND)),
           server=passive(late_reset("client", "after_response", "completed", (1, 1), GET,
                                     fin_by="server")),
           server_says=("firewall_reject", None))


@cause_scenario
def state_lost_for_request(s: CauseStage) -> None:
    """The router forgets a connection that is silent for too long, and resets what comes."""
    s.router.put("tracked", s.server)
    s.router.put("guarded", s.server)
    client, server = s.pair()
    s.exchange(client, server)
    s.pause(SILENCE)
    client.ask("GET", "/second")
    s.expect_reset(client)
    s.ends(client, "state_lost",
           client=passive(reset("server", "awaiting_response", "failed", (2, 1), SECOND)),
           server=IDLE, server_says=("state_lost", None))


@cause_scenario
def state_lost_for_response(s: CauseStage) -> None:
    """The same with an answer that took too long: it is the server that gets the RST, and the
    client waits on."""
    s.router.put("tracked", s.server)
    s.router.put("guarded", s.server)
    client, server = s.pair()
    client.ask("GET", "/report")
    server.take_request()
    s.pause(SILENCE)
    server.answer()
    s.expect_reset(server)
    s.ends(client, "state_lost", client=WAITING,
           server=passive(reset("client", "after_response", "failed", (1, 1),
                                ("GET /report", 200))),
           client_says=("state_lost", None))


@cause_scenario
def nat_mismatch(s: CauseStage) -> None:
    """The client knows the service's address, which the router translates until it forgets the
    connection. The answer then comes with the server's own address, which the client's kernel
    has never heard of; and the server's connection does bear that address."""
    s.router.put("tracked", f"{s.server}, {s.service}")
    s.router.put("services", f"{s.service} : {s.server}")
    listener = s.listen()
    client = s.connect((s.service, HTTP))
    server = s.keep(listener.accept())
    client.ask("GET", "/report")
    server.take_request()
    s.pause(SILENCE)
    server.answer()
    s.expect_reset(server)
    s.ends(client, "nat_mismatch", client=WAITING, client_says=("nat_mismatch", None))
    whole = reset("client", "after_response", "failed", (1, 1), ("GET /report", 200))
    # The client's capture has one segment of it, and the RST.
    stray = replace(whole, unasserted=("phase", "stage", "transaction", "requests", "responses",
                                       "request", "status"))
    s.ends(Flow(client.local, (s.server, HTTP), client.opened + 1e-6), "nat_mismatch",
           client=passive(stray), server=passive(whole), server_says=("nat_mismatch", None))


# Packets that get lost

_UNHEARD = still_open("awaiting_response", "unknown", (1, 0), ("GET /", None),
                      unasserted=("transaction",))
_UNASKED = quiet(still_open("before_request", "none", (0, 0)))


@cause_scenario
def request_dropped(s: CauseStage) -> None:
    """A box lets the handshake pass and nothing else. The client repeats its request; the
    server has an idle connection."""
    client, _ = s.pair()
    s.router.both_ways("dropped", s.client, s.server)
    client.ask("GET", "/")
    s.pause(3)
    s.ends(client, "request_dropped", client=quiet(_UNHEARD), server=_UNASKED,
           server_says=("request_dropped", None))


@cause_scenario
def request_dropped_and_given_up(s: CauseStage) -> None:
    """The same with a client that aborts. (One that closes is silent: its FIN waits behind the
    request, which the congestion window of a connection in distress does not let out.)"""
    client, _ = s.pair()
    s.router.both_ways("dropped", s.client, s.server)
    client.ask("GET", "/")
    s.pause(2.5)
    client.reset()
    s.ends(client, "request_dropped", client=active(reset(
        "client", "awaiting_response", "failed", (1, 0), ("GET /", None))), server=_UNASKED,
        server_says=("request_dropped", None))


@cause_scenario
def client_probes_in_vain(s: CauseStage) -> None:
    """The way is cut; the client's kernel asks three times whether anybody is there."""
    client, server = s.pair()
    s.exchange(client, server)
    s.router.both_ways("dropped", s.client, s.server)
    s.probe(client)
    s.expect_timeout(client)
    s.ends(client, "keepalive_probes_failed",
           client=active(reset("client", "after_response", "completed", (1, 1), GET)),
           server=IDLE, server_says=("keepalive_probes_failed", None))


@cause_scenario
def server_probes_in_vain(s: CauseStage) -> None:
    """The same from the server's side, while it thinks about the answer."""
    client, server = s.pair()
    client.ask("GET", "/report")
    server.take_request()
    s.router.both_ways("dropped", s.client, s.server)
    s.probe(server)
    s.expect_timeout(server)
    s.ends(client, "keepalive_probes_failed", client=WAITING,
           server=active(reset("server", "awaiting_response", "failed", (1, 0),
                               ("GET /report", None))),
           client_says=("keepalive_probes_failed", None))


# Third parties


@cause_scenario
def injected_at_both_ends(s: CauseStage) -> None:
    """A censor reads the request and resets both ends, the client thrice for good measure:
    other TTLs, and guesses at the sequence number."""
    client, server = s.pair()
    with s.router.eavesdrop(server.local) as censor:
        client.ask("GET", "/forbidden")
        seen = censor.wait_for(b"forbidden")
    server.take_request()
    end = seen.seq + len(seen.payload)
    for ahead in (0, 1460, 4380):
        s.router.forge(server.local, client.local, seen.ack + ahead, end, RST | ACK, ttl=113)
    s.router.forge(client.local, server.local, end, 0, RST, ttl=39)
    s.expect_reset(client)
    s.expect_reset(server)
    what = ("GET /forbidden", None)
    s.ends(client, "injected",
           client=injected(reset("server", "awaiting_response", "failed", (1, 0), what)),
           server=injected(reset("client", "awaiting_response", "failed", (1, 0), what)))


@cause_scenario
def injected_at_client(s: CauseStage) -> None:
    """Only the client is told; the server answers, as if it had not reset, and hears from the
    client's kernel that nobody is there."""
    client, server = s.pair()
    with s.router.eavesdrop(server.local) as censor:
        client.ask("GET", "/forbidden")
        seen = censor.wait_for(b"forbidden")
    server.take_request()
    s.router.forge(server.local, client.local, seen.ack, seen.seq + len(seen.payload), RST | ACK,
                   ttl=113)
    s.expect_reset(client)
    s.pause()
    server.answer()
    s.expect_reset(server)
    s.ends(client, "injected",
           # Whether an answer counts that came after the RST is nobody's to assert.
           client=injected(reset("server", "awaiting_response", "failed", (1, 1),
                                 ("GET /forbidden", 200),
                                 unasserted=("responses", "status"))),
           server=passive(reset("client", "after_response", "failed", (1, 1),
                                ("GET /forbidden", 200))),
           server_says=("injected", None))


@cause_scenario
def injected_in_vain(s: CauseStage) -> None:
    """A blind guess within the window: the client's kernel asks back instead of believing it,
    and the answer comes."""
    client, server = s.pair()
    with s.router.eavesdrop(server.local) as censor:
        client.ask("GET", "/forbidden")
        seen = censor.wait_for(b"forbidden")
    server.take_request()
    s.router.forge(server.local, client.local, seen.ack + 1000, 0, RST, ttl=113)
    s.pause()
    server.answer()
    client.response()
    client.fin()
    server.end_four_way()
    s.pause()
    whole = closed("four_way", "client", "after_response", "completed", (1, 1),
                   ("GET /forbidden", 200))
    # What a RST cut that cut nothing is nobody's to assert.
    s.ends(client, "injected",
           client=injected(replace(whole, reset_by="server", unasserted=(
               "phase", "stage", "close", "close_by", "piggybacked"))),
           server=quiet(whole), server_says=("injected", None))
