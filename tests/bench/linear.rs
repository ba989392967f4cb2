// SPDX-License-Identifier: GPL-2.0-or-later
//! What must grow with its input and no faster, as somebody could send more of it: each is played
//! in two sizes.

use std::time::Duration;

use rstdiag::limits;
use rstdiag::nginx::error_log::{self, RequestLine, Upstream};
use rstdiag::nginx::message;
use rstdiag::session::{Session, When};
use rstdiag::tcp::segment::{Endpoint, Header, Segment};
use rstdiag::time::CaptureTime;

use crate::cpu_time;
use crate::support::builder::{Capture, Talk};
use crate::support::feed;

/// What grows, how much of it there is, and the processor time that so much takes.
type Row = (&'static str, usize, fn(usize) -> Duration);

const ROWS: [Row; 10] = [
    ("segments behind a hole", 50_000, |count| {
        feed_all(from_client(0..count, |n| 100 + 10 * n))
    }),
    ("segments in reverse", 50_000, |count| {
        feed_all(from_client((0..count).rev(), |n| 100 + 10 * n))
    }),
    ("pairs in reverse", 50_000, |count| feed_all(from_client(0..count, |n| 1 + 10 * (n ^ 1)))),
    ("bytes of a head, behind a line end", 30_000, |count| {
        byte_by_byte(b"GET / HTTP/1.1\r\nA: ", count)
    }),
    ("bytes of a request line", 30_000, |count| byte_by_byte(b"GET /", count)),
    ("requests without responses", 50_000, |count| pipelined(count, false)),
    ("requests with responses", 50_000, |count| pipelined(count, true)),
    ("segments after a FIN, into holes", 20_000, late_segments),
    ("bad gateways whose upstreams refused", 3_000, ask_bad_gateways),
    ("bytes of a deceptive log line", limits::LOG_LINE / 2, deceptive_line),
];

/// Rounds until growth is said to be more than linear.
const ROUNDS: usize = 10;

/// Prints how much longer each takes with eight times as much of it. 20 times is more than n log n
/// needs, and less than half of what a square takes; the best of the rounds counts for each size.
pub fn grow() {
    for (what, count, run) in ROWS {
        let (few, many) = (count / 4, 2 * count);
        let mut best = [Duration::MAX; 2];
        let mut times = f64::MAX;
        for _ in 0..ROUNDS {
            best = [best[0].min(run(few)), best[1].min(run(many))];
            times = best[1].as_secs_f64() / best[0].as_secs_f64();
            if times < 20.0 {
                break;
            }
        }
        println!("core, eight times the {what}: {times:.1} times the time ({:.1?})", best[1]);
        assert!(times < 20.0, "{what}: {few} take {:?}, {many} take {:?}", best[0], best[1]);
    }
}

/// A piece of a stream: whether it is from the client, its sequence number, its payload.
type Piece = (bool, u32, Vec<u8>);

/// Ten bytes of the client's for each number.
fn from_client(
    numbers: impl Iterator<Item = usize>,
    seq: impl Fn(u32) -> u32,
) -> impl Iterator<Item = Piece> {
    numbers.map(move |n| (true, seq(n as u32), vec![b'x'; 10]))
}

fn byte_by_byte(start: &'static [u8], count: usize) -> Duration {
    let bytes = start.iter().copied().chain(std::iter::repeat(b'x')).take(count);
    feed_all((1..).zip(bytes).map(|(seq, byte)| (true, seq, vec![byte])))
}

fn pipelined(count: usize, answered: bool) -> Duration {
    let request = b"GET / HTTP/1.1\r\n\r\n";
    let response = b"HTTP/1.1 204 No Content\r\n\r\n";
    let piece = |from_client, n: u32, bytes: &[u8]| {
        (from_client, 1 + n * bytes.len() as u32, bytes.to_vec())
    };
    feed_all((0..count as u32).flat_map(|n| {
        let response = answered.then(|| piece(false, n, response));
        std::iter::once(piece(true, n, request)).chain(response)
    }))
}

/// Feeds the pieces of one stream behind its SYN.
fn feed_all(pieces: impl Iterator<Item = Piece>) -> Duration {
    let syn = std::iter::once((true, 0, Vec::new()));
    feed_stream((1..).zip(syn.chain(pieces)).map(|(frame, (from_client, seq, payload))| {
        let tcp = Header { seq, syn: frame == 1, ..Header::default() };
        let tcp = Header { ack: 1, ack_flag: frame > 1, ..tcp };
        (from_client, tcp, payload)
    }))
}

/// After a FIN every segment may fill a hole that was given up.
fn late_segments(count: usize) -> Duration {
    feed_stream((1..=count as u32).map(|frame| {
        let seq = if frame < 3 { 0 } else { 10 * (count as u32 - frame) + 5 };
        let tcp = Header { seq, syn: frame == 1, fin: frame == 1500, ..Header::default() };
        let tcp = Header { ack: u32::MAX / 4, ack_flag: frame > 1, ..tcp };
        (frame % 2 == 0 || frame < 3, tcp, vec![b'x'; 200])
    }))
}

/// Feeds one stream's segments, and asks what it means.
fn feed_stream(segments: impl Iterator<Item = (bool, Header, Vec<u8>)>) -> Duration {
    let ends = [40_000, 80].map(|port| Endpoint { addr: Some([10, 0, 0, 1].into()), port });
    let mut session = Session::new();
    let start = cpu_time();
    let mut last = 0;
    for (frame, (from_client, tcp, payload)) in (1..).zip(segments) {
        let (src, dst) = if from_client { (ends[0], ends[1]) } else { (ends[1], ends[0]) };
        let segment = Segment {
            frame,
            layer: 0,
            stream: 0,
            time: CaptureTime(i64::from(frame) * 1_000_000),
            src,
            dst,
            tcp,
            payload_len: payload.len() as u32,
            payload: &payload,
            ip_id: Some(frame as u16),
            ttl: Some(64),
            decrypted: &[],
        };
        session.feed(&segment).unwrap();
        last = frame;
    }
    let verdict = session.verdict(last, 0, When::Final).unwrap();
    assert!(!verdict.summary().is_empty());
    cpu_time() - start
}

/// Time to ask for the causes of as many bad gateways as there are upstreams that refused.
fn ask_bad_gateways(count: usize) -> Duration {
    let mut capture = Capture::default();
    for number in 0..count as i64 {
        let ends = [["10.0.0.1", "10.0.0.2:80"], ["10.0.0.2", "10.0.0.3:9000"]];
        let scripts = [
            "open\nc GET:/a\ns 502:2 x*2\nc .\nc F.\ns F.\nc .",
            "isn 1000 0\nc S +0.004\ns R. seq=0 passive",
        ];
        for ([client, server], script) in ends.into_iter().zip(scripts) {
            let mut talk = Talk::between(&format!("{client}:{}", 10_000 + number), server);
            talk.start += number * 100_000_000;
            capture.play(&talk, script);
        }
    }
    // No stream is put to rest: from some size on most are, and each then takes longer.
    let mut session = Session::with_patience(u64::from(u32::MAX));
    feed(&mut session, &capture.frames(), |_, _| ());
    let start = cpu_time();
    let mut explained = 0;
    for stream in session.streams().collect::<Vec<_>>() {
        let cause = session.verdict_of(stream, When::Final).unwrap().cause();
        let evidence = cause.map(|cause| cause.evidence.concat()).unwrap_or_default();
        explained += usize::from(evidence.contains("got no answer"));
    }
    assert_eq!(explained, count, "each 502 has its upstream");
    cpu_time() - start
}

/// Time to read a line again and again, of which every part could be where its context begins.
fn deceptive_line(len: usize) -> Duration {
    let mut line = b"2015/12/01 15:49:48 [info] 1#0: *1 recv() failed".to_vec();
    while line.len() < len - 60 {
        line.extend_from_slice(b", client: 1, server: 2, request: \"a\", host: \" \"");
    }
    let start = cpu_time();
    for _ in 0..100 {
        if let Ok(entry) = error_log::parse(&line) {
            let _ = message::classify(&entry);
        }
        let _ = (RequestLine::parse(&line), Upstream::parse(&line));
    }
    cpu_time() - start
}
