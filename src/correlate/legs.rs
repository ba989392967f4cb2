// SPDX-License-Identifier: GPL-2.0-or-later
//! Which client's stream and which upstream's stream carried the same transaction.
//!
//! Nginx is the server of one and the client of the other, and asks its upstream while its own
//! client waits. Every stream is looked at once as one that asked nginx (`Asker`), and once
//! as one that nginx asked on (`Passed`); they are joined by what they have in common. A link
//! is claimed only if nothing else fits: of a storm of equal requests, none is.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::correlate::events::{stream_request, stream_requests};
use crate::correlate::matcher::Matcher;
use crate::correlate::pace::Pace;
use crate::correlate::store::{is_access, Store, Traits};
use crate::limits;
use crate::nginx::message::Leg;
use crate::tcp::http::Progress;
use crate::tcp::phase::Phase;
use crate::tcp::segment::Endpoint;
use crate::tcp::stream::{request_bit, Side, Stream};
use crate::tcp::streams::Streams;
use crate::time::{CaptureTime, SECOND};

/// How much longer nginx may ask an upstream, in nanoseconds, than its client waits: until it
/// learns that the client has gone.
const UNAWARE: i64 = 100_000_000;

/// The same for a busy nginx, which reads what a client asked seconds after it has gone: such a
/// client is a rival of others.
pub(super) const BUSY: i64 = 10 * SECOND;

/// Addresses of the nginx host.
#[derive(Clone, Debug, Default)]
pub struct Addresses(Vec<IpNet>);

impl Addresses {
    /// Addresses and networks, separated by commas or spaces; `None` if one is neither.
    pub fn parse(text: &str) -> Option<Addresses> {
        let words = text.split([',', ' ', '\t']).filter(|word| !word.is_empty());
        let nets = words.map(|word| match word.parse::<IpAddr>() {
            Ok(addr) => Some(IpNet::from(addr)),
            Err(_) => word.parse::<IpNet>().ok(),
        });
        nets.collect::<Option<_>>().map(Addresses)
    }

    fn contain(&self, end: Endpoint) -> bool {
        end.addr.is_some_and(|addr| self.0.iter().any(|net| net.contains(&addr)))
    }

    /// Whether the user gave none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The leg of a stream between this client and server; `None` where nginx is at neither of
    /// its ends, or at both.
    pub fn leg(&self, [client, server]: [Endpoint; 2]) -> Option<Leg> {
        match (self.contain(client), self.contain(server)) {
            (false, true) => Some(Leg::Client),
            (true, false) => Some(Leg::Upstream),
            _ => None,
        }
    }

    fn host(&self, end: Endpoint) -> Option<Host> {
        match self.contain(end) {
            true => Some(Host::Nginx),
            false => end.addr.map(Host::Other),
        }
    }
}

/// A host, by the address that a stream names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Host {
    /// One of the addresses that the user gave.
    Nginx,
    Other(IpAddr),
}

/// The first frames of the streams that a stream is linked with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Of the client that this stream asks an upstream for.
    client: Option<u32>,
    /// Of the upstream that was asked for this stream.
    upstream: Option<u32>,
}

impl Link {
    /// The leg that a stream with these links is of. Between two proxies it is of both, each
    /// from the point of view of one.
    pub fn leg(self) -> Option<Leg> {
        match (self.client, self.upstream) {
            (None, Some(_)) => Some(Leg::Client),
            (Some(_), None) => Some(Leg::Upstream),
            _ => None,
        }
    }

    /// The other leg, seen from this one.
    pub fn from(self, leg: Leg) -> Option<u32> {
        match leg {
            Leg::Client => self.upstream,
            Leg::Upstream => self.client,
            Leg::Unknown => None,
        }
    }
}

/// Where a stream stands between clients and upstreams.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    /// The leg by the addresses that the user gave.
    pub given: Option<Leg>,
    /// What it is linked with.
    pub link: Link,
}

/// The links of all streams.
#[derive(Debug, Default)]
pub struct Legs {
    pace: Pace,
    addresses: Addresses,
    /// By the number of the stream, in order.
    links: Vec<(u32, Link)>,
}

impl Legs {
    /// Sets the addresses of the nginx host.
    pub fn set_addresses(&mut self, addresses: Addresses) {
        self.addresses = addresses;
        self.pace.forget();
    }

    /// A segment was fed, or an entry added.
    pub fn changed(&mut self) {
        self.pace.changed();
    }

    /// Links that are out of date are found anew for the next question.
    pub fn insist(&mut self) {
        self.pace.insist();
    }

    /// The links, found anew if they are out of date.
    pub fn refreshed(&mut self, streams: &Streams, matcher: &Matcher, store: &Store) -> &Legs {
        if self.pace.is_due() {
            self.links = Pairing::new(&self.addresses, streams, matcher, store).links();
            self.pace.worked_out(streams.count());
        }
        self
    }

    /// Where a stream stands, once all are known.
    pub fn of(&self, number: u32, stream: &Stream) -> Standing {
        let found = self.links.binary_search_by_key(&number, |(number, _)| *number);
        let link = found.map_or_else(|_| Link::default(), |at| self.links[at].1);
        Standing { link, ..self.given(stream) }
    }

    /// Where a stream stands by its addresses alone.
    pub fn given(&self, stream: &Stream) -> Standing {
        let ends = [Side::Client, Side::Server].map(|side| stream.end(side));
        Standing { given: self.addresses.leg(ends), link: Link::default() }
    }
}

/// A stream by number, and its first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Who {
    number: u32,
    first_frame: u32,
}

/// A stream as one that asked nginx.
#[derive(Debug)]
struct Asker {
    who: Who,
    /// Between these instants nginx asked an upstream for it.
    from: CaptureTime,
    to: CaptureTime,
    /// Until then, nginx may yet have asked.
    late: CaptureTime,
    /// When its answer was complete.
    answered: Option<CaptureTime>,
    place: Between,
    /// When either side closed it.
    left: Option<CaptureTime>,
    /// The client's addresses: that of its packets, and those that proxies name.
    clients: Box<[IpAddr]>,
    /// The upstream that an entry about it names.
    upstream: Option<(IpAddr, u16)>,
    /// What it asked, or when, is not certain: it is a rival, and nothing is claimed of it.
    vague: bool,
}

/// A stream as one on which nginx asked an upstream.
#[derive(Debug)]
struct Passed {
    who: Who,
    /// When it was asked.
    at: CaptureTime,
    /// When it was over with.
    end: CaptureTime,
    /// Its answer is complete.
    answered: bool,
    /// Nginx may have turned to another upstream after it.
    failed: bool,
    place: Between,
    request: Option<u64>,
    id: Option<u64>,
    /// Client and request that an entry about its end names.
    logged: Option<(Option<IpAddr>, u64)>,
    /// Number of the client's connection, as that entry has it.
    number: Option<u64>,
}

/// The ends of a stream.
#[derive(Clone, Copy, Debug)]
struct Between {
    /// The host that asks.
    client: Option<Host>,
    /// The host that is asked.
    host: Option<Host>,
    server: Endpoint,
    /// The leg that addresses or entries tell.
    leg: Option<Leg>,
}

impl Between {
    fn new(stream: &Stream, addresses: &Addresses, logged: Option<Leg>) -> Between {
        let ends = [Side::Client, Side::Server].map(|side| stream.end(side));
        let [client, host] = ends.map(|end| addresses.host(end));
        let leg = addresses.leg(ends).or(logged);
        Between { client, host, server: ends[1], leg }
    }

    /// Whether both are known to be connections of one nginx to its clients, or of one to its
    /// upstreams: neither was opened for the other.
    fn is_beside(&self, other: &Between) -> bool {
        let same = |one: Option<Host>, other: Option<Host>| one.is_some() && one == other;
        let one_listener = self.server.addr.is_some() && self.server == other.server;
        // Who asks from an address is asked there, too, if it is a proxy.
        let one_asks = same(self.client, other.client) && self.host != other.client;
        let one_leg = match (self.leg, other.leg) {
            (Some(Leg::Client), Some(Leg::Client)) => same(self.host, other.host),
            (Some(Leg::Upstream), Some(Leg::Upstream)) => same(self.client, other.client),
            _ => false,
        };
        one_listener || one_asks || one_leg
    }
}

/// What asker and upstream have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// The number of the client's connection, as entries about both tell.
    Number(u64),
    /// The identifier of the request, by the host that was asked.
    IdAt(Host, u64),
    /// The identifier of the request.
    Id(u64),
    /// The request, by the host that was asked.
    RequestAt(Host, u64),
    /// The request, as an entry tells it.
    Logged(u64),
    /// The host that was asked, and the bit of a request before the last one.
    Earlier(Host, u32),
    /// The host that was asked, nobody knows for what.
    Unreadable(Host),
}

/// Askers that have something in common, in the order in which they began.
#[derive(Debug, Default)]
struct Askers {
    /// Their places.
    places: Vec<u32>,
    /// For each of them, the latest end so far.
    latest: Vec<CaptureTime>,
}

/// Everything that is paired.
struct Pairing {
    /// First frames of clients' streams by the number of their connection; `None` where two have
    /// one number, as after nginx was started anew.
    numbers: HashMap<u64, Option<u32>>,
    askers: Vec<Asker>,
    passed: Vec<Passed>,
    by_key: HashMap<Key, Askers>,
}

/// What is looked for, so that streams that stand on no leg cost nothing.
struct Wanted {
    /// Hosts that both are asked and ask.
    proxies: HashSet<Host>,
    /// Requests that entries about upstreams name.
    requests: HashSet<u64>,
}

impl Pairing {
    fn new(
        addresses: &Addresses,
        streams: &Streams,
        matcher: &Matcher,
        store: &Store,
    ) -> Pairing {
        let entry = |number| {
            // That an access entry names an upstream tells little, as not every request's is kept.
            let errors = matcher.certain(number).filter(|found| !is_access(found.entry));
            let kept =
                errors.filter_map(|found| Some((found.leg, store.kept(found.entry)?.traits)));
            kept.filter(|(_, traits)| traits.upstream.is_some()).last()
        };
        let (mut asked, mut asking) = (HashSet::new(), HashSet::new());
        let mut requests = HashSet::new();
        for (number, stream) in streams.iter() {
            asking.extend(addresses.host(stream.end(Side::Client)));
            asked.extend(addresses.host(stream.end(Side::Server)));
            if let Some((_, traits)) = entry(number) {
                requests.extend(traits.request);
                requests.extend(traits.passed);
            }
        }
        asked.retain(|host| asking.contains(host));
        let wanted = Wanted { proxies: asked, requests };
        let mut all = Pairing {
            numbers: HashMap::new(),
            askers: Vec::new(),
            passed: Vec::new(),
            by_key: HashMap::new(),
        };
        for (number, stream) in streams.iter() {
            let who = Who { number, first_frame: stream.first_frame };
            let entry = entry(number);
            let on = |leg| entry.filter(|entry| entry.0 == leg).map(|entry| entry.1);
            let told = |leg| {
                let mut certain = matcher.certain(number).filter(|found| found.leg == leg);
                certain.find_map(|found| store.kept(found.entry)?.connection)
            };
            let leg = matcher.certain(number).map(|found| found.leg).next();
            let place = Between::new(&stream, addresses, leg);
            let client = told(Leg::Client);
            if let Some(connection) = client {
                let known = all.numbers.entry(connection);
                known.and_modify(|frame| *frame = None).or_insert(Some(who.first_frame));
            }
            all.add_asker(who, place, &stream, client, on(Leg::Client), &wanted);
            // No stream is that of a client that spoke HTTP/3.
            let passed = on(Leg::Upstream);
            if passed.is_none_or(|traits| !traits.is_http3) {
                all.add_passed(who, place, &stream, told(Leg::Upstream), passed, &wanted);
            }
        }
        all.sort();
        all
    }

    fn add_asker(
        &mut self,
        who: Who,
        place: Between,
        stream: &Stream,
        connection: Option<u64>,
        entry: Option<Traits>,
        wanted: &Wanted,
    ) {
        let host = place.host;
        let at_proxy = host.filter(|host| wanted.proxies.contains(host));
        let requests = stream_requests(stream);
        let mut keys: Vec<Key> = connection.map(Key::Number).into_iter().collect();
        if let Some(id) = stream.exchange().and_then(|exchange| exchange.id) {
            keys.push(Key::Id(id));
            keys.extend(host.map(|host| Key::IdAt(host, id)));
        }
        for request in requests.iter().flatten().copied() {
            keys.extend(at_proxy.map(|host| Key::RequestAt(host, request)));
            keys.extend(wanted.requests.contains(&request).then_some(Key::Logged(request)));
        }
        let passed = entry.and_then(|traits| traits.passed).map(Key::Logged);
        keys.extend(passed.filter(|key| !keys.contains(key)));
        // Without a line, what is only begun is not passed on.
        let unread = stream.exchange().filter(|e| e.request.is_none());
        let unreadable = unread.is_some_and(|e| e.sent == Progress::Lost);
        if stream.caveats().encrypted && !has_asked_nothing(stream) || unreadable {
            keys.extend(at_proxy.map(Key::Unreadable));
        }
        if let Some(host) = at_proxy {
            self.add_earlier(who, place, stream, host);
        }
        if keys.is_empty() {
            return;
        }
        let exchange = stream.exchange();
        let complete = exchange.is_some_and(|e| e.answered == Progress::Complete);
        let answered = stream.last_data().filter(|_| complete && !stream.is_tunnelled());
        let left = stream.closing().map(|closing| {
            stream.last_data().map_or(closing.at.time, |last| last.max(closing.at.time))
        });
        let until = |after| {
            let gone = || left.map(|left| left.plus(after));
            answered.or_else(gone).unwrap_or(CaptureTime(i64::MAX))
        };
        let asked = stream.asked_at();
        let at = self.askers.len() as u32;
        self.askers.push(Asker {
            who,
            place,
            left: stream.closing().map(|closing| closing.at.time),
            from: asked.unwrap_or(stream.opened),
            to: until(UNAWARE),
            late: until(BUSY),
            answered,
            clients: clients(stream),
            upstream: entry.and_then(|traits| named_upstream(&traits)),
            vague: asked.is_none() || requests.len() != 1 || requests[0].is_none(),
        });
        for key in keys {
            self.by_key.entry(key).or_default().places.push(at);
        }
    }

    /// A client of several requests could have asked, at any time, what it asked before the last
    /// one.
    fn add_earlier(&mut self, who: Who, place: Between, stream: &Stream, host: Host) {
        let bits = stream.asked_earlier();
        if bits == 0 {
            return;
        }
        let until = stream.asked_at().unwrap_or(CaptureTime(i64::MAX));
        let at = self.askers.len() as u32;
        self.askers.push(Asker {
            who,
            place,
            left: None,
            from: stream.opened,
            to: until,
            late: until,
            answered: None,
            clients: clients(stream),
            upstream: None,
            vague: true,
        });
        for bit in (0..u64::BITS).filter(|bit| bits & 1 << bit != 0) {
            self.by_key.entry(Key::Earlier(host, bit)).or_default().places.push(at);
        }
    }

    fn add_passed(
        &mut self,
        who: Who,
        place: Between,
        stream: &Stream,
        number: Option<u64>,
        entry: Option<Traits>,
        wanted: &Wanted,
    ) {
        let host = place.client;
        let exchange = stream.exchange();
        let id = exchange.and_then(|exchange| exchange.id);
        let request = stream_request(stream);
        let logged = entry.and_then(|traits| Some((traits.client, traits.request?)));
        let at_proxy = host.is_some_and(|host| wanted.proxies.contains(&host));
        let is_wanted = request.is_some_and(|request| wanted.requests.contains(&request));
        if id.is_none() && logged.is_none() && number.is_none() && !at_proxy && !is_wanted {
            return;
        }
        // One that was never asked began when nginx turned to it.
        let at = match exchange {
            Some(_) => stream.asked_at(),
            None => stream.is_unasked().then_some(stream.opened),
        };
        let Some(at) = at else { return };
        let answered = exchange.is_some_and(|e| e.answered == Progress::Complete);
        let refused = |status| matches!(status, 403 | 404 | 429 | 500..);
        let last_data = stream.last_data().unwrap_or(at);
        self.passed.push(Passed {
            who,
            place,
            at,
            end: match stream.closing().filter(|_| !answered) {
                Some(closing) => closing.at.time,
                None => last_data,
            },
            answered: answered && !stream.is_tunnelled(),
            failed: !answered || exchange.and_then(|e| e.status).is_some_and(refused),
            request,
            id,
            logged,
            number,
        });
    }

    fn sort(&mut self) {
        let Pairing { askers, by_key, .. } = self;
        for Askers { places, latest } in by_key.values_mut() {
            places.sort_by_key(|&place| askers[place as usize].from);
            latest.extend(places.iter().scan(CaptureTime(i64::MIN), |latest, &place| {
                *latest = askers[place as usize].late.max(*latest);
                Some(*latest)
            }));
        }
    }

    /// Claims what is certain.
    fn links(self) -> Vec<(u32, Link)> {
        let found = self.passed.iter().filter_map(|passed| {
            let place = self.asker_of(passed)?;
            Some((place, passed))
        });
        let mut found: Vec<(u32, &Passed)> = found.collect();
        found.sort_by_key(|(place, passed)| (*place, passed.at, passed.who.number));
        let mut links: HashMap<u32, Link> = HashMap::new();
        // Whose request it was, the number tells, also where that is not the client's last one. What
        // was answered was an earlier one: the one that the entry is about was never sent.
        for passed in self.passed.iter().filter(|passed| !passed.answered) {
            let known = passed.number.and_then(|number| self.numbers.get(&number));
            if let Some(client) = known.copied().flatten() {
                links.entry(passed.who.number).or_default().client = Some(client);
            }
        }
        for tried in found.chunk_by(|one, other| one.0 == other.0) {
            // Nginx tries one upstream after the other.
            let in_turn =
                |pair: &[(u32, &Passed)]| pair[0].1.failed && pair[0].1.end <= pair[1].1.at;
            let Some((place, last)) = tried.last().filter(|_| tried.windows(2).all(in_turn))
            else {
                continue;
            };
            let asker = self.askers[*place as usize].who;
            links.entry(asker.number).or_default().upstream = Some(last.who.first_frame);
            for (_, passed) in tried {
                let link = links.entry(passed.who.number).or_default();
                link.client = Some(asker.first_frame);
            }
        }
        let mut links: Vec<_> = links.into_iter().collect();
        links.sort_unstable_by_key(|(number, _)| *number);
        links
    }

    /// The one asker for which nginx asked this upstream.
    fn asker_of(&self, passed: &Passed) -> Option<u32> {
        let number = passed.number.filter(|number| self.numbers.contains_key(number));
        if let Some(number) = number.filter(|_| !passed.answered) {
            // One that asked for something else by then is not looked for elsewhere.
            return self.fitting(&[Key::Number(number)], passed, |_| true).one();
        }
        let by_id = passed.id.into_iter().flat_map(|id| {
            [passed.place.client.map(|host| Key::IdAt(host, id)), Some(Key::Id(id))]
        });
        for key in by_id.flatten() {
            match self.fitting(&[key], passed, |_| true) {
                Fitting::None => {}
                Fitting::One(place) => return Some(place),
                Fitting::Several => return None,
            }
        }
        if let Some((client, request)) = passed.logged {
            let mut keys = vec![Key::Logged(request)];
            keys.extend(
                passed.place.client.into_iter().flat_map(|host| doubtful(host, request)),
            );
            let own =
                |asker: &Asker| client.is_some() && client == asker.clients.first().copied();
            match self.fitting(&keys, passed, own) {
                Fitting::None => {}
                found => return found.one(),
            }
            let named =
                |asker: &Asker| client.is_some_and(|client| asker.clients.contains(&client));
            match self.fitting(&keys, passed, named) {
                // The address may be one that nginx was told by a proxy.
                Fitting::None => return self.fitting(&keys, passed, |_| true).one(),
                found => return found.one(),
            }
        }
        let request = passed.request?;
        let Endpoint { addr, port } = passed.place.server;
        let server = addr.map(|addr| (addr, port));
        let names = |asker: &Asker| server.is_some() && asker.upstream == server;
        let named = self.fitting(&[Key::Logged(request)], passed, names);
        let alike = passed.place.client.map(|host| {
            let [earlier, unreadable] = doubtful(host, request);
            [Key::RequestAt(host, request), earlier, unreadable]
        });
        match named {
            Fitting::None => self.fitting(&alike?, passed, |_| true).one(),
            // Others may have been passed on to the same server, of which no entry tells.
            Fitting::One(place) => {
                let is_other = |asker: &Asker| asker.who != self.askers[place as usize].who;
                let others = alike.map(|keys| self.fitting(&keys, passed, is_other));
                matches!(others, None | Some(Fitting::None)).then_some(place)
            }
            Fitting::Several => None,
        }
    }

    /// Which askers have this in common with an upstream, and waited while it was asked.
    fn fitting(
        &self,
        keys: &[Key],
        passed: &Passed,
        accepts: impl Fn(&Asker) -> bool,
    ) -> Fitting {
        let mut found = Fitting::None;
        let mut looked_at = 0;
        for askers in keys.iter().filter_map(|key| self.by_key.get(key)) {
            let asker = |at: usize| &self.askers[askers.places[at] as usize];
            let before = askers
                .places
                .partition_point(|&place| self.askers[place as usize].from < passed.at);
            for at in (0..before).rev().take_while(|&at| askers.latest[at] >= passed.at) {
                looked_at += 1;
                if looked_at > limits::ASKERS {
                    return Fitting::Several;
                }
                let fits = asker(at).late >= passed.at
                    && asker(at).may_be_of(passed)
                    && asker(at)
                        .answered
                        .is_none_or(|end| !passed.answered || passed.end <= end)
                    && accepts(asker(at));
                if fits {
                    found = match found {
                        Fitting::None if asker(at).vague || asker(at).to < passed.at => {
                            return Fitting::Several;
                        }
                        Fitting::None => Fitting::One(askers.places[at]),
                        _ => return Fitting::Several,
                    };
                }
            }
        }
        found
    }
}

impl Asker {
    /// Whether both can be legs of one transaction at all.
    fn may_be_of(&self, passed: &Passed) -> bool {
        // On one host everything has one address, and attempts follow each other.
        let one_after_the_other = self.place.client == passed.place.client
            && self.left.is_some_and(|left| left < passed.at);
        self.who != passed.who && !self.place.is_beside(&passed.place) && !one_after_the_other
    }
}

/// Whether a stream certainly ended before anything was asked on it.
fn has_asked_nothing(stream: &Stream) -> bool {
    let by = stream.closing().map(|closing| closing.stage);
    stream.tls_refusal().is_some() || by.is_some_and(Phase::is_before_request)
}

/// How many askers fit.
enum Fitting {
    None,
    One(u32),
    Several,
}

impl Fitting {
    fn one(self) -> Option<u32> {
        match self {
            Fitting::One(place) => Some(place),
            Fitting::None | Fitting::Several => None,
        }
    }
}

fn clients(stream: &Stream) -> Box<[IpAddr]> {
    stream.end(Side::Client).addr.into_iter().chain(stream.named_clients()).collect()
}

/// What askers of a request at a host that only may be the one have in common.
fn doubtful(host: Host, request: u64) -> [Key; 2] {
    [Key::Earlier(host, request_bit(request)), Key::Unreadable(host)]
}

fn named_upstream(traits: &Traits) -> Option<(IpAddr, u16)> {
    let upstream = traits.upstream?;
    Some((upstream.ip().to_canonical(), upstream.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks_are_told_from_anything_else() {
        let addr = |text: &str| Endpoint { addr: text.parse().ok(), port: 80 };
        let nginx = Addresses::parse("10.0.0.1, 192.168.0.0/24 fd00::/8").unwrap_or_default();
        for inside in ["10.0.0.1", "192.168.0.255", "fd00::1"] {
            assert!(nginx.contain(addr(inside)), "{inside}");
        }
        for outside in ["10.0.0.2", "192.168.1.0", "fe80::1", "::ffff:10.0.0.1"] {
            assert!(!nginx.contain(addr(outside)), "{outside}");
        }
        assert!(Addresses::parse(" ,").is_some_and(|none| !none.contain(addr("10.0.0.1"))));
        for bad in ["nginx", "10.0.0", "10.0.0.1/33", "10.0.0.1;10.0.0.2", "10.0.0.1:80"] {
            assert!(Addresses::parse(bad).is_none(), "{bad}");
        }
    }
}
