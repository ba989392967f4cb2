// SPDX-License-Identifier: GPL-2.0-or-later
//! Entries that stand within another one, where a client wrote them.
//!
//! nginx escapes nothing, and a path that it has decoded may hold line feeds. Such an entry goes
//! over several lines, and each in between is the client's, who can make it look like an entry, and
//! what stands before it like a whole one. He cannot take away the rest of nginx's own entry behind
//! it, which quotes his request as it came, nor make the entry longer than nginx's buffer. So an
//! entry waits for as many bytes to follow, and is dropped if the rest of another one does:
//!
//! - the rest names the request: each line feed of the path stands there as `%0A`, so as many lines
//!   before it the entry began;
//! - nginx's buffer was full: then the entry began as many bytes before its end;
//! - else (a gateway's standard error holds what a client sent it) it began where an entry last did
//!   that may hold anything, or, if that is in doubt, with the first such one.

use std::collections::VecDeque;

use memchr::{memchr, memchr_iter, memmem};

use super::error_log::{self, may_name_client, names_two_clients, CUT_LENGTHS, LEVEL};

/// Bytes that an entry has at most, in nginx with the largest buffer.
const REACH: u64 = CUT_LENGTHS[1] as u64;

/// Bytes that level and process take at most: `[error] 54053#140735`.
const HEAD: usize = 40;

/// A line that begins an entry, or goes on with one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// Its number in the file.
    pub number: u64,
    pub raw: &'a [u8],
    /// What kind of an entry it begins; `None` if it begins none.
    pub begins: Option<Begins>,
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begins {
    /// The end of a connection, in words that are nginx's.
    End,
    /// Something else, which may hold anything that a client sent.
    Other,
    /// A header of the PROXY protocol that is none, as a client sent it.
    Header,
}

/// An entry that waits.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Number of its first line.
    pub number: u64,
    pub raw: Vec<u8>,
    /// Where it began.
    at: u64,
}

/// Where an entry began that may hold others.
#[derive(Clone, Copy, Debug)]
struct Beginning {
    number: u64,
    at: u64,
    /// From the level on, to be read where it matters.
    head: [u8; HEAD],
    is_header: bool,
}

/// The entries about ends of connections of the last few lines.
#[derive(Debug, Default)]
pub(super) struct Quoted {
    /// Bytes of all lines so far.
    at: u64,
    waiting: VecDeque<Waiting>,
    beginnings: VecDeque<Beginning>,
    /// Number of the last line that began an entry, if that may hold anything.
    last_other: Option<u64>,
    spare: Vec<Vec<u8>>,
}

impl Quoted {
    /// Lets an entry wait that begins with a line which was not [noted](Quoted::note) yet.
    pub fn wait(&mut self, number: u64, raw: &[u8]) {
        let mut kept = self.spare.pop().unwrap_or_default();
        kept.clear();
        kept.extend_from_slice(raw);
        self.waiting.push_back(Waiting { number, raw: kept, at: self.at });
    }

    /// Notes a line, and drops the entries that turn out to stand within another one; returns how
    /// many these are.
    pub fn note(&mut self, line: Line<'_>) -> u64 {
        let from = self.at;
        self.at += line.raw.len() as u64 + 1;
        let far = |at: u64| at + REACH < from;
        while self.beginnings.front().is_some_and(|first| far(first.at)) {
            self.beginnings.pop_front();
        }
        let mut dropped = 0;
        if !self.waiting.is_empty() {
            dropped = self.drop_behind(self.beginning_of_rest(line));
        }
        let may_hold_others = match line.begins {
            Some(Begins::Other | Begins::Header) => true,
            // Its upstream may be asked for a decoded path.
            Some(Begins::End) => line_feeds(line.raw) > 0,
            None => false,
        };
        if may_hold_others {
            let head = head(line.raw);
            let is_header = line.begins == Some(Begins::Header);
            let number = line.number;
            self.beginnings.push_back(Beginning { number, at: from, head, is_header });
        }
        if line.begins.is_some() {
            self.last_other = Some(line.number).filter(|_| line.begins != Some(Begins::End));
        }
        dropped
    }

    /// The next entry that no line to come can be the rest of.
    pub fn next_settled(&mut self) -> Option<Waiting> {
        let first = self.waiting.front()?;
        if first.at + REACH < self.at {
            self.waiting.pop_front()
        } else {
            None
        }
    }

    /// The next entry, where no line is to come.
    pub fn next(&mut self) -> Option<Waiting> {
        self.waiting.pop_front()
    }

    /// Takes back the room of an entry.
    pub fn give_back(&mut self, entry: Waiting) {
        self.spare.push(entry.raw);
    }

    /// The line that began the entry which a line is the rest of.
    fn beginning_of_rest(&self, line: Line<'_>) -> Option<u64> {
        let full = self.beginning_of_full(line);
        let quotes = |text: &[u8]| memchr(b'"', text).is_some();
        let before_client = || {
            let at = memmem::find(line.raw, b", client: ");
            at.and_then(|at| line.raw.get(..at)).is_some_and(quotes)
        };
        let line_feeds = line_feeds(line.raw);
        let is_rest = match line.begins {
            None => goes_on_with_context(line.raw),
            // A client may have begun the line that the rest stands in.
            Some(_) => line_feeds > 0 && before_client() || names_two_clients(line.raw),
        };
        let of_header =
            || memmem::find(line.raw, b"\" while reading PROXY protocol, ").is_some();
        let told = match line_feeds {
            _ if !is_rest => None,
            0 if of_header() => self.beginning_of_header(),
            0 if line.begins.is_none() && self.last_other.is_some() => self.last_other,
            0 => self.beginnings.front().map(|first| first.number),
            // What a path drops again counts as well: so many lines or fewer.
            lines => Some(line.number.saturating_sub(lines)),
        };
        full.into_iter().chain(told).min()
    }

    /// The line that began the header of the PROXY protocol which a line is the rest of: the last
    /// one, unless another process began one before. What a client sends there is quoted as it is,
    /// and tells no number of lines.
    fn beginning_of_header(&self) -> Option<u64> {
        let mut headers = self.beginnings.iter().filter(|beginning| beginning.is_header);
        let last = headers.next_back()?;
        let is_other = |beginning: &&Beginning| process(&beginning.head) != process(&last.head);
        let other = headers.find(is_other);
        Some(other.unwrap_or(last).number)
    }

    /// The line that began an entry which fills nginx's buffer with the end of this line.
    fn beginning_of_full(&self, line: Line<'_>) -> Option<u64> {
        let end = self.at - 1;
        let head = line.begins.map(|_| head(line.raw));
        let is_full = |first: &&Beginning| {
            CUT_LENGTHS.contains(&((end - first.at) as usize))
                // One that ends there by chance is another's only where another process wrote it, or
                // where it breaks off, as nothing else does.
                && (head.is_none_or(|head| process(&head) != process(&first.head))
                    || breaks_off(line.raw))
        };
        self.beginnings.iter().find(is_full).map(|first| first.number)
    }

    /// Drops the entries behind this line that are near enough to belong to one that it began.
    fn drop_behind(&mut self, number: Option<u64>) -> u64 {
        let Some(number) = number else { return 0 };
        let from = self.at.saturating_sub(REACH + 1);
        let all = self.waiting.len();
        self.waiting.retain(|entry| entry.number <= number || entry.at < from);
        (all - self.waiting.len()) as u64
    }
}

/// Line feeds of a path, as a client has to write them.
fn line_feeds(line: &[u8]) -> u64 {
    let is_one = |&at: &usize| matches!(line.get(at..at + 3), Some([_, b'0', b'a' | b'A']));
    memchr_iter(b'%', line).filter(is_one).count() as u64
}

/// Whether a line that begins no entry ends as one does.
fn goes_on_with_context(line: &[u8]) -> bool {
    const PARTS: [&[u8]; 4] =
        [b"\", request: \"", b"\", upstream: \"", b"\", host: \"", b"\", referrer: \""];
    line == b"\""
        || may_name_client(line)
        || PARTS.iter().any(|part| memmem::find(line, part).is_some())
}

/// Whether an entry ends within its context, and is not as long as nginx's buffer.
fn breaks_off(line: &[u8]) -> bool {
    !CUT_LENGTHS.contains(&line.len())
        && error_log::parse(line).is_ok_and(|entry| entry.truncated)
}

/// What a line has from its level on.
fn head(line: &[u8]) -> [u8; HEAD] {
    let rest = line.get(LEVEL..).unwrap_or_default();
    rest.first_chunk().copied().unwrap_or_else(|| {
        let mut head = [0; HEAD];
        head.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        head
    })
}

/// The numbers of the process that wrote a line.
fn process(head: &[u8; HEAD]) -> &[u8] {
    let from = memchr(b']', head).unwrap_or(0);
    let rest = head.get(from..).unwrap_or_default();
    rest.get(..memchr(b':', rest).unwrap_or(rest.len())).unwrap_or_default()
}
