// SPDX-License-Identifier: GPL-2.0-or-later
//! One TCP segment as a capture shows it: plain facts, no judgement.

use std::net::IpAddr;

use etherparse::TcpSlice;
use serde::{Deserialize, Serialize};

use crate::time::CaptureTime;

/// One end of a connection, as a segment names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Network address, where the capture shows it.
    pub addr: Option<IpAddr>,
    /// TCP port.
    pub port: u16,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.addr {
            Some(IpAddr::V6(addr)) => write!(f, "[{addr}]:{}", self.port),
            Some(IpAddr::V4(addr)) => write!(f, "{addr}:{}", self.port),
            None => write!(f, ":{}", self.port),
        }
    }
}

/// One segment. Borrows its bytes from the frame.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Frame number in the capture, from 1.
    pub frame: u32,
    /// Which TCP header of the frame this is; 0 is the outermost.
    pub layer: u32,
    /// Number of the TCP stream, as Wireshark counts.
    pub stream: u32,
    /// When the frame was captured.
    pub time: CaptureTime,
    /// Sender.
    pub src: Endpoint,
    /// Receiver.
    pub dst: Endpoint,
    /// The TCP header.
    pub tcp: Header,
    /// Bytes of payload on the wire.
    pub payload_len: u32,
    /// The payload that the capture holds; shorter than `payload_len` when frames were cut.
    pub payload: &'a [u8],
    /// Identification of the IPv4 header, where it is at hand.
    pub ip_id: Option<u16>,
    /// Time to live, or hop limit, where the IP header is at hand.
    pub ttl: Option<u8>,
    /// Content of the TLS records that end in this segment, as far as the host has the keys.
    pub decrypted: &'a [&'a [u8]],
}

/// The parts of a TCP header that the analysis uses (RFC 9293, section 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Sequence number of the first payload byte, or of the SYN.
    pub seq: u32,
    /// Acknowledgment number; meaningful with `ack_flag`.
    pub ack: u32,
    /// Window as it stands in the header, unscaled.
    pub window: u16,
    /// The ACK control bit.
    pub ack_flag: bool,
    /// The SYN control bit.
    pub syn: bool,
    /// The FIN control bit.
    pub fin: bool,
    /// The RST control bit.
    pub rst: bool,
}

/// Source port, destination port, header, and payload of the bytes of a segment that starts
/// with its TCP header, or `None` when they are no TCP header.
pub fn slice(bytes: &[u8]) -> Option<(u16, u16, Header, &[u8])> {
    let tcp = TcpSlice::from_slice(bytes).ok()?;
    let header = Header {
        seq: tcp.sequence_number(),
        ack: tcp.acknowledgment_number(),
        window: tcp.window_size(),
        ack_flag: tcp.ack(),
        syn: tcp.syn(),
        fin: tcp.fin(),
        rst: tcp.rst(),
    };
    Some((tcp.source_port(), tcp.destination_port(), header, tcp.payload()))
}
