// SPDX-License-Identifier: GPL-2.0-or-later
//! One to one: which unit of the log goes to which stream, where several would do.
//!
//! The question is put as plain data (units, streams, and edges between what fits) and
//! answered for everything that hangs together at once. A unit is given to a stream only where
//! there is no second answer as good as the first; where there is, it is shown on every stream
//! of an equally good answer, with its rivals counted.

use std::collections::{HashMap, HashSet};

use crate::correlate::chain::{Chains, Link};
use crate::time::CaptureTime;

/// A unit fits a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Index of the unit.
    pub unit: u32,
    /// Number of the stream.
    pub stream: u32,
    /// How well it fits, 0 to 100.
    pub weight: u8,
    /// Place of the stream in the order that units and streams share; `None` where the capture
    /// does not show it.
    pub moment: Option<CaptureTime>,
    /// Place of the unit in that order; `None` where the log does not tell.
    pub place: Option<Place>,
}

/// Where a unit stands in the order of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// What grows with the order.
    pub number: u64,
    /// The process that wrote it: one process sees things in the order in which they happen.
    pub process: u32,
    /// Nanoseconds that two packets have to lie apart for several processes to take them in
    /// the order of the capture.
    pub race: i64,
    /// The same for one process.
    pub own: i64,
}

/// A unit that belongs, or may belong, to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// Index of the edge that holds.
    pub edge: usize,
    /// Other streams that the unit could be about.
    pub rivals: u32,
    /// What told it from its rivals.
    pub by: Decision,
}

/// Why a unit goes to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// No other stream fits.
    Only,
    /// Every other one is taken, or it fits this stream best, and no other unit fits it as well.
    Best,
    /// Connection numbers are in the order in which connections were accepted.
    Order,
    /// Nothing: it fits other streams equally well.
    Open,
}

/// Nanoseconds that two handshakes have to lie apart for one process to number them in the order
/// of the capture.
pub(super) const ONE_PROCESS: i64 = 10_000;

/// How far apart two packets have to lie for these places to tell which came first.
fn resolution(mut places: impl Iterator<Item = Place>) -> i64 {
    let Some(first) = places.next() else { return ONE_PROCESS };
    let others = places.filter(|place| place.process != first.process);
    others.map(|place| place.race.max(first.race)).max().unwrap_or(first.own)
}

/// Assigns units to streams.
pub fn assign(edges: &[Edge]) -> Vec<Assigned> {
    let graph = Graph::new(edges);
    let mut out = Vec::new();
    let mut taken = Taken::default();
    graph.propagate(&mut taken, &mut out);
    for component in graph.components(&taken) {
        graph.solve(&component, &mut taken, &mut out);
    }
    out
}

/// Assigns units that fit one stream only. In a storm it is no evidence that others have taken the
/// rest of what a unit fits: one that has taken a wrong one would move all behind it.
pub fn assign_each(edges: &[Edge]) -> Vec<Assigned> {
    let graph = Graph::new(edges);
    let nothing = Taken::default();
    let is_contested = |edge: &Edge| {
        let of_stream = graph.of_stream(edge.stream).iter();
        let only = of_stream.filter(|&&at| graph.of_unit(edges[at].unit).len() == 1);
        only.count() > 1
    };
    let assigned = edges.iter().enumerate().map(|(at, edge)| {
        let is_only = graph.only_edge(edge.unit, &nothing).is_some() && !is_contested(edge);
        let by = if is_only { Decision::Only } else { Decision::Open };
        Assigned { edge: at, rivals: graph.rivals(edge.unit), by }
    });
    assigned.collect()
}

struct Graph<'a> {
    edges: &'a [Edge],
    by_unit: HashMap<u32, Vec<usize>>,
    by_stream: HashMap<u32, Vec<usize>>,
}

/// Units and streams that are assigned.
#[derive(Default)]
struct Taken {
    units: HashSet<u32>,
    streams: HashSet<u32>,
}

impl Taken {
    fn take(&mut self, edge: &Edge) {
        self.units.insert(edge.unit);
        self.streams.insert(edge.stream);
    }

    fn is_free(&self, edge: &Edge) -> bool {
        !self.units.contains(&edge.unit) && !self.streams.contains(&edge.stream)
    }
}

impl<'a> Graph<'a> {
    fn new(edges: &'a [Edge]) -> Graph<'a> {
        let mut by_unit: HashMap<u32, Vec<usize>> = HashMap::new();
        let mut by_stream: HashMap<u32, Vec<usize>> = HashMap::new();
        for (index, edge) in edges.iter().enumerate() {
            by_unit.entry(edge.unit).or_default().push(index);
            by_stream.entry(edge.stream).or_default().push(index);
        }
        Graph { edges, by_unit, by_stream }
    }

    fn of_unit(&self, unit: u32) -> &[usize] {
        self.by_unit.get(&unit).map_or(&[], Vec::as_slice)
    }

    fn of_stream(&self, stream: u32) -> &[usize] {
        self.by_stream.get(&stream).map_or(&[], Vec::as_slice)
    }

    /// Assigns units that fit one free stream only, until there is none, unless two such units
    /// want the same stream.
    fn propagate(&self, taken: &mut Taken, out: &mut Vec<Assigned>) {
        let mut queue: Vec<u32> = self.by_unit.keys().copied().collect();
        queue.sort_unstable();
        while let Some(unit) = queue.pop() {
            let Some(edge) = self.only_edge(unit, taken) else { continue };
            let stream = self.edges[edge].stream;
            let rivals = self.of_stream(stream).iter().map(|&e| self.edges[e].unit);
            let contested =
                rivals.filter(|&u| u != unit).any(|u| self.only_edge(u, taken).is_some());
            if contested {
                continue;
            }
            taken.take(&self.edges[edge]);
            // That others are taken is as good as what took them.
            let by = match self.of_unit(unit).len() {
                1 => Decision::Only,
                _ => Decision::Best,
            };
            out.push(Assigned { edge, rivals: 0, by });
            queue.extend(self.of_stream(stream).iter().map(|&e| self.edges[e].unit));
        }
    }

    /// The one edge of a free unit to a free stream.
    fn only_edge(&self, unit: u32, taken: &Taken) -> Option<usize> {
        let mut free = self.of_unit(unit).iter().filter(|&&e| taken.is_free(&self.edges[e]));
        let first = free.next()?;
        free.next().is_none().then_some(*first)
    }

    /// What is left, in parts that do not touch: each the free edges of one part.
    fn components(&self, taken: &Taken) -> Vec<Vec<usize>> {
        let mut seen = vec![false; self.edges.len()];
        let mut out = Vec::new();
        for start in 0..self.edges.len() {
            if seen[start] || !taken.is_free(&self.edges[start]) {
                continue;
            }
            seen[start] = true;
            let mut part = vec![start];
            let mut next = 0;
            while let Some(&edge) = part.get(next) {
                next += 1;
                let Edge { unit, stream, .. } = self.edges[edge];
                for &near in self.of_unit(unit).iter().chain(self.of_stream(stream)) {
                    if !seen[near] && taken.is_free(&self.edges[near]) {
                        seen[near] = true;
                        part.push(near);
                    }
                }
            }
            out.push(part);
        }
        out
    }

    fn solve(&self, part: &[usize], taken: &mut Taken, out: &mut Vec<Assigned>) {
        if !self.solve_by_order(part, taken, out) {
            self.solve_by_weight(part, taken, out);
        }
    }

    /// Takes units and streams that are each other's best, then shows the rest as open.
    fn solve_by_weight(&self, part: &[usize], taken: &mut Taken, out: &mut Vec<Assigned>) {
        let mut ranked = part.to_vec();
        ranked.sort_by_key(|&e| std::cmp::Reverse(self.edges[e].weight));
        for &edge in &ranked {
            let Edge { unit, stream, weight, .. } = self.edges[edge];
            if !taken.is_free(&self.edges[edge]) {
                continue;
            }
            let as_good = |near: &usize| {
                let other = &self.edges[*near];
                *near != edge && other.weight >= weight && taken.is_free(other)
            };
            let near = self.of_unit(unit).iter().chain(self.of_stream(stream));
            if near.copied().any(|e| as_good(&e)) {
                continue;
            }
            taken.take(&self.edges[edge]);
            out.push(Assigned { edge, rivals: self.rivals(unit), by: Decision::Best });
        }
        for &edge in part {
            let Edge { unit, weight, .. } = self.edges[edge];
            let free = |e: &&usize| taken.is_free(&self.edges[**e]);
            let left = || self.of_unit(unit).iter().filter(free);
            let best = left().map(|&e| self.edges[e].weight).max();
            let as_good = left().filter(|&&e| Some(self.edges[e].weight) == best).count();
            // One that better fits took all streams from may be about any of them after all.
            let lost_all = best.is_none() && !taken.units.contains(&unit);
            if lost_all || taken.is_free(&self.edges[edge]) && best == Some(weight) {
                let rivals =
                    if lost_all { self.rivals(unit) } else { as_good.saturating_sub(1) as u32 };
                out.push(Assigned { edge, rivals, by: Decision::Open });
            }
        }
    }

    /// Streams besides the one that it is given to that a unit fits.
    fn rivals(&self, unit: u32) -> u32 {
        self.of_unit(unit).len().saturating_sub(1) as u32
    }

    /// Assigns by the order of connection numbers and connections, if all of both are known.
    ///
    /// Of all ways to pair units and streams without crossing, the best pair the most, and of
    /// those fit the best. What all the best ways have in common is decided.
    fn solve_by_order(&self, part: &[usize], taken: &Taken, out: &mut Vec<Assigned>) -> bool {
        let Some(table) = Ordered::new(self.edges, part) else { return false };
        for (index, &unit) in table.units.iter().enumerate() {
            let options = table.options(index);
            let by = match options.as_slice() {
                [Some(edge)] if !self.is_close_call(*edge, taken) => Decision::Order,
                _ => Decision::Open,
            };
            let rivals = self.rivals(unit);
            let mut shown: Vec<usize> = options.into_iter().flatten().collect();
            if shown.is_empty() {
                // Out of order, so any of its streams may be the one.
                shown.extend(table.edges_of(index).map(|at| table.edges[at].1));
            }
            out.extend(shown.into_iter().map(|edge| Assigned { edge, rivals, by }));
        }
        true
    }

    /// Whether another stream of the unit stands too close to this one for the order to tell
    /// them apart.
    fn is_close_call(&self, edge: usize, taken: &Taken) -> bool {
        let Edge { unit, stream, moment, place, .. } = self.edges[edge];
        let free = |edge: &&Edge| taken.is_free(edge);
        let mut others = self.of_unit(unit).iter().map(|&other| &self.edges[other]);
        others.any(|other| {
            let apart = moment.zip(other.moment).map(|(a, b)| a.since(b).abs());
            let is_near = |than: i64| apart.is_none_or(|apart| apart < than);
            // Whoever could be about one of the two may have been early or late.
            let claims = || {
                let both = self.of_stream(stream).iter().chain(self.of_stream(other.stream));
                both.map(|&edge| &self.edges[edge]).filter(free).filter_map(|edge| edge.place)
            };
            other.stream != stream
                && free(&other)
                && place.is_none_or(|place| is_near(place.race.max(ONE_PROCESS)))
                && is_near(resolution(claims()))
        })
    }
}

/// Units and streams of one part, each in its order, and their best pairings.
struct Ordered {
    units: Vec<u32>,
    /// Edges by the place of their unit.
    edges: Vec<(Link, usize)>,
    chains: Chains,
}

/// One more pair is worth more than any better fit.
const PAIR: i64 = 1 << 20;

impl Ordered {
    fn new(all: &[Edge], part: &[usize]) -> Option<Ordered> {
        let mut units: Vec<(Place, u32)> = Vec::new();
        let mut streams: Vec<(CaptureTime, u32)> = Vec::new();
        for &edge in part {
            let Edge { unit, stream, moment, place, .. } = all[edge];
            units.push((place?, unit));
            streams.push((moment?, stream));
        }
        units.sort_unstable();
        units.dedup();
        streams.sort_unstable();
        streams.dedup();
        let mut edges = Vec::with_capacity(part.len());
        for &index in part {
            let Edge { unit, stream, weight, moment, place } = all[index];
            let link = Link {
                unit: units.binary_search(&(place?, unit)).ok()? as u32,
                stream: streams.binary_search(&(moment?, stream)).ok()? as u32,
                value: PAIR + i64::from(weight),
            };
            edges.push((link, index));
        }
        edges.sort_by_key(|(link, _)| (link.unit, link.stream));
        let links: Vec<Link> = edges.iter().map(|&(link, _)| link).collect();
        let units = units.into_iter().map(|(_, unit)| unit).collect();
        Some(Ordered { units, edges, chains: Chains::new(&links) })
    }

    /// The places of a unit's edges.
    fn edges_of(&self, unit: usize) -> std::ops::Range<usize> {
        let start = self.edges.partition_point(|(link, _)| (link.unit as usize) < unit);
        let rest = &self.edges[start..];
        start..start + rest.partition_point(|(link, _)| link.unit as usize == unit)
    }

    /// What a unit is paired with in the best pairings; `None` among them where one of these
    /// leaves it alone.
    fn options(&self, unit: usize) -> Vec<Option<usize>> {
        let edges = self.edges_of(unit);
        let best = edges.clone().filter(|&at| self.chains.is_best(at));
        let mut out: Vec<Option<usize>> = best.map(|at| Some(self.edges[at].1)).collect();
        if !self.chains.need(edges) {
            out.push(None);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Edges `(unit, stream, weight)`; units are numbered in their order, streams opened a
    /// second apart in theirs.
    fn ordered(edges: &[(u32, u32, u8)]) -> Vec<Edge> {
        let edge = |&(unit, stream, weight): &(u32, u32, u8)| Edge {
            unit,
            stream,
            weight,
            moment: Some(CaptureTime(i64::from(stream) * 1_000_000_000)),
            place: Some(Place { number: unit.into(), process: 1, race: 0, own: ONE_PROCESS }),
        };
        edges.iter().map(edge).collect()
    }

    fn unordered(edges: &[(u32, u32, u8)]) -> Vec<Edge> {
        let edges = ordered(edges).into_iter();
        edges.map(|edge| Edge { place: None, ..edge }).collect()
    }

    /// `unit>stream` with a letter for the decision (`o` for open) and the rivals, in order.
    fn run(edges: &[Edge]) -> String {
        written(edges, assign(edges))
    }

    fn written(edges: &[Edge], assigned: Vec<Assigned>) -> String {
        let mut out: Vec<String> = assigned
            .into_iter()
            .map(|a| {
                let Edge { unit, stream, .. } = edges[a.edge];
                let by = match a.by {
                    Decision::Only => '!',
                    Decision::Best => 'B',
                    Decision::Order => 'O',
                    Decision::Open => 'o',
                };
                format!("{unit}>{stream}{by}{}", a.rivals)
            })
            .collect();
        out.sort();
        out.join(" ")
    }

    #[test]
    fn what_fits_one_stream_only_takes_it_from_the_others() {
        let edges = [(1, 1, 50), (1, 2, 50), (2, 1, 50)];
        assert_eq!(run(&unordered(&edges)), "1>2B0 2>1!0");
    }

    #[test]
    fn in_a_storm_what_others_take_tells_nothing() {
        let edges = [(1, 1, 50), (1, 2, 50), (2, 1, 50), (3, 3, 50), (4, 4, 50), (5, 4, 50)];
        let edges = unordered(&edges);
        let written = written(&edges, assign_each(&edges));
        assert_eq!(written, "1>1o1 1>2o1 2>1!0 3>3!0 4>4o0 5>4o0");
    }

    #[test]
    fn the_order_decides_between_equals() {
        let edges = [(1, 1, 50), (1, 2, 50), (2, 1, 50), (2, 2, 50)];
        assert_eq!(run(&ordered(&edges)), "1>1O1 2>2O1");
    }

    #[test]
    fn without_an_order_equals_stay_open() {
        let edges = [(1, 1, 50), (1, 2, 50), (2, 1, 50), (2, 2, 50)];
        assert_eq!(run(&unordered(&edges)), "1>1o1 1>2o1 2>1o1 2>2o1");
    }

    #[test]
    fn more_streams_than_units_leave_it_open() {
        let edges = [(1, 1, 50), (1, 2, 50), (1, 3, 50)];
        assert_eq!(run(&ordered(&edges)), "1>1o2 1>2o2 1>3o2");
    }

    #[test]
    fn a_better_fit_wins_over_a_worse_one() {
        let edges = [(1, 1, 50), (1, 2, 60), (2, 1, 60), (2, 2, 50)];
        assert_eq!(run(&unordered(&edges)), "1>2B1 2>1B1");
    }

    #[test]
    fn what_only_loses_to_better_fits_stays_open() {
        let edges = [(1, 1, 60), (1, 2, 55), (2, 1, 55), (2, 2, 60), (3, 1, 50), (3, 2, 50)];
        assert_eq!(run(&unordered(&edges)), "1>1B1 2>2B1 3>1o1 3>2o1");
    }

    #[test]
    fn two_units_that_only_fit_the_same_stream_are_both_uncertain() {
        let edges = [(1, 1, 50), (2, 1, 50)];
        assert_eq!(run(&unordered(&edges)), "1>1o0 2>1o0");
        assert_eq!(run(&ordered(&edges)), "1>1o0 2>1o0");
    }

    #[test]
    fn connections_opened_together_are_not_told_apart_by_order() {
        let edges = [(1, 1, 50), (1, 2, 50), (2, 1, 50), (2, 2, 50)];
        let mut edges = ordered(&edges);
        for edge in &mut edges {
            edge.moment = Some(CaptureTime(i64::from(edge.stream)));
        }
        assert!(assign(&edges).iter().all(|a| a.by == Decision::Open));
    }

    #[test]
    fn one_process_keeps_its_order_whatever_others_write_elsewhere() {
        const MILLISECOND: i64 = 1_000_000;
        // Two streams a millisecond apart, and two of another time.
        let moments = [0, 0, MILLISECOND, 9_000 * MILLISECOND, 10_000 * MILLISECOND];
        let decided = |edges: &[(u32, u32, u8)]| {
            let mut edges = ordered(edges);
            for edge in &mut edges {
                edge.moment = Some(CaptureTime(moments[edge.stream as usize]));
                let process = if edge.unit <= 2 { 1 } else { 2 };
                let number = edge.unit.into();
                edge.place =
                    Some(Place { number, process, race: 5 * MILLISECOND, own: ONE_PROCESS });
            }
            run(&edges)
        };
        let mut edges = vec![(1, 1, 50), (1, 2, 50), (2, 1, 50), (2, 2, 50), (2, 3, 50)];
        edges.extend([(3, 3, 50), (3, 4, 50), (4, 3, 50), (4, 4, 50)]);
        assert_eq!(decided(&edges), "1>1O1 2>2O2 3>3O1 4>4O1");
        // Another one may have been late.
        edges.push((3, 2, 50));
        assert_eq!(decided(&edges), "1>1o1 2>2o2 3>3O2 4>4O1");
    }
}
