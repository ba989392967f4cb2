// SPDX-License-Identifier: GPL-2.0-or-later
//! Every stream of a capture: those at work as they are, those at rest packed.
//!
//! A capture holds millions of connections, of which few are open at a time. A stream that
//! nothing was heard of for a while is packed to a tenth of its size. Whoever asks about it
//! gets it unpacked, and a segment that belongs to it after all puts it back to work.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::ops::Deref;
use std::rc::Rc;

use crate::archive::{Archive, Record};
use crate::tcp::segment::{Header, Segment};
use crate::tcp::stream::Stream;
use crate::time;

/// Segments of other streams after which a stream that is over is put to rest. What belongs to
/// the end of a connection comes within a few.
const PATIENCE: u64 = 4096;

/// How much longer a stream is waited for that is still open.
const OPEN: u64 = 16;

/// Unpacked streams at hand, each in the place that its number says: a host goes through the
/// frames of a capture in order, and the streams of a moment are near each other.
const AT_HAND: usize = 64;

/// The streams of a capture, by number.
#[derive(Debug)]
pub struct Streams {
    slots: Vec<Slot>,
    packed: Archive,
    /// Streams at work, and the moment to look whether one can rest.
    rounds: VecDeque<(u64, u32)>,
    /// Segments that were taken.
    taken: u64,
    /// One of them was no SYN, FIN or RST.
    shows_others: bool,
    /// A connection had others.
    had_others: bool,
    patience: u64,
    at_hand: RefCell<AtHand>,
}

/// What a number stands for, in no more room than two pointers take.
#[derive(Debug, Default)]
enum Slot {
    /// No segment bears it.
    #[default]
    Free,
    Working(Box<Working>),
    Resting(Record, Marks),
}

/// What a host asks of the stream of every frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// A FIN or RST was seen.
    pub closed: bool,
    /// The frame of the first RST.
    pub first_reset: Option<NonZeroU32>,
}

impl Marks {
    fn of(stream: &Stream) -> Marks {
        Marks {
            closed: stream.closing().is_some(),
            first_reset: stream.resets().and_then(|resets| NonZeroU32::new(resets.at.frame)),
        }
    }
}

#[derive(Debug)]
struct Working {
    stream: Stream,
    /// Segments that had been taken when the last one of this stream was.
    touched: u64,
}

/// A stream that is looked at.
#[derive(Clone, Debug)]
pub enum StreamRef<'a> {
    /// As it is.
    Working(&'a Stream),
    /// Unpacked.
    Resting(Rc<Stream>),
}

impl Deref for StreamRef<'_> {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        match self {
            StreamRef::Working(stream) => stream,
            StreamRef::Resting(stream) => stream,
        }
    }
}

impl Default for Streams {
    fn default() -> Streams {
        Streams::with_patience(PATIENCE)
    }
}

impl Streams {
    /// No stream yet; each will be put to rest when this many segments of others have come
    /// since its end.
    pub fn with_patience(patience: u64) -> Streams {
        Streams {
            slots: Vec::new(),
            packed: Archive::default(),
            rounds: VecDeque::new(),
            taken: 0,
            shows_others: false,
            had_others: false,
            patience,
            at_hand: RefCell::default(),
        }
    }

    /// Changes the stream that a segment belongs to, made if there is none yet.
    pub fn change<T>(
        &mut self,
        segment: &Segment<'_>,
        change: impl FnOnce(&mut Stream) -> T,
    ) -> T {
        self.put_to_rest();
        let Streams { slots, packed, rounds, taken, patience, at_hand, .. } = self;
        *taken += 1;
        let Header { syn, fin, rst, .. } = segment.tcp;
        self.shows_others = self.shows_others || !(syn || fin || rst);
        let index = segment.stream as usize;
        if index >= slots.len() {
            // An eighth more each time: twice as much would be empty for half of the captures.
            if index >= slots.capacity() {
                slots.reserve_exact((index + 1 - slots.len()).max(slots.len() / 8));
            }
            slots.resize_with(index + 1, Slot::default);
        }
        let slot = &mut slots[index];
        let mut working = match std::mem::take(slot) {
            Slot::Working(working) => working,
            other => {
                rounds.push_back((*taken + *patience, segment.stream));
                let stream = match other {
                    Slot::Resting(record, _) => {
                        at_hand.get_mut().forget(segment.stream);
                        let stream = packed.read(record, unpack);
                        packed.remove(record);
                        stream.flatten()
                    }
                    _ => None,
                };
                let stream = stream.unwrap_or_else(|| Stream::new(segment));
                Box::new(Working { stream, touched: 0 })
            }
        };
        working.touched = *taken;
        let out = change(&mut working.stream);
        self.had_others |= (fin || rst) && working.stream.shows_only_ends();
        *slot = Slot::Working(working);
        out
    }

    /// A capture filter left out all but SYN, FIN and RST, as connections show that had other
    /// segments.
    pub fn show_only_ends(&self) -> bool {
        self.had_others && !self.shows_others
    }

    /// A stream.
    pub fn get(&self, number: u32) -> Option<StreamRef<'_>> {
        let record = match self.slots.get(number as usize)? {
            Slot::Free => return None,
            Slot::Working(working) => return Some(StreamRef::Working(&working.stream)),
            Slot::Resting(record, _) => *record,
        };
        let stream = self
            .at_hand
            .borrow_mut()
            .get(number, || self.packed.read(record, unpack).flatten())?;
        Some(StreamRef::Resting(stream))
    }

    /// What a host asks of a stream with each of its frames; nothing is unpacked for it.
    pub fn marks(&self, number: u32) -> Option<Marks> {
        match self.slots.get(number as usize)? {
            Slot::Free => None,
            Slot::Working(working) => Some(Marks::of(&working.stream)),
            Slot::Resting(_, marks) => Some(*marks),
        }
    }

    /// Every stream with its number, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, StreamRef<'_>)> {
        self.numbers().filter_map(|number| Some((number, self.get(number)?)))
    }

    /// Numbers of the streams, in order.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        let used = |slot: &Slot| !matches!(slot, Slot::Free);
        (0u32..).zip(&self.slots).filter_map(move |(number, slot)| used(slot).then_some(number))
    }

    /// How many numbers there are, used or not.
    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// Looks at the stream whose turn it is, if one is due, and packs it if it can rest.
    fn put_to_rest(&mut self) {
        let due = self.rounds.front().filter(|(due, _)| *due <= self.taken);
        let Some(&(_, number)) = due else { return };
        self.rounds.pop_front();
        let Some(slot) = self.slots.get_mut(number as usize) else { return };
        let Slot::Working(working) = slot else { return };
        let waits = if working.stream.is_over() { 1 } else { OPEN };
        let rests = self.taken - working.touched >= waits * self.patience;
        let record = match rests.then(|| pack(&mut working.stream)).flatten() {
            Some(bytes) => self.packed.add(&bytes),
            None => return self.rounds.push_back((self.taken + self.patience, number)),
        };
        *slot = Slot::Resting(record, Marks::of(&working.stream));
    }
}

fn pack(stream: &mut Stream) -> Option<Vec<u8>> {
    stream.rest();
    time::in_record(|| postcard::to_allocvec(stream)).ok()
}

fn unpack(bytes: &[u8]) -> Option<Stream> {
    time::in_record(|| postcard::take_from_bytes(bytes)).ok().map(|(stream, _)| stream)
}

/// Unpacked streams.
#[derive(Debug, Default)]
struct AtHand(Vec<Option<(u32, Rc<Stream>)>>);

impl AtHand {
    fn get(&mut self, number: u32, unpack: impl Fn() -> Option<Stream>) -> Option<Rc<Stream>> {
        self.0.resize(AT_HAND, None);
        let place = &mut self.0[number as usize % AT_HAND];
        if let Some((_, stream)) = place.as_ref().filter(|(other, _)| *other == number) {
            return Some(Rc::clone(stream));
        }
        let stream = Rc::new(unpack()?);
        *place = Some((number, Rc::clone(&stream)));
        Some(stream)
    }

    fn forget(&mut self, number: u32) {
        if let Some(place) = self.0.get_mut(number as usize % AT_HAND) {
            *place = place.take().filter(|(other, _)| *other != number);
        }
    }
}
