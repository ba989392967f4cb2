// SPDX-License-Identifier: GPL-2.0-or-later
//! HTTP/2 and TLS handshakes by curl, nghttp and a real nginx, recorded by
//! `tests/lab/http2.py`, in a real tshark with the keys and without, and in the replay.
#![cfg(feature = "wireshark")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rstdiag::session::Session;
use serde_json::Value;

mod support;

use support::found::{by_core, lines, rows, Found};
use support::lab::recorded;

/// Names in the truth, and the fields that they are about.
const ASSERTED: &[(&str, &str)] = &[
    ("phase", "rstdiag.phase"),
    ("stage", "rstdiag.stage"),
    ("transaction", "rstdiag.transaction"),
    ("severity", "rstdiag.severity"),
    ("close_by", "rstdiag.close.by"),
    ("reset_by", "rstdiag.reset.by"),
    ("cause", "rstdiag.cause"),
    ("requests", "rstdiag.requests"),
    ("responses", "rstdiag.responses"),
    ("request", "rstdiag.request"),
    ("status", "rstdiag.response.status"),
];

/// Of these, what needs no keys and is never otherwise without them.
const WITHOUT_KEYS: &[&str] = &["phase", "stage", "transaction", "cause"];

type Streams = BTreeMap<u32, Found>;

/// A recording of now; `None` where that needs root and there is none.
fn recording() -> Option<&'static Path> {
    static DIR: OnceLock<Option<PathBuf>> = OnceLock::new();
    let dir = DIR.get_or_init(|| recorded("http2", &[]));
    dir.as_deref()
}

/// What tshark shows of every stream.
fn shown(dir: &Path, keys: bool) -> Streams {
    let keylog = format!("tls.keylog_file:{}", dir.join("keys.log").display());
    let mut more = vec!["-2", "-Y", "tcp"];
    if keys {
        more.extend(["-o", &keylog]);
    }
    let log = format!("error_log:{}", dir.join("error.log").display());
    let options = [log, "time_zone:UTC".to_owned()];
    let rows = rows(&dir.join("capture.pcap"), &options, &more).into_iter();
    rows.map(|(stream, _, found)| (stream, found)).collect()
}

/// What the replay, which has no keys, says of every stream.
fn replayed(dir: &Path) -> Streams {
    let mut session = Session::new();
    session.set_time_zone("UTC").unwrap();
    support::read_log(&mut session, &dir.join("error.log"));
    support::replay(&mut session, &dir.join("capture.pcap"));
    by_core(&mut session)
}

/// Each declared stream, and what was found on it. Streams of one address come in order.
fn pairs<'a>(truth: &'a [Value], found: &'a Streams) -> Vec<(&'a Value, &'a Found)> {
    let mut left: Vec<&Found> = found.values().collect();
    let pairs = truth.iter().map(|truth| {
        let prefix = format!("{}:", truth["address"].as_str().unwrap());
        let same = |found: &&Found| found["rstdiag.client"][0].starts_with(&prefix);
        let at = left.iter().position(same).unwrap_or_else(|| panic!("{truth}: no stream"));
        (truth, left.remove(at))
    });
    pairs.collect()
}

fn truth(dir: &Path) -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(dir.join("truth.json")).unwrap()).unwrap()
}

fn words(value: &Value) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::String(text) => vec![text.clone()],
        other => vec![other.to_string()],
    }
}

/// Where what was found differs from what was done.
fn compare(truth: &Value, found: &Found, wrong: &mut Vec<String>) {
    let name = &truth["scenario"];
    let summary = &found["rstdiag.summary"][0];
    for (key, field) in ASSERTED {
        if let Some(told) = truth.get(*key).filter(|told| words(told) != found[field]) {
            wrong.push(format!("{name}: {key} is {told}, not {:?}: {summary}", found[field]));
        }
    }
    let cause = found["rstdiag.cause"].first().map(String::as_str);
    if let Some(evident) = truth["cause_or_none"].as_str() {
        match cause {
            None => return,
            Some(cause) if cause == evident => {}
            Some(cause) => wrong.push(format!("{name}: {cause}, not {evident}: {summary}")),
        }
    }
    let evidence = truth["evidence"].as_str().unwrap_or_default();
    if !found["rstdiag.evidence"].join("\n").contains(evidence) {
        let told = &found["rstdiag.evidence"];
        wrong.push(format!("{name}: evidence is {evidence}, not {told:?}: {summary}"));
    }
}

#[test]
fn with_the_keys_it_is_as_it_was_done() {
    let Some(dir) = recording() else { return };
    let (truth, found) = (truth(dir), shown(dir, true));
    let mut wrong = Vec::new();
    pairs(&truth, &found).iter().for_each(|(truth, found)| compare(truth, found, &mut wrong));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn without_the_keys_nothing_wrong_is_claimed() {
    let Some(dir) = recording() else { return };
    let truth = truth(dir);
    for found in [shown(dir, false), replayed(dir)] {
        let mut wrong = Vec::new();
        let mut told = 0;
        for (truth, found) in pairs(&truth, &found) {
            if !found["rstdiag.caveat"].contains(&"encrypted".to_owned()) {
                compare(truth, found, &mut wrong);
                continue;
            }
            for (key, field) in ASSERTED.iter().filter(|(key, _)| WITHOUT_KEYS.contains(key)) {
                let Some(true_one) = truth.get(*key) else { continue };
                let silent = found[field].is_empty() || found[field] == ["unknown"];
                told += usize::from(!silent);
                if !silent && words(true_one) != found[field] {
                    let (name, summary) = (&truth["scenario"], &found["rstdiag.summary"]);
                    wrong.push(format!(
                        "{name}: {key} {true_one}: {:?} {summary:?}",
                        found[field]
                    ));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(told > 10, "{told}");
    }
}

/// An entry bears the address of the scenario that provoked it; one about the upstream is on
/// nginx's connection with the request that it names.
#[test]
fn entries_of_the_log_are_on_the_streams_that_they_are_about() {
    let Some(dir) = recording() else { return };
    let log = std::fs::read_to_string(dir.join("error.log")).unwrap();
    let log: Vec<&str> = log.lines().collect();
    let found = shown(dir, true);
    let mut matched = Vec::new();
    for found in found.values() {
        for line in lines(found) {
            let text = log[line as usize - 1];
            let client = found["rstdiag.client"][0].rsplit_once(':').unwrap().0;
            let request = found["rstdiag.request"].first().map_or("-", String::as_str);
            let ours = text.contains(&format!("client: {client},"));
            let passed_on =
                text.contains("upstream: ") && text.contains(&format!("\"{request} "));
            assert!(ours || passed_on, "{text}\n{found:?}");
            matched.push(text);
        }
    }
    for truth in truth(dir) {
        let Some(message) = truth["upstream_log"].as_str() else { continue };
        let request = format!("request: \"{} HTTP/2.0\"", truth["request"].as_str().unwrap());
        let client = format!("client: {},", truth["address"].as_str().unwrap());
        let is_it =
            |line: &&str| [message, &request, &client].iter().all(|p| line.contains(*p));
        assert!(log.iter().any(is_it), "nginx wrote no such line: {truth}");
        assert!(matched.iter().any(is_it), "not matched: {truth}");
    }
}
