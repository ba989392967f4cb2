// SPDX-License-Identifier: GPL-2.0-or-later
//! Progress of HTTP/2 on a connection, frame by frame (RFC 9113).
//!
//! Frame headers tell which streams are open and which side has ended its part of them. Header
//! blocks are compressed with a state that is not kept here, so requests have no text and
//! responses no status.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::tcp::half::Piece;
use crate::tcp::http::{Exchange, Progress};
use crate::tcp::stream::Side;

/// What a client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The line of it that tells HTTP/2.
pub const PREFACE_LINE: &[u8] = b"PRI * HTTP/2.0";

const HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;

/// The HTTP/2 conversation of one connection.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Http2 {
    client: Frames,
    server: Frames,
    /// Streams that one of the sides has not ended, by identifier.
    open: BTreeMap<u32, Exchange>,
    /// The stream that was ended last.
    last: Option<Exchange>,
    /// Requests that were begun.
    pub begun: u64,
    /// Responses that are complete.
    pub completed: u64,
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
}

/// Whether a server begins an HTTP/2 conversation with these bytes: its settings.
pub fn is_settings(bytes: &[u8]) -> bool {
    matches!(bytes, [0, 0, length, SETTINGS, 0, 0, 0, 0, 0, ..] if length % 6 == 0)
}

impl Http2 {
    /// Takes the next piece that a side sent, and its position.
    pub fn take(&mut self, side: Side, at: i64, piece: Piece<'_>) {
        match piece {
            Piece::Data(bytes) => self.bytes(side, at, bytes),
            Piece::Missing(count) => {
                let frames = self.frames(side);
                match frames.left.checked_sub(count).filter(|_| frames.header_len == HEADER) {
                    Some(left) if left > 0 => frames.left = left,
                    _ => frames.lost = true,
                }
            }
        }
    }

    /// The stream that decides how far the connection has come: of the open ones the one that
    /// is furthest, else the one that was ended last.
    pub fn exchange(&self) -> Option<&Exchange> {
        let furthest = self.open.values().max_by_key(|e| (rank(e.answered), rank(e.sent)));
        furthest.or(self.last.as_ref())
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
            let rest = PREFACE.len() - self.client.preface.min(PREFACE.len());
            let skipped = rest.min(bytes.len());
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
                    self.begin_frame(side, at);
                }
                taken
            } else {
                let taken = frames.left.min(bytes.len() as u64);
                frames.left -= taken;
                taken as usize
            };
            (at, bytes) = (at + taken as i64, &bytes[taken..]);
            let frames = self.frames(side);
            if frames.header_len == HEADER && frames.left == 0 {
                frames.header_len = 0;
                self.end_frame(side, at);
            }
        }
    }

    /// Type, flags and stream of a side's current frame.
    fn current(&mut self, side: Side) -> (u8, u8, u32) {
        let [_, _, _, kind, flags, a, b, c, d] = self.frames(side).header;
        (kind, flags, u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff)
    }

    fn begin_frame(&mut self, side: Side, at: i64) {
        let (kind, _, stream) = self.current(side);
        if kind > CONTINUATION.max(PUSH_PROMISE) + 7 {
            // No type in use has such a number: these are no frames.
            self.frames(side).lost = true;
        } else if stream == 0 || !matches!(kind, DATA | HEADERS) {
            // Settings, pings and windows are no part of any exchange.
        } else if side == Side::Client && kind == HEADERS && !self.open.contains_key(&stream) {
            self.begun += 1;
            if self.open.len() < limits::PIPELINED {
                self.open.insert(stream, Exchange::begun());
            }
        } else if let Some(exchange) =
            self.open.get_mut(&stream).filter(|_| side == Side::Server)
        {
            if exchange.answered == Progress::None {
                exchange.answered = Progress::Begun;
                exchange.response_start = at;
            }
        }
    }

    fn end_frame(&mut self, side: Side, at: i64) {
        let (kind, flags, stream) = self.current(side);
        let ends = matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
        let Some(exchange) = self.open.get_mut(&stream) else { return };
        match side {
            // A stream that is given up has no response, and the connection goes on.
            _ if kind == RST_STREAM => drop(self.open.remove(&stream)),
            Side::Client if ends => exchange.sent = Progress::Complete,
            Side::Server if ends => {
                exchange.answered = Progress::Complete;
                exchange.response_end = Some(at);
                self.completed += 1;
                self.last = self.open.remove(&stream);
            }
            _ => {}
        }
    }
}

fn rank(progress: Progress) -> u8 {
    match progress {
        Progress::None => 0,
        Progress::Lost => 1,
        Progress::Begun => 2,
        Progress::Complete => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: usize) -> Vec<u8> {
        let mut frame = (payload as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.resize(HEADER + payload, 0);
        frame
    }

    /// Plays frames `(side, type, flags, stream, payload)` in pieces of three bytes.
    fn play(frames: &[(Side, u8, u8, u32, usize)]) -> Http2 {
        let mut http = Http2::default();
        let mut at = [0, 0];
        let mut send = |http: &mut Http2, side: Side, bytes: &[u8]| {
            for piece in bytes.chunks(3) {
                http.take(side, at[side as usize], Piece::Data(piece));
                at[side as usize] += piece.len() as i64;
            }
        };
        send(&mut http, Side::Client, PREFACE);
        for &(side, kind, flags, stream, payload) in frames {
            send(&mut http, side, &frame(kind, flags, stream, payload));
        }
        http
    }

    fn told(http: &Http2) -> String {
        let exchange = http.exchange().map(|e| format!(" {:?}/{:?}", e.sent, e.answered));
        format!("{}/{}{}", http.begun, http.completed, exchange.unwrap_or_default())
    }

    #[test]
    fn streams_go_through_request_and_response() {
        use Side::{Client, Server};
        let mut frames =
            vec![(Client, 4, 0, 0, 18), (Server, 4, 0, 0, 6), (Client, 4, 1, 0, 0)];
        assert_eq!(told(&play(&frames)), "0/0");
        frames.push((Client, HEADERS, 4, 1, 40));
        assert_eq!(told(&play(&frames)), "1/0 Begun/None");
        frames.push((Client, DATA, END_STREAM, 1, 10));
        assert_eq!(told(&play(&frames)), "1/0 Complete/None");
        frames.push((Server, HEADERS, 4, 1, 40));
        assert_eq!(told(&play(&frames)), "1/0 Complete/Begun");
        frames.push((Server, DATA, END_STREAM, 1, 500));
        let http = play(&frames);
        assert_eq!(told(&http), "1/1 Complete/Complete");
        assert_eq!(http.exchange().and_then(|e| e.response_end), Some(15 + 49 + 509));
    }

    #[test]
    fn of_several_open_streams_the_furthest_decides() {
        use Side::{Client, Server};
        let frames = [
            (Client, HEADERS, 5, 1, 40),
            (Client, HEADERS, 4, 3, 40),
            (Server, HEADERS, 4, 1, 9),
            (Client, RST_STREAM, 0, 3, 4),
        ];
        assert_eq!(told(&play(&frames)), "2/0 Complete/Begun");
    }

    #[test]
    fn a_stream_that_is_given_up_does_not_end_the_connection() {
        let frames = [(Side::Client, HEADERS, 5, 1, 40), (Side::Client, RST_STREAM, 0, 1, 4)];
        let http = play(&frames);
        assert_eq!(told(&http), "1/0");
        assert!(!http.is_lost());
    }

    #[test]
    fn missing_bytes_inside_a_payload_are_passed_over() {
        let mut http = play(&[]);
        let data = frame(DATA, 0, 1, 100);
        http.take(Side::Server, 0, Piece::Data(&data[..20]));
        http.take(Side::Server, 20, Piece::Missing(50));
        assert!(!http.is_lost());
        http.take(Side::Server, 70, Piece::Missing(50));
        assert!(http.is_lost());
    }
}
