// SPDX-License-Identifier: GPL-2.0-or-later
//! What a capture puts around IP packets, and what networks do to them on the way.
//!
//! Each wrapping makes of one frame of Ethernet what another capture shows of the same packet.
//! The last frame that it makes is the one on which the host shows the segment.

use pcap_file::DataLink;

use super::builder::Frame;

/// One way in which a capture shows packets.
pub struct Wrapping {
    /// What it is.
    pub name: &'static str,
    /// The version of IP that it takes.
    pub version: u8,
    /// Link type of the capture.
    pub link: DataLink,
    /// Whether the host shows the packet's own IP header in the same piece as the segment.
    pub whole: bool,
    /// Settings of the host without which it does not show the segments.
    pub args: &'static [&'static str],
    wrap: fn(&[u8], &Frame) -> Vec<Frame>,
}

impl Wrapping {
    /// What this capture shows of a frame.
    pub fn frames(&self, frame: &Frame) -> Vec<Frame> {
        (self.wrap)(&frame.bytes[ETHERNET..], frame)
    }
}

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;

const TWO_ENDS: &[u8] = &[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];

macro_rules! wrapping {
    ($name:literal, $version:literal, $link:expr, $wrap:expr) => {
        Wrapping {
            name: $name,
            version: $version,
            link: $link,
            whole: true,
            args: &[],
            wrap: $wrap,
        }
    };
}

/// Every wrapping.
#[rustfmt::skip]
pub const ALL: &[Wrapping] = &[
    wrapping!("802.1Q", 4, DataLink::ETHERNET, |ip, f| ethernet(f, &[0x81, 0, 0, 7, 8, 0], ip)),
    wrapping!("QinQ", 4, DataLink::ETHERNET, |ip, f| ethernet(f, &[0x88, 0xa8, 0, 100, 0x81, 0, 0, 7, 8, 0], ip)),
    wrapping!("MPLS", 4, DataLink::ETHERNET, |ip, f| ethernet(f, &[0x88, 0x47, 0, 1, 1, 64], ip)),
    wrapping!("PPPoE", 4, DataLink::ETHERNET, |ip, f| {
        let [high, low] = (wire(f) + 2).to_be_bytes();
        ethernet(f, &[0x88, 0x64, 0x11, 0, 0, 5, high, low, 0, 0x21], ip)
    }),
    wrapping!("LLC and SNAP", 4, DataLink::ETHERNET, |ip, f| {
        // Longer ones cannot be told from a type.
        if wire(f) > 1492 {
            return vec![f.clone()];
        }
        let [high, low] = (wire(f) + 8).to_be_bytes();
        ethernet(f, &[high, low, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0], ip)
    }),
    wrapping!("padding and trailer", 4, DataLink::ETHERNET, |_, f| padded(f.clone())),
    wrapping!("padding and trailer behind options", 4, DataLink::ETHERNET, |ip, f| {
        ethernet(f, &[8, 0], &options(ip)).into_iter().flat_map(padded).collect()
    }),
    wrapping!("padding and trailer behind AH", 4, DataLink::ETHERNET, |ip, f| {
        ethernet(f, &[8, 0], &authenticated(ip)).into_iter().flat_map(padded).collect()
    }),
    wrapping!("cut before it was captured", 4, DataLink::ETHERNET, |_, f| sliced(vec![f.clone()])),
    wrapping!("Linux cooked", 4, DataLink::LINUX_SLL, |ip, f| {
        one(f, &[&[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0], ip])
    }),
    wrapping!("Linux cooked 2", 4, DataLink::LINUX_SLL2, |ip, f| {
        one(f, &[&[8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0], ip])
    }),
    wrapping!("raw IP", 4, DataLink::RAW, |ip, f| one(f, &[ip])),
    wrapping!("BSD loopback", 4, DataLink::NULL, |ip, f| one(f, &[&[2, 0, 0, 0], ip])),
    wrapping!("OpenBSD loopback", 4, DataLink::LOOP, |ip, f| one(f, &[&[0, 0, 0, 2], ip])),
    wrapping!("PPP", 4, DataLink::PPP, |ip, f| one(f, &[&[0xff, 3, 0, 0x21], ip])),
    wrapping!("Cisco HDLC", 4, DataLink::C_HDLC, |ip, f| one(f, &[&[0x0f, 0, 8, 0], ip])),
    wrapping!("802.11", 4, DataLink::IEEE802_11, |ip, f| {
        one(f, &[&[8, 1, 0, 0, 2, 0, 0, 0, 0, 9], TWO_ENDS, &[0, 0], &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], ip])
    }),
    wrapping!("NFLOG", 4, DataLink::NFLOG, |ip, f| {
        let [high, low] = (ip.len() as u16 + 4).to_be_bytes();
        sliced(one(f, &[&[2, 0, 0, 0, high, low, 0, 9], ip]))
    }),
    wrapping!("IPv4 options", 4, DataLink::ETHERNET, |ip, f| ethernet(f, &[8, 0], &options(ip))),
    wrapping!("AH", 4, DataLink::ETHERNET, |ip, f| ethernet(f, &[8, 0], &authenticated(ip))),
    wrapping!("total length 0, as before segmentation by the card", 4, DataLink::ETHERNET, |ip, f| {
        let mut ip = ip.to_vec();
        ip[2..4].fill(0);
        ethernet(f, &[8, 0], &ip)
    }),
    Wrapping { args: &["-o", "tcp.check_checksum:TRUE"], ..wrapping!("checksums left to the card", 4, DataLink::ETHERNET, |ip, f| {
        let mut ip = ip.to_vec();
        ip[IPV4 + 16..IPV4 + 18].fill(0x55);
        ethernet(f, &[8, 0], &ip)
    }) },
    Wrapping { args: &["-o", "ip.check_checksum:TRUE"], ..wrapping!("a checksum of IP that is left to the card", 4, DataLink::ETHERNET, |ip, f| {
        let mut ip = ip.to_vec();
        ip[10..12].fill(0x55);
        ethernet(f, &[8, 0], &ip)
    }) },
    wrapping!("IP in IP", 4, DataLink::ETHERNET, |ip, f| tunnel(f, 4, &[], ip)),
    wrapping!("GRE", 4, DataLink::ETHERNET, |ip, f| tunnel(f, 47, &[0, 0, 8, 0], ip)),
    wrapping!("GRE with a key", 4, DataLink::ETHERNET, |ip, f| tunnel(f, 47, &[0x20, 0, 8, 0, 0, 0, 0, 9], ip)),
    wrapping!("ERSPAN", 4, DataLink::ETHERNET, |_, f| {
        tunnel(f, 47, &[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 7, 0, 0, 0, 0, 0, 0], &f.bytes)
    }),
    wrapping!("IPv4 in IPv6", 4, DataLink::ETHERNET, |ip, f| tunnel_v6(f, 4, &[], ip)),
    wrapping!("GRE in IPv6", 4, DataLink::ETHERNET, |ip, f| tunnel_v6(f, 47, &[0, 0, 8, 0], ip)),
    wrapping!("VXLAN", 4, DataLink::ETHERNET, |_, f| {
        datagram(f, 4789, &[8, 0, 0, 0, 0, 0, 7, 0], &f.bytes)
    }),
    wrapping!("Geneve", 4, DataLink::ETHERNET, |_, f| {
        datagram(f, 6081, &[0, 0, 0x65, 0x58, 0, 0, 7, 0], &f.bytes)
    }),
    wrapping!("GTP", 4, DataLink::ETHERNET, |ip, f| {
        let [high, low] = wire(f).to_be_bytes();
        datagram(f, 2152, &[0x30, 0xff, high, low, 0, 0, 0, 1], ip)
    }),
    Wrapping { whole: false, ..wrapping!("IPv4 fragments", 4, DataLink::ETHERNET, |ip, f| {
        fragments_v4(f, ip)
    }) },
    Wrapping { whole: false, ..wrapping!("IPv4 fragments, of which the last comes first", 4, DataLink::ETHERNET, |ip, f| {
        let mut fragments = fragments_v4(f, ip);
        fragments.reverse();
        fragments
    }) },
    wrapping!("IPv6: 802.1Q", 6, DataLink::ETHERNET, |ip, f| ethernet(f, &[0x81, 0, 0, 7, 0x86, 0xdd], ip)),
    wrapping!("IPv6: QinQ", 6, DataLink::ETHERNET, |ip, f| ethernet(f, &[0x88, 0xa8, 0, 100, 0x81, 0, 0, 7, 0x86, 0xdd], ip)),
    wrapping!("IPv6: MPLS", 6, DataLink::ETHERNET, |ip, f| ethernet(f, &[0x88, 0x47, 0, 1, 1, 64], ip)),
    wrapping!("IPv6: PPPoE", 6, DataLink::ETHERNET, |ip, f| {
        let [high, low] = (wire(f) + 2).to_be_bytes();
        ethernet(f, &[0x88, 0x64, 0x11, 0, 0, 5, high, low, 0, 0x57], ip)
    }),
    wrapping!("IPv6: Linux cooked 2", 6, DataLink::LINUX_SLL2, |ip, f| {
        one(f, &[&[0x86, 0xdd, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0], ip])
    }),
    wrapping!("IPv6: OpenBSD loopback", 6, DataLink::LOOP, |ip, f| one(f, &[&[0, 0, 0, 24], ip])),
    wrapping!("IPv6: PPP", 6, DataLink::PPP, |ip, f| one(f, &[&[0xff, 3, 0, 0x57], ip])),
    wrapping!("IPv6: Cisco HDLC", 6, DataLink::C_HDLC, |ip, f| one(f, &[&[0x0f, 0, 0x86, 0xdd], ip])),
    wrapping!("IPv6: 802.11", 6, DataLink::IEEE802_11, |ip, f| {
        one(f, &[&[8, 1, 0, 0, 2, 0, 0, 0, 0, 9], TWO_ENDS, &[0, 0], &[0xaa, 0xaa, 3, 0, 0, 0, 0x86, 0xdd], ip])
    }),
    wrapping!("IPv6: NFLOG", 6, DataLink::NFLOG, |ip, f| {
        let [high, low] = (ip.len() as u16 + 4).to_be_bytes();
        sliced(one(f, &[&[10, 0, 0, 0, high, low, 0, 9], ip]))
    }),
    wrapping!("IPv6: cut before it was captured", 6, DataLink::ETHERNET, |_, f| sliced(vec![f.clone()])),
    wrapping!("IPv6: destination options", 6, DataLink::ETHERNET, |ip, f| {
        ethernet(f, &[0x86, 0xdd], &extended(ip, 60, &[6, 0, 1, 4, 0, 0, 0, 0]))
    }),
    wrapping!("IPv6: AH", 6, DataLink::ETHERNET, |ip, f| {
        let header = [6, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        ethernet(f, &[0x86, 0xdd], &extended(ip, 51, &header))
    }),
    wrapping!("IPv6: a fragment that is all of the packet, and a trailer", 6, DataLink::ETHERNET, |ip, f| {
        ethernet(f, &[0x86, 0xdd], &extended(ip, 44, &[6, 0, 0, 0, 0, 0, 0, 9])).into_iter().flat_map(padded).collect()
    }),
    Wrapping { args: &["-o", "tcp.check_checksum:TRUE"], ..wrapping!("IPv6: checksums left to the card", 6, DataLink::ETHERNET, |ip, f| {
        let mut ip = ip.to_vec();
        ip[IPV6 + 16..IPV6 + 18].fill(0x55);
        ethernet(f, &[0x86, 0xdd], &ip)
    }) },
    wrapping!("IPv6 in IPv6", 6, DataLink::ETHERNET, |ip, f| tunnel_v6(f, 41, &[], ip)),
    wrapping!("IPv6 in GRE", 6, DataLink::ETHERNET, |ip, f| tunnel(f, 47, &[0, 0, 0x86, 0xdd], ip)),
    wrapping!("IPv6: Geneve", 6, DataLink::ETHERNET, |_, f| {
        datagram(f, 6081, &[0, 0, 0x65, 0x58, 0, 0, 7, 0], &f.bytes)
    }),
    wrapping!("IPv6: GTP", 6, DataLink::ETHERNET, |ip, f| {
        let [high, low] = wire(f).to_be_bytes();
        datagram(f, 2152, &[0x30, 0xff, high, low, 0, 0, 0, 1], ip)
    }),
    wrapping!("IPv6: Linux cooked", 6, DataLink::LINUX_SLL, |ip, f| {
        one(f, &[&[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0x86, 0xdd], ip])
    }),
    wrapping!("IPv6: raw", 6, DataLink::RAW, |ip, f| one(f, &[ip])),
    wrapping!("IPv6: BSD loopback", 6, DataLink::NULL, |ip, f| one(f, &[&[30, 0, 0, 0], ip])),
    wrapping!("IPv6: padding and trailer", 6, DataLink::ETHERNET, |_, f| padded(f.clone())),
    wrapping!("IPv6: hop-by-hop options", 6, DataLink::ETHERNET, |ip, f| {
        ethernet(f, &[0x86, 0xdd], &extended(ip, 0, &[6, 0, 1, 4, 0, 0, 0, 0]))
    }),
    wrapping!("IPv6: two extension headers and a trailer", 6, DataLink::ETHERNET, |ip, f| {
        let headers = [60, 0, 1, 4, 0, 0, 0, 0, 6, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        ethernet(f, &[0x86, 0xdd], &extended(ip, 0, &headers)).into_iter().flat_map(padded).collect()
    }),
    Wrapping { args: &["-o", "ipv6.tso_support:TRUE"], ..wrapping!("IPv6: payload length 0, as before segmentation by the card", 6, DataLink::ETHERNET, |ip, f| {
        let mut ip = ip.to_vec();
        ip[4..6].fill(0);
        ethernet(f, &[0x86, 0xdd], &ip)
    }) },
    wrapping!("IPv6: a long routing header and a trailer", 6, DataLink::ETHERNET, |ip, f| {
        let mut header = vec![6, 24, 4, 0, 11, 0, 0, 0];
        header.resize(200, 0x20);
        ethernet(f, &[0x86, 0xdd], &extended(ip, 43, &header)).into_iter().flat_map(padded).collect()
    }),
    wrapping!("IPv6 in IPv4", 6, DataLink::ETHERNET, |ip, f| tunnel(f, 41, &[], ip)),
    wrapping!("IPv6: VXLAN", 6, DataLink::ETHERNET, |_, f| {
        datagram(f, 4789, &[8, 0, 0, 0, 0, 0, 7, 0], &f.bytes)
    }),
    Wrapping { whole: false, ..wrapping!("IPv6 fragments", 6, DataLink::ETHERNET, |ip, f| {
        fragments(f, ip, &[0x86, 0xdd], IPV6, &|more, offset, part| {
            let mut header = ip[..IPV6].to_vec();
            header[4..6].copy_from_slice(&((8 + part.len()) as u16).to_be_bytes());
            header[6] = 44;
            header.extend([6, 0]);
            header.extend((offset as u16 | u16::from(more)).to_be_bytes());
            // Time, as no two packets have the same.
            header.extend(((f.time / 1000) as u32).to_be_bytes());
            header
        })
    }) },
];

/// The same frame behind a router, as a second capture point shows it.
pub fn routed(frame: &Frame) -> Frame {
    let mut frame = frame.clone();
    frame.bytes[..12].copy_from_slice(&[2, 0, 0, 0, 1, 2, 2, 0, 0, 0, 1, 1]);
    let ip = &mut frame.bytes[ETHERNET..];
    if ip[0] >> 4 == 4 {
        ip[8] -= 1;
        sum(&mut ip[..IPV4]);
    } else {
        ip[7] -= 1;
    }
    frame
}

/// One frame of two that follow each other with data of one side, where that is possible. Of the
/// length of both, IP says 0.
pub fn joined(first: &Frame, second: &Frame) -> Option<Frame> {
    let [a, b] = [first, second].map(|frame| &frame.bytes[ETHERNET..]);
    let header = if a[0] >> 4 == 4 { IPV4 } else { IPV6 };
    let of = |ip: &[u8]| {
        let [seq, ack] = [4, 8].map(|at| {
            u32::from_be_bytes(ip[header + at..header + at + 4].try_into().expect("4 bytes"))
        });
        let data = header + usize::from(ip[header + 12] >> 4) * 4;
        (seq, ack, ip[header + 13], data)
    };
    let ((seq, ack, flags, data), (next, next_ack, more, from)) = (of(a), of(b));
    const DATA: u8 = 0x18;
    let follows = seq.wrapping_add((a.len() - data) as u32) == next
        && a[header..header + 4] == b[header..header + 4]
        && (ack, flags) == (next_ack, DATA)
        && more | 1 == DATA | 1
        && a.len() > data
        && b.len() > from;
    follows.then(|| {
        let mut bytes = [&first.bytes[..], &b[from..]].concat();
        let length = if header == IPV4 { 2..4 } else { 4..6 };
        bytes[ETHERNET..][length].fill(0);
        bytes[ETHERNET + header + 13] = more;
        Frame { time: second.time, wire_len: bytes.len(), bytes }
    })
}

/// The same packet of IPv6 with its length in a jumbo payload option (RFC 2675), where it is so
/// long that it may be there.
pub fn jumbogram(frame: &Frame) -> Frame {
    let ip = &frame.bytes[ETHERNET..];
    let length = ip.len() - IPV6 + 8;
    if length <= usize::from(u16::MAX) {
        return frame.clone();
    }
    let [a, b, c, d] = (length as u32).to_be_bytes();
    let (header, rest) = ip.split_at(IPV6);
    let header = [&header[..4], &[0, 0, 0], &header[7..]].concat();
    let option = [6, 0, 0xc2, 4, a, b, c, d];
    let bytes = [&frame.bytes[..ETHERNET], &header, &option, rest].concat();
    Frame { time: frame.time, wire_len: bytes.len(), bytes }
}

/// An ICMP error of a router that quotes a frame's IP packet, all of it up to `quoted` bytes
/// behind its IP header.
pub fn unreachable(frame: &Frame, quoted: usize) -> Frame {
    let quote = &frame.bytes[ETHERNET..];
    let quote = &quote[..quote.len().min(IPV4 + quoted)];
    let mut icmp = vec![3, 1, 0, 0, 0, 0, 0, 0];
    icmp.extend(quote);
    sum_at(&mut icmp, 2);
    let mut ip = quote[..IPV4].to_vec();
    ip[2..4].copy_from_slice(&((IPV4 + icmp.len()) as u16).to_be_bytes());
    ip[9] = 1;
    ip[16..20].copy_from_slice(&quote[12..16]);
    ip[12..16].copy_from_slice(&[10, 9, 9, 9]);
    sum(&mut ip);
    let bytes = [TWO_ENDS, &[8, 0], &ip, &icmp].concat();
    Frame { time: frame.time + 1, wire_len: bytes.len(), bytes }
}

/// The same for ICMPv6.
pub fn unreachable_v6(frame: &Frame) -> Frame {
    let quote = &frame.bytes[ETHERNET..];
    let icmp = [&[1, 3, 0, 0, 0, 0, 0, 0], quote].concat();
    let mut ip = quote[..IPV6].to_vec();
    ip[4..6].copy_from_slice(&(icmp.len() as u16).to_be_bytes());
    ip[6] = 58;
    ip[24..40].copy_from_slice(&quote[8..24]);
    ip[15] = 99;
    let bytes = [TWO_ENDS, &[0x86, 0xdd], &ip, &icmp].concat();
    Frame { time: frame.time + 1, wire_len: bytes.len(), bytes }
}

/// Length of a frame's IP packet on the wire.
fn wire(frame: &Frame) -> u16 {
    (frame.wire_len - ETHERNET) as u16
}

/// One frame of these parts, of which a cut frame lacks as much as before.
fn one(frame: &Frame, parts: &[&[u8]]) -> Vec<Frame> {
    let bytes = parts.concat();
    let lacking = frame.wire_len - frame.bytes.len();
    vec![Frame { time: frame.time, wire_len: bytes.len() + lacking, bytes }]
}

fn ethernet(frame: &Frame, tags: &[u8], ip: &[u8]) -> Vec<Frame> {
    one(frame, &[&frame.bytes[..12], tags, ip])
}

/// Ethernet's least length and a trailer, of bytes that look like data. Frames that were cut
/// were long enough, and lack the trailer.
fn padded(mut frame: Frame) -> Vec<Frame> {
    let whole = frame.bytes.len() == frame.wire_len;
    frame.wire_len = frame.wire_len.max(60) + 6;
    if whole {
        frame.bytes.resize(frame.wire_len, b'G');
    }
    vec![frame]
}

/// The same frames where something on the way, and not the capture, has cut them: what they were
/// like before that, only IP tells.
fn sliced(mut frames: Vec<Frame>) -> Vec<Frame> {
    for frame in &mut frames {
        frame.wire_len = frame.bytes.len();
    }
    frames
}

/// A header of IPv4 with options.
fn options(ip: &[u8]) -> Vec<u8> {
    let mut header = ip[..IPV4].to_vec();
    header.extend([0x94, 4, 0, 0, 1, 1, 1, 0]);
    header[0] = 0x47;
    lengthen(&mut header, 8);
    [&header, &ip[IPV4..]].concat()
}

/// An authentication header (RFC 4302) between IPv4 and TCP.
fn authenticated(ip: &[u8]) -> Vec<u8> {
    let mut header = ip[..IPV4].to_vec();
    header[9] = 51;
    lengthen(&mut header, 24);
    header.extend([6, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
    header.resize(IPV4 + 24, 0xaa);
    [&header, &ip[IPV4..]].concat()
}

fn lengthen(header: &mut [u8], by: u16) {
    let total = u16::from_be_bytes([header[2], header[3]]) + by;
    header[2..4].copy_from_slice(&total.to_be_bytes());
    sum(header);
}

/// Extension headers of IPv6; `first` is the kind of the first one.
fn extended(ip: &[u8], first: u8, headers: &[u8]) -> Vec<u8> {
    let mut header = ip[..IPV6].to_vec();
    let length = u16::from_be_bytes([header[4], header[5]]) + headers.len() as u16;
    header[4..6].copy_from_slice(&length.to_be_bytes());
    header[6] = first;
    [&header, headers, &ip[IPV6..]].concat()
}

/// A tunnel over IPv4.
fn tunnel(frame: &Frame, protocol: u8, head: &[u8], inner: &[u8]) -> Vec<Frame> {
    let lacking = frame.wire_len - frame.bytes.len();
    let total = (IPV4 + head.len() + inner.len() + lacking) as u16;
    let [high, low] = total.to_be_bytes();
    let mut outer =
        vec![0x45, 0, high, low, 0, 9, 0, 0, 60, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    sum(&mut outer);
    one(frame, &[TWO_ENDS, &[8, 0], &outer, head, inner])
}

/// A tunnel over IPv6.
fn tunnel_v6(frame: &Frame, protocol: u8, head: &[u8], inner: &[u8]) -> Vec<Frame> {
    let lacking = frame.wire_len - frame.bytes.len();
    let [high, low] = ((head.len() + inner.len() + lacking) as u16).to_be_bytes();
    let end = |last| [0x20, 1, 0x0d, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let outer = [&[0x60, 0, 0, 0, high, low, protocol, 60][..], &end(1), &end(2)].concat();
    one(frame, &[TWO_ENDS, &[0x86, 0xdd], &outer, head, inner])
}

/// A tunnel over UDP.
fn datagram(frame: &Frame, port: u16, head: &[u8], inner: &[u8]) -> Vec<Frame> {
    let lacking = frame.wire_len - frame.bytes.len();
    let length = (8 + head.len() + inner.len() + lacking) as u16;
    let udp = [&[0xc3, 0x50][..], &port.to_be_bytes(), &length.to_be_bytes(), &[0, 0]].concat();
    tunnel(frame, 17, &[&udp, head].concat(), inner)
}

fn fragments_v4(frame: &Frame, ip: &[u8]) -> Vec<Frame> {
    fragments(frame, ip, &[8, 0], IPV4, &|more, offset, part| {
        let mut header = ip[..IPV4].to_vec();
        header[2..4].copy_from_slice(&((IPV4 + part.len()) as u16).to_be_bytes());
        let flags = (offset / 8) as u16 | u16::from(more) << 13;
        header[6..8].copy_from_slice(&flags.to_be_bytes());
        sum(&mut header);
        header
    })
}

/// The IP header of a fragment: whether more follow, where it starts, and what it holds.
type FragmentHeader<'a> = dyn Fn(bool, usize, &[u8]) -> Vec<u8> + 'a;

/// Makes the header of a fragment: whether more follow, its offset, and its part of the data.
type MakeHeader<'a> = dyn Fn(bool, usize, &[u8]) -> Vec<u8> + 'a;

/// Two fragments of a packet that has data, the first of them with the TCP header and the
/// beginning of the data.
fn fragments(
    frame: &Frame,
    ip: &[u8],
    kind: &[u8],
    header_len: usize,
    header: &FragmentHeader<'_>,
) -> Vec<Frame> {
    const FIRST: usize = 24;
    let payload = &ip[header_len..];
    if payload.len() <= FIRST {
        return vec![frame.clone()];
    }
    let mut out = Vec::new();
    for (offset, part) in [(0, &payload[..FIRST]), (FIRST, &payload[FIRST..])] {
        let packet = [&header(offset == 0, offset, part), part].concat();
        out.extend(ethernet(frame, kind, &packet));
    }
    out
}

fn sum(header: &mut [u8]) {
    sum_at(header, 10);
}

/// The Internet checksum (RFC 1071).
fn sum_at(bytes: &mut [u8], at: usize) {
    bytes[at..at + 2].fill(0);
    let words =
        bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |b| u32::from(*b)));
    let mut total: u32 = words.sum();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    bytes[at..at + 2].copy_from_slice(&(!(total as u16)).to_be_bytes());
}
