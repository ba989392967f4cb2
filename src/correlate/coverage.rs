// SPDX-License-Identifier: GPL-2.0-or-later
//! Whether what was logged is of the time of the capture.

use crate::correlate::store::Store;
use crate::time::{CaptureTime, SECOND};

/// Times of the first segment and of the last one.
pub type Span = (CaptureTime, CaptureTime);

/// Whether what was logged at this instant, to the second, cannot be about a packet of the capture,
/// which may lie apart from it by so many nanoseconds.
pub fn is_outside((begin, end): Span, window: i64, instant: CaptureTime) -> bool {
    instant.plus(SECOND + window) < begin || instant.plus(-window) > end
}

/// A log that tells nothing about the capture, though it can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Useless {
    /// The file of the first of its entries.
    pub path: String,
    /// What is wrong, and what to do about it.
    pub why: String,
}

/// What is wrong with these entries of a log, if none of them is of the time of the capture.
pub fn complaint(
    store: &Store,
    entries: impl Iterator<Item = u32>,
    span: Span,
    window: i64,
) -> Option<Useless> {
    let (mut count, mut first, mut held) = (0u32, None, None);
    for entry in entries {
        let Some(instant) = store.instant(entry) else { continue };
        if !is_outside(span, window, instant) {
            return None;
        }
        count += 1;
        first.get_or_insert(entry);
        let (from, to) = held.unwrap_or((instant, instant));
        held = Some((instant.min(from), instant.max(to)));
    }
    let shown = |(from, to): Span| format!("{} to {}", store.shown(from), store.shown(to));
    let (held, span) = (shown(held?), shown(span));
    let why = format!(
        "none of its {count} entries is of the time of the capture; name the log of that time, or \
         correct time_zone or clock_offset: they are from {held}, and the capture is from {span} \
         ({})",
        store.clock().words()
    );
    Some(Useless { path: store.file(first?)?.to_owned(), why })
}
