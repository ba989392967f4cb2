// SPDX-License-Identifier: GPL-2.0-or-later
//! Progress of a WebSocket, frame by frame (RFC 6455, section 5).
//!
//! Only the framing is followed: which side is in the middle of a message, and which has sent
//! its Close frame. Payload is counted, never kept.

use serde::{Deserialize, Serialize};

use crate::tcp::half::Piece;
use crate::tcp::phase::Phase;
use crate::tcp::stream::Side;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Bits of the first two bytes of a frame.
const FIN: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const MASK: u8 = 0x80;
const LENGTH: u8 = 0x7f;

/// Longest header without its masking key, which is counted as payload.
const HEADER: usize = 10;
const MASKING_KEY: u64 = 4;
const LONGEST_CONTROL: u64 = 125;

/// A connection that was upgraded to a WebSocket.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WebSocket {
    /// By [`Side`].
    sides: [Frames; 2],
}

/// The frames of one side.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Frames {
    header: [u8; HEADER],
    header_len: usize,
    /// The current frame's header is complete.
    in_payload: bool,
    /// Bytes of the current frame's payload that are still to come.
    left: u64,
    /// A message was begun whose last frame has not ended.
    in_message: bool,
    /// Position behind the Close frame; nothing of this side follows it.
    closed: Option<i64>,
    lost: bool,
}

impl WebSocket {
    /// Frames of this side were missed, so where the next one begins is not known.
    pub fn lose(&mut self, side: Side) {
        self.sides[side as usize].lost = true;
    }

    /// Takes the next piece that a side sent, and its position.
    pub fn take(&mut self, side: Side, at: i64, piece: Piece<'_>) {
        let frames = &mut self.sides[side as usize];
        match piece {
            Piece::Data(bytes) => frames.bytes(side, at, bytes),
            Piece::Missing(count) => frames.missing(at, count),
        }
    }

    /// Position behind the Close frame of a side that has sent one.
    pub fn closed(&self, side: Side) -> Option<i64> {
        self.sides[side as usize].closed
    }

    /// What an end would cut now: a message of the server, one of the client, or none.
    pub fn stage(&self) -> Phase {
        let [client, server] = &self.sides;
        match () {
            () if client.lost || server.lost => Phase::Unknown,
            () if server.is_within() => Phase::DuringResponse,
            () if client.is_within() => Phase::DuringRequest,
            () => Phase::AfterResponse,
        }
    }
}

impl Frames {
    /// Whether a frame, or a message of several, is not complete.
    fn is_within(&self) -> bool {
        self.header_len > 0 || self.in_message
    }

    fn bytes(&mut self, side: Side, mut at: i64, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.lost && self.closed.is_none() {
            let taken = if self.in_payload {
                let taken = self.left.min(bytes.len() as u64);
                self.left -= taken;
                taken as usize
            } else {
                let taken = (self.header_size() - self.header_len).min(bytes.len());
                let to = self.header_len + taken;
                self.header[self.header_len..to].copy_from_slice(&bytes[..taken]);
                self.header_len = to;
                // The second byte tells how long the header is.
                if to >= 2 && to == self.header_size() {
                    self.begin_frame(side);
                }
                taken
            };
            (at, bytes) = (at + taken as i64, &bytes[taken..]);
            self.end_frame(at);
        }
    }

    /// Bytes of payload may be missing; a header may not.
    fn missing(&mut self, at: i64, count: u64) {
        if self.closed.is_some() {
            return;
        }
        match self.left.checked_sub(count).filter(|_| self.in_payload) {
            Some(left) => {
                self.left = left;
                self.end_frame(at.saturating_add_unsigned(count));
            }
            None => self.lost = true,
        }
    }

    /// Length of the current header, as far as its first two bytes tell.
    fn header_size(&self) -> usize {
        match self.header[1] & LENGTH {
            _ if self.header_len < 2 => 2,
            127 => 10,
            126 => 4,
            _ => 2,
        }
    }

    fn begin_frame(&mut self, side: Side) {
        let [first, second, length @ ..] = self.header;
        let [high, low, ..] = length;
        let length = match second & LENGTH {
            127 => u64::from_be_bytes(length),
            126 => u64::from(u16::from_be_bytes([high, low])),
            length => u64::from(length),
        };
        let (ends, masked) = (first & FIN != 0, second & MASK != 0);
        // A client masks its frames, a server does not (section 5.1).
        let possible = masked == (side == Side::Client)
            && length <= i64::MAX as u64
            && match first & OPCODE {
                CONTINUATION => self.in_message,
                TEXT | BINARY => !self.in_message,
                CLOSE | PING | PONG => ends && length <= LONGEST_CONTROL,
                _ => false,
            };
        if !possible {
            self.lost = true;
            return;
        }
        self.in_payload = true;
        self.left = length + if masked { MASKING_KEY } else { 0 };
    }

    /// Ends the current frame at this position, if all of it is there.
    fn end_frame(&mut self, at: i64) {
        if !self.in_payload || self.left > 0 {
            return;
        }
        let [first, ..] = self.header;
        (self.in_payload, self.header_len) = (false, 0);
        match first & OPCODE {
            CLOSE => self.closed = Some(at),
            PING | PONG => {}
            _ => self.in_message = first & FIN == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of this side with a payload of so many bytes.
    fn frame(side: Side, first: u8, length: u64) -> Vec<u8> {
        let mask = if side == Side::Client { MASK } else { 0 };
        let mut frame = vec![first];
        match length {
            0..=125 => frame.push(mask | length as u8),
            126..=0xffff => {
                frame.push(mask | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend(length.to_be_bytes());
            }
        }
        let key = if mask == 0 { 0 } else { MASKING_KEY };
        frame.resize(frame.len() + (length + key) as usize, 0x55);
        frame
    }

    fn after(side: Side, bytes: &[u8], piece: usize) -> WebSocket {
        let mut socket = WebSocket::default();
        let mut at = 0;
        for piece in bytes.chunks(piece) {
            socket.take(side, at, Piece::Data(piece));
            at += piece.len() as i64;
        }
        socket
    }

    #[test]
    fn frames_of_every_length_end_where_they_should_in_pieces_of_any_size() {
        for side in [Side::Client, Side::Server] {
            let cut = match side {
                Side::Client => Phase::DuringRequest,
                Side::Server => Phase::DuringResponse,
            };
            for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
                let whole = [frame(side, FIN | BINARY, length), frame(side, FIN | PING, 3)];
                let whole = whole.concat();
                for piece in [1, 2, 3, 7, 1448, whole.len()] {
                    let socket = after(side, &whole, piece);
                    assert_eq!(socket.stage(), Phase::AfterResponse, "{length} by {piece}");
                    let short = after(side, &whole[..whole.len() - 1], piece);
                    assert_eq!(short.stage(), cut, "{length} by {piece}, a byte short");
                }
            }
        }
    }

    #[test]
    fn a_message_of_several_frames_ends_with_its_last_one() {
        let side = Side::Server;
        let mut bytes = frame(side, TEXT, 10);
        assert_eq!(after(side, &bytes, 5).stage(), Phase::DuringResponse);
        bytes.extend(frame(side, FIN | PONG, 0));
        bytes.extend(frame(side, CONTINUATION, 10));
        assert_eq!(after(side, &bytes, 5).stage(), Phase::DuringResponse);
        bytes.extend(frame(side, FIN | CONTINUATION, 0));
        assert_eq!(after(side, &bytes, 5).stage(), Phase::AfterResponse);
    }

    #[test]
    fn nothing_follows_a_close() {
        let side = Side::Client;
        let mut bytes = [frame(side, FIN | TEXT, 4), frame(side, FIN | CLOSE, 2)].concat();
        let end = bytes.len() as i64;
        bytes.extend(b"whatever");
        for piece in [1, 4, 100] {
            let socket = after(side, &bytes, piece);
            assert_eq!(socket.closed(side), Some(end), "{piece}");
            assert_eq!(socket.closed(side.peer()), None);
            assert_eq!(socket.stage(), Phase::AfterResponse);
        }
    }

    #[test]
    fn what_cannot_be_a_frame_loses_them() {
        let impossible: &[(Side, &[u8])] = &[
            (Side::Client, &[0x81, 0x01, 0]),
            (Side::Server, &[0x81, 0x81, 0, 0, 0, 0, 0]),
            (Side::Server, &[0x83, 0]),
            (Side::Server, &[0x80, 0]),
            (Side::Server, &[0x01, 0, 0x01, 0]),
            (Side::Server, &[0x09, 0]),
            (Side::Server, &[0x89, 126, 0, 126]),
            (Side::Server, &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        ];
        for (side, bytes) in impossible {
            assert_eq!(after(*side, bytes, 1).stage(), Phase::Unknown, "{bytes:?}");
        }
    }

    #[test]
    fn missing_payload_is_passed_over_and_a_missing_header_is_not() {
        let side = Side::Server;
        let bytes = frame(side, FIN | BINARY, 1000);
        let mut socket = after(side, &bytes[..100], 100);
        socket.take(side, 100, Piece::Missing(bytes.len() as u64 - 100));
        assert_eq!(socket.stage(), Phase::AfterResponse);
        socket.take(side, 2000, Piece::Missing(1));
        assert_eq!(socket.stage(), Phase::Unknown);
    }
}
