// SPDX-License-Identifier: GPL-2.0-or-later
//! The published case, from capture and log to the verdict on every stream.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;

use rstdiag::correlate::evidence::Criterion;
use rstdiag::correlate::verdict::{Severity, Transaction, Verdict};
use rstdiag::nginx::message::Leg;
use rstdiag::session::{Session, When};
use rstdiag::tcp::phase::Phase;
use rstdiag::tcp::stream::{Close, Side};
use support::article::{self, Kind, TALKS};

fn session() -> Session {
    let (capture, log) = article::files(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let mut session = Session::new();
    session.set_time_zone(article::ZONE).unwrap();
    support::read_log(&mut session, &log);
    support::replay(&mut session, &capture);
    session
}

/// Asserts something of the verdict on each stream of these kinds.
fn each(kinds: &[Kind], check: impl Fn(&Verdict<'_>, Option<u64>)) {
    let mut session = session();
    let streams: Vec<u32> = session.streams().collect();
    assert_eq!(streams.len(), TALKS.len());
    for (number, &(_, port, kind, _, line)) in streams.into_iter().zip(TALKS) {
        if kinds.contains(&kind) {
            let verdict = session.verdict_of(number, When::Final).unwrap();
            assert_eq!(verdict.client().port, port, "streams are numbered as they begin");
            check(&verdict, line);
        }
    }
}

#[test]
fn every_line_belongs_to_its_stream_and_to_no_other() {
    use Kind::*;
    each(&[Handshake, Teardown, LateTeardown, Weixin, App, Orderly], |verdict, line| {
        let lines: Vec<u64> = verdict.entries().map(|(entry, _)| entry.line).collect();
        let wanted: Vec<u64> = line.into_iter().collect();
        assert_eq!(lines, wanted, "{}: {}", verdict.client(), verdict.summary());
    });
}

#[test]
fn the_first_line_has_no_rival() {
    each(&[Kind::Weixin], |verdict, _| {
        let (entry, found) = verdict.entries().next().unwrap();
        assert!(found.certain && found.rivals == 0 && found.score >= 90, "{found:?}");
        assert_eq!(found.evidence.words(), "time,reset,uri,client,phase,host");
        assert_eq!(entry.parts().unwrap().connection, Some(55_077_498));
        assert_eq!(verdict.leg(), Some(Leg::Client));
        let summary = verdict.summary();
        for part in ["client reset", "200", "/weixin/", "transaction is done", "error.log:1"] {
            assert!(summary.contains(part), "{summary}");
        }
    });
}

#[test]
fn lines_with_the_same_second_and_uri_are_told_apart_by_their_numbers() {
    each(&[Kind::App], |verdict, line| {
        let Some(line) = line else { return };
        let (entry, found) = verdict.entries().next().unwrap();
        assert_eq!(entry.line, line);
        assert!(found.certain, "{found:?}");
        assert_eq!(found.rivals, 1);
        assert!(found.evidence.has(Criterion::Order), "{}", found.evidence.words());
        assert!((60..90).contains(&found.score), "{found:?}");
    });
}

#[test]
fn the_transactions_were_done_and_the_resets_are_harmless() {
    each(&[Kind::Weixin, Kind::App], |verdict, _| {
        assert_eq!(verdict.phase(), Some(Phase::AfterResponse));
        assert_eq!(verdict.stage(), Phase::AfterResponse);
        assert_eq!(verdict.reset_by(), Some(Side::Client));
        assert_eq!(verdict.transaction(), Transaction::Completed);
        assert_eq!(verdict.severity(), Severity::Harmless);
        assert_eq!(verdict.close(), Close::Reset);
        assert_eq!(verdict.response_status(), Some(200));
        assert_eq!(verdict.response_acked(), Some(true));
        assert_eq!(verdict.response_missing(), Some(0));
        assert_eq!(verdict.nginx_sees(), Some(true));
    });
}

#[test]
fn two_resets_of_one_stream_are_counted() {
    each(&[Kind::Weixin], |verdict, _| assert_eq!(verdict.resets().unwrap().count, 2));
    each(&[Kind::App], |verdict, _| assert_eq!(verdict.resets().unwrap().count, 1));
}

#[test]
fn the_other_resets_never_met_a_transaction() {
    each(&[Kind::Handshake], |verdict, _| {
        assert_eq!(verdict.phase(), Some(Phase::Handshake));
        assert_eq!(verdict.transaction(), Transaction::None);
        assert_eq!(verdict.nginx_sees(), Some(false));
    });
    each(&[Kind::Teardown], |verdict, _| {
        assert_eq!(verdict.phase(), Some(Phase::Teardown));
        assert_eq!(verdict.transaction(), Transaction::None);
        assert_eq!(verdict.severity(), Severity::Harmless);
    });
    each(&[Kind::LateTeardown], |verdict, _| {
        assert_eq!(verdict.phase(), Some(Phase::Teardown));
        assert_eq!(verdict.transaction(), Transaction::Unknown);
    });
}

#[test]
fn an_answer_while_the_capture_is_read_is_the_same_once_it_was_read() {
    let (_, log) = article::files(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let mut session = Session::new();
    session.set_time_zone(article::ZONE).unwrap();
    support::read_log(&mut session, &log);
    let capture = article::capture();
    support::feed(&mut session, &capture.frames(), |session, frame| {
        let verdict = session.verdict(frame, 0, When::SoFar).unwrap();
        for (entry, found) in verdict.entries() {
            // The second stream of a pair may still be to come, the line itself not.
            let port = verdict.client().port;
            let fits = TALKS.iter().filter(|talk| talk.4 == Some(entry.line));
            assert!(
                !found.certain || fits.into_iter().any(|talk| talk.1 == port),
                "line {} on port {port} at frame {frame}",
                entry.line
            );
        }
    });
    for (number, &(.., line)) in (0..).zip(TALKS) {
        let verdict = session.verdict_of(number, When::Final).unwrap();
        assert_eq!(verdict.entries().next().map(|(entry, _)| entry.line), line);
    }
}

/// The zone matters: eight hours off, nothing fits.
#[test]
fn in_another_zone_no_line_fits() {
    let (capture, log) = article::files(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let mut session = Session::new();
    session.set_time_zone("UTC").unwrap();
    support::read_log(&mut session, &log);
    support::replay(&mut session, &capture);
    for number in session.streams().collect::<Vec<_>>() {
        let verdict = session.verdict_of(number, When::Final).unwrap();
        assert_eq!(verdict.entries().count(), 0);
        assert_eq!(verdict.leg(), None);
    }
}
