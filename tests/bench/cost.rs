// SPDX-License-Identifier: GPL-2.0-or-later
//! What the plugin costs, as ratios within one run: `make bench`.
//!
//! A capture and a log are made, tshark reads the capture with the plugin and without it by
//! turns, and the smallest user CPU time of each counts, because noise only ever adds.
//! `cargo bench --bench cost -- reading memory` runs these parts only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod hostile;
mod linear;
mod memory;
mod reading;
#[path = "../support/mod.rs"]
mod support;
mod traffic;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use reading::Reader;
use rstdiag::session::When;
use support::host::host;
use support::lab::{open_up, readable_dir};
use traffic::Traffic;

/// Rounds of each command, by turns.
const ROUNDS: usize = 5;

/// Connections of the capture; some 34 packets each.
const CONNECTIONS: u32 = 16_000;

/// What is measured, by the words that name it.
const PARTS: [(&str, fn()); 6] = [
    ("passes", passes),
    ("growth", growth),
    ("linear", linear::grow),
    ("reading", reading),
    ("memory", memory),
    ("hostile", hostile),
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let known = |word: &String| PARTS.iter().any(|(name, _)| name == word);
    assert!(
        wanted.iter().all(known),
        "the parts are passes, growth, linear, reading, memory, hostile"
    );
    for (name, measure) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            measure();
        }
    }
}

/// Processor time of this thread, which does not count what other programs take.
fn cpu_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of this frame, which the call only writes.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    assert_eq!(status, 0);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Prints what a pass of tshark takes with the plugin, over one without.
fn passes() {
    let dir = readable_dir("bench");
    let (capture, log) = (dir.join("bench.pcap"), dir.join("error.log"));
    let traffic = Traffic::new(CONNECTIONS);
    let packets = traffic.write(&capture, &log);
    open_up(&dir);
    println!("{packets} packets, {CONNECTIONS} connections, {} log entries", traffic.entries());

    let read = ["-q", "-z", "io,stat,0"];
    ratio("one pass, plugin and log over none", &capture, &log, (&read, true), (&read, false));
    let (phase, reset) = (["-2", "-Y", "rstdiag.phase"], ["-2", "-Y", "tcp.flags.reset == 1"]);
    ratio(
        "two passes, -Y rstdiag.phase over -Y 'tcp.flags.reset == 1' without plugin",
        &capture,
        &log,
        (&phase, true),
        (&reset, false),
    );
}

/// Prints how much more user CPU time one way of calling tshark takes than another.
fn ratio(name: &str, capture: &Path, log: &Path, one: (&[&str], bool), other: (&[&str], bool)) {
    let (mut with, mut without) = (f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        without = without.min(tshark(capture, log, other));
        with = with.min(tshark(capture, log, one));
    }
    println!("{name}: {:.3} ({with:.2} s over {without:.2} s)", with / without);
}

/// User CPU seconds of one run of tshark.
fn tshark(capture: &Path, log: &Path, (args, plugin): (&[&str], bool)) -> f64 {
    let log = format!("rstdiag.error_log:{}", log.display());
    let mut all = vec!["-n", "-r", capture.to_str().unwrap()];
    if plugin {
        all.extend(["-o", &log, "-o", "rstdiag.time_zone:UTC"]);
    }
    all.extend(args);
    let before = user_time();
    let status = host()
        .command("tshark", &all, plugin)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    user_time() - before
}

/// User CPU seconds of all children that have ended.
fn user_time() -> f64 {
    // SAFETY: all zero is a valid rusage, and the call only writes into it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    };
    usage.ru_utime.tv_sec as f64 + usage.ru_utime.tv_usec as f64 / 1e6
}

/// Prints how the time of the core grows when the input doubles.
fn growth() {
    let storm = |connections| Traffic { storm: true, ..Traffic::new(connections) };
    grow("spread over time", Traffic::new, 4_000, 3, verdicts);
    grow("all in one second, one URI", storm, 4_000, 3, verdicts);
    // A million streams, a million entries, each about one of them.
    let many =
        |connections| Traffic { exchanges: 1, reset_every: 1, ..Traffic::new(connections) };
    grow("a reset each, up to a million", many, 500_000, 1, verdicts);
    grow("the report of a reset each, up to 200,000", many, 100_000, 1, report);
}

/// Prints how much longer something takes with twice the connections.
fn grow(
    name: &str,
    traffic: impl Fn(u32) -> Traffic,
    connections: u32,
    rounds: usize,
    seconds: impl Fn(&Traffic) -> f64,
) {
    let best = |connections: u32| {
        let traffic = traffic(connections);
        (0..rounds).map(|_| seconds(&traffic)).fold(f64::MAX, f64::min)
    };
    let (once, twice) = (best(connections), best(2 * connections));
    println!(
        "core, twice the connections, {name}: {:.2} times the time ({twice:.1} s over {once:.1} s)",
        twice / once
    );
}

/// Seconds that it takes to follow the streams and to ask for every verdict.
fn verdicts(traffic: &Traffic) -> f64 {
    let start = cpu_time();
    let mut session = traffic.replay();
    let numbers: Vec<u32> = session.streams().collect();
    let entries = |&n: &u32| Some(session.verdict_of(n, When::Final)?.entries().count());
    let entries: usize = numbers.iter().filter_map(entries).sum();
    assert!(traffic.storm || entries >= traffic.entries() as usize, "{entries} found");
    (cpu_time() - start).as_secs_f64()
}

/// Seconds that it takes to write the report, as the host does for `-z rstdiag,report`.
fn report(traffic: &Traffic) -> f64 {
    let mut session = traffic.replay();
    let start = cpu_time();
    let parts = session.report().parts;
    let lines: usize = parts.iter().map(|part| session.report_lines(part).len()).sum();
    assert!(lines > traffic.entries() as usize, "{lines} lines");
    (cpu_time() - start).as_secs_f64()
}

/// Prints how long it takes to read a large log, over what grep takes.
fn reading() {
    let log = readable_dir("reading").join("large.log");
    let resets = reading::write_log(&log);
    let summary = Reader::new(&log).summary();
    assert!(summary.contains(&format!(" {resets} about ends of connections")), "{summary}");
    let (mut grep, mut read) = (f64::MAX, f64::MAX);
    // Rounds are short, so there have to be many for some to be undisturbed.
    for _ in 0..4 * ROUNDS {
        let start = Instant::now();
        let out = Command::new("grep").args(["-c", "reset by peer"]).arg(&log).output();
        grep = grep.min(start.elapsed().as_secs_f64());
        let count = String::from_utf8(out.expect("grep").stdout).unwrap();
        assert_eq!(count.trim().parse(), Ok(resets));
        let start = Instant::now();
        let reader = Reader::new(&log);
        read = read.min(start.elapsed().as_secs_f64());
        drop(reader);
    }
    std::fs::remove_file(&log).unwrap();
    println!(
        "a log of 1 GB, {resets} entries about resets: {:.2} times grep -c 'reset by peer' \
         ({read:.2} s over {grep:.2} s)",
        read / grep
    );
}

/// Prints the memory of a session against its budget.
fn memory() {
    let [stream, entry] = memory::of(&Traffic::new(10 * CONNECTIONS));
    println!(
        "memory: {stream:.0} B a stream beside 4 B a frame (budget 200), {entry:.0} B a kept \
         entry (budget 150)"
    );
}

/// Prints what bytes cost that stand for many others, over those of an upload.
fn hostile() {
    let paths = [[&b"/"[..], &[b'a'; 2040]].concat()];
    let references = hostile::references(100_000);
    let head = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", 10 * references.len());
    let plain = [head.as_bytes(), &vec![b'x'; references.len() - head.len()]].concat();
    let seconds = |bytes: &[u8]| {
        let frames = hostile::upload(bytes);
        let rounds = (0..ROUNDS).map(|_| {
            let start = cpu_time();
            hostile::replay(&frames);
            (cpu_time() - start).as_secs_f64()
        });
        rounds.fold(f64::MAX, f64::min)
    };
    let (one, other) = (seconds(&references), seconds(&plain));
    println!(
        "core, references to long header fields: {:.1} times an upload ({:.0} ns a byte)",
        one / other,
        one * 1e9 / references.len() as f64
    );
    for (name, bytes) in
        [("equal paths", hostile::requests(&paths)), ("such references", references)]
    {
        let times = hostile::amplification(&bytes);
        println!("memory, {name}: {times:.1} times the {} bytes sent", bytes.len());
    }
}
