// SPDX-License-Identifier: GPL-2.0-or-later
//! Whether an entry fits a stream: leg, end, time, phase, request, addresses, pair by pair.

use std::cmp::Reverse;

use crate::correlate::events::{stream_requests, Events, Kind};
use crate::correlate::evidence::{Criterion, Evidence};
use crate::correlate::store::Traits;
use crate::limits;
use crate::nginx::message::{By, Leg, Shows};
use crate::tcp::phase::Phase;
use crate::tcp::stream::{Side, Stream};
use crate::tcp::streams::Streams;
use crate::time::{CaptureTime, SECOND};

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
    /// Place of the stream in the order of the leg: clients by when nginx could accept them,
    /// which is the order of their numbers; upstreams by when they ended, which is the order
    /// of the lines about them.
    pub moment: Option<CaptureTime>,
}

/// Every stream that an entry with these traits fits, each once, by number.
pub fn fits(traits: &Traits, window: i64, events: &Events, streams: &Streams) -> Vec<Fit> {
    let mut out = Vec::new();
    let Some(written) = traits.instant else { return out };
    let to = written.plus(SECOND + window);
    for &leg in legs(traits.leg) {
        for &kind in kinds(leg, traits) {
            let before = match kind {
                Kind::Silence => limits::SILENCE * SECOND,
                _ => window,
            };
            let port = traits.port.filter(|_| leg == Leg::Client);
            let request = traits.request_on(leg);
            for event in events.find(kind, request, port, written.plus(-before), to) {
                let Some(stream) = streams.get(event.stream) else { continue };
                // An end that was noted while the capture was being read may have turned out
                // to be none.
                let end = (kind, event.time);
                if kind != Kind::Silence && ends(&stream).all(|other| other != end) {
                    continue;
                }
                let found = weigh(traits, leg, kind, event.time, &stream);
                out.extend(found.map(|(evidence, weight)| Fit {
                    stream: event.stream,
                    leg,
                    evidence,
                    weight,
                    delta: written.since(event.time),
                    about_reset: matches!(kind, Kind::Reset(_)),
                    moment: match leg {
                        Leg::Client => stream.accepted_at(),
                        Leg::Upstream | Leg::Unknown => Some(event.time),
                    },
                }));
            }
        }
    }
    // A stream can fit by its FIN and by its RST; the better one counts.
    out.sort_by_key(|fit| (fit.stream, Reverse(fit.weight)));
    out.dedup_by_key(|fit| fit.stream);
    out
}

/// Whether an entry with these traits fits one of a stream's ends.
pub fn fits_end(traits: &Traits, kind: Kind, time: CaptureTime, stream: &Stream) -> bool {
    legs(traits.leg).iter().any(|&leg| {
        kinds(leg, traits).contains(&kind) && weigh(traits, leg, kind, time, stream).is_some()
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
        (Shows::NoPacket | Shows::Stays, _) => &[],
    }
}

/// What agrees between an entry and an end of a stream, and how much that weighs; `None` if
/// anything contradicts.
fn weigh(
    traits: &Traits,
    leg: Leg,
    kind: Kind,
    time: CaptureTime,
    stream: &Stream,
) -> Option<(Evidence, u8)> {
    let phase = phase(stream, kind);
    let server = stream.end(Side::Server);
    let mut evidence = Evidence::default();
    evidence.add(Criterion::Time, true);
    evidence.add(Criterion::Reset, true);
    evidence.add(Criterion::Phase, traits.phases.agrees(phase)?);

    let tls_hides = traits.shows != Shows::FinOrTlsReset || !matches!(kind, Kind::Reset(_));
    if !tls_hides && !stream.caveats().encrypted {
        return None;
    }
    let passed_to = traits.upstream.map(|up| (Some(up.ip().to_canonical()), up.port()));
    let is_upstream = passed_to.map(|up| up == (server.addr, server.port));
    match leg {
        Leg::Upstream => evidence.add(Criterion::Upstream, is_upstream.filter(|same| *same)?),
        Leg::Client | Leg::Unknown => {
            if is_upstream == Some(true) {
                return None;
            }
            evidence.add(Criterion::Client, is_client(traits, stream)?);
            let ports = client_ports(stream).map(Some);
            evidence.add(Criterion::Port, agree_with_any(traits.port, ports)?);
            agree(traits.listen_port, Some(server.port))?;
        }
    }
    let asked = traits.request_on(leg);
    let requests = stream_requests(stream);
    evidence.add(Criterion::Uri, agree_with_any(asked, requests.iter().copied())?);
    if leg == Leg::Client
        && asked.is_some()
        && requests == [None]
        && (phase.is_before_request() || stream.is_unasked())
    {
        return None;
    }
    let hosts = stream.exchanges().map(|exchange| exchange.host);
    let same_host = agree_with_any(traits.host, hosts);
    match leg {
        // Nginx passes on a host of its own choice.
        Leg::Upstream => evidence.add(Criterion::Host, same_host == Some(true)),
        Leg::Client | Leg::Unknown => evidence.add(Criterion::Host, same_host?),
    }
    Some((evidence, evidence.weight().saturating_sub(lateness(traits, time))))
}

/// Whether an entry names the client of a stream. Behind a load balancer that names it in a
/// header of the PROXY protocol, nginx's configuration decides whether the entry has that
/// address or the balancer's.
fn is_client(traits: &Traits, stream: &Stream) -> Option<bool> {
    let proxied = stream.proxied_client().map(|client| client.ip());
    match traits.client.is_some() && traits.client == proxied {
        true => Some(true),
        false => agree(traits.client, stream.end(Side::Client).addr),
    }
}

/// Ports that nginx may take for the client's, as it may their addresses.
pub(super) fn client_ports(stream: &Stream) -> impl Iterator<Item = u16> {
    let proxied = stream.proxied_client().map(|client| client.port());
    proxied.into_iter().chain([stream.end(Side::Client).port])
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

/// How far the exchange had come at an end of this kind.
fn phase(stream: &Stream, kind: Kind) -> Phase {
    let closing = stream.closing();
    match kind {
        Kind::Reset(_) => stream.resets().map_or(Phase::Unknown, |resets| resets.phase),
        Kind::Fin(side) => match closing.filter(|closing| closing.by == side) {
            Some(closing) if stream.fin(side) == Some(closing.at) => closing.stage,
            _ => Phase::Teardown,
        },
        Kind::Silence => Phase::Handshake,
    }
}

/// What it costs an entry not to have been written in the second of the packet.
fn lateness(traits: &Traits, time: CaptureTime) -> u8 {
    const PER_SECOND: i64 = 4;
    const AT_MOST: i64 = 16;
    let written = traits.instant.unwrap_or_default();
    let apart = match time.since(written) {
        early if early < 0 => -early,
        late => (late - SECOND + 1).max(0),
    };
    let seconds = (apart + SECOND - 1) / SECOND;
    (seconds * PER_SECOND).min(AT_MOST) as u8
}
