// SPDX-License-Identifier: GPL-2.0-or-later
//! The budget of memory: what a stream and a kept entry take.

#![allow(clippy::unwrap_used, dead_code)]

#[path = "bench/memory.rs"]
mod memory;
#[path = "bench/traffic.rs"]
mod traffic;

use traffic::Traffic;

#[test]
fn streams_and_entries_stay_within_their_budget() {
    let [stream, entry] = memory::of(&Traffic::new(20_000));
    assert!(stream <= 200.0, "{stream:.1} B a stream");
    assert!(entry <= 150.0, "{entry:.0} B a kept entry");
}
