// SPDX-License-Identifier: GPL-2.0-or-later
//! Segments that wait to be taken, with bytes of their own.
//!
//! A host hands over one segment at a time and goes far away between two of them, so that neither
//! code nor data of the analysis is in any cache when it comes back. What nobody asks about at once
//! is put aside, which takes little of either, and then taken many at a time.

use std::ops::Range;

use crate::tcp::segment::Segment;

/// Segments that wait at most, and bytes of their payload: no more than caches hold.
const SEGMENTS: usize = 64;
const BYTES: usize = 128 * 1024;

/// Segments that wait to be taken, in order.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Without their payload, and where that is.
    segments: Vec<(Segment<'static>, Range<usize>)>,
    payloads: Vec<u8>,
    has_end: bool,
}

impl Waiting {
    /// Adds a segment that nothing was decrypted of.
    pub fn add(&mut self, segment: &Segment<'_>) {
        let from = self.payloads.len();
        self.payloads.extend_from_slice(segment.payload);
        self.has_end |= segment.tcp.fin || segment.tcp.rst;
        let held = Segment { payload: &[], decrypted: &[], ..*segment };
        self.segments.push((held, from..self.payloads.len()));
    }

    /// Whether they are to be taken now.
    pub fn is_full(&self) -> bool {
        self.segments.len() >= SEGMENTS || self.payloads.len() >= BYTES
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Whether one of them is a FIN or RST.
    pub fn has_end(&self) -> bool {
        self.has_end
    }

    /// Each of them; then there are none, and their room is kept.
    pub fn take_each(&mut self, mut take: impl FnMut(&Segment<'_>)) {
        for (held, payload) in self.segments.drain(..) {
            let payload = self.payloads.get(payload).unwrap_or_default();
            take(&Segment { payload, ..held });
        }
        self.payloads.clear();
        self.has_end = false;
    }
}
