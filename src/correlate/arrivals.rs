// SPDX-License-Identifier: GPL-2.0-or-later
//! What connection numbers count.
//!
//! All processes of an nginx take numbers from one counter, one for each connection: those that
//! they accept, and those that they open to upstreams. So between two clients' connections the
//! numbers grow by at least as many as were accepted between them, and the capture shows how many
//! these are.

use std::collections::HashMap;

use crate::tcp::segment::Endpoint;
use crate::tcp::stream::{Side, Stream};
use crate::time::CaptureTime;

/// Connections that were accepted, whoever accepted them.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    servers: HashMap<Endpoint, u32>,
    /// For each stream the server, when it could be accepted, and its number.
    all: Vec<(u32, CaptureTime, u32)>,
}

/// Connections that were accepted at one place, in their order.
#[derive(Debug, Default)]
pub(super) struct Ranks(Vec<(CaptureTime, u32)>);

impl FromIterator<(CaptureTime, u32)> for Ranks {
    fn from_iter<T: IntoIterator<Item = (CaptureTime, u32)>>(all: T) -> Ranks {
        let mut ranks: Vec<_> = all.into_iter().collect();
        ranks.sort_unstable();
        Ranks(ranks)
    }
}

impl Arrivals {
    /// Adds a stream.
    pub fn add(&mut self, number: u32, stream: &Stream) {
        if let Some(moment) = stream.accepted_at().filter(|_| stream.is_established()) {
            let next = self.servers.len() as u32;
            let server = *self.servers.entry(stream.end(Side::Server)).or_insert(next);
            self.all.push((server, moment, number));
        }
    }

    /// Those that were accepted where this server listens.
    pub fn at(&self, server: Endpoint) -> Ranks {
        let server = self.servers.get(&server);
        let here = self.all.iter().filter(|(at, ..)| Some(at) == server);
        here.map(|&(_, moment, number)| (moment, number)).collect()
    }
}

impl Ranks {
    /// How many were accepted before this stream; `None` if the capture does not show when it was.
    pub fn of(&self, moment: CaptureTime, stream: u32) -> Option<u32> {
        self.0.binary_search(&(moment, stream)).ok().map(|rank| rank as u32)
    }
}
