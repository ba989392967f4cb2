// SPDX-License-Identifier: GPL-2.0-or-later
//! How far a connection and the exchange on it had come.

use serde::{Deserialize, Serialize};

/// How far a connection had come at one moment, in the order in which it gets there.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Phase {
    /// The three-way handshake is not complete.
    Handshake,
    /// TCP is established, TLS is not yet.
    TlsHandshake,
    /// Established, and not one byte of a request.
    BeforeRequest,
    /// A request was begun and is not complete.
    DuringRequest,
    /// The request is complete, and not one byte of its response was sent.
    AwaitingResponse,
    /// A response was begun and is not complete.
    DuringResponse,
    /// Every response is complete; the connection idles.
    AfterResponse,
    /// A FIN of either side was sent.
    Teardown,
    /// The capture does not show enough to tell.
    #[default]
    Unknown,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Phase; 9] = [
        Phase::Handshake,
        Phase::TlsHandshake,
        Phase::BeforeRequest,
        Phase::DuringRequest,
        Phase::AwaitingResponse,
        Phase::DuringResponse,
        Phase::AfterResponse,
        Phase::Teardown,
        Phase::Unknown,
    ];

    /// Not a byte of a request can have been sent by then.
    pub fn is_before_request(self) -> bool {
        matches!(self, Phase::Handshake | Phase::TlsHandshake | Phase::BeforeRequest)
    }

    /// The word of the public interface for this phase.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Handshake => "handshake",
            Phase::TlsHandshake => "tls_handshake",
            Phase::BeforeRequest => "before_request",
            Phase::DuringRequest => "during_request",
            Phase::AwaitingResponse => "awaiting_response",
            Phase::DuringResponse => "during_response",
            Phase::AfterResponse => "after_response",
            Phase::Teardown => "teardown",
            Phase::Unknown => "unknown",
        }
    }
}
