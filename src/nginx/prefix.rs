// SPDX-License-Identifier: GPL-2.0-or-later
//! What stands before nginx's own line in a log that came through something else: syslog, the
//! journal, or a container runtime.
//!
//! Each form is recognized by its whole shape, never by finding a log line somewhere inside a
//! line: a client can put a whole entry into its request, and that must not become one.

use std::borrow::Cow;

use super::error_log::{starts_entry, take_digits, take_while};

/// Prefixes that one line may bear: a container's line that a syslog daemon passed on.
const LAYERS: usize = 3;

/// One kind of prefix: what follows it, if the line begins so.
type Form = fn(&[u8]) -> Option<&[u8]>;

const FORMS: [Form; 6] = [syslog, syslog_5424, container, pod, runtime, stamped];

/// The line without what stands before nginx's own; a line without prefix stays as it is.
///
/// A line of an access log may begin like a prefix, if its format does (`$host | …`), so it is
/// best asked only of lines that cannot be read as they stand. See [`unpack`] for the form that
/// cannot be undone by cutting.
pub fn strip(line: &[u8]) -> &[u8] {
    let mut rest = line;
    for _ in 0..LAYERS {
        let Some(inner) = FORMS.iter().find_map(|form| form(rest)) else { break };
        rest = inner;
    }
    rest
}

/// As [`strip`]; and where Docker's `json-file` driver wrote the line, what it stands for.
pub fn unpack(line: &[u8]) -> Cow<'_, [u8]> {
    let line = strip(line);
    match docker_json(line) {
        Some(inner) => Cow::Owned(strip(&inner).to_vec()),
        None => Cow::Borrowed(line),
    }
}

/// `{"log":"…\n","stream":"stderr","time":"…"}`: the text of `log`, without its line end.
fn docker_json(line: &[u8]) -> Option<Vec<u8>> {
    let rest = line.strip_prefix(b"{\"log\":")?;
    let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<String>();
    let text = values.next()?.ok()?;
    let after = rest.get(values.byte_offset()..)?;
    after.starts_with(b",\"").then(|| text.strip_suffix('\n').unwrap_or(&text).into())
}

/// `<187>Nov 24 07:22:02 host nginx: `, as nginx sends it; or without priority and with any
/// usual time, as a syslog daemon or the journal writes it. nginx leaves the host out if told to,
/// and tools that print the time elsewhere leave that out.
fn syslog(line: &[u8]) -> Option<&[u8]> {
    let unmarked = priority(line);
    let rest = unmarked.unwrap_or(line);
    let dated = bsd_time(rest).or_else(|| rfc_3339(rest));
    let rest = dated.unwrap_or(rest);
    let told = unmarked.is_some() || dated.is_some();
    tag(rest, told).or_else(|| tag(word(rest)?, told))
}

/// `<187>1 2026-11-24T07:22:02.003Z host nginx 123 - - `
fn syslog_5424(line: &[u8]) -> Option<&[u8]> {
    let rest = priority(line)?.strip_prefix(b"1 ")?;
    let rest = rest.strip_prefix(b"- ").or_else(|| rfc_3339(rest))?;
    // Host, application, process, message identifier.
    let mut rest = word(word(word(word(rest)?)?)?)?;
    if let Some(after) = rest.strip_prefix(b"-") {
        rest = after;
    } else {
        while rest.starts_with(b"[") {
            rest = structured(rest)?;
        }
    }
    let rest = rest.strip_prefix(b" ")?;
    Some(rest.strip_prefix(b"\xef\xbb\xbf").unwrap_or(rest))
}

/// `[id name="value"]`, where a backslash stands before a quotation mark inside a value.
fn structured(input: &[u8]) -> Option<&[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    let end = input.iter().position(|&b| {
        let plain = !std::mem::take(&mut escaped);
        escaped = plain && b == b'\\';
        quoted ^= plain && b == b'"';
        b == b']' && !quoted
    })?;
    input.get(end + 1..)
}

/// `nginx-1  | `, as docker compose and swarm print it, with or without colours.
fn container(line: &[u8]) -> Option<&[u8]> {
    let (name, rest) = take_while(colour(line), |b| is_name(b) || b == b'@');
    let (_, rest) = take_while(rest, |b| b == b' ');
    let rest = colour(colour(rest).strip_prefix(b"|")?);
    let rest = colour(rest.strip_prefix(b" ").unwrap_or(rest));
    (!name.is_empty()).then_some(rest)
}

/// `[pod/web-5d9f/nginx] `, as `kubectl logs --prefix` prints it.
fn pod(line: &[u8]) -> Option<&[u8]> {
    let (_, rest) = take_while(line.strip_prefix(b"[pod/")?, is_name);
    rest.strip_prefix(b"] ")
}

/// `2026-11-24T07:22:02.003112233Z stderr F `, as container runtimes write for Kubernetes.
/// They split what is longer than 16 KiB, and mark its parts with P; nginx writes no such line.
fn runtime(line: &[u8]) -> Option<&[u8]> {
    let rest = rfc_3339(line)?;
    let rest = rest.strip_prefix(b"stderr ").or_else(|| rest.strip_prefix(b"stdout "))?;
    let rest = rest.strip_prefix(b"F").or_else(|| rest.strip_prefix(b"P"))?;
    rest.strip_prefix(b" ")
}

/// `2026-11-24T07:22:02.003112233Z `, as `docker logs -t` prints it. An access log may begin
/// so, too; what follows here is therefore looked at.
fn stamped(line: &[u8]) -> Option<&[u8]> {
    rfc_3339(line).filter(|rest| starts_entry(rest))
}

/// `<187>`
fn priority(line: &[u8]) -> Option<&[u8]> {
    let (digits, rest) = take_digits(line.strip_prefix(b"<")?)?;
    rest.strip_prefix(b">").filter(|_| digits.len() <= 3)
}

/// `Nov 24 07:22:02 `, or with a space before a day of one digit.
fn bsd_time(line: &[u8]) -> Option<&[u8]> {
    shaped(line, b"Aaa  0 00:00:00 ").or_else(|| shaped(line, b"Aaa 00 00:00:00 "))
}

/// `2026-11-24T07:22:02.003+00:00 `, with any fraction, and `Z` or a distance.
fn rfc_3339(line: &[u8]) -> Option<&[u8]> {
    let rest = shaped(line, b"0000-00-00T00:00:00")?;
    let rest = match rest.strip_prefix(b".") {
        Some(fraction) => take_digits(fraction)?.1,
        None => rest,
    };
    if let Some(rest) = rest.strip_prefix(b"Z ") {
        return Some(rest);
    }
    let rest = rest.strip_prefix(b"+").or_else(|| rest.strip_prefix(b"-"))?;
    shaped(rest, b"00:00 ").or_else(|| shaped(rest, b"0000 "))
}

/// What follows bytes of this shape: `0` is a digit, letters are letters of their case.
fn shaped<'a>(line: &'a [u8], shape: &[u8]) -> Option<&'a [u8]> {
    let (text, rest) = line.split_at_checked(shape.len())?;
    let fits = |(&want, &b): (&u8, &u8)| match want {
        b'0' => b.is_ascii_digit(),
        b'A' => b.is_ascii_uppercase(),
        b'a' => b.is_ascii_lowercase(),
        _ => b == want,
    };
    shape.iter().zip(text).all(fits).then_some(rest)
}

/// `nginx: ` or `nginx[123]: `; the latter if nothing else tells that this is syslog.
fn tag(line: &[u8], told: bool) -> Option<&[u8]> {
    let (name, rest) = take_while(line, is_name);
    let (rest, numbered) = match rest.strip_prefix(b"[") {
        Some(pid) => (take_digits(pid)?.1.strip_prefix(b"]")?, true),
        None => (rest, false),
    };
    let rest = rest.strip_prefix(b": ")?;
    (!name.is_empty() && (told || numbered)).then_some(rest)
}

/// What follows a word and its space.
fn word(line: &[u8]) -> Option<&[u8]> {
    let (word, rest) = take_while(line, |b| b > b' ' && b != b'"');
    rest.strip_prefix(b" ").filter(|_| !word.is_empty())
}

/// What follows a terminal's colour, if one is set here.
fn colour(line: &[u8]) -> &[u8] {
    let Some(rest) = line.strip_prefix(b"\x1b[") else { return line };
    let (_, rest) = take_while(rest, |b| b.is_ascii_digit() || b == b';');
    rest.strip_prefix(b"m").unwrap_or(line)
}

/// Bytes of the names of programs, containers and pods.
fn is_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"_./-".contains(&b)
}
