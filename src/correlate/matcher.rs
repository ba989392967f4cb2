// SPDX-License-Identifier: GPL-2.0-or-later
//! Which log entry is about which stream.
//!
//! What fits what is decided pair by pair here: leg, end, time, phase, request, addresses. Who
//! gets whom, where several fit, is decided for all at once in [`crate::correlate::assign`].
//!
//! While a capture is being read, a stream is weighed against its neighbours of that moment
//! only. Once it has been read, everything is matched at once, when somebody asks; if more
//! segments come after all, that is done again, but never at a greater cost than the segments
//! and questions since then have paid for, so that a live capture stays linear.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::correlate::assign::{assign, Assigned, Decision, Edge, Place};
use crate::correlate::events::{stream_request, Events, Kind};
use crate::correlate::evidence::{Criterion, Evidence};
use crate::correlate::store::{Kept, Store};
use crate::limits;
use crate::nginx::message::{By, Leg, Shows};
use crate::tcp::phase::Phase;
use crate::tcp::stream::{Side, Stream};
use crate::time::{CaptureTime, SECOND};

/// Seconds that entry and packet may lie apart, unless the user says otherwise.
const WINDOW: i64 = 2 * SECOND;

/// An entry that is, or may be, about a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Match {
    /// Index of the entry in the [`Store`].
    pub entry: u32,
    /// Which of nginx's connections the stream is, if the entry is about it.
    pub leg: Leg,
    /// 0 to 100; 90 and more means that no other stream fits.
    pub score: u8,
    /// The criteria that agree.
    pub evidence: Evidence,
    /// Nanoseconds from the packet to the entry.
    pub delta: i64,
    /// Other streams that the entry could be about.
    pub rivals: u32,
    /// The entry is about this stream; else it may be.
    pub certain: bool,
    /// The entry is about a RST.
    about_reset: bool,
}

/// Streams as the session keeps them, by number.
pub type Streams = [Option<Box<Stream>>];

/// Matches entries with streams.
#[derive(Debug)]
pub struct Matcher {
    window: i64,
    events: Events,
    settled: Option<Settled>,
    stale: bool,
    /// Segments and questions since everything was matched.
    credit: usize,
    /// The answer to the last question about one stream.
    answer: Vec<Match>,
}

/// Everything, matched.
#[derive(Debug)]
struct Settled {
    by_stream: HashMap<u32, Vec<Match>>,
    cost: usize,
}

/// An entry and a stream that fit each other.
#[derive(Clone, Copy, Debug)]
struct Pair {
    entry: u32,
    stream: u32,
    leg: Leg,
    evidence: Evidence,
    delta: i64,
    weight: u8,
    about_reset: bool,
    /// Place of the stream in the order of the leg: clients by when nginx could accept them,
    /// which is the order of their numbers; upstreams by when they ended, which is the order
    /// of the lines about them.
    moment: Option<CaptureTime>,
}

impl Default for Matcher {
    fn default() -> Matcher {
        Matcher {
            window: WINDOW,
            events: Events::default(),
            settled: None,
            stale: false,
            credit: 0,
            answer: Vec::new(),
        }
    }
}

impl Matcher {
    /// Sets how many nanoseconds entry and packet may lie apart beyond the log's resolution.
    pub fn set_window(&mut self, ns: i64) {
        self.window = ns;
    }

    /// More ended on a stream than the ends that it `had`.
    pub fn stream_ended(&mut self, number: u32, stream: &Stream, had: [bool; 3]) {
        self.events.add(number, stream, had);
    }

    /// A segment was fed.
    pub fn fed(&mut self) {
        self.stale = true;
        self.credit += 1;
    }

    /// Entries were added.
    pub fn log_changed(&mut self) {
        self.settled = None;
    }

    /// The entries about a stream, when every segment has been fed.
    pub fn all(&mut self, number: u32, streams: &Streams, store: &Store) -> &[Match] {
        if store.kept().is_empty() {
            return &[];
        }
        self.credit += 1;
        let paid = |settled: &Settled| self.stale && self.credit > settled.cost;
        if self.settled.as_ref().is_none_or(paid) {
            self.settle(streams, store);
        }
        if self.stale {
            return self.so_far(number, streams, store);
        }
        let settled = self.settled.as_ref().and_then(|all| all.by_stream.get(&number));
        settled.map_or(&[], Vec::as_slice)
    }

    /// The entries about a stream, judged by its neighbours of this moment.
    pub fn so_far(&mut self, number: u32, streams: &Streams, store: &Store) -> &[Match] {
        self.answer.clear();
        if let Some(stream) = get(streams, number) {
            self.events.sort();
            self.answer = self.near(number, stream, streams, store).unwrap_or_default();
        }
        &self.answer
    }

    fn settle(&mut self, streams: &Streams, store: &Store) {
        let mut events = Events::default();
        for (number, stream) in (0u32..).zip(streams) {
            if let Some(stream) = stream {
                events.add(number, stream, [false; 3]);
                events.add_silence(number, stream);
            }
        }
        events.sort();
        let mut pairs = Vec::new();
        for (entry, kept) in (0u32..).zip(store.kept()) {
            self.find(&events, entry, kept, streams, &mut pairs);
        }
        let mut by_stream: HashMap<u32, Vec<Match>> = HashMap::new();
        for (stream, found) in decide(&pairs, store) {
            by_stream.entry(stream).or_default().push(found);
        }
        by_stream.values_mut().for_each(|matches| sort(matches));
        let cost = streams.len() + store.kept().len();
        self.settled = Some(Settled { by_stream, cost });
        (self.stale, self.credit) = (false, 0);
    }

    /// The matches of one stream, decided among the entries that fit it and the other streams
    /// that fit those; `None` where these are too many to be weighed now.
    fn near(
        &self,
        number: u32,
        stream: &Stream,
        streams: &Streams,
        store: &Store,
    ) -> Option<Vec<Match>> {
        let mut entries = Vec::new();
        for (kind, time) in ends(stream) {
            let (from, to) = (time.plus(-self.window - SECOND), time.plus(self.window));
            entries.extend(store.between(from, to).filter(|&entry| {
                let kept = &store.kept()[entry as usize];
                legs(kept.leg).iter().any(|&leg| {
                    kinds(leg, kept).contains(&kind)
                        && weigh(kept, leg, kind, time, stream).is_some()
                })
            }));
        }
        entries.sort_unstable();
        entries.dedup();
        let mut pairs = Vec::new();
        for &entry in &entries {
            self.find(&self.events, entry, &store.kept()[entry as usize], streams, &mut pairs);
            if pairs.len() > limits::NEIGHBOURS {
                return None;
            }
        }
        let decided = decide(&pairs, store).into_iter();
        let mut out: Vec<Match> =
            decided.filter(|(to, _)| *to == number).map(|(_, found)| found).collect();
        sort(&mut out);
        Some(out)
    }

    /// Finds every stream that an entry fits.
    fn find(
        &self,
        events: &Events,
        entry: u32,
        kept: &Kept,
        streams: &Streams,
        out: &mut Vec<Pair>,
    ) {
        let Some(written) = kept.instant else { return };
        let to = written.plus(SECOND + self.window);
        let first = out.len();
        for &leg in legs(kept.leg) {
            for &kind in kinds(leg, kept) {
                let before = match kind {
                    Kind::Silence => limits::SILENCE * SECOND,
                    _ => self.window,
                };
                for event in events.find(kind, request(leg, kept), written.plus(-before), to) {
                    let Some(stream) = get(streams, event.stream) else { continue };
                    // An end that was noted while the capture was being read may have turned
                    // out to be none.
                    let end = (kind, event.time);
                    if kind != Kind::Silence && ends(stream).all(|other| other != end) {
                        continue;
                    }
                    let Some((evidence, weight)) = weigh(kept, leg, kind, event.time, stream)
                    else {
                        continue;
                    };
                    out.push(Pair {
                        entry,
                        stream: event.stream,
                        leg,
                        evidence,
                        weight,
                        delta: written.since(event.time),
                        about_reset: matches!(kind, Kind::Reset(_)),
                        moment: match leg {
                            Leg::Client => stream.accepted_at(),
                            Leg::Upstream | Leg::Unknown => Some(event.time),
                        },
                    });
                }
            }
        }
        // A stream can fit by its FIN and by its RST; the better one counts.
        out[first..].sort_by_key(|pair| (pair.stream, Reverse(pair.weight)));
        let mut last = None;
        let mut index = 0;
        out.retain(|pair| {
            let again = index >= first && last.replace(pair.stream) == Some(pair.stream);
            index += 1;
            !again
        });
    }
}

fn get(streams: &Streams, number: u32) -> Option<&Stream> {
    streams.get(number as usize)?.as_deref()
}

/// What ended on a stream, and when.
fn ends(stream: &Stream) -> impl Iterator<Item = (Kind, CaptureTime)> {
    let fin = |side| stream.fin(side).map(|fin| (Kind::Fin(side), fin.time));
    let reset =
        stream.effective_resets().map(|resets| (Kind::Reset(resets.by), resets.at.time));
    [fin(Side::Client), fin(Side::Server), reset].into_iter().flatten()
}

/// The legs that an entry can be about.
fn legs(leg: Leg) -> &'static [Leg] {
    match leg {
        Leg::Client => &[Leg::Client],
        Leg::Upstream => &[Leg::Upstream],
        Leg::Unknown => &[Leg::Client, Leg::Upstream],
    }
}

/// The kinds of ends that an entry can be about.
fn kinds(leg: Leg, kept: &Kept) -> &'static [Kind] {
    use Kind::{Fin, Reset, Silence};
    // Nginx is the server of its clients and the client of its upstreams.
    let client = (leg == Leg::Client) == (kept.by == By::Peer);
    match (kept.shows, client) {
        (Shows::Reset, true) => &[Reset(Side::Client)],
        (Shows::Reset, false) | (Shows::Refused, _) => &[Reset(Side::Server)],
        (Shows::Fin, true) => &[Fin(Side::Client)],
        (Shows::Fin, false) => &[Fin(Side::Server)],
        (Shows::FinOrTlsReset | Shows::ResetOrFin, true) => {
            &[Fin(Side::Client), Reset(Side::Client)]
        }
        (Shows::FinOrTlsReset | Shows::ResetOrFin, false) => {
            &[Fin(Side::Server), Reset(Side::Server)]
        }
        (Shows::NoAnswer, true) => &[Fin(Side::Client), Reset(Side::Client), Silence],
        (Shows::NoAnswer, false) => &[Fin(Side::Server), Reset(Side::Server), Silence],
        (Shows::NoPacket | Shows::Stays, _) => &[],
    }
}

/// The request that a stream of this leg carries, as far as the entry tells.
fn request(leg: Leg, kept: &Kept) -> Option<u64> {
    match leg {
        Leg::Upstream => kept.passed,
        Leg::Client | Leg::Unknown => kept.request,
    }
}

/// What agrees between an entry and an end of a stream, and how much that weighs; `None` if
/// anything contradicts.
fn weigh(
    kept: &Kept,
    leg: Leg,
    kind: Kind,
    time: CaptureTime,
    stream: &Stream,
) -> Option<(Evidence, u8)> {
    let phase = phase(stream, kind);
    let (client, server) = (stream.end(Side::Client), stream.end(Side::Server));
    let mut evidence = Evidence::default();
    evidence.add(Criterion::Time, true);
    evidence.add(Criterion::Reset, true);
    evidence.add(Criterion::Phase, kept.phases.agrees(phase)?);

    let tls_hides = kept.shows != Shows::FinOrTlsReset || !matches!(kind, Kind::Reset(_));
    if !tls_hides && !stream.caveats().encrypted {
        return None;
    }
    let passed_to = kept.upstream.map(|up| (Some(up.ip().to_canonical()), up.port()));
    let is_upstream = passed_to.map(|up| up == (server.addr, server.port));
    match leg {
        Leg::Upstream => evidence.add(Criterion::Upstream, is_upstream.filter(|same| *same)?),
        Leg::Client | Leg::Unknown => {
            if is_upstream == Some(true) {
                return None;
            }
            evidence.add(Criterion::Client, agree(kept.client, client.addr)?);
            agree(kept.listen_port, Some(server.port))?;
        }
    }
    let asked = request(leg, kept);
    let has_request = stream_request(stream);
    evidence.add(Criterion::Uri, agree(asked, has_request)?);
    if leg == Leg::Client
        && asked.is_some()
        && has_request.is_none()
        && phase.is_before_request()
    {
        return None;
    }
    let host = stream.exchange().and_then(|exchange| exchange.host);
    match leg {
        // Nginx passes on a host of its own choice.
        Leg::Upstream => evidence.add(Criterion::Host, host.is_some() && host == kept.host),
        Leg::Client | Leg::Unknown => evidence.add(Criterion::Host, agree(kept.host, host)?),
    }
    Some((evidence, evidence.weight().saturating_sub(lateness(kept, time))))
}

/// Whether two values agree; `None` if they contradict each other. One that is not known does
/// neither.
fn agree<T: PartialEq>(one: Option<T>, other: Option<T>) -> Option<bool> {
    match (one, other) {
        (Some(one), Some(other)) => (one == other).then_some(true),
        _ => Some(false),
    }
}

/// How far the exchange had come at an end of this kind.
fn phase(stream: &Stream, kind: Kind) -> Phase {
    let closing = stream.closing();
    match kind {
        Kind::Reset(_) => stream.resets().map_or(Phase::Unknown, |resets| resets.phase),
        Kind::Fin(side) => match closing.filter(|closing| closing.by == side) {
            Some(closing) if stream.fin(side) == Some(closing.at) => closing.stage,
            _ => Phase::Teardown,
        },
        Kind::Silence => Phase::Handshake,
    }
}

/// What it costs an entry not to have been written in the second of the packet.
fn lateness(kept: &Kept, time: CaptureTime) -> u8 {
    const PER_SECOND: i64 = 4;
    const AT_MOST: i64 = 16;
    let written = kept.instant.unwrap_or_default();
    let apart = match time.since(written) {
        early if early < 0 => -early,
        late => (late - SECOND + 1).max(0),
    };
    let seconds = (apart + SECOND - 1) / SECOND;
    (seconds * PER_SECOND).min(AT_MOST) as u8
}

/// Decides which of the pairs hold. Several entries of one client connection go together.
fn decide(pairs: &[Pair], store: &Store) -> Vec<(u32, Match)> {
    let units = Units::new(pairs, store);
    let mut edges = Vec::new();
    // The pairs of each edge.
    let mut members: Vec<&[usize]> = Vec::new();
    for (unit, (place, fits)) in (0u32..).zip(&units.0) {
        for indices in fits {
            let best = indices.iter().map(|&i| &pairs[i]).max_by_key(|pair| pair.weight);
            let Some(pair) = best else { continue };
            let Pair { stream, weight, moment, .. } = *pair;
            edges.push(Edge { unit, stream, weight, moment, place: *place });
            members.push(indices);
        }
    }
    let mut out = Vec::new();
    for assigned in assign(&edges) {
        for &index in members[assigned.edge] {
            let pair = &pairs[index];
            out.push((pair.stream, pair.decided(&assigned)));
        }
    }
    out
}

/// Entries that go together: for each unit its place in the order, and for each stream that
/// all of them fit, the pairs.
struct Units(Vec<(Option<Place>, Vec<Vec<usize>>)>);

impl Units {
    fn new(pairs: &[Pair], store: &Store) -> Units {
        let mut groups: BTreeMap<(Option<u64>, u32), Vec<usize>> = BTreeMap::new();
        for (index, pair) in pairs.iter().enumerate() {
            let connection = store.kept()[pair.entry as usize].connection;
            // The entries about one client's connection share its number. An upstream's
            // connection has none of its own.
            let shared = connection.filter(|_| pair.leg == Leg::Client);
            let alone = if shared.is_some() { 0 } else { pair.entry };
            groups.entry((shared, alone)).or_default().push(index);
        }
        let mut units = Vec::new();
        for group in groups.into_values() {
            let together = by_stream(&group, pairs, true);
            if !together.is_empty() {
                units.push((place(&pairs[group[0]], store), together));
                continue;
            }
            let mut entries: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
            for index in group {
                entries.entry(pairs[index].entry).or_default().push(index);
            }
            let alone = entries.into_values();
            units.extend(
                alone.map(|e| (place(&pairs[e[0]], store), by_stream(&e, pairs, false))),
            );
        }
        Units(units)
    }
}

/// Where an entry stands in the order of its leg.
fn place(pair: &Pair, store: &Store) -> Option<Place> {
    let kept = &store.kept()[pair.entry as usize];
    let number = match pair.leg {
        Leg::Client => kept.connection?,
        Leg::Upstream => u64::from(kept.file) << 40 | kept.line,
        Leg::Unknown => return None,
    };
    Some(Place { number, process: kept.pid, shared: pair.leg == Leg::Client })
}

/// Pairs of a group by stream, of those streams only that fit each of its entries if `all`.
fn by_stream(group: &[usize], pairs: &[Pair], all: bool) -> Vec<Vec<usize>> {
    let entries: BTreeSet<u32> = group.iter().map(|&index| pairs[index].entry).collect();
    let mut streams: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for &index in group {
        streams.entry(pairs[index].stream).or_default().push(index);
    }
    let fits = |indices: &Vec<usize>| !all || indices.len() == entries.len();
    streams.into_values().filter(fits).collect()
}

impl Pair {
    fn decided(&self, assigned: &Assigned) -> Match {
        let mut evidence = self.evidence;
        evidence.add(Criterion::Order, assigned.by == Decision::Order);
        let weight = u32::from(self.weight);
        let score = match assigned.by {
            Decision::Only => 90 + weight / 10,
            Decision::Best | Decision::Order => 60 + weight * 29 / 100,
            Decision::Open => weight.max(1) / (1 + assigned.rivals.max(1)),
        };
        Match {
            entry: self.entry,
            leg: self.leg,
            score: score.min(100) as u8,
            evidence,
            delta: self.delta,
            rivals: assigned.rivals,
            certain: assigned.by != Decision::Open,
            about_reset: self.about_reset,
        }
    }
}

/// The entry about the reset first, then what is certain, then in the order of the log.
fn sort(matches: &mut [Match]) {
    matches.sort_by_key(|m| (!m.about_reset, !m.certain, m.entry));
}
