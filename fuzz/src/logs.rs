// SPDX-License-Identifier: GPL-2.0-or-later
//! What has to hold of any bytes that are read as a log or as a log's format.

use std::collections::HashMap;

use rstdiag::limits;
use rstdiag::nginx::access_end;
use rstdiag::nginx::access_log::{self, AccessEntry};
use rstdiag::nginx::access_reader::{AccessCounts, AccessLine, AccessLogReader, Keeper};
use rstdiag::nginx::error_log::{self, RequestLine, Upstream};
use rstdiag::nginx::log_format::{Escape, LogFormat, Part, Variable};
use rstdiag::nginx::message;
use rstdiag::nginx::reader::ErrorLogReader;

/// Takes an error log: its lines one by one, then all of it in one piece and in two.
pub fn error_line(data: &[u8]) {
    for line in data.split(|&b| b == b'\n') {
        RequestLine::parse(line);
        Upstream::parse(line);
        let Ok(entry) = error_log::parse(line) else { continue };
        assert!(error_log::starts_entry(line));
        if message::classify(&entry).is_some() {
            assert!(message::may_be_end(entry.message));
        }
        entry.request.map(RequestLine::parse);
        entry.upstream.map(Upstream::parse);
    }
    let read = |pieces: &[&[u8]]| {
        let mut ends = Vec::new();
        let mut sink = |line: rstdiag::nginx::reader::LineRef<'_>| {
            ends.push((line.number, line.raw.to_vec()));
        };
        let mut reader = ErrorLogReader::new();
        pieces.iter().for_each(|piece| reader.push(piece, &mut sink));
        let counts = reader.finish(&mut sink);
        assert!(counts.ends <= counts.parsed && counts.entries <= counts.lines);
        assert_eq!(counts.ends, ends.len() as u64);
        (ends, counts)
    };
    let (head, tail) = data.split_at(data.len() / 2);
    assert_eq!(read(&[data]), read(&[head, tail]));
}

/// Takes a format, which is the first line, and an access log.
pub fn access_line(data: &[u8]) {
    let end = data.iter().position(|&b| b == b'\n').unwrap_or(0);
    let (first, log) = data.split_at(end);
    let format = std::str::from_utf8(first).ok().and_then(|text| LogFormat::parse(text).ok());
    let format = format.unwrap_or_else(|| LogFormat::parse("combined").expect("a format"));
    let (head, tail) = log.split_at(log.len() / 2);
    let whole = read(&format, &[log]);
    assert_eq!(whole, read(&format, &[head, tail]));
    let (kept, counts) = whole;
    assert_eq!(counts.entries, kept.len() as u64);
    let AccessCounts { passed, entries, misfits, overlong, .. } = counts;
    assert_eq!(passed + entries + misfits + overlong, counts.lines);
    assert!(counts.ambiguous <= counts.entries);
}

/// The lines of a log and what they say.
pub fn read(format: &LogFormat, pieces: &[&[u8]]) -> (Vec<(u64, String)>, AccessCounts) {
    struct All(Vec<(u64, String)>);
    impl Keeper for All {
        fn keep(&mut self, line: AccessLine<'_>) {
            self.0.push((line.number, ask_all(&line.entry)));
        }
    }
    let mut all = All(Vec::new());
    let mut reader = AccessLogReader::new(format.clone());
    pieces.iter().for_each(|piece| reader.push(piece, &mut all));
    let counts = reader.finish(&mut all);
    let bad = counts.bytes == 0 || counts.misfits > 0;
    assert_eq!(reader.complaint().is_some(), bad);
    (all.0, counts)
}

/// Asks everything of an entry that can be asked.
fn ask_all(entry: &AccessEntry<'_>) -> String {
    let attempts = entry.attempts();
    assert!(attempts.len() <= limits::UPSTREAMS);
    assert!(attempts.is_sorted_by_key(|attempt| attempt.pass));
    let values = [Variable::Request, Variable::HttpUserAgent, Variable::Uri];
    format!(
        "{:?}",
        (
            (entry.time(), entry.utc_offset(), access_end::classify(entry), entry.completed()),
            (entry.status(), entry.connection(), entry.connection_requests(), entry.pid()),
            (entry.bytes_sent(), entry.body_bytes_sent(), entry.request_length()),
            (entry.request_time(), entry.request_id(), entry.server(), attempts),
            (entry.client_addr(), entry.client_port(), entry.peer_addr(), entry.peer_port()),
            (entry.method(), entry.target(), values.map(|variable| entry.value(variable))),
        )
    )
}

/// Takes a format, and reads what nginx would write by it: a line, whatever its values are, is
/// one of the format, and no value is taken for another.
pub fn log_format(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let format = match LogFormat::parse(text) {
        Ok(format) => format,
        Err(error) => {
            assert!(error.to_string().contains("at character "), "{error}");
            return;
        }
    };
    let seed = data.iter().fold(7u64, |seed, &b| seed.wrapping_mul(31).wrapping_add(b.into()));
    let mut random = Random::new(seed);
    for _ in 0..8 {
        round_trip(&format, &mut random);
    }
}

/// Writes a line with random values as nginx would, and reads it. Returns how many values were
/// read, and how many of the variables were written.
pub fn round_trip(format: &LogFormat, random: &mut Random) -> (usize, usize) {
    let mut written: HashMap<&str, Option<Vec<u8>>> = HashMap::new();
    let mut line = Vec::new();
    for part in format.parts() {
        match part {
            Part::Literal(text) => line.extend_from_slice(text),
            Part::Variable(name) => {
                let value = written.entry(name).or_insert_with(|| {
                    let mut value = sample(name, random);
                    // Only without escapes can a value end the line; then nobody can read it.
                    if format.escape() == Escape::None {
                        value
                            .iter_mut()
                            .flatten()
                            .filter(|b| **b == b'\n')
                            .for_each(|b| *b = b' ');
                    }
                    value
                });
                escape(value.as_deref(), format.escape(), &mut line);
            }
        }
    }
    if line.ends_with(b"\r") {
        return (0, 0); // Taken for a part of the line's end.
    }
    let mut ambiguous = false;
    let entry = access_log::parse(format, &line, &mut ambiguous);
    if format.parts().is_empty() {
        return (0, 0);
    }
    let entry = entry.unwrap_or_else(|| panic!("unread: {}", line.escape_ascii()));
    let (mut read, mut known) = (0, 0);
    for (name, value) in written {
        let Some(variable) = Variable::of(name.as_bytes()) else { continue };
        known += 1;
        // A lone dash and nothing at all may be values, and are taken for missing ones.
        let dash: &[u8] = if format.escape() == Escape::None { b"" } else { b"-" };
        let value = value.filter(|value| !value.is_empty() && value != dash);
        match (entry.value(variable), value) {
            (Some(is), Some(was)) => {
                assert_eq!(is.escape_ascii().to_string(), was.escape_ascii().to_string());
                read += 1;
            }
            (None, None) => read += 1,
            (None, Some(_)) => assert!(ambiguous, "${name} of {}", line.escape_ascii()),
            (Some(is), None) => {
                panic!("${name} is {}: {}", is.escape_ascii(), line.escape_ascii())
            }
        }
    }
    (read, known)
}

/// Writes a value as nginx does.
fn escape(value: Option<&[u8]>, how: Escape, line: &mut Vec<u8>) {
    let Some(value) = value else {
        line.extend_from_slice(if how == Escape::Default { b"-" } else { b"" });
        return;
    };
    for &byte in value {
        match (how, byte) {
            (Escape::Default, b'"' | b'\\' | 0..=0x1f | 0x7f..) => {
                line.extend_from_slice(format!("\\x{byte:02X}").as_bytes());
            }
            (Escape::Json, b'"' | b'\\') => line.extend_from_slice(&[b'\\', byte]),
            (Escape::Json, b'\n') => line.extend_from_slice(b"\\n"),
            (Escape::Json, b'\r') => line.extend_from_slice(b"\\r"),
            (Escape::Json, b'\t') => line.extend_from_slice(b"\\t"),
            (Escape::Json, 0x08) => line.extend_from_slice(b"\\b"),
            (Escape::Json, 0x0c) => line.extend_from_slice(b"\\f"),
            (Escape::Json, 0..=0x1f) => {
                line.extend_from_slice(format!("\\u00{byte:02X}").as_bytes());
            }
            _ => line.push(byte),
        }
    }
}

/// A value that a variable may have; `None` where nginx has none.
fn sample(name: &str, random: &mut Random) -> Option<Vec<u8>> {
    let always = ["status", "msec", "time_local", "time_iso8601", "request_id"];
    if !always.contains(&name) && random.below(8) == 0 {
        return None;
    }
    let text = match name {
        "remote_addr" | "realip_remote_addr" | "server_addr" | "proxy_protocol_addr" => {
            ["10.0.0.1", "::1", "2001:db8::fe", "unix:"][random.below(4)].to_owned()
        }
        "status" => format!("{:03}", random.below(600)),
        "msec" | "request_time" => seconds(random),
        "time_local" => {
            format!("24/Nov/2026:07:22:{:02} +0{}00", random.below(60), random.below(10))
        }
        "time_iso8601" => format!("2026-11-24T07:22:{:02}-05:00", random.below(60)),
        "request_id" => format!("{:016x}{:016x}", random.next(), random.next()),
        "request_completion" => ["OK", ""][random.below(2)].to_owned(),
        "pipe" => ["p", "."][random.below(2)].to_owned(),
        "scheme" => "https".to_owned(),
        "host" | "server_name" | "ssl_server_name" => "shop.example.com".to_owned(),
        "request_method" => ["GET", "POST"][random.below(2)].to_owned(),
        "server_protocol" => "HTTP/1.1".to_owned(),
        "ssl_protocol" | "ssl_cipher" | "ssl_session_reused" => "TLSv1.3".to_owned(),
        "upstream_addr" => list(random, |random| {
            ["10.1.0.1:8080", "[::1]:80", "unix:/run/a.sock", "backend"][random.below(4)].into()
        }),
        "upstream_status" => list(random, |random| format!("{}", 200 + random.below(305))),
        "upstream_response_time" | "upstream_connect_time" | "upstream_header_time" => {
            list(random, seconds)
        }
        "upstream_bytes_sent" | "upstream_bytes_received" => {
            list(random, |random| random.below(100_000).to_string())
        }
        "remote_port"
        | "realip_remote_port"
        | "server_port"
        | "connection"
        | "pid"
        | "connection_requests"
        | "bytes_sent"
        | "body_bytes_sent"
        | "request_length"
        | "proxy_protocol_port" => random.below(70_000).to_string(),
        _ => return Some(anything(random)),
    };
    Some(text.into_bytes())
}

fn seconds(random: &mut Random) -> String {
    format!("{}.{:03}", random.below(2000), random.below(1000))
}

fn list(random: &mut Random, item: impl Fn(&mut Random) -> String) -> String {
    let mut text = item(random);
    for _ in 0..random.below(4) {
        text.push_str([", ", " : "][random.below(2)]);
        text.push_str(&if random.below(5) == 0 { "-".to_owned() } else { item(random) });
    }
    text
}

/// What a client may send: words of its own, of other values, and of the format.
fn anything(random: &mut Random) -> Vec<u8> {
    const WORDS: [&[u8]; 16] = [
        b"GET / HTTP/1.1",
        b" ",
        b"\"",
        b"\\",
        b" - ",
        b" [",
        b"] \"",
        b"200",
        b"\xe9",
        b"\n",
        b"24/Nov/2026:07:22:02 +0000",
        b"Mozilla/5.0 (X11)",
        b"0.001",
        b", ",
        b"-",
        b"\0\x7f",
    ];
    (0..random.below(6)).flat_map(|_| WORDS[random.below(WORDS.len())].to_vec()).collect()
}

/// A small generator (xorshift), so that a failure can be repeated.
pub struct Random(u64);

impl Random {
    /// A generator; the same seed makes the same numbers.
    pub fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 11) as usize % end.max(1)
    }
}
