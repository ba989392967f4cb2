// SPDX-License-Identifier: GPL-2.0-or-later
//! Every kind of line that a real nginx can be made to log about the end of a connection: its
//! leg and its stream are right. `tests/lab/log_lines.py` makes nginx log those that the first
//! lab (`tests/lab/record.py`) does not.
#![cfg(feature = "wireshark")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rstdiag::nginx::message::{Leg, Shows, ROWS};
use rstdiag::nginx::reader::ErrorLogReader;
use rstdiag::session::{Session, When};
use serde::Deserialize;

mod support;

use support::lab::{is_root, readable_dir};

/// What a scenario of `log_lines.py` says of a line.
#[derive(Deserialize)]
struct Told {
    scenario: String,
    line: u64,
    leg: Option<String>,
    opener: Option<String>,
}

/// Rows that neither lab makes nginx log, and why.
const NOT_HERE: &[(&str, &str)] = &[
    ("accept_aborted", "Linux hands out connections that were reset before accept()"),
    ("stream_shutdown", "needs a worker that a reload told to end"),
    (
        "handshake_eof",
        "nginx tells OpenSSL 3 to take this for an orderly end; older ones do not",
    ),
    ("tls_eof", "as handshake_eof"),
    ("tls_alert", "needs a client that sends a fatal alert after its handshake"),
    ("call_gone", "Linux reports the reset instead"),
    ("kevent_reset", "BSD and macOS"),
    ("kevent_closed", "BSD and macOS"),
    ("kevent_upstream_reset", "BSD and macOS"),
    ("kevent_upstream_closed", "BSD and macOS"),
    ("connect_reset", "needs a RST between the kernel's handshake and nginx's next look"),
];

/// The directories of the two labs, recorded now; `None` where that needs root and there is none.
fn labs() -> Option<&'static [PathBuf; 2]> {
    static LABS: OnceLock<Option<[PathBuf; 2]>> = OnceLock::new();
    let labs = LABS.get_or_init(|| {
        if !is_root() {
            assert!(std::env::var_os("CI").is_none(), "CI has to run the lab");
            eprintln!("SKIPPED: the lab makes network namespaces, which takes root");
            return None;
        }
        Some(["record", "log_lines"].map(|name| {
            let dir = readable_dir(&format!("lines-{name}"));
            let script =
                Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/lab/{name}.py"));
            let out = Command::new("python3").arg(script).arg(&dir).output().expect("python3");
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            dir
        }))
    });
    labs.as_ref()
}

/// Row and leg of each line about an end.
fn ends(log: &Path) -> BTreeMap<u64, (&'static str, Leg)> {
    let mut ends = BTreeMap::new();
    let mut reader = ErrorLogReader::new();
    let mut sink = |line: rstdiag::nginx::reader::LineRef<'_>| {
        ends.insert(line.number, (line.end.row.name, line.end.leg));
    };
    reader.push(&fs::read(log).unwrap(), &mut sink);
    let counts = reader.finish(&mut sink);
    assert_eq!(counts.malformed, 0);
    ends
}

#[test]
fn every_line_is_about_its_leg_and_stream() {
    let Some([_, dir]) = labs() else { return };
    let told: Vec<Told> =
        serde_json::from_slice(&fs::read(dir.join("truth.json")).unwrap()).unwrap();
    let text = fs::read_to_string(dir.join("error.log")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let ends = ends(&dir.join("error.log"));
    let mut session = Session::new();
    session.set_time_zone("UTC").unwrap();
    support::read_log(&mut session, &dir.join("error.log"));
    support::replay(&mut session, &dir.join("capture.pcap"));
    let mut streams: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for stream in session.streams().collect::<Vec<_>>() {
        let verdict = session.verdict_of(stream, When::Final).unwrap();
        for (entry, _) in verdict.entries().filter(|(_, matched)| matched.certain) {
            streams.entry(entry.line).or_default().insert(verdict.client().to_string());
        }
    }
    let mut wrong = Vec::new();
    let (mut with_stream, mut found) = (0, 0);
    for Told { scenario, line, leg, opener } in &told {
        let shown = lines[*line as usize - 1];
        let said = ends.get(line).map(|end| end.1).filter(|leg| *leg != Leg::Unknown);
        if said.map(Leg::word) != leg.as_deref() {
            wrong.push(format!("{scenario}: leg {said:?}: {shown}"));
        }
        let on = streams.get(line).cloned().unwrap_or_default();
        let Some(opener) = opener else { continue };
        // A line without any address is told from its neighbours by its second alone.
        if shown.contains("client: ") {
            with_stream += 1;
            found += usize::from(on.contains(opener));
        }
        if on.iter().any(|stream| stream != opener) {
            wrong.push(format!("{scenario}: on {on:?}, not {opener}: {shown}"));
        } else if on.is_empty() {
            eprintln!("{scenario}: on no stream: {shown}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found * 100 >= with_stream * 95, "{found} of {with_stream} are on their stream");
}

#[test]
fn every_row_is_logged_for_real_or_it_is_said_why_not() {
    let Some(labs) = labs() else { return };
    let logged: BTreeSet<&str> = labs
        .iter()
        .flat_map(|dir| ends(&dir.join("error.log")).into_values())
        .map(|e| e.0)
        .collect();
    let missing: BTreeSet<&str> = NOT_HERE.iter().map(|(name, _)| *name).collect();
    let known: BTreeSet<&str> =
        ROWS.iter().filter(|row| row.shows != Shows::Stays).map(|row| row.name).collect();
    let told: BTreeSet<&str> = logged.union(&missing).copied().collect();
    let unsaid: Vec<_> = known.difference(&told).collect();
    let stale: Vec<_> = logged.intersection(&missing).collect();
    let unknown: Vec<_> = missing.difference(&known).collect();
    assert!(unsaid.is_empty() && stale.is_empty() && unknown.is_empty(),
        "not logged and not said why: {unsaid:?}; logged all the same: {stale:?}; no rows: {unknown:?}");
}
