// SPDX-License-Identifier: GPL-2.0-or-later
//! One named case for each way in which a connection can end, and for each lie of a capture.
//!
//! `tests/data/streams/*.toml` hold the cases: a script of segments (see
//! `support/builder.rs`) and what is wanted of the verdict on their stream:
//!
//! ```toml
//! [[case]]
//! name = "client resets while the response is on its way"
//! script = """..."""
//! want = "phase=during_response stage=during_response transaction=failed ..."
//! summary = "a part of the sentence"
//! ```
//!
//! Every case says what `phase`, `stage`, `transaction`, `close`, `severity` and `caveats` are;
//! one that is not named has to be absent. Of the other fields only what is named is looked
//! at; `-` means absent. `form`, `answers` and `cause` need all streams, so they are looked at
//! when the capture has ended. What a case wants follows from the definitions of the public
//! interface and from how the script was made, not from what the core says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fmt::Write;

use rstdiag::session::{Session, When};
use support::builder::{Capture, Talk};
use support::cases::{self, Case};
use support::fields;

/// Fields about the origin of the reset.
const ORIGIN: [&str; 3] = ["form", "answers", "cause"];

/// What the core says otherwise than a case wants; empty if nothing.
fn complaints(case: &Case, session: &mut Session, when: When) -> String {
    let verdict = session.verdict_of(0, when).expect("a stream");
    let mut got = fields::of_stream(&verdict);
    got.extend(fields::of_origin(&verdict));
    let mut out = String::new();
    for (field, want) in case.wanted() {
        if when == When::SoFar && ORIGIN.contains(&field) {
            continue;
        }
        let got = got.get(field).map_or("-", String::as_str);
        if got != want {
            let _ = writeln!(out, "    {field}: wanted {want}, got {got}");
        }
    }
    let summary = verdict.summary();
    if !summary.contains(&case.summary) {
        let _ = writeln!(out, "    summary: wanted '{}', got '{summary}'", case.summary);
    }
    out
}

/// Runs every case on this talk and reports all that fail at once.
fn check(what: &str, applies: impl Fn(&Case) -> bool, talks: &[Talk]) {
    let mut report = String::new();
    let mut failed = 0;
    for case in cases::all().iter().filter(|case| applies(case)) {
        for talk in talks {
            let mut session = support::session_of(&Capture::of(talk, &case.script));
            let complaints = complaints(case, &mut session, When::Final);
            if !complaints.is_empty() {
                let isn = talk.isn;
                failed += 1;
                let _ = writeln!(report, "  {} {isn:?}\n{complaints}", case.name);
                break;
            }
        }
    }
    assert!(failed == 0, "{what}: {failed} cases fail\n{report}");
}

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = cases::all().into_iter().map(|case| case.name).collect();
    assert!(names.len() > 100, "{} cases", names.len());
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn every_case_has_its_verdict() {
    check("as written", |_| true, &[Talk::default()]);
}

#[test]
fn sequence_numbers_may_wrap_anywhere() {
    let talk = |client: u32, server: u32| Talk {
        isn: [client.wrapping_neg(), server.wrapping_neg()],
        ..Talk::default()
    };
    let mut talks: Vec<_> =
        [1, 2, 3, 10, 50, 80, 1000].map(|before| talk(before, 1 << 31)).into();
    talks.extend([1, 2, 3, 10, 50, 80, 1000].map(|before| talk(1 << 31, before)));
    talks.extend([(1, 1), (5, 40), (1 << 31, 1 << 31)].map(|(c, s)| talk(c, s)));
    check("with numbers that wrap", |case| !case.script.contains("isn "), &talks);
}

/// Without identifications copies can't be told apart from retransmissions, and a frame that is cut
/// within its headers is cut elsewhere.
#[test]
fn the_version_of_ip_does_not_matter() {
    let named = |case: &Case| case.want.contains("client=");
    let cut = |case: &Case| case.script.contains("timestamps");
    let applies = |case: &Case| !case.has_copies() && !named(case) && !cut(case);
    check("over IPv6", applies, &[Talk::default().over_v6()]);
}

/// Where no protocol is known, nobody knows what is a request.
#[test]
fn what_is_not_recognized_has_no_requests() {
    let mut told = 0;
    for case in &cases::all() {
        let capture = Capture::of(&Talk::default(), &case.script);
        let mut session = support::session_of(&capture);
        let verdict = session.verdict_of(0, When::Final).unwrap();
        if !verdict.stream().is_unrecognized() {
            continue;
        }
        let mut said = vec![verdict.summary()];
        if let Some(cause) = verdict.cause() {
            let texts = [cause.row.word, cause.row.sentence, cause.row.advice];
            said.extend(texts.map(str::to_owned));
            said.extend(cause.evidence);
        }
        for text in said {
            let has_word = ["request", "response"].iter().any(|word| text.contains(word));
            assert!(!has_word || case.script.contains("CONNECT"), "{}: {text}", case.name);
            told += 1;
        }
    }
    assert!(told > 50, "{told}");
}

/// Nothing but the segments counts: not how often somebody asked, nor that the end was told.
#[test]
fn questions_change_nothing() {
    for case in &cases::all() {
        let capture = Capture::of(&Talk::default(), &case.script);
        let mut session = Session::new();
        support::feed(&mut session, &capture.frames(), |session, frame| {
            for when in [When::SoFar, When::Final] {
                let verdict = session.verdict(frame, 0, when).expect("a verdict");
                assert!(!verdict.summary().is_empty());
            }
        });
        for when in [When::SoFar, When::Final, When::SoFar] {
            let complaints = complaints(case, &mut session, when);
            assert_eq!(complaints, "", "{} {when:?}", case.name);
        }
    }
}

/// A stream that was packed and unpacked before each of its segments is the same, save that
/// copies come too soon for that.
#[test]
fn rest_changes_nothing() {
    for case in cases::all().iter().filter(|case| !case.has_copies()) {
        let capture = Capture::of(&Talk::default(), &case.script);
        let mut session = Session::with_patience(0);
        support::feed(&mut session, &capture.frames(), |_, _| ());
        assert_eq!(complaints(case, &mut session, When::Final), "", "{}", case.name);
    }
}

#[test]
fn every_phase_stage_and_close_is_covered() {
    let wanted: Vec<String> = cases::all().into_iter().map(|case| case.want).collect();
    let has = |word: &str| wanted.iter().any(|want| want.split_whitespace().any(|w| w == word));
    let phases = [
        "handshake",
        "tls_handshake",
        "before_request",
        "during_request",
        "awaiting_response",
        "during_response",
        "after_response",
        "unknown",
    ];
    for phase in phases {
        assert!(has(&format!("phase={phase}")) && has(&format!("stage={phase}")), "{phase}");
        for side in ["client", "server"] {
            let both = |want: &String| {
                let words: Vec<_> = want.split_whitespace().collect();
                words.contains(&format!("phase={phase}").as_str())
                    && words.contains(&format!("reset.by={side}").as_str())
            };
            assert!(wanted.iter().any(both), "RST by {side}: {phase}");
        }
    }
    assert!(has("phase=teardown"));
    let closes =
        ["four_way", "three_way", "simultaneous", "half_close", "one_fin", "reset", "open"];
    for close in closes {
        assert!(has(&format!("close={close}")), "{close}");
    }
}
