// SPDX-License-Identifier: GPL-2.0-or-later
//! Processes whose numbers of connections name two of them: of two nginx in one log, as of
//! containers whose processes have the same few numbers, or of one that was started anew.
//!
//! nginx is done with a client's connection once it has written about its end. So two such entries
//! of one number may be about one connection only where nginx could write both of it.

use std::collections::HashSet;
use std::num::NonZeroU64;

use crate::time::LogTime;

/// What nginx had to do with a client's connection when it wrote about its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// No request had come.
    Unasked,
    /// It worked on this request, if that is known, or read one.
    Asked(Option<NonZeroU64>),
    /// It waited for another request.
    Idle,
}

/// An entry about the end of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ended {
    pub process: u32,
    pub number: NonZeroU64,
    pub time: LogTime,
    pub state: State,
}

/// Seconds for which nginx may read on from a client that is gone (`lingering_time`), and a few.
const LINGERING: i64 = 35;

/// The processes that have a number of which two entries cannot be about one connection.
pub(super) fn ambiguous(mut ends: Vec<Ended>) -> HashSet<u32> {
    ends.sort_unstable();
    let pairs = ends.windows(2).filter_map(|pair| <&[Ended; 2]>::try_from(pair).ok());
    pairs.filter(|[one, other]| contradict(one, other)).map(|[one, _]| one.process).collect()
}

/// Whether these entries, in the order of their times, cannot be about one connection.
fn contradict(one: &Ended, other: &Ended) -> bool {
    use State::{Asked, Idle, Unasked};
    if (one.process, one.number) != (other.process, other.number) {
        return false;
    }
    // The same may stand there twice: of two files with the same lines, or put together of such.
    let is_copy = one.time == other.time;
    let apart = other.time.0.saturating_sub(one.time.0);
    match (one.state, other.state) {
        (Unasked, Unasked) | (Idle, Idle) => !is_copy,
        (Asked(Some(asked)), Asked(Some(other))) => asked != other || apart > LINGERING,
        (Asked(_), Asked(_)) => apart > LINGERING,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::{Asked, Idle, Unasked};

    #[test]
    fn a_number_that_ends_twice_names_two_connections() {
        let [a, b] = [1, 2].map(|request| Asked(NonZeroU64::new(request)));
        let found = |one: State, other: State, seconds: i64| {
            let ended = |time: i64, state: State| Ended {
                process: 7,
                number: NonZeroU64::MIN,
                time: LogTime(time),
                state,
            };
            !ambiguous(vec![ended(0, one), ended(seconds, other)]).is_empty()
        };
        for (one, other, seconds, wanted) in [
            (Idle, Idle, 0, false),
            (Idle, Idle, 1, true),
            (a, Idle, 1, true),
            (Idle, a, 0, true),
            (Unasked, a, 0, true),
            (Unasked, Unasked, 0, false),
            (Unasked, Unasked, 1, true),
            (a, b, 0, true),
            (a, a, 5, false),
            (a, a, 60, true),
            (a, Asked(None), 1, false),
        ] {
            assert_eq!(found(one, other, seconds), wanted, "{one:?}, {other:?}, {seconds} s");
        }
    }
}
