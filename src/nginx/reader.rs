// SPDX-License-Identifier: GPL-2.0-or-later
//! Reads an error log that comes in pieces, and yields the entries about ends of connections.
//!
//! Most lines of a log are about something else, so no line is taken apart unless its message
//! begins as one of the message table does. Where the message begins is known from the line's
//! first few dozen bytes, so the rest of a line is only searched for its end. That is faster
//! than to search all of it for the texts of the table, whose words ("client", "upstream")
//! stand in every line, and a URI that holds such a text costs nothing.
//!
//! What syslog or a container runtime put before a line is taken off. A message may hold line
//! feeds; lines that begin no entry then go on with the one before them, as long as that lacks
//! its end. What stands within such an entry is none, see `nginx::quoted`.

use memchr::{memchr, memchr_iter};

use super::error_log::{self, ErrorEntry, Stamp, LEVEL};
use super::message::{self, End};
use super::prefix;
use super::quoted::{Begins, Line, Quoted};
use crate::limits;
use crate::time::LogTime;

/// What some editors put at the beginning of a file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What is said of a file without a byte, be it an error log or not.
pub(super) const EMPTY: &str =
    "is empty: what nginx adds to it will be read; what it logged before \
                                is in a rotated log, so name that one, or the directory";

/// An entry about the end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct LineRef<'a> {
    /// Number of its first line in the file, from 1.
    pub number: u64,
    /// The entry as nginx wrote it: without its line end, and without what something else put
    /// before it.
    pub raw: &'a [u8],
    /// The line taken apart.
    pub entry: ErrorEntry<'a>,
    /// What it says about the end of a connection.
    pub end: End<'a>,
}

/// What a log held. Numbers of lines, unless they say otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes of the file.
    pub bytes: u64,
    /// All lines, one without line end at the end of the file included.
    pub lines: u64,
    /// Lines that begin an entry; the others continue one, or nginx did not write them.
    pub entries: u64,
    /// Entries at `info` or `debug`.
    pub infos: u64,
    /// Entries that were taken apart, because their message begins as one of the table does.
    pub parsed: u64,
    /// Entries that are about the end of a connection.
    pub ends: u64,
    /// Entries with such a message that nginx cannot have written as they stand.
    pub malformed: u64,
    /// Entries that are too old to be of interest.
    pub early: u64,
    /// Entries about ends that stand within another one: a client wrote them.
    pub quoted: u64,
    /// Lines before the first entry that hold one further on: something unknown was put before
    /// it.
    pub prefixed: u64,
    /// Lines longer than [`limits::LOG_LINE`], which were passed over.
    pub overlong: u64,
    /// NUL bytes before the first entry. A few may come from a client; many tell that this is no
    /// text.
    pub nuls: u64,
    /// Times of the first entry and of the last one.
    pub span: Option<(LogTime, LogTime)>,
}

impl Counts {
    /// Whether nothing in the log speaks against an `error_log` level above `info`. With such
    /// a level, and `error` is the default, nginx logs no end of a client's connection, so
    /// that none is found proves nothing.
    pub fn may_lack_clients(&self) -> bool {
        self.entries > 0 && self.infos == 0
    }

    /// What is odd about the file as a whole, to be put after its name; `None` if nothing is.
    pub fn complaint(&self) -> Option<&'static str> {
        let binary = self.nuls > self.bytes / 64;
        let foreign = self.entries == 0;
        let early = self.entries > 0 && self.early == self.entries;
        [
            (self.bytes == 0, EMPTY),
            (
                foreign && binary,
                "holds no text: it is packed in a way that is not known, or damaged; unpack it, or \
                 copy it again",
            ),
            (
                foreign && self.prefixed > 0,
                "holds no line that begins with nginx's time: cut off what stands before it",
            ),
            (
                foreign,
                "holds no line that nginx's error_log writes, from line 1 on: name the error log \
                 here, and an access log in access_log",
            ),
            (
                early,
                "ends days before the capture begins: name the log of the time of the capture",
            ),
            (
                self.malformed > 0 && self.ends == 0,
                "holds no entry about a connection that can be understood: if it was edited, name \
                 the file that nginx wrote",
            ),
        ]
        .into_iter()
        .find_map(|(odd, words)| odd.then_some(words))
    }
}

/// Takes a log in pieces, cut anywhere, and gives its entries about ends of connections to a
/// sink, in order.
///
/// It holds on to one unfinished line and one unfinished entry, of at most
/// [`limits::LOG_LINE`] bytes each, and to nothing else. The same bytes give the same result in
/// whatever pieces they come.
#[derive(Debug, Default)]
pub struct ErrorLogReader {
    /// The beginning of a line that is not finished.
    carry: Vec<u8>,
    /// That line is longer than what is kept of it.
    overlong: bool,
    /// The file had ended in the middle of a line, which was taken as it was.
    torn: bool,
    /// An entry whose message goes on in the lines that follow, and its number.
    open: Vec<u8>,
    open_number: u64,
    /// Entries that may turn out to stand within another one.
    quoted: Quoted,
    /// Entries before this time are of no interest.
    earliest: Option<Stamp>,
    /// Not every line ends with a carriage return, so one that does has it from a client.
    is_plain: bool,
    /// Without its span.
    counts: Counts,
    /// What the first entry and the last one begin with.
    stamps: Option<[Stamp; 2]>,
}

impl ErrorLogReader {
    /// A reader at the beginning of a file.
    pub fn new() -> ErrorLogReader {
        ErrorLogReader::default()
    }

    /// A reader that counts older entries, and does nothing else with them.
    pub fn not_before(earliest: LogTime) -> ErrorLogReader {
        ErrorLogReader { earliest: error_log::stamp(earliest), ..ErrorLogReader::default() }
    }

    /// What was found so far.
    pub fn counts(&self) -> Counts {
        let span = self.stamps.and_then(|[first, last]| {
            Some((error_log::parse_stamp(&first)?, error_log::parse_stamp(&last)?))
        });
        Counts { span, ..self.counts }
    }

    /// Takes the next bytes of the file.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl FnMut(LineRef<'_>)) {
        self.counts.bytes += bytes.len() as u64;
        let mut rest = bytes;
        if self.torn {
            let Some((_, tail)) = split_after_line(rest) else { return };
            self.torn = false;
            rest = tail;
        }
        if !self.carry.is_empty() {
            let Some((head, tail)) = split_after_line(rest) else {
                self.keep(rest);
                return;
            };
            self.keep(head);
            self.end_line(sink);
            rest = tail;
        }
        while let Some((line, tail)) = split_after_line(rest) {
            self.count_nuls(line);
            self.line(line.strip_suffix(b"\n").unwrap_or(line), sink);
            rest = tail;
        }
        self.keep(rest);
    }

    /// Ends the file: its last line needs no line end. If the file grows after all, reading
    /// goes on behind that line.
    pub fn finish(&mut self, sink: &mut impl FnMut(LineRef<'_>)) -> Counts {
        if !self.carry.is_empty() {
            self.end_line(sink);
            self.torn = true;
        }
        self.end_open();
        self.pause(sink);
        self.counts()
    }

    /// There is no more for now. nginx writes an entry at once, so those that are here are whole.
    pub fn pause(&mut self, sink: &mut impl FnMut(LineRef<'_>)) {
        while let Some(entry) = self.quoted.next() {
            self.entry(entry.number, &entry.raw, sink);
        }
    }

    /// Counts the NUL bytes of a line, or of a part of one, if no entry has come so far.
    fn count_nuls(&mut self, bytes: &[u8]) {
        if self.counts.entries == 0 {
            self.counts.nuls += memchr_iter(0, bytes).count() as u64;
        }
    }

    /// Adds to the unfinished line, as far as a line may go.
    fn keep(&mut self, bytes: &[u8]) {
        self.count_nuls(bytes);
        let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let room = limits::LOG_LINE.saturating_sub(self.carry.len());
        self.overlong |= text.len() > room;
        self.carry.extend_from_slice(text.get(..room).unwrap_or(text));
    }

    /// The unfinished line is finished.
    fn end_line(&mut self, sink: &mut impl FnMut(LineRef<'_>)) {
        let line = std::mem::take(&mut self.carry);
        if std::mem::take(&mut self.overlong) {
            self.pass_over();
        } else {
            self.line(&line, sink);
        }
        self.carry = line;
        self.carry.clear();
    }

    /// A line that is too long for nginx.
    fn pass_over(&mut self) {
        self.counts.lines += 1;
        self.counts.overlong += 1;
    }

    /// Takes one whole line.
    fn line(&mut self, raw: &[u8], sink: &mut impl FnMut(LineRef<'_>)) {
        if raw.len() > limits::LOG_LINE {
            return self.pass_over();
        }
        self.counts.lines += 1;
        let raw = match self.counts.lines {
            1 => raw.strip_prefix(BYTE_ORDER_MARK).unwrap_or(raw),
            _ => raw,
        };
        // Another system's line ends take nothing of nginx's buffer.
        self.is_plain |= !raw.ends_with(b"\r");
        let raw = raw.strip_suffix(b"\r").filter(|_| !self.is_plain).unwrap_or(raw);
        let last = self.stamps.as_ref().map(|[_, last]| last);
        if let Some(message) = error_log::skip_header_after(last, raw) {
            self.begun(raw, message);
        } else {
            let unpacked = prefix::unpack(raw);
            match error_log::skip_header(&unpacked) {
                Some(message) => self.begun(&unpacked, message),
                None => self.gone_on(&unpacked),
            }
        }
        while let Some(entry) = self.quoted.next_settled() {
            self.entry(entry.number, &entry.raw, sink);
            self.quoted.give_back(entry);
        }
    }

    /// Takes a line that begins no entry.
    fn gone_on(&mut self, raw: &[u8]) {
        if self.counts.entries == 0 {
            self.counts.prefixed += u64::from(holds_entry(raw));
            return;
        }
        if !self.open.is_empty() {
            self.go_on(raw);
        }
        self.note(raw, None);
    }

    /// Notes a line, which may show that what waits was no entry.
    fn note(&mut self, raw: &[u8], begins: Option<Begins>) {
        let line = Line { number: self.counts.lines, raw, begins };
        self.counts.quoted += self.quoted.note(line);
    }

    /// Takes a line that begins an entry.
    fn begun(&mut self, raw: &[u8], message: &[u8]) {
        if !self.open.is_empty() {
            self.end_open();
        }
        self.counts.entries += 1;
        // Only copied: a time is worth taking apart once in a file, not once in a line.
        if let Some(&stamp) = raw.first_chunk() {
            self.stamps = Some([self.stamps.map_or(stamp, |[first, _]| first), stamp]);
        }
        let level = raw.get(LEVEL..LEVEL + 2);
        self.counts.infos += u64::from(matches!(level, Some(b"[i" | b"[d")));
        let is_early = self.earliest.is_some_and(|earliest| raw < &earliest[..]);
        self.counts.early += u64::from(is_early);
        let begins = match message::may_be_end(message) {
            true if message::may_go_on(message) => {
                if !is_early {
                    self.open_entry(raw);
                }
                Begins::Header
            }
            true => {
                if !is_early {
                    self.quoted.wait(self.counts.lines, raw);
                }
                Begins::End
            }
            false => Begins::Other,
        };
        self.note(raw, Some(begins));
    }

    /// Takes the beginning of an entry whose message may hold line feeds.
    fn open_entry(&mut self, raw: &[u8]) {
        self.open.extend_from_slice(raw);
        self.open_number = self.counts.lines;
        self.end_open_if_whole();
    }

    /// Takes a line that goes on with the open entry.
    fn go_on(&mut self, raw: &[u8]) {
        if self.open.len() + raw.len() >= limits::LOG_LINE {
            return self.end_open();
        }
        self.open.push(b'\n');
        self.open.extend_from_slice(raw);
        // A client may send one line feed after another, and what they divide is taken apart
        // only where it may have become whole.
        if error_log::may_name_client(raw) {
            self.end_open_if_whole();
        }
    }

    fn end_open_if_whole(&mut self) {
        if error_log::parse(&self.open).is_ok_and(|entry| entry.client.is_some()) {
            self.end_open();
        }
    }

    /// The open entry is as whole as it gets.
    fn end_open(&mut self) {
        if !self.open.is_empty() {
            self.quoted.wait(self.open_number, &self.open);
            self.open.clear();
        }
    }

    /// Takes an entry whose message begins as one of the table does.
    fn entry(&mut self, number: u64, raw: &[u8], sink: &mut impl FnMut(LineRef<'_>)) {
        let Ok(entry) = error_log::parse(raw) else {
            self.counts.malformed += 1;
            return;
        };
        self.counts.parsed += 1;
        if let Some(end) = message::classify(&entry) {
            self.counts.ends += 1;
            sink(LineRef { number, raw, entry, end });
        }
    }
}

/// The time of the first entry in the beginning of a file; `None` if that holds none.
pub fn begins(head: &[u8]) -> Option<LogTime> {
    let head = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head);
    let mut lines = head.split(|&b| b == b'\n');
    lines.find_map(|line| error_log::time_of(&prefix::unpack(line)))
}

/// Whether an entry begins within the line, behind what something unknown put there.
fn holds_entry(line: &[u8]) -> bool {
    memchr_iter(b'[', line)
        .take(8)
        .filter_map(|at| line.get(at.checked_sub(LEVEL)?..))
        .any(error_log::starts_entry)
}

/// The first line with its end, and what follows it; `None` if it has no end.
fn split_after_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(memchr(b'\n', bytes)? + 1)
}
