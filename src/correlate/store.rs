// SPDX-License-Identifier: GPL-2.0-or-later
//! The log entries that are kept: those about the end of a connection.
//!
//! An entry is kept as it stands in the file, and beside it what the matcher compares, in a
//! shape that is cheap to compare: addresses as numbers, long texts as hashes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use crate::correlate::agreement::{self, Phases};
use crate::correlate::fit::legs;
use crate::error::Error;
use crate::limits;
use crate::nginx::error_log::{self, ErrorEntry, Peer, RequestLine, Upstream};
use crate::nginx::message::{By, Leg, Shows};
use crate::nginx::reader::{Counts, LineRef};
use crate::tcp::http::host_hash;
use crate::time::{CaptureTime, LogTime, Zone};

/// Entries of all logs, in the order in which they were read.
#[derive(Debug, Default)]
pub struct Store {
    zone: Zone,
    files: Vec<Box<str>>,
    kept: Vec<Kept>,
    /// The entries as they stand in their files, back to back.
    text: Vec<u8>,
    /// Entries that were not kept because there are too many.
    dropped: u64,
    /// Entries in the order of time: all of them, and by the request of the stream that they
    /// can be about, where `None` stands for those that may be about any.
    by_time: Vec<(CaptureTime, u32)>,
    by_request: HashMap<Option<u64>, Vec<(CaptureTime, u32)>>,
    last_instant: Option<(LogTime, Option<CaptureTime>)>,
}

/// One entry, as it is kept.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    text: (usize, u32),
    /// Which file, counted in the order of reading.
    pub file: u32,
    /// Number of the entry's line, from 1.
    pub line: u64,
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

/// One entry, taken apart. Texts are as in the file, not escaped.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// The whole entry.
    pub raw: &'a [u8],
    /// The file that holds it.
    pub file: &'a str,
    /// Number of its line, from 1.
    pub line: u64,
    /// Its time on the capture's clock.
    pub time: CaptureTime,
    /// Its parts.
    pub parts: ErrorEntry<'a>,
}

/// A hash of `METHOD URI`, as far as the machine that follows streams keeps them.
pub fn request_hash(request: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    request[..request.len().min(limits::REQUEST)].hash(&mut hasher);
    hasher.finish()
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
    /// Sets the zone of the entries' times.
    pub fn set_zone(&mut self, zone: Zone) {
        self.zone = zone;
    }

    /// The entries that follow belong to this file.
    pub fn begin_file(&mut self, path: &str) {
        self.files.push(path.into());
    }

    /// Keeps an entry.
    pub fn keep(&mut self, line: LineRef<'_>) {
        if self.kept.len() >= limits::LOG_ENTRIES {
            self.dropped += 1;
            return;
        }
        let start = self.text.len();
        self.text.extend_from_slice(line.raw);
        let LineRef { number, raw, entry, end } = line;
        let upstream = entry.upstream.and_then(Upstream::parse);
        let request = entry.request.and_then(RequestLine::parse);
        let passed = upstream.zip(request).and_then(passed_on);
        // A part that the line's end cuts can't be compared as a whole; it is the last one.
        let cut_request = entry.truncated && entry.upstream.is_none() && entry.host.is_none();
        let cut_upstream = entry.truncated && entry.host.is_none();
        let instant = self.instant(entry.time);
        let traits = Traits {
            instant,
            leg: end.leg,
            by: end.by,
            shows: end.shows,
            phases: agreement::phases(&end, entry.action),
            client: end
                .peer
                .filter(|_| end.leg == Leg::Client)
                .or(entry.client)
                .and_then(address),
            listen_port: entry.server.and_then(listen_port),
            upstream: upstream.and_then(|upstream| match upstream.peer {
                Peer::Address(address) => Some(address),
                Peer::Unix(_) | Peer::Name(_) => None,
            }),
            request: request
                .filter(|_| !cut_request)
                .map(|line| request_hash(&[line.method, b" ", line.target].concat())),
            passed: passed
                .filter(|_| !cut_upstream)
                .map(|(method, uri)| request_hash(&[method, b" ", uri].concat())),
            host: entry.host.filter(|_| !entry.truncated).map(host_hash),
        };
        self.kept.push(Kept {
            text: (start, raw.len() as u32),
            file: self.files.len().saturating_sub(1) as u32,
            line: number,
            pid: entry.pid,
            connection: entry.connection,
            traits,
        });
    }

    /// Ends a file. An error says what is odd about it, in words.
    pub fn end_file(&mut self, counts: &Counts) -> Result<(), Error> {
        self.by_time.clear();
        self.by_request.clear();
        for (index, kept) in (0u32..).zip(&self.kept) {
            let Some(instant) = kept.traits.instant else { continue };
            self.by_time.push((instant, index));
            let legs = legs(kept.traits.leg).iter();
            let mut requests: Vec<_> = legs.map(|&leg| kept.traits.request_on(leg)).collect();
            requests.dedup();
            for request in requests {
                self.by_request.entry(request).or_default().push((instant, index));
            }
        }
        self.by_time.sort_unstable();
        self.by_request.values_mut().for_each(|entries| entries.sort_unstable());
        let path = || self.files.last().map(|path| path.to_string()).unwrap_or_default();
        if let Some(why) = counts.complaint() {
            return Err(Error::Log { path: path(), why: why.to_owned() });
        }
        if self.dropped > 0 {
            let why = format!(
                "{} entries are left out; only the first {} are used: give the part of the \
                 log that is about the time of the capture",
                self.dropped,
                limits::LOG_ENTRIES
            );
            return Err(Error::Log { path: path(), why });
        }
        Ok(())
    }

    /// What the matcher compares of all entries.
    pub fn kept(&self) -> &[Kept] {
        &self.kept
    }

    /// An entry, taken apart.
    pub fn entry(&self, index: u32) -> Option<Entry<'_>> {
        let kept = self.kept.get(index as usize)?;
        let (start, len) = kept.text;
        let raw = self.text.get(start..start + len as usize)?;
        Some(Entry {
            raw,
            file: self.files.get(kept.file as usize)?,
            line: kept.line,
            time: kept.traits.instant?,
            parts: error_log::parse(raw).ok()?,
        })
    }

    /// Entries that were written between two instants, both included, and can be about a
    /// stream with this request, or with one that is not readable.
    pub fn between(
        &self,
        request: Option<u64>,
        from: CaptureTime,
        to: CaptureTime,
    ) -> impl Iterator<Item = u32> + '_ {
        let series = match request {
            Some(_) => [self.by_request.get(&request), self.by_request.get(&None)],
            None => [Some(&self.by_time), None],
        };
        series.into_iter().flatten().flat_map(move |entries| {
            let start = entries.partition_point(|&(time, _)| time < from);
            let rest = entries.get(start..).unwrap_or_default();
            rest.iter().take_while(move |&&(time, _)| time <= to).map(|&(_, entry)| entry)
        })
    }

    /// The zone is asked once for each second in which entries were written.
    fn instant(&mut self, time: LogTime) -> Option<CaptureTime> {
        match self.last_instant {
            Some((last, instant)) if last == time => instant,
            _ => {
                let instant = self.zone.instant(time);
                self.last_instant = Some((time, instant));
                instant
            }
        }
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
