// SPDX-License-Identifier: GPL-2.0-or-later
//! Real nginx, real kernels, real tcpdump, real tshark: the lab of `tests/lab` is recorded
//! anew, and every answer about it is compared with what its scenarios did.
#![cfg(feature = "wireshark")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rstdiag::session::{LogKind, Session, When};

mod support;

use support::found::{by_core, by_one_pass, by_tshark, lines, lines_of, Found};
use support::host::host;
use support::lab::{is_root, open_up, readable_dir};
use support::truth::{Tally, Truth};

/// A recording: capture, log and truth.
struct Recording {
    capture: PathBuf,
    log: PathBuf,
    truth: Truth,
}

impl Recording {
    fn options(&self) -> Vec<String> {
        vec![format!("error_log:{}", self.log.display()), "time_zone:UTC".to_owned()]
    }

    fn session(&self) -> Session {
        let mut session = Session::new();
        session.set_time_zone("UTC").unwrap();
        support::read_log(&mut session, &self.log);
        support::replay(&mut session, &self.capture);
        session
    }

    fn by_core(&self) -> BTreeMap<u32, Found> {
        by_core(&mut self.session())
    }

    fn judge(&self, found: &BTreeMap<u32, Found>) {
        judge(&self.truth.compare(found, &support::stream_begins(&self.capture)));
    }
}

/// The lab, recorded once for all tests; `None` where that needs root and there is none, which
/// a CI run does not forgive.
fn lab() -> Option<&'static Recording> {
    static LAB: OnceLock<Option<Recording>> = OnceLock::new();
    let lab = LAB.get_or_init(|| {
        if !is_root() {
            eprintln!("SKIPPED: the lab makes network namespaces, which takes root");
            return None;
        }
        let dir = readable_dir("lab");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/record.py");
        let out = Command::new("python3").arg(script).arg(&dir).output().expect("python3");
        assert!(out.status.success(), "record.py: {}", String::from_utf8_lossy(&out.stderr));
        open_up(&dir);
        Some(Recording {
            capture: dir.join("capture.pcap"),
            log: dir.join("error.log"),
            truth: Truth::read(&dir.join("truth.json")),
        })
    });
    assert!(lab.is_some() || std::env::var_os("CI").is_none(), "CI has to run the lab");
    lab.as_ref()
}

/// The lab's nginx writes each request's connection number and client port, so every entry about
/// a client finds its stream by the port, and beside it stands the access entry.
#[test]
fn an_access_log_makes_the_matches_of_clients_exact() {
    let Some(lab) = lab() else { return };
    let access_log = lab.log.with_file_name("access.json");
    let lines: Vec<serde_json::Value> = std::fs::read_to_string(&access_log)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut options = lab.options();
    // What a file of the folder is, its content tells.
    options.push(format!("access_log:{}", access_log.parent().unwrap().display()));
    options.push("access_log_format:json".to_owned());
    let begins = support::stream_begins(&lab.capture);
    let (without, with) = (
        lab.truth.compare(&by_tshark(&lab.capture, &lab.options()), &begins),
        by_tshark(&lab.capture, &options),
    );
    let tally = lab.truth.compare(&with, &begins);
    judge(&tally);
    assert!(tally.matched >= without.matched, "{} {}", tally.matched, without.matched);
    let (mut by_port, mut shown) = (0, 0);
    for (stream, found) in &with {
        let evidence = found["rstdiag.match.evidence"].iter();
        let kinds = found["rstdiag.log.kind"].iter();
        by_port += evidence
            .zip(kinds)
            .filter(|(words, kind)| words.contains("port") && *kind == "error")
            .count();
        // A request on the client's side is one of that very port, and has its status.
        let accesses = lines_of("access", found);
        let statuses = found["rstdiag.log.status"].iter();
        assert_eq!(accesses.len(), statuses.len(), "stream {stream}");
        for (line, status) in accesses.iter().zip(statuses) {
            let line = &lines[*line as usize - 1];
            let told = |name: &str| line[name].to_string().replace('"', "");
            assert_eq!(told("status"), *status, "stream {stream}");
            if found["rstdiag.leg"] == ["client"] {
                let client = format!("{}:{}", told("remote_addr"), told("remote_port"));
                assert_eq!(found["rstdiag.client"], [client], "stream {stream}");
            }
            shown += 1;
        }
    }
    println!(
        "{} entries matched, {} without an access log; {by_port} by port; {shown} access entries",
        tally.matched, without.matched
    );
    assert!(by_port > 20 && shown > 20, "{by_port} {shown}");
}

/// Frames that are cut tell less, and nothing else, of streams as of entries. Requests that did
/// not wait for each other are left out: one that is in the same frame behind another one is not
/// to be seen.
#[test]
fn a_cut_capture_of_the_lab_tells_less_and_nothing_else() {
    let Some(lab) = lab() else { return };
    let mut truth = Truth::read(&lab.log.with_file_name("truth.json"));
    truth.may_be_less = true;
    let mut told = Vec::new();
    for snaplen in [74, 96, 160, 256] {
        let mut session = Session::new();
        session.set_time_zone("UTC").unwrap();
        support::read_log(&mut session, &lab.log);
        support::replay_cut(&mut session, &lab.capture, snaplen);
        let mut tally =
            truth.compare(&by_core(&mut session), &support::stream_begins(&lab.capture));
        tally.wrong.retain(|wrong| !wrong.contains("pipelin"));
        assert!(tally.wrong.is_empty(), "snaplen {snaplen}\n{}", tally.wrong.join("\n"));
        println!("{snaplen}: {} of {} values untold", tally.untold, tally.values);
        told.push(tally.values - tally.untold);
    }
    assert!(told.is_sorted(), "{told:?}");
}

/// Lines of the lab's access log without these members.
fn accesses_without(lab: &Recording, hidden: &[&str]) -> String {
    let all = std::fs::read_to_string(lab.log.with_file_name("access.json")).unwrap();
    let without = |line| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        hidden.iter().for_each(|name| drop(line.as_object_mut().unwrap().remove(*name)));
        format!("{line}\n")
    };
    all.lines().map(without).collect()
}

fn read_accesses(session: &mut Session, lines: &str) {
    session.set_access_log_format("json").unwrap();
    session.begin_log(LogKind::Access, "access.json");
    session.log_bytes(lines.as_bytes());
    session.end_log().unwrap();
}

/// Without numbers of connections, the requests join both logs, and the ports come all the same.
#[test]
fn an_access_log_without_numbers_brings_ports_by_request() {
    let Some(lab) = lab() else { return };
    let mut session = Session::new();
    session.set_time_zone("UTC").unwrap();
    support::read_log(&mut session, &lab.log);
    read_accesses(&mut session, &accesses_without(lab, &["connection"]));
    support::replay(&mut session, &lab.capture);
    let found = by_core(&mut session);
    judge(&lab.truth.compare(&found, &support::stream_begins(&lab.capture)));
    let by_port = found.values().filter(|found| {
        let evidence = found["rstdiag.match.evidence"].iter().zip(&found["rstdiag.log.kind"]);
        evidence.filter(|(words, kind)| words.contains("port") && *kind == "error").count() > 0
    });
    let by_port = by_port.count();
    println!("{by_port} streams by the port that the entry of the same request has");
    assert!(by_port > 20, "{by_port}");
}

/// Statuses of which an access entry alone tells, and where the lab has them.
const TELLING: [&str; 7] = ["400", "408", "444", "499", "500", "502", "504"];

/// Without an error log, entries of the access log stand for themselves; without ports and numbers
/// of connections, too.
#[test]
fn an_access_log_alone_is_matched_as_well() {
    let Some(lab) = lab() else { return };
    let all = std::fs::read_to_string(lab.log.with_file_name("access.json")).unwrap();
    let lines: Vec<serde_json::Value> =
        all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told =
        |line: u64, name: &str| lines[line as usize - 1][name].to_string().replace('"', "");
    for hidden in [&[][..], &["remote_port", "connection", "connection_requests"]] {
        let mut session = Session::new();
        read_accesses(&mut session, &accesses_without(lab, hidden));
        support::replay(&mut session, &lab.capture);
        let mut found: BTreeMap<String, u32> = BTreeMap::new();
        for number in session.streams().collect::<Vec<_>>() {
            let verdict = session.verdict_of(number, When::Final).unwrap();
            for (entry, matched) in verdict.access_entries() {
                let client = format!(
                    "{}:{}",
                    told(entry.line, "remote_addr"),
                    told(entry.line, "remote_port")
                );
                let status = told(entry.line, "status");
                if matched.certain {
                    assert_eq!(verdict.client().to_string(), client, "{status}, {number}");
                    *found.entry(status).or_default() += 1;
                }
            }
        }
        let total = |status: &str| {
            (1..=lines.len() as u64).filter(|&line| told(line, "status") == status).count()
        };
        for status in TELLING {
            let (found, total) = (found.get(status).copied().unwrap_or(0), total(status));
            println!("{status}: {found} of {total}, without {hidden:?}");
            assert!(
                total == 0 || found as usize * 3 >= total * 2,
                "{status}: {found} of {total}"
            );
        }
        assert!(found.contains_key("200"), "bodies that broke off");
    }
}

/// The recording that the demo shows.
fn sample() -> Recording {
    let dir = readable_dir("sample");
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sample");
    for name in ["sample.pcap", "error.log"] {
        std::fs::copy(from.join(name), dir.join(name)).unwrap();
    }
    open_up(&dir);
    Recording {
        capture: dir.join("sample.pcap"),
        log: dir.join("error.log"),
        truth: Truth::read(&from.join("truth.json")),
    }
}

/// Every value right, no entry on a wrong stream, and 95 of 100 entries matched.
fn judge(tally: &Tally) {
    println!(
        "{} streams, {} values, {} of {} entries matched",
        tally.streams, tally.values, tally.matched, tally.entries
    );
    let [upstreams, clients] = tally.linked;
    println!("{upstreams} of {} upstreams linked, and {clients} clients", tally.upstreams);
    assert!(tally.wrong.is_empty(), "{}", tally.wrong.join("\n"));
    assert!(tally.matched * 100 >= tally.entries * 95, "{tally:?}");
}

#[test]
fn two_passes_of_tshark_tell_the_truth_about_the_lab() {
    let Some(lab) = lab() else { return };
    assert!(lab.truth.streams.len() > 150 && lab.truth.entries.len() > 80);
    lab.judge(&by_tshark(&lab.capture, &lab.options()));
}

#[test]
fn the_replay_tells_the_truth_about_the_lab() {
    let Some(lab) = lab() else { return };
    lab.judge(&lab.by_core());
}

#[test]
fn tshark_and_the_replay_say_the_same_about_the_lab() {
    let Some(lab) = lab() else { return };
    assert_same(&by_tshark(&lab.capture, &lab.options()), &lab.by_core());
}

#[test]
fn tshark_and_the_replay_tell_the_truth_about_the_sample() {
    let sample = sample();
    let (by_tshark, by_core) =
        (by_tshark(&sample.capture, &sample.options()), sample.by_core());
    assert_same(&by_tshark, &by_core);
    sample.judge(&by_core);
}

fn assert_same(one: &BTreeMap<u32, Found>, other: &BTreeMap<u32, Found>) {
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (stream, found) in one {
        assert_eq!(found, &other[stream], "stream {stream}");
    }
}

/// What is decided by the frame of the RST stands on it in one pass, too; and what is said
/// there of the log is no wrong guess.
#[test]
fn one_pass_tells_the_phase_on_the_first_reset() {
    let Some(lab) = lab() else { return };
    let last = by_tshark(&lab.capture, &lab.options());
    let mut resets = 0;
    let mut entries = 0;
    for (stream, frame, found) in by_one_pass(&lab.capture, &lab.options()) {
        let end = &last[&stream];
        if end["rstdiag.reset.frame"] == [frame.to_string()] {
            resets += 1;
            for field in ["rstdiag.phase", "rstdiag.reset.by", "rstdiag.request"] {
                assert_eq!(found[field], end[field], "{field} of stream {stream}");
            }
            let (told, right) = (lines(&found), lines(end));
            assert!(told.iter().all(|line| right.contains(line)), "stream {stream}: {told:?}");
            entries += told.len();
        }
    }
    let total = last.values().filter(|found| !found["rstdiag.phase"].is_empty()).count();
    assert_eq!(resets, total);
    assert!(entries * 2 > total, "{entries} entries on {total} resets");
}

impl Recording {
    /// What tshark prints for a statistic.
    fn statistic(&self, name: &str, more: &[&str]) -> String {
        let options: Vec<_> = self.options().iter().map(|o| format!("rstdiag.{o}")).collect();
        let mut args = vec!["-n", "-q", "-z", name, "-r", self.capture.to_str().unwrap()];
        options.iter().for_each(|option| args.extend(["-o", option]));
        args.extend(more);
        host().tshark(&args).0
    }

    /// Holds the report against what the fields say: each stream with a RST is listed once,
    /// and each entry about an end once, with a stream that it stands on if it has one.
    fn judge_report(&self) {
        let report = self.statistic("rstdiag,report", &[]);
        assert_eq!(report, self.statistic("rstdiag,report", &["-2"]));
        let mut session = self.session();
        let parts = session.report().parts;
        let by_core: Vec<_> = parts.iter().flat_map(|p| session.report_lines(p)).collect();
        assert_eq!(report, by_core.join("\n") + "\n");

        let found = by_tshark(&self.capture, &self.options());
        let with_reset = found.iter().filter(|(_, f)| !f["rstdiag.phase"].is_empty());
        let with_reset: Vec<u32> = with_reset.map(|(stream, _)| *stream).collect();
        let mut resets = Vec::new();
        let mut entries = Vec::new();
        for line in report.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let stream = words.iter().position(|word| *word == "tcp.stream");
            let stream = stream.and_then(|at| words.get(at + 1)?.parse::<u32>().ok());
            if line.starts_with("  frame ") {
                resets.push(stream.unwrap());
            } else if let Some(rest) = line.strip_prefix("  error.log:") {
                let number: u64 = rest.split(' ').next().unwrap().parse().unwrap();
                entries.push(number);
                let stands = stream.is_none_or(|at| lines(&found[&at]).contains(&number));
                assert!(stands, "{line}");
            }
        }
        resets.sort_unstable();
        entries.sort_unstable();
        assert_eq!(resets, with_reset);
        assert!(entries.windows(2).all(|pair| pair[0] < pair[1]), "{entries:?}");
        // Some entries that left no packet are about ends all the same, as those of upstreams
        // that nobody tried.
        for entry in &self.truth.entries {
            let listed = entries.contains(&entry.line);
            assert!(listed || !entry.packet, "line {} is not listed", entry.line);
            assert!(!listed || entry.leg != "none", "line {} is about no end", entry.line);
        }
    }

    /// Holds the table against what the fields say, however often the host reads the capture.
    fn judge_table(&self) {
        let mut counts: BTreeMap<Vec<String>, usize> = BTreeMap::new();
        let found = by_tshark(&self.capture, &self.options());
        for stream in found.values() {
            let word = |field: &str, none: &str| {
                stream[field].first().map_or(none, String::as_str).to_owned()
            };
            let row = [
                word("rstdiag.phase", "no reset"),
                word("rstdiag.reset.by", "-"),
                word("rstdiag.transaction", ""),
            ];
            *counts.entry(row.to_vec()).or_default() += 1;
        }
        let share =
            |count: usize| format!("{:.1} %", 100.0 * count as f64 / found.len() as f64);
        let wanted: Vec<Vec<String>> = counts
            .into_iter()
            .map(|(mut row, count)| {
                row.extend([count.to_string(), share(count)]);
                row
            })
            .collect();
        for passes in [&[][..], &["-2"]] {
            let table = self.statistic("rstdiag", passes);
            let rows = table.lines().filter(|line| line.ends_with("% |"));
            let cells = |row: &str| -> Vec<String> {
                let cells = row.trim_end_matches('|').split('|');
                cells.map(|cell| cell.trim().to_owned()).collect()
            };
            let mut rows: Vec<_> = rows.map(cells).collect();
            rows.sort();
            assert_eq!(rows, wanted, "{table}");
            assert!(table.lines().skip(1).all(|line| !line.is_empty()), "{table}");
        }
    }
}

#[test]
fn the_report_lists_every_reset_and_every_entry_of_the_lab_once() {
    let Some(lab) = lab() else { return };
    lab.judge_report();
    lab.judge_table();
}

#[test]
fn the_report_lists_every_reset_and_every_entry_of_the_sample_once() {
    let sample = sample();
    sample.judge_report();
    sample.judge_table();
}

#[test]
fn a_filter_leaves_other_streams_out_of_the_table() {
    let table = sample().statistic("rstdiag,ip.addr==10.77.1.5", &[]);
    let rows: Vec<_> = table.lines().filter(|line| line.ends_with("% |")).collect();
    assert!(rows.len() == 1 && rows[0].contains("100.0 %"), "{table}");
}

#[test]
fn sharkd_has_the_table_whenever_it_is_asked() {
    let sample = sample();
    let tap = ("tap", serde_json::json!({"tap0": "nstat:rstdiag"}));
    let load = ("load", serde_json::json!({"file": sample.capture}));
    let results = host().sharkd(&[load, tap.clone(), tap]);
    let rows = |result: &serde_json::Value| result["taps"][0]["tables"][0]["i"].clone();
    assert!(rows(&results[1]).as_array().unwrap().len() > 8, "{}", results[1]);
    assert_eq!(rows(&results[1]), rows(&results[2]));
}

#[test]
fn sharkd_filters_and_shows_the_same() {
    let sample = sample();
    let found = by_tshark(&sample.capture, &sample.options());
    let filter = "rstdiag.reset.frame == frame.number && rstdiag.transaction == \"failed\"";
    let results = host().sharkd(&[
        ("setconf", serde_json::json!({"name": "rstdiag.time_zone", "value": "UTC"})),
        ("setconf", serde_json::json!({"name": "rstdiag.error_log", "value": sample.log})),
        ("load", serde_json::json!({"file": sample.capture})),
        ("frames", serde_json::json!({"filter": filter, "column0": "rstdiag.summary:1"})),
    ]);
    let shown: Vec<&str> = results[3]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["c"][0].as_str().unwrap())
        .collect();
    let failed = found.values().filter(|found| {
        !found["rstdiag.phase"].is_empty() && found["rstdiag.transaction"] == ["failed"]
    });
    let mut expected: Vec<(u32, &str)> = failed
        .map(|found| {
            let frame = found["rstdiag.reset.frame"][0].parse().unwrap();
            (frame, found["rstdiag.summary"][0].as_str())
        })
        .collect();
    expected.sort_unstable();
    assert!(expected.len() > 4);
    assert_eq!(shown, expected.iter().map(|(_, summary)| *summary).collect::<Vec<_>>());
}
