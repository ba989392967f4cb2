// SPDX-License-Identifier: GPL-2.0-or-later
//! One TCP segment as a capture shows it: plain facts, no judgement.

use std::net::IpAddr;

use etherparse::TcpHeaderSlice;
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

/// Bytes of a TCP header without its options.
const FIXED: usize = 20;

/// Source port, destination port, header, and payload of the bytes of a segment that starts
/// with its TCP header, or `None` when they are no TCP header. A frame may have been cut within
/// the options, which nothing here depends on: then there is no payload at hand.
pub fn slice(bytes: &[u8]) -> Option<(u16, u16, Header, &[u8])> {
    let mut fixed: [u8; FIXED] = bytes.get(..FIXED)?.try_into().ok()?;
    let header_len = usize::from(fixed[12] >> 4) * 4;
    if header_len < FIXED {
        return None;
    }
    fixed[12] = (FIXED as u8 / 4) << 4;
    let tcp = TcpHeaderSlice::from_slice(&fixed).ok()?;
    let header = Header {
        seq: tcp.sequence_number(),
        ack: tcp.acknowledgment_number(),
        window: tcp.window_size(),
        ack_flag: tcp.ack(),
        syn: tcp.syn(),
        fin: tcp.fin(),
        rst: tcp.rst(),
    };
    let payload = bytes.get(header_len..).unwrap_or_default();
    Some((tcp.source_port(), tcp.destination_port(), header, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_bytes_of_a_header_suffice() {
        let mut bytes = [0; 34];
        bytes[..4].copy_from_slice(&[0x9c, 0x40, 0, 80]);
        (bytes[7], bytes[12], bytes[13]) = (5, 8 << 4, 0x11);
        for (held, payload) in [(20, 0), (31, 0), (32, 0), (34, 2)] {
            let (src, dst, tcp, data) = slice(&bytes[..held]).unwrap_or_default();
            assert_eq!((src, dst, tcp.seq), (40_000, 80, 5), "{held} bytes");
            assert!(tcp.fin && tcp.ack_flag && !tcp.rst);
            assert_eq!(data.len(), payload);
        }
        assert_eq!(slice(&bytes[..19]), None);
        bytes[12] = 4 << 4;
        assert_eq!(slice(&bytes), None, "no header is that short");
    }
}
