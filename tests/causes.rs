// SPDX-License-Identifier: GPL-2.0-or-later
//! Why connections end: causes that real kernels, a real nginx and a router made on purpose,
//! captured at the client and at the server.
//!
//! A claim has to be right at both ends, or absent where only the other end could know.
#![cfg(feature = "wireshark")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use rstdiag::correlate::cause::ROWS;
use rstdiag::session::Session;
use serde_json::Value;

mod support;

use support::found::{by_core, by_tshark, Found};
use support::lab::{is_root, open_up, readable_dir};

const ENDS: [&str; 2] = ["client", "server"];

/// Names in the truth, and the fields that they are about.
const ASSERTED: &[(&str, &str)] = &[
    ("phase", "rstdiag.phase"),
    ("stage", "rstdiag.stage"),
    ("transaction", "rstdiag.transaction"),
    ("close", "rstdiag.close"),
    ("close_by", "rstdiag.close.by"),
    ("reset_by", "rstdiag.reset.by"),
    ("form", "rstdiag.reset.form"),
];

/// How a comparison went.
#[derive(Debug, Default)]
struct Tally {
    wrong: Vec<String>,
    values: usize,
    /// Causes that were told rightly, by word.
    right: BTreeSet<String>,
    /// Streams whose cause this end shows, and of those the ones that are told.
    knowable: usize,
    told: usize,
}

/// The recording of the repository, where the host can read it.
fn kept() -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/causes");
    let dir = readable_dir("causes-kept");
    for name in ["client.pcap", "server.pcap", "truth.json"] {
        std::fs::copy(from.join(name), dir.join(name)).unwrap();
    }
    open_up(&dir);
    dir
}

/// A recording of now; `None` where that needs root and there is none.
fn recorded() -> Option<PathBuf> {
    if !is_root() {
        assert!(std::env::var_os("CI").is_none(), "CI has to run the lab");
        eprintln!("SKIPPED: the lab makes network namespaces, which takes root");
        return None;
    }
    let dir = readable_dir("causes");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/causes.py");
    let out = Command::new("python3").arg(script).arg(&dir).output().expect("python3");
    assert!(out.status.success(), "causes.py: {}", String::from_utf8_lossy(&out.stderr));
    open_up(&dir);
    Some(dir)
}

fn replayed(capture: &Path) -> BTreeMap<u32, Found> {
    let mut session = Session::new();
    support::replay(&mut session, capture);
    by_core(&mut session)
}

fn compare(dir: &Path) -> Tally {
    let truth = std::fs::read(dir.join("truth.json")).unwrap();
    let truth: Value = serde_json::from_slice(&truth).unwrap();
    let mut tally = Tally::default();
    for end in ENDS {
        let found = replayed(&dir.join(end).with_extension("pcap"));
        let mut left: Vec<&Found> = found.values().collect();
        for stream in truth["streams"].as_array().unwrap() {
            if stream["seen"][end] == true {
                compare_stream(stream, end, &mut left, &mut tally);
            }
        }
    }
    println!(
        "{} values; {} of {} knowable causes told, {} different ones",
        tally.values,
        tally.told,
        tally.knowable,
        tally.right.len()
    );
    tally
}

fn compare_stream(stream: &Value, end: &str, left: &mut Vec<&Found>, tally: &mut Tally) {
    // One end can see other packets than the other.
    let truth = |name: &str| match stream["at"][end].get(name) {
        Some(here) => here,
        None => &stream[name],
    };
    let scenario = &stream["scenario"];
    let same = |found: &&Found| {
        truth("client") == found["rstdiag.client"][0].as_str()
            && truth("server") == found["rstdiag.server"][0].as_str()
    };
    let Some(at) = left.iter().position(same) else {
        tally.wrong.push(format!("{scenario}: the {end} has no such stream"));
        return;
    };
    let found = left.remove(at);
    let unasserted = stream["unasserted"].as_array().unwrap();
    for (name, field) in ASSERTED {
        if unasserted.iter().any(|unasserted| unasserted == name) {
            continue;
        }
        tally.values += 1;
        let told = found[field].first();
        if truth(name).as_str() != told.map(String::as_str) {
            let summary = &found["rstdiag.summary"][0];
            let truth = truth(name);
            tally.wrong.push(format!(
                "{scenario} at the {end}: {name} is {truth}, not {told:?}: {summary}"
            ));
        }
    }
    compare_cause(stream, end, found, tally);
}

fn compare_cause(stream: &Value, end: &str, found: &Found, tally: &mut Tally) {
    let allowed = stream["causes_ok"][end].as_array().unwrap();
    let knowable = !allowed.iter().any(Value::is_null);
    tally.knowable += usize::from(knowable);
    let Some(word) = found["rstdiag.cause"].first() else { return };
    let row = ROWS.iter().find(|row| row.word == word).expect("a word of the table");
    // Two causes leave the same packets: the more common one is claimed, the other one named.
    let named = row.or.is_some_and(|other| {
        found["rstdiag.evidence"].iter().any(|seen| seen.contains(other))
            && allowed.iter().any(|word| word == other)
    });
    if allowed.iter().any(|allowed| allowed == word) || named {
        tally.told += usize::from(knowable);
        tally.right.insert(word.clone());
        assert!(!found["rstdiag.evidence"].is_empty() && !found["rstdiag.advice"].is_empty());
    } else {
        let (scenario, seen) = (&stream["scenario"], &found["rstdiag.evidence"]);
        tally
            .wrong
            .push(format!("{scenario} at the {end}: {word} is none of {allowed:?}: {seen:?}"));
    }
    if row.harmless && found["rstdiag.severity"] != ["harmless"] {
        tally.wrong.push(format!("{}: {word} is harmless", stream["scenario"]));
    }
}

/// Nothing wrong, at least 20 different causes, and most of those that this end could know.
fn judge(tally: &Tally) {
    assert!(tally.wrong.is_empty(), "{}", tally.wrong.join("\n"));
    assert!(tally.right.len() >= 20, "{:?}", tally.right);
    assert!(tally.told * 100 >= tally.knowable * 90, "{tally:?}");
}

#[test]
fn causes_made_now_are_told_rightly_at_both_ends() {
    if let Some(dir) = recorded() {
        judge(&compare(&dir));
    }
}

#[test]
fn causes_of_the_kept_recording_are_told_rightly_at_both_ends() {
    judge(&compare(&kept()));
}

#[test]
fn tshark_tells_the_same_causes() {
    let dir = kept();
    for end in ENDS {
        let capture = dir.join(end).with_extension("pcap");
        assert_eq!(by_tshark(&capture, &[]), replayed(&capture), "{end}");
    }
}
