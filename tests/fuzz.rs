// SPDX-License-Identifier: GPL-2.0-or-later
//! What fuzzers have found interesting, again and without a fuzzer: `data/fuzz` holds a folder
//! for each target of `fuzz/`, and these are the functions that the targets call.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout)]

use std::fs;
use std::path::Path;

use targets::builder::{Capture, Frame, Talk};

use rstdiag::nginx::log_format::LogFormat;

#[allow(dead_code)]
#[path = "support/cases.rs"]
mod cases;
#[path = "../fuzz/src/lib.rs"]
mod targets;

fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fuzz").join(name);
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // The last line of what a failing test prints.
        println!("{}", path.display());
        target(&fs::read(path).unwrap());
        count += 1;
    }
    assert!(count >= 10, "{count} files of {name}");
}

#[test]
fn error_lines() {
    replay("error_line", targets::error_line);
}

#[test]
fn access_lines() {
    replay("access_line", targets::access_line);
}

#[test]
fn log_formats() {
    replay("log_format", targets::log_format);
}

#[test]
fn scripts_of_segments() {
    replay("segments", targets::segments);
}

#[test]
fn captures_with_logs() {
    replay("capture_and_logs", targets::capture_and_logs);
}

/// Every case of `data/streams` as a fuzzer's script: where a fuzzer starts from, and a replay
/// of its own. `RSTDIAG_SEEDS` names a folder that the scripts are written to.
#[test]
fn cases_are_scripts() {
    let seeds = std::env::var_os("RSTDIAG_SEEDS");
    for (number, case) in (0..).zip(cases::all()) {
        println!("{}", case.name);
        let script = script_of(&Capture::of(&Talk::default(), &case.script).frames());
        targets::segments(&script);
        if let Some(folder) = &seeds {
            fs::write(Path::new(folder).join(format!("case-{number:03}")), script).unwrap();
        }
    }
}

/// A capture of one connection, over Ethernet and without IP options, as a fuzzer's script.
fn script_of(frames: &[Frame]) -> Vec<u8> {
    let is_v6 = frames.first().is_some_and(|frame| frame.bytes[12..14] == [0x86, 0xdd]);
    let tcp_at = 14 + if is_v6 { 40 } else { 20 };
    let mut script = vec![u8::from(is_v6), 0];
    for frame in frames {
        let Some(tcp) = frame.bytes.get(tcp_at..).filter(|tcp| tcp.len() >= 20) else {
            continue;
        };
        let cut = (frame.wire_len - frame.bytes.len()).div_ceil(16).min(255) as u8;
        let is_server = tcp[..2] == 80u16.to_be_bytes();
        let payload = &tcp[20..];
        let pieces: Vec<&[u8]> = payload.chunks(0x7ff).take(3).collect();
        // The step with numbers and an oddity, the flags, both numbers as they are, the oddity.
        script.push(u8::from(is_server) | 1 << 3 | 1 << 5);
        script.push(tcp[13] | (pieces.len() as u8) << 6);
        script.push(0xff);
        script.extend(&tcp[4..12]);
        script.extend([7, cut]);
        for piece in pieces {
            script.push(0);
            script.extend((piece.len() as u16).to_be_bytes());
            script.extend(piece);
        }
    }
    script
}

/// Formats of which every value can be told, and some of which not every one can.
const FORMATS: [(&str, usize); 9] = [
    ("main", 100),
    ("escape=json {\"t\":$msec,\"r\":\"$request\",\"s\":\"$status\",\"a\":\"$upstream_addr\"}", 100),
    ("$remote_addr:$remote_port $connection $status $upstream_addr $upstream_status $msec", 90),
    ("$msec $request_time$bytes_sent $status$pipe \"$uri\" ${upstream_response_time}x", 100),
    ("$upstream_status $upstream_response_time $upstream_bytes_received $upstream_addr", 50),
    ("escape=none $time_iso8601|$status|$request|$http_user_agent", 60),
    ("escape=none $msec $request $http_referer $status $remote_user", 40),
    ("$http_referer $http_user_agent $status", 40),
    ("[$time_local] $remote_user, $args; $status", 60),
];

#[test]
fn what_nginx_writes_is_read() {
    for (text, percent) in FORMATS {
        let format = LogFormat::parse(text).unwrap();
        let mut random = targets::Random::new(2026);
        let (mut read, mut written) = (0, 0);
        for _ in 0..2000 {
            let (one, all) = targets::round_trip(&format, &mut random);
            read += one;
            written += all;
        }
        println!("{text}: {read} of {written}");
        assert!(read * 100 >= written * percent, "{text}: {read} of {written}");
    }
}
