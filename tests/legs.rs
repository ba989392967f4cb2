// SPDX-License-Identifier: GPL-2.0-or-later
//! Which streams of clients and upstreams carried the same transaction, and where nobody can
//! tell.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use rstdiag::nginx::message::Leg;
use rstdiag::session::{Session, When};
use support::builder::{Capture, Talk};

/// Client, server, milliseconds after the first talk, script.
type Spoken<'a> = (&'a str, &'a str, i64, &'a str);

/// A client that nginx answers a tenth of a second after it has asked.
const CLIENT: &str = "open
    c GET:/a
    s 200:10 x*10 +0.1
    c .";

/// An upstream that answers at once.
const UPSTREAM: &str = "open
    c GET:/a
    s 200:10 x*10
    c .";

/// The leg of each talk, and the talk that it is linked with.
fn legs(talks: &[Spoken<'_>]) -> Vec<(Option<Leg>, Option<u32>)> {
    legs_in(Session::new(), talks)
}

fn legs_in(mut session: Session, talks: &[Spoken<'_>]) -> Vec<(Option<Leg>, Option<u32>)> {
    let streams = play(&mut session, talks);
    let told = streams.into_iter().map(|stream| {
        let verdict = session.verdict_of(stream, When::Final).unwrap();
        let (leg, frame) = (verdict.leg(), verdict.other_leg());
        (leg, frame.map(|frame| session.frame(frame, 0).unwrap().stream))
    });
    told.collect()
}

/// Feeds a session what was spoken; the streams of the talks.
fn play(session: &mut Session, talks: &[Spoken<'_>]) -> Vec<u32> {
    assert!(talks.is_sorted_by_key(|talk| talk.2), "streams are numbered by their first frame");
    let mut capture = Capture::default();
    for (client, server, after, script) in talks {
        let mut talk = Talk::between(client, server);
        talk.start += after * 1_000_000;
        capture.play(&talk, script);
    }
    support::feed(session, &capture.frames(), |_, _| ());
    let streams: Vec<u32> = session.streams().collect();
    assert_eq!(streams.len(), talks.len());
    streams
}

/// A session with this error log.
fn logged(line: &str) -> Session {
    let mut session = Session::new();
    session.set_time_zone("UTC").unwrap();
    session.begin_error_log("error.log");
    session.log_bytes(format!("2024/01/01 00:00:00 {line}\n").as_bytes());
    session.end_log().unwrap();
    assert_eq!(session.log_entries(), 1, "{line}");
    session
}

const NEITHER: (Option<Leg>, Option<u32>) = (None, None);

fn client_of(upstream: u32) -> (Option<Leg>, Option<u32>) {
    (Some(Leg::Client), Some(upstream))
}

fn upstream_of(client: u32) -> (Option<Leg>, Option<u32>) {
    (Some(Leg::Upstream), Some(client))
}

#[test]
fn the_upstream_that_was_asked_the_same_meanwhile_is_the_other_leg() {
    let told = legs(&[
        ("10.0.0.1:40000", "10.0.0.2:80", 0, CLIENT),
        ("10.0.0.2:50000", "10.0.0.3:8080", 10, UPSTREAM),
    ]);
    assert_eq!(told, [client_of(1), upstream_of(0)]);
}

#[test]
fn another_request_another_host_or_another_time_is_no_other_leg() {
    let other = UPSTREAM.replace("/a", "/b");
    for (script, host, after) in [
        (other.as_str(), "10.0.0.2:50000", 10),
        (UPSTREAM, "10.0.0.9:50000", 10),
        // After the client had its answer.
        (UPSTREAM, "10.0.0.2:50000", 200),
        // It answers when the client has been answered.
        (&UPSTREAM.replace("x*10", "x*10 +0.2"), "10.0.0.2:50000", 10),
    ] {
        let told = legs(&[
            ("10.0.0.1:40000", "10.0.0.2:80", 0, CLIENT),
            (host, "10.0.0.3:8080", after, script),
        ]);
        assert_eq!(told, [NEITHER, NEITHER], "{script} by {host} after {after}");
    }
}

#[test]
fn a_connection_that_serves_many_clients_belongs_to_the_last_of_them() {
    let kept = "open
        c GET:/a
        s 200:10 x*10
        c GET:/a +0.3
        s R.";
    let told = legs(&[
        ("10.0.0.1:40000", "10.0.0.2:80", 0, CLIENT),
        ("10.0.0.2:50000", "10.0.0.3:8080", 10, kept),
        ("10.0.0.1:40001", "10.0.0.2:80", 250, CLIENT),
    ]);
    assert_eq!(told, [NEITHER, upstream_of(2), client_of(1)]);
}

#[test]
fn of_several_upstreams_that_were_tried_the_last_is_the_clients() {
    let fails = "open
        c GET:/a
        s R.";
    let told = legs(&[
        ("10.0.0.1:40000", "10.0.0.2:80", 0, CLIENT),
        ("10.0.0.2:50000", "10.0.0.3:8080", 10, fails),
        ("10.0.0.2:50001", "10.0.0.4:8080", 20, &UPSTREAM.replace("200", "503")),
        ("10.0.0.2:50002", "10.0.0.5:8080", 30, UPSTREAM),
    ]);
    assert_eq!(told, [client_of(3), upstream_of(0), upstream_of(0), upstream_of(0)]);
}

#[test]
fn an_upstream_that_answered_well_is_not_the_first_of_two() {
    let told = legs(&[
        ("10.0.0.1:40000", "10.0.0.2:80", 0, CLIENT),
        ("10.0.0.2:50000", "10.0.0.3:8080", 10, UPSTREAM),
        ("10.0.0.2:50001", "10.0.0.4:8080", 20, UPSTREAM),
    ]);
    assert_eq!(told, [NEITHER; 3]);
}

/// Clients that all ask the same within a few milliseconds, and their upstreams.
fn storm(client: impl Fn(usize) -> String, upstream: impl Fn(usize) -> String) -> Vec<u32> {
    const CLIENTS: usize = 100;
    let texts: Vec<_> = (0..2 * CLIENTS)
        .map(|at| match at < CLIENTS {
            true => (format!("10.0.0.1:{}", 40000 + at), "10.0.0.2:80", at, client(at)),
            false => {
                let at = at - CLIENTS;
                let port = format!("10.0.0.2:{}", 50000 + at);
                (port, "10.0.0.3:8080", CLIENTS + at, upstream(at))
            }
        })
        .collect();
    let talks: Vec<Spoken<'_>> = texts
        .iter()
        .map(|(end, server, after, text)| {
            (end.as_str(), *server, *after as i64 / 8, text.as_str())
        })
        .collect();
    let told = legs(&talks).into_iter().take(CLIENTS);
    let others: Vec<Option<u32>> = told.map(|(_, other)| other).collect();
    let linked = others.iter().zip(CLIENTS as u32..).filter(|(other, _)| other.is_some());
    linked
        .map(|(other, right)| {
            assert_eq!(*other, Some(right));
            right
        })
        .collect()
}

#[test]
fn of_a_storm_of_equal_requests_nothing_is_claimed() {
    let told = storm(|_| CLIENT.to_owned(), |_| UPSTREAM.to_owned());
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn identifiers_tell_the_requests_of_a_storm_apart() {
    let with_id = |script: &str, at: usize| {
        let head = format!(r#""GET /a HTTP/1.1\r\nHost: h\r\nx-request-id: {at}\r\n\r\n""#);
        script.replace("GET:/a", &head)
    };
    let told = storm(|at| with_id(CLIENT, at), |at| with_id(UPSTREAM, at));
    assert_eq!(told.len(), 100);
    // Nginx may make the identifier, and tell the client with the response.
    let answered = |at| {
        let head = format!(r#""HTTP/1.1 204 None\r\nX-Request-ID: {at}\r\n\r\n""#);
        CLIENT.replace("200:10 x*10", &head)
    };
    let told = storm(answered, |at| with_id(UPSTREAM, at));
    assert_eq!(told.len(), 100);
    // In HTTP/2 it is a field as well: :method GET, :path /a, x-request-id.
    let in_http2 = |at: usize| {
        let id: String = format!("{at:03}").bytes().map(|byte| format!("{byte:02x}")).collect();
        format!(
            r#"open
            c "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" hex:000000040000000000 hex:00001701050000000182{}{id}
            s hex:000000040000000000 hex:00000101050000000188 +0.1
            c ."#,
            "04022f61400c782d726571756573742d696403"
        )
    };
    let told = storm(in_http2, |at| {
        let head = format!(r#""GET /a HTTP/1.1\r\nX-Request-ID: {at:03}\r\n\r\n""#);
        UPSTREAM.replace("GET:/a", &head)
    });
    assert_eq!(told.len(), 100);
    // One that all have in common tells nothing.
    let told = storm(|_| with_id(CLIENT, 1), |_| with_id(UPSTREAM, 1));
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn a_client_that_nobody_can_read_may_be_the_one() {
    let tls = "open
        c tls:22:200
        s tls:22:100
        c tls:20:1 tls:22:40
        s tls:20:1 tls:22:40
        c tls:23:100
        s tls:23:100 +0.2";
    let told = legs(&[
        ("10.0.0.1:40000", "10.0.0.2:80", 0, CLIENT),
        ("10.0.0.1:40001", "10.0.0.2:443", 1, tls),
        ("10.0.0.2:50000", "10.0.0.3:8080", 10, UPSTREAM),
    ]);
    assert_eq!(told, [NEITHER; 3]);
}

#[test]
fn what_a_client_asked_before_its_last_request_may_be_the_one() {
    let twice =
        |first: &str| format!("open\n c GET:{first}\n s 204\n c GET:/z +0.1\n s 204\n c .");
    let told = |first: &str| {
        legs(&[
            ("10.0.0.1:40000", "10.0.0.2:80", 0, CLIENT),
            ("10.0.0.1:40001", "10.0.0.2:80", 1, &twice(first)),
            ("10.0.0.2:50000", "10.0.0.3:8080", 10, UPSTREAM),
        ])
    };
    assert_eq!(told("/a"), [NEITHER; 3]);
    assert_eq!(told("/b"), [client_of(2), NEITHER, upstream_of(0)]);
}

#[test]
fn between_two_proxies_a_stream_is_of_both_legs() {
    let talks = [
        ("10.0.0.1:40000", "10.0.0.2:80", 0, CLIENT),
        ("10.0.0.2:50000", "10.0.0.3:80", 10, &*CLIENT.replace("+0.1", "+0.05")),
        ("10.0.0.3:50000", "10.0.0.4:8080", 20, UPSTREAM),
    ];
    assert_eq!(legs(&talks), [client_of(1), NEITHER, upstream_of(1)]);
    // The user says which of the proxies is meant.
    for (nginx, middle) in [("10.0.0.2", upstream_of(0)), ("10.0.0.3", client_of(2))] {
        let mut session = Session::new();
        session.set_nginx_addresses(nginx).unwrap();
        assert_eq!(legs_in(session, &talks)[1], middle, "{nginx}");
    }
}

#[test]
fn an_entry_joins_what_was_rewritten_and_bears_another_address() {
    let talks = [
        ("10.0.0.1:40000", "10.0.0.2:80", 0, CLIENT),
        ("10.1.0.2:50000", "10.0.0.3:8080", 10, "open\n c GET:/v2/a\n s R."),
        ("10.0.0.9:40000", "10.0.0.2:80", 20, CLIENT),
    ];
    let told = legs_in(
        logged(
            "[error] 7#7: *1 recv() failed (104: Connection reset by peer) while reading \
             response header from upstream, client: 10.0.0.1, server: h, request: \
             \"GET /a HTTP/1.1\", upstream: \"http://10.0.0.3:8080/v2/a\", host: \"h\"",
        ),
        &talks,
    );
    assert_eq!(told, [client_of(1), upstream_of(0), NEITHER]);
    assert_eq!(legs(&talks), [NEITHER; 3]);
}

#[test]
fn an_upstream_that_refuses_is_joined_by_its_entry() {
    let told = legs_in(
        logged(
            "[error] 7#7: *1 connect() failed (111: Connection refused) while connecting to \
             upstream, client: 10.0.0.1, server: h, request: \"GET /a HTTP/1.1\", upstream: \
             \"http://10.0.0.3:8080/a\", host: \"h\"",
        ),
        &[
            ("10.0.0.1:40000", "10.0.0.2:80", 0, &CLIENT.replace("200", "502")),
            ("10.0.0.2:50000", "10.0.0.3:8080", 10, "c S\n s R."),
        ],
    );
    assert_eq!(told, [client_of(1), upstream_of(0)]);
}

#[test]
fn an_entry_about_the_client_names_the_upstream() {
    let talks = [
        (
            "10.0.0.1:40000",
            "10.0.0.2:80",
            0,
            "open\n c GET:/a\n s .\n c F. +0.1\n s .\n s F.\n c .",
        ),
        (
            "10.1.0.2:50000",
            "10.0.0.3:8080",
            10,
            "open\n c GET:/v2/a\n s .\n c F. +0.1\n s F.\n c .",
        ),
    ];
    let told = legs_in(
        logged(
            "[info] 7#7: *1 epoll_wait() reported that client prematurely closed connection, so \
             upstream connection is closed too while sending request to upstream, client: \
             10.0.0.1, server: h, request: \"GET /a HTTP/1.1\", upstream: \
             \"http://10.0.0.3:8080/v2/a\", host: \"h\"",
        ),
        &talks,
    );
    assert_eq!(told, [client_of(1), upstream_of(0)]);
    assert_eq!(legs(&talks), [NEITHER; 2]);
}

#[test]
fn addresses_of_nginx_tell_the_legs_and_join_them() {
    let talks = [
        ("10.0.0.1:40000", "10.0.0.2:80", 0, CLIENT),
        ("10.1.0.2:50000", "10.1.0.3:8080", 10, UPSTREAM),
        ("10.1.0.2:50001", "10.1.0.3:8080", 500, UPSTREAM),
    ];
    assert_eq!(legs(&talks), [NEITHER; 3]);
    let mut session = Session::new();
    session.set_nginx_addresses("10.0.0.2, 10.1.0.2/31").unwrap();
    // The network has the upstream in it as well, so it tells the legs of nobody.
    let told = legs_in(session, &talks);
    assert_eq!(told, [client_of(1), upstream_of(0), NEITHER]);
    let mut session = Session::new();
    session.set_nginx_addresses("10.0.0.2 10.1.0.2").unwrap();
    let told = legs_in(session, &talks);
    assert_eq!(told, [client_of(1), upstream_of(0), (Some(Leg::Upstream), None)]);
}

#[test]
fn addresses_that_are_none_are_refused_in_words() {
    let error = Session::new().set_nginx_addresses("10.0.0.2, nginx").unwrap_err().to_string();
    for part in ["nginx_addresses", "10.0.0.2, nginx", "192.168.0.0/24"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_client_that_its_upstream_contradicts_is_doubted() {
    // Two clients ask the same and reset; the entry was written just after the second one's.
    let client = "open
        c GET:/a
        s .
        c R. +0.5";
    let reset = "open
        c GET:/a
        s .
        s R. +0.2";
    let of_client = "2024/01/01 00:00:03 [info] 7#7: *1 epoll_wait() reported that client \
                     prematurely closed connection, so upstream connection is closed too (104: \
                     Connection reset by peer) while reading response header from upstream, \
                     client: 10.0.0.1, server: x, request: \"GET /a HTTP/1.1\", upstream: \
                     \"http://10.0.0.3:8080/a\", host: \"h\"";
    let of_upstream =
        "2024/01/01 00:00:01 [error] 7#7: *1 recv() failed (104: Connection reset \
                       by peer) while reading response header from upstream, client: 10.0.0.1, \
                       server: x, request: \"GET /a HTTP/1.1\", upstream: \
                       \"http://10.0.0.3:8080/a\", host: \"h\"";
    // Of each stream: the entry's line, and whether it is said to be about the stream.
    let said = |asked: i64| {
        let seen = of_upstream.replace("00:00:01", &format!("00:00:0{}", asked / 1000));
        let mut session = Session::new();
        session.set_time_zone("UTC").unwrap();
        session.begin_error_log("error.log");
        session.log_bytes(format!("{seen}\n{of_client}\n").as_bytes());
        session.end_log().unwrap();
        let mut talks = [
            ("10.0.0.1:40000", "10.0.0.2:80", 1000, client),
            ("10.0.0.1:40001", "10.0.0.2:80", 3000, client),
            ("10.0.0.2:50000", "10.0.0.3:8080", asked, reset),
        ];
        talks.sort_by_key(|talk| talk.2);
        play(&mut session, &talks);
        let of_stream = |(stream, talk): (u32, &Spoken<'_>)| {
            let verdict = session.verdict_of(stream, When::Final).unwrap();
            let entries = verdict.entries();
            let said = entries.map(|(entry, found)| (entry.line, found.certain));
            (talk.0.to_owned(), said.collect::<Vec<_>>())
        };
        let mut all: Vec<_> = (0..).zip(&talks).map(of_stream).collect();
        all.sort();
        all
    };
    let want = |other, client, upstream| {
        let of = |end: &str, entries| (end.to_owned(), entries);
        [
            of("10.0.0.1:40000", other),
            of("10.0.0.1:40001", client),
            of("10.0.0.2:50000", upstream),
        ]
    };
    // It was asked while the second one waited, and while the first one did. That there is but one
    // upstream that could be meant is nothing to show then.
    assert_eq!(said(3100), want(vec![], vec![(2, true)], vec![(1, true)]));
    assert_eq!(said(1100), want(vec![(2, false)], vec![(2, false)], vec![]));
}

/// Asks with an identifier, and what follows.
fn with_id(answer: &str) -> String {
    let asks = r#"c "GET /a HTTP/1.1\r\nX-Request-ID: 0123456789abcdef\r\n\r\n""#;
    format!("open\n{asks}\n{answer}")
}

#[test]
fn two_attempts_are_no_two_legs() {
    let (failed, served) = (with_id("s .\ns R. +0.02"), with_id("s 200:10 x*10\nc ."));
    let given_up = with_id("s .\nc F. +0.02\ns F.\nc .");
    for first in [&failed, &given_up] {
        for [nginx, one, other] in [
            ["10.0.0.2", "10.0.0.3:8080", "10.0.0.4:8080"],
            ["10.0.0.2", "10.0.0.3:8080", "10.0.0.3:8080"],
            ["127.0.0.1", "127.0.0.1:8081", "127.0.0.1:8082"],
        ] {
            let told = legs(&[
                (&format!("{nginx}:50000"), one, 0, first),
                (&format!("{nginx}:50001"), other, 50, &served),
            ]);
            assert_eq!(told, [NEITHER, NEITHER], "{nginx} {other} {first}");
        }
    }
}

#[test]
fn two_clients_are_no_two_legs() {
    let slow = with_id("s 200:10 x*10 +0.2\nc .");
    let served = with_id("s 200:10 x*10\nc .");
    for (one, other) in [
        (("10.0.0.1:40000", "10.0.0.2:80"), ("10.0.0.1:40001", "10.0.0.2:80")),
        (("10.0.0.1:40000", "10.0.0.2:80"), ("10.0.0.9:40001", "10.0.0.2:80")),
        (("10.0.0.1:40000", "10.0.0.2:80"), ("10.0.0.1:40001", "10.0.0.2:8080")),
    ] {
        let told = legs(&[(one.0, one.1, 0, &slow), (other.0, other.1, 50, &served)]);
        assert_eq!(told, [NEITHER, NEITHER], "{one:?} {other:?}");
    }
}

/// What could not be read may have been the request; of a handshake that failed there was none.
#[test]
fn who_was_refused_in_the_handshake_asked_nothing() {
    let refused = "open\nc tls:22:300\ns hex:15030300020270 +0.3\ns F.\nc F.\ns .";
    let hidden = "open\nc tls:22:300\ns tls:22:1500\nc tls:20:1 tls:22:40\nc tls:23:100\n\
                  s tls:23:500 +0.3\nc .";
    let told = |other: &str| {
        legs(&[
            ("10.0.0.9:40000", "10.0.0.2:443", 0, other),
            ("10.0.0.1:40000", "10.0.0.2:80", 50, CLIENT),
            ("10.0.0.2:50000", "10.0.0.3:8080", 60, UPSTREAM),
        ])
    };
    assert_eq!(told(refused), [NEITHER, client_of(2), upstream_of(1)]);
    assert_eq!(told(hidden), [NEITHER, NEITHER, NEITHER]);
}

/// A worker writes what it has read, which another one may have been told of later.
#[test]
fn what_only_the_order_of_lines_tells_of_an_upstream_is_no_link() {
    let client = "open\nc GET:/a\ns 502:0 +0.1\nc .\nc F. +0.1\ns F.\nc .";
    let upstream = "open\nc GET:/a\ns .\ns R.";
    let failed = |worker: u32, number: u32, client: &str| {
        format!(
            "[error] {worker}#0: *{number} recv() failed (104: Connection reset by peer) while \
             reading response header from upstream, client: {client}, server: h, request: \
             \"GET /a HTTP/1.1\", upstream: \"http://10.0.0.3:8080/a\", host: \"h\""
        )
    };
    let closed = |worker: u32, number: u32, client: &str| {
        format!("[info] {worker}#0: *{number} client {client} closed keepalive connection")
    };
    let lines = [
        failed(8, 2, "10.0.0.9"),
        failed(7, 1, "10.0.0.1"),
        closed(7, 1, "10.0.0.1"),
        closed(8, 2, "10.0.0.9"),
    ];
    let mut session = Session::new();
    session.set_time_zone("UTC").unwrap();
    session.begin_error_log("error.log");
    let log = lines.map(|line| format!("2024/01/01 00:00:00 {line}\n"));
    session.log_bytes(log.concat().as_bytes());
    session.end_log().unwrap();
    let told = legs_in(
        session,
        &[
            ("10.0.0.1:40000", "10.0.0.2:80", 0, client),
            ("10.0.0.9:40000", "10.0.0.2:80", 1, client),
            ("10.0.0.2:50000", "10.0.0.3:8080", 10, upstream),
            ("10.0.0.2:50001", "10.0.0.3:8080", 40, upstream),
        ],
    );
    assert!(told.iter().all(|(_, other)| other.is_none()), "{told:?}");
}

/// That an entry names the upstream's address tells nothing where another client asked the same, of
/// which no entry tells where it was passed on.
#[test]
fn an_entry_that_names_the_upstream_is_not_the_only_one_that_may_have_asked_it() {
    let gone = "open\nc GET:/a\ns .\nc F. +0.05\ns .\ns F.\nc .";
    let given_up = "open\nc GET:/a\ns .\nc F. +0.04\ns F.\nc .";
    let told = legs_in(
        logged(
            "[info] 7#7: *1 epoll_wait() reported that client prematurely closed connection, so \
             upstream connection is closed too while sending request to upstream, client: \
             10.0.0.1, server: h, request: \"GET /a HTTP/1.1\", upstream: \
             \"http://10.0.0.3:8080/a\", host: \"h\"",
        ),
        &[
            ("10.0.0.1:40000", "10.0.0.2:80", 0, gone),
            ("10.0.0.9:40000", "10.0.0.2:80", 5, CLIENT),
            ("10.0.0.2:50000", "10.0.0.3:8080", 8, given_up),
            // The other client's second attempt, while nginx may not know yet that the first has gone.
            ("10.0.0.2:50001", "10.0.0.3:8080", 65, "open\nc GET:/a\ns 200:10 x*10\nc ."),
        ],
    );
    assert!(told[0].1 != Some(3) && told[3].1 != Some(0), "{told:?}");
}
