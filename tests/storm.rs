// SPDX-License-Identifier: GPL-2.0-or-later
//! A storm of resets through a real nginx with several workers, on both legs: how many entries
//! find their stream, and whether any finds another one's.
//!
//! `make test` records modest ones, `make storm` great ones of every play: `RSTDIAG_STORM` is the
//! number of connections, or the directory of a recording that is to be judged once more, or one
//! with many of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use chrono::{NaiveDateTime, TimeDelta};
use rstdiag::correlate::matcher::Match;
use rstdiag::nginx::message::Leg;
use rstdiag::session::{LogKind, Session, When};
use serde::Deserialize;

mod support;

/// Connections of each storm that every run of the tests makes.
const MODEST: u32 = 2000;

/// By how much less of them has to be decided and to be right: at their ends there is less to go by,
/// and of so few two that a process was held up between are many.
const LESS_TO_GO_BY: f64 = 0.15;
const LESS_RIGHT: f64 = 0.003;

/// Score from which on an entry is said to be about a stream, not only perhaps.
const CERTAIN: u8 = 60;

/// Scores by what they promise: where a band begins, and the share of what is shown with such a
/// score that has to be right.
const BANDS: [(u8, f64); 3] = [(90, 0.9999), (CERTAIN, 0.995), (0, 0.0)];

/// The plays of `storm.py`: whether every run of the tests makes it, and the share of the decidable
/// entries of a great storm that has to be decided with the error log alone.
const PLAYS: [(&str, bool, f64); 10] = [
    ("fast", true, 0.97),
    ("slow", true, 0.9),
    ("slow_pair", false, 0.9),
    ("reuseport", false, 0.9),
    ("slow_reuseport", false, 0.9),
    ("keepalive", false, 0.95),
    ("short", false, 0.9),
    ("slow_short", false, 0.9),
    ("alone", false, 0.95),
    ("many_uris", false, 0.97),
];

/// `truth.json`; see `tests/lab/README.md`.
#[derive(Deserialize)]
struct Truth {
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

/// What is said of an entry: on which streams it is shown, and how.
#[derive(Default)]
struct Said {
    shown: Vec<(u32, Match)>,
    /// The fewest rivals that it is shown with.
    rivals: Option<u32>,
}

impl Said {
    /// The streams that it is said to be about.
    fn certain(&self) -> impl Iterator<Item = u32> + '_ {
        self.shown.iter().filter(|(_, found)| found.score >= CERTAIN).map(|(stream, _)| *stream)
    }
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
        let right = entry.stream.is_some_and(|stream| said.certain().eq([stream]));
        self.claimed += u32::from(said.certain().next().is_some());
        self.right += u32::from(right);
        if entry.rivals == Some(0) {
            self.decidable += 1;
            self.found += u32::from(right);
        }
    }
}

fn record(dir: &Path, play: &str, connections: u32) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/storm.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(dir).args(["--play", play]);
    command.arg("--connections").arg(connections.to_string());
    let out = command.output().expect("python3");
    assert!(out.status.success(), "storm.py: {}", String::from_utf8_lossy(&out.stderr));
}

/// What `storm.py` has nginx write in front of its access log, and what an access log usually has.
const TELLING: [&str; 3] = ["$connection", "$remote_port", "$msec"];
const USUAL: &str = "$remote_addr [$time_local] \"$request\" $status $body_bytes_sent \
                     $request_time \"$upstream_addr\"";

/// An access log and its `log_format`.
struct AccessLog {
    path: PathBuf,
    format: String,
}

impl AccessLog {
    /// What is left of a recording's access log if only these variables stand before the usual ones.
    fn with(dir: &Path, names: &[&str]) -> AccessLog {
        let text = std::fs::read_to_string(dir.join("access.log")).unwrap();
        let is_kept = TELLING.map(|name| names.contains(&name));
        let path = dir.join(format!("access-with{}.log", names.concat()));
        let mut file = BufWriter::new(File::create(&path).unwrap());
        for line in text.lines() {
            let words: Vec<&str> = line.splitn(TELLING.len() + 1, ' ').collect();
            let kept = words.iter().zip(is_kept.iter().chain([&true]));
            let kept: Vec<&str> = kept.filter(|kept| *kept.1).map(|kept| *kept.0).collect();
            writeln!(file, "{}", kept.join(" ")).unwrap();
        }
        AccessLog { path, format: [names, &[USUAL]].concat().join(" ") }
    }
}

fn session(
    log: Option<&Path>,
    access_log: Option<&AccessLog>,
    capture: &Path,
    zone: &str,
) -> Session {
    let mut session = Session::new();
    session.set_time_zone(zone).unwrap();
    if let Some(log) = log {
        support::read_log(&mut session, log);
    }
    if let Some(AccessLog { path, format }) = access_log {
        session.set_access_log_format(format).unwrap();
        session.begin_log(LogKind::Access, &path.display().to_string());
        session.log_bytes(&std::fs::read(path).unwrap());
        session.end_log().unwrap();
    }
    support::replay(&mut session, capture);
    session
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
fn access_in_another_zone(log: &AccessLog) -> AccessLog {
    const FORMAT: &str = "%d/%b/%Y:%H:%M:%S";
    let text = std::fs::read_to_string(&log.path).unwrap();
    let line = |line: &str| {
        let (before, rest) = line.split_once('[').unwrap();
        let (stamp, after) = rest.split_once(" +0000]").unwrap();
        let time = NaiveDateTime::parse_from_str(stamp, FORMAT).unwrap() + TimeDelta::hours(8);
        format!("{before}[{} +0800]{after}\n", time.format(FORMAT))
    };
    let path = log.path.with_file_name("shifted-access.log");
    std::fs::write(&path, text.lines().map(line).collect::<String>()).unwrap();
    AccessLog { path, format: log.format.clone() }
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
            said.shown.push((number, *matched));
            let rivals = said.rivals.unwrap_or(u32::MAX).min(matched.rivals);
            said.rivals = Some(rivals);
        }
    }
    all
}

/// The recordings to judge, each with the share of the decidable that is wanted: those that are
/// named, or new ones. None where that needs root and there is none, which a CI run does not
/// forgive.
fn recordings() -> Vec<(PathBuf, f64)> {
    let wanted = std::env::var("RSTDIAG_STORM").unwrap_or_default();
    let number = wanted.parse::<u32>();
    if number.is_err() && !wanted.is_empty() {
        let dir = PathBuf::from(wanted);
        let mut within: Vec<PathBuf> = std::fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .chain([dir])
            .filter(|dir| dir.join("truth.json").exists())
            .collect();
        within.sort();
        let of = |dir: &Path| PLAYS.iter().find(|(play, ..)| dir.ends_with(play));
        return within
            .into_iter()
            .map(|dir| (of(&dir).map_or(0.9, |play| play.2), dir))
            .map(|(recall, dir)| (dir, recall))
            .collect();
    }
    // SAFETY: takes nothing, changes nothing, cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("SKIPPED: the lab makes network namespaces, which takes root");
        assert!(std::env::var_os("CI").is_none(), "CI has to run the lab");
        return Vec::new();
    }
    let home = std::env::temp_dir().join(format!("rstdiag-storm-{}", std::process::id()));
    let plays = PLAYS.iter().filter(|(_, always, _)| *always || number.is_ok());
    plays
        .map(|&(play, _, recall)| {
            let dir = home.join(play);
            record(&dir, play, *number.as_ref().unwrap_or(&MODEST));
            (dir, recall)
        })
        .collect()
}

/// Complaints about what is not good enough.
#[derive(Default)]
struct Complaints(Vec<String>);

impl Complaints {
    fn unless(&mut self, is_good: bool, what: impl FnOnce() -> String) {
        if !is_good {
            self.0.push(what());
        }
    }
}

/// Whether at least this share is right. Where few are shown, one that is wrong weighs more than
/// what is asked for.
fn is_right(right: u32, shown: u32, wanted: f64) -> bool {
    f64::from(shown - right) <= 1.0 + f64::from(shown) * (1.0 - wanted)
}

/// Prints how many streams are linked with their other leg, and complains if one is wrong.
fn judge_legs(name: &str, session: &mut Session, truth: &Truth, complaints: &mut Complaints) {
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
    // They follow from what is said of the entries.
    let all = linked + clients + wrong.len() as u32;
    complaints.unless(is_right(linked + clients, all, 0.998), || {
        format!("{name}: {} of {all} streams are linked with others: {wrong:?}", wrong.len())
    });
}

/// Prints the figures, and complains if they are not good enough.
fn judge(
    name: &str,
    session: &mut Session,
    truth: &Truth,
    wanted: Wanted,
    complaints: &mut Complaints,
) {
    let start = Instant::now();
    let said = said(session, truth);
    println!(
        "\n{name}: matched in {:.2} s; {}",
        start.elapsed().as_secs_f64(),
        session.clock().words()
    );
    let mut tallies: BTreeMap<(&str, &str), Tally> = BTreeMap::new();
    let mut bands = [[0, 0]; BANDS.len()];
    let nothing = Said::default();
    let mut hidden = Vec::new();
    // Of a few that were about to be sent to an upstream, nothing tells where.
    let known = truth.entries.iter().filter(|entry| entry.stream.is_some());
    for entry in known {
        let said = said.get(&entry.line).unwrap_or(&nothing);
        for key in [(&*entry.leg, &*entry.story), (&*entry.leg, "all"), ("both", "all")] {
            tallies.entry(key).or_default().add(entry, said);
        }
        for &(stream, found) in &said.shown {
            let band = BANDS.iter().position(|&(from, _)| found.score >= from);
            let band = band.expect("a score");
            let right = entry.stream == Some(stream);
            bands[band][0] += 1;
            bands[band][1] += u32::from(right);
            if !right && found.score >= CERTAIN {
                println!("wrong: {entry:?} is shown on {stream}: {found:?}");
            }
        }
        let is_open = entry.rivals != Some(0) || wanted.all_shown;
        if said.certain().next().is_none()
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
    println!("score from  shown    right  share");
    for ((from, share), [shown, right]) in BANDS.iter().zip(bands) {
        let is = f64::from(right) / f64::from(shown.max(1));
        println!("{from:10} {shown:6} {right:8} {is:6.4}");
        complaints.unless(is_right(right, shown, *share), || {
            format!("{name}: with scores from {from} on {right} of {shown} are right")
        });
    }
    let all = &tallies[&("both", "all")];
    complaints.unless(is_right(all.right, all.claimed, wanted.precision), || {
        format!("{name}: {} of {} are right", all.right, all.claimed)
    });
    complaints.unless(all.recall() >= wanted.recall, || {
        format!("{name}: {:.4} of the decidable are decided", all.recall())
    });
    let open = all.entries - all.claimed;
    complaints.unless(is_right(open - hidden.len() as u32, open, 0.99), || {
        format!("{name}: entries that are not decided show no rivals: {hidden:?}")
    });
}

/// Prints how many entries of an access log find their streams, by status, and complains if that
/// is not good enough. `log` is the access log with the numbers of connections, by which the truth
/// is known; the session need not have been given them.
fn judge_access(
    name: &str,
    session: &mut Session,
    log: &Path,
    truth: &Truth,
    wanted: f64,
    complaints: &mut Complaints,
) {
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
    // One connection may have many lines, and all are about the same stream.
    let mut connections: BTreeMap<u64, bool> = BTreeMap::new();
    for stream in 0..truth.streams.len() as u32 {
        let verdict = session.verdict_of(stream, When::Final).expect("a stream");
        // The upstream's stream shows the entry of its request, too.
        let of_client = |found: &Match| found.certain && found.leg == Leg::Client;
        for (entry, found) in verdict.access_entries().iter().filter(|(_, m)| of_client(m)) {
            let (number, line) = lines[entry.line as usize - 1];
            let tally = tallies.entry(status(line)).or_default();
            let about = truth.connections.get(&number);
            let is_right = about == Some(&stream);
            if !is_right {
                println!("wrong: {found:?} of {line} is about {about:?}, not {stream}");
            }
            tally[1] += 1;
            tally[2] += u32::from(is_right);
            *connections.entry(number).or_insert(true) &= is_right;
            assert!(found.score >= CERTAIN, "{line}");
        }
    }
    println!("\n{name}: entries of the access log\nstatus  entries  claimed    right");
    for (status, [entries, claimed, right]) in &tallies {
        println!("{status:6} {entries:8} {claimed:8} {right:8}");
    }
    let claimed = connections.len() as u32;
    let right = connections.values().filter(|is_right| **is_right).count() as u32;
    complaints.unless(is_right(right, claimed, wanted) && claimed > 0, || {
        format!("{name}: {right} of {claimed} connections of the access log are right")
    });
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

/// Judges what is said of a recording with the error log alone, with access logs of several
/// formats, and where clocks and zones differ.
fn judge_all(dir: &Path, recall: f64, complaints: &mut Complaints) {
    let truth = std::fs::read(dir.join("truth.json")).unwrap();
    let truth: Truth = serde_json::from_slice(&truth).unwrap();
    let play = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (log, capture) = (dir.join("error.log"), dir.join("storm.pcap"));
    let access_log = dir.join("access.log");
    let is_great = truth.connections.len() > 2 * MODEST as usize;
    let (less_right, less) = if is_great { (0.0, 0.0) } else { (LESS_RIGHT, LESS_TO_GO_BY) };
    let precision = 0.999 - less_right;
    let alone = Wanted { precision, recall: recall - less, all_shown: true };
    let some = Wanted { all_shown: false, ..alone };
    let all = Wanted { precision: 0.9995 - less_right, ..some };
    {
        let mut session = session(Some(&log), None, &capture, "UTC");
        judge(&play, &mut session, &truth, alone, complaints);
        judge_legs(&play, &mut session, &truth, complaints);
        #[cfg(feature = "wireshark")]
        judge_tshark(dir, &mut session);
    }
    for (names, wanted) in [
        (&TELLING[..], all),
        (&["$connection", "$msec"], some),
        (&["$remote_port"], some),
        (&["$connection"], some),
        (&["$msec"], some),
    ] {
        let access = AccessLog::with(dir, names);
        let name = format!("{play}, with an access log with {names:?}");
        let mut beside = session(Some(&log), Some(&access), &capture, "UTC");
        judge(&name, &mut beside, &truth, wanted, complaints);
        judge_legs(&name, &mut beside, &truth, complaints);
        judge_access(&name, &mut beside, &access_log, &truth, precision, complaints);
        let name = format!("{play}, an access log alone, with {names:?}");
        let mut alone = session(None, Some(&access), &capture, "auto");
        judge_access(&name, &mut alone, &access_log, &truth, precision, complaints);
    }
    let (log, capture) = (in_another_zone(&log), with_another_clock(&capture));
    // `$msec`, and so the access log, is off by as much in either zone.
    let access = AccessLog::with(dir, &["$connection", "$msec"]);
    let name = format!("{play}, an access log alone, 1.7 s off");
    let mut off = session(None, Some(&access), &capture, "auto");
    judge_access(&name, &mut off, &access_log, &truth, precision, complaints);
    println!("{}", off.clock().words());
    let access = access_in_another_zone(&access);
    for (name, access, wanted) in
        [("", None, alone), (", with an access log", Some(&access), some)]
    {
        let name = format!("{play}, 8 h and 1.7 s off{name}");
        let mut off = session(Some(&log), access, &capture, "auto");
        judge(&name, &mut off, &truth, wanted, complaints);
    }
}

#[test]
fn entries_of_a_storm_find_their_streams() {
    let mut complaints = Complaints::default();
    let recordings = recordings();
    for (dir, recall) in &recordings {
        judge_all(dir, *recall, &mut complaints);
    }
    assert!(complaints.0.is_empty(), "{}", complaints.0.join("\n"));
    // They are left for whoever looks into a failure, or named them.
    if std::env::var_os("RSTDIAG_STORM").is_none() {
        recordings.iter().for_each(|(dir, _)| std::fs::remove_dir_all(dir).unwrap());
    }
}
