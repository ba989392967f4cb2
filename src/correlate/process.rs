// SPDX-License-Identifier: GPL-2.0-or-later
//! What one process does in order.
//!
//! A process takes from the queue of a listening socket what came first, and numbers it before it
//! takes another, however late it is: numbers stand in the order in which connections were
//! accepted, without exception. Of several sockets it may serve either first, and of several
//! processes one may be held up between the two; so only what one process took from one socket is
//! compared here, and the order among processes is a matter of `order`.
//!
//! What ended is written down by a process in the order in which it learns of it, which is nearly
//! that of the packets: by how much not, is measured at hand.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::correlate::assign::ONE_PROCESS;
use crate::correlate::chain::{Chains, Link};
use crate::correlate::fit::Fit;
use crate::time::CaptureTime;

/// What stands in one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Queue {
    /// Connections that a process accepts from a socket.
    Socket(u32, Option<IpAddr>, u16),
    /// Lines that a process writes to a file.
    File(u32, u32),
}

/// A place in a queue, and when that is due that is said to have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub queue: Queue,
    pub place: u64,
    pub moment: CaptureTime,
}

impl Claim {
    /// That a process gave this number to a stream.
    pub fn number(process: u32, number: u64, fit: &Fit) -> Option<Claim> {
        let queue = Queue::Socket(process, fit.server, fit.port);
        Some(Claim { queue, place: number, moment: fit.moment? })
    }

    /// That a process wrote this line of a file about an end of that time.
    pub fn line(process: u32, file: u32, line: u64, moment: CaptureTime) -> Claim {
        Claim { queue: Queue::File(process, file), place: line, moment }
    }
}

/// Share of the numbers, and of the lines, of one queue that may be out of order for the rest to
/// be believed.
const ASTRAY: [f64; 2] = [0.05, 0.5];

/// Lines that have to be told for these to tell by how much others may be out of order, the share
/// of these that is so at most, and how much further another one may be.
const MEASURED: usize = 200;
const IN_ORDER: f64 = 0.999;
const UNSEEN: i64 = 2;

/// Nanoseconds within which a process may learn of two ends in either order, however promptly it does:
/// what was to be read before the one end of the two is looked at first.
pub(super) const ONE_ROUND: i64 = 5_000_000;

/// Claims that are in order, as every largest set of them has it that does not cross.
#[derive(Debug, Default)]
pub(super) struct InOrder {
    queues: BTreeMap<Queue, Series>,
    /// Nanoseconds by which lines may be out of order; `None` if too few tell.
    late: Option<i64>,
}

#[derive(Debug, Default)]
struct Series {
    /// By place, and so by moment.
    claims: Vec<(u64, CaptureTime)>,
    /// Most of what was claimed is in order.
    holds: bool,
}

impl InOrder {
    /// Those of these claims.
    pub fn new(claims: impl IntoIterator<Item = Claim>) -> InOrder {
        let mut queues: BTreeMap<Queue, BTreeSet<(u64, CaptureTime)>> = BTreeMap::new();
        for Claim { queue, place, moment } in claims {
            queues.entry(queue).or_default().insert((place, moment));
        }
        let (mut found, mut apart) = (BTreeMap::new(), Vec::new());
        for (queue, all) in queues {
            let is_file = matches!(queue, Queue::File(..));
            let series = Series::new(&all, ASTRAY[usize::from(is_file)]);
            if is_file {
                apart.extend(all.iter().map(|&(place, moment)| series.apart(place, moment)));
            }
            found.insert(queue, series);
        }
        let most = (apart.len() as f64 * IN_ORDER) as usize;
        let is_measured = apart.len() >= MEASURED;
        let late =
            is_measured.then(|| ONE_ROUND.max(UNSEEN * *apart.select_nth_unstable(most).1));
        InOrder { queues: found, late }
    }

    /// Whether a claim is one of them.
    pub fn has(&self, Claim { queue, place, moment }: Claim) -> bool {
        let series = self.queues.get(&queue);
        series.is_some_and(|series| series.claims.binary_search(&(place, moment)).is_ok())
    }

    /// Whether a claim stands between those with the next lower and the next higher place, as nearly
    /// as its queue keeps that.
    pub fn allow(&self, Claim { queue, place, moment }: Claim) -> bool {
        let series = self.queues.get(&queue).filter(|series| series.holds);
        let late = match queue {
            Queue::Socket(..) => Some(ONE_PROCESS),
            Queue::File(..) => self.late,
        };
        series.zip(late).is_none_or(|(series, late)| series.apart(place, moment) <= late)
    }
}

impl Series {
    fn new(all: &BTreeSet<(u64, CaptureTime)>, astray: f64) -> Series {
        let mut moments: Vec<CaptureTime> = all.iter().map(|claim| claim.1).collect();
        moments.sort_unstable();
        moments.dedup();
        let (mut links, mut unit, mut last) = (Vec::with_capacity(all.len()), 0, None);
        for &(place, moment) in all {
            unit += u32::from(last.is_some_and(|last| last != place));
            last = Some(place);
            let stream = moments.partition_point(|&other| other < moment) as u32;
            links.push(Link { unit, stream, value: 1 });
        }
        let chains = Chains::new(&links);
        let claims = all.iter().enumerate();
        let claims: Vec<(u64, CaptureTime)> = claims
            .filter(|&(link, _)| chains.need(std::iter::once(link)))
            .map(|(_, &claim)| claim)
            .collect();
        let holds = (all.len() - claims.len()) as f64 <= all.len() as f64 * astray;
        Series { claims, holds }
    }

    /// Nanoseconds by which a moment lies before that of the next lower place, or behind that of
    /// the next higher one.
    fn apart(&self, place: u64, moment: CaptureTime) -> i64 {
        let claims = &self.claims;
        let before = claims.partition_point(|claim| claim.0 < place);
        let behind = before + claims[before..].partition_point(|claim| claim.0 == place);
        let early = before.checked_sub(1).map_or(0, |at| claims[at].1.since(moment));
        let late = claims.get(behind).map_or(0, |claim| moment.since(claim.1));
        early.max(late).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(number: u64, moment: i64) -> Claim {
        Claim {
            queue: Queue::Socket(1, None, 80),
            place: number,
            moment: CaptureTime(moment * ONE_PROCESS),
        }
    }

    #[test]
    fn what_crosses_many_is_out_of_order() {
        let claims =
            (0..40).map(|number| claim(number, if number == 20 { 5 } else { number as i64 }));
        let claims: Vec<Claim> = claims.collect();
        let in_order = InOrder::new(claims.iter().copied());
        let out: Vec<u64> =
            claims.iter().filter(|it| !in_order.has(**it)).map(|it| it.place).collect();
        assert_eq!(out, [20]);
        assert!(in_order.allow(claim(20, 20)));
        assert!(!in_order.allow(claim(20, 17)) && !in_order.allow(claim(20, 23)));
    }

    #[test]
    fn of_two_that_cross_neither_is_believed() {
        let in_order = InOrder::new([claim(1, 2), claim(2, 1)]);
        assert!(!in_order.has(claim(1, 2)) && !in_order.has(claim(2, 1)));
    }

    #[test]
    fn processes_and_sockets_have_orders_of_their_own() {
        let other = |queue| Claim { queue, ..claim(2, 1) };
        for queue in [Queue::Socket(2, None, 80), Queue::Socket(1, None, 443)] {
            let in_order = InOrder::new([claim(1, 2), other(queue)]);
            assert!(in_order.has(claim(1, 2)) && in_order.has(other(queue)));
        }
    }
}
