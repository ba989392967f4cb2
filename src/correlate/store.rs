// SPDX-License-Identifier: GPL-2.0-or-later
//! The log entries that are kept: those about the end of a connection.
//!
//! An entry is kept as it stands in the file, packed, and beside it what the matcher compares,
//! in a shape that is small and cheap to compare: addresses as numbers, long texts as hashes,
//! and what many entries have in common once for all of them. Matching unpacks nothing.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU64;

use crate::archive::{Archive, Record};
use crate::correlate::access::{Access, Accesses, Account, Interest, Joined, Key};
use crate::correlate::agreement::{self, Phases};
use crate::correlate::clock::Clock;
use crate::correlate::fit::legs;
use crate::correlate::numbers::{self, Ended, State};
use crate::error::Error;
use crate::limits;
use crate::nginx::access_log;
use crate::nginx::access_reader::Keeper;
use crate::nginx::error_log::{self, Peer, RequestLine, Upstream};
use crate::nginx::log_format::LogFormat;
use crate::nginx::message::{By, Leg, Shows};
use crate::nginx::reader::{Counts, LineRef};
use crate::tcp::http::host_hash;
use crate::tcp::phase::Phase;
use crate::tcp::segment::Endpoint;
use crate::tcp::stream::request_bit;
use crate::time::{CaptureTime, LogTime, SECOND};

pub use crate::nginx::access_log::AccessEntry;
pub use crate::nginx::error_log::ErrorEntry;
pub use crate::nginx::log_format::Variable;
pub use crate::tcp::http::{request_hash, request_line_hash};

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
    /// The entries as they stand in their files.
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
    /// A [`request_bit`] for each request that upstreams were asked for clients, by process and
    /// the number of the client's connection.
    passed_on: HashMap<(u32, NonZeroU64), u64>,
    /// Processes whose numbers of connections name two of them.
    ambiguous: HashSet<u32>,
    /// Where upstreams were asked, and nginx is not known to listen.
    upstreams: HashSet<Endpoint>,
    /// What access entries tell of each error entry; empty where there is no access log.
    joined: Vec<Joined>,
    /// Access entries that are compared with streams, and what these have to show, in order.
    compared: Vec<(u32, Shows)>,
}

/// Set in the number of an access entry; the rest of it is its place among those.
const ACCESS: u32 = 1 << 31;

/// The place of an access entry among those; `None` for the number of an error entry.
fn access_place(entry: u32) -> Option<u32> {
    (entry & ACCESS != 0).then_some(entry & !ACCESS)
}

/// Whether an entry is one of an access log.
pub fn is_access(entry: u32) -> bool {
    access_place(entry).is_some()
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
    /// nginx had nothing to do with the connection any more, and has forgotten its request.
    is_idle: bool,
    is_held: bool,
    carried: Option<[u64; 2]>,
    /// The client's connection is none of TCP.
    is_http3: bool,
    /// It may have several requests open at once.
    is_http2: bool,
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
    /// The process that wrote it; 0 if that is not known.
    pub pid: u32,
    /// Serial number of the client's connection.
    pub connection: Option<u64>,
    /// What has to fit a stream.
    pub traits: Traits,
}

/// What has to fit a stream. Entries with the same traits fit the same streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Traits {
    /// When nginx wrote it, on the capture's clock; of what its log cuts off of that, the
    /// start. `None` if its zone has no such time.
    pub instant: Option<CaptureTime>,
    /// Nanoseconds that its log cuts off at most.
    pub resolution: i64,
    /// Which connection ended.
    pub leg: Leg,
    /// Who ended it.
    pub by: By,
    /// What a capture holds of that.
    pub shows: Shows,
    /// How far the connection can have come, with this message.
    pub phases: Phases,
    /// nginx had not closed it before.
    pub is_held: bool,
    /// Bytes that its client and its server sent, as nginx counts what it read and wrote.
    pub carried: Option<[u64; 2]>,
    /// Address of the client.
    pub client: Option<IpAddr>,
    /// The client's connection is none of TCP.
    pub is_http3: bool,
    /// Port of the client, from an access entry of the same connection.
    pub port: Option<u16>,
    /// Port that nginx listened on, known only while there is no request.
    pub listen_port: Option<u16>,
    /// Address and port of the upstream.
    pub upstream: Option<SocketAddr>,
    /// [`request_hash`] of the request line.
    pub request: Option<u64>,
    /// A [`request_bit`] for each request of the client's connection that entries about upstreams
    /// name.
    pub asked: u64,
    /// [`request_hash`] of the request as it was passed to the upstream.
    pub passed: Option<u64>,
    /// [`host_hash`] of the Host header.
    pub host: Option<u64>,
    /// What the access log says of the last request of the client's connection.
    pub account: Account,
    /// The instants between which the client waited that an upstream was asked for, where
    /// another entry tells which stream is that client's.
    pub waited: Option<(CaptureTime, CaptureTime)>,
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
            is_idle: entry.action.is_none() && agreement::is_idle(&end),
            is_held: agreement::is_held(&end, &entry),
            carried: error_log::session_bytes(entry.message).map(
                |[received, sent, answered, passed]| match end.leg {
                    Leg::Upstream => [passed, answered],
                    Leg::Client | Leg::Unknown => [received, sent],
                },
            ),
            is_http3: entry.is_http3(),
            is_http2: entry.is_http2(),
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
        // What was sent on a kept-alive connection before it was reset was another request. A
        // connection attempt that nobody answers is a new connection.
        let is_idle_upstream = setting.phases.is_unsent() && setting.shows == Shows::Reset;
        let row = Row {
            time: entry.time,
            request: request
                .filter(|_| !cut_request)
                .map(|line| request_line_hash(line.method, line.target))
                .and_then(NonZeroU64::new),
            passed: passed
                .filter(|_| !cut_upstream && !is_idle_upstream)
                .map(|(method, uri)| request_line_hash(method, uri))
                .and_then(NonZeroU64::new),
            connection: entry.connection.and_then(NonZeroU64::new),
            text: self.texts.add_text(raw),
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

    fn number_of(&mut self, setting: Setting) -> u32 {
        // Entries in a row have much in common.
        let last = self.rows.last().map(|row| row.setting);
        if let Some(last) = last.filter(|&at| self.settings.get(at as usize) == Some(&setting))
        {
            return last;
        }
        *self.setting_numbers.entry(setting).or_insert_with(|| {
            self.settings.push(setting);
            self.settings.len() as u32 - 1
        })
    }

    /// Addresses that entries name as upstreams' and none as nginx's own.
    pub fn upstreams(&self) -> &HashSet<Endpoint> {
        &self.upstreams
    }

    /// Access entries, and what they are good for.
    pub fn accesses(&self) -> &Accesses {
        &self.accesses
    }

    /// Sets the format of access entries.
    pub fn set_access_format(&mut self, format: LogFormat) {
        self.accesses.set_format(format);
    }

    /// Who keeps the entries of an access log that are of interest.
    pub fn access_keeper(&mut self, interest: Interest) -> impl Keeper + '_ {
        self.accesses.want(self.rows.iter().map(|row| key(row, &self.settings)));
        let room = limits::LOG_ENTRIES.saturating_sub(self.rows.len());
        self.accesses.keeper(self.file, room, interest)
    }

    /// What access entries tell of an error entry's connection.
    fn joined(&self, index: u32) -> Joined {
        self.joined.get(index as usize).copied().unwrap_or_default()
    }

    /// The access entry of an error entry's request.
    pub fn access_of(&self, index: u32) -> Option<u32> {
        self.accesses.of_request(self.joined(index)).map(|at| at | ACCESS)
    }

    /// The instants between which nginx had the request of an error entry before it, as the access
    /// log tells.
    pub fn asked_between(&self, index: u32) -> Option<(CaptureTime, CaptureTime)> {
        let key = key(self.rows.get(index as usize)?, &self.settings);
        let (from, to) = self.accesses.asked_between(&key, self.joined(index))?;
        let instant = |ns| CaptureTime(ns).plus(self.clock.skew());
        Some((instant(from), instant(to)))
    }

    /// The access entries of the client's connection that an entry is about, as far as they say
    /// something of an end.
    pub fn accesses_of_connection(
        &self,
        index: u32,
    ) -> impl ExactSizeIterator<Item = u32> + Clone + '_ {
        let of_error = || self.accesses.last_place(self.joined(index));
        let known = access_place(index).or_else(of_error);
        let all = known.map_or(&[][..], |at| self.accesses.telling(at));
        all.iter().map(|at| at | ACCESS)
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

    /// Error entries; they are numbered from 0.
    pub fn count(&self) -> u32 {
        self.rows.len() as u32
    }

    /// The numbers of all entries that are compared with streams.
    pub fn compared(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.count()).chain(self.compared.iter().map(|(at, _)| at | ACCESS))
    }

    /// How many entries are compared with streams.
    pub fn compared_count(&self) -> usize {
        self.rows.len() + self.compared.len()
    }

    /// Whether an access entry says something of an end that packets need not add to.
    pub fn tells(&self, index: u32) -> bool {
        access_place(index).is_some_and(|at| self.accesses.tells(at))
    }

    /// The numbers of the access entries that tell of an end by themselves.
    pub fn telling_accesses(&self) -> impl Iterator<Item = u32> + '_ {
        let all = 0..self.accesses.count() as u32;
        all.filter(|at| self.accesses.tells(*at)).map(|at| at | ACCESS)
    }

    /// What is known of an entry without its text.
    pub fn kept(&self, index: u32) -> Option<Kept> {
        if let Some(at) = access_place(index) {
            return self.kept_access(at);
        }
        let row = self.rows.get(index as usize)?;
        let setting = self.settings.get(row.setting as usize)?;
        let client = Some(row.client).filter(|client| !client.is_unspecified());
        let is_client = setting.leg == Leg::Client;
        let last = self.accesses.last(self.joined(index));
        let of_client = last.filter(|_| is_client);
        Some(Kept {
            file: setting.file,
            line: row.line,
            time: row.time,
            pid: setting.pid,
            connection: self.number(row).map(NonZeroU64::get),
            traits: Traits {
                instant: self.instant(index),
                resolution: SECOND,
                leg: setting.leg,
                by: setting.by,
                shows: setting.shows,
                phases: setting.phases,
                is_held: setting.is_held,
                carried: setting.carried,
                client: client.map(|client| IpAddr::V6(client).to_canonical()),
                is_http3: setting.is_http3,
                port: last.and_then(|access| access.port),
                listen_port: setting.listen_port,
                upstream: setting.upstream,
                request: self.request(index).map(NonZeroU64::get),
                asked: match self.number(row).filter(|_| is_client) {
                    Some(number) => self.passed_on.get(&(setting.pid, number)).copied(),
                    None => None,
                }
                .unwrap_or(0),
                passed: row.passed.map(NonZeroU64::get),
                host: setting.host,
                account: of_client.map(|access| self.account(&access)).unwrap_or_default(),
                waited: None,
            },
        })
    }

    /// What an access entry says of its request, on the capture's clock.
    fn account(&self, access: &Access) -> Account {
        let done = CaptureTime(access.instant).plus(self.clock.skew());
        let began = done.plus(access.resolution - access.took.unwrap_or(0));
        // Where nobody has told how far the clocks are apart, times tell no more than the window;
        // access entries by themselves tell it to half a second.
        let is_known = self.clock.is_known() && !self.rows.is_empty();
        let asked_by = is_known.then(|| began.plus(self.clock.error()));
        Account { asked_by, ..access.account }
    }

    fn kept_access(&self, at: u32) -> Option<Kept> {
        let access = self.accesses.get(at)?;
        let compared = self.compared.binary_search_by_key(&at, |(at, _)| *at).ok();
        let shows = compared.map(|place| self.compared[place].1);
        let shows = shows.or(access.end.map(|end| end.shows)).unwrap_or(Shows::Stays);
        Some(Kept {
            file: access.file,
            line: access.line,
            time: LogTime(access.instant.div_euclid(SECOND)),
            pid: 0,
            connection: access.connection.filter(|_| self.ambiguous.is_empty()),
            traits: Traits {
                instant: self.instant(at | ACCESS),
                resolution: access.resolution,
                leg: Leg::Client,
                by: access.end.map_or(By::Peer, |end| end.by),
                shows,
                phases: agreement::phases_of_access(shows, access.end.as_ref()),
                // nginx reads no more of a connection that it has closed.
                is_held: shows == Shows::ResetOrFin
                    && access.end.is_some_and(|end| end.by == By::Peer),
                carried: None,
                client: access.client,
                is_http3: false,
                port: access.port,
                listen_port: access.server_port,
                upstream: access.upstream,
                request: access.request,
                asked: 0,
                passed: None,
                host: access.host,
                account: self.account(&access),
                waited: None,
            },
        })
    }

    /// What a client asked, as far as an entry or the access log tells.
    fn request(&self, index: u32) -> Option<NonZeroU64> {
        if let Some(at) = access_place(index) {
            return self.accesses.get(at)?.request.and_then(NonZeroU64::new);
        }
        let row = self.rows.get(index as usize)?;
        // nginx forgets the request of a connection that is idle; the access log does not.
        let is_idle = || {
            let setting = self.settings.get(row.setting as usize);
            setting.is_some_and(|setting| setting.is_idle)
        };
        let last = || self.accesses.last(self.joined(index))?.request;
        row.request.or_else(|| is_idle().then(last).flatten().and_then(NonZeroU64::new))
    }

    /// The request as it was passed to the upstream, as far as an entry tells.
    fn passed(&self, index: u32) -> Option<NonZeroU64> {
        self.rows.get(index as usize)?.passed
    }

    /// An entry with its text, if it has an instant.
    pub fn entry(&self, index: u32) -> Option<Entry<'_>> {
        Some(Entry {
            raw: self.raw(index)?,
            file: self.file(index)?,
            line: self.line(index)?.into(),
            time: self.instant(index)?,
            format: self.accesses.format().filter(|_| is_access(index)),
        })
    }

    /// The parts of an access entry that stands like this in its file.
    pub fn access_parts<'e>(&self, raw: &'e [u8]) -> Option<Parts<'e>> {
        let parts = access_log::parse(self.accesses.format()?, raw, &mut false);
        parts.map(Box::new).map(Parts::Access)
    }

    fn line(&self, index: u32) -> Option<u32> {
        match access_place(index) {
            Some(at) => Some(self.accesses.get(at)?.line),
            None => Some(self.rows.get(index as usize)?.line),
        }
    }

    /// Paths of the files, by number.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|path| &**path)
    }

    /// An entry as it stands in its file, whether or not its time exists.
    pub fn raw(&self, index: u32) -> Option<Box<[u8]>> {
        if let Some(at) = access_place(index) {
            return self.accesses.raw(at);
        }
        let row = self.rows.get(index as usize)?;
        self.texts.text(row.text)
    }

    /// The file that holds an entry.
    pub fn file(&self, index: u32) -> Option<&str> {
        let file = match access_place(index) {
            Some(at) => self.accesses.get(at)?.file,
            None => {
                let row = self.rows.get(index as usize)?;
                self.settings.get(row.setting as usize)?.file
            }
        };
        self.files.get(file as usize).map(|path| &**path)
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
            self.slice(&self.by_request, from, to, move |entry| {
                self.request(entry).cmp(&wanted)
            })
        };
        let by_passed = |wanted: Option<NonZeroU64>| {
            self.slice(&self.by_passed, from, to, move |entry| self.passed(entry).cmp(&wanted))
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
        request: impl Fn(u32) -> Ordering,
    ) -> &'a [u32] {
        let place = |entry: u32| (request(entry), self.instant(entry));
        let start = index.partition_point(|&e| place(e) < (Ordering::Equal, Some(from)));
        let rest = &index[start..];
        &rest[..rest.partition_point(|&e| place(e) <= (Ordering::Equal, Some(to)))]
    }

    /// When an entry was written, on the capture's clock.
    pub(super) fn instant(&self, entry: u32) -> Option<CaptureTime> {
        if let Some(at) = access_place(entry) {
            let instant = CaptureTime(self.accesses.get(at)?.instant);
            return Some(instant.plus(self.clock.skew()));
        }
        let run = self.shifts.partition_point(|&(first, _)| first <= entry).checked_sub(1)?;
        let seconds = self.rows.get(entry as usize)?.time.0;
        Some(CaptureTime(seconds.checked_mul(SECOND)?.checked_add(self.shifts[run].1?)?))
    }

    /// Puts the entries into order, by what the log's clock is taken to be.
    pub fn index(&mut self) {
        self.rows.shrink_to_fit();
        self.note_ambiguous();
        self.note_passed_on();
        self.note_upstreams();
        self.join();
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
            self.compared().filter(|&entry| self.instant(entry).is_some()).collect();
        by_time.sort_by_cached_key(|&entry| self.instant(entry));
        self.by_request = self.of_leg(&by_time, Leg::Client, |entry| self.request(entry));
        self.by_passed = self.of_leg(&by_time, Leg::Upstream, |entry| self.passed(entry));
        self.by_time = by_time;
    }

    fn note_ambiguous(&mut self) {
        let ended = |row: &Row| {
            let setting = self.settings.get(row.setting as usize)?;
            let is_end = setting.leg == Leg::Client
                && !matches!(setting.shows, Shows::NoPacket | Shows::NoTcp | Shows::Stays);
            let is_unasked = setting.phases.contains(Phase::BeforeRequest)
                && !setting.phases.contains(Phase::AfterResponse);
            let state = match () {
                () if !is_end => return None,
                () if setting.is_idle => State::Idle,
                () if is_unasked => State::Unasked,
                () => State::Asked(row.request.filter(|_| !setting.is_http2)),
            };
            let (process, number) = (setting.pid, row.connection?);
            Some(Ended { process, number, time: row.time, state })
        };
        self.ambiguous = numbers::ambiguous(self.rows.iter().filter_map(ended).collect());
    }

    /// The number of the connection that an entry is about, where it names one.
    fn number(&self, row: &Row) -> Option<NonZeroU64> {
        let pid = self.settings.get(row.setting as usize)?.pid;
        row.connection.filter(|_| !self.ambiguous.contains(&pid))
    }

    /// Notes which requests clients had sent, as entries about upstreams tell.
    fn note_passed_on(&mut self) {
        self.passed_on.clear();
        for row in &self.rows {
            let of_upstream = self.settings.get(row.setting as usize);
            let of_upstream = of_upstream.filter(|setting| setting.leg == Leg::Upstream);
            let asked = self.number(row).zip(row.request);
            if let Some((setting, (number, request))) = of_upstream.zip(asked) {
                *self.passed_on.entry((setting.pid, number)).or_default() |=
                    1 << request_bit(request.get());
            }
        }
    }

    fn note_upstreams(&mut self) {
        let errors =
            self.settings.iter().map(|setting| (setting.upstream, setting.listen_port));
        let named: Vec<_> = errors.chain(self.accesses.addresses()).collect();
        let listens: HashSet<u16> = named.iter().filter_map(|named| named.1).collect();
        let upstreams = named.iter().filter_map(|named| named.0);
        let upstreams = upstreams.filter(|upstream| !listens.contains(&upstream.port()));
        self.upstreams = upstreams
            .map(|upstream| Endpoint {
                addr: Some(upstream.ip().to_canonical()),
                port: upstream.port(),
            })
            .collect();
    }

    /// Finds what access entries tell of error entries, and which of them stand for themselves.
    fn join(&mut self) {
        self.joined.clear();
        self.compared.clear();
        if self.accesses.count() == 0 {
            return;
        }
        let keys = || self.rows.iter().map(|row| key(row, &self.settings));
        let mut accesses = std::mem::take(&mut self.accesses);
        accesses.want(keys());
        let given = self.rows.first().and_then(|row| self.clock.given_ahead(row.time));
        accesses.index(given, keys());
        // By themselves, access entries bear instants, which are in UTC.
        let utc = self.rows.is_empty().then_some(0);
        self.clock.set_told(accesses.ahead().or(utc));
        // Entries of several connections that one access entry would do for are told by none.
        let mut claimed: HashMap<u32, Option<NonZeroU64>> = HashMap::new();
        let mut contested: HashSet<u32> = HashSet::new();
        let by_request: Vec<Option<Joined>> =
            keys().map(|key| accesses.join_by_request(&key)).collect();
        for (joined, row) in by_request.iter().zip(&self.rows) {
            let Some(at) = joined.and_then(|joined| accesses.of_request(joined)) else {
                continue;
            };
            if *claimed.entry(at).or_insert(row.connection) != row.connection {
                contested.insert(at);
            }
        }
        let mut is_told = vec![false; accesses.count()];
        let joined = self.rows.iter().zip(by_request).map(|(row, by_request)| {
            let key = key(row, &self.settings);
            let is_client = key.leg == Leg::Client;
            let sole = by_request.filter(|&joined| {
                accesses.of_request(joined).is_some_and(|at| !contested.contains(&at))
            });
            let by_number = self.number(row).map(|_| accesses.join(&key, is_client));
            let by_number = by_number.filter(|joined| joined.is_some());
            let joined = by_number.or(sole).unwrap_or_default();
            if let Some(last) = accesses.last_place(joined).filter(|_| is_client) {
                is_told[last as usize] = true;
            }
            joined
        });
        self.joined = joined.collect();
        self.compared = accesses.compared(&is_told);
        self.accesses = accesses;
    }

    /// Those of these entries that can be about a leg, by what they say of its request.
    fn of_leg(
        &self,
        entries: &[u32],
        leg: Leg,
        request: impl Fn(u32) -> Option<NonZeroU64>,
    ) -> Vec<u32> {
        let leg_of = |entry: u32| match access_place(entry) {
            Some(_) => Some(Leg::Client),
            None => {
                let row = self.rows.get(entry as usize)?;
                self.settings.get(row.setting as usize).map(|setting| setting.leg)
            }
        };
        let is_of_leg =
            |entry: &&u32| leg_of(**entry).is_some_and(|own| legs(own).contains(&leg));
        let mut index: Vec<u32> = entries.iter().filter(is_of_leg).copied().collect();
        index.shrink_to_fit();
        // Those that are alike stay in the order of time.
        index.sort_by_key(|&entry| request(entry));
        index
    }
}

/// What an error entry tells of its connection.
fn key(row: &Row, settings: &[Setting]) -> Key {
    let client = Some(row.client).filter(|client| !client.is_unspecified());
    let setting = settings.get(row.setting as usize);
    Key {
        connection: row.connection,
        time: row.time,
        client: client.map(|client| IpAddr::V6(client).to_canonical()),
        request: row.request.map(NonZeroU64::get),
        leg: setting.map_or(Leg::Unknown, |setting| setting.leg),
        phases: setting.map_or(Phases::ANY, |setting| setting.phases),
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
