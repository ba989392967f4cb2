// SPDX-License-Identifier: GPL-2.0-or-later
//! Conclusions that are often drawn from packets and are wrong. For each, a capture that tempts
//! to draw it, and what is said instead.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;

use rstdiag::session::{Session, When};
use support::builder::{Capture, Talk};
use support::fields;

/// What is said of one stream.
struct Said {
    fields: BTreeMap<&'static str, String>,
    summary: String,
    evidence: Vec<String>,
}

impl Said {
    #[track_caller]
    fn is(&self, wanted: &str) -> &Said {
        for pair in wanted.split_whitespace() {
            let (name, value) = pair.split_once('=').unwrap();
            let got = self.fields.get(name).map_or("-", String::as_str);
            assert_eq!(got, value, "{name} of: {}", self.summary);
        }
        self
    }

    #[track_caller]
    fn says(&self, part: &str) -> &Said {
        let text = format!("{}\n{}", self.summary, self.evidence.join("\n"));
        assert!(text.contains(part), "no '{part}' in: {text}");
        self
    }
}

fn said(session: &mut Session, stream: u32) -> Said {
    let verdict = session.verdict_of(stream, When::Final).unwrap();
    let mut fields = fields::of_stream(&verdict);
    fields.extend(fields::of_origin(&verdict));
    let evidence = verdict.cause().map(|cause| cause.evidence).unwrap_or_default();
    Said { fields, summary: verdict.summary(), evidence }
}

/// What is said of a capture of one talk.
fn of(script: &str) -> Said {
    said(&mut support::session_of(&Capture::of(&Talk::default(), script)), 0)
}

/// What is said of each of several talks, a millisecond after each other.
fn of_all(talks: &[(&str, &str, &str)]) -> Vec<Said> {
    let mut capture = Capture::default();
    for (number, (client, server, script)) in (0..).zip(talks) {
        let mut talk = Talk::between(client, server);
        talk.start += number * 1_000_000;
        talk.isn[0] += number as u32 * 77_777;
        capture.play(&talk, script);
    }
    let mut session = support::session_of(&capture);
    let streams: Vec<u32> = session.streams().collect();
    streams.into_iter().map(|stream| said(&mut session, stream)).collect()
}

// ---- 1: what every kernel writes into its answers is taken for a forgery ---------------------

#[test]
fn a_rst_with_window_0_and_ip_id_0_is_no_forgery() {
    of("open
        c GET:/a
        s 200:2 x*2
        c .
        c GET:/b +3
        s R passive")
    .is("form=passive answers=7 cause=peer_lost_socket phase=awaiting_response");
}

#[test]
fn a_rst_of_windows_with_window_0_is_the_living_socket_s() {
    of("open
        c GET:/a
        s . ttl=128
        c R. win=0")
    .is("form=active cause=client_abort");
}

#[test]
fn one_hop_more_is_no_third_party() {
    // A route that changed, not a box that forges: what is foreign has to be far off.
    of("open
        c GET:/a
        s .
        s R. ttl=63")
    .is("form=unclear cause=-");
    of("open
        c GET:/a
        s .
        s R. ttl=113")
    .is("form=injected cause=injected")
    .says("has TTL 113, the side's other packets (frame 5) have 64");
}

#[test]
fn a_syn_ack_with_ip_id_0_makes_no_rst_foreign() {
    of("c S
        s S. id=0
        c .
        c GET:/a
        s .
        s R.")
    .is("form=active reset.by=server");
}

// ---- 2: the address of a RST is taken for its sender -----------------------------------------

#[test]
fn a_rst_that_bears_the_server_s_address_need_not_be_the_server_s() {
    let said = of("open
        c GET:/a
        s .
        s R. seq=+1000 ttl=113
        s 200:2000 x*2000
        c .");
    said.is("form=injected cause=injected transaction=completed reset.by=server")
        .says("the server's RST in frame 6 had no effect");
    // Only a foreign TTL tells who rejected, and the form stays what the numbers make it.
    of("open
        c GET:/a
        s 200:2 x*2
        c .
        c GET:/b
        s R passive ttl=65")
    .is("reset.by=server form=passive cause=firewall_reject");
}

// ---- 3: who sent the RST is taken for who is at fault ----------------------------------------

#[test]
fn a_rst_by_the_server_that_answers_a_late_alert_is_not_the_server_s_fault() {
    // An alert of TLS 1.2, and one of TLS 1.3, which shows only by its length.
    for alert in ["tls:21:26", "hex:1703030013 x*19"] {
        let script = format!(
            "open
            c tls:22:100
            s tls:22:90 tls:20:1 tls:22:40
            c tls:20:1 tls:22:40
            s tls:22:40
            c tls:23:200
            s tls:23:300
            c .
            s F. +5
            c .
            c {alert}
            s R passive"
        );
        of(&script).is("phase=teardown form=passive cause=late_tls_alert severity=harmless");
    }
}

#[test]
fn a_rst_by_the_server_that_answers_a_late_request_is_a_race() {
    of("open
        c GET:/a
        s 200:2 x*2
        c .
        s F. +5
        c GET:/b
        s R passive")
    .is("phase=teardown form=passive cause=keepalive_race transaction=failed")
    .says("5.0 s after the last complete response, before GET /b");
}

#[test]
fn a_rst_by_the_client_that_answers_a_late_response_is_no_reset_of_the_response() {
    of("open
        c GET:/a
        c F.
        s . +0.1
        s 200:2 x*2 +0.5
        c R passive")
    .is("phase=teardown form=passive cause=data_after_close reset.by=client");
}

// ---- 4: a RST is taken for a failure ---------------------------------------------------------

#[test]
fn a_rst_after_the_complete_response_lost_nothing() {
    of("open
        c GET:/a
        s 200:2 x*2
        c .
        c R. +0.1")
    .is("phase=after_response transaction=completed severity=harmless");
}

#[test]
fn a_rst_that_itself_acknowledges_the_whole_response_lost_nothing() {
    of("open
        c GET:/a
        s 200:2 x*2
        c R.")
    .is("transaction=completed severity=harmless missing=0");
}

// ---- 5: no RST is taken for success ----------------------------------------------------------

#[test]
fn a_fin_in_the_middle_of_a_body_is_a_failure_without_a_rst() {
    of("open
        c GET:/a
        s F. 200:1000 x*10
        c F.
        s .")
    .is("phase=- reset.by=- transaction=failed severity=failure cause=crash missing=990");
}

#[test]
fn silence_after_the_handshake_is_an_overflow_without_a_rst() {
    of("open
        c GET:/a
        s S. seq=0 ack=1 +1
        c .
        c again
        s S. seq=0 ack=1 +2
        c .
        c again")
    .is("phase=- cause=accept_queue_overflow transaction=unknown")
    .says("nothing that the client sent was acknowledged")
    .says("the same packets can mean request_dropped");
}

#[test]
fn a_body_until_the_close_that_ends_with_a_fin_is_no_crash() {
    of("open
        c GET:/a
        s 200:close x*10
        s F.
        c F.
        s .")
    .is("transaction=completed severity=harmless cause=-");
}

// ---- 6: what was logged as sent is taken for what was delivered ------------------------------

#[test]
fn what_the_server_handed_to_its_kernel_is_not_what_the_client_got() {
    // The server's side of the capture holds the whole response; its RST drops what was not
    // acknowledged, however much nginx counts as sent.
    of("open
        c GET:/a
        s 200:3000
        s x*1000
        s x*1000
        c . ack=1050
        s x*1000
        s R. +1")
    .is("transaction=unknown acked=false reset.by=server")
    .says("which the client had not acknowledged");
    let said = of("open
        c GET:/a
        s 200:5000
        s x*1000
        c .
        s x*1000
        s R. +60");
    said.is(
        "transaction=failed phase=during_response missing=4000 acked=false cause=forced_abort",
    );
}

// ---- 7: a stream is taken to have one RST, and each RST to be one ----------------------------

#[test]
fn three_rsts_of_one_end_are_one_reset() {
    of("open
        c GET:/a
        s .
        c R.
        c R.
        c R. id=0 win=0")
    .is("reset.count=3 reset.frame=6 form=active cause=client_abort");
}

#[test]
fn a_copy_by_the_capture_is_no_second_rst() {
    of("open
        c GET:/a
        s .
        c R. dup")
    .is("reset.count=1 form=active");
}

#[test]
fn a_copy_behind_a_router_has_another_ttl_and_is_no_forgery() {
    // Captured on both interfaces of a router: each frame twice, with one hop between.
    of("c S
        c S seq=0 id=1001 ttl=63
        s S.
        s S. seq=0 id=5001 ttl=63
        c .
        c . id=1002 ttl=63
        c GET:/a
        c GET:/a seq=1 id=1003 ttl=63
        s .
        s . id=5002 ttl=63
        s R. id=5003
        s R. id=5003 ttl=63")
    .is("reset.count=1 form=active");
}

// ---- 8: a retransmitted FIN is taken for a second close --------------------------------------

#[test]
fn a_fin_sent_once_more_is_no_second_close() {
    of("open
        c GET:/a
        s 200:2 x*2
        c .
        c F.
        c again +0.008
        s .
        s F.
        c .")
    .is("close=four_way close.by=client close.frame=7 transaction=completed cause=-");
}

// ---- 9: closes that only look odd ------------------------------------------------------------

#[test]
fn a_fin_on_data_and_a_three_way_close_are_normal() {
    of("open
        c GET:/a
        s F. 200:2 x*2
        c F.
        s .")
        .is("close=three_way close.piggybacked=true transaction=completed severity=harmless cause=-");
}

#[test]
fn a_client_that_closes_its_direction_and_reads_on_has_not_left() {
    of("open
        c F. GET:/a
        s . +0.1
        s 200:2 x*2 +1
        c .
        s F.
        c .")
    .is("close=half_close transaction=completed severity=harmless cause=-");
}

// ---- 10: the order at the capture is taken for the order of events ---------------------------

#[test]
fn a_response_that_crosses_the_rst_is_not_what_the_rst_answers() {
    // Captured at the server: the client had reset before it saw anything of this response.
    of("open
        c GET:/a
        s . +0.001
        s 200:2 x*2
        c R. ack=1")
    .is("form=active answers=- reset.by=client transaction=failed");
}

#[test]
fn a_request_that_crosses_the_servers_fin_was_sent_before_it() {
    // Captured at the client, the request stands before the FIN that it met.
    of("open
        c GET:/a
        s 200:2 x*2
        c .
        c GET:/b +5
        s F. ack=29
        s R passive seq=-1")
    .is("form=passive cause=keepalive_race transaction=failed");
}

#[test]
fn a_rst_long_after_a_segment_is_no_answer_to_it() {
    // The numbers of a RST without ACK always fit the last segment; a host that answers within
    // a millisecond does not think for a second about this one. BSD aborts like this.
    of("open
        c GET:/a
        s 200:2 x*2
        c .
        c GET:/b +3
        s . +0.001
        s R win=0 +1.2")
    .is("form=unclear answers=- cause=-");
}

#[test]
fn an_answer_over_a_long_way_takes_its_round_trip() {
    // Half a second to the server and back: the handshake shows it, and segments that cross in
    // between say nothing else.
    of("c S
        s S. +0.6
        c .
        c GET:/a
        s 200:2000 x*1000 +0.6
        s x*1000
        c .
        c GET:/b +3
        s R passive +0.6")
    .is("form=passive answers=8 cause=peer_lost_socket");
}

// ---- 11: «complete» by flags is taken for complete -------------------------------------------

#[test]
fn tcp_completeness_does_not_make_a_transaction() {
    // SYN, SYN-ACK, ACK, data and a FIN: tcp.completeness is 31, «complete».
    of("open
        c GET:/a
        s 200:1000 x*10
        c .
        c F.
        s .")
    .is("close=one_fin transaction=unknown missing=990");
    // And with a RST in the middle of the body: 47.
    of("open
        c GET:/a
        s 200:1000 x*10
        c R.")
    .is("close=reset transaction=failed missing=990 cause=client_abort");
}

// ---- 12: two streams on either side of a box are taken for one -------------------------------

#[test]
fn a_reset_on_one_side_of_a_load_balancer_is_not_one_on_the_other() {
    let said = of_all(&[
        (
            "10.0.0.1:40000",
            "10.0.0.2:80",
            "open
            c GET:/a
            s . +0.01
            c R. +0.2",
        ),
        (
            "10.0.0.2:50000",
            "10.0.0.3:8080",
            "open +0.002
            c GET:/a
            s 200:2 x*2 +0.5
            c F.
            s F.
            c .",
        ),
    ]);
    said[0].is("reset.by=client transaction=failed cause=client_abort");
    said[1].is("reset.by=- transaction=completed severity=harmless cause=-");
}

#[test]
fn a_load_balancer_that_checks_many_servers_scans_nobody() {
    let check = "c S
        s S.
        c R.";
    let talks = [
        ("10.0.0.9:40001", "10.0.0.2:80", check),
        ("10.0.0.9:40002", "10.0.0.3:80", check),
        ("10.0.0.9:40003", "10.0.0.4:80", check),
        ("10.0.0.9:40004", "10.0.0.5:80", check),
        ("10.0.0.9:40005", "10.0.0.6:80", check),
        ("10.0.0.9:40006", "10.0.0.2:80", check),
    ];
    let said = of_all(&talks);
    said[0].is("cause=health_check severity=harmless");
    said[1].is("cause=- severity=harmless");
    said[5].is("cause=health_check");
}

// ---- Nearly a cause: what contradicts it -----------------------------------------------------

#[test]
fn a_host_that_is_down_is_not_scanned() {
    let refused = "isn 1000 0
        c S
        s R. seq=0 passive";
    let talks: Vec<_> = ["10.0.0.2:80", "10.0.0.2:443", "10.0.0.2:8080"]
        .map(|server| ("10.0.0.1:40000", server, refused))
        .into();
    for said in of_all(&talks) {
        said.is("cause=- severity=warning form=passive");
    }
}

#[test]
fn a_listener_restart_resets_only_what_was_never_served() {
    let unserved = "open
        c GET:/a
        s .
        s R. +1";
    let served = "open
        c GET:/a
        s 200:9000 x*10
        c .
        c .
        s R. +0.998";
    let said = of_all(&[
        ("10.0.0.1:40001", "10.0.0.2:80", unserved),
        ("10.0.0.1:40002", "10.0.0.2:80", unserved),
        ("10.0.0.1:40003", "10.0.0.2:80", unserved),
        ("10.0.0.1:40004", "10.0.0.2:80", served),
    ]);
    said[0].is("cause=listener_restart");
    said[3].is("cause=forced_abort");
}

#[test]
fn who_stays_without_a_word_is_no_health_check() {
    let script = "open
        c R. +60";
    let said = of_all(&[
        ("10.0.0.1:40001", "10.0.0.2:80", script),
        ("10.0.0.1:40002", "10.0.0.2:80", script),
    ]);
    said[0].is("form=active cause=- severity=harmless");
}

#[test]
fn three_closed_ports_are_three_closed_ports_where_the_host_is_known() {
    let refused = "isn 1000 0
        c S
        s R. seq=0 passive";
    let orderly = "open
        c GET:/a
        s 200:2 x*2
        c F.
        s F.
        c .";
    let said = of_all(&[
        ("10.0.0.1:40001", "10.0.0.2:80", orderly),
        ("10.0.0.1:40002", "10.0.0.2:81", refused),
        ("10.0.0.1:40003", "10.0.0.2:82", refused),
        ("10.0.0.1:40004", "10.0.0.2:83", refused),
    ]);
    said[1].is("cause=port_closed severity=warning");
    said[3].is("cause=port_closed").says("the host's other connections have 64");
}
