// SPDX-License-Identifier: GPL-2.0-or-later
//! The PROXY protocol: a header by which a load balancer tells, before anything else is said,
//! for whom it has opened the connection (versions 1 and 2, as HAProxy specifies them).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// How a header of version 1 begins.
const TEXT: &[u8] = b"PROXY ";
/// The longest one, with its line end.
const LONGEST_TEXT: usize = 107;

/// How a header of version 2 begins.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of the signature that no HTTP begins with.
const TELLING: usize = 5;
/// Signature, version and command, family, length.
const FIXED: usize = 16;
/// Two addresses of IPv6 and two ports: the longest that is of use here.
const ADDRESSES: usize = 36;

/// A header, as far as it is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Header {
    /// The bytes that have come so far.
    Begun(Vec<u8>),
    /// The address is known, and so many bytes of the header are still to come.
    Read(Option<SocketAddr>, u64),
    /// It is none, or not in the capture.
    Lost,
}

/// Whether a connection that begins with these bytes begins with a header.
pub fn starts(bytes: &[u8]) -> bool {
    let shown = bytes.len().min(SIGNATURE.len());
    bytes.starts_with(TEXT) || shown >= TELLING && bytes[..shown] == SIGNATURE[..shown]
}

impl Default for Header {
    fn default() -> Header {
        Header::Begun(Vec::new())
    }
}

impl Header {
    /// Takes the next bytes, and returns what is behind the header.
    pub fn take<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        while let (Header::Begun(begun), Some((&byte, rest))) =
            (&mut *self, bytes.split_first())
        {
            begun.push(byte);
            bytes = rest;
            if let Some(read) = read(begun) {
                *self = read;
            }
        }
        let Header::Read(_, left) = self else { return bytes };
        let skipped = (*left).min(bytes.len() as u64);
        *left -= skipped;
        &bytes[skipped as usize..]
    }

    /// Passes over bytes that the capture lacks.
    pub fn miss(&mut self, count: u64) {
        match self {
            Header::Read(_, left) if *left >= count => *left -= count,
            _ => *self = Header::Lost,
        }
    }

    /// Whether all of it is there.
    pub fn is_complete(&self) -> bool {
        matches!(self, Header::Read(_, 0))
    }

    /// The client for whom the connection was opened, if the header names one.
    pub fn client(&self) -> Option<SocketAddr> {
        match self {
            Header::Read(client, _) => *client,
            Header::Begun(_) | Header::Lost => None,
        }
    }
}

/// What these bytes of a header say; `None` as long as they are too few.
fn read(bytes: &[u8]) -> Option<Header> {
    if !starts(bytes) {
        let may_start = TEXT.starts_with(bytes) || SIGNATURE.starts_with(bytes);
        return (!may_start).then_some(Header::Lost);
    }
    if bytes.starts_with(TEXT) {
        return match bytes.strip_suffix(b"\r\n") {
            Some(line) => Some(text(line).unwrap_or(Header::Lost)),
            None => (bytes.len() >= LONGEST_TEXT).then_some(Header::Lost),
        };
    }
    let &[command, family, high, low] = bytes.get(SIGNATURE.len()..FIXED)?.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let addresses = bytes[FIXED..].get(..length.min(ADDRESSES))?;
    let left = (length - addresses.len()) as u64;
    Some(match (command, family) {
        // A health check of the load balancer itself bears no address.
        (0x20, _) => Header::Read(None, left),
        (0x21, 0x11 | 0x21) => match source(family, addresses) {
            Some(client) => Header::Read(Some(client), left),
            None => Header::Lost,
        },
        (0x21, _) => Header::Read(None, left),
        _ => Header::Lost,
    })
}

/// A line of version 1.
fn text(line: &[u8]) -> Option<Header> {
    let line = std::str::from_utf8(line).ok()?;
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Some(Header::Read(None, 0)),
        ["PROXY", "TCP4" | "TCP6", client, _, port, _] => {
            let address: IpAddr = client.parse().ok()?;
            let client = SocketAddr::new(address.to_canonical(), port.parse().ok()?);
            Some(Header::Read(Some(client), 0))
        }
        _ => None,
    }
}

/// The source of an address block of version 2, which has to be whole.
fn source(family: u8, addresses: &[u8]) -> Option<SocketAddr> {
    Some(match family {
        0x11 => {
            let &[a, b, c, d, _, _, _, _, high, low, _, _] = addresses.first_chunk()?;
            SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low]))
        }
        _ => {
            let block: &[u8; ADDRESSES] = addresses.first_chunk()?;
            let address = IpAddr::V6(Ipv6Addr::from(*block.first_chunk()?));
            SocketAddr::new(address.to_canonical(), u16::from_be_bytes([block[32], block[33]]))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client that a header names, and what is behind it; by pieces of this size.
    fn play(bytes: &[u8], piece: usize) -> (Header, Vec<u8>) {
        let mut header = Header::default();
        let mut behind = Vec::new();
        for piece in bytes.chunks(piece) {
            behind.extend(header.take(piece));
        }
        (header, behind)
    }

    fn binary(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend((content.len() as u16).to_be_bytes());
        header.extend(content);
        header
    }

    fn v4() -> Vec<u8> {
        vec![192, 0, 2, 7, 10, 0, 0, 2, 0xdc, 0x04, 0, 80]
    }

    fn v6(tail: usize) -> Vec<u8> {
        let mut content = Vec::new();
        for end in [7, 2] {
            content.extend(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, end).octets());
        }
        content.extend([0xdc, 0x04, 0, 80]);
        content.resize(content.len() + tail, 1);
        content
    }

    #[test]
    fn headers_of_both_versions_are_skipped_and_tell_the_client() {
        let cases: &[(Vec<u8>, Option<&str>)] = &[
            (b"PROXY TCP4 192.0.2.7 10.0.0.2 56324 80\r\n".to_vec(), Some("192.0.2.7:56324")),
            (
                b"PROXY TCP6 2001:db8::7 2001:db8::2 56324 80\r\n".to_vec(),
                Some("[2001:db8::7]:56324"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN a b 1 2\r\n".to_vec(), None),
            (binary(0x21, 0x11, &v4()), Some("192.0.2.7:56324")),
            (binary(0x21, 0x21, &v6(0)), Some("[2001:db8::7]:56324")),
            (binary(0x21, 0x21, &v6(300)), Some("[2001:db8::7]:56324")),
            (binary(0x21, 0x31, &[0; 216]), None),
            (binary(0x20, 0x00, &[]), None),
            (binary(0x20, 0x11, &v4()), None),
        ];
        for (header, client) in cases {
            assert!(starts(header), "{header:?}");
            let client = client.map(str::to_owned);
            for piece in [1, 2, 5, 16, 1000] {
                let (read, behind) = play(&[header, &b"GET /"[..]].concat(), piece);
                assert!(read.is_complete(), "{header:?} by {piece}");
                assert_eq!(
                    read.client().map(|c| c.to_string()),
                    client,
                    "{header:?} by {piece}"
                );
                assert_eq!(behind, b"GET /", "{header:?} by {piece}");
            }
            for end in 0..header.len() {
                let (read, behind) = play(&header[..end], 3);
                assert!(!read.is_complete() && behind.is_empty(), "{header:?} up to {end}");
                assert!(!matches!(read, Header::Lost), "{header:?} up to {end}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_lost() {
        let long = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
        let cases: &[Vec<u8>] = &[
            b"PROXY TCP4 192.0.2.7 10.0.0.2 56324\r\n".to_vec(),
            b"PROXY TCP4 nobody 10.0.0.2 56324 80\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.2 99999 80\r\n".to_vec(),
            long,
            binary(0x11, 0x11, &v4()),
            binary(0x21, 0x11, &v4()[..11]),
        ];
        for bytes in cases {
            let (read, _) = play(bytes, 4);
            assert!(matches!(read, Header::Lost), "{bytes:?}: {read:?}");
        }
    }

    #[test]
    fn requests_do_not_start_like_a_header() {
        for bytes in
            [&b"PROPFIND / HTTP/1.1\r\n"[..], b"PR", b"\r\n\r\nGET / HTTP/1.1\r\n", b"\r\n"]
        {
            assert!(!starts(bytes), "{bytes:?}");
        }
    }

    #[test]
    fn missing_bytes_are_passed_over_behind_the_address_only() {
        let header = binary(0x21, 0x21, &v6(300));
        let (mut read, _) = play(&header[..100], 100);
        read.miss(header.len() as u64 - 100);
        assert!(read.is_complete());
        let (mut read, _) = play(&header[..20], 20);
        read.miss(5);
        assert!(matches!(read, Header::Lost));
    }
}
