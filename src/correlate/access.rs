// SPDX-License-Identifier: GPL-2.0-or-later
//! The access entries that are kept: those that tell of an end by themselves, and those of
//! connections that the error log tells something about.
//!
//! Both logs count connections alike (`*N` and `$connection`), so an access entry brings to an
//! error entry what that has not: the client's port, which singles out the stream, how many
//! requests the connection had, and what became of each. Numbers begin anew when nginx is started
//! anew, so one number is taken for one connection only where all its entries within
//! [`limits::CONNECTION_TIME`] name one client and port.
//!
//! An access log without those numbers brings the same to an error entry where it has one entry
//! only of that client's request at that time that agrees with it, and the error log speaks of no
//! other connection that would do.
//!
//! An entry of a connection of which the error log says nothing stands for itself. Of a known
//! connection, only the last entry is compared with streams: what a stream keeps is its last
//! exchange.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU64;

use crate::archive::{Archive, Record};
use crate::correlate::agreement::{phases_of_access, Phases};
use crate::correlate::store::request_line_hash;
use crate::limits;
use crate::nginx::access_end::{self, AccessEnd};
use crate::nginx::access_log::{AccessEntry, Attempt};
use crate::nginx::access_reader::{AccessLine, Keeper};
use crate::nginx::error_log::Peer;
use crate::nginx::log_format::{LogFormat, Variable};
use crate::nginx::message::{Leg, Shows};
use crate::tcp::http::{host_hash, id_hash};
use crate::tcp::phase::Phase;
use crate::time::{CaptureTime, LogTime, SECOND};

/// Zones are whole quarters of an hour from UTC.
const QUARTER: i64 = 900;

/// Seconds that a zone is from UTC at most.
const FARTHEST: i64 = 14 * 3600;

/// Seconds that an error entry and the access entry of its request lie apart at most to have a
/// say in what the zone of the error log is.
const NEAR: i64 = 30;

const MILLISECOND: i64 = SECOND / 1000;

/// Nanoseconds by which packets and times of an access log may be off from each other: nginx looks
/// at its clock once for all that it finds to do, and the two clocks are known no better.
pub const CLOCKS: i64 = 50_000_000;

/// Access entries, in the order of reading.
#[derive(Debug, Default)]
pub struct Accesses {
    format: Option<LogFormat>,
    rows: Vec<Row>,
    /// What rows have in common, each once.
    settings: Vec<Setting>,
    setting_numbers: HashMap<Setting, u32>,
    /// Those with a connection, by that, and then by time.
    by_connection: Vec<u32>,
    /// Those of them that say something of an end.
    telling: Vec<u32>,
    /// Those without, by request, by client, and then by time.
    by_request: Vec<u32>,
    texts: Archive,
    /// Numbers of the connections that error entries are about, in order.
    wanted: Vec<NonZeroU64>,
    /// Requests, with their clients, that error entries are about, in order.
    wanted_requests: Vec<Asked>,
    /// How many error entries are in it.
    noted: usize,
    /// Seconds by which the error log's clock is ahead of UTC, where entries do not tell.
    zone: Option<i64>,
    /// Every entry tells by how much the error log's clock was ahead of UTC.
    has_zones: bool,
    /// The times of all entries can be compared with those of the error log.
    is_timed: bool,
    /// Rows of responses that may be cut for all that the log says.
    quiet: usize,
    dropped: u64,
    /// What all lines with a time hold, those that are not kept included.
    held: Option<Held>,
}

/// Lines of access logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The file of the first one.
    pub file: u32,
    /// How many there are.
    pub count: u64,
    /// Nanoseconds since the Unix epoch of the earliest one and of the latest.
    pub span: (i64, i64),
}

impl Held {
    fn add(&mut self, instant: i64) {
        self.count += 1;
        self.span = (self.span.0.min(instant), self.span.1.max(instant));
    }
}

/// One entry.
#[derive(Clone, Copy, Debug)]
struct Row {
    connection: Option<NonZeroU64>,
    /// Nanoseconds since the Unix epoch on the clock of the nginx host.
    instant: i64,
    request: Option<NonZeroU64>,
    id: Option<NonZeroU64>,
    /// Unspecified if it is not known.
    client: Ipv6Addr,
    text: Record,
    line: u32,
    setting: u32,
    /// Bytes of the response, at most; [`u32::MAX`] if they are not known.
    bytes: u32,
    /// Which request of its connection it is; 0 if that is not known.
    ordinal: u32,
    /// Milliseconds since the request's first byte; [`u32::MAX`] if they are not known.
    took: u32,
    /// Number of the run of entries that name this connection, client and port.
    run: u32,
    /// 0 if it is not known.
    port: u16,
}

/// What many entries have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Setting {
    file: u32,
    end: Option<AccessEnd>,
    /// See [`Account::status`].
    status: Option<u16>,
    server_port: Option<u16>,
    /// The one that was tried last.
    upstream: Option<SocketAddr>,
    /// An attempt at an upstream may have failed: more than one was made, or it is not said how
    /// many, or the status tells of it.
    may_have_failed: bool,
    host: Option<u64>,
    /// `bytes` are those of the body only.
    of_body: bool,
    /// The time is exact to a millisecond.
    is_exact: bool,
    /// The client's connection is one of QUIC.
    is_http3: bool,
    /// Quarters of an hour by which nginx's clock was ahead of UTC.
    zone: Option<i8>,
}

/// What an error entry tells of its connection.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Serial number of the connection.
    pub connection: Option<NonZeroU64>,
    /// When the entry was written.
    pub time: LogTime,
    /// Address of the client.
    pub client: Option<IpAddr>,
    /// [`request_line_hash`] of the request.
    pub request: Option<u64>,
    /// Which connection ended.
    pub leg: Leg,
    /// How far that can have come.
    pub phases: Phases,
}

/// A request, and the client that sent it.
type Asked = (NonZeroU64, Ipv6Addr);

impl Key {
    fn asked(&self) -> Option<Asked> {
        Some((self.request.and_then(NonZeroU64::new)?, mapped(self.client?)))
    }

    /// The second in which the entry was written, in nanoseconds, if it is one that a clock shows (see
    /// [`AccessEntry::time`]).
    fn second(&self) -> Option<i64> {
        self.time.0.checked_mul(SECOND).filter(|time| time.unsigned_abs() < i64::MAX as u64 / 2)
    }

    /// Whether it is about an attempt at an upstream that had no answer.
    fn is_failed_attempt(&self) -> bool {
        self.leg == Leg::Upstream && !self.phases.contains(Phase::DuringResponse)
    }
}

/// An address of either family as one of IPv6.
fn mapped(address: IpAddr) -> Ipv6Addr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// What access entries tell of an error entry's connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// The entry of the error entry's request, from 1; 0 if there is none.
    of_request: u32,
    /// The last entry of the connection, from 1; 0 if there is none.
    last: u32,
    /// Entries of the connection; 0 if their connections are not known.
    count: u32,
}

impl Joined {
    /// Whether there are any entries of the connection.
    pub fn is_some(self) -> bool {
        self.last > 0
    }
}

/// What the access log says of the last request of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Account {
    /// Status of the response that was sent, [`UNSENT`] if none was; `None` if that is not known.
    pub status: Option<u16>,
    /// Bytes of that response.
    pub sent: Option<Sent>,
    /// [`id_hash`] of the request's identifier.
    pub id: Option<u64>,
    /// Requests of the connection so far.
    pub requests: Option<u32>,
    /// The latest instant at which the request began.
    pub asked_by: Option<CaptureTime>,
}

/// Stands for the status where no byte of a response was sent.
pub const UNSENT: u16 = 0;

/// Bytes of a response that nginx gave to the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sent {
    /// Of the whole.
    Whole(u32),
    /// Without the head.
    Body(u32),
}

/// An access entry, and what it says by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    pub file: u32,
    pub line: u32,
    pub connection: Option<u64>,
    /// Nanoseconds since the Unix epoch on the clock of the nginx host.
    pub instant: i64,
    /// Nanoseconds that were cut off at most.
    pub resolution: i64,
    /// Nanoseconds since the request's first byte.
    pub took: Option<i64>,
    pub end: Option<AccessEnd>,
    pub client: Option<IpAddr>,
    pub port: Option<u16>,
    pub server_port: Option<u16>,
    pub upstream: Option<SocketAddr>,
    pub request: Option<u64>,
    pub host: Option<u64>,
    pub account: Account,
}

impl Sent {
    /// How many there are, and how many of the head's these do not include.
    pub fn beside(self, head: i64) -> (i64, i64) {
        match self {
            Sent::Whole(bytes) => (bytes.into(), 0),
            Sent::Body(bytes) => (bytes.into(), head),
        }
    }
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

    /// How many entries there are; they are numbered from 0.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// The upstreams that were asked last, and the ports that nginx listened on, where entries tell.
    pub fn addresses(&self) -> impl Iterator<Item = (Option<SocketAddr>, Option<u16>)> + '_ {
        self.settings.iter().map(|setting| (setting.upstream, setting.server_port))
    }

    /// Entries that were not kept because there are too many.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Notes what all error entries are about, which come in the order of reading.
    pub fn want(&mut self, errors: impl ExactSizeIterator<Item = Key>) {
        let count = errors.len();
        if count == self.noted {
            return;
        }
        for key in errors.skip(self.noted) {
            self.wanted.extend(key.connection);
            self.wanted_requests.extend(key.asked());
        }
        self.noted = count;
        in_order(&mut self.wanted);
        in_order(&mut self.wanted_requests);
    }

    /// Whether an error entry may be about the same: by its connection, or without one by its
    /// request.
    fn is_wanted(&self, connection: Option<NonZeroU64>, asked: Option<Asked>) -> bool {
        match connection {
            Some(number) => self.wanted.binary_search(&number).is_ok(),
            None => asked.is_some_and(|it| self.wanted_requests.binary_search(&it).is_ok()),
        }
    }

    /// What the lines hold that have a time.
    pub fn held(&self) -> Option<Held> {
        self.held
    }

    /// Who keeps the entries of a file, where there is room for so many.
    pub fn keeper(&mut self, file: u32, room: usize, interest: Interest) -> impl Keeper + '_ {
        Wanted { accesses: self, file, room, interest }
    }

    /// Puts the entries into order, and finds out by how many seconds the error log's clock is
    /// ahead of UTC, if that is not `given`.
    pub fn index(&mut self, given: Option<i64>, errors: impl Iterator<Item = Key>) {
        self.rows.shrink_to_fit();
        let rows = &mut self.rows;
        let known = (0u32..).zip(&*rows).filter(|(_, row)| row.connection.is_some());
        self.by_connection = known.map(|(at, _)| at).collect();
        self.by_connection.sort_by_key(|&at| {
            let row = &rows[at as usize];
            (row.connection, row.instant)
        });
        let mut run = 0;
        let mut last = None;
        for &at in &self.by_connection {
            let row = &mut rows[at as usize];
            let this = Some((row.connection, row.client, row.port));
            run += u32::from(last != this);
            last = this;
            row.run = run;
        }
        self.telling =
            self.by_connection.iter().copied().filter(|&at| self.tells(at)).collect();
        let rows = &self.rows;
        let asked = |at: &u32| rows[*at as usize].asked();
        let unnumbered = (0u32..).zip(rows).filter(|(_, row)| row.connection.is_none());
        self.by_request =
            unnumbered.map(|(at, _)| at).filter(|at| asked(at).is_some()).collect();
        self.by_request.sort_by_key(|at| (asked(at), rows[*at as usize].instant));
        self.zone = given.or_else(|| self.told_zone(errors));
        // Lines tell the zone of their own clock, which may be another host's than the error log's.
        let quarters = self.zone.map(|zone| zone / QUARTER);
        let all = || self.settings.iter().map(|setting| setting.zone.map(i64::from));
        self.has_zones = all().all(|zone| zone.is_some())
            && (quarters.is_none() || all().any(|zone| zone == quarters));
        self.is_timed = self.has_zones || self.zone.is_some();
    }

    /// Seconds by which the error log's clock was ahead of UTC, as access entries tell: the one
    /// zone that they bear, else the one in which error entries stand next to them.
    pub fn ahead(&self) -> Option<i64> {
        if !self.has_zones {
            return self.zone;
        }
        let mut zones = self.settings.iter().map(|setting| setting.zone);
        let first = zones.next()?;
        let one = first.filter(|_| zones.all(|other| other == first))?;
        Some(i64::from(one) * QUARTER)
    }

    /// The zone in which most error entries were written just before or after the last access
    /// entry of their connection, or the only one of their request.
    fn told_zone(&self, errors: impl Iterator<Item = Key>) -> Option<i64> {
        let mut votes: HashMap<i64, u32> = HashMap::new();
        for key in errors {
            let of_connection = key.connection.and_then(|n| self.of_connection(n).last());
            // A request that was made once is as good as a number.
            let of_request = || match self.of_asked(&key) {
                [one] => Some(one),
                _ => None,
            };
            let Some(&last) = of_connection.or_else(of_request) else { continue };
            let instant = self.rows[last as usize].instant;
            let ahead = key.time.0.saturating_sub(instant.div_euclid(SECOND));
            let quarters = ahead.saturating_add(QUARTER / 2).div_euclid(QUARTER);
            let is_zone = (quarters * QUARTER).abs() <= FARTHEST;
            if is_zone && (ahead - quarters * QUARTER).abs() <= NEAR {
                *votes.entry(quarters * QUARTER).or_default() += 1;
            }
        }
        let best = votes.into_iter().max_by_key(|&(zone, votes)| (votes, -zone.abs(), zone));
        best.map(|(zone, _)| zone)
    }

    fn of_connection(&self, connection: NonZeroU64) -> &[u32] {
        of_one(&self.by_connection, Some(connection), |at| self.rows[at as usize].connection)
    }

    /// The entries without a connection of an error entry's request by the same client.
    fn of_asked(&self, key: &Key) -> &[u32] {
        let Some(wanted) = key.asked() else { return &[] };
        let asked = |&at: &u32| self.rows[at as usize].asked();
        let from = self.by_request.partition_point(|at| asked(at) < Some(wanted));
        let rest = &self.by_request[from..];
        &rest[..rest.partition_point(|at| asked(at) == Some(wanted))]
    }

    fn setting(&self, row: &Row) -> Option<&Setting> {
        self.settings.get(row.setting as usize)
    }

    /// Nanoseconds that the error log's clock showed, as if it were UTC.
    fn shown(&self, at: u32) -> Option<i64> {
        let row = self.rows.get(at as usize)?;
        let own = self.setting(row)?.zone.filter(|_| self.has_zones);
        let own = own.map(|quarters| i64::from(quarters) * QUARTER);
        row.instant.checked_add(own.or(self.zone)? * SECOND)
    }

    /// The entries of an error entry's connection; none where they disagree on who it is.
    fn same(&self, key: &Key) -> &[u32] {
        // What has no time that could be compared is not used.
        if !self.is_timed {
            return &[];
        }
        let Some(connection) = key.connection else { return &[] };
        let near = self.near(self.of_connection(connection), key.time);
        let (Some(&first), Some(&last)) = (near.first(), near.last()) else { return &[] };
        let (first, last) = (&self.rows[first as usize], &self.rows[last as usize]);
        let differs = first.client().zip(key.client).is_some_and(|(one, other)| one != other);
        match first.run == last.run && !differs {
            true => near,
            false => &[],
        }
    }

    /// Those of these entries that can be about the connection that had this number then.
    fn near<'r>(&self, all: &'r [u32], time: LogTime) -> &'r [u32] {
        let time = time.0.saturating_mul(SECOND);
        let reach = limits::CONNECTION_TIME * SECOND;
        self.between(all, time.saturating_sub(reach), time.saturating_add(reach))
    }

    /// Those of these entries, which are in the order of time, that were written from one time on
    /// and before another one, as the error log's clock showed them.
    fn between<'r>(&self, all: &'r [u32], from: i64, to: i64) -> &'r [u32] {
        let is_before = |at: &u32, time: i64| self.shown(*at).is_some_and(|shown| shown < time);
        let rest = &all[all.partition_point(|at| is_before(at, from))..];
        &rest[..rest.partition_point(|at| is_before(at, to))]
    }

    /// What is known of an error entry's connection.
    pub fn join(&self, key: &Key, whole: bool) -> Joined {
        let same = self.same(key);
        let place = |at: u32| at + 1;
        Joined {
            of_request: self.find(key, whole).map_or(0, place),
            last: same.last().copied().map_or(0, place),
            count: same.len() as u32,
        }
    }

    /// The access entry of an error entry's request; where the error entry has none and the
    /// connection is `whole`ly the client's, the one that is nearest.
    fn find(&self, key: &Key, whole: bool) -> Option<u32> {
        let rows = self.same(key);
        let time = key.time.0.checked_mul(SECOND)?;
        let at = rows.partition_point(|&at| self.shown(at).is_some_and(|shown| shown < time));
        let (before, after) = rows.split_at_checked(at)?;
        // nginx writes the access entry when it is done with the request, so after the other.
        let near = after
            .iter()
            .take(limits::OPEN_REQUESTS)
            .chain(before.iter().rev().take(limits::OPEN_REQUESTS));
        let request = |at: u32| self.rows[at as usize].request.map(NonZeroU64::get);
        match key.request {
            Some(asked) => {
                let mut alike = near.filter(|&&at| request(at) == Some(asked)).copied();
                // One that the first upstream answered is not about an attempt that failed.
                let fits = |&at: &u32| !key.is_failed_attempt() || self.may_have_failed(at);
                alike.clone().find(fits).or_else(|| alike.next())
            }
            None if whole => {
                let soon = |at: &&u32| {
                    self.shown(**at).is_some_and(|shown| shown < time.saturating_add(SECOND))
                };
                after.first().filter(soon).or(before.last()).copied()
            }
            None => None,
        }
    }

    /// What the one entry of an error entry's request tells that is about it, of those without a
    /// connection; `None` if there is no such entry, or more than one, or more than are looked at.
    pub fn join_by_request(&self, key: &Key) -> Option<Joined> {
        let second = key.second().filter(|_| self.is_timed)?;
        let (from, to) = (second - CLOCKS, second + SECOND + CLOCKS);
        // nginx is done with a request whose client is gone; after an upstream, it may ask others.
        let is_done = key.leg == Leg::Client;
        let later = if is_done { 0 } else { limits::REQUEST_TIME * SECOND };
        let near = self.between(self.of_asked(key), from - SECOND, to + later);
        if near.len() > limits::ALIKE {
            return None;
        }
        let mut about = near.iter().filter(|&&at| {
            let Some((done, access)) = self.shown(at).zip(self.get(at)) else { return false };
            let took = if is_done { 0 } else { access.took.unwrap_or(SECOND) };
            done + access.resolution > from && done - took <= to && access.agrees(key)
        });
        let (first, other) = (about.next(), about.next());
        let place = first.filter(|_| other.is_none())? + 1;
        Some(Joined { of_request: place, last: place, count: 0 })
    }

    /// The instants between which nginx had an error entry's request before it, on its own clock. Of
    /// several requests that are alike, it may have been any that was open in that second.
    pub(super) fn asked_between(&self, key: &Key, joined: Joined) -> Option<(i64, i64)> {
        if joined.count == 0 {
            return self.get(self.of_request(joined)?)?.open_between();
        }
        let request = Some(key.request?);
        let second = key.second()?;
        let (from, to) = (second - CLOCKS, second + SECOND + CLOCKS);
        let later = limits::REQUEST_TIME * SECOND;
        let near = self.between(self.same(key), from - SECOND, to + later);
        let open = |failed: bool| {
            let spans = near.iter().filter_map(|&at| {
                let (done, access) = (self.shown(at)?, self.get(at)?);
                let is_open = done + access.resolution > from && done - access.took? <= to;
                let is_it = access.request == request && is_open;
                access.open_between().filter(|_| is_it && (!failed || self.may_have_failed(at)))
            });
            spans.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
        };
        let failed = key.is_failed_attempt().then(|| open(true)).flatten();
        failed.or_else(|| open(false))
    }

    fn may_have_failed(&self, at: u32) -> bool {
        let row = self.rows.get(at as usize);
        row.and_then(|row| self.setting(row)).is_some_and(|setting| setting.may_have_failed)
    }

    /// The entry of an error entry's request, by its number.
    pub(super) fn of_request(&self, joined: Joined) -> Option<u32> {
        joined.of_request.checked_sub(1)
    }

    /// The last entry of an error entry's connection.
    pub(super) fn last_place(&self, joined: Joined) -> Option<u32> {
        joined.last.checked_sub(1)
    }

    /// What is known of that, and how many requests the connection had.
    pub(super) fn last(&self, joined: Joined) -> Option<Access> {
        let last = self.get(self.last_place(joined)?)?;
        let counted = || Some(joined.count).filter(|&count| count > 0);
        let requests = last.account.requests.or_else(counted);
        let account = Account { requests, ..last.account };
        Some(Access { account, ..last })
    }

    /// The entries of the connection of one that say something of an end.
    pub(super) fn telling(&self, at: u32) -> &[u32] {
        match self.rows.get(at as usize) {
            Some(row) if row.connection.is_some() => {
                of_one(&self.telling, row.run, |at| self.rows[at as usize].run)
            }
            _ => &[],
        }
    }

    /// What is known of an entry without its text.
    pub(super) fn get(&self, at: u32) -> Option<Access> {
        let row = self.rows.get(at as usize)?;
        let setting = self.setting(row)?;
        let bytes = Some(row.bytes).filter(|&bytes| bytes != u32::MAX);
        let sent = if setting.of_body { Sent::Body } else { Sent::Whole };
        Some(Access {
            file: setting.file,
            line: row.line,
            connection: row.connection.map(NonZeroU64::get),
            instant: row.instant,
            resolution: if setting.is_exact { MILLISECOND } else { SECOND },
            took: Some(row.took)
                .filter(|&took| took != u32::MAX)
                .map(|took| i64::from(took) * MILLISECOND),
            end: setting.end,
            client: row.client(),
            port: Some(row.port).filter(|&port| port != 0),
            server_port: setting.server_port,
            upstream: setting.upstream,
            request: row.request.map(NonZeroU64::get),
            host: setting.host,
            account: Account {
                status: setting.status,
                sent: bytes.map(sent),
                id: row.id.map(NonZeroU64::get),
                requests: Some(row.ordinal).filter(|&ordinal| ordinal != 0),
                asked_by: None,
            },
        })
    }

    /// An entry as it stands in its file.
    pub(super) fn raw(&self, at: u32) -> Option<Box<[u8]>> {
        let row = self.rows.get(at as usize)?;
        self.texts.text(row.text)
    }

    /// Whether an entry says something of an end that packets need not add to.
    pub(super) fn tells(&self, at: u32) -> bool {
        let end = self.rows.get(at as usize).and_then(|row| self.setting(row)?.end);
        end.is_some_and(|end| end.shows != Shows::CutAnswer)
    }

    /// The entries that are compared with streams, and what streams have to show: of each
    /// connection the last one, and whatever bears no number, unless the error log tells of the
    /// same end (`is_told`).
    pub(super) fn compared(&self, is_told: &[bool]) -> Vec<(u32, Shows)> {
        let told = |at: &u32| is_told.get(*at as usize).copied().unwrap_or(false);
        let run = |at: &u32| self.rows[*at as usize].run;
        let runs = self.by_connection.chunk_by(|one, other| run(one) == run(other));
        let last = runs.filter(|run| !run.iter().any(told)).filter_map(|run| {
            let &at = run.last()?;
            let connection = self.rows[at as usize].connection?;
            let matters = self.is_wanted(Some(connection), None)
                || run.iter().any(|&earlier| self.tells(earlier));
            Some((at, self.shows(at, matters)?))
        });
        let rows = (0u32..).zip(&self.rows);
        let unnumbered = rows
            .filter(|(at, row)| row.connection.is_none() && !told(at))
            .filter_map(|(at, _)| Some((at, self.shows(at, false)?)));
        let mut all: Vec<(u32, Shows)> = last.chain(unnumbered).collect();
        all.sort_unstable_by_key(|(at, _)| *at);
        all
    }

    /// What a stream has to show to be the one that an entry is about; the stream of a connection
    /// that `matters` is looked for even if nothing went wrong with its last request.
    fn shows(&self, at: u32, matters: bool) -> Option<Shows> {
        let &Setting { end, is_http3, .. } = self.setting(self.rows.get(at as usize)?)?;
        match end.map(|end| end.shows) {
            None if is_http3 => None,
            None | Some(Shows::CutAnswer) if matters => Some(Shows::AnyAnswer),
            shows => shows,
        }
    }

    fn number_of(&mut self, setting: Setting) -> u32 {
        *self.setting_numbers.entry(setting).or_insert_with(|| {
            self.settings.push(setting);
            self.settings.len() as u32 - 1
        })
    }
}

impl Access {
    /// The instants between which nginx had its request before it, on its own clock.
    fn open_between(&self) -> Option<(i64, i64)> {
        Some((self.instant - self.took?, self.instant + self.resolution))
    }

    /// Whether it can be about the request that an error entry is about, by how far that had come.
    fn agrees(&self, key: &Key) -> bool {
        let shows = self.end.map_or(Shows::CutAnswer, |end| end.shows);
        let sent = self.account.status.is_some_and(|status| status != UNSENT);
        let phases = match phases_of_access(shows, self.end.as_ref()) {
            phases if sent => phases.without(Phase::AwaitingResponse),
            phases => phases,
        };
        match key.leg {
            Leg::Client => phases.meets(key.phases),
            // Others may have been asked after that one, and the client is told of the last.
            Leg::Upstream | Leg::Unknown => true,
        }
    }
}

impl Row {
    fn asked(&self) -> Option<Asked> {
        Some((self.request?, Some(self.client).filter(|client| !client.is_unspecified())?))
    }

    fn client(&self) -> Option<IpAddr> {
        let known = Some(self.client).filter(|client| !client.is_unspecified());
        known.map(|client| IpAddr::V6(client).to_canonical())
    }
}

/// Which entries are of interest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interest {
    /// Those that were written at this instant or later.
    pub earliest: Option<i64>,
    /// The log is read while the capture is: what the error log has to say of a connection may be
    /// yet to come.
    pub is_growing: bool,
}

/// Keeps the entries that may be of use.
struct Wanted<'s> {
    accesses: &'s mut Accesses,
    file: u32,
    /// How many entries there may be in all.
    room: usize,
    interest: Interest,
}

impl Keeper for Wanted<'_> {
    fn keep(&mut self, line: AccessLine<'_>) {
        let AccessLine { number, entry } = line;
        let connection = entry.connection().and_then(NonZeroU64::new);
        let Some(stamp) = entry.time() else { return };
        let Interest { earliest, is_growing } = self.interest;
        let none = Held { file: self.file, count: 0, span: (i64::MAX, i64::MIN) };
        self.accesses.held.get_or_insert(none).add(stamp.instant);
        let is_before =
            |ahead| earliest.is_some_and(|from| stamp.instant < from.saturating_add(ahead));
        if is_before(0) {
            return;
        }
        let request = entry.method().zip(entry.target());
        let request = request
            .map(|(method, target)| request_line_hash(&method, &target))
            .and_then(NonZeroU64::new);
        let client = entry.client_addr().map(mapped);
        let is_wanted = self.accesses.is_wanted(connection, request.zip(client));
        let end = access_end::classify(&entry);
        let may_be_wanted = is_growing && connection.is_some();
        let is_quiet = !is_wanted
            && match end {
                Some(end) => end.shows == Shows::CutAnswer,
                None if may_be_wanted => true,
                None => return,
            };
        // An access entry's zone is known, so its time is only as wrong as its host's clock.
        let nearer = (limits::LOG_BEFORE - limits::QUIET_BEFORE) * SECOND;
        if is_quiet && is_before(nearer) {
            return;
        }
        let is_full = self.accesses.rows.len() >= self.room
            || is_quiet && self.accesses.quiet >= limits::QUIET_ENTRIES;
        if is_full {
            self.accesses.dropped += 1;
            return;
        }
        self.accesses.quiet += usize::from(is_quiet);
        let bytes = entry.bytes_sent().or_else(|| entry.body_bytes_sent());
        let attempts = entry.attempts();
        let setting = Setting {
            file: self.file,
            end,
            status: sent_status(&entry, end.as_ref()),
            server_port: entry.server().map(|server| server.port()),
            upstream: attempts.last().and_then(address),
            may_have_failed: attempts.len() != 1 || entry.status().is_none_or(is_of_failure),
            host: entry.value(Variable::HttpHost).map(|host| host_hash(&host)),
            of_body: entry.bytes_sent().is_none(),
            is_exact: stamp.resolution < SECOND,
            is_http3: entry.is_http3(),
            zone: entry
                .utc_offset()
                .and_then(|zone| i8::try_from(i64::from(zone) / QUARTER).ok()),
        };
        let id = entry
            .value(Variable::HttpXRequestId)
            .or_else(|| entry.value(Variable::RequestId))
            .and_then(|id| id_hash(&id));
        let row = Row {
            connection,
            instant: stamp.instant,
            request,
            id: id.and_then(NonZeroU64::new),
            client: client.unwrap_or(Ipv6Addr::UNSPECIFIED),
            text: self.accesses.texts.add_text(entry.raw),
            line: u32::try_from(number).unwrap_or(u32::MAX),
            setting: self.accesses.number_of(setting),
            bytes: bytes.map_or(u32::MAX, |bytes| u32::try_from(bytes).unwrap_or(u32::MAX)),
            ordinal: entry
                .connection_requests()
                .and_then(|ordinal| u32::try_from(ordinal).ok())
                .unwrap_or(0),
            took: entry
                .request_time()
                .map_or(u32::MAX, |took| u32::try_from(took / MILLISECOND).unwrap_or(u32::MAX)),
            run: 0,
            port: entry.peer_port().unwrap_or(0),
        };
        self.accesses.rows.push(row);
    }
}

/// Those that have this key, of some that are in its order.
fn of_one<K: Ord>(all: &[u32], wanted: K, key: impl Fn(u32) -> K) -> &[u32] {
    let rest = &all[all.partition_point(|&at| key(at) < wanted)..];
    &rest[..rest.partition_point(|&at| key(at) == wanted)]
}

/// Puts these in order, each once.
fn in_order<T: Ord>(all: &mut Vec<T>) {
    all.sort_unstable();
    all.dedup();
    all.shrink_to_fit();
}

/// Status of the response that was sent; see [`Account::status`].
fn sent_status(entry: &AccessEntry<'_>, end: Option<&AccessEnd>) -> Option<u16> {
    let status = entry.status()?;
    let unsent = entry.bytes_sent() == Some(0) || !access_end::is_sent(status, end);
    match entry.bytes_sent().or_else(|| entry.body_bytes_sent()) {
        _ if unsent => Some(UNSENT),
        // Of a response without a body nobody knows whether its head was sent.
        Some(0) => None,
        _ => Some(status),
    }
}

/// Whether nginx answers so, or notes so, where no upstream answered: the client was gone, or it is
/// an error of a server.
fn is_of_failure(status: u16) -> bool {
    status == 499 || status >= 500
}

/// Where an attempt was made.
fn address(attempt: &Attempt<'_>) -> Option<SocketAddr> {
    match attempt.peer? {
        Peer::Address(address) => Some(address),
        Peer::Unix(_) | Peer::Name(_) => None,
    }
}
