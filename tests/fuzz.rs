// SPDX-License-Identifier: GPL-2.0-or-later
//! What fuzzers have found interesting, again and without a fuzzer: `data/fuzz` holds a folder
//! for each target of `fuzz/`, and these are the functions that the targets call.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout)]

use std::fs;
use std::path::Path;

use rstdiag::nginx::log_format::LogFormat;

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
