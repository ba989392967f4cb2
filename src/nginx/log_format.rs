// SPDX-License-Identifier: GPL-2.0-or-later
//! Compiles a `log_format` of nginx, as it stands in its configuration.
//!
//! What is accepted:
//!
//! - the whole directive, `log_format NAME [escape=…] 'STRING' …;`, comments and line ends
//!   included;
//! - what follows the name: `[escape=…] 'STRING' …`. As in nginx, several strings are one;
//! - the string alone, without the quotation marks of the configuration. It has to begin with
//!   another byte than a quotation mark;
//! - `combined`, which nginx predefines, and `main`, which its packages define;
//! - `json`: each line is one JSON object with the names of variables as keys, without `$`, in
//!   any order. Other keys are passed over.
//!
//! A format says nothing about where a value ends but by what stands around it. So each kind
//! of value has a pattern, and a line is read twice where that may make a difference: once with
//! the shortest values and once with the longest, of which each counts more than all behind it.
//! Of all readings, in the order of where their values end, these are the first and the last.
//! As far as they agree from the beginning of the line on, so does every reading between them,
//! and the values are certain.
//!
//! Behind the first value in which the two differ they may agree by accident, while one between
//! them does not. So there a shorter format is read in the same two ways: what follows the next
//! place at which a value may end elsewhere, with anything before it. What is certain in none
//! of these is not given. Every reading takes time linear in the line. Lines with one reading
//! only, which most are, are read without all that (`single.rs`).

use regex::bytes::{CaptureLocations, Regex, RegexBuilder};

use super::single::SingleReading;
use crate::error::Error;
use crate::limits;

/// What `combined` stands for; nginx knows it without a definition.
const COMBINED: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status \
                        $body_bytes_sent \"$http_referer\" \"$http_user_agent\"";

/// What `main` adds to it in nginx.conf of nginx.org's packages.
const MAIN: &str = " \"$http_x_forwarded_for\"";

/// How nginx writes bytes that could be mistaken for the format's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escape {
    /// `\xHH`; `-` where there is no value.
    #[default]
    Default,
    /// As in JSON strings; nothing where there is no value.
    Json,
    /// Not at all; nothing where there is no value.
    None,
}

impl Escape {
    const WORDS: [(&'static str, Escape); 3] =
        [("default", Escape::Default), ("json", Escape::Json), ("none", Escape::None)];
}

/// The shape of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Address,
    Integer,
    /// Seconds with three decimals.
    Seconds,
    Status,
    LocalTime,
    Iso8601,
    /// 32 hexadecimal digits.
    Id,
    /// Without a space.
    Word,
    /// Anything.
    Text,
    /// One item for each upstream that was tried, divided by `, ` and ` : `.
    Integers,
    Secondses,
    Statuses,
    Peers,
}

impl Kind {
    /// What nginx writes, but for a value that is missing.
    fn pattern(self, escape: Escape) -> String {
        let list = |item: &str| format!("(?:{item}|-)?(?:(?:, | : )(?:{item}|-)?)*");
        match self {
            Kind::Address => "(?:[0-9A-Fa-f:.]+|unix:)".to_owned(),
            Kind::Integer => "[0-9]+".to_owned(),
            Kind::Seconds => r"[0-9]+\.[0-9]{3}".to_owned(),
            Kind::Status => "[0-9]{3}".to_owned(),
            Kind::LocalTime => {
                "[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}(?::[0-9]{2}){3} [+-][0-9]{4}".to_owned()
            }
            Kind::Iso8601 => {
                "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[+-][0-9]{2}:[0-9]{2}"
                    .to_owned()
            }
            Kind::Id => "[0-9a-f]{32}".to_owned(),
            Kind::Word => match escape {
                Escape::Default => "[!#-~]+".to_owned(),
                Escape::Json => r#"(?:[!#-\[\]-\xff]|\\.)+"#.to_owned(),
                Escape::None => r"[^\x00-\x20]+".to_owned(),
            },
            Kind::Text => match escape {
                Escape::Default => r#"(?:[ !#-\[\]-~]|\\x[0-9A-F]{2})*"#.to_owned(),
                Escape::Json => {
                    r#"(?:[^"\\\x00-\x1f]|\\["\\nrtbf]|\\u00[0-9A-Fa-f]{2})*"#.to_owned()
                }
                Escape::None => r"[^\n]*".to_owned(),
            },
            Kind::Integers => list("[0-9]+"),
            Kind::Secondses => list(r"[0-9]+\.[0-9]{3}"),
            Kind::Statuses => list("[0-9]{3}"),
            Kind::Peers => list(r#"[^\x00-\x20,":-][^\x00-\x20,"]*"#),
        }
    }

    /// Always there, and always of the same length.
    fn is_fixed(self) -> bool {
        matches!(self, Kind::Status | Kind::LocalTime | Kind::Iso8601 | Kind::Id)
    }

    /// Shows by itself where it ends.
    fn ends_itself(self) -> bool {
        self.is_fixed() || self == Kind::Seconds
    }

    /// Whether a value may hold this byte in some place.
    fn may_hold(self, byte: u8, escape: Escape) -> bool {
        match self {
            Kind::Text if escape == Escape::None => true,
            Kind::Text => byte != b'"',
            Kind::Word => byte > b' ' && (byte != b'"' || escape == Escape::None),
            Kind::Integers | Kind::Secondses | Kind::Statuses | Kind::Peers => byte != b'"',
            Kind::LocalTime | Kind::Iso8601 => {
                byte.is_ascii_alphanumeric() || b":/+- ".contains(&byte)
            }
            // A dash is a value that is missing.
            _ => byte.is_ascii_alphanumeric() || b":.-".contains(&byte),
        }
    }
}

macro_rules! variables {
    ($($variant:ident $name:literal $kind:ident,)*) => {
        /// A variable that an access log may hold and that this crate has a use for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Variable {
            $(#[doc = concat!("`$", $name, "`")] $variant,)*
        }

        /// Name and kind of each, in their order.
        const VARIABLES: &[(&str, Variable, Kind)] =
            &[$(($name, Variable::$variant, Kind::$kind),)*];
    };
}

variables! {
    RemoteAddr "remote_addr" Address,
    RemotePort "remote_port" Integer,
    RealipRemoteAddr "realip_remote_addr" Address,
    RealipRemotePort "realip_remote_port" Integer,
    RemoteUser "remote_user" Text,
    ServerAddr "server_addr" Address,
    ServerPort "server_port" Integer,
    ServerName "server_name" Word,
    Host "host" Word,
    HttpHost "http_host" Text,
    Connection "connection" Integer,
    ConnectionRequests "connection_requests" Integer,
    Msec "msec" Seconds,
    TimeIso8601 "time_iso8601" Iso8601,
    TimeLocal "time_local" LocalTime,
    RequestTime "request_time" Seconds,
    Request "request" Text,
    RequestMethod "request_method" Word,
    RequestUri "request_uri" Text,
    Uri "uri" Text,
    Args "args" Text,
    ServerProtocol "server_protocol" Word,
    Scheme "scheme" Word,
    Status "status" Status,
    BytesSent "bytes_sent" Integer,
    BodyBytesSent "body_bytes_sent" Integer,
    RequestLength "request_length" Integer,
    RequestCompletion "request_completion" Word,
    RequestId "request_id" Id,
    HttpReferer "http_referer" Text,
    HttpUserAgent "http_user_agent" Text,
    HttpXForwardedFor "http_x_forwarded_for" Text,
    HttpXRequestId "http_x_request_id" Text,
    ProxyProtocolAddr "proxy_protocol_addr" Address,
    ProxyProtocolPort "proxy_protocol_port" Integer,
    Pipe "pipe" Word,
    Pid "pid" Integer,
    UpstreamAddr "upstream_addr" Peers,
    UpstreamStatus "upstream_status" Statuses,
    UpstreamResponseTime "upstream_response_time" Secondses,
    UpstreamConnectTime "upstream_connect_time" Secondses,
    UpstreamHeaderTime "upstream_header_time" Secondses,
    UpstreamBytesSent "upstream_bytes_sent" Integers,
    UpstreamBytesReceived "upstream_bytes_received" Integers,
    SslProtocol "ssl_protocol" Word,
    SslCipher "ssl_cipher" Word,
    SslSessionReused "ssl_session_reused" Word,
    SslServerName "ssl_server_name" Word,
}

impl Variable {
    /// How many there are.
    pub const COUNT: usize = VARIABLES.len();

    /// The variable of this name, without `$`.
    pub fn of(name: &[u8]) -> Option<Variable> {
        row(name).map(|&(_, variable, _)| variable)
    }

    /// Its name, without `$`.
    pub fn name(self) -> &'static str {
        VARIABLES.get(self as usize).map_or("", |&(name, _, _)| name)
    }
}

fn row(name: &[u8]) -> Option<&'static (&'static str, Variable, Kind)> {
    VARIABLES.iter().find(|(known, _, _)| known.as_bytes() == name)
}

/// What a format is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes that stand in each line.
    Literal(Vec<u8>),
    /// A variable, by its name without `$`.
    Variable(String),
}

impl Part {
    fn name(&self) -> Option<&str> {
        match self {
            Part::Literal(_) => None,
            Part::Variable(name) => Some(name),
        }
    }

    fn kind(&self) -> Option<Kind> {
        match self {
            Part::Literal(_) => None,
            Part::Variable(name) => Some(row(name.as_bytes()).map_or(Kind::Text, |row| row.2)),
        }
    }

    /// The variable that it is, if that is of use.
    pub(super) fn variable(&self) -> Option<Variable> {
        Variable::of(self.name()?.as_bytes())
    }

    /// By each byte, whether values of the variable that it is may hold that in some place.
    pub(super) fn holds(&self, escape: Escape) -> Option<[bool; 256]> {
        let kind = self.kind()?;
        Some(std::array::from_fn(|byte| kind.may_hold(byte as u8, escape)))
    }
}

/// The values of a line by [`Variable`], as they stand in it.
pub(super) type Values<'a> = [Option<&'a [u8]>; Variable::COUNT];

/// A compiled `log_format`.
#[derive(Clone, Debug)]
pub struct LogFormat {
    escape: Escape,
    parts: Vec<Part>,
    lines: Lines,
}

#[derive(Clone, Debug)]
enum Lines {
    /// One JSON object each.
    Json,
    /// What the parts say.
    Written(Box<Readings>),
}

/// How lines are read.
#[derive(Clone, Debug)]
struct Readings {
    /// What the groups of the whole format's patterns are about, in their order.
    groups: Vec<Option<Variable>>,
    /// Of the whole format, then of what follows each place at which a value may end elsewhere.
    extremes: Vec<Extremes>,
    single: Option<SingleReading>,
}

/// The first and the last reading by the parts from one on.
#[derive(Clone, Debug)]
struct Extremes {
    /// Groups of the whole format that stand before these parts.
    before: usize,
    shortest: Regex,
    /// Absent where only one reading is possible.
    longest: Option<Regex>,
}

/// Which reading a pattern prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Shortest,
    Longest,
}

impl LogFormat {
    /// Compiles a format; the module's documentation says what is accepted.
    pub fn parse(text: &str) -> Result<LogFormat, Error> {
        if text.len() > limits::LOG_FORMAT {
            return Err(refused(limits::LOG_FORMAT, "the format goes on after 8192 bytes"));
        }
        let (escape, string) = match text.trim() {
            "json" => {
                let (escape, parts) = (Escape::Json, Vec::new());
                return Ok(LogFormat { escape, parts, lines: Lines::Json });
            }
            "" | "combined" => (Escape::Default, placed(COMBINED, 0)),
            "main" => (Escape::Default, placed(&format!("{COMBINED}{MAIN}"), 0)),
            _ => parse_setting(text)?,
        };
        let parts = parse_string(&string)?;
        let parts: Vec<Part> = parts.into_iter().map(|(_, part)| part).collect();
        let lines = Lines::Written(Box::new(Readings::compile(&parts, escape)?));
        Ok(LogFormat { escape, parts, lines })
    }

    /// How its values are escaped.
    pub fn escape(&self) -> Escape {
        self.escape
    }

    /// What it is made of; nothing for `json`.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether lines are JSON objects.
    pub(super) fn is_json(&self) -> bool {
        matches!(self.lines, Lines::Json)
    }

    /// The values of a line. `ambiguous` is set where one is left out because it could be
    /// another as well.
    pub(super) fn read<'a>(&self, line: &'a [u8], ambiguous: &mut bool) -> Option<Values<'a>> {
        let Lines::Written(readings) = &self.lines else { return None };
        let Readings { groups, extremes, single } = readings.as_ref();
        if !extremes.first()?.shortest.is_match(line) {
            return None;
        }
        if let Some(values) = single.as_ref().and_then(|single| single.read(line)) {
            return Some(values);
        }
        let mut values = [None; Variable::COUNT];
        // What is behind the last value that is certain, and how many groups have to be before
        // the next parts: what begins with a doubtful value tells nothing about that one.
        let (mut rest, mut next) = (line, 0);
        for extremes in extremes {
            if extremes.before < next {
                continue;
            }
            let certain = extremes.certain(rest)?;
            let mut behind = rest;
            next = extremes.before + 1;
            for (variable, (from, to)) in groups.iter().skip(extremes.before).zip(certain) {
                if let Some(value) = variable.and_then(|it| values.get_mut(it as usize)) {
                    *value = value.or(rest.get(from..to));
                }
                behind = rest.get(to..)?;
                next += 1;
            }
            rest = behind;
        }
        let given =
            |variable: &Variable| values.get(*variable as usize).is_some_and(Option::is_some);
        *ambiguous |= !groups.iter().flatten().all(given);
        Some(values)
    }

    /// The part at which a line ceases to be one of this format, in words. For a complaint:
    /// patterns are compiled anew.
    pub(super) fn stumbles_at(&self, line: &[u8]) -> String {
        if self.is_json() {
            return "its JSON object".to_owned();
        }
        let fits = |parts: &[Part]| {
            let pattern = pattern_of(parts, self.escape, Order::Shortest, |_| false);
            compile(&format!("\\A{pattern}")).is_ok_and(|regex| regex.is_match(line))
        };
        let lengths: Vec<usize> = (1..=self.parts.len()).collect();
        let fitting =
            lengths.partition_point(|&length| self.parts.get(..length).is_some_and(fits));
        match self.parts.get(fitting) {
            Some(Part::Variable(name)) => format!("`${name}`"),
            Some(Part::Literal(text)) => format!("`{}`", text.escape_ascii()),
            None => "its end".to_owned(),
        }
    }
}

fn locations(regex: &Regex, line: &[u8]) -> Option<CaptureLocations> {
    let mut locations = regex.capture_locations();
    regex.captures_read(&mut locations, line)?;
    Some(locations)
}

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    // Bytes, not Unicode; a full stop is any of them.
    RegexBuilder::new(pattern).unicode(false).dot_matches_new_line(true).build()
}

impl Readings {
    fn compile(parts: &[Part], escape: Escape) -> Result<Readings, Error> {
        let tails = tails(parts, escape);
        let is_certain = tails.is_empty();
        // Readings may differ in a variable of no use as well.
        let is_group = |name: &str| !is_certain || Variable::of(name.as_bytes()).is_some();
        let names = |until: usize| {
            parts.iter().take(until).filter_map(Part::name).filter(|name| is_group(name))
        };
        let groups: Vec<Option<Variable>> =
            names(parts.len()).map(|name| Variable::of(name.as_bytes())).collect();
        let extremes_from = |from: usize| {
            let begin = if from == 0 { "\\A" } else { "\\A.*" };
            let tail = parts.get(from..).unwrap_or_default();
            let regex = |order: Order| {
                let pattern = pattern_of(tail, escape, order, is_group);
                compile(&format!("{}{begin}{pattern}\\z", order.flag()))
                    .map_err(|_| refused(0, "it has too many variables; leave some out"))
            };
            let shortest = regex(Order::Shortest)?;
            let longest = (!is_certain).then(|| regex(Order::Longest)).transpose()?;
            Ok(Extremes { before: names(from).count(), shortest, longest })
        };
        let of_use = tails.into_iter().filter(|&from| names(from).count() < groups.len());
        let starts = std::iter::once(0).chain(of_use.take(limits::LOG_FORMAT_TAILS));
        let extremes = starts.map(extremes_from).collect::<Result<_, Error>>()?;
        Ok(Readings { groups, extremes, single: SingleReading::of(parts, escape) })
    }
}

impl Extremes {
    /// Where the values stand in a line, up to the first that could stand elsewhere.
    fn certain(&self, line: &[u8]) -> Option<impl Iterator<Item = (usize, usize)>> {
        let shortest = locations(&self.shortest, line)?;
        let longest = match &self.longest {
            Some(longest) => Some(locations(longest, line)?),
            None => None,
        };
        Some((1..shortest.len()).map_while(move |group| {
            let span = shortest.get(group);
            span.filter(|_| longest.as_ref().is_none_or(|longest| longest.get(group) == span))
        }))
    }
}

impl Order {
    fn flag(self) -> &'static str {
        match self {
            Order::Shortest => "(?U)",
            Order::Longest => "",
        }
    }
}

/// The pattern of what nginx writes for some parts. A value that is missing is one of its
/// readings, and has its place in their order.
fn pattern_of(
    parts: &[Part],
    escape: Escape,
    order: Order,
    is_group: impl Fn(&str) -> bool,
) -> String {
    let mut pattern = String::new();
    for part in parts {
        match (part, part.kind()) {
            (Part::Variable(name), Some(kind)) => {
                let value = kind.pattern(escape);
                let value = match (kind.is_fixed(), escape, order) {
                    (true, _, _) => value,
                    (false, Escape::Default, Order::Shortest) => format!("|-|{value}"),
                    (false, Escape::Default, Order::Longest) => format!("{value}|-|"),
                    (false, _, Order::Shortest) => format!("|{value}"),
                    (false, _, Order::Longest) => format!("{value}|"),
                };
                let open = if is_group(name) { "(" } else { "(?:" };
                pattern.extend([open, &value, ")"]);
            }
            (Part::Literal(text), _) => {
                text.iter().for_each(|byte| pattern.push_str(&format!("\\x{byte:02x}")));
            }
            _ => {}
        }
    }
    pattern
}

/// The parts that begin behind a value which may hold their first byte, so that only the rest
/// of a line tells where that value ends; by their numbers.
fn tails(parts: &[Part], escape: Escape) -> Vec<usize> {
    let in_doubt = |pair: &[Part]| match pair {
        [before, Part::Literal(text)] => {
            let next = text.first().copied().unwrap_or_default();
            before.kind().is_some_and(|kind| !kind.is_fixed() && kind.may_hold(next, escape))
        }
        [Part::Variable(_), Part::Variable(_)] => true,
        _ => false,
    };
    let pairs = (1..).zip(parts.windows(2));
    pairs.filter(|(_, pair)| in_doubt(pair)).map(|(from, _)| from).collect()
}

// -- the text of a format ------------------------------------------------------------------

/// Bytes of a string, each with its place in the text that the user gave.
type Placed = Vec<(usize, u8)>;

fn placed(text: &str, from: usize) -> Placed {
    (from..).zip(text.bytes()).collect()
}

fn refused(at: usize, why: &str) -> Error {
    Error::Format { at: at + 1, why: why.to_owned() }
}

/// Finds the escape mode and the string in what the user gave.
fn parse_setting(text: &str) -> Result<(Escape, Placed), Error> {
    let mut words = Words { text: text.as_bytes(), at: 0 };
    words.skip_space();
    let directive = text.get(words.at..).is_some_and(|rest| {
        rest.strip_prefix("log_format").is_some_and(|rest| rest.starts_with([' ', '\t', '\n']))
    });
    if directive {
        words.next()?;
        if words.next()?.is_none() {
            return Err(refused(words.at, "a name and a string have to follow 'log_format'"));
        }
    }
    let mut escape = Escape::Default;
    words.skip_space();
    let mut ahead = words;
    if let Some(word) = ahead.escape()? {
        escape = word;
        words = ahead;
        words.skip_space();
    }
    let quoted = matches!(words.peek(), Some(b'"' | b'\''));
    if !directive && !quoted {
        let end = text.trim_end().len();
        return Ok((escape, placed(text.get(words.at..end).unwrap_or_default(), words.at)));
    }
    let mut string = Placed::new();
    while let Some(word) = words.next()? {
        string.extend(word);
    }
    Ok((escape, string))
}

/// Words of a configuration as nginx divides them.
#[derive(Clone, Copy)]
struct Words<'a> {
    text: &'a [u8],
    at: usize,
}

impl Words<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Skips spaces, line ends and comments.
    fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            if byte == b'#' {
                while self.peek().is_some_and(|byte| byte != b'\n') {
                    self.at += 1;
                }
            } else if byte.is_ascii_whitespace() {
                self.at += 1;
            } else {
                return;
            }
        }
    }

    /// `escape=…`, if that is what comes next.
    fn escape(&mut self) -> Result<Option<Escape>, Error> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let Some(value) = rest.strip_prefix(b"escape=") else { return Ok(None) };
        let end = value.iter().position(|b| b.is_ascii_whitespace() || *b == b';');
        let word = value.get(..end.unwrap_or(value.len())).unwrap_or_default();
        let known = Escape::WORDS.iter().find(|(name, _)| name.as_bytes() == word);
        let Some(&(_, escape)) = known else {
            let why = "escape= is followed by default, json or none";
            return Err(refused(self.at + b"escape=".len(), why));
        };
        self.at += b"escape=".len() + word.len();
        Ok(Some(escape))
    }

    /// The next word, unescaped; `None` at the end or after `;`, behind which nothing may be.
    fn next(&mut self) -> Result<Option<Placed>, Error> {
        self.skip_space();
        let start = self.at;
        let quote = match self.peek() {
            None => return Ok(None),
            Some(b';') => {
                self.at += 1;
                self.skip_space();
                return match self.peek() {
                    None => Ok(None),
                    Some(_) => Err(refused(self.at, "something follows the ';'; leave it out")),
                };
            }
            Some(b'{' | b'}') => {
                return Err(refused(start, "a brace has to stand within quotation marks"));
            }
            Some(quote @ (b'"' | b'\'')) => {
                self.at += 1;
                Some(quote)
            }
            Some(_) => None,
        };
        let mut word = Placed::new();
        let mut braced = false;
        while let Some(byte) = self.peek() {
            if quote == Some(byte) {
                self.at += 1;
                return match self.peek() {
                    Some(next) if !next.is_ascii_whitespace() && next != b';' => {
                        let why = "after the closing quotation mark has to be a space or ';'; \
                                   within a string, put a backslash before its mark";
                        Err(refused(self.at, why))
                    }
                    _ => Ok(Some(word)),
                };
            }
            if quote.is_none() && !braced && (byte.is_ascii_whitespace() || byte == b';') {
                return Ok(Some(word));
            }
            braced = match byte {
                b'{' => word.last().is_some_and(|&(_, last)| last == b'$'),
                b'}' => false,
                _ => braced,
            };
            word.push(self.byte(byte));
        }
        match quote {
            Some(_) => {
                Err(refused(start, "no quotation mark ends the string that begins here"))
            }
            None => Ok(Some(word)),
        }
    }

    /// Takes one byte, or two that stand for one.
    fn byte(&mut self, byte: u8) -> (usize, u8) {
        let at = self.at;
        let escaped = (byte == b'\\').then(|| self.text.get(at + 1)).flatten();
        let meant = match escaped {
            Some(b't') => Some(b'\t'),
            Some(b'r') => Some(b'\r'),
            Some(b'n') => Some(b'\n'),
            Some(&mark @ (b'"' | b'\'' | b'\\')) => Some(mark),
            _ => None,
        };
        self.at += if meant.is_some() { 2 } else { 1 };
        (at, meant.unwrap_or(byte))
    }
}

/// Divides a string into its parts.
fn parse_string(string: &[(usize, u8)]) -> Result<Vec<(usize, Part)>, Error> {
    let mut parts: Vec<(usize, Part)> = Vec::new();
    let mut rest = string;
    while let Some((&(at, byte), after)) = rest.split_first() {
        rest = after;
        if byte != b'$' {
            match parts.last_mut() {
                Some((_, Part::Literal(text))) => text.push(byte),
                _ => parts.push((at, Part::Literal(vec![byte]))),
            }
            continue;
        }
        let braced = rest.first().is_some_and(|&(_, byte)| byte == b'{');
        rest = rest.get(usize::from(braced)..).unwrap_or_default();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let length = rest.iter().position(|&(_, b)| !is_name(b)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(length);
        rest = after;
        if braced {
            match rest.split_first() {
                Some((&(_, b'}'), after)) => rest = after,
                _ => return Err(refused(at, "no '}' ends the variable that begins here")),
            }
        }
        if name.is_empty() {
            let why = "no variable's name follows this '$', and nginx has no other use for it";
            return Err(refused(at, why));
        }
        let name = name.iter().map(|&(_, byte)| char::from(byte)).collect();
        parts.push((at, Part::Variable(name)));
        if parts.len() > limits::LOG_FORMAT_PARTS {
            return Err(refused(at, "it has too many variables; leave some out"));
        }
    }
    refuse_what_cannot_be_told(&parts)?;
    Ok(parts)
}

/// Refuses formats that no line can be read by.
fn refuse_what_cannot_be_told(parts: &[(usize, Part)]) -> Result<(), Error> {
    if !parts.iter().any(|(_, part)| part.kind().is_some()) {
        return Err(refused(
            0,
            "no variable is in it; expected a log_format of nginx.conf, or combined, main, json",
        ));
    }
    let literals = |(_, part): &(usize, Part)| part.kind().is_none();
    for run in parts.split(literals) {
        // Up to one whose end nothing shows; what is behind it has to have a known length.
        let open = run
            .iter()
            .position(|(_, part)| part.kind().is_some_and(|kind| !kind.ends_itself()));
        let behind = open.and_then(|open| run.get(open + 1..)).unwrap_or_default();
        let other =
            behind.iter().find(|(_, part)| part.kind().is_some_and(|kind| !kind.is_fixed()));
        if let Some((at, Part::Variable(name))) = other {
            return Err(Error::Format {
                at: at + 1,
                why: format!(
                    "nothing shows where ${name} begins; put a text before it in nginx.conf"
                ),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match LogFormat::parse(text) {
            Ok(format) => format
                .parts()
                .iter()
                .map(|part| match part {
                    Part::Literal(text) => text.escape_ascii().to_string(),
                    Part::Variable(name) => format!("<{name}>"),
                })
                .collect(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_way_to_write_a_format() {
        for (text, parts) in [
            ("$status $msec", "<status> <msec>"),
            ("'$status' ' $msec'", "<status> <msec>"),
            ("\"$status\"\n  ' ${msec}x'", "<status> <msec>x"),
            ("log_format a $status $msec;", "<status><msec>"),
            ("log_format a $status\"x\"$msec ;", "<status>\\\"x\\\"<msec>"),
            ("  log_format a # one\n escape=json '{' # two\n '${status}}';\n", "{<status>}"),
            ("escape=none '$status'", "<status>"),
            ("escape=json {\"s\":\"$status\"}", "{\\\"s\\\":\\\"<status>\\\"}"),
            (r#"'\'\"\\\t\r\n\d$status'"#, r#"\'\"\\\t\r\n\\d<status>"#),
            ("log_format a ${status}_x;", "<status>_x"),
            ("log_format a b${msec}c;", "b<msec>c"),
            ("$status# no comment", "<status># no comment"),
        ] {
            assert_eq!(shown(text), parts, "{text}");
        }
        for (text, escape) in [
            ("log_format a escape=json '$status';", Escape::Json),
            ("escape=none $status", Escape::None),
            ("escape=default '$status'", Escape::Default),
            ("combined", Escape::Default),
            ("json", Escape::Json),
        ] {
            let format = LogFormat::parse(text).map(|format| format.escape());
            assert_eq!(format, Ok(escape), "{text}");
        }
        assert!(shown("main").ends_with(" \\\"<http_x_forwarded_for>\\\""));
        assert!(LogFormat::parse("json").is_ok_and(|format| format.is_json()));
        assert_eq!(shown("").len(), shown("combined").len());
    }

    #[test]
    fn errors_say_where_and_what() {
        for (text, at, word) in [
            ("a line", 1, "no variable"),
            ("$status $", 9, "'$'"),
            ("'$status' '$ x'", 12, "'$'"),
            ("${status", 1, "'}'"),
            ("'$status", 1, "no quotation mark ends"),
            ("'$status''$msec'", 10, "a space or ';'"),
            ("log_format a '$status'; x", 25, "follows the ';'"),
            ("log_format a {$status}", 14, "brace"),
            ("escape=xml '$status'", 8, "default, json or none"),
            ("$remote_addr$remote_port", 13, "$remote_port"),
            ("log_format a $remote_addr $remote_user;", 27, "$remote_user"),
            ("$bytes_sent$request_time", 12, "$request_time"),
        ] {
            let shown = shown(text);
            let place = format!("access_log_format: at character {at}: ");
            assert!(shown.starts_with(&place) && shown.contains(word), "{text}: {shown}");
        }
        for fine in
            ["$remote_addr$status", "$request_time$bytes_sent", "$status$uri$time_local"]
        {
            assert!(LogFormat::parse(fine).is_ok(), "{fine}");
        }
        let long = format!("$status{}", "x".repeat(limits::LOG_FORMAT));
        assert!(LogFormat::parse(&long).is_err());
        assert!(LogFormat::parse(&"$a ".repeat(2000)).is_err());
    }

    /// The named values of a line; `?` for one that is left out.
    fn read(format: &str, line: &str, names: &[&str]) -> Vec<String> {
        let mut ambiguous = false;
        let format = LogFormat::parse(format).unwrap();
        let values = format.read(line.as_bytes(), &mut ambiguous).unwrap();
        let value = |name: &&str| match values[Variable::of(name.as_bytes()).unwrap() as usize]
        {
            Some(value) => value.escape_ascii().to_string(),
            None => "?".to_owned(),
        };
        let shown: Vec<String> = names.iter().map(value).collect();
        assert_eq!(ambiguous, shown.contains(&"?".to_owned()), "{line}");
        shown
    }

    #[test]
    fn what_is_behind_a_doubtful_value_may_agree_by_accident() {
        // `1.111` between nothing and `.-`, nothing between `1` and `111..-`, or nothing between
        // `11.11` and `.-`: the first reading and the last agree on what the other denies.
        let format = "escape=none ${uri}1$request_time.$args";
        let names = ["uri", "request_time", "args"];
        assert_eq!(read(format, "11.111..-", &names), ["?", "?", "?"]);
    }

    #[test]
    fn a_missing_value_is_shorter_than_any() {
        // `"` and `a`, or nothing and `"a`.
        let format = "escape=none $uri $pipe\"$args";
        assert_eq!(read(format, "/x \"\"a", &["uri", "pipe", "args"]), ["/x", "?", "?"]);
    }

    #[test]
    fn what_is_behind_a_doubtful_value_is_certain_where_no_reading_differs() {
        let format = "$uri $args $status [$http_referer, $host] $foo $foo; $pid";
        let names = ["uri", "args", "status", "http_referer", "host", "pid"];
        let line = "a b c 200 [d, e, f] g h i; 7";
        assert_eq!(read(format, line, &names), ["?", "?", "200", "d, e", "f", "7"]);
        // A variable that is written twice has to be certain once.
        let line = "a b c 200 c";
        assert_eq!(read("$uri $args $status $args", line, &["uri", "args"]), ["?", "c"]);
    }

    #[test]
    fn most_lines_have_one_reading() {
        let line = "10.0.0.1 - - [24/Nov/2026:19:00:00 +0000] \"GET /a [x] HTTP/1.1\" 200 7 \"-\" \"b - c\"";
        let single = |text: &str, line: &str| {
            let format = LogFormat::parse(text).unwrap();
            let Lines::Written(readings) = &format.lines else { unreachable!() };
            let values = readings.single.as_ref()?.read(line.as_bytes())?;
            let all = format.read(line.as_bytes(), &mut false).unwrap();
            assert_eq!(values, all, "{text}");
            Some(())
        };
        assert!(single("combined", line).is_some());
        assert!(single("$time_iso8601|$status", "2026-11-24T19:00:00+00:00|200").is_some());
        assert!(single("escape=json {\"u\":\"$uri\"}", r#"{"u":"/a"}"#).is_some());
        // A user's name that may go on, an escaped quotation mark, variables that touch.
        assert!(single("combined", &line.replacen("- -", "- a [b", 1)).is_none());
        assert!(single("escape=json {\"u\":\"$uri\"}", r#"{"u":"/\"}"#).is_none());
        assert!(single("$remote_addr$status", "10.0.0.1200").is_none());
    }

    #[test]
    fn variables_stand_in_the_order_of_their_numbers() {
        for (number, (name, variable, _)) in VARIABLES.iter().enumerate() {
            assert_eq!(*variable as usize, number);
            assert_eq!(variable.name(), *name);
            assert_eq!(Variable::of(name.as_bytes()), Some(*variable));
        }
    }
}
