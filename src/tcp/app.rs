// SPDX-License-Identifier: GPL-2.0-or-later
//! What is spoken on a connection, layer by layer: a header of the PROXY protocol before it,
//! TLS around it, a tunnel that HTTP has opened.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::tcp::half::Piece;
use crate::tcp::http::{self, Http, Opening, LONGEST_METHOD};
use crate::tcp::http2::{self, Http2};
use crate::tcp::proxied::{self, Header};
use crate::tcp::stream::Side;
use crate::tcp::talk::Talk;
use crate::tcp::tls::{self, Bursts, Tls};
use crate::tcp::websocket::WebSocket;

/// What the payload was recognized as.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub enum App {
    /// Nothing was said that could tell.
    #[default]
    Undecided,
    /// A header of the PROXY protocol, and what is behind it.
    Proxied(Box<(Header, App)>),
    /// What may be HTTP.
    Guess(Box<Guess>),
    /// HTTP, or what it was switched to.
    Talk(Box<Talk>),
    /// TLS.
    Tls(Box<Tls>),
    /// A WebSocket, which only a tunnel is.
    WebSocket(Box<WebSocket>),
    /// Something else: bursts of data.
    Other(Bursts),
}

/// A client's first line that may become one of HTTP, and what it is if it does not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Guess {
    talk: Talk,
    opening: Opening,
    bursts: Bursts,
}

/// How a piece stands to what else is known of the connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Around {
    /// Bytes before this piece are not in the capture.
    pub joined_late: bool,
    /// Where client's bytes end that may still come to light.
    pub unseen: Option<i64>,
    /// What of this side the other has acknowledged.
    pub acked: i64,
    /// What this side has acknowledged of the other.
    pub heard: i64,
    /// The frame of the capture that it comes from.
    pub frame: u32,
    /// What the piece is inside of.
    pub layer: Layer,
}

/// What something is inside of. Nothing opens a layer that it is inside of already, so that
/// nobody can nest at will.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// TCP, or TLS.
    #[default]
    Connection,
    /// Behind a header of the PROXY protocol.
    Proxied,
    /// In a tunnel that HTTP has opened.
    Tunnel,
}

impl App {
    /// Takes the next piece that a side sent, and its position.
    pub fn take(&mut self, side: Side, at: i64, piece: Piece<'_>, around: Around) {
        if let (App::Undecided, Piece::Data(bytes)) = (&self, piece) {
            *self = recognize(side, bytes, around);
        }
        let late = at < around.acked;
        match self {
            // Bytes that the capture lacks do not tell what is spoken.
            App::Undecided if around.layer > Layer::Connection => {
                *self = App::Talk(Box::new(Talk::mid_stream()))
            }
            App::Undecided => {}
            App::Proxied(behind) => take_proxied(behind, side, at, piece, around),
            App::Guess(guess) => {
                if let Some(settled) = guess.take(side, at, piece, around) {
                    *self = settled;
                }
            }
            App::Talk(talk) => talk.take(side, at, piece, around),
            App::Tls(tls) => {
                tls.come_to(around.frame);
                tls.take(side, piece, late);
            }
            App::WebSocket(socket) => socket.take(side, at, piece),
            App::Other(bursts) => match piece {
                // A server that speaks HTTP says so, whatever it was asked.
                Piece::Data(bytes)
                    if side == Side::Server
                        && !bursts.answered
                        && http::starts_response(bytes) =>
                {
                    let mut talk = Talk::Http(Http::answering());
                    talk.take(side, at, piece, around);
                    *self = App::Talk(Box::new(talk));
                }
                _ => bursts.add(side, piece.len(), late),
            },
        }
    }

    /// What decides how far the connection has come: what is inside of everything else.
    pub fn innermost(&self) -> &App {
        let inside = match self {
            App::Proxied(behind) => Some(&behind.1),
            App::Talk(talk) => talk.tunnel(),
            App::Tls(tls) => tls.plain().and_then(Talk::tunnel),
            App::Undecided | App::Guess(_) | App::WebSocket(_) | App::Other(_) => None,
        };
        inside.map_or(self, App::innermost)
    }

    /// The HTTP conversation, which may have opened a tunnel.
    pub fn talk(&self) -> Option<&Talk> {
        match self {
            App::Proxied(behind) => behind.1.talk(),
            App::Talk(talk) => Some(talk),
            App::Tls(tls) => tls.plain(),
            App::Guess(guess) => guess.likely(),
            App::Undecided | App::WebSocket(_) | App::Other(_) => None,
        }
    }

    /// The outermost TLS.
    pub fn tls(&self) -> Option<&Tls> {
        match self {
            App::Proxied(behind) => behind.1.tls(),
            App::Talk(talk) => talk.tunnel().and_then(App::tls),
            App::Tls(tls) => Some(tls),
            App::Undecided | App::Guess(_) | App::WebSocket(_) | App::Other(_) => None,
        }
    }

    /// As [`App::tls`], to give it what the host decrypted.
    pub fn tls_mut(&mut self) -> Option<&mut Tls> {
        match self {
            App::Proxied(behind) => behind.1.tls_mut(),
            App::Talk(talk) => talk.tunnel_mut().and_then(App::tls_mut),
            App::Tls(tls) => Some(tls),
            App::Undecided | App::Guess(_) | App::WebSocket(_) | App::Other(_) => None,
        }
    }

    /// The server sent its FIN here.
    pub fn server_end(&mut self, at: i64) {
        match self {
            App::Proxied(behind) => behind.1.server_end(at),
            App::Talk(talk) => talk.server_end(at),
            App::Tls(tls) => tls.server_end(at),
            App::Undecided | App::Guess(_) | App::WebSocket(_) | App::Other(_) => {}
        }
    }

    /// Something was said, and no protocol of requests is recognized in it.
    pub fn is_unrecognized(&self) -> bool {
        match self.innermost() {
            App::Undecided | App::Proxied(_) | App::WebSocket(_) => false,
            App::Other(_) => true,
            App::Guess(guess) => guess.likely().is_none(),
            App::Talk(talk) => talk.is_unrecognized(),
            App::Tls(tls) => tls.plain().map_or(tls.has_said(), Talk::is_unrecognized),
        }
    }

    /// Bytes of a conversation by bursts.
    pub fn said(&self) -> u64 {
        match self.innermost() {
            App::Tls(tls) => tls.said(),
            App::Other(bursts) => bursts.said,
            App::Guess(guess) => guess.bursts.said,
            _ => 0,
        }
    }

    /// The client that a header of the PROXY protocol names.
    pub fn proxied_client(&self) -> Option<SocketAddr> {
        match self {
            App::Proxied(behind) => behind.0.client(),
            _ => None,
        }
    }
}

impl Guess {
    /// Takes the next piece. Returns what is spoken, once that is no guess any more.
    fn take(&mut self, side: Side, at: i64, piece: Piece<'_>, around: Around) -> Option<App> {
        let is_http = match (side, piece) {
            // Bytes that the capture lacks do not tell.
            (_, Piece::Missing(_)) => None,
            (Side::Client, Piece::Data(bytes)) => self.go_on(at, bytes),
            // Neither does the rest of an answer whose beginning did not.
            (Side::Server, Piece::Data(_)) if self.bursts.answered => None,
            (Side::Server, Piece::Data(bytes)) => http::answers(bytes),
        };
        self.bursts.add(side, piece.len(), at < around.acked);
        if is_http == Some(false) {
            return Some(App::Other(self.bursts));
        }
        self.talk.take(side, at, piece, around);
        is_http
            .map(|_| App::Talk(Box::new(std::mem::replace(&mut self.talk, Talk::mid_stream()))))
    }

    /// Takes more of the line; whether it is one of HTTP, once it is whole.
    fn go_on(&mut self, at: i64, bytes: &[u8]) -> Option<bool> {
        let Talk::Http(http) = &self.talk else { return Some(true) };
        let begun = http.first_head()?;
        if begun.len() >= LONGEST_METHOD && memchr::memchr(b'\n', bytes).is_none() {
            return None;
        }
        let line = [begun, bytes].concat();
        if http2::starts(&line) {
            let mut http2 = Http2::default();
            http2.take(Side::Client, at - begun.len() as i64, Piece::Data(begun));
            self.talk = Talk::Http2(Box::new(http2));
            return Some(true);
        }
        self.opening = http::opening(&line);
        match self.opening {
            Opening::Request => Some(true),
            Opening::Else => Some(false),
            Opening::Likely | Opening::Possible => None,
        }
    }

    /// The conversation, if hardly anything else begins like that.
    pub fn likely(&self) -> Option<&Talk> {
        (self.opening == Opening::Likely).then_some(&self.talk)
    }
}

/// Takes a piece of the header, or of what is behind it.
fn take_proxied(
    (header, inner): &mut (Header, App),
    side: Side,
    at: i64,
    piece: Piece<'_>,
    around: Around,
) {
    let lost = matches!(header, Header::Lost);
    let layer = around.layer.max(Layer::Proxied);
    let around = Around { joined_late: lost, layer, ..around };
    if side == Side::Server || header.is_complete() || lost {
        return inner.take(side, at, piece, around);
    }
    match piece {
        Piece::Missing(count) => header.miss(count),
        Piece::Data(bytes) => {
            let rest = header.take(bytes);
            if !rest.is_empty() {
                let at = at + (bytes.len() - rest.len()) as i64;
                let joined_late = matches!(header, Header::Lost);
                inner.take(side, at, Piece::Data(rest), Around { joined_late, ..around });
            }
        }
    }
    if matches!((&header, &inner), (Header::Lost, App::Undecided)) {
        *inner = App::Talk(Box::new(Talk::mid_stream()));
    }
}

/// Decides by the first payload what is spoken.
fn recognize(side: Side, payload: &[u8], around: Around) -> App {
    if around.joined_late {
        return match tls::continues(payload) {
            true => App::Tls(Box::new(Tls::mid_stream())),
            false => App::Talk(Box::new(Talk::mid_stream())),
        };
    }
    if side == Side::Client && around.layer == Layer::Connection && proxied::starts(payload) {
        return App::Proxied(Box::default());
    }
    if tls::starts(payload) || side == Side::Server && tls::refuses(payload) {
        return App::Tls(Box::default());
    }
    match Talk::that_begins_with(side, payload) {
        Some(talk) => match http::opening(payload) {
            opening @ (Opening::Likely | Opening::Possible) if side == Side::Client => {
                App::Guess(Box::new(Guess { talk, opening, bursts: Bursts::default() }))
            }
            _ => App::Talk(Box::new(talk)),
        },
        None => App::Other(Bursts::default()),
    }
}
