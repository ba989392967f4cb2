// SPDX-License-Identifier: GPL-2.0-or-later
//! What an assignment leaves in doubt, and on which streams that is shown.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::correlate::assign::{Assigned, Decision, Edge};

/// Doubts units that are near one for which no stream is left. Then the capture lacks a stream, or
/// one ended unlike the log has it, and that may be anybody's who fits as well: if the one that is
/// left over took the stream of another, the other would be left over in its place. `at_best` is what
/// each edge would weigh if the unit told more: that it does not is nothing against it.
pub(super) fn where_streams_lack(edges: &[Edge], at_best: &[u8], assigned: &mut [Assigned]) {
    let by_unit = by_unit(edges);
    let told = assigned.iter().filter(|it| it.by != Decision::Open);
    let held: HashMap<u32, usize> = told.map(|it| (edges[it.edge].stream, it.edge)).collect();
    let has_stream: HashSet<u32> = held.values().map(|&at| edges[at].unit).collect();
    let open = by_unit.keys().copied().filter(|unit| !has_stream.contains(unit));
    let mut left = Left { edges, by_unit: &by_unit, held: &held, taken: HashMap::new() };
    let mut queue: Vec<u32> =
        open.filter(|&unit| !left.finds_stream(unit, &mut HashSet::new())).collect();
    let mut seen: HashSet<u32> = queue.iter().copied().collect();
    let (mut doubted, mut outweighed) = (HashSet::new(), HashSet::new());
    while let Some(unit) = queue.pop() {
        for at in by_unit[&unit].iter().copied() {
            let (stream, weight) = (edges[at].stream, at_best[at]);
            let other = match (held.get(&stream), left.taken.get(&stream)) {
                (Some(&holder), _) if weight < at_best[holder] => {
                    outweighed.insert(edges[holder].unit);
                    continue;
                }
                (Some(&holder), _) => {
                    doubted.insert(edges[holder].unit);
                    edges[holder].unit
                }
                (None, Some(&other)) => other,
                (None, None) => continue,
            };
            if seen.insert(other) {
                queue.push(other);
            }
        }
    }
    for it in assigned.iter_mut().filter(|it| it.by != Decision::Open) {
        let unit = edges[it.edge].unit;
        if doubted.contains(&unit) {
            it.by = Decision::Open;
            it.rivals = by_unit[&unit].len() as u32 - 1;
        } else if it.by == Decision::Only && outweighed.contains(&unit) {
            it.by = Decision::Best;
        }
    }
}

/// Streams that nobody has for certain, and who could have each of them at the same time.
struct Left<'a> {
    edges: &'a [Edge],
    by_unit: &'a BTreeMap<u32, Vec<usize>>,
    held: &'a HashMap<u32, usize>,
    taken: HashMap<u32, u32>,
}

impl Left<'_> {
    /// Whether a unit can have one, if others move.
    fn finds_stream(&mut self, unit: u32, asked: &mut HashSet<u32>) -> bool {
        let by_unit = self.by_unit;
        by_unit[&unit].iter().any(|&at| {
            let stream = self.edges[at].stream;
            if self.held.contains_key(&stream) || !asked.insert(stream) {
                return false;
            }
            let other = self.taken.get(&stream).copied();
            let is_free = other.is_none_or(|other| self.finds_stream(other, asked));
            if is_free {
                self.taken.insert(stream, unit);
            }
            is_free
        })
    }
}

/// Shows what stays open, with more rivals than it is shown on streams, on each that no other unit
/// has.
pub(super) fn everywhere(edges: &[Edge], mut assigned: Vec<Assigned>) -> Vec<Assigned> {
    let is_open = |it: &Assigned| it.by == Decision::Open;
    let taken = assigned.iter().filter(|it| !is_open(it)).map(|it| edges[it.edge].stream);
    let taken: HashSet<u32> = taken.collect();
    let mut shown: BTreeMap<u32, (usize, u32)> = BTreeMap::new();
    for it in assigned.iter().filter(|it| is_open(it)) {
        let (places, rivals) = shown.entry(edges[it.edge].unit).or_default();
        (*places, *rivals) = (*places + 1, it.rivals);
    }
    shown.retain(|_, (places, rivals)| *places != *rivals as usize + 1);
    assigned.retain(|it| !shown.contains_key(&edges[it.edge].unit));
    for (_, mut all) in by_unit(edges).into_iter().filter(|(unit, _)| shown.contains_key(unit))
    {
        let is_free = |at: &usize| !taken.contains(&edges[*at].stream);
        // What is open between one stream and those that others have may be about these after all.
        if all.iter().filter(|at| is_free(at)).count() > 1 {
            all.retain(is_free);
        }
        let rivals = all.len() as u32 - 1;
        let open = |edge| Assigned { edge, rivals, by: Decision::Open };
        assigned.extend(all.into_iter().map(open));
    }
    assigned
}

/// The edges of each unit.
fn by_unit(edges: &[Edge]) -> BTreeMap<u32, Vec<usize>> {
    let mut by_unit: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (at, edge) in edges.iter().enumerate() {
        by_unit.entry(edge.unit).or_default().push(at);
    }
    by_unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::assign::assign;

    /// Of edges `(unit, stream, weight)` those that are told: `unit>stream`, `B` where another one
    /// fits as well, or less well.
    fn told(edges: &[(u32, u32, u8)]) -> String {
        let edge = |&(unit, stream, weight): &(u32, u32, u8)| Edge {
            unit,
            stream,
            weight,
            moment: None,
            place: None,
        };
        let edges: Vec<Edge> = edges.iter().map(edge).collect();
        let mut assigned = assign(&edges);
        let at_best: Vec<u8> = edges.iter().map(|edge| edge.weight).collect();
        where_streams_lack(&edges, &at_best, &mut assigned);
        let told = assigned.iter().filter(|it| it.by != Decision::Open).map(|it| {
            let Edge { unit, stream, .. } = edges[it.edge];
            let by = if it.by == Decision::Only { "" } else { "B" };
            format!("{unit}>{stream}{by}")
        });
        let mut told: Vec<String> = told.collect();
        told.sort();
        told.join(" ")
    }

    #[test]
    fn where_there_are_streams_for_all_nothing_is_doubted() {
        assert_eq!(told(&[(1, 1, 50), (1, 2, 50), (2, 1, 50)]), "1>2B 2>1");
        assert_eq!(told(&[(1, 1, 50), (2, 2, 50)]), "1>1 2>2");
    }

    #[test]
    fn whose_stream_is_missing_nobody_knows() {
        // The third one fits what the other two have.
        let two = [(1, 1, 50), (2, 1, 50), (2, 2, 50)];
        assert_eq!(told(&two), "1>1 2>2B");
        assert_eq!(told(&[&two[..], &[(3, 2, 50)]].concat()), "");
        assert_eq!(told(&[&two[..], &[(3, 1, 50), (3, 2, 50), (4, 7, 50)]].concat()), "4>7");
    }

    #[test]
    fn who_fits_better_keeps_its_stream_with_less_certainty() {
        assert_eq!(told(&[(1, 1, 90), (2, 1, 50), (2, 2, 50), (3, 2, 50)]), "1>1B");
        assert_eq!(told(&[(1, 1, 90), (2, 1, 50)]), "1>1B");
    }
}
