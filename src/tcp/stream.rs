// SPDX-License-Identifier: GPL-2.0-or-later
//! The machine that follows one TCP stream, segment by segment.
//!
//! It keeps what was seen, not what it means: when each side closed and how, how far the
//! exchange had come at that moment, and what the capture lacks. `correlate::verdict` draws
//! the conclusions.

use crate::limits;
use crate::tcp::half::{Half, Piece};
use crate::tcp::http::{self, Exchange, Http, Progress};
use crate::tcp::phase::Phase;
use crate::tcp::segment::{Endpoint, Segment};
use crate::tcp::tls::{self, Bursts, Tls};
use crate::time::{CaptureTime, SECOND};

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The end that opened the connection.
    Client,
    /// The end that accepted it.
    Server,
}

impl Side {
    /// The word of the public interface for this side.
    pub fn word(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Server => "server",
        }
    }

    /// The other end.
    pub fn peer(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// How a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// FIN, ACK, FIN, ACK.
    FourWay,
    /// The second FIN rides with the ACK of the first.
    ThreeWay,
    /// Both FINs were sent before either was seen.
    Simultaneous,
    /// Data went on after the peer's FIN, then came the second FIN.
    HalfClose,
    /// Only one side ever sent a FIN.
    OneFin,
    /// A RST came before both sides had sent a FIN.
    Reset,
    /// Neither FIN nor RST.
    Open,
}

impl Close {
    /// The word of the public interface for this close.
    pub fn word(self) -> &'static str {
        match self {
            Close::FourWay => "four_way",
            Close::ThreeWay => "three_way",
            Close::Simultaneous => "simultaneous",
            Close::HalfClose => "half_close",
            Close::OneFin => "one_fin",
            Close::Reset => "reset",
            Close::Open => "open",
        }
    }
}

/// Without keys, or without a known protocol, a burst of data counts as ended once its last
/// byte is acknowledged and this long nothing followed. A choice, not a fact of any protocol:
/// longer than a round trip and a pause for thought of a server, shorter than its timeouts.
const BURST_END: i64 = SECOND;

/// A RST whose sequence number lies further than this ahead of the data is no hint at data
/// that is still to come: no receive window in use is larger by default.
const FURTHEST_RESET: i64 = 16 << 20;

/// Where a FIN or RST stands in the capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Frame number.
    pub frame: u32,
    /// When the frame was captured.
    pub time: CaptureTime,
}

/// The first FIN or RST of a stream, and how things stood at that moment.
#[derive(Clone, Copy, Debug)]
pub struct Closing {
    /// Where it stands.
    pub at: Mark,
    /// Who sent it.
    pub by: Side,
    /// Whether a FIN carried data as well; `None` for a RST.
    pub piggybacked: Option<bool>,
    /// How far the exchange had come.
    pub stage: Phase,
    /// Nanoseconds since the last segment that brought data, if any did.
    pub idle: Option<i64>,
    /// What of either side's data had been seen by then, by [`Side`].
    seen: [i64; 2],
}

/// The RSTs of a stream.
#[derive(Clone, Debug)]
pub struct Resets {
    /// The first of them.
    pub at: Mark,
    /// Whose address the first one bears.
    pub by: Side,
    /// What the first one cut.
    pub phase: Phase,
    /// How many there are, copies made by the capture not counted.
    pub count: u32,
    /// Payload of the first one.
    pub text: Box<[u8]>,
}

#[derive(Clone, Copy, Debug)]
struct Fin {
    at: Mark,
    /// Position behind the last byte of data.
    end: i64,
    /// It acknowledged the other side's FIN, which came before it.
    answers: bool,
}

/// What the payload was recognized as.
#[derive(Debug, Default)]
enum App {
    #[default]
    Undecided,
    Http(Box<Http>),
    Tls(Box<Tls>),
    Other(Bursts),
}

/// What a capture does not show of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caveats {
    /// The handshake is not in the capture.
    pub mid_stream: bool,
    /// Only one direction is in the capture.
    pub one_sided: bool,
    /// Segments that arrived are not in the capture.
    pub gap: bool,
    /// Frames were cut short.
    pub truncated: bool,
    /// The payload is encrypted.
    pub encrypted: bool,
    /// Segments stand behind ones that were sent after them.
    pub bad_order: bool,
}

/// One TCP stream. Arrays by [`Side`] have the client first.
#[derive(Debug)]
pub struct Stream {
    /// The first frame of the stream.
    pub first_frame: u32,
    /// When the handshake was complete, or the first segment was seen: the order in which
    /// a server accepts connections.
    pub opened: CaptureTime,
    ends: [Endpoint; 2],
    halves: [Half; 2],
    /// Which side is the client is certain: there was a SYN, or a message.
    oriented: bool,
    syn: bool,
    syn_ack: bool,
    established: bool,
    /// Directions that were seen.
    seen: [bool; 2],
    /// A segment other than a RST acknowledged something, so both directions exist.
    acknowledged: bool,
    app: App,
    last_data: Option<CaptureTime>,
    fins: [Option<Fin>; 2],
    /// A segment of its own acknowledged the first FIN, before the second FIN.
    fin_acked_apart: bool,
    /// The second side sent data when it had acknowledged the first FIN.
    data_after_fin: bool,
    closing: Option<Closing>,
    resets: Option<Resets>,
    /// Identification, sequence and acknowledgment number of each side's last segment.
    last_key: [(u16, u32, u32); 2],
    /// The capture holds segments twice.
    copies: bool,
    bad_order: bool,
}

impl Stream {
    /// A stream of which this is the first segment; it is still to be [taken](Stream::take).
    pub fn new(segment: &Segment<'_>) -> Stream {
        // Without a SYN or a message, the client is the side that did not send from the lower
        // port; a well-known port is always the lower one of the two.
        let from_client = match (segment.tcp.syn, segment.tcp.ack_flag) {
            (true, false) => true,
            (true, true) => false,
            _ => segment.src.port >= segment.dst.port,
        };
        let ends = match from_client {
            true => [segment.src, segment.dst],
            false => [segment.dst, segment.src],
        };
        Stream {
            first_frame: segment.frame,
            opened: segment.time,
            ends,
            halves: Default::default(),
            oriented: segment.tcp.syn,
            syn: false,
            syn_ack: false,
            established: false,
            seen: [false; 2],
            acknowledged: false,
            app: App::Undecided,
            last_data: None,
            fins: [None; 2],
            fin_acked_apart: false,
            data_after_fin: false,
            closing: None,
            resets: None,
            last_key: [(0, 0, 0); 2],
            copies: false,
            bad_order: false,
        }
    }

    // ---- What was seen -------------------------------------------------------------------

    /// Address and port of a side.
    pub fn end(&self, side: Side) -> Endpoint {
        self.ends[side as usize]
    }

    /// The first FIN or RST.
    pub fn closing(&self) -> Option<&Closing> {
        self.closing.as_ref()
    }

    /// The RSTs.
    pub fn resets(&self) -> Option<&Resets> {
        self.resets.as_ref()
    }

    /// The first FIN of a side.
    pub fn fin(&self, side: Side) -> Option<Mark> {
        self.fins[side as usize].map(|fin| fin.at)
    }

    /// Which ends have been seen: FINs of client and server, and a RST.
    pub fn ends_seen(&self) -> [bool; 3] {
        let [client, server] = self.fins;
        [client.is_some(), server.is_some(), self.resets.is_some()]
    }

    /// The handshake is complete, or the capture starts after it.
    pub fn is_established(&self) -> bool {
        self.established || self.mid_stream()
    }

    /// The server answered the client's SYN with its own.
    pub fn was_accepted(&self) -> bool {
        self.syn_ack || self.is_established()
    }

    /// When a server could accept the connection; `None` if the capture starts after that.
    pub fn accepted_at(&self) -> Option<CaptureTime> {
        (!self.mid_stream()).then_some(self.opened)
    }

    /// How the connection was closed.
    pub fn close(&self) -> Close {
        match (self.fins, &self.resets) {
            ([Some(client), Some(server)], _) => {
                let answered = client.answers || server.answers;
                if self.data_after_fin {
                    Close::HalfClose
                } else if self.fin_acked_apart {
                    Close::FourWay
                } else if answered {
                    Close::ThreeWay
                } else {
                    Close::Simultaneous
                }
            }
            (_, Some(_)) => Close::Reset,
            ([None, None], None) => Close::Open,
            _ => Close::OneFin,
        }
    }

    /// The HTTP conversation, if the payload is recognized as one.
    pub fn http(&self) -> Option<&Http> {
        match &self.app {
            App::Http(http) if http.begun > 0 || http.exchange().is_some() => Some(http),
            _ => None,
        }
    }

    /// The exchange that was open at the end, else the last one.
    pub fn exchange(&self) -> Option<&Exchange> {
        self.http().and_then(Http::exchange)
    }

    /// Whether the client's TCP acknowledged all of a response that is complete.
    pub fn is_acked(&self, exchange: &Exchange) -> bool {
        exchange.answered == Progress::Complete
            && exchange.response_end.is_some_and(|end| self.server_half().acked() >= end)
    }

    /// Bytes that a response's framing promised and the client never acknowledged.
    pub fn missing(&self, exchange: &Exchange) -> Option<u64> {
        let begun = !matches!(exchange.answered, Progress::None | Progress::Lost);
        let end = exchange.response_end.filter(|_| begun)?;
        let acked = self.server_half().acked().max(exchange.response_start);
        Some((end - acked).max(0) as u64)
    }

    /// What the capture does not show of this stream.
    pub fn caveats(&self) -> Caveats {
        let one_sided = self.acknowledged && self.seen.contains(&false);
        Caveats {
            mid_stream: self.mid_stream(),
            one_sided,
            gap: !one_sided && self.halves.iter().any(|half| half.losses.gap),
            truncated: self.halves.iter().any(|half| half.losses.truncated),
            encrypted: matches!(self.app, App::Tls(_)),
            bad_order: self.bad_order,
        }
    }

    /// How far the exchange has come, judged at this time.
    pub fn stage(&self, now: CaptureTime) -> Phase {
        if !self.is_established() {
            return Phase::Handshake;
        }
        let stage = match &self.app {
            App::Undecided if self.mid_stream() => Phase::Unknown,
            App::Undecided => Phase::BeforeRequest,
            App::Http(http) => http_stage(http),
            App::Tls(tls) if tls.is_lost() => Phase::Unknown,
            App::Tls(tls) if !tls.established() => Phase::TlsHandshake,
            App::Tls(tls) if tls.may_be_unanswered() && tls.bursts.answered => Phase::Unknown,
            App::Tls(tls) => self.burst_stage(&tls.bursts, now),
            App::Other(bursts) => self.burst_stage(bursts, now),
        };
        // Data behind a hole was sent, though what it says is not known.
        match stage {
            Phase::BeforeRequest | Phase::AfterResponse if self.client_half().has_hole() => {
                Phase::DuringRequest
            }
            Phase::AwaitingResponse if self.server_half().has_hole() => Phase::DuringResponse,
            _ => stage,
        }
    }

    fn burst_stage(&self, bursts: &Bursts, now: CaptureTime) -> Phase {
        let Some(side) = bursts.last else { return Phase::BeforeRequest };
        let half = &self.halves[side as usize];
        let quiet = self.last_data.is_some_and(|last| now.since(last) >= BURST_END);
        match side {
            _ if !quiet || half.acked() < half.sent() => Phase::Unknown,
            Side::Client if bursts.asks() => Phase::AwaitingResponse,
            Side::Client => Phase::Unknown,
            Side::Server => Phase::AfterResponse,
        }
    }

    fn mid_stream(&self) -> bool {
        !self.syn && !self.syn_ack
    }

    fn client_half(&self) -> &Half {
        &self.halves[Side::Client as usize]
    }

    fn server_half(&self) -> &Half {
        &self.halves[Side::Server as usize]
    }

    // ---- Taking segments -----------------------------------------------------------------

    /// Takes the next segment of the stream.
    pub fn take(&mut self, segment: &Segment<'_>) {
        self.orient(segment);
        let side = self.sender(segment);
        let copy = self.is_copy(side, segment);
        self.seen[side as usize] = true;
        if segment.tcp.rst {
            return self.reset(side, segment, copy);
        }
        self.handshake(side, segment);
        self.acknowledge(side, segment);
        self.payload(side, segment);
        if segment.tcp.fin && self.fins[side as usize].is_none() && self.resets.is_none() {
            self.finish(side, segment);
        }
    }

    /// The first message or SYN tells the sides apart where ports could only suggest.
    fn orient(&mut self, segment: &Segment<'_>) {
        if self.oriented {
            return;
        }
        let from_client = if segment.tcp.syn {
            !segment.tcp.ack_flag
        } else if http::starts_request(segment.payload) {
            true
        } else if http::starts_response(segment.payload) {
            false
        } else {
            return;
        };
        self.oriented = true;
        if from_client != (self.sender(segment) == Side::Client) {
            self.turn_round();
        }
    }

    /// Exchanges what was noted of the two sides.
    fn turn_round(&mut self) {
        self.ends.reverse();
        self.halves.reverse();
        self.seen.reverse();
        self.fins.reverse();
        self.last_key.reverse();
        if let Some(closing) = &mut self.closing {
            closing.by = closing.by.peer();
            closing.seen.reverse();
        }
        if let Some(resets) = &mut self.resets {
            resets.by = resets.by.peer();
        }
    }

    fn sender(&self, segment: &Segment<'_>) -> Side {
        let client = &self.ends[Side::Client as usize];
        let server = &self.ends[Side::Server as usize];
        let from_client = match client.port == server.port {
            false => segment.src.port == client.port,
            true => segment.src.addr == client.addr,
        };
        if from_client {
            Side::Client
        } else {
            Side::Server
        }
    }

    /// Whether this segment is the one before it once more, as captures on several interfaces
    /// hold it. A sender counts the identification on, save where it leaves it at 0; those
    /// count as copies only where the capture is known to make some.
    fn is_copy(&mut self, side: Side, segment: &Segment<'_>) -> bool {
        let Some(id) = segment.ip_id else { return false };
        let key = (id, segment.tcp.seq, segment.tcp.ack);
        let same = std::mem::replace(&mut self.last_key[side as usize], key) == key;
        self.copies |= same && id != 0;
        same && (id != 0 || self.copies)
    }

    fn handshake(&mut self, side: Side, segment: &Segment<'_>) {
        let tcp = &segment.tcp;
        if tcp.syn {
            self.halves[side as usize].syn(tcp.seq);
            match side {
                Side::Client => self.syn = true,
                Side::Server => self.syn_ack = true,
            }
        } else {
            self.halves[side as usize].start_at(tcp.seq);
            let completes = match side {
                Side::Client => tcp.ack_flag,
                // An ACK alone may be one of an older connection, in answer to the SYN.
                Side::Server => segment.payload_len > 0 && self.syn_ack,
            };
            if completes && !self.established {
                self.established = true;
                self.opened = segment.time;
            }
        }
    }

    /// Notes what a segment acknowledges.
    fn acknowledge(&mut self, side: Side, segment: &Segment<'_>) {
        if !segment.tcp.ack_flag {
            return;
        }
        self.acknowledged |= !segment.tcp.syn;
        let (peer, mid_stream) = (side.peer(), self.mid_stream());
        let half = &mut self.halves[peer as usize];
        half.start_at(segment.tcp.ack);
        half.acknowledge(half.position(segment.tcp.ack));
        let before = half.next();
        half.mind_holes(&mut |at, piece| hand_on(&mut self.app, mid_stream, peer, at, piece));
        self.note_late(peer, before);
        if self.acks_fin(peer) && segment.payload_len == 0 && !segment.tcp.fin {
            self.fin_acked_apart |= self.fins[side as usize].is_none();
        }
    }

    /// Whether the peer has acknowledged this side's FIN.
    fn acks_fin(&self, side: Side) -> bool {
        let acked = self.halves[side as usize].acked();
        self.fins[side as usize].is_some_and(|fin| acked > fin.end)
    }

    fn payload(&mut self, side: Side, segment: &Segment<'_>) {
        if segment.payload_len == 0 {
            return;
        }
        let mid_stream = self.mid_stream();
        let half = &mut self.halves[side as usize];
        let start = half.position(segment.tcp.seq.wrapping_add(u32::from(segment.tcp.syn)));
        let before = half.next();
        let fresh = half.take(start, segment.payload_len, segment.payload, &mut |at, piece| {
            hand_on(&mut self.app, mid_stream, side, at, piece)
        });
        if !fresh {
            return;
        }
        if self.resets.is_none() {
            self.last_data = Some(segment.time);
        }
        self.data_after_fin |= self.acks_fin(side.peer()) && self.fins[side as usize].is_none();
        self.end_if_all_is_there(side);
        self.note_late(side, before);
    }

    /// Takes a side's first FIN.
    fn finish(&mut self, side: Side, segment: &Segment<'_>) {
        let (peer, mid_stream) = (side.peer(), self.mid_stream());
        let half = &mut self.halves[side as usize];
        half.pass_holes(&mut |at, piece| hand_on(&mut self.app, mid_stream, side, at, piece));
        let syn = u32::from(segment.tcp.syn);
        let start = half.position(segment.tcp.seq.wrapping_add(syn));
        let end = start + i64::from(segment.payload_len);
        half.stop_at(end);
        let at = Mark { frame: segment.frame, time: segment.time };
        self.fins[side as usize] = Some(Fin { at, end, answers: self.acks_fin(peer) });
        self.end_if_all_is_there(side);
        self.note_closing(side, segment);
    }

    /// The FIN of the server ends a response that lasts until the close.
    fn end_if_all_is_there(&mut self, side: Side) {
        let at = self.halves[side as usize].next();
        if let (Some(fin), Side::Server, App::Http(http)) =
            (self.fins[side as usize], side, &mut self.app)
        {
            if fin.end == at {
                http.server_end(at);
            }
        }
    }

    fn reset(&mut self, side: Side, segment: &Segment<'_>, copy: bool) {
        if let Some(resets) = &mut self.resets {
            resets.count += u32::from(!copy);
            return;
        }
        let (peer, mid_stream) = (side.peer(), self.mid_stream());
        self.stop_at_reset(side, segment);
        for side in [side, peer] {
            let half = &mut self.halves[side as usize];
            half.pass_holes(&mut |at, piece| {
                hand_on(&mut self.app, mid_stream, side, at, piece)
            });
        }
        let torn_down = self.fins.iter().any(Option::is_some);
        let text = segment.payload;
        self.resets = Some(Resets {
            at: Mark { frame: segment.frame, time: segment.time },
            by: side,
            phase: if torn_down { Phase::Teardown } else { self.stage(segment.time) },
            count: 1,
            text: text[..text.len().min(limits::RESET_TEXT)].into(),
        });
        self.note_closing(side, segment);
    }

    /// What counts is what was sent before the RST: its own side's data up to its sequence
    /// number, and of the peer's what it acknowledges or what was seen.
    fn stop_at_reset(&mut self, side: Side, segment: &Segment<'_>) {
        let own = &mut self.halves[side as usize];
        if own.started() {
            let ahead = own.position(segment.tcp.seq) - own.next();
            own.stop_at(own.next() + if ahead <= FURTHEST_RESET { ahead.max(0) } else { 0 });
        }
        let other = &mut self.halves[side.peer() as usize];
        let mut end = other.next();
        if segment.tcp.ack_flag && other.started() {
            let acked = other.position(segment.tcp.ack);
            // One more than the data: a FIN is acknowledged like a byte.
            if acked <= other.sent() + 1 {
                other.acknowledge(acked);
                end = end.max(acked);
            }
        }
        other.stop_at(end);
    }

    fn note_closing(&mut self, side: Side, segment: &Segment<'_>) {
        if self.closing.is_some() {
            return;
        }
        self.closing = Some(Closing {
            at: Mark { frame: segment.frame, time: segment.time },
            by: side,
            piggybacked: (!segment.tcp.rst).then_some(segment.payload_len > 0),
            stage: self.stage(segment.time),
            idle: self.last_data.map(|last| segment.time.since(last)),
            seen: self.progress(),
        });
    }

    /// Data that was sent before the first FIN or RST and stands behind it in the capture
    /// belongs to the picture of that moment, as long as the other side has not gone on.
    fn note_late(&mut self, side: Side, before: i64) {
        let progress = self.progress();
        let Some(closing) = self.closing else { return };
        if progress[side as usize] == before {
            return;
        }
        let reset = self.resets.as_ref().map(|resets| resets.at.frame);
        let by_reset = reset == Some(closing.at.frame);
        let belongs = by_reset || closing.by == side;
        self.bad_order |= belongs || reset.is_some();
        let peer = side.peer() as usize;
        if belongs && closing.seen[peer] == progress[peer] {
            let stage = self.stage(closing.at.time);
            self.closing = Some(Closing { stage, seen: progress, ..closing });
            if let Some(resets) = self.resets.as_mut().filter(|_| by_reset) {
                resets.phase = stage;
            }
        }
    }

    fn progress(&self) -> [i64; 2] {
        [self.client_half().next(), self.server_half().next()]
    }
}

fn hand_on(app: &mut App, mid_stream: bool, side: Side, at: i64, piece: Piece<'_>) {
    if matches!(app, App::Undecided) {
        *app = recognize(mid_stream, side, piece);
    }
    match (app, side) {
        (App::Http(http), Side::Client) => http.client(piece),
        (App::Http(http), Side::Server) => http.server(at, piece),
        (App::Tls(tls), _) => tls.take(side, piece),
        (App::Other(bursts), _) => bursts.add(
            side,
            match piece {
                Piece::Data(bytes) => bytes.len() as u64,
                Piece::Missing(count) => count,
            },
        ),
        (App::Undecided, _) => {}
    }
}

/// Decides by the first bytes of a connection what is spoken on it.
fn recognize(mid_stream: bool, side: Side, piece: Piece<'_>) -> App {
    // Without its first bytes, it is whatever is recognized first.
    let Piece::Data(bytes) = piece else { return App::Http(Box::new(Http::mid_stream())) };
    match (mid_stream, side) {
        (true, _) if tls::continues(bytes) => App::Tls(Box::new(Tls::mid_stream())),
        (true, _) => App::Http(Box::new(Http::mid_stream())),
        (false, Side::Client) if tls::starts(bytes) => App::Tls(Box::default()),
        (false, Side::Client) if http::may_start_request(bytes) => App::Http(Box::default()),
        (false, Side::Server) if http::starts_response(bytes) => App::Http(Box::default()),
        _ => App::Other(Bursts::default()),
    }
}

fn http_stage(http: &Http) -> Phase {
    let Some(exchange) = http.exchange() else {
        return if http.is_lost() { Phase::Unknown } else { Phase::BeforeRequest };
    };
    match (exchange.answered, exchange.sent) {
        _ if http.tunnel => Phase::Unknown,
        (Progress::Lost, _) => Phase::Unknown,
        (Progress::Complete, _) if http.is_lost() => Phase::Unknown,
        (Progress::Complete, _) => Phase::AfterResponse,
        (Progress::Begun, _) => Phase::DuringResponse,
        (Progress::None, Progress::Complete) => Phase::AwaitingResponse,
        (Progress::None, Progress::Begun) => Phase::DuringRequest,
        (Progress::None, Progress::None | Progress::Lost) => Phase::Unknown,
    }
}
