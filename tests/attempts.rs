// SPDX-License-Identifier: GPL-2.0-or-later
//! Which attempt at an upstream an entry of the error log is about, where connections to it are
//! kept alive, requests are alike, and an attempt that failed is made once more.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use rstdiag::correlate::store::{request_hash, Store};
use rstdiag::nginx::reader::ErrorLogReader;
use rstdiag::session::{LogKind, Session, When};
use support::builder::{Capture, Talk};

/// The upstream resets the connection over the request.
const UNANSWERED: &str = "open
    c GET:/a
    s .
    s R. +0.1";

/// The upstream resets an idle connection.
const IDLE: &str = "open
    c GET:/a
    s 200:10 x*10
    c .
    s R. +0.1";

const READING: &str =
    "recv() failed (104: Connection reset by peer) while reading response header from upstream";
const CONNECTING: &str =
    "connect() failed (104: Connection reset by peer) while connecting to upstream";

/// What a session is given.
#[derive(Default)]
struct Given<'a> {
    /// Messages of the error log, all within one second, about `GET /a` of the connection 1.
    messages: &'a [&'a str],
    /// Lines of an access log: milliseconds, request time, upstreams.
    accesses: &'a [(&'a str, &'a str, &'a str)],
    /// Milliseconds of the upstream's connections after the second of the log, and their scripts.
    upstreams: &'a [(i64, &'a str)],
}

const UPSTREAM: &str = "10.0.0.3:8080";

/// A line of the error log.
fn line(message: &str) -> String {
    format!(
        "2024/01/01 00:00:00 [error] 7#7: *1 {message}, client: 10.0.0.1, server: h, request: \
         \"GET /a HTTP/1.1\", upstream: \"http://{UPSTREAM}/a\", host: \"h\"\n"
    )
}

impl Given<'_> {
    fn session(&self) -> Session {
        let mut session = Session::new();
        session.set_time_zone("UTC").unwrap();
        session.begin_error_log("error.log");
        for message in self.messages {
            session.log_bytes(line(message).as_bytes());
        }
        session.end_log().unwrap();
        if !self.accesses.is_empty() {
            let format = "$connection $remote_addr $msec $request_time \"$request\" $status \
                          \"$upstream_addr\"";
            session.set_access_log_format(format).unwrap();
            session.begin_log(LogKind::Access, "access.log");
            for (msec, took, upstreams) in self.accesses {
                let line = format!(
                    "1 10.0.0.1 {msec} {took} \"GET /a HTTP/1.1\" 200 \"{upstreams}\"\n"
                );
                session.log_bytes(line.as_bytes());
            }
            session.end_log().unwrap();
        }
        let mut capture = Capture::default();
        for (port, (after, script)) in (50_000..).zip(self.upstreams) {
            let mut talk = Talk::between(&format!("10.0.0.2:{port}"), UPSTREAM);
            talk.start += after * 1_000_000;
            capture.play(&talk, script);
        }
        support::feed(&mut session, &capture.frames(), |_, _| ());
        session
    }

    /// Of each upstream's connection the lines of the entries that are said to be about it, and
    /// of those that may be.
    fn said(&self) -> Vec<(Vec<u64>, Vec<u64>)> {
        let mut session = self.session();
        let streams: Vec<u32> = session.streams().collect();
        let of_stream = |stream| {
            let verdict = session.verdict_of(stream, When::Final).unwrap();
            let lines = |certain| {
                let entries = verdict.entries().filter(|(_, found)| found.certain == certain);
                entries.map(|(entry, _)| entry.line).collect()
            };
            (lines(true), lines(false))
        };
        streams.into_iter().map(of_stream).collect()
    }
}

#[test]
fn who_waits_for_a_response_does_not_mean_a_connection_that_was_idle() {
    let upstreams = [(10, IDLE), (200, UNANSWERED)];
    let given = Given { messages: &[READING], upstreams: &upstreams, ..Given::default() };
    assert_eq!(given.said(), [(vec![], vec![]), (vec![1], vec![])]);
    let given = Given { messages: &[READING], upstreams: &upstreams[..1], ..Given::default() };
    assert_eq!(given.said(), [(vec![], vec![])]);
}

#[test]
fn a_request_that_crosses_the_end_of_an_idle_connection_waits_for_a_response() {
    let other = IDLE.replace("/a", "/b");
    let by_reset = format!("{other}\n c GET:/a\n s R");
    let upstreams = [(10, IDLE), (200, &*by_reset)];
    let given = Given { messages: &[READING], upstreams: &upstreams, ..Given::default() };
    assert_eq!(given.said(), [(vec![], vec![]), (vec![1], vec![])]);
    let by_fin = by_reset.replace("s R.", "s F.");
    let closed = "upstream prematurely closed connection while reading response header from \
                  upstream";
    let upstreams = [(10, &*IDLE.replace("s R.", "s F.")), (200, &*by_fin)];
    let given = Given { messages: &[closed], upstreams: &upstreams, ..Given::default() };
    assert_eq!(given.said(), [(vec![], vec![]), (vec![1], vec![])]);
}

#[test]
fn an_idle_connection_that_nginx_was_to_use_bears_the_request_of_somebody_else() {
    let other = IDLE.replace("/a", "/b");
    let upstreams = [(10, &*other)];
    let given = Given { messages: &[CONNECTING], upstreams: &upstreams, ..Given::default() };
    assert_eq!(given.said(), [(vec![1], vec![])]);
    // That another one bears the same does not tell.
    let upstreams = [(10, &*other), (200, IDLE)];
    let given = Given { messages: &[CONNECTING], upstreams: &upstreams, ..Given::default() };
    assert_eq!(given.said(), [(vec![], vec![1]), (vec![], vec![1])]);
}

#[test]
fn a_connection_attempt_without_answer_is_no_idle_connection() {
    const SILENT: &str =
        "upstream timed out (110: Connection timed out) while connecting to upstream";
    let mut store = Store::default();
    let mut reader = ErrorLogReader::new();
    for message in [CONNECTING, SILENT] {
        reader.push(line(message).as_bytes(), &mut |line| store.keep(line));
    }
    reader.finish(&mut |line| store.keep(line));
    store.index();
    let passed = |entry| store.kept(entry).unwrap().traits.passed;
    assert_eq!([passed(0), passed(1)], [None, Some(request_hash(b"GET /a"))]);
}

#[test]
fn of_requests_that_are_alike_the_one_that_was_tried_again_had_the_failed_attempt() {
    // The first upstream answered the requests before and behind.
    let alone = UPSTREAM;
    let twice = format!("{UPSTREAM}, {UPSTREAM}");
    let accesses = [
        ("1704067200.180", "0.150", alone),
        ("1704067200.460", "0.200", &*twice),
        ("1704067200.900", "0.100", alone),
    ];
    // Somebody else's attempts failed at those times.
    let upstreams = [(40, UNANSWERED), (300, UNANSWERED), (820, UNANSWERED)];
    let given = Given { messages: &[READING], accesses: &accesses, upstreams: &upstreams };
    assert_eq!(given.said(), [(vec![], vec![]), (vec![1], vec![]), (vec![], vec![])]);
    let mut session = given.session();
    let verdict = session.verdict_of(1, When::Final).unwrap();
    let shown: Vec<u64> =
        verdict.access_entries().iter().map(|(entry, _)| entry.line).collect();
    assert_eq!(shown, [2]);
    // Where it is not said how many were tried, it may be any.
    let unsaid = accesses.map(|(msec, took, _)| (msec, took, "-, -"));
    let given = Given { messages: &[READING], accesses: &unsaid, upstreams: &upstreams };
    assert!(given.said().iter().all(|(certain, _)| certain.is_empty()));
}
