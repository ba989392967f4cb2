// SPDX-License-Identifier: GPL-2.0-or-later
//! How many requests the access log counts of a connection, and which streams carried as many.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use rstdiag::session::{LogKind, Session, When};
use support::builder::{Capture, Talk};

const FORMAT: &str = "$connection $msec $request_time $status $bytes_sent \"$request\"";
const IDLE: &str = "2024/01/01 00:00:00 [info] 7#7: *1 client 10.0.0.1 closed keepalive \
                    connection (104: Connection reset by peer)\n";
/// A request and its answer, of 53 bytes.
const ONE: &str = "c GET:/a\ns 200:10 x*10\nc .\n";

/// Scores of the one entry of the error log on the one stream, where the access log has so many
/// requests of its connection.
fn scores(script: &str, counted: usize) -> Vec<u8> {
    let mut session = Session::new();
    session.set_time_zone("UTC").unwrap();
    session.begin_error_log("error.log");
    session.log_bytes(IDLE.as_bytes());
    session.end_log().unwrap();
    session.set_access_log_format(FORMAT).unwrap();
    session.begin_log(LogKind::Access, "access.log");
    for _ in 0..counted {
        session.log_bytes(b"1 1704067200.010 0.001 200 53 \"GET /a HTTP/1.1\"\n");
    }
    session.end_log().unwrap();
    let capture = Capture::of(&Talk::default(), script);
    support::feed(&mut session, &capture.frames(), |_, _| ());
    let verdict = session.verdict_of(0, When::Final).unwrap();
    verdict.entries().map(|(_, found)| found.score).collect()
}

#[test]
fn what_was_answered_was_counted() {
    let twice = format!("open\n{ONE}{ONE}c R. +0.1");
    assert_eq!(scores(&twice, 2).len(), 1);
    // Another connection's, which the capture lacks.
    assert_eq!(scores(&twice, 1), [0; 0]);
    assert_eq!(scores(&twice, 3), [0; 0]);
}
