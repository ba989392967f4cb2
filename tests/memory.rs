// SPDX-License-Identifier: GPL-2.0-or-later
//! The budget of memory: what a stream and a kept entry take, and what a client can make it take.

#![allow(clippy::unwrap_used, dead_code)]

#[path = "bench/hostile.rs"]
mod hostile;
#[path = "bench/memory.rs"]
mod memory;
mod support;
#[path = "bench/traffic.rs"]
mod traffic;

use traffic::Traffic;

#[test]
fn streams_and_entries_stay_within_their_budget() {
    let [stream, entry] = memory::of(&Traffic::new(20_000));
    assert!(stream <= 200.0, "{stream:.1} B a stream");
    assert!(entry <= 150.0, "{entry:.0} B a kept entry");
}

/// A few bytes can stand for many, so what a connection takes is held against what was sent on it.
#[test]
fn a_connection_takes_a_few_times_what_it_carries() {
    let path = |number: usize| [format!("/{number:02}").as_bytes(), &[b'a'; 2040]].concat();
    let paths: Vec<_> = (0..16).map(path).collect();
    let pipelined = |target: &str| format!("GET {target} HTTP/1.1\r\n\r\n").repeat(256);
    let record = |kind: u8, id: u8, content: &[u8]| {
        [&[1, kind, 0, id, 0, content.len() as u8, 0, 0], content].concat()
    };
    let multiplexed = (1..=255).flat_map(|id| {
        let variables = b"\x0e\x03REQUEST_METHODGET\x0b\x02REQUEST_URI/a";
        [record(1, id, &[0, 1, 1, 0, 0, 0, 0, 0]), record(4, id, variables), record(4, id, b"")]
    });
    for (what, sent, most) in [
        ("HTTP/2, one path", hostile::requests(&paths[..1]), 32.0),
        ("HTTP/2, two paths", hostile::requests(&paths[..2]), 32.0),
        ("HTTP/2, 16 paths", hostile::requests(&paths), 8.0),
        ("HTTP/2, references", hostile::references(4000), 4.0),
        ("pipelined, short", pipelined("/").into_bytes(), 32.0),
        ("pipelined, long", pipelined(&"/".repeat(2048)).into_bytes(), 4.0),
        ("FastCGI", multiplexed.collect::<Vec<_>>().concat(), 4.0),
    ] {
        let times = hostile::amplification(&sent);
        assert!(times <= most, "{what}: {times:.1} times the {} bytes sent", sent.len());
    }
}
