// SPDX-License-Identifier: GPL-2.0-or-later
//! Captures from scripts: what two ends sent, one segment a line, written as a pcap file.
//!
//! ```text
//! open                      SYN, SYN-ACK, ACK
//! c GET:/a                  a request head; data goes as `P.` unless flags say otherwise
//! s 200:10 x*4              a response head that promises ten bytes, and four of them
//! c R. +0.2                 RST+ACK, 0.2 s later; the usual distance is a millisecond
//! ```
//!
//! A line is a side (`c` or `s`), then, in any order:
//!
//! | word | meaning |
//! |---|---|
//! | `S` `F` `R` `P` `U` `.` | flags, written together, as tcpdump prints them; urgent is the last byte |
//! | `GET:/a` `POST:/p:10` `PUT:/p:chunked` | a request head |
//! | `200:10` `200:chunked` `200:close` `204` | a response head |
//! | `tls:22:100` | a TLS record of this content type and length |
//! | `fastcgi:GET:/a` | BEGIN_REQUEST and PARAMS, to their end |
//! | `fastcgi:in:5` `fastcgi:err:5` | STDIN and STDERR of so many bytes |
//! | `fastcgi:out:close` `fastcgi:end` | STDOUT with a head, END_REQUEST |
//! | `uwsgi:GET:/a:0` `scgi:POST:/p:10` | the variables of a request, and the length of its body |
//! | `cgi:10` `cgi:close` | the head of a gateway's answer |
//! | `x*10` | a byte, many times |
//! | `"a\r\n\x22"` | text |
//! | `hex:160301` | bytes |
//! | `upgrade:websocket` `switch:websocket` | a request for another protocol, and the 101 |
//! | `ws:81:5` `wsm:01:70000` | a WebSocket frame: first byte, length; `wsm` is masked |
//! | `GET:/a[..8]` `200:10[8..]` | a part of any of these |
//! | `seq=7` `seq=-1` | sequence number as Wireshark shows it, or relative to the next one |
//! | `ack=7` `ack=-1` | the same for the acknowledgment number |
//! | `again` `again=2` | what this side sent last (or before that) once more, with a new id |
//! | `win=0` `id=0` `ttl=64` | fields of the headers |
//! | `passive` | `id=0 win=0`: how Linux answers where there is no socket |
//! | `+0.5` | seconds since the line before |
//! | `lost` | in the capture, but never arrives |
//! | `drop` | arrives, but is not in the capture |
//! | `dup` | twice in the capture, as two interfaces show it |
//! | `late=2` | in the capture behind the next two frames |
//! | `stamp=-0.002` | its time stamp is that of another moment, and where it stands is not |
//!
//! Sequence and acknowledgment numbers follow from what was sent and what arrived. `open` takes
//! `drop` for a capture that starts later. Lines of their own, before all others: `v6`,
//! `filtered` (to SYN, FIN and RST), `snaplen 96`, `timestamps` (TCP's option of that name in every header), `doubled` (every frame
//! twice) and `isn 100 200` (of client and server). Where the talk is over IPv6 and the script says
//! nothing of it, a frame keeps as much of TCP as over IPv4.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use etherparse::{
    IpHeaders, IpNumber, Ipv4Header, Ipv6Header, PacketBuilder, TcpHeader, TcpOptionElement,
};
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, TsResolution};

const MILLISECOND: i64 = 1_000_000;
const MICROSECOND: i64 = 1_000;

/// The frames of a capture.
#[derive(Clone, Debug, Default)]
pub struct Capture {
    /// Each with the latest time stamp of its talk so far.
    frames: Vec<(i64, Frame)>,
}

/// One frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Nanoseconds since the epoch.
    pub time: i64,
    /// The bytes that the capture holds.
    pub bytes: Vec<u8>,
    /// Length on the wire.
    pub wire_len: usize,
}

/// Who talks, and when the talk begins.
#[derive(Clone, Debug)]
pub struct Talk {
    /// Addresses of client and server.
    pub ends: [SocketAddr; 2],
    /// Nanoseconds since the epoch.
    pub start: i64,
    /// Initial sequence numbers of client and server; a script's own take precedence.
    pub isn: [u32; 2],
}

impl Talk {
    /// A talk between these ends, 2024-01-01 00:00:00 UTC.
    pub fn between(client: &str, server: &str) -> Talk {
        let end = |text: &str| text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        Talk {
            ends: [end(client), end(server)],
            start: 1_704_067_200_000_000_000,
            isn: [1_000_000, 2_000_000],
        }
    }

    /// The same talk over IPv6.
    pub fn over_v6(self) -> Talk {
        let map = |end: SocketAddr| match end.ip() {
            IpAddr::V4(v4) => {
                let [a, b] = [[0, 1], [2, 3]].map(|[high, low]| {
                    u16::from_be_bytes([v4.octets()[high], v4.octets()[low]])
                });
                let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, a, b);
                SocketAddr::new(v6.into(), end.port())
            }
            IpAddr::V6(_) => end,
        };
        Talk { ends: self.ends.map(map), ..self }
    }
}

impl Default for Talk {
    fn default() -> Talk {
        Talk::between("10.0.0.1:40000", "10.0.0.2:80")
    }
}

impl Capture {
    /// The capture of one talk.
    pub fn of(talk: &Talk, script: &str) -> Capture {
        let mut capture = Capture::default();
        capture.play(talk, script);
        capture
    }

    /// Adds a talk.
    pub fn play(&mut self, talk: &Talk, script: &str) {
        let mut latest = i64::MIN;
        self.frames.extend(Player::new(talk).play(script).into_iter().map(|frame| {
            latest = latest.max(frame.time);
            (latest, frame)
        }));
    }

    /// The frames, those of several talks in the order of time.
    pub fn frames(&self) -> Vec<Frame> {
        let mut frames = self.frames.clone();
        frames.sort_by_key(|(latest, _)| *latest);
        frames.into_iter().map(|(_, frame)| frame).collect()
    }

    /// Writes a pcap file.
    pub fn write(&self, path: &Path) {
        write(path, &self.frames());
    }
}

/// Writes frames of Ethernet as a pcap file.
pub fn write(path: &Path, frames: &[Frame]) {
    write_as(path, DataLink::ETHERNET, frames);
}

/// Writes frames of this link type as a pcap file.
pub fn write_as(path: &Path, datalink: DataLink, frames: &[Frame]) {
    let file = File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let ts_resolution = TsResolution::NanoSecond;
    // That of tcpdump.
    let snaplen = 262_144;
    let header = PcapHeader { ts_resolution, datalink, snaplen, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(file, header).expect("a pcap header");
    for Frame { time, bytes, wire_len } in frames {
        let time = Duration::from_nanos(*time as u64);
        let packet = PcapPacket::new(time, *wire_len as u32, bytes);
        writer.write_packet(&packet).expect("a packet");
    }
}

/// One end. Positions count from the SYN, as Wireshark's relative numbers do.
#[derive(Debug, Default)]
struct End {
    isn: u32,
    /// The next sequence number.
    next: i64,
    /// Everything of the peer before this has arrived.
    got: i64,
    /// What has arrived behind a hole: start and end.
    early: BTreeMap<i64, i64>,
    /// Identification of the next IPv4 header.
    id: u16,
    /// What was sent and takes up sequence numbers.
    sent: Vec<Line>,
}

impl End {
    fn receive(&mut self, start: i64, end: i64) {
        self.early.insert(start, end);
        while let Some((&start, &end)) = self.early.first_key_value() {
            if start > self.got {
                break;
            }
            self.early.remove(&start);
            self.got = self.got.max(end);
        }
    }
}

/// A number of the header: left to the player, as it is, or relative to what the player chose.
#[derive(Clone, Copy, Debug, Default)]
enum Number {
    #[default]
    Auto,
    Is(i64),
    Off(i64),
}

impl Number {
    fn parse(text: &str) -> Number {
        let value: i64 = text.parse().unwrap_or_else(|_| panic!("{text} is no number"));
        match text.starts_with(['+', '-']) {
            true => Number::Off(value),
            false => Number::Is(value),
        }
    }

    fn or(self, auto: i64) -> i64 {
        match self {
            Number::Auto => auto,
            Number::Is(value) => value,
            Number::Off(offset) => auto + offset,
        }
    }
}

/// One line of a script.
#[derive(Clone, Debug, Default)]
struct Line {
    flags: Option<String>,
    payload: Vec<u8>,
    seq: Number,
    ack: Number,
    again: Option<usize>,
    window: Option<u16>,
    id: Option<u16>,
    ttl: Option<u8>,
    after: Option<i64>,
    lost: bool,
    drop: bool,
    dup: bool,
    late: usize,
    stamp: i64,
}

impl Line {
    fn parse(words: &[String]) -> Line {
        let mut line = Line::default();
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            match (name, value) {
                ("lost", "") => line.lost = true,
                ("drop", "") => line.drop = true,
                ("dup", "") => line.dup = true,
                ("again", "") => line.again = Some(1),
                ("again", n) => line.again = Some(n.parse().expect("how far back")),
                ("passive", "") => (line.id, line.window) = (Some(0), Some(0)),
                ("seq", n) => line.seq = Number::parse(n),
                ("ack", n) => line.ack = Number::parse(n),
                ("win", n) => line.window = Some(n.parse().expect("a window")),
                ("id", n) => line.id = Some(n.parse().expect("an identification")),
                ("ttl", n) => line.ttl = Some(n.parse().expect("a time to live")),
                ("stamp", n) => {
                    let seconds: f64 = n.parse().expect("seconds");
                    line.stamp = (seconds * 1e9) as i64;
                }
                ("late", n) => line.late = n.parse().expect("a number of frames"),
                _ if word.starts_with('+') => {
                    let seconds: f64 = word.parse().expect("seconds");
                    line.after = Some((seconds * 1e9) as i64);
                }
                _ if word.bytes().all(|b| b"SFRPU.".contains(&b)) => {
                    line.flags = Some(word.clone());
                }
                _ => line.payload.extend(payload(word)),
            }
        }
        line
    }

    fn has(&self, flag: char) -> bool {
        match &self.flags {
            Some(flags) => flags.contains(flag),
            None => matches!(flag, 'P' | '.'),
        }
    }

    /// Sequence numbers that it takes up.
    fn length(&self) -> i64 {
        self.payload.len() as i64 + i64::from(self.has('S')) + i64::from(self.has('F'))
    }
}

struct Player {
    addresses: [SocketAddr; 2],
    ends: [End; 2],
    now: i64,
    snaplen: usize,
    /// By how much frames are longer than those of which a script's `snaplen` counts the bytes.
    longer: usize,
    timestamps: bool,
    doubled: bool,
    filtered: bool,
    /// Frames, and how many further ones each stands behind.
    frames: Vec<(usize, Frame)>,
}

impl Player {
    fn new(talk: &Talk) -> Player {
        let end = |isn, id| End { isn, id, ..End::default() };
        Player {
            addresses: talk.ends,
            ends: [end(talk.isn[0], 1000), end(talk.isn[1], 5000)],
            now: talk.start - MILLISECOND,
            snaplen: usize::MAX,
            longer: if talk.ends[0].is_ipv6() {
                Ipv6Header::LEN - Ipv4Header::MIN_LEN
            } else {
                0
            },
            timestamps: false,
            doubled: false,
            filtered: false,
            frames: Vec::new(),
        }
    }

    fn play(mut self, script: &str) -> Vec<Frame> {
        for line in script.lines() {
            let words = words(line);
            let Some((first, rest)) = words.split_first() else { continue };
            let argument = |index: usize| -> u32 {
                let text = rest.get(index).unwrap_or_else(|| panic!("{line}: what?"));
                text.parse().unwrap_or_else(|_| panic!("{line}: no number"))
            };
            match first.as_str() {
                "v6" => {
                    let talk = Talk { ends: self.addresses, start: 0, isn: [0; 2] };
                    self.addresses = talk.over_v6().ends;
                    self.longer = 0;
                }
                "snaplen" => self.snaplen = argument(0) as usize + self.longer,
                "timestamps" => self.timestamps = true,
                "filtered" => self.filtered = true,
                "doubled" => self.doubled = true,
                "isn" => {
                    self.ends[0].isn = argument(0);
                    self.ends[1].isn = argument(1);
                }
                "open" => {
                    for (side, flags) in [(0, "S"), (1, "S."), (0, ".")] {
                        let mut line = Line::parse(rest);
                        line.flags = Some(flags.to_owned());
                        self.send(side, line);
                    }
                }
                "c" => self.send(0, Line::parse(rest)),
                "s" => self.send(1, Line::parse(rest)),
                _ => panic!("{line}: not understood"),
            }
        }
        self.in_order_of_capture()
    }

    fn send(&mut self, side: usize, mut line: Line) {
        self.now += line.after.unwrap_or(MILLISECOND);
        if let Some(back) = line.again {
            let sent = &self.ends[side].sent;
            let old = &sent[sent.len() - back];
            line.flags = line.flags.or(old.flags.clone());
            (line.payload, line.seq) = (old.payload.clone(), old.seq);
        }
        let (own, peer) = match &mut self.ends {
            [client, server] if side == 0 => (client, server),
            [client, server] => (server, client),
        };
        let seq = line.seq.or(own.next);
        let ack = line.ack.or(own.got);
        let end = seq + line.length();
        let mut flags = tcp_header(&line, &self.addresses, side);
        if self.timestamps {
            let stamp = TcpOptionElement::Timestamp((self.now / MILLISECOND) as u32, 0);
            flags.set_options(&[stamp]).expect("room for an option");
        }
        let header = TcpHeader {
            sequence_number: own.isn.wrapping_add(seq as u32),
            acknowledgment_number: match line.has('.') {
                true => peer.isn.wrapping_add(ack as u32),
                false => 0,
            },
            ..flags
        };
        let id = line.id.unwrap_or_else(|| {
            own.id = own.id.wrapping_add(1).max(1);
            own.id
        });
        if !line.has('R') && line.length() > 0 {
            own.next = own.next.max(end);
            if !line.lost {
                peer.receive(seq, end);
            }
        }
        let is_end = ['S', 'F', 'R'].into_iter().any(|flag| line.has(flag));
        if !line.drop && (is_end || !self.filtered) {
            let hops = (id, line.ttl.unwrap_or(64));
            let bytes = frame(&self.addresses, side, header, hops, &line.payload);
            let wire_len = bytes.len();
            let kept = bytes[..wire_len.min(self.snaplen)].to_vec();
            let time = self.now + line.stamp;
            let frame = Frame { time, bytes: kept, wire_len };
            for _ in 0..1 + usize::from(line.dup || self.doubled) {
                self.frames.push((line.late, frame.clone()));
            }
        }
        if line.length() > 0 {
            line.seq = Number::Is(seq);
            self.ends[side].sent.push(line);
        }
    }

    /// Moves late frames back; time runs backwards in the capture only where the script says so.
    fn in_order_of_capture(self) -> Vec<Frame> {
        let mut frames: Vec<_> = (0..).zip(self.frames).collect();
        frames.sort_by_key(|(index, (late, _))| (index + late, *late > 0));
        let mut last = i64::MIN;
        let mut out = Vec::new();
        for (_, (late, mut frame)) in frames {
            if late > 0 {
                frame.time = frame.time.max(last.saturating_add(MICROSECOND));
            }
            last = frame.time;
            out.push(frame);
        }
        out
    }
}

fn tcp_header(line: &Line, ends: &[SocketAddr; 2], side: usize) -> TcpHeader {
    let window = line.window.unwrap_or(64_240);
    let mut header = TcpHeader::new(ends[side].port(), ends[1 - side].port(), 0, window);
    header.syn = line.has('S');
    header.fin = line.has('F');
    header.rst = line.has('R');
    header.psh = line.has('P');
    header.ack = line.has('.');
    header.urg = line.has('U');
    header.urgent_pointer = if header.urg { line.payload.len() as u16 } else { 0 };
    header
}

fn frame(
    ends: &[SocketAddr; 2],
    side: usize,
    tcp: TcpHeader,
    (id, ttl): (u16, u8),
    payload: &[u8],
) -> Vec<u8> {
    let mac = |side: usize| [2, 0, 0, 0, 0, side as u8 + 1];
    let ip = match (ends[side].ip(), ends[1 - side].ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut header = Ipv4Header::new(0, ttl, IpNumber::TCP, src.octets(), dst.octets())
                .expect("an IPv4 header");
            header.identification = id;
            header.dont_fragment = true;
            IpHeaders::Ipv4(header, Default::default())
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let header = Ipv6Header {
                hop_limit: ttl,
                next_header: IpNumber::TCP,
                source: src.octets(),
                destination: dst.octets(),
                ..Ipv6Header::default()
            };
            IpHeaders::Ipv6(header, Default::default())
        }
        _ => panic!("both ends speak the same version of IP"),
    };
    let builder = PacketBuilder::ethernet2(mac(side), mac(1 - side)).ip(ip).tcp_header(tcp);
    let mut bytes = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut bytes, payload).expect("a packet");
    bytes
}

/// Words of a line, with quoted text kept whole; `#` begins a comment.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let mut quoted = false;
        let end = rest.find(|c: char| {
            quoted ^= c == '"';
            c.is_whitespace() && !quoted
        });
        let (word, tail) = rest.split_at(end.unwrap_or(rest.len()));
        words.push(word.to_owned());
        rest = tail.trim_start();
    }
    words
}

/// The bytes that a word stands for.
pub fn payload(word: &str) -> Vec<u8> {
    let part = word.strip_suffix(']').and_then(|word| word.rsplit_once('['));
    if let Some((whole, range)) = part.filter(|(_, range)| range.contains("..")) {
        let bytes = payload(whole);
        let (from, to) = range.split_once("..").expect("a range");
        let from = from.parse().unwrap_or(0);
        let to = to.parse().unwrap_or(bytes.len());
        return bytes[from..to].to_vec();
    }
    if let Some(text) = word.strip_prefix('"').and_then(|word| word.strip_suffix('"')) {
        return unescaped(text);
    }
    if let Some((byte, count)) = word.split_once('*').filter(|(byte, _)| byte.len() == 1) {
        return byte.repeat(count.parse().expect("a count")).into_bytes();
    }
    let parts: Vec<&str> = word.split(':').collect();
    match *parts.as_slice() {
        ["hex", digits] => (0..digits.len() / 2)
            .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("hex"))
            .collect(),
        ["upgrade", protocol] => {
            head(&format!("GET /up HTTP/1.1\r\nHost: h\r\nUpgrade: {protocol}"), &[])
        }
        ["switch", protocol] => {
            head(&format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: {protocol}"), &[])
        }
        [framing @ ("ws" | "wsm"), first, length] => {
            let first = u8::from_str_radix(first, 16).expect("a first byte");
            let length: u64 = length.parse().expect("a length");
            websocket_frame(first, framing == "wsm", length)
        }
        ["tls", kind, length] => {
            let length: u16 = length.parse().expect("a length");
            let mut record = vec![kind.parse().expect("a content type"), 3, 3];
            record.extend(length.to_be_bytes());
            record.resize(record.len() + usize::from(length), 0);
            record
        }
        ["fastcgi", "out", length] => fastcgi(6, &cgi(length)),
        ["fastcgi", "err", length] => {
            fastcgi(7, &vec![b'e'; length.parse().expect("a length")])
        }
        ["fastcgi", "in", length] => fastcgi(5, &vec![b'i'; length.parse().expect("a length")]),
        ["fastcgi", "end"] => fastcgi(3, &[0; 8]),
        ["fastcgi", method, uri] => {
            let vars = vars(method, uri, "0");
            let params: Vec<u8> = vars
                .iter()
                .flat_map(|(name, value)| {
                    [&[name.len() as u8, value.len() as u8], name.as_bytes(), value.as_bytes()]
                        .concat()
                })
                .collect();
            let begin = fastcgi(1, &[0, 1, 1, 0, 0, 0, 0, 0]);
            [begin, fastcgi(4, &params), fastcgi(4, &[])].concat()
        }
        ["uwsgi", method, uri, length] => {
            let string =
                |text: &str| [&(text.len() as u16).to_le_bytes(), text.as_bytes()].concat();
            let vars = vars(method, uri, length);
            let vars: Vec<u8> = vars
                .iter()
                .flat_map(|(name, value)| [string(name), string(value)].concat())
                .collect();
            let [low, high] = (vars.len() as u16).to_le_bytes();
            [&[0, low, high, 0][..], &vars].concat()
        }
        ["scgi", method, uri, length] => {
            let vars = vars(method, uri, length);
            let text: String =
                vars.iter().rev().map(|(name, value)| format!("{name}\0{value}\0")).collect();
            format!("{}:{text},", text.len()).into_bytes()
        }
        ["cgi", length] => cgi(length),
        [status, ref framing @ ..] if status.len() == 3 && status.parse::<u16>().is_ok() => {
            head(&format!("HTTP/1.1 {status} Status"), framing)
        }
        [method, uri, ref framing @ ..] if uri.starts_with('/') => {
            head(&format!("{method} {uri} HTTP/1.1\r\nHost: h"), framing)
        }
        _ => panic!("{word}: not understood"),
    }
}

fn websocket_frame(first: u8, masked: bool, length: u64) -> Vec<u8> {
    let mask = u8::from(masked) << 7;
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
    let key = if masked { 4 } else { 0 };
    frame.resize(frame.len() + length as usize + key, b'w');
    frame
}

fn head(first: &str, framing: &[&str]) -> Vec<u8> {
    let framing = match framing {
        [] | ["close"] => String::new(),
        ["chunked"] => "Transfer-Encoding: chunked\r\n".to_owned(),
        [length] => format!("Content-Length: {length}\r\n"),
        _ => panic!("{first}: one framing at the most"),
    };
    format!("{first}\r\n{framing}\r\n").into_bytes()
}

/// What a gateway is told of a request, SCGI's first variable last.
fn vars<'a>(method: &'a str, uri: &'a str, length: &'a str) -> [(&'a str, &'a str); 4] {
    [
        ("QUERY_STRING", ""),
        ("REQUEST_METHOD", method),
        ("REQUEST_URI", uri),
        ("CONTENT_LENGTH", length),
    ]
}

/// Text with `\\r`, `\\n` and `\\x` with two digits in it.
fn unescaped(text: &str) -> Vec<u8> {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (byte, rest) = match part.split_at(1) {
            ("r", rest) => (b'\r', rest),
            ("n", rest) => (b'\n', rest),
            ("x", rest) => (u8::from_str_radix(&rest[..2], 16).unwrap(), &rest[2..]),
            _ => panic!("{text}: what is \\{part}?"),
        };
        out.push(byte);
        out.extend(rest.as_bytes());
    }
    out
}

/// The head of a gateway's answer.
fn cgi(length: &str) -> Vec<u8> {
    match length {
        "close" => b"Status: 200 OK\r\n\r\n".to_vec(),
        _ => format!("Status: 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes(),
    }
}

/// A record of FastCGI's request 1, padded to a multiple of 8.
fn fastcgi(kind: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = (content.len() as u16).to_be_bytes();
    let padding = content.len().wrapping_neg() % 8;
    let mut record = vec![1, kind, 0, 1, high, low, padding as u8, 0];
    record.extend(content);
    record.resize(record.len() + padding, 0);
    record
}
