// SPDX-License-Identifier: GPL-2.0-or-later
//! Bytes as a script of segments.
//!
//! Every input is a script; what it lacks is zero. A step takes a byte that says what follows:
//!
//! | bits | meaning |
//! |---|---|
//! | 0 | who sends: client or server |
//! | 1-2 | which of [`LEGS`] |
//! | 3 | a byte for the numbers follows, see [`Player::numbers`] |
//! | 4 | a byte for the time follows, see [`Player::pass`] |
//! | 5 | two bytes for what is odd about it follow, see [`Oddity`] |
//! | 6-7 | 0, 1: a segment; 2: a handshake; 3: something else, see [`Step`] |
//!
//! A segment goes on with its flags, as in the header; the two high bits count the pieces that
//! make up its payload, see [`piece`]. Sequence and acknowledgment numbers follow from what was
//! sent, as long as nothing says otherwise, so that most scripts are conversations.

use std::net::{IpAddr, Ipv6Addr};

use super::{builder, lines};

/// The rest of an input.
pub struct Input<'i>(pub &'i [u8]);

impl<'i> Input<'i> {
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// As many bytes as there are, at most `len`.
    pub fn bytes(&mut self, len: usize) -> &'i [u8] {
        let (head, tail) = self.0.split_at(len.min(self.0.len()));
        self.0 = tail;
        head
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes([(); 4].map(|()| self.byte()))
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes([(); 2].map(|()| self.byte()))
    }

    pub fn pick<T: Copy>(&mut self, table: &[T]) -> T {
        table[usize::from(self.byte()) % table.len()]
    }
}

/// Connections that a script can play: two of clients with nginx, one of nginx with its
/// upstream, and one of another client that comes from the first one's address.
pub const LEGS: [[(&str, u16); 2]; 4] = [
    [("10.0.0.1", 40_000), ("10.0.0.2", 80)],
    [("10.0.0.7", 40_000), ("10.0.0.2", 443)],
    [("10.0.0.2", 50_000), ("10.0.0.3", 8080)],
    [("10.0.0.1", 40_001), ("10.0.0.2", 80)],
];

/// 2026-01-01 00:00:00 UTC.
pub const BEGIN: i64 = 1_767_225_600;
pub const SECOND: i64 = 1_000_000_000;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// One TCP header of one frame, as the boundary takes it, with bytes of its own.
#[derive(Clone, Debug, Default)]
pub struct Packet {
    pub frame: u32,
    pub layer: u32,
    pub stream: u32,
    pub time: i64,
    pub payload_len: u32,
    pub ends: [Option<IpAddr>; 2],
    pub ip: Vec<u8>,
    /// TCP header and payload.
    pub tcp: Vec<u8>,
    pub decrypted: Vec<Vec<u8>>,
}

/// One step of a script.
pub enum Step {
    Packet(Packet),
    /// Somebody looks at a frame; the number says at which one, and at what of it.
    Ask(u8),
    /// A line of the error log, or of the access log.
    Line(lines::Line),
    /// The logs that follow are written while the capture goes on.
    Grow,
    /// Somebody opens the report.
    Report,
}

/// What is odd about a segment: three bits, and a number whose meaning they give.
#[derive(Clone, Copy)]
enum Oddity {
    /// The capture holds no more than so many bytes from the TCP header on.
    Snaplen(u8),
    /// A further TCP header of the frame before.
    Inner,
    /// A byte of the TCP header is another one.
    Damaged(u8),
    /// The IP header is not at hand, and addresses perhaps are.
    Bare(u8),
    /// The capture holds it twice.
    Twice,
    /// So many others come first.
    Late(u8),
    /// TLS whose content the host has.
    Decrypted,
    /// On the wire there was more, which the capture lacks.
    Longer(u8),
}

impl Oddity {
    fn of(kind: u8, number: u8) -> Oddity {
        match kind & 7 {
            0 => Oddity::Snaplen(number),
            1 => Oddity::Inner,
            2 => Oddity::Damaged(number),
            3 => Oddity::Bare(number),
            4 => Oddity::Twice,
            5 => Oddity::Late(number),
            6 => Oddity::Decrypted,
            _ => Oddity::Longer(number),
        }
    }
}

/// Further bits of an oddity's first byte.
const LOST: u8 = 0x10;
const CLOSED_WINDOW: u8 = 0x20;
const UNNUMBERED: u8 = 0x40;
const NEAR: u8 = 0x80;

/// One end of a connection.
#[derive(Clone, Copy, Default)]
struct End {
    isn: u32,
    /// Offsets from the initial number: of what comes next, and of what was sent last.
    next: u32,
    last: u32,
}

/// Frames of a script that are played; more only take longer.
const FRAMES: u32 = 64;

/// Plays scripts.
pub struct Player {
    legs: [[IpAddr; 2]; 4],
    ends: [[End; 2]; 4],
    /// Which time a port pair is used, as `tcp.stream` counts.
    reused: [u32; 4],
    now: i64,
    frame: u32,
    layer: u32,
    id: u16,
    /// Packets that come later, and behind how many others.
    late: Vec<(u8, Packet)>,
    steps: Vec<Step>,
}

/// Plays a script to its end.
pub fn play(input: &mut Input<'_>) -> Vec<Step> {
    let mut player = Player::new(input.byte(), input.byte());
    while !input.0.is_empty() && player.frame < FRAMES {
        player.step(input);
    }
    let late = std::mem::take(&mut player.late);
    late.into_iter().for_each(|(_, packet)| player.show(packet));
    player.steps
}

/// The address in IPv6 that stands for one in IPv4.
fn v6(addr: IpAddr) -> IpAddr {
    let IpAddr::V4(v4) = addr else { return addr };
    let [a, b, c, d] = v4.octets().map(u16::from);
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, a, b, c, d).into()
}

impl Player {
    /// `versions` says which legs speak IPv6, and `wraps` of which ends the numbers soon wrap.
    fn new(versions: u8, wraps: u8) -> Player {
        let bit = |byte: u8, index: usize| byte >> index & 1 == 1;
        let addr = |text: &str| text.parse().expect("an address");
        Player {
            legs: std::array::from_fn(|leg| {
                LEGS[leg].map(|(text, _)| match bit(versions, leg) {
                    true => v6(addr(text)),
                    false => addr(text),
                })
            }),
            ends: std::array::from_fn(|leg| {
                std::array::from_fn(|side| End {
                    isn: if bit(wraps, 2 * leg + side) { u32::MAX - 5 } else { 1000 },
                    ..End::default()
                })
            }),
            reused: [0; 4],
            now: BEGIN * SECOND,
            frame: 0,
            layer: 0,
            id: 0,
            late: Vec::new(),
            steps: Vec::new(),
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let step = input.byte();
        let (side, leg) = (usize::from(step & 1), usize::from(step >> 1 & 3));
        let has = |bit: u8| step >> bit & 1 == 1;
        match step >> 6 {
            0 | 1 => {
                let flags = input.byte();
                let numbers = has(3).then(|| self.numbers(leg, side, input));
                self.pass(has(4).then(|| input.byte()));
                let odd = has(5).then(|| (input.byte(), input.byte()));
                let mut payload = Vec::new();
                (0..flags >> 6).for_each(|_| piece(input, &mut payload));
                let flags = if flags & 0x3f == 0 { PSH | ACK } else { flags & 0x3f };
                self.send(leg, side, flags, numbers, odd, &payload);
            }
            2 => {
                for (side, flags) in [(0, SYN), (1, SYN | ACK), (0, ACK)] {
                    self.pass(None);
                    self.send(leg, side, flags, None, None, &[]);
                }
            }
            _ => {
                let step = match step >> 3 & 7 {
                    0 | 1 => Step::Line(lines::Line::of(leg, self.now, input)),
                    2 => Step::Grow,
                    3 => Step::Report,
                    _ => Step::Ask(input.byte()),
                };
                self.steps.push(step);
            }
        }
    }

    /// Time goes on by a millisecond, or by a power of two of nanoseconds, or goes back by it.
    fn pass(&mut self, how: Option<u8>) {
        let by = how.map_or(1_000_000, |how| {
            let by = 1i64.checked_shl(u32::from(how & 0x3f)).unwrap_or(i64::MAX);
            if how & 0x80 != 0 {
                by.wrapping_neg()
            } else {
                by
            }
        });
        self.now = self.now.saturating_add(by);
    }

    /// Sequence and acknowledgment number that a script gives: by a nibble for each.
    fn numbers(&self, leg: usize, side: usize, input: &mut Input<'_>) -> [u32; 2] {
        let how = input.byte();
        let [own, peer] = [self.ends[leg][side], self.ends[leg][1 - side]];
        [(own, how & 15), (peer, how >> 4)].map(|(end, how)| {
            let offset = match how {
                0 => end.next,
                1 => end.next.wrapping_add(1),
                2 => end.next.wrapping_sub(1),
                3 => end.last,
                4 => end.next.wrapping_add(1000),
                5 => end.next.wrapping_sub(1000),
                6 => end.next.wrapping_add(1 << 31),
                7 => end.next.wrapping_add(input.u32()),
                8 => input.u32(),
                9 => 1,
                10 => return 0,
                11 => return 1,
                12 => end.next.wrapping_sub(u32::from(input.byte())),
                13 => end.next.wrapping_add(u32::from(input.byte())),
                14 => 0,
                _ => return input.u32(),
            };
            end.isn.wrapping_add(offset)
        })
    }

    fn send(
        &mut self,
        leg: usize,
        side: usize,
        flags: u8,
        numbers: Option<[u32; 2]>,
        odd: Option<(u8, u8)>,
        payload: &[u8],
    ) {
        if flags & (SYN | ACK) == SYN && self.ends[leg][side].next > 1 {
            // The ports are used again: the host begins a stream, and so do the numbers.
            self.reused[leg] += 1;
            let renewed =
                |end: End| End { isn: end.isn.wrapping_add(end.next + 77), ..End::default() };
            self.ends[leg] = self.ends[leg].map(renewed);
        }
        let [own, peer] = [self.ends[leg][side], self.ends[leg][1 - side]];
        let auto = [own.isn.wrapping_add(own.next), peer.isn.wrapping_add(peer.next)];
        let [seq, ack] = numbers.unwrap_or(auto);
        let marks = odd.map_or(0, |(kind, _)| kind);
        let oddity = odd.map(|(kind, number)| Oddity::of(kind, number));

        let mut packet = Packet {
            layer: 0,
            stream: leg as u32 + 4 * self.reused[leg],
            time: self.now,
            payload_len: payload.len() as u32,
            ..Packet::default()
        };
        self.id = self.id.wrapping_add(1);
        let id = if marks & UNNUMBERED != 0 { 0 } else { self.id };
        let ttl = if marks & NEAR != 0 { 255 } else { 64 };
        let [src, dst] = [self.legs[leg][side], self.legs[leg][1 - side]];
        packet.ip = ip_header([src, dst], payload.len(), id, ttl);
        let port = |side: usize| LEGS[leg][side].1.to_be_bytes();
        let window: u16 = if marks & CLOSED_WINDOW != 0 { 0 } else { 64_240 };
        packet.tcp.extend([port(side), port(1 - side)].concat());
        packet.tcp.extend(seq.to_be_bytes());
        packet.tcp.extend(if flags & ACK != 0 { ack } else { 0 }.to_be_bytes());
        packet.tcp.extend([5 << 4, flags]);
        packet.tcp.extend(window.to_be_bytes());
        packet.tcp.extend([0; 4]);
        packet.tcp.extend(payload);

        let len =
            payload.len() as u32 + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        if flags & RST == 0 && len > 0 {
            let end = &mut self.ends[leg][side];
            let offset = seq.wrapping_sub(end.isn);
            end.last = offset;
            let after = offset.wrapping_add(len);
            // What is sent once more, or far away, moves nothing.
            if after.wrapping_sub(end.next) < 1 << 20 {
                end.next = after;
            }
        }
        match oddity {
            None => {}
            Some(Oddity::Snaplen(len)) => packet.tcp.truncate(usize::from(len)),
            Some(Oddity::Inner) => packet.layer = 1,
            Some(Oddity::Damaged(at)) => {
                let at = usize::from(at);
                packet.tcp[at % 20] ^= 1 << (at / 20 % 8);
            }
            Some(Oddity::Bare(how)) => {
                packet.ip.truncate(usize::from(how & 0x3f));
                if how & 0x40 != 0 {
                    packet.ends = [Some(src), Some(dst)];
                }
            }
            Some(Oddity::Twice) => self.show(packet.clone()),
            Some(Oddity::Late(behind)) => {
                self.late.push((behind % 16, packet));
                return;
            }
            Some(Oddity::Decrypted) => {
                packet.decrypted = payload.split(|&b| b == 0).map(<[u8]>::to_vec).collect();
                packet.tcp.truncate(20);
                packet.tcp.extend([23, 3, 3]);
                packet.tcp.extend((payload.len() as u16).to_be_bytes());
                packet.tcp.extend(payload);
                packet.payload_len += 5;
                let end = &mut self.ends[leg][side];
                end.next = end.next.wrapping_add(5);
            }
            Some(Oddity::Longer(by)) => {
                packet.payload_len += u32::from(by) * 16;
                let end = &mut self.ends[leg][side];
                end.next = end.next.wrapping_add(u32::from(by) * 16);
            }
        }
        if marks & LOST == 0 {
            self.show(packet);
        }
    }

    /// Gives a packet its place in the capture, and shows those that waited for it.
    fn show(&mut self, mut packet: Packet) {
        if packet.layer > 0 && self.frame > 0 {
            self.layer += 1;
        } else {
            (self.frame, self.layer) = (self.frame + 1, 0);
        }
        (packet.frame, packet.layer) = (self.frame, self.layer);
        self.steps.push(Step::Packet(packet));
        for (behind, _) in &mut self.late {
            *behind = behind.saturating_sub(1);
        }
        if let Some(due) = self.late.iter().position(|(behind, _)| *behind == 0) {
            let (_, mut packet) = self.late.swap_remove(due);
            packet.time = packet.time.max(self.now);
            self.show(packet);
        }
    }
}

fn ip_header(ends: [IpAddr; 2], payload: usize, id: u16, ttl: u8) -> Vec<u8> {
    let mut header = Vec::new();
    match ends {
        [IpAddr::V4(src), IpAddr::V4(dst)] => {
            header.extend([0x45, 0]);
            header.extend((40 + payload as u16).to_be_bytes());
            header.extend(id.to_be_bytes());
            header.extend([0x40, 0, ttl, 6, 0, 0]);
            header.extend([src.octets(), dst.octets()].concat());
        }
        _ => {
            header.extend([0x60, 0, 0, 0]);
            header.extend((20 + payload as u16).to_be_bytes());
            header.extend([6, ttl]);
            for end in ends {
                match end {
                    IpAddr::V6(v6) => header.extend(v6.octets()),
                    IpAddr::V4(v4) => header.extend(v4.to_ipv6_mapped().octets()),
                }
            }
        }
    }
    header
}

/// Appends a piece of a payload: a byte says of which kind.
fn piece(input: &mut Input<'_>, payload: &mut Vec<u8>) {
    const RUNS: [usize; 8] = [1, 2, 5, 10, 40, 100, 1000, 1448];
    let kind = input.byte();
    match kind & 7 {
        0 => {
            let len = input.u16();
            payload.extend(input.bytes(usize::from(len & 0x7ff)));
        }
        1 => {
            let byte = input.byte();
            let len = input.pick(&RUNS);
            payload.extend(std::iter::repeat_n(byte, len));
        }
        2 => payload.extend(builder::payload(input.pick(&WORDS))),
        3 => payload.extend(input.pick(&TEXTS)),
        4 => {
            payload.extend(input.pick(&STARTS));
            (0..kind >> 5).for_each(|_| payload.extend(input.pick(&FIELDS)));
            if kind & 0x10 == 0 {
                payload.extend(b"\r\n");
            }
        }
        5 => {
            // A frame of HTTP/2, of which any field may be wrong.
            let block = input.pick(&BLOCKS);
            let longer = usize::from(kind >> 5);
            payload.extend(&((block.len() + longer) as u32).to_be_bytes()[1..]);
            payload.extend([input.byte(), input.byte(), 0, 0, 0, input.byte()]);
            payload.extend(block);
        }
        6 => {
            // A record of TLS.
            let content = input.pick(&HANDSHAKES);
            payload.extend([20 + (kind >> 5), 3, 3]);
            payload.extend((content.len() as u16 + u16::from(kind >> 3 & 1)).to_be_bytes());
            payload.extend(content);
        }
        _ => {
            // A part of another piece.
            let mut whole = Vec::new();
            if kind >> 3 < 4 {
                piece(input, &mut whole);
            }
            let from = usize::from(input.byte()).min(whole.len());
            let to = whole.len().saturating_sub(usize::from(input.byte())).max(from);
            payload.extend(&whole[from..to]);
        }
    }
}

/// Payloads as `tests/support/builder.rs` writes them.
const WORDS: [&str; 64] = [
    "GET:/a",
    "GET:/b",
    "HEAD:/a",
    "POST:/p:10",
    "POST:/p:chunked",
    "PUT:/p:1000",
    "OPTIONS:/o",
    "DELETE:/p",
    "200:10",
    "200:0",
    "200:chunked",
    "200:close",
    "200:1000",
    "204",
    "304:10",
    "100",
    "101",
    "302:0",
    "400:close",
    "404:10",
    "408:close",
    "413:10",
    "499:10",
    "500:10",
    "502:10",
    "504:10",
    "upgrade:websocket",
    "switch:websocket",
    "upgrade:h2c",
    "switch:h2c",
    "ws:81:5",
    "ws:01:5",
    "ws:80:0",
    "ws:88:2",
    "wsm:81:5",
    "wsm:82:70000",
    "wsm:89:0",
    "wsm:88:2",
    "tls:20:1",
    "tls:21:2",
    "tls:21:26",
    "tls:22:100",
    "tls:23:10",
    "tls:23:1000",
    "tls:24:5",
    "fastcgi:GET:/a",
    "fastcgi:POST:/p",
    "fastcgi:in:5",
    "fastcgi:in:0",
    "fastcgi:out:close",
    "fastcgi:out:10",
    "fastcgi:err:5",
    "fastcgi:end",
    "uwsgi:GET:/a:0",
    "uwsgi:POST:/p:10",
    "scgi:GET:/a:0",
    "scgi:POST:/p:10",
    "cgi:10",
    "cgi:close",
    "x*10",
    "x*4",
    "x*1000",
    "GET:/a[..8]",
    "200:10[8..]",
];

/// Texts of HTTP and of other protocols.
const TEXTS: [&[u8]; 40] = [
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.2 56324 80\r\n",
    b"PROXY TCP6 2001:db8::7 2001:db8::2 56324 443\r\n",
    b"PROXY UNKNOWN\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x02\xdb\xdc\0\x50",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24",
    b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n",
    b"HTTP/1.1 200 Connection established\r\n\r\n",
    b"GET /a HTTP/1.0\r\n\r\n",
    b"GET /a\r\n",
    b"GET  /a  HTTP/1.1\r\n\r\n",
    b"get /a http/1.1\r\n\r\n",
    b"GET /a HTTP/1.1\nHost: h\n\n",
    b"GET http://h/a?b=c HTTP/1.1\r\n\r\n",
    b"GET /\xff\x00%0A HTTP/1.1\r\n\r\n",
    b"HTTP/1.1 200\r\n\r\n",
    b"HTTP/1.1 99999 No\r\n\r\n",
    b"HTTP/2.0 200 OK\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    b"5\r\nabcde\r\n",
    b"5;name=value\r\nabcde\r\n",
    b"0\r\n\r\n",
    b"0\r\nTrailer: t\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"-1\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"220 mail.example.com ESMTP\r\n",
    b"EHLO h\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"+PONG\r\n",
    b"\0\0\0\x08\x04\xd2\x16\x2f",
    b"AMQP\0\0\x09\x01",
    b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0",
    b"STOR x\r\n",
    b"OPTIONS sip:a@b SIP/2.0\r\n\r\n",
    b"<34>1 2026-01-01T00:00:00Z h app - - - text\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
];

/// First lines of heads.
const STARTS: [&[u8]; 8] = [
    b"GET /a HTTP/1.1\r\nHost: h\r\n",
    b"POST /p HTTP/1.1\r\nHost: h\r\n",
    b"HEAD /a HTTP/1.1\r\nHost: h\r\n",
    b"GET /a HTTP/1.0\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 502 Bad Gateway\r\nServer: nginx\r\n",
    b"Status: 200 OK\r\n",
];

/// Lines of heads.
const FIELDS: [&[u8]; 32] = [
    b"Content-Length: 10\r\n",
    b"Content-Length: 11\r\n",
    b"Content-Length: 10, 10\r\n",
    b"Content-Length: 18446744073709551616\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length : 10\r\n",
    b"content-length:0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding:\r\n chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: Upgrade\r\n",
    b"Upgrade: websocket\r\n",
    b"Upgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"Host: example.com\r\n",
    b"Host: h\r\n",
    b"X-Forwarded-For: 192.0.2.7, 10.0.0.1\r\n",
    b"X-Forwarded-For: 10.0.0.7\r\n",
    b"X-Real-IP: 2001:db8::7\r\n",
    b"Forwarded: for=\"[2001:db8::7]:80\";proto=http\r\n",
    b"X-Request-ID: 0123456789abcdef0123456789abcdef\r\n",
    b"Referer: http://h/, client: 10.0.0.7\r\n",
    b"User-Agent: \"\r\n",
    b" folded\r\n",
    b"no colon\r\n",
    b"\xff: \0\r\n",
    b"Keep-Alive: timeout=5\r\n",
    b"Trailer: t\r\n",
    b": empty\r\n",
];

/// Contents of HTTP/2's frames.
const BLOCKS: [&[u8]; 16] = [
    b"",
    // :method GET, :scheme http, :path /, and with a literal path.
    b"\x82\x86\x84",
    b"\x82\x86\x44\x02/a",
    b"\x83\x86\x44\x02/p",
    // The same, indexed and with Huffman's code.
    b"\x82\x86\x04\x02/b\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
    // :status 200, and with a length.
    b"\x88",
    b"\x88\x0f\x0d\x0210",
    b"\x8d\xbe\xbf",
    // Sizes of the table, and integers without end.
    b"\x3f\xe1\x1f\x20\x82",
    b"\x7f\xff\xff\xff\xff\xff\xff\x0f",
    b"\x40\x0cx-request-id\x200123456789abcdef0123456789abcdef",
    b"\x00\x00\x00\x08",
    b"\x00\x00\x00\x03\x00\x00\x00\x00",
    b"\x00\x03\x00\x00\x00\x64\x00\x05\x00\x00\x40\x00",
    b"0123456789",
    b"\x80\x00\x00\x01\x10\x82\x86\x84",
];

/// Contents of TLS's records.
const HANDSHAKES: [&[u8]; 8] = [
    b"",
    // ClientHello with a server name, and one without extensions.
    b"\x01\0\0\x3a\x03\x0300000000000000000000000000000000\0\0\x02\x13\x01\x01\0\0\x0f\0\0\0\x06\
      \0\x04\0\0\x01h\0\x10\0\x01\0",
    b"\x01\0\0\x29\x03\x0300000000000000000000000000000000\0\0\x02\x13\x01\x01\0",
    // ServerHello of TLS 1.2, and of 1.3.
    b"\x02\0\0\x26\x03\x0300000000000000000000000000000000\0\xc0\x2f\0",
    b"\x02\0\0\x2e\x03\x0300000000000000000000000000000000\0\x13\x01\0\0\x06\0\x2b\0\x02\x03\x04",
    // Alerts: close_notify, and fatal ones.
    b"\x01\0",
    b"\x02\x28",
    b"0123456789012345678901234567890123456789",
];
