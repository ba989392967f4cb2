// SPDX-License-Identifier: GPL-2.0-or-later
//! Addresses of clients that the header of a request names.
//!
//! A proxy tells in a header for whom it asks, and nginx may take that address for the client's
//! (`real_ip_header`). Which header that is, its configuration decides: X-Forwarded-For,
//! X-Real-IP, CF-Connecting-IP, or any other. So every field counts that ends with an address,
//! save Host. `Forwarded` (RFC 7239) does not: nginx reads no address in it.

use std::net::{IpAddr, SocketAddr};

use crate::limits;

const MOST: usize = limits::FORWARDED;

/// Adds the addresses of a field's value.
pub fn add(named: &mut Vec<IpAddr>, value: &[u8]) {
    if named.len() < MOST {
        join(named, &addresses(value));
    }
}

/// Adds addresses that a field named.
pub fn join(named: &mut Vec<IpAddr>, chain: &[IpAddr]) {
    for &address in chain {
        if named.len() < MOST && !named.contains(&address) {
            named.push(address);
        }
    }
}

/// The addresses of a field's value. Nginx reads them from the end on, each proxy having added who
/// asked it, and no further than to what is no address.
pub fn addresses(value: &[u8]) -> Vec<IpAddr> {
    let mut chain = words(value).map_while(address).fuse();
    let mut named: Vec<IpAddr> = chain.by_ref().take(MOST).collect();
    // Of a long chain the first one is kept, too: all the others may be trusted proxies.
    if let (Some(first), Some(last)) = (chain.last(), named.last_mut()) {
        *last = first;
    }
    named
}

/// The words of a list, the last one first.
fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.rsplit(|byte| matches!(byte, b',' | b' ' | b'\t')).filter(|word| !word.is_empty())
}

/// An address, with a port or without.
fn address(word: &[u8]) -> Option<IpAddr> {
    // Most values are none, and are not worth a closer look.
    let may_be = |byte: &u8| byte.is_ascii_hexdigit() || b".:[]%".contains(byte);
    if !word.iter().all(may_be) {
        return None;
    }
    let word = std::str::from_utf8(word).ok()?;
    let with_port = || word.parse().map(|address: SocketAddr| address.ip());
    let bare = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).unwrap_or(word);
    bare.parse().or_else(|_| with_port()).ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(values: &[&str]) -> String {
        let mut named = Vec::new();
        values.iter().for_each(|value| add(&mut named, value.as_bytes()));
        named.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_chain_is_read_from_its_end_as_far_as_it_is_one() {
        let cases: &[(&[&str], &str)] = &[
            (&["192.0.2.7"], "192.0.2.7"),
            (&["192.0.2.7, 10.0.0.1"], "10.0.0.1 192.0.2.7"),
            (&["192.0.2.7,10.0.0.1 , 10.0.0.2"], "10.0.0.2 10.0.0.1 192.0.2.7"),
            (&["unknown, 10.0.0.1"], "10.0.0.1"),
            (&["192.0.2.7, unknown"], ""),
            (
                &["192.0.2.7:4711", "[2001:db8::7]:80", "[2001:db8::8]", "2001:db8::9"],
                "192.0.2.7 2001:db8::7 2001:db8::8 2001:db8::9",
            ),
            (&["::ffff:192.0.2.7", "192.0.2.7"], "192.0.2.7"),
            (
                &["1.1.1.1, 2.2.2.2, 3.3.3.3, 4.4.4.4, 5.5.5.5, 6.6.6.6"],
                "6.6.6.6 5.5.5.5 4.4.4.4 1.1.1.1",
            ),
            (&["for=192.0.2.7"], ""),
            (&["", " , ", "gzip, deflate", "close", "1234", "192.0.2", "Chrome/1.2.3.4"], ""),
        ];
        for (values, wanted) in cases {
            assert_eq!(named(values), *wanted, "{values:?}");
        }
    }
}
