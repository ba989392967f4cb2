// SPDX-License-Identifier: GPL-2.0-or-later
//! Header blocks of HTTP/2 (HPACK, RFC 7541), as far as requests and responses are told by them.
//!
//! A block refers to the fields of those before it, so one block that is lost or damaged makes
//! every later one unreadable: nothing is told of any of those. A few fields matter here; of the
//! others the table keeps only how much room they take, and the clients that they name: a byte may
//! refer to a field again, so nothing of it is worked out anew. The decoders at hand panic on cut input, or build the Huffman code anew for each string, or can't be
//! copied; so only the code itself is from a crate.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::IpAddr;

use httlib_huffman::DecoderSpeed;
use serde::{Deserialize, Serialize};

use crate::limits;
use crate::tcp::forwarded;

/// The fields that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Name {
    /// `:method`
    Method,
    /// `:path`
    Path,
    /// `:authority`
    Authority,
    /// `:status`
    Status,
    /// `host`
    Host,
    /// `content-length`
    ContentLength,
    /// `x-request-id`
    RequestId,
    /// Any other.
    Other,
}

impl Name {
    fn of(name: &[u8]) -> Name {
        match name {
            b":method" => Name::Method,
            b":path" => Name::Path,
            b":authority" => Name::Authority,
            b":status" => Name::Status,
            b"host" => Name::Host,
            b"content-length" => Name::ContentLength,
            b"x-request-id" => Name::RequestId,
            _ => Name::Other,
        }
    }
}

/// The table of one direction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hpack {
    /// The latest field first.
    fields: VecDeque<Field>,
    size: u32,
    /// What `size` may be at the most.
    room: u32,
    lost: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Field {
    name: Name,
    name_len: u32,
    /// Kept of the fields that matter.
    value: Box<[u8]>,
    value_len: u32,
    /// What another one names.
    clients: Box<[IpAddr]>,
}

impl Field {
    /// RFC 7541, section 4.1.
    fn size(&self) -> u32 {
        size(self.name_len, self.value_len)
    }
}

fn size(name_len: u32, value_len: u32) -> u32 {
    name_len.saturating_add(value_len).saturating_add(32)
}

/// What a field says.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Text, of one that matters.
    Text(&'a [u8]),
    /// The clients that another one names.
    Clients(&'a [IpAddr]),
}

impl<'a> Value<'a> {
    fn of(name: Name, text: &'a [u8], clients: &'a [IpAddr]) -> Value<'a> {
        match name {
            Name::Other => Value::Clients(clients),
            _ => Value::Text(text),
        }
    }
}

impl Default for Hpack {
    fn default() -> Hpack {
        // What both sides start with, unless they agree on something else.
        Hpack { fields: VecDeque::new(), size: 0, room: 4096, lost: false }
    }
}

impl Hpack {
    /// A block was not seen whole.
    pub fn lose(&mut self) {
        *self = Hpack { lost: true, ..Hpack::default() };
    }

    /// Hands on the fields of the next block, in their order. Tells whether all of it could be
    /// read; if not, what was handed on may not be all that it says.
    pub fn read(&mut self, block: &[u8], mut hand_on: impl FnMut(Name, Value<'_>)) -> bool {
        if !self.lost && self.read_fields(block, &mut hand_on).is_none() {
            self.lose();
        }
        !self.lost
    }

    fn read_fields(
        &mut self,
        mut block: &[u8],
        hand_on: &mut dyn FnMut(Name, Value<'_>),
    ) -> Option<()> {
        let mut room = limits::HEADER_LIST;
        while let Some(&first) = block.first() {
            // RFC 7541, section 6: the upper bits tell what follows.
            if first & 0x80 != 0 {
                let (name, value, size) = self.indexed(integer(&mut block, 7)?)?;
                room = room.checked_sub(size)?;
                hand_on(name, value);
            } else if first & 0xe0 == 0x20 {
                self.room = integer(&mut block, 5)?;
                if self.room > limits::HEADER_TABLE {
                    return None;
                }
                self.evict();
            } else {
                let kept = first & 0x40 != 0;
                let (name, name_len) = match integer(&mut block, if kept { 6 } else { 4 })? {
                    0 => {
                        let name = string(&mut block)?;
                        (Name::of(&name), name.len() as u32)
                    }
                    index => self.name(index)?,
                };
                let text = string(&mut block)?;
                room = room.checked_sub(size(name_len, text.len() as u32))?;
                let clients = match name {
                    Name::Other => forwarded::addresses(&text),
                    _ => Vec::new(),
                };
                hand_on(name, Value::of(name, &text, &clients));
                if kept {
                    self.keep(name, name_len, &text, clients);
                }
            }
        }
        Some(())
    }

    /// Name, value and size of the field at this index of both tables.
    fn indexed(&self, index: u32) -> Option<(Name, Value<'_>, u32)> {
        match place(index)? {
            Ok((name, value)) => {
                let size = size(name.len() as u32, value.len() as u32);
                let name = Name::of(name.as_bytes());
                Some((name, Value::of(name, value.as_bytes(), &[]), size))
            }
            Err(place) => {
                let field = self.fields.get(place)?;
                let value = Value::of(field.name, &field.value, &field.clients);
                Some((field.name, value, field.size()))
            }
        }
    }

    /// Name and its length of the field at this index.
    fn name(&self, index: u32) -> Option<(Name, u32)> {
        match place(index)? {
            Ok((name, _)) => Some((Name::of(name.as_bytes()), name.len() as u32)),
            Err(place) => self.fields.get(place).map(|field| (field.name, field.name_len)),
        }
    }

    fn keep(&mut self, name: Name, name_len: u32, text: &[u8], clients: Vec<IpAddr>) {
        let value_len = text.len() as u32;
        let value = if name != Name::Other { text.into() } else { Box::default() };
        let field = Field { name, name_len, value, value_len, clients: clients.into() };
        self.size = self.size.saturating_add(field.size());
        self.fields.push_front(field);
        self.evict();
    }

    fn evict(&mut self) {
        while self.size > self.room {
            let Some(oldest) = self.fields.pop_back() else { return self.size = 0 };
            self.size -= oldest.size().min(self.size);
        }
    }
}

/// What an index stands for: a field of the static table, or a place in the other one.
fn place(index: u32) -> Option<Result<(&'static str, &'static str), usize>> {
    let index = (index as usize).checked_sub(1)?;
    Some(STATIC.get(index).copied().ok_or_else(|| index - STATIC.len()))
}

/// RFC 7541, section 5.1. Longer ones than four more bytes are none that anybody sends.
fn integer(bytes: &mut &[u8], prefix: u32) -> Option<u32> {
    let (&first, mut rest) = bytes.split_first()?;
    let most = (1u32 << prefix) - 1;
    let mut value = u32::from(first) & most;
    if value == most {
        for shift in [0, 7, 14, 21] {
            let (&byte, behind) = rest.split_first()?;
            rest = behind;
            value += u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *bytes = rest;
                return Some(value);
            }
        }
        return None;
    }
    *bytes = rest;
    Some(value)
}

/// RFC 7541, section 5.2.
fn string<'a>(bytes: &mut &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let huffman = bytes.first()? & 0x80 != 0;
    let length = integer(bytes, 7)? as usize;
    let text = bytes.get(..length)?;
    *bytes = &bytes[length..];
    if !huffman {
        return Some(Cow::Borrowed(text));
    }
    let mut plain = Vec::with_capacity(length * 2);
    httlib_huffman::decode(text, &mut plain, DecoderSpeed::FiveBits).ok()?;
    Some(Cow::Owned(plain))
}

/// RFC 7541, appendix A.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"),
    (":path", "/index.html"), (":scheme", "http"), (":scheme", "https"), (":status", "200"),
    (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""),
    ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""),
    ("authorization", ""), ("cache-control", ""), ("content-disposition", ""),
    ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""),
    ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
    ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""),
    ("range", ""), ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""),
    ("set-cookie", ""), ("strict-transport-security", ""), ("transfer-encoding", ""),
    ("user-agent", ""), ("vary", ""), ("via", ""), ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(hpack: &mut Hpack, hex: &str) -> String {
        let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
        let block: Vec<u8> = digits.chunks(2).map(|d| (d[0] << 4 | d[1]) as u8).collect();
        let mut out = String::new();
        let whole = hpack.read(&block, |name, value| {
            if let Value::Text(text) = value {
                out.push_str(&format!("{name:?}={} ", String::from_utf8_lossy(text)));
            }
        });
        format!("{out}{}", if whole { hpack.size.to_string() } else { "lost".to_owned() })
    }

    /// The examples of RFC 7541, appendices C.4 and C.6, with the sizes of the table there.
    #[test]
    fn the_examples_of_the_standard_are_read() {
        let mut requests = Hpack::default();
        let first = "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff";
        assert_eq!(
            read(&mut requests, first),
            "Method=GET Path=/ Authority=www.example.com 57"
        );
        assert_eq!(
            read(&mut requests, "8286 84be 5886 a8eb 1064 9cbf"),
            "Method=GET Path=/ Authority=www.example.com 110"
        );
        let third = "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf";
        assert_eq!(
            read(&mut requests, third),
            "Method=GET Path=/index.html Authority=www.example.com 164"
        );
        let mut responses = Hpack { room: 256, ..Hpack::default() };
        let first =
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 \
                     82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
        assert_eq!(read(&mut responses, first), "Status=302 222");
        assert_eq!(read(&mut responses, "4883 640e ffc1 c0bf"), "Status=307 222");
    }

    #[test]
    fn a_block_that_can_not_be_read_is_the_last_that_is() {
        for bad in
            ["80", "be", "3fe1ff04", "41", "417f", "4181", "0085", "7fffffffffff", "4002"]
        {
            let mut hpack = Hpack::default();
            assert!(read(&mut hpack, bad).ends_with("lost"), "{bad}");
            assert_eq!(read(&mut hpack, "82"), "lost");
        }
    }

    #[test]
    fn the_table_is_as_large_as_it_was_agreed() {
        let mut hpack = Hpack::default();
        assert_eq!(read(&mut hpack, "4402 2f61 4402 2f62"), "Path=/a Path=/b 78");
        assert_eq!(read(&mut hpack, "3f08"), "39", "one of the two has room");
        assert_eq!(read(&mut hpack, "be"), "Path=/b 39");
        assert_eq!(read(&mut hpack, "20"), "0");
        assert_eq!(read(&mut hpack, "3fe1 ff03 4402 2f63"), "Path=/c 39");
    }

    #[test]
    fn a_block_that_unpacks_to_more_than_anybody_takes_is_lost() {
        // A field of 4,000 addresses, which a byte refers to.
        let list = "1.1.1.1,".repeat(4000) + "2.2.2.2";
        let mut hpack = Hpack { room: limits::HEADER_TABLE, ..Hpack::default() };
        let mut block = b"\x40\x01x\x7f".to_vec();
        let rest = list.len() as u32 - 127;
        block.extend([rest as u8 | 0x80, (rest >> 7) as u8 | 0x80, (rest >> 14) as u8]);
        block.extend(list.as_bytes());
        let mut named = 0;
        let mut clients = |name: Name, value: Value<'_>| {
            assert_eq!(name, Name::Other);
            let Value::Clients(clients) = value else { return };
            assert_eq!(clients.len(), limits::FORWARDED);
            named += 1;
        };
        assert!(hpack.read(&block, &mut clients));
        let fits = (limits::HEADER_LIST / (list.len() as u32 + 33)) as usize;
        assert!(hpack.read(&vec![0xbe; fits], &mut clients));
        assert!(!hpack.read(&vec![0xbe; 60_000], &mut clients));
        assert_eq!(named, 1 + fits + fits);
        assert_eq!(read(&mut hpack, "82"), "lost");
    }

    #[test]
    fn random_blocks_are_read_or_lost_and_bounded() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        for _ in 0..20_000 {
            let mut hpack = Hpack::default();
            for _ in 0..4 {
                let length = random() % 48;
                let block: Vec<u8> = (0..length).map(|_| random()).collect();
                hpack.read(&block, |_, _| ());
                assert!(hpack.size <= hpack.room && hpack.room <= limits::HEADER_TABLE);
                assert!(hpack.fields.iter().map(Field::size).sum::<u32>() == hpack.size);
            }
        }
    }
}
