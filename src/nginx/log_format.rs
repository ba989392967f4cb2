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
//! the shortest values and once with the longest. A value that is the same both times is
//! certain; another is not given. The values cannot cross each other, so what agrees in these
//! two readings agrees in all. Both readings take time linear in the line.

use regex::bytes::{CaptureLocations, Regex, RegexBuilder};

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
    fn kind(&self) -> Option<Kind> {
        match self {
            Part::Literal(_) => None,
            Part::Variable(name) => Some(row(name.as_bytes()).map_or(Kind::Text, |row| row.2)),
        }
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
    /// The groups of the patterns, in their order.
    variables: Vec<Variable>,
    shortest: Regex,
    /// Absent where only one reading is possible.
    longest: Option<Regex>,
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
        let Readings { variables, shortest, longest } = readings.as_ref();
        let first = locations(shortest, line)?;
        let second = match longest {
            Some(longest) => Some(locations(longest, line)?),
            None => None,
        };
        let mut values = [None; Variable::COUNT];
        for (group, variable) in (1..).zip(variables) {
            let span = first.get(group);
            if second.as_ref().is_some_and(|second| second.get(group) != span) {
                *ambiguous = true;
                continue;
            }
            if let Some(value) = values.get_mut(*variable as usize) {
                *value = span.and_then(|(from, to)| line.get(from..to));
            }
        }
        Some(values)
    }

    /// The part at which a line ceases to be one of this format, in words. For a complaint:
    /// patterns are compiled anew.
    pub(super) fn stumbles_at(&self, line: &[u8]) -> String {
        if self.is_json() {
            return "its JSON object".to_owned();
        }
        let fits = |parts: &[Part]| {
            let (pattern, _) = pattern_of(parts, self.escape);
            compile(&format!("(?U){pattern}")).is_ok_and(|regex| regex.is_match(line))
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
        let (pattern, variables) = pattern_of(parts, escape);
        let regex = |flags: &str| {
            compile(&format!("{flags}{pattern}\\z"))
                .map_err(|_| refused(0, "it has too many variables; leave some out"))
        };
        let longest = match may_be_read_otherwise(parts, escape) {
            true => Some(regex("")?),
            false => None,
        };
        Ok(Readings { variables, shortest: regex("(?U)")?, longest })
    }
}

/// The pattern of a line's beginning, and the variables that its groups are about.
fn pattern_of(parts: &[Part], escape: Escape) -> (String, Vec<Variable>) {
    let mut pattern = String::from("\\A");
    let mut variables = Vec::new();
    for part in parts {
        match (part, part.kind()) {
            (Part::Variable(name), Some(kind)) => {
                let known = Variable::of(name.as_bytes());
                let known = known.filter(|variable| !variables.contains(variable));
                variables.extend(known);
                pattern.push_str(if known.is_some() { "(" } else { "(?:" });
                pattern.push_str(&kind.pattern(escape));
                pattern.push_str(match (kind.is_fixed(), escape) {
                    (true, _) => ")",
                    (false, Escape::Default) => "|-|)",
                    (false, _) => "|)",
                });
            }
            (Part::Literal(text), _) => {
                text.iter().for_each(|byte| pattern.push_str(&format!("\\x{byte:02x}")));
            }
            _ => {}
        }
    }
    (pattern, variables)
}

/// Whether a value may hold the byte that follows it in the format, so that only the rest of a
/// line tells where the value ends.
fn may_be_read_otherwise(parts: &[Part], escape: Escape) -> bool {
    parts.windows(2).any(|pair| match pair {
        [before, Part::Literal(text)] => {
            let next = text.first().copied().unwrap_or_default();
            before.kind().is_some_and(|kind| !kind.is_fixed() && kind.may_hold(next, escape))
        }
        [Part::Variable(_), Part::Variable(_)] => true,
        _ => false,
    })
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

    #[test]
    fn variables_stand_in_the_order_of_their_numbers() {
        for (number, (name, variable, _)) in VARIABLES.iter().enumerate() {
            assert_eq!(*variable as usize, number);
            assert_eq!(variable.name(), *name);
            assert_eq!(Variable::of(name.as_bytes()), Some(*variable));
        }
    }
}
