// SPDX-License-Identifier: GPL-2.0-or-later
//! What is not HTTP: real servers of other protocols, recorded by `tests/lab/protocols.py`, in a
//! real tshark and in the core alone.
#![cfg(feature = "wireshark")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rstdiag::session::Session;
use serde_json::Value;

mod support;

use support::found::{by_core, by_tshark, Found};
use support::lab::recorded;

/// A recording of now; `None` where that needs root and there is none.
fn recording() -> Option<&'static Path> {
    static DIR: OnceLock<Option<PathBuf>> = OnceLock::new();
    let dir = DIR.get_or_init(|| recorded("protocols", &[]));
    dir.as_deref()
}

/// What may be said of a connection that was ended like this: transaction and severity.
fn right(end: &str) -> &'static [(&'static str, &'static str)] {
    match end {
        "closed" => &[("unknown", "harmless")],
        "reset" => &[("unknown", "warning")],
        // Whether anything was on its way when the RST was sent, chance decides.
        "reset_in_upload" => &[("failed", "failure"), ("unknown", "warning")],
        _ => panic!("what is {end}?"),
    }
}

/// What is said of a stream that may not be.
fn complaints(end: &str, found: &Found) -> Vec<String> {
    let first = |field: &str| found[field].first().map_or("", String::as_str);
    let mut wrong = Vec::new();
    let told = (first("rstdiag.transaction"), first("rstdiag.severity"));
    if !right(end).contains(&told) {
        wrong.push(format!("{told:?}"));
    }
    let stages = ["rstdiag.stage", "rstdiag.phase"].map(first);
    if stages.iter().any(|stage| !matches!(*stage, "unknown" | "teardown" | "")) {
        wrong.push(format!("{stages:?}"));
    }
    for field in ["requests", "responses", "request", "response.status", "response.acked"] {
        let told = &found[format!("rstdiag.{field}").as_str()];
        if !told.is_empty() {
            wrong.push(format!("{field} {told:?}"));
        }
    }
    if first("rstdiag.cause") == "client_abort" {
        wrong.push("client_abort".to_owned());
    }
    for field in ["summary", "cause", "evidence", "advice"] {
        let told = found[format!("rstdiag.{field}").as_str()].join(" ");
        if told.contains("request") || told.contains("response") {
            wrong.push(told);
        }
    }
    wrong
}

#[test]
fn nothing_but_http_has_requests_or_fails_for_want_of_an_answer() {
    let Some(dir) = recording() else { return };
    let truth: Vec<Value> =
        serde_json::from_slice(&std::fs::read(dir.join("truth.json")).unwrap()).unwrap();
    let capture = dir.join("capture.pcap");
    let mut session = Session::new();
    support::replay(&mut session, &capture);
    for found in [by_core(&mut session), by_tshark(&capture, &[])] {
        let mut wrong = Vec::new();
        for stream in &truth {
            let (protocol, end) = (&stream["protocol"], stream["end"].as_str().unwrap());
            let client = stream["client"].as_str().unwrap();
            let told = found.values().find(|found| found["rstdiag.client"] == [client]);
            let told =
                told.unwrap_or_else(|| panic!("{protocol} {end}: no stream of {client}"));
            let complaints = complaints(end, told);
            if !complaints.is_empty() {
                let summary = &told["rstdiag.summary"];
                wrong.push(format!("{protocol} {end}: {complaints:?} {summary:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        // Each protocol to each of three ends, and FTP with two connections.
        assert_eq!((truth.len(), found.len()), (27, 27));
    }
}
