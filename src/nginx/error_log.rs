// SPDX-License-Identifier: GPL-2.0-or-later
//! The grammar of nginx's error log, one line at a time.
//!
//! ```text
//! line    = time " [" level "] " pid "#" tid ": " [ "*" N " " ] message [ errno ] [ context ]
//! errno   = " (" code ": " text ")"
//! context = [ " while " action ] ", " [ "udp " ] "client: " ADDR
//!           [ [ " using starttls" ] ", server: " NAME rest ]
//! rest    = http   [ ', request: "…"' ] [ ', subrequest: "…"' ] [ ', upstream: "…"' ]
//!                  [ ', host: "…"' ] [ ', referrer: "…"' ] [ ', request_id: "…"' ]
//!         | stream [ ', upstream: "…"' ] ", bytes from/to client:" …
//!         | mail   [ ', login: "…"' [ ", upstream: " ADDR ] ]
//! ```
//!
//! nginx escapes nothing, and much of a line was chosen by the client: a quotation mark, the
//! word "while", or a whole forged context may stand in a URI or a header. What can be relied
//! on is the order of the parts, and which bytes a part cannot hold. So the context begins at
//! the first `, client: ` from which everything up to the end of the line follows the grammar,
//! and a quoted part ends at the first quotation mark after which another part, or nothing,
//! can follow. In a message that is fixed text, as those about the ends of connections are,
//! the first `, client: ` is nginx's own, whatever follows; elsewhere a client that closes
//! the quotation that it stands in cannot be told from nginx.
//!
//! Lines are bytes; neither UTF-8 nor the absence of NUL is assumed.
//!
//! What syslog or a container runtime puts before a line is [`super::prefix`]'s.

use std::fmt;
use std::net::SocketAddr;

use memchr::memmem;
use memchr::{memchr, memchr_iter, memrchr, memrchr_iter};

use crate::limits;
use crate::time::LogTime;

/// Lengths at which a line is cut, without its line end: nginx's buffer of 2,048 bytes holds
/// the line end too, and Tengine and OpenResty have one of 4,096.
pub(super) const CUT_LENGTHS: [usize; 2] = [2047, 4095];

/// Where the level stands in an entry.
pub(super) const LEVEL: usize = "YYYY/MM/DD HH:MM:SS ".len();

const CLIENT: &[u8] = b", client: ";
const UDP_CLIENT: &[u8] = b", udp client: ";
const STARTTLS: &[u8] = b" using starttls";
const SERVER: &[u8] = b", server: ";
const WHILE: &[u8] = b" while ";
const VERSION: &[u8] = b" HTTP/";

/// What stands between an action and the end of an entry that has no client.
const OTHER_CONTEXTS: [&[u8]; 2] = [b", resolver: ", b", server: "];

/// How grave nginx takes an entry to be, gravest first.
///
/// For errors of sockets the level tells the leg: see [`super::message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Always written; nginx prints no word for it.
    Stderr,
    /// nginx cannot go on.
    Emerg,
    /// Something that should never happen.
    Alert,
    /// Beyond what one request suffers from.
    Crit,
    /// The request failed; the default threshold of `error_log`.
    Error,
    /// Worth a look.
    Warn,
    /// Part of normal life.
    Notice,
    /// What clients do; not written unless `error_log` asks for it.
    Info,
    /// Traces.
    Debug,
}

impl Level {
    const WORDS: [(Level, &'static str); 9] = [
        (Level::Stderr, ""),
        (Level::Emerg, "emerg"),
        (Level::Alert, "alert"),
        (Level::Crit, "crit"),
        (Level::Error, "error"),
        (Level::Warn, "warn"),
        (Level::Notice, "notice"),
        (Level::Info, "info"),
        (Level::Debug, "debug"),
    ];

    /// The level that nginx writes as this word.
    pub fn of(word: &[u8]) -> Option<Level> {
        Level::WORDS.iter().find(|(_, w)| w.as_bytes() == word).map(|&(level, _)| level)
    }

    /// The word that nginx writes for this level.
    pub fn word(self) -> &'static str {
        Level::WORDS.iter().find(|&&(level, _)| level == self).map_or("", |&(_, word)| word)
    }
}

/// What the operating system said, as nginx appends it to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno<'a> {
    /// Number of the error; its meaning depends on the system that nginx ran on.
    pub code: u32,
    /// The system's words for it.
    pub text: &'a [u8],
}

/// One line of an error log. Parts are as in the file, without quotation marks.
///
/// Parts are absent where nginx did not write them; only [`server`](ErrorEntry::server) may be
/// present and empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorEntry<'a> {
    /// What the clock of the nginx host showed, to the second.
    pub time: LogTime,
    /// How grave it is.
    pub level: Level,
    /// The worker process.
    pub pid: u32,
    /// The thread; wider than on Linux, for systems that print a pointer or a 64-bit number.
    pub tid: u64,
    /// Serial number of the client connection, the same on both legs of a request.
    pub connection: Option<u64>,
    /// What happened, without errno and context.
    pub message: &'a [u8],
    /// What the operating system said.
    pub errno: Option<Errno<'a>>,
    /// What follows "while": what nginx set out to do last, not necessarily what failed.
    pub action: Option<&'a [u8]>,
    /// Address of the client without port, or `unix:`; of the header if realip is in use.
    pub client: Option<&'a [u8]>,
    /// First `server_name`, or the listening address while there is no request.
    pub server: Option<&'a [u8]>,
    /// The client's request line; see [`RequestLine`].
    pub request: Option<&'a [u8]>,
    /// URI of the subrequest that the entry is about.
    pub subrequest: Option<&'a [u8]>,
    /// Where the request was passed to; see [`Upstream`].
    pub upstream: Option<&'a [u8]>,
    /// The client's `Host`.
    pub host: Option<&'a [u8]>,
    /// The client's `Referer`.
    pub referrer: Option<&'a [u8]>,
    /// The id that Kong appends.
    pub request_id: Option<&'a [u8]>,
    /// The name that a client of the mail module gave.
    pub login: Option<&'a [u8]>,
    /// The client's session is one of UDP, which has no connection that could end.
    pub udp: bool,
    /// The line ends inside the context, or is as long as nginx's buffer: parts may be
    /// missing, and the last one may be only the beginning of it.
    pub truncated: bool,
}

impl ErrorEntry<'_> {
    /// Whether its request came over HTTP/3.
    pub fn is_http3(&self) -> bool {
        let line = self.request.and_then(RequestLine::parse);
        line.and_then(|line| line.version).is_some_and(is_http3)
    }

    /// Whether the request came over HTTP/2.
    pub fn is_http2(&self) -> bool {
        let line = self.request.and_then(RequestLine::parse);
        line.and_then(|line| line.version).is_some_and(|version| version.starts_with(b"HTTP/2"))
    }
}

/// Whether a request of this version came over QUIC: `HTTP/3.0`, or `HTTP/3`.
pub(super) fn is_http3(version: &[u8]) -> bool {
    matches!(version, b"HTTP/3.0" | b"HTTP/3")
}

/// Why a line is no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParseError {
    /// It does not begin with `YYYY/MM/DD HH:MM:SS`.
    Time,
    /// It begins with a time that no calendar has.
    Date,
    /// No ` [level] ` follows the time.
    Level,
    /// No process number follows the level.
    Pid,
    /// No `#`, thread number and colon follow the process number.
    Tid,
    /// The connection's number is beyond 64 bits.
    Connection,
    /// There is `, client: `, but what follows is nothing that nginx writes.
    Context,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ParseError::Time => "does not begin with a time",
            ParseError::Date => "begins with a time that does not exist",
            ParseError::Level => "has no level after the time",
            ParseError::Pid => "has no process number",
            ParseError::Tid => "has no thread number",
            ParseError::Connection => "has an impossible connection number",
            ParseError::Context => "goes on after 'client:' as nginx never does",
        })
    }
}

impl std::error::Error for ParseError {}

/// `YYYY/MM/DD HH:MM:SS`, which an entry begins with.
pub(super) type Stamp = [u8; 19];

/// Takes one line apart. The line comes without its line feed; a carriage return before it is
/// tolerated.
pub fn parse(raw: &[u8]) -> Result<ErrorEntry<'_>, ParseError> {
    let line = raw.strip_suffix(b"\r").unwrap_or(raw);
    let (time, rest) = parse_time(line)?;
    let (word, rest) = parse_level_word(rest)?;
    let level = Level::of(word).ok_or(ParseError::Level)?;
    let (pid, rest) = parse_pid(rest)?;
    let (tid, rest) = parse_tid(rest)?;
    let (connection, rest) = parse_connection(rest)?;
    let Body { head, context, udp, cut } = parse_body(rest, level)?;
    let (head, action) = split_action(head, context.is_some());
    let (message, errno) = split_errno(head);
    let context = context.unwrap_or_default();
    let [request, subrequest, upstream, host, referrer, request_id] = context.parts;
    Ok(ErrorEntry {
        time,
        level,
        pid,
        tid,
        connection,
        message,
        errno,
        action,
        client: context.client,
        server: context.server,
        request,
        subrequest,
        upstream,
        host,
        referrer,
        request_id,
        login: context.login,
        udp,
        // The carriage return is nginx's on Windows, or a client's; else it was put there later.
        truncated: cut || [line, raw].iter().any(|line| CUT_LENGTHS.contains(&line.len())),
    })
}

/// Whether a line has the shape of an entry's beginning. Other lines continue the entry before
/// them, because messages may hold line feeds.
pub fn starts_entry(line: &[u8]) -> bool {
    skip_header(line).is_some()
}

/// Whether the words that begin a context stand in a line. They hold no line feed, and so stand
/// in one line of an entry that has more.
pub(super) fn may_name_client(line: &[u8]) -> bool {
    clients(line).next().is_some()
}

/// Whether they do so twice.
pub(super) fn names_two_clients(line: &[u8]) -> bool {
    clients(line).nth(1).is_some()
}

/// The line from its message on, if it has the shape of an entry's beginning. This is what
/// every line of a log is asked, so it looks at shapes only and converts nothing.
pub(super) fn skip_header(line: &[u8]) -> Option<&[u8]> {
    skip_header_after(None, line)
}

/// The same of a line behind an entry of this time: many lines are of one second, and then the
/// shape of its time is known.
pub(super) fn skip_header_after<'a>(last: Option<&Stamp>, line: &'a [u8]) -> Option<&'a [u8]> {
    let (stamp, rest) = line.split_first_chunk()?;
    if last != Some(stamp) && !is_stamp(stamp) {
        return None;
    }
    let (_, rest) = parse_level_word(rest).ok()?;
    let (_, rest) = take_digits(rest)?;
    let (_, rest) = take_digits(rest.strip_prefix(b"#")?)?;
    let rest = skip_space(rest.strip_prefix(b":")?);
    let Some(starred) = rest.strip_prefix(b"*") else { return Some(rest) };
    Some(take_digits(starred).and_then(|(_, rest)| rest.strip_prefix(b" ")).unwrap_or(rest))
}

fn is_stamp(stamp: &Stamp) -> bool {
    let shape = b"0000/00/00 00:00:00".iter().zip(stamp);
    shape.fold(true, |fits, (&want, &b)| {
        fits & if want == b'0' { b.is_ascii_digit() } else { b == want }
    })
}

/// The time that an entry begins with.
pub(super) fn parse_stamp(stamp: &[u8]) -> Option<LogTime> {
    parse_time(stamp).ok().map(|(time, _)| time)
}

/// The time of a line that has the shape of an entry's beginning.
pub(super) fn time_of(line: &[u8]) -> Option<LogTime> {
    skip_header(line)?;
    parse_time(line).ok().map(|(time, _)| time)
}

/// A time as nginx prints it; `None` for years that it cannot print in four digits.
pub(super) fn stamp(time: LogTime) -> Option<Stamp> {
    time.civil()?.format("%Y/%m/%d %H:%M:%S").to_string().into_bytes().try_into().ok()
}

// -- the beginning of a line ---------------------------------------------------------------

/// `YYYY/MM/DD HH:MM:SS`
fn parse_time(input: &[u8]) -> Result<(LogTime, &[u8]), ParseError> {
    let (text, rest) = input.split_first_chunk::<19>().ok_or(ParseError::Time)?;
    let &[c, y, a, b, b'/', m, n, b'/', d, e, b' ', h, i, b':', j, k, b':', s, t] = text else {
        return Err(ParseError::Time);
    };
    let two = |tens, ones| {
        let digit = |b: u8| char::from(b).to_digit(10).ok_or(ParseError::Time);
        Ok(digit(tens)? * 10 + digit(ones)?)
    };
    let year = i32::try_from(two(c, y)? * 100 + two(a, b)?).map_err(|_| ParseError::Date)?;
    let (month, day) = (two(m, n)?, two(d, e)?);
    let (hour, minute, second) = (two(h, i)?, two(j, k)?, two(s, t)?);
    let time = LogTime::from_civil(year, month, day, hour, minute, second);
    Ok((time.ok_or(ParseError::Date)?, rest))
}

/// ` [word] `
fn parse_level_word(input: &[u8]) -> Result<(&[u8], &[u8]), ParseError> {
    let input = input.strip_prefix(b" [").ok_or(ParseError::Level)?;
    let (word, rest) = take_while(input, |b| b.is_ascii_lowercase());
    let rest = rest.strip_prefix(b"] ").ok_or(ParseError::Level)?;
    Ok((word, rest))
}

/// `54053`
fn parse_pid(input: &[u8]) -> Result<(u32, &[u8]), ParseError> {
    let (number, rest) = parse_number(input).ok_or(ParseError::Pid)?;
    let pid = u32::try_from(number).map_err(|_| ParseError::Pid)?;
    Ok((pid, rest))
}

/// `#0: `; the space may be gone where the message is empty.
fn parse_tid(input: &[u8]) -> Result<(u64, &[u8]), ParseError> {
    let input = input.strip_prefix(b"#").ok_or(ParseError::Tid)?;
    let (tid, rest) = parse_number(input).ok_or(ParseError::Tid)?;
    let rest = rest.strip_prefix(b":").ok_or(ParseError::Tid)?;
    Ok((tid, skip_space(rest)))
}

/// `*55077498 `, or nothing. An asterisk before anything else belongs to the message.
fn parse_connection(input: &[u8]) -> Result<(Option<u64>, &[u8]), ParseError> {
    let starred = input.strip_prefix(b"*").and_then(take_digits);
    let Some((digits, rest)) = starred else { return Ok((None, input)) };
    let Some(rest) = rest.strip_prefix(b" ") else { return Ok((None, input)) };
    let (number, _) = parse_number(digits).ok_or(ParseError::Connection)?;
    Ok((Some(number), rest))
}

/// Decimal digits that fit 64 bits.
fn parse_number(input: &[u8]) -> Option<(u64, &[u8])> {
    let (digits, rest) = take_digits(input)?;
    let number = digits.iter().try_fold(0u64, |number, &digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit & 0x0f))
    })?;
    Some((number, rest))
}

/// At least one decimal digit.
pub(super) fn take_digits(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (digits, rest) = take_while(input, |b| b.is_ascii_digit());
    (!digits.is_empty()).then_some((digits, rest))
}

fn skip_space(input: &[u8]) -> &[u8] {
    input.strip_prefix(b" ").unwrap_or(input)
}

/// The longest beginning whose every byte is `good`, and what follows it.
pub(super) fn take_while(input: &[u8], good: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let end = input.iter().position(|&b| !good(b)).unwrap_or(input.len());
    input.split_at_checked(end).unwrap_or((input, b""))
}

// -- message, errno and action -------------------------------------------------------------

/// Takes ` while action` off the end of what stands before the context.
///
/// The last "while" counts: OpenSSL's `unexpected eof while reading` and quoted text come
/// before nginx's own, and what follows them ends in a parenthesis or holds a quotation mark.
fn split_action(head: &[u8], has_client: bool) -> (&[u8], Option<&[u8]>) {
    // Actions hold next to no "w": that is faster to look for than the word.
    let mut places = memrchr_iter(b'w', head).filter_map(|at| at.checked_sub(1));
    let last = places.find(|&at| head.get(at..).is_some_and(|rest| rest.starts_with(WHILE)));
    let Some((before, after)) = last.and_then(|at| split_around(head, at, WHILE.len())) else {
        return (head, None);
    };
    let action = if has_client { after } else { without_other_context(after) };
    if is_action(action) {
        (before, Some(action))
    } else {
        (head, None)
    }
}

/// The action of an entry that names a resolver or a syslog server instead of a client.
fn without_other_context(after: &[u8]) -> &[u8] {
    OTHER_CONTEXTS
        .iter()
        .find_map(|context| after.get(..memmem::find(after, context)?))
        .unwrap_or(after)
}

/// Whether this may be an action: words, a slash (`HTTP/2`), or a listening address.
fn is_action(text: &[u8]) -> bool {
    let word = |b: &u8| {
        b.is_ascii_alphanumeric()
            || matches!(b, b' ' | b'/' | b'-' | b'_' | b'.' | b':' | b'[' | b']' | b'*')
    };
    !text.is_empty() && text.iter().all(word)
}

/// Takes ` (104: Connection reset by peer)` off the end of a message.
fn split_errno(head: &[u8]) -> (&[u8], Option<Errno<'_>>) {
    let Some(open) = head.strip_suffix(b")") else { return (head, None) };
    // Only the last few can be it: the system's words hold a parenthesis at the very most.
    memrchr_iter(b'(', open)
        .filter_map(|at| at.checked_sub(1))
        .filter(|&at| open.get(at) == Some(&b' '))
        .take(4)
        .find_map(|at| {
            let (message, inner) = split_around(open, at, 2)?;
            Some((message, Some(parse_errno(inner)?)))
        })
        .unwrap_or((head, None))
}

/// `104: Connection reset by peer`, or with the eight hexadecimal digits of a Win32 status.
fn parse_errno(inner: &[u8]) -> Option<Errno<'_>> {
    let (digits, rest) = take_while(inner, |b| b.is_ascii_hexdigit());
    let text = rest.strip_prefix(b": ")?;
    let digits = std::str::from_utf8(digits).ok()?;
    // nginx prints hexadecimal from 0x80000000 on, and no decimal code has eight digits.
    let code = if digits.len() == 8 {
        u32::from_str_radix(digits, 16).ok().filter(|code| *code >= 0x8000_0000)?
    } else {
        digits.parse().ok()?
    };
    Some(Errno { code, text })
}

/// What stands before and after the `len` bytes at `at`.
fn split_around(input: &[u8], at: usize, len: usize) -> Option<(&[u8], &[u8])> {
    Some((input.get(..at)?, input.get(at.checked_add(len)?..)?))
}

// -- the context ---------------------------------------------------------------------------

/// A quoted part of the context.
struct Key {
    /// All that precedes the value.
    open: &'static [u8],
    /// Whether a value that this is the rest of the line from may be meant at all.
    begins: fn(&[u8]) -> bool,
    /// Whether a value may be all of it.
    ends: fn(&[u8]) -> bool,
    /// Whether a value is as nginx would have accepted it from a client.
    sound: fn(&[u8]) -> bool,
}

/// The quoted parts, in the order in which nginx prints them.
const KEYS: [Key; 6] = [
    Key { ends: has_version, sound: is_request_line, ..key(b", request: \"") },
    key(b", subrequest: \""),
    key(b", upstream: \""),
    Key { ends: is_host, sound: is_host, ..key(b", host: \"") },
    key(b", referrer: \""),
    Key { begins: ends_in_id, ..key(b", request_id: \"") },
];

/// Where the upstream stands among [`KEYS`].
const UPSTREAM: usize = 2;

/// What only the mail module writes.
const LOGIN: &[u8] = b", login: \"";

const fn key(open: &'static [u8]) -> Key {
    Key { open, begins: anything, ends: anything, sound: anything }
}

fn anything(_: &[u8]) -> bool {
    true
}

/// A request line up to its end.
fn has_version(value: &[u8]) -> bool {
    RequestLine::parse(value).is_some_and(|line| line.version.is_some())
}

/// A request line without spaces where they do not belong. nginx takes no space in a URI since 1.21.1.
fn is_request_line(value: &[u8]) -> bool {
    RequestLine::parse(value)
        .is_some_and(|line| line.version.is_some() && memchr(b' ', line.target).is_none())
}

/// nginx takes no host with a space or a control character.
fn is_host(value: &[u8]) -> bool {
    value.iter().all(|&b| b > b' ' && b != 0x7f)
}

/// A referrer may hold anything, so an id counts only if nothing at all comes after it.
fn ends_in_id(rest: &[u8]) -> bool {
    let (_, tail) = take_while(rest, |b| b.is_ascii_hexdigit() || b == b'-');
    matches!(tail, b"" | b"\"")
}

/// How well what follows a `, client: ` agrees with the grammar, worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// Client and server, then parts that nginx does not write.
    Loose,
    /// The line ends before the grammar does.
    Cut,
    /// All of it, with a value that nginx would have refused, or after an open quotation.
    Doubtful,
    /// All of it.
    Whole,
}

#[derive(Clone, Copy, Default)]
struct Context<'a> {
    client: Option<&'a [u8]>,
    server: Option<&'a [u8]>,
    /// In the order of [`KEYS`].
    parts: [Option<&'a [u8]>; KEYS.len()],
    login: Option<&'a [u8]>,
}

struct Body<'a> {
    /// Message, errno and action.
    head: &'a [u8],
    context: Option<Context<'a>>,
    /// The client is said to be one of UDP.
    udp: bool,
    /// The line ends inside the context.
    cut: bool,
}

/// Finds where the context begins: at the first `, client: ` with the best fit.
fn parse_body(rest: &[u8], level: Level) -> Result<Body<'_>, ParseError> {
    if level == Level::Debug {
        return Ok(Body { head: rest, context: None, udp: false, cut: false });
    }
    let mut begun = false;
    let mut best: Option<(Fit, Body<'_>)> = None;
    for (head, after, udp) in clients(rest) {
        begun = true;
        let Some((mut fit, context)) = parse_context(after) else { continue };
        // A URI in the message that brings its own context stands inside quotation marks.
        if fit == Fit::Whole && ends_in_quotes(head) {
            fit = Fit::Doubtful;
        }
        if best.as_ref().is_none_or(|(found, _)| fit > *found) {
            let body = Body { head, context: Some(context), udp, cut: fit == Fit::Cut };
            best = Some((fit, body));
        }
        // Modules quote what they print of a request: without a mark, no client wrote this.
        if fit == Fit::Whole || memchr(b'"', head).is_none() {
            break;
        }
    }
    match best {
        Some((_, body)) => Ok(body),
        None if begun => Err(ParseError::Context),
        None => Ok(cut_before_client(rest)),
    }
}

/// Whether the last quotation mark opens a quotation: it follows a space, and no space follows.
fn ends_in_quotes(head: &[u8]) -> bool {
    let Some((before, after)) = memrchr(b'"', head).and_then(|at| split_around(head, at, 1))
    else {
        return false;
    };
    before.ends_with(b" ") && !matches!(after.first(), None | Some(b' '))
}

/// What stands before and after each `, client: `, and whether it is one of UDP.
fn clients(rest: &[u8]) -> impl Iterator<Item = (&[u8], &[u8], bool)> {
    memchr_iter(b',', rest)
        .filter_map(|at| {
            let (head, tail) = rest.split_at_checked(at)?;
            let tcp = tail.strip_prefix(CLIENT).map(|after| (head, after, false));
            tcp.or_else(|| Some((head, tail.strip_prefix(UDP_CLIENT)?, true)))
        })
        .take(limits::LOG_CONTEXTS)
}

/// An entry without client, unless the line ends within the very words `, client: `.
fn cut_before_client(rest: &[u8]) -> Body<'_> {
    let head = [CLIENT, UDP_CLIENT]
        .into_iter()
        .flat_map(|words| (1..words.len()).rev().filter_map(|len| words.get(..len)))
        .find_map(|begun| rest.strip_suffix(begun));
    Body { head: head.unwrap_or(rest), context: None, udp: false, cut: head.is_some() }
}

/// Reads the context from the client's address on; `None` where nginx would not have written
/// this after `, client: `.
fn parse_context(input: &[u8]) -> Option<(Fit, Context<'_>)> {
    let mut context = Context::default();
    let (client, rest) = parse_client(input)?;
    if rest.len() <= 1 {
        // Half an address would be another address.
        return Some((Fit::Cut, context));
    }
    if client.is_empty() {
        return None;
    }
    context.client = Some(client);
    let rest = rest.strip_prefix(STARTTLS).unwrap_or(rest);
    let Some(after) = rest.strip_prefix(SERVER) else {
        return SERVER.starts_with(rest).then_some((Fit::Cut, context));
    };
    let (server, rest) = parse_bare(after)?;
    context.server = Some(server);
    if let Some((login, upstream)) = parse_mail(rest) {
        context.login = Some(login);
        context.parts[UPSTREAM] = upstream;
        return Some((Fit::Whole, context));
    }
    let fit = parse_parts(rest, &mut context);
    Some((fit, context))
}

/// `, login: "x"` and perhaps `, upstream: 10.0.0.1:143`, with which entries of the mail module
/// end. The name may hold anything, so that the last quotation mark closes it.
fn parse_mail(rest: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let rest = rest.strip_prefix(LOGIN)?;
    let (login, after) = split_around(rest, memrchr(b'"', rest)?, 1)?;
    match after.strip_prefix(b", upstream: ") {
        Some(upstream) => match parse_bare(upstream)? {
            (upstream, b"") => Some((login, Some(upstream))),
            _ => None,
        },
        None => after.is_empty().then_some((login, None)),
    }
}

/// The client's address. Of all modules only mail puts something behind it that is no part.
fn parse_client(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut spaces = memchr_iter(b' ', input).take(2);
    let tls = spaces.find(|&at| input.get(at..).is_some_and(|rest| rest.starts_with(STARTTLS)));
    let Some((client, rest)) = tls.and_then(|at| input.split_at_checked(at)) else {
        return parse_bare(input);
    };
    matches!(parse_bare(client), Some((_, b""))).then_some((client, rest))
}

/// An unquoted value: it ends at a comma and a space, or with the line.
fn parse_bare(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let ends = |at: &usize| matches!(input.get(at + 1), None | Some(b' '));
    let end = memchr_iter(b',', input).find(ends).unwrap_or(input.len());
    let (value, rest) = input.split_at_checked(end)?;
    let good = |b: &u8| *b > b' ' && *b != b'"';
    value.iter().all(good).then_some((value, rest))
}

/// Reads the quoted parts up to the end of the line.
fn parse_parts<'a>(mut rest: &'a [u8], context: &mut Context<'a>) -> Fit {
    let mut later = KEYS.as_slice();
    loop {
        if rest.is_empty() || parse_byte_counts(rest).is_some() {
            let unsound =
                |(key, part): (&Key, &Option<_>)| part.is_some_and(|p| !(key.sound)(p));
            let doubtful = KEYS.iter().zip(&context.parts).any(unsound);
            return if doubtful { Fit::Doubtful } else { Fit::Whole };
        }
        let next = later.iter().enumerate().find_map(|(skipped, key)| {
            let value = rest.strip_prefix(key.open)?;
            Some((skipped, key, value))
        });
        let Some((skipped, key, value)) = next else {
            return if begins_part(rest, later) { Fit::Cut } else { Fit::Loose };
        };
        later = later.get(skipped + 1..).unwrap_or_default();
        let place = KEYS.len() - later.len() - 1;
        let (value, after) = match parse_quoted(value, key, later) {
            Some((value, after)) => (value, Some(after)),
            None => (value, None),
        };
        if let Some(part) = context.parts.get_mut(place) {
            *part = Some(value);
        }
        match after {
            Some(after) => rest = after,
            None => return Fit::Cut,
        }
    }
}

/// A quoted value and what follows its quotation mark. `None` if none closes it.
///
/// The first mark that can close it does, unless the value would end too early: a request line
/// may hold what looks like another part.
fn parse_quoted<'a>(input: &'a [u8], key: &Key, later: &[Key]) -> Option<(&'a [u8], &'a [u8])> {
    let mut closes = memchr_iter(b'"', input).filter_map(|at| {
        let (value, after) = split_around(input, at, 1)?;
        (after.is_empty() || begins_part(after, later)).then_some((value, after))
    });
    let mut closes = closes.by_ref().take(limits::LOG_QUOTES);
    let first = closes.next()?;
    if (key.ends)(first.0) {
        return Some(first);
    }
    Some(closes.find(|(value, _)| (key.ends)(value)).unwrap_or(first))
}

/// Whether a later part begins here, or the line ends within the words that begin it.
fn begins_part(rest: &[u8], later: &[Key]) -> bool {
    let last = |open: &&[u8]| rest.starts_with(open) || open.starts_with(rest);
    [BYTE_COUNTS, LOGIN].iter().any(last)
        || later.iter().any(|key| match rest.strip_prefix(key.open) {
            Some(value) => (key.begins)(value),
            None => key.open.starts_with(rest),
        })
}

/// With these, entries of the stream module end.
const BYTE_COUNTS: &[u8] = b", bytes from/to client:";

/// What a session of the stream module carried, where its end is all that a message tells: from the
/// client, to it, from the upstream and to it.
pub fn session_bytes(message: &[u8]) -> Option<[u64; 4]> {
    parse_byte_counts(message.get(memmem::find(message, BYTE_COUNTS)?..)?)
}

/// `, bytes from/to client:1/2, bytes from/to upstream:3/4` and nothing more.
fn parse_byte_counts(rest: &[u8]) -> Option<[u64; 4]> {
    let (received, rest) = parse_number(rest.strip_prefix(BYTE_COUNTS)?)?;
    let (sent, rest) = parse_number(rest.strip_prefix(b"/")?)?;
    let (to, rest) = parse_number(rest.strip_prefix(b", bytes from/to upstream:")?)?;
    let (from, rest) = parse_number(rest.strip_prefix(b"/")?)?;
    rest.is_empty().then_some([received, sent, to, from])
}

// -- what is inside the parts --------------------------------------------------------------

/// The request line of an entry: what the client sent, as far as nginx understood it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLine<'a> {
    /// `GET`, `POST`, …
    pub method: &'a [u8],
    /// What the client asked for: a path, an absolute URI, or `host:port` of a CONNECT.
    pub target: &'a [u8],
    /// `HTTP/1.1`; absent in a line of HTTP/0.9, and in one that was cut.
    pub version: Option<&'a [u8]>,
}

impl<'a> RequestLine<'a> {
    /// Splits a request line; `None` for bytes that are none, as a TLS hello sent to a plain
    /// port.
    pub fn parse(request: &'a [u8]) -> Option<RequestLine<'a>> {
        let (method, rest) =
            take_while(request, |b| b.is_ascii_uppercase() || b == b'_' || b == b'-');
        if method.is_empty() || rest.first() != Some(&b' ') {
            return None;
        }
        let rest = rest.trim_ascii();
        let (target, version) = match split_version(rest) {
            Some((target, version)) => (target, Some(version)),
            // What only looks like one is nothing that nginx took.
            None if memmem::find(rest, VERSION).is_some() => return None,
            None => (rest, None),
        };
        (!target.is_empty()).then_some(RequestLine { method, target, version })
    }
}

/// Takes ` HTTP/1.1` off the end.
fn split_version(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_number = |b: &u8| b.is_ascii_digit() || *b == b'.';
    let number = line.iter().rev().take_while(|b| is_number(b)).count();
    let start = line.len().checked_sub(number + VERSION.len()).filter(|_| number > 0)?;
    let (target, version) = line.split_at_checked(start)?;
    version.starts_with(VERSION).then(|| (target.trim_ascii(), version.trim_ascii()))
}

/// Where a request was passed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upstream<'a> {
    /// `http`, `https`, `fastcgi`, `uwsgi`, `suwsgi`, `scgi`, `grpc`, `grpcs`, `memcached`;
    /// empty in entries of the stream module.
    pub scheme: &'a [u8],
    /// The server that was chosen.
    pub peer: Peer<'a>,
    /// What it was asked for: rewritten, and often empty where the protocol is not HTTP.
    pub uri: &'a [u8],
}

/// A server behind nginx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer<'a> {
    /// It has an address and a port.
    Address(SocketAddr),
    /// Path of a Unix socket; no packet can show it.
    Unix(&'a [u8]),
    /// The `upstream` block, where no server of it could be chosen, or a host name.
    Name(&'a [u8]),
}

impl<'a> Upstream<'a> {
    /// Splits the upstream of an entry. `http:/10.0.0.1/`, with one slash, is what tools that
    /// mask addresses leave of it.
    pub fn parse(upstream: &'a [u8]) -> Option<Upstream<'a>> {
        let (scheme, rest) = parse_scheme(upstream);
        let (peer, uri) = match rest.strip_prefix(b"unix:") {
            Some(path) => {
                let end = memchr(b':', path).unwrap_or(path.len());
                let (path, uri) = path.split_at_checked(end)?;
                (Peer::Unix(path), uri.strip_prefix(b":").unwrap_or(uri))
            }
            None => {
                let (peer, uri) = take_while(rest, |b| b != b'/' && b != b'?');
                (parse_peer(peer), uri)
            }
        };
        let named = !matches!(peer, Peer::Unix(b"") | Peer::Name(b""));
        named.then_some(Upstream { scheme, peer, uri })
    }
}

/// `fastcgi://`, or nothing.
fn parse_scheme(upstream: &[u8]) -> (&[u8], &[u8]) {
    let (scheme, rest) = take_while(upstream, |b| b.is_ascii_lowercase());
    match rest.strip_prefix(b":/") {
        Some(rest) if scheme != b"unix" => (scheme, rest.strip_prefix(b"/").unwrap_or(rest)),
        _ => (b"", upstream),
    }
}

fn parse_peer(peer: &[u8]) -> Peer<'_> {
    std::str::from_utf8(peer)
        .ok()
        .and_then(|text| text.parse().ok())
        .map_or(Peer::Name(peer), Peer::Address)
}
