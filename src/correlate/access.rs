// SPDX-License-Identifier: GPL-2.0-or-later
//! The access entries that are kept: those of connections that the error log tells something
//! about.
//!
//! Both logs count connections alike (`*N` and `$connection`), so an access entry brings to an
//! error entry what that has not: the client's port, which singles out the stream, and what
//! became of the request. Numbers begin anew when nginx is started anew, so one number is taken
//! for one connection only where all its entries within [`limits::CONNECTION_TIME`] name one
//! client and port.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU64;

use crate::archive::{Archive, Record};
use crate::correlate::store::request_hash;
use crate::limits;
use crate::nginx::access_reader::{AccessLine, Keeper};
use crate::nginx::log_format::LogFormat;
use crate::time::{LogTime, SECOND};

/// Zones are whole quarters of an hour from UTC.
const QUARTER: i64 = 900;

/// Seconds that an error entry and the access entry of its request lie apart at most to have a
/// say in what the zone of the error log is.
const NEAR: i64 = 30;

/// Access entries, in the order of connections, and then of time.
#[derive(Debug, Default)]
pub struct Accesses {
    format: Option<LogFormat>,
    rows: Vec<Row>,
    texts: Archive,
    /// Numbers of the connections that error entries are about, in order.
    wanted: Vec<NonZeroU64>,
    /// How many error entries are in it.
    noted: usize,
    /// Seconds by which the error log's clock is ahead of UTC, where entries do not tell.
    zone: Option<i64>,
    /// The times of all entries can be compared with those of the error log.
    is_timed: bool,
    dropped: u64,
}

/// One entry.
#[derive(Clone, Copy, Debug)]
struct Row {
    connection: NonZeroU64,
    /// Nanoseconds since the Unix epoch on the clock of the nginx host.
    instant: i64,
    request: Option<NonZeroU64>,
    /// Unspecified if it is not known.
    client: Ipv6Addr,
    text: Record,
    file: u32,
    line: u32,
    /// Number of the run of entries that name this connection, client and port.
    run: u32,
    /// 0 if it is not known.
    port: u16,
    /// Quarters of an hour by which nginx's clock was ahead of UTC.
    zone: Option<i8>,
}

/// What an error entry tells of its connection.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Serial number of the connection.
    pub connection: NonZeroU64,
    /// When the entry was written.
    pub time: LogTime,
    /// Address of the client.
    pub client: Option<IpAddr>,
    /// [`request_hash`] of the request line.
    pub request: Option<u64>,
}

/// An access entry, as it stands in its file.
#[derive(Debug)]
pub(super) struct Found {
    pub raw: Box<[u8]>,
    pub file: u32,
    pub line: u32,
    /// Nanoseconds that the error log's clock showed when it was written, as if it were UTC.
    pub shown: i64,
}

impl Accesses {
    /// Sets the format of entries, before the first of them.
    pub fn set_format(&mut self, format: LogFormat) {
        self.format = Some(format);
    }

    /// The format of entries.
    pub fn format(&self) -> Option<&LogFormat> {
        self.format.as_ref()
    }

    /// How many entries there are.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// Entries that were not kept because there are too many.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Notes the connections of all error entries, which come in the order of reading.
    pub fn want(&mut self, connections: impl ExactSizeIterator<Item = Option<NonZeroU64>>) {
        let count = connections.len();
        if count == self.noted {
            return;
        }
        self.wanted.extend(connections.skip(self.noted).flatten());
        self.noted = count;
        self.wanted.sort();
        self.wanted.dedup();
        self.wanted.shrink_to_fit();
    }

    fn is_wanted(&self, connection: NonZeroU64) -> bool {
        self.wanted.binary_search(&connection).is_ok()
    }

    /// Who keeps the entries of a file, where there is room for so many, and nobody asks for
    /// what was written before an instant.
    pub fn keeper(
        &mut self,
        file: u32,
        room: usize,
        earliest: Option<i64>,
    ) -> impl Keeper + '_ {
        Wanted { accesses: self, file, room, earliest }
    }

    /// Puts the entries into order, and finds out by how many seconds the error log's clock is
    /// ahead of UTC, if that is not `given`.
    pub fn index(&mut self, given: Option<i64>, errors: impl Iterator<Item = Key>) {
        self.rows.shrink_to_fit();
        self.rows.sort_by_key(|row| (row.connection, row.instant));
        let mut run = 0;
        let mut last = None;
        for row in &mut self.rows {
            let this = Some((row.connection, row.client, row.port));
            run += u32::from(last != this);
            last = this;
            row.run = run;
        }
        let tell = self.rows.iter().all(|row| row.zone.is_some());
        self.zone = match tell {
            true => None,
            false => given.or_else(|| self.told_zone(errors)),
        };
        self.is_timed = tell || self.zone.is_some();
    }

    /// The zone in which most error entries were written just before or after the last access
    /// entry of their connection.
    fn told_zone(&self, errors: impl Iterator<Item = Key>) -> Option<i64> {
        let mut votes: HashMap<i64, u32> = HashMap::new();
        for key in errors {
            let Some(row) = self.of_connection(key.connection).last() else { continue };
            let ahead = key.time.0.saturating_sub(row.instant.div_euclid(SECOND));
            let quarters = (ahead + QUARTER / 2).div_euclid(QUARTER);
            if (ahead - quarters * QUARTER).abs() <= NEAR {
                *votes.entry(quarters * QUARTER).or_default() += 1;
            }
        }
        let best = votes.into_iter().max_by_key(|&(zone, votes)| (votes, -zone.abs(), zone));
        best.map(|(zone, _)| zone)
    }

    fn of_connection(&self, connection: NonZeroU64) -> &[Row] {
        let from = self.rows.partition_point(|row| row.connection < connection);
        let rest = self.rows.get(from..).unwrap_or_default();
        let len = rest.partition_point(|row| row.connection == connection);
        rest.get(..len).unwrap_or_default()
    }

    /// Nanoseconds that the error log's clock showed, as if it were UTC.
    fn shown(&self, row: &Row) -> Option<i64> {
        let ahead = row.zone.map(|quarters| i64::from(quarters) * QUARTER).or(self.zone)?;
        row.instant.checked_add(ahead * SECOND)
    }

    /// The entries of an error entry's connection; none where they disagree on who it is.
    fn same(&self, key: &Key) -> &[Row] {
        let all = self.of_connection(key.connection);
        let time = key.time.0.saturating_mul(SECOND);
        let reach = limits::CONNECTION_TIME * SECOND;
        // What has no time that could be compared is not used.
        if !self.is_timed {
            return &[];
        }
        let is_before = |row: &Row, time: i64| self.shown(row).is_some_and(|at| at < time);
        let from = all.partition_point(|row| is_before(row, time.saturating_sub(reach)));
        let rest = all.get(from..).unwrap_or_default();
        let len = rest.partition_point(|row| is_before(row, time.saturating_add(reach)));
        let near = rest.get(..len).unwrap_or_default();
        let (Some(first), Some(last)) = (near.first(), near.last()) else { return &[] };
        let client = Some(IpAddr::V6(first.client).to_canonical())
            .filter(|_| !first.client.is_unspecified());
        let differs = client.zip(key.client).is_some_and(|(one, other)| one != other);
        match first.run == last.run && !differs {
            true => near,
            false => &[],
        }
    }

    /// The client's port on an error entry's connection.
    pub fn port(&self, key: &Key) -> Option<u16> {
        self.same(key).first().map(|row| row.port).filter(|port| *port != 0)
    }

    /// The access entry of an error entry's request; where the error entry has none and the
    /// connection is `whole`ly the client's, the one that is nearest.
    pub(super) fn find(&self, key: &Key, whole: bool) -> Option<Found> {
        let rows = self.same(key);
        let time = key.time.0.checked_mul(SECOND)?;
        let at = rows.partition_point(|row| self.shown(row).is_some_and(|at| at < time));
        let (before, after) = rows.split_at_checked(at)?;
        // nginx writes the access entry when it is done with the request, so after the other.
        let mut near = after
            .iter()
            .take(limits::OPEN_REQUESTS)
            .chain(before.iter().rev().take(limits::OPEN_REQUESTS));
        let row = match key.request {
            Some(request) => near.find(|row| row.request.map(NonZeroU64::get) == Some(request)),
            None if whole => {
                let soon = |row: &&Row| {
                    self.shown(row).is_some_and(|at| at < time.saturating_add(SECOND))
                };
                after.first().filter(soon).or(before.last())
            }
            None => None,
        }?;
        let raw = self.texts.read(row.text, |bytes| {
            let (len, text) = bytes.split_first_chunk()?;
            text.get(..u16::from_le_bytes(*len).into()).map(Box::from)
        });
        Some(Found { raw: raw??, file: row.file, line: row.line, shown: self.shown(row)? })
    }
}

/// Keeps the entries of connections that the error log tells something about.
struct Wanted<'s> {
    accesses: &'s mut Accesses,
    file: u32,
    /// How many entries there may be in all.
    room: usize,
    earliest: Option<i64>,
}

impl Keeper for Wanted<'_> {
    /// A number of the line is that of such a connection. Where in a line it stands is not
    /// known before the line is taken apart, which takes a hundred times as long.
    fn may_want(&mut self, line: &[u8]) -> bool {
        let numbers = line.split(|byte| !byte.is_ascii_digit()).filter(|text| !text.is_empty());
        let mut numbers =
            numbers.filter_map(|text| std::str::from_utf8(text).ok()?.parse().ok());
        numbers.any(|number| self.accesses.is_wanted(number))
    }

    fn keep(&mut self, line: AccessLine<'_>) {
        let AccessLine { number, entry } = line;
        let Some(connection) = entry.connection().and_then(NonZeroU64::new) else { return };
        let Some(stamp) = entry.time() else { return };
        let is_old = self.earliest.is_some_and(|earliest| stamp.instant < earliest);
        if is_old || !self.accesses.is_wanted(connection) {
            return;
        }
        if self.accesses.rows.len() >= self.room {
            self.accesses.dropped += 1;
            return;
        }
        let raw = entry.raw.get(..usize::from(u16::MAX)).unwrap_or(entry.raw);
        let request = entry.method().zip(entry.target());
        let row = Row {
            connection,
            instant: stamp.instant,
            request: request
                .map(|(method, target)| request_hash(&[&*method, b" ", &*target].concat()))
                .and_then(NonZeroU64::new),
            client: match entry.client_addr().map(|client| client.to_canonical()) {
                Some(IpAddr::V4(v4)) => v4.to_ipv6_mapped(),
                Some(IpAddr::V6(v6)) => v6,
                None => Ipv6Addr::UNSPECIFIED,
            },
            text: self.accesses.texts.add(&[&(raw.len() as u16).to_le_bytes(), raw].concat()),
            file: self.file,
            line: u32::try_from(number).unwrap_or(u32::MAX),
            run: 0,
            port: entry.peer_port().unwrap_or(0),
            zone: entry
                .utc_offset()
                .and_then(|zone| i8::try_from(i64::from(zone) / QUARTER).ok()),
        };
        self.accesses.rows.push(row);
    }
}
