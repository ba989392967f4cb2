// SPDX-License-Identifier: GPL-2.0-or-later
//! The second front end: a capture file, read by `etherparse`, fed to the core.
//!
//! It stands for Wireshark in tests: the same segments have to give the same verdicts. What
//! Wireshark numbers (frames, TCP streams) is numbered here by the same rules.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
// Each test program uses a part of this.
#![allow(dead_code)]

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;

use etherparse::{EtherType, IpNumber, LaxNetSlice, LaxSlicedPacket};
use pcap_file::pcap::PcapReader;
use pcap_file::DataLink;
use rstdiag::session::Session;
use rstdiag::tcp::segment::{slice, Endpoint, Header, Segment};
use rstdiag::time::CaptureTime;

use builder::{Capture, Frame};

pub mod article;
pub mod builder;
pub mod cases;
pub mod fields;
#[cfg(feature = "wireshark")]
pub mod found;
#[cfg(feature = "wireshark")]
pub mod host;
pub mod lab;
pub mod random;
#[cfg(feature = "wireshark")]
pub mod truth;
pub mod wrap;

/// Feeds a pcap file to a session.
pub fn replay(session: &mut Session, path: &Path) {
    each_segment(path, |segment| session.feed(segment).expect("segments in frame order"));
}

/// Feeds a pcap file whose frames are cut to so many bytes.
pub fn replay_cut(session: &mut Session, path: &Path, snaplen: usize) {
    each_cut_segment(path, snaplen, |segment| {
        session.feed(segment).expect("segments in frame order");
    });
}

fn each_segment(path: &Path, take: impl FnMut(&Segment<'_>)) {
    each_cut_segment(path, usize::MAX, take);
}

fn each_cut_segment(path: &Path, snaplen: usize, mut take: impl FnMut(&Segment<'_>)) {
    let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut reader = PcapReader::new(file).expect("a pcap file");
    let link = reader.header().datalink;
    let mut streams = StreamNumbers::default();
    let mut frame = 0;
    while let Some(packet) = reader.next_packet() {
        frame += 1;
        // A file that was cut ends where it was cut.
        let Ok(packet) = packet else { return };
        let time = CaptureTime(packet.timestamp.as_nanos() as i64);
        let held = &packet.data[..packet.data.len().min(snaplen)];
        if let Some(segment) = segment(link, held, frame, time, &mut streams) {
            take(&segment);
        }
    }
}

/// The frames of a pcap file of Ethernet.
pub fn frames_of(path: &Path) -> Vec<Frame> {
    let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut reader = PcapReader::new(file).expect("a pcap file");
    assert_eq!(reader.header().datalink, DataLink::ETHERNET, "{}", path.display());
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.expect("a whole file");
        frames.push(Frame {
            time: packet.timestamp.as_nanos() as i64,
            bytes: packet.data.to_vec(),
            wire_len: packet.orig_len as usize,
        });
    }
    frames
}

/// By the first frame of each stream of a pcap file: its number.
pub fn stream_begins(path: &Path) -> BTreeMap<u32, u32> {
    let mut begins = HashMap::new();
    each_segment(path, |segment| {
        begins.entry(segment.stream).or_insert(segment.frame);
    });
    begins.into_iter().map(|(stream, frame)| (frame, stream)).collect()
}

/// Feeds frames of Ethernet to a session; after each one, `then` may ask it something.
pub fn feed(session: &mut Session, frames: &[Frame], mut then: impl FnMut(&mut Session, u32)) {
    let mut streams = StreamNumbers::default();
    for (number, frame) in (1..).zip(frames) {
        let (link, time) = (DataLink::ETHERNET, CaptureTime(frame.time));
        if let Some(segment) = segment(link, &frame.bytes, number, time, &mut streams) {
            session.feed(&segment).expect("segments in frame order");
            then(session, number);
        }
    }
}

/// The segment in each frame of Ethernet, if there is one.
pub fn segments_of(frames: &[Frame]) -> Vec<Option<Segment<'_>>> {
    let mut streams = StreamNumbers::default();
    let each = (1..).zip(frames).map(|(number, Frame { time, bytes, .. })| {
        segment(DataLink::ETHERNET, bytes, number, CaptureTime(*time), &mut streams)
    });
    each.collect()
}

/// The session of a capture.
pub fn session_of(capture: &Capture) -> Session {
    let mut session = Session::new();
    feed(&mut session, &capture.frames(), |_, _| ());
    session
}

fn segment<'a>(
    link: DataLink,
    frame_bytes: &'a [u8],
    frame: u32,
    time: CaptureTime,
    streams: &mut StreamNumbers,
) -> Option<Segment<'a>> {
    let packet = match link {
        DataLink::ETHERNET => LaxSlicedPacket::from_ethernet(frame_bytes).ok()?,
        DataLink::RAW => LaxSlicedPacket::from_ip(frame_bytes).ok()?,
        DataLink::LINUX_SLL2 => {
            let (header, packet) = frame_bytes.split_at_checked(20)?;
            let ether_type = EtherType(u16::from_be_bytes([header[0], header[1]]));
            LaxSlicedPacket::from_ether_type(ether_type, packet)
        }
        other => panic!("the replay does not read {other:?}"),
    };
    let ip =
        packet.ip_payload().filter(|ip| ip.ip_number == IpNumber::TCP && !ip.fragmented)?;
    // Ethernet pads short frames, and a capture may cut long ones, also within the TCP header.
    let (src_port, dst_port, header, payload) = slice(ip.payload)?;
    let header_len = usize::from(ip.payload[12] >> 4) * 4;
    let (src, dst, ip_id, ttl, ip_payload) = match packet.net? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let payload = usize::from(header.total_len()).checked_sub(header.slice().len())?;
            let (src, dst) = (header.source_addr().into(), header.destination_addr().into());
            (src, dst, Some(header.identification()), header.ttl(), payload)
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            let payload = header.payload_length() as usize;
            let (src, dst) = (header.source_addr().into(), header.destination_addr().into());
            (src, dst, None, header.hop_limit(), payload)
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let src = Endpoint { addr: Some(src), port: src_port };
    let dst = Endpoint { addr: Some(dst), port: dst_port };
    let payload_len = ip_payload.checked_sub(header_len)? as u32;
    let stream = streams.number(src, dst, &header);
    Some(Segment {
        frame,
        layer: 0,
        stream,
        time,
        src,
        dst,
        tcp: header,
        payload_len,
        payload,
        ip_id,
        ttl: Some(ttl),
        decrypted: &[],
    })
}

/// A stream's number, and the sequence numbers of both ends' SYNs.
type Known = (u32, [Option<u32>; 2]);

/// Numbers streams as Wireshark does: by addresses and ports, with a new number where a SYN
/// with another sequence number than the sender's last one uses them again.
#[derive(Default)]
struct StreamNumbers {
    known: HashMap<(Endpoint, Endpoint), Known>,
    count: u32,
}

impl StreamNumbers {
    fn number(&mut self, src: Endpoint, dst: Endpoint, tcp: &Header) -> u32 {
        let forward = (src.addr, src.port) < (dst.addr, dst.port);
        let (key, own) = if forward { ((src, dst), 0) } else { ((dst, src), 1) };
        let isn = (tcp.syn && !tcp.ack_flag).then_some(tcp.seq);
        if let Some((number, isns)) = self.known.get_mut(&key) {
            if isn.is_none() || isns[own].is_none() || isns[own] == isn {
                isns[own] = isns[own].or(isn);
                return *number;
            }
        }
        let number = self.count;
        self.count += 1;
        let mut isns = [None; 2];
        isns[own] = isn;
        // A SYN-ACK that comes first tells the number of the SYN before it.
        isns[1 - own] = (tcp.syn && tcp.ack_flag).then(|| tcp.ack.wrapping_sub(1));
        self.known.insert(key, (number, isns));
        number
    }
}

/// Reads an error log into a session, in pieces as the boundary does.
pub fn read_log(session: &mut Session, path: &Path) {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    session.begin_error_log(&path.to_string_lossy());
    for piece in bytes.chunks(4096) {
        session.log_bytes(piece);
    }
    session.end_log().expect("a usable log");
}
