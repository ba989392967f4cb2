// SPDX-License-Identifier: GPL-2.0-or-later
//! What holds whatever a capture or a log does: no panic, and no claim that the packets do not
//! support.
//!
//! The captures of `tests/data/streams` are cut, shuffled, doubled, thinned out and damaged.
//! All randomness comes from fixed seeds, so a failure comes again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use rstdiag::correlate::verdict::{Transaction, Verdict};
use rstdiag::session::{Session, When};
use rstdiag::tcp::segment::{Endpoint, Header, Segment};
use rstdiag::time::CaptureTime;
use support::builder::{Capture, Frame, Talk};
use support::cases::{self, Case};
use support::fields;
use support::random::Random;

type Fields = BTreeMap<&'static str, String>;

/// Offset of the TCP flags in a frame of IPv4 over Ethernet without options.
const FLAGS: usize = 14 + 20 + 13;
/// How much further on they are in IPv6.
const LONGER: usize = 20;
const FIN: u8 = 1;
const RST: u8 = 4;

fn has(frame: &Frame, flag: u8) -> bool {
    let longer = if frame.bytes[14] >> 4 == 6 { LONGER } else { 0 };
    frame.bytes.get(FLAGS + longer).is_some_and(|flags| flags & flag != 0)
}

fn frames_of(case: &Case) -> Vec<Frame> {
    Capture::of(&Talk::default(), &case.script).frames()
}

fn session_of(frames: &[Frame]) -> Session {
    let mut session = Session::new();
    support::feed(&mut session, frames, |_, _| ());
    session
}

/// Asks what no other question here asks.
fn ask_all(verdict: &Verdict<'_>) {
    assert!(!verdict.summary().is_empty());
    if let Some(cause) = verdict.cause() {
        assert!(!cause.evidence.is_empty(), "{} rests on nothing", cause.row.word);
    }
    assert_eq!(verdict.form().is_some(), verdict.resets().is_some());
}

/// Checks what has to hold of every verdict, and returns the fields of the first stream.
fn sane(frames: &[Frame], what: &str) -> Fields {
    let mut session = session_of(frames);
    let mut first = Fields::new();
    for number in session.streams().collect::<Vec<_>>() {
        let so_far = fields::of_stream(&session.verdict_of(number, When::SoFar).unwrap());
        let verdict = session.verdict_of(number, When::Final).unwrap();
        let fields = fields::of_stream(&verdict);
        assert_eq!(so_far, fields, "{what}: so far and in the end");
        ask_all(&verdict);
        let frame = |name: &str| {
            let number: usize = fields.get(name)?.parse().unwrap();
            Some(&frames[number - 1])
        };
        if let Some(reset) = frame("reset.frame") {
            assert!(has(reset, RST), "{what}: reset.frame is a RST");
        }
        if let Some(close) = frame("close.frame") {
            assert!(has(close, FIN | RST), "{what}: close.frame is a FIN or RST");
        }
        let resets = frames.iter().filter(|frame| has(frame, RST)).count();
        let count = verdict.resets().map_or(0, |resets| resets.count as usize);
        assert!(count <= resets, "{what}: {count} of {resets} RSTs");
        assert_eq!(fields.contains_key("phase"), count > 0, "{what}");
        if verdict.transaction() == Transaction::Completed {
            assert_eq!(fields.get("acked").map(String::as_str), Some("true"), "{what}");
            assert_eq!(fields.get("missing").map(String::as_str), Some("0"), "{what}");
            assert_ne!(fields["severity"], "failure", "{what}");
        }
        if fields["severity"] == "failure" {
            assert_eq!(fields["transaction"], "failed", "{what}");
        }
        if number == 0 {
            first = fields;
        }
    }
    first
}

/// A capture that lacks one packet, or brings two in the wrong order, may be less certain than
/// the whole one, but says nothing else.
fn agree(
    whole: &Fields,
    other: &Fields,
    names: &[&'static str],
    what: &str,
    report: &mut Vec<String>,
) {
    for &name in names {
        let (Some(whole), Some(other)) = (whole.get(name), other.get(name)) else { continue };
        if whole != other && whole != "unknown" && other != "unknown" {
            report.push(format!("{what}: {name} {whole} became {other}"));
        }
    }
}

#[test]
fn captures_may_start_and_end_anywhere() {
    for case in cases::all() {
        let frames = frames_of(&case);
        for at in 0..=frames.len() {
            sane(&frames[..at], &format!("{} cut after {at}", case.name));
            sane(&frames[at..], &format!("{} from {at}", case.name));
        }
    }
}

#[test]
fn a_packet_twice_changes_nothing() {
    for case in cases::all() {
        let frames = frames_of(&case);
        let whole = sane(&frames, &case.name);
        for at in 0..frames.len() {
            let what = format!("{}: {} twice", case.name, at + 1);
            let mut twice = frames.clone();
            twice.insert(at, frames[at].clone());
            let mut other = sane(&twice, &what);
            for name in ["close.frame", "reset.frame", "idle"] {
                other.remove(name);
            }
            // A RST with identification 0, or in IPv6, has no mark of a copy.
            let frame = &frames[at].bytes;
            let has_mark = frame[12..14] == [8, 0] && frame[18..20] != [0, 0];
            let unmarked = has(&frames[at], RST) && !has_mark;
            if unmarked {
                other.remove("reset.count");
            }
            for (name, value) in other {
                assert_eq!(whole.get(name), Some(&value), "{what}: {name}");
            }
        }
    }
}

/// Cases of which a packet less is another story, and no packet that is left says otherwise.
const UNDECIDABLE: &[(&str, &str)] = &[
    ("not acknowledged", "data that nobody has acknowledged leaves no trace"),
    ("acknowledged a part", "data that nobody has acknowledged leaves no trace"),
    ("a health check", "without the ACK it is a reset in the handshake"),
    ("near health_check", "without the ACK it is a reset in the handshake"),
    ("before the request, by the server", "without the ACK it is a reset in the handshake"),
    ("right on the third packet", "without the ACK it is a reset in the handshake"),
    ("a RST without effect", "the effect is seen by what follows it"),
    ("one side ignored", "what crosses a RST may have been sent before it"),
    ("answers and ignores", "the effect is seen by what follows it"),
    ("the exchange goes on", "the effect is seen by what follows it"),
    ("keep-alive race", "a passive RST acknowledges nothing, so the request leaves no trace"),
    ("data that finds no socket", "a passive RST acknowledges nothing"),
    ("with R only and a window", "such a RST acknowledges nothing"),
    ("much later an answer to data", "a passive RST acknowledges nothing"),
    ("a FIN that the capture lacks", "a passive RST acknowledges nothing"),
    ("without any silence", "a passive RST acknowledges nothing"),
    ("without a FIN of its own", "a passive RST acknowledges nothing"),
    ("meets a passive RST", "a passive RST acknowledges nothing"),
    ("meets an unsolicited 408", "a passive RST acknowledges nothing"),
    ("three requests, one response", "lost requests cannot be counted"),
    ("TCP fast open", "a SYN-ACK that acknowledges data looks as if the SYN came earlier"),
    ("something else in the tunnel", "what is missing of bursts has no place in their order"),
    ("a SYN with a damaged number", "another number begins another stream"),
    ("no SYN-ACK is repeated", "without the SYN-ACK it is a refusal, only late"),
    ("port reuse", "the SYN tells which connection a RST meant"),
];

fn is_decidable(case: &Case) -> bool {
    UNDECIDABLE.iter().all(|(name, _)| !case.name.contains(name))
}

#[test]
fn every_undecidable_case_exists() {
    let cases = cases::all();
    for (name, why) in UNDECIDABLE {
        assert!(cases.iter().any(|case| case.name.contains(name)), "{name}: {why}");
    }
}

#[test]
fn a_packet_less_contradicts_nothing() {
    let mut report = Vec::new();
    for case in cases::all().iter().filter(|case| is_decidable(case)) {
        let frames = frames_of(case);
        let whole = sane(&frames, &case.name);
        // Without a FIN or RST, the end is another one.
        for at in (0..frames.len()).filter(|&at| !has(&frames[at], FIN | RST)) {
            let what = format!("{} without {}", case.name, at + 1);
            let mut less = frames.clone();
            less.remove(at);
            let other = sane(&less, &what);
            agree(&whole, &other, &["transaction", "stage", "phase"], &what, &mut report);
        }
    }
    assert!(report.is_empty(), "{} contradictions\n{}", report.len(), report.join("\n"));
}

/// The time stamps, which go back there, tell which was sent first.
#[test]
fn two_packets_in_the_wrong_order_contradict_nothing() {
    let mut report = Vec::new();
    for case in cases::all().iter().filter(|case| is_decidable(case)) {
        let frames = frames_of(case);
        let whole = sane(&frames, &case.name);
        for at in 1..frames.len() {
            let what = format!("{} with {at} and {} exchanged", case.name, at + 1);
            let mut other = frames.clone();
            other.swap(at - 1, at);
            let other = sane(&other, &what);
            // The first SYN tells which side is the client.
            let names: &[_] = match whole.get("client") == other.get("client") {
                true => &["transaction", "stage", "phase", "close", "close.by"],
                false => &["transaction", "stage", "phase"],
            };
            agree(&whole, &other, names, &what, &mut report);
        }
    }
    assert!(report.is_empty(), "{} contradictions\n{}", report.len(), report.join("\n"));
}

#[test]
fn any_order_within_a_window_is_survived() {
    let mut random = Random::new(1);
    for case in cases::all() {
        let frames = frames_of(&case);
        for window in [2, 4, 8, 100] {
            let mut shuffled = frames.clone();
            for at in 0..shuffled.len() {
                let other = at + random.below(window.min(shuffled.len() - at));
                shuffled.swap(at, other);
            }
            sane(&shuffled, &format!("{} shuffled within {window}", case.name));
        }
    }
}

#[test]
fn damaged_headers_and_payloads_are_survived() {
    let mut random = Random::new(2);
    for case in cases::all() {
        let frames = frames_of(&case);
        for round in 0..40 {
            let mut damaged = frames.clone();
            for _ in 0..1 + random.below(4) {
                let frame = random.below(damaged.len());
                let bytes = &mut damaged[frame].bytes;
                // Behind the addresses, and not the protocol's version or number.
                let at = 34 + random.below(bytes.len() - 34);
                bytes[at] = match random.below(3) {
                    0 => random.next() as u8,
                    1 => bytes[at] ^ (1 << random.below(8)),
                    _ => [0, 0xff, b'\n', b' '][random.below(4)],
                };
            }
            let what = format!("{} damaged, round {round}", case.name);
            let mut session = session_of(&damaged);
            for number in session.streams().collect::<Vec<_>>() {
                let verdict = session.verdict_of(number, When::Final).unwrap();
                ask_all(&verdict);
                let resets = damaged.iter().filter(|frame| has(frame, RST)).count();
                let count = verdict.resets().map_or(0, |resets| resets.count as usize);
                assert!(count <= resets, "{what}");
            }
        }
    }
}

/// A segment of one of two streams, with numbers that are near each other or far apart.
fn random_segment<'a>(random: &mut Random, frame: u32, payload: &'a [u8]) -> Segment<'a> {
    let end = |port| Endpoint { addr: Some([10, 0, 0, 1].into()), port };
    let ends = [end(40_000), end(80)];
    let from = random.below(2);
    let number = |random: &mut Random| match random.below(8) {
        0 => random.next() as u32,
        1 => u32::MAX - random.below(100) as u32,
        _ => random.below(400) as u32,
    };
    let shown = random.below(payload.len() + 1);
    Segment {
        frame,
        layer: 0,
        stream: random.below(2) as u32,
        time: CaptureTime(random.below(1 << 40) as i64),
        src: ends[from],
        dst: ends[1 - from],
        tcp: Header {
            seq: number(random),
            ack: number(random),
            window: random.next() as u16,
            ack_flag: random.below(5) > 0,
            syn: random.below(12) == 0,
            fin: random.below(12) == 0,
            rst: random.below(30) == 0,
        },
        payload_len: (shown + random.below(3) * random.below(2000)) as u32,
        payload: &payload[..shown],
        ip_id: (random.below(2) == 0).then_some(random.below(3) as u16),
        ttl: (random.below(2) == 0).then_some(random.next() as u8),
        decrypted: &[],
    }
}

const PAYLOADS: [&str; 14] = [
    "",
    "GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST /p HTTP/1.1\r\nContent-Length: 40\r\n\r\nabc",
    "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\nabc",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
    "0\r\n\r\n",
    "\x16\x03\x01\x00\x20abcdefghijklmnopqrstuvwxyz012345",
    "\x17\x03\x03\x00\x05abcde\x15\x03\x03\x00\x02ab",
    "GET /w HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x01\x05abcde",
    "CONNECT h:443 HTTP/1.1\r\n\r\n",
    "PROXY TCP4 192.0.2.7 10.0.0.2 56324 80\r\n",
    "\r\n\r\n\0\r\nQUIT\n",
    "nonsense nonsense nonsense nonsense nonsense nonsense nonsense",
];

/// Questions must not change what is answered later, so one session is asked all the time and
/// the other only in the end.
#[test]
fn random_segments_are_survived_and_questions_change_nothing() {
    for seed in 0..600 {
        let (mut asked, mut silent) = (Session::new(), Session::new());
        let mut random = Random::new(seed);
        for frame in 1..=80 {
            let payload = PAYLOADS[random.below(PAYLOADS.len())].as_bytes();
            let segment = random_segment(&mut random, frame, payload);
            asked.feed(&segment).unwrap();
            silent.feed(&segment).unwrap();
            for _ in 0..random.below(3) {
                let when = [When::SoFar, When::Final][random.below(2)];
                let number = 1 + random.below(frame as usize) as u32;
                let verdict = asked.verdict(number, 0, when).unwrap();
                ask_all(&verdict);
            }
        }
        for stream in 0..2 {
            let asked = asked.verdict_of(stream, When::Final);
            let silent = silent.verdict_of(stream, When::Final);
            let of = |verdict| fields::of_stream(&verdict);
            assert_eq!(asked.map(of), silent.map(of), "seed {seed}");
        }
    }
}

/// One exchange, sent with loss that nobody repairs: the client's acknowledgments tell what it
/// has.
#[test]
fn completed_means_that_the_client_acknowledged_every_byte() {
    let responses = [
        ("200:40", "x*40"),
        ("200:chunked", r#""14\r\nxxxxxxxxxxxxxxxxxxxx\r\n" "0\r\n\r\n""#),
        ("204", ""),
    ];
    let ends = ["c R.", "c R passive", "s R.", "c F.\ns F.\nc .", "s F.\nc F.\ns .", ""];
    let mut completed = 0;
    let mut random = Random::new(3);
    for round in 0..3000 {
        let (head, body) = responses[random.below(responses.len())];
        let mut script = "open\nc GET:/a\n".to_owned();
        let bytes: usize = std::iter::once(head)
            .chain(body.split(' ').filter(|word| !word.is_empty()))
            .map(|word| support::builder::payload(word).len())
            .sum();
        for word in std::iter::once(head).chain(body.split(' ')) {
            let fate = ["", "", "", "lost", "drop", "lost drop", "late=2"][random.below(7)];
            if !word.is_empty() {
                script += &format!("s {word} {fate}\n");
            }
            if random.below(2) == 0 {
                script += &format!("c . {}\n", ["", "", "lost", "drop"][random.below(4)]);
            }
        }
        script += ends[random.below(ends.len())];
        let frames = Capture::of(&Talk::default(), &script).frames();
        let fields = sane(&frames, &script);
        let acked = (frames.iter())
            .filter(|frame| frame.bytes[34..36] == 40_000u16.to_be_bytes())
            .filter(|frame| frame.bytes[FLAGS] & 16 != 0)
            .map(|frame| u32::from_be_bytes(frame.bytes[42..46].try_into().unwrap()))
            .map(|ack| ack.wrapping_sub(2_000_001) as usize)
            .max();
        if fields["transaction"] == "completed" {
            completed += 1;
            assert!(acked.is_some_and(|acked| acked >= bytes), "round {round}\n{script}");
        }
    }
    assert!(completed > 500, "{completed}");
}

#[test]
fn a_log_may_come_in_any_pieces() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (capture, log) = support::article::files(directory);
    let log = std::fs::read(log).unwrap();
    let verdicts = |pieces: &mut dyn FnMut(&mut Session)| -> Vec<(String, Vec<String>)> {
        let mut session = Session::new();
        session.set_time_zone(support::article::ZONE).unwrap();
        session.begin_error_log("error.log");
        pieces(&mut session);
        session.end_log().unwrap();
        support::replay(&mut session, &capture);
        (session.streams().collect::<Vec<_>>().into_iter())
            .map(|number| {
                let verdict = session.verdict_of(number, When::Final).unwrap();
                let entries = verdict.entries().map(|(entry, found)| {
                    format!("{} {} {}", entry.line, found.score, found.evidence.words())
                });
                (verdict.summary(), entries.collect())
            })
            .collect()
    };
    let whole = verdicts(&mut |session| session.log_bytes(&log));
    assert_eq!(whole.iter().filter(|(_, entries)| !entries.is_empty()).count(), 5);
    for size in [1, 2, 3, 7, 100, 511] {
        let split = verdicts(&mut |session| {
            log.chunks(size).for_each(|piece| session.log_bytes(piece));
        });
        assert_eq!(split, whole, "in pieces of {size}");
    }
    for at in 0..log.len() {
        if at % 13 == 0 {
            let split = verdicts(&mut |session| {
                session.log_bytes(&log[..at]);
                session.log_bytes(&log[at..]);
            });
            assert_eq!(split, whole, "cut at {at}");
        }
    }
}
