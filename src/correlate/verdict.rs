// SPDX-License-Identifier: GPL-2.0-or-later
//! The verdict on one stream: what the public fields say, as plain data.

use crate::tcp::phase::Phase;
use crate::tcp::segment::Endpoint;
use crate::tcp::stream::{Close, Side};
use crate::time::CaptureTime;

/// Whether the exchange that was open at the end, else the last one, was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// The response is complete and the client's TCP has all of it.
    Completed,
    /// A part of the request or of the response was lost.
    Failed,
    /// No request was begun.
    None,
    /// The capture does not show enough to tell.
    Unknown,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Orderly, or nothing is missing.
    Harmless,
    /// Out of order, with nothing known to be lost.
    Warning,
    /// A request or a response was lost.
    Failure,
}

/// Which of nginx's two connections a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// Client to nginx.
    Client,
    /// Nginx to an upstream.
    Upstream,
}

/// The verdict on one stream. Fields are those of the public interface, by their names.
#[derive(Clone, Debug)]
pub struct Verdict<'a> {
    pub summary: String,
    pub severity: Severity,
    pub phase: Option<Phase>,
    pub stage: Phase,
    pub transaction: Transaction,
    pub close: Close,
    pub close_by: Option<Side>,
    pub close_frame: Option<u32>,
    pub piggybacked: Option<bool>,
    pub reset: Option<Reset<'a>>,
    /// Nanoseconds.
    pub idle: Option<i64>,
    pub client: Endpoint,
    pub server: Endpoint,
    /// `None` where the application protocol is not recognized.
    pub requests: Option<u64>,
    pub responses: Option<u64>,
    pub request: Option<&'a str>,
    pub response_status: Option<u16>,
    pub response_acked: Option<bool>,
    pub response_missing: Option<u64>,
    pub caveats: Vec<&'static str>,
    pub nginx_sees: Option<bool>,
    pub leg: Option<Leg>,
    pub other_leg: Option<u32>,
    /// The entries about this stream, the one about the reset first.
    pub entries: Vec<Entry<'a>>,
}

/// The RSTs of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Reset<'a> {
    pub by: Side,
    pub frame: u32,
    pub count: u32,
    /// Payload of the first RST, empty for most.
    pub text: &'a [u8],
}

/// A log entry and how well it fits the stream. Text is as in the file, not escaped.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    pub raw: &'a [u8],
    pub kind: &'static str,
    pub file: &'a str,
    pub line: u64,
    pub time: CaptureTime,
    pub level: &'a str,
    pub pid: u32,
    pub connection: Option<u64>,
    pub message: &'a [u8],
    pub errno: Option<u32>,
    pub action: Option<&'a [u8]>,
    pub client: Option<&'a [u8]>,
    pub server: Option<&'a [u8]>,
    pub request: Option<&'a [u8]>,
    pub subrequest: Option<&'a [u8]>,
    pub upstream: Option<&'a [u8]>,
    pub host: Option<&'a [u8]>,
    pub referrer: Option<&'a [u8]>,
    pub score: u8,
    pub evidence: String,
    /// Nanoseconds from the packet to the entry.
    pub delta: i64,
    pub rivals: u32,
}
