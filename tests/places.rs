// SPDX-License-Identifier: GPL-2.0-or-later
//! An entry that may be about several streams is shown on each of them, with as many rivals as there
//! are others: of random connections and lines, which are alike.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;

use rstdiag::session::{Session, When};
use support::builder::{Capture, Talk};
use support::random::Random;

/// How clients end, and what nginx writes about it.
const STORIES: [(&str, &str); 5] = [
    (
        "open\nc R. +0.1",
        "recv() failed (104: Connection reset by peer) while waiting for request, client: {client}, \
         server: 0.0.0.0:80",
    ),
    (
        "open\nc GET:{uri}\ns .\nc R. +0.1",
        "recv() failed (104: Connection reset by peer) while sending response to client, client: \
         {client}, server: h, request: \"GET {uri} HTTP/1.1\", host: \"h\"",
    ),
    (
        "open\nc GET:{uri}\ns 200:10 x*10\nc .\nc R. +0.1",
        "client {client} closed keepalive connection (104: Connection reset by peer)",
    ),
    (
        "open\nc GET:{uri}\ns 200:10 x*10\nc .\nc F. +0.1\ns F.\nc .",
        "client {client} closed keepalive connection",
    ),
    (
        "open\nc GET:{uri}\ns .\nc F. +0.1\ns F.\nc .",
        "client prematurely closed connection while sending response to client, client: {client}, \
         server: h, request: \"GET {uri} HTTP/1.1\", host: \"h\"",
    ),
];

/// A few connections within a few seconds, some of which the capture lacks, and lines about some of
/// them.
fn play(random: &mut Random) -> (Capture, Vec<String>) {
    let (mut capture, mut lines) = (Capture::default(), Vec::new());
    let clients = 1 + random.below(2);
    let spread = [50, 500, 3000][random.below(3)];
    let mut begins: Vec<usize> =
        (0..2 + random.below(10)).map(|_| random.below(spread)).collect();
    begins.sort_unstable();
    for (number, after) in (1..).zip(begins) {
        let client = format!("10.0.0.{}", 10 + random.below(clients));
        let uri = ["/a", "/b"][random.below(2)];
        let (script, message) = STORIES[random.below(STORIES.len())];
        let fill = |text: &str| text.replace("{client}", &client).replace("{uri}", uri);
        if random.below(5) > 0 {
            let end = format!("{client}:{}", 40_000 + number);
            let mut talk = Talk::between(&end, "10.0.0.2:80");
            talk.start += after as i64 * 1_000_000;
            capture.play(&talk, &fill(script));
        }
        if random.below(5) > 0 {
            let (second, pid) = ((after + 100) / 1000, 7 + random.below(2));
            let message = fill(message);
            lines.push(format!(
                "2024/01/01 00:00:{second:02} [info] {pid}#{pid}: *{number} {message}\n"
            ));
        }
    }
    lines.sort();
    (capture, lines)
}

/// Of each line the streams that it is shown on, with its rivals there.
fn places(capture: &Capture, lines: &[String]) -> BTreeMap<u64, Vec<(u32, u32)>> {
    let mut session = Session::new();
    session.set_time_zone("UTC").unwrap();
    session.begin_error_log("error.log");
    session.log_bytes(lines.concat().as_bytes());
    session.end_log().unwrap();
    support::feed(&mut session, &capture.frames(), |_, _| ());
    let mut places: BTreeMap<u64, Vec<(u32, u32)>> = BTreeMap::new();
    for stream in session.streams().collect::<Vec<_>>() {
        for (entry, found) in session.verdict_of(stream, When::Final).unwrap().entries() {
            assert!(found.open_rivals() == 0 || found.score < 60, "{found:?}");
            places.entry(entry.line).or_default().push((stream, found.open_rivals()));
        }
    }
    places
}

#[test]
fn an_entry_has_as_many_rivals_as_it_has_other_places() {
    let mut random = Random::new(1);
    let (mut decided, mut open) = (0, 0);
    for round in 0..1500 {
        let (capture, lines) = play(&mut random);
        if lines.is_empty() {
            continue;
        }
        for (line, places) in places(&capture, &lines) {
            let others = places.len() as u32 - 1;
            let agree = places.iter().all(|&(_, rivals)| rivals == others);
            assert!(agree, "round {round}, line {line}: {places:?}\n{}", lines.concat());
            *if others == 0 { &mut decided } else { &mut open } += 1;
        }
    }
    assert!(decided > 2000 && open > 200, "{decided} decided and {open} open");
}
