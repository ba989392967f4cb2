// SPDX-License-Identifier: GPL-2.0-or-later
//! Whether what was logged is of the time of the capture.

use crate::correlate::clock::Clock;
use crate::correlate::store::Store;
use crate::nginx::reader::Counts;
use crate::time::{CaptureTime, LogTime, SECOND};

/// Times of the first and the last of something.
pub type Span = (CaptureTime, CaptureTime);

/// Whether what was logged at this time, to the second, cannot be about a packet of the capture,
/// which may lie apart from it by so many nanoseconds.
pub fn is_outside(capture: Span, window: i64, instant: CaptureTime) -> bool {
    are_outside(capture, window, (instant, instant))
}

fn are_outside((begin, end): Span, window: i64, (from, to): Span) -> bool {
    to.plus(SECOND + window) < begin || from.plus(-window) > end
}

/// The times of the lines of a file of an error log, on the capture's clock.
pub fn span_of_errors(counts: &Counts, clock: &Clock) -> Option<Span> {
    let instant = |entry: u32, time: LogTime| {
        Some(CaptureTime(time.0.checked_mul(SECOND)?).plus(clock.shift(entry, time)?))
    };
    let (from, to) = counts.span?;
    Some((instant(0, from)?, instant(u32::MAX, to)?))
}

/// What is wrong with a log of so many lines, and what to do about it, if none of its files is of
/// the time of the capture.
pub fn complaint(
    files: &[Span],
    lines: u64,
    capture: Span,
    window: i64,
    store: &Store,
) -> Option<String> {
    if !files.iter().all(|&file| are_outside(capture, window, file)) {
        return None;
    }
    let whole = files.iter().copied().reduce(|(a, b), (c, d)| (a.min(c), b.max(d)))?;
    let shown = |(from, to): Span| format!("{} to {}", store.shown(from), store.shown(to));
    Some(format!(
        "none of its {lines} entries is of the time of the capture; name the log of that time, or \
         correct time_zone or clock_offset: they are from {}, and the capture is from {} ({})",
        shown(whole),
        shown(capture),
        store.clock().words()
    ))
}
