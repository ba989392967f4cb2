// SPDX-License-Identifier: GPL-2.0-or-later
//! Made traffic: connections that carry a few exchanges and end in several ways, and the log
//! of an nginx that served them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use etherparse::PacketBuilder;
use pcap_file::pcap::{PcapPacket, PcapWriter};
use rstdiag::session::Session;
use rstdiag::tcp::segment::{Endpoint, Header, Segment};
use rstdiag::time::CaptureTime;

/// 2026-01-01 00:00:00 UTC, in nanoseconds.
pub const START: i64 = 1_767_225_600_000_000_000;
const SERVER: [u8; 4] = [192, 0, 2, 80];
/// Segments of each response.
const PIECES: u32 = 3;
const PIECE: usize = 1400;

/// What to make.
#[derive(Clone)]
pub struct Traffic {
    pub connections: u32,
    /// Exchanges on each connection.
    pub exchanges: u32,
    /// Every which connection is reset, and logged.
    pub reset_every: u32,
    /// All of it in one second, with one URI and one client address.
    pub storm: bool,
    pub with_log: bool,
}

/// One packet.
struct Packet<'a> {
    time: i64,
    connection: u32,
    from_client: bool,
    tcp: Header,
    payload: &'a [u8],
}

impl Traffic {
    pub fn new(connections: u32) -> Traffic {
        Traffic { connections, exchanges: 5, reset_every: 4, storm: false, with_log: true }
    }

    /// Log entries: about each connection that is reset, nginx writes a line.
    pub fn entries(&self) -> u32 {
        self.connections.div_ceil(self.reset_every)
    }

    /// Packets of all connections.
    pub fn packets(&self) -> u32 {
        let mut count = 0;
        self.each_packet(&mut |_| count += 1);
        count
    }

    fn started(&self, connection: u32) -> i64 {
        let gap =
            if self.storm { 900_000_000 / i64::from(self.connections) } else { 2_000_000 };
        START + i64::from(connection) * gap
    }

    fn client(&self, connection: u32) -> Endpoint {
        let host = if self.storm { 1 } else { connection / 20_000 + 1 };
        let addr = Ipv4Addr::new(198, 51, 100, host as u8);
        Endpoint { addr: Some(IpAddr::V4(addr)), port: (20_000 + connection % 40_000) as u16 }
    }

    fn uri(&self, connection: u32) -> String {
        let page = if self.storm { 0 } else { connection % 97 };
        format!("/shop/item/{page}")
    }

    /// Makes the packets of one connection after the other.
    fn each_packet(&self, take: &mut dyn FnMut(Packet<'_>)) {
        for connection in 0..self.connections {
            self.connection(connection, take);
        }
    }

    fn connection(&self, connection: u32, take: &mut dyn FnMut(Packet<'_>)) {
        let mut time = self.started(connection);
        let mut client = connection.wrapping_mul(2_654_435_761);
        let mut server = client.rotate_left(11).wrapping_mul(2_246_822_519);
        let mut send = |from_client: bool, seq: u32, ack: u32, flags: &str, payload: &[u8]| {
            time += 10_000;
            let tcp = Header {
                seq,
                ack,
                window: 502,
                ack_flag: flags.contains('A'),
                syn: flags.contains('S'),
                fin: flags.contains('F'),
                rst: flags.contains('R'),
            };
            take(Packet { time, connection, from_client, tcp, payload });
        };
        send(true, client, 0, "S", b"");
        client = client.wrapping_add(1);
        send(false, server, client, "SA", b"");
        server = server.wrapping_add(1);
        send(true, client, server, "A", b"");
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n",
            self.uri(connection)
        );
        let body = PIECE * PIECES as usize;
        let head =
            format!("HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: {body}\r\n\r\n");
        let mut response = head.into_bytes();
        response.resize(response.len() + body, b'x');
        for _ in 0..self.exchanges {
            send(true, client, server, "A", request.as_bytes());
            client = client.wrapping_add(request.len() as u32);
            for piece in response.chunks(PIECE) {
                send(false, server, client, "A", piece);
                server = server.wrapping_add(piece.len() as u32);
            }
            send(true, client, server, "A", b"");
        }
        if connection % self.reset_every == 0 {
            send(true, client, server, "RA", b"");
        } else {
            send(true, client, server, "FA", b"");
            send(false, server, client.wrapping_add(1), "FA", b"");
            send(true, client.wrapping_add(1), server.wrapping_add(1), "A", b"");
        }
    }

    /// The log of the connections that are reset.
    pub fn log(&self) -> Vec<u8> {
        let mut log = Vec::new();
        for connection in (0..self.connections).step_by(self.reset_every as usize) {
            let seconds = (self.started(connection) - START) / 1_000_000_000;
            let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            let addr = self.client(connection).addr.unwrap();
            let uri = self.uri(connection);
            writeln!(
                log,
                "2026/01/01 {hour:02}:{minute:02}:{second:02} [info] 7#7: *{} recv() failed (104: \
                 Connection reset by peer) while sending to client, client: {addr}, server: \
                 shop.example.com, request: \"GET {uri} HTTP/1.1\", upstream: \
                 \"http://192.0.2.90:8080{uri}\", host: \"shop.example.com\"",
                connection + 1,
            )
            .unwrap();
        }
        log
    }

    /// Writes capture and log; returns the number of packets.
    pub fn write(&self, capture: &Path, log: &Path) -> u32 {
        std::fs::write(log, self.log()).unwrap();
        let file = BufWriter::new(File::create(capture).unwrap());
        let mut writer = PcapWriter::new(file).unwrap();
        let mut packets = 0;
        let mut frame = Vec::new();
        self.each_packet(&mut |packet| {
            packets += 1;
            frame.clear();
            self.frame(&packet, &mut frame);
            let time = std::time::Duration::from_nanos(packet.time as u64);
            let length = frame.len() as u32;
            writer.write_packet(&PcapPacket::new(time, length, &frame)).unwrap();
        });
        packets
    }

    fn frame(&self, packet: &Packet<'_>, out: &mut Vec<u8>) {
        let client = self.client(packet.connection);
        let Some(IpAddr::V4(addr)) = client.addr else { return };
        let (from, to) = ((addr.octets(), client.port), (SERVER, 80));
        let (from, to) = if packet.from_client { (from, to) } else { (to, from) };
        let tcp = &packet.tcp;
        let mut builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(from.0, to.0, 64)
            .tcp(from.1, to.1, tcp.seq, tcp.window);
        if tcp.ack_flag {
            builder = builder.ack(tcp.ack);
        }
        if tcp.syn {
            builder = builder.syn();
        }
        if tcp.fin {
            builder = builder.fin();
        }
        if tcp.rst {
            builder = builder.rst();
        }
        builder.write(out, packet.payload).unwrap();
    }

    /// Feeds log and packets to a session, without any file.
    pub fn replay(&self) -> Session {
        let mut session = Session::new();
        session.set_time_zone("UTC").unwrap();
        if self.with_log {
            session.begin_error_log("error.log");
            session.log_bytes(&self.log());
            session.end_log().unwrap();
        }
        let server = Endpoint { addr: Some(IpAddr::from(SERVER)), port: 80 };
        let mut frame = 0;
        self.each_packet(&mut |packet| {
            frame += 1;
            let client = self.client(packet.connection);
            let (src, dst) =
                if packet.from_client { (client, server) } else { (server, client) };
            let segment = Segment {
                frame,
                layer: 0,
                stream: packet.connection,
                time: CaptureTime(packet.time),
                src,
                dst,
                tcp: packet.tcp,
                payload_len: packet.payload.len() as u32,
                payload: packet.payload,
                ip_id: Some(frame as u16),
                ttl: Some(if packet.from_client { 57 } else { 64 }),
                decrypted: &[],
            };
            session.feed(&segment).unwrap();
        });
        session
    }
}
