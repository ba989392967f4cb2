// SPDX-License-Identifier: GPL-2.0-or-later
//! What the order of the log leaves of the streams that each entry fits.
//!
//! In a storm an entry fits hundreds of streams: they have one client, one URI, and ended in
//! one second. Two orders tell most of them apart:
//!
//! - connection numbers grow in the order in which connections were accepted;
//! - lines are written in the order in which connections ended.
//!
//! Neither is strict. Processes race for a number, a blocked process notices an end late, and
//! not every end is logged. How far that goes differs from host to host and from moment to
//! moment, so it is read off the entries themselves: of all pairings of entries and streams that
//! do not cross, the best leaves few entries alone where the order holds, and many where it does
//! not. A stream is dropped only if every pairing with it is worse than the best by more than
//! what is left alone nearby explains ([`Slack`]); an entry that a best pairing leaves alone is
//! out of order, and the order says nothing of it.

use std::collections::BTreeMap;

use crate::correlate::agreement::Phases;
use crate::correlate::chain::{Chains, Link};
use crate::correlate::fit::Fit;
use crate::correlate::matcher::Group;
use crate::correlate::process::{Claim, InOrder};
use crate::correlate::store::{is_access, Kept, Store, Traits};
use crate::limits;
use crate::nginx::message::{Leg, Shows};
use crate::tcp::phase::Phase;
use crate::time::CaptureTime;

/// Entries before and behind that tell whether the order holds.
const NEAR: usize = 16;

/// Entries that a pairing may leave alone beyond those that the best one does: where the order
/// holds, and for each entry nearby that is out of order.
const SPARE: i64 = 1;
const SPARE_FOR_EACH: i64 = 2;

/// By how many entries a pairing has to be worse for what it contains to be out of the question,
/// whatever the order among neighbours is.
const FAR: i64 = 8;

/// Streams for each entry that an order may stand for, if entries that are out of order are to show:
/// where there are more, any entry finds one that stands in order.
const TIGHT: f64 = 1.25;

/// Entries that have to be told without asking their neighbours, for these to tell how far apart
/// in time two have to be to be in order, and the share of these that has to be so.
const MEASURED: usize = 200;
const IN_ORDER: f64 = 0.999;

/// How much further two may lie apart than was measured.
const UNSEEN: i64 = 2;

/// Share of the entries that have to be told without asking their neighbours for the order to decide
/// among those.
const CLEAR: f64 = 0.1;

/// What is never told apart, in nanoseconds.
const RACE_AT_LEAST: i64 = 1_000_000;

/// Nanoseconds by which streams may stand out of the order of the entries before and behind.
const SLACK: i64 = 10_000_000;

/// Streams that may be left for an entry to be more than one of a crowd.
const LEFT: usize = 16;

/// Times that each order is asked again, with what the others have left.
const ROUNDS: usize = 6;

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    /// Of connection numbers, and of when connections were accepted.
    Numbers,
    /// Of the lines of one file, and of when connections ended.
    Lines { file: u32 },
}

impl Order {
    /// Place of an entry; `None` if it has none.
    fn place(self, entry: u32, kept: &Kept) -> Option<u64> {
        match self {
            // An access log is written when nginx is done with a request, whenever that ended.
            Order::Lines { .. } if is_access(entry) => None,
            Order::Numbers => kept.connection.filter(|_| kept.traits.leg == Leg::Client),
            // What no packet brought about is not written when a packet comes, and what came
            // before nginx had taken the connection only when it has.
            Order::Lines { .. } => {
                let Traits { shows, phases, .. } = kept.traits;
                let prompt =
                    shows != Shows::NoAnswer && phases != Phases::of(&[Phase::BeforeRequest]);
                Some(u64::from(kept.line)).filter(|_| prompt)
            }
        }
    }

    /// Place of a stream.
    fn moment(self, fit: &Fit) -> Option<CaptureTime> {
        match self {
            Order::Numbers => fit.moment,
            Order::Lines { .. } => Some(fit.time),
        }
    }
}

/// An entry, and what is left of the streams that it fits.
struct Item<'a> {
    entry: u32,
    /// All that it fits, by time.
    fits: &'a [Fit],
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

impl Item<'_> {
    /// What lies between the bounds of when it ended.
    fn between(&self, ended: Span) -> std::ops::Range<u32> {
        let start = self.fits.partition_point(|fit| fit.time < ended.0);
        let rest = &self.fits[start..];
        let end = start + rest.partition_point(|fit| fit.time <= ended.1);
        start as u32..end as u32
    }

    /// The streams that are left.
    fn candidates(&self) -> Vec<u32> {
        match &self.left {
            Left::These(these) => these.clone(),
            Left::Between { ended, accepted } => {
                let fits = |&at: &u32| {
                    let moment = self.fits[at as usize].moment;
                    moment.is_none_or(|moment| accepted.holds(moment))
                };
                self.between(*ended).filter(fits).collect()
            }
        }
    }

    /// How many are left, or more where they are too many to be counted.
    fn count(&self) -> usize {
        match &self.left {
            Left::These(these) => these.len(),
            Left::Between { ended, .. } => match self.between(*ended).len() {
                many if many > limits::COUNTED => many,
                _ => self.candidates().len(),
            },
        }
    }
}

/// Splits groups into entries, each with the streams that the order leaves it, and the groups
/// of those entries for which these are too many. What is `told` already has its part in the
/// order, and is not returned.
pub(super) fn narrow(
    groups: &[Group],
    told: &[Group],
    store: &Store,
) -> (Vec<Group>, Vec<Group>) {
    let mut items: Vec<Item<'_>> = Vec::new();
    for group in groups.iter().chain(told) {
        let left = || Left::Between { ended: Span::ALWAYS, accepted: Span::ALWAYS };
        let entries = group.entries.iter();
        items.extend(entries.map(|&entry| Item { entry, fits: &group.fits, left: left() }));
    }
    let asked: usize = groups.iter().map(|group| group.entries.len()).sum();
    let mut series: BTreeMap<Order, Vec<(u64, u32)>> = BTreeMap::new();
    for (index, item) in (0u32..).zip(&items) {
        let Some(kept) = store.kept(item.entry) else { continue };
        for order in [Order::Numbers, Order::Lines { file: kept.file }] {
            if let Some(place) = order.place(item.entry, &kept) {
                series.entry(order).or_default().push((place, index));
            }
        }
    }
    series.values_mut().for_each(|series| series.sort_unstable());
    for _ in 0..ROUNDS {
        let mut told = false;
        for (order, series) in &series {
            told |= ask(*order, series, &mut items);
        }
        for _ in 0..ROUNDS {
            match ask_processes(&mut items, store) {
                true => told = true,
                false => break,
            }
        }
        if !told {
            break;
        }
    }
    // What still fits a crowd belongs with the others that do.
    items.truncate(asked);
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

/// Links that are looked at of any series, however short.
const LINKS_AT_LEAST: usize = 4096;

/// Drops what an order does not leave; whether that is anything.
fn ask(order: Order, series: &[(u64, u32)], items: &mut [Item<'_>]) -> bool {
    let budget = (series.len() * limits::LINKS).clamp(LINKS_AT_LEAST, limits::PAIRS);
    let chosen: Vec<(u64, u32, Vec<u32>)> = rarest(series, items, budget)
        .into_iter()
        .map(|(place, index)| (place, index, items[index as usize].candidates()))
        .collect();
    let mut moments: Vec<(CaptureTime, u32)> = Vec::new();
    for (_, index, these) in &chosen {
        let fits = items[*index as usize].fits;
        let of =
            |&at: &u32| Some((order.moment(&fits[at as usize])?, fits[at as usize].stream));
        moments.extend(these.iter().filter_map(of));
    }
    moments.sort_unstable();
    moments.dedup();
    let mut links = Vec::new();
    let mut last = None;
    let mut unit = 0;
    for (place, index, these) in &chosen {
        unit += u32::from(last.is_some_and(|last| last != *place));
        last = Some(*place);
        let fits = items[*index as usize].fits;
        for &at in these {
            let fit = &fits[at as usize];
            // One that has no place in the order fits anywhere, and tells nothing.
            let stream = order
                .moment(fit)
                .and_then(|moment| moments.binary_search(&(moment, fit.stream)).ok());
            links.extend(stream.map(|stream| Link { unit, stream: stream as u32, value: 1 }));
        }
    }
    let slack = Slack::new(order, &links, &moments);
    let mut at_link = 0;
    let mut told = false;
    // What each place leaves to its neighbours.
    let mut spans: Vec<(u64, Span)> = Vec::new();
    for (place, index, these) in chosen {
        let item = &mut items[index as usize];
        let fits = item.fits;
        let mut span: Option<Span> = None;
        let mut left = these;
        let before = left.len();
        left.retain(|&at| {
            let Some(moment) = order.moment(&fits[at as usize]) else { return true };
            let stays = slack.keeps(at_link);
            at_link += 1;
            if stays {
                let Span(from, to) = span.unwrap_or(Span(moment, moment));
                span = Some(Span(from.min(moment), to.max(moment)));
            }
            stays
        });
        spans.extend(span.map(|span| (place, span)));
        told |= left.len() < before;
        item.left = Left::These(left);
    }
    bound(order, series, &spans, items);
    told
}

/// Drops what the numbers of one process do not leave, between those that one stream is left for;
/// whether that is anything.
fn ask_processes(items: &mut [Item<'_>], store: &Store) -> bool {
    let claim = |item: &Item<'_>, at: u32| {
        let kept = store.kept(item.entry).filter(|kept| kept.traits.leg == Leg::Client)?;
        // An access log tells no process.
        let number = kept.connection.filter(|_| !is_access(item.entry))?;
        Claim::new(kept.pid, number, &item.fits[at as usize])
    };
    let single = items.iter().filter(|item| item.count() == 1);
    let told = single.filter_map(|item| claim(item, *item.candidates().first()?));
    let in_order = InOrder::new(told);
    let mut dropped = false;
    for item in items.iter_mut() {
        let Left::These(these) = &item.left else { continue };
        let allowed = |&&at: &&u32| claim(item, at).is_none_or(|claim| in_order.allow(claim));
        let left: Vec<u32> = these.iter().filter(allowed).copied().collect();
        // One that nothing is left for shows that something nearby is wrong.
        if !left.is_empty() && left.len() < these.len() {
            dropped = true;
            item.left = Left::These(left);
        }
    }
    dropped
}

/// What an order leaves open.
struct Slack<'a> {
    order: Order,
    links: &'a [Link],
    moments: &'a [(CaptureTime, u32)],
    chains: Chains,
    /// By unit.
    units: Vec<Unit>,
    /// Entries that are out of order are left alone.
    is_tight: bool,
    /// Enough entries are told without asking their neighbours.
    is_informed: bool,
    /// Nanoseconds that two have to lie apart to be in order; `None` if that is not known.
    race: Option<i64>,
}

/// What the best pairings make of a unit.
#[derive(Clone, Copy, Default)]
struct Unit {
    /// Each of them has it.
    needed: bool,
    /// When the stream was due that it is paired with, if all of them have the same.
    best: Option<CaptureTime>,
    /// Units nearby that one of them leaves alone.
    alone: i64,
}

impl<'a> Slack<'a> {
    fn new(order: Order, links: &'a [Link], moments: &'a [(CaptureTime, u32)]) -> Slack<'a> {
        let chains = Chains::new(links);
        let mut units: Vec<Unit> = Vec::new();
        let mut clear: Vec<CaptureTime> = Vec::new();
        let mut at = 0;
        for of_unit in links.chunk_by(|one, other| one.unit == other.unit) {
            let own = at..at + of_unit.len();
            at = own.end;
            // Those without links are out of the question.
            units.resize(of_unit[0].unit as usize, Unit { needed: true, ..Unit::default() });
            let moment = |link: usize| moments[links[link].stream as usize].0;
            // The only stream, if there is one, that a pairing has which is no worse than that.
            let within = |spare: i64| {
                let mut kept =
                    own.clone().filter(|&link| chains.through[link] + spare >= chains.best);
                let first = kept.next()?;
                kept.all(|link| links[link].stream == links[first].stream)
                    .then(|| moment(first))
            };
            clear.extend(within(FAR));
            units.push(Unit { needed: chains.need(own.clone()), best: within(0), alone: 0 });
        }
        let mut is_alone = vec![1; units.len()];
        chains.one(links).for_each(|link| is_alone[links[link].unit as usize] = 0);
        let mut sums: Vec<i64> = vec![0];
        for alone in is_alone {
            sums.push(sums[sums.len() - 1] + alone);
        }
        for (index, unit) in units.iter_mut().enumerate() {
            let (from, to) =
                (index.saturating_sub(NEAR), (index + NEAR + 1).min(sums.len() - 1));
            unit.alone = sums[to] - sums[from];
        }
        let is_tight = moments.len() as f64 <= chains.best as f64 * TIGHT;
        let is_informed = clear.len() as f64 >= units.len() as f64 * CLEAR;
        Slack {
            order,
            links,
            moments,
            chains,
            units,
            is_tight,
            is_informed,
            race: race(&clear),
        }
    }

    /// Whether a link may hold for all that the order tells.
    fn keeps(&self, link: usize) -> bool {
        let Link { unit, stream, .. } = self.links[link];
        let unit = &self.units[unit as usize];
        let lost = self.chains.best - self.chains.through[link];
        let apart = unit.best.map(|best| self.moments[stream as usize].0.since(best).abs());
        let near = || apart.zip(self.race).is_none_or(|(apart, race)| apart < race);
        // What was measured tells more than the few that may be left alone.
        let spare = if self.race.is_some() { FAR } else { SPARE };
        match (unit.needed, unit.alone) {
            // A line may be late by any time, and there is none to tell that from.
            _ if !self.is_tight && self.order != Order::Numbers => true,
            // Where all are alike, one that is out of order moves its neighbours, and none shows it.
            _ if !self.is_informed => true,
            (false, _) => lost <= FAR * (1 + unit.alone),
            (true, alone) if !self.is_tight => lost <= FAR + SPARE_FOR_EACH * alone,
            (true, 0) => lost == 0 || lost <= spare && near(),
            (true, alone) => lost <= SPARE + SPARE_FOR_EACH * alone || lost <= spare && near(),
        }
    }
}

/// How far apart in time two of a series have to be to be in order, as those tell of which it is
/// known when they were; `None` if these are too few.
fn race(series: &[CaptureTime]) -> Option<i64> {
    let mut latest = CaptureTime(i64::MIN);
    let mut late: Vec<i64> = Vec::with_capacity(series.len());
    for &time in series {
        latest = latest.max(time);
        late.push(latest.since(time));
    }
    let most = (series.len() as f64 * IN_ORDER) as usize;
    let apart = (series.len() >= MEASURED).then(|| *late.select_nth_unstable(most).1);
    apart.map(|apart| RACE_AT_LEAST.max(UNSEEN * apart))
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
                Order::Numbers => accepted.narrow(bound),
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
        }
    }

    /// What the order leaves of `streams` for the entry in the middle of ones that fit one
    /// stream each.
    fn left_in_the_middle(streams: &[u32]) -> Vec<u32> {
        let single: Vec<Vec<Fit>> = (0..9).map(|stream| vec![fit(stream)]).collect();
        let many: Vec<Fit> = streams.iter().map(|&stream| fit(stream)).collect();
        let item = |fits| Item {
            entry: 0,
            fits,
            left: Left::Between { ended: Span::ALWAYS, accepted: Span::ALWAYS },
        };
        let mut items: Vec<Item<'_>> = single.iter().map(|fits| item(fits)).collect();
        items[4] = item(&many);
        let series: Vec<(u64, u32)> = (0..9).map(|index| (u64::from(index), index)).collect();
        ask(Order::Numbers, &series, &mut items);
        items[4].candidates().iter().map(|&at| many[at as usize].stream).collect()
    }

    #[test]
    fn a_stream_far_out_of_order_is_dropped_and_a_near_one_stays() {
        assert_eq!(left_in_the_middle(&[0, 3, 4, 5, 8]), [3, 4, 5]);
    }
}
