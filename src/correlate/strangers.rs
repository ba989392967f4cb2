// SPDX-License-Identifier: GPL-2.0-or-later
//! Clients that bear one address in the log and another one in the capture.
//!
//! Behind the place of the capture an address may be rewritten: by NAT, by the bridge of a
//! container's network, by a load balancer. Then an entry fits a stream in all but the client's
//! address. So it does where somebody else asked for the same at that moment, and the capture,
//! filtered to some clients, does not show him. What tells these apart is what the addresses do
//! all over the log and the capture:
//!
//! - an address that both know means the same in both;
//! - of the entries with an address that is rewritten, the capture shows most, if it shows any;
//! - either one address stands for all that the capture does not know, or several entries agree
//!   on which client bears which.
//!
//! Where this does not hold, nothing is claimed.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::correlate::matcher::Group;
use crate::correlate::store::{Kept, Store, Traits};
use crate::limits;
use crate::nginx::message::{Leg, Shows};
use crate::tcp::stream::{Side, Stream};
use crate::tcp::streams::Streams;
use crate::time::{CaptureTime, SECOND};

/// Entries and streams that have to agree on an address which is not the only one.
const SEVERAL: usize = 2;

/// Which addresses of clients stand in the log, and which of them in the capture as well.
#[derive(Debug)]
pub struct Strangers {
    logged: HashSet<IpAddr>,
    /// Those that the capture does not know.
    unseen: HashSet<IpAddr>,
    /// Those that no packet of it bears, though a request may name them.
    unsent: HashSet<IpAddr>,
    /// Addresses of the capture's servers.
    asked: HashSet<IpAddr>,
    /// Clients of the log from which packets come.
    senders: HashSet<IpAddr>,
    /// Clients of the log that ask a server themselves.
    direct: HashSet<(IpAddr, IpAddr)>,
    /// Clients of the log that requests name, by the addresses of who sent them and was asked.
    named: HashMap<(IpAddr, IpAddr), HashSet<IpAddr>>,
    /// When the capture begins, and when the last stream in it ends.
    span: Option<(CaptureTime, CaptureTime)>,
}

impl Strangers {
    /// The addresses of the log, before any stream.
    pub fn new(store: &Store) -> Strangers {
        let (mut logged, mut unseen) = (HashSet::new(), HashSet::new());
        for kept in store.compared().filter_map(|entry| store.kept(entry)) {
            let Some(client) = kept.traits.client else { continue };
            // The host's own addresses are nobody's in a capture.
            if logged.insert(client) && !client.is_loopback() {
                unseen.insert(client);
            }
        }
        let unsent = unseen.clone();
        Strangers {
            logged,
            unsent,
            unseen,
            asked: HashSet::new(),
            senders: HashSet::new(),
            direct: HashSet::new(),
            named: HashMap::new(),
            span: None,
        }
    }

    /// Takes the addresses of a stream, and those that it names.
    pub fn see(&mut self, stream: &Stream, last_end: Option<CaptureTime>) {
        let end = last_end.unwrap_or(stream.opened);
        let (first, last) = self.span.unwrap_or((stream.opened, end));
        self.span = Some((first.min(stream.opened), last.max(end)));
        let ends = [Side::Client, Side::Server].map(|side| stream.end(side).addr);
        self.asked.extend(ends[1]);
        if let [Some(client), Some(server)] = ends.map(|end| end.map(|it| it.to_canonical())) {
            self.see_named(client, server, stream);
        }
        if self.unsent.is_empty() {
            return;
        }
        let proxied = stream.proxied_client().map(|client| client.ip());
        for address in ends.into_iter().flatten().chain(proxied) {
            self.unsent.remove(&address.to_canonical());
            self.unseen.remove(&address.to_canonical());
        }
        stream.named_clients().for_each(|address| {
            self.unseen.remove(&address);
        });
    }

    fn see_named(&mut self, client: IpAddr, server: IpAddr, stream: &Stream) {
        if self.logged.contains(&client) {
            self.senders.insert(client);
            self.direct.insert((client, server));
        }
        for named in stream.named_clients().filter(|named| self.logged.contains(named)) {
            let named_by = self.named.entry((client, server)).or_default();
            if named_by.len() < SEVERAL + limits::FORWARDED {
                named_by.insert(named);
            }
        }
    }

    /// Whether a client of the log asks this server itself. Then whoever else names it there may
    /// only claim to ask for it.
    pub fn is_direct(&self, client: Option<IpAddr>, server: Option<IpAddr>) -> bool {
        let asks = client.zip(server);
        asks.is_some_and(|(client, server)| {
            self.direct.contains(&(client, server.to_canonical()))
        })
    }

    /// Whether packets of the capture bear an entry's client.
    pub(super) fn is_sender(&self, client: Option<IpAddr>) -> bool {
        client.is_some_and(|client| self.senders.contains(&client))
    }

    /// Whether who asks this server from an address is known to do so for others: it is asked
    /// itself, or the log knows several clients that it names and that do not ask there
    /// themselves.
    pub fn is_proxy(&self, client: Option<IpAddr>, server: Option<IpAddr>) -> bool {
        let ends =
            client.zip(server).map(|(it, server)| (it.to_canonical(), server.to_canonical()));
        let named = ends.and_then(|ends| Some((ends.1, self.named.get(&ends)?)));
        self.is_asked(client)
            || named.is_some_and(|(server, named)| {
                let behind = named.iter().filter(|it| !self.direct.contains(&(**it, server)));
                behind.count() >= SEVERAL
            })
    }

    /// Whether the capture does not know an entry's client.
    pub fn is_stranger(&self, client: Option<IpAddr>) -> bool {
        client.is_some_and(|client| self.unseen.contains(&client))
    }

    /// Whether no packet of the capture bears an entry's client.
    pub fn is_unsent(&self, client: Option<IpAddr>) -> bool {
        client.is_some_and(|client| self.unsent.contains(&client))
    }

    /// Whether the capture's clients ask at this address, so that who asks from it is a proxy.
    pub fn is_asked(&self, address: Option<IpAddr>) -> bool {
        address.is_some_and(|address| self.asked.contains(&address))
    }

    /// Whether an entry's client may be the one that has another address in the capture.
    pub fn may_be(&self, client: Option<IpAddr>, captured: Option<IpAddr>) -> bool {
        self.is_stranger(client)
            && captured.is_some_and(|captured| !self.logged.contains(&captured.to_canonical()))
    }

    /// Drops the fits with strangers, unless enough of them tell that an address was rewritten.
    ///
    /// What is left has fits that tell nothing by themselves: those streams have to be thought
    /// of where entries are told from each other, and are claimed for nobody.
    pub(super) fn judge(
        &self,
        groups: &mut [Group],
        streams: &Streams,
        store: &Store,
        window: i64,
    ) {
        let mut cases: HashMap<IpAddr, Case> = HashMap::new();
        let mut captured: HashMap<u32, Option<IpAddr>> = HashMap::new();
        let mut others = HashSet::new();
        for group in groups.iter() {
            let Some((client, kept)) = self.stranger_of(group, store) else { continue };
            if self.is_in_time(&kept, window) {
                others.insert(client);
            }
            for fit in group.fits.iter().filter(|fit| fit.stranger) {
                captured.entry(fit.stream).or_insert_with(|| {
                    let end = streams.get(fit.stream).map(|stream| stream.end(Side::Client));
                    end.and_then(|end| end.addr)
                });
            }
            let telling = group.fits.iter().filter(|fit| fit.stranger && fit.is_telling());
            let mut telling = telling.peekable();
            let is_told = telling.peek().is_some();
            if is_told || is_telling(&kept) && self.is_in_time(&kept, window) {
                let case = cases.entry(client).or_default();
                case.entries += group.entries.len();
                case.fitting += if is_told { group.entries.len() } else { 0 };
                case.streams.extend(telling.map(|fit| fit.stream));
            }
        }
        let alone = others.len() <= 1 && cases.len() == 1;
        // By the address in the capture: that in the log, if no other would do.
        let mut bears: HashMap<Option<IpAddr>, Option<IpAddr>> = HashMap::new();
        for (client, case) in &cases {
            for stream in &case.streams {
                let address = captured.get(stream).copied().flatten();
                let told = bears.entry(address).or_insert(Some(*client));
                *told = told.filter(|told| told == client);
            }
        }
        cases.retain(|_, case| case.is_shown() && (alone || case.is_several()));
        for group in groups {
            let Some((client, _)) = self.stranger_of(group, store) else { continue };
            let is_shown = cases.contains_key(&client);
            group.fits.retain(|fit| {
                let address = captured.get(&fit.stream).copied().flatten();
                let is_other = bears.get(&address).is_some_and(|told| *told != Some(client));
                !fit.stranger || is_shown && !is_other
            });
        }
    }

    /// An entry of a group, and its client, if that is a stranger.
    fn stranger_of(&self, group: &Group, store: &Store) -> Option<(IpAddr, Kept)> {
        let kept = store.kept(*group.entries.first()?)?;
        let client = kept.traits.client.filter(|&client| self.is_stranger(Some(client)))?;
        Some((client, kept))
    }

    /// Whether an entry was written while the capture was taken.
    pub(super) fn is_in_time(&self, kept: &Kept, window: i64) -> bool {
        let (Some((first, last)), Some(written)) = (self.span, kept.traits.instant) else {
            return false;
        };
        written.plus(SECOND + window) >= first && written.plus(-window) <= last
    }
}

/// Whether a capture of the end that an entry is about would tell that it is that one.
fn is_telling(kept: &Kept) -> bool {
    let Traits { leg, shows, request, .. } = kept.traits;
    let is_shown = !matches!(shows, Shows::NoPacket | Shows::NoTcp | Shows::Stays);
    leg == Leg::Client && request.is_some() && is_shown
}

/// Of groups that hang together: drops the fits with strangers if more connections are about them
/// than there are streams. Then the capture lacks some, and which ones, nobody can tell.
pub(super) fn drop_scarce(part: &mut [Group], store: &Store) {
    let (mut connections, mut streams) = (HashSet::new(), HashSet::new());
    for group in part.iter().filter(|group| group.fits.iter().any(|fit| fit.stranger)) {
        let fits = group.fits.iter().filter(|fit| fit.stranger);
        streams.extend(fits.map(|fit| fit.stream));
        connections.extend(group.entries.iter().map(|&entry| {
            let connection = store.kept(entry).and_then(|kept| kept.connection);
            (connection, if connection.is_some() { 0 } else { entry })
        }));
    }
    if connections.len() > streams.len() {
        part.iter_mut().for_each(|group| group.fits.retain(|fit| !fit.stranger));
    }
}

/// What speaks for an address's being rewritten.
#[derive(Debug, Default)]
struct Case {
    /// Entries with it that the capture could show.
    entries: usize,
    /// Those of them that fit a stream.
    fitting: usize,
    streams: HashSet<u32>,
}

impl Case {
    /// The capture shows most of its entries, each on a stream of its own.
    fn is_shown(&self) -> bool {
        4 * self.agreements() >= 3 * self.entries
    }

    fn agreements(&self) -> usize {
        self.fitting.min(self.streams.len())
    }

    /// It is not one coincidence.
    fn is_several(&self) -> bool {
        self.agreements() >= SEVERAL
    }
}
