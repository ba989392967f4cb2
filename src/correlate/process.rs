// SPDX-License-Identifier: GPL-2.0-or-later
//! What the numbers of one process tell: they stand in the order in which connections were
//! accepted, without exception.
//!
//! A process takes from the queue of a listening socket what came first, and numbers it before it
//! takes another, however late it is. Of several sockets it may serve either first, and of several
//! processes one may be held up between the two; so only what one process took from one socket is
//! compared here, and the order among processes is a matter of `order`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::correlate::chain::{Chains, Link};
use crate::correlate::fit::Fit;
use crate::time::CaptureTime;

/// What stands in one order: a process, and a socket that it accepts connections from.
pub(super) type Queue = (u32, Option<IpAddr>, u16);

/// A number, and when the connection could be accepted that it is said to be of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub queue: Queue,
    pub number: u64,
    pub moment: CaptureTime,
}

impl Claim {
    /// That a process gave this number to a stream.
    pub fn new(process: u32, number: u64, fit: &Fit) -> Option<Claim> {
        let queue = (process, fit.server, fit.port);
        Some(Claim { queue, number, moment: fit.moment? })
    }
}

/// Shares of the claims of one queue that may be out of order for the rest to be believed.
const ASTRAY: f64 = 0.05;

/// Claims that are in order, as every largest set of them has it that does not cross.
#[derive(Debug, Default)]
pub(super) struct InOrder(BTreeMap<Queue, Series>);

#[derive(Debug, Default)]
struct Series {
    /// By number, and so by moment.
    claims: Vec<(u64, CaptureTime)>,
    /// Most of what was claimed is in order.
    holds: bool,
}

impl InOrder {
    /// Those of these claims.
    pub fn new(claims: impl IntoIterator<Item = Claim>) -> InOrder {
        let mut queues: BTreeMap<Queue, BTreeSet<(u64, CaptureTime)>> = BTreeMap::new();
        for Claim { queue, number, moment } in claims {
            queues.entry(queue).or_default().insert((number, moment));
        }
        InOrder(queues.into_iter().map(|(queue, all)| (queue, Series::new(&all))).collect())
    }

    /// Whether a claim is one of them.
    pub fn has(&self, Claim { queue, number, moment }: Claim) -> bool {
        let series = self.0.get(&queue);
        series.is_some_and(|series| series.claims.binary_search(&(number, moment)).is_ok())
    }

    /// Whether a claim stands between those with the next lower and the next higher number.
    pub fn allow(&self, Claim { queue, number, moment }: Claim) -> bool {
        let Some(series) = self.0.get(&queue).filter(|series| series.holds) else {
            return true;
        };
        let claims = &series.claims;
        let before = claims.partition_point(|claim| claim.0 < number);
        let behind = before + claims[before..].partition_point(|claim| claim.0 == number);
        let low = before.checked_sub(1).map(|at| claims[at].1);
        let high = claims.get(behind).map(|claim| claim.1);
        low.is_none_or(|low| low <= moment) && high.is_none_or(|high| moment <= high)
    }
}

impl Series {
    fn new(all: &BTreeSet<(u64, CaptureTime)>) -> Series {
        let mut moments: Vec<CaptureTime> = all.iter().map(|claim| claim.1).collect();
        moments.sort_unstable();
        moments.dedup();
        let (mut links, mut unit, mut last) = (Vec::with_capacity(all.len()), 0, None);
        for &(number, moment) in all {
            unit += u32::from(last.is_some_and(|last| last != number));
            last = Some(number);
            let stream = moments.partition_point(|&other| other < moment) as u32;
            links.push(Link { unit, stream, value: 1 });
        }
        let chains = Chains::new(&links);
        let claims = all.iter().enumerate();
        let claims: Vec<(u64, CaptureTime)> = claims
            .filter(|&(link, _)| chains.need(std::iter::once(link)))
            .map(|(_, &claim)| claim)
            .collect();
        let holds = (all.len() - claims.len()) as f64 <= all.len() as f64 * ASTRAY;
        Series { claims, holds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(number: u64, moment: i64) -> Claim {
        Claim { queue: (1, None, 80), number, moment: CaptureTime(moment) }
    }

    #[test]
    fn what_crosses_many_is_out_of_order() {
        let claims =
            (0..40).map(|number| claim(number, if number == 20 { 5 } else { number as i64 }));
        let claims: Vec<Claim> = claims.collect();
        let in_order = InOrder::new(claims.iter().copied());
        let out: Vec<u64> =
            claims.iter().filter(|it| !in_order.has(**it)).map(|it| it.number).collect();
        assert_eq!(out, [20]);
        assert!(in_order.allow(claim(20, 20)));
        assert!(!in_order.allow(claim(20, 18)) && !in_order.allow(claim(20, 22)));
    }

    #[test]
    fn of_two_that_cross_neither_is_believed() {
        let in_order = InOrder::new([claim(1, 2), claim(2, 1)]);
        assert!(!in_order.has(claim(1, 2)) && !in_order.has(claim(2, 1)));
    }

    #[test]
    fn processes_and_sockets_have_orders_of_their_own() {
        let other = |queue| Claim { queue, ..claim(2, 1) };
        for queue in [(2, None, 80), (1, None, 443)] {
            let in_order = InOrder::new([claim(1, 2), other(queue)]);
            assert!(in_order.has(claim(1, 2)) && in_order.has(other(queue)));
        }
    }
}
