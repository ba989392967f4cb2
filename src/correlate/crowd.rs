// SPDX-License-Identifier: GPL-2.0-or-later
//! Who gets whom where a great many entries fit a great many streams, and [`super::order`]
//! finds nothing to tell them by: all are about one URI, one kind of end, one second.
//!
//! Pairs are too many to be weighed one by one here, so whole groups are: where as many
//! entries say the same as there are streams that they fit best, and no other entry fits those
//! streams as well, both are paired in their order. Everything else stays open, and is shown
//! on a few of the streams that it may be about.

use std::collections::HashMap;

use crate::correlate::assign::{resolution, Decision, Place};
use crate::correlate::fit::Fit;
use crate::correlate::matcher::{place, Group, Match, Pair};
use crate::correlate::store::Store;
use crate::time::CaptureTime;

/// Streams on which an entry is shown that may be about any of a crowd.
const SHOWN: usize = 4;

/// Decides for groups that hang together.
pub(super) fn decide(groups: &[Group], store: &Store) -> Vec<(u32, Match)> {
    let best: Vec<Vec<Fit>> = groups.iter().map(|group| best(&group.fits)).collect();
    let mut claims: HashMap<u32, u32> = HashMap::new();
    for fit in best.iter().flatten() {
        *claims.entry(fit.stream).or_default() += 1;
    }
    let mut out = Vec::new();
    for (group, fits) in groups.iter().zip(&best) {
        let alone = fits.iter().all(|fit| claims.get(&fit.stream) == Some(&1));
        let paired = alone && fits.len() == group.entries.len();
        match paired.then(|| in_order(group, fits, store)).flatten() {
            Some(pairs) => out.extend(pairs),
            None => leave_open(group, fits, &mut out),
        }
    }
    out
}

/// The streams that fit best, all equally well.
fn best(fits: &[Fit]) -> Vec<Fit> {
    let most = fits.iter().map(|fit| fit.weight).max();
    fits.iter().filter(|fit| Some(fit.weight) == most).copied().collect()
}

/// Pairs entries and streams in their order, if both have one.
fn in_order(group: &Group, fits: &[Fit], store: &Store) -> Option<Vec<(u32, Match)>> {
    let mut streams: Vec<(CaptureTime, Fit)> = Vec::with_capacity(fits.len());
    for fit in fits {
        streams.push((fit.moment?, *fit));
    }
    streams.sort_by_key(|&(moment, fit)| (moment, fit.stream));
    let fit = *fits.first()?;
    let mut entries: Vec<(Place, u32)> = Vec::with_capacity(fits.len());
    for &entry in &group.entries {
        entries.push((place(&Pair { entry, fit, dropped: 0 }, store)?, entry));
    }
    entries.sort_unstable();
    let resolution = resolution(entries.iter().map(|&(place, _)| place));
    let rivals = group.fits.len().saturating_sub(1) as u32;
    let pairs =
        entries.iter().zip(&streams).enumerate().map(|(index, (&(_, entry), &(at, fit)))| {
            let near = |other: Option<&(CaptureTime, Fit)>| {
                other.is_some_and(|&(moment, _)| moment.since(at).abs() < resolution)
            };
            let close_call =
                near(streams.get(index + 1)) || index > 0 && near(streams.get(index - 1));
            let by = if close_call { Decision::Open } else { Decision::Order };
            (fit.stream, Pair { entry, fit, dropped: 0 }.decided(by, rivals))
        });
    Some(pairs.collect())
}

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
