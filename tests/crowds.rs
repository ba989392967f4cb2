// SPDX-License-Identifier: GPL-2.0-or-later
//! Storms that are worked out instead of played, so that they come again: processes that wake up, take
//! what has come since, number it and write about it, as nginx's event loop does. One client, two
//! URIs, two upstreams, and hundreds of connections at a time, so that only orders tell them apart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout)]

mod support;

use std::collections::{BTreeMap, VecDeque};

use rstdiag::session::{Session, When};
use support::builder::{Capture, Talk};
use support::random::Random;

const CONNECTIONS: usize = 1500;
/// Milliseconds within which they all come.
const LASTS: usize = 10_000;
/// The first port of clients, and of nginx towards its upstreams.
const CLIENTS: usize = 20_000;
const UPSTREAMS: usize = 40_000;

/// What processes are like.
struct Kind {
    processes: usize,
    /// Most milliseconds that one takes before it looks again.
    slow: usize,
    /// What nine of ten ask for is one of so many.
    uris: usize,
    /// Each has a listening socket of its own.
    reuseport: bool,
    /// Of a hundred clients, those that do not take what nginx has for them at once.
    stalled: usize,
}

/// One client, and what becomes of its request.
struct Client {
    comes: usize,
    ends: usize,
    uri: usize,
    /// The upstream that resets in the middle of its response; else the client does.
    upstream: Option<usize>,
}

/// What a process is to do.
#[derive(Clone, Copy)]
enum Event {
    Ask(usize),
    End(usize),
}

/// A line, and the port of the connection that it is about.
struct Line {
    text: String,
    about: usize,
}

fn clients(kind: &Kind, random: &mut Random) -> Vec<Client> {
    let mut comes: Vec<usize> = (0..CONNECTIONS).map(|_| random.below(LASTS)).collect();
    comes.sort_unstable();
    let client = |comes| Client {
        comes,
        ends: comes + 20 + kind.slow + random.below(400),
        uri: if random.below(10) == 0 { kind.uris + comes } else { random.below(kind.uris) },
        upstream: (random.below(2) == 0).then(|| random.below(2)),
    };
    comes.into_iter().map(client).collect()
}

/// What the processes write.
fn lines(kind: &Kind, clients: &[Client], random: &mut Random) -> Vec<Line> {
    let mut coming = clients.iter().enumerate().peekable();
    let mut wakes: Vec<usize> = (0..kind.processes).map(|_| random.below(kind.slow)).collect();
    let mut queues = vec![VecDeque::new(); kind.processes];
    let mut waiting: Vec<BTreeMap<(usize, usize), Event>> =
        vec![BTreeMap::new(); kind.processes];
    let (mut numbers, mut counter) = (vec![0; clients.len()], 0);
    let mut lines = Vec::new();
    while lines.len() < clients.len() {
        // Who wakes up next.
        let process = (0..kind.processes).min_by_key(|&process| wakes[process]).unwrap();
        let now = wakes[process];
        wakes[process] = now + 1 + random.below(kind.slow);
        while let Some((at, _)) = coming.next_if(|(_, client)| client.comes <= now) {
            let socket = if kind.reuseport { random.below(kind.processes) } else { 0 };
            queues[socket].push_back(at);
        }
        let socket = if kind.reuseport { process } else { 0 };
        while let Some(at) = queues[socket].pop_front() {
            counter += 1;
            numbers[at] = counter;
            waiting[process].insert((now + 1, at), Event::Ask(at));
        }
        while let Some(first) = waiting[process].first_entry().filter(|it| it.key().0 <= now) {
            match first.remove() {
                Event::Ask(at) => {
                    counter += usize::from(clients[at].upstream.is_some());
                    let stalls =
                        clients[at].upstream.is_some() && random.below(100) < kind.stalled;
                    let late = if stalls { 100 + random.below(300) } else { 0 };
                    waiting[process].insert((clients[at].ends + late, at), Event::End(at));
                }
                Event::End(at) => {
                    lines.push(line(&clients[at], at, now, [process, numbers[at]]));
                }
            }
        }
    }
    lines
}

fn line(client: &Client, at: usize, now: usize, [process, number]: [usize; 2]) -> Line {
    let (level, action, upstream, about) = match client.upstream {
        Some(host) => (
            "error",
            "while reading upstream",
            format!(", upstream: \"http://10.0.1.{host}:8080/{}\"", client.uri),
            UPSTREAMS + at,
        ),
        None => ("info", "while sending response to client", String::new(), CLIENTS + at),
    };
    let text = format!(
        "2024/01/01 00:00:{:02} [{level}] {pid}#{pid}: *{number} recv() failed (104: Connection \
         reset by peer) {action}, client: 10.0.0.1, server: h, request: \"GET /{} HTTP/1.1\"\
         {upstream}, host: \"h\"\n",
        now / 1000,
        client.uri,
        pid = 7 + process,
    );
    Line { text, about }
}

/// What is on the wire: the request is asked for until it ends, by a RST of the client, or of the
/// upstream and then nginx's FIN.
fn capture(clients: &[Client]) -> Capture {
    let mut capture = Capture::default();
    let mut play = |port: usize, ends: [&str; 2], comes: usize, script: &str| {
        let mut talk = Talk::between(&format!("{}:{port}", ends[0]), ends[1]);
        talk.start += comes as i64 * 1_000_000;
        capture.play(&talk, script);
    };
    for (at, client) in clients.iter().enumerate() {
        let Client { comes, ends, uri, upstream } = client;
        let until = |last| (ends - comes - last) as f64 / 1000.0;
        let begun = format!("open\nc GET:/{uri}\ns .\ns 200:10 x*4\nc .\n");
        let client = match upstream {
            None => format!("{begun}c R. +{:.3}", until(6)),
            Some(_) => format!("{begun}s F. +{:.3}\nc F.\ns .", until(5)),
        };
        play(CLIENTS + at, ["10.0.0.1", "10.0.0.2:80"], *comes, &client);
        if let Some(host) = upstream {
            let script = format!("{begun}s R. +{:.3}", until(9));
            let server = format!("10.0.1.{host}:8080");
            play(UPSTREAMS + at, ["10.0.0.2", &server], comes + 3, &script);
        }
    }
    capture
}

/// Of all entries, and of those about upstreams: how many there are, how many are claimed, and how many
/// of these claims are right.
fn judged(kind: &Kind, seed: u64) -> [[usize; 3]; 2] {
    let mut random = Random::new(seed);
    let clients = clients(kind, &mut random);
    let lines = lines(kind, &clients, &mut random);
    let mut session = Session::new();
    session.set_time_zone("UTC").unwrap();
    session.begin_error_log("error.log");
    let text: String = lines.iter().map(|line| line.text.as_str()).collect();
    session.log_bytes(text.as_bytes());
    session.end_log().unwrap();
    support::feed(&mut session, &capture(&clients).frames(), |_, _| ());
    let mut tallies = [[0; 3]; 2];
    for line in &lines {
        tallies[0][0] += 1;
        tallies[1][0] += usize::from(line.about >= UPSTREAMS);
    }
    for stream in session.streams().collect::<Vec<_>>() {
        let verdict = session.verdict_of(stream, When::Final).unwrap();
        let port = usize::from(verdict.client().port);
        for (entry, _) in verdict.entries().filter(|(_, found)| found.score >= 60) {
            let about = lines[entry.line as usize - 1].about;
            let is_upstream = usize::from(about >= UPSTREAMS);
            for tally in &mut tallies[..=is_upstream] {
                tally[1] += 1;
                tally[2] += usize::from(about == port);
            }
        }
    }
    tallies
}

/// Of what is claimed, 999 of 1000 are right, and of that about upstreams 995; and at least so many of
/// a hundred are claimed.
fn expect(kind: &Kind, seeds: u64, wanted: [usize; 2]) {
    let mut sums = [[0; 3]; 2];
    for seed in 1..=seeds {
        let tallies = judged(kind, seed).into_iter().flatten();
        sums.iter_mut().flatten().zip(tallies).for_each(|(sum, tally)| *sum += tally);
    }
    println!("entries, claims, right, of all and of upstreams: {sums:?}");
    for (([entries, claimed, right], wanted), wrong) in sums.into_iter().zip(wanted).zip([1, 5])
    {
        assert!((claimed - right) * 1000 <= claimed * wrong, "{sums:?}");
        assert!(claimed * 100 >= entries * wanted, "{sums:?}");
    }
}

#[test]
fn one_process() {
    let kind = Kind { processes: 1, slow: 5, uris: 2, reuseport: false, stalled: 0 };
    expect(&kind, 2, [80, 70]);
}

#[test]
fn slow_processes_with_one_queue() {
    let kind = Kind { processes: 3, slow: 40, uris: 2, reuseport: false, stalled: 0 };
    expect(&kind, 2, [60, 40]);
}

#[test]
fn slow_processes_with_sockets_of_their_own() {
    let kind = Kind { processes: 4, slow: 40, uris: 20, reuseport: true, stalled: 0 };
    expect(&kind, 2, [85, 80]);
}

/// Lines about what clients do not take are late, so that lines tell less of when others were due.
#[test]
fn clients_that_stall() {
    let kind = Kind { processes: 4, slow: 40, uris: 20, reuseport: true, stalled: 10 };
    expect(&kind, 8, [52, 18]);
    let kind = Kind { processes: 2, slow: 20, uris: 2, reuseport: false, stalled: 30 };
    expect(&kind, 4, [0, 0]);
}
