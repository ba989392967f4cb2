// SPDX-License-Identifier: GPL-2.0-or-later
//! One direction of a connection: sequence arithmetic, and bytes put back in order.
//!
//! Positions count the bytes that one side sent, from 0 at the byte after its SYN (or at the
//! first byte that the capture shows). They are 64 bits wide, so they never wrap; sequence
//! numbers become positions at the door and are not compared anywhere else.

use crate::limits;

/// A piece of one direction's byte stream, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes.
    Data(&'a [u8]),
    /// Bytes that were sent, and that the capture does not hold.
    Missing(u64),
}

/// Why the capture lacks bytes that were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// A segment is not in the capture.
    pub gap: bool,
    /// A frame was cut short (snaplen).
    pub truncated: bool,
}

/// A segment that waits for the bytes before it.
#[derive(Debug)]
struct Pending {
    start: i64,
    /// Length on the wire; `bytes` may be shorter.
    len: u32,
    bytes: Box<[u8]>,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub struct Half {
    /// Sequence number of position 0.
    base: Option<u32>,
    /// Everything before this position has been handed on.
    next: i64,
    /// End of the furthest data that was seen.
    sent: i64,
    /// The furthest position that the peer acknowledged.
    acked: i64,
    /// No data counts at or behind this position: there is a FIN, or it lies behind a reset.
    limit: Option<i64>,
    pending: Vec<Pending>,
    pending_bytes: usize,
    /// Segments of the stream since the peer acknowledged bytes that the capture lacks.
    hole_age: u8,
    /// What the capture lacks of this direction.
    pub losses: Losses,
}

/// Segments for which a hole that the peer has acknowledged is left open: captures that
/// interleave several queues bring data after its acknowledgment, by a few frames.
const HOLE_PATIENCE: u8 = 8;

impl Half {
    /// Starts the count at this sequence number, unless it was started before.
    pub fn start_at(&mut self, seq: u32) {
        self.base.get_or_insert(seq);
    }

    /// A SYN says for certain where the count starts.
    pub fn syn(&mut self, seq: u32) {
        if self.next == 0 && self.sent == 0 {
            self.base = Some(seq.wrapping_add(1));
        }
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

    /// Everything before this position has been handed on.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// End of the furthest data that was seen.
    pub fn sent(&self) -> i64 {
        self.sent
    }

    /// The furthest position that the peer acknowledged.
    pub fn acked(&self) -> i64 {
        self.acked
    }

    /// Notes that the peer acknowledged everything before this position.
    pub fn acknowledge(&mut self, position: i64) {
        self.acked = self.acked.max(position);
    }

    /// From now on nothing at or behind this position is taken.
    pub fn stop_at(&mut self, position: i64) {
        self.limit = Some(position.min(self.limit.unwrap_or(i64::MAX)));
    }

    /// Takes data and hands on what is now in order. `len` is its length on the wire.
    /// Tells whether the data held anything that was not known before.
    pub fn take(
        &mut self,
        start: i64,
        len: u32,
        bytes: &[u8],
        hand_on: &mut impl FnMut(i64, Piece<'_>),
    ) -> bool {
        let limit = self.limit.unwrap_or(i64::MAX);
        let end = (start + i64::from(len)).min(limit);
        if end <= self.next || start >= limit {
            return false;
        }
        self.sent = self.sent.max(end);
        if (bytes.len() as u64) < u64::from(len) {
            self.losses.truncated = true;
        }
        if start > self.next {
            self.keep(start, (end - start) as u32, bytes);
            return true;
        }
        self.pass(start, end, bytes, hand_on);
        self.drain(hand_on);
        true
    }

    /// Gives a hole that the peer acknowledged a chance to fill, then passes over it.
    pub fn mind_holes(&mut self, hand_on: &mut impl FnMut(i64, Piece<'_>)) {
        if self.acked.min(self.known_end()) <= self.next {
            self.hole_age = 0;
            return;
        }
        self.hole_age += 1;
        if self.hole_age > HOLE_PATIENCE {
            self.pass_holes(hand_on);
        }
    }

    /// Passes over every hole that the peer has acknowledged: those bytes were sent and have
    /// arrived, the capture only lacks them.
    pub fn pass_holes(&mut self, hand_on: &mut impl FnMut(i64, Piece<'_>)) {
        self.hole_age = 0;
        loop {
            let known = self.pending.iter().map(|p| p.start).min();
            let to = known.unwrap_or(i64::MAX).min(self.acked).min(self.known_end());
            if to <= self.next {
                return;
            }
            self.losses.gap = true;
            hand_on(self.next, Piece::Missing((to - self.next) as u64));
            self.next = to;
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
        self.limit.unwrap_or(i64::MAX)
    }

    /// Hands on the part of a segment that lies at or behind `next`.
    fn pass(
        &mut self,
        start: i64,
        end: i64,
        bytes: &[u8],
        hand_on: &mut impl FnMut(i64, Piece<'_>),
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

    fn drain(&mut self, hand_on: &mut impl FnMut(i64, Piece<'_>)) {
        while let Some(index) = self.pending.iter().position(|p| p.start <= self.next) {
            let segment = self.pending.swap_remove(index);
            self.pending_bytes -= segment.bytes.len();
            let end = segment.start + i64::from(segment.len);
            if end > self.next {
                self.pass(segment.start, end, &segment.bytes, hand_on);
            }
        }
    }

    /// Keeps an early segment. Past the bound on bytes only its length is kept, which is all
    /// that the framing of a body needs; past the bound on segments it is dropped, and becomes
    /// a gap once the peer acknowledges it.
    fn keep(&mut self, start: i64, len: u32, bytes: &[u8]) {
        let known = self.pending.iter().any(|p| p.start == start && p.len >= len);
        if known || self.pending.len() >= limits::PENDING_SEGMENTS {
            return;
        }
        let mut bytes = &bytes[..bytes.len().min(len as usize)];
        if self.pending_bytes + bytes.len() > limits::PENDING_BYTES {
            bytes = &[];
        }
        self.pending_bytes += bytes.len();
        self.pending.push(Pending { start, len, bytes: bytes.into() });
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
    fn nothing_behind_a_limit_is_taken() {
        let mut half = Half::default();
        half.stop_at(4);
        assert_eq!(run(&mut half, &[(0, "ab"), (2, "cdef"), (6, "gh")]), "abcd");
        assert_eq!(half.sent(), 4);
    }
}
