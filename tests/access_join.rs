// SPDX-License-Identifier: GPL-2.0-or-later
//! What an access log adds to an error log: storms of equal requests, of which only the
//! client's port tells one from the other.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::IpAddr;

use rstdiag::session::{LogKind, Session, When};
use rstdiag::tcp::segment::{Endpoint, Header, Segment};
use rstdiag::time::{CaptureTime, SECOND};

/// 2026-11-24 07:00:00 UTC
const START: i64 = 1_795_503_600 * SECOND;
const HOUR: i64 = 3600 * SECOND;
const CLIENT: [u8; 4] = [198, 51, 100, 7];

/// The stream whose end the entries of connection `number` are about, of `count`: workers
/// accept a storm in an order of their own.
fn stream_of(number: u32, count: u32) -> u32 {
    number * 7 % count
}

fn port(stream: u32) -> u16 {
    20_000 + stream as u16
}

/// `date` gives a wall clock that is ahead of UTC by `ahead`.
fn date(ns: i64, ahead: i64, format: &str) -> String {
    let shown = chrono::DateTime::from_timestamp((ns + ahead).div_euclid(SECOND), 0).unwrap();
    shown.format(format).to_string()
}

fn error_log(count: u32, ahead: i64) -> String {
    let time = date(START, ahead, "%Y/%m/%d %H:%M:%S");
    let line = |number: u32| {
        format!(
            "{time} [info] 7#7: *{} client prematurely closed connection, so upstream connection \
             is closed too (104: Connection reset by peer) while sending request to upstream, \
             client: 198.51.100.7, server: x, request: \"POST /a HTTP/1.1\", upstream: \
             \"http://192.0.2.9:8080/a\", host: \"x\"\n",
            1000 + number
        )
    };
    (0..count).map(line).collect()
}

/// Of each connection one line, of connections that the error log knows nothing of many.
fn access_log(count: u32, format: &str) -> String {
    let line = |number: u32| {
        let msec = format!("{}.{:03}", (START / SECOND), 1 + number % 900);
        let port = if number < count { port(stream_of(number, count)) } else { 9 };
        format
            .replace("$connection", &(1000 + number).to_string())
            .replace("$remote_addr", "198.51.100.7")
            .replace("$remote_port", &port.to_string())
            .replace("$msec", &msec)
            .replace("$time_local", &date(START, 3 * HOUR, "%d/%b/%Y:%H:%M:%S +0300"))
            .replace("$request_time", "0.250")
            .replace("$request_id", &format!("{number:032x}"))
            .replace("$request", "POST /a HTTP/1.1")
            .replace("$status", "499")
            + "\n"
    };
    (0..count * 3).map(line).collect()
}

/// As many connections of one client that are reset within one millisecond.
fn storm(session: &mut Session, count: u32) {
    let server = Endpoint { addr: Some(IpAddr::from([192, 0, 2, 80])), port: 80 };
    let request = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n123456789";
    let len = request.len() as u32;
    let mut frame = 0;
    for step in 0..5 {
        for stream in 0..count {
            let client = Endpoint { addr: Some(IpAddr::from(CLIENT)), port: port(stream) };
            frame += 1;
            let plain = Header { window: 502, ..Header::default() };
            let (from_client, tcp, payload) = match step {
                0 => (true, Header { syn: true, ..plain }, &b""[..]),
                1 => (false, Header { syn: true, ack_flag: true, ack: 1, ..plain }, &b""[..]),
                2 => (true, Header { seq: 1, ack_flag: true, ack: 1, ..plain }, &request[..]),
                3 => {
                    (false, Header { seq: 1, ack_flag: true, ack: 1 + len, ..plain }, &b""[..])
                }
                _ => (
                    true,
                    Header { seq: 1 + len, rst: true, ack_flag: true, ack: 1, ..plain },
                    &b""[..],
                ),
            };
            let (src, dst) = if from_client { (client, server) } else { (server, client) };
            let segment = Segment {
                frame,
                layer: 0,
                stream,
                time: CaptureTime(START + i64::from(frame) * 100),
                src,
                dst,
                tcp,
                payload_len: payload.len() as u32,
                payload,
                ip_id: None,
                ttl: None,
                decrypted: &[],
            };
            session.feed(&segment).unwrap();
        }
    }
}

/// Entries that are said to be about a stream: how many, of which log, and how many of them are
/// about another.
#[derive(Debug, Default, PartialEq)]
struct Told {
    errors: u32,
    accesses: u32,
    wrong: u32,
    ports: u32,
}

fn read(session: &mut Session, kind: LogKind, text: &str) -> Option<String> {
    session.begin_log(kind, "some.log");
    text.as_bytes().chunks(1000).for_each(|piece| session.log_bytes(piece));
    session.end_log().err().map(|error| error.to_string())
}

fn told(session: &mut Session, count: u32) -> Told {
    storm(session, count);
    said(session, count)
}

fn said(session: &mut Session, count: u32) -> Told {
    let mut told = Told::default();
    for stream in 0..count {
        let verdict = session.verdict_of(stream, When::Final).unwrap();
        for (entry, found) in verdict.entries().filter(|(_, found)| found.certain) {
            told.errors += 1;
            told.ports += u32::from(found.evidence.words().contains("port"));
            told.wrong += u32::from(stream_of(entry.line as u32 - 1, count) != stream);
        }
        for (entry, _) in verdict.access_entries() {
            told.accesses += 1;
            told.wrong += u32::from(stream_of(entry.line as u32 - 1, count) != stream);
            assert_eq!(entry.parts().map(|parts| parts.pid), None);
        }
    }
    told
}

fn session(error_log: &str, zone: &str) -> Session {
    let mut session = Session::new();
    session.set_time_zone(zone).unwrap();
    assert_eq!(read(&mut session, LogKind::Error, error_log), None);
    session
}

const FORMAT: &str = "$connection $remote_addr:$remote_port [$msec] $request_time $status \
                      \"$request\" $request_id";

#[test]
fn a_storm_without_an_access_log_stays_open() {
    let mut session = session(&error_log(40, 0), "UTC");
    let told = told(&mut session, 40);
    assert_eq!((told.errors, told.accesses), (0, 0));
}

#[test]
fn every_entry_of_a_storm_finds_its_stream_by_the_port() {
    for count in [40, 3000] {
        // The zone of the error log is told by lines that have no zone themselves, or by theirs.
        for format in [FORMAT.to_owned(), FORMAT.replace("$msec", "$time_local")] {
            let mut session = session(&error_log(count, 3 * HOUR), "+03:00");
            session.set_access_log_format(&format).unwrap();
            let log = access_log(count, &format);
            assert_eq!(read(&mut session, LogKind::Access, &log), None);
            // Every 499 tells of an end, whether the error log knows its connection or not.
            assert_eq!(session.log_entries(), 4 * count as usize);
            let all = Told { errors: count, accesses: count, wrong: 0, ports: count };
            assert_eq!(told(&mut session, count), all, "{format}");
        }
    }
}

#[test]
fn an_access_entry_has_its_own_time_and_parts() {
    let mut session = session(&error_log(1, 3 * HOUR), "+03:00");
    session.set_access_log_format(FORMAT).unwrap();
    assert_eq!(read(&mut session, LogKind::Access, &access_log(1, FORMAT)), None);
    storm(&mut session, 1);
    let verdict = session.verdict_of(0, When::Final).unwrap();
    let entries = verdict.access_entries();
    let [(entry, found)] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!(entry.time, CaptureTime(START + SECOND / 1000));
    // The RST is frame 5.
    assert_eq!(found.delta, SECOND / 1000 - 500);
    let parts = entry.any_parts().unwrap();
    assert_eq!(parts.kind(), "access");
}

/// Two streams that are alike, and an access log without numbers of connections: an error entry
/// has the port of the one entry that is about its request.
#[test]
fn an_access_entry_of_the_same_request_brings_the_port() {
    const UNNUMBERED: &str =
        "$remote_addr:$remote_port [$msec] $request_time $status \"$request\"";
    let one = access_log(1, UNNUMBERED).lines().next().unwrap().to_owned() + "\n";
    let join = |errors: &str, accesses: &str| {
        let mut session = session(errors, "UTC");
        session.set_access_log_format(UNNUMBERED).unwrap();
        assert_eq!(read(&mut session, LogKind::Access, accesses), None);
        let told = told(&mut session, 2);
        (told.errors, told.ports, told.accesses, told.wrong)
    };
    let error = error_log(1, 0);
    assert_eq!(join(&error, &one), (1, 1, 1, 0));
    let second = START / SECOND;
    let at = |from: i64| one.replace(&format!("[{second}."), &format!("[{}.", second + from));
    let other = one.replace(".001]", ".900]").replace(":20000 ", ":20001 ");
    for (errors, accesses, what) in [
        (error.clone(), at(7), "later"),
        (error.clone(), at(-7), "earlier"),
        (error.clone(), one.replace("198.51.100.7", "198.51.100.8"), "another client's"),
        (error.clone(), one.replace("/a", "/b"), "another request's"),
        (error.clone(), one.replace(" 499 ", " 200 "), "one that was answered"),
        (error.clone(), one.clone() + &other, "one of two"),
        (error_log(2, 0), one.clone(), "that of one of two"),
    ] {
        let (_, ports, _, wrong) = join(&errors, &accesses);
        assert_eq!((ports, wrong), (0, 0), "{what}");
    }
}

/// In a live capture an access entry may come long before the error entry of its connection.
#[test]
fn what_is_read_during_the_capture_waits_for_its_error_entry() {
    const NO_STATUS: &str = "$connection $remote_addr:$remote_port [$msec]";
    let accesses = access_log(1, NO_STATUS);
    let mut session = Session::new();
    session.set_time_zone("UTC").unwrap();
    session.set_access_log_format(NO_STATUS).unwrap();
    assert_eq!(read(&mut session, LogKind::Access, &accesses), None);
    assert_eq!(session.log_entries(), 0);
    storm(&mut session, 2);
    assert_eq!(read(&mut session, LogKind::Access, &accesses), None);
    assert_eq!(session.log_entries(), 3);
    assert_eq!(read(&mut session, LogKind::Error, &error_log(1, 0)), None);
    let said = said(&mut session, 2);
    assert_eq!((said.errors, said.ports, said.wrong), (1, 1, 0));
}

/// Numbers begin anew with nginx, and may be another host's: what cannot be true is not used.
#[test]
fn what_contradicts_the_error_log_brings_nothing() {
    let good = access_log(3, FORMAT);
    let other_client = good.replace("198.51.100.7", "198.51.100.8");
    let twice = good.clone() + &good.replace(":2000", ":3000");
    let long_ago =
        good.replace(&format!("{}.", START / SECOND), &format!("{}.", START / SECOND - 9000));
    // Of two clients with one number, each access entry still stands for itself.
    for (log, accesses) in [(other_client, 0), (twice, 3), (long_ago, 0)] {
        let mut session = session(&error_log(3, 0), "UTC");
        session.set_access_log_format(FORMAT).unwrap();
        assert_eq!(read(&mut session, LogKind::Access, &log), None);
        let told = told(&mut session, 3);
        assert_eq!((told.ports, told.accesses, told.wrong), (0, accesses, 0), "{log}");
    }
}

#[test]
fn a_format_that_is_not_the_logs_is_told_of() {
    let mut session = session(&error_log(1, 0), "UTC");
    let error = session.set_access_log_format("$").unwrap_err().to_string();
    assert!(error.starts_with("access_log_format: "), "{error}");
    for (format, lacks) in [
        ("combined", None),
        ("$request $connection", Some("no time")),
        ("[$time_local] $request", Some("neither $connection")),
    ] {
        session.set_access_log_format(format).unwrap();
        let told = session.access_log_lacks();
        assert_eq!(told.is_some(), lacks.is_some(), "{format}: {told:?}");
        assert!(told.unwrap_or_default().contains(lacks.unwrap_or_default()), "{told:?}");
    }
    session.set_access_log_format(FORMAT).unwrap();
    assert_eq!(session.access_log_lacks(), None);
    let complaint = read(&mut session, LogKind::Access, "GET /\n").unwrap();
    assert!(
        complaint.starts_with("access_log: some.log: line 1 does not match"),
        "{complaint}"
    );
}

/// What only packets could show to be about an end is kept of the time of the capture only.
#[test]
fn requests_that_went_well_long_before_the_capture_are_not_kept() {
    let line = |seconds: i64, status: u16| {
        let id = "0123456789abcdef".repeat(2);
        let second = START / SECOND + seconds;
        format!("1 192.0.2.1:1 [{second}.000] 0.001 {status} \"GET / HTTP/1.1\" {id}\n")
    };
    let log: String = [(-7200, 200), (-7200, 499), (-60, 200), (-3 * 86_400, 499)]
        .map(|(seconds, status)| line(seconds, status))
        .concat();
    let mut session = Session::new();
    session.begin_at(CaptureTime(START));
    session.set_access_log_format(FORMAT).unwrap();
    assert_eq!(read(&mut session, LogKind::Access, &log), None);
    assert_eq!(session.log_entries(), 2);
}
