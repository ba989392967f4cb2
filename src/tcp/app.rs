// SPDX-License-Identifier: GPL-2.0-or-later
//! What is spoken on a connection, layer by layer: a header of the PROXY protocol before it,
//! TLS around it, a tunnel that HTTP has opened.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::tcp::half::Piece;
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
    /// HTTP, or what it was switched to.
    Talk(Box<Talk>),
    /// TLS.
    Tls(Box<Tls>),
    /// A WebSocket, which only a tunnel is.
    WebSocket(Box<WebSocket>),
    /// Something else: bursts of data.
    Other(Bursts),
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
            App::Talk(talk) => talk.take(side, at, piece, around),
            App::Tls(tls) => {
                tls.come_to(around.frame);
                tls.take(side, piece, late);
            }
            App::WebSocket(socket) => socket.take(side, at, piece),
            App::Other(bursts) => bursts.add(side, piece.len(), late),
        }
    }

    /// What decides how far the connection has come: what is inside of everything else.
    pub fn innermost(&self) -> &App {
        let inside = match self {
            App::Proxied(behind) => Some(&behind.1),
            App::Talk(talk) => talk.tunnel(),
            App::Tls(tls) => tls.plain().and_then(Talk::tunnel),
            App::Undecided | App::WebSocket(_) | App::Other(_) => None,
        };
        inside.map_or(self, App::innermost)
    }

    /// The HTTP conversation, which may have opened a tunnel.
    pub fn talk(&self) -> Option<&Talk> {
        match self {
            App::Proxied(behind) => behind.1.talk(),
            App::Talk(talk) => Some(talk),
            App::Tls(tls) => tls.plain(),
            App::Undecided | App::WebSocket(_) | App::Other(_) => None,
        }
    }

    /// The outermost TLS.
    pub fn tls(&self) -> Option<&Tls> {
        match self {
            App::Proxied(behind) => behind.1.tls(),
            App::Talk(talk) => talk.tunnel().and_then(App::tls),
            App::Tls(tls) => Some(tls),
            App::Undecided | App::WebSocket(_) | App::Other(_) => None,
        }
    }

    /// As [`App::tls`], to give it what the host decrypted.
    pub fn tls_mut(&mut self) -> Option<&mut Tls> {
        match self {
            App::Proxied(behind) => behind.1.tls_mut(),
            App::Talk(talk) => talk.tunnel_mut().and_then(App::tls_mut),
            App::Tls(tls) => Some(tls),
            App::Undecided | App::WebSocket(_) | App::Other(_) => None,
        }
    }

    /// The server sent its FIN here.
    pub fn server_end(&mut self, at: i64) {
        match self {
            App::Proxied(behind) => behind.1.server_end(at),
            App::Talk(talk) => talk.server_end(at),
            App::Tls(tls) => tls.server_end(at),
            App::Undecided | App::WebSocket(_) | App::Other(_) => {}
        }
    }

    /// Bytes of a conversation by bursts.
    pub fn said(&self) -> u64 {
        match self.innermost() {
            App::Tls(tls) => tls.said(),
            App::Other(bursts) => bursts.said,
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
    if tls::starts(payload) {
        return App::Tls(Box::default());
    }
    match Talk::that_begins_with(side, payload) {
        Some(talk) => App::Talk(Box::new(talk)),
        None => App::Other(Bursts::default()),
    }
}
