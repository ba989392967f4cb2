// SPDX-License-Identifier: GPL-2.0-or-later
//! On which streams an entry is shown, of random connections and lines that are alike: one that may be
//! about several on each of them, with as many rivals as there are others; one whose stream the
//! capture lacks on none, whatever else fits it; and one whose number another one's connection has as
//! well, in another nginx, on its own.

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

/// What a capture and a log are like.
struct Kind {
    /// Of so many connections, the capture lacks one.
    lacks: usize,
    /// Of so many entries, the log lacks one.
    silent: usize,
    uris: usize,
    processes: usize,
    /// Several nginx behind one load balancer, whose processes and connections have equal numbers.
    servers: usize,
    /// Those of them that the capture shows.
    captured: usize,
    /// The first of them that the log is of.
    log_from: usize,
    /// So many connections at least, within so many milliseconds.
    least: (usize, usize),
    /// Addresses in the log of the clients.
    logged: fn(usize) -> String,
}

/// One nginx with one process, of which all is captured and logged.
const WHOLE: Kind = Kind {
    lacks: usize::MAX,
    silent: usize::MAX,
    uris: 2,
    processes: 1,
    servers: 1,
    captured: 1,
    log_from: 0,
    least: FEW,
    logged: client,
};

/// The address of a client.
fn client(number: usize) -> String {
    format!("192.168.0.{}", 10 + number)
}

struct Played {
    capture: Capture,
    lines: Vec<String>,
    /// Of each line the number of its connection.
    numbers: Vec<usize>,
}

const PORTS: usize = 40_000;
const FEW: (usize, usize) = (2, 20_000);

/// A few connections within some seconds, and lines about them.
fn play(kind: &Kind, random: &mut Random) -> Played {
    let (mut capture, mut lines) = (Capture::default(), Vec::new());
    let clients = 1 + random.below(3);
    let (least, longest) = kind.least;
    let spread = [50, 500, 3000, longest][random.below(4)].max(longest / 400);
    let mut begins: Vec<usize> =
        (0..least + random.below(10)).map(|_| random.below(spread)).collect();
    begins.sort_unstable();
    let mut accepted = vec![0; kind.servers];
    for (number, after) in (1..).zip(begins) {
        let host = random.below(clients);
        let server = random.below(kind.servers);
        accepted[server] += 1;
        let accepted = accepted[server];
        let uri = format!("/{}", random.below(kind.uris));
        let (script, message) = STORIES[random.below(STORIES.len())];
        if random.below(kind.lacks) > 0 && server < kind.captured {
            let end = format!("{}:{}", client(host), PORTS + number);
            let mut talk = Talk::between(&end, &format!("10.0.0.{}:80", 2 + server));
            talk.start += after as i64 * 1_000_000;
            capture.play(&talk, &script.replace("{uri}", &uri));
        }
        if random.below(kind.silent) > 0 && server >= kind.log_from {
            let at = after + 103;
            let (second, pid) = (at / 1000, 7 + random.below(kind.processes));
            let message =
                message.replace("{client}", &(kind.logged)(host)).replace("{uri}", &uri);
            let line = format!(
                "2024/01/01 00:00:{second:02} [info] {pid}#{pid}: *{accepted} {message}\n"
            );
            lines.push((at, number, line));
        }
    }
    lines.sort();
    let numbers = lines.iter().map(|line| line.1).collect();
    Played { capture, lines: lines.into_iter().map(|line| line.2).collect(), numbers }
}

/// Where a line is shown.
#[derive(Debug)]
struct Place {
    number: usize,
    rivals: u32,
    score: u8,
}

impl Played {
    /// A session that has read the log.
    fn session(&self) -> Session {
        let mut session = Session::new();
        session.set_time_zone("UTC").unwrap();
        session.begin_error_log("error.log");
        session.log_bytes(self.lines.concat().as_bytes());
        session.end_log().unwrap();
        session
    }
}

/// Of each line the connections that it is shown on.
fn places(played: &Played) -> BTreeMap<u64, Vec<Place>> {
    let mut session = played.session();
    support::feed(&mut session, &played.capture.frames(), |_, _| ());
    let mut places: BTreeMap<u64, Vec<Place>> = BTreeMap::new();
    for stream in session.streams().collect::<Vec<_>>() {
        let verdict = session.verdict_of(stream, When::Final).unwrap();
        let number = usize::from(verdict.client().port) - PORTS;
        for (entry, found) in verdict.entries() {
            let place = Place { number, rivals: found.open_rivals(), score: found.score };
            places.entry(entry.line).or_default().push(place);
        }
    }
    places
}

/// How many claims are right in so many rounds, and which are not.
fn claims(kind: &Kind, rounds: usize) -> (usize, Vec<String>) {
    let mut random = Random::new(1);
    let (mut right, mut wrong) = (0, Vec::new());
    for round in 0..rounds {
        let played = play(kind, &mut random);
        for (line, places) in places(&played) {
            let number = played.numbers[line as usize - 1];
            for place in places.into_iter().filter(|place| place.score >= 60) {
                match place.number == number {
                    true => right += 1,
                    false => wrong.push(format!("round {round}, line {line}: {place:?}")),
                }
            }
        }
    }
    (right, wrong)
}

#[test]
fn an_entry_has_as_many_rivals_as_it_has_other_places() {
    let kind = Kind { lacks: 5, silent: 5, processes: 2, ..WHOLE };
    let mut random = Random::new(1);
    let (mut decided, mut open) = (0, 0);
    for round in 0..1500 {
        let played = play(&kind, &mut random);
        if played.lines.is_empty() {
            continue;
        }
        for (line, places) in places(&played) {
            let others = places.len() as u32 - 1;
            let agree = |place: &Place| {
                place.rivals == others && (place.rivals == 0 || place.score < 60)
            };
            let text = played.lines.concat();
            assert!(places.iter().all(agree), "round {round}, line {line}: {places:?}\n{text}");
            *if others == 0 { &mut decided } else { &mut open } += 1;
        }
    }
    assert!(decided > 2000 && open > 200, "{decided} decided and {open} open");
}

#[test]
fn an_entry_whose_stream_is_missing_is_shown_on_no_other() {
    let translated = |number| match number {
        0 => client(number),
        _ => "203.0.113.5".to_owned(),
    };
    // Half of what is missing are streams of clients whose addresses are translated.
    for logged in [client, translated] {
        let kind = Kind { lacks: 2, uris: 8, logged, ..WHOLE };
        let (right, wrong) = claims(&kind, 1500);
        assert!(right > 1000 && wrong.len() * 1000 <= right, "{right} right, but {wrong:#?}");
    }
}

/// Whether a line is shown with such a score on a connection.
fn is_claimed(places: &BTreeMap<u64, Vec<Place>>, line: u64, number: usize, score: u8) -> bool {
    let of = places.get(&line).into_iter().flatten();
    of.into_iter().any(|place| place.number == number && place.score >= score)
}

/// A stream that is yet to come may be the one that an entry is about, which has been read before.
#[test]
fn one_pass_claims_nothing_that_a_later_stream_takes_back() {
    let kind = WHOLE;
    let mut random = Random::new(1);
    let (mut claimed, mut taken_back) = (0, Vec::new());
    for round in 0..250 {
        let played = play(&kind, &mut random);
        let mut session = played.session();
        let mut claims: BTreeMap<(u64, usize), u8> = BTreeMap::new();
        support::feed(&mut session, &played.capture.frames(), |session, frame| {
            let verdict = session.verdict(frame, 0, When::SoFar).unwrap();
            let number = usize::from(verdict.client().port) - PORTS;
            for (entry, found) in verdict.entries().filter(|(_, found)| found.score >= 60) {
                let highest = claims.entry((entry.line, number)).or_default();
                *highest = found.score.max(*highest);
            }
        });
        let last = places(&played);
        claimed += claims.len();
        for ((line, number), score) in claims {
            if !is_claimed(&last, line, number, 60) {
                assert!(score < 90, "round {round}, line {line}: {score} for {number}");
                taken_back.push((round, line, number, score));
            }
        }
    }
    assert!(claimed > 800 && taken_back.len() * 100 <= claimed, "{claimed}: {taken_back:?}");
}

/// Two nginx whose processes and connections have the same numbers, as in containers: their logs are
/// one, and the capture shows the connections of both, or of one.
#[test]
fn what_two_servers_number_alike_are_different_connections() {
    for captured in [1, 2] {
        let kind = Kind { uris: 8, servers: 2, captured, ..WHOLE };
        let (right, wrong) = claims(&kind, 700);
        // Two connections that ended alike in one second are not told from one.
        assert!(right > 1000 && wrong.len() * 200 <= right, "{right} right, but {wrong:#?}");
    }
}

/// The log is of one of them, and the capture of the other one: what fits does so by chance.
#[test]
fn the_log_of_another_server_is_about_none_of_the_streams() {
    let kind = Kind { uris: 100, servers: 2, log_from: 1, least: (60, 50_000), ..WHOLE };
    let (right, wrong) = claims(&kind, 60);
    assert!(right == 0 && wrong.is_empty(), "{wrong:#?}");
}
