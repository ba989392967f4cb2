// SPDX-License-Identifier: GPL-2.0-or-later
//! A conversation in HTTP, of whichever version, or in what servers ask gateways in, and what
//! it is switched to.

use serde::{Deserialize, Serialize};

use crate::tcp::app::{App, Around, Layer};
use crate::tcp::fastcgi::{self, FastCgi};
use crate::tcp::gateway;
use crate::tcp::half::Piece;
use crate::tcp::http::{self, Dialect, Exchange, Http, Next, Opening, Progress};
use crate::tcp::http2::{self, Http2};
use crate::tcp::phase::Phase;
use crate::tcp::stream::Side;
use crate::tcp::websocket::WebSocket;

/// A conversation of requests and responses.
// Most conversations are in HTTP/1.x, and this is in a box itself.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Talk {
    /// HTTP/1.x, uwsgi or SCGI
    Http(Http),
    /// HTTP/2
    Http2(Box<Http2>),
    /// FastCGI
    FastCgi(FastCgi),
    /// HTTP/1.x that has opened a tunnel
    Tunnel(Box<Tunnel>),
}

/// A tunnel: a WebSocket, or what is behind CONNECT or an upgrade.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tunnel {
    opened_by: Http,
    inside: App,
}

/// Whether a server answers in HTTP/1.x.
fn is_response(piece: Piece<'_>) -> bool {
    matches!(piece, Piece::Data(bytes) if http::starts_response(bytes))
}

impl Talk {
    /// What is spoken on a connection that begins with these bytes of this side.
    pub fn that_begins_with(side: Side, bytes: &[u8]) -> Option<Talk> {
        match side {
            Side::Client if http2::starts(bytes) => Some(Talk::Http2(Box::default())),
            Side::Client if http::opening(bytes) != Opening::Else => {
                Some(Talk::Http(Http::default()))
            }
            Side::Client if fastcgi::starts(bytes) => Some(Talk::FastCgi(FastCgi::default())),
            Side::Client if gateway::starts_uwsgi(bytes) => {
                Some(Talk::Http(Http::speaking(Dialect::Uwsgi)))
            }
            Side::Client if gateway::starts_scgi(bytes) => {
                Some(Talk::Http(Http::speaking(Dialect::Scgi)))
            }
            // Inside TLS 1.2, the server can be the first to speak.
            Side::Server if http2::is_settings(bytes) => Some(Talk::Http2(Box::default())),
            Side::Server if http::starts_response(bytes) => Some(Talk::Http(Http::default())),
            _ => None,
        }
    }

    /// A conversation that the capture joins in the middle: nothing is claimed before a message
    /// of HTTP/1.x is recognized.
    pub fn mid_stream() -> Talk {
        Talk::Http(Http::mid_stream())
    }

    /// Takes the next piece that a side sent, and its position.
    pub fn take(&mut self, side: Side, at: i64, piece: Piece<'_>, around: Around) {
        match (&mut *self, side) {
            (Talk::Http(http), Side::Client) => http.client(at, piece, around.heard),
            (Talk::Http(http), Side::Server) => {
                let rest = http.server(at, piece, around.unseen);
                if self.switch(around.layer) && !rest.is_empty() {
                    let at = at + piece.len() as i64 - rest.len() as i64;
                    self.take(side, at, Piece::Data(rest), around);
                }
            }
            (Talk::Http2(http), Side::Server) if http.is_unanswered() && is_response(piece) => {
                *self = Talk::Http(Http::answering());
                self.take(side, at, piece, around);
            }
            (Talk::Http2(http), _) => {
                http.frame = around.frame;
                http.take(side, at, piece);
            }
            (Talk::FastCgi(talk), _) => talk.take(side, at, piece),
            (Talk::Tunnel(tunnel), _) => {
                let around = Around { joined_late: false, layer: Layer::Tunnel, ..around };
                tunnel.inside.take(side, at, piece, around);
            }
        }
    }

    /// Goes on with what HTTP/1.x was switched to, if it was. What the client sent before it
    /// could know of that is not told apart.
    fn switch(&mut self, layer: Layer) -> bool {
        let Talk::Http(http) = self else { return false };
        let (begun, completed) = (http.begun, http.completed);
        let inside = match http.next {
            Some(Next::Http2) => {
                let mut next = Http2::upgraded(http.take_upgraded(), begun, completed);
                if !http.is_settled() {
                    next.lose(Side::Client);
                }
                *self = Talk::Http2(Box::new(next));
                return true;
            }
            Some(Next::WebSocket) => {
                let mut socket = WebSocket::default();
                if !http.is_settled() {
                    socket.lose(Side::Client);
                }
                App::WebSocket(Box::new(socket))
            }
            Some(Next::Anything) if layer < Layer::Tunnel && http.is_settled() => {
                App::Undecided
            }
            Some(Next::Anything | Next::Unknown) | None => return false,
        };
        *self = Talk::Tunnel(Box::new(Tunnel { opened_by: std::mem::take(http), inside }));
        true
    }

    /// What is inside the tunnel that was opened.
    pub fn tunnel(&self) -> Option<&App> {
        match self {
            Talk::Tunnel(tunnel) => Some(&tunnel.inside),
            Talk::Http(_) | Talk::Http2(_) | Talk::FastCgi(_) => None,
        }
    }

    /// As [`Talk::tunnel`], to hand something on to it.
    pub fn tunnel_mut(&mut self) -> Option<&mut App> {
        match self {
            Talk::Tunnel(tunnel) => Some(&mut tunnel.inside),
            Talk::Http(_) | Talk::Http2(_) | Talk::FastCgi(_) => None,
        }
    }

    /// The HTTP inside the tunnel.
    fn inner(&self) -> Option<&Talk> {
        let inner = self.tunnel().and_then(App::talk);
        inner.filter(|inner| inner.exchange().is_some())
    }

    /// A tunnel has been opened in which no HTTP is recognized.
    pub fn is_tunnelled(&self) -> bool {
        self.is_unfollowed()
            || self.tunnel().is_some() && self.inner().is_none_or(Talk::is_tunnelled)
    }

    /// The server sent its FIN here.
    pub fn server_end(&mut self, at: i64) {
        match self {
            Talk::Http(http) => http.server_end(at),
            Talk::Http2(_) | Talk::FastCgi(_) => {}
            Talk::Tunnel(tunnel) => tunnel.inside.server_end(at),
        }
    }

    /// The exchange that is open, else the one that was completed last.
    pub fn exchange(&self) -> Option<&Exchange> {
        match self {
            Talk::Http(http) => http.exchange(),
            Talk::Http2(http) => http.exchange(),
            Talk::FastCgi(talk) => talk.exchange(),
            Talk::Tunnel(tunnel) => {
                self.inner().map_or(tunnel.opened_by.exchange(), Talk::exchange)
            }
        }
    }

    /// The conversation, if it is in HTTP/2.
    pub fn http2(&self) -> Option<&Http2> {
        match self {
            Talk::Http2(http) => Some(http),
            Talk::Http(_) | Talk::FastCgi(_) => None,
            Talk::Tunnel(_) => self.inner().and_then(Talk::http2),
        }
    }

    /// Requests that were begun.
    pub fn begun(&self) -> u64 {
        match self {
            Talk::Http(http) => http.begun,
            Talk::Http2(http) => http.begun,
            Talk::FastCgi(talk) => talk.begun,
            Talk::Tunnel(tunnel) => {
                tunnel.opened_by.begun + self.inner().map_or(0, Talk::begun)
            }
        }
    }

    /// Responses that are complete.
    pub fn completed(&self) -> u64 {
        match self {
            Talk::Http(http) => http.completed,
            Talk::Http2(http) => http.completed,
            Talk::FastCgi(talk) => talk.completed,
            Talk::Tunnel(tunnel) => {
                tunnel.opened_by.completed + self.inner().map_or(0, Talk::completed)
            }
        }
    }

    /// No message was recognized so far, of a conversation that the capture joins late, or that
    /// only began like one.
    pub fn is_unrecognized(&self) -> bool {
        match self {
            Talk::Http(http) => {
                http.exchange().is_none() && http.is_lost() && !http.is_unpaired()
            }
            Talk::Http2(http) => http.is_none,
            Talk::FastCgi(_) | Talk::Tunnel(_) => false,
        }
    }

    /// Whether every message of a side was seen, as far as that can be told.
    pub fn counts(&self, side: Side) -> bool {
        match self {
            Talk::Http(http) => !http.has_missed(side),
            Talk::Http2(http) => !http.is_lost(),
            Talk::FastCgi(talk) => talk.is_counted(),
            Talk::Tunnel(tunnel) => {
                !tunnel.opened_by.has_missed(side)
                    && self.inner().is_none_or(|t| t.counts(side))
            }
        }
    }

    /// Whether there may be a request behind the last one that is seen.
    pub fn hides_requests(&self) -> bool {
        match self {
            Talk::Http(http) => http.hides_requests(),
            Talk::Http2(_) | Talk::FastCgi(_) => self.is_lost(),
            Talk::Tunnel(_) => self.inner().is_some_and(Talk::hides_requests),
        }
    }

    /// Requests wait for their turn behind that of [`Talk::exchange`].
    pub fn is_pipelined(&self) -> bool {
        match self {
            Talk::Http(http) => http.is_pipelined(),
            Talk::Http2(_) | Talk::FastCgi(_) => false,
            Talk::Tunnel(_) => self.inner().is_some_and(Talk::is_pipelined),
        }
    }

    /// The side that has sent the last message, if nothing but silence tells that it has ended.
    pub fn ends_in_silence(&self) -> Option<Side> {
        let exchange = self.exchange().filter(|_| !self.is_unfollowed())?;
        match (exchange.answered, exchange.sent) {
            (Progress::Cut, _) => Some(Side::Server),
            (Progress::None, Progress::Cut) if exchange.ends_in_silence => Some(Side::Client),
            _ => None,
        }
    }

    /// What comes now is not followed, or was lost.
    fn is_lost(&self) -> bool {
        match self {
            Talk::Http(http) => http.is_lost(),
            Talk::Http2(http) => http.is_lost(),
            Talk::FastCgi(talk) => talk.is_lost(),
            // What is inside is asked for itself.
            Talk::Tunnel(_) => true,
        }
    }

    /// The connection was switched to something that is not followed.
    fn is_unfollowed(&self) -> bool {
        matches!(self, Talk::Http(http) if http.next.is_some())
    }

    /// How far the conversation has come; of a tunnel, what is inside of it tells.
    pub fn stage(&self) -> Phase {
        let Some(exchange) = self.exchange() else {
            return if self.is_lost() { Phase::Unknown } else { Phase::BeforeRequest };
        };
        match (exchange.answered, exchange.sent) {
            _ if self.is_unfollowed() || exchange.may_be_whole => Phase::Unknown,
            // Nothing is open any more.
            _ if exchange.given_up.is_some() && !self.is_lost() => Phase::AfterResponse,
            (Progress::Lost | Progress::Cut, _) => Phase::Unknown,
            (Progress::Complete, _) if self.is_lost() => Phase::Unknown,
            (Progress::Complete, _) => Phase::AfterResponse,
            (Progress::Begun, _) => Phase::DuringResponse,
            (Progress::None, Progress::Complete) => Phase::AwaitingResponse,
            (Progress::None, Progress::Begun) => Phase::DuringRequest,
            (Progress::None, Progress::None | Progress::Lost | Progress::Cut) => Phase::Unknown,
        }
    }
}
