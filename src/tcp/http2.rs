// SPDX-License-Identifier: GPL-2.0-or-later
//! Progress of HTTP/2 on a connection, frame by frame (RFC 9113).
//!
//! Frame headers tell which streams are open and which side has ended its part of them; header
//! blocks tell what is asked and answered, as long as none of them was lost. RST_STREAM ends an
//! exchange and GOAWAY announces the end of the connection; neither is an end of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::tcp::forwarded;
use crate::tcp::half::Piece;
use crate::tcp::hpack::{Hpack, Name, Value};
use crate::tcp::http::{self, Exchange, GivenUp, Progress};
use crate::tcp::stream::Side;

/// What a client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The line of it that tells HTTP/2.
const PREFACE_LINE: &[u8] = b"PRI * HTTP/2.0";

/// Bytes of a field that are looked at: of a request no more is kept.
const TEXT: usize = limits::REQUEST;

const HEADER: usize = 9;
/// Bytes of a GOAWAY that are read, which are more than a RST_STREAM has.
const SHORT: usize = 8;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// A longer frame has to be allowed (RFC 9113, section 4.2).
const LONGEST_FOR_ALL: u64 = 1 << 14;

/// A side announced the end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoAway {
    /// The frame of the capture that brought it.
    pub frame: u32,
    /// The last stream of the other side that it has acted on, or still may.
    pub last: u32,
    /// Why (RFC 9113, section 7).
    pub code: u32,
}

/// The HTTP/2 conversation of one connection.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Http2 {
    client: Frames,
    server: Frames,
    /// Streams that one of the sides has not ended, by identifier.
    open: BTreeMap<u32, Box<Exchange>>,
    /// The stream that was ended last.
    last: Option<Exchange>,
    /// The highest identifier of a stream that was seen.
    newest: u32,
    /// Requests that were begun.
    pub begun: u64,
    /// Responses that are complete.
    pub completed: u64,
    /// What the client began with is no preface.
    pub is_none: bool,
    /// The server's announcement of the end, the latest one.
    pub goaway: Option<GoAway>,
    /// The frame of the capture from which bytes are taken.
    pub frame: u32,
}

/// The frames of one side.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Frames {
    header: [u8; HEADER],
    header_len: usize,
    /// Bytes of the current frame's payload that are still to come.
    left: u64,
    /// Bytes of the preface that have been seen.
    preface: usize,
    lost: bool,
    /// A frame has begun.
    begun: bool,
    /// Payload of the current frame, if it is of a kind that is read.
    payload: Vec<u8>,
    /// A part of the payload, or of the block, is missing or beyond the bound.
    incomplete: bool,
    /// The header block so far, which CONTINUATION frames go on with.
    block: Vec<u8>,
    /// The frame that began the block: its type, flags and stream.
    began: (u8, u8, u32),
    /// The stream of a block that has not ended.
    unended: Option<u32>,
    headers: Hpack,
}

impl Frames {
    /// Type, flags and stream of the current frame.
    fn current(&self) -> (u8, u8, u32) {
        let [_, _, _, kind, flags, a, b, c, d] = self.header;
        (kind, flags, u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff)
    }

    /// Keeps payload that is read once all of it is there.
    fn keep(&mut self, bytes: &[u8]) {
        let wanted = match self.current().0 {
            HEADERS | PUSH_PROMISE | CONTINUATION => limits::HEAD,
            RST_STREAM | GOAWAY => SHORT,
            _ => return,
        };
        let room = wanted.saturating_sub(self.payload.len() + self.block.len());
        self.incomplete |= room < bytes.len() && wanted == limits::HEAD;
        self.payload.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Adds the current frame to the block. Returns what began the block, once it is whole.
    fn add_to_block(&mut self) -> Option<(u8, u8, u32)> {
        let (kind, flags, stream) = self.current();
        let part = std::mem::take(&mut self.payload);
        if kind != CONTINUATION {
            self.block.clear();
            self.began = (kind, flags, stream);
        }
        match fragment(kind, flags, &part) {
            Some(part) => self.block.extend_from_slice(part),
            None => self.incomplete = true,
        }
        let is_whole = flags & END_HEADERS != 0;
        self.unended = (!is_whole).then_some(stream);
        is_whole.then_some(self.began)
    }

    /// What the block says, if it and all before it can be read.
    fn take_block(&mut self) -> Option<Head> {
        let block = std::mem::take(&mut self.block);
        if std::mem::take(&mut self.incomplete) {
            self.headers.lose();
        }
        let mut head = Head::default();
        self.headers.read(&block, |name, value| head.add(name, value)).then_some(head)
    }
}

/// The part of a payload that belongs to the header block.
fn fragment(kind: u8, flags: u8, payload: &[u8]) -> Option<&[u8]> {
    if kind == CONTINUATION {
        return Some(payload);
    }
    let (padding, rest) = match flags & PADDED != 0 {
        true => payload.split_first().map(|(&padding, rest)| (usize::from(padding), rest))?,
        false => (0, payload),
    };
    let before = match kind {
        PUSH_PROMISE => 4,
        _ if flags & PRIORITY != 0 => 5,
        _ => 0,
    };
    rest.get(before..rest.len().checked_sub(padding)?)
}

/// What a header block says.
#[derive(Debug, Default)]
struct Head {
    method: Option<Box<[u8]>>,
    path: Option<Box<[u8]>>,
    authority: Option<Box<[u8]>>,
    host: Option<Box<[u8]>>,
    status: Option<u16>,
    length: Option<u64>,
    id: Option<u64>,
    clients: Vec<IpAddr>,
    /// A field is there twice that may be there once (RFC 9113, section 8.3).
    malformed: bool,
}

impl Head {
    fn add(&mut self, name: Name, value: Value<'_>) {
        let text = match value {
            Value::Text(text) => &text[..text.len().min(TEXT)],
            Value::Clients(clients) => return forwarded::join(&mut self.clients, clients),
        };
        let once = match name {
            Name::Method => &mut self.method,
            Name::Path => &mut self.path,
            Name::Authority => &mut self.authority,
            Name::Host => &mut self.host,
            Name::Status => {
                self.status = number(text).and_then(|n| n.try_into().ok());
                return;
            }
            Name::ContentLength => {
                self.length = number(text);
                return;
            }
            Name::RequestId => {
                self.id = http::id_hash(text);
                return;
            }
            Name::Other => return,
        };
        match once {
            None => *once = Some(text.into()),
            Some(_) => self.malformed = true,
        }
    }

    /// `METHOD PATH`; a CONNECT names a host and port instead (RFC 9113, section 8.5).
    fn request(&self) -> Option<Rc<str>> {
        let target = self.path.as_deref().or(self.authority()).filter(|_| !self.malformed)?;
        let text = [self.method.as_deref()?, target].join(&b' ');
        // What is kept of a long one may end within a character.
        let text = match std::str::from_utf8(&text) {
            Err(error) if target.len() == TEXT && error.error_len().is_none() => {
                std::str::from_utf8(&text[..error.valid_up_to()])
            }
            text => text,
        };
        Some(http::kept(text.ok()?))
    }

    fn authority(&self) -> Option<&[u8]> {
        self.authority.as_deref().or(self.host.as_deref())
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok()?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The word of the standard for an error code.
pub fn error(code: u32) -> &'static str {
    const WORDS: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    WORDS.get(code as usize).copied().unwrap_or("an unknown error")
}

/// The server did not begin with the request.
pub const REFUSED_STREAM: u32 = 7;

/// Whether a client begins an HTTP/2 conversation with these bytes: the preface, as far as it is
/// there, and no less of it than tells it from a request of HTTP/1.x.
pub fn starts(bytes: &[u8]) -> bool {
    let length = bytes.len().min(PREFACE.len());
    length >= PREFACE_LINE.len() && bytes[..length] == PREFACE[..length]
}

/// Whether a server begins an HTTP/2 conversation with these bytes: its settings.
pub fn is_settings(bytes: &[u8]) -> bool {
    matches!(bytes, [0, 0, length, SETTINGS, 0, 0, 0, 0, 0, ..] if length % 6 == 0)
}

impl Http2 {
    /// A conversation that goes on where HTTP/1.x stopped: its request is that of stream 1.
    pub fn upgraded(exchange: Option<Exchange>, begun: u64, completed: u64) -> Http2 {
        let first = exchange.map(|mut exchange| {
            exchange.stream = 1;
            (1, Box::new(exchange))
        });
        let open = first.into_iter().collect();
        Http2 { open, newest: 1, begun, completed, ..Http2::default() }
    }

    /// Frames of this side were missed, so where the next one begins is not known.
    pub fn lose(&mut self, side: Side) {
        self.frames(side).lost = true;
    }

    /// Takes the next piece that a side sent, and its position.
    pub fn take(&mut self, side: Side, at: i64, piece: Piece<'_>) {
        match piece {
            Piece::Data(bytes) => self.bytes(side, at, bytes),
            Piece::Missing(count) => self.missing(side, at, count),
        }
    }

    /// Bytes that the capture lacks: no harm if they lie within a frame whose end is known.
    fn missing(&mut self, side: Side, at: i64, count: u64) {
        let frames = self.frames(side);
        let left = frames.left.checked_sub(count).filter(|_| frames.header_len == HEADER);
        let kind = frames.current().0;
        let is_read = match kind {
            RST_STREAM => true,
            GOAWAY => frames.payload.len() < SHORT,
            _ => false,
        };
        let Some(left) = left.filter(|_| !is_read) else {
            frames.lost = true;
            return;
        };
        frames.left = left;
        frames.incomplete |= is_block(kind);
        self.end_if_whole(side, at.saturating_add_unsigned(count));
    }

    /// Whether the server has not sent a frame so far, on a connection that began in HTTP/2.
    pub fn is_unanswered(&self) -> bool {
        !self.server.begun && self.client.preface > 0
    }

    /// The stream that decides how far the connection has come: of the open ones the one that
    /// is furthest, else the one that was ended last. Nobody can tell once frames are lost.
    pub fn exchange(&self) -> Option<&Exchange> {
        if self.is_lost() {
            return None;
        }
        let open = self.open.values().map(Box::as_ref);
        let furthest = open.max_by_key(|e| (rank(e.answered), rank(e.sent)));
        furthest.or(self.last.as_ref())
    }

    /// Every exchange that is open, and the one that was ended last.
    pub fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        let open = self.open.values().map(Box::as_ref);
        open.chain(&self.last).filter(|_| !self.is_lost())
    }

    /// Whether the server did not, and will not, act on this request, by its own word.
    pub fn is_unprocessed(&self, exchange: &Exchange) -> bool {
        let refused = |given_up: GivenUp| {
            given_up.by == Side::Server && given_up.code == Some(REFUSED_STREAM)
        };
        exchange.given_up.is_some_and(refused)
            || exchange.answered == Progress::None
                && self.goaway.is_some_and(|goaway| exchange.stream > goaway.last)
    }

    /// Whether the frames of a side can't be told apart any more.
    pub fn is_lost(&self) -> bool {
        self.client.lost || self.server.lost
    }

    fn frames(&mut self, side: Side) -> &mut Frames {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    fn bytes(&mut self, side: Side, mut at: i64, mut bytes: &[u8]) {
        if side == Side::Client {
            let rest = PREFACE.get(self.client.preface..).unwrap_or_default();
            let skipped = rest.len().min(bytes.len());
            self.is_none |= bytes[..skipped] != rest[..skipped];
            self.client.lost |= self.is_none;
            self.client.preface += skipped;
            (at, bytes) = (at + skipped as i64, &bytes[skipped..]);
        }
        while !bytes.is_empty() && !self.frames(side).lost {
            let frames = self.frames(side);
            let taken = if frames.header_len < HEADER {
                let taken = (HEADER - frames.header_len).min(bytes.len());
                let to = frames.header_len + taken;
                frames.header[frames.header_len..to].copy_from_slice(&bytes[..taken]);
                frames.header_len = to;
                if to == HEADER {
                    let [high, middle, low, ..] = frames.header;
                    frames.left = u64::from(u32::from_be_bytes([0, high, middle, low]));
                    frames.payload.clear();
                    self.begin_frame(side, at + taken as i64);
                }
                taken
            } else {
                let taken = frames.left.min(bytes.len() as u64) as usize;
                frames.left -= taken as u64;
                frames.keep(&bytes[..taken]);
                taken
            };
            (at, bytes) = (at + taken as i64, &bytes[taken..]);
            self.end_if_whole(side, at);
        }
    }

    /// Takes the end of a side's frame, if this position is one.
    fn end_if_whole(&mut self, side: Side, at: i64) {
        let frames = self.frames(side);
        if frames.header_len == HEADER && frames.left == 0 {
            frames.header_len = 0;
            self.end_frame(side, at);
        }
    }

    /// A frame whose payload starts at this position has begun.
    fn begin_frame(&mut self, side: Side, at: i64) {
        let frames = self.frames(side);
        frames.begun = true;
        let (kind, flags, stream) = frames.current();
        let payload = frames.left;
        // Extensions have types of their own, which whoever does not know them ignores
        // (RFC 9113, section 5.5). None sends frames that are longer than everybody takes: those
        // are no frames. Nothing stands between the frames of a header block (section 4.3).
        let is_none = kind > CONTINUATION && payload > LONGEST_FOR_ALL;
        let continues = (kind == CONTINUATION).then_some(stream);
        if is_none || frames.unended != continues {
            frames.lost = true;
            return;
        }
        if stream == 0 || !matches!(kind, DATA | HEADERS | RST_STREAM) {
            // Settings, pings and windows are no part of any exchange.
            return;
        }
        self.open_if_new(stream);
        if side == Side::Client && kind == HEADERS {
            if let Some(exchange) = self.stream(stream).filter(|e| e.sent == Progress::None) {
                exchange.sent = Progress::Begun;
                exchange.request_start = at - HEADER as i64;
                self.begun += 1;
            }
        }
        if side == Side::Client || kind == RST_STREAM {
            return;
        }
        let Some(exchange) = self.open.get_mut(&stream) else { return };
        if exchange.answered == Progress::None {
            exchange.response_start = at - HEADER as i64;
        }
        exchange.answered = Progress::Begun;
        if kind == DATA {
            // Padding counts for the frame and not for the response.
            let promised = exchange.promised.filter(|_| flags & PADDED == 0);
            exchange.promised = promised.map(|left| left.saturating_sub_unsigned(payload));
            exchange.response_end = promised.map(|left| at.saturating_add(left.max(0)));
        }
    }

    /// A client opens its streams in the order of their identifiers, which are odd. A capture
    /// can bring the answer first.
    fn open_if_new(&mut self, stream: u32) {
        if stream % 2 == 1 && stream > self.newest && self.open.len() < limits::PIPELINED {
            self.newest = stream;
            self.open.insert(stream, Box::new(Exchange::of_stream(stream)));
        }
    }

    /// A stream that is open, or that was ended last.
    fn stream(&mut self, stream: u32) -> Option<&mut Exchange> {
        let last = self.last.as_mut().filter(|last| last.stream == stream);
        self.open.get_mut(&stream).map(Box::as_mut).or(last)
    }

    fn end_frame(&mut self, side: Side, at: i64) {
        let (kind, flags, stream) = self.frames(side).current();
        match kind {
            DATA if flags & END_STREAM != 0 => self.end_of(side, stream, at),
            RST_STREAM => self.give_up(side, stream),
            GOAWAY => self.announce_end(side),
            kind if is_block(kind) => {
                let frames = self.frames(side);
                let Some((kind, flags, stream)) = frames.add_to_block() else { return };
                let head = frames.take_block();
                if kind == HEADERS {
                    self.head(side, stream, head, at);
                    if flags & END_STREAM != 0 {
                        self.end_of(side, stream, at);
                    }
                }
            }
            _ => {}
        }
    }

    /// A head, or trailers, ended at this position; `None` if what they say can't be read.
    fn head(&mut self, side: Side, stream: u32, head: Option<Head>, at: i64) {
        let request = head.as_ref().filter(|_| side == Side::Client).and_then(Head::request);
        let request = request.and_then(|text| self.shared(text));
        let Some(exchange) = self.stream(stream) else { return };
        match (side, head) {
            (Side::Client, Some(head)) if exchange.request.is_none() => {
                exchange.request = request;
                exchange.host = head.authority().map(http::host_hash);
                exchange.id = head.id.or(exchange.id);
                exchange.clients = head.clients.as_slice().into();
                exchange.bodiless |= head.method.as_deref() == Some(b"HEAD");
            }
            (Side::Server, Some(head)) if exchange.status.is_none() => match head.status {
                // An interim response: the final one has not begun.
                Some(100..=199) => exchange.answered = Progress::None,
                status => {
                    exchange.status = status;
                    exchange.id = exchange.id.or(head.id);
                    exchange.bodiless |= matches!(status, Some(204 | 304));
                    let length = head.length.filter(|_| !exchange.bodiless);
                    exchange.promised = length.and_then(|length| length.try_into().ok());
                    exchange.response_end =
                        exchange.promised.map(|length| at.saturating_add(length));
                }
            },
            // It may have been an interim response, unless data follows.
            (Side::Server, None) if exchange.status.is_none() => {
                exchange.answered = Progress::Lost;
            }
            _ => {}
        }
    }

    /// A request, in the memory of an equal one among the last; `None` where there is no room.
    fn shared(&self, request: Rc<str>) -> Option<Rc<str>> {
        let open = || self.open.values().filter_map(|exchange| exchange.request.as_ref());
        let kept: usize = open().map(|text| text.len()).sum();
        if kept + request.len() > limits::REQUESTS {
            return None;
        }
        let equal = open().rev().take(limits::SHARING).find(|text| **text == request).cloned();
        Some(equal.unwrap_or(request))
    }

    /// A side has said all that it says on a stream.
    fn end_of(&mut self, side: Side, stream: u32, at: i64) {
        let frame = self.frame;
        if side == Side::Client {
            if let Some(exchange) = self.stream(stream) {
                exchange.sent = Progress::Complete;
            }
            return;
        }
        let Some(mut exchange) = self.open.remove(&stream).map(|it| *it) else { return };
        let short = !exchange.bodiless && exchange.promised.is_some_and(|left| left > 0);
        if short && exchange.request.is_none() {
            // It may have been a HEAD, which the length does not hold for.
            exchange.answered = Progress::Lost;
        } else if short {
            exchange.given_up = Some(GivenUp { by: Side::Server, code: None, frame });
        } else {
            exchange.answered = Progress::Complete;
            exchange.response_end = Some(at);
            self.completed += 1;
        }
        self.last = Some(exchange);
    }

    /// A side gave a stream up. The connection goes on.
    fn give_up(&mut self, side: Side, stream: u32) {
        let frame = self.frame;
        let code = match *self.frames(side).payload {
            [a, b, c, d, ..] => Some(u32::from_be_bytes([a, b, c, d])),
            _ => None,
        };
        let Some(mut exchange) = self.open.remove(&stream).map(|it| *it) else { return };
        exchange.given_up = Some(GivenUp { by: side, code, frame });
        self.last = Some(exchange);
    }

    fn announce_end(&mut self, side: Side) {
        let frame = self.frame;
        if let [a, b, c, d, e, f, g, h] = *self.frames(side).payload {
            let last = u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff;
            let code = u32::from_be_bytes([e, f, g, h]);
            if side == Side::Server {
                self.goaway = Some(GoAway { frame, last, code });
            }
        }
    }
}

/// Whether frames of this type carry a header block.
fn is_block(kind: u8) -> bool {
    matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION)
}

fn rank(progress: Progress) -> u8 {
    match progress {
        Progress::None => 0,
        Progress::Lost | Progress::Cut => 1,
        Progress::Begun => 2,
        Progress::Complete => 3,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use Side::{Client, Server};

    const GET: &[u8] = &[0x82, 0x84];
    const HEAD: &[u8] = b"\x02\x04HEAD\x84";
    const OK: &[u8] = &[0x88];
    /// Status 200 and a length of 10.
    const OK_10: &[u8] = b"\x88\x0f\x0d\x0210";
    const CONTINUE: &[u8] = b"\x08\x03100";

    type Frame<'a> = (Side, u8, u8, u32, &'a [u8]);

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// Plays frames `(side, type, flags, stream, payload)` in pieces of three bytes.
    fn play(frames: &[Frame<'_>]) -> Http2 {
        let mut http = Http2::default();
        let mut at = [0, 0];
        let mut send = |http: &mut Http2, side: Side, bytes: &[u8]| {
            for piece in bytes.chunks(3) {
                http.take(side, at[side as usize], Piece::Data(piece));
                at[side as usize] += piece.len() as i64;
            }
        };
        send(&mut http, Client, PREFACE);
        for &(side, kind, flags, stream, payload) in frames {
            send(&mut http, side, &frame(kind, flags, stream, payload));
        }
        http
    }

    fn told(http: &Http2) -> String {
        let exchange = http.exchange().map(|e| {
            let request = e.request.as_deref().unwrap_or("?");
            let status = e.status.map(|status| format!(" {status}")).unwrap_or_default();
            format!(" {:?}/{:?} {request}{status}", e.sent, e.answered)
        });
        format!("{}/{}{}", http.begun, http.completed, exchange.unwrap_or_default())
    }

    #[test]
    fn streams_go_through_request_and_response() {
        let mut frames: Vec<Frame<'_>> = vec![
            (Client, 4, 0, 0, &[0; 18]),
            (Server, 4, 0, 0, &[0; 6]),
            (Client, 4, 1, 0, b""),
        ];
        assert_eq!(told(&play(&frames)), "0/0");
        frames.push((Client, HEADERS, END_HEADERS, 1, GET));
        assert_eq!(told(&play(&frames)), "1/0 Begun/None GET /");
        frames.push((Client, DATA, END_STREAM, 1, &[0; 10]));
        assert_eq!(told(&play(&frames)), "1/0 Complete/None GET /");
        frames.push((Server, HEADERS, END_HEADERS, 1, CONTINUE));
        assert_eq!(told(&play(&frames)), "1/0 Complete/None GET /");
        frames.push((Server, HEADERS, END_HEADERS, 1, OK));
        assert_eq!(told(&play(&frames)), "1/0 Complete/Begun GET / 200");
        frames.push((Server, DATA, END_STREAM, 1, &[0; 500]));
        let http = play(&frames);
        assert_eq!(told(&http), "1/1 Complete/Complete GET / 200");
        assert_eq!(http.exchange().and_then(|e| e.response_end), Some(15 + 14 + 10 + 509));
    }

    #[test]
    fn of_several_open_streams_the_furthest_decides() {
        let frames: [Frame<'_>; 4] = [
            (Client, HEADERS, END_HEADERS | END_STREAM, 1, GET),
            (Client, HEADERS, END_HEADERS, 3, b"\x83\x84"),
            (Server, HEADERS, END_HEADERS, 1, OK),
            (Client, RST_STREAM, 0, 3, &[0, 0, 0, 8]),
        ];
        assert_eq!(told(&play(&frames)), "2/0 Complete/Begun GET / 200");
    }

    #[test]
    fn a_stream_that_is_given_up_does_not_end_the_connection() {
        let request = (Client, HEADERS, END_HEADERS | END_STREAM, 1, GET);
        let http = play(&[request, (Client, RST_STREAM, 0, 1, &[0, 0, 0, 8])]);
        assert_eq!(told(&http), "1/0 Complete/None GET /");
        let given_up = http.exchange().and_then(|e| e.given_up);
        assert_eq!(given_up, Some(GivenUp { by: Client, code: Some(8), frame: 0 }));
        assert!(!http.is_lost() && !http.is_unprocessed(http.exchange().unwrap()));
        let http = play(&[request, (Server, RST_STREAM, 0, 1, &[0, 0, 0, 7])]);
        assert!(http.is_unprocessed(http.exchange().unwrap()));
    }

    #[test]
    fn requests_behind_the_last_one_of_a_goaway_are_not_begun_with() {
        let frames: [Frame<'_>; 3] = [
            (Client, HEADERS, END_HEADERS | END_STREAM, 1, GET),
            (Server, GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0, b'b', b'y', b'e']),
            (Client, HEADERS, END_HEADERS | END_STREAM, 3, GET),
        ];
        let http = play(&frames);
        assert_eq!(http.goaway, Some(GoAway { frame: 0, last: 1, code: 0 }));
        let unprocessed = |stream| http.is_unprocessed(&http.open[&stream]);
        assert!(!unprocessed(1) && unprocessed(3));
    }

    #[test]
    fn blocks_are_padded_prioritized_and_continued() {
        let padded: &[u8] = &[3, 0, 0, 0, 0, 7, 0x82, 0, 0, 0];
        let frames: [Frame<'_>; 3] = [
            (Client, HEADERS, PADDED | PRIORITY | END_STREAM, 1, padded),
            (Client, CONTINUATION, 0, 1, b"\x44"),
            (Client, CONTINUATION, END_HEADERS, 1, b"\x02/a"),
        ];
        assert_eq!(told(&play(&frames[..2])), "1/0 Begun/None ?");
        assert_eq!(told(&play(&frames)), "1/0 Complete/None GET /a");
        let pushed: [Frame<'_>; 2] = [
            (Server, PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02\x48\x03404"),
            (Server, HEADERS, END_HEADERS, 1, &[0xbe]),
        ];
        let http = play(&[&frames[..], &pushed[..]].concat());
        assert_eq!(told(&http), "1/0 Complete/Begun GET /a 404");
    }

    #[test]
    fn frames_of_unknown_types_are_no_part_of_any_exchange() {
        let long = vec![0; LONGEST_FOR_ALL as usize];
        let extensions: [Frame<'_>; 5] = [
            (Client, 16, 0, 0, b"\0\0\0\x01u=3"),
            (Client, 0x2a, 0xff, 0, b"hello"),
            (Server, 10, 0, 1, b"\0\x01xh2=\":443\""),
            (Server, 12, 0, 0, b""),
            (Server, 255, 1, 1, &long),
        ];
        let mut frames = vec![(Client, HEADERS, END_HEADERS | END_STREAM, 1, GET)];
        frames.extend(extensions);
        frames.push((Server, HEADERS, END_HEADERS | END_STREAM, 1, OK));
        assert_eq!(told(&play(&frames)), "1/1 Complete/Complete GET / 200");
        let longer = vec![0; long.len() + 1];
        assert!(play(&[(Client, 0x2a, 0, 0, &longer)]).is_lost());
    }

    #[test]
    fn nothing_stands_between_the_frames_of_a_block() {
        let begun = (Client, HEADERS, END_STREAM, 1, GET);
        let rest: Frame<'_> = (Client, CONTINUATION, END_HEADERS, 1, b"");
        assert!(!play(&[begun, (Server, 0x2a, 0, 0, b""), rest]).is_lost());
        for between in [
            (Client, 0x2a, 0, 0, &b"x"[..]),
            (Client, DATA, 0, 1, b"x"),
            (Client, 4, 0, 0, b""),
        ] {
            assert!(play(&[begun, between, rest]).is_lost(), "{between:?}");
        }
        assert!(play(&[begun, (Client, CONTINUATION, END_HEADERS, 3, b"")]).is_lost());
        assert!(play(&[rest]).is_lost(), "what continues nothing");
    }

    #[test]
    fn an_identifier_is_the_requests_or_else_the_responses() {
        let with_id = |begin: &[u8], id: &str| {
            [begin, b"\x40\x0cx-request-id", &[id.len() as u8], id.as_bytes()].concat()
        };
        let (asked, answered) = (with_id(GET, "1-2.3.4.5"), with_id(OK, "other"));
        for (request, wanted) in [(&asked[..], "1-2.3.4.5"), (GET, "other")] {
            let http = play(&[
                (Client, HEADERS, END_HEADERS | END_STREAM, 1, request),
                (Server, HEADERS, END_HEADERS | END_STREAM, 1, &answered),
            ]);
            let exchange = http.exchange().unwrap();
            assert_eq!(exchange.id, http::id_hash(wanted.as_bytes()));
            assert!(exchange.clients.is_empty());
        }
    }

    #[test]
    fn a_field_that_may_be_there_once_is_not_chosen_from_two() {
        let asked = |block: &[u8]| {
            told(&play(&[(Client, HEADERS, END_HEADERS | END_STREAM, 1, block)]))
        };
        assert_eq!(asked(b"\x82\x44\x02/a"), "1/0 Complete/None GET /a");
        assert_eq!(asked(b"\x82\x44\x02/a\x04\x02/b"), "1/0 Complete/None ?");
        assert_eq!(asked(b"\x82\x83\x84"), "1/0 Complete/None ?");
    }

    /// A path of this length, literally and into the table: 0x44, the length, its bytes.
    fn long_path(length: usize, fill: &str) -> Vec<u8> {
        let mut block = vec![0x82, 0x44, 0x7f];
        let mut rest = length - 127;
        while rest >= 128 {
            block.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        block.push(rest as u8);
        block.push(b'/');
        block.extend(fill.bytes().cycle().take(length - 1));
        block
    }

    #[test]
    fn requests_that_a_byte_repeats_do_not_take_more_and_more_memory() {
        let first = long_path(2000, "a");
        let mut frames: Vec<Frame<'_>> =
            vec![(Client, HEADERS, END_HEADERS | END_STREAM, 1, &first)];
        let again =
            |n| (Client, HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &[0x82, 0xbe][..]);
        frames.extend((1..limits::PIPELINED as u32).map(again));
        let mut http = play(&frames);
        assert_eq!(http.open.len(), limits::PIPELINED);
        let texts: Vec<_> = http.open.values().flat_map(|e| e.request.as_deref()).collect();
        assert_eq!(texts.len(), limits::REQUESTS / 2004);
        assert!(texts.iter().all(|text| text.len() == 2004));
        assert!(http.open[&1].request.is_some() && http.open[&511].request.is_none());
        // One that is answered makes room for the next.
        let answered = frame(HEADERS, END_HEADERS | END_STREAM, 1, OK);
        http.take(Server, 0, Piece::Data(&answered));
        let next = frame(HEADERS, END_HEADERS | END_STREAM, 513, &[0x82, 0xbe]);
        http.take(Client, 1 << 20, Piece::Data(&next));
        assert!(http.open[&513].request.is_some());
    }

    #[test]
    fn of_a_long_request_whole_characters_are_kept() {
        for (fill, kept) in [("a", 2048), ("\u{e9}", 2047)] {
            let block = long_path(6001, fill);
            let http = play(&[(Client, HEADERS, END_HEADERS | END_STREAM, 1, &block)]);
            let request = http.exchange().and_then(|e| e.request.as_deref()).map(str::len);
            assert_eq!(request, Some(kept), "{fill}");
        }
        let http = play(&[(Client, HEADERS, END_HEADERS, 1, &long_path(200, "\u{e9}"))]);
        assert_eq!(told(&http), "1/0 Begun/None ?", "its last character is cut by itself");
    }

    #[test]
    fn a_block_that_is_lost_takes_the_text_of_later_ones_along() {
        let mut http = play(&[]);
        let first = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82\x44\x02/a");
        let second = frame(HEADERS, END_HEADERS | END_STREAM, 3, &[0x82, 0xbe]);
        http.take(Client, 24, Piece::Data(&first[..11]));
        http.take(Client, 35, Piece::Missing(2));
        http.take(Client, 37, Piece::Data(&first[13..]));
        http.take(Client, 38, Piece::Data(&second));
        assert_eq!(told(&http), "2/0 Complete/None ?");
        assert!(!http.is_lost());
        http.take(Server, 0, Piece::Data(&frame(HEADERS, END_HEADERS, 3, &[0xff])));
        assert_eq!(told(&http), "2/0 Complete/Lost ?", "it may have been an interim one");
        http.take(Server, 10, Piece::Data(&frame(DATA, 0, 3, b"x")));
        assert_eq!(told(&http), "2/0 Complete/Begun ?");
    }

    #[test]
    fn a_response_that_ends_before_its_length_is_not_complete() {
        let ended = |request, length| {
            let body = vec![0; length];
            let frames: [Frame<'_>; 3] = [
                (Client, HEADERS, END_HEADERS | END_STREAM, 1, request),
                (Server, HEADERS, END_HEADERS, 1, OK_10),
                (Server, DATA, END_STREAM, 1, &body),
            ];
            let http = play(&frames);
            (http.completed, http.exchange().and_then(|e| e.given_up).map(|g| g.by))
        };
        assert_eq!(ended(GET, 10), (1, None));
        assert_eq!(ended(GET, 9), (0, Some(Server)));
        assert_eq!(ended(HEAD, 0), (1, None));
    }

    #[test]
    fn missing_bytes_inside_a_payload_are_passed_over() {
        let mut http = play(&[]);
        let data = frame(DATA, 0, 1, &[0; 100]);
        http.take(Server, 0, Piece::Data(&data[..20]));
        http.take(Server, 20, Piece::Missing(50));
        assert!(!http.is_lost());
        http.take(Server, 70, Piece::Missing(50));
        assert!(http.is_lost());
    }
}
