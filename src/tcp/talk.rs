// SPDX-License-Identifier: GPL-2.0-or-later
//! A conversation in HTTP, of whichever version, or in what servers ask gateways in.

use serde::{Deserialize, Serialize};

use crate::tcp::fastcgi::{self, FastCgi};
use crate::tcp::gateway;
use crate::tcp::half::Piece;
use crate::tcp::http::{self, Dialect, Exchange, Http, Progress};
use crate::tcp::http2::{self, Http2, PREFACE_LINE};
use crate::tcp::phase::Phase;
use crate::tcp::stream::Side;

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
}

impl Talk {
    /// What is spoken on a connection that begins with these bytes of this side.
    pub fn that_begins_with(side: Side, bytes: &[u8]) -> Option<Talk> {
        match side {
            Side::Client if bytes.starts_with(PREFACE_LINE) => {
                Some(Talk::Http2(Box::default()))
            }
            Side::Client if http::may_start_request(bytes) => Some(Talk::Http(Http::default())),
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

    /// What is taken next comes from this frame of the capture.
    pub fn come_to(&mut self, frame: u32) {
        if let Talk::Http2(http) = self {
            http.frame = frame;
        }
    }

    /// Takes the next piece that a side sent, and its position. `unseen` is where client's
    /// bytes end that may still come to light.
    pub fn take(&mut self, side: Side, at: i64, piece: Piece<'_>, unseen: Option<i64>) {
        match (self, side) {
            (Talk::Http(http), Side::Client) => http.client(at, piece),
            (Talk::Http(http), Side::Server) => http.server(at, piece, unseen),
            (Talk::Http2(http), _) => http.take(side, at, piece),
            (Talk::FastCgi(talk), _) => talk.take(side, at, piece),
        }
    }

    /// The server sent its FIN here.
    pub fn server_end(&mut self, at: i64) {
        if let Talk::Http(http) = self {
            http.server_end(at);
        }
    }

    /// The exchange that is open, else the one that was completed last.
    pub fn exchange(&self) -> Option<&Exchange> {
        match self {
            Talk::Http(http) => http.exchange(),
            Talk::Http2(http) => http.exchange(),
            Talk::FastCgi(talk) => talk.exchange(),
        }
    }

    /// The conversation, if it is in HTTP/2.
    pub fn http2(&self) -> Option<&Http2> {
        match self {
            Talk::Http2(http) => Some(http),
            Talk::Http(_) | Talk::FastCgi(_) => None,
        }
    }

    /// Requests that were begun.
    pub fn begun(&self) -> u64 {
        match self {
            Talk::Http(http) => http.begun,
            Talk::Http2(http) => http.begun,
            Talk::FastCgi(talk) => talk.begun,
        }
    }

    /// Responses that are complete.
    pub fn completed(&self) -> u64 {
        match self {
            Talk::Http(http) => http.completed,
            Talk::Http2(http) => http.completed,
            Talk::FastCgi(talk) => talk.completed,
        }
    }

    /// What comes now is not followed, or was lost.
    fn is_lost(&self) -> bool {
        match self {
            Talk::Http(http) => http.is_lost(),
            Talk::Http2(http) => http.is_lost(),
            Talk::FastCgi(talk) => talk.is_lost(),
        }
    }

    fn is_tunnel(&self) -> bool {
        matches!(self, Talk::Http(http) if http.tunnel)
    }

    /// How far the conversation has come.
    pub fn stage(&self) -> Phase {
        let Some(exchange) = self.exchange() else {
            return if self.is_lost() { Phase::Unknown } else { Phase::BeforeRequest };
        };
        match (exchange.answered, exchange.sent) {
            _ if self.is_tunnel() || exchange.may_be_whole => Phase::Unknown,
            // Nothing is open any more.
            _ if exchange.given_up.is_some() && !self.is_lost() => Phase::AfterResponse,
            (Progress::Lost, _) => Phase::Unknown,
            (Progress::Complete, _) if self.is_lost() => Phase::Unknown,
            (Progress::Complete, _) => Phase::AfterResponse,
            (Progress::Begun, _) => Phase::DuringResponse,
            (Progress::None, Progress::Complete) => Phase::AwaitingResponse,
            (Progress::None, Progress::Begun) => Phase::DuringRequest,
            (Progress::None, Progress::None | Progress::Lost) => Phase::Unknown,
        }
    }
}
