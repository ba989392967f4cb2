// SPDX-License-Identifier: GPL-2.0-or-later
//! The machine that follows one TCP stream.

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
