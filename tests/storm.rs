// SPDX-License-Identifier: GPL-2.0-or-later
//! A storm of resets through a real nginx with several workers, on both legs: how many entries
//! find their stream, and whether any finds another one's.
//!
//! `make test` records a modest one, `make storm` a great one: `RSTDIAG_STORM` is the number of
//! connections, or the directory of a recording that is to be judged once more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use chrono::{NaiveDateTime, TimeDelta};
use rstdiag::nginx::message::Leg;
use rstdiag::session::{LogKind, Session, When};
use serde::Deserialize;

mod support;

/// Connections of the storm that every run of the tests makes.
const MODEST: u32 = 3000;

/// Connections of a great storm, at least.
const GREAT: usize = 20_000;

/// Score from which on an entry is said to be about a stream, not only perhaps.
const CERTAIN: u8 = 60;

/// `truth.json`; see `tests/lab/README.md`.
#[derive(Deserialize)]
struct Truth {
    resets_per_second: f64,
    /// Clients' streams by the number of their connection.
    connections: BTreeMap<u64, u32>,
    streams: Vec<Ends>,
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Ends {
    client: String,
    server: String,
    /// Of an upstream's stream: the client's that it was asked for last.
    asked_for: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    line: u64,
    leg: String,
    story: String,
    stream: Option<u32>,
    /// Streams besides its own that it could be about for all that packets and log tell.
    rivals: Option<u32>,
}

/// What is said of an entry: on which streams, and whether it is said to be about one.
#[derive(Default)]
struct Said {
    certain: Vec<u32>,
    perhaps: Vec<u32>,
    /// The fewest rivals that it is shown with.
    rivals: Option<u32>,
}

/// How good the matching of all entries has to be.
#[derive(Clone, Copy)]
struct Wanted {
    precision: f64,
    recall: f64,
    /// Every entry that is not said to be about a stream has rivals, not only those of which packets
    /// and log tell too little.
    all_shown: bool,
}

/// With the error log alone.
const ALONE: Wanted = Wanted { precision: 0.995, recall: 0.9, all_shown: true };

/// With an access log beside it. A modest storm has so few entries that those of its beginning and
/// of a busy moment weigh ten times as much.
fn with_access(truth: &Truth) -> Wanted {
    let recall = if truth.connections.len() >= GREAT { 0.999 } else { 0.99 };
    Wanted { precision: 0.999, recall, all_shown: false }
}

/// Entries of one kind.
#[derive(Default)]
struct Tally {
    entries: u32,
    claimed: u32,
    right: u32,
    decidable: u32,
    found: u32,
}

impl Tally {
    fn precision(&self) -> f64 {
        f64::from(self.right) / f64::from(self.claimed.max(1))
    }

    fn recall(&self) -> f64 {
        f64::from(self.found) / f64::from(self.decidable.max(1))
    }

    fn add(&mut self, entry: &Entry, said: &Said) {
        self.entries += 1;
        let right = entry.stream.is_some_and(|stream| said.certain == [stream]);
        self.claimed += u32::from(!said.certain.is_empty());
        self.right += u32::from(right);
        if entry.rivals == Some(0) {
            self.decidable += 1;
            self.found += u32::from(right);
        }
    }
}

fn record(dir: &Path, connections: u32) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/storm.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(dir).arg("--connections").arg(connections.to_string());
    let out = command.output().expect("python3");
    assert!(out.status.success(), "storm.py: {}", String::from_utf8_lossy(&out.stderr));
}

/// What `tests/lab/storm.py` has nginx write: numbers of connections, and no port.
const ACCESS_LOG: &str = "$connection $remote_addr [$time_local] $msec \"$request\" $status \
                          $body_bytes_sent $request_time \"$upstream_addr\"";

/// An access log and its `log_format`.
type AccessLog<'a> = (&'a Path, &'a str);

fn session(
    log: Option<&Path>,
    access_log: Option<AccessLog<'_>>,
    capture: &Path,
    zone: &str,
) -> Session {
    let mut session = Session::new();
    session.set_time_zone(zone).unwrap();
    if let Some(log) = log {
        support::read_log(&mut session, log);
    }
    if let Some((path, format)) = access_log {
        session.set_access_log_format(format).unwrap();
        session.begin_log(LogKind::Access, &path.display().to_string());
        session.log_bytes(&std::fs::read(path).unwrap());
        session.end_log().unwrap();
    }
    support::replay(&mut session, capture);
    session
}

/// The same access log without the numbers of connections.
fn without_numbers(log: &Path) -> PathBuf {
    let text = std::fs::read_to_string(log).unwrap();
    let lines = text.lines().map(|line| line.split_once(' ').unwrap().1);
    let path = log.with_file_name("unnumbered-access.log");
    std::fs::write(&path, lines.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    path
}

/// The same log, as a host in UTC+8 would have written it.
fn in_another_zone(log: &Path) -> PathBuf {
    const FORMAT: &str = "%Y/%m/%d %H:%M:%S";
    const STAMP: usize = "2026/01/01 00:00:00".len();
    let bytes = std::fs::read(log).unwrap();
    let mut out = Vec::new();
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let (stamp, rest) = line.split_at(STAMP);
        let time = NaiveDateTime::parse_from_str(std::str::from_utf8(stamp).unwrap(), FORMAT);
        let time = time.unwrap() + TimeDelta::hours(8);
        out.extend_from_slice(time.format(FORMAT).to_string().as_bytes());
        out.extend_from_slice(rest);
    }
    let path = log.with_file_name("shifted.log");
    std::fs::write(&path, out).unwrap();
    path
}

/// The same access log, as a host in UTC+8 would have written it.
fn access_in_another_zone(log: &Path) -> PathBuf {
    const FORMAT: &str = "%d/%b/%Y:%H:%M:%S";
    let text = std::fs::read_to_string(log).unwrap();
    let line = |line: &str| {
        let (before, rest) = line.split_once('[').unwrap();
        let (stamp, after) = rest.split_once(" +0000]").unwrap();
        let time = NaiveDateTime::parse_from_str(stamp, FORMAT).unwrap() + TimeDelta::hours(8);
        format!("{before}[{} +0800]{after}\n", time.format(FORMAT))
    };
    let path = log.with_file_name("shifted-access.log");
    std::fs::write(&path, text.lines().map(line).collect::<String>()).unwrap();
    path
}

/// The same capture, as a host would have taken it whose clock is 1.7 s behind nginx's.
fn with_another_clock(capture: &Path) -> PathBuf {
    let path = capture.with_file_name("shifted.pcap");
    let mut command = Command::new("editcap");
    command.args(["-F", "pcap", "-t", "-1.7"]).arg(capture).arg(&path);
    assert!(command.status().expect("editcap").success());
    path
}

/// What is said of each line.
fn said(session: &mut Session, truth: &Truth) -> BTreeMap<u64, Said> {
    let mut all: BTreeMap<u64, Said> = BTreeMap::new();
    for (number, ends) in (0u32..).zip(&truth.streams) {
        let verdict = session.verdict_of(number, When::Final).expect("a stream");
        assert_eq!(verdict.client().to_string(), ends.client, "stream {number}");
        assert_eq!(verdict.server().to_string(), ends.server, "stream {number}");
        for (entry, matched) in verdict.entries() {
            let said = all.entry(entry.line).or_default();
            match matched.score {
                CERTAIN.. => said.certain.push(number),
                _ => said.perhaps.push(number),
            }
            let rivals = said.rivals.unwrap_or(u32::MAX).min(matched.rivals);
            said.rivals = Some(rivals);
        }
    }
    all
}

/// The directory of a recording; `None` where that needs root and there is none, which a CI run
/// does not forgive.
fn storm() -> Option<PathBuf> {
    let wanted = std::env::var("RSTDIAG_STORM").unwrap_or_default();
    let connections = match wanted.parse::<u32>() {
        Err(_) if !wanted.is_empty() => return Some(PathBuf::from(wanted)),
        number => number.unwrap_or(MODEST),
    };
    // SAFETY: takes nothing, changes nothing, cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("SKIPPED: the lab makes network namespaces, which takes root");
        assert!(std::env::var_os("CI").is_none(), "CI has to run the lab");
        return None;
    }
    let dir = std::env::temp_dir().join(format!("rstdiag-storm-{}", std::process::id()));
    record(&dir, connections);
    Some(dir)
}

/// Prints how many streams are linked with their other leg, and complains if one is wrong.
fn judge_legs(session: &mut Session, truth: &Truth) {
    let mut wrong = Vec::new();
    let mut right = [0, 0];
    for (number, ends) in truth.streams.iter().enumerate() {
        let verdict = session.verdict_of(number as u32, When::Final).expect("a stream");
        let Some(frame) = verdict.other_leg() else { continue };
        let other = session.frame(frame, 0).expect("a frame").stream as usize;
        let is_client = truth.streams[other].asked_for == Some(number);
        match is_client || ends.asked_for == Some(other) {
            true => right[usize::from(is_client)] += 1,
            false => wrong.push((number, other, ends.asked_for)),
        }
    }
    let upstreams = truth.streams.iter().filter(|ends| ends.asked_for.is_some()).count();
    let [linked, clients] = right;
    println!("{linked} of {upstreams} upstreams linked, and {clients} clients");
    assert!(wrong.is_empty(), "{} streams are linked with others: {wrong:?}", wrong.len());
}

/// Prints the figures, and complains if they are not good enough.
fn judge(name: &str, session: &mut Session, truth: &Truth, wanted: Wanted) {
    let start = Instant::now();
    let said = said(session, truth);
    println!(
        "{name}: matched in {:.2} s; {}",
        start.elapsed().as_secs_f64(),
        session.clock().words()
    );
    let mut tallies: BTreeMap<(&str, &str), Tally> = BTreeMap::new();
    let nothing = Said::default();
    let mut hidden = Vec::new();
    for entry in &truth.entries {
        let said = said.get(&entry.line).unwrap_or(&nothing);
        for key in [(&*entry.leg, &*entry.story), (&*entry.leg, "all"), ("both", "all")] {
            tallies.entry(key).or_default().add(entry, said);
        }
        if !said.certain.is_empty() && entry.stream.is_none_or(|s| said.certain != [s]) {
            println!("wrong: {entry:?} is said to be about {:?}", said.certain);
        }
        let is_open = entry.rivals != Some(0) || wanted.all_shown;
        if said.certain.is_empty()
            && said.rivals.unwrap_or(0) == 0
            && entry.stream.is_some()
            && is_open
        {
            hidden.push(entry);
        }
    }
    println!("leg      story                entries  claimed precision  decidable recall");
    for ((leg, story), tally) in &tallies {
        println!(
            "{leg:8} {story:20} {:7} {:8} {:9.4} {:10} {:6.4}",
            tally.entries,
            tally.claimed,
            tally.precision(),
            tally.decidable,
            tally.recall()
        );
    }
    let all = &tallies[&("both", "all")];
    let good = all.precision() >= wanted.precision && all.recall() >= wanted.recall;
    assert!(good, "{name}: see above");
    assert!(hidden.is_empty(), "{name}: entries that are not decided show rivals: {hidden:?}");
}

/// Prints how many entries of an access log find their streams, by status, and complains if that
/// is not good enough. `log` is the access log with the numbers of connections, by which the truth
/// is known; the session need not have been given them.
fn judge_access(name: &str, session: &mut Session, log: &Path, truth: &Truth) {
    let log = std::fs::read_to_string(log).unwrap();
    let number = |line: &str| line.split_once(' ').unwrap().0.parse::<u64>().unwrap();
    let lines: Vec<(u64, &str)> = log.lines().map(|line| (number(line), line)).collect();
    // Status: entries that tell of an end, those that are said to be about a stream, and of these
    // the right ones.
    let mut tallies: BTreeMap<&str, [u32; 3]> = BTreeMap::new();
    let status = |line: &str| {
        let mut known = ["499", "400", "502"].into_iter();
        known.find(|status| line.contains(&format!("\" {status} "))).unwrap_or("200")
    };
    for (_, line) in &lines {
        tallies.entry(status(line)).or_default()[0] += 1;
    }
    for stream in 0..truth.streams.len() as u32 {
        let verdict = session.verdict_of(stream, When::Final).expect("a stream");
        // The upstream's stream shows the entry of its request, too.
        let of_client = |found: &rstdiag::correlate::matcher::Match| {
            found.certain && found.leg == Leg::Client
        };
        for (entry, found) in verdict.access_entries().iter().filter(|(_, m)| of_client(m)) {
            let (number, line) = lines[entry.line as usize - 1];
            let tally = tallies.get_mut(status(line)).unwrap();
            let about = truth.connections.get(&number);
            let is_right = about == Some(&stream);
            if !is_right {
                println!("wrong: {found:?} of {line} is about {about:?}, not {stream}");
            }
            tally[1] += 1;
            tally[2] += u32::from(is_right);
            assert!(found.score >= CERTAIN, "{line}");
        }
    }
    println!("{name}: entries of the access log\nstatus  entries  claimed    right");
    for (status, [entries, claimed, right]) in &tallies {
        println!("{status:6} {entries:8} {claimed:8} {right:8}");
    }
    let claimed: u32 = tallies.values().map(|tally| tally[1]).sum();
    let right: u32 = tallies.values().map(|tally| tally[2]).sum();
    // Where few are claimed, one weighs more than what is asked for.
    let may_be_wrong = 1.0 + f64::from(claimed) * (1.0 - ALONE.precision);
    let is_good = f64::from(claimed - right) <= may_be_wrong && claimed > 0;
    assert!(is_good, "{right} of {claimed} are right");
}

/// Complains if tshark does not show what the session says of the same recording.
#[cfg(feature = "wireshark")]
fn judge_tshark(dir: &Path, session: &mut Session) {
    support::lab::open_up(dir);
    let log = format!("error_log:{}", dir.join("error.log").display());
    let options = [log, "time_zone:UTC".to_owned()];
    let start = Instant::now();
    let capture = dir.join("storm.pcap");
    let (streams, lines) = support::found::same_storm(&capture, &options, session);
    let seconds = start.elapsed().as_secs_f64();
    println!("tshark shows the same {lines} lines on {streams} streams, in {seconds:.2} s");
    assert!(streams > 0 && lines > 0);
}

#[test]
fn entries_of_a_storm_find_their_streams() {
    let Some(dir) = storm() else { return };
    let truth = std::fs::read(dir.join("truth.json")).unwrap();
    let truth: Truth = serde_json::from_slice(&truth).unwrap();
    assert!(truth.resets_per_second >= 500.0, "{} resets a second", truth.resets_per_second);
    let (log, capture) = (dir.join("error.log"), dir.join("storm.pcap"));
    let access_log = dir.join("access.log");
    let plain_log = without_numbers(&access_log);
    let numbered = Some((&*access_log, ACCESS_LOG));
    // A variable of no use where the milliseconds stand.
    let seconds = ACCESS_LOG.replace("$msec", "$nothing");
    let seconds = Some((&*access_log, &*seconds));
    let plain = Some((&*plain_log, ACCESS_LOG.split_once(' ').unwrap().1));
    let mut as_it_is = session(Some(&log), None, &capture, "UTC");
    judge("as it is", &mut as_it_is, &truth, ALONE);
    judge_legs(&mut as_it_is, &truth);
    #[cfg(feature = "wireshark")]
    judge_tshark(&dir, &mut as_it_is);
    for (name, access, wanted) in [
        ("with an access log", numbered, with_access(&truth)),
        (
            "with an access log of seconds",
            seconds,
            Wanted { recall: 0.98, ..with_access(&truth) },
        ),
        ("with an access log without numbers", plain, Wanted { all_shown: false, ..ALONE }),
    ] {
        let mut beside = session(Some(&log), access, &capture, "UTC");
        judge(name, &mut beside, &truth, wanted);
        judge_legs(&mut beside, &truth);
        judge_access(name, &mut beside, &access_log, &truth);
    }
    for (name, access) in
        [("an access log alone", numbered), ("one without numbers alone", plain)]
    {
        let mut alone = session(None, access, &capture, "auto");
        judge_access(name, &mut alone, &access_log, &truth);
    }
    let (log, capture) = (in_another_zone(&log), with_another_clock(&capture));
    // `$msec`, and so the access log, is off by as much in either zone.
    let mut alone = session(None, numbered, &capture, "auto");
    judge_access("an access log alone, 1.7 s off", &mut alone, &access_log, &truth);
    println!("{}", alone.clock().words());
    let access_log = access_in_another_zone(&access_log);
    for (name, access, wanted) in [
        ("8 h and 1.7 s off", None, ALONE),
        (
            "8 h and 1.7 s off, with an access log",
            Some((&*access_log, ACCESS_LOG)),
            with_access(&truth),
        ),
    ] {
        let mut off = session(Some(&log), access, &capture, "auto");
        judge(name, &mut off, &truth, wanted);
    }
    // It is left for whoever looks into a failure, or named it.
    if std::env::var_os("RSTDIAG_STORM").is_none() {
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
