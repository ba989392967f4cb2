// SPDX-License-Identifier: GPL-2.0-or-later
//! How far the order in which a capture holds a stream's segments may be off.
//!
//! Captures of several queues or ports hold segments in another order than that in which they
//! were sent. Time stamps that go back tell so, and numbers that are acknowledged before they are
//! seen. Between two segments that lie further apart than that ever reaches, the order is told;
//! nearer ones may have changed places. Where much of a stream is off, nothing of its order
//! is told.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::tcp::half::FURTHEST;
use crate::tcp::segment::{Header, Segment};
use crate::tcp::stream::Side;
use crate::time::CaptureTime;

/// What numbers show of a disorder is seldom the whole of it: segments that bear no number which
/// the other side needs are moved as well.
const MARGIN: i64 = 4;

/// What holds segments back does so for this long, whatever the numbers show.
const AT_LEAST: i64 = 4_000_000;

/// A length of time this many times as long as segments are late is none that these have made.
const TOLD: i64 = 100;

/// Whether a number is ahead of another one of the same connection.
fn is_ahead(number: u32, of: u32) -> bool {
    (1..FURTHEST).contains(&i64::from(number.wrapping_sub(of)))
}

/// What stands next to an end, of the other side, where no number tells which of the two was sent
/// first.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Beside {
    /// What the end acknowledges of the other side: that was sent before it.
    pub heard: i64,
    /// The last before it.
    pub before: Option<CaptureTime>,
    /// The first behind it.
    pub behind: Option<CaptureTime>,
}

impl Beside {
    /// Something stands behind the end at this time.
    pub fn note(&mut self, at: CaptureTime) {
        self.behind = Some(self.behind.map_or(at, |behind| behind.min(at)));
    }
}

/// Segments that a moved one is held against.
const RECENT: usize = 8;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Passed {
    at: CaptureTime,
    side: Side,
    seq: u32,
    end: u32,
    ack: Option<u32>,
}

impl Passed {
    /// Copies are held wherever, and what is sent once more is sent later.
    fn is_copied_by(&self, other: &Passed) -> bool {
        let what = |of: &Passed| (of.side, of.seq, of.end, of.ack);
        what(self) == what(other)
    }
}

/// What is seen of the order of one stream's segments.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The latest time stamp.
    latest: CaptureTime,
    /// Time stamps went back.
    is_back: bool,
    /// What the client said stands behind its acknowledgment.
    pub asks_late: bool,
    /// The furthest that anything stands behind what only it can have led to, in nanoseconds.
    late: i64,
    /// Since when something is acknowledged that was not seen, and how many segments there were by
    /// then, by [`Side`].
    owed: [Option<(CaptureTime, u32)>; 2],
    /// The last ones.
    recent: VecDeque<Passed>,
    segments: u32,
    /// Over how many others segments have been moved, all together.
    places: u32,
    /// The last of them.
    moved: u32,
}

impl Order {
    /// Of a stream whose first segment is captured now.
    pub fn from(now: CaptureTime) -> Order {
        let recent = VecDeque::new();
        Order {
            latest: now,
            is_back: false,
            asks_late: false,
            late: 0,
            owed: [None; 2],
            recent,
            segments: 0,
            places: 0,
            moved: 0,
        }
    }

    /// Notes a segment. Tells whether its place in the capture is not that of its time stamp.
    pub fn note(&mut self, side: Side, segment: &Segment<'_>) -> bool {
        let Header { seq, ack, ack_flag, syn, fin, rst, .. } = segment.tcp;
        let ack = Some(ack).filter(|_| ack_flag && !rst);
        let flags = u32::from(syn) + u32::from(fin);
        let end = seq.wrapping_add(segment.payload_len).wrapping_add(flags);
        let this = Passed { at: segment.time, side, seq, end, ack };
        let is_back = this.at < self.latest;
        self.is_back |= is_back;
        self.latest = self.latest.max(this.at);
        if self.recent.iter().any(|passed| passed.is_copied_by(&this)) {
            return is_back;
        }
        self.segments = self.segments.saturating_add(1);
        if is_back {
            self.note_behind(this, |passed| passed.at > this.at);
        } else if syn {
            self.note_syn(this);
        } else if let Some(ack) = ack {
            self.note_ack(this, ack);
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(this);
        is_back
    }

    /// What a side acknowledges does not go back, save in copies of what it sent before.
    fn note_ack(&mut self, this: Passed, ack: u32) {
        self.note_behind(this, |passed| {
            passed.side == this.side && passed.ack.is_some_and(|of| is_ahead(of, ack))
        });
    }

    /// All that is said follows a SYN.
    fn note_syn(&mut self, this: Passed) {
        self.note_behind(this, |passed| match passed.side == this.side {
            true => is_ahead(passed.seq, this.seq),
            false => passed.ack.is_some_and(|ack| is_ahead(ack, this.seq)),
        });
    }

    /// Notes a segment that stands behind some that were sent after it.
    fn note_behind(&mut self, this: Passed, is_later: impl Fn(&&Passed) -> bool) {
        let later = || self.recent.iter().filter(&is_later);
        let Some(first) = later().next() else { return };
        // Where the time stamps go back, they tell what was sent first.
        if this.at >= first.at {
            self.late = self.late.max(this.at.since(first.at)).max(1);
        }
        self.move_over(later().count());
    }

    /// The segment that is being noted has been moved over so many others.
    fn move_over(&mut self, places: usize) {
        if self.moved != self.segments {
            self.moved = self.segments;
            self.places = self.places.saturating_add(places as u32);
        }
    }

    /// The latest time stamp.
    pub fn latest(&self) -> CaptureTime {
        self.latest
    }

    /// A connection begins anew, of which no number was seen before.
    pub fn begin_anew(&mut self) {
        (self.owed, self.recent) = Default::default();
    }

    /// Nothing has come for a while.
    pub fn rest(&mut self) {
        self.recent = VecDeque::new();
    }

    /// Notes whether something of this side is acknowledged now that was not seen.
    pub fn owe(&mut self, side: Side, owes: bool, now: CaptureTime) {
        let owed = &mut self.owed[side as usize];
        *owed = owes.then(|| owed.unwrap_or((now, self.segments)));
    }

    /// Something of this side came that was acknowledged before.
    pub fn settle(&mut self, side: Side, now: CaptureTime) {
        self.asks_late |= side == Side::Client;
        let Some((since, segments)) = self.owed[side as usize] else { return };
        // Else the time stamps tell what was sent first.
        if now >= since {
            self.late = self.late.max(now.since(since)).max(1);
            self.move_over((self.segments - segments).min(RECENT as u32) as usize);
        }
    }

    /// What was taken for one side was the other one.
    pub fn turn_round(&mut self) {
        self.owed.reverse();
        for passed in &mut self.recent {
            passed.side = passed.side.peer();
        }
    }

    /// Whether the time stamps are in order and the numbers tell that the segments are not.
    pub fn is_off(&self) -> bool {
        self.late > 0
    }

    /// Whether either tells that segments are not in order.
    pub fn is_moved(&self) -> bool {
        self.is_back || self.is_off()
    }

    /// Whether of two segments, the first may have been sent after the second.
    pub fn may_swap(&self, first: CaptureTime, second: CaptureTime) -> bool {
        let reach = self.late.saturating_mul(MARGIN).max(AT_LEAST);
        self.is_off() && second.since(first) <= reach
    }

    /// Whether what stands beside an end may stand on the wrong side of it.
    pub fn may_cross(&self, at: CaptureTime, beside: Beside) -> bool {
        beside.before.is_some_and(|before| self.may_swap(before, at))
            || beside.behind.is_some_and(|behind| self.may_swap(at, behind))
    }

    /// Whether a length of time is one that moved segments may have made.
    pub fn blurs(&self, length: i64) -> bool {
        self.is_off() && length <= self.late.saturating_mul(TOLD)
    }

    /// So much is moved that the order tells nothing.
    pub fn is_lost(&self) -> bool {
        self.places > 1 && self.places.saturating_mul(4) > self.segments.saturating_mul(3)
    }
}
