// SPDX-License-Identifier: GPL-2.0-or-later
//! The machine that follows one TCP stream, segment by segment.
//!
//! It keeps what was seen, not what it means: when each side closed and how, how far the
//! exchange had come at that moment, and what the capture lacks. `correlate::verdict` draws
//! the conclusions.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::tcp::app::{App, Around, Layer};
use crate::tcp::half::{self, Half, Piece};
use crate::tcp::http::{self, EndsBy, Exchange, Progress};
use crate::tcp::http2::Http2;
use crate::tcp::order::{Beside, Order};
use crate::tcp::phase::Phase;
use crate::tcp::segment::{Endpoint, Header, Segment};
use crate::tcp::talk::Talk;
use crate::tcp::tls::{Alert, Bursts, Tls};
use crate::tcp::trace::{ends_in_tls_alert, is_tls_alert, Place, ResetSigns, Trace};
use crate::tcp::websocket::WebSocket;
use crate::time::{CaptureTime, SECOND};

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The capture does not show enough to tell.
    Unknown,
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
            Close::Unknown => "unknown",
        }
    }
}

/// Without keys, without a known protocol, or where heads are cut, a burst of data counts as ended
/// once its last byte is acknowledged and this long nothing followed. A choice, not a fact of any
/// protocol: longer than a round trip, a pause for thought of a server and the shortest timeouts
/// that are set, shorter than those that are usual.
const BURST_END: i64 = 2 * SECOND;

/// A RST whose sequence number lies further than this ahead of the data is no hint at data
/// that is still to come: no receive window in use is larger by default.
const FURTHEST_RESET: i64 = 16 << 20;

/// A GOAWAY of HTTP/2, with what TLS adds to it, is no longer than this: it may come right before
/// the end of a connection that was idle.
const FAREWELL: u32 = 64;

/// Copies of a segment stand this near to each other: a sender that repeats one waits for longer
/// (RFC 6298, section 2.4, and what systems make of it).
const COPIED_WITHIN: i64 = SECOND / 5;

/// A SYN-ACK that is not acknowledged is repeated within this time (RFC 6298, section 2: after one
/// second, or three).
const SYN_ACK_AGAIN: i64 = 4 * SECOND;

/// Where a FIN or RST stands in the capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Frame number.
    pub frame: u32,
    /// When the frame was captured.
    pub time: CaptureTime,
}

/// The first FIN or RST of a stream, and how things stood at that moment.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Closing {
    /// Where it stands.
    pub at: Mark,
    /// Who sent it.
    pub by: Side,
    /// Whether a FIN carried data as well; `None` for a RST.
    pub piggybacked: Option<bool>,
    /// How far the exchange had come.
    pub stage: Phase,
    /// Nanoseconds since the last segment that brought data, if any did. What only says that
    /// the end is near is none.
    idle: Option<i64>,
    /// What of either side's data had been seen by then, by [`Side`].
    seen: [i64; 2],
    /// What of either side's data the other had acknowledged by then.
    acked: [i64; 2],
    /// What either side was known to have sent by then, a FIN included.
    told: [i64; 2],
    /// By the time stamps, data or a FIN of the other side stands on the wrong side of it.
    untimely: bool,
    beside: Beside,
}

impl Closing {
    /// By the time stamps, its place in the capture is not that of its moment.
    fn doubt(&mut self) {
        (self.untimely, self.idle) = (true, None);
    }
}

/// The RSTs of a stream. Its first one is the first that had an effect, if any had.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// The connection did not go on after it.
    pub effective: bool,
    /// What its packet tells about who sent it.
    pub signs: ResetSigns,
    /// When the peer, which did not know of it yet, first sent more data; a TLS alert is none.
    pub crossed_at: Option<CaptureTime>,
    /// How far the exchange had come by then, if it cut nothing.
    stage: Phase,
    /// It goes on with a number, and nothing of its side was seen before: no answer to a SYN.
    is_late: bool,
    /// As [`Closing::untimely`].
    untimely: bool,
    beside: Beside,
    /// When one of the others was sent first.
    rival_at: Option<CaptureTime>,
    /// Where it stands in its direction.
    position: i64,
    /// The capture was out of order before it.
    bad_order: bool,
    /// Keys of RSTs, to know copies of them by.
    keys: [Option<Key>; RESET_KEYS],
}

impl Resets {
    /// Its number is what this segment asks for.
    fn is_answer_to(&self, segment: &Segment<'_>) -> bool {
        let is_asked = |key: &Key| key.0 == self.by && key.4 == segment.tcp.ack;
        segment.tcp.ack_flag && self.keys.iter().flatten().any(is_asked)
    }

    /// A RST of this side without identification, which answers, is from now on a new one.
    fn expect_answer(&mut self, side: Side) {
        for key in &mut self.keys {
            *key = key.filter(|key| key.0 != side || key.1 != 0);
        }
    }
}

/// Side, identification (0 where there is none), flags and length, sequence and acknowledgment
/// number: the same in a copy.
type Key = (Side, u16, u16, u32, u32);

/// RSTs of one burst that are told from their copies: endpoints send up to three.
const RESET_KEYS: usize = 4;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Fin {
    at: Mark,
    /// Position behind the last byte of data.
    end: i64,
    /// Its own: one less where it was passed over as the last byte of what was not seen.
    at_number: i64,
    /// What it acknowledges of the other side.
    heard: i64,
    /// The last data of the other side before it was a TLS alert: a farewell.
    heeds: bool,
}

/// A FIN that came behind a RST: it counts if the RST had no effect.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct LateFin {
    fin: Fin,
    closing: Closing,
}

/// The last data of one side.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Burst {
    time: CaptureTime,
    /// Position behind it.
    end: i64,
}

/// The request that began last.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Asked {
    at: CaptureTime,
    /// Requests that had begun by then.
    begun: u64,
    /// A bit for each of those before it, see [`request_bit`].
    earlier: u64,
}

/// What the payload has told up to some moment.
struct Told {
    /// Requests that were begun.
    begun: u64,
    /// Bytes of a conversation by bursts.
    said: u64,
    /// The frame in which HTTP/2 last announced its end.
    announced: u32,
    /// Responses of HTTP/2 that are complete.
    completed: u64,
}

/// Which of 64 bits stands for a request with this [`http::request_hash`].
pub fn request_bit(request: u64) -> u32 {
    request as u32 % u64::BITS
}

/// How things stood before holes were given up.
#[derive(Debug, Serialize, Deserialize)]
struct GivenUp {
    halves: [Half; 2],
    app: App,
}

/// Late segments that holes are opened for again, once they were given up.
const LATE_PATIENCE: u8 = 8;

/// What a capture does not show of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Serialize, Deserialize)]
pub struct Stream {
    /// The first frame of the stream.
    pub first_frame: u32,
    /// When the handshake was complete, or the first segment was seen: the order in which
    /// a server accepts connections.
    pub opened: CaptureTime,
    /// The frame that is being taken.
    frame: u32,
    ends: [Endpoint; 2],
    halves: [Half; 2],
    /// Which side is the client is certain: there was a SYN, or a message.
    oriented: bool,
    syn: bool,
    syn_ack: bool,
    /// When that came last.
    syn_acked_at: Option<CaptureTime>,
    established: bool,
    /// When that was is not seen.
    opened_unseen: bool,
    /// Directions that were seen.
    seen: [bool; 2],
    /// A segment was seen that is no SYN, FIN or RST.
    shows_others: bool,
    /// A segment other than a RST acknowledged something, so both directions exist.
    acknowledged: bool,
    app: App,
    last_data: Option<CaptureTime>,
    /// Nobody can tell whether that was data.
    may_be_farewell: bool,
    order: Order,
    /// The last request that began.
    asked: Option<Asked>,
    last_speaker: Option<Side>,
    /// The last data of each side ended with a TLS alert.
    alerted: [bool; 2],
    /// The server has gone on after a second of silence or more with nobody asking.
    has_paused: bool,
    /// Each side's window was closed when it last said so.
    full: [bool; 2],
    burst: Option<Burst>,
    fins: [Option<Fin>; 2],
    /// FINs behind a RST, few of which there are.
    late_fins: Vec<LateFin>,
    /// What each side had acknowledged of the other when it had certainly sent no FIN yet.
    heard_open: [i64; 2],
    /// The furthest that each side acknowledged without data or a FIN, and where it stood first
    /// when it did.
    acked_at: [(i64, i64); 2],
    /// When each side last sent data or a FIN, by the time stamps.
    said_at: [Option<CaptureTime>; 2],
    /// The furthest that each side had acknowledged when it sent data.
    said_to: [i64; 2],
    closing: Option<Closing>,
    resets: Option<Box<Resets>>,
    given_up: Option<Box<GivenUp>>,
    late_patience: u8,
    /// What led up to here.
    trace: Box<Trace>,
    /// Of each side's last segment.
    last_key: [Option<Key>; 2],
    /// Of each side's last SYN.
    syn_key: [Option<Key>; 2],
    last_side: Option<Side>,
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
            frame: segment.frame,
            opened: segment.time,
            ends,
            halves: Default::default(),
            oriented: segment.tcp.syn,
            syn: false,
            syn_ack: false,
            syn_acked_at: None,
            established: false,
            opened_unseen: false,
            seen: [false; 2],
            shows_others: false,
            acknowledged: false,
            app: App::Undecided,
            last_data: None,
            may_be_farewell: false,
            order: Order::from(segment.time),
            asked: None,
            last_speaker: None,
            alerted: [false; 2],
            has_paused: false,
            full: [false; 2],
            burst: None,
            fins: [None; 2],
            late_fins: Vec::new(),
            heard_open: [0; 2],
            acked_at: [(i64::MIN, 0); 2],
            said_at: [None; 2],
            said_to: [i64::MIN; 2],
            closing: None,
            resets: None,
            given_up: None,
            late_patience: LATE_PATIENCE,
            trace: Box::default(),
            last_key: [None; 2],
            syn_key: [None; 2],
            last_side: None,
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

    /// The side of the first FIN or RST, where the capture tells that.
    pub fn closed_by(&self) -> Option<Side> {
        let by = self.closing()?.by;
        (!self.may_have_closed_before(by.peer())).then_some(by)
    }

    /// The first FIN or RST, if no other one can have come before it.
    pub fn first_end(&self) -> Option<&Closing> {
        let may_have_closed = |side| self.may_have_closed_before(side);
        self.closing()
            .filter(|_| ![Side::Client, Side::Server].into_iter().any(may_have_closed))
    }

    /// Whether this side may have sent a FIN before the first end that is seen.
    pub fn may_have_closed_before(&self, side: Side) -> bool {
        let Some(closing) = self.closing() else { return false };
        let late = self.late_fins.iter().find(|late| late.closing.by == side);
        let fin = self.fins[side as usize].or(late.map(|late| late.fin));
        if self.is_shuffled() {
            return true;
        }
        // By the time stamps, it has, be it by a RST.
        let is_rival =
            |at: CaptureTime, rival: CaptureTime| rival < at || self.order.may_swap(at, rival);
        let contested = self.effective_resets().is_some_and(|resets| {
            resets.rival_at.is_some_and(|rival| is_rival(resets.at.time, rival))
        });
        if contested || fin.is_some_and(|fin| fin.at.time < closing.at.time) {
            return true;
        }
        if side != closing.by && self.may_have_ended_before(closing, fin) {
            return true;
        }
        let by_reset = closing.by == side && self.is_reset(closing.at.frame);
        by_reset && self.may_have_gone_on_after_reset()
            || self.may_lack_fin_at(side, closing.told[side as usize], closing.stage)
    }

    /// Whether the end of the other side that is seen may have come before the first one in the
    /// capture, which no number tells.
    fn may_have_ended_before(&self, closing: &Closing, fin: Option<Fin>) -> bool {
        let end = self.fins[closing.by as usize].map_or(i64::MAX, |own| own.at_number);
        let by_fin = fin.filter(|fin| fin.heard <= end).map(|fin| fin.at.time);
        let resets = self.effective_resets().filter(|resets| resets.by != closing.by);
        let by_reset = resets.map(|resets| resets.at.time);
        let mut ends = by_fin.into_iter().chain(by_reset);
        ends.any(|at| at < closing.at.time || self.order.may_swap(closing.at.time, at))
    }

    /// The side that reset has sent more, or its peer has acknowledged more, than the RST's number
    /// says: what that was may stand behind the RST, which then had no effect.
    pub fn may_have_gone_on_after_reset(&self) -> bool {
        let Some(resets) = self.effective_resets() else { return false };
        let half = &self.halves[resets.by as usize];
        let is_seen = self.fins[resets.by as usize].is_some();
        let is_late = self.late_fins.iter().any(|late| late.closing.by == resets.by);
        // Its side has acknowledged more than it does, and nobody can tell when.
        let peer = &self.halves[resets.by.peer() as usize];
        let is_stale = resets.signs.ack_flag && peer.acked() > resets.beside.heard;
        is_late
            || half.cut().is_some_and(|cut| half.acked() > cut) && !is_seen
            || is_stale && self.is_reset_untimely()
    }

    /// Whether this side may have sent a FIN that is not seen.
    pub fn may_lack_fin(&self, side: Side) -> bool {
        let stage = match self.closing() {
            Some(closing) => closing.stage,
            None => self.stage(self.order.latest(), None),
        };
        self.may_lack_fin_at(side, self.halves[side as usize].told(), stage)
    }

    /// Whether this side may have sent a FIN that is not seen, as far as numbers told when this
    /// was the furthest one, and the exchange had come so far: a FIN counts like a byte.
    fn may_lack_fin_at(&self, side: Side, told: i64, stage: Phase) -> bool {
        let half = &self.halves[side as usize];
        // A RST without effect tells nothing any more.
        let beyond = told.min(half.told()) - half.end();
        // Of a direction that is not captured, or filtered out, there is more than that.
        let is_hidden = self.shows_only_ends() || !self.shows(side);
        self.fins[side as usize].is_none()
            && match beyond {
                _ if is_hidden => beyond == 1,
                // It may be the last of the bytes that were given up.
                0 => half.ends_in_gap() && (stage == Phase::Unknown || !self.has_read(side)),
                _ => beyond > 0,
            }
    }

    /// What the first RST cut.
    pub fn reset_phase(&self) -> Option<Phase> {
        let Resets { phase, effective, .. } = *self.resets()?;
        let is_told = match effective {
            true => {
                !self.is_reset_untimely()
                    && (phase == Phase::Teardown || self.first_end().is_some())
            }
            // What was lost may have come before it.
            false => !(self.has_lost_any() || self.is_out_of_order()),
        };
        Some(if is_told { phase } else { Phase::Unknown })
    }

    /// By the time stamps, something of the other side stands on the wrong side of the first RST.
    pub fn is_reset_untimely(&self) -> bool {
        self.resets().is_some_and(|resets| {
            resets.untimely || self.order.may_cross(resets.at.time, resets.beside)
        }) || self.is_shuffled()
    }

    /// Something of the other side may stand on the wrong side of the first end.
    pub fn is_end_untimely(&self) -> bool {
        self.closing().is_some_and(|closing| {
            closing.untimely || self.order.may_cross(closing.at.time, closing.beside)
        }) || self.is_shuffled()
    }

    /// Segments stand behind ones that were sent after them.
    pub fn is_out_of_order(&self) -> bool {
        self.bad_order || self.order.is_moved()
    }

    /// The same, and time stamps do not tell where they belong.
    pub fn is_order_untold(&self) -> bool {
        self.order.is_off()
    }

    /// The capture holds the segments in no order that tells anything.
    pub fn is_shuffled(&self) -> bool {
        self.order.is_lost()
    }

    /// How long nothing was said before the first FIN or RST that is seen, if anything was.
    pub fn idle(&self) -> Option<i64> {
        let idle = self.closing()?.idle?;
        let is_farewell = self.http2().is_some_and(|http| http.goaway.is_some());
        let is_told = !self.is_end_untimely() && !self.order.blurs(idle);
        (is_told && !(is_farewell && self.is_out_of_order())).then_some(idle)
    }

    /// How far the exchange had come at the first FIN or RST or, without one, now. Where the first
    /// FIN may not be in the capture, the last segment before it tells, if that acknowledged all
    /// that the other side had sent.
    pub fn stage_at_end(&self, now: CaptureTime) -> Phase {
        let (stage, seen) = match self.closing() {
            Some(closing) => (closing.stage, closing.seen),
            None => (self.stage(now, None), self.progress()),
        };
        let is_told = |side: Side| {
            let may_have_ended = match self.closing() {
                Some(_) => self.may_have_closed_before(side),
                None => self.may_lack_fin(side),
            };
            // The FIN of the server may have been the end of its response.
            let is_end = side == Side::Server && stage == Phase::DuringResponse;
            let is_before = self.heard_open[side as usize] >= seen[side.peer() as usize];
            !may_have_ended || is_before && !(is_end && self.lasts_until_close())
        };
        let is_told = [Side::Client, Side::Server].into_iter().all(is_told);
        let is_timely = !self.is_end_untimely();
        if is_told && is_timely {
            stage
        } else {
            Phase::Unknown
        }
    }

    /// Framing tells where the last message of this side ended, be it in bytes that are not seen.
    fn has_read(&self, side: Side) -> bool {
        self.exchange().is_some_and(|exchange| match side {
            Side::Client => exchange.sent == Progress::Complete,
            Side::Server => exchange.answered == Progress::Complete,
        })
    }

    /// Whether the response that is open lasts until the server closes.
    fn lasts_until_close(&self) -> bool {
        self.exchange().is_some_and(|exchange| exchange.ends_by == EndsBy::Close)
    }

    /// Whether the server may have ended the open response by a FIN that is not seen.
    pub fn may_have_ended(&self) -> bool {
        self.lasts_until_close() && self.may_lack_fin(Side::Server)
    }

    /// The RSTs, whether they had an effect or not.
    pub fn resets(&self) -> Option<&Resets> {
        self.resets.as_deref()
    }

    /// The RSTs, if they ended the connection or came after its end.
    pub fn effective_resets(&self) -> Option<&Resets> {
        self.resets().filter(|resets| resets.effective)
    }

    /// The side that sent the last data.
    pub fn spoke_last(&self) -> Option<Side> {
        let last = self.last_speaker?;
        match self.is_out_of_order() {
            true => self.spoke_last_by_numbers(),
            false => Some(last),
        }
    }

    /// Who acknowledges all that the other side said spoke last.
    fn spoke_last_by_numbers(&self) -> Option<Side> {
        let has_all = |side: Side| {
            let half = &self.halves[side.peer() as usize];
            half.end() <= 0 || self.said_to[side as usize] >= half.end()
        };
        let spoke = |side: &Side| self.has_spoken(*side) && has_all(*side);
        [Side::Client, Side::Server].into_iter().find(spoke)
    }

    /// Data of this side was seen.
    pub fn has_spoken(&self, side: Side) -> bool {
        self.halves[side as usize].sent() > 0
    }

    /// Nothing that the client sent was acknowledged.
    pub fn is_unheard(&self) -> bool {
        let half = self.client_half();
        half.sent() > 0 && half.acked() <= 0
    }

    /// Nothing of a request was acknowledged: the server may never have seen it.
    pub fn is_unreceived(&self, exchange: &Exchange) -> bool {
        // What the server sent and was not seen may have acknowledged some, unless the client had
        // it before it asked.
        let end = self.server_half().sent();
        let is_told = !self.hides(Side::Server) || exchange.heard > end;
        self.client_half().acked_data() <= exchange.request_start && is_told
    }

    /// The server has certainly sent nothing but its handshake.
    pub fn is_unserved(&self) -> bool {
        self.has_said_nothing(Side::Server)
    }

    /// The sequence numbers that client and server would go on with.
    pub fn next_seqs(&self) -> Option<[u32; 2]> {
        Some([self.client_half().next_seq()?, self.server_half().next_seq()?])
    }

    /// The server answered the SYN with a RST.
    pub fn was_refused(&self) -> bool {
        !self.was_accepted() && self.resets().is_some_and(|resets| resets.by == Side::Server)
    }

    /// What led up to the end.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The first FIN of a side.
    pub fn fin(&self, side: Side) -> Option<Mark> {
        self.fins[side as usize].map(|fin| fin.at)
    }

    /// Bytes that a side sent, where all of them are in the capture and none are TLS's.
    pub fn plain_bytes(&self, side: Side) -> Option<i64> {
        let is_plain = self.app.tls().is_none() && self.proxied_client().is_none();
        let is_whole = !self.mid_stream() && !self.lacks(side);
        (is_plain && is_whole).then(|| self.halves[side as usize].sent())
    }

    /// Whether the other side had sent a FIN of its own accord before this end of a side reached it,
    /// wherever the capture was taken: that FIN acknowledges no FIN, and who has received a RST
    /// sends none.
    pub fn is_left_before(&self, side: Side, by_reset: bool) -> bool {
        let late = self.late_fins.iter().find(|late| late.closing.by != side);
        let fin = self.fins[side.peer() as usize].or(late.map(|late| late.fin));
        let own = self.fins[side as usize];
        let answers = |fin: Fin| own.is_some_and(|own| fin.heard > own.end);
        fin.is_some_and(|fin| by_reset || !answers(fin) && !fin.heeds)
    }

    /// Which ends have been seen: FINs of client and server, and a RST.
    pub fn ends_seen(&self) -> [bool; 3] {
        let [client, server] = self.fins;
        [client.is_some(), server.is_some(), self.effective_resets().is_some()]
    }

    /// Both sides have sent a FIN, or a RST ended the connection.
    pub fn is_over(&self) -> bool {
        self.effective_resets().is_some() || self.fins.iter().all(Option::is_some)
    }

    /// Nothing has come for a while: copies of the last segments would have.
    pub fn rest(&mut self) {
        self.last_key = [None; 2];
        self.syn_key = [None; 2];
        // Of one that is open, or never was, few segments are kept.
        if self.established && self.is_over() {
            self.order.rest();
        }
    }

    /// The handshake is complete, or the capture starts after it.
    pub fn is_established(&self) -> bool {
        self.established || self.mid_stream()
    }

    /// The server answered the client's SYN with its own.
    pub fn was_accepted(&self) -> bool {
        self.syn_ack || self.is_established()
    }

    /// The handshake is in the capture.
    pub fn was_joined_early(&self) -> bool {
        !self.mid_stream()
    }

    /// When a server could accept the connection; `None` if the capture does not show that.
    pub fn accepted_at(&self) -> Option<CaptureTime> {
        (!self.mid_stream() && !self.opened_unseen).then_some(self.opened)
    }

    /// How the connection was closed.
    pub fn close(&self) -> Close {
        let hidden = [Side::Client, Side::Server].map(|side| self.may_lack_fin(side));
        match (self.fins, self.effective_resets()) {
            _ if self.is_shuffled() => Close::Unknown,
            (fins, Some(_))
                if self.is_reset_untimely()
                    && (fins.iter().any(Option::is_some) || !self.late_fins.is_empty()) =>
            {
                Close::Unknown
            }
            ([Some(client), Some(server)], _) => {
                let answered =
                    client.heard > server.at_number || server.heard > client.at_number;
                if self.has_gone_on() {
                    Close::HalfClose
                } else if self.shows_only_ends() || self.may_have_gone_on() {
                    Close::Unknown
                } else if self.is_acked_apart() {
                    Close::FourWay
                } else if answered {
                    Close::ThreeWay
                } else {
                    Close::Simultaneous
                }
            }
            // Both sides may have closed before it.
            ([client, server], Some(_))
                if (client.is_some() || hidden[0]) && (server.is_some() || hidden[1]) =>
            {
                Close::Unknown
            }
            (_, Some(_)) if self.may_have_gone_on_after_reset() => Close::Unknown,
            (_, Some(_)) => Close::Reset,
            ([None, None], None) if hidden.contains(&true) => Close::Unknown,
            ([None, None], None) => Close::Open,
            ([None, _], _) if self.may_have_missed(Side::Client) => Close::Unknown,
            ([_, None], _) if self.may_have_missed(Side::Server) => Close::Unknown,
            _ => Close::OneFin,
        }
    }

    /// Whether a side sent data when it had acknowledged the other's FIN.
    fn has_gone_on(&self) -> bool {
        [Side::Client, Side::Server].into_iter().any(|side| {
            let fin = self.fins[side as usize];
            fin.is_some_and(|fin| self.said_to[side.peer() as usize] > fin.at_number)
        })
    }

    /// Whether a side acknowledged the other's FIN before it sent its own.
    fn is_acked_apart(&self) -> bool {
        [Side::Client, Side::Server].into_iter().any(|side| {
            let (acked, at) = self.acked_at[side as usize];
            let [own, peer] = [side, side.peer()].map(|side| self.fins[side as usize]);
            own.is_some_and(|own| at <= own.at_number)
                && peer.is_some_and(|peer| acked > peer.at_number)
        })
    }

    /// Whether the capture may lack data that one side sent behind the other's FIN.
    fn may_have_gone_on(&self) -> bool {
        let Some(closing) = self.closing() else { return false };
        let peer = closing.by.peer();
        let Some(fin) = self.fins[peer as usize] else { return false };
        let half = &self.halves[peer as usize];
        let is_open = closing.seen[peer as usize] < fin.end || self.is_out_of_order();
        (half.losses.gap || half.next() < fin.end) && is_open
    }

    /// Nothing but RSTs is in the capture.
    pub fn is_reset_alone(&self) -> bool {
        self.mid_stream() && !self.acknowledged && !self.halves.iter().any(|h| h.sent() > 0)
    }

    /// No segment but SYN, FIN and RST is in the capture, though the connection had others: a
    /// capture filter left them out.
    pub fn shows_only_ends(&self) -> bool {
        !self.shows_others && self.is_established()
    }

    /// The HTTP conversation, if the payload is recognized as one.
    pub fn talk(&self) -> Option<&Talk> {
        self.app.talk().filter(|talk| talk.begun() > 0 || talk.exchange().is_some())
    }

    /// Something was said, and no protocol of requests is recognized in it.
    pub fn is_unrecognized(&self) -> bool {
        let is_undecided = matches!(self.app.innermost(), App::Undecided | App::Proxied(_));
        self.app.is_unrecognized() || is_undecided && self.has_holes()
    }

    /// Requests that were begun; `None` where the capture does not tell how many.
    pub fn requests(&self) -> Option<u64> {
        self.count(Side::Client, Talk::begun)
    }

    /// Responses that are complete; `None` where the capture does not tell how many.
    pub fn responses(&self) -> Option<u64> {
        self.count(Side::Server, Talk::completed)
    }

    fn count(&self, side: Side, of: impl Fn(&Talk) -> u64) -> Option<u64> {
        if self.is_shuffled() || self.is_reset_untimely() {
            return None;
        }
        match self.app.talk().filter(|talk| !talk.is_unrecognized()) {
            Some(talk) => {
                let half = &self.halves[side as usize];
                let is_whole = talk.counts(side) && !self.lacks(side) && !half.has_hole();
                let count = is_whole.then(|| of(talk));
                count.filter(|&count| count > 0 || !self.may_have_missed(side))
            }
            None => self.is_silent().then_some(0),
        }
    }

    /// Neither side has said anything, and the capture would show it.
    fn is_silent(&self) -> bool {
        [Side::Client, Side::Server].into_iter().all(|side| self.has_said_nothing(side))
    }

    /// Bytes of this side that its peer has not acknowledged.
    pub fn unacked(&self, side: Side) -> u64 {
        let half = &self.halves[side as usize];
        (half.sent() - half.acked_data().max(0)).max(0) as u64
    }

    /// The side whose bytes a RST cut: its peer, which had not closed, never acknowledged them.
    /// Only where all was seen, and no protocol tells more.
    pub fn cut_off(&self) -> Option<Side> {
        let resets = self.effective_resets()?;
        let Caveats { mid_stream, one_sided, gap, truncated, encrypted, .. } = self.caveats();
        let is_seen = !(mid_stream || one_sided || gap || truncated || encrypted);
        let is_cut = |side: &Side| {
            let crossed = resets.by != *side && resets.crossed_at.is_some();
            let peer = side.peer();
            let closed = self.fins[peer as usize].is_some() || self.may_lack_fin(peer);
            (self.unacked(*side) > 0 || crossed) && !self.lacks(*side) && !closed
        };
        let known = is_seen && self.is_unrecognized() && !self.is_out_of_order();
        [Side::Client, Side::Server].into_iter().find(is_cut).filter(|_| known)
    }

    /// The connection is a WebSocket, or a tunnel in which no HTTP is recognized.
    pub fn is_tunnelled(&self) -> bool {
        self.app.talk().is_some_and(Talk::is_tunnelled)
    }

    /// The WebSocket that the connection was upgraded to.
    pub fn websocket(&self) -> Option<&WebSocket> {
        match self.app.innermost() {
            App::WebSocket(socket) => Some(socket),
            _ => None,
        }
    }

    /// A WebSocket's Close frame has certainly arrived: it is acknowledged, or answered.
    pub fn is_closed_by_frame(&self) -> bool {
        let Some(socket) = self.websocket() else { return false };
        let ends = [Side::Client, Side::Server].map(|side| socket.closed(side));
        let acked = ends.iter().zip(&self.halves);
        ends.iter().all(Option::is_some)
            || acked.into_iter().any(|(end, half)| end.is_some_and(|end| half.acked() >= end))
    }

    /// The client that a header of the PROXY protocol names.
    pub fn proxied_client(&self) -> Option<SocketAddr> {
        self.app.proxied_client()
    }

    /// Addresses that headers name, of the PROXY protocol and of requests, as the client's.
    pub fn named_clients(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let proxied = self.proxied_client().map(|client| client.ip());
        let forwarded = self.exchanges().flat_map(|exchange| exchange.clients.iter().copied());
        proxied.into_iter().chain(forwarded)
    }

    /// The HTTP/2 conversation, if the payload is recognized as one.
    pub fn http2(&self) -> Option<&Http2> {
        // Most are none, and that is told faster than what else has to be so.
        let http2 = self.app.talk()?.http2()?;
        self.talk().map(|_| http2)
    }

    /// The alert that ended the TLS handshake, as it seems.
    pub fn tls_alert(&self) -> Option<Alert> {
        self.app.tls()?.refusal()
    }

    /// The alert that ended the TLS handshake before the connection ended.
    pub fn tls_refusal(&self) -> Option<Alert> {
        let alert = self.tls_alert()?;
        let in_time = self.closing.is_none_or(|closing| alert.frame <= closing.at.frame);
        let is_told = match alert.description {
            // Only what the client says tells whether that is what the server answers.
            Some(_) => {
                let is_lost = self.app.tls().is_none_or(Tls::is_lost);
                alert.by == Side::Client || !(self.client_half().losses.gap || is_lost)
            }
            // Its length alone tells an alert from a farewell only while the peer has not finished.
            None => {
                let is_lacking = self.halves.iter().any(Half::lacks_segments);
                self.shows(alert.by.peer()) && !is_lacking && !self.is_out_of_order()
            }
        };
        ((in_time || self.is_out_of_order()) && is_told).then_some(alert)
    }

    /// The exchange that was open at the end, else the last one.
    pub fn exchange(&self) -> Option<&Exchange> {
        self.talk().and_then(Talk::exchange)
    }

    /// Whether the client may have sent another request behind this exchange, the last that is
    /// seen: the capture lacks bytes there, or shows too little of them.
    pub fn may_be_followed(&self, last: &Exchange) -> bool {
        let is_untimely = self.is_reset_untimely() && self.websocket().is_none();
        let asks_late = self.order.asks_late && self.http2().is_some();
        if self.is_shuffled() || is_untimely || asks_late || self.is_astray() {
            return true;
        }
        let hides = match last.answered {
            // It answers no request, or one that came too late.
            Progress::Complete if last.request.is_none() && last.status == Some(408) => {
                return true
            }
            // It answers a request from before the capture, and the server may have refused another
            // one behind that.
            Progress::Complete
                if last.request.is_none()
                    && self.mid_stream()
                    && self.ended_by_reset_of(Side::Server) =>
            {
                return true
            }
            Progress::Complete => Talk::hides_requests,
            // It may have opened a tunnel.
            Progress::Lost if last.request.is_none() && last.is_accepted() => return true,
            // Its answer may be over, and that of one that waits for its turn may have begun.
            Progress::Lost | Progress::Cut => Talk::is_pipelined,
            Progress::None | Progress::Begun if self.lacks(Side::Server) => {
                |talk: &Talk| talk.is_pipelined() || talk.hides_requests()
            }
            _ => return false,
        };
        // What opened a tunnel is not what was said there.
        let is_unread = self.websocket().is_none() && self.app.tls().is_none();
        let is_hidden = self.is_tunnelled() && is_unread;
        is_hidden && self.halves.iter().any(Half::lacks_segments)
            || self.talk().is_some_and(hides)
            || self.lacks(Side::Client)
            || self.client_half().has_hole()
            || self.client_half().beyond() > 1
    }

    /// The capture, joined in the middle, holds what was sent before that which it begins with.
    fn is_astray(&self) -> bool {
        self.mid_stream() && self.halves.iter().any(|half| half.losses.astray)
    }

    fn begun(&self) -> u64 {
        self.app.talk().map_or(0, Talk::begun)
    }

    /// When the request of [`Stream::exchange`] began; `None` where several were open at once,
    /// or its beginning is not in the capture.
    pub fn asked_at(&self) -> Option<CaptureTime> {
        let talk = self.talk()?;
        let asked = self.asked.filter(|asked| asked.begun == talk.begun())?;
        (talk.begun() <= talk.completed() + 1).then_some(asked.at)
    }

    /// The [`request_bit`] of every request before the last one; other bits may be set, too.
    pub fn asked_earlier(&self) -> u64 {
        match self.asked {
            Some(asked) if asked.begun == self.begun() => asked.earlier,
            _ if self.begun() > 1 => u64::MAX,
            _ => 0,
        }
    }

    /// The bits of all requests so far, if another one can begin with what this side sends
    /// now, and all of them are known.
    fn last_asked(&self, side: Side) -> Option<u64> {
        let asked = self.asked.filter(|_| side == Side::Client)?;
        let talk = self.app.talk().filter(|talk| talk.begun() == asked.begun)?;
        let in_turn = Some(talk).filter(|talk| talk.http2().is_none())?;
        let exchange = in_turn.exchange().filter(|e| e.sent == Progress::Complete)?;
        let request = exchange.request.as_deref()?;
        Some(asked.earlier | 1 << request_bit(http::request_hash(request.as_bytes())))
    }

    /// When the last data came.
    pub fn last_data(&self) -> Option<CaptureTime> {
        self.last_data
    }

    /// The exchanges that an end can be about: in HTTP/2 those that are open and the last one.
    pub fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        let several = self.http2();
        let one = self.exchange().filter(|_| several.is_none());
        several.into_iter().flat_map(Http2::exchanges).chain(one)
    }

    /// Whether the client's TCP acknowledged all of a response that is complete.
    pub fn is_acked(&self, exchange: &Exchange) -> bool {
        exchange.answered == Progress::Complete
            && exchange.response_end.is_some_and(|end| self.server_half().acked() >= end)
    }

    /// Bytes of a response that the server's TCP sent so far.
    pub fn sent_of(&self, exchange: &Exchange) -> i64 {
        (self.server_half().sent() - exchange.response_start).max(0)
    }

    /// Bytes of a response that the server's FIN ended, if that came before any RST.
    pub fn closed_after(&self, exchange: &Exchange) -> Option<i64> {
        let fin = self.fins[Side::Server as usize]?;
        let is_whole = self.resets().is_none_or(|resets| fin.at.frame < resets.at.frame);
        is_whole.then_some((fin.end - exchange.response_start).max(0))
    }

    /// Bytes that a response's framing promised and the client never acknowledged; `None` where
    /// a FIN that was not seen may be one of them.
    pub fn missing(&self, exchange: &Exchange) -> Option<u64> {
        // Inside TLS, what is still to come is counted before it is encrypted.
        // Nor is what is still to come known of frames that were not seen.
        let is_lost = self.http2().is_some() && self.lacks(Side::Server);
        let counted = self.app.tls().is_none() && !is_lost;
        let begun = counted && !matches!(exchange.answered, Progress::None | Progress::Lost);
        // What is said in a tunnel may stand before that which opened it.
        let is_read = !self.is_tunnelled() || self.websocket().is_some();
        let is_told = is_read || !self.is_out_of_order();
        let is_framed = begun && !exchange.may_be_whole && is_told;
        let end = exchange.response_end.filter(|_| is_framed && self.shows(Side::Client))?;
        let half = self.server_half();
        let fin = self.fins[Side::Server as usize].map_or(i64::MAX, |fin| fin.at_number);
        let acked = half.acked_data().min(fin);
        let missing = (end - acked.max(exchange.response_start)).max(0);
        // A FIN that is not in the capture counts like a byte.
        let is_seen = self.fins[Side::Server as usize].is_some();
        let may_count_fin = half.acked_data() > half.sent() || half.ends_in_gap() && !is_seen;
        (missing == 0 || !may_count_fin).then_some(missing as u64)
    }

    /// Whether the capture holds the direction of this side.
    pub fn shows(&self, side: Side) -> bool {
        self.seen[side as usize]
    }

    /// The client has certainly sent nothing.
    pub fn is_unasked(&self) -> bool {
        self.has_said_nothing(Side::Client)
    }

    /// Nothing of this side was seen but its handshake, and the capture could not have missed
    /// it.
    fn has_said_nothing(&self, side: Side) -> bool {
        self.halves[side as usize].sent() == 0
            && !self.may_have_missed(side)
            && !self.is_reset_untimely()
    }

    /// Whether the capture may lack something that this side sent: it does not hold this
    /// direction or its start, or a number that either side sent or acknowledged lies beyond
    /// what was seen. Whoever claims that something was not sent asks here first.
    pub fn may_have_missed(&self, side: Side) -> bool {
        self.mid_stream()
            || self.is_one_sided() && !self.shows(side)
            || self.opened_unseen && !self.tells_end_of(side)
            || self.is_reset_late()
            || self.hides(side)
    }

    /// The server reset with a number of its own, and nothing was seen of it before: no SYN is
    /// answered like that.
    fn is_reset_late(&self) -> bool {
        let by_server = self.resets().filter(|resets| resets.by == Side::Server);
        by_server.is_some_and(|resets| resets.is_late)
    }

    /// A FIN or RST tells how much this side had sent, or had arrived of it, by then.
    pub fn tells_end_of(&self, side: Side) -> bool {
        let acks = |resets: &Resets| resets.by == side || resets.signs.ack_flag;
        self.fin(side).is_some() || self.resets().is_some_and(acks)
    }

    /// A number tells of something that this side sent and that was not seen.
    pub fn hides(&self, side: Side) -> bool {
        let elsewhere = self.resets().is_some_and(|r| r.by == side && r.signs.is_elsewhere());
        elsewhere || self.halves[side as usize].tells_more()
    }

    /// Data of this side was sent that the capture does not show.
    pub fn lacks(&self, side: Side) -> bool {
        let half = &self.halves[side as usize];
        half.lacks_acked() || half.lacks_end() || half.sent() == 0 && self.hides(side)
    }

    /// Only one direction is in the capture, though there was another one.
    fn is_one_sided(&self) -> bool {
        self.acknowledged && self.seen.contains(&false)
    }

    /// What the capture does not show of this stream.
    pub fn caveats(&self) -> Caveats {
        let one_sided = self.is_one_sided();
        let lacks = |half: &Half| half.losses.gap || half.lacks_acked() || half.lacks_end();
        Caveats {
            mid_stream: self.mid_stream(),
            one_sided,
            gap: !one_sided && self.halves.iter().any(lacks),
            truncated: self.halves.iter().any(|half| half.losses.truncated),
            encrypted: self.app.tls().is_some_and(|tls| tls.plain().is_none()),
            bad_order: self.bad_order || self.is_shuffled() || self.is_end_untimely(),
        }
    }

    /// How far the exchange has come, judged at this time, at which this side ends it.
    pub fn stage(&self, now: CaptureTime, ended_by: Option<Side>) -> Phase {
        if !self.is_established() {
            // A RST with other numbers than the handshake's may have come long after it.
            let elsewhere = self.resets().is_some_and(|resets| resets.signs.is_elsewhere());
            // What a server sends before its SYN-ACK is seen tells that it had sent that.
            let is_missed = !self.syn_ack && self.fins[Side::Server as usize].is_some();
            let elsewhere = elsewhere || is_missed || self.is_reset_late();
            let unknown = elsewhere || self.closing.is_none() && self.is_unrepeated(now);
            return if unknown { Phase::Unknown } else { Phase::Handshake };
        }
        let is_undecided = matches!(self.app, App::Undecided);
        let stage = match self.app.innermost() {
            App::Undecided
                if is_undecided
                    && (self.has_lost_start()
                        || self.has_holes()
                        || self.opened_unseen && self.may_have_missed(Side::Client)) =>
            {
                Phase::Unknown
            }
            App::Undecided | App::Proxied(_) => Phase::BeforeRequest,
            App::Talk(talk) => self.talk_stage(talk, now, ended_by),
            App::WebSocket(socket) => socket.stage(),
            App::Guess(guess) => {
                let talk = guess.likely();
                talk.map_or(Phase::Unknown, |talk| self.talk_stage(talk, now, ended_by))
            }
            // What is a request, and what a response, nobody knows.
            App::Other(_) => Phase::Unknown,
            App::Tls(tls) if tls.plain().is_some() => {
                tls.plain().map_or(Phase::Unknown, Talk::stage)
            }
            App::Tls(tls) if tls.is_lost() => Phase::Unknown,
            App::Tls(tls) if !tls.established() => Phase::TlsHandshake,
            App::Tls(tls) if tls.may_be_unanswered() && tls.bursts.answered => Phase::Unknown,
            App::Tls(tls) => self.burst_stage(&tls.bursts, now),
        };
        match stage {
            // What was sent and is not in the capture may have been anything.
            _ if self.lacks(Side::Client) || self.lacks(Side::Server) => Phase::Unknown,
            _ if self.is_astray() => Phase::Unknown,
            // What the server sent before that may have been the response.
            stage if stage <= Phase::AwaitingResponse && self.server_half().is_late => {
                Phase::Unknown
            }
            // By the time stamps the handshake was completed later.
            Phase::BeforeRequest if now < self.opened => Phase::Unknown,
            // Data behind a hole was sent, though what it says is not known.
            Phase::BeforeRequest | Phase::AfterResponse if self.is_sending(Side::Client) => {
                Phase::DuringRequest
            }
            Phase::AwaitingResponse if self.is_sending(Side::Server) => Phase::DuringResponse,
            // Both sides of a WebSocket speak when they like.
            Phase::AfterResponse
                if self.websocket().is_some() && self.is_sending(Side::Server) =>
            {
                Phase::DuringResponse
            }
            _ => stage,
        }
    }

    /// Something of either side is not seen, so far.
    fn has_lost_any(&self) -> bool {
        let lacks = |half: &Half| half.has_losses() || half.lacks_segments();
        self.http2().is_some_and(Http2::is_lost) || self.halves.iter().any(lacks)
    }

    fn has_holes(&self) -> bool {
        self.halves.iter().any(Half::has_hole)
    }

    /// A side has begun to send something that nobody can read yet: there is a hole before it,
    /// or the record that holds it has not ended.
    fn is_sending(&self, side: Side) -> bool {
        let readable = self.app.tls().filter(|tls| tls.plain().is_some());
        self.halves[side as usize].has_hole()
            || readable.is_some_and(|tls| tls.is_within_record(side))
    }

    fn talk_stage(&self, talk: &Talk, now: CaptureTime, ended_by: Option<Side>) -> Phase {
        match talk.ends_in_silence() {
            Some(side) => self.silence_stage(side, now, ended_by),
            None => talk.stage(),
        }
    }

    fn burst_stage(&self, bursts: &Bursts, now: CaptureTime) -> Phase {
        let (Some(side), Some(burst)) = (bursts.last, self.burst) else {
            return Phase::BeforeRequest;
        };
        match side {
            _ if bursts.unplaced || !self.has_ended(side, burst, now) => Phase::Unknown,
            Side::Client if bursts.asks() => Phase::AwaitingResponse,
            Side::Client => Phase::Unknown,
            Side::Server => Phase::AfterResponse,
        }
    }

    /// The stage where a message of this side was the last one, and the end of its head is not in
    /// the capture. A server that ends the silence may have lost patience with either message, and
    /// one that has paused in a response may do so again. As long as nobody ends it, the response
    /// may go on.
    fn silence_stage(&self, side: Side, now: CaptureTime, ended_by: Option<Side>) -> Phase {
        let Some(time) = self.last_data.filter(|_| self.last_speaker == Some(side)) else {
            return Phase::Unknown;
        };
        let burst = Burst { time, end: self.halves[side as usize].sent() };
        match side {
            _ if !self.has_ended(side, burst, now) => Phase::Unknown,
            Side::Client if ended_by != Some(Side::Server) => Phase::AwaitingResponse,
            Side::Server
                if ended_by == Some(Side::Client)
                    && !(self.has_paused || self.hides(Side::Server)) =>
            {
                Phase::AfterResponse
            }
            _ => Phase::Unknown,
        }
    }

    /// Whether nothing follows a burst of this side, which has arrived. Who may not send says
    /// nothing by being silent.
    fn has_ended(&self, side: Side, burst: Burst, now: CaptureTime) -> bool {
        let half = &self.halves[side as usize];
        let is_quiet = now.since(burst.time) >= BURST_END;
        let may_send = !self.full[side.peer() as usize];
        is_quiet && may_send && !half.has_hole() && half.acked() >= burst.end
    }

    fn mid_stream(&self) -> bool {
        !self.syn && !self.syn_ack
    }

    /// The first bytes of a side are not in the capture.
    fn has_lost_start(&self) -> bool {
        self.mid_stream()
            || matches!(self.app, App::Undecided) && self.halves.iter().any(|h| h.next() > 0)
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
        self.frame = segment.frame;
        self.orient(segment);
        let side = self.sender(segment);
        let copy = self.is_copy(side, segment);
        self.seen[side as usize] = true;
        let Header { syn, fin, rst, .. } = segment.tcp;
        self.shows_others = self.shows_others || !(syn || fin || rst);
        // Where time stamps go back, so does the order of the segments.
        self.bad_order |= self.order.note(side, segment);
        if segment.tcp.rst {
            return self.reset(side, segment, copy);
        }
        if segment.payload_len > 0 || segment.tcp.fin {
            self.note_said(side, segment);
        }
        if let Some(resets) = &mut self.resets {
            resets.expect_answer(side.peer());
            let is_before = self.order.may_swap(resets.at.time, segment.time)
                || segment.time < resets.at.time;
            resets.untimely |= segment.tcp.syn && segment.time < resets.at.time;
            if resets.by != side && is_before && resets.is_answer_to(segment) {
                resets.signs.rival_at = Some(segment.time);
            }
        }
        let is_anew = segment.tcp.syn && self.is_new_syn(side, segment) && !copy;
        if is_anew && self.is_reborn(side, segment) {
            self.revive();
            self.order.begin_anew();
            self.halves = Default::default();
            (self.heard_open, self.said_at) = Default::default();
            (self.said_to, self.acked_at) = ([i64::MIN; 2], [(i64::MIN, 0); 2]);
        }
        let half = &self.halves[side as usize];
        let off = half.position(segment.tcp.seq) - half.next();
        let established = self.established;
        self.handshake(side, segment);
        self.acknowledge(side, segment);
        let fresh = self.payload(side, segment);
        self.note_crossing(side, segment);
        self.note_told_before(segment.time);
        if !copy {
            self.trace.note(side, segment, Place { off, fresh, established });
        }
        self.revive_if_alive();
        if segment.tcp.fin {
            self.note_earlier_fin(side, segment);
        }
        if segment.tcp.fin && self.fins[side as usize].is_none() {
            match self.effective_resets() {
                None => self.finish(side, segment),
                Some(_) => self.finish_behind_reset(side, segment),
            }
        }
        if [Side::Client, Side::Server].into_iter().all(|side| self.acks_fin(side)) {
            self.trace.rest();
        }
    }

    /// What numbers tell now, they told before an end that came later by the time stamps.
    fn note_told_before(&mut self, at: CaptureTime) {
        let told = self.both(Half::told);
        let Some(closing) = self.closing.as_mut().filter(|it| at < it.at.time) else { return };
        let other = closing.by.peer() as usize;
        if told[other] > closing.told[other] {
            closing.doubt();
        }
        closing.told = told;
    }

    /// Notes when a side sent data or a FIN, which may have been before an end of the other side that
    /// it stands behind.
    fn note_said(&mut self, side: Side, segment: &Segment<'_>) {
        let at = segment.time;
        self.said_at[side as usize] = self.said_at[side as usize].max(Some(at));
        let peer = side.peer();
        let heard = self.halves[peer as usize].position(segment.tcp.ack);
        let answers = self.fins[peer as usize]
            .is_some_and(|fin| segment.tcp.ack_flag && heard > fin.at_number);
        let start = self.halves[side as usize].position(segment.tcp.seq);
        let is_beside = |by: Side, beside: &Beside| by == peer && start >= beside.heard;
        if let Some(closing) = &mut self.closing {
            if !answers && is_beside(closing.by, &closing.beside) {
                closing.beside.note(at);
            }
        }
        if let Some(resets) = &mut self.resets {
            if is_beside(resets.by, &resets.beside) {
                resets.beside.note(at);
            }
        }
        if let Some(closing) = self.closing.as_mut().filter(|closing| closing.by != side) {
            if at < closing.at.time {
                closing.doubt();
            }
        }
        if let Some(resets) = self.resets.as_mut().filter(|resets| resets.by != side) {
            resets.untimely |= at < resets.at.time;
        }
    }

    /// Something stands behind an end of this side that may have been sent before it.
    fn note_beside(&mut self, by: Side, at: CaptureTime) {
        if let Some(closing) = self.closing.as_mut().filter(|closing| closing.by == by) {
            closing.beside.note(at);
        }
        if let Some(resets) = self.resets.as_mut().filter(|resets| resets.by == by) {
            resets.beside.note(at);
        }
    }

    /// By the time stamps, something stands before this end that was sent after it. What its side
    /// has said before its number is in order.
    fn is_untimely(&self, side: Side, end: &Segment<'_>) -> bool {
        let own = &self.halves[side as usize];
        let is_beyond = end.tcp.rst && own.position(end.tcp.seq) < own.end();
        let is_later = |by: Side| self.said_at[by as usize].is_some_and(|at| at > end.time);
        is_later(side.peer()) || is_beyond && is_later(side)
    }

    /// What stands before this end.
    fn beside(&self, side: Side, end: &Segment<'_>) -> Beside {
        let peer = side.peer() as usize;
        let fin = i64::from(self.fins[peer].is_some());
        let half = &self.halves[peer];
        let heard = match end.tcp.ack_flag {
            true => half.position(end.tcp.ack),
            false => half.acked(),
        };
        let is_beside = half.end() + fin > heard;
        let peers = self.said_at[peer].filter(|_| is_beside);
        // Nor was this side's own data sent before a RST that bears a number before it.
        let own = &self.halves[side as usize];
        let is_beyond = end.tcp.rst && own.position(end.tcp.seq) < own.end();
        let own = self.said_at[side as usize].filter(|_| is_beyond);
        Beside { heard, before: peers.max(own), behind: None }
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
        self.given_up = None;
        self.seen.reverse();
        self.fins.reverse();
        for late in &mut self.late_fins {
            late.closing.by = late.closing.by.peer();
        }
        self.last_key.reverse();
        self.last_side = self.last_side.map(Side::peer);
        self.last_speaker = self.last_speaker.map(Side::peer);
        self.alerted.reverse();
        self.full.reverse();
        self.heard_open.reverse();
        self.acked_at.reverse();
        self.said_to.reverse();
        self.said_at.reverse();
        self.order.turn_round();
        self.trace.turn_round();
        if let Some(closing) = &mut self.closing {
            closing.by = closing.by.peer();
            closing.seen.reverse();
            closing.acked.reverse();
            closing.told.reverse();
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
    /// count as copies only where the capture is known to make some, as it shows a SYN twice, and
    /// nothing came between, not even a while.
    fn is_copy(&mut self, side: Side, segment: &Segment<'_>) -> bool {
        let last_side = self.last_side.replace(side);
        let key = key(side, segment);
        let same = self.last_key[side as usize].replace(key) == Some(key);
        let counted = key.1 != 0;
        let at_once = segment.time.since(self.order.latest()) < COPIED_WITHIN;
        let follows = same && last_side == Some(side) && at_once;
        // No sender repeats a SYN so soon.
        self.copies |= same && counted || follows && segment.tcp.syn;
        same && counted || follows && self.copies
    }

    /// Whether this SYN is not the one before it once more, which a copy can be that stands
    /// behind other segments.
    fn is_new_syn(&mut self, side: Side, segment: &Segment<'_>) -> bool {
        let key = Some(key(side, segment)).filter(|key| key.1 != 0);
        let last = std::mem::replace(&mut self.syn_key[side as usize], key);
        key.is_none() || last != key
    }

    fn handshake(&mut self, side: Side, segment: &Segment<'_>) {
        let tcp = &segment.tcp;
        if tcp.syn {
            self.halves[side as usize].syn(tcp.seq);
            match side {
                Side::Client => {
                    self.syn = true;
                    // What the server sent may answer what the SYN bears.
                    let is_unseen = segment.payload_len > 0 && !self.syn_ack;
                    self.halves[Side::Server as usize].is_late |=
                        is_unseen && self.server_half().started();
                }
                Side::Server => {
                    let is_late = self.halves[side as usize].goes_on_from(tcp.seq);
                    if is_late && self.client_half().acked() > 0 {
                        (self.established, self.opened_unseen) = (true, true);
                    }
                    self.syn_ack = true;
                    self.syn_acked_at = Some(segment.time);
                    // It repeats the number of the SYN.
                    self.halves[Side::Client as usize].syn(tcp.ack.wrapping_sub(1));
                }
            }
        } else {
            self.halves[side as usize].start_at(tcp.seq);
            self.halves[side as usize].settle(tcp.seq);
            let completes = match side {
                Side::Client => tcp.ack_flag,
                // An ACK before the SYN-ACK may be one of an older connection.
                Side::Server => self.syn_ack && self.is_past_handshake(segment),
            };
            // Who has reset it completes nothing any more, unless the time stamps say otherwise.
            let given_up = self.resets().is_some_and(|resets| {
                resets.effective && resets.by == side && segment.time >= resets.at.time
            });
            if completes && given_up && !self.established {
                self.note_beside(side, segment.time);
            }
            if completes && self.established && segment.time < self.opened && !tcp.fin {
                self.opened = segment.time;
            }
            if completes && !self.established && !given_up {
                self.established = true;
                // A FIN does not complete the handshake, but comes after that.
                match tcp.fin {
                    true => self.opened_unseen = true,
                    false => self.opened = segment.time,
                }
                self.note_late_handshake(side, segment.time);
            }
        }
    }

    /// Who completes the handshake behind its own RST did so before it, if the time stamps say
    /// so, too.
    fn note_late_handshake(&mut self, side: Side, at: CaptureTime) {
        let late = |closing: &Closing| closing.by == side && at < closing.at.time;
        let Some(closing) = self.closing.filter(late) else { return };
        let stage = self.stage(closing.at.time, Some(closing.by));
        self.bad_order = true;
        self.closing = Some(Closing { stage, ..closing });
        let by_reset = self.is_reset(closing.at.frame);
        if let Some(resets) = self.resets.as_mut().filter(|_| by_reset) {
            resets.phase = stage;
        }
    }

    /// Whether a server sends this only once the client has completed the handshake.
    fn is_past_handshake(&self, segment: &Segment<'_>) -> bool {
        segment.payload_len > 0 || segment.tcp.fin || self.acks_data(segment)
    }

    /// Whether a segment of the server acknowledges data.
    fn acks_data(&self, segment: &Segment<'_>) -> bool {
        let acked = self.client_half().position(segment.tcp.ack);
        segment.tcp.ack_flag && (1..=FURTHEST_RESET).contains(&acked)
    }

    /// Notes what a segment acknowledges.
    fn acknowledge(&mut self, side: Side, segment: &Segment<'_>) {
        if !segment.tcp.ack_flag {
            return;
        }
        self.acknowledged |= !segment.tcp.syn;
        self.full[side as usize] = segment.tcp.window == 0;
        let peer = side.peer();
        let has_spoken = self.halves[side as usize].sent() > 0;
        let half = &mut self.halves[peer as usize];
        if !half.started() {
            half.start_at(segment.tcp.ack);
            half.is_late = has_spoken;
        }
        if !segment.tcp.syn {
            half.settle(segment.tcp.ack);
            if !segment.tcp.fin {
                half.doubt(segment.tcp.ack);
            }
        }
        if !segment.tcp.syn {
            half.begin_before(segment.tcp.ack);
        }
        let acked = half.position(segment.tcp.ack);
        half.acknowledge(acked);
        let seen = half.end() + i64::from(self.fins[peer as usize].is_some());
        // What was given up may come yet.
        let owes = half.lacks_acked() || half.acked() > seen || self.given_up.is_some();
        self.order.owe(peer, owes, segment.time);
        // By the time stamps, the RST came when its number was out of the window already.
        let is_late = |resets: &Resets| {
            resets.by == peer && segment.time < resets.at.time && resets.position + 1 < acked
        };
        // Nor has a side reset that acknowledges more than its RST did.
        let goes_on = |resets: &Resets| {
            let ahead = acked - resets.beside.heard;
            let is_own = resets.by == side && resets.signs.ack_flag && resets.beside.heard >= 0;
            is_own && (1..=FURTHEST_RESET).contains(&ahead)
        };
        let is_alive = |resets: &Resets| is_late(resets) || goes_on(resets);
        if self.established && self.effective_resets().is_some_and(is_alive) {
            self.revive();
        }
        // Nothing that was not seen stands before it; its own FIN, if seen, stands there or behind.
        let own = &self.halves[side as usize];
        let gap = i64::from(own.ends_in_gap());
        let end = self.fins[side as usize].map_or(own.end() - gap, |fin| fin.end);
        let is_open = !segment.tcp.syn && !segment.tcp.fin;
        let at = own.position(segment.tcp.seq);
        let known = &mut self.acked_at[side as usize];
        if is_open && segment.payload_len == 0 && acked > known.0 {
            *known = (acked, at);
        }
        if is_open && at <= end {
            let heard = &mut self.heard_open[side as usize];
            *heard = acked.max(*heard);
        }
        self.revive_if_alive();
        if self.halves[peer as usize].tires_of_holes() {
            let before = self.halves[peer as usize].next();
            self.hand_on(peer, |half, then| half.pass_holes(then));
            self.note_late(peer, before);
        }
    }

    /// Whether the peer has acknowledged this side's FIN.
    fn acks_fin(&self, side: Side) -> bool {
        let late = self.late_fins.iter().find(|late| late.closing.by == side);
        let fin = self.fins[side as usize].or(late.map(|late| late.fin));
        fin.is_some_and(|fin| self.halves[side as usize].acked() > fin.end)
    }

    /// Takes the payload of a segment, and tells whether it brought anything new.
    fn payload(&mut self, side: Side, segment: &Segment<'_>) -> bool {
        let seq = segment.tcp.seq.wrapping_add(u32::from(segment.tcp.syn));
        let start = self.halves[side as usize].position(seq);
        if segment.payload_len == 0 {
            if self.established && !segment.tcp.syn {
                self.halves[side as usize].stand_at(start);
            }
            return false;
        }
        let known = self.halves[side as usize].next();
        let reopened = self.reopen_holes(side, start + i64::from(segment.payload_len));
        // What stands behind a hole that was given up does not belong into it.
        let before = if start >= known { known } else { self.halves[side as usize].next() };
        let told = self.told();
        let last = self.last_asked(side);
        let (len, bytes) = (segment.payload_len, segment.payload);
        let fresh = self.hand_on(side, |half, then| half.take(start, len, bytes, then));
        let end = self.halves[side as usize].next();
        if let Some(tls) = self.app.tls_mut() {
            segment.decrypted.iter().for_each(|content| tls.decrypted(side, end, content));
        }
        if reopened {
            self.give_up_holes();
        }
        let now = self.told();
        if now.begun > told.begun {
            let earlier = if told.begun == 0 && now.begun == 1 { Some(0) } else { last };
            let earlier = earlier.filter(|_| now.begun == told.begun + 1).unwrap_or(u64::MAX);
            self.asked = Some(Asked { at: segment.time, begun: now.begun, earlier });
        }
        self.note_earlier_speech(side, start + i64::from(len), segment.time);
        if !fresh {
            return false;
        }
        self.note_arrival(side, start, segment.time);
        self.alerted[side as usize] = ends_in_tls_alert(bytes, len);
        let is_alert = is_tls_alert(bytes, len);
        // What is so short, and cut, alone or behind a loss, may be a farewell, too; and what
        // stands behind a hole may have been sent before.
        let is_hidden = || {
            bytes.len() < len as usize
                || is_alert && self.app.tls().is_none()
                || is_alert && !self.is_past_tls_handshake() && self.has_lost_any()
                || (self.http2().is_some() || self.talk().is_none()) && self.has_lost_any()
        };
        let is_earlier = self.last_data.is_some_and(|last| segment.time < last);
        self.may_be_farewell = start > known
            || len <= FAREWELL && is_hidden()
            || is_earlier && self.may_be_farewell;
        let last_data = self.last_data;
        if !(is_alert && self.is_past_tls_handshake()) {
            self.note_speech(side, segment.time, now.said != told.said);
        }
        let has_announced = now.announced > told.announced && now.completed == told.completed;
        if len <= FAREWELL && has_announced {
            self.last_data = last_data;
        }
        if segment.tcp.ack_flag {
            let heard = self.halves[side.peer() as usize].position(segment.tcp.ack);
            let known = &mut self.said_to[side as usize];
            *known = heard.max(*known);
        }
        self.end_if_all_is_there();
        if self.note_late(side, before) {
            self.bad_order = true;
        }
        true
    }

    /// Notes that something of this side is seen that starts here, which may have been acknowledged.
    fn note_arrival(&mut self, side: Side, start: i64, now: CaptureTime) {
        if self.halves[side as usize].acked() > start {
            self.order.settle(side, now);
        }
    }

    /// From now on, an alert of TLS says only that no more is to come.
    fn is_past_tls_handshake(&self) -> bool {
        self.app.tls().is_some_and(|tls| tls.established() || tls.is_lost())
    }

    /// Notes that a side has said something new at this time, and whether it belongs to a burst.
    fn note_speech(&mut self, side: Side, now: CaptureTime, in_burst: bool) {
        let last = self.last_data;
        // By the time stamps, it was said before.
        if last.is_some_and(|last| now < last) {
            return;
        }
        self.last_data = Some(now);
        let silence = last.map_or(0, |last| now.since(last));
        self.has_paused = side == Side::Server
            && (self.has_paused
                || silence >= SECOND && self.last_speaker == Some(Side::Server));
        if self.effective_resets().is_none() {
            self.last_speaker = Some(side);
            if in_burst {
                let end = self.halves[side as usize].next();
                self.burst = Some(Burst { time: now, end });
            }
        }
    }

    /// Data came that was seen before, and was sent earlier by the time stamps.
    fn note_earlier_speech(&mut self, side: Side, end: i64, at: CaptureTime) {
        let is_last =
            self.last_speaker == Some(side) && end == self.halves[side as usize].end();
        if is_last && self.last_data.is_some_and(|last| at < last) {
            self.last_data = Some(at);
            self.closing = self.closing.map(|closing| Closing { idle: None, ..closing });
        }
    }

    /// What the payload has told by now.
    fn told(&self) -> Told {
        let http = self.http2();
        Told {
            begun: self.begun(),
            said: self.app.said(),
            announced: http.and_then(|http| http.goaway).map_or(0, |goaway| goaway.frame),
            completed: http.map_or(0, |http| http.completed),
        }
    }

    /// Passes over what was acknowledged and is not in the capture, as the end of the connection
    /// asks what had been sent by then. How things stood is kept for a while: the capture may
    /// hold it further on.
    fn give_up_holes(&mut self) {
        if !self.halves.iter().any(Half::lacks_acked) {
            return;
        }
        let (halves, app) = (self.halves.clone(), self.app.clone());
        self.given_up = Some(Box::new(GivenUp { halves, app }));
        for side in [Side::Client, Side::Server] {
            self.hand_on(side, |half, then| half.pass_holes(then));
        }
    }

    /// Goes back to how things stood before holes were given up, if data of this side that
    /// ends here was not known then.
    fn reopen_holes(&mut self, side: Side, end: i64) -> bool {
        let fresh = |old: &mut Box<GivenUp>| old.halves[side as usize].next() < end;
        let Some(mut old) = self.given_up.take_if(fresh) else { return false };
        if self.late_patience == 0 {
            return false;
        }
        self.late_patience -= 1;
        for (old, half) in old.halves.iter_mut().zip(&mut self.halves) {
            old.reopen(half);
        }
        (self.halves, self.app) = (old.halves, old.app);
        true
    }

    /// Lets one direction hand on its pieces, which the first of them decides the reader of.
    fn hand_on<T>(
        &mut self,
        side: Side,
        step: impl FnOnce(&mut Half, &mut dyn FnMut(i64, Piece<'_>)) -> T,
    ) -> T {
        let joined_late = self.has_lost_start();
        let unseen = self.client_half();
        let unseen = unseen.lacks_acked().then(|| unseen.acked_data());
        let acked = self.halves[side as usize].acked();
        let heard = self.halves[side.peer() as usize].acked();
        let Stream { halves, app, frame, .. } = self;
        step(&mut halves[side as usize], &mut |at, piece| {
            let joined_late = joined_late || at > 0;
            let layer = Layer::Connection;
            let around = Around { joined_late, unseen, acked, heard, frame: *frame, layer };
            app.take(side, at, piece, around);
        })
    }

    /// Takes a side's first FIN.
    fn finish(&mut self, side: Side, segment: &Segment<'_>) {
        let before = self.progress();
        self.give_up_holes();
        for side in [Side::Client, Side::Server] {
            self.note_late(side, before[side as usize]);
        }
        let fin = self.fin_of(side, segment);
        let half = &mut self.halves[side as usize];
        half.stop_at(fin.end);
        let late = half.acked() > fin.at_number;
        self.fins[side as usize] = Some(fin);
        self.end_if_all_is_there();
        if late {
            self.order.settle(side, segment.time);
            self.note_late_fin(side, fin.at_number);
        }
        self.note_closing(side, segment);
        // Whoever acknowledged this FIN before it was seen may have gone on since it was sent.
        let peer = &self.halves[side.peer() as usize];
        if late && peer.next() > peer.acked_data() {
            if let Some(closing) = self.closing.as_mut().filter(|c| c.at.frame == fin.at.frame)
            {
                closing.stage = Phase::Unknown;
            }
        }
    }

    /// Takes a FIN for the first of its side that stands behind one which was sent after it, by
    /// the time stamps.
    fn note_earlier_fin(&mut self, side: Side, segment: &Segment<'_>) {
        let first = Mark { frame: segment.frame, time: segment.time };
        let Some(fin) = &mut self.fins[side as usize] else { return };
        if first.time >= fin.at.time {
            return;
        }
        let late = std::mem::replace(&mut fin.at, first);
        let is_untimely = self.is_untimely(side, segment);
        if let Some(closing) = self.closing.as_mut().filter(|closing| closing.at == late) {
            (closing.at, closing.idle) = (first, None);
            closing.untimely |= is_untimely;
        }
    }

    /// A FIN that was acknowledged before it was seen. If the other side's FIN did so, this one
    /// was the first of the two.
    fn note_late_fin(&mut self, side: Side, end: i64) {
        self.bad_order = true;
        let answers = self.fins[side.peer() as usize].is_some_and(|fin| fin.heard > end);
        self.closing.take_if(|closing| answers && closing.by == side.peer());
    }

    /// Takes a FIN that stands behind a RST. If it was sent before the RST, it began the
    /// teardown; if not, it counts only if the RST turns out to have had no effect.
    fn finish_behind_reset(&mut self, side: Side, segment: &Segment<'_>) {
        let fin = self.fin_of(side, segment);
        if self.halves[side as usize].acked() > fin.at_number {
            self.order.settle(side, segment.time);
        }
        let Some(cut) = self.halves[side as usize].cut() else { return };
        let closing = self.closing_now(side, segment);
        // The RST's own number is the one behind the FIN, if the FIN came first.
        let beyond = self.ended_by_reset_of(side) && fin.end + 1 < cut;
        if beyond {
            self.revive();
            return self.finish(side, segment);
        }
        let is_earlier = self.effective_resets().is_some_and(|r| segment.time < r.at.time);
        if fin.end < cut || is_earlier {
            self.fins[side as usize] = Some(fin);
            self.bad_order = true;
            let by_reset = |old: &Closing| self.is_reset(old.at.frame);
            if let Some(old) = self.closing.filter(by_reset) {
                self.closing = Some(Closing { stage: old.stage, idle: old.idle, ..closing });
            }
            // Who acknowledged this FIN closed after it.
            let answers =
                self.fins[side.peer() as usize].is_some_and(|f| f.heard > fin.at_number);
            if self.closing.is_some_and(|old| answers && old.by == side.peer()) {
                self.closing = Some(Closing { stage: Phase::Unknown, ..closing });
            }
            if let Some(resets) = &mut self.resets {
                resets.phase = Phase::Teardown;
            }
            return;
        }
        // What was put aside behind the RST came before this FIN.
        let seen = self.both(Half::reached);
        let closing = match seen == closing.seen {
            true => closing,
            false => Closing { seen, stage: Phase::Unknown, idle: None, ..closing },
        };
        self.halves[side as usize].note_behind_cut(fin.end + 1);
        if self.late_fins.iter().all(|late| late.closing.by != side) {
            self.late_fins.push(LateFin { fin, closing });
        }
    }

    /// A FIN, which takes back nothing that was seen before it, whatever its number says.
    fn fin_of(&self, side: Side, segment: &Segment<'_>) -> Fin {
        let syn = u32::from(segment.tcp.syn);
        let half = &self.halves[side as usize];
        let start = half.position(segment.tcp.seq.wrapping_add(syn));
        let number = start + i64::from(segment.payload_len);
        let end = number.max(half.next());
        let is_passed = (half.ends_in_gap() || number < 0) && number + 1 == end;
        Fin {
            at: Mark { frame: segment.frame, time: segment.time },
            end,
            at_number: if is_passed { number } else { end },
            heard: match segment.tcp.ack_flag {
                true => self.halves[side.peer() as usize].position(segment.tcp.ack),
                false => 0,
            },
            heeds: self.alerted[side.peer() as usize],
        }
    }

    /// Notes data that starts behind what was sent before the peer's RST.
    fn note_crossing(&mut self, side: Side, segment: &Segment<'_>) {
        let Some(resets) = self.resets.as_mut().filter(|resets| resets.by != side) else {
            return;
        };
        let half = &self.halves[side as usize];
        let off = half.cut().map(|cut| half.position(segment.tcp.seq) - cut);
        let is_behind = off.is_some_and(|off| (0..=FURTHEST_RESET).contains(&off));
        let is_alert = is_tls_alert(segment.payload, segment.payload_len);
        if segment.payload_len > 0 && is_behind && !is_alert {
            resets.crossed_at.get_or_insert(segment.time);
        }
    }

    fn ended_by_reset_of(&self, side: Side) -> bool {
        self.effective_resets().is_some_and(|resets| resets.by == side)
    }

    fn is_reset(&self, frame: u32) -> bool {
        self.resets.as_ref().is_some_and(|resets| resets.at.frame == frame)
    }

    /// The FIN of the server ends a response that lasts until the close.
    fn end_if_all_is_there(&mut self) {
        let at = self.server_half().next();
        let fin = self.fins[Side::Server as usize];
        if fin.is_some_and(|fin| fin.end == at) {
            self.app.server_end(at);
        }
    }

    fn reset(&mut self, side: Side, segment: &Segment<'_>, copy: bool) {
        let key = Some(key(side, segment));
        // Who resets as well, and acknowledges more than the other's RST stands at, did not take it.
        if segment.tcp.ack_flag && self.ended_by_reset_of(side.peer()) {
            let peer = &mut self.halves[side.peer() as usize];
            let acked = peer.position(segment.tcp.ack);
            if acked - peer.end() <= FURTHEST_RESET {
                peer.acknowledge(acked);
            }
            self.revive_if_alive();
        }
        let mut count = 1;
        let mut keys = [key, None, None, None];
        if let Some(resets) = &mut self.resets {
            let told = key.is_some_and(|key| key.1 != 0 || self.copies);
            let copy = copy || told && resets.keys.contains(&key);
            resets.count += u32::from(!copy);
            resets.keys.rotate_right(1);
            resets.keys[0] = key;
            if resets.effective {
                // The time stamps tell which of one side is the first.
                if !copy {
                    let at = resets.rival_at.map_or(segment.time, |at| at.min(segment.time));
                    resets.rival_at = Some(at);
                    resets.beside.note(segment.time);
                }
                if segment.time < resets.at.time && !self.is_out_of_window(side, segment) {
                    self.note_earlier_reset(side, segment);
                }
                return;
            }
            (count, keys) = (resets.count, resets.keys);
        }
        self.halves[side as usize].settle(segment.tcp.seq);
        if segment.tcp.ack_flag {
            self.halves[side.peer() as usize].settle(segment.tcp.ack);
        }
        let half = &self.halves[side as usize];
        let half_started = half.started();
        let position = half.position(segment.tcp.seq);
        let off = half_started.then(|| half.position(segment.tcp.seq) - half.next());
        let signs = self.trace.signs(side, segment, off);
        let untaken = self.is_out_of_window(side, segment);
        let stage = self.stage(segment.time, Some(side));
        // Who sent or acknowledged data has completed the handshake, though nobody saw it.
        let is_past = side == Side::Server && self.syn_ack && self.acks_data(segment);
        if !self.is_established()
            && (is_past
                || self.is_beyond(side, segment, &signs)
                || self.has_missed_answer(side, segment, &signs))
        {
            (self.established, self.opened_unseen) = (true, true);
        }
        self.cut_at_reset(side, segment);
        self.give_up_holes();
        // A FIN beside a SYN that is refused closes nothing.
        let torn_down = self.is_established() && self.fins.iter().any(Option::is_some);
        let text = segment.payload;
        self.resets = Some(Box::new(Resets {
            at: Mark { frame: segment.frame, time: segment.time },
            by: side,
            phase: Phase::Teardown,
            count,
            text: text[..text.len().min(limits::RESET_TEXT)].into(),
            effective: true,
            signs,
            crossed_at: None,
            stage,
            is_late: !half_started && !segment.tcp.ack_flag,
            untimely: self.is_untimely(side, segment),
            beside: self.beside(side, segment),
            rival_at: None,
            position,
            bad_order: self.bad_order,
            keys,
        }));
        let phase = self.stage(segment.time, Some(side));
        if let Some(resets) = self.resets.as_mut().filter(|_| !torn_down) {
            resets.phase = phase;
        }
        self.note_closing(side, segment);
        if let Some(closing) = self.closing.as_mut().filter(|c| c.at.time > segment.time) {
            closing.doubt();
        }
        if untaken {
            self.revive();
        }
    }

    /// By the time stamps, this RST is the first.
    fn note_earlier_reset(&mut self, side: Side, segment: &Segment<'_>) {
        let first = Mark { frame: segment.frame, time: segment.time };
        let Some(resets) = &mut self.resets else { return };
        let late = std::mem::replace(&mut resets.at, first);
        (resets.by, resets.untimely) = (side, true);
        if let Some(closing) = self.closing.as_mut().filter(|closing| closing.at == late) {
            closing.untimely |=
                closing.by != side || self.said_at[side.peer() as usize] > Some(first.time);
            (closing.at, closing.by, closing.idle) = (first, side, None);
        }
    }

    /// Whether the peer cannot have taken this RST, as its number lies outside of any window
    /// (RFC 9293, section 3.10.7.4). Some stacks do not count their FIN.
    fn is_out_of_window(&self, side: Side, segment: &Segment<'_>) -> bool {
        let half = &self.halves[side as usize];
        let at = half.position(segment.tcp.seq);
        let outside = at + 1 < half.acked() || at - half.next() > half::FURTHEST;
        self.established && half.started() && outside
    }

    /// Whether the numbers of a RST lie beyond what was seen of either side, and it does not
    /// bear them in answer to a segment, which may be one of an older connection.
    fn is_beyond(&self, side: Side, segment: &Segment<'_>, signs: &ResetSigns) -> bool {
        let ahead = |ahead: i64| (1..=FURTHEST_RESET).contains(&ahead);
        let peer = &self.halves[side.peer() as usize];
        let acks = segment.tcp.ack_flag && peer.started();
        signs.answers.is_none()
            && (signs.off.is_some_and(ahead)
                || acks && ahead(peer.position(segment.tcp.ack) - peer.sent()))
    }

    /// Whether a SYN-ACK would have been repeated by now, had nobody acknowledged it.
    fn is_unrepeated(&self, now: CaptureTime) -> bool {
        self.syn_acked_at.is_some_and(|at| now.since(at) > SYN_ACK_AGAIN)
    }

    /// Whether a RST in the handshake shows that the third packet was sent, which nobody saw: the
    /// server's answers something that acknowledged its SYN, or the server would have
    /// repeated that.
    fn has_missed_answer(&self, side: Side, segment: &Segment<'_>, signs: &ResetSigns) -> bool {
        let answers = side == Side::Server && !segment.tcp.ack_flag && signs.answers.is_none();
        self.syn_ack && (answers || self.is_unrepeated(segment.time))
    }

    /// What counts is what was sent before the RST: its own side's data up to its sequence
    /// number, and of the peer's what it acknowledges or what was seen.
    fn cut_at_reset(&mut self, side: Side, segment: &Segment<'_>) {
        let own = &mut self.halves[side as usize];
        if own.started() {
            let ahead = own.position(segment.tcp.seq) - own.next();
            own.cut_at(own.next() + if ahead <= FURTHEST_RESET { ahead.max(0) } else { 0 });
        }
        let other = &mut self.halves[side.peer() as usize];
        if segment.tcp.ack_flag && other.started() {
            let acked = other.position(segment.tcp.ack);
            if acked - other.sent() <= FURTHEST_RESET {
                other.acknowledge(acked);
            }
        }
        other.cut_at(other.sent().max(other.acked()));
    }

    /// Whether a SYN of this side begins the connection anew: it has reset one that was not
    /// established, as an answer to a segment of an older one, or because nobody listened yet.
    fn is_reborn(&self, side: Side, segment: &Segment<'_>) -> bool {
        let start = self.halves[side as usize].position(segment.tcp.seq.wrapping_add(1));
        // What goes on from this SYN belongs to it, wherever it stands.
        let is_later = self
            .effective_resets()
            .is_some_and(|resets| segment.time >= resets.at.time && resets.position != start);
        self.ended_by_reset_of(side) && !self.established && is_later
    }

    /// Who acknowledges what was sent after a RST has not taken that RST.
    fn revive_if_alive(&mut self) {
        let Some(resets) = self.effective_resets() else { return };
        let (by, acks) = (resets.by, resets.signs.ack_flag);
        // Nor has a side reset that acknowledges what it had not received by then.
        let peer = &self.halves[by.peer() as usize];
        if self.halves[by as usize].goes_on() || acks && peer.goes_on() {
            self.revive();
        }
    }

    /// The connection went on after the RST, so the RST had no effect.
    fn revive(&mut self) {
        let Some(resets) = &mut self.resets else { return };
        resets.effective = false;
        if resets.phase != Phase::Teardown {
            resets.phase = resets.stage;
        }
        self.bad_order = resets.bad_order;
        self.given_up = None;
        let frame = resets.at.frame;
        for side in [Side::Client, Side::Server] {
            // When that came was not noted.
            if self.hand_on(side, |half, then| half.uncut(then)) {
                let is_data = self.late_fins.iter().all(|late| late.closing.by != side);
                self.last_data = self.said_at[side as usize].filter(|_| is_data);
            }
        }
        self.closing = self.closing.filter(|closing| closing.at.frame != frame);
        let mut late_fins = std::mem::take(&mut self.late_fins);
        // Who acknowledged the other's FIN closed after it.
        if matches!(&late_fins[..], [a, b] if a.fin.heard > b.fin.at_number) {
            late_fins.reverse();
        }
        for LateFin { fin, mut closing } in late_fins {
            let side = closing.by;
            // The RST's number stood for data that there never was.
            if closing.seen == self.progress() {
                closing.stage = self.stage(closing.at.time, Some(side));
            }
            self.halves[side as usize].stop_at(fin.end);
            self.fins[side as usize].get_or_insert(fin);
            self.closing.get_or_insert(closing);
            self.end_if_all_is_there();
        }
    }

    fn note_closing(&mut self, side: Side, segment: &Segment<'_>) {
        if self.closing.is_none() {
            self.closing = Some(self.closing_now(side, segment));
        }
    }

    fn closing_now(&self, side: Side, segment: &Segment<'_>) -> Closing {
        Closing {
            at: Mark { frame: segment.frame, time: segment.time },
            by: side,
            piggybacked: (!segment.tcp.rst).then_some(segment.payload_len > 0),
            stage: self.stage(segment.time, Some(side)),
            idle: (self
                .last_data
                .filter(|last| !self.may_be_farewell && *last <= segment.time))
            .map(|last| segment.time.since(last)),
            seen: self.progress(),
            acked: self.both(Half::acked_data),
            told: self.both(Half::told),
            untimely: self.is_untimely(side, segment),
            beside: self.beside(side, segment),
        }
    }

    /// What was sent before the first FIN or RST and is seen, or given up, after it belongs to
    /// the picture of that moment, as long as the other side has not gone on. Tells whether
    /// there was any.
    fn note_late(&mut self, side: Side, before: i64) -> bool {
        let progress = self.progress();
        if progress[side as usize] == before {
            return false;
        }
        let Some(closing) = self.closing else { return false };
        let by_reset = self.is_reset(closing.at.frame);
        let acked = closing.acked[side as usize].min(closing.beside.heard);
        let belongs = by_reset || closing.by == side || before < acked;
        let peer = side.peer() as usize;
        if belongs && closing.seen[peer] == progress[peer] {
            let stage = self.stage(closing.at.time, Some(closing.by));
            self.closing = Some(Closing { stage, seen: progress, ..closing });
            if let Some(resets) = self.resets.as_mut().filter(|_| by_reset) {
                resets.phase = stage;
            }
        }
        belongs || self.effective_resets().is_some()
    }

    fn progress(&self) -> [i64; 2] {
        self.both(Half::next)
    }

    fn both(&self, of: impl Fn(&Half) -> i64) -> [i64; 2] {
        [of(self.client_half()), of(self.server_half())]
    }
}

/// What a copy of this segment has in common with it.
fn key(side: Side, segment: &Segment<'_>) -> Key {
    let Header { syn, fin, rst, ack_flag, seq, ack, .. } = segment.tcp;
    let flags =
        [syn, fin, rst, ack_flag].into_iter().fold(0, |bits, flag| bits << 1 | u32::from(flag));
    // As much of the length as tells segments of the same numbers apart.
    let shape = (segment.payload_len << 4 | flags) as u16;
    (side, segment.ip_id.unwrap_or(0), shape, seq, ack)
}
