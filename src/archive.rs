// SPDX-License-Identifier: GPL-2.0-or-later
//! Records that are many and seldom read: back to back, in compressed blocks.

use std::cell::RefCell;
use std::num::NonZeroU32;
use std::rc::Rc;

/// Bytes of records that make a block. Records have much in common, so a block of a hundred
/// takes a third of their space; and one is read back in some ten microseconds.
const BLOCK: usize = 32 * 1024;

/// Compression level. Higher ones take longer and save next to nothing here.
const LEVEL: i32 = 1;

/// Blocks that were read last and are at hand.
const AT_HAND: usize = 4;

/// What stands before a text: its length in bytes.
type Length = u16;

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Number of the block, from 1.
    block: NonZeroU32,
    start: u32,
}

impl Record {
    fn index(self) -> usize {
        self.block.get() as usize - 1
    }
}

/// Records.
#[derive(Debug, Default)]
pub struct Archive {
    blocks: Vec<Block>,
    /// The block that is being filled, which is the next one.
    open: Vec<u8>,
    open_records: u32,
    at_hand: RefCell<Vec<(usize, Rc<[u8]>)>>,
}

#[derive(Debug)]
struct Block {
    /// Records that were not removed.
    records: u32,
    /// Bytes when unpacked.
    len: usize,
    packed: Box<[u8]>,
}

impl Archive {
    /// Adds a record that tells by itself where it ends.
    pub fn add(&mut self, record: &[u8]) -> Record {
        self.add_parts(&[record])
    }

    /// Adds a text, of which [`Length::MAX`] bytes are kept.
    pub fn add_text(&mut self, text: &[u8]) -> Record {
        let len = Length::try_from(text.len()).unwrap_or(Length::MAX);
        self.add_parts(&[&len.to_le_bytes(), &text[..len.into()]])
    }

    fn add_parts(&mut self, parts: &[&[u8]]) -> Record {
        let block = NonZeroU32::MIN.saturating_add(self.blocks.len() as u32);
        let at = Record { block, start: self.open.len() as u32 };
        parts.iter().for_each(|part| self.open.extend_from_slice(part));
        self.open_records += 1;
        if self.open.len() >= BLOCK {
            self.close_block();
        }
        at
    }

    /// Calls `read` with bytes that start with a record; `None` if it was removed.
    pub fn read<T>(&self, record: Record, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let start = record.start as usize;
        if record.index() == self.blocks.len() {
            return self.open.get(start..).map(read);
        }
        let block = self.unpacked(record.index())?;
        block.get(start..).map(read)
    }

    /// A text; `None` if it was removed.
    pub fn text(&self, record: Record) -> Option<Box<[u8]>> {
        let text = self.read(record, |bytes| {
            let (len, text) = bytes.split_first_chunk()?;
            text.get(..Length::from_le_bytes(*len).into()).map(Box::from)
        });
        text.flatten()
    }

    /// Removes a record. Its space is free again when its whole block is removed.
    pub fn remove(&mut self, record: Record) {
        let Some(block) = self.blocks.get_mut(record.index()) else {
            self.open_records = self.open_records.saturating_sub(1);
            return;
        };
        block.records = block.records.saturating_sub(1);
        if block.records == 0 {
            block.packed = Box::default();
            self.at_hand.get_mut().retain(|(block, _)| *block != record.index());
        }
    }

    fn close_block(&mut self) {
        // What cannot be packed is kept as it is, which its length tells.
        let packed = zstd::bulk::compress(&self.open, LEVEL).unwrap_or_default();
        let worth_it = !packed.is_empty() && packed.len() < self.open.len();
        let packed = if worth_it { packed } else { self.open.clone() };
        let records = std::mem::take(&mut self.open_records);
        self.blocks.push(Block {
            records,
            len: self.open.len(),
            packed: if records > 0 { packed.into() } else { Box::default() },
        });
        self.open.clear();
        self.open.shrink_to(2 * BLOCK);
    }

    fn unpacked(&self, index: usize) -> Option<Rc<[u8]>> {
        let mut at_hand = self.at_hand.borrow_mut();
        if let Some(place) = at_hand.iter().position(|(other, _)| *other == index) {
            at_hand[..=place].rotate_right(1);
        } else {
            let block = self.blocks.get(index).filter(|block| block.records > 0)?;
            let bytes: Rc<[u8]> = match block.packed.len() == block.len {
                true => Rc::from(&*block.packed),
                false => zstd::bulk::decompress(&block.packed, block.len).ok()?.into(),
            };
            at_hand.truncate(AT_HAND - 1);
            at_hand.insert(0, (index, bytes));
        }
        at_hand.first().map(|(_, bytes)| Rc::clone(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u32) -> Vec<u8> {
        let text = format!("GET /pay?order={number} HTTP/1.1 from 10.0.0.{}", number % 256);
        [&[text.len() as u8], text.as_bytes()].concat()
    }

    fn read(archive: &Archive, at: Record) -> Option<Vec<u8>> {
        archive.read(at, |bytes| bytes[..=usize::from(bytes[0])].to_vec())
    }

    #[test]
    fn records_come_back_in_any_order_and_take_less_space() {
        let mut archive = Archive::default();
        let places: Vec<Record> = (0..20_000).map(|n| archive.add(&record(n))).collect();
        for n in (0..20_000u32).map(|n| n * 7919 % 20_000) {
            assert_eq!(read(&archive, places[n as usize]), Some(record(n)));
        }
        let packed: usize = archive.blocks.iter().map(|block| block.packed.len()).sum();
        let plain: usize = archive.blocks.iter().map(|block| block.len).sum();
        assert!(archive.blocks.len() > 10 && packed * 3 < plain, "{packed} of {plain}");
    }

    #[test]
    fn what_cannot_be_compressed_comes_back_as_well() {
        let mut archive = Archive::default();
        let mut noise = 1u64;
        let records: Vec<Vec<u8>> = (0..300)
            .map(|_| {
                let mut bytes = vec![249];
                bytes.extend((0..249).map(|_| {
                    noise = noise.wrapping_mul(6364136223846793005).wrapping_add(1);
                    (noise >> 56) as u8
                }));
                bytes
            })
            .collect();
        let places: Vec<Record> = records.iter().map(|bytes| archive.add(bytes)).collect();
        for (bytes, at) in records.iter().zip(places) {
            assert_eq!(read(&archive, at).as_ref(), Some(bytes));
        }
    }

    #[test]
    fn a_block_without_records_takes_no_space() {
        let mut archive = Archive::default();
        let places: Vec<Record> = (0..5_000).map(|n| archive.add(&record(n))).collect();
        let kept = places[2_500];
        places.iter().filter(|at| **at != kept).for_each(|at| archive.remove(*at));
        let blocks = archive.blocks.iter().filter(|block| !block.packed.is_empty());
        assert_eq!(blocks.count(), 1);
        assert_eq!(read(&archive, kept), Some(record(2_500)));
        assert_eq!(read(&archive, places[0]), None);
    }
    #[test]
    fn texts_come_back_as_far_as_a_length_goes() {
        let mut archive = Archive::default();
        let long = vec![b'x'; usize::from(Length::MAX) + 1];
        let places = [&b""[..], b"GET /", &long].map(|text| archive.add_text(text));
        let texts = places.map(|at| archive.text(at).map(|text| text.len()));
        assert_eq!(texts, [Some(0), Some(5), Some(Length::MAX.into())]);
        places.iter().for_each(|at| archive.remove(*at));
        assert_eq!(archive.text(places[1]), None);
    }
}
