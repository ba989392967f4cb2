// SPDX-License-Identifier: GPL-2.0-or-later
//! `docs/causes.md` is what the table of causes yields, with examples of the kept recording.
//!
//! `RSTDIAG_BLESS=1 cargo test --no-default-features --test manual` writes it anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fmt::Write;
use std::path::Path;

use rstdiag::correlate::cause::{Row, Sign, ROWS};
use rstdiag::correlate::verdict::Verdict;
use rstdiag::session::{Session, When};

const INTRODUCTION: &str = "\
<!-- SPDX-License-Identifier: GPL-2.0-or-later -->
<!-- Made by tests/manual.rs from src/correlate/cause.rs. RSTDIAG_BLESS=1 writes it anew. -->

# Why connections end

`rstdiag.cause` names the likely cause of an end, if the packets single one out. It is there only
if all that a cause needs is seen, nothing that contradicts it is, and no other cause fits.
**No cause is an answer, too:** then the packets are not enough. `rstdiag.evidence` says with
frames and values what a cause rests on, and `rstdiag.advice` what to do next.

Two things to know before you blame somebody:

- A RST *bears an address*; that is not yet who sent it. Boxes on the way reset in both names.
- The side that resets is often not the side at fault. A **passive** RST is a host's answer to a
  segment that came too late: ask why the *other* side sent it. An **active** RST is a socket
  that was alive and gave up.

Where the severity is not given, it follows from what was lost; see `rstdiag.severity`. The
examples are from `tests/data/causes`: real kernels and a real nginx, captured at both ends.
`client.pcap` and `server.pcap` can show different causes for one event, because each shows only
what its end could know. `http2.pcap` holds HTTP/2 in the clear and failed TLS handshakes, captured
at nginx.
";

/// A stream of the recording that shows a row.
struct Example {
    capture: &'static str,
    stream: u32,
    text: String,
}

impl Example {
    fn of(capture: &'static str, stream: u32, verdict: &Verdict<'_>) -> Option<(usize, Self)> {
        let cause = verdict.cause()?;
        let row = ROWS.iter().position(|row| std::ptr::eq(row, cause.row))?;
        let mut text = format!("summary:  {}\n", verdict.summary());
        let _ = writeln!(text, "severity: {}", verdict.severity().word());
        for seen in cause.evidence {
            let _ = writeln!(text, "evidence: {seen}");
        }
        Some((row, Example { capture, stream, text }))
    }
}

/// The first example of each row, at the client if it is to be seen there.
fn examples() -> Vec<Option<Example>> {
    let mut examples: Vec<_> = ROWS.iter().map(|_| None).collect();
    for capture in ["client.pcap", "server.pcap", "http2.pcap"] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/causes");
        let mut session = Session::new();
        support::replay(&mut session, &dir.join(capture));
        for stream in session.streams().collect::<Vec<_>>() {
            let verdict = session.verdict_of(stream, When::Final).unwrap();
            if let Some((row, example)) = Example::of(capture, stream, &verdict) {
                examples[row].get_or_insert(example);
            }
        }
    }
    examples
}

/// The words of the table, each once.
fn words() -> Vec<&'static str> {
    let mut words: Vec<_> = ROWS.iter().map(|row| row.word).collect();
    words.sort_unstable();
    words.dedup();
    words
}

fn list(out: &mut String, title: &str, signs: &[Sign]) {
    if !signs.is_empty() {
        let _ = writeln!(out, "\n{title}\n");
        signs.iter().for_each(|sign| {
            let _ = writeln!(out, "- {}", sign.words());
        });
    }
}

fn section(out: &mut String, row: &Row, example: Option<&Example>) {
    let _ = writeln!(out, "\n**{}**", row.sentence);
    let _ = writeln!(out, "\n*What to do:* {}", row.advice);
    list(out, "Claimed if all of this is seen:", row.needs);
    list(out, "and none of this:", row.not);
    if let Some(other) = row.or {
        let _ = writeln!(out, "\nThe same packets can mean [`{other}`](#{other}).");
    }
    if row.harmless {
        let _ = writeln!(out, "\nSeverity: `harmless`.");
    }
    if let Some(Example { capture, stream, text }) = example {
        let _ = writeln!(
            out,
            "\nExample: `tests/data/causes/{capture}`, `tcp.stream == {stream}`:"
        );
        let _ = writeln!(out, "\n```\n{text}```");
    }
}

fn manual() -> String {
    let examples = examples();
    let mut out = INTRODUCTION.to_owned();
    out.push_str("\n| cause | in short |\n|---|---|\n");
    for word in words() {
        let row = ROWS.iter().find(|row| row.word == word).unwrap();
        let _ = writeln!(out, "| [`{word}`](#{word}) | {} |", row.sentence);
    }
    for word in words() {
        let _ = writeln!(out, "\n## `{word}`");
        let _ = writeln!(out, "\nFilter: `rstdiag.cause == \"{word}\"`");
        for (row, example) in ROWS.iter().zip(&examples).filter(|(row, _)| row.word == word) {
            section(&mut out, row, example.as_ref());
        }
    }
    out
}

#[test]
fn the_manual_of_causes_is_what_the_table_yields() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/causes.md");
    let wanted = manual();
    if std::env::var_os("RSTDIAG_BLESS").is_some() {
        return std::fs::write(&path, wanted).unwrap();
    }
    let shown = std::fs::read_to_string(&path).unwrap_or_default();
    let line = wanted.lines().zip(shown.lines()).position(|(wanted, shown)| wanted != shown);
    assert!(
        shown == wanted,
        "docs/causes.md differs from line {:?} on; write it anew with RSTDIAG_BLESS=1",
        line.map(|line| line + 1)
    );
}

#[test]
fn every_cause_has_an_example_or_is_named_by_another_row() {
    let examples = examples();
    for word in words() {
        let shown = ROWS.iter().zip(&examples).any(|(r, e)| r.word == word && e.is_some());
        let named = ROWS.iter().any(|row| row.or == Some(word));
        assert!(shown || named, "{word}: no example in the recording");
    }
}

#[test]
fn a_cause_that_is_named_for_another_is_a_cause_of_the_table() {
    for other in ROWS.iter().filter_map(|row| row.or) {
        assert!(words().contains(&other), "{other}");
    }
}
