// SPDX-License-Identifier: GPL-2.0-or-later
//! Reads an access log that comes in pieces.
//!
//! Any line may matter: one with a suspicious status is about the end of a connection itself,
//! and another brings port and milliseconds to an entry of the error log with the same
//! connection number. Which ones do is for whoever keeps them to say.

use memchr::memchr;

use super::access_log::{self, AccessEntry};
use super::error_log;
use super::log_format::LogFormat;
use super::prefix;
use super::reader::EMPTY;
use crate::limits;
use crate::time::{LogTime, SECOND};

/// What some editors put at the beginning of a file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Takes what a reader finds.
pub trait Keeper {
    /// Takes an entry.
    fn keep(&mut self, line: AccessLine<'_>);
}

/// A line of the format.
#[derive(Clone, Copy, Debug)]
pub struct AccessLine<'a> {
    /// Its number in the file, from 1.
    pub number: u64,
    /// The line taken apart.
    pub entry: AccessEntry<'a>,
}

/// What a log held. Numbers of lines, unless they say otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessCounts {
    /// Bytes of the file.
    pub bytes: u64,
    /// All lines, one without line end at the end of the file included.
    pub lines: u64,
    /// Empty lines.
    pub passed: u64,
    /// Lines of the format.
    pub entries: u64,
    /// Those of them with a value that could be another as well, and was left out.
    pub ambiguous: u64,
    /// Lines that are not of the format.
    pub misfits: u64,
    /// Lines longer than [`limits::LOG_LINE`], which were passed over.
    pub overlong: u64,
}

/// Takes a log in pieces, cut anywhere, and gives its entries to a keeper, in order.
///
/// It holds on to one unfinished line of at most [`limits::LOG_LINE`] bytes, and to a few
/// examples. The same bytes give the same result in whatever pieces they come.
#[derive(Debug)]
pub struct AccessLogReader {
    format: LogFormat,
    /// The beginning of a line that is not finished.
    carry: Vec<u8>,
    /// That line is longer than what is kept of it.
    overlong: bool,
    /// The file had ended in the middle of a line, which was taken as it was.
    torn: bool,
    counts: AccessCounts,
    /// The first lines that are not of the format, and where they cease to be.
    misfits: Vec<(u64, String)>,
    /// The first line is one of an error log.
    holds_errors: bool,
}

impl AccessLogReader {
    /// A reader at the beginning of a file.
    pub fn new(format: LogFormat) -> AccessLogReader {
        AccessLogReader {
            format,
            carry: Vec::new(),
            overlong: false,
            torn: false,
            counts: AccessCounts::default(),
            misfits: Vec::new(),
            holds_errors: false,
        }
    }

    /// What was found so far.
    pub fn counts(&self) -> &AccessCounts {
        &self.counts
    }

    /// Takes the next bytes of the file.
    pub fn push(&mut self, bytes: &[u8], keeper: &mut impl Keeper) {
        self.counts.bytes += bytes.len() as u64;
        let mut rest = bytes;
        if self.torn {
            let Some((_, after)) = split_at_line_end(rest) else { return };
            self.torn = false;
            rest = after;
        }
        while let Some((line, after)) = split_at_line_end(rest) {
            rest = after;
            if self.carry.is_empty() {
                self.line(line, keeper);
            } else {
                self.hold(line);
                self.end_line(keeper);
            }
        }
        self.hold(rest);
    }

    /// Ends the file: its last line needs no line end. If the file grows after all, reading
    /// goes on behind that line.
    pub fn finish(&mut self, keeper: &mut impl Keeper) -> AccessCounts {
        if !self.carry.is_empty() {
            self.end_line(keeper);
            self.torn = true;
        }
        self.counts
    }

    /// What is odd about the file as a whole, to be put after its name; `None` if nothing is.
    pub fn complaint(&self) -> Option<String> {
        if self.counts.bytes == 0 {
            return Some(EMPTY.to_owned());
        }
        if self.counts.entries == 0 && self.holds_errors {
            let why = "line 1 is one of an error log: name that in error_log, and the access log here";
            return Some(why.to_owned());
        }
        let (number, stumbles) = self.misfits.first()?;
        let others: Vec<String> =
            self.misfits.iter().skip(1).map(|(number, _)| number.to_string()).collect();
        let others = match others.is_empty() {
            true => String::new(),
            false => format!(" (nor do lines {})", others.join(", ")),
        };
        let AccessCounts { misfits, lines, .. } = self.counts;
        Some(format!(
            "line {number} does not match the log format at {stumbles}{others}, {misfits} of \
             {lines} lines in all: set access_log_format to the log_format of nginx.conf"
        ))
    }

    /// Adds to the unfinished line, as far as a line may go.
    fn hold(&mut self, text: &[u8]) {
        let room = limits::LOG_LINE.saturating_sub(self.carry.len());
        self.overlong |= text.len() > room;
        self.carry.extend_from_slice(text.get(..room).unwrap_or(text));
    }

    /// The unfinished line is finished.
    fn end_line(&mut self, keeper: &mut impl Keeper) {
        let line = std::mem::take(&mut self.carry);
        if std::mem::take(&mut self.overlong) {
            self.pass_over();
        } else {
            self.line(&line, keeper);
        }
        self.carry = line;
        self.carry.clear();
    }

    /// A line that is too long to be looked at.
    fn pass_over(&mut self) {
        self.counts.lines += 1;
        self.counts.overlong += 1;
    }

    /// Takes one whole line.
    fn line(&mut self, raw: &[u8], keeper: &mut impl Keeper) {
        if raw.len() > limits::LOG_LINE {
            return self.pass_over();
        }
        self.counts.lines += 1;
        let number = self.counts.lines;
        let raw = match number {
            1 => raw.strip_prefix(BYTE_ORDER_MARK).unwrap_or(raw),
            _ => raw,
        };
        if raw.trim_ascii().is_empty() {
            self.counts.passed += 1;
            return;
        }
        let mut ambiguous = false;
        match parse(&self.format, raw, &mut ambiguous) {
            Some(entry) => {
                self.counts.entries += 1;
                self.counts.ambiguous += u64::from(ambiguous);
                keeper.keep(AccessLine { number, entry });
            }
            None => self.misfit(number, raw),
        }
    }

    /// Notes a line that is not of the format.
    fn misfit(&mut self, number: u64, raw: &[u8]) {
        self.counts.misfits += 1;
        self.holds_errors |= number == 1 && error_log::starts_entry(prefix::strip(raw));
        if self.misfits.len() < limits::MISFITS {
            self.misfits.push((number, self.format.stumbles_at(raw)));
        }
    }
}

/// The time of the first entry in the beginning of a log; `None` if none of its first lines is
/// of the format.
pub fn begins(format: &LogFormat, head: &[u8]) -> Option<LogTime> {
    let lines = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head).split(|&byte| byte == b'\n');
    let lines = lines.filter(|line| !line.trim_ascii().is_empty()).take(limits::MISFITS);
    lines.filter_map(|line| parse(format, line, &mut false)?.time()).next().map(|stamp| {
        // The wall clock is some hours off, which does not matter here.
        LogTime(stamp.instant.div_euclid(SECOND))
    })
}

/// Takes a line apart, as it stands or, if it is not of the format so, without what something
/// else than nginx has put before it: a line of the format may itself begin like that.
fn parse<'l>(
    format: &LogFormat,
    line: &'l [u8],
    ambiguous: &mut bool,
) -> Option<AccessEntry<'l>> {
    access_log::parse(format, line, ambiguous).or_else(|| {
        let bare = prefix::strip(line);
        (bare.len() < line.len()).then(|| access_log::parse(format, bare, ambiguous)).flatten()
    })
}

/// The first line without its end, and what follows; `None` if it has no end.
fn split_at_line_end(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (line, after) = bytes.split_at_checked(memchr(b'\n', bytes)?)?;
    Some((line, after.strip_prefix(b"\n").unwrap_or(after)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Keeps statuses.
    #[derive(Default)]
    struct Statuses(Vec<(u64, u16)>);

    impl Keeper for Statuses {
        fn keep(&mut self, line: AccessLine<'_>) {
            self.0.push((line.number, line.entry.status().unwrap()));
        }
    }

    fn read(log: &[u8], piece: usize) -> (Vec<(u64, u16)>, AccessCounts, Option<String>) {
        let mut keeper = Statuses::default();
        let mut reader = AccessLogReader::new(LogFormat::parse("$msec|$status|$uri").unwrap());
        log.chunks(piece).for_each(|piece| reader.push(piece, &mut keeper));
        let counts = reader.finish(&mut keeper);
        (keeper.0, counts, reader.complaint())
    }

    #[test]
    fn lines_are_numbered_and_counted_through_whatever_is_between() {
        let long = "x".repeat(limits::LOG_LINE + 1);
        let log = format!(
            "\u{feff}1.000|200|/\r\n\n1.000|20x|/\n1.000|201|\n{long}\n1.000|499|/a\nno"
        );
        let whole = read(log.as_bytes(), log.len());
        let (kept, counts, complaint) = &whole;
        assert_eq!(*kept, [(1, 200), (4, 201), (6, 499)]);
        assert_eq!((counts.lines, counts.passed, counts.entries), (7, 1, 3));
        assert_eq!((counts.misfits, counts.overlong), (2, 1));
        let complaint = complaint.as_deref().unwrap();
        assert!(
            complaint.starts_with(
                "line 3 does not match the log format at `$status` (nor do lines 7), 2 of 7"
            ),
            "{complaint}"
        );
        for piece in [1, 7, 1000] {
            assert_eq!(read(log.as_bytes(), piece), whole);
        }
        assert_eq!(read(b"", 1).2.as_deref(), Some(EMPTY));
        let errors = b"2026/11/22 11:54:40 [info] 7#7: *2 client closed connection\n";
        assert!(read(errors, 7).2.unwrap().starts_with("line 1 is one of an error log"));
        assert_eq!(read(b"1.000|200|/", 1).2, None);
    }

    #[test]
    fn a_log_that_ended_within_a_line_goes_on_behind_it() {
        let mut keeper = Statuses::default();
        let mut reader = AccessLogReader::new(LogFormat::parse("$msec|$status|$uri").unwrap());
        reader.push(b"1.000|200|/\n1.000|201|/a", &mut keeper);
        reader.finish(&mut keeper);
        [&b"b"[..], b"c\n1.000|2", b"02|/\n"]
            .iter()
            .for_each(|more| reader.push(more, &mut keeper));
        assert_eq!(keeper.0, [(1, 200), (2, 201), (3, 202)]);
    }
}
