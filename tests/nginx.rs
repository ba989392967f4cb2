// SPDX-License-Identifier: GPL-2.0-or-later
//! The error-log parsers, driven by the cases of `tests/data/nginx/*.toml`.
//!
//! Text in those files may hold `\xNN` for bytes that TOML cannot, and `\\` for a backslash.
//! Parts that a case does not name have to be absent.

// A test that cannot go on says so by a panic.
#![allow(clippy::expect_used, clippy::panic)]

use std::collections::HashSet;

use rstdiag::nginx::error_log::{
    self, ErrorEntry, Level, ParseError, Peer, RequestLine, Upstream,
};
use rstdiag::nginx::message::{self, Action, Shows, Text, ROWS};
use rstdiag::nginx::prefix;
use rstdiag::nginx::reader::{Counts, ErrorLogReader};
use rstdiag::{limits, time::LogTime};
use serde::Deserialize;

// -- cases as data ------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grammar {
    entry: Vec<EntryCase>,
    refused: Vec<Refused>,
    request: Vec<RequestCase>,
    upstream: Vec<UpstreamCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryCase {
    name: String,
    line: String,
    /// Length of the line; `{pad}` is replaced by as many bytes as it takes.
    #[serde(default)]
    length: usize,
    time: Option<[u32; 6]>,
    level: Option<String>,
    pid: Option<u32>,
    tid: Option<u64>,
    connection: Option<u64>,
    message: String,
    errno: Option<u32>,
    errno_text: Option<String>,
    action: Option<String>,
    client: Option<String>,
    server: Option<String>,
    request: Option<String>,
    subrequest: Option<String>,
    upstream: Option<String>,
    host: Option<String>,
    referrer: Option<String>,
    request_id: Option<String>,
    login: Option<String>,
    #[serde(default)]
    udp: bool,
    #[serde(default)]
    truncated: bool,
    /// Name of the row that the entry belongs to.
    row: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    name: String,
    line: String,
    error: String,
    /// Whether it begins like an entry all the same.
    starts: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestCase {
    text: String,
    method: Option<String>,
    target: Option<String>,
    version: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpstreamCase {
    text: String,
    scheme: Option<String>,
    address: Option<String>,
    unix: Option<String>,
    upstream_name: Option<String>,
    uri: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ends {
    end: Vec<EndCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Prefixes {
    prefix: Vec<PrefixCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrefixCase {
    name: String,
    line: String,
    rest: Option<String>,
    /// The entry stands in a JSON string, so that only unpacking gets at it.
    #[serde(default)]
    json: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndCase {
    level: String,
    /// What stands between `*N ` and the context.
    text: String,
    /// The context, where it is not the usual one.
    context: Option<String>,
    leg: Option<String>,
    by: Option<String>,
    shows: Option<String>,
    row: Option<String>,
    peer: Option<String>,
}

const CONTEXT: &str = ", client: 10.255.252.31, server: manager.example.com, request: \
    \"POST /pay?a=b HTTP/1.1\", upstream: \"http://10.4.36.207:8080/pay?a=b\", \
    host: \"manager.example.com\"";

impl EndCase {
    fn line(&self) -> Vec<u8> {
        let Self { level, text, context, .. } = self;
        let context = context.as_deref().unwrap_or(CONTEXT);
        unescape(&format!("2015/12/01 15:49:48 [{level}] 20521#0: *55077498 {text}{context}"))
    }
}

fn grammar() -> Grammar {
    toml::from_str(include_str!("data/nginx/grammar.toml")).expect("grammar.toml")
}

fn ends() -> Vec<EndCase> {
    let ends: Ends = toml::from_str(include_str!("data/nginx/ends.toml")).expect("ends.toml");
    ends.end
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'\\', [b'\\', after @ ..]) => {
                bytes.push(b'\\');
                rest = after;
            }
            (b'\\', [b'x', a, b, after @ ..]) => {
                let digits = [*a, *b];
                let digits = std::str::from_utf8(&digits).expect("two digits");
                bytes.push(u8::from_str_radix(digits, 16).expect("\\xNN"));
                rest = after;
            }
            _ => bytes.push(byte),
        }
    }
    bytes
}

impl EntryCase {
    fn line(&self) -> Vec<u8> {
        unescape(&self.padded(&self.line))
    }

    fn padded(&self, text: &str) -> String {
        let pad = self.length.saturating_sub(self.line.len() - "{pad}".len());
        text.replace("{pad}", &"p".repeat(pad))
    }

    fn part(&self, part: &Option<String>) -> Option<Vec<u8>> {
        part.as_ref().map(|text| unescape(&self.padded(text)))
    }
}

/// Every line of every case.
fn lines() -> Vec<Vec<u8>> {
    let grammar = grammar();
    let entries = grammar.entry.iter().map(EntryCase::line);
    let refused = grammar.refused.iter().map(|case| unescape(&case.line));
    entries.chain(refused).chain(ends().iter().map(EndCase::line)).collect()
}

fn show(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| bytes.escape_ascii().to_string())
}

#[test]
fn entries_are_taken_apart() {
    for case in grammar().entry {
        let line = case.line();
        let name = &case.name;
        let entry = error_log::parse(&line).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(error_log::starts_entry(&line), "{name}");
        if let Some([y, mo, d, h, mi, s]) = case.time {
            let time = LogTime::from_civil(y as i32, mo, d, h, mi, s);
            assert_eq!(Some(entry.time), time, "{name}: time");
        }
        if let Some(level) = &case.level {
            assert_eq!(entry.level.word(), level, "{name}: level");
        }
        assert_eq!(entry.pid, case.pid.unwrap_or(entry.pid), "{name}: pid");
        assert_eq!(entry.tid, case.tid.unwrap_or(entry.tid), "{name}: tid");
        assert_eq!(entry.connection, case.connection, "{name}: connection");
        let text = entry.errno.map(|errno| errno.text);
        assert_eq!(entry.errno.map(|errno| errno.code), case.errno, "{name}: errno");
        let message = Some(case.message.clone());
        for (part, is, should) in [
            ("message", Some(entry.message), &message),
            ("errno text", text.filter(|_| case.errno_text.is_some()), &case.errno_text),
            ("action", entry.action, &case.action),
            ("client", entry.client, &case.client),
            ("server", entry.server, &case.server),
            ("request", entry.request, &case.request),
            ("subrequest", entry.subrequest, &case.subrequest),
            ("upstream", entry.upstream, &case.upstream),
            ("host", entry.host, &case.host),
            ("referrer", entry.referrer, &case.referrer),
            ("request_id", entry.request_id, &case.request_id),
            ("login", entry.login, &case.login),
        ] {
            assert_eq!(show(is), show(case.part(should).as_deref()), "{name}: {part}");
        }
        assert_eq!(entry.udp, case.udp, "{name}: udp");
        assert_eq!(entry.truncated, case.truncated, "{name}: truncated");
        let row = message::classify(&entry).map(|end| end.row.name);
        assert_eq!(row, case.row.as_deref(), "{name}: row");
    }
}

#[test]
fn what_stands_before_a_line_is_taken_off() {
    let entry = RESET.replace("client: 10.0.0.1", r#"client: 10.0.0.1, server: "\x\""#);
    let prefixes: Prefixes =
        toml::from_str(include_str!("data/nginx/prefixes.toml")).expect("prefixes.toml");
    for case in prefixes.prefix {
        let fill = |text: &str, entry: &str| {
            let parts: Vec<_> = text.split("{}").map(unescape).collect();
            parts.join(entry.as_bytes())
        };
        let quoted = serde_json::to_string(&entry).expect("a JSON string");
        let line = match case.json {
            true => case.line.replace("{}", &quoted[1..quoted.len() - 1]).into_bytes(),
            false => fill(&case.line, &entry),
        };
        let rest = case.rest.as_deref().unwrap_or("{}");
        let rest = fill(rest, &entry);
        let name = &case.name;
        assert_eq!(show(Some(&prefix::unpack(&line))), show(Some(&rest)), "{name}");
        let stripped = if case.json { &line } else { &rest };
        assert_eq!(show(Some(prefix::strip(&line))), show(Some(stripped)), "{name}");
        for cut in 0..line.len() {
            prefix::unpack(&line[..cut]);
        }
    }
}

#[test]
fn what_nginx_cannot_have_written_is_refused_by_kind() {
    for case in grammar().refused {
        let line = unescape(&case.line);
        let error =
            error_log::parse(&line).map(|entry| entry.message.escape_ascii().to_string());
        let kind = error.map_err(|kind: ParseError| format!("{kind:?}"));
        assert_eq!(kind, Err(case.error), "{}", case.name);
        assert_eq!(error_log::starts_entry(&line), case.starts, "{}", case.name);
    }
}

#[test]
fn request_lines_are_split() {
    for case in grammar().request {
        let text = unescape(&case.text);
        let line = RequestLine::parse(&text);
        let shown = (
            show(line.map(|l| l.method)),
            show(line.map(|l| l.target)),
            show(line.and_then(|l| l.version)),
        );
        assert_eq!(shown, (case.method, case.target, case.version), "{}", case.text);
    }
}

#[test]
fn upstreams_are_split() {
    for case in grammar().upstream {
        let text = unescape(&case.text);
        let upstream = Upstream::parse(&text);
        assert_eq!(show(upstream.map(|u| u.scheme)), case.scheme, "{}", case.text);
        assert_eq!(show(upstream.map(|u| u.uri)), case.uri, "{}", case.text);
        let (mut address, mut unix, mut name) = (None, None, None);
        match upstream.map(|u| u.peer) {
            Some(Peer::Address(peer)) => address = Some(peer.to_string()),
            Some(Peer::Unix(path)) => unix = show(Some(path)),
            Some(Peer::Name(text)) => name = show(Some(text)),
            None => {}
        }
        let should = (case.address, case.unix, case.upstream_name);
        assert_eq!((address, unix, name), should, "{}", case.text);
    }
}

#[test]
fn entries_tell_how_which_connection_ended() {
    for case in ends() {
        let line = case.line();
        let entry = error_log::parse(&line).unwrap_or_else(|e| panic!("{}: {e}", case.text));
        let end = message::classify(&entry);
        let shown = (
            end.map(|end| end.row.name.to_owned()),
            end.map(|end| format!("{:?}", end.leg)),
            end.map(|end| format!("{:?}", end.by)),
            end.map(|end| format!("{:?}", end.shows)),
            show(end.and_then(|end| end.peer)),
        );
        let should = (case.row, case.leg, case.by, case.shows, case.peer);
        assert_eq!(shown, should, "[{}] {}", case.level, case.text);
    }
}

#[test]
fn every_row_text_and_action_has_a_case() {
    let lines: Vec<_> = ends().iter().map(EndCase::line).collect();
    let entries: Vec<_> = lines.iter().map(|l| error_log::parse(l).expect("parses")).collect();
    let used: HashSet<*const message::Row> = entries
        .iter()
        .filter_map(message::classify)
        .map(|end| std::ptr::from_ref(end.row))
        .collect();
    for row in ROWS.iter().filter(|row| row.shows != Shows::Stays) {
        assert!(used.contains(&std::ptr::from_ref(row)), "{}: {}", row.name, row.means);
    }
    for text in ROWS.iter().flat_map(|row| row.texts) {
        let used = |message: &[u8]| match *text {
            Text::Is(whole) => message == whole.as_bytes(),
            Text::Starts(start) => message.starts_with(start.as_bytes()),
            Text::Around(start, end) => {
                message.starts_with(start.as_bytes()) && message.ends_with(end.as_bytes())
            }
        };
        assert!(entries.iter().any(|entry| used(entry.message)), "no case is about {text:?}");
    }
    let seen: HashSet<Action> =
        entries.iter().filter_map(|entry| Action::of(entry.action?)).collect();
    for (action, text) in Action::all() {
        assert_eq!(action.text(), text);
        assert_eq!(Action::of(text.as_bytes()), Some(action));
        assert!(seen.contains(&action), "no case is about {text}");
    }
}

#[test]
fn names_of_rows_go_with_one_outcome() {
    for a in ROWS {
        for b in ROWS.iter().filter(|b| b.name == a.name) {
            assert_eq!((a.leg, a.by), (b.leg, b.by), "{}", a.name);
        }
    }
}

// -- the article --------------------------------------------------------------------------

#[test]
fn the_articles_lines_are_resets_by_the_client() {
    let log = include_bytes!("data/nginx/article.log");
    let mut seen = Vec::new();
    let counts = read(&[log], |line, end, entry| {
        assert_eq!(end.leg, message::Leg::Client);
        assert_eq!((end.by, end.shows), (message::By::Peer, Shows::Reset));
        let upstream = entry.upstream.and_then(Upstream::parse).expect("has an upstream");
        assert_eq!(upstream.peer, Peer::Address(([10, 4, 36, 207], 8080).into()));
        let request = entry.request.and_then(RequestLine::parse).expect("has a request");
        assert_eq!(request.target, upstream.uri);
        seen.push((line, entry.connection.expect("is numbered"), request.target.to_vec()));
    });
    assert_eq!((counts.lines, counts.ends, counts.complaint()), (5, 5, None));
    let numbers: Vec<_> = seen.iter().map(|(line, n, _)| (*line, *n)).collect();
    let expected = [55077498, 55077722, 55077710, 55077946, 55077965];
    assert_eq!(numbers, (1..).zip(expected).collect::<Vec<_>>());
    assert!(seen[0].2.starts_with(b"/WebPageAlipay/weixin/"));
}

// -- lines of a real nginx ----------------------------------------------------------------

/// nginx 1.22.1 with `error_log … info`, driven by clients and upstreams that reset, close,
/// stall, and put the log's own grammar into URIs and headers.
const REAL: &[u8] = include_bytes!("data/nginx/nginx-1.22.1.log");

#[test]
fn lines_of_a_real_nginx_are_understood() {
    let mut rows = Vec::new();
    for line in REAL.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
        let shown = line.escape_ascii();
        let entry = error_log::parse(line).unwrap_or_else(|e| panic!("{e}: {shown}"));
        assert_eq!(entry.truncated, line.len() == 2047, "{shown}");
        let end = message::classify(&entry);
        match entry.client {
            Some(client) => assert!([&b"127.0.0.1"[..], b"unix:"].contains(&client), "{shown}"),
            None => {
                assert_eq!(end.and_then(|end| end.peer), Some(&b"127.0.0.1"[..]), "{shown}")
            }
        }
        if let Some(upstream) = entry.upstream {
            let upstream = Upstream::parse(upstream).expect("an upstream");
            assert!(!matches!(upstream.peer, Peer::Name(_)), "{shown}");
        }
        rows.push(end.map_or("-", |end| end.row.name));
    }
    rows.retain(|row| *row != "client_closed_idle");
    let expected = "call_reset call_reset client_closed client_closed call_reset connect_refused \
        connect_refused connect_refused connect_unix call_reset upstream_closed upstream_closed \
        - call_reset client_closed_peek client_reset_idle - - call_reset call_reset call_reset \
        - - call_reset - client_timed_out";
    assert_eq!(rows.join(" "), expected);
}

// -- the reader ---------------------------------------------------------------------------

/// Reads a log that comes in these pieces.
fn read(
    pieces: &[&[u8]],
    mut each: impl FnMut(u64, &message::End<'_>, &ErrorEntry<'_>),
) -> Counts {
    let mut reader = ErrorLogReader::new();
    let mut sink = |line: rstdiag::nginx::reader::LineRef<'_>| {
        each(line.number, &line.end, &line.entry);
    };
    for piece in pieces {
        reader.push(piece, &mut sink);
    }
    reader.finish(&mut sink)
}

fn summary(pieces: &[&[u8]]) -> (Vec<(u64, Vec<u8>)>, Counts) {
    let mut seen = Vec::new();
    let counts = read(pieces, |line, _, entry| seen.push((line, entry.message.to_vec())));
    (seen, counts)
}

const RESET: &str = "2015/12/01 15:49:48 [info] 1#0: *1 recv() failed (104: Connection reset \
    by peer) while waiting for request, client: 10.0.0.1, server: 0.0.0.0:80";

#[test]
fn lines_are_numbered_through_whatever_is_between() {
    let notice = "2015/12/01 15:49:48 [notice] 1#0: signal process started";
    let stderr = "2015/12/01 15:49:48 [error] 1#0: *1 FastCGI sent in stderr: \"PHP message: \
        one\nrecv() failed (104: Connection reset by peer)\" while reading upstream, client: \
        10.0.0.1, server: s, request: \"GET / HTTP/1.1\"";
    let log = format!("{RESET}\n\n{notice}\n{stderr}\n{RESET}\r\n{RESET}");
    let (seen, counts) = summary(&[log.as_bytes()]);
    let numbers: Vec<_> = seen.iter().map(|(line, _)| *line).collect();
    assert_eq!(numbers, [1, 6, 7]);
    assert_eq!((counts.lines, counts.entries, counts.ends), (7, 5, 3));
    assert_eq!((counts.malformed, counts.overlong, counts.nuls), (0, 0, 0));
}

#[test]
fn an_entry_goes_on_where_a_client_sent_line_feeds() {
    let begun = "2015/12/01 15:49:48 [error] 1#0: *7 broken header: \"GET / HTTP/1.1";
    let ended = "\" while reading PROXY protocol, client: 10.0.0.1, server: 0.0.0.0:80";
    let whole = format!("{begun}\r\nHost: a\r\n\r\n{ended}");
    let before = |prefix: &str, text: &str| -> String {
        text.split('\n').map(|line| format!("{prefix}{line}\n")).collect()
    };
    for prefix in ["", "nginx-1  | ", "2026-11-24T07:22:02Z stderr F "] {
        let log = before(prefix, &format!("{RESET}\n{whole}\n{RESET}\n{whole}"));
        let mut seen = Vec::new();
        let counts = read(&[log.as_bytes()], |number, end, entry| {
            let client = entry.client.map(<[u8]>::to_vec);
            seen.push((number, end.row.name, client, entry.message.len()));
        });
        let client = Some(b"10.0.0.1".to_vec());
        let broken =
            whole.find(" while").expect("an action") - whole.find("broken").expect("it");
        let expected = [
            (1, "call_reset", client.clone(), 13),
            (2, "proxy_header_broken", client.clone(), broken),
            (6, "call_reset", client.clone(), 13),
            (7, "proxy_header_broken", client.clone(), broken),
        ];
        assert_eq!(seen, expected, "{prefix}");
        assert_eq!((counts.lines, counts.entries, counts.malformed), (10, 4, 0));
        let pieces: Vec<&[u8]> = log.as_bytes().chunks(7).collect();
        assert_eq!(summary(&pieces), summary(&[log.as_bytes()]));
    }
    // What has no end is ended by the next entry, by the end of the file, and by its length.
    let endless = format!("{begun}\n{}{RESET}\n{begun}", "x\n".repeat(limits::LOG_LINE));
    for log in [format!("{begun}\nx\n{RESET}\n{begun}"), endless] {
        let (seen, counts) = summary(&[log.as_bytes()]);
        assert_eq!((seen.len(), counts.ends), (3, 3));
    }
}

#[test]
fn entries_that_are_too_old_are_only_counted() {
    let old = RESET.replace("2015/12/01 15:49:48", "2015/11/30 23:59:59");
    let log = format!("{old}\nweb-1 | {old}\n{RESET}\nweb-1 | {RESET}");
    let earliest = LogTime::from_civil(2015, 12, 1, 0, 0, 0).expect("a time");
    let mut reader = ErrorLogReader::not_before(earliest);
    let mut numbers = Vec::new();
    reader.push(log.as_bytes(), &mut |line| numbers.push(line.number));
    let counts = reader.finish(&mut |line| numbers.push(line.number));
    assert_eq!(numbers, [3, 4]);
    assert_eq!((counts.entries, counts.early, counts.ends), (4, 2, 2));
}

#[test]
fn a_line_of_a_megabyte_is_one_damaged_line() {
    let long = format!("{RESET}{}", "x".repeat(1 << 20));
    let log = format!("{RESET}\n{long}\n{RESET}\n{long}");
    let whole = summary(&[log.as_bytes()]);
    assert_eq!(whole.0.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 3]);
    assert_eq!((whole.1.lines, whole.1.overlong), (4, 2));
    let pieces: Vec<&[u8]> = log.as_bytes().chunks(4096).collect();
    assert_eq!(summary(&pieces), whole);
}

#[test]
fn the_longest_line_is_still_read() {
    for (length, overlong) in [(limits::LOG_LINE, 0), (limits::LOG_LINE + 1, 1)] {
        let open = format!("{RESET}, request: \"");
        let line = format!("{open}{}\"", "x".repeat(length - open.len() - 1));
        for end in ["", "\n"] {
            let log = format!("{line}{end}");
            let whole = summary(&[log.as_bytes()]);
            assert_eq!((whole.1.lines, whole.1.overlong), (1, overlong));
            assert_eq!(whole.1.ends, 1 - overlong);
            let pieces: Vec<&[u8]> = log.as_bytes().chunks(1000).collect();
            assert_eq!(summary(&pieces), whole);
        }
    }
}

#[test]
fn a_byte_order_mark_hides_nothing() {
    let log = format!("\u{feff}{RESET}\n{RESET}");
    let whole = summary(&[log.as_bytes()]);
    assert_eq!((whole.1.entries, whole.1.ends), (2, 2));
    let pieces: Vec<&[u8]> = log.as_bytes().chunks(2).collect();
    assert_eq!(summary(&pieces), whole);
}

#[test]
fn a_log_without_info_says_nothing_about_clients() {
    let error = RESET.replace("[info]", "[error]");
    for (log, lacks) in [(RESET, false), (&error, true), ("", false)] {
        assert_eq!(summary(&[log.as_bytes()]).1.may_lack_clients(), lacks, "{log}");
    }
}

#[test]
fn odd_files_are_described() {
    let prefixed =
        [format!("web-1 | {RESET}\n"), format!("<190>Dec  1 15:49:48 web x: {RESET}")];
    let masked = RESET.replace("client: 10.0.0.1", "client: <a b>");
    let unknown = format!("web 1 says: {RESET}");
    let cases: [(&[u8], Option<&str>); 9] = [
        (b"", Some("is empty")),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", Some("packed")),
        (
            b"10.0.0.1 - - [01/Dec/2015:15:49:48 +0800] \"GET / HTTP/1.1\" 200 5\n",
            Some("access_log"),
        ),
        (prefixed[0].as_bytes(), None),
        (prefixed[1].as_bytes(), None),
        (unknown.as_bytes(), Some("before it")),
        (masked.as_bytes(), Some("edited")),
        (RESET.as_bytes(), None),
        (b"2015/12/01 15:49:48 [notice] 1#0: signal process started\n", None),
    ];
    for (log, words) in cases {
        let complaint = summary(&[log]).1.complaint();
        let shown = log.escape_ascii();
        match words {
            None => assert_eq!(complaint, None, "{shown}"),
            Some(words) => assert!(complaint.is_some_and(|c| c.contains(words)), "{shown}"),
        }
    }
}

// -- properties ---------------------------------------------------------------------------

/// A small generator (xorshift), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Asks everything of a line that can be asked.
fn exercise(line: &[u8]) {
    let starts = error_log::starts_entry(line);
    if let Ok(entry) = error_log::parse(line) {
        assert!(starts, "{}", line.escape_ascii());
        if message::classify(&entry).is_some() {
            assert!(message::may_be_end(entry.message), "{}", line.escape_ascii());
        }
        entry.request.map(RequestLine::parse);
        entry.upstream.map(Upstream::parse);
    }
    RequestLine::parse(line);
    Upstream::parse(line);
}

#[test]
fn no_bytes_make_it_panic() {
    let lines = lines();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..20_000 {
        let mut line = lines[random.below(lines.len())].clone();
        match random.below(4) {
            0 => line.truncate(random.below(line.len())),
            1 => drop(line.drain(..random.below(line.len()))),
            2 => {
                let other = &lines[random.below(lines.len())];
                let at = random.below(line.len());
                let piece = other[random.below(other.len())..].to_vec();
                line.splice(at..at, piece);
            }
            _ => {}
        }
        for _ in 0..random.below(8) {
            let at = random.below(line.len());
            let byte = match random.below(3) {
                0 => random.next() as u8,
                1 => b"\"(),: *#[]/\r\n\0"[random.below(14)],
                _ => b'0' + random.below(10) as u8,
            };
            if let Some(place) = line.get_mut(at) {
                *place = byte;
            }
        }
        exercise(&line);
    }
    for length in 0..300 {
        let noise: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        exercise(&noise);
    }
}

#[test]
fn a_cut_line_has_no_part_that_the_whole_line_lacks() {
    for line in lines() {
        let Ok(whole) = error_log::parse(&line) else { continue };
        for cut in 0..line.len() {
            let part = &line[..cut];
            exercise(part);
            let Ok(entry) = error_log::parse(part) else { continue };
            // A deceptive request is told from nginx's own words by what comes after it.
            if whole.truncated || is_forged(&whole) {
                continue;
            }
            let shown = part.escape_ascii();
            assert_eq!(entry.time, whole.time, "{shown}");
            assert!(line_holds_at_message(&line, entry.message, &whole), "{shown}");
            assert_eq!(entry.client.or(whole.client), whole.client, "client of {shown}");
            for (is, of) in [
                (entry.server, whole.server),
                (entry.request, whole.request),
                (entry.subrequest, whole.subrequest),
                (entry.upstream, whole.upstream),
                (entry.host, whole.host),
                (entry.referrer, whole.referrer),
                (entry.request_id, whole.request_id),
            ] {
                let Some(is) = is else { continue };
                let of = of.unwrap_or_else(|| panic!("more than the whole: {shown}"));
                assert!(of.starts_with(is), "{shown}");
            }
        }
    }
}

/// The client put `, client: ` or the beginning of a part into the message or the request.
fn is_forged(entry: &ErrorEntry<'_>) -> bool {
    let parts = [Some(entry.message), entry.request, entry.host, entry.subrequest, entry.login];
    let marks: [&[u8]; 3] = [b", client: ", b"\", ", b"\" HTTP"];
    parts
        .into_iter()
        .flatten()
        .any(|part| marks.iter().any(|mark| part.windows(mark.len()).any(|w| w == *mark)))
}

/// A message that was cut is the beginning of what stands in the line from the message on.
fn line_holds_at_message(line: &[u8], message: &[u8], whole: &ErrorEntry<'_>) -> bool {
    let at = whole.message.as_ptr() as usize - line.as_ptr() as usize;
    let from = if whole.message.is_empty() { b"" } else { &line[at..] };
    from.starts_with(message) || message.starts_with(b"*")
}

#[test]
fn pieces_give_what_the_whole_gives() {
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut log = Vec::new();
    for line in lines() {
        log.extend_from_slice(&line);
        log.extend_from_slice([&b"\n"[..], b"\r\n", b"\n\n", b"\0\n"][random.below(4)]);
    }
    log.extend_from_slice(RESET.as_bytes());
    let whole = summary(&[&log]);
    assert!(whole.1.ends > 50, "{:?}", whole.1);
    let bytes: Vec<&[u8]> = log.chunks(1).collect();
    assert_eq!(summary(&bytes), whole);
    for _ in 0..20 {
        let mut pieces = Vec::new();
        let mut rest = log.as_slice();
        while !rest.is_empty() {
            let limit = [7, 300, 20_000][random.below(3)];
            let (piece, after) = rest.split_at(random.below(limit).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        assert_eq!(summary(&pieces), whole);
    }
}

#[test]
fn levels_are_ordered_as_nginx_orders_them() {
    assert!(Level::Emerg < Level::Error && Level::Error < Level::Info);
    assert_eq!(Level::of(b"warn").map(Level::word), Some("warn"));
    assert_eq!(Level::of(b"warning"), None);
}

// -- entries within entries ------------------------------------------------------------------

/// What nginx writes at its default level for a request of this path, decoded and as it came.
fn not_found(number: u32, path: &str, asked: &str) -> String {
    format!(
        "2015/12/01 15:49:48 [error] 31#31: *{number} open() \"/srv/www{path}\" failed (2: No such \
         file or directory), client: 192.0.2.66, server: shop, request: \"GET {asked} HTTP/1.1\", \
         host: \"shop\""
    )
}

/// A path as a client has to write it, so that nginx decodes it to this.
fn asked(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
    let byte = |b: u8| if plain(b) { char::from(b).into() } else { format!("%{b:02X}") };
    path.bytes().map(byte).collect()
}

/// An entry about a path that holds this, cut where nginx's buffer ends.
fn forged(path: &str, buffer: usize) -> String {
    let mut entry = not_found(7, path, &asked(path)).into_bytes();
    entry.truncate(buffer);
    String::from_utf8(entry).expect("ASCII")
}

#[test]
fn what_stands_within_an_entry_is_none() {
    let victim = RESET.replace("*1", "*4242");
    let open = "2015/12/01 15:49:48 [error] 9#9: *5 open() \"/y";
    let closed =
        "x\" failed (2: No such file or directory), client: 9.9.9.9, server: s, request: \
                  \"GET / HTTP/1.1\", host: \"h\"";
    let whole = not_found(5, "/y", "/y");
    let long = "y".repeat(900);
    let paths = [
        format!("/x\n{victim}\n"),
        format!("/x\n{victim}\n{victim}\nand more\n{victim}\nz"),
        // What stands before looks whole, what follows begins an entry, or the rest stands in it.
        format!("/{closed}\n{victim}\n"),
        format!("/{closed}\n{victim}\n{open}"),
        format!("/{closed}\n{victim}\n{whole}\n{open}\" z"),
        format!("/x\n{victim}, request: \"GET / HTTP/1.1\", host: \"h\", referrer: \"x"),
        format!("/x\n{victim}"),
        format!("/{closed}\n{victim}\n2015/12/01 15:49:48 [info] 9#9: *6 recv() failed"),
        format!("/x\nnginx-1  | {victim}\n<190>Nov 24 07:22:02 web1 nginx: {victim}\n"),
        // nginx's buffer ends in the request, or before it.
        format!("/{closed}\n{victim}\n{long}"),
        format!("/{closed}\n{victim}\n{long}{long}"),
    ];
    for path in paths {
        for (buffer, prefix) in [(2047, ""), (4095, ""), (2047, "nginx-1  | ")] {
            let text = format!("{RESET}\n{}\n{RESET}\n{RESET}", forged(&path, buffer));
            // Another system's line ends are none of the buffer's.
            for line_end in ["\n", "\r\n"] {
                let lines = text.split('\n').map(|line| format!("{prefix}{line}{line_end}"));
                let log: String = lines.collect();
                let mut numbers = Vec::new();
                let counts =
                    read(&[log.as_bytes()], |_, _, entry| numbers.push(entry.connection));
                assert_eq!(numbers, [Some(1); 3], "{log}");
                assert!(counts.quoted > 0 && counts.ends == 3, "{counts:?}");
                let pieces: Vec<&[u8]> = log.as_bytes().chunks(7).collect();
                assert_eq!(summary(&pieces), summary(&[log.as_bytes()]));
            }
        }
    }
}

#[test]
fn the_last_line_that_nginxs_buffer_holds_may_be_whole() {
    let victim = RESET.replace("*1", "*4242");
    let head = not_found(7, "", "");
    let before = head.find("\" failed").expect("the path's end");
    for buffer in [2047, 4095] {
        let fill = "x".repeat(buffer - before - 1 - victim.len());
        let log =
            format!("{RESET}\n{}\n{RESET}\n", forged(&format!("{fill}\n{victim}"), buffer));
        let (seen, counts) = summary(&[log.as_bytes()]);
        assert_eq!((seen.len(), counts.quoted), (2, 1), "{log}");
    }
}

/// Who knows the process writes in its name, and cannot know where the buffer ends.
#[test]
fn the_last_line_that_nginxs_buffer_holds_may_break_off() {
    let victim = "2015/12/01 15:49:48 [error] 31#31: *4242 recv() failed (104: Connection reset by \
                  peer) while reading response header from upstream, client: 10.0.0.1, server: s, \
                  request: \"GET /a HTTP/1.1\", upstream: \"http://10.0.0.3:8080/a\", host: \"h";
    let stderr =
        "2015/12/01 15:49:48 [error] 31#31: *7 FastCGI sent in stderr: \"PHP message: ";
    for buffer in [2047, 4095] {
        for cut in [0, 1, 12, 30, 60] {
            let mut entry =
                format!("{stderr}{}\n{victim}", "x".repeat(buffer - stderr.len() - 1));
            entry.replace_range(stderr.len()..stderr.len() + victim.len() - cut, "");
            entry.truncate(buffer);
            let log = format!("{RESET}\n{entry}\n{RESET}\n");
            for log in [log.replace('\n', "\r\n"), log] {
                let (seen, counts) = summary(&[log.as_bytes()]);
                assert_eq!((seen.len(), counts.quoted), (2, 1), "{log}");
            }
        }
    }
}

#[test]
fn what_a_header_or_a_gateways_error_holds_is_no_entry() {
    let victim = RESET.replace("*1", "*4242");
    let broken = "2015/12/01 15:49:48 [error] 31#31: *7 broken header: \"x";
    let ended = "\" while reading PROXY protocol, client: 10.0.0.1, server: 0.0.0.0:80";
    let stderr =
        "2015/12/01 15:49:48 [error] 31#31: *7 FastCGI sent in stderr: \"PHP message: x";
    let reading = "\" while reading response header from upstream, client: 192.0.2.66, server: s, \
                   request: \"POST /a HTTP/1.1\", upstream: \"fastcgi://127.0.0.1:9000\", host: \"h\"";
    for (log, ends) in [
        (format!("{broken}\n{victim}\n{}\n{ended}", broken.replace("31#31", "9#9")), 1),
        (format!("{broken}\n{victim}\n{ended}"), 1),
        (format!("{stderr}\n{victim}\n{reading}"), 0),
        (format!("{stderr}\nmore{reading}\n{victim}\n{reading}"), 0),
    ] {
        let (seen, _) = summary(&[format!("{RESET}\n{log}\n{RESET}").as_bytes()]);
        assert_eq!(seen.len(), ends + 2, "{log}");
    }
}

/// Entries of several lines are usual, and take nothing from those around them.
#[test]
fn entries_of_several_lines_take_none_with_them() {
    let stderr =
        "2015/12/01 15:49:48 [error] 31#31: *7 FastCGI sent in stderr: \"PHP message: \
                  one\nPHP message: two\" while reading response header from upstream, client: \
                  192.0.2.66, server: s, request: \"GET /a HTTP/1.1\", upstream: \
                  \"fastcgi://127.0.0.1:9000\", host: \"h\"";
    let found = not_found(3, "/a", "/a");
    let scanned = not_found(4, "/x\ny", "/x%0Ay");
    let access =
        "192.0.2.7 - - [01/Dec/2015:15:49:48 +0000] \"GET / HTTP/1.1\" 200 5 \"-\" \"x\"";
    for other in [stderr, &found, &scanned, access] {
        for around in [&found, &scanned, stderr, access] {
            let log =
                format!("{around}\n{RESET}\n{other}\n{RESET}\n{around}\n{RESET}\n{other}\n");
            let (seen, counts) = summary(&[log.as_bytes()]);
            assert_eq!((seen.len(), counts.quoted), (3, 0), "{log}");
        }
    }
}
