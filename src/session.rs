// SPDX-License-Identifier: GPL-2.0-or-later
//! One analysis of one capture: the public interface of the core.
//!
//! Segments and log bytes go in; verdicts come out, at any time. What needs later packets is
//! worked out when somebody asks, so nothing depends on being told that the capture has ended:
//! some hosts never tell.

use std::collections::BTreeMap;

use crate::correlate::access::Interest;
use crate::correlate::clock::Clock;
use crate::correlate::coverage::{self, span_of_errors, Span};
use crate::correlate::legs::{Addresses, Legs};
use crate::correlate::matcher::Matcher;
use crate::correlate::report::{self, Gathering, Held, LogFile, Part, Report, Scope};
use crate::correlate::store::Store;
use crate::correlate::survey::Survey;
use crate::correlate::verdict::{Extent, Verdict};
use crate::error::Error;
use crate::limits;
use crate::nginx::access_reader::{self, AccessLogReader};
use crate::nginx::log_format::{LogFormat, Part as FormatPart, Variable};
use crate::nginx::reader::{self, ErrorLogReader};
use crate::tcp::segment::Segment;
use crate::tcp::streams::Streams;
use crate::tcp::waiting::Waiting;
use crate::time::{CaptureTime, LogTime, Zone, SECOND};

/// When a verdict is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// While segments are still being fed: what is decided by now.
    SoFar,
    /// Every segment has been fed, or a frame is looked at once more.
    Final,
}

/// What is known of one TCP header of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameInfo {
    /// Number of the stream, as Wireshark counts.
    pub stream: u32,
    /// The stream has seen a FIN or RST so far.
    pub closed: bool,
    /// This is the stream's first RST.
    pub first_reset: bool,
}

/// Which of nginx's logs a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogKind {
    /// An error log.
    Error,
    /// An access log.
    Access,
}

impl LogKind {
    /// The preference that names it.
    pub fn name(self) -> &'static str {
        match self {
            LogKind::Error => "error_log",
            LogKind::Access => "access_log",
        }
    }
}

/// Who reads a file.
#[derive(Debug)]
enum Reader {
    Error(ErrorLogReader),
    Access(AccessLogReader),
}

/// One analysis of one capture.
#[derive(Debug, Default)]
pub struct Session {
    streams: Streams,
    frames: Frames,
    /// Segments that the streams have yet to take.
    waiting: Waiting,
    /// Time of the first segment.
    begin: Option<CaptureTime>,
    /// Time of the last segment.
    end: CaptureTime,
    store: Store,
    matcher: Matcher,
    survey: Survey,
    legs: Legs,
    /// By the number of the file.
    readers: Vec<Reader>,
    /// The file that is being read.
    file: u32,
    /// Entries of logs before this time are of no interest.
    earliest: Option<LogTime>,
    /// How many entries the matcher knows of; `None` before it was asked.
    matched: Option<usize>,
}

impl Session {
    /// A session with default settings.
    pub fn new() -> Session {
        Session::default()
    }

    /// A session that puts a stream to rest, which takes less memory and more time, when this
    /// many segments of others have come since its end.
    pub fn with_patience(segments: u64) -> Session {
        Session { streams: Streams::with_patience(segments), ..Session::default() }
    }

    /// Sets the zone of log times: `auto`, `local`, `UTC`, `+08:00` or an IANA name.
    pub fn set_time_zone(&mut self, text: &str) -> Result<(), Error> {
        let zone = auto_or(text, Zone::parse).ok_or_else(|| Error::Setting {
            name: "time_zone",
            value: text.to_owned(),
            expected: "auto, local, UTC, an offset such as +08:00, or a name such as \
                       Asia/Shanghai",
        })?;
        let mut clock = self.store.clock().clone();
        clock.set_zone(zone);
        self.store.set_clock(clock);
        Ok(())
    }

    /// Sets how many seconds to add to log times: a number, or `auto`.
    pub fn set_clock_offset(&mut self, text: &str) -> Result<(), Error> {
        let seconds = |text: &str| {
            let seconds = text.trim().parse::<f64>().ok();
            seconds.filter(|seconds| seconds.abs() <= limits::CLOCK_OFFSET)
        };
        let offset = auto_or(text, seconds).ok_or_else(|| Error::Setting {
            name: "clock_offset",
            value: text.to_owned(),
            expected: "auto, or a number of seconds such as -1.7",
        })?;
        let mut clock = self.store.clock().clone();
        clock.set_offset(offset.map(|seconds| (seconds * SECOND as f64).round() as i64));
        self.store.set_clock(clock);
        Ok(())
    }

    /// What the log's clock is taken to be.
    pub fn clock(&self) -> &Clock {
        self.store.clock()
    }

    /// Sets how many seconds entry and packet may lie apart beyond the log's resolution.
    pub fn set_window(&mut self, text: &str) -> Result<(), Error> {
        let seconds = text.trim().parse::<f64>().ok();
        let seconds = seconds.filter(|s| (0.0..=limits::WINDOW).contains(s));
        let seconds = seconds.ok_or_else(|| Error::Setting {
            name: "window",
            value: text.to_owned(),
            expected: "a number of seconds from 0 to 86400",
        })?;
        self.matcher.set_window((seconds * SECOND as f64) as i64);
        Ok(())
    }

    /// Sets the addresses or networks of the nginx host, separated by commas or spaces.
    pub fn set_nginx_addresses(&mut self, text: &str) -> Result<(), Error> {
        let addresses = Addresses::parse(text).ok_or_else(|| Error::Setting {
            name: "nginx_addresses",
            value: text.to_owned(),
            expected: "addresses or networks such as 10.0.0.1, 192.168.0.0/24 or fd00::1, \
                       separated by commas or spaces",
        })?;
        self.matcher.set_addresses(addresses.clone());
        self.legs.set_addresses(addresses);
        Ok(())
    }

    /// Takes one segment. Segments go in frame order.
    pub fn feed(&mut self, segment: &Segment<'_>) -> Result<(), Error> {
        if segment.stream >= limits::STREAMS {
            return Err(Error::Limit { what: "TCP streams", limit: limits::STREAMS.into() });
        }
        let time = segment.time.bounded();
        // Hardly any is out of bounds, and only those are copied.
        let bounded;
        let segment = match time == segment.time {
            true => segment,
            false => {
                bounded = Segment { time, ..*segment };
                &bounded
            }
        };
        self.frames.add(segment)?;
        // What was decrypted is not kept: it can be long, and few segments have any.
        let can_wait = segment.decrypted.is_empty();
        if can_wait {
            self.waiting.add(segment);
        }
        if !can_wait || self.waiting.is_full() {
            self.catch_up();
        }
        if !can_wait {
            self.take(segment);
        }
        Ok(())
    }

    /// Takes the segments that wait. Whoever asks about streams does that first.
    fn catch_up(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.take_each(|segment| self.take(segment));
        self.waiting = waiting;
    }

    fn take(&mut self, segment: &Segment<'_>) {
        self.begin = Some(self.begin.map_or(segment.time, |begin| begin.min(segment.time)));
        self.end = self.end.max(segment.time);
        let Session { streams, matcher, end, .. } = self;
        streams.change(segment, |stream| {
            let before = stream.ends_seen();
            stream.take(segment);
            if stream.ends_seen() != before {
                matcher.stream_ended(segment.stream, stream, before, *end);
            }
        });
        self.matcher.fed(self.end);
        self.survey.fed();
        self.legs.changed();
    }

    /// Tells when the capture begins, before a log is read, so that what is far older need not
    /// be kept.
    pub fn begin_at(&mut self, begin: CaptureTime) {
        self.earliest = Some(earliest_of_interest(begin));
    }

    /// Nanoseconds that the user wants added to log times; 0 where they are to be found.
    pub fn clock_offset(&self) -> i64 {
        self.store.clock().given_offset()
    }

    /// Sets the format of access logs, before the first of them.
    pub fn set_access_log_format(&mut self, text: &str) -> Result<(), Error> {
        self.store.set_access_format(LogFormat::parse(text)?);
        Ok(())
    }

    /// Begins a log of this kind, and returns its number; the bytes that follow belong to it.
    /// Access logs come after error logs: only what these are about is kept of them.
    pub fn begin_log(&mut self, kind: LogKind, path: &str) -> u32 {
        match (kind, self.store.accesses().format()) {
            (LogKind::Access, Some(format)) => {
                self.readers.push(Reader::Access(AccessLogReader::new(format.clone())));
                self.matcher.expect_ports();
            }
            _ => {
                let begin = self.earliest;
                let reader = begin.map_or_else(ErrorLogReader::new, ErrorLogReader::not_before);
                self.readers.push(Reader::Error(reader));
            }
        }
        self.file = self.store.begin_file(path);
        self.file
    }

    /// Begins an error log, as [`Session::begin_log`] does.
    pub fn begin_error_log(&mut self, path: &str) -> u32 {
        self.begin_log(LogKind::Error, path)
    }

    /// Goes on with a log that has grown since it ended; the bytes that follow belong
    /// to it.
    pub fn resume_log(&mut self, file: u32) {
        self.store.resume_file(file);
        self.file = file;
    }

    /// A log has another name now.
    pub fn rename_log(&mut self, file: u32, path: &str) {
        self.store.rename_file(file, path);
    }

    /// Takes the next bytes of the log, split anywhere.
    pub fn log_bytes(&mut self, bytes: &[u8]) {
        let interest = self.interest();
        let store = &mut self.store;
        match self.readers.get_mut(self.file as usize) {
            Some(Reader::Error(reader)) => reader.push(bytes, &mut |line| store.keep(line)),
            Some(Reader::Access(reader)) => {
                reader.push(bytes, &mut store.access_keeper(interest));
            }
            None => {}
        }
    }

    /// The log has no more bytes for now.
    pub fn pause_log(&mut self) {
        let store = &mut self.store;
        if let Some(Reader::Error(reader)) = self.readers.get_mut(self.file as usize) {
            reader.pause(&mut |line| store.keep(line));
        }
    }

    /// Ends the log: its last line needs no line end. An error says what is odd about the log
    /// as a whole; what could be read of it is used all the same.
    pub fn end_log(&mut self) -> Result<(), Error> {
        let interest = self.interest();
        let store = &mut self.store;
        match self.readers.get_mut(self.file as usize) {
            Some(Reader::Error(reader)) => {
                let counts = reader.finish(&mut |line| store.keep(line));
                store.end_file(&counts)
            }
            Some(Reader::Access(reader)) => {
                reader.finish(&mut store.access_keeper(interest));
                store.end_access_file(reader.complaint())
            }
            None => Ok(()),
        }
    }

    /// Whole lines that were read of the log.
    pub fn log_lines(&self) -> u64 {
        match self.readers.get(self.file as usize) {
            Some(Reader::Error(reader)) => reader.counts().lines,
            Some(Reader::Access(reader)) => reader.counts().lines,
            None => 0,
        }
    }

    /// Which entries of access logs are of interest.
    fn interest(&self) -> Interest {
        Interest {
            earliest: self.earliest.map(|time| time.0.saturating_mul(SECOND)),
            // Logs are read before the capture, and again only as they grow.
            is_growing: self.frames.last > 0,
        }
    }

    /// The time of the first entry in the beginning of a log of this kind; `None` if it is
    /// none.
    pub fn log_begins(&self, kind: LogKind, head: &[u8]) -> Option<LogTime> {
        match kind {
            LogKind::Error => reader::begins(head),
            LogKind::Access => access_reader::begins(self.store.accesses().format()?, head),
        }
    }

    /// Why access logs of this format tell nothing; `None` if they do.
    pub fn access_log_lacks(&self) -> Option<&'static str> {
        let parts = self.store.accesses().format()?.parts();
        let names = |wanted: Variable| {
            parts
                .iter()
                .any(|part| matches!(part, FormatPart::Variable(name) if name == wanted.name()))
        };
        // Lines of `json` name their values themselves.
        let lacks =
            |wanted: &[Variable]| !parts.is_empty() && !wanted.iter().any(|w| names(*w));
        match () {
            () if lacks(&[Variable::Msec, Variable::TimeLocal, Variable::TimeIso8601]) => Some(
                "the format has no time: add $connection, $remote_port and $msec to the \
                 log_format of nginx.conf",
            ),
            () if lacks(&[Variable::Connection]) && lacks(&[Variable::Status]) => Some(
                "the format has neither $connection, by which entries of both logs are joined, \
                 nor $status, which tells of ends: add $connection, $remote_port, $msec and \
                 $status to the log_format of nginx.conf",
            ),
            () => None,
        }
    }

    /// Entries that are kept of all logs.
    pub fn log_entries(&self) -> usize {
        self.store.count() as usize + self.store.accesses().count()
    }

    /// The entries, for tests of what reads them.
    #[cfg(test)]
    pub(crate) fn log(&mut self) -> &Store {
        self.take_note_of_log();
        &self.store
    }

    /// Puts the entries in order that came since somebody asked last.
    fn take_note_of_log(&mut self) {
        let entries = self.log_entries();
        if self.matched != Some(entries) {
            self.store.index();
            self.matcher.log_changed(self.matched.is_none());
            self.legs.changed();
            self.matched = Some(entries);
        }
    }

    /// What is known of a frame that was fed.
    pub fn frame(&mut self, frame: u32, layer: u32) -> Option<FrameInfo> {
        let stream = self.frames.stream(frame, layer)?;
        // A host asks this of every frame. Nothing but a FIN or RST closes a stream, so as long as
        // none of either waits, an open one is open.
        let is_closed = |streams: &Streams| streams.marks(stream).is_some_and(|it| it.closed);
        if self.waiting.has_end() || is_closed(&self.streams) {
            self.catch_up();
        }
        let marks = self.streams.marks(stream).unwrap_or_default();
        Some(FrameInfo {
            stream,
            closed: marks.closed,
            first_reset: marks.first_reset.is_some_and(|first| first.get() == frame),
        })
    }

    /// The verdict on the stream of a frame.
    pub fn verdict(&mut self, frame: u32, layer: u32, when: When) -> Option<Verdict<'_>> {
        let stream = self.frames.stream(frame, layer)?;
        self.verdict_of(stream, when)
    }

    /// The verdict on the stream of a frame, as far as packets tell: its entries are not looked
    /// for, for somebody who does not ask for them.
    pub fn verdict_of_packets(
        &mut self,
        frame: u32,
        layer: u32,
        when: When,
    ) -> Option<Verdict<'_>> {
        self.catch_up();
        let stream = self.frames.stream(frame, layer)?;
        let Session { streams, store, survey, legs, .. } = self;
        let survey = (when == When::Final).then(|| survey.refreshed(streams));
        let seen = streams.get(stream)?;
        let standing = legs.given(&seen);
        let capture = Extent { end: self.end, only_ends: streams.show_only_ends() };
        Some(Verdict::new(seen, capture, store, &[], survey, standing))
    }

    /// The verdict on a stream.
    pub fn verdict_of(&mut self, stream: u32, when: When) -> Option<Verdict<'_>> {
        self.catch_up();
        self.take_note_of_log();
        let Session { streams, store, matcher, survey, legs, .. } = self;
        let seen = streams.get(stream)?;
        let (matches, survey, standing) = match when {
            When::Final => {
                matcher.refresh(streams, store);
                let standing = legs.refreshed(streams, matcher, store).of(stream, &seen);
                let matches = matcher.all(stream, streams, store);
                (matches, Some(survey.refreshed(streams)), standing)
            }
            // What other streams tell is not known before all of them are.
            When::SoFar => (matcher.so_far(stream, streams, store), None, legs.given(&seen)),
        };
        let capture = Extent { end: self.end, only_ends: streams.show_only_ends() };
        Some(Verdict::new(seen, capture, store, matches, survey, standing))
    }

    /// What is wrong with logs that were read without any fault, once the capture has ended: none
    /// of their entries is of its time.
    pub fn useless_logs(&mut self) -> Vec<Error> {
        self.catch_up();
        self.take_note_of_log();
        if self.complaints().is_empty() {
            return Vec::new();
        }
        // Where nobody has asked for entries so far, the zone has not been looked for.
        let stream = self.streams().next();
        if let Some(stream) = stream {
            self.verdict_of(stream, When::Final);
        }
        self.complaints()
    }

    fn complaints(&self) -> Vec<Error> {
        let Some(begin) = self.begin else { return Vec::new() };
        let (capture, window, store) = ((begin, self.end), self.matcher.window(), &self.store);
        let complaint = |kind: LogKind, path: Option<&str>, lines, spans: &[Span]| {
            let why = coverage::complaint(spans, lines, capture, window, store)?;
            Some(Error::Log { log: kind.name(), path: path?.to_owned(), why })
        };
        // What is odd about a file as a whole has been told.
        let errors =
            store.files().zip(&self.readers).filter_map(|(path, reader)| match reader {
                Reader::Error(reader) => Some((path, reader.counts())),
                Reader::Access(_) => None,
            });
        let errors: Vec<_> =
            errors.filter(|(_, counts)| counts.complaint().is_none()).collect();
        let spans =
            errors.iter().filter_map(|(_, counts)| span_of_errors(counts, store.clock()));
        let spans: Vec<_> = spans.collect();
        let lines = errors.iter().map(|(_, counts)| counts.entries).sum();
        let path = errors.first().map(|(path, _)| *path);
        let of_errors = complaint(LogKind::Error, path, lines, &spans);
        let of_accesses = store.accesses().held().and_then(|held| {
            let (from, to) = held.span;
            let skewed = |instant| CaptureTime(instant).plus(store.clock().skew());
            let path = store.files().nth(held.file as usize);
            complaint(LogKind::Access, path, held.count, &[(skewed(from), skewed(to))])
        });
        of_errors.into_iter().chain(of_accesses).collect()
    }

    /// The report on all streams and entries.
    pub fn report(&mut self) -> Report {
        self.catch_up();
        self.take_note_of_log();
        self.matcher.insist();
        self.legs.insist();
        self.survey.insist();
        let logs = self.store.files().zip(&self.readers).map(|(path, reader)| {
            let held = match reader {
                Reader::Error(reader) => Held::Errors(reader.counts()),
                Reader::Access(reader) => Held::Accesses(*reader.counts()),
            };
            LogFile { path: path.to_owned(), held }
        });
        let logs: Vec<_> = logs.collect();
        let mut gathering = Gathering::default();
        for number in self.streams().collect::<Vec<_>>() {
            if let Some(verdict) = self.verdict_of(number, When::Final) {
                gathering.add(number, &verdict);
            }
        }
        gathering.report(&Scope {
            store: &self.store,
            logs: &logs,
            window: self.matcher.window(),
            span: self.begin.map(|begin| (begin, self.end)),
        })
    }

    /// The lines of one part of a report.
    pub fn report_lines(&mut self, part: &Part) -> Vec<String> {
        match part {
            Part::Text(lines) => lines.clone(),
            &Part::Reset(stream, missing) => {
                let verdict = self.verdict_of(stream, When::Final);
                verdict.map(|verdict| report::reset_lines(stream, &verdict, missing))
            }
            .unwrap_or_default(),
            &Part::Matched(entry, stream, score) => {
                let verdict = self.verdict_of(stream, When::Final);
                verdict.map(|verdict| report::matched_lines(entry, stream, score, &verdict))
            }
            .unwrap_or_default(),
            Part::Unmatched(entry, _, streams) => {
                report::unmatched_lines(*entry, streams, &self.store)
            }
        }
    }

    /// Numbers of the streams that were fed, in order.
    pub fn streams(&mut self) -> impl Iterator<Item = u32> + '_ {
        self.catch_up();
        self.streams.numbers()
    }
}

/// The log time before which nothing is of interest to a capture that begins then.
pub fn earliest_of_interest(begin: CaptureTime) -> LogTime {
    LogTime(begin.0.div_euclid(SECOND) - limits::LOG_BEFORE)
}

/// What a setting says; within, `None` for `auto`, which is also what an empty one means.
fn auto_or<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    match text.trim() {
        "" => Some(None),
        auto if auto.eq_ignore_ascii_case("auto") => Some(None),
        other => parse(other).map(Some),
    }
}

/// Frames of a piece of [`Frames`].
const PIECE: usize = 16 * 1024;

/// Which stream each TCP header of each frame belongs to.
#[derive(Debug, Default)]
struct Frames {
    /// By frame number: the stream of the outermost TCP header, plus one. In pieces, as one
    /// vector would take twice the room whenever it grows.
    outer: Vec<Box<[u32]>>,
    /// The other TCP headers, which only tunnels have.
    inner: BTreeMap<(u32, u32), u32>,
    last: u32,
}

impl Frames {
    /// Notes a segment. A frame number may come again: with a read filter, the host gives the
    /// number of a frame that it drops to the next one, and the last one stands.
    fn add(&mut self, segment: &Segment<'_>) -> Result<(), Error> {
        let frame = segment.frame;
        if frame < self.last {
            return Err(Error::Order { frame, last: self.last });
        }
        if frame >= limits::FRAMES {
            return Err(Error::Limit { what: "frames", limit: limits::FRAMES.into() });
        }
        self.last = frame;
        if segment.layer > 0 {
            self.inner.insert((frame, segment.layer), segment.stream);
            return Ok(());
        }
        let (piece, index) = (frame as usize / PIECE, frame as usize % PIECE);
        if piece >= self.outer.len() {
            self.outer.resize_with(piece + 1, Box::default);
        }
        let piece = &mut self.outer[piece];
        if piece.is_empty() {
            *piece = vec![0; PIECE].into();
        }
        piece[index] = segment.stream + 1;
        Ok(())
    }

    fn stream(&self, frame: u32, layer: u32) -> Option<u32> {
        match layer {
            0 => {
                let piece = self.outer.get(frame as usize / PIECE)?;
                piece.get(frame as usize % PIECE)?.checked_sub(1)
            }
            _ => self.inner.get(&(frame, layer)).copied(),
        }
    }
}
