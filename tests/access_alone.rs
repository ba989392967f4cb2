// SPDX-License-Identifier: GPL-2.0-or-later
//! An access log without an error log: at its default level the latter says nothing of clients.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use rstdiag::correlate::store::Entry;
use rstdiag::session::{LogKind, Session, When};
use serde::Deserialize;

mod support;

use support::builder::{Capture, Talk};

/// 2024-01-01 00:00:00 UTC
const BEGIN: f64 = 1_704_067_200.0;

const FORMAT: &str = "$msec|$remote_addr|$remote_port|$connection|$connection_requests|\
                      $request_time|$status|$bytes_sent|$request";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    talks: Vec<String>,
    log: Vec<String>,
    want: Vec<String>,
    /// Criteria that have to be among those that agree.
    #[serde(default)]
    evidence: Vec<String>,
}

fn cases() -> Vec<Case> {
    let cases: Cases = toml::from_str(include_str!("data/nginx/access_alone.toml")).unwrap();
    cases.case
}

impl Case {
    fn session(&self) -> Session {
        let mut session = Session::new();
        session.set_access_log_format(FORMAT).unwrap();
        let line = |line: &String| {
            let (seconds, rest) = line.split_once('|').unwrap();
            format!("{:.3}|{rest}\n", BEGIN + seconds.parse::<f64>().unwrap())
        };
        session.begin_log(LogKind::Access, "access.log");
        session.log_bytes(self.log.iter().map(line).collect::<String>().as_bytes());
        session.end_log().unwrap();
        let mut capture = Capture::default();
        for (port, script) in (40_000..).zip(&self.talks) {
            capture.play(&Talk::between(&format!("10.0.0.1:{port}"), "10.0.0.2:80"), script);
        }
        support::feed(&mut session, &capture.frames(), |_, _| ());
        session
    }
}

#[test]
fn access_entries_are_about_the_streams_that_they_tell_of() {
    for case in cases() {
        let mut session = case.session();
        let mut told = Vec::new();
        for number in session.streams().collect::<Vec<_>>() {
            let verdict = session.verdict_of(number, When::Final).unwrap();
            assert_eq!(verdict.entries().count(), 0, "{}", case.name);
            for (entry, found) in verdict.access_entries() {
                let mark = if found.certain { '=' } else { '?' };
                told.push(format!("{}{mark}{number}", entry.line));
                assert_eq!(entry.any_parts().unwrap().kind(), "access", "{}", case.name);
                let words = found.evidence.words();
                let words: Vec<&str> = words.split(',').collect();
                for wanted in &case.evidence {
                    assert!(words.contains(&&**wanted), "{}: {words:?}", case.name);
                }
                assert!(!found.certain || found.score >= 60, "{}", case.name);
            }
        }
        told.sort();
        assert_eq!(told, case.want, "{}", case.name);
    }
}

/// The report lists what the access log tells, with its stream or with the reason why not.
#[test]
fn the_report_has_them_too() {
    for case in cases() {
        let mut session = case.session();
        let report = session.report();
        let lines: Vec<String> =
            report.parts.iter().flat_map(|part| session.report_lines(part)).collect();
        let text = lines.join("\n");
        assert!(text.contains("log      access.log"), "{text}");
        for want in &case.want {
            let (line, stream) = want.split_once(['=', '?']).unwrap();
            let title = lines.iter().find(|l| l.contains(&format!("  access.log:{line}  ")));
            let title = title.unwrap_or_else(|| panic!("{}: {text}", case.name));
            if want.contains('=') {
                assert!(title.contains(&format!("tcp.stream {stream}")), "{title}");
            }
        }
    }
}

/// Without an error log, access entries tell how far their host's clock is off.
#[test]
fn the_skew_of_an_access_log_is_found() {
    const SKEW: f64 = 30.0;
    let read = |format: &str, stamp: &dyn Fn(f64) -> String| {
        let mut capture = Capture::default();
        let mut log = String::new();
        for number in 0..40u32 {
            let after = f64::from(number) * 0.7;
            let mut talk =
                Talk::between(&format!("10.0.0.1:{}", 40_000 + number), "10.0.0.2:80");
            talk.start += (after * 1e9) as i64;
            capture.play(&talk, &format!("open\nc GET:/{number}\ns .\nc R. +0.2"));
            let written = stamp(BEGIN + after + 0.205 + SKEW);
            log += &format!("{written}|10.0.0.1|GET /{number} HTTP/1.1|499\n");
        }
        let mut session = Session::new();
        session
            .set_access_log_format(&format!("{format}|$remote_addr|$request|$status"))
            .unwrap();
        session.begin_log(LogKind::Access, "access.log");
        session.log_bytes(log.as_bytes());
        session.end_log().unwrap();
        support::feed(&mut session, &capture.frames(), |_, _| ());
        let found = (0..40).filter(|&number| {
            let verdict = session.verdict_of(number, When::Final).unwrap();
            let lines: Vec<u64> = verdict
                .access_entries()
                .iter()
                .filter(|(_, found)| found.certain)
                .map(|(entry, _)| entry.line)
                .collect();
            assert!(
                lines.is_empty() || lines == [u64::from(number) + 1],
                "{number}: {lines:?}"
            );
            !lines.is_empty()
        });
        (found.count(), session.clock().words())
    };
    let local = |seconds: f64| {
        let shown = chrono::DateTime::from_timestamp(seconds as i64 + 8 * 3600, 0).unwrap();
        shown.format("%d/%b/%Y:%H:%M:%S +0800").to_string()
    };
    let (found, words) = read("$msec", &|seconds| format!("{seconds:.3}"));
    assert_eq!(
        (found, words.contains("UTC+0, as the access log tells, 30.0 s ahead")),
        (40, true),
        "{words}"
    );
    let (found, words) = read("$time_local", &local);
    assert_eq!(
        (found, words.contains("UTC+8, as the access log tells, 30.")),
        (40, true),
        "{words}"
    );
}

/// One line a great many times, in the error log, in the access log or in both.
#[test]
fn of_a_great_many_entries_about_one_stream_a_few_are_shown_and_the_rest_is_counted() {
    const TIMES: usize = 2000;
    let waiting = (
        "open\nc GET:/a\ns .\nc R. +0.1",
        "epoll_wait() reported that client prematurely closed connection, so upstream connection \
         is closed too (104: Connection reset by peer) while reading response header from upstream",
    );
    let sending = (
        "open\nc GET:/a\ns 200:1000 x*400\nc R. +0.1",
        "recv() failed (104: Connection reset by peer) while sending to client",
    );
    for (errors, accesses, (script, text)) in [
        (0, TIMES, waiting),
        (TIMES, 0, sending),
        (0, 100, waiting),
        (1, 99, waiting),
        (1, 100, waiting),
        (70, 70, waiting),
        (100, 1, waiting),
        (3, TIMES, waiting),
        (TIMES, 3, waiting),
        (TIMES, TIMES, waiting),
    ] {
        let mut session = Session::new();
        session.set_time_zone("UTC").unwrap();
        session.set_access_log_format(FORMAT).unwrap();
        let error = format!(
            "2024/01/01 00:00:00 [info] 7#7: *5 {text}, client: 10.0.0.1, server: a, request: \
             \"GET /a HTTP/1.1\", upstream: \"http://10.0.0.9:8080/a\"\n"
        );
        session.begin_error_log("error.log");
        session.log_bytes(error.repeat(errors).as_bytes());
        let _ = session.end_log();
        session.begin_log(LogKind::Access, "access.log");
        let access =
            format!("{:.3}|10.0.0.1|40000|5|1|0.100|499|0|GET /a HTTP/1.1\n", BEGIN + 0.1);
        session.log_bytes(access.repeat(accesses).as_bytes());
        let _ = session.end_log();
        let mut capture = Capture::default();
        let talk = Talk::between("10.0.0.1:40000", "10.0.0.2:80");
        capture.play(&talk, script);
        support::feed(&mut session, &capture.frames(), |_, _| ());

        let verdict = session.verdict_of(0, When::Final).unwrap();
        let shown: Vec<_> = verdict.logged().collect();
        let name = format!("{errors} and {accesses}");
        assert_eq!(shown.len(), 100.min(errors + accesses), "{name}");
        assert_eq!(verdict.more_logged(), errors + accesses - shown.len(), "{name}");
        assert!(shown.iter().all(|(_, found)| found.certain && found.score >= 60), "{name}");
        // The error log comes first, and none twice.
        let is_error = |entry: &Entry<'_>| entry.file == "error.log";
        let of_errors = shown.iter().take_while(|(entry, _)| is_error(entry));
        assert_eq!(of_errors.count(), errors.min(100), "{name}");
        let places = shown.iter().map(|(entry, _)| (is_error(entry), entry.line));
        assert_eq!(places.collect::<BTreeSet<_>>().len(), shown.len(), "{name}");

        let parts = session.report().parts;
        let lines: Vec<String> =
            parts.iter().flat_map(|part| session.report_lines(part)).collect();
        let listed = lines.iter().filter(|line| line.contains("  score ")).count();
        let with_stream = lines.iter().find(|line| line.ends_with("with their streams"));
        let count = with_stream.and_then(|line| line.split(' ').next()?.parse::<usize>().ok());
        let count = count.expect("a title");
        assert_eq!(listed, count.min(100), "{name}");
        let more = format!("  and {} entries more about tcp.stream 0", count - listed);
        assert_eq!(lines.contains(&more), count > 100, "{name}");
    }
}
