// SPDX-License-Identifier: GPL-2.0-or-later
//! What a client can send to make little cost much.

use rstdiag::session::{Session, When};

use crate::memory;
use crate::support;
use crate::support::builder::{Capture, Frame, Talk};

/// Streams of HTTP/2 that are open at the same time.
const OPEN: usize = 256;

/// A connection on which a client sends these bytes, and then more, which the capture lacks, and a
/// RST: how things stood before that is kept, too.
pub fn upload(bytes: &[u8]) -> Vec<Frame> {
    let mut script = "open\n".to_owned();
    for piece in bytes.chunks(1400) {
        let digits = piece.iter().map(|byte| format!("{byte:02x}"));
        script.push_str(&format!("c hex:{}\n", digits.collect::<String>()));
    }
    script.push_str("c x*10 drop\ns .\nc R.");
    Capture::of(&Talk::default(), &script).frames()
}

/// A session that was fed with these frames.
pub fn replay(frames: &[Frame]) -> Session {
    let mut session = Session::new();
    support::feed(&mut session, frames, |_, _| ());
    assert!(session.verdict_of(0, When::Final).is_some_and(|v| v.resets().is_some()));
    session
}

/// The most bytes that are in use at a time for each byte that a client sends, beside what a session
/// takes without any.
pub fn amplification(bytes: &[u8]) -> f64 {
    let most = |bytes: &[u8]| {
        let frames = upload(bytes);
        let [_, most] = memory::taken(|| replay(&frames));
        most as f64
    };
    (most(bytes) - most(b"")) / bytes.len() as f64
}

/// A connection of HTTP/2 with many open streams whose requests are these long paths by turns: each
/// is sent once, and then a byte stands for it.
pub fn requests(paths: &[Vec<u8>]) -> Vec<u8> {
    let blocks = (0..OPEN).map(|number| match paths.get(number) {
        Some(path) => [GET, PATH, &string(path)].concat(),
        None => [GET, &[newest(paths.len() - 1 - number % paths.len())]].concat(),
    });
    conversation(blocks)
}

/// A connection of HTTP/2 with a path and a list of clients of 30 KB each, for which a byte stands in
/// every later request.
pub fn references(count: usize) -> Vec<u8> {
    let path = [&b"/"[..], &[b'a'; 30_000]].concat();
    let clients = "192.0.2.1, ".repeat(30_000 / 11) + "192.0.2.2";
    let name = string(b"x-forwarded-for");
    let fields = [GET, PATH, &string(&path), &[0x40], &name, &string(clients.as_bytes())];
    // No block unpacks to more than what is taken of one.
    let again = [GET, &[newest(1)], &[newest(0); 6]].concat();
    conversation([fields.concat()].into_iter().chain(std::iter::repeat_n(again, count)))
}

const GET: &[u8] = &[0x82];
/// A path that enters the table.
const PATH: &[u8] = &[0x44];

/// The byte for the field that entered the table so many ones before the newest.
fn newest(before: usize) -> u8 {
    0x80 | (62 + before as u8)
}

/// A string as it is; it is longer than 127 bytes, or else its length is a byte (RFC 7541, section
/// 5.1).
fn string(text: &[u8]) -> Vec<u8> {
    let mut string = Vec::new();
    match text.len().checked_sub(127) {
        None => string.push(text.len() as u8),
        Some(mut more) => {
            string.push(127);
            while more >= 128 {
                string.push(128 | (more % 128) as u8);
                more /= 128;
            }
            string.push(more as u8);
        }
    }
    [&string, text].concat()
}

/// A client's HTTP/2, with a request of each header block.
fn conversation(blocks: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    const LONGEST: usize = 1 << 14;
    let mut sent = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, b"")].concat();
    for (number, block) in blocks.enumerate() {
        // The table of fields may have 64 KiB.
        let larger: &[u8] = if number == 0 { &[0x3f, 0xe1, 0xff, 0x03] } else { &[] };
        let (block, stream) = ([larger, &block].concat(), 2 * number as u32 + 1);
        let last = block.len().div_ceil(LONGEST) - 1;
        for (index, part) in block.chunks(LONGEST).enumerate() {
            let kind = if index == 0 { 1 } else { 9 };
            let ends_block = if index == last { 4 } else { 0 };
            let ends_stream = if index == 0 { 1 } else { 0 };
            sent.extend(frame(kind, ends_block | ends_stream, stream, part));
        }
    }
    sent
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    [&length, &[kind, flags][..], &stream.to_be_bytes(), payload].concat()
}
