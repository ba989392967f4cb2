// SPDX-License-Identifier: GPL-2.0-or-later
//! Entries that may be about any of a great many streams: all are about one URI, one kind of end,
//! one second, and [`super::order`] finds nothing to tell them by. They stay open, and are shown
//! on a few of the streams that they may be about.

use crate::correlate::assign::Decision;
use crate::correlate::fit::Fit;
use crate::correlate::matcher::{Group, Match, Pair};

/// Streams on which an entry is shown that may be about any of a crowd.
const SHOWN: usize = 4;

/// Shows each entry on the streams near its own place in the crowd.
pub(super) fn leave_open(group: &Group, fits: &[Fit], out: &mut Vec<(u32, Match)>) {
    let rivals = group.fits.len().saturating_sub(1) as u32;
    let count = group.entries.len();
    for (index, &entry) in group.entries.iter().enumerate() {
        let place = index * fits.len() / count;
        let from = place.saturating_sub(SHOWN / 2).min(fits.len().saturating_sub(SHOWN));
        let shown = fits.iter().skip(from).take(SHOWN);
        out.extend(shown.map(|&fit| {
            let found = Pair { entry, fit, dropped: 0 }.decided(Decision::Open, rivals);
            (fit.stream, found)
        }));
    }
}
