// SPDX-License-Identifier: GPL-2.0-or-later
//! Resets inside TLS 1.2 and 1.3, of HTTP/1.1 and HTTP/2, with the keys and without: a real
//! nginx, recorded by `tests/lab/tls.py`, in a real tshark.
#![cfg(feature = "wireshark")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

mod support;

use support::host::host;
use support::lab::recorded;

/// A recording of now; `None` where that needs root and there is none.
fn recording() -> Option<&'static Path> {
    static DIR: OnceLock<Option<PathBuf>> = OnceLock::new();
    let dir = DIR.get_or_init(|| recorded("tls", &[]));
    dir.as_deref()
}

const FIELDS: [&str; 7] = [
    "rstdiag.client",
    "rstdiag.phase",
    "rstdiag.transaction",
    "rstdiag.requests",
    "rstdiag.responses",
    "rstdiag.request",
    "rstdiag.caveat",
];

/// Fields of each reset stream, as words.
fn told(dir: &Path, keys: bool) -> Vec<[String; 7]> {
    let keylog = format!("tls.keylog_file:{}", dir.join("keys.log").display());
    let mut more = vec!["-2", "-Y", "rstdiag.reset.frame == frame.number && tcp.port == 443"];
    if keys {
        more.extend(["-o", &keylog]);
    }
    let rows = host().fields(&dir.join("capture.pcap"), &[], &more, &FIELDS);
    let words = |row: Vec<Vec<String>>| {
        let mut words = row.into_iter().map(|values| values.join(","));
        std::array::from_fn(|_| words.next().unwrap_or_default())
    };
    rows.into_iter().map(words).collect()
}

fn truth(dir: &Path) -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(dir.join("truth.json")).unwrap()).unwrap()
}

#[test]
fn with_the_keys_it_is_as_in_the_clear() {
    let Some(dir) = recording() else { return };
    let (truth, told) = (truth(dir), told(dir, true));
    assert_eq!(told.len(), truth.len());
    for stream in &truth {
        let found = told.iter().find(|row| stream["client"] == row[0]).expect("the stream");
        let [_, phase, transaction, requests, responses, request, caveat] = found;
        let name = &stream["scenario"];
        assert_eq!(stream["phase"], *phase, "{name}");
        assert_eq!(stream["transaction"], *transaction, "{name}");
        // Where nothing was said inside, nobody can tell what would have been.
        let is_silent =
            stream["phase"] == "before_request" && !name.as_str().unwrap().contains("h2");
        let counted = |count: &Value| if is_silent { String::new() } else { count.to_string() };
        assert_eq!(counted(&stream["requests"]), *requests, "{name}");
        assert_eq!(counted(&stream["responses"]), *responses, "{name}");
        assert_eq!(stream["request"].as_str().unwrap_or_default(), request, "{name}");
        assert_eq!(caveat.contains("encrypted"), is_silent, "{name}");
    }
}

#[test]
fn without_the_keys_nothing_wrong_is_claimed() {
    let Some(dir) = recording() else { return };
    let told = told(dir, false);
    let mut claimed = 0;
    for stream in &truth(dir) {
        let found = told.iter().find(|row| stream["client"] == row[0]).expect("the stream");
        let [_, phase, transaction, ..] = found;
        for (name, told) in [("phase", phase), ("transaction", transaction)] {
            claimed += usize::from(told != "unknown");
            assert!(
                told == "unknown" || stream[name] == *told,
                "{}: {told}",
                stream["scenario"]
            );
        }
        assert!(found[6].contains("encrypted"));
    }
    assert!(claimed > 0);
}
