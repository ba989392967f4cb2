// SPDX-License-Identifier: GPL-2.0-or-later
//! How the time that something takes grows with its input, whatever the machine's speed.

use std::time::Duration;

/// Processor time of this thread, which does not count what other programs of a busy machine take.
pub fn cpu_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of this frame, which the call only writes.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    assert_eq!(status, 0);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Rounds until growth is said to be more than linear.
const ROUNDS: usize = 10;

/// Eight times the input may take 20 times as long: more than n log n needs, and less than half
/// of what a square takes. The best of the rounds counts for each size, and there are more rounds
/// until it is enough, so that a machine which is busy or slow decides nothing. What is too fast
/// to be measured passes.
pub fn grows_linearly(what: &str, count: usize, run: impl Fn(usize) -> Duration) {
    let floor = Duration::from_millis(4);
    let (few, many) = (count / 4, 2 * count);
    let mut best = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        best = [best[0].min(run(few)), best[1].min(run(many))];
        if best[1] < 20 * best[0].max(floor) {
            return;
        }
    }
    panic!("{what}: {few} take {:?}, {many} take {:?}", best[0], best[1]);
}
