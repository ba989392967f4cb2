// SPDX-License-Identifier: GPL-2.0-or-later
//! The log's clock, found from log and capture: traffic whose truth is known, and logs of it by
//! clocks in other zones, ahead, behind, and of something else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{IpAddr, Ipv4Addr};

use rstdiag::session::{Session, When};
use rstdiag::tcp::segment::{Endpoint, Header, Segment};
use rstdiag::time::{CaptureTime, SECOND};

/// 2026-10-24 23:30:00 UTC: an hour and a half before Berlin's summer ends.
const START: i64 = 1_792_884_600 * SECOND;
const HOUR: i64 = 3600 * SECOND;

/// A client resets its connection in the middle of a request.
#[derive(Clone, Copy)]
struct Reset {
    time: i64,
    client: u8,
    uri: u32,
    /// Nanoseconds that nginx takes to write about it.
    late: i64,
}

struct Random(u64);

impl Random {
    /// A number from 0 to below a bound (splitmix64).
    fn below(&mut self, bound: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 1) as i64 % bound
    }
}

/// Resets at random times within `span`.
fn resets(seed: u64, count: u32, span: i64, uris: i64, clients: i64) -> Vec<Reset> {
    let mut random = Random(seed);
    let mut all: Vec<Reset> = (0..count)
        .map(|_| Reset {
            time: START + random.below(span),
            client: 1 + random.below(clients) as u8,
            uri: random.below(uris) as u32,
            late: random.below(SECOND / 1000),
        })
        .collect();
    all.sort_by_key(|reset| reset.time);
    all
}

/// The lines that nginx writes about these, by a clock that is wrong by `offset(time)`.
fn log(resets: &[Reset], offset: impl Fn(i64) -> i64) -> String {
    let line = |(number, reset): (usize, &Reset)| {
        let shown = (reset.time + reset.late + offset(reset.time)).div_euclid(SECOND);
        let time = chrono::DateTime::from_timestamp(shown, 0).unwrap();
        format!(
            "{} [info] 7#7: *{} recv() failed (104: Connection reset by peer), client: \
             198.51.100.{}, server: x, request: \"POST /{} HTTP/1.1\", host: \"x\"\n",
            time.format("%Y/%m/%d %H:%M:%S"),
            number + 1,
            reset.client,
            reset.uri
        )
    };
    resets.iter().enumerate().map(line).collect()
}

fn session(captured: &[Reset], log: &str, zone: &str, offset: &str) -> Session {
    let mut session = Session::new();
    session.set_time_zone(zone).unwrap();
    session.set_clock_offset(offset).unwrap();
    session.begin_error_log("error.log");
    session.log_bytes(log.as_bytes());
    session.end_log().unwrap();
    let server = Endpoint { addr: Some(IpAddr::from([192, 0, 2, 80])), port: 80 };
    let mut frame = 0;
    for (stream, reset) in (0u32..).zip(captured) {
        let addr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, reset.client));
        let client = Endpoint { addr: Some(addr), port: 20_000 + (stream % 40_000) as u16 };
        let request =
            format!("POST /{} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", reset.uri);
        let len = request.len() as u32;
        let mut send = |from_client: bool, seq: u32, ack: u32, flags: &str, payload: &str| {
            frame += 1;
            let (src, dst) = if from_client { (client, server) } else { (server, client) };
            let segment = Segment {
                frame,
                layer: 0,
                stream,
                time: CaptureTime(reset.time),
                src,
                dst,
                tcp: Header {
                    seq,
                    ack,
                    window: 502,
                    ack_flag: flags.contains('A'),
                    syn: flags.contains('S'),
                    fin: false,
                    rst: flags.contains('R'),
                },
                payload_len: payload.len() as u32,
                payload: payload.as_bytes(),
                ip_id: None,
                ttl: None,
                decrypted: &[],
            };
            session.feed(&segment).unwrap();
        };
        send(true, 100, 0, "S", "");
        send(false, 500, 101, "SA", "");
        send(true, 101, 501, "A", "");
        send(true, 101, 501, "A", &request);
        send(true, 101 + len, 501, "RA", "");
    }
    session
}

/// How many streams have their own entry, and how many another one, certainly.
fn right_and_wrong(session: &mut Session, truth: &[Reset]) -> (usize, usize) {
    let (mut right, mut wrong) = (0, 0);
    for stream in 0..truth.len() as u32 {
        let verdict = session.verdict_of(stream, When::Final).unwrap();
        for (entry, found) in verdict.entries() {
            match (found.certain, entry.line == u64::from(stream) + 1) {
                (true, true) => right += 1,
                (true, false) => wrong += 1,
                (false, _) => {}
            }
        }
    }
    (right, wrong)
}

fn words(session: &mut Session) -> String {
    let _ = session.verdict_of(0, When::Final);
    session.clock().words()
}

/// By how much the words say that the log is ahead.
fn seconds_ahead(words: &str) -> f64 {
    let part = words.split(", ").nth(1).unwrap();
    let number = part.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0.0);
    if part.ends_with("behind") {
        -number
    } else {
        number
    }
}

/// What is found if nothing is wrong with the clock, and it is known.
fn known(captured: &[Reset]) -> (usize, usize) {
    right_and_wrong(&mut session(captured, &log(captured, |_| 0), "UTC", "0"), captured)
}

#[test]
fn zone_and_skew_are_found_together() {
    let all = resets(1, 120, 200 * SECOND, 40, 5);
    let plain = known(&all);
    assert!(plain.0 > 100 && plain.1 == 0, "{plain:?}");
    for (zone, name) in [
        (8 * HOUR, "UTC+8"),
        (-5 * HOUR, "UTC-5"),
        (0, "UTC+0"),
        (5 * HOUR + HOUR * 3 / 4, "UTC+5:45"),
        (-(3 * HOUR + HOUR / 2), "UTC-3:30"),
        (14 * HOUR, "UTC+14"),
    ] {
        for tenths in [0, 17, -17, 900, -900, 63, -2000] {
            let skew = tenths * SECOND / 10;
            let log = log(&all, |_| zone + skew);
            let mut session = session(&all, &log, "auto", "auto");
            let words = words(&mut session);
            assert!(words.contains(name), "{name} {tenths}: {words}");
            let ahead = seconds_ahead(&words);
            assert!((ahead - tenths as f64 / 10.0).abs() <= 0.3, "{name} {tenths}: {words}");
            let found = right_and_wrong(&mut session, &all);
            assert!(
                found.1 == 0 && found.0 + 3 >= plain.0,
                "{name} {tenths}: {found:?} {plain:?}"
            );
        }
    }
}

#[test]
fn a_small_skew_in_a_known_zone_is_found_and_a_clock_that_is_right_stays_so() {
    let all = resets(2, 400, 300 * SECOND, 60, 7);
    for (ns, expected) in [
        (0, "its clock right"),
        (SECOND * 3 / 10, "0.3 s ahead"),
        (-40 * SECOND, "40.0 s behind"),
    ] {
        let words = words(&mut session(&all, &log(&all, |_| 8 * HOUR + ns), "+08:00", "auto"));
        assert!(words.contains(expected) && words.contains("votes"), "{words}");
    }
}

#[test]
fn a_given_offset_leaves_the_zone_to_be_found_and_both_given_leave_nothing() {
    let all = resets(3, 100, 200 * SECOND, 60, 7);
    let lines = log(&all, |_| 2 * HOUR + 70 * SECOND);
    let words_of = |zone: &str, offset: &str| words(&mut session(&all, &lines, zone, offset));
    assert!(
        words_of("auto", "-70").contains("UTC+2, 70.0 s ahead"),
        "{}",
        words_of("auto", "-70")
    );
    assert!(!words_of("auto", "-30").contains("votes"));
    assert!(!words_of("+02:00", "-70").contains("votes"));
    let mut both = session(&all, &lines, "+02:00", "-70");
    assert_eq!(right_and_wrong(&mut both, &all), known(&all));
    let mut nonsense = Session::new();
    for text in ["soon", "1e99", "NaN"] {
        assert!(nonsense.set_clock_offset(text).is_err(), "{text}");
    }
}

/// One client, few URIs, no pause: no entry is unique, and only how many come in each second
/// tells the offset. Under load entries are late, so the log seems to be a little ahead.
#[test]
fn the_clock_of_a_storm_is_found() {
    let mut all = resets(4, 6_000, 20 * SECOND, 4, 1);
    let mut random = Random(9);
    for reset in &mut all {
        // Most at once, some after seconds.
        let seconds = if random.below(10) == 0 { 2 } else { 0 };
        reset.late = random.below(SECOND / 5) + random.below(seconds * SECOND + 1);
    }
    for (offset, zone, ahead) in [
        (0, "UTC+0", 0.0),
        (8 * HOUR + 17 * SECOND / 10, "UTC+8", 1.7),
        (-3 * HOUR, "UTC-3", 0.0),
    ] {
        let words = words(&mut session(&all, &log(&all, |_| offset), "auto", "auto"));
        assert!(words.contains(zone) && words.contains("votes"), "{words}");
        assert!((0.0..0.3).contains(&(seconds_ahead(&words) - ahead)), "{words}");
    }
}

#[test]
fn summer_time_ends_within_the_log() {
    let all = resets(5, 300, 3 * HOUR, 50, 7);
    let end = START + 3 * HOUR / 2;
    let lines = log(&all, |time| if time < end { 2 * HOUR } else { HOUR });
    let mut session = session(&all, &lines, "auto", "auto");
    let words = words(&mut session);
    assert!(
        words.contains("UTC+2") && words.contains("; then the log is in UTC+1,"),
        "{words}"
    );
    let found = right_and_wrong(&mut session, &all);
    assert!(found.1 == 0 && found.0 + 6 >= known(&all).0, "{found:?} {words}");
}

/// Whatever the log says of other connections must not align by accident.
#[test]
fn a_log_of_something_else_tells_nothing() {
    for seed in 10..30 {
        let all = resets(seed, 200, 600 * SECOND, 5, 2);
        let other = resets(seed + 100, 200, 600 * SECOND, 5, 2);
        let mut session = session(&all, &log(&other, |_| HOUR), "auto", "auto");
        let words = words(&mut session);
        assert!(!words.contains("votes"), "{seed}: {words}");
    }
}

#[test]
fn few_votes_or_contradicting_ones_or_those_of_one_moment_tell_nothing() {
    let all = resets(6, 60, 600 * SECOND, 1000, 9);
    let silent = |captured: &[Reset], lines: String| {
        let words = words(&mut session(captured, &lines, "auto", "auto"));
        assert!(words.contains("do not tell"), "{words}");
    };
    silent(&all, log(&all[..2], |_| 8 * HOUR));
    let middle = all[30].time;
    silent(
        &all,
        log(&all, |time| if time < middle { 8 * HOUR } else { 3 * HOUR + 7 * SECOND }),
    );
    let burst: Vec<Reset> = all.iter().map(|r| Reset { time: all[0].time, ..*r }).collect();
    silent(&burst, log(&burst, |_| 8 * HOUR));
    // A health check every ten seconds looks the same ten seconds later.
    let regular: Vec<Reset> = (0..60)
        .map(|n| Reset { time: START + n * 10 * SECOND, client: 1, uri: 1, late: 0 })
        .collect();
    silent(&regular, log(&regular[20..40], |_| 8 * HOUR));
}
