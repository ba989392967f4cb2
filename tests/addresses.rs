// SPDX-License-Identifier: GPL-2.0-or-later
//! Clients that bear one address in the log and another one in the capture: which entries find
//! their stream all the same, and where nobody can tell.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use rstdiag::correlate::evidence::Criterion;
use rstdiag::session::{LogKind, Session, When};
use serde::Deserialize;
use support::builder::{Capture, Talk};
use support::lab;

/// Client, server, milliseconds after the first talk, script.
type Spoken<'a> = (&'a str, &'a str, i64, &'a str);

const NGINX: &str = "10.0.0.2:80";

/// A client that asks for this, with this header field, and resets.
fn resets(uri: &str, field: &str) -> String {
    format!(
        r#"open
        c "GET {uri} HTTP/1.1\r\nHost: h\r\n{field}\r\n"
        s . +0.001
        c R. +0.1"#
    )
}

/// A header field.
fn field(text: &str) -> String {
    format!("{text}\\r\\n")
}

/// What nginx writes when a client of this address has reset its request.
fn reset(second: u32, connection: u32, client: &str, uri: &str) -> String {
    format!(
        "2024/01/01 00:00:{second:02} [info] 7#7: *{connection} recv() failed (104: Connection \
         reset by peer) while sending response to client, client: {client}, server: h, \
         request: \"GET {uri} HTTP/1.1\", host: \"h\"\n"
    )
}

/// What nginx writes when a client has reset an idle connection.
fn reset_idle(second: u32, connection: u32, client: &str) -> String {
    format!(
        "2024/01/01 00:00:{second:02} [info] 7#7: *{connection} client {client} closed keepalive \
         connection (104: Connection reset by peer)\n"
    )
}

/// The streams of each line: `line>stream score evidence`, with `~` for what may be.
fn matches(talks: &[Spoken<'_>], log: &[String]) -> Vec<String> {
    matches_in(Session::new(), talks, log)
}

/// The same, where the user has given the addresses of nginx.
fn matches_where(nginx: &str, talks: &[Spoken<'_>], log: &[String]) -> Vec<String> {
    let mut session = Session::new();
    session.set_nginx_addresses(nginx).unwrap();
    matches_in(session, talks, log)
}

fn matches_in(session: Session, talks: &[Spoken<'_>], log: &[String]) -> Vec<String> {
    told(session, talks, log, "")
}

fn told(
    mut session: Session,
    talks: &[Spoken<'_>],
    log: &[String],
    access: &str,
) -> Vec<String> {
    session.set_time_zone("UTC").unwrap();
    session.begin_error_log("error.log");
    session.log_bytes(log.concat().as_bytes());
    session.end_log().unwrap();
    assert_eq!(session.log_entries(), log.len(), "every line is about an end");
    if !access.is_empty() {
        session.begin_log(LogKind::Access, "access.log");
        session.log_bytes(access.as_bytes());
        session.end_log().unwrap();
    }
    let mut capture = Capture::default();
    for (client, server, after, script) in talks {
        let mut talk = Talk::between(client, server);
        talk.start += after * 1_000_000;
        capture.play(&talk, script);
    }
    support::feed(&mut session, &capture.frames(), |_, _| ());
    let mut told = Vec::new();
    for stream in session.streams().collect::<Vec<_>>() {
        let verdict = session.verdict_of(stream, When::Final).unwrap();
        for (entry, found) in verdict.entries() {
            let may = if found.certain { "" } else { "~" };
            let words = found.evidence.words();
            told.push(format!("{}>{may}{stream} {} {words}", entry.line, found.score));
        }
    }
    told.sort();
    told
}

/// Lines that are said to be about a stream, and which: `line>stream`.
fn pairs(told: &[String]) -> Vec<&str> {
    let certain = told.iter().filter(|told| !told.contains('~'));
    certain.map(|told| told.split(' ').next().unwrap()).collect()
}

// ---- What a header names -----------------------------------------------------------------------

#[test]
fn where_the_log_has_two_addresses_that_the_capture_lacks_one_request_tells_neither() {
    let resets = resets("/a", "");
    let talks: [Spoken<'_>; 1] = [("192.168.0.7:40000", NGINX, 0, &resets)];
    let log = [reset(0, 1, "192.168.0.9", "/a"), reset_idle(0, 2, "203.0.113.5")];
    // It may be that of the client behind either.
    assert_eq!(pairs(&matches(&talks, &log[..1])), ["1>0"]);
    assert_eq!(matches(&talks, &log), [""; 0]);
}

#[test]
fn a_client_that_the_requests_header_names_is_the_client() {
    for header in [
        "X-Forwarded-For: 192.0.2.7",
        "X-Forwarded-For: 192.0.2.7, 10.0.0.9",
        "X-Forwarded-For: 198.51.100.3, 192.0.2.7, 10.0.0.9, 10.0.0.8",
        "X-Forwarded-For: 192.0.2.7:4711",
        "X-Real-IP: 192.0.2.7",
        "CF-Connecting-IP: 192.0.2.7",
        "X-Forwarded-For: 10.0.0.9\\r\\nX-Forwarded-For: 192.0.2.7",
    ] {
        let script = resets("/a", &field(header));
        let talks = [("10.0.0.1:40000", NGINX, 0, script.as_str())];
        // Whoever asks may name anybody, unless it is known to ask for others.
        for (client, score) in [("192.0.2.7", 86), ("10.0.0.1", 99)] {
            let told = matches(&talks, &[reset(0, 1, client, "/a")]);
            let want = format!("1>0 {score} time,reset,uri,client,phase,host");
            assert_eq!(told, [want], "{header} {client}");
        }
        let told = matches_where("10.0.0.1", &talks, &[reset(0, 1, "192.0.2.7", "/a")]);
        assert_eq!(told, [""; 0], "{header}: nginx asks an upstream");
        let other = resets("/b", &field("X-Forwarded-For: 192.0.2.8"));
        let talks = [talks[0], ("10.0.0.1:40001", NGINX, 10, other.as_str())];
        let log = [reset(0, 1, "192.0.2.7", "/a"), reset(0, 2, "192.0.2.8", "/b")];
        let told = matches(&talks, &log);
        let want = [1, 2].map(|n| format!("{n}>{} 99 time,reset,uri,client,phase,host", n - 1));
        assert_eq!(told, want, "{header}: a proxy, by its clients");
    }
}

#[test]
fn whom_a_client_names_keeps_its_own_entry() {
    for header in ["X-Forwarded-For: 192.0.2.7", "X-Anything: 192.0.2.8, 192.0.2.7"] {
        let forged = resets("/a", &field(header));
        let victim = resets("/a", "");
        let proxied =
            format!("open\nc \"PROXY TCP4 192.0.2.7 10.0.0.2 40000 80\\r\\n\"\n{forged}");
        let proxied = proxied.replacen("\nopen", "", 1);
        for attack in [&forged, &proxied] {
            let attacker = ("10.0.0.1:40000", NGINX, 0, attack.as_str());
            let log = [reset(0, 1, "192.0.2.7", "/a")];
            let talks = [attacker, ("192.0.2.7:40000", NGINX, 10, victim.as_str())];
            let told = matches(&talks, &log);
            assert_eq!(told, ["1>1 99 time,reset,uri,client,phase,host"], "{attack}");
            // Of a victim that asks there itself, what another stream says is no evidence.
            let other = resets("/b", "");
            let talks = [attacker, ("192.0.2.7:40000", NGINX, 10, other.as_str())];
            assert_eq!(matches(&talks, &log), [""; 0], "{attack}");
        }
    }
}

#[test]
fn a_client_that_http2s_header_names_is_the_client() {
    // :method GET, :scheme http, :path /a, :authority h, x-forwarded-for 192.0.2.7.
    let block =
        "82 86 04022f61 010168 400f 782d666f727761726465642d666f72 09 3139322e302e322e37";
    let block = block.replace(' ', "");
    let length = block.len() / 2;
    let script = format!(
        "open
        c \"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\" hex:000000040000000000 \
          hex:{length:06x}010500000001{block}
        s hex:000000040000000000
        c R. +0.1"
    );
    let talks = [("10.0.0.1:40000", NGINX, 0, script.as_str())];
    let line = "2024/01/01 00:00:00 [info] 7#7: *1 recv() failed (104: Connection reset by \
        peer) while sending response to client, client: 192.0.2.7, server: h, request: \
        \"GET /a HTTP/2.0\", host: \"h\"\n";
    let told = matches(&talks, &[line.to_owned()]);
    assert_eq!(told, ["1>0 86 time,reset,uri,client,phase,host"]);
}

#[test]
fn a_header_names_the_client_of_its_request_only() {
    // What nginx says outside of requests has the address of its peer.
    let idle = r#"open
        c "GET /a HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n"
        s 200:2 x*2
        c .
        c R. +0.5"#;
    let talks = [("10.0.0.1:40000", NGINX, 0, idle)];
    assert_eq!(matches(&talks, &[reset_idle(0, 1, "192.0.2.7")]), [""; 0]);
    let told = matches(&talks, &[reset_idle(0, 1, "10.0.0.1")]);
    assert_eq!(told, ["1>0 96 time,reset,client,phase"]);
    // Neither is it the client of another request.
    let script = resets("/a", &field("X-Forwarded-For: 192.0.2.7"));
    let talks = [("10.0.0.1:40000", NGINX, 0, script.as_str())];
    assert_eq!(matches(&talks, &[reset(0, 1, "192.0.2.7", "/b")]), [""; 0]);
}

#[test]
fn many_clients_behind_one_load_balancer_are_told_apart_by_its_header() {
    let scripts: Vec<String> =
        (1..=5).map(|n| resets("/a", &field(&format!("X-Real-IP: 192.0.2.{n}")))).collect();
    let ends: Vec<String> = (1..=5).map(|n| format!("10.0.0.1:4000{n}")).collect();
    let talks: Vec<Spoken<'_>> =
        (0..5).map(|at| (ends[at].as_str(), NGINX, at as i64, scripts[at].as_str())).collect();
    let log: Vec<String> =
        (1..=5).rev().map(|n| reset(0, n, &format!("192.0.2.{n}"), "/a")).collect();
    let told = matches(&talks, &log);
    assert_eq!(pairs(&told), ["1>4", "2>3", "3>2", "4>1", "5>0"], "{told:?}");
}

#[test]
fn of_two_proxies_in_a_row_the_users_addresses_tell_which_is_nginx() {
    // Both connections of the load balancer end alike, and either could be nginx's.
    let front = resets("/a", "");
    let back = resets("/a", &field("X-Forwarded-For: 192.0.2.7"));
    let talks = [
        ("192.0.2.7:40000", "10.0.0.1:80", 0, front.as_str()),
        ("10.0.0.1:50000", "10.0.0.2:80", 1, back.as_str()),
    ];
    let log = [reset(0, 1, "192.0.2.7", "/a")];
    assert_eq!(pairs(&matches(&talks, &log)), [""; 0]);
    for (nginx, stream) in [("10.0.0.1", "1>0"), ("10.0.0.2", "1>1")] {
        let told = matches_where(nginx, &talks, &log);
        assert_eq!(pairs(&told), [stream], "{nginx} {told:?}");
    }
}

#[test]
fn the_users_addresses_keep_a_clients_entry_off_the_upstreams_connection() {
    // Who asks is nginx's own host, and so is who asks the upstream.
    let script = resets("/a", "");
    let talks = [
        ("10.0.0.2:40000", "10.0.0.2:80", 0, script.as_str()),
        ("10.0.0.2:50000", "10.0.0.3:8080", 0, script.as_str()),
    ];
    let log = [reset(0, 1, "10.0.0.2", "/a")];
    assert_eq!(pairs(&matches(&talks, &log)), [""; 0]);
    let told = matches_where("10.0.0.2", &talks, &log);
    assert_eq!(told, ["1>0 98 time,reset,uri,client,phase,host"]);
}

#[test]
fn what_nginx_tells_its_upstream_draws_no_entry_of_the_client_there() {
    // The header that nginx sends names the client, and nginx closes that connection itself.
    let client = "open
        c GET:/a
        s 200:2 x*2 +0.02
        c .
        c R. +0.5";
    let upstream = r#"open
        c "GET /a HTTP/1.0\r\nHost: h\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n"
        s 200:2 x*2
        c R. +0.005"#;
    let talks = [
        ("192.0.2.7:40000", "10.0.0.2:80", 0, client),
        ("10.0.0.2:50000", "10.0.0.3:8080", 5, upstream),
    ];
    let told = matches(&talks, &[reset_idle(0, 1, "192.0.2.7")]);
    assert_eq!(told, ["1>0 96 time,reset,client,phase"]);
}

// ---- What nobody names -------------------------------------------------------------------------

/// One client after the other, a second between them, each with a URI of its own: `/0`, `/1` ...
fn one_by_one(addresses: &[&str]) -> Vec<(String, String)> {
    let addresses = addresses.iter().enumerate();
    addresses
        .map(|(n, address)| (format!("{address}:4000{n}"), resets(&format!("/{n}"), "")))
        .collect()
}

fn talks(clients: &[(String, String)]) -> Vec<Spoken<'_>> {
    let clients = (0..).zip(clients);
    clients.map(|(n, (end, script))| (end.as_str(), NGINX, n * 1000, script.as_str())).collect()
}

const BRIDGE: &str = "172.17.0.1";

#[test]
fn behind_a_bridge_that_stands_for_all_clients_the_request_tells() {
    let clients = one_by_one(&["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.1"]);
    let log: Vec<String> = (0..4).map(|n| reset(n, n + 1, BRIDGE, &format!("/{n}"))).collect();
    let told = matches(&talks(&clients), &log);
    let wanted = [0, 1, 2, 3].map(|n| format!("{}>{n} 78 time,reset,uri,phase,host", n + 1));
    assert_eq!(told, wanted);
}

#[test]
fn behind_a_bridge_what_is_ambiguous_stays_open() {
    // Two at once, with numbers that two processes may have given in either order.
    let script = resets("/a", "");
    let both = [
        ("192.0.2.1:40000", NGINX, 0, script.as_str()),
        ("192.0.2.2:40000", NGINX, 0, script.as_str()),
    ];
    let log = [reset(0, 1, BRIDGE, "/a"), reset(0, 2, BRIDGE, "/a").replace("7#7", "8#8")];
    let told = matches(&both, &log);
    assert!(!told.is_empty() && pairs(&told).is_empty(), "{told:?}");
    // One process takes connections in their order.
    let one_by_one = [both[0], ("192.0.2.2:40000", NGINX, 5, script.as_str())];
    let log = [reset(0, 1, BRIDGE, "/a"), reset(0, 2, BRIDGE, "/a")];
    let told = matches(&one_by_one, &log);
    assert_eq!(pairs(&told), ["1>0", "2>1"], "{told:?}");
}

#[test]
fn an_address_that_is_the_streams_wins_over_one_that_may_be() {
    let script = resets("/a", "");
    let alike = [
        ("192.0.2.1:40000", NGINX, 0, script.as_str()),
        ("192.0.2.2:40000", NGINX, 100, script.as_str()),
    ];
    // The second address is the log's own, so the bridge can but be the first.
    let log = [reset(0, 2, BRIDGE, "/a"), reset(0, 1, "192.0.2.2", "/a")];
    let told = matches(&alike, &log);
    assert_eq!(pairs(&told), ["1>0", "2>1"], "{told:?}");
    assert!(told[1].contains("client"), "{told:?}");
}

#[test]
fn of_two_proxies_in_a_row_none_is_told_behind_a_bridge() {
    let script = resets("/a", "");
    let talks = [
        ("192.0.2.7:40000", "10.0.0.1:80", 0, script.as_str()),
        ("10.0.0.1:50000", "10.0.0.2:80", 1, script.as_str()),
    ];
    let log = [reset(0, 1, BRIDGE, "/a")];
    assert_eq!(matches(&talks, &log), [""; 0]);
    for (nginx, stream) in [("10.0.0.1", "1>0"), ("10.0.0.2", "1>1")] {
        let told = matches_where(nginx, &talks, &log);
        assert_eq!(pairs(&told), [stream], "{nginx} {told:?}");
    }
}

#[test]
fn an_idle_connection_behind_a_bridge_is_singled_out_by_nothing() {
    let idle = "open
        c GET:/a
        s 200:2 x*2
        c .
        c R. +0.5";
    let talks = [("192.0.2.1:40000", NGINX, 0, idle)];
    assert_eq!(matches(&talks, &[reset_idle(0, 1, BRIDGE)]), [""; 0]);
}

#[test]
fn another_request_or_host_is_another_client() {
    let clients = one_by_one(&["192.0.2.1"]);
    for line in [
        reset(0, 1, BRIDGE, "/b"),
        reset(0, 1, BRIDGE, "/0").replace("host: \"h\"", "host: \"other\""),
        reset(9, 1, BRIDGE, "/0"),
    ] {
        assert_eq!(matches(&talks(&clients), std::slice::from_ref(&line)), [""; 0], "{line}");
    }
}

#[test]
fn an_address_that_log_and_capture_know_is_the_same_in_both() {
    let clients = one_by_one(&["192.0.2.1", "192.0.2.2"]);
    // The client that resets is in the log by his own name: this is about somebody else.
    let log = [reset(0, 1, BRIDGE, "/0"), reset(9, 2, "192.0.2.1", "/z")];
    assert_eq!(matches(&talks(&clients), &log), [""; 0]);
    // The entry's client is in the capture, and did something else.
    assert_eq!(matches(&talks(&clients), &[reset(0, 1, "192.0.2.2", "/0")]), [""; 0]);
    assert_eq!(matches(&talks(&clients), &[reset(0, 1, "10.0.0.2", "/0")]), [""; 0]);
    assert_eq!(matches(&talks(&clients), &[reset(0, 1, "127.0.0.1", "/0")]), [""; 0]);
}

#[test]
fn a_capture_of_one_client_finds_nothing_of_everybody_elses() {
    // All ask for the same, all the time; the log does not know who was captured.
    let script = resets("/a", "");
    let ends: Vec<String> = (0..20).map(|n| format!("192.0.2.1:{}", 40000 + n)).collect();
    let captured: Vec<Spoken<'_>> = (0i64..)
        .zip(&ends)
        .map(|(n, end)| (end.as_str(), NGINX, n * 700, script.as_str()))
        .collect();
    let busy: Vec<String> =
        (0..58).map(|n| reset(n, n + 1, &format!("198.51.100.{n}"), "/a")).collect();
    assert_eq!(matches(&captured, &busy), [""; 0]);
    // With two clients only, each of whom is seen at many moments.
    let two: Vec<String> =
        (0..14).map(|n| reset(n, n + 1, &format!("198.51.100.{}", n % 2), "/a")).collect();
    assert_eq!(matches(&captured, &two), [""; 0]);
    // One coincidence among others who did something else.
    let rare: Vec<String> = (0..14)
        .map(|n| {
            let uri = if n == 3 { "/a" } else { "/b" };
            reset(n, n + 1, &format!("198.51.100.{n}"), uri)
        })
        .collect();
    assert_eq!(matches(&captured, &rare), [""; 0]);
}

#[test]
fn a_capture_of_one_client_finds_nothing_of_those_behind_the_same_bridge() {
    let clients = one_by_one(&["192.0.2.1"]);
    // His own end is not logged: of the others' one is like it, and most are not.
    let log: Vec<String> = (0..5).map(|n| reset(0, n + 1, BRIDGE, &format!("/{n}"))).collect();
    assert_eq!(matches(&talks(&clients), &log), [""; 0]);
    // As many as there are in the capture are found all the same.
    assert_eq!(pairs(&matches(&talks(&clients), &log[..1])), ["1>0"]);
}

#[test]
fn clients_behind_one_nat_are_found_in_a_log_of_everybody() {
    let clients = one_by_one(&["192.168.0.1", "192.168.0.2", "192.168.0.1"]);
    let everybody = |n: u32| reset(n, n + 9, &format!("198.51.100.{n}"), "/elsewhere");
    let mut log: Vec<String> =
        (0..3).map(|n| reset(n, n + 1, "203.0.113.5", &format!("/{n}"))).collect();
    log.extend((0..30).map(everybody));
    let told = matches(&talks(&clients), &log);
    assert_eq!(pairs(&told), ["1>0", "2>1", "3>2"], "{told:?}");
    // One agreement is not enough where there are others.
    log.drain(..2);
    assert_eq!(matches(&talks(&clients), &log), [""; 0]);
}

#[test]
fn a_client_with_two_addresses_in_the_log_has_none() {
    let clients = one_by_one(&["192.168.0.1", "192.168.0.1", "192.168.0.1", "192.168.0.1"]);
    let address = |n: u32| if n < 2 { "203.0.113.5" } else { "203.0.113.6" };
    let log: Vec<String> =
        (0..4).map(|n| reset(n, n + 1, address(n), &format!("/{n}"))).collect();
    assert_eq!(matches(&talks(&clients), &log), [""; 0]);
}

#[test]
fn while_the_capture_is_being_read_nothing_is_said_of_strangers() {
    let mut session = Session::new();
    session.set_time_zone("UTC").unwrap();
    session.begin_error_log("error.log");
    session.log_bytes(reset(0, 1, BRIDGE, "/a").as_bytes());
    session.end_log().unwrap();
    let talk = Talk::between("192.0.2.1:40000", NGINX);
    let capture = Capture::of(&talk, &resets("/a", ""));
    support::feed(&mut session, &capture.frames(), |session, _| {
        let verdict = session.verdict_of(0, When::SoFar).unwrap();
        assert_eq!(verdict.entries().count(), 0);
    });
    assert_eq!(session.verdict_of(0, When::Final).unwrap().entries().count(), 1);
}

// ---- What an access log adds -------------------------------------------------------------------

/// As [`matches`], with an access log that tells address and port of each connection.
fn matches_by_port(
    talks: &[Spoken<'_>],
    log: &[String],
    ports: &[(u32, &str, u16)],
) -> Vec<String> {
    let mut session = Session::new();
    let format = "$remote_addr $remote_port $connection $msec";
    session.set_access_log_format(format).unwrap();
    let line = |(connection, client, port): &(u32, &str, u16)| {
        format!("{client} {port} {connection} 1704067200.200\n")
    };
    let access: String = ports.iter().map(line).collect();
    told(session, talks, log, &access)
}

#[test]
fn who_translates_an_address_may_do_so_with_the_port() {
    let script = resets("/a", "");
    let talks = [
        ("192.0.2.1:40001", NGINX, 0, script.as_str()),
        ("192.0.2.2:40002", NGINX, 0, script.as_str()),
    ];
    // Both ports were kept: they tell the two apart, whatever the numbers say.
    let log = [reset(0, 1, BRIDGE, "/a"), reset(0, 2, BRIDGE, "/a")];
    let ports = [(1, BRIDGE, 40002), (2, BRIDGE, 40001)];
    let told = matches_by_port(&talks, &log, &ports);
    assert_eq!(pairs(&told), ["1>1", "2>0"], "{told:?}");
    assert!(told.iter().all(|told| told.contains("port")), "{told:?}");
    // Another port is no contradiction.
    let told = matches_by_port(&talks[..1], &log[..1], &[(1, BRIDGE, 9)]);
    assert_eq!(told, ["1>0 78 time,reset,uri,phase,host"]);
}

#[test]
fn a_port_that_was_kept_tells_whose_idle_connection_it_was() {
    let idle = "open
        c GET:/a
        s 200:2 x*2
        c .
        c R. +0.5";
    let talks = [("192.0.2.1:40001", NGINX, 0, idle)];
    let log = [reset_idle(0, 1, BRIDGE)];
    let told = matches_by_port(&talks, &log, &[(1, BRIDGE, 40001)]);
    assert_eq!(told, ["1>0 77 time,reset,port,phase"]);
    assert_eq!(matches_by_port(&talks, &log, &[(1, BRIDGE, 9)]), [""; 0]);
}

#[test]
fn a_port_that_the_header_names_is_not_the_packets() {
    let script = resets("/a", &field("X-Forwarded-For: 192.0.2.7:4711"));
    let talks = [("10.0.0.1:40000", NGINX, 0, script.as_str())];
    let log = [reset(0, 1, "192.0.2.7", "/a")];
    let told = matches_by_port(&talks, &log, &[(1, "192.0.2.7", 4711)]);
    assert_eq!(told, ["1>0 86 time,reset,uri,client,phase,host"]);
    // A client's own port is.
    let talks = [("192.0.2.7:40000", NGINX, 0, script.as_str())];
    let told = matches_by_port(&talks, &log, &[(1, "192.0.2.7", 4711)]);
    assert_eq!(told, [""; 0]);
}

// ---- A real nginx behind a real router ---------------------------------------------------------

/// A line of the lab's log; see `tests/lab/addresses.py`.
#[derive(Deserialize)]
struct Told {
    line: u64,
    way: String,
    story: String,
    /// nginx was at a whole request.
    whole: bool,
    client: String,
}

/// How many lines of a way, and how many of them are said to be about their stream.
type Tally = BTreeMap<(String, bool), [usize; 2]>;

/// Compares what is said of a capture with the truth: nothing may be wrong.
fn judge(dir: &Path, capture: &Path) -> Tally {
    let truth: Vec<Told> =
        serde_json::from_slice(&std::fs::read(dir.join("truth.json")).unwrap()).unwrap();
    let mut session = Session::new();
    session.set_time_zone("UTC").unwrap();
    support::read_log(&mut session, &dir.join("error.log"));
    support::replay(&mut session, capture);
    let mut captured = BTreeSet::new();
    let mut said: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for stream in session.streams().collect::<Vec<_>>() {
        let verdict = session.verdict_of(stream, When::Final).unwrap();
        let client = verdict.client().to_string();
        captured.insert(client.clone());
        for (entry, found) in verdict.entries().filter(|(_, found)| found.certain) {
            said.entry(entry.line).or_default().push(client.clone());
            let Told { way, .. } = &truth[entry.line as usize - 1];
            let differs = way == "translated";
            let fits = found.evidence.has(Criterion::Client) != differs
                && (!differs || found.score < 90);
            if !fits {
                wrong.push(format!(
                    "{}: {} {}",
                    entry.line,
                    found.score,
                    found.evidence.words()
                ));
            }
        }
    }
    let mut tally = Tally::new();
    for told in &truth {
        let on = said.get(&told.line).cloned().unwrap_or_default();
        if on.iter().any(|client| *client != told.client) {
            let Told { line, way, story, client, .. } = told;
            wrong.push(format!("{line}, {way}, {story}: on {on:?}, not {client}"));
        }
        if captured.contains(&told.client) {
            let count = tally.entry((told.way.clone(), told.whole)).or_default();
            count[0] += 1;
            count[1] += usize::from(!on.is_empty());
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", capture.display(), wrong.join("\n"));
    println!("{}: {tally:?}", capture.display());
    tally
}

/// The part of a capture that a filter leaves.
fn filtered(capture: &Path, filter: &str) -> PathBuf {
    let path = capture.with_file_name(format!("{}.pcap", filter.replace([' ', '/'], "-")));
    let mut command = Command::new("tcpdump");
    let command = command.args(["-Z", "root", "-r"]).arg(capture).arg("-w").arg(&path);
    assert!(command.arg(filter).output().expect("tcpdump").status.success(), "{filter}");
    path
}

/// How large a share of the whole requests that came in a way are found.
fn share(tally: &Tally, way: &str) -> f64 {
    let [lines, found] = tally.get(&(way.to_owned(), true)).copied().unwrap_or_default();
    found as f64 / lines.max(1) as f64
}

#[test]
fn clients_of_a_real_nginx_are_found_behind_a_router_and_behind_proxies() {
    let Some(dir) = lab::recorded("addresses", &[]) else { return };
    let capture = dir.join("capture.pcap");
    let tally = judge(&dir, &capture);
    for way in ["translated", "forwarded", "direct"] {
        assert!(share(&tally, way) > 0.9, "{way}: {tally:?}");
    }
    // Of some clients, a log of everybody: all ask for the same at that time.
    for client in ["1", "3", "129", "130", "200", "201"] {
        judge(&dir, &filtered(&capture, &format!("host 10.78.1.{client}")));
    }
    judge(&dir, &filtered(&capture, "host 10.78.1.1 or host 10.78.1.2 or host 10.78.1.129"));
    judge(&dir, &filtered(&capture, "net 10.78.1.0/25"));
    judge(&dir, &filtered(&capture, "net 10.78.1.0/25 or host 10.78.1.200"));
    // All clients bear one address in the log, and the capture lacks some of them.
    let Some(dir) = lab::recorded("addresses", &["--ways", "translated"]) else { return };
    let capture = dir.join("capture.pcap");
    let tally = judge(&dir, &capture);
    assert!(share(&tally, "translated") > 0.9, "{tally:?}");
    for clients in 1..=11 {
        let filter: Vec<String> =
            (1..=clients).map(|client| format!("host 10.78.1.{client}")).collect();
        judge(&dir, &filtered(&capture, &filter.join(" or ")));
    }
}

/// Which client each line is said to be about, by a capture and a log.
fn claimed(log: &Path, capture: &Path) -> BTreeMap<u64, String> {
    let mut session = Session::new();
    session.set_time_zone("UTC").unwrap();
    support::read_log(&mut session, log);
    support::replay(&mut session, capture);
    let mut claimed = BTreeMap::new();
    for stream in session.streams().collect::<Vec<_>>() {
        let verdict = session.verdict_of(stream, When::Final).unwrap();
        for (entry, _) in verdict.entries().filter(|(_, found)| found.certain) {
            claimed.insert(entry.line, verdict.client().to_string());
        }
    }
    claimed
}

/// A log of everybody does not say more of a client when the others are not captured.
#[test]
fn a_part_of_a_capture_tells_nothing_that_the_whole_does_not() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sample");
    let dir = lab::readable_dir("part");
    let capture = dir.join("capture.pcap");
    std::fs::copy(sample.join("sample.pcap"), &capture).unwrap();
    let log = sample.join("error.log");
    let whole = claimed(&log, &capture);
    let clients = whole.values().map(|client| client.rsplit_once(':').unwrap().0);
    let clients: BTreeSet<&str> = clients.collect();
    assert!(clients.len() > 3, "{clients:?}");
    for client in clients {
        for (line, told) in claimed(&log, &filtered(&capture, &format!("host {client}"))) {
            assert_eq!(Some(&told), whole.get(&line), "line {line} by {client}");
        }
    }
}
