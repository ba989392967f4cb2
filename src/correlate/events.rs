// SPDX-License-Identifier: GPL-2.0-or-later
//! The ends of streams, ordered by time, so that an entry finds the few it can be about.

use std::collections::HashMap;

use crate::correlate::fit::client_ports;
use crate::correlate::store::request_hash;
use crate::limits;
use crate::tcp::http::{Exchange, Progress};
use crate::tcp::phase::Phase;
use crate::tcp::stream::{Side, Stream};
use crate::time::CaptureTime;

/// What ended, and on whose side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The stream's first RST, by this side.
    Reset(Side),
    /// This side's first FIN.
    Fin(Side),
    /// SYNs that nobody has answered.
    Silence,
    /// The last response was complete. Nothing need have ended.
    Answer,
    /// The last response broke off, or did not begin, whoever it was that closed.
    CutAnswer,
}

/// One end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When its packet was captured; of a silence, when it began.
    pub time: CaptureTime,
    /// The stream.
    pub stream: u32,
}

/// Ends that are not worth looking for those that may be forgotten.
const SOME: usize = 1024;

/// Ends of streams by kind and request. `None` stands for streams on which no request is
/// readable, which an entry with any request may be about.
#[derive(Debug, Default)]
pub struct Events {
    by_request: HashMap<(Kind, Option<u64>), Series>,
    by_kind: HashMap<Kind, Series>,
    /// By the client's port, where a log tells that.
    by_port: Option<HashMap<(Kind, u16), Series>>,
    /// An event came that is older than the one before it. Captures hold few of those.
    unsorted: bool,
    /// How many events there are, and at how many to look for those that may be forgotten.
    count: usize,
    full: usize,
}

/// Events in the order of time.
type Series = Vec<Event>;

impl Events {
    /// No events yet; with ports if entries have some.
    pub fn new(with_ports: bool) -> Events {
        Events { by_port: with_ports.then(HashMap::new), ..Events::default() }
    }

    /// From now on ports are of interest.
    pub fn expect_ports(&mut self) {
        self.by_port.get_or_insert_default();
    }

    /// Adds what ended on a stream, save what it `had` seen end before.
    pub fn add(&mut self, number: u32, stream: &Stream, had: [bool; 3]) {
        let [had_client_fin, had_server_fin, had_reset] = had;
        for (side, had) in [(Side::Client, had_client_fin), (Side::Server, had_server_fin)] {
            if let Some(fin) = stream.fin(side).filter(|_| !had) {
                self.push(Kind::Fin(side), number, stream, fin.time);
            }
        }
        if let Some(resets) = stream.effective_resets().filter(|_| !had_reset) {
            self.push(Kind::Reset(resets.by), number, stream, resets.at.time);
        }
    }

    /// Adds a stream whose SYNs nobody answered.
    pub fn add_silence(&mut self, number: u32, stream: &Stream) {
        if Events::is_silent(stream) {
            self.push(Kind::Silence, number, stream, stream.opened);
        }
    }

    /// Adds what became of a stream's last response, which an access entry may be about.
    pub fn add_answer(&mut self, number: u32, stream: &Stream) {
        if let Some((kind, time)) = Events::answer(stream) {
            self.push(kind, number, stream, time);
        }
    }

    /// What became of the last response, and when.
    pub fn answer(stream: &Stream) -> Option<(Kind, CaptureTime)> {
        let exchange = stream.exchange().filter(|_| !stream.is_tunnelled())?;
        match exchange.answered {
            Progress::Complete => Some((Kind::Answer, stream.last_data()?)),
            // nginx may have had a response and kept it to itself.
            Progress::Begun | Progress::None => {
                Some((Kind::CutAnswer, stream.closing()?.at.time))
            }
            Progress::Lost | Progress::Cut => None,
        }
    }

    /// Whether nobody answered a stream's SYNs.
    pub fn is_silent(stream: &Stream) -> bool {
        stream.closing().is_none() && stream.stage(stream.opened, None) == Phase::Handshake
    }

    fn push(&mut self, kind: Kind, number: u32, stream: &Stream, time: CaptureTime) {
        let event = Event { time, stream: number };
        let by_kind = self.by_kind.entry(kind).or_default();
        self.unsorted |= by_kind.last().is_some_and(|last| last.time > time);
        by_kind.push(event);
        self.count += 1;
        if let Some(by_port) = &mut self.by_port {
            for port in client_ports(stream.end(Side::Client), stream.proxied_client()) {
                by_port.entry((kind, port)).or_default().push(event);
            }
        }
        for request in end_requests(stream, kind) {
            self.by_request.entry((kind, request)).or_default().push(event);
        }
    }

    /// Forgets what ended before an instant, now and then: at a cost that the ends since the
    /// last time have paid for.
    pub fn forget_before(&mut self, instant: CaptureTime) {
        if self.count <= self.full {
            return;
        }
        self.sort();
        let forget = |series: &mut Series| {
            series.drain(..series.partition_point(|event| event.time < instant));
            series.shrink_to(2 * series.len());
            !series.is_empty()
        };
        self.by_request.retain(|_, series| forget(series));
        self.by_request.shrink_to(2 * self.by_request.len());
        if let Some(by_port) = &mut self.by_port {
            by_port.retain(|_, series| forget(series));
            by_port.shrink_to(2 * by_port.len());
        }
        self.by_kind.values_mut().for_each(|series| {
            forget(series);
        });
        self.count = self.by_kind.values().map(Vec::len).sum();
        self.full = 2 * self.count + SOME;
    }

    /// Brings the ends into the order of time.
    pub fn sort(&mut self) {
        if std::mem::take(&mut self.unsorted) {
            let by_port = self.by_port.iter_mut().flat_map(HashMap::values_mut);
            let all = self.by_request.values_mut().chain(self.by_kind.values_mut());
            let all = all.chain(by_port);
            all.for_each(|series| series.sort_by_key(|event| event.time));
        }
    }

    /// Ends of a kind between two instants, both included: of streams with this request or an
    /// unreadable one, or of all streams if the request is not known; of this client port only
    /// if that is known.
    pub fn find(
        &self,
        kind: Kind,
        request: Option<u64>,
        port: Option<u16>,
        from: CaptureTime,
        to: CaptureTime,
    ) -> impl Iterator<Item = Event> + '_ {
        let by_port = self.by_port.as_ref().zip(port);
        let series = match request {
            _ if by_port.is_some() => {
                [by_port.and_then(|(by_port, port)| by_port.get(&(kind, port))), None]
            }
            Some(_) => {
                [self.by_request.get(&(kind, request)), self.by_request.get(&(kind, None))]
            }
            None => [self.by_kind.get(&kind), None],
        };
        series.into_iter().flatten().flat_map(move |series| between(series, from, to)).copied()
    }
}

fn between(series: &[Event], from: CaptureTime, to: CaptureTime) -> &[Event] {
    let start = series.partition_point(|event| event.time < from);
    let rest = &series[start..];
    &rest[..rest.partition_point(|event| event.time <= to)]
}

/// When nginx sent a request to an upstream that had ended the connection already, of which it did
/// not know yet.
pub fn crossed_at(stream: &Stream, kind: Kind) -> Option<CaptureTime> {
    match kind {
        Kind::Reset(Side::Server) => stream.effective_resets()?.crossed_at,
        Kind::Fin(Side::Server) => {
            let fin = stream.fin(Side::Server)?.time;
            stream.asked_at().filter(|&asked_at| asked_at > fin)
        }
        _ => None,
    }
}

/// The requests that an entry about this end of a stream can name; see [`stream_requests`]. What
/// was sent behind a RST is not read.
pub fn end_requests(stream: &Stream, kind: Kind) -> Vec<Option<u64>> {
    let mut requests = stream_requests(stream);
    if matches!(kind, Kind::Reset(_)) && crossed_at(stream, kind).is_some() {
        requests.extend((!requests.contains(&None)).then_some(None));
    }
    requests
}

/// The requests that a stream's end can be about, each once: several may be open in HTTP/2.
/// `None` stands for one that is not readable. There is at least one.
pub fn stream_requests(stream: &Stream) -> Vec<Option<u64>> {
    let requests = stream.exchanges().take(limits::OPEN_REQUESTS + 1).map(hash_of);
    let mut requests: Vec<_> = requests.collect();
    if !(1..=limits::OPEN_REQUESTS).contains(&requests.len()) {
        return vec![None];
    }
    requests.sort_unstable();
    requests.dedup();
    requests
}

/// [`request_hash`] of the exchange that was open at a stream's end, else of the last one.
pub fn stream_request(stream: &Stream) -> Option<u64> {
    hash_of(stream.exchange()?)
}

fn hash_of(exchange: &Exchange) -> Option<u64> {
    Some(request_hash(exchange.request.as_deref()?.as_bytes()))
}
