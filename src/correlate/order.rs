// SPDX-License-Identifier: GPL-2.0-or-later
//! What the order of the log leaves of the streams that each entry fits.
//!
//! In a storm an entry fits hundreds of streams: they have one client, one URI, and ended in
//! one second. Orders tell most of them apart:
//!
//! - Connections wait in the queue of a listening socket until they are accepted, first come, first
//!   served. Whoever accepts one numbers it, and all processes take their numbers, for clients'
//!   connections and for those to upstreams, from one counter. So numbers grow in the order in which
//!   connections could be accepted, and between two of them by no less than the number of
//!   connections that the capture shows between them ([`Order::Numbers`]).
//! - Where processes have sockets of their own, each accepts as fast as it can, and only the numbers
//!   that one process gave stand in order ([`Order::NumbersOf`]).
//! - A process writes lines in the order in which it learns that connections ended
//!   ([`Order::Lines`]).
//!
//! None is strict. Between accepting a connection and numbering it a process may be held up, it
//! learns of an end late, and not every end is logged. How far that goes differs from host to host
//! and from moment to moment, so it is read off the entries themselves: of all pairings of entries
//! and streams that an order allows, the best leaves few entries alone where the order holds, and
//! many where it does not. Where it leaves too many alone, the order is not this host's. Elsewhere
//! a stream is dropped if every pairing with it is worse than the best by more than what is left
//! alone nearby explains ([`Pairings`]); an entry that a best pairing leaves alone is out of order,
//! and the order says little of it.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::Range;
use std::rc::Rc;

use crate::correlate::agreement::Phases;
use crate::correlate::arrivals::{Arrivals, Ranks};
use crate::correlate::assign::ONE_PROCESS;
use crate::correlate::chain::{Chains, Link};
use crate::correlate::fit::Fit;
use crate::correlate::matcher::Group;
use crate::correlate::process::{Claim, InOrder};
use crate::correlate::store::{is_access, Kept, Store, Traits};
use crate::limits;
use crate::nginx::message::{Leg, Shows};
use crate::tcp::phase::Phase;
use crate::tcp::segment::Endpoint;
use crate::time::CaptureTime;

/// Share of the entries that a pairing has to have for the order to be this host's.
const HOLDS: f64 = 0.95;

/// Entries that it takes to tell that numbers count what the capture shows: of a few, some pairing
/// has each, whatever is true.
const TELLING: usize = 50;

/// Entries before and behind that one which is left alone makes doubtful.
const NEAR: usize = 8;

/// By how many entries a pairing has to be worse there for what it contains to be out of the
/// question, and by how many more for each that is left alone: one that is out of order by so many
/// may have found a wrong stream that is in order, and so may its neighbours.
const FAR: i64 = 8;
const FOR_EACH: i64 = 2;

/// Nanoseconds by which streams may stand out of the order of the entries before and behind.
const SLACK: i64 = 10_000_000;

/// Streams that may be left for an entry to be more than one of a crowd.
const LEFT: usize = 16;

/// Times that each order is asked again, with what the others have left.
const ROUNDS: usize = 6;

/// Links that are looked at of any series, however short.
const LINKS_AT_LEAST: usize = 4096;

/// What a server listens at.
type Socket = (Option<IpAddr>, u16);

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    /// Of the connection numbers of what was accepted from a socket, and of when it could be.
    Numbers(Socket),
    /// The same, of what one process accepted.
    NumbersOf(Socket, u32),
    /// Of the lines of one file that one process wrote, and of when connections ended.
    Lines { file: u32, process: u32 },
}

impl Order {
    /// Those that an entry stands in, each with its place.
    fn all(
        entry: u32,
        kept: &Kept,
        socket: Option<Socket>,
    ) -> impl Iterator<Item = (Order, u64)> {
        // An access log is written when nginx is done with a request, whenever that ended, and tells
        // no process.
        let by_process = !is_access(entry);
        let number = kept.connection.filter(|_| kept.traits.leg == Leg::Client).zip(socket);
        let numbers = number.map(|(number, socket)| (Order::Numbers(socket), number));
        let of_process = number
            .filter(|_| by_process)
            .map(|(number, socket)| (Order::NumbersOf(socket, kept.pid), number));
        let lines = Order::Lines { file: kept.file, process: kept.pid };
        let line = line_of(entry, kept).map(|line| (lines, line));
        [numbers, of_process, line].into_iter().flatten()
    }

    /// Place of a stream.
    fn moment(self, fit: &Fit) -> Option<CaptureTime> {
        match self {
            Order::Numbers(_) | Order::NumbersOf(..) => fit.moment,
            Order::Lines { .. } => Some(fit.time),
        }
    }

    /// By how many entries a pairing may be worse where none is left alone. What lines are about may
    /// come to light in another order than it happened in.
    fn spare(self) -> i64 {
        match self {
            Order::Numbers(_) | Order::NumbersOf(..) => 0,
            Order::Lines { .. } => 1,
        }
    }
}

/// Line of an entry that was written as soon as its process learned of an end.
pub(super) fn line_of(entry: u32, kept: &Kept) -> Option<u64> {
    let Traits { leg, shows, phases, .. } = kept.traits;
    let is_late = match leg {
        // Of a connection that is kept alive it learns when it is about to use it.
        Leg::Upstream => phases.is_unsent() && shows != Shows::Refused,
        // What came before nginx had taken the connection, it learns when it has.
        Leg::Client | Leg::Unknown => phases == Phases::of(&[Phase::BeforeRequest]),
    };
    // What no packet brought about is not written when a packet comes.
    let is_prompt = !is_access(entry) && shows != Shows::NoAnswer && !is_late;
    is_prompt.then(|| u64::from(kept.line))
}

/// An entry, and what is left of the streams that it fits.
struct Item<'a> {
    entry: u32,
    /// All that it fits, by when they ended.
    fits: &'a [Fit],
    /// The same by when they could be accepted, as indices; at first those of which it is not known.
    by_moment: Rc<[u32]>,
    left: Left,
}

/// What is left of the streams that an entry fits.
enum Left {
    /// Those between these bounds, too many to be weighed one by one.
    Between { ended: Span, accepted: Span },
    /// These, by their index in the entry's fits.
    These(Vec<u32>),
}

/// Two instants and what lies between them.
#[derive(Clone, Copy)]
struct Span(CaptureTime, CaptureTime);

impl Span {
    const ALWAYS: Span = Span(CaptureTime(i64::MIN), CaptureTime(i64::MAX));

    fn holds(self, time: CaptureTime) -> bool {
        self.0 <= time && time <= self.1
    }

    fn narrow(&mut self, other: Span) {
        *self = Span(self.0.max(other.0), self.1.min(other.1));
    }
}

impl Left {
    /// All of them.
    const ALL: Left = Left::Between { ended: Span::ALWAYS, accepted: Span::ALWAYS };
}

impl Item<'_> {
    /// What ended between these bounds.
    fn ended(&self, bounds: Span) -> Range<u32> {
        let start = self.fits.partition_point(|fit| fit.time < bounds.0);
        let rest = &self.fits[start..];
        let end = start + rest.partition_point(|fit| fit.time <= bounds.1);
        start as u32..end as u32
    }

    /// What could be accepted between these bounds, and that of which it is not known.
    fn accepted(&self, bounds: Span) -> [&[u32]; 2] {
        let moment = |at: u32| self.fits[at as usize].moment;
        let (unknown, known) =
            self.by_moment.split_at(self.by_moment.partition_point(|&at| moment(at).is_none()));
        let start = known.partition_point(|&at| moment(at) < Some(bounds.0));
        let rest = &known[start..];
        [unknown, &rest[..rest.partition_point(|&at| moment(at) <= Some(bounds.1))]]
    }

    /// The streams that are left.
    fn candidates(&self) -> Vec<u32> {
        match &self.left {
            Left::These(these) => these.clone(),
            &Left::Between { ended: ended_in, accepted: accepted_in } => {
                let (ended, accepted) = (self.ended(ended_in), self.accepted(accepted_in));
                if ended.len() <= accepted.iter().map(|part| part.len()).sum::<usize>() {
                    let fits = |&at: &u32| {
                        let moment = self.fits[at as usize].moment;
                        moment.is_none_or(|moment| accepted_in.holds(moment))
                    };
                    return ended.filter(fits).collect();
                }
                let accepted = accepted.into_iter().flatten();
                let mut left: Vec<u32> =
                    accepted.filter(|at| ended.contains(at)).copied().collect();
                left.sort_unstable();
                left
            }
        }
    }

    /// How many are left, or more where they are too many to be counted.
    fn count(&self) -> usize {
        match &self.left {
            Left::These(these) => these.len(),
            &Left::Between { ended, accepted } => {
                let most = self
                    .ended(ended)
                    .len()
                    .min(self.accepted(accepted).iter().map(|part| part.len()).sum());
                if most > limits::COUNTED {
                    most
                } else {
                    self.candidates().len()
                }
            }
        }
    }
}

/// Indices of fits by when they could be accepted.
fn by_moment(fits: &[Fit]) -> Rc<[u32]> {
    let mut all: Vec<u32> = (0..fits.len() as u32).collect();
    all.sort_by_key(|&at| fits[at as usize].moment);
    all.into()
}

/// Where all of these listen that are clients' streams, if that is one socket.
fn socket(fits: &[Fit]) -> Option<Socket> {
    let mut sockets =
        fits.iter().filter(|fit| fit.leg == Leg::Client).map(|fit| (fit.server, fit.port));
    let first = sockets.next()?;
    sockets.all(|socket| socket == first).then_some(first)
}

/// Splits groups into entries, each with the streams that the order leaves it, and the groups
/// of those entries for which these are too many. What is `told` already has its part in the
/// order, and is not returned; nor are lines that are `known`.
pub(super) fn narrow(
    groups: &[Group],
    told: &[Group],
    store: &Store,
    arrivals: &Arrivals,
    known: &[Claim],
) -> (Vec<Group>, Vec<Group>) {
    let mut items: Vec<Item<'_>> = Vec::new();
    let mut series: BTreeMap<Order, Vec<(u64, u32)>> = BTreeMap::new();
    for group in groups.iter().chain(told) {
        let fits = &group.fits;
        let (by_moment, socket) = (by_moment(fits), socket(fits));
        for &entry in &group.entries {
            let Some(kept) = store.kept(entry) else { continue };
            for (order, place) in Order::all(entry, &kept, socket) {
                series.entry(order).or_default().push((place, items.len() as u32));
            }
            items.push(Item { entry, fits, by_moment: by_moment.clone(), left: Left::ALL });
        }
    }
    series.values_mut().for_each(|series| series.sort_unstable());
    let mut ranks: HashMap<Socket, Ranks> = HashMap::new();
    for order in series.keys() {
        if let &Order::Numbers((addr, port)) = order {
            ranks.insert((addr, port), arrivals.at(Endpoint { addr, port }));
        }
    }
    while let Some(socket) = settle(&series, &ranks, &mut items, store, known) {
        // What its numbers seemed to tell they do not.
        ranks.remove(&socket);
        items.iter_mut().for_each(|item| item.left = Left::ALL);
    }
    // What still fits a crowd belongs with the others that do.
    items.truncate(groups.iter().map(|group| group.entries.len()).sum());
    let few = (0..items.len() as u32)
        .filter(|&index| items[index as usize].count() <= LEFT)
        .map(|index| (0, index));
    let few: Vec<(u64, u32)> = few.collect();
    let mut narrowed = Vec::new();
    let mut weighed = vec![false; items.len()];
    for (_, index) in rarest(&few, &items, limits::PAIRS) {
        let item = &items[index as usize];
        let fits: Vec<Fit> =
            item.candidates().into_iter().map(|at| item.fits[at as usize]).collect();
        let dropped = (item.fits.len() - fits.len()) as u32;
        weighed[index as usize] = true;
        narrowed.push(Group { entries: vec![item.entry], fits, dropped });
    }
    let mut rest: BTreeMap<*const Fit, Group> = BTreeMap::new();
    for (item, _) in items.iter().zip(weighed).filter(|(_, weighed)| !weighed) {
        let group = rest.entry(item.fits.as_ptr()).or_insert_with(|| Group {
            entries: Vec::new(),
            fits: item.fits.to_vec(),
            dropped: 0,
        });
        group.entries.push(item.entry);
    }
    (narrowed, rest.into_values().collect())
}

/// Asks the orders, again and again, until they drop no more. Stops at a socket of which it turns out
/// that numbers do not count what the capture shows of it.
fn settle(
    series: &BTreeMap<Order, Vec<(u64, u32)>>,
    ranks: &HashMap<Socket, Ranks>,
    items: &mut [Item<'_>],
    store: &Store,
    known: &[Claim],
) -> Option<Socket> {
    // Numbers that count tell more than lines, which may be late.
    let has_lines = !series.keys().any(|order| match order {
        Order::Numbers(socket) => ranks.contains_key(socket),
        _ => false,
    });
    for _ in 0..ROUNDS {
        let mut dropped = false;
        for (&order, series) in series {
            dropped |= match order {
                Order::Numbers(socket) => match ranks.get(&socket) {
                    None => false,
                    Some(ranks) => match ask(order, series, items, Some(ranks)) {
                        None => return Some(socket),
                        Some(dropped) => dropped,
                    },
                },
                Order::NumbersOf(socket, _) if ranks.contains_key(&socket) => false,
                _ => ask(order, series, items, None).unwrap_or_default(),
            };
        }
        for _ in 0..ROUNDS {
            match ask_processes(items, store, known, has_lines) {
                true => dropped = true,
                false => break,
            }
        }
        if !dropped {
            break;
        }
    }
    None
}

/// Drops what an order does not leave, if it is this host's: whether that is anything.
fn ask(
    order: Order,
    series: &[(u64, u32)],
    items: &mut [Item<'_>],
    ranks: Option<&Ranks>,
) -> Option<bool> {
    let budget = (series.len() * limits::LINKS).clamp(LINKS_AT_LEAST, limits::PAIRS);
    let chosen: Vec<(u64, u32, Vec<u32>)> = rarest(series, items, budget)
        .into_iter()
        .map(|(place, index)| (place, index, items[index as usize].candidates()))
        .collect();
    let mut choices = Vec::new();
    let mut last = None;
    let mut unit = 0;
    for (place, index, these) in &chosen {
        unit += u32::from(last.is_some_and(|last| last != *place));
        last = Some(*place);
        let fits = items[*index as usize].fits;
        choices.extend(these.iter().filter_map(|&at| {
            let Fit { stream, .. } = fits[at as usize];
            // One that has no place in the order fits anywhere, and tells nothing.
            let moment = order.moment(&fits[at as usize])?;
            Some(Choice { unit, place: *place, moment, stream })
        }));
    }
    let pairings = match ranks {
        Some(ranks) => Pairings::counted(order, &choices, ranks)?,
        None => Pairings::ordered(order, &choices)?,
    };
    let mut at_choice = 0;
    let mut dropped = false;
    // What each place leaves to its neighbours.
    let mut spans: Vec<(u64, Span)> = Vec::new();
    for (place, index, these) in chosen {
        let item = &mut items[index as usize];
        let fits = item.fits;
        let mut span: Option<Span> = None;
        let is_sure = pairings.is_sure(at_choice);
        let mut left = these;
        let before = left.len();
        left.retain(|&at| {
            let Some(moment) = order.moment(&fits[at as usize]) else { return true };
            let stays = pairings.kept[at_choice];
            at_choice += 1;
            if stays {
                let Span(from, to) = span.unwrap_or(Span(moment, moment));
                span = Some(Span(from.min(moment), to.max(moment)));
            }
            stays
        });
        spans.extend(span.filter(|_| is_sure).map(|span| (place, span)));
        dropped |= left.len() < before;
        item.left = Left::These(left);
    }
    bound(order, series, &spans, items);
    Some(dropped)
}

/// That a process wrote an entry when this ended; `None` where the line tells no such thing.
pub(super) fn line(entry: u32, kept: &Kept, ended: CaptureTime) -> Option<Claim> {
    Some(Claim::line(kept.pid, kept.file, line_of(entry, kept)?, ended))
}

/// What is claimed by an entry that is about a stream: the number and the line that a process gave
/// it.
fn claims(entry: u32, fit: &Fit, store: &Store) -> [Option<Claim>; 2] {
    // An access log tells no process.
    let Some(kept) = store.kept(entry).filter(|_| !is_access(entry)) else {
        return [None, None];
    };
    let number = kept.connection.filter(|_| kept.traits.leg == Leg::Client);
    [
        number.and_then(|number| Claim::number(kept.pid, number, fit)),
        line(entry, &kept, fit.time).filter(|_| fit.taken),
    ]
}

/// Drops what the numbers of one process do not leave, and its lines if they are asked, between those
/// that one stream is left for, and others that are `known`; whether that is anything.
fn ask_processes(
    items: &mut [Item<'_>],
    store: &Store,
    known: &[Claim],
    has_lines: bool,
) -> bool {
    let of = |item: &Item<'_>, at: u32| {
        let [number, line] = claims(item.entry, &item.fits[at as usize], store);
        [number, line.filter(|_| has_lines)].into_iter().flatten()
    };
    let single = items.iter().filter(|item| item.count() == 1);
    let told = single.filter_map(|item| Some((item, *item.candidates().first()?)));
    let told = told.flat_map(|(item, at)| of(item, at));
    let in_order = InOrder::new(told.chain(known.iter().copied()));
    let mut dropped = false;
    for item in items.iter_mut() {
        if item.count() > limits::COUNTED {
            continue;
        }
        let these = item.candidates();
        let allowed = |&&at: &&u32| of(item, at).all(|claim| in_order.allow(claim));
        let left: Vec<u32> = these.iter().filter(allowed).copied().collect();
        // One that nothing is left for shows that something nearby is wrong.
        if !left.is_empty() && left.len() < these.len() {
            dropped = true;
            item.left = Left::These(left);
        }
    }
    dropped
}

/// A stream that an entry fits, and their places in the order.
#[derive(Clone, Copy, Debug)]
struct Choice {
    /// The entries at one place of the order.
    unit: u32,
    place: u64,
    moment: CaptureTime,
    stream: u32,
}

/// The best pairings of entries and streams that an order allows.
struct Pairings<'a> {
    order: Order,
    choices: &'a [Choice],
    chains: Chains,
    /// By unit.
    units: Vec<Unit>,
    /// By choice: it may be right for all that the order tells.
    kept: Vec<bool>,
}

/// What the best pairings make of a unit.
#[derive(Clone, Copy, Default)]
struct Unit {
    /// Each of them has it.
    needed: bool,
    /// Units nearby that one of them leaves alone.
    alone: i64,
}

impl<'a> Pairings<'a> {
    /// Those that do not cross. `None` if the order does not hold here.
    fn ordered(order: Order, choices: &'a [Choice]) -> Option<Pairings<'a>> {
        let mut places: Vec<(CaptureTime, u32)> =
            choices.iter().map(|choice| (choice.moment, choice.stream)).collect();
        places.sort_unstable();
        places.dedup();
        let link = |choice: &Choice| {
            let stream = places.partition_point(|&it| it < (choice.moment, choice.stream));
            Link { unit: choice.unit, stream: stream as u32, value: 1 }
        };
        let links: Vec<Link> = choices.iter().map(link).collect();
        Pairings::new(order, choices, &links)
    }

    /// Those that do not cross, and have no more connections between two of them than numbers.
    /// `None` if numbers do not count what the capture shows, as far as is known: other servers have
    /// their own, and processes with sockets of their own do not number connections in the order
    /// in which these come.
    fn counted(order: Order, choices: &'a [Choice], ranks: &Ranks) -> Option<Pairings<'a>> {
        let points = choices.iter().map(|choice| {
            let rank = ranks.of(choice.moment, choice.stream)?;
            // Numbers that others took, of those before this one.
            let others = i64::try_from(choice.place).ok()? - i64::from(rank);
            Some((others, rank))
        });
        let points: Vec<(i64, u32)> = points.collect::<Option<_>>()?;
        let mut places = points.clone();
        places.sort_unstable();
        places.dedup();
        // Those whose ranks grow, and the numbers of others do not fall: as numbers are the sum, they
        // grow as well.
        let link = |point: &(i64, u32)| {
            let stream = places.partition_point(|place| place < point) as u32;
            Link { unit: point.1, stream, value: 1 }
        };
        let links: Vec<Link> = points.iter().map(link).collect();
        let pairings = Pairings::new(order, choices, &links)?;
        (pairings.units.len() >= TELLING).then_some(pairings)
    }

    fn new(order: Order, choices: &'a [Choice], links: &[Link]) -> Option<Pairings<'a>> {
        let chains = Chains::new(links);
        let mut units: Vec<Unit> = Vec::new();
        let (mut at, mut asked) = (0, 0);
        for of_unit in choices.chunk_by(|one, other| one.unit == other.unit) {
            let own = at..at + of_unit.len();
            (at, asked) = (own.end, asked + 1);
            // Those without choices are out of the question.
            units.resize(of_unit[0].unit as usize, Unit { needed: true, alone: 0 });
            units.push(Unit { needed: chains.need(own), alone: 0 });
        }
        if (chains.best as f64) < f64::from(asked) * HOLDS {
            return None;
        }
        let mut is_alone = vec![1; units.len()];
        chains.one(links).for_each(|link| is_alone[choices[link].unit as usize] = 0);
        let mut sums: Vec<i64> = vec![0];
        for alone in is_alone {
            sums.push(sums[sums.len() - 1] + alone);
        }
        for (index, unit) in units.iter_mut().enumerate() {
            let (from, to) =
                (index.saturating_sub(NEAR), (index + NEAR + 1).min(sums.len() - 1));
            unit.alone = sums[to] - sums[from];
        }
        let mut pairings = Pairings { order, choices, chains, units, kept: Vec::new() };
        pairings.keep_all();
        Some(pairings)
    }

    /// Notes what may be right: what the pairings leave, and what stands too near to that to be told
    /// from it.
    fn keep_all(&mut self) {
        let mut kept = Vec::with_capacity(self.choices.len());
        for of_unit in self.choices.chunk_by(|one, other| one.unit == other.unit) {
            let own = kept.len()..kept.len() + of_unit.len();
            let left = own.filter(|&choice| self.leaves(choice));
            let mut left: Vec<CaptureTime> =
                left.map(|choice| self.choices[choice].moment).collect();
            left.sort_unstable();
            kept.extend(of_unit.iter().map(|choice| {
                let first = left.partition_point(|&it| it < choice.moment.plus(-ONE_PROCESS));
                left.get(first).is_some_and(|&it| it <= choice.moment.plus(ONE_PROCESS))
            }));
        }
        self.kept = kept;
    }

    /// Whether the entry of a choice is in order, and all nearby.
    fn is_sure(&self, choice: usize) -> bool {
        let unit = self.choices.get(choice).map(|choice| self.units[choice.unit as usize]);
        unit.is_some_and(|unit| unit.needed && unit.alone == 0)
    }

    /// Whether a choice is in pairings that are good enough.
    fn leaves(&self, choice: usize) -> bool {
        let unit = &self.units[self.choices[choice].unit as usize];
        let lost = self.chains.best - self.chains.through[choice];
        match (unit.needed, unit.alone) {
            (true, 0) => lost <= self.order.spare(),
            (true, alone) => lost <= FAR + FOR_EACH * alone,
            (false, alone) => lost <= FAR * (1 + alone),
        }
    }
}

/// The entries that fit the fewest streams, as many as the budget of pairs allows, in their
/// order.
fn rarest(series: &[(u64, u32)], items: &[Item<'_>], mut budget: usize) -> Vec<(u64, u32)> {
    let count = |&place: &(u64, u32)| (items[place.1 as usize].count(), place);
    let mut counted: Vec<(usize, (u64, u32))> = series.iter().map(count).collect();
    counted.retain(|&(count, _)| count > 0);
    counted.sort_unstable();
    let affordable = counted.into_iter().take_while(|&(count, _)| {
        let fits = count <= budget;
        budget = budget.saturating_sub(count);
        fits
    });
    let mut found: Vec<(u64, u32)> = affordable.map(|(_, place)| place).collect();
    found.sort_unstable();
    found
}

/// Bounds the entries that were too many to be weighed by those before and behind them.
fn bound(order: Order, series: &[(u64, u32)], spans: &[(u64, Span)], items: &mut [Item<'_>]) {
    let mut limit = |at: usize, bound: Span| {
        let item = &mut items[series[at].1 as usize];
        if let Left::Between { ended, accepted } = &mut item.left {
            match order {
                Order::Numbers(_) | Order::NumbersOf(..) => accepted.narrow(bound),
                Order::Lines { .. } => ended.narrow(bound),
            }
        }
    };
    let (mut from, mut known) = (Span::ALWAYS.0, spans.iter().peekable());
    for (at, (place, _)) in series.iter().enumerate() {
        while let Some((_, span)) = known.next_if(|known| known.0 < *place) {
            from = from.max(span.0.plus(-SLACK));
        }
        limit(at, Span(from, Span::ALWAYS.1));
    }
    let (mut to, mut known) = (Span::ALWAYS.1, spans.iter().rev().peekable());
    for (at, (place, _)) in series.iter().enumerate().rev() {
        while let Some((_, span)) = known.next_if(|known| known.0 > *place) {
            to = to.min(span.1.plus(SLACK));
        }
        limit(at, Span(Span::ALWAYS.0, to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::evidence::Evidence;
    use crate::time::SECOND;

    /// A client's stream that was accepted, and ended, so many seconds after the first.
    fn fit(stream: u32) -> Fit {
        let time = CaptureTime(i64::from(stream) * SECOND);
        Fit {
            stream,
            leg: Leg::Client,
            evidence: Evidence::default(),
            weight: 50,
            delta: 0,
            about_reset: true,
            stranger: false,
            claimed: false,
            server: None,
            port: 80,
            withheld: false,
            moment: Some(time),
            time,
            asked: true,
            taken: true,
        }
    }

    /// What is left of each entry's streams when an order is asked; nothing if it does not hold. With
    /// ranks, numbers are counted: `entries` are numbers with the streams that fit them.
    fn left(entries: &[(u64, Vec<u32>)], ranks: Option<&Ranks>) -> Vec<Vec<u32>> {
        let fits: Vec<Vec<Fit>> = entries
            .iter()
            .map(|(_, streams)| streams.iter().map(|&it| fit(it)).collect())
            .collect();
        let item = |fits| Item { entry: 0, fits, by_moment: by_moment(fits), left: Left::ALL };
        let mut items: Vec<Item<'_>> = fits.iter().map(|fits| item(fits)).collect();
        let series: Vec<(u64, u32)> =
            entries.iter().map(|(place, _)| *place).zip(0u32..).collect();
        if ask(Order::NumbersOf((None, 80), 1), &series, &mut items, ranks).is_none() {
            return Vec::new();
        }
        let streams = |item: &Item<'_>| {
            item.candidates().iter().map(|&at| item.fits[at as usize].stream).collect()
        };
        items.iter().map(streams).collect()
    }

    /// Entries that fit one stream each, the one of their own place.
    fn single(count: u32) -> Vec<(u64, Vec<u32>)> {
        (0..count).map(|at| (at.into(), vec![at])).collect()
    }

    #[test]
    fn a_stream_out_of_order_is_dropped() {
        let mut entries = single(40);
        entries[20].1 = vec![0, 19, 20, 21, 39];
        assert_eq!(left(&entries, None)[20], [20]);
    }

    #[test]
    fn near_one_that_is_out_of_order_little_is_dropped() {
        let mut entries = single(40);
        entries[20].1 = vec![0, 19, 20, 21, 39];
        entries[23].1 = vec![2];
        assert_eq!(left(&entries, None)[20], [19, 20, 21]);
    }

    #[test]
    fn an_order_that_leaves_many_alone_is_not_asked() {
        let entries: Vec<_> = (0..40).map(|at| (at, vec![40 - at as u32])).collect();
        assert!(left(&entries, None).is_empty());
    }

    /// Streams that were accepted one after the other.
    fn ranks(count: u32) -> Ranks {
        (0..count).map(|stream| (CaptureTime(i64::from(stream) * SECOND), stream)).collect()
    }

    #[test]
    fn numbers_are_no_fewer_than_the_connections_between_them() {
        // Every second connection is logged, and numbers have no gap but one.
        let mut entries: Vec<_> = (0..60).map(|at| (2 * at, vec![2 * at as u32])).collect();
        entries[30].1 = vec![59, 60, 61];
        assert_eq!(left(&entries, Some(&ranks(120)))[30], [60]);
        assert_eq!(left(&entries, None)[30], [59, 60, 61]);
        // Ten that nobody has seen took numbers behind it.
        entries[31..].iter_mut().for_each(|entry| entry.0 += 10);
        assert_eq!(left(&entries, Some(&ranks(120)))[30], [59, 60]);
    }

    #[test]
    fn more_connections_than_numbers_are_another_servers() {
        let entries: Vec<_> = (0..60).map(|at| (at, vec![2 * at as u32])).collect();
        assert!(!left(&entries, None).is_empty());
        assert!(left(&entries, Some(&ranks(120))).is_empty());
    }

    #[test]
    fn of_a_few_numbers_none_tells_that_they_count() {
        assert!(left(&single(20), Some(&ranks(20))).is_empty());
    }
}
