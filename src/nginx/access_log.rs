// SPDX-License-Identifier: GPL-2.0-or-later
//! One line of an access log, taken apart as a [`LogFormat`] says.
//!
//! Values are kept as they stand in the line; they are unescaped and converted when somebody
//! asks. A value that is missing (`-`, or nothing) and one that is not what its variable's
//! values look like are both absent.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use memchr::{memchr, memchr2, memmem};

use super::error_log::{is_http3, Peer, RequestLine, Upstream};
use super::log_format::{Escape, LogFormat, Values, Variable};
use crate::limits;
use crate::time::{LogTime, SECOND};

const MILLISECOND: i64 = SECOND / 1000;

/// When nginx wrote an entry: after the request, so at its end or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Nanoseconds since the Unix epoch on the clock of the nginx host.
    pub instant: i64,
    /// Nanoseconds that were cut off at most: of a millisecond or of a second.
    pub resolution: i64,
}

/// One attempt to have the request answered by an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// Attempts of one pass have one number. Another pass begins with an internal redirect,
    /// as `error_page` makes.
    pub pass: usize,
    /// The upstream; its `upstream` block's name where there was none to choose.
    pub peer: Option<Peer<'a>>,
    /// What it answered, or what nginx made of its failure.
    pub status: Option<u16>,
    /// Nanoseconds until its answer was read.
    pub response_time: Option<i64>,
    /// Nanoseconds until the connection was there.
    pub connect_time: Option<i64>,
    /// Nanoseconds until the header was read.
    pub header_time: Option<i64>,
    /// Bytes that nginx sent to it.
    pub bytes_sent: Option<u64>,
    /// Bytes that it sent.
    pub bytes_received: Option<u64>,
}

/// One line of an access log.
#[derive(Clone, Copy, Debug)]
pub struct AccessEntry<'a> {
    /// The line as it stands in the file, without its line end.
    pub raw: &'a [u8],
    escape: Escape,
    values: Values<'a>,
}

/// Takes one line apart. `ambiguous` is set where a value is left out because the format lets
/// it be another as well.
pub fn parse<'a>(
    format: &LogFormat,
    line: &'a [u8],
    ambiguous: &mut bool,
) -> Option<AccessEntry<'a>> {
    let raw = line.strip_suffix(b"\r").unwrap_or(line);
    let values = match format.is_json() {
        true => parse_object(raw)?,
        false => format.read(raw, ambiguous)?,
    };
    Some(AccessEntry { raw, escape: format.escape(), values })
}

impl<'a> AccessEntry<'a> {
    /// A value as it stands in the line, absent where nginx had none.
    pub fn raw_value(&self, variable: Variable) -> Option<&'a [u8]> {
        let value = self.logged(variable)?;
        // In JSON, too, a list of one unknown item is a dash.
        let missing = value.is_empty() || (value == b"-" && self.escape != Escape::None);
        (!missing).then_some(value)
    }

    /// A value with its escapes resolved.
    pub fn value(&self, variable: Variable) -> Option<Cow<'a, [u8]>> {
        self.raw_value(variable).map(|value| unescape(value, self.escape))
    }

    /// A value as it stands in the line, an empty one included.
    fn logged(&self, variable: Variable) -> Option<&'a [u8]> {
        self.values.get(variable as usize).copied().flatten()
    }

    fn number<N: std::str::FromStr>(&self, variable: Variable) -> Option<N> {
        number(self.raw_value(variable)?)
    }

    /// When the entry was written; with `$msec` to the millisecond. What no clock shows, centuries
    /// from now, is no time, and no sum of times overflows.
    pub fn time(&self) -> Option<Stamp> {
        self.stamp().filter(|stamp| stamp.instant.unsigned_abs() < i64::MAX as u64 / 2)
    }

    fn stamp(&self) -> Option<Stamp> {
        let msec = self.raw_value(Variable::Msec).and_then(seconds);
        msec.map(|instant| Stamp { instant, resolution: MILLISECOND }).or_else(|| {
            let (time, offset) = self.civil()?;
            let instant = time.0.checked_sub(offset.into())?.checked_mul(SECOND)?;
            Some(Stamp { instant, resolution: SECOND })
        })
    }

    /// The seconds by which the wall clock of the nginx host was ahead of UTC.
    pub fn utc_offset(&self) -> Option<i32> {
        self.civil().map(|(_, offset)| offset)
    }

    fn civil(&self) -> Option<(LogTime, i32)> {
        let iso = self.raw_value(Variable::TimeIso8601).and_then(parse_iso8601);
        iso.or_else(|| self.raw_value(Variable::TimeLocal).and_then(parse_local))
    }

    /// `$status`; 0 and 9 where there was nothing to answer to.
    pub fn status(&self) -> Option<u16> {
        self.number(Variable::Status)
    }

    /// Whether nginx passed all that it had to the client's connection. `true` does not prove
    /// that it had all.
    pub fn completed(&self) -> Option<bool> {
        self.logged(Variable::RequestCompletion).map(|value| value == b"OK")
    }

    /// Serial number of the connection, as `*N` in the error log.
    pub fn connection(&self) -> Option<u64> {
        self.number(Variable::Connection)
    }

    /// Which request of its connection it is, from 1.
    pub fn connection_requests(&self) -> Option<u64> {
        self.number(Variable::ConnectionRequests)
    }

    /// The worker process.
    pub fn pid(&self) -> Option<u32> {
        self.number(Variable::Pid)
    }

    /// Bytes given to the client's connection.
    pub fn bytes_sent(&self) -> Option<u64> {
        self.number(Variable::BytesSent)
    }

    /// Those of them behind the header.
    pub fn body_bytes_sent(&self) -> Option<u64> {
        self.number(Variable::BodyBytesSent)
    }

    /// Bytes of the request.
    pub fn request_length(&self) -> Option<u64> {
        self.number(Variable::RequestLength)
    }

    /// Nanoseconds from the request's first byte to the entry.
    pub fn request_time(&self) -> Option<i64> {
        seconds(self.raw_value(Variable::RequestTime)?)
    }

    /// The client's address: what realip put there, where it is in use.
    pub fn client_addr(&self) -> Option<IpAddr> {
        self.number(Variable::RemoteAddr)
    }

    /// The client's port; absent where realip knows none.
    pub fn client_port(&self) -> Option<u16> {
        self.number(Variable::RemotePort)
    }

    /// The address at the far end of the TCP connection, whatever realip made of it.
    pub fn peer_addr(&self) -> Option<IpAddr> {
        self.number(Variable::RealipRemoteAddr).or_else(|| self.client_addr())
    }

    /// The port at the far end of the TCP connection.
    pub fn peer_port(&self) -> Option<u16> {
        self.number(Variable::RealipRemotePort).or_else(|| {
            // realip's address has a port of its own, of a connection to somebody else.
            let real = self.raw_value(Variable::RealipRemoteAddr);
            let same = real.is_none() || real == self.raw_value(Variable::RemoteAddr);
            self.client_port().filter(|_| same)
        })
    }

    /// The near end of the TCP connection.
    pub fn server(&self) -> Option<SocketAddr> {
        let port = self.number(Variable::ServerPort)?;
        Some(SocketAddr::new(self.number(Variable::ServerAddr)?, port))
    }

    /// The request's method.
    pub fn method(&self) -> Option<Cow<'a, [u8]>> {
        self.value(Variable::RequestMethod).or_else(|| self.of_request(|line| line.method))
    }

    /// What the client asked for, as it wrote it.
    pub fn target(&self) -> Option<Cow<'a, [u8]>> {
        self.value(Variable::RequestUri).or_else(|| self.of_request(|line| line.target))
    }

    /// A part of `$request`.
    fn of_request(&self, part: fn(RequestLine<'_>) -> &[u8]) -> Option<Cow<'a, [u8]>> {
        match self.value(Variable::Request)? {
            Cow::Borrowed(request) => RequestLine::parse(request).map(part).map(Cow::Borrowed),
            Cow::Owned(request) => {
                RequestLine::parse(&request).map(part).map(|part| Cow::Owned(part.to_vec()))
            }
        }
    }

    /// Whether the request came over HTTP/3, and so over QUIC.
    pub fn is_http3(&self) -> bool {
        let version = |line: RequestLine<'_>| line.version.is_some_and(is_http3);
        match self.value(Variable::ServerProtocol).or_else(|| self.value(Variable::Request)) {
            Some(text) => is_http3(&text) || RequestLine::parse(&text).is_some_and(version),
            None => false,
        }
    }

    /// `$request_id`.
    pub fn request_id(&self) -> Option<&'a [u8]> {
        self.raw_value(Variable::RequestId)
    }

    /// The upstreams that were tried, in order.
    pub fn attempts(&self) -> Vec<Attempt<'a>> {
        let list = |variable| self.raw_value(variable).map(items).unwrap_or_default();
        let columns = [
            Variable::UpstreamAddr,
            Variable::UpstreamStatus,
            Variable::UpstreamResponseTime,
            Variable::UpstreamConnectTime,
            Variable::UpstreamHeaderTime,
            Variable::UpstreamBytesSent,
            Variable::UpstreamBytesReceived,
        ]
        .map(list);
        let longest = columns.iter().max_by_key(|column| column.len());
        let passes = longest.map(Vec::as_slice).unwrap_or_default();
        let attempt = |(at, &(pass, _)): (usize, &(usize, &[u8]))| {
            let [addr, status, response, connect, header, sent, received] =
                columns.each_ref().map(|column| column.get(at).map(|&(_, item)| item));
            Attempt {
                pass,
                peer: addr.and_then(parse_peer),
                status: status.and_then(number),
                response_time: response.and_then(seconds),
                connect_time: connect.and_then(seconds),
                header_time: header.and_then(seconds),
                bytes_sent: sent.and_then(number),
                bytes_received: received.and_then(number),
            }
        };
        passes.iter().enumerate().map(attempt).collect()
    }
}

// -- values ---------------------------------------------------------------------------------

/// Resolves the escapes of a value. A backslash in it is itself escaped in both ways to
/// escape, so no escape of the one can be meant by the other.
pub fn unescape(value: &[u8], escape: Escape) -> Cow<'_, [u8]> {
    if escape == Escape::None || memchr(b'\\', value).is_none() {
        return Cow::Borrowed(value);
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = memchr(b'\\', rest) {
        let (text, escaped) = rest.split_at(at);
        bytes.extend_from_slice(text);
        rest = resolve(escaped, &mut bytes);
    }
    bytes.extend_from_slice(rest);
    Cow::Owned(bytes)
}

/// Resolves the escape that the input begins with, and returns what follows. A backslash that
/// begins none stays.
fn resolve<'i>(input: &'i [u8], bytes: &mut Vec<u8>) -> &'i [u8] {
    let (single, length) = match input {
        [_, mark @ (b'"' | b'\\' | b'/'), ..] => (*mark, 2),
        [_, b'n', ..] => (b'\n', 2),
        [_, b'r', ..] => (b'\r', 2),
        [_, b't', ..] => (b'\t', 2),
        [_, b'b', ..] => (0x08, 2),
        [_, b'f', ..] => (0x0c, 2),
        [_, b'x', digits @ ..] => match hexadecimal(digits, 2) {
            Some(byte) => (byte as u8, 4),
            None => (b'\\', 1),
        },
        [_, b'u', digits @ ..] => return resolve_unicode(input, digits, bytes),
        _ => (b'\\', 1),
    };
    bytes.push(single);
    input.get(length..).unwrap_or_default()
}

/// `\uXXXX`, or two of them for what needs more than 16 bits.
fn resolve_unicode<'i>(input: &'i [u8], digits: &[u8], bytes: &mut Vec<u8>) -> &'i [u8] {
    let unit = hexadecimal(digits, 4);
    let low = || hexadecimal(digits.get(4..)?.strip_prefix(b"\\u")?, 4);
    let (code, length) = match unit {
        Some(high @ 0xd800..=0xdbff) => match low() {
            Some(low @ 0xdc00..=0xdfff) => {
                (Some(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)), 12)
            }
            _ => (None, 1),
        },
        _ => (unit, 6),
    };
    match code.and_then(char::from_u32) {
        Some(char) => {
            bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            input.get(length..).unwrap_or_default()
        }
        None => {
            bytes.push(b'\\');
            input.get(1..).unwrap_or_default()
        }
    }
}

/// The number that this many hexadecimal digits make.
fn hexadecimal(digits: &[u8], count: usize) -> Option<u32> {
    let digits = digits.get(..count)?;
    digits.iter().try_fold(0, |number, &b| Some(number * 16 + char::from(b).to_digit(16)?))
}

fn number<N: std::str::FromStr>(value: &[u8]) -> Option<N> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Nanoseconds in `1.234`.
fn seconds(value: &[u8]) -> Option<i64> {
    let (whole, milliseconds) = value.split_at_checked(value.len().checked_sub(4)?)?;
    let milliseconds = milliseconds.strip_prefix(b".")?;
    let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    if !digits(whole) || !digits(milliseconds) {
        return None;
    }
    let whole = number::<i64>(whole)?.checked_mul(SECOND)?;
    whole.checked_add(number::<i64>(milliseconds)? * MILLISECOND)
}

/// `2026-11-24T07:22:02+00:00`
fn parse_iso8601(value: &[u8]) -> Option<(LogTime, i32)> {
    let (date, rest) = value.split_at_checked(10)?;
    let (clock, zone) = rest.strip_prefix(b"T")?.split_at_checked(8)?;
    let [year, month, day] = fields(date, b'-')?;
    civil(year, month, day, clock, zone)
}

/// `24/Nov/2026:07:22:02 +0000`
fn parse_local(value: &[u8]) -> Option<(LogTime, i32)> {
    const MONTHS: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let (date, rest) = value.split_at_checked(11)?;
    let (clock, zone) = rest.strip_prefix(b":")?.split_at_checked(8)?;
    let (day, date) = date.split_at_checked(2)?;
    let (month, year) = date.strip_prefix(b"/")?.split_at_checked(3)?;
    let month = MONTHS.chunks(3).position(|name| name == month)? + 1;
    let year = number(year.strip_prefix(b"/")?)?;
    civil(year, u32::try_from(month).ok()?, number(day)?, clock, zone.strip_prefix(b" ")?)
}

fn civil(year: u32, month: u32, day: u32, clock: &[u8], zone: &[u8]) -> Option<(LogTime, i32)> {
    let [hour, minute, second] = fields(clock, b':')?;
    let year = i32::try_from(year).ok()?;
    let time = LogTime::from_civil(year, month, day, hour, minute, second)?;
    let (sign, digits) = match zone.split_first()? {
        (b'+', digits) => (1, digits),
        (b'-', digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = digits.split_at_checked(2)?;
    let minutes = minutes.strip_prefix(b":").unwrap_or(minutes);
    let (hours, minutes): (i32, i32) = (number(hours)?, number(minutes)?);
    Some((time, sign * (hours * 3600 + minutes * 60)))
}

/// Three numbers with a mark between them.
fn fields(text: &[u8], mark: u8) -> Option<[u32; 3]> {
    let mut parts = text.split(|&b| b == mark).map(number);
    let three = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(three)
}

/// The items of a list, each with the number of its pass. An empty item is no attempt.
fn items(list: &[u8]) -> Vec<(usize, &[u8])> {
    let mut items = Vec::new();
    let mut rest = list;
    for pass in 0.. {
        let (one, after) = match memmem::find(rest, b" : ") {
            Some(at) => (rest.get(..at), rest.get(at + 3..)),
            None => (Some(rest), None),
        };
        let one = one.unwrap_or_default();
        let parts = one.split(|&b| b == b',').map(<[u8]>::trim_ascii);
        items.extend(parts.filter(|item| !item.is_empty()).map(|item| (pass, item)));
        match after {
            Some(after) if items.len() < limits::UPSTREAMS => rest = after,
            _ => break,
        }
    }
    items.truncate(limits::UPSTREAMS);
    items
}

fn parse_peer(item: &[u8]) -> Option<Peer<'_>> {
    match item {
        b"-" => None,
        // A path may hold what ends it in an error log's upstream.
        _ => match item.strip_prefix(b"unix:") {
            Some(path) => Some(Peer::Unix(path)),
            None => Upstream::parse(item).map(|upstream| upstream.peer),
        },
    }
}

// -- JSON -----------------------------------------------------------------------------------

/// The values of a line that is one JSON object. nginx writes bytes from 0x80 on as they are,
/// so a line may be no UTF-8, and no JSON by the letter.
fn parse_object(line: &[u8]) -> Option<Values<'_>> {
    let mut values = [None; Variable::COUNT];
    let mut rest = line.trim_ascii().strip_prefix(b"{")?.trim_ascii_start();
    if rest == b"}" {
        return Some(values);
    }
    loop {
        let (key, after) = parse_quoted(rest)?;
        let after = after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        let (value, after) = match after.first()? {
            b'"' => parse_quoted(after)?,
            b'{' | b'[' => (b"".as_slice(), skip_nested(after)?),
            _ => parse_scalar(after)?,
        };
        if let Some(place) = Variable::of(key).and_then(|known| values.get_mut(known as usize))
        {
            // nginx writes nothing twice. Where it escapes nothing, a client can.
            if place.replace(value).is_some_and(|other| other != value) {
                return None;
            }
        }
        rest = match after.trim_ascii_start() {
            b"}" => return Some(values),
            more => more.strip_prefix(b",")?.trim_ascii_start(),
        };
    }
}

/// What stands between quotation marks, escapes included, and what follows.
fn parse_quoted(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = input.strip_prefix(b"\"")?;
    let mut at = 0;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some((text.get(..at)?, text.get(at + 1..)?));
        }
        at += 2;
    }
}

/// A number, a word, or nothing: a variable without quotation marks may be empty.
fn parse_scalar(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let ends = |b: &u8| matches!(b, b',' | b'}') || b.is_ascii_whitespace();
    let (value, rest) = input.split_at_checked(input.iter().position(ends)?)?;
    Some((if value == b"null" { b"" } else { value }, rest))
}

/// What follows an array or an object.
fn skip_nested(input: &[u8]) -> Option<&[u8]> {
    let mut depth = 0usize;
    let mut rest = input;
    loop {
        let (&byte, after) = rest.split_first()?;
        let from = std::mem::replace(&mut rest, after);
        match byte {
            b'"' => rest = parse_quoted(from)?.1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(rest);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn entry<'a>(format: &str, line: &'a str) -> AccessEntry<'a> {
        let format = LogFormat::parse(format).unwrap();
        parse(&format, line.as_bytes(), &mut false).unwrap()
    }

    #[test]
    fn times_are_instants_and_carry_the_zone() {
        let line = "1796196122.345 2026-12-01T23:22:02-05:30 01/Dec/2026:23:22:02 -0530";
        let both = entry("$msec $time_iso8601 $time_local", line);
        let exact = Stamp { instant: 1_796_196_122_345_000_000, resolution: MILLISECOND };
        assert_eq!((both.time(), both.utc_offset()), (Some(exact), Some(-19_800)));
        let (_, rest) = line.split_once(' ').unwrap();
        let (iso, local) = rest.split_once(' ').unwrap();
        for (format, line) in [("$time_iso8601", iso), ("$time_local", local)] {
            let one = entry(format, line);
            let whole = Stamp { instant: 1796187122 * SECOND, resolution: SECOND };
            assert_eq!((one.time(), one.utc_offset()), (Some(whole), Some(-19_800)));
        }
        assert_eq!(entry("$time_iso8601", "2026-02-30T00:00:00+00:00").time(), None);
    }

    #[test]
    fn realip_hides_the_peer_and_its_port() {
        let format = "$remote_addr,$remote_port,$realip_remote_addr,$realip_remote_port";
        let real = entry(format, "1.2.3.4,,10.0.0.1,4711");
        assert_eq!((real.client_port(), real.peer_port()), (None, Some(4711)));
        assert_eq!(real.peer_addr(), Some([10, 0, 0, 1].into()));
        let header =
            entry("$remote_addr,$remote_port,$realip_remote_addr", "1.2.3.4,5,10.0.0.1");
        assert_eq!((header.client_port(), header.peer_port()), (Some(5), None));
    }

    #[test]
    fn attempts_are_divided_by_commas_and_by_passes() {
        let format = "$upstream_addr $upstream_status $upstream_response_time";
        let line = "10.0.0.1:80, unix:/a:b : back 502, - : 200 0.001, - : 1.500";
        let attempts = entry(format, line).attempts();
        let passes: Vec<_> = attempts.iter().map(|a| (a.pass, a.status)).collect();
        assert_eq!(passes, [(0, Some(502)), (0, None), (1, Some(200))]);
        let times: Vec<_> = attempts.iter().map(|a| a.response_time).collect();
        assert_eq!(times, [Some(MILLISECOND), None, Some(1500 * MILLISECOND)]);
        let peers: Vec<_> = attempts.iter().filter_map(|a| a.peer).collect();
        let address = Peer::Address(([10, 0, 0, 1], 80).into());
        assert_eq!(peers, [address, Peer::Unix(b"/a:b"), Peer::Name(b"back")]);
        assert!(entry(format, "- - -").attempts().iter().all(|a| a.peer.is_none()));
        let many = "10.0.0.1:80, ".repeat(100) + "10.0.0.1:80";
        assert_eq!(entry("$upstream_addr", &many).attempts().len(), limits::UPSTREAMS);
    }

    #[test]
    fn what_stands_twice_in_an_object_is_nobodys() {
        let format = LogFormat::parse("json").unwrap();
        let connection = |line: &str| {
            parse(&format, line.as_bytes(), &mut false).map(|entry| entry.connection())
        };
        let forged = r#"{"http_user_agent":"x","connection":"7","x":"","connection":"9"}"#;
        assert_eq!(connection(forged), None);
        let same = r#"{"connection":"9","connection":"9"}"#;
        assert_eq!(connection(same), Some(Some(9)));
    }

    #[test]
    fn escapes_are_resolved_when_asked() {
        for (escape, value, meant) in [
            (Escape::Default, r"a\x22\x5C\xFFb\x2", b"a\"\\\xffb\\x2".as_slice()),
            (
                Escape::Json,
                r#"\"\\\n\u001F\ud83d\ude00\ud83dx\q\"#,
                b"\"\\\n\x1f\xf0\x9f\x98\x80\\ud83dx\\q\\",
            ),
            (Escape::None, r"\x22\n", br"\x22\n"),
        ] {
            assert_eq!(unescape(value.as_bytes(), escape), meant, "{value}");
        }
        let bare = entry("$request|$request_uri|$status", r#"GET /\x22a HTTP/1.1|-|499"#);
        assert_eq!(
            (bare.method().unwrap(), bare.target().unwrap()),
            (b"GET".into(), b"/\"a".into())
        );
        assert_eq!(bare.status(), Some(499));
    }

    #[test]
    fn objects_may_hold_anything_else_in_any_order() {
        let line = r#" {"x": {"a": [1, "}\""]}, "status" : 499 ,"uri":"","connection":"7",
            "args":null,"completion":true, "request":"GET \/ HTTP/1.1", "pid":} "#;
        let entry = entry("json", line);
        assert_eq!(
            (entry.status(), entry.connection(), entry.pid()),
            (Some(499), Some(7), None)
        );
        assert_eq!(entry.value(Variable::Uri), None);
        assert_eq!(entry.value(Variable::Args), None);
        assert_eq!(entry.target().unwrap(), b"/".as_slice());
        let format = LogFormat::parse("json").unwrap();
        for bad in
            ["", "{", "[]", "{\"a\"}", "{\"a\":1", "{\"a\":1}x", "{\"a\":\"", "{\"a\":[}"]
        {
            assert!(parse(&format, bad.as_bytes(), &mut false).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_could_be_two_things_is_neither() {
        let format = LogFormat::parse("$http_referer $http_user_agent $status").unwrap();
        let mut ambiguous = false;
        let entry = parse(&format, b"a b c 200", &mut ambiguous).unwrap();
        assert_eq!((entry.status(), ambiguous), (Some(200), true));
        assert_eq!(entry.raw_value(Variable::HttpReferer), None);
        ambiguous = false;
        let entry = parse(&format, b"a b 200", &mut ambiguous).unwrap();
        assert_eq!(
            (entry.raw_value(Variable::HttpReferer), ambiguous),
            (Some(b"a".as_slice()), false)
        );
    }
}
