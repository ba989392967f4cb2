// SPDX-License-Identifier: GPL-2.0-or-later
//! Requests as variables of CGI (RFC 3875), in the wrappings of uwsgi, SCGI and FastCGI.
//!
//! None of the three begins with a mark of its own, so what counts as their beginning is strict:
//! the first variable has to be there, in the form in which servers send it.

use std::net::IpAddr;

use crate::tcp::forwarded;
use crate::tcp::http::{host_hash, id_hash};

/// What the variables ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    /// REQUEST_METHOD
    pub method: Option<&'a str>,
    /// REQUEST_URI
    pub uri: Option<&'a str>,
    /// [`host_hash`] of HTTP_HOST.
    pub host: Option<u64>,
    /// [`id_hash`] of HTTP_X_REQUEST_ID.
    pub id: Option<u64>,
    /// Addresses that REMOTE_ADDR and the request's fields name, one of which is the client's.
    pub clients: Vec<IpAddr>,
    /// CONTENT_LENGTH, which is empty where there is no body; `None` if it is no number, or where
    /// it is hidden.
    length: Option<u64>,
}

/// What is visible of variables whose rest is not in the capture.
#[derive(Debug, PartialEq, Eq)]
pub struct Cut<'a> {
    /// What those before the cut ask for.
    pub asked: Asked<'a>,
    /// Bytes from the cut to the end of the variables.
    pub left: u64,
}

/// A variable: name and value.
type Var<'a> = (&'a [u8], &'a [u8]);

impl<'a> Asked<'a> {
    /// What these variables ask for; `None` where they can't be told apart.
    fn of(vars: impl Iterator<Item = Option<Var<'a>>>) -> Option<Asked<'a>> {
        let mut asked = Asked { length: Some(0), ..Asked::default() };
        for var in vars {
            asked.add(var?);
        }
        Some(asked)
    }

    /// What the first of these variables ask for, up to the one that is cut.
    fn visible(vars: impl Iterator<Item = Option<Var<'a>>>) -> Asked<'a> {
        let mut asked = Asked::default();
        vars.map_while(|var| var).for_each(|var| asked.add(var));
        asked
    }

    fn add(&mut self, (name, value): Var<'a>) {
        let text = std::str::from_utf8(value).ok();
        match name {
            b"REQUEST_METHOD" => self.method = text,
            b"REQUEST_URI" => self.uri = text,
            b"HTTP_HOST" => self.host = Some(host_hash(value)),
            b"HTTP_X_REQUEST_ID" => self.id = id_hash(value),
            b"CONTENT_LENGTH" if value.is_empty() => self.length = Some(0),
            b"CONTENT_LENGTH" => self.length = text.and_then(number),
            b"REMOTE_ADDR" => forwarded::add(&mut self.clients, value),
            field if field.starts_with(b"HTTP_") => forwarded::add(&mut self.clients, value),
            _ => {}
        }
    }

    /// `METHOD URI`
    pub fn text(&self) -> Option<String> {
        Some(format!("{} {}", self.method?, self.uri?))
    }

    /// Bytes of the body.
    pub fn length(&self) -> Option<u64> {
        self.length
    }
}

/// A number without sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Variables that `next` cuts off, one by one, until nothing is left or one is cut.
fn vars<'a>(
    mut rest: &'a [u8],
    next: impl Fn(&'a [u8]) -> Option<(&'a [u8], &'a [u8], &'a [u8])>,
) -> impl Iterator<Item = Option<Var<'a>>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let cut = next(rest);
        rest = cut.map_or(&[], |(_, _, rest)| rest);
        Some(cut.map(|(name, value, _)| (name, value)))
    })
}

/// Whether this is the name of a variable.
fn is_name(name: &[u8]) -> bool {
    (1..=64).contains(&name.len())
        && name.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_')
}

// ---- uwsgi -------------------------------------------------------------------------------

/// Modifiers and length, of which the length is of the lower byte first.
const UWSGI_HEADER: usize = 4;

/// Whether a client begins a uwsgi conversation with these bytes: a request of the usual kind,
/// both of whose modifiers are 0, and the first of its variables.
pub fn starts_uwsgi(bytes: &[u8]) -> bool {
    let [0, low, high, 0, vars @ ..] = bytes else { return false };
    let length = usize::from(u16::from_le_bytes([*low, *high]));
    let vars = &vars[..vars.len().min(length)];
    uwsgi_string(vars).is_some_and(|(name, value)| {
        is_name(name)
            && matches!(value, [low, high, ..]
            if 4 + name.len() + usize::from(u16::from_le_bytes([*low, *high])) <= length)
    })
}

/// Where the variables end by their length.
fn uwsgi_bound(bytes: &[u8]) -> Option<usize> {
    let [_, low, high, ..] = bytes else { return None };
    Some(UWSGI_HEADER + usize::from(u16::from_le_bytes([*low, *high])))
}

/// Where the variables end, once they are all there.
pub fn uwsgi_end(bytes: &[u8]) -> Option<usize> {
    uwsgi_bound(bytes).filter(|end| bytes.len() >= *end)
}

/// What a request of uwsgi asks for.
pub fn uwsgi_request(head: &[u8]) -> Option<Asked<'_>> {
    Asked::of(uwsgi_vars(head.get(UWSGI_HEADER..)?))
}

/// What is visible of a request of uwsgi whose variables are cut.
pub fn uwsgi_cut(head: &[u8]) -> Option<Cut<'_>> {
    let left = uwsgi_bound(head)?.checked_sub(head.len())?;
    let asked = Asked::visible(uwsgi_vars(head.get(UWSGI_HEADER..)?));
    Some(Cut { asked, left: left as u64 })
}

fn uwsgi_vars(vars_of: &[u8]) -> impl Iterator<Item = Option<Var<'_>>> {
    vars(vars_of, |rest| {
        let (name, rest) = uwsgi_string(rest)?;
        let (value, rest) = uwsgi_string(rest)?;
        Some((name, value, rest))
    })
}

fn uwsgi_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [low, high, rest @ ..] = bytes else { return None };
    rest.split_at_checked(usize::from(u16::from_le_bytes([*low, *high])))
}

// ---- SCGI --------------------------------------------------------------------------------

/// How the variables of SCGI begin, by its specification.
const SCGI_FIRST: &[u8] = b"CONTENT_LENGTH\0";

/// Whether a client begins a SCGI conversation with these bytes: a netstring of variables, of
/// which the first is the length of the body.
pub fn starts_scgi(bytes: &[u8]) -> bool {
    let vars = scgi_bounds(bytes).and_then(|(from, _)| bytes[from..].strip_prefix(SCGI_FIRST));
    vars.and_then(scgi_string).is_some_and(|(length, _)| {
        !length.is_empty() && length.iter().all(|byte| byte.is_ascii_digit())
    })
}

/// Where the variables begin, and where the comma behind them has to stand.
fn scgi_bounds(bytes: &[u8]) -> Option<(usize, usize)> {
    // More digits would be more bytes than a head may have.
    const DIGITS: usize = 6;
    let colon = memchr::memchr(b':', &bytes[..bytes.len().min(DIGITS + 1)])?;
    let length = number(std::str::from_utf8(&bytes[..colon]).ok()?)?;
    Some((colon + 1, colon + 1 + length as usize))
}

/// Where the variables' netstring ends, once all of it is there.
pub fn scgi_end(bytes: &[u8]) -> Option<usize> {
    let (_, comma) = scgi_bounds(bytes)?;
    (bytes.len() > comma).then_some(comma + 1)
}

/// What a request of SCGI asks for.
pub fn scgi_request(head: &[u8]) -> Option<Asked<'_>> {
    let (from, comma) = scgi_bounds(head)?;
    head.get(comma).filter(|byte| **byte == b',')?;
    Asked::of(scgi_vars(head.get(from..comma)?))
}

/// What is visible of a request of SCGI whose variables are cut.
pub fn scgi_cut(head: &[u8]) -> Option<Cut<'_>> {
    let (from, comma) = scgi_bounds(head)?;
    let left = (comma + 1).checked_sub(head.len())?;
    let asked = Asked::visible(scgi_vars(head.get(from..)?));
    Some(Cut { asked, left: left as u64 })
}

fn scgi_vars(vars_of: &[u8]) -> impl Iterator<Item = Option<Var<'_>>> {
    vars(vars_of, |rest| {
        let (name, rest) = scgi_string(rest)?;
        let (value, rest) = scgi_string(rest)?;
        Some((name, value, rest))
    })
}

fn scgi_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

// ---- FastCGI -----------------------------------------------------------------------------

/// What the PARAMS of a FastCGI request ask for.
pub fn fastcgi_request(params: &[u8]) -> Option<Asked<'_>> {
    Asked::of(fastcgi_vars(params))
}

/// What is visible of a FastCGI request whose PARAMS are cut.
pub fn fastcgi_cut(params: &[u8]) -> Asked<'_> {
    Asked::visible(fastcgi_vars(params))
}

fn fastcgi_vars(params: &[u8]) -> impl Iterator<Item = Option<Var<'_>>> {
    vars(params, |rest| {
        let (name, rest) = fastcgi_length(rest)?;
        let (value, rest) = fastcgi_length(rest)?;
        let (name, rest) = rest.split_at_checked(name)?;
        let (value, rest) = rest.split_at_checked(value)?;
        Some((name, value, rest))
    })
}

/// A length of one byte, or of four with the highest bit set.
fn fastcgi_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes {
        [short @ 0..=0x7f, rest @ ..] => Some((usize::from(*short), rest)),
        [a, b, c, d, rest @ ..] => {
            Some((u32::from_be_bytes([a & 0x7f, *b, *c, *d]) as usize, rest))
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn string(text: &str) -> Vec<u8> {
        [&(text.len() as u16).to_le_bytes(), text.as_bytes()].concat()
    }

    fn uwsgi(vars: &[(&str, &str)]) -> Vec<u8> {
        let vars: Vec<u8> = vars
            .iter()
            .flat_map(|(name, value)| [string(name), string(value)].concat())
            .collect();
        let [low, high] = (vars.len() as u16).to_le_bytes();
        [&[0, low, high, 0][..], &vars].concat()
    }

    #[test]
    fn uwsgi_is_told_by_its_first_variable() {
        let head = uwsgi(&[
            ("QUERY_STRING", ""),
            ("REQUEST_METHOD", "POST"),
            ("REQUEST_URI", "/a?b"),
            ("CONTENT_LENGTH", "7"),
        ]);
        assert!(starts_uwsgi(&head) && starts_uwsgi(&head[..40]));
        assert_eq!(uwsgi_end(&head), Some(head.len()));
        assert_eq!(uwsgi_end(&head[..head.len() - 1]), None);
        let asked = uwsgi_request(&head).unwrap_or_default();
        assert_eq!((asked.text().as_deref(), asked.length()), (Some("POST /a?b"), Some(7)));
        assert_eq!(uwsgi_request(&head[..head.len() - 1]), None);
        // In the last digit of the length, which is not told then.
        let cut = uwsgi_cut(&head[..head.len() - 1]).unwrap();
        assert_eq!(
            (cut.asked.text().as_deref(), cut.asked.length()),
            (Some("POST /a?b"), None)
        );
        assert_eq!(cut.left, 1);
        for other in [
            &b"\0\x10\0\0"[..],
            b"\0\x10\0\x01\x01\0A\0\0",
            b"\0\x10\0\0\x01\0a\0\0",
            b"\0\x05\0\0\x01\0A\x09\0",
            b"\0\0\0\0\0\0\0\0\0\0",
            b"",
        ] {
            assert!(!starts_uwsgi(other), "{}", other.escape_ascii());
        }
    }

    #[test]
    fn scgi_is_told_by_its_netstring() {
        let vars = "CONTENT_LENGTH\x0012\0REQUEST_METHOD\0GET\0REQUEST_URI\0/a\0HTTP_HOST\0X\0";
        let head = format!("{}:{vars},", vars.len());
        let head = head.as_bytes();
        assert!(starts_scgi(head));
        assert_eq!(scgi_end(&[head, b"body"].concat()), Some(head.len()));
        assert_eq!(scgi_end(&head[..head.len() - 1]), None);
        let asked = scgi_request(head).unwrap_or_default();
        assert_eq!((asked.text().as_deref(), asked.length()), (Some("GET /a"), Some(12)));
        assert_eq!(asked.host, Some(host_hash(b"x")));
        let cut = scgi_cut(&head[..40]).unwrap();
        assert_eq!((cut.asked.method, cut.asked.uri), (Some("GET"), None));
        assert_eq!((cut.asked.length(), cut.left), (Some(12), head.len() as u64 - 40));
        for other in [
            &b"70:SCGI\x001\0"[..],
            b":CONTENT_LENGTH\x000\0",
            b"7x:CONTENT_LENGTH\x000\0",
            b"70:CONTENT_LENGTH\0\0",
            b"9999999:CONTENT_LENGTH\x000\0",
            b"70:CONTENT_LE",
        ] {
            let told = starts_scgi(other);
            assert!(!told || scgi_end(other).is_none(), "{}", other.escape_ascii());
        }
    }

    /// What a server tells of its client, and what the client's own fields tell, save the host.
    const NAMED: [(&str, &str); 5] = [
        ("CONTENT_LENGTH", "0"),
        ("REMOTE_ADDR", "192.0.2.7"),
        ("HTTP_HOST", "10.0.0.1"),
        ("HTTP_X_FORWARDED_FOR", "198.51.100.3, 192.0.2.7"),
        ("HTTP_X_REAL_IP", "2001:db8::7"),
    ];

    #[test]
    fn clients_are_named_in_whatever_wrapping() {
        let named: Vec<IpAddr> =
            ["192.0.2.7", "198.51.100.3", "2001:db8::7"].map(|ip| ip.parse().unwrap()).into();
        let in_uwsgi = uwsgi(&NAMED);
        assert_eq!(uwsgi_request(&in_uwsgi).unwrap().clients, named);
        let vars: String = NAMED.map(|(name, value)| format!("{name}\0{value}\0")).concat();
        let in_scgi = format!("{}:{vars},", vars.len());
        assert_eq!(scgi_request(in_scgi.as_bytes()).unwrap().clients, named);
        let in_fastcgi = NAMED.map(|(name, value)| {
            let lengths = [name.len() as u8, value.len() as u8];
            [&lengths[..], name.as_bytes(), value.as_bytes()].concat()
        });
        assert_eq!(fastcgi_request(&in_fastcgi.concat()).unwrap().clients, named);
    }

    #[test]
    fn lengths_of_fastcgi_have_one_byte_or_four() {
        let uri = format!("/{}", "x".repeat(199));
        let params = [
            &[14, 3][..],
            b"REQUEST_METHODGET",
            &[11, 0x80, 0, 0, 200],
            b"REQUEST_URI",
            uri.as_bytes(),
        ]
        .concat();
        let asked = fastcgi_request(&params).unwrap_or_default();
        assert_eq!(asked.text(), Some(format!("GET {uri}")));
        assert_eq!(fastcgi_request(&params[..params.len() - 1]), None);
        let cut = fastcgi_cut(&params[..params.len() - 1]);
        assert_eq!((cut.method, cut.uri, cut.length()), (Some("GET"), None, None));
        assert_eq!(fastcgi_request(&[0xff, 0xff]), None);
    }

    #[test]
    fn a_length_that_is_none_is_not_guessed() {
        for (length, wanted) in [("", Some(0)), ("12", Some(12)), ("-1", None), ("1x", None)] {
            let head = uwsgi(&[("CONTENT_LENGTH", length)]);
            assert_eq!(
                uwsgi_request(&head).and_then(|asked| asked.length()),
                wanted,
                "{length}"
            );
        }
    }
}
