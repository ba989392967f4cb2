// SPDX-License-Identifier: GPL-2.0-or-later
//! Progress of HTTP/1.x on a connection, byte by byte, and of uwsgi and SCGI, whose requests are
//! worded otherwise.
//!
//! Only the framing is followed: where a message begins, how long its head and body are, and
//! which response belongs to which request (RFC 9112). Bodies are counted, never kept. The
//! host's own HTTP dissector shows a message when the whole of it is there; what a reset cuts
//! is by its nature not whole, so the framing is followed here.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::tcp::forwarded;
use crate::tcp::gateway::{self, Asked};
use crate::tcp::half::Piece;
use crate::tcp::stream::Side;

/// How far a message has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// Not one byte of it was sent.
    #[default]
    None,
    /// Begun, not complete.
    Begun,
    /// Complete.
    Complete,
    /// Begun, and its framing is lost, so nobody can tell where it ends.
    Lost,
    /// Begun, and the rest of its head is not in the capture. What the visible part promises has
    /// been sent, and nothing but the silence behind it tells that this was all.
    Cut,
}

/// One request and its response.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Exchange {
    serial: u64,
    kind: Kind,
    /// The request asks for another protocol (RFC 9110, section 7.8).
    upgrade: bool,
    /// `METHOD URI`, once the request line is there.
    pub request: Option<Rc<str>>,
    /// [`host_hash`] of the Host header.
    pub host: Option<u64>,
    /// [`id_hash`] of the X-Request-ID header, the request's or else the response's.
    pub id: Option<u64>,
    /// Addresses that its header names, one of which may be the client's.
    pub clients: Box<[IpAddr]>,
    /// How far the request has come.
    pub sent: Progress,
    /// How far the final response has come.
    pub answered: Progress,
    /// Status code of the final response.
    pub status: Option<u16>,
    /// Position of the request's first byte.
    pub request_start: i64,
    /// Position of the response's first byte.
    pub response_start: i64,
    /// Position behind the response's last byte, as far as its framing promises one.
    pub response_end: Option<i64>,
    /// Bytes of the response's head; 0 until all of it is there, and in other protocols than
    /// HTTP/1.x.
    pub head_len: u32,
    /// Interim responses came before it.
    pub interim: bool,
    /// What ends the response.
    pub ends_by: EndsBy,
    /// What the client had acknowledged of the server when its request began.
    pub heard: i64,
    /// The response stands in the capture before its request, which lies before this position.
    asked_before: Option<i64>,
    /// Silence behind a [cut](Progress::Cut) request tells that it is complete: it has no body.
    pub ends_in_silence: bool,
    /// Only the head of a response to an unseen request, which may be all of it (HEAD).
    pub may_be_whole: bool,
    /// Identifier of its HTTP/2 stream; 0 in HTTP/1.x.
    pub stream: u32,
    /// It was given up, and the connection goes on, as only HTTP/2 can.
    pub given_up: Option<GivenUp>,
    /// Bytes of an HTTP/2 response that its Content-Length promises and that are still to come.
    pub(crate) promised: Option<i64>,
    /// A response of HTTP/2 that has no body, whatever its Content-Length says.
    pub(crate) bodiless: bool,
}

/// How an exchange was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// Who did.
    pub by: Side,
    /// The error code of its RST_STREAM; `None` if it ended its part before what it promised.
    pub code: Option<u32>,
    /// The frame of the capture that told it.
    pub frame: u32,
}

impl Exchange {
    /// One whose request has begun.
    pub fn begun() -> Exchange {
        Exchange { sent: Progress::Begun, ..Exchange::default() }
    }

    /// Its status is one that accepts what was asked for, as far as it is seen.
    pub fn is_accepted(&self) -> bool {
        self.status.is_none_or(|status| status == 101 || (200..300).contains(&status))
    }

    /// An answer with this status tells that its request was complete, which is cut, where silence
    /// would have told it, but for the statuses by which servers refuse to read on.
    fn was_whole(&self, status: u16) -> bool {
        let is_told = self.sent == Progress::Cut && self.ends_in_silence;
        is_told && !matches!(status, 400 | 408 | 413 | 414 | 431)
    }

    /// One of HTTP/2, of which nothing has been seen so far.
    pub fn of_stream(stream: u32) -> Exchange {
        Exchange { stream, ..Exchange::default() }
    }
}

/// What ends a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndsBy {
    /// Its head or its length, which is known from the beginning.
    #[default]
    Length,
    /// A last, empty chunk.
    LastChunk,
    /// FastCGI's last record.
    LastRecord,
    /// The server's FIN.
    Close,
}

/// What a request's method means for the framing of its response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Head,
    Connect,
    #[default]
    Other,
}

impl Kind {
    fn of(method: &str) -> Kind {
        match method {
            "HEAD" => Kind::Head,
            "CONNECT" => Kind::Connect,
            _ => Kind::Other,
        }
    }
}

/// How messages are worded. What a gateway is asked in has one exchange on a connection, and its
/// answer is one of HTTP/1.x or CGI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dialect {
    /// HTTP/1.x
    #[default]
    Http,
    /// The uwsgi protocol.
    Uwsgi,
    /// The Simple Common Gateway Interface.
    Scgi,
}

impl Dialect {
    /// Whether messages can be told apart wherever one begins, and follow each other.
    fn goes_on(self) -> bool {
        self == Dialect::Http
    }

    /// Where a request's head ends, if it does so behind `from`.
    fn request_head_end(self, bytes: &[u8], from: usize) -> Option<usize> {
        match self {
            Dialect::Http => find_head_end(bytes, from),
            Dialect::Uwsgi => gateway::uwsgi_end(bytes),
            Dialect::Scgi => gateway::scgi_end(bytes),
        }
    }

    fn parse_request(self, head: &[u8]) -> Option<RequestHead> {
        match self {
            Dialect::Http => parse_head(head, parse_request),
            Dialect::Uwsgi => asked_for(gateway::uwsgi_request(head)?),
            Dialect::Scgi => asked_for(gateway::scgi_request(head)?),
        }
    }

    fn parse_cut_request(self, head: &[u8]) -> Option<CutRequest> {
        match self {
            Dialect::Http => parse_cut_request(head),
            Dialect::Uwsgi => cut_variables(gateway::uwsgi_cut(head)?),
            Dialect::Scgi => cut_variables(gateway::scgi_cut(head)?),
        }
    }

    fn parse_response(self, head: &[u8]) -> Option<ResponseHead> {
        match self {
            Dialect::Http => parse_head(head, parse_response),
            Dialect::Uwsgi | Dialect::Scgi => parse_answer(head),
        }
    }
}

/// What a connection is switched to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Next {
    /// A WebSocket.
    WebSocket,
    /// HTTP/2, in which the response to the request will come.
    Http2,
    /// Whatever its first bytes say.
    Anything,
    /// Nobody is seen to have asked for it, so nobody can tell.
    Unknown,
}

/// The HTTP/1.x conversation of one connection.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Http {
    dialect: Dialect,
    requests: Reader,
    responses: Reader,
    /// Exchanges without a complete response, oldest first.
    open: VecDeque<Exchange>,
    /// The exchange that was completed last.
    last: Option<Exchange>,
    /// Requests that were begun.
    pub begun: u64,
    /// Responses that are complete.
    pub completed: u64,
    /// A 101, or a 2xx to CONNECT: what follows is this, and no HTTP/1.x.
    pub next: Option<Next>,
    /// What the client has acknowledged of the server.
    heard: i64,
    /// Which of the requests so far are answered, nobody can tell.
    unpaired: bool,
    /// Nor of those that begin before this position, wherever they stand in the capture.
    unpaired_before: Option<i64>,
    /// What is answered now may have been asked by bytes before this position, not seen yet.
    unseen: Option<i64>,
    /// Like [`Exchange::asked_before`], of responses that others have followed since.
    answered_early: VecDeque<i64>,
    /// Bytes are not in the capture that may hold whole messages.
    has_hidden: bool,
    /// The client's bytes that are not in the capture are enough for several requests.
    is_crowded: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Reader {
    state: State,
    /// Serial of the exchange that the message belongs to.
    serial: u64,
    /// The framing was lost at some time, so that messages may have been missed.
    missed: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
enum State {
    /// Between messages.
    #[default]
    Idle,
    /// In a message head: its bytes so far.
    Head(Vec<u8>),
    /// In a body of known length: bytes that are still to come.
    Length(u64),
    /// In a chunked body.
    Chunked(Chunk),
    /// In a body that the end of the connection ends.
    UntilClose,
    /// In a message whose head is cut: bytes that are still to come at the least.
    Cut(u64),
    /// Out of step, after bytes that the capture lacks or that are no HTTP.
    Lost,
}

/// Where in a chunked body the stream stands (RFC 9112, section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Chunk {
    /// In the size's digits: its value, once there is a digit.
    Size(Option<u64>),
    /// Behind the digits, in an extension or the line end.
    SizeEnd(u64),
    /// In the data: bytes to come.
    Data(u64),
    /// In the line end behind the data: whether its CR is there.
    DataEnd(bool),
    /// In a trailer line: whether it has a byte yet.
    Trailer(bool),
}

impl Chunk {
    const START: Chunk = Chunk::Size(None);
    const DATA_END: Chunk = Chunk::DataEnd(false);

    /// Behind bytes that the capture lacks, if they are all data.
    fn past(self, count: u64) -> Option<Chunk> {
        let Chunk::Data(left) = self else { return None };
        let left = left.checked_sub(count)?;
        Some(if left == 0 { Chunk::DATA_END } else { Chunk::Data(left) })
    }
}

/// What a head says of the body behind it.
#[derive(Default)]
enum Framing {
    #[default]
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

impl Http {
    /// A conversation in this dialect.
    pub fn speaking(dialect: Dialect) -> Http {
        Http { dialect, ..Http::default() }
    }

    /// A conversation that the capture joins in the middle: the first message that is
    /// recognized in each direction is where it starts.
    pub fn mid_stream() -> Http {
        let lost = || Reader { state: State::Lost, serial: 0, missed: true };
        Http { requests: lost(), responses: lost(), ..Http::default() }
    }

    /// A conversation of which the server's first response is the beginning: what it answers was
    /// no request.
    pub fn answering() -> Http {
        Http { responses: Reader::default(), ..Http::mid_stream() }
    }

    /// The exchange that is open, else the one that was completed last.
    pub fn exchange(&self) -> Option<&Exchange> {
        self.open.front().or(self.last.as_ref())
    }

    /// Whether the framing of requests, or of responses, is lost at this moment.
    pub fn is_lost(&self) -> bool {
        matches!(self.requests.state, State::Lost)
            || matches!(self.responses.state, State::Lost)
    }

    /// Whether bytes that are not in the capture may hold a request behind the last one.
    pub fn hides_requests(&self) -> bool {
        (self.has_hidden || self.is_crowded) && matches!(self.requests.state, State::Lost)
    }

    /// Requests wait for their turn behind that of [`Http::exchange`].
    pub fn is_pipelined(&self) -> bool {
        self.open.len() > 1
    }

    /// Requests were seen, and nobody can tell which of them is answered by what follows.
    pub fn is_unpaired(&self) -> bool {
        self.unpaired
    }

    /// Messages of this side may have been missed.
    pub fn has_missed(&self, side: Side) -> bool {
        // Who asked for a switch that is not seen to be asked for may have asked before.
        let is_switched = self.next.is_some() && self.begun == 0;
        let answers = |exchange: &Exchange| exchange.sent != Progress::None;
        let is_unseen = self.begun == 0 && self.exchange().is_some_and(answers);
        self.has_hidden
            || is_switched
            || is_unseen && side == Side::Client
            || self.reader(side).missed
    }

    fn reader(&self, side: Side) -> &Reader {
        match side {
            Side::Client => &self.requests,
            Side::Server => &self.responses,
        }
    }

    /// What is there of the first request's head, before it is known to be one.
    pub fn first_head(&self) -> Option<&[u8]> {
        match &self.requests.state {
            State::Head(head) => Some(head),
            State::Idle if self.begun == 0 => Some(&[]),
            _ => None,
        }
    }

    /// Takes the next piece that the client sent, and its position. `heard`: the client has
    /// received what the server sent up to there.
    pub fn client(&mut self, at: i64, piece: Piece<'_>, heard: i64) {
        self.heard = heard;
        match piece {
            Piece::Data(bytes) => self.request_bytes(at, bytes),
            Piece::Missing(count) => self.request_missing(at, count),
        }
    }

    /// Takes the next piece that the server sent, and its position. `unseen`: the server has
    /// received bytes of the client, up to this position, that were not seen so far. Returns
    /// what is behind the head by which the connection is [switched](Http::next).
    pub fn server<'a>(&mut self, at: i64, piece: Piece<'a>, unseen: Option<i64>) -> &'a [u8] {
        self.unseen = unseen;
        match piece {
            Piece::Data(bytes) => self.response_bytes(at, bytes),
            Piece::Missing(count) => {
                self.response_missing(at, count);
                &[]
            }
        }
    }

    /// Whether all that the client has sent are requests that were answered.
    pub fn is_settled(&self) -> bool {
        matches!(self.requests.state, State::Idle) && self.open.is_empty()
    }

    /// Takes out the exchange that is answered in HTTP/2.
    pub fn take_upgraded(&mut self) -> Option<Exchange> {
        self.open.pop_front()
    }

    /// The server sent its FIN here: this completes a response that lasts until the close.
    pub fn server_end(&mut self, at: i64) {
        if matches!(self.responses.state, State::UntilClose) {
            self.complete_response(at);
        }
    }

    // ---- Requests ------------------------------------------------------------------------

    fn request_bytes(&mut self, at: i64, mut bytes: &[u8]) {
        if self.next.is_some() {
            return;
        }
        let end = at + bytes.len() as i64;
        let goes_on = self.dialect.goes_on();
        match self.requests.state {
            State::Lost if goes_on && starts_request(bytes) => {
                // What was open before the loss can't be told from what is open now, save what
                // is just being answered.
                self.open.retain(|exchange| exchange.answered == Progress::Begun);
                self.requests.state = State::Idle;
            }
            State::Cut(0) if goes_on && shows_request(bytes) => {
                self.requests.state = State::Idle;
            }
            _ => {}
        }
        while !bytes.is_empty() {
            match &mut self.requests.state {
                State::Idle => {
                    // Empty lines before a request are no part of it (RFC 9112, section 2.2).
                    bytes = skip_line_ends(bytes);
                    if bytes.is_empty() {
                        return;
                    }
                    let begins =
                        if goes_on { may_start_request(bytes) } else { self.begun == 0 };
                    match begins {
                        true => self.begin_request(end - bytes.len() as i64),
                        // Nor is what stands before it in the capture an answer to one.
                        false if self.begun == 0 => return self.forget(),
                        false => self.lose_requests(),
                    }
                }
                State::Head(head) => {
                    let end_of = |head: &_, from| self.dialect.request_head_end(head, from);
                    let Some((whole, rest)) = take_head(head, bytes, end_of) else {
                        if head.len() >= limits::HEAD {
                            return self.lose_requests();
                        }
                        let ends_line = goes_on && memchr::memchr(b'\n', bytes).is_some();
                        let line = if ends_line { request_line(head) } else { None };
                        // A whole line without a version is none of HTTP/1.x.
                        if ends_line && line.is_none() {
                            return self.lose_requests();
                        }
                        return self.note_request(line);
                    };
                    bytes = rest;
                    self.end_request_head(&whole);
                }
                State::Length(left) => {
                    bytes = take_length(left, bytes);
                    if *left == 0 {
                        self.complete_request();
                    }
                }
                State::Chunked(chunk) => match take_chunks(chunk, bytes) {
                    Chunks::More => return,
                    Chunks::End(rest) => {
                        bytes = rest;
                        self.complete_request();
                    }
                    Chunks::Bad => self.lose_requests(),
                },
                State::Cut(_) => return self.pass_cut_request(bytes.len() as u64),
                State::Lost => return self.pass_unread_request(end - bytes.len() as i64),
                State::UntilClose => return,
            }
        }
    }

    fn request_missing(&mut self, at: i64, count: u64) {
        if self.next.is_some() {
            return;
        }
        match &mut self.requests.state {
            State::Length(left) if *left >= count => {
                *left -= count;
                if *left == 0 {
                    self.complete_request();
                }
            }
            State::Chunked(chunk) => match chunk.past(count) {
                Some(next) => *chunk = next,
                None => self.miss_requests(),
            },
            State::Head(head) => {
                let head = std::mem::take(head);
                if self.cut_request(&head) {
                    self.request_missing(at, count);
                }
            }
            State::Cut(_) => self.pass_cut_request(count),
            State::Idle => {
                self.is_crowded |= count >= 2 * SHORTEST_REQUEST;
                self.begin_request(at);
                self.lose_requests();
            }
            State::Lost => self.pass_unread_request(at),
            State::Length(_) | State::UntilClose => self.miss_requests(),
        }
    }

    /// The capture lacks the rest of this request's head. Tells whether it certainly is one.
    fn cut_request(&mut self, head: &[u8]) -> bool {
        let Some(cut) = self.dialect.parse_cut_request(head) else {
            self.has_hidden = true;
            self.disown_request();
            return false;
        };
        let framing = self.note_head(cut.head);
        self.requests.state = match (framing, cut.left) {
            (Framing::Length(body), Some(left)) => State::Length(left.saturating_add(body)),
            (Framing::Length(body), None) => State::Cut(body.saturating_add(1)),
            (_, left) => State::Cut(left.unwrap_or(1)),
        };
        self.has_hidden |= matches!(self.requests.state, State::Cut(_));
        if let Some(exchange) = self.requested() {
            exchange.ends_in_silence = cut.ends_in_silence;
        }
        true
    }

    /// What has begun is not known to be a request.
    fn disown_request(&mut self) {
        let serial = self.requests.serial;
        self.begun -= 1;
        self.open.retain(|exchange| exchange.serial != serial);
        self.requests.state = State::Lost;
    }

    /// Passes over bytes behind a head that is cut. Once there is an answer, they may be the rest
    /// of that request or another one.
    fn pass_cut_request(&mut self, count: u64) {
        let State::Cut(left) = &mut self.requests.state else { return };
        let was_all = *left == 0;
        *left = left.saturating_sub(count);
        let is_all = *left == 0;
        let is_alone = !self.dialect.goes_on();
        match self.requested() {
            Some(exchange) if was_all && exchange.answered != Progress::None => self.forget(),
            Some(exchange) if is_all && exchange.sent == Progress::Begun => {
                // Without its version, a line that looks like a request may be one of a log.
                exchange.sent = match exchange.request {
                    Some(_) => Progress::Cut,
                    None => Progress::Lost,
                };
                // Its answer, which was seen before, is that to no other one.
                if is_alone && exchange.status.is_some_and(|status| exchange.was_whole(status))
                {
                    self.complete_request();
                }
            }
            _ => {}
        }
    }

    /// Passes over bytes that nobody can read. Where heads were cut, they may be another request
    /// than the one that is answered, unless the answer tells of what came before it.
    fn pass_unread_request(&mut self, at: i64) {
        let is_late = |exchange: &Exchange| exchange.asked_before.is_some_and(|by| by > at);
        let last = self.open.back().or(self.last.as_ref());
        let answered = last.filter(|e| e.answered != Progress::None);
        if self.has_hidden && answered.is_some_and(|exchange| !is_late(exchange)) {
            self.forget();
        }
    }

    /// Which exchange goes on from here, nobody can tell.
    fn forget(&mut self) {
        self.open.clear();
        self.last = None;
        self.requests.state = State::Lost;
        self.responses.state = State::Lost;
    }

    /// The answer tells that its request was complete.
    fn end_cut_request(&mut self, status: u16) {
        let serial = self.requests.serial;
        let Some(exchange) = self.open.front_mut().filter(|e| e.serial == serial) else {
            return;
        };
        if exchange.was_whole(status) {
            exchange.sent = Progress::Complete;
            self.requests.state = State::Idle;
        }
    }

    fn begin_request(&mut self, at: i64) {
        self.begun += 1;
        self.unpaired &= self.unpaired_before.is_some_and(|before| before > at);
        self.requests.serial = self.begun;
        self.requests.state = State::Head(Vec::new());
        if matches!(self.responses.state, State::Cut(0)) {
            self.end_cut_response();
        }
        if self.unpaired {
            return;
        }
        let serial = self.begun;
        while let Some(asked_before) = self.answered_early.pop_front() {
            if asked_before > at {
                return;
            }
        }
        if let Some(exchange) = self.answered_before(at) {
            (exchange.serial, exchange.sent) = (serial, Progress::Begun);
            exchange.request_start = at;
        } else if self.open.len() < limits::PIPELINED {
            // It is what was answered by that which nobody can read.
            let is_answered = self.unseen.is_some_and(|before| before > at)
                && matches!(self.responses.state, State::Lost);
            self.open.push_back(Exchange {
                answered: if is_answered { Progress::Lost } else { Progress::None },
                serial,
                sent: Progress::Begun,
                request_start: at,
                heard: self.heard,
                ..Exchange::default()
            });
        }
    }

    /// The exchange whose response stands in the capture before a request that begins here.
    fn answered_before(&mut self, at: i64) -> Option<&mut Exchange> {
        let is_before = |e: &&mut Exchange| {
            e.serial == 0 && e.asked_before.is_some_and(|before| before > at)
        };
        let last = self.last.as_mut().filter(is_before);
        last.or(self.open.front_mut().filter(is_before))
    }

    /// The request line tells what is asked for before the head is complete.
    fn note_request(&mut self, line: Option<Rc<str>>) {
        if let (Some(line), Some(exchange)) = (line, self.requested()) {
            exchange.request = Some(line);
        }
    }

    fn end_request_head(&mut self, head: &[u8]) {
        let Some(request) = self.dialect.parse_request(head) else {
            self.note_request(request_line(head));
            return self.lose_requests();
        };
        match self.note_head(request) {
            Framing::Length(length) if length > 0 => {
                self.requests.state = State::Length(length);
            }
            Framing::Chunked => self.requests.state = State::Chunked(Chunk::START),
            _ => self.complete_request(),
        }
    }

    fn note_head(&mut self, request: RequestHead) -> Framing {
        if let Some(exchange) = self.requested() {
            exchange.kind = request.kind;
            exchange.upgrade = request.upgrade;
            exchange.request = request.text;
            exchange.host = request.host;
            exchange.id = request.id.or(exchange.id);
            exchange.clients = request.clients;
            // Its response was taken for one to a request of the usual kind.
            exchange.may_be_whole &= exchange.kind != Kind::Other;
            let misread = exchange.asked_before.is_some() && exchange.kind != Kind::Other;
            if misread && exchange.answered == Progress::Begun {
                self.lose_responses();
            }
        }
        request.framing
    }

    fn complete_request(&mut self) {
        self.requests.state = State::Idle;
        if let Some(exchange) = self.requested() {
            exchange.sent = Progress::Complete;
        }
    }

    /// The capture lacks bytes of the client that may hold anything.
    fn miss_requests(&mut self) {
        self.has_hidden = true;
        self.lose_requests();
    }

    fn lose_requests(&mut self) {
        (self.requests.state, self.requests.missed) = (State::Lost, true);
        if let Some(exchange) = self.requested() {
            if exchange.sent == Progress::Begun {
                exchange.sent = Progress::Lost;
            }
        }
    }

    /// The exchange whose request is being read; it may have its response already.
    fn requested(&mut self) -> Option<&mut Exchange> {
        let serial = self.requests.serial;
        let open = self.open.iter_mut().rev().find(|e| e.serial == serial);
        open.or(self.last.as_mut().filter(|e| e.serial == serial))
    }

    // ---- Responses -----------------------------------------------------------------------

    /// Takes bytes up to the head of a switch, and returns what is behind it.
    fn response_bytes<'a>(&mut self, mut at: i64, mut bytes: &'a [u8]) -> &'a [u8] {
        if self.next.is_some() {
            return &[];
        }
        let goes_on = self.dialect.goes_on();
        let is_lost = matches!(self.responses.state, State::Lost) && !self.unpaired;
        if is_lost && goes_on && starts_response(bytes) {
            // A server that loses patience answers nothing.
            match self.is_for_last(at) && !bytes.starts_with(b"HTTP/1.1 408") {
                true => {
                    let keep = self.open.len().saturating_sub(1);
                    self.open.drain(..keep);
                    self.responses.state = State::Idle;
                }
                false => {
                    (self.unpaired, self.unpaired_before) = (true, self.unseen);
                    self.forget();
                }
            }
        }
        if matches!(self.responses.state, State::Cut(0)) && goes_on && starts_response(bytes) {
            self.end_cut_response();
        }
        while !bytes.is_empty() {
            let before = bytes.len();
            self.settle_whole(at, bytes);
            match &mut self.responses.state {
                State::Idle => {
                    bytes = skip_line_ends(bytes);
                    if bytes.is_empty() {
                        return &[];
                    }
                    let begins =
                        if goes_on { may_start_response(bytes) } else { self.completed == 0 };
                    match begins {
                        true => self.begin_response(at + (before - bytes.len()) as i64),
                        false => self.lose_responses(),
                    }
                }
                State::Head(head) => {
                    let Some((head, rest)) = take_head(head, bytes, find_head_end) else {
                        let is_none = goes_on && !may_start_response(head);
                        if head.len() >= limits::HEAD || is_none {
                            self.lose_responses();
                        }
                        return &[];
                    };
                    bytes = rest;
                    self.end_response_head(at + (before - bytes.len()) as i64, &head);
                    if self.next.is_some() {
                        return bytes;
                    }
                }
                State::Length(left) => {
                    bytes = take_length(left, bytes);
                    if *left == 0 {
                        self.complete_response(at + (before - bytes.len()) as i64);
                    }
                }
                State::Chunked(chunk) => match take_chunks(chunk, bytes) {
                    Chunks::More => {
                        let end = at + before as i64 + least_to_come(chunk);
                        self.promise(end);
                        return &[];
                    }
                    Chunks::End(rest) => {
                        bytes = rest;
                        self.complete_response(at + (before - bytes.len()) as i64);
                    }
                    Chunks::Bad => self.lose_responses(),
                },
                State::UntilClose => return &[],
                State::Cut(_) => {
                    self.pass_cut_response(bytes.len() as u64);
                    return &[];
                }
                // Whether these bytes are a response, nobody can tell.
                State::Lost => {
                    self.lose_responses();
                    return &[];
                }
            }
            at += (before - bytes.len()) as i64;
        }
        &[]
    }

    /// Whether a response that begins here, after a loss, can only be for the last of the open
    /// requests: the client had not received it when it asked, and had received something since
    /// the request before.
    fn is_for_last(&self, at: i64) -> bool {
        let mut open = self.open.iter().rev().map(|exchange| exchange.heard);
        let Some(last) = open.next() else { return true };
        if self.unseen.is_some() {
            return false;
        }
        last <= at && open.next().is_none_or(|before| before < last)
    }

    fn response_missing(&mut self, at: i64, count: u64) {
        if self.next.is_some() {
            return;
        }
        self.settle_whole(at, b"");
        match &mut self.responses.state {
            State::Length(left) if *left >= count => {
                *left -= count;
                if *left == 0 {
                    self.complete_response(at.saturating_add_unsigned(count));
                }
            }
            State::Chunked(chunk) => match chunk.past(count) {
                Some(next) => *chunk = next,
                None => self.miss_responses(),
            },
            State::UntilClose => {}
            State::Head(head) => {
                let head = std::mem::take(head);
                self.cut_response(&head, count);
                self.pass_cut_response(count);
            }
            State::Cut(_) => self.pass_cut_response(count),
            State::Idle => {
                self.begin_response(at);
                self.lose_responses();
            }
            State::Length(_) | State::Lost => self.miss_responses(),
        }
    }

    /// The status line tells the status of a response that nobody can read on.
    fn note_status(&mut self, head: &[u8]) {
        let status = parse_cut_response(head).map(|cut| cut.status).filter(|&code| code >= 200);
        if let Some(exchange) = self.open.front_mut() {
            exchange.status = status;
        }
    }

    /// The capture lacks the rest of this response's head, in so many bytes.
    fn cut_response(&mut self, head: &[u8], count: u64) {
        self.has_hidden = true;
        let cut = parse_cut_response(head);
        let Some((cut, exchange)) = cut.zip(self.open.front_mut()) else {
            return self.lose_responses();
        };
        match cut.status {
            // Nobody sees where what comes next begins, which may be another request.
            200..=299 if exchange.kind == Kind::Connect => {
                self.next = Some(Next::Unknown);
                exchange.request = None;
                return exchange.answered = Progress::Lost;
            }
            101 => {
                self.next = Some(Next::Unknown);
                return exchange.answered = Progress::Lost;
            }
            100..=199 if count >= SHORTEST_HEAD => return self.lose_responses(),
            // The final response has not begun in so few bytes.
            100..=199 => {
                exchange.answered = Progress::None;
                exchange.interim = true;
                self.responses.state = State::Lost;
                return;
            }
            _ => {}
        }
        exchange.status = Some(cut.status);
        exchange.id = exchange.id.or(cut.id);
        // What an unseen request asked for may be a HEAD.
        let unseen = exchange.serial == 0;
        let bodiless = unseen || exchange.kind == Kind::Head || matches!(cut.status, 204 | 304);
        let length = cut.length.filter(|_| !bodiless).unwrap_or(0);
        self.responses.state = State::Cut(length.saturating_add(1));
        self.end_cut_request(cut.status);
    }

    /// Passes over bytes behind a head that is cut.
    fn pass_cut_response(&mut self, count: u64) {
        let State::Cut(left) = &mut self.responses.state else { return };
        *left = left.saturating_sub(count);
        let is_all = *left == 0;
        if let Some(exchange) = self.open.front_mut().filter(|_| is_all) {
            exchange.answered = match exchange.serial {
                // It may open a tunnel.
                0 => Progress::Lost,
                _ => Progress::Cut,
            };
        }
    }

    /// Another message begins, so this response has ended.
    fn end_cut_response(&mut self) {
        self.responses.state = State::Idle;
        if let Some(exchange) = self.open.pop_front() {
            self.retire(exchange);
        }
    }

    /// The capture lacks bytes of the server that may hold anything.
    fn miss_responses(&mut self) {
        self.has_hidden = true;
        self.lose_responses();
    }

    fn begin_response(&mut self, at: i64) {
        self.responses.state = State::Head(Vec::new());
        if self.open.is_empty() {
            // The answer to a request that the capture lacks, or shows later; else a response
            // to nothing, as a server sends it when it loses patience.
            let asked = self.unseen.is_some() || matches!(self.requests.state, State::Lost);
            if self.has_hidden && !asked {
                // It may answer a request behind a cut, and then that is the last one.
                self.last = None;
            }
            let sent = if asked { Progress::Lost } else { Progress::None };
            let asked_before = self.unseen;
            self.open.push_back(Exchange { sent, asked_before, ..Exchange::default() });
        }
        if let Some(exchange) = self.open.front_mut() {
            exchange.answered = Progress::Begun;
            exchange.response_start = at;
            exchange.response_end = None;
        }
    }

    fn end_response_head(&mut self, at: i64, head: &[u8]) {
        let Some(response) = self.dialect.parse_response(head) else {
            self.note_status(head);
            return self.lose_responses();
        };
        let Some(exchange) = self.open.front_mut() else { return self.lose_responses() };
        exchange.id = exchange.id.or(response.id);
        let next = match response.status {
            101 if exchange.upgrade => Some(response.next),
            // It names the protocol that the hidden part of the request asked for.
            101 if exchange.sent == Progress::Cut && response.next != Next::Anything => {
                Some(response.next)
            }
            101 => Some(Next::Unknown),
            200..=299 if exchange.kind == Kind::Connect => Some(Next::Anything),
            _ => None,
        };
        if response.status < 200 && next.is_none() {
            // An interim response: the final one has not begun.
            exchange.answered = Progress::None;
            exchange.interim = true;
            self.responses.state = State::Idle;
            return;
        }
        self.next = next;
        self.end_cut_request(response.status);
        let Some(exchange) = self.open.front_mut() else { return };
        match next {
            None => {}
            // The response to the request is still to come.
            Some(Next::Http2) => return exchange.answered = Progress::None,
            Some(Next::Unknown) => {
                exchange.status = Some(response.status);
                return exchange.answered = Progress::Lost;
            }
            Some(Next::WebSocket | Next::Anything) => {
                exchange.status = Some(response.status);
                return self.complete_response(at);
            }
        }
        exchange.status = Some(response.status);
        exchange.head_len = u32::try_from(at - exchange.response_start).unwrap_or(0);
        let unseen = exchange.serial == 0 && exchange.sent == Progress::Lost;
        let bodiless = exchange.kind == Kind::Head || matches!(response.status, 204 | 304);
        match response.framing {
            _ if bodiless => self.complete_response(at),
            Framing::Length(0) => self.complete_response(at),
            Framing::Length(length) => {
                exchange.response_end = Some(at.saturating_add_unsigned(length));
                exchange.may_be_whole = unseen;
                self.responses.state = State::Length(length);
            }
            Framing::Chunked => {
                exchange.ends_by = EndsBy::LastChunk;
                exchange.may_be_whole = unseen;
                self.responses.state = State::Chunked(Chunk::START);
            }
            // The request may have been a CONNECT, and this a tunnel.
            Framing::None if unseen && (200..300).contains(&response.status) => {
                self.next = Some(Next::Unknown);
                exchange.answered = Progress::Lost;
            }
            Framing::None | Framing::UntilClose => {
                exchange.ends_by = EndsBy::Close;
                self.responses.state = State::UntilClose;
            }
        }
    }

    /// What follows the head of a response to an unseen request is its body, unless another
    /// response begins there: then the head was all of it.
    fn settle_whole(&mut self, at: i64, bytes: &[u8]) {
        let Some(exchange) = self.open.front_mut().filter(|e| e.may_be_whole) else { return };
        exchange.may_be_whole = false;
        if starts_response(bytes) {
            self.complete_response(at);
        }
    }

    fn complete_response(&mut self, at: i64) {
        self.responses.state = State::Idle;
        self.completed += 1;
        if let Some(mut exchange) = self.open.pop_front() {
            exchange.answered = Progress::Complete;
            exchange.response_end = Some(at);
            exchange.may_be_whole = false;
            self.retire(exchange);
        }
    }

    /// Makes this exchange the last one. What answers no request does not hide one that was.
    fn retire(&mut self, exchange: Exchange) {
        if exchange.sent != Progress::None || self.last.is_none() {
            let before = self.last.replace(exchange).filter(|before| before.serial == 0);
            let asked_before = before.and_then(|before| before.asked_before);
            if self.answered_early.len() < limits::PIPELINED {
                self.answered_early.extend(asked_before);
            }
        }
    }

    fn promise(&mut self, end: i64) {
        if let Some(exchange) = self.open.front_mut() {
            exchange.response_end = Some(end);
        }
    }

    fn lose_responses(&mut self) {
        (self.responses.state, self.responses.missed) = (State::Lost, true);
        if let Some(exchange) = self.open.front_mut() {
            exchange.answered = Progress::Lost;
        }
    }
}

/// What the first line of a client says of its protocol, as far as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opening {
    /// A request line, whole.
    Request,
    /// A method of HTTP and the beginning of a target: other protocols hardly have such lines.
    Likely,
    /// An upper-case word, with which lines of many protocols begin.
    Possible,
    /// No request line.
    Else,
}

/// What the bytes that a client sends first say.
pub fn opening(bytes: &[u8]) -> Opening {
    let bytes = skip_line_ends(bytes);
    if !may_start_request(bytes) {
        return Opening::Else;
    }
    if let Some(end) = memchr::memchr(b'\n', bytes) {
        let line = bytes[..end].trim_ascii_end();
        let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        return match version {
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9'] => Opening::Request,
            _ => Opening::Else,
        };
    }
    match cut_request_line(bytes) {
        Some(_) => Opening::Likely,
        None => Opening::Possible,
    }
}

/// A longer upper-case word is no method of anybody.
pub const LONGEST_METHOD: usize = 32;

/// Whether these bytes can be the start of a request: an upper-case method, as far as it is
/// there.
fn may_start_request(bytes: &[u8]) -> bool {
    let bytes = skip_line_ends(bytes);
    let method = bytes.iter().take_while(|b| b.is_ascii_uppercase() || **b == b'-').count();
    match bytes.get(method) {
        Some(b' ') => {
            (1..=LONGEST_METHOD).contains(&method) && !bytes.starts_with(b"PRI * HTTP/2")
        }
        Some(_) => false,
        None => method <= LONGEST_METHOD,
    }
}

/// Whether these bytes start with a request line, whole and beyond doubt: what it asks for has a
/// form of its own (RFC 9112, section 3.2), and lines of other protocols may end in a version, too.
pub fn starts_request(bytes: &[u8]) -> bool {
    let words = skip_line_ends(bytes).split(|byte| *byte == b' ');
    let mut words = words.filter(|word| !word.is_empty());
    let (method, target) = (words.next(), words.next().unwrap_or_default());
    let is_target = match method {
        Some(b"CONNECT") => true,
        _ => {
            matches!(target, [b'/' | b'*', ..])
                || memchr::memmem::find(target, b"://").is_some()
        }
    };
    is_target && opening(bytes) == Opening::Request
}

/// Whether a request certainly starts with these bytes, though its first line may be cut.
fn shows_request(bytes: &[u8]) -> bool {
    starts_request(bytes) || cut_request_line(bytes).is_some()
}

/// Methods of which requests have no body, save by an odd wish, and others that HTTP is known by
/// (RFC 9110, section 9.3; RFC 5789; RFC 4918).
const WITHOUT_CONTENT: &[&str] = &["GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "CONNECT"];
const WITH_CONTENT: &[&str] = &[
    "POST",
    "PUT",
    "PATCH",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
];

/// The method of a request line that is cut, if it is certainly one: other protocols have
/// capital words, too.
fn cut_request_line(bytes: &[u8]) -> Option<&'static str> {
    let space =
        memchr::memchr(b' ', bytes).filter(|_| memchr::memchr(b'\n', bytes).is_none())?;
    let (method, target) = (&bytes[..space], &bytes[space + 1..]);
    let known = WITHOUT_CONTENT.iter().chain(WITH_CONTENT);
    let method = known.copied().find(|known| known.as_bytes() == method)?;
    let is_target = match method {
        "CONNECT" => target.first().is_some_and(u8::is_ascii_alphanumeric),
        _ => [&b"/"[..], b"http://", b"https://"].iter().any(|form| target.starts_with(form)),
    };
    let is_text = !target.trim_ascii_end().iter().any(u8::is_ascii_control);
    // Behind the target, as far as it is there, nothing but the version follows.
    let mut behind = target.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).skip(1);
    let is_versioned = behind.next().is_none_or(may_start_version) && behind.next().is_none();
    (is_target && is_text && is_versioned).then_some(method)
}

/// Whether these bytes start with a status line.
pub fn starts_response(bytes: &[u8]) -> bool {
    bytes.starts_with(STATUS_LINE)
}

/// Whether the first bytes of a server are a response of HTTP; `None` if they are too few to tell.
pub fn answers(bytes: &[u8]) -> Option<bool> {
    let is_short = bytes.len() < STATUS_LINE.len() && may_start_response(bytes);
    (!is_short).then(|| starts_response(bytes))
}

/// Whether these bytes can be the start of a status line, as far as it is there.
fn may_start_response(bytes: &[u8]) -> bool {
    may_start_version(bytes)
}

/// Whether these bytes can be a version of HTTP/1.x, or start with one, as far as it is there.
fn may_start_version(bytes: &[u8]) -> bool {
    let length = bytes.len().min(STATUS_LINE.len());
    bytes[..length] == STATUS_LINE[..length]
}

/// Bytes of the shortest request.
const SHORTEST_REQUEST: u64 = b"GET / HTTP/1.0\r\n\r\n".len() as u64;

/// Bytes of the shortest head that a response can have.
const SHORTEST_HEAD: u64 = b"HTTP/1.1 200\r\n\r\n".len() as u64;

/// How a status line starts.
const STATUS_LINE: &[u8] = b"HTTP/1.";

/// A hash of a Host header that does not tell upper from lower case. Never 0 by accident of
/// an empty name: an empty name has a hash like any other.
pub fn host_hash(host: &[u8]) -> u64 {
    let host = host.trim_ascii();
    let lower = match host.iter().any(u8::is_ascii_uppercase) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    };
    let mut hasher = DefaultHasher::new();
    lower.hash(&mut hasher);
    hasher.finish()
}

/// A hash of `METHOD URI`, as far as the machine that follows streams keeps them.
pub fn request_hash(request: &[u8]) -> u64 {
    hash_joined(&[request])
}

/// [`request_hash`] of a request whose method and target are apart.
pub fn request_line_hash(method: &[u8], target: &[u8]) -> u64 {
    hash_joined(&[method, b" ", target])
}

/// A hash of what these make together: to the hasher they are one stream.
fn hash_joined(parts: &[&[u8]]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut room = limits::REQUEST;
    for part in parts {
        let part = &part[..part.len().min(room)];
        room -= part.len();
        hasher.write(part);
    }
    hasher.finish()
}

/// A hash of a request's identifier, by which proxies and servers know it; `None` if it is empty.
pub fn id_hash(id: &[u8]) -> Option<u64> {
    let id = Some(id.trim_ascii()).filter(|id| !id.is_empty())?;
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    Some(hasher.finish())
}

fn skip_line_ends(bytes: &[u8]) -> &[u8] {
    let blank = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    &bytes[blank..]
}

/// The whole head, and what is behind it, once its empty line is there. Until then the bytes
/// are added to `head`; a head that comes in one piece is not copied.
fn take_head<'a>(
    head: &mut Vec<u8>,
    bytes: &'a [u8],
    end_of: impl Fn(&[u8], usize) -> Option<usize>,
) -> Option<(Cow<'a, [u8]>, &'a [u8])> {
    if head.is_empty() {
        if let Some(end) = end_of(bytes, 0) {
            return Some((Cow::Borrowed(&bytes[..end]), &bytes[end..]));
        }
    }
    let old = head.len();
    let room = limits::HEAD.saturating_sub(old);
    head.extend_from_slice(&bytes[..bytes.len().min(room)]);
    // The empty line can straddle the old bytes and the new by three.
    let from = old.saturating_sub(3);
    let end = end_of(head, from)?;
    let mut whole = std::mem::take(head);
    whole.truncate(end);
    Some((Cow::Owned(whole), &bytes[end.saturating_sub(old)..]))
}

/// Where the empty line that ends a head ends, if it begins at or behind `from`.
fn find_head_end(bytes: &[u8], from: usize) -> Option<usize> {
    memchr::memchr_iter(b'\n', &bytes[from..]).find_map(|line_end| {
        let behind = from + line_end + 1;
        match &bytes[behind..] {
            [b'\n', ..] => Some(behind + 1),
            [b'\r', b'\n', ..] => Some(behind + 2),
            _ => None,
        }
    })
}

/// The head of an answer of CGI, once its empty line is there; until then `head` has its bytes.
pub fn take_answer_head<'a>(head: &mut Vec<u8>, bytes: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    take_head(head, bytes, find_head_end).map(|(head, _)| head)
}

fn take_length<'a>(left: &mut u64, bytes: &'a [u8]) -> &'a [u8] {
    let taken = (*left).min(bytes.len() as u64);
    *left -= taken;
    &bytes[taken as usize..]
}

enum Chunks<'a> {
    /// The body goes on.
    More,
    /// The body has ended; this is what is behind it.
    End(&'a [u8]),
    /// This is no chunked body.
    Bad,
}

fn take_chunks<'a>(chunk: &mut Chunk, mut bytes: &'a [u8]) -> Chunks<'a> {
    while let Some((&byte, rest)) = bytes.split_first() {
        if let Chunk::Data(left) = *chunk {
            let taken = left.min(bytes.len() as u64);
            bytes = &bytes[taken as usize..];
            *chunk = if taken == left { Chunk::DATA_END } else { Chunk::Data(left - taken) };
            continue;
        }
        bytes = rest;
        let digit = (byte as char).to_digit(16).map(u64::from);
        *chunk = match (*chunk, byte) {
            (Chunk::Size(size), _) if digit.is_some() => {
                let size = size.unwrap_or(0);
                if size >> 60 != 0 {
                    return Chunks::Bad;
                }
                Chunk::Size(Some(size << 4 | digit.unwrap_or(0)))
            }
            (Chunk::Size(Some(0)) | Chunk::SizeEnd(0), b'\n') => Chunk::Trailer(false),
            (Chunk::Size(Some(size)) | Chunk::SizeEnd(size), b'\n') => Chunk::Data(size),
            (Chunk::Size(Some(size)), b';' | b'\r' | b' ' | b'\t') => Chunk::SizeEnd(size),
            (Chunk::SizeEnd(size), _) => Chunk::SizeEnd(size),
            (Chunk::DataEnd(false), b'\r') => Chunk::DataEnd(true),
            (Chunk::DataEnd(_), b'\n') => Chunk::START,
            (Chunk::Trailer(false), b'\n') => return Chunks::End(bytes),
            (Chunk::Trailer(_), b'\n') => Chunk::Trailer(false),
            (Chunk::Trailer(text), b'\r') => Chunk::Trailer(text),
            (Chunk::Trailer(_), _) => Chunk::Trailer(true),
            _ => return Chunks::Bad,
        };
    }
    Chunks::More
}

/// Bytes that have to come at the least: the rest of this chunk and the last, empty one.
fn least_to_come(chunk: &Chunk) -> i64 {
    const LINE_END: i64 = 2;
    const LAST: i64 = 5;
    match *chunk {
        Chunk::Size(None) => LAST,
        Chunk::Size(Some(size)) | Chunk::SizeEnd(size) => {
            (LINE_END + LINE_END + LAST).saturating_add_unsigned(size)
        }
        Chunk::Data(left) => (LINE_END + LAST).saturating_add_unsigned(left),
        Chunk::DataEnd(_) => LINE_END + LAST,
        Chunk::Trailer(_) => LINE_END,
    }
}

// ---- Heads -------------------------------------------------------------------------------

#[derive(Default)]
struct RequestHead {
    kind: Kind,
    text: Option<Rc<str>>,
    host: Option<u64>,
    id: Option<u64>,
    clients: Box<[IpAddr]>,
    upgrade: bool,
    framing: Framing,
}

struct ResponseHead {
    status: u16,
    id: Option<u64>,
    /// What a 101 switches to.
    next: Next,
    framing: Framing,
}

/// As tolerant as servers and clients are: what is odd in a header line is no reason to lose
/// the framing.
fn tolerant() -> httparse::ParserConfig {
    let mut config = httparse::ParserConfig::default();
    config
        .allow_multiple_spaces_in_request_line_delimiters(true)
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_requests(true)
        .ignore_invalid_headers_in_responses(true);
    config
}

/// What a head says by the letter; else, unless that leaves its framing open, what tolerant
/// receivers read.
fn parse_head<T>(
    head: &[u8],
    parse: impl Fn(&[u8], &httparse::ParserConfig) -> Option<T>,
) -> Option<T> {
    let strictly = parse(head, &httparse::ParserConfig::default());
    strictly.or_else(|| parse(head, &tolerant()).filter(|_| !has_blurred_framing(head)))
}

fn parse_request(head: &[u8], config: &httparse::ParserConfig) -> Option<RequestHead> {
    let mut headers = [MaybeUninit::uninit(); limits::HEADERS];
    let mut request = httparse::Request::new(&mut []);
    config.parse_request_with_uninit_headers(&mut request, head, &mut headers).ok()?;
    let (method, target) = (request.method?, request.path?);
    let framing = match framing(request.headers, request.version?)? {
        // Where such a request ends, its server can't tell (RFC 9112, section 6.3).
        Framing::UntilClose => return None,
        framing => framing,
    };
    Some(RequestHead {
        kind: Kind::of(method),
        text: Some(kept(&[method, " ", target].concat())),
        host: header(request.headers, "host").map(host_hash),
        id: header(request.headers, "x-request-id").and_then(id_hash),
        clients: clients(request.headers),
        upgrade: header(request.headers, "upgrade").is_some(),
        framing,
    })
}

fn parse_response(head: &[u8], config: &httparse::ParserConfig) -> Option<ResponseHead> {
    let mut headers = [MaybeUninit::uninit(); limits::HEADERS];
    let mut response = httparse::Response::new(&mut []);
    config.parse_response_with_uninit_headers(&mut response, head, &mut headers).ok()?;
    let upgrade = header(response.headers, "upgrade").unwrap_or_default().trim_ascii();
    let is = |name: &str| upgrade.eq_ignore_ascii_case(name.as_bytes());
    let next = match () {
        () if is("websocket") => Next::WebSocket,
        () if is("h2c") => Next::Http2,
        () => Next::Anything,
    };
    let id = header(response.headers, "x-request-id").and_then(id_hash);
    let framing = framing(response.headers, response.version?)?;
    Some(ResponseHead { status: response.code?, id, next, framing })
}

/// What is visible of a request whose head is cut.
struct CutRequest {
    head: RequestHead,
    /// It has no body, by its method or by its head.
    ends_in_silence: bool,
    /// Bytes of its head behind the cut, where a length in front of it tells that.
    left: Option<u64>,
}

fn parse_cut_request(head: &[u8]) -> Option<CutRequest> {
    let Some(lines) = whole_lines(head) else {
        let method = cut_request_line(head)?;
        let head = RequestHead { kind: Kind::of(method), ..RequestHead::default() };
        let ends_in_silence = WITHOUT_CONTENT.contains(&method);
        return Some(CutRequest { head, ends_in_silence, left: None });
    };
    let head = parse_head(&lines, parse_request)?;
    let method = lines.split(|byte| *byte == b' ').next().unwrap_or_default();
    let ends_in_silence = is_bodiless(&head.framing, method);
    Some(CutRequest { head, ends_in_silence, left: None })
}

/// Whether a request has no body, by what is visible of it.
fn is_bodiless(framing: &Framing, method: &[u8]) -> bool {
    match framing {
        Framing::Length(length) => *length == 0,
        Framing::Chunked | Framing::UntilClose => false,
        Framing::None => WITHOUT_CONTENT.iter().any(|known| known.as_bytes() == method),
    }
}

/// What is visible of a response whose head is cut.
struct CutResponse {
    status: u16,
    id: Option<u64>,
    /// Bytes of its body, if that has as many as its head says.
    length: Option<u64>,
}

fn parse_cut_response(head: &[u8]) -> Option<CutResponse> {
    let (version, code) = head.strip_prefix(STATUS_LINE)?.split_first_chunk::<2>()?;
    let (code, behind) = code.split_first_chunk::<3>()?;
    let is_code = version[1] == b' ' && !behind.first().is_some_and(u8::is_ascii_digit);
    let status = std::str::from_utf8(code).ok().filter(|_| is_code)?.parse().ok()?;
    let shown = whole_lines(head).and_then(|lines| parse_head(&lines, parse_response));
    let length = shown.as_ref().and_then(|shown| match shown.framing {
        Framing::Length(length) => Some(length),
        Framing::None | Framing::Chunked | Framing::UntilClose => None,
    });
    Some(CutResponse { status, id: shown.and_then(|shown| shown.id), length })
}

/// The lines of a cut head that are whole, as a head of their own.
fn whole_lines(head: &[u8]) -> Option<Vec<u8>> {
    let end = memchr::memrchr(b'\n', head)?;
    Some([&head[..=end], b"\r\n"].concat())
}

/// A request whose head is variables.
fn asked_for(asked: Asked<'_>) -> Option<RequestHead> {
    let length = asked.length()?;
    Some(RequestHead { framing: Framing::Length(length), ..variables(asked) })
}

/// A request whose head is variables that are cut.
fn cut_variables(cut: gateway::Cut<'_>) -> Option<CutRequest> {
    let method = cut.asked.method.unwrap_or_default().as_bytes();
    let framing = cut.asked.length().map_or(Framing::None, Framing::Length);
    let ends_in_silence = is_bodiless(&framing, method);
    let head = RequestHead { framing, ..variables(cut.asked) };
    Some(CutRequest { head, ends_in_silence, left: Some(cut.left) })
}

/// What variables tell of a request, save its framing.
fn variables(asked: Asked<'_>) -> RequestHead {
    RequestHead {
        kind: asked.method.map(Kind::of).unwrap_or_default(),
        text: asked.text().map(|text| kept(&text)),
        host: asked.host,
        id: asked.id,
        framing: Framing::None,
        clients: asked.clients.into(),
        upgrade: false,
    }
}

/// The head of what a gateway answers: that of a response, or of CGI (RFC 3875, section 6).
fn parse_answer(head: &[u8]) -> Option<ResponseHead> {
    if starts_response(head) {
        return parse_head(head, parse_response);
    }
    let mut headers = [httparse::EMPTY_HEADER; limits::HEADERS];
    let httparse::Status::Complete((_, headers)) =
        httparse::parse_headers(head, &mut headers).ok()?
    else {
        return None;
    };
    let status = match header(headers, "status") {
        Some(status) => std::str::from_utf8(status.get(..3)?).ok()?.parse().ok()?,
        // What servers make of a head without one.
        None if header(headers, "location").is_some() => 302,
        None => 200,
    };
    // Nobody reads chunks from a gateway.
    let framing = match framing(headers, 1)? {
        Framing::Chunked => Framing::UntilClose,
        framing => framing,
    };
    let id = header(headers, "x-request-id").and_then(id_hash);
    Some(ResponseHead { status, id, next: Next::Anything, framing })
}

/// The status that a gateway's answer has by its head.
pub fn cgi_status(head: &[u8]) -> Option<u16> {
    parse_answer(head).map(|answer| answer.status)
}

fn header<'a>(headers: &[httparse::Header<'a>], name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value)
}

/// The value of each field of this name.
fn values<'a>(
    headers: &'a [httparse::Header<'a>],
    name: &'a str,
) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value)
}

/// Addresses that headers name, one of which may be the client's.
fn clients(headers: &[httparse::Header<'_>]) -> Box<[IpAddr]> {
    let mut named = Vec::new();
    let fields = headers.iter().filter(|field| !field.name.eq_ignore_ascii_case("host"));
    fields.for_each(|field| forwarded::add(&mut named, field.value));
    named.into()
}

/// `METHOD URI` of a head that is not complete, once its first line is.
fn request_line(head: &[u8]) -> Option<Rc<str>> {
    let line = std::str::from_utf8(&head[..memchr::memchr(b'\n', head)?]).ok()?;
    let (text, version) = line.trim_end().rsplit_once(' ')?;
    version.starts_with("HTTP/1.").then(|| kept(text))
}

/// As much of a request as is kept.
pub fn kept(text: &str) -> Rc<str> {
    let end = (0..=limits::REQUEST.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
    text[..end.unwrap_or(0)].into()
}

/// The fields that tell where a body ends.
const LENGTH: &str = "content-length";
const CODING: &str = "transfer-encoding";

/// What the fields of a message of HTTP/1.`version` say of its body (RFC 9112, section 6.3);
/// `None` where receivers differ in what they make of it.
fn framing(headers: &[httparse::Header<'_>], version: u8) -> Option<Framing> {
    match values(headers, CODING).next() {
        // Such a message is faulty, whatever else it says (section 6.1).
        Some(_) if version == 0 => None,
        Some(_) => transfer_coding(headers),
        None => Some(content_length(headers)?.map_or(Framing::None, Framing::Length)),
    }
}

/// Fields of one name are one list, which may have empty members (RFC 9110, section 5.6.1).
fn members<'a>(
    headers: &'a [httparse::Header<'a>],
    name: &'a str,
) -> impl Iterator<Item = &'a [u8]> {
    let all = values(headers, name).flat_map(|value| value.split(|byte| *byte == b','));
    all.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// Chunks, if they are the last coding. What else names them, receivers read in their own ways;
/// so they do with a length beside other codings.
fn transfer_coding(headers: &[httparse::Header<'_>]) -> Option<Framing> {
    const CHUNKED: &[u8] = b"chunked";
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(CHUNKED);
    if members(headers, CODING).last().is_some_and(is_chunked) {
        return Some(Framing::Chunked);
    }
    let names = |coding: &[u8]| coding.windows(CHUNKED.len()).any(is_chunked);
    let blurred = members(headers, CODING).any(names);
    let alone = values(headers, LENGTH).next().is_none();
    (alone && !blurred).then_some(Framing::UntilClose)
}

/// The length that all fields agree in, if there are any; `None` if they do not, or it is none.
fn content_length(headers: &[httparse::Header<'_>]) -> Option<Option<u64>> {
    let mut agreed = None;
    for value in values(headers, LENGTH).flat_map(|value| value.split(|byte| *byte == b',')) {
        let digits = std::str::from_utf8(value.trim_ascii()).ok()?;
        let length =
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
        if i64::try_from(length).is_err() || *agreed.get_or_insert(length) != length {
            return None;
        }
    }
    Some(agreed)
}

/// Whether the head has a line that one receiver takes for a field of the framing and another
/// one does not: with white space before its name or its colon, with a character that fields
/// may not have, without a colon, or folded (RFC 9112, sections 5.1 and 5.2).
fn has_blurred_framing(head: &[u8]) -> bool {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let mut lines = head.split(|byte| *byte == b'\n').skip(1).peekable();
    while let Some(line) = lines.next() {
        let text = line.trim_ascii();
        let behind = [LENGTH, CODING].into_iter().find_map(|name| {
            let (start, behind) = text.split_at_checked(name.len())?;
            start.eq_ignore_ascii_case(name.as_bytes()).then_some(behind)
        });
        let is_sound = |behind: &[u8]| match behind {
            // The name goes on, and is another one.
            [b'-' | b'_' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9', ..] => true,
            [b':', value @ ..] => {
                let is_folded =
                    lines.peek().is_some_and(|next| next.first().is_some_and(is_blank));
                let is_indented = line.first().is_some_and(is_blank);
                let is_text = value.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
                is_text && !is_folded && !is_indented
            }
            _ => false,
        };
        if !behind.is_none_or(is_sound) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_one_hash_whether_it_is_in_one_piece_or_not() {
        let long = "x".repeat(2 * limits::REQUEST);
        for target in ["", "/", "/a", "/a/b?c=d&e", &long] {
            let whole = format!("GET {target}");
            let apart = request_line_hash(b"GET", target.as_bytes());
            assert_eq!(request_hash(whole.as_bytes()), apart, "{target}");
        }
        assert_ne!(request_line_hash(b"GET", b"/a"), request_line_hash(b"GET", b"/b"));
    }

    /// Plays a conversation: `>` lines are the client's bytes, `<` lines the server's, a
    /// number alone is that many missing bytes. Returns the exchange and the counters.
    fn play(http: &mut Http, script: &[(&str, &str)]) -> String {
        let (mut at, mut from_client) = (0, 0);
        for (side, text) in script {
            let missing = text.parse().map(Piece::Missing);
            let piece = missing.unwrap_or(Piece::Data(text.as_bytes()));
            match *side {
                ">" => {
                    http.client(from_client, piece, at);
                    from_client += piece.len() as i64;
                }
                "<" => {
                    http.server(at, piece, None);
                    at += piece.len() as i64;
                }
                _ => http.server_end(at),
            }
        }
        let exchange = http.exchange().map_or("-".to_owned(), |e| {
            format!("{:?} {:?}/{:?} {:?}", e.request, e.sent, e.answered, e.status)
        });
        format!("{}/{} {exchange}", http.begun, http.completed)
    }

    const GET: &str = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";

    #[test]
    fn every_framing_ends_where_it_should() {
        let get = r#"Some("GET /a") Complete"#;
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], String);
        let cases: &[Case<'_>] = &[
            ("length", &[(">", GET), ("<", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"), ("<", "c")],
                format!("1/1 {get}/Complete Some(200)")),
            ("short", &[(">", GET), ("<", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab")],
                format!("1/0 {get}/Begun Some(200)")),
            ("chunked", &[(">", GET), ("<", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3;x=\"1\"\r\nabc\r"), ("<", "\n0\r\nT: 1\r\n\r\n")],
                format!("1/1 {get}/Complete Some(200)")),
            ("chunked, cut before the last chunk", &[(">", GET), ("<", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")],
                format!("1/0 {get}/Begun Some(200)")),
            ("until close", &[(">", GET), ("<", "HTTP/1.1 200 OK\r\n\r\nabc"), ("<", "d")],
                format!("1/0 {get}/Begun Some(200)")),
            ("until close, closed", &[(">", GET), ("<", "HTTP/1.1 200 OK\r\n\r\nabc"), (".", "")],
                format!("1/1 {get}/Complete Some(200)")),
            ("interim", &[(">", GET), ("<", "HTTP/1.1 100 Continue\r\n\r\n")],
                format!("1/0 {get}/None None")),
            ("interim and final", &[(">", GET), ("<", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")],
                format!("1/1 {get}/Complete Some(204)")),
            ("not modified", &[(">", GET), ("<", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n")],
                format!("1/1 {get}/Complete Some(304)")),
            ("head", &[(">", "HEAD /a HTTP/1.1\r\n\r\n"), ("<", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")],
                r#"1/1 Some("HEAD /a") Complete/Complete Some(200)"#.to_owned()),
            ("head cut after its first line", &[(">", "GET /a HTTP/1.1\r\nHo")],
                r#"1/0 Some("GET /a") Begun/None None"#.to_owned()),
            ("head in many pieces", &[(">", "\r\nGE"), (">", "T /a HTTP/1.1\r"), (">", "\n\r"), (">", "\n")],
                format!("1/0 {get}/None None")),
            ("empty lines between requests", &[(">", GET), (">", "\r\n"), ("<", "HTTP/1.1 204 No Content\r\n\r\n")],
                format!("1/1 {get}/Complete Some(204)")),
        ];
        for (name, script, expected) in cases {
            assert_eq!(&play(&mut Http::default(), script), expected, "{name}");
        }
    }

    #[test]
    fn request_bodies_belong_to_their_request() {
        let mut http = Http::default();
        let head = "POST /p HTTP/1.1\r\nContent-Length: 4\r\n\r\n";
        let begun = r#"1/0 Some("POST /p") Begun/None None"#;
        assert_eq!(play(&mut http, &[(">", head), (">", "ab")]), begun);
        let complete = r#"2/0 Some("POST /p") Complete/None None"#;
        assert_eq!(play(&mut http, &[(">", "cdGET /n HT")]), complete);
    }

    #[test]
    fn an_early_final_response_ends_the_exchange_and_the_rest_of_the_body_begins_no_other() {
        let mut http = Http::default();
        let head = "POST /p HTTP/1.1\r\nContent-Length: 8\r\n\r\nab";
        let refusal = "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n";
        let out = play(&mut http, &[(">", head), ("<", refusal), (">", "cdef")]);
        assert_eq!(out, r#"1/1 Some("POST /p") Begun/Complete Some(413)"#);
        assert_eq!(
            play(&mut http, &[(">", "gh")]),
            r#"1/1 Some("POST /p") Complete/Complete Some(413)"#
        );
    }

    #[test]
    fn pipelined_requests_are_answered_in_order() {
        let mut http = Http::default();
        let second = "GET /b HTTP/1.1\r\n\r\n";
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
        let out = play(&mut http, &[(">", GET), (">", second), ("<", answer)]);
        assert_eq!(out, r#"2/1 Some("GET /b") Complete/None None"#);
    }

    #[test]
    fn bytes_that_the_capture_lacks_lose_no_more_than_they_must() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc";
        let mut http = Http::default();
        let out = play(&mut http, &[(">", GET), ("<", answer), ("<", "6")]);
        assert_eq!(out, r#"1/1 Some("GET /a") Complete/Complete Some(200)"#, "inside a body");
        let mut http = Http::default();
        let out = play(&mut http, &[(">", GET), ("<", answer), ("<", "7")]);
        assert_eq!(out, r#"1/0 Some("GET /a") Complete/Lost Some(200)"#, "past a body");
        let next = [(">", GET), ("<", "HTTP/1.1 204 No Content\r\n\r\n")];
        let script = [(">", GET), ("<", answer), ("<", "7"), next[0], next[1]];
        let out = play(&mut Http::default(), &script);
        assert_eq!(out, r#"2/1 Some("GET /a") Complete/Complete Some(204)"#, "in step again");
    }

    #[test]
    fn a_capture_that_starts_in_mid_stream_waits_for_a_message() {
        let mut http = Http::mid_stream();
        let rest = [("<", "rest of a body"), (">", "xyz"), (">", GET)];
        assert_eq!(play(&mut http, &rest), r#"1/0 Some("GET /a") Complete/None None"#);
    }

    #[test]
    fn an_upgrade_that_nobody_asked_for_is_followed_no_further() {
        let mut http = Http::default();
        let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x01\x02";
        play(&mut http, &[(">", GET), ("<", switch), (">", "GET / HTTP/1.1\r\n\r\n")]);
        assert_eq!((http.next, http.begun), (Some(Next::Unknown), 1));
    }

    #[test]
    fn a_length_that_is_none_loses_the_framing() {
        for length in ["-1", "+3", "3x", "", "99999999999999999999"] {
            let mut http = Http::default();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            play(&mut http, &[(">", GET), ("<", &head)]);
            assert_eq!(http.exchange().map(|e| e.answered), Some(Progress::Lost), "{length}");
        }
    }
}
