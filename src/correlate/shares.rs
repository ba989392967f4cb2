// SPDX-License-Identifier: GPL-2.0-or-later
//! Whether log and capture are of one nginx, as far as they tell: of what a process wrote about
//! clients that the capture knows, the capture shows the greater part.
//!
//! The log of another nginx behind the same load balancer has the same clients, who ask for the same,
//! so that some of its entries fit some stream by chance. A capture that was filtered lacks streams, too;
//! then, what fits need not be the one that is meant.

use std::collections::HashMap;

use crate::correlate::evidence::Criterion;
use crate::correlate::matcher::{Group, Match, CERTAIN};
use crate::correlate::store::{is_access, Kept, Store};
use crate::correlate::strangers::Strangers;
use crate::nginx::message::{By, Leg, Shows};

/// Entries of a process that have to be there for their share to tell something.
const ENOUGH: usize = 6;

/// Of a process's entries about clients' ends, those that a capture of these should show.
#[derive(Debug, Default)]
pub(super) struct Shares(HashMap<(u32, u32), Share>);

#[derive(Clone, Copy, Debug, Default)]
struct Share {
    all: usize,
    /// Those of them that fit some stream.
    fitting: usize,
}

impl Shares {
    /// Counts entries, each with the streams that fit it.
    pub fn count(&mut self, groups: &[Group], them: &Strangers, store: &Store, window: i64) {
        for group in groups {
            for &entry in group.entries.iter().filter(|entry| !is_access(**entry)) {
                let kept = store.kept(entry);
                let Some(kept) = kept.filter(|kept| is_shown(kept, them, window)) else {
                    continue;
                };
                let share = self.0.entry((kept.file, kept.pid)).or_default();
                share.all += 1;
                share.fitting += usize::from(!group.fits.is_empty());
            }
        }
    }

    /// Says less of an entry of a process of which the capture lacks much.
    pub fn limit(&self, found: &mut Match, store: &Store) {
        let kept = store.kept(found.entry).filter(|_| !is_access(found.entry));
        let share = kept.and_then(|kept| self.0.get(&(kept.file, kept.pid)));
        let Some(&Share { all, fitting }) = share.filter(|share| share.all >= ENOUGH) else {
            return;
        };
        if found.evidence.has(Criterion::Port) || !found.certain {
            return;
        }
        if fitting * 2 < all {
            // It may be about a stream that is not there, and so is shown on none.
            found.rivals = 0;
            found.leave_open();
        } else if fitting * 4 < all * 3 {
            found.score = found.score.min(CERTAIN - 1);
        }
    }
}

/// Whether a capture of an entry's client at that time shows what it is about.
fn is_shown(kept: &Kept, them: &Strangers, window: i64) -> bool {
    let is_of_peer = kept.traits.leg == Leg::Client
        && kept.traits.by == By::Peer
        // What names no request fits much by chance.
        && kept.traits.request.is_some()
        && !matches!(kept.traits.shows, Shows::NoPacket | Shows::NoTcp | Shows::Stays);
    is_of_peer && them.is_sender(kept.traits.client) && them.is_in_time(kept, window)
}
