// SPDX-License-Identifier: GPL-2.0-or-later
//! What the plugin costs, as ratios within one run: `make bench`.
//!
//! A capture and a log are made, tshark reads the capture with the plugin and without it by
//! turns, and the smallest user CPU time of each counts, because noise only ever adds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod memory;
#[path = "../support/mod.rs"]
mod support;
mod traffic;

use std::path::Path;
use std::process::Stdio;

use rstdiag::session::When;
use support::host::{host, open_up, readable_dir};
use traffic::Traffic;

/// Rounds of each command, by turns.
const ROUNDS: usize = 5;

/// Connections of the capture; some 34 packets each.
const CONNECTIONS: u32 = 16_000;

fn main() {
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
    growth();
    memory(&Traffic::new(10 * CONNECTIONS));
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
    for (name, storm) in [("spread over time", false), ("all in one second, one URI", true)] {
        let time = |connections: u32| {
            let mut best = f64::MAX;
            for _ in 0..3 {
                let traffic = Traffic { storm, ..Traffic::new(connections) };
                let start = std::time::Instant::now();
                let mut session = traffic.replay();
                let numbers: Vec<u32> = session.streams().collect();
                let entries: usize = numbers
                    .iter()
                    .filter_map(|&n| {
                        Some(session.verdict_of(n, When::Final)?.entries().count())
                    })
                    .sum();
                assert!(entries > 0 || storm);
                best = best.min(start.elapsed().as_secs_f64());
            }
            best
        };
        let (once, twice) = (time(4_000), time(8_000));
        println!("core, twice the connections, {name}: {:.2} times the time", twice / once);
    }
}

/// Prints the memory of a session against its budget.
fn memory(traffic: &Traffic) {
    let [stream, entry] = memory::of(traffic);
    println!(
        "memory: {stream:.0} B a stream beside 4 B a frame (budget 200), {entry:.0} B a kept \
         entry (budget 150)"
    );
}
