// SPDX-License-Identifier: GPL-2.0-or-later
//! What the log's clock showed when the capture's clock showed something else.
//!
//! Neither the zone of an error log is known, nor how far its host's clock was off. Both are
//! one offset, and log and capture tell it: at the right offset, entries fall on ends of
//! streams that carry the same request from the same address. Each that does is a vote.
//!
//! A log's second is truncated, so an entry holds for a packet of the second that it names, no
//! earlier and no later. Entries may be late, so not all of them vote; but they are so at
//! random, and what holds for most is the offset. Where a second offset has about as many
//! votes, as in traffic that repeats itself, or where there are too few, nothing is claimed and
//! the log is taken as without this.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use chrono::FixedOffset;

use crate::correlate::access::CLOCKS;
use crate::correlate::events::{stream_request, Kind};
use crate::correlate::fit::{ends, kinds, legs};
use crate::correlate::store::{is_access, Kept, Store};
use crate::limits;
use crate::nginx::message::Leg;
use crate::tcp::stream::{Side, Stream};
use crate::time::{CaptureTime, LogTime, Zone, SECOND};

/// Zones lie a multiple of this apart, and clocks are off by less than half of it.
const QUARTER: i64 = 15 * 60 * SECOND;

/// Zones are at most this far from UTC.
const FARTHEST: i64 = 14 * 3600 * SECOND;

/// By how much daylight saving moves a clock.
const TURNS: [i64; 2] = [3600 * SECOND, 1800 * SECOND];

/// Offsets that are less apart are not two answers: an entry that is late votes for both.
const APART: i64 = 2 * SECOND;

/// Offsets with many votes that are looked at closely, and how closely.
const CANDIDATES: usize = 3;
const STEP: i64 = SECOND / 4;
const FINE_STEP: i64 = SECOND / 50;

/// How log times become instants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// The zone, if it is given.
    given: Option<Zone>,
    /// The zone that access entries tell, in seconds ahead of UTC.
    told: Option<i64>,
    /// The zone, if it is known: the one that is given, else the one that is told.
    zone: Option<Zone>,
    /// Nanoseconds to add to log times, if they are given.
    offset: Option<i64>,
    /// What log and capture tell, each from an entry on, in order; empty if nothing.
    found: Vec<Found>,
}

/// What log and capture tell of the log's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The first entry that this holds for.
    pub from: u32,
    /// Nanoseconds to add to a log time, after the zone if that is given.
    shift: i64,
    /// Nanoseconds by which that may be wrong, as others have as many votes.
    margin: i64,
    /// Entries that fall on the end of a stream that they can be about.
    pub votes: u32,
    /// Entries that should.
    pub of: u32,
}

impl Clock {
    /// Sets the zone; `None` leaves it to log and capture.
    pub fn set_zone(&mut self, zone: Option<Zone>) {
        self.given = zone;
        self.know_zone();
    }

    /// Notes by how many seconds access entries say that the error log's clock is ahead of UTC.
    pub fn set_told(&mut self, ahead: Option<i64>) {
        if self.told != ahead {
            self.told = ahead;
            self.know_zone();
        }
    }

    fn know_zone(&mut self) {
        let told = || i32::try_from(self.told?).ok().and_then(FixedOffset::east_opt);
        self.zone = self.given.or_else(|| told().map(Zone::Fixed));
        // What was found goes with what was known.
        self.found.clear();
    }

    /// Sets how many nanoseconds to add to log times; `None` leaves it to log and capture.
    pub fn set_offset(&mut self, ns: Option<i64>) {
        self.offset = ns;
    }

    /// Nanoseconds to add to the time of an entry; `None` if its zone has no such time.
    pub fn shift(&self, entry: u32, time: LogTime) -> Option<i64> {
        let found = self.found.iter().rev().find(|found| found.from <= entry);
        match found {
            Some(found) => self.base(time)?.checked_add(found.shift),
            None => zone_shift(self.zone.unwrap_or(Zone::Local), time)?
                .checked_add(self.offset.unwrap_or(0)),
        }
    }

    /// Seconds by which the log's clock was ahead of UTC then, if its zone is given.
    pub fn given_ahead(&self, time: LogTime) -> Option<i64> {
        Some(-zone_shift(self.given?, time)?.div_euclid(SECOND))
    }

    /// Whether somebody has told how far the log's clock is off.
    pub fn is_known(&self) -> bool {
        self.offset.is_some() || !self.found.is_empty()
    }

    /// Nanoseconds to add to the instants that access entries bear.
    pub fn skew(&self) -> i64 {
        match (self.found.last(), self.zone) {
            (Some(found), Some(_)) => found.shift,
            (Some(found), None) => split(found.shift).1,
            (None, _) => self.offset.unwrap_or(0),
        }
    }

    /// Nanoseconds by which instants of access entries may be off from packets: nginx looks at its clock
    /// once for all that it finds to do, and how far the clocks are apart is not exactly known.
    pub fn error(&self) -> i64 {
        CLOCKS + self.found.last().map_or(0, |found| found.margin)
    }

    /// What the log's clock showed at an instant, near an entry.
    pub fn shown(&self, entry: u32, instant: CaptureTime) -> LogTime {
        let found = self.found.iter().rev().find(|found| found.from <= entry);
        let offset = self.offset.unwrap_or(0);
        let (zone, shift) = match found {
            Some(found) => (self.zone, found.shift),
            None => (Some(self.zone.unwrap_or(Zone::Local)), offset),
        };
        let there = instant.plus(shift.saturating_neg());
        zone.map_or(LogTime(there.0.div_euclid(SECOND)), |zone| zone.shown(there))
    }

    /// Nanoseconds that the user wants added; 0 where they are to be found.
    pub fn given_offset(&self) -> i64 {
        self.offset.unwrap_or(0)
    }

    /// Whether another offset holds from this entry on.
    pub fn turns(&self, entry: u32) -> bool {
        self.found.iter().any(|found| found.from == entry)
    }

    /// What log and capture told; empty if they told nothing, or were not asked.
    pub fn found(&self) -> &[Found] {
        &self.found
    }

    /// What the clock is taken to be, and why, in words.
    pub fn words(&self) -> String {
        if self.found.is_empty() {
            let zone = match self.zone {
                None => {
                    "in the zone of this machine, as log and capture do not tell it".to_owned()
                }
                Some(_) => self.zone_words(),
            };
            return match self.offset {
                None | Some(0) => format!("the log is taken to be {zone}"),
                Some(ns) => format!("the log is taken to be {zone}, {}", behind(ns)),
            };
        }
        let parts = self.found.iter().map(|found| {
            let (zone, skew) = match self.zone {
                Some(_) => (0, found.shift),
                None => split(found.shift),
            };
            let zone = match self.zone {
                Some(_) => self.zone_words(),
                None => format!("in UTC{}", east(-zone)),
            };
            format!(
                "the log is {zone}, {}, by {} votes of {}",
                behind(skew),
                found.votes,
                found.of
            )
        });
        parts.collect::<Vec<_>>().join("; then ")
    }

    /// Whence the zone is known.
    fn zone_words(&self) -> String {
        match (self.given, self.told) {
            (None, Some(ahead)) => {
                format!("in UTC{}, as the access log tells", east(ahead.saturating_mul(SECOND)))
            }
            _ => "in the zone that is set".to_owned(),
        }
    }

    /// Start of the second in which an entry was written, before anything is added that is to be
    /// found; of an access entry that tells more, of the one around it.
    fn second(&self, kept: &Kept, is_access: bool) -> Option<i64> {
        if is_access {
            let written = kept.traits.instant?.plus(-self.skew());
            return Some(written.plus((kept.traits.resolution - SECOND) / 2).0);
        }
        kept.time.0.checked_mul(SECOND)?.checked_add(self.base(kept.time)?)
    }

    /// Nanoseconds that are known to be added to a log time.
    fn base(&self, time: LogTime) -> Option<i64> {
        self.zone.map_or(Some(0), |zone| zone_shift(zone, time))
    }

    /// Whether log and capture are to tell anything.
    pub fn asks(&self) -> bool {
        self.zone.is_none() || self.offset.is_none()
    }

    /// The offset that would hold if the host's clock were right, or off as it is said to be,
    /// given the one that has the votes; `None` if that is out of the question.
    fn plain(&self, shift: i64) -> Option<i64> {
        let known = self.offset.unwrap_or(0);
        let zone = match self.zone {
            Some(_) => 0,
            None => split(shift - known).0,
        };
        let plain = zone + known;
        let off = (shift - plain).abs();
        let near = if self.offset.is_some() { APART } else { QUARTER / 2 };
        (zone.abs() <= FARTHEST && off <= near).then_some(plain)
    }

    /// The offsets that come into question, first and last.
    fn range(&self) -> (i64, i64) {
        let known = self.offset.unwrap_or(0);
        let zone = if self.zone.is_none() { FARTHEST } else { 0 };
        let off = if self.offset.is_none() { QUARTER / 2 } else { APART };
        (known - zone - off, known + zone + off)
    }
}

/// Nanoseconds from what a zone's clock shows to the instant.
fn zone_shift(zone: Zone, time: LogTime) -> Option<i64> {
    zone.instant(time)?.0.checked_sub(time.0.checked_mul(SECOND)?)
}

/// An offset as that of a zone and what is left.
fn split(shift: i64) -> (i64, i64) {
    let zone = (shift + QUARTER / 2).div_euclid(QUARTER) * QUARTER;
    (zone, shift - zone)
}

/// `+5:45`
fn east(ns: i64) -> String {
    let minutes = ns.abs() / (60 * SECOND);
    let sign = if ns < 0 { '-' } else { '+' };
    match minutes % 60 {
        0 => format!("{sign}{}", minutes / 60),
        rest => format!("{sign}{}:{rest:02}", minutes / 60),
    }
}

/// What a log is to whose times this has to be added.
fn behind(ns: i64) -> String {
    let seconds = (ns as f64 / SECOND as f64).abs();
    match ns {
        0 => "its clock right".to_owned(),
        ..0 => format!("{seconds:.1} s ahead"),
        _ => format!("{seconds:.1} s behind"),
    }
}

// -- votes ---------------------------------------------------------------------------------

/// What an end has to have in common with an entry, from the strictest on. Addresses differ
/// behind NAT and load balancers, and requests cannot be read in TLS.
const LEVELS: [(bool, bool); 3] = [(true, true), (true, false), (false, true)];

/// What entries and ends are compared by.
type Key = u64;

/// Entries and the ends that they can be about.
#[derive(Debug, Default)]
pub struct Ballot {
    asks: bool,
    /// What entries tell to have ended, and on which leg: other ends need no key.
    told: HashSet<(Class, Leg)>,
    levels: [Level; LEVELS.len()],
    first: Option<CaptureTime>,
    last: Option<CaptureTime>,
}

#[derive(Debug, Default)]
struct Level {
    /// Numbers of keys, as the entries have them.
    keys: HashMap<Key, u32>,
    entries: Vec<Voter>,
    /// By number of key.
    ends: Vec<Vec<i64>>,
}

/// An entry that has a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Voter {
    key: u32,
    /// Start of its second, before any offset.
    second: i64,
    entry: u32,
}

/// What ended, as an entry can tell: a RST, a FIN, or either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Class {
    Reset(Side),
    Fin(Side),
    Either(Side),
}

impl Ballot {
    /// The entries that have a vote.
    pub fn new(store: &Store) -> Ballot {
        let mut ballot = Ballot { asks: store.clock().asks(), ..Ballot::default() };
        if !ballot.asks {
            return ballot;
        }
        // Access entries bear their zone, and tell of few ends: they vote where nobody else can.
        let is_voter = |entry: &u32| store.count() == 0 || !is_access(*entry);
        for entry in store.compared().filter(is_voter) {
            let Some(kept) = store.kept(entry) else { continue };
            let traits = &kept.traits;
            let &[leg] = legs(traits.leg) else { continue };
            let class = match *kinds(leg, traits) {
                [Kind::Reset(side)] => Class::Reset(side),
                [Kind::Fin(side)] => Class::Fin(side),
                [Kind::Fin(side), Kind::Reset(_)] => Class::Either(side),
                // A timer says nothing of when a packet came.
                _ => continue,
            };
            let address = match leg {
                Leg::Upstream => traits.upstream.map(|up| (up.ip().to_canonical(), up.port())),
                Leg::Client | Leg::Unknown => traits.client.map(|client| (client, 0)),
            };
            let Some(second) = store.clock().second(&kept, is_access(entry)) else { continue };
            let request = traits.request_on(leg);
            ballot.told.insert((class, leg));
            for (level, key) in ballot.levels.iter_mut().zip(keys(class, leg, request, address))
            {
                let Some(key) = key else { continue };
                let next = level.keys.len() as u32;
                let key = *level.keys.entry(key).or_insert(next);
                level.entries.push(Voter { key, second, entry });
            }
        }
        for level in &mut ballot.levels {
            level.entries.sort_unstable();
            level.ends.resize_with(level.keys.len(), Vec::new);
        }
        ballot
    }

    /// Adds the ends of a stream.
    pub fn add(&mut self, stream: &Stream) {
        if !self.asks {
            return;
        }
        let request = stream_request(stream);
        let (client, server) = (stream.end(Side::Client), stream.end(Side::Server));
        let addresses =
            [(Leg::Client, client.addr, 0), (Leg::Upstream, server.addr, server.port)];
        for (kind, time) in ends(stream) {
            self.first = Some(self.first.map_or(time, |first| first.min(time)));
            self.last = Some(self.last.map_or(time, |last| last.max(time)));
            let classes = match kind {
                Kind::Reset(side) => [Class::Reset(side), Class::Either(side)],
                Kind::Fin(side) => [Class::Fin(side), Class::Either(side)],
                Kind::Silence | Kind::Answer | Kind::CutAnswer => continue,
            };
            for (leg, address, port) in addresses {
                let address = address.map(|address| (address.to_canonical(), port));
                let told = |class: &Class| self.told.contains(&(*class, leg));
                for class in classes.into_iter().filter(told) {
                    let keys = keys(class, leg, request, address);
                    for (level, key) in self.levels.iter_mut().zip(keys) {
                        let number = key.and_then(|key| level.keys.get(&key));
                        let ends = number.and_then(|&key| level.ends.get_mut(key as usize));
                        ends.into_iter().for_each(|ends| ends.push(time.0));
                    }
                }
            }
        }
    }

    /// Counts the votes: the clock as it is now known, or `None` if it is as it was.
    pub fn count(mut self, clock: &Clock) -> Option<Clock> {
        if !self.asks {
            return None;
        }
        let (first, last) = (self.first?, self.last?);
        let mut found = Vec::new();
        for level in &mut self.levels {
            level.ends.iter_mut().for_each(|ends| ends.sort_unstable());
            let count = Count { clock, level, first, last };
            found = count.with_a_turn(&level.entries);
            if !found.is_empty() {
                break;
            }
        }
        let counted = Clock { found, ..clock.clone() };
        (counted != *clock).then_some(counted)
    }
}

fn keys(
    class: Class,
    leg: Leg,
    request: Option<u64>,
    address: Option<(IpAddr, u16)>,
) -> [Option<Key>; LEVELS.len()] {
    LEVELS.map(|(by_request, by_address)| {
        // What is not known on one side may be anything on the other, so it tells nothing
        // where it is all that there is.
        let (request, address) = match (by_request, by_address) {
            (true, true) => (request, Some(address?)),
            (true, false) => (Some(request?), None),
            _ => (None, Some(address?)),
        };
        let mut hasher = DefaultHasher::new();
        (class, leg, request, address).hash(&mut hasher);
        Some(hasher.finish())
    })
}

/// Votes for one offset.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    shift: i64,
    votes: u32,
}

/// Votes that one offset needs at least, where another one has this many, to be the right one:
/// more than chance adds.
fn needed(votes: u32) -> u32 {
    3 + votes + (2.0 * f64::from(votes).sqrt()) as u32
}

struct Count<'a> {
    clock: &'a Clock,
    level: &'a Level,
    first: CaptureTime,
    last: CaptureTime,
}

impl Count<'_> {
    /// What these entries tell, with a change of daylight saving time among them if need be.
    fn with_a_turn(&self, entries: &[Voter]) -> Vec<Found> {
        let peaks = self.peaks(entries);
        let one = self.one(entries, &peaks);
        if let Some((before, after)) = self.turn(entries, &peaks) {
            let from = after.iter().map(|voter| voter.entry).min().unwrap_or_default();
            let sides = [(before, 0), (after, from)].map(|(side, from)| {
                Some(Found { from, ..self.one(&side, &self.peaks(&side))? })
            });
            if let [Some(before), Some(after)] = sides {
                let whole = one.map_or(0, |found| found.votes);
                if before.shift != after.shift && before.votes + after.votes >= needed(whole) {
                    return vec![before, after];
                }
            }
        }
        one.into_iter().collect()
    }

    /// The one offset that these entries tell.
    fn one(&self, entries: &[Voter], peaks: &[Tally]) -> Option<Found> {
        let best = *peaks.first()?;
        let rival = peaks.get(1).map_or(0, |rival| rival.votes);
        if best.votes < needed(rival) {
            return None;
        }
        let plain = self.clock.plain(best.shift)?;
        let votes = |shift| self.votes(entries, shift, &mut |_| {});
        let as_good = |shift: &i64| needed(votes(*shift)) > best.votes;
        // A clock is right unless the votes tell otherwise.
        let right = Some(plain).filter(as_good).or_else(|| {
            let steps = -SECOND / 2 / FINE_STEP..=SECOND / 2 / FINE_STEP;
            let good: Vec<i64> =
                steps.map(|step| best.shift + step * FINE_STEP).filter(as_good).collect();
            good.get(good.len() / 2).copied()
        })?;
        let given = self.clock.offset.is_some();
        let shift = if given { plain } else { right };
        let margin = if given { 0 } else { self.margin(shift, as_good) };
        let mut seconds: Vec<i64> = Vec::new();
        let votes = self.votes(entries, right, &mut |voter| seconds.push(voter.second));
        // What happened at one moment is one piece of evidence, however many entries tell it.
        let moments = seconds.iter().max()?.checked_sub(*seconds.iter().min()?)?;
        (moments >= 2 * SECOND).then_some(Found {
            from: 0,
            shift,
            margin,
            votes,
            of: self.should_vote(entries, right).max(votes),
        })
    }

    /// How far the farthest offset near one lies from it that is as good.
    fn margin(&self, shift: i64, as_good: impl Fn(&i64) -> bool) -> i64 {
        let steps = (1..=SECOND / FINE_STEP).rev().map(|step| step * FINE_STEP);
        let mut far = steps.filter(|far| as_good(&(shift - far)) || as_good(&(shift + far)));
        far.next().unwrap_or_default()
    }

    /// Entries of which the capture should hold the end, at an offset.
    fn should_vote(&self, entries: &[Voter], shift: i64) -> u32 {
        let span = self.first.0.saturating_sub(SECOND)..=self.last.0;
        let within = entries.iter().filter(|voter| {
            let seen = self.level.ends.get(voter.key as usize);
            seen.is_some_and(|ends| !ends.is_empty())
                && span.contains(&voter.second.saturating_add(shift))
        });
        within.count() as u32
    }

    /// Entries before and after a change of daylight saving time, in the order in which they
    /// were read, if two offsets with many votes lie so far apart.
    fn turn(&self, entries: &[Voter], peaks: &[Tally]) -> Option<(Vec<Voter>, Vec<Voter>)> {
        let (one, other) = (
            peaks.first()?,
            peaks.get(1..)?.iter().find(|other| {
                let apart = (peaks[0].shift - other.shift).abs();
                TURNS.iter().any(|turn| (apart - turn).abs() < APART)
            })?,
        );
        let of = |shift: i64| {
            let mut voters = Vec::new();
            self.votes(entries, shift, &mut |voter| voters.push(voter.entry));
            voters
        };
        // The place at which the order is broken least.
        let mut marks: Vec<(u32, i64)> = of(one.shift).into_iter().map(|e| (e, 1)).collect();
        marks.extend(of(other.shift).into_iter().map(|e| (e, -1)));
        marks.sort_unstable();
        let mut balance = 0;
        let balances = marks.iter().map(|&(entry, mark)| {
            balance += mark;
            (balance, entry)
        });
        let extremes: Vec<(i64, u32)> = balances.collect();
        let total = extremes.last()?.0;
        // Either the one is before the other, or after it.
        let &(top, last_of_one) = extremes.iter().max_by_key(|(balance, _)| *balance)?;
        let &(bottom, last_of_other) = extremes.iter().min_by_key(|(balance, _)| *balance)?;
        let last = if top - (total - top) >= (total - bottom) - bottom {
            last_of_one
        } else {
            last_of_other
        };
        Some(entries.iter().partition(|voter| voter.entry <= last))
    }

    /// The offsets with most votes, most first, none near another.
    fn peaks(&self, entries: &[Voter]) -> Vec<Tally> {
        let mut peaks: Vec<Tally> = self
            .rough_peaks(entries)
            .into_iter()
            .map(|rough| {
                let steps = (-SECOND / STEP)..(2 * SECOND / STEP);
                let tallies = steps.map(|step| {
                    let shift = rough + step * STEP;
                    Tally { shift, votes: self.votes(entries, shift, &mut |_| {}) }
                });
                middle(tallies.filter(|tally| self.clock.plain(tally.shift).is_some()))
            })
            .collect();
        peaks.sort_by_key(|peak| Reverse(peak.votes));
        if let Some(best) = peaks.first_mut() {
            let steps = -STEP / FINE_STEP..=STEP / FINE_STEP;
            *best = middle(steps.map(|step| {
                let shift = best.shift + step * FINE_STEP;
                Tally { shift, votes: self.votes(entries, shift, &mut |_| {}) }
            }));
        }
        peaks
    }

    /// Offsets, in whole seconds, near which most votes are.
    fn rough_peaks(&self, entries: &[Voter]) -> Vec<i64> {
        let (from, to) = self.clock.range();
        let (from, to) = (from.div_euclid(SECOND), to.div_euclid(SECOND) + 1);
        let mut votes = vec![0u64; (to - from + 2) as usize];
        let mut parts: Vec<(usize, Seconds, Seconds)> = entries
            .chunk_by(|one, other| one.key == other.key)
            .filter_map(|of_key| {
                let ends = self.level.ends.get(of_key.first()?.key as usize)?;
                let ends = seconds(ends.iter().copied());
                let entries = seconds(of_key.iter().map(|voter| voter.second));
                Some((entries.len() * ends.len(), entries, ends))
            })
            .filter(|part| part.0 > 0)
            .collect();
        // The rarest first: they tell most, and where there is too much it is the least rare
        // that is cut short.
        parts.sort_by_key(|part| part.0);
        let mut budget = limits::CLOCK_PAIRS;
        for (_, entries, ends) in parts {
            let room = (budget / entries.len()).min(ends.len());
            budget -= room * entries.len();
            for &(at, count) in &ends[..room] {
                // Offsets grow as entries get older.
                let start = entries.partition_point(|&(second, _)| at - second > to);
                let near = entries[start..].iter().take_while(|entry| at - entry.0 >= from);
                for &(second, of_second) in near {
                    votes[(at - second - from) as usize] += u64::from(count.min(of_second));
                }
            }
        }
        // The packets of one second of the log lie in two of the capture.
        let pairs = votes.windows(2).map(|two| two[0] + two[1]);
        let mut ranked: Vec<(u64, i64)> =
            pairs.zip(from..).filter(|(votes, _)| *votes > 0).collect();
        ranked.retain(|&(_, second)| {
            (-1..=2).any(|near| self.clock.plain((second + near) * SECOND).is_some())
        });
        ranked.sort_unstable_by_key(|&(votes, second)| (Reverse(votes), second));
        let mut peaks: Vec<i64> = Vec::new();
        for (_, second) in ranked {
            let shift = second * SECOND;
            if peaks.iter().all(|peak| (peak - shift).abs() > APART) {
                peaks.push(shift);
                if peaks.len() == CANDIDATES {
                    break;
                }
            }
        }
        peaks
    }

    /// Entries that fall on an end, at an offset; no two on the same.
    fn votes(&self, entries: &[Voter], shift: i64, each: &mut dyn FnMut(Voter)) -> u32 {
        let mut votes = 0;
        for of_key in entries.chunk_by(|one, other| one.key == other.key) {
            let ends = self.level.ends.get(of_key[0].key as usize).map_or(&[][..], |e| e);
            let mut next = ends.iter().copied().peekable();
            for &voter in of_key {
                let from = voter.second.saturating_add(shift);
                while next.next_if(|&time| time < from).is_some() {}
                if next.next_if(|&time| time < from.saturating_add(SECOND)).is_some() {
                    votes += 1;
                    each(voter);
                }
            }
        }
        votes
    }
}

/// Seconds, each with how often it comes.
type Seconds = Vec<(i64, u32)>;

/// These times as seconds.
fn seconds(times: impl Iterator<Item = i64>) -> Seconds {
    let mut out = Seconds::new();
    for second in times.map(|time| time.div_euclid(SECOND)) {
        match out.last_mut() {
            Some((last, count)) if *last == second => *count += 1,
            _ => out.push((second, 1)),
        }
    }
    out
}

/// The one with most votes, in the middle of those that have as many.
fn middle(tallies: impl Iterator<Item = Tally>) -> Tally {
    let tallies: Vec<Tally> = tallies.collect();
    let most = tallies.iter().map(|tally| tally.votes).max();
    let best: Vec<Tally> =
        tallies.into_iter().filter(|tally| Some(tally.votes) == most).collect();
    best.get(best.len() / 2).copied().unwrap_or_default()
}
