// SPDX-License-Identifier: GPL-2.0-or-later
//! What a client writes into nginx's log, or says of another client, draws no entry to that one's
//! stream (`lab/forging.py`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod support;

use std::collections::BTreeSet;

use rstdiag::nginx::message::Leg;
use rstdiag::session::{Session, When};
use support::lab;

/// The number that a request has to itself.
fn number(request: &str) -> Option<&str> {
    request.split("?n=").nth(1)?.split(' ').next()
}

#[test]
fn nothing_that_a_client_forges_is_shown_on_another_clients_stream() {
    // At nginx's default level, and where it logs what became of clients as well.
    for level in ["error", "info"] {
        let Some(dir) = lab::recorded("forging", &["--level", level]) else { return };
        let log = std::fs::read_to_string(dir.join("error.log")).unwrap();
        let lines: Vec<&str> = log.lines().collect();
        let is_forged = |line: u64| lines[line as usize - 1].contains(" 9#9: ");
        assert!((1..=lines.len() as u64).filter(|&line| is_forged(line)).count() > 20);
        let mut session = Session::new();
        session.set_time_zone("UTC").unwrap();
        support::read_log(&mut session, &dir.join("error.log"));
        support::replay(&mut session, &dir.join("capture.pcap"));
        let (mut found, mut wrong) = (BTreeSet::new(), Vec::new());
        for stream in session.streams().collect::<Vec<_>>() {
            let verdict = session.verdict_of(stream, When::Final).unwrap();
            let client = verdict.client().addr.unwrap().to_string();
            for (entry, matched) in verdict.entries().filter(|(_, matched)| matched.score >= 60)
            {
                let parts = entry.parts().unwrap();
                let text = |part: Option<&[u8]>| {
                    part.map(|part| String::from_utf8_lossy(part).into_owned())
                };
                let is_own = match matched.leg {
                    Leg::Client => {
                        let idle = String::from_utf8_lossy(parts.message).into_owned();
                        let idle = idle.split(' ').nth(1).map(str::to_owned);
                        text(parts.client).or(idle) == Some(client.clone())
                    }
                    _ => {
                        let (asked, passed) = (text(parts.request), verdict.request());
                        asked.as_deref().and_then(number) == passed.and_then(number)
                    }
                };
                if is_forged(entry.line) || !is_own {
                    let raw = String::from_utf8_lossy(&entry.raw).into_owned();
                    wrong.push(format!("{stream} of {client}: {} {raw}", matched.score));
                }
                found.insert(entry.line);
            }
        }
        assert!(wrong.is_empty(), "{level}, {}:\n{}", dir.display(), wrong.join("\n"));
        // What is nginx's own is found, of clients and of attackers.
        let ends =
            [" while reading response header from upstream, ", " closed keepalive ", "epoll"];
        let own = (1..=lines.len() as u64).filter(|&line| {
            let text = lines[line as usize - 1];
            !is_forged(line)
                && text.starts_with("20")
                && ends.iter().any(|end| text.contains(end))
                && !text.contains(" open() ")
        });
        let own: BTreeSet<u64> = own.collect();
        let missed: Vec<_> = own.difference(&found).collect();
        println!(
            "{level}: {} of {} found, not {missed:?}",
            own.len() - missed.len(),
            own.len()
        );
        assert!(
            own.len() >= 8 && 10 * missed.len() <= 3 * own.len(),
            "{}: {missed:?}",
            dir.display()
        );
    }
}
