// SPDX-License-Identifier: GPL-2.0-or-later
//! The log entries that are kept: those about the end of a connection.
//!
//! An entry is kept as it stands in the file, packed, and beside it what the matcher compares,
//! in a shape that is small and cheap to compare: addresses as numbers, long texts as hashes,
//! and what many entries have in common once for all of them. Matching unpacks nothing.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU64;

use crate::archive::{Archive, Record};
use crate::correlate::access::{Accesses, Key};
use crate::correlate::agreement::{self, Phases};
use crate::correlate::clock::Clock;
use crate::correlate::fit::legs;
use crate::error::Error;
use crate::limits;
use crate::nginx::access_log;
use crate::nginx::access_reader::Keeper;
use crate::nginx::error_log::{self, Peer, RequestLine, Upstream};
use crate::nginx::log_format::LogFormat;
use crate::nginx::message::{By, Leg, Shows};
use crate::nginx::reader::{Counts, LineRef};
use crate::tcp::http::host_hash;
use crate::time::{CaptureTime, LogTime, SECOND};

pub use crate::nginx::access_log::AccessEntry;
pub use crate::nginx::error_log::ErrorEntry;
pub use crate::nginx::log_format::Variable;
pub use crate::tcp::http::request_hash;

/// Entries of all logs, in the order in which they were read.
#[derive(Debug, Default)]
pub struct Store {
    clock: Clock,
    files: Vec<Box<str>>,
    /// The file that is being read.
    file: u32,
    rows: Vec<Row>,
    /// What rows have in common, each once.
    settings: Vec<Setting>,
    setting_numbers: HashMap<Setting, u32>,
    /// The entries as they stand in their files, each after its length.
    texts: Archive,
    /// Entries that were not kept because there are too many.
    dropped: u64,
    /// Nanoseconds to add to a log time: each from this entry on, to the next. Zones seldom
    /// change, so these are few. `None` where the zone has no such time.
    shifts: Vec<(u32, Option<i64>)>,
    /// Entries that have an instant, by it, and by what they say of a request on either leg.
    by_time: Vec<u32>,
    by_request: Vec<u32>,
    by_passed: Vec<u32>,
    accesses: Accesses,
    /// The client's port of each entry whose connection has access entries, 0 for others; empty
    /// where there is no access log.
    ports: Vec<u16>,
}

/// One entry, as small as it gets: of these there are a great many.
#[derive(Clone, Copy, Debug)]
struct Row {
    time: LogTime,
    request: Option<NonZeroU64>,
    passed: Option<NonZeroU64>,
    connection: Option<NonZeroU64>,
    text: Record,
    /// Unspecified if it is not known.
    client: Ipv6Addr,
    line: u32,
    setting: u32,
}

/// What many entries have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Setting {
    file: u32,
    pid: u32,
    leg: Leg,
    by: By,
    shows: Shows,
    phases: Phases,
    listen_port: Option<u16>,
    upstream: Option<SocketAddr>,
    host: Option<u64>,
}

/// What is known of an entry without its text.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// Which file, counted in the order of reading.
    pub file: u32,
    /// Number of the entry's line, from 1.
    pub line: u32,
    /// What the log's clock showed.
    pub time: LogTime,
    /// The process that wrote it.
    pub pid: u32,
    /// Serial number of the client's connection.
    pub connection: Option<u64>,
    /// What has to fit a stream.
    pub traits: Traits,
}

/// What has to fit a stream. Entries with the same traits fit the same streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Traits {
    /// Start of the second in which nginx wrote it, on the capture's clock; `None` if its
    /// zone has no such time.
    pub instant: Option<CaptureTime>,
    /// Which connection ended.
    pub leg: Leg,
    /// Who ended it.
    pub by: By,
    /// What a capture holds of that.
    pub shows: Shows,
    /// How far the connection can have come, with this message.
    pub phases: Phases,
    /// Address of the client.
    pub client: Option<IpAddr>,
    /// Port of the client, from an access entry of the same connection.
    pub port: Option<u16>,
    /// Port that nginx listened on, known only while there is no request.
    pub listen_port: Option<u16>,
    /// Address and port of the upstream.
    pub upstream: Option<SocketAddr>,
    /// [`request_hash`] of the request line.
    pub request: Option<u64>,
    /// [`request_hash`] of the request as it was passed to the upstream.
    pub passed: Option<u64>,
    /// [`host_hash`] of the Host header.
    pub host: Option<u64>,
}

impl Traits {
    /// The request that a stream of this leg carries, as far as the entry tells.
    pub fn request_on(&self, leg: Leg) -> Option<u64> {
        match leg {
            Leg::Upstream => self.passed,
            Leg::Client | Leg::Unknown => self.request,
        }
    }
}

/// One entry, as it stands in its file.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// The whole entry.
    pub raw: Box<[u8]>,
    /// The file that holds it.
    pub file: &'a str,
    /// Number of its line, from 1.
    pub line: u64,
    /// Its time on the capture's clock.
    pub time: CaptureTime,
    /// The format that it is written in, if it is one of an access log.
    format: Option<&'a LogFormat>,
}

/// The parts of an entry. Texts are as in the file, not escaped.
#[derive(Clone, Debug)]
pub enum Parts<'e> {
    /// Of an error log.
    Error(Box<ErrorEntry<'e>>),
    /// Of an access log.
    Access(Box<AccessEntry<'e>>),
}

impl Parts<'_> {
    /// The word of the public interface.
    pub fn kind(&self) -> &'static str {
        match self {
            Parts::Error(_) => "error",
            Parts::Access(_) => "access",
        }
    }
}

impl Entry<'_> {
    /// Its parts, if it is one of an error log.
    pub fn parts(&self) -> Option<ErrorEntry<'_>> {
        match self.any_parts()? {
            Parts::Error(parts) => Some(*parts),
            Parts::Access(_) => None,
        }
    }

    /// Its parts, whatever log it is of.
    pub fn any_parts(&self) -> Option<Parts<'_>> {
        match self.format {
            None => error_log::parse(&self.raw).ok().map(Box::new).map(Parts::Error),
            Some(format) => {
                let parts = access_log::parse(format, &self.raw, &mut false);
                parts.map(Box::new).map(Parts::Access)
            }
        }
    }
}

/// Method and URI of a request as an upstream saw it, as far as an entry tells. A gateway has no
/// URI of its own: servers tell it the client's, as REQUEST_URI.
fn passed_on<'a>(
    (upstream, line): (Upstream<'a>, RequestLine<'a>),
) -> Option<(&'a [u8], &'a [u8])> {
    let is_gateway = matches!(upstream.scheme, b"fastcgi" | b"uwsgi" | b"suwsgi" | b"scgi");
    let uri = match upstream.uri {
        b"" if is_gateway && line.target.starts_with(b"/") => line.target,
        uri => uri,
    };
    (!uri.is_empty()).then_some((line.method, uri))
}

impl Store {
    /// The log's clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Sets the log's clock.
    pub fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
        self.index();
    }

    /// The entries that follow belong to this file; returns its number.
    pub fn begin_file(&mut self, path: &str) -> u32 {
        self.file = self.files.len() as u32;
        self.files.push(path.into());
        self.file
    }

    /// The entries that follow belong to a file that was begun before.
    pub fn resume_file(&mut self, file: u32) {
        self.file = file;
    }

    /// A file has another name now.
    pub fn rename_file(&mut self, file: u32, path: &str) {
        if let Some(name) = self.files.get_mut(file as usize) {
            *name = path.into();
        }
    }

    /// Keeps an entry.
    pub fn keep(&mut self, line: LineRef<'_>) {
        if self.rows.len() >= limits::LOG_ENTRIES {
            self.dropped += 1;
            return;
        }
        let LineRef { number, raw, entry, end } = line;
        let upstream = entry.upstream.and_then(Upstream::parse);
        let request = entry.request.and_then(RequestLine::parse);
        let passed = upstream.zip(request).and_then(passed_on);
        // A part that the line's end cuts can't be compared as a whole; it is the last one.
        let cut_request = entry.truncated && entry.upstream.is_none() && entry.host.is_none();
        let cut_upstream = entry.truncated && entry.host.is_none();
        let setting = Setting {
            file: self.file,
            pid: entry.pid,
            leg: end.leg,
            by: end.by,
            shows: end.shows,
            phases: agreement::phases(&end, &entry),
            listen_port: entry.server.and_then(listen_port),
            upstream: upstream
                .and_then(|upstream| match upstream.peer {
                    Peer::Address(address) => Some(address),
                    Peer::Unix(_) | Peer::Name(_) => None,
                })
                .or_else(|| {
                    // The server that checks the names of mail clients stands in the message only.
                    let named = end.peer.filter(|_| end.leg == Leg::Upstream)?;
                    std::str::from_utf8(named).ok()?.parse().ok()
                }),
            host: entry.host.filter(|_| !entry.truncated).map(host_hash),
        };
        let client = end.peer.filter(|_| end.leg == Leg::Client).or(entry.client);
        let row = Row {
            time: entry.time,
            request: request
                .filter(|_| !cut_request)
                .map(|line| request_hash(&[line.method, b" ", line.target].concat()))
                .and_then(NonZeroU64::new),
            passed: passed
                .filter(|_| !cut_upstream)
                .map(|(method, uri)| request_hash(&[method, b" ", uri].concat()))
                .and_then(NonZeroU64::new),
            connection: entry.connection.and_then(NonZeroU64::new),
            text: self.keep_text(raw),
            client: client.and_then(address).map_or(
                Ipv6Addr::UNSPECIFIED,
                |client| match client {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                },
            ),
            line: u32::try_from(number).unwrap_or(u32::MAX),
            setting: self.number_of(setting),
        };
        self.rows.push(row);
    }

    fn keep_text(&mut self, raw: &[u8]) -> Record {
        let raw = &raw[..raw.len().min(usize::from(u16::MAX))];
        self.texts.add(&[&(raw.len() as u16).to_le_bytes(), raw].concat())
    }

    fn number_of(&mut self, setting: Setting) -> u32 {
        *self.setting_numbers.entry(setting).or_insert_with(|| {
            self.settings.push(setting);
            self.settings.len() as u32 - 1
        })
    }

    /// Access entries, and what they are good for.
    pub fn accesses(&self) -> &Accesses {
        &self.accesses
    }

    /// Sets the format of access entries.
    pub fn set_access_format(&mut self, format: LogFormat) {
        self.accesses.set_format(format);
    }

    /// Who keeps the entries of an access log, and asks for none before an instant.
    pub fn access_keeper(&mut self, earliest: Option<i64>) -> impl Keeper + '_ {
        self.accesses.want(self.rows.iter().map(|row| row.connection));
        let room = limits::LOG_ENTRIES.saturating_sub(self.rows.len());
        self.accesses.keeper(self.file, room, earliest)
    }

    /// What an error entry tells of its connection.
    fn key(&self, row: &Row) -> Option<Key> {
        let client = Some(row.client).filter(|client| !client.is_unspecified());
        Some(Key {
            connection: row.connection?,
            time: row.time,
            client: client.map(|client| IpAddr::V6(client).to_canonical()),
            request: row.request.map(NonZeroU64::get),
        })
    }

    /// The access entry of an error entry's request.
    pub fn access_of(&self, index: u32) -> Option<Entry<'_>> {
        let row = self.rows.get(index as usize)?;
        let leg = self.settings.get(row.setting as usize)?.leg;
        let found = self.accesses.find(&self.key(row)?, leg == Leg::Client)?;
        let error_shown = row.time.0.checked_mul(SECOND)?;
        Some(Entry {
            raw: found.raw,
            file: self.files.get(found.file as usize)?,
            line: found.line.into(),
            // Both logs show one clock.
            time: self.instant(index)?.plus(found.shown.checked_sub(error_shown)?),
            format: self.accesses.format(),
        })
    }

    /// Ends a file. An error says what is odd about it, in words.
    pub fn end_file(&mut self, counts: &Counts) -> Result<(), Error> {
        if let Some(why) = counts.complaint() {
            let why = why.to_owned();
            return Err(Error::Log { log: "error_log", path: self.path(), why });
        }
        self.left_out("error_log", self.dropped)
    }

    /// Ends an access log. An error says what is odd about it, in words.
    pub fn end_access_file(&mut self, complaint: Option<String>) -> Result<(), Error> {
        if let Some(why) = complaint {
            return Err(Error::Log { log: "access_log", path: self.path(), why });
        }
        self.left_out("access_log", self.accesses.dropped())
    }

    fn path(&self) -> String {
        self.files.get(self.file as usize).map(|path| path.to_string()).unwrap_or_default()
    }

    /// An error if entries were left out.
    fn left_out(&self, log: &'static str, dropped: u64) -> Result<(), Error> {
        if dropped > 0 {
            let why = format!(
                "{} entries are left out; only the first {} are used: give the part of the \
                 log that is about the time of the capture",
                dropped,
                limits::LOG_ENTRIES
            );
            return Err(Error::Log { log, path: self.path(), why });
        }
        Ok(())
    }

    /// Entries; they are numbered from 0.
    pub fn count(&self) -> u32 {
        self.rows.len() as u32
    }

    /// What is known of an entry without its text.
    pub fn kept(&self, index: u32) -> Option<Kept> {
        let row = self.rows.get(index as usize)?;
        let setting = self.settings.get(row.setting as usize)?;
        let client = Some(row.client).filter(|client| !client.is_unspecified());
        Some(Kept {
            file: setting.file,
            line: row.line,
            time: row.time,
            pid: setting.pid,
            connection: row.connection.map(NonZeroU64::get),
            traits: Traits {
                instant: self.instant(index),
                leg: setting.leg,
                by: setting.by,
                shows: setting.shows,
                phases: setting.phases,
                client: client.map(|client| IpAddr::V6(client).to_canonical()),
                port: self.ports.get(index as usize).copied().filter(|&port| port != 0),
                listen_port: setting.listen_port,
                upstream: setting.upstream,
                request: row.request.map(NonZeroU64::get),
                passed: row.passed.map(NonZeroU64::get),
                host: setting.host,
            },
        })
    }

    /// An entry with its text, if it has an instant.
    pub fn entry(&self, index: u32) -> Option<Entry<'_>> {
        let row = self.rows.get(index as usize)?;
        Some(Entry {
            raw: self.raw(index)?,
            file: self.file(index)?,
            line: row.line.into(),
            time: self.instant(index)?,
            format: None,
        })
    }

    /// Paths of the files, by number.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|path| &**path)
    }

    /// An entry as it stands in its file, whether or not its time exists.
    pub fn raw(&self, index: u32) -> Option<Box<[u8]>> {
        let row = self.rows.get(index as usize)?;
        let raw = self.texts.read(row.text, |bytes| {
            let (len, text) = bytes.split_first_chunk()?;
            text.get(..u16::from_le_bytes(*len).into()).map(Box::from)
        });
        raw.flatten()
    }

    /// The file that holds an entry.
    pub fn file(&self, index: u32) -> Option<&str> {
        let row = self.rows.get(index as usize)?;
        let setting = self.settings.get(row.setting as usize)?;
        self.files.get(setting.file as usize).map(|path| &**path)
    }

    /// What the log's clock showed at an instant.
    pub fn shown(&self, instant: CaptureTime) -> LogTime {
        let after = self.by_time.partition_point(|&entry| self.instant(entry) <= Some(instant));
        let nearest = self.by_time.get(after.saturating_sub(1));
        self.clock.shown(nearest.copied().unwrap_or(0), instant)
    }

    /// Entries that were written between two instants, both included, and can be about a
    /// stream with this request, or with one that is not readable. Some come twice.
    pub fn between(
        &self,
        request: Option<u64>,
        from: CaptureTime,
        to: CaptureTime,
    ) -> impl Iterator<Item = u32> + '_ {
        let none = || self.slice(&[], from, to, |_| Ordering::Equal);
        let by_request = |wanted: Option<NonZeroU64>| {
            self.slice(&self.by_request, from, to, move |row| row.request.cmp(&wanted))
        };
        let by_passed = |wanted: Option<NonZeroU64>| {
            self.slice(&self.by_passed, from, to, move |row| row.passed.cmp(&wanted))
        };
        let slices = match request.map(NonZeroU64::new) {
            Some(wanted) => {
                [by_request(wanted), by_passed(wanted), by_request(None), by_passed(None)]
            }
            None => {
                let all = self.slice(&self.by_time, from, to, |_| Ordering::Equal);
                [all, none(), none(), none()]
            }
        };
        slices.into_iter().flatten().copied()
    }

    /// The part of an index that one request and a time have.
    fn slice<'a>(
        &self,
        index: &'a [u32],
        from: CaptureTime,
        to: CaptureTime,
        request: impl Fn(&Row) -> Ordering,
    ) -> &'a [u32] {
        let place = |entry: u32| {
            let row = self.rows.get(entry as usize);
            (row.map_or(Ordering::Equal, &request), self.instant(entry))
        };
        let start = index.partition_point(|&e| place(e) < (Ordering::Equal, Some(from)));
        let rest = &index[start..];
        &rest[..rest.partition_point(|&e| place(e) <= (Ordering::Equal, Some(to)))]
    }

    /// When an entry was written, on the capture's clock.
    fn instant(&self, entry: u32) -> Option<CaptureTime> {
        let run = self.shifts.partition_point(|&(first, _)| first <= entry).checked_sub(1)?;
        let seconds = self.rows.get(entry as usize)?.time.0;
        Some(CaptureTime(seconds.checked_mul(SECOND)?.checked_add(self.shifts[run].1?)?))
    }

    /// Puts the entries into order, by what the log's clock is taken to be.
    pub fn index(&mut self) {
        self.rows.shrink_to_fit();
        self.shifts.clear();
        let mut last = None;
        for (entry, row) in (0u32..).zip(&self.rows) {
            // The zone is asked once for each second in which entries were written.
            let shift = match last {
                Some((time, shift)) if time == row.time && !self.clock.turns(entry) => shift,
                _ => self.clock.shift(entry, row.time),
            };
            last = Some((row.time, shift));
            if self.shifts.last().is_none_or(|&(_, other)| other != shift) {
                self.shifts.push((entry, shift));
            }
        }
        let mut by_time: Vec<u32> =
            (0..self.count()).filter(|&entry| self.instant(entry).is_some()).collect();
        by_time.sort_by_cached_key(|&entry| self.instant(entry));
        self.by_request = self.of_leg(&by_time, Leg::Client, |row| row.request);
        self.by_passed = self.of_leg(&by_time, Leg::Upstream, |row| row.passed);
        self.by_time = by_time;
        self.join();
    }

    /// Finds what access entries tell of the connections of error entries.
    fn join(&mut self) {
        self.ports.clear();
        if self.accesses.count() == 0 {
            return;
        }
        let mut accesses = std::mem::take(&mut self.accesses);
        let keys = || self.rows.iter().map(|row| self.key(row));
        let given = self.rows.first().and_then(|row| self.clock.ahead(row.time));
        accesses.index(given, keys().flatten());
        let ports = keys().map(|key| accesses.port(&key?));
        self.ports = ports.map(Option::unwrap_or_default).collect();
        self.accesses = accesses;
    }

    /// Those of these entries that can be about a leg, by what they say of its request.
    fn of_leg(
        &self,
        entries: &[u32],
        leg: Leg,
        request: impl Fn(&Row) -> Option<NonZeroU64>,
    ) -> Vec<u32> {
        let row = |entry: u32| self.rows.get(entry as usize);
        let is_of_leg = |entry: &&u32| {
            let setting = row(**entry).and_then(|row| self.settings.get(row.setting as usize));
            setting.is_some_and(|setting| legs(setting.leg).contains(&leg))
        };
        let mut index: Vec<u32> = entries.iter().filter(is_of_leg).copied().collect();
        index.shrink_to_fit();
        // Those that are alike stay in the order of time.
        index.sort_by_key(|&entry| row(entry).and_then(&request));
        index
    }
}

fn address(text: &[u8]) -> Option<IpAddr> {
    let address: IpAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
    // A socket that listens on both families shows IPv4 clients as mapped addresses.
    Some(address.to_canonical())
}

fn listen_port(server: &[u8]) -> Option<u16> {
    let address: SocketAddr = std::str::from_utf8(server).ok()?.parse().ok()?;
    Some(address.port())
}
