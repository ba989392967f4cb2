// SPDX-License-Identifier: GPL-2.0-or-later
//! A live capture in a real tshark, and a real nginx whose log grows, is renamed, and is copied
//! and truncated meanwhile (`tests/lab/live.py`).
//!
//! A RST is shown before nginx has logged it, so the entry stands on later packets of its stream,
//! and in the report at the end.
#![cfg(feature = "wireshark")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

mod support;

use support::host::host;
use support::lab::{may_record, readable_dir, script};

/// By the address of a client: the places, file and line, of the entry about it, one after the
/// other.
type Places = BTreeMap<String, Vec<(String, u64)>>;

/// A tshark that looks at a capture while it is taken, and at a log; in the end it reports.
fn spectator(log: &Path) -> Command {
    let log = format!("rstdiag.error_log:{}", log.display());
    let mut args = vec!["-i", "-", "-l", "-n", "-o", &log, "-o", "rstdiag.time_zone:UTC"];
    args.extend(["-z", "rstdiag,report", "-T", "fields", "-E", "separator=\u{1e}"]);
    for field in ["rstdiag.client", "rstdiag.log.file", "rstdiag.log.line"] {
        args.extend(["-e", field]);
    }
    host().command("tshark", &args, true)
}

/// A program with its arguments and what it needs of the environment.
fn words(command: &Command) -> Vec<String> {
    let text = |text: &std::ffi::OsStr| text.to_str().unwrap().to_owned();
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", text(name), text(value?))));
    let program = [command.get_program()].into_iter().chain(command.get_args()).map(text);
    ["env".to_owned()].into_iter().chain(variables).chain(program).collect()
}

/// Each place that is shown on a packet is one where the entry stood, and they come in order.
fn judge_packets(shown: &str, truth: &Places) {
    let mut at: BTreeMap<&str, usize> = BTreeMap::new();
    for row in shown.lines().filter(|line| line.contains('\u{1e}')) {
        let cells: Vec<&str> = row.split('\u{1e}').collect();
        let [client, file, line] = cells[..] else { panic!("{row:?}") };
        if line.is_empty() {
            continue;
        }
        let (address, _) = client.split_once(':').unwrap();
        let place = (file.rsplit('/').next().unwrap().to_owned(), line.parse().unwrap());
        let from = at.entry(address).or_default();
        let next = truth[address][*from..].iter().position(|known| *known == place);
        *from += next.unwrap_or_else(|| panic!("{row:?}: {:?}", truth[address]));
    }
    // No packet need come after the last client's RST.
    let unseen = truth.keys().rev().skip(1).find(|address| !at.contains_key(address.as_str()));
    assert_eq!(unseen, None, "{shown}");
}

/// The report has each entry where it stands now, with its stream.
fn judge_report(shown: &str, truth: &Places) {
    for (address, places) in truth {
        let (file, line) = places.last().unwrap();
        let entry = format!("  {file}:{line} ");
        let rows: Vec<&str> = shown.lines().filter(|row| row.starts_with(&entry)).collect();
        assert_eq!(rows.len(), 1, "{address} at {entry}\n{shown}");
        assert!(rows[0].contains("tcp.stream"), "{address}: {}\n{shown}", rows[0]);
    }
}

#[test]
fn entries_are_shown_where_they_stand_while_the_log_is_rotated() {
    if !may_record() {
        return;
    }
    let dir = readable_dir("live");
    // The log itself, and whatever looks like it.
    let spectators =
        ["error.log", "error*"].map(|name| spectator(&dir.join("nginx").join(name)));
    let commands: Vec<Vec<String>> = spectators.iter().map(words).collect();
    let mut lab = Command::new("python3");
    lab.arg(script("live")).arg(&dir).arg(serde_json::to_string(&commands).unwrap());
    let out = lab.output().expect("python3");
    assert!(out.status.success(), "live.py: {}", String::from_utf8_lossy(&out.stderr));
    let truth = fs::read(dir.join("truth.json")).unwrap();
    let truth: Places = serde_json::from_slice(&truth).unwrap();
    assert_eq!(truth.len(), 7);
    for number in 0..commands.len() {
        let shown = fs::read_to_string(dir.join(format!("shown-{number}.txt"))).unwrap();
        judge_packets(&shown, &truth);
        judge_report(&shown, &truth);
    }
}
