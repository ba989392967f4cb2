// SPDX-License-Identifier: GPL-2.0-or-later
//! Pairings that do not cross, of two things that stand in one order each.
//!
//! Of all pairings of units and streams without crossing, the best have the most value in sum.
//! For each possible pair, [`Chains`] holds the value of the best pairing that contains it; so
//! it tells what all the best pairings have in common, and what is far from any of them. The
//! cost is n log n in the number of possible pairs.

/// A unit and a stream that fit, by their places in the two orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Place of the unit.
    pub unit: u32,
    /// Place of the stream.
    pub stream: u32,
    /// What the pair is worth; more than 0.
    pub value: i64,
}

/// Counts of pairings are kept as remainders of this prime: two that are alike are the same,
/// for all that chance can do.
const PRIME: u64 = (1 << 61) - 1;

/// The best pairings.
#[derive(Debug)]
pub struct Chains {
    /// Value of the best.
    pub best: i64,
    /// By link: value of the best pairing that contains it.
    pub through: Vec<i64>,
    /// By link: value of what the best pairing that contains it has up to it.
    until: Vec<i64>,
    /// By link: how many pairings of that value contain it.
    ways: Vec<u64>,
    /// How many are the best.
    total: u64,
    /// Links from the last unit to the first.
    from_last: Vec<u32>,
}

impl Chains {
    /// The best pairings of links, in whatever order these are.
    pub fn new(links: &[Link]) -> Chains {
        let width = links.iter().map(|link| link.stream as usize + 1).max().unwrap_or(0);
        let mut by_unit: Vec<u32> = (0..links.len() as u32).collect();
        by_unit.sort_by_key(|&link| links[link as usize].unit);
        let mut forward = Maxima::new(width);
        let before = sweep(links, &by_unit, |link| link.stream as usize, &mut forward);
        by_unit.reverse();
        let mut backward = Maxima::new(width);
        let mirrored = |link: &Link| width - 1 - link.stream as usize;
        let after = sweep(links, &by_unit, mirrored, &mut backward);
        let whole = forward.before(width);
        let both = || before.iter().zip(&after);
        Chains {
            best: whole.value,
            through: both()
                .zip(links)
                .map(|((before, after), link)| before.value + link.value + after.value)
                .collect(),
            until: before.iter().zip(links).map(|(b, link)| b.value + link.value).collect(),
            ways: both().map(|(before, after)| multiply(before.ways, after.ways)).collect(),
            total: whole.ways,
            from_last: by_unit,
        }
    }

    /// Whether one of the best pairings contains this link.
    pub fn is_best(&self, link: usize) -> bool {
        self.through[link] == self.best
    }

    /// One of the best pairings: its links from the last to the first.
    pub fn one<'a>(&'a self, links: &'a [Link]) -> impl Iterator<Item = usize> + 'a {
        let (mut left, mut bound, mut unit) = (self.best, u32::MAX, u32::MAX);
        self.from_last.iter().map(|&at| at as usize).filter(move |&at| {
            let link = &links[at];
            let is_next = self.is_best(at)
                && self.until[at] == left
                && link.stream < bound
                && link.unit < unit;
            if is_next {
                (left, bound, unit) = (left - link.value, link.stream, link.unit);
            }
            is_next
        })
    }

    /// Whether each of the best pairings contains one of these links, which exclude each other.
    pub fn need(&self, links: impl Iterator<Item = usize>) -> bool {
        let ways = links.filter(|&link| self.is_best(link)).map(|link| self.ways[link]);
        ways.fold(0, add) == self.total
    }
}

fn add(one: u64, other: u64) -> u64 {
    (one + other) % PRIME
}

fn multiply(one: u64, other: u64) -> u64 {
    (u128::from(one) * u128::from(other) % u128::from(PRIME)) as u64
}

/// For each link the best pairings of what lies before it, when units come in this order.
fn sweep(
    links: &[Link],
    in_order: &[u32],
    place: impl Fn(&Link) -> usize,
    maxima: &mut Maxima,
) -> Vec<Best> {
    let mut out = vec![Best::NOTHING; links.len()];
    let link = |at: u32| &links[at as usize];
    for unit in in_order.chunk_by(|&one, &other| link(one).unit == link(other).unit) {
        for &at in unit {
            out[at as usize] = maxima.before(place(link(at)));
        }
        for &at in unit {
            let before = out[at as usize];
            let value = before.value + link(at).value;
            maxima.add(place(link(at)), Best { value, ..before });
        }
    }
    out
}

/// A value and the number of pairings that reach it.
#[derive(Clone, Copy, Debug)]
struct Best {
    value: i64,
    ways: u64,
}

impl Best {
    const NOTHING: Best = Best { value: 0, ways: 0 };

    fn or(self, other: Best) -> Best {
        match self.value.cmp(&other.value) {
            std::cmp::Ordering::Less => other,
            std::cmp::Ordering::Greater => self,
            std::cmp::Ordering::Equal => Best { ways: add(self.ways, other.ways), ..self },
        }
    }
}

/// The best of all places before a place, in a tree (Fenwick's).
struct Maxima(Vec<Best>);

impl Maxima {
    fn new(width: usize) -> Maxima {
        Maxima(vec![Best::NOTHING; width + 1])
    }

    fn before(&self, place: usize) -> Best {
        // The empty pairing.
        let mut best = Best { value: 0, ways: 1 };
        let mut at = place;
        while at > 0 {
            best = best.or(self.0[at]);
            at &= at - 1;
        }
        best
    }

    fn add(&mut self, place: usize, best: Best) {
        let mut at = place + 1;
        while at < self.0.len() {
            self.0[at] = self.0[at].or(best);
            at += at & at.wrapping_neg();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chains(links: &[(u32, u32)]) -> Chains {
        let link = |&(unit, stream): &(u32, u32)| Link { unit, stream, value: 1 };
        Chains::new(&links.iter().map(link).collect::<Vec<_>>())
    }

    #[test]
    fn equals_in_order_have_one_best_pairing() {
        let chains = chains(&[(0, 0), (0, 1), (1, 0), (1, 1)]);
        assert_eq!(chains.best, 2);
        assert_eq!(chains.through, [2, 1, 1, 2]);
        assert!(chains.need([0, 1].into_iter()) && chains.need([2, 3].into_iter()));
    }

    #[test]
    fn one_of_the_best_pairings_does_not_cross() {
        let link = |&(unit, stream): &(u32, u32)| Link { unit, stream, value: 1 };
        let links = [(0, 1), (1, 0), (1, 2), (2, 0), (2, 3)];
        let links: Vec<Link> = links.iter().map(link).collect();
        let chains = Chains::new(&links);
        assert_eq!(chains.one(&links).collect::<Vec<_>>(), [4, 2, 0]);
    }

    #[test]
    fn a_unit_that_some_best_pairing_leaves_alone_is_not_needed() {
        let chains = chains(&[(0, 0), (1, 0)]);
        assert_eq!((chains.best, chains.total), (1, 2));
        assert!(chains.is_best(0) && chains.is_best(1));
        assert!(!chains.need([0].into_iter()));
    }

    #[test]
    fn the_nothing_of_a_fresh_tree_is_no_pairing() {
        let empty = Maxima::new(4);
        assert_eq!(empty.before(4).ways, 1);
    }
}
