// SPDX-License-Identifier: GPL-2.0-or-later
//! The budget of memory: what a stream takes.

#![allow(clippy::unwrap_used, dead_code)]

#[path = "bench/memory.rs"]
mod memory;
#[path = "bench/traffic.rs"]
mod traffic;

use traffic::Traffic;

#[test]
fn streams_stay_within_their_budget() {
    let [stream, _] = memory::of(&Traffic::new(20_000));
    assert!(stream <= 200.0, "{stream:.0} B a stream");
}
