// SPDX-License-Identifier: GPL-2.0-or-later
//! Whether an entry fits a stream: leg, end, time, phase, request, addresses, pair by pair.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use crate::correlate::access::{Account, CLOCKS, UNSENT};
use crate::correlate::events::{
    crossed_at, end_requests, stream_requests, Event, Events, Kind,
};
use crate::correlate::evidence::{Criterion, Evidence};
use crate::correlate::legs::Addresses;
use crate::correlate::store::Traits;
use crate::correlate::strangers::Strangers;
use crate::limits;
use crate::nginx::message::{By, Leg, Shows};
use crate::tcp::http::Progress;
use crate::tcp::phase::Phase;
use crate::tcp::segment::Endpoint;
use crate::tcp::stream::{request_bit, Side, Stream};
use crate::tcp::streams::Streams;
use crate::tcp::talk::Talk;
use crate::time::{CaptureTime, SECOND};

/// Nanoseconds that a busy nginx may take to see that a kept-alive connection has ended.
const UNNOTICED: i64 = 200_000_000;

/// How an entry fits a stream.
#[derive(Clone, Copy, Debug)]
pub struct Fit {
    /// Number of the stream.
    pub stream: u32,
    /// Which of nginx's connections the stream is, if the entry is about it.
    pub leg: Leg,
    /// What agrees.
    pub evidence: Evidence,
    /// How much that weighs, 0 to 100.
    pub weight: u8,
    /// Nanoseconds from the packet to the entry.
    pub delta: i64,
    /// The entry is about a RST.
    pub about_reset: bool,
    /// The client has one address in the log and another one in the capture.
    pub stranger: bool,
    /// Only what a client sends names it, and may name anybody.
    pub claimed: bool,
    /// Another stream, which a proxy opened, fits the stranger as well.
    pub withheld: bool,
    /// Place of the stream in the order of the leg: clients by when nginx could accept them,
    /// which is the order of their numbers; upstreams by when they ended, which is the order
    /// of the lines about them.
    pub moment: Option<CaptureTime>,
    /// When the stream ended.
    pub time: CaptureTime,
    /// The host that was asked.
    pub(super) server: Option<IpAddr>,
    /// Its port.
    pub(super) port: u16,
    /// The capture shows that the request was sent on it, or does not tell.
    pub(super) asked: bool,
    /// Nginx had to do with the connection before it ended: it opened it, or had answered. Of one
    /// that still waits to be accepted it learns the end when it gets there.
    pub(super) taken: bool,
}

/// An end of a stream, with all that an entry about it is compared with.
#[derive(Clone, Debug)]
pub struct End {
    kind: Kind,
    /// When its packet was captured; of a silence, when it began.
    pub time: CaptureTime,
    phase: Phase,
    /// No response of it has a complete head, as far as can be read.
    in_head: bool,
    client: Endpoint,
    /// The client that a load balancer names.
    proxied: Option<SocketAddr>,
    /// Clients that the headers of its exchanges name.
    forwarded: Rc<[IpAddr]>,
    server: Endpoint,
    /// Of the exchanges that it can be about.
    requests: Rc<[Option<u64>]>,
    hosts: Rc<[Option<u64>]>,
    /// A [`request_bit`] for each request of the stream, if none can be missing.
    asked: Option<u64>,
    /// Bytes of client and server, if all are known.
    bytes: [Option<i64>; 2],
    encrypted: bool,
    unasked: bool,
    accepted_at: Option<CaptureTime>,
    /// A request crossed it: nginx, which asked, waited for a response.
    is_crossed: bool,
    /// When the last request began; without one, the connection.
    asked_at: Option<CaptureTime>,
    /// Whoever it was meant for had closed before, and learns no more of it.
    is_unheard: bool,
    /// Of the exchange that was open, else of the last one.
    last: Last,
}

/// The last exchange of a stream, as an access entry is compared with it.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    /// [`UNSENT`] if no byte of its response was sent; `None` if that is not known.
    status: Option<u16>,
    /// Bytes of its response: all that the server had to send, if that is known, those of its
    /// head, and those that were sent.
    whole: Option<i64>,
    head: i64,
    sent: Option<i64>,
    id: Option<u64>,
    /// Requests that were begun, if each of them can be counted.
    begun: Option<u64>,
    earlier: u64,
}

impl Last {
    fn of(stream: &Stream) -> Last {
        let caveats = stream.caveats();
        let is_whole = !caveats.mid_stream && !caveats.gap && stream.http2().is_none();
        let begun = stream.requests().filter(|_| is_whole);
        let Some(exchange) = stream.exchange().filter(|_| stream.http2().is_none()) else {
            return Last { begun, ..Last::default() };
        };
        // nginx counts interim responses with the final one.
        let is_counted = exchange.head_len > 0 && !exchange.interim && is_whole;
        let whole = match exchange.answered {
            Progress::Complete => {
                exchange.response_end.map(|end| end - exchange.response_start)
            }
            Progress::Begun => stream.closed_after(exchange),
            Progress::None | Progress::Lost | Progress::Cut => None,
        };
        Last {
            status: exchange.status.or_else(|| {
                let silent = exchange.answered == Progress::None && is_whole;
                (silent && !caveats.one_sided).then_some(UNSENT)
            }),
            whole: whole.filter(|_| is_counted),
            head: exchange.head_len.into(),
            sent: is_counted.then(|| stream.sent_of(exchange)),
            id: exchange.id,
            begun,
            earlier: stream.asked_earlier(),
        }
    }
}

impl End {
    /// The ends of a stream, in a capture that holds ends alone, or others, too.
    pub fn all(stream: &Stream, only_ends: bool) -> impl Iterator<Item = End> + '_ {
        let silence = Events::is_silent(stream).then_some((Kind::Silence, stream.opened));
        let in_head = stream.exchanges().all(|exchange| exchange.status.is_none());
        let hosts: BTreeSet<_> = stream.exchanges().map(|exchange| exchange.host).collect();
        let hosts: Rc<[Option<u64>]> = hosts.into_iter().collect();
        let last = Last::of(stream);
        let exchanges = stream.exchanges().take(limits::OPEN_REQUESTS);
        let forwarded: Rc<[IpAddr]> =
            exchanges.flat_map(|e| e.clients.iter().copied()).collect();
        ends(stream).chain(silence).chain(Events::answer(stream)).map(move |(kind, time)| End {
            kind,
            time,
            // What completes a handshake is no SYN, FIN or RST.
            phase: match phase(stream, kind) {
                Phase::Handshake if only_ends && stream.was_accepted() => Phase::Unknown,
                phase => phase,
            },
            in_head,
            client: stream.end(Side::Client),
            proxied: stream.proxied_client(),
            forwarded: forwarded.clone(),
            server: stream.end(Side::Server),
            requests: end_requests(stream, kind).into(),
            hosts: hosts.clone(),
            asked: asked_of(stream),
            bytes: [Side::Client, Side::Server].map(|side| stream.plain_bytes(side)),
            encrypted: stream.caveats().encrypted,
            unasked: stream.is_unasked(),
            accepted_at: stream.accepted_at(),
            is_unheard: match kind {
                Kind::Fin(side) => stream.is_left_before(side, false),
                Kind::Reset(side) => stream.is_left_before(side, true),
                Kind::Silence | Kind::Answer | Kind::CutAnswer => false,
            },
            is_crossed: crossed_at(stream, kind).is_some(),
            asked_at: crossed_at(stream, kind)
                .or(stream.asked_at())
                .or(stream.is_unasked().then_some(stream.opened)),
            last,
        })
    }
}

/// What is known of addresses beyond a single entry and stream.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Addresses of the nginx host.
    pub nginx: &'a Addresses,
    /// Clients that log and capture name by different addresses; `None` as long as the capture
    /// is being read.
    pub strangers: Option<&'a Strangers>,
    /// Where upstreams are asked, as the log tells.
    pub upstreams: &'a HashSet<Endpoint>,
}

impl Known<'_> {
    /// Whether an entry's client may be that of a stream in spite of its address.
    fn may_differ(&self, traits: &Traits, end: &End) -> bool {
        self.strangers.is_some_and(|them| them.may_be(traits.client, end.client.addr))
    }

    /// Whether a stream is one that a proxy opened, and not known to lead to nginx.
    fn is_proxys(&self, end: &End) -> bool {
        self.strangers.is_some_and(|them| them.is_asked(end.client.addr))
            && self.nginx.leg([end.client, end.server]).is_none()
    }

    /// Whether the client of a stream may ask for the one that an entry names.
    fn may_name(&self, traits: &Traits, end: &End) -> bool {
        self.is_proxy(end)
            || self.strangers.is_none_or(|them| !them.is_direct(traits.client, end.server.addr))
    }

    /// Whether the client of a stream is known to ask for others.
    fn is_proxy(&self, end: &End) -> bool {
        self.nginx.leg([end.client, end.server]) == Some(Leg::Upstream)
            || self
                .strangers
                .is_some_and(|them| them.is_proxy(end.client.addr, end.server.addr))
    }

    /// Traits by which to look for ends: an address that no packet bears may have a port that
    /// none bears.
    fn wanted(&self, traits: &Traits) -> Traits {
        let unsent = self.strangers.is_some_and(|them| them.is_unsent(traits.client));
        Traits { port: traits.port.filter(|_| !unsent), ..*traits }
    }
}

impl Fit {
    /// What agrees is enough to claim the stream for the entry: a stranger has to be told by its
    /// request, or by its port.
    pub fn is_telling(&self) -> bool {
        let mut telling = [Criterion::Uri, Criterion::Port, Criterion::RequestId].into_iter();
        let tells = telling.any(|criterion| self.evidence.has(criterion));
        !self.stranger || tells && !self.withheld
    }
}

/// The ends of streams that entries are compared with, again and again in a storm.
pub struct Ends<'a> {
    streams: &'a Streams,
    addresses: Known<'a>,
    known: HashMap<u32, Vec<End>>,
}

impl<'a> Ends<'a> {
    /// The ends of these streams.
    pub fn new(streams: &'a Streams, addresses: Known<'a>) -> Ends<'a> {
        Ends { streams, addresses, known: HashMap::new() }
    }

    fn find(&mut self, kind: Kind, event: Event) -> Option<&End> {
        let streams = self.streams;
        if self.known.len() >= limits::ENDS {
            self.known.clear();
        }
        let only_ends = streams.show_only_ends();
        let all = || streams.get(event.stream).map(|s| End::all(&s, only_ends).collect());
        let known = self.known.entry(event.stream);
        let ends = known.or_insert_with(|| all().unwrap_or_default());
        // An end that was noted while the capture was being read may have turned out to be none.
        ends.iter().find(|end| (end.kind, end.time) == (kind, event.time))
    }
}

/// Every end that an entry with these traits can be about, by kind and time.
pub fn candidates<'a>(
    traits: &'a Traits,
    window: i64,
    events: &'a Events,
) -> impl Iterator<Item = (Leg, Kind, Event)> + 'a {
    traits.instant.into_iter().flat_map(move |written| {
        let kinds = legs(traits.leg)
            .iter()
            .flat_map(|&leg| kinds(leg, traits).iter().map(move |&kind| (leg, kind)));
        kinds.flat_map(move |(leg, kind)| {
            let before = match kind {
                Kind::Silence => limits::SILENCE * SECOND,
                _ => window,
            };
            let mut from = written.plus(-before);
            let mut to = written.plus(traits.resolution + window);
            if let Some((asked, done)) = traits.waited.filter(|_| leg == Leg::Upstream) {
                (from, to) = (from.max(asked.plus(-UNNOTICED)), to.min(done));
            }
            let port = traits.port.filter(|_| leg == Leg::Client);
            let found = events.find(kind, traits.request_on(leg), port, from, to);
            found.map(move |event| (leg, kind, event))
        })
    })
}

/// Every stream that an entry with these traits fits, each once, by when it ended.
pub fn fits(traits: &Traits, window: i64, events: &Events, ends: &mut Ends<'_>) -> Vec<Fit> {
    let Some(written) = traits.instant else { return Vec::new() };
    let addresses = ends.addresses;
    let wanted = addresses.wanted(traits);
    let mut withheld = false;
    let fits = candidates(&wanted, window, events).filter_map(|(leg, kind, event)| {
        let end = ends.find(kind, event)?;
        let weighed = weigh(traits, leg, end, addresses)?;
        let Weighed { evidence, weight, stranger, claimed } = weighed;
        if stranger && addresses.is_proxys(end) {
            withheld = true;
            return None;
        }
        let asked = traits.waited.zip(end.asked_at).is_none_or(|((from, _), at)| at >= from);
        Some(Fit {
            asked,
            stream: event.stream,
            leg,
            evidence,
            weight,
            stranger,
            claimed,
            server: end.server.addr,
            port: end.server.port,
            withheld: false,
            delta: written.since(event.time),
            about_reset: matches!(kind, Kind::Reset(_)),
            taken: leg == Leg::Upstream
                || matches!(end.phase, Phase::DuringResponse | Phase::AfterResponse),
            moment: match leg {
                Leg::Client => end.accepted_at,
                Leg::Upstream | Leg::Unknown => Some(event.time),
            },
            time: event.time,
        })
    });
    let mut out: Vec<Fit> = fits.collect();
    // nginx notices that a kept-alive connection is gone when it is about to use it, but seldom.
    if out.iter().any(|fit| fit.asked) {
        out.retain(|fit| fit.asked);
    }
    // Whose address packets bear is not the one that somebody else names at the same host.
    let own = |fit: &Fit| fit.leg == Leg::Client && !fit.claimed && !fit.stranger;
    let asked: HashSet<_> = out.iter().filter(|fit| own(fit)).map(|fit| fit.server).collect();
    out.retain(|fit| !fit.claimed || !asked.contains(&fit.server));
    // Where an address was translated and the port was not, that tells one from all others.
    let kept_port = |fit: &Fit| fit.evidence.has(Criterion::Port);
    if out.iter().any(|fit| fit.stranger && kept_port(fit)) {
        out.retain(kept_port);
    }
    out.iter_mut().for_each(|fit| fit.withheld = withheld);
    // A stream can fit by its FIN and by its RST; the better one counts.
    out.sort_by_key(|fit| (fit.stream, Reverse(fit.weight)));
    out.dedup_by_key(|fit| fit.stream);
    out.sort_by_key(|fit| (fit.time, fit.stream));
    out
}

/// Whether an entry with these traits fits an end.
pub fn fits_end(traits: &Traits, end: &End, addresses: Known<'_>) -> bool {
    legs(traits.leg).iter().any(|&leg| {
        kinds(leg, traits).contains(&end.kind) && weigh(traits, leg, end, addresses).is_some()
    })
}

/// What ended on a stream, and when.
pub fn ends(stream: &Stream) -> impl Iterator<Item = (Kind, CaptureTime)> {
    let fin = |side| stream.fin(side).map(|fin| (Kind::Fin(side), fin.time));
    let reset =
        stream.effective_resets().map(|resets| (Kind::Reset(resets.by), resets.at.time));
    [fin(Side::Client), fin(Side::Server), reset].into_iter().flatten()
}

/// The legs that an entry can be about.
pub fn legs(leg: Leg) -> &'static [Leg] {
    match leg {
        Leg::Client => &[Leg::Client],
        Leg::Upstream => &[Leg::Upstream],
        Leg::Unknown => &[Leg::Client, Leg::Upstream],
    }
}

/// The kinds of ends that an entry can be about.
pub(super) fn kinds(leg: Leg, traits: &Traits) -> &'static [Kind] {
    use Kind::{Fin, Reset, Silence};
    // Nginx is the server of its clients and the client of its upstreams.
    let client = (leg == Leg::Client) == (traits.by == By::Peer);
    match (traits.shows, client) {
        (Shows::Reset, true) => &[Reset(Side::Client)],
        (Shows::Reset, false) | (Shows::Refused, _) => &[Reset(Side::Server)],
        (Shows::Fin, true) => &[Fin(Side::Client)],
        (Shows::Fin, false) => &[Fin(Side::Server)],
        (Shows::FinOrTlsReset | Shows::ResetOrFin, true) => {
            &[Fin(Side::Client), Reset(Side::Client)]
        }
        (Shows::FinOrTlsReset | Shows::ResetOrFin, false) => {
            &[Fin(Side::Server), Reset(Side::Server)]
        }
        (Shows::NoAnswer, true) => &[Fin(Side::Client), Reset(Side::Client), Silence],
        (Shows::NoAnswer, false) => &[Fin(Side::Server), Reset(Side::Server), Silence],
        (Shows::NoPacket | Shows::NoTcp | Shows::Stays, _) => &[],
        (Shows::Answer, _) => &[Kind::Answer],
        (Shows::CutAnswer, _) => &[Kind::CutAnswer],
        (Shows::AnyAnswer, _) => &[Kind::Answer, Kind::CutAnswer],
    }
}

/// What agrees between an entry and an end of a stream, and how much that weighs.
struct Weighed {
    evidence: Evidence,
    weight: u8,
    /// The client's addresses differ.
    stranger: bool,
    /// Only a header names the client, of somebody who is not known to ask for others.
    claimed: bool,
}

/// What it costs an entry that the client has another address in the capture, or that the stream
/// is not nginx's by the addresses that the user gave: any stream without that is preferred.
const STRANGER: u8 = 10;
const NOT_NGINX: u8 = 10;

/// What agrees between an entry and an end of a stream; `None` if anything contradicts.
fn weigh(traits: &Traits, leg: Leg, end: &End, addresses: Known<'_>) -> Option<Weighed> {
    let &End { kind, time, in_head, server, encrypted, unasked, .. } = end;
    let End { requests, hosts, .. } = end;
    let phase = match leg {
        Leg::Upstream if end.is_crossed => Phase::AwaitingResponse,
        _ if encrypted && traits.phases.is_of_http2() => Phase::Unknown,
        _ => end.phase,
    };
    let mut evidence = Evidence::default();
    evidence.add(Criterion::Time, true);
    evidence.add(Criterion::Reset, !matches!(kind, Kind::Answer | Kind::CutAnswer));
    evidence.add(Criterion::Phase, traits.phases.agrees(phase, in_head)?);

    let tls_hides = traits.shows != Shows::FinOrTlsReset || !matches!(kind, Kind::Reset(_));
    if !tls_hides && !encrypted {
        return None;
    }
    if end.is_unheard && traits.is_held {
        return None;
    }
    let same_bytes = traits.carried.is_none_or(|counted| agree_on_bytes(counted, leg, end));
    if !same_bytes {
        return None;
    }
    let is_counted = end.bytes.iter().all(Option::is_some);
    let carried = traits.carried.filter(|carried| is_counted && *carried != [0, 0]);
    evidence.add(Criterion::Bytes, carried.is_some());
    let given = addresses.nginx.leg([end.client, end.server]);
    if given.is_some_and(|given| given != leg) {
        return None;
    }
    // An nginx may be asked by another one, of which a request tells.
    let is_at_upstream = leg == Leg::Client && addresses.upstreams.contains(&server);
    if is_at_upstream && traits.request.is_none() {
        return None;
    }
    let asked = traits.request_on(leg);
    let same_request = agree_with_any(asked, requests.iter().copied())?;
    evidence.add(Criterion::Uri, same_request);
    let (mut stranger, mut claimed) = (false, false);
    let passed_to = traits.upstream.map(|up| (Some(up.ip().to_canonical()), up.port()));
    let is_upstream = passed_to.map(|up| up == (server.addr, server.port));
    match leg {
        Leg::Upstream => {
            evidence.add(Criterion::Upstream, is_upstream.filter(|same| *same)?);
            if let Some((from, to)) = traits.waited {
                // One that is kept alive may end at the moment at which it is to be asked.
                let too_early = end.asked_at.is_some_and(|asked| asked < from);
                let kept_alive =
                    phase == Phase::AfterResponse && time.since(from).abs() <= UNNOTICED;
                if too_early && !kept_alive || time > to {
                    return None;
                }
            }
        }
        Leg::Client | Leg::Unknown => {
            if is_upstream == Some(true) {
                return None;
            }
            let own = agree(traits.client, end.client.addr);
            let by_header = same_request && is_forwarded(traits, end);
            let is_named = own.is_none() && (is_proxied(traits, end) || by_header);
            if is_named && !addresses.may_name(traits, end) {
                return None;
            }
            // Who reads no header of the PROXY protocol takes it for a bad request.
            let may_be_unread = by_header || end.last.status == Some(400);
            claimed = is_named && may_be_unread && !addresses.is_proxy(end);
            let by_packets = own.or(is_proxied(traits, end).then_some(true));
            let same_client = by_packets.or(by_header.then_some(true));
            stranger = same_client.is_none() && addresses.may_differ(traits, end);
            evidence.add(Criterion::Client, same_client.or(stranger.then_some(false))?);
            let ports = client_ports(end.client, end.proxied).map(Some);
            let same_port = agree_with_any(traits.port, ports);
            // An address that packets do not bear has a port that they need not bear.
            let other_port = by_packets.is_none().then_some(false);
            evidence.add(Criterion::Port, same_port.or(other_port)?);
            agree(traits.listen_port, Some(server.port))?;
        }
    }
    if leg == Leg::Client
        && asked.is_some()
        && **requests == [None]
        && (phase.is_before_request() || unasked)
    {
        return None;
    }
    if leg == Leg::Client {
        if end.asked.is_some_and(|asked| traits.asked & !asked != 0) {
            return None;
        }
        weigh_account(&traits.account, asked, end, &mut evidence)?;
    }
    let same_host = agree_with_any(traits.host, hosts.iter().copied());
    match leg {
        // Nginx passes on a host of its own choice.
        Leg::Upstream => evidence.add(Criterion::Host, same_host == Some(true)),
        Leg::Client | Leg::Unknown => evidence.add(Criterion::Host, same_host?),
    }
    let costs = [
        lateness(traits, time),
        if stranger { STRANGER } else { 0 },
        if is_at_upstream || given.is_none() && !addresses.nginx.is_empty() {
            NOT_NGINX
        } else {
            0
        },
    ];
    let weight = costs.into_iter().fold(evidence.weight(), u8::saturating_sub);
    Some(Weighed { evidence, weight, stranger, claimed })
}

/// What agrees between the access log's account of a connection's last request and a stream's last
/// exchange; `None` if anything contradicts.
fn weigh_account(
    account: &Account,
    asked: Option<u64>,
    end: &End,
    evidence: &mut Evidence,
) -> Option<()> {
    let last = &end.last;
    // A request that came together with the RST is one that nginx has not seen, so there may be
    // one more than it counted; not one that it has answered.
    let unseen = match account.requests.map(u64::from).zip(last.begun) {
        None => false,
        Some((counted, begun)) if begun == counted => false,
        Some((counted, begun)) if begun == counted + 1 => true,
        Some(_) => return None,
    };
    if unseen && last.status.is_some_and(|status| status != UNSENT) {
        return None;
    }
    if unseen {
        let is_earlier = |asked| last.earlier & 1 << request_bit(asked) != 0;
        return asked.is_none_or(is_earlier).then_some(());
    }
    if account.asked_by.zip(end.asked_at).is_some_and(|(by, asked)| asked > by) {
        return None;
    }
    evidence.add(Criterion::Status, agree(account.status, last.status)?);
    if let Some((counted, head)) = account.sent.map(|sent| sent.beside(last.head)) {
        let same = agree(last.whole.map(|whole| whole - head), Some(counted))?;
        evidence.add(Criterion::Bytes, same);
        // nginx counts what it gave to its system, which need not have sent it; not less.
        if last.sent.is_some_and(|sent| sent - head > counted) {
            return None;
        }
    }
    evidence.add(Criterion::RequestId, account.id.is_some() && account.id == last.id);
    Some(())
}

/// Whether an entry names the client that a header of the PROXY protocol names. Behind a load
/// balancer, nginx's configuration decides whether the entry has that address or the balancer's.
fn is_proxied(traits: &Traits, end: &End) -> bool {
    traits.client.is_some() && traits.client == end.proxied.map(|client| client.ip())
}

/// Whether an entry names a client that the request's header names. Nginx takes that for its
/// client as long as it has to do with the request.
fn is_forwarded(traits: &Traits, end: &End) -> bool {
    traits.client.is_some_and(|client| end.forwarded.contains(&client))
}

/// Ports that nginx may take for the client's, as it may their addresses.
pub(super) fn client_ports(
    client: Endpoint,
    proxied: Option<SocketAddr>,
) -> impl Iterator<Item = u16> {
    proxied.map(|client| client.port()).into_iter().chain([client.port])
}

/// Whether two values agree; `None` if they contradict each other. One that is not known does
/// neither.
fn agree<T: PartialEq>(one: Option<T>, other: Option<T>) -> Option<bool> {
    match (one, other) {
        (Some(one), Some(other)) => (one == other).then_some(true),
        _ => Some(false),
    }
}

/// Whether a value agrees with one of several; `None` if it contradicts all of them.
fn agree_with_any<T: PartialEq + Copy>(
    one: Option<T>,
    others: impl Iterator<Item = Option<T>>,
) -> Option<bool> {
    let found: Vec<_> = others.map(|other| agree(one, other)).collect();
    if found.contains(&Some(true)) {
        return Some(true);
    }
    (found.is_empty() || found.contains(&Some(false))).then_some(false)
}

/// Whether a stream carried what nginx counted of a session: it read what came before a FIN, though
/// perhaps not before a RST, and what it wrote need not have been sent.
fn agree_on_bytes(counted: [u64; 2], leg: Leg, end: &End) -> bool {
    let [client, server] = counted.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    let [from_client, from_server] = end.bytes;
    let (read, came, written, went) = match leg {
        Leg::Upstream => (server, from_server, client, from_client),
        Leg::Client | Leg::Unknown => (client, from_client, server, from_server),
    };
    let is_read = match end.kind {
        Kind::Fin(_) => came.is_none_or(|came| came == read),
        _ => came.is_none_or(|came| came >= read),
    };
    is_read && went.is_none_or(|went| went <= written)
}

/// A [`request_bit`] for each request that a stream carried, if each of them can be read.
fn asked_of(stream: &Stream) -> Option<u64> {
    let caveats = stream.caveats();
    if caveats.mid_stream || caveats.gap || caveats.truncated {
        return None;
    }
    if stream.is_unasked() {
        return Some(0);
    }
    let last = stream_requests(stream).into_iter().map(|one| Some(1 << request_bit(one?)));
    last.chain([Some(stream.asked_earlier())]).reduce(|all, one| Some(all? | one?)).flatten()
}

/// How far the exchange had come at an end of this kind.
fn phase(stream: &Stream, kind: Kind) -> Phase {
    let closing = stream.closing();
    let phase = match kind {
        Kind::Reset(_) => stream.resets().map_or(Phase::Unknown, |resets| resets.phase),
        Kind::Fin(side) => match closing.filter(|closing| closing.by == side) {
            Some(closing) if stream.fin(side) == Some(closing.at) => closing.stage,
            _ => Phase::Teardown,
        },
        Kind::Silence => Phase::Handshake,
        Kind::Answer => Phase::AfterResponse,
        Kind::CutAnswer => match stream.exchange().map(|exchange| exchange.answered) {
            Some(Progress::Begun) => Phase::DuringResponse,
            _ => Phase::AwaitingResponse,
        },
    };
    // What nothing but silence tells is no evidence, and contradicts nothing.
    let is_told = stream.talk().and_then(Talk::ends_in_silence).is_none();
    match phase {
        Phase::AwaitingResponse | Phase::AfterResponse if !is_told => Phase::Unknown,
        _ => phase,
    }
}

/// What it costs an entry not to have been written when the packet came, as nearly as clocks tell:
/// who is nearest by less is not the better one.
fn lateness(traits: &Traits, time: CaptureTime) -> u8 {
    const PER_SECOND: i64 = 4;
    const AT_MOST: i64 = 16;
    let written = traits.instant.unwrap_or_default();
    let apart = match time.since(written) {
        early if early < 0 => -early,
        late => (late - traits.resolution + 1).max(0),
    };
    let seconds = ((apart - CLOCKS).max(0) + SECOND - 1) / SECOND;
    (seconds * PER_SECOND).min(AT_MOST) as u8
}
