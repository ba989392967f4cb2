// SPDX-License-Identifier: GPL-2.0-or-later
//! One direction of a connection: sequence arithmetic, and bytes put back in order.
//!
//! Positions count the bytes that one side sent, from 0 at the byte after its SYN (or at the
//! first byte that the capture shows). They are 64 bits wide, so they never wrap; sequence
//! numbers become positions at the door and are not compared anywhere else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits;

/// A piece of one direction's byte stream, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes.
    Data(&'a [u8]),
    /// Bytes that were sent, and that the capture does not hold.
    Missing(u64),
}

impl Piece<'_> {
    /// Bytes on the wire; there is at least one.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        match self {
            Piece::Data(bytes) => bytes.len() as u64,
            Piece::Missing(count) => *count,
        }
    }
}

/// Why the capture lacks bytes that were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// A segment is not in the capture.
    pub gap: bool,
    /// A frame was cut short (snaplen).
    pub truncated: bool,
    /// Data was seen that stands before the start.
    pub astray: bool,
}

/// Segments by their start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Waiting {
    segments: BTreeMap<i64, Held>,
    bytes: usize,
}

/// Where a reset cut a direction.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Cut {
    at: i64,
    /// Segments behind it, which count if the reset turns out to have had no effect.
    behind: Waiting,
    /// End of the furthest of them.
    end: i64,
}

/// A segment that waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Held {
    /// Length on the wire; `bytes` may be shorter.
    len: u32,
    bytes: Box<[u8]>,
}

/// One direction of a connection.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Half {
    /// Sequence number of position 0.
    base: Option<u32>,
    /// A SYN gave it.
    by_syn: bool,
    /// Another number that may be that of position 0: those that follow decide.
    rival: Option<u32>,
    /// Everything before this position has been handed on.
    next: i64,
    /// End of the furthest data that was seen.
    sent: i64,
    /// The furthest position that the peer acknowledged.
    acked: i64,
    /// The furthest position that a segment without data says that it stands at.
    told: i64,
    /// A FIN says that there is no data at or behind this position.
    limit: Option<i64>,
    /// A reset says that what lies further on no longer counts. Few streams have one.
    cut: Option<Box<Cut>>,
    /// Segments that wait for the bytes before them.
    pending: Waiting,
    /// The peer lacks what begins here, too, so the network lost it.
    lost_at: Option<i64>,
    /// Segments of the stream since the peer acknowledged bytes that the capture lacks.
    hole_age: u8,
    /// Its first number was known only when the other side had sent data: what was sent before
    /// that is not.
    pub is_late: bool,
    /// Where the last hole that was passed over ends.
    passed: i64,
    /// What the capture lacks of this direction.
    pub losses: Losses,
}

/// Segments for which a hole that the peer has acknowledged is left open: captures that
/// interleave several queues bring data after its acknowledgment, by a few frames.
const HOLE_PATIENCE: u8 = 8;

/// Data that starts further ahead than this belongs to no connection of this one's numbers: it
/// is the largest window that TCP can offer (RFC 7323, section 2.3).
pub const FURTHEST: i64 = 1 << 30;

impl Half {
    /// Starts the count at this sequence number, unless it was started before.
    pub fn start_at(&mut self, seq: u32) {
        self.base.get_or_insert(seq);
    }

    /// A SYN says where the count starts; of two that say different things, the numbers that
    /// follow tell which one counts. What was acknowledged before it, with nothing sent,
    /// belonged to an older connection.
    pub fn syn(&mut self, seq: u32) {
        let base = Some(seq.wrapping_add(1));
        if self.has_begun() || self.base == base {
            return;
        }
        self.rival = self.base.filter(|_| self.by_syn);
        (self.base, self.by_syn, self.acked, self.told) = (base, true, 0, 0);
        self.is_late = false;
    }

    /// Both sides go on from the start with the number that they agreed on: of two, the one
    /// that lies nearest before this number, which one of them uses.
    pub fn settle(&mut self, number: u32) {
        let Some((base, rival)) = self.base.zip(self.rival) else { return };
        if !self.has_begun() && number.wrapping_sub(rival) < number.wrapping_sub(base) {
            (self.base, self.rival, self.acked, self.told) = (Some(rival), Some(base), 0, 0);
        }
    }

    /// The peer acknowledges a number from before the start, so a SYN may be damaged. Taken
    /// for the start once somebody goes on with it.
    pub fn doubt(&mut self, number: u32) {
        if self.by_syn && !self.has_begun() && self.position(number) < 0 {
            self.rival.get_or_insert(number);
        }
    }

    /// The peer acknowledges a number from before the first one that is seen: it stands behind what
    /// it was sent before, and the count starts there.
    pub fn begin_before(&mut self, number: u32) {
        let ahead = -self.position(number);
        if self.by_syn || self.has_begun() || !(1..=FURTHEST).contains(&ahead) {
            return;
        }
        self.losses.astray = true;
        // An end that is seen is counted from there already.
        if self.cut.is_none() && self.limit.is_none() {
            self.base = Some(number);
            (self.acked, self.told) = (self.acked + ahead, self.told + ahead);
        }
    }

    /// The first number that is seen is the one behind this SYN, which stands further on.
    pub fn goes_on_from(&self, seq: u32) -> bool {
        !self.by_syn && self.base == Some(seq.wrapping_add(1))
    }

    fn has_begun(&self) -> bool {
        self.next > 0 || self.sent > 0
    }

    /// Whether any sequence number of this direction is known.
    pub fn started(&self) -> bool {
        self.base.is_some()
    }

    /// Position of a sequence number: of those 2^32 apart, the one nearest to where the
    /// stream stands.
    pub fn position(&self, seq: u32) -> i64 {
        let here = self.base.unwrap_or(seq).wrapping_add(self.next as u32);
        self.next + i64::from(seq.wrapping_sub(here) as i32)
    }

    /// The sequence number behind the data that was handed on.
    pub fn next_seq(&self) -> Option<u32> {
        Some(self.base?.wrapping_add(self.next as u32))
    }

    /// Everything before this position has been handed on.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// End of the furthest data that was seen.
    pub fn sent(&self) -> i64 {
        self.sent
    }

    /// The furthest position that the peer acknowledged. A FIN counts like a byte.
    pub fn acked(&self) -> i64 {
        self.acked
    }

    /// The furthest data that the peer acknowledged.
    pub fn acked_data(&self) -> i64 {
        self.acked.min(self.known_end())
    }

    /// Notes that the peer acknowledged everything before this position.
    pub fn acknowledge(&mut self, position: i64) {
        if position == self.next && self.has_hole() {
            self.lost_at = Some(position);
        }
        self.acked = self.acked.max(position);
    }

    /// Notes that this side had sent everything before this position, by the number of a segment
    /// without data: old segments and keep-alive probes bear lower ones, and what goes on behind
    /// a reset does not count.
    pub fn stand_at(&mut self, position: i64) {
        if self.cut.is_none() && position - self.next <= FURTHEST {
            self.told = self.told.max(position);
        }
    }

    /// Where all that was seen ends.
    pub fn end(&self) -> i64 {
        self.sent.max(self.next)
    }

    /// Numbers beyond that, one of which is that of a FIN.
    pub fn beyond(&self) -> i64 {
        self.told() - self.end()
    }

    /// The furthest number that this side is known to have used, be it for a FIN.
    pub fn told(&self) -> i64 {
        let end = self.end();
        end.max(self.acked).max(self.told).max(self.cut().unwrap_or(end))
    }

    /// Whether nothing is seen behind a hole that was passed over.
    pub fn ends_in_gap(&self) -> bool {
        self.losses.gap && self.passed == self.end()
    }

    /// A FIN: from now on nothing at or behind this position is taken.
    pub fn stop_at(&mut self, position: i64) {
        self.limit = Some(position.min(self.limit.unwrap_or(i64::MAX)));
    }

    /// A reset: what lies at or behind this position is put aside.
    pub fn cut_at(&mut self, position: i64) {
        self.cut = Some(Box::new(Cut { at: position, ..Cut::default() }));
    }

    /// Where a reset cut this direction.
    pub fn cut(&self) -> Option<i64> {
        self.cut.as_ref().map(|cut| cut.at)
    }

    /// Everything before this position was handed on, or put aside behind a reset.
    pub fn reached(&self) -> i64 {
        self.cut.as_ref().map_or(self.next, |cut| self.next.max(cut.end))
    }

    /// Something that ends at this position, which lies behind the cut, was sent.
    pub fn note_behind_cut(&mut self, end: i64) {
        if let Some(cut) = &mut self.cut {
            cut.end = cut.end.max(end);
        }
    }

    /// Whether the peer acknowledged what was sent behind the cut, so that it still lives.
    ///
    /// One number behind it that is not seen may be a FIN, which some stacks do not count.
    pub fn goes_on(&self) -> bool {
        self.cut.as_ref().is_some_and(|cut| {
            (cut.at + 1..=cut.end.max(cut.at + FURTHEST)).contains(&self.acked)
                && (self.acked <= cut.end || self.acked > cut.at + 1)
        })
    }

    /// The reset had no effect: what was put aside is taken after all. Tells whether there was any.
    pub fn uncut(&mut self, hand_on: &mut dyn FnMut(i64, Piece<'_>)) -> bool {
        let Some(cut) = self.cut.take() else { return false };
        let is_any = !cut.behind.segments.is_empty();
        for (start, held) in cut.behind.segments {
            self.take(start, held.len, &held.bytes, hand_on);
        }
        is_any
    }

    /// Goes on from an earlier state: takes over from the later one what was learned of the ends
    /// since.
    pub fn reopen(&mut self, later: &mut Half) {
        self.acked = self.acked.max(later.acked);
        (self.limit, self.cut) = (later.limit, later.cut.take());
    }

    /// Takes data and hands on what is now in order. `len` is its length on the wire.
    /// Tells whether the data held anything that counts and was not known before.
    pub fn take(
        &mut self,
        start: i64,
        len: u32,
        bytes: &[u8],
        hand_on: &mut dyn FnMut(i64, Piece<'_>),
    ) -> bool {
        let whole = (start + i64::from(len)).min(self.limit.unwrap_or(i64::MAX));
        if start - self.next > FURTHEST {
            return false;
        }
        if let Some(cut) = self.cut.as_mut().filter(|cut| whole > cut.at) {
            cut.end = cut.end.max(whole);
            cut.behind.keep(start, len, bytes);
        }
        let end = whole.min(self.known_end());
        if end <= self.next || start >= end {
            // A keep-alive probe stands right before the start, and nothing further ahead.
            self.losses.astray |= start < -1 && !(self.by_syn && self.has_begun());
            return false;
        }
        self.sent = self.sent.max(end);
        if (bytes.len() as u64) < u64::from(len) {
            self.losses.truncated = true;
        }
        if start > self.next {
            let is_fresh = !self.pending.covers(start, end);
            self.pending.keep(start, (end - start) as u32, bytes);
            return is_fresh;
        }
        self.pass(start, end, bytes, hand_on);
        self.drain(hand_on);
        true
    }

    /// Whether the capture lacks bytes of this direction, be it parts of frames.
    pub fn has_losses(&self) -> bool {
        self.losses != Losses::default()
    }

    /// Whether segments of this direction are not seen, so far.
    pub fn lacks_segments(&self) -> bool {
        self.losses.gap || self.has_hole() || self.lacks_acked()
    }

    /// Whether the peer acknowledged bytes that the capture does not hold, so far.
    ///
    /// One byte that nothing follows is the peer's FIN, which counts like a byte and is not in
    /// the capture.
    pub fn lacks_acked(&self) -> bool {
        let lacking = self.acked_data() - self.next;
        lacking > 1 || lacking == 1 && !self.pending.segments.is_empty()
    }

    /// Whether data before the end is not seen so far: a FIN or RST has a number further on. A
    /// RST's may count an unseen FIN. What the peer asks for once more was lost on its way.
    pub fn lacks_end(&self) -> bool {
        if self.lost_at == Some(self.next) {
            return false;
        }
        let fin = self.limit.is_some_and(|end| end > self.next);
        fin || self.cut().is_some_and(|end| end > self.next + 1)
    }

    /// Whether any number says that more was sent than was seen, be it only a FIN.
    pub fn tells_more(&self) -> bool {
        let fin = i64::from(self.limit.is_some());
        let end = self.sent.max(self.next) + fin;
        self.losses.gap
            || self.losses.astray
            || self.limit.is_some_and(|limit| limit != self.next)
            || self.acked.max(self.told) > end
            || self.cut().is_some_and(|cut| cut > end)
    }

    /// Gives a hole that the peer acknowledged a chance to fill. Tells whether it had that, and is
    /// to be passed over now.
    pub fn tires_of_holes(&mut self) -> bool {
        if !self.lacks_acked() {
            self.hole_age = 0;
            return false;
        }
        self.hole_age += 1;
        self.hole_age > HOLE_PATIENCE
    }

    /// Passes over every hole that the peer has acknowledged: those bytes were sent and have
    /// arrived, the capture only lacks them.
    pub fn pass_holes(&mut self, hand_on: &mut dyn FnMut(i64, Piece<'_>)) {
        self.hole_age = 0;
        while self.lacks_acked() {
            let known = self.pending.segments.first_key_value().map(|(&start, _)| start);
            let to = known.unwrap_or(i64::MAX).min(self.acked_data());
            self.losses.gap = true;
            hand_on(self.next, Piece::Missing((to - self.next) as u64));
            (self.next, self.passed) = (to, to);
            self.sent = self.sent.max(to);
            self.drain(hand_on);
        }
    }

    /// Whether bytes before the furthest seen position have not been handed on.
    pub fn has_hole(&self) -> bool {
        self.sent > self.next
    }

    /// Where the data can end at the most.
    fn known_end(&self) -> i64 {
        let limit = self.limit.unwrap_or(i64::MAX);
        limit.min(self.cut().unwrap_or(i64::MAX))
    }

    /// Hands on the part of a segment that lies at or behind `next`.
    fn pass(
        &mut self,
        start: i64,
        end: i64,
        bytes: &[u8],
        hand_on: &mut dyn FnMut(i64, Piece<'_>),
    ) {
        let known = (self.next - start) as usize;
        let length = (end - start) as usize;
        let fresh = bytes.get(known..bytes.len().min(length)).unwrap_or_default();
        if !fresh.is_empty() {
            hand_on(self.next, Piece::Data(fresh));
            self.next += fresh.len() as i64;
        }
        if self.next < end {
            hand_on(self.next, Piece::Missing((end - self.next) as u64));
            self.next = end;
        }
    }

    fn drain(&mut self, hand_on: &mut dyn FnMut(i64, Piece<'_>)) {
        while let Some((start, held)) = self.pending.pop(self.next) {
            let end = (start + i64::from(held.len)).min(self.known_end());
            if end > self.next {
                self.pass(start, end, &held.bytes, hand_on);
            }
        }
    }
}

impl Waiting {
    /// Whether one of the segments holds all from `start` to `end`.
    fn covers(&self, start: i64, end: i64) -> bool {
        let held = self.segments.range(..=start).next_back();
        held.is_some_and(|(from, held)| from + i64::from(held.len) >= end)
    }

    /// Keeps a segment. Past the bound on bytes only its length is kept, which is all that the
    /// framing of a body needs; past the bound on segments it is dropped, and becomes a gap
    /// once the peer acknowledges it.
    fn keep(&mut self, start: i64, len: u32, bytes: &[u8]) {
        let known = self.segments.get(&start).map(|held| (held.len, held.bytes.len()));
        if known.is_some_and(|(known, _)| known >= len)
            || known.is_none() && self.segments.len() >= limits::PENDING_SEGMENTS
        {
            return;
        }
        self.bytes -= known.map_or(0, |(_, bytes)| bytes);
        let mut bytes = &bytes[..bytes.len().min(len as usize)];
        if self.bytes + bytes.len() > limits::PENDING_BYTES {
            bytes = &[];
        }
        self.bytes += bytes.len();
        self.segments.insert(start, Held { len, bytes: bytes.into() });
    }

    /// The first segment, if it starts at or before this position.
    fn pop(&mut self, position: i64) -> Option<(i64, Held)> {
        let first = self.segments.first_entry().filter(|first| *first.key() <= position)?;
        let (start, held) = first.remove_entry();
        self.bytes -= held.bytes.len();
        Some((start, held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds segments `(start, text)` and returns what was handed on.
    fn run(half: &mut Half, segments: &[(i64, &str)]) -> String {
        let mut out = String::new();
        let mut hand_on = |_: i64, piece: Piece<'_>| match piece {
            Piece::Data(bytes) => out.push_str(&String::from_utf8_lossy(bytes)),
            Piece::Missing(n) => out.push_str(&format!("[{n}]")),
        };
        for (start, text) in segments {
            half.take(*start, text.len() as u32, text.as_bytes(), &mut hand_on);
        }
        half.pass_holes(&mut hand_on);
        out
    }

    #[test]
    fn reordered_overlapping_and_repeated_segments_come_out_once_and_in_order() {
        let mut half = Half::default();
        let out = run(&mut half, &[(4, "ef"), (0, "ab"), (0, "abc"), (2, "cdef"), (4, "efg")]);
        assert_eq!(out, "abcdefg");
        assert!(!half.has_hole());
        assert_eq!(half.losses, Losses::default());
    }

    #[test]
    fn a_hole_is_passed_over_only_where_the_peer_acknowledged_it() {
        let mut half = Half::default();
        assert_eq!(run(&mut half, &[(0, "ab"), (5, "fg")]), "ab");
        assert!(half.has_hole());
        half.acknowledge(7);
        assert_eq!(run(&mut half, &[]), "[3]fg");
        assert!(half.losses.gap);
    }

    #[test]
    fn sequence_numbers_wrap() {
        let mut half = Half::default();
        half.syn(u32::MAX - 1);
        assert_eq!(half.position(u32::MAX), 0);
        assert_eq!(half.position(3), 4);
        run(&mut half, &[(0, "abcd")]);
        assert_eq!(half.position(3), 4);
        assert_eq!(half.position(u32::MAX), 0);
    }

    #[test]
    fn a_cut_frame_counts_in_full() {
        let mut half = Half::default();
        let mut out = Vec::new();
        half.take(0, 10, b"abc", &mut |at, piece| match piece {
            Piece::Data(bytes) => out.push((at, bytes.len() as u64)),
            Piece::Missing(n) => out.push((at, n)),
        });
        assert_eq!(out, [(0, 3), (3, 7)]);
        assert!(half.losses.truncated);
    }

    #[test]
    fn what_lies_behind_a_cut_counts_once_the_cut_is_lifted() {
        let mut half = Half::default();
        half.cut_at(4);
        assert_eq!(run(&mut half, &[(0, "ab"), (2, "cdef"), (6, "gh")]), "abcd");
        assert_eq!(half.sent(), 4);
        assert!(!half.goes_on());
        half.acknowledge(8);
        assert!(half.goes_on());
        let mut out = Vec::new();
        half.uncut(&mut |at, _| out.push(at));
        assert_eq!(out, [4, 6]);
        assert_eq!(half.next(), 8);
    }

    #[test]
    fn one_acknowledged_byte_that_nothing_follows_is_a_fin() {
        let mut half = Half::default();
        half.acknowledge(3);
        assert_eq!(run(&mut half, &[(0, "ab")]), "ab");
        assert!(!half.lacks_acked());
        half.acknowledge(4);
        assert_eq!(run(&mut half, &[]), "[2]");
    }

    #[test]
    fn nothing_behind_a_limit_is_taken() {
        let mut half = Half::default();
        half.stop_at(4);
        assert_eq!(run(&mut half, &[(0, "ab"), (2, "cdef"), (6, "gh")]), "abcd");
        assert_eq!(half.sent(), 4);
    }
}
