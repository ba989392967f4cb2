// SPDX-License-Identifier: GPL-2.0-or-later
//! The report: each reason has a case, and `docs/report.md` is what the sample yields.
//!
//! `RSTDIAG_BLESS=1 cargo test --no-default-features --test report` writes the latter anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use rstdiag::correlate::reasons;
use rstdiag::correlate::report::Part;
use rstdiag::correlate::store::is_access;
use rstdiag::session::{LogKind, Session};
use serde::Deserialize;
use support::builder::{Capture, Talk};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    zone: Option<String>,
    day: Option<String>,
    talks: Vec<Said>,
    log: Vec<String>,
    /// Lines of an access log: the second, the client, the status, the bytes, the request.
    #[serde(default)]
    access: Vec<String>,
    want: Vec<String>,
}

/// 2024-01-01 00:00:00 UTC
const BEGIN: u64 = 1_704_067_200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    client: String,
    server: String,
    script: String,
}

fn cases() -> Vec<Case> {
    let files =
        [include_str!("data/report/reasons.toml"), include_str!("data/report/ends.toml")];
    files.into_iter().flat_map(|text| toml::from_str::<Cases>(text).unwrap().case).collect()
}

impl Case {
    fn session(&self) -> Session {
        let mut session = Session::new();
        session.set_time_zone(self.zone.as_deref().unwrap_or("UTC")).unwrap();
        if !self.log.is_empty() {
            let day = self.day.as_deref().unwrap_or("2024/01/01");
            let lines = self.log.iter().map(|line| format!("{day} {line}\n"));
            session.begin_error_log("error.log");
            session.log_bytes(lines.collect::<String>().as_bytes());
            session.end_log().unwrap();
        }
        if !self.access.is_empty() {
            let format = "$msec|$remote_addr|$status|$bytes_sent|$request";
            session.set_access_log_format(format).unwrap();
            let line = |line: &String| {
                let (second, rest) = line.split_once('|').unwrap();
                format!("{}.000|{rest}\n", BEGIN + second.parse::<u64>().unwrap())
            };
            session.begin_log(LogKind::Access, "access.log");
            session.log_bytes(self.access.iter().map(line).collect::<String>().as_bytes());
            session.end_log().unwrap();
        }
        let mut capture = Capture::default();
        for said in &self.talks {
            capture.play(&Talk::between(&said.client, &said.server), &said.script);
        }
        support::feed(&mut session, &capture.frames(), |_, _| ());
        session
    }
}

/// The line of an entry, and of which log it is.
fn named(entry: u32) -> String {
    match is_access(entry) {
        true => "entry access".to_owned(),
        false => format!("entry {}", entry + 1),
    }
}

/// What a report says of each reset and each entry, in the words of the cases.
fn said(session: &mut Session) -> Vec<String> {
    let report = session.report();
    let said = report.parts.iter().filter_map(|part| match part {
        Part::Text(_) => None,
        Part::Reset(stream, reason) => {
            Some(format!("reset {stream} {}", reason.map_or("=", |reason| reason.word)))
        }
        // These logs have nothing but entries, one a line.
        Part::Matched(entry, stream, _) => Some(format!("{} ={stream}", named(*entry))),
        Part::Unmatched(entry, reason, _) => Some(format!("{} {}", named(*entry), reason.word)),
    });
    said.collect()
}

fn lines(session: &mut Session) -> Vec<String> {
    let report = session.report();
    report.parts.iter().flat_map(|part| session.report_lines(part)).collect()
}

#[test]
fn whatever_has_no_counterpart_has_its_reason() {
    for case in cases() {
        let mut session = case.session();
        let told = said(&mut session);
        let wanted: BTreeSet<_> = case.want.iter().cloned().collect();
        assert_eq!(told.len(), case.want.len(), "{}: {told:?}", case.name);
        assert_eq!(
            told.into_iter().collect::<BTreeSet<_>>(),
            wanted,
            "{}\n{}",
            case.name,
            lines(&mut session).join("\n")
        );
    }
}

#[test]
fn every_reason_has_a_case() {
    let cases = cases();
    let wants = || cases.iter().flat_map(|case| &case.want);
    let words = |kind: &str| -> BTreeSet<String> {
        let of_kind = wants().filter(|want| want.starts_with(kind));
        of_kind.filter_map(|want| want.rsplit(' ').next()).map(str::to_owned).collect()
    };
    let (resets, entries) = (words("reset "), words("entry "));
    assert!(reasons::of_streams().all(|reason| resets.contains(reason.word)), "{resets:?}");
    assert!(reasons::of_entries().all(|reason| entries.contains(reason.word)), "{entries:?}");
}

#[test]
fn rivals_are_named_up_to_a_number() {
    let mut case = cases().into_iter().find(|case| case.want.len() == 3).unwrap();
    let mut session = case.session();
    let told = lines(&mut session).join("\n");
    assert!(told.contains("could be about tcp.stream 0, 1\n") || told.ends_with("0, 1"));
    let first = Said {
        client: String::new(),
        server: case.talks[0].server.clone(),
        script: case.talks[0].script.clone(),
    };
    case.talks = (0..20)
        .map(|at| Said {
            client: format!("10.0.0.1:{}", 40_000 + at),
            server: first.server.clone(),
            script: first.script.clone(),
        })
        .collect();
    let told = lines(&mut case.session()).join("\n");
    assert!(told.contains("tcp.stream 0, 1, 2, 3, 4, 5, 6, 7 and 12 more"), "{told}");
}

#[test]
fn a_capture_without_tcp_has_a_report_too() {
    let mut session = Session::new();
    let told = lines(&mut session).join("\n");
    assert!(told.contains("capture  no TCP") && told.contains("0 of 0 TCP streams reset"));
}

const INTRODUCTION: &str = "\
<!-- SPDX-License-Identifier: GPL-2.0-or-later -->
<!-- Made by tests/report.rs from tests/data/sample. RSTDIAG_BLESS=1 writes it anew. -->

# The report

    tshark -q -z rstdiag,report -r sample.pcap -o rstdiag.error_log:error.log \\
        -o rstdiag.time_zone:UTC

prints what happened to every stream with a RST, the worst first and those of one cause together;
then every entry of the log about the end of a connection with its stream. Whatever has no
counterpart has one reason, with the first of these that holds:
";

fn table(
    out: &mut String,
    title: &str,
    reasons: impl Iterator<Item = &'static reasons::Reason>,
) {
    out.push_str(&format!("\n| {title} | because |\n|---|---|\n"));
    reasons.for_each(|r| out.push_str(&format!("| `{}` | {} |\n", r.word, r.means)));
}

/// The sample, with a zone or none.
fn sample(zone: &str) -> Session {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sample");
    let mut session = Session::new();
    session.set_time_zone(zone).unwrap();
    session.begin_error_log("error.log");
    session.log_bytes(&std::fs::read(sample.join("error.log")).unwrap());
    session.end_log().unwrap();
    support::replay(&mut session, &sample.join("sample.pcap"));
    session
}

#[test]
fn times_are_the_logs_where_its_zone_is_found() {
    let [given, found] = ["UTC", "auto"].map(|zone| lines(&mut sample(zone)));
    let clock = |line: &&String| !line.starts_with("clock ");
    assert!(found.iter().any(|line| line.starts_with("clock    the log is in UTC+0,")));
    assert!(given.iter().filter(clock).eq(found.iter().filter(clock)), "{found:#?}");
    // With a zone that is wrong, packets are shown as its clocks would have shown them.
    let west = lines(&mut sample("-01:00"));
    assert!(west.iter().any(|line| line.contains("2026/11/22 10:54:39.930")), "{west:#?}");
}

/// The report is read as it is printed, so the sample's is kept as a whole.
#[test]
fn the_report_of_the_sample_is_that_of_the_documentation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut session = sample("UTC");
    let mut wanted = INTRODUCTION.to_owned();
    table(&mut wanted, "reset without an entry", reasons::of_streams());
    table(&mut wanted, "entry without a stream", reasons::of_entries());
    let report = lines(&mut session).join("\n");
    wanted.push_str(&format!("\nOf the bundled sample:\n\n```\n{report}\n```\n"));

    let path = root.join("docs/report.md");
    if std::env::var_os("RSTDIAG_BLESS").is_some() {
        return std::fs::write(&path, wanted).unwrap();
    }
    let shown = std::fs::read_to_string(&path).unwrap_or_default();
    let line = wanted.lines().zip(shown.lines()).position(|(wanted, shown)| wanted != shown);
    let line = line.map(|line| line + 1);
    assert!(shown == wanted, "{} differs at {line:?}; RSTDIAG_BLESS=1", path.display());
}
