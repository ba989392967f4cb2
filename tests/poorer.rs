// SPDX-License-Identifier: GPL-2.0-or-later
//! A poorer capture says less, never something else.
//!
//! Every recording of the repository, and every script of `tests/data/streams`, is made poorer:
//! filtered to SYN, FIN and RST, cut, doubled, and thinned out and shuffled. What is then said of
//! a stream is held against what the whole capture says of it; [`LESS`] tells for each field what
//! counts as less. All randomness comes from fixed seeds, so a failure comes again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rstdiag::session::{Session, When};
use support::builder::{Capture, Frame, Talk};
use support::cases;
use support::fields;

/// What a field of a poorer capture may say, if not the same.
#[derive(Clone, Copy, Debug)]
enum Less {
    /// This word, and nothing else.
    Word(&'static str),
    /// Nothing.
    Absent,
    /// Nothing, or a smaller number.
    Fewer,
    /// Nothing, or a longer time: the last data before it may be missing.
    Longer,
    /// Nothing, or the beginning of it.
    Part,
    /// Anything: it is about the capture, not about the connection.
    Any,
}

use Less::{Absent, Any, Fewer, Longer, Part, Word};

/// Each field, and what counts as less. A field that is not named must stay the same.
const LESS: &[(&str, Less)] = &[
    ("phase", Word("unknown")),
    ("stage", Word("unknown")),
    ("transaction", Word("unknown")),
    ("severity", Word("warning")),
    ("close", Word("unknown")),
    ("close.by", Absent),
    ("close.frame", Absent),
    ("close.piggybacked", Absent),
    ("reset.text", Part),
    ("idle", Longer),
    ("requests", Fewer),
    ("responses", Fewer),
    ("request", Absent),
    ("status", Absent),
    ("acked", Absent),
    ("missing", Absent),
    ("caveats", Any),
    ("nginx_sees", Absent),
    ("form", Word("unclear")),
    ("answers", Absent),
    ("cause", Absent),
    ("lines", Absent),
];

/// What leaves no trace where it is not in the capture: fields (all, if none is named) of which
/// scripts, made poorer in which way, and why.
const UNTRACED: &[(&str, &str, &[&str], &str)] = &[
    (
        FILTERED,
        "loses patience does not",
        &[],
        "a message rides on the FIN, those before are gone",
    ),
    (CUT, "a log of requests", &[], "what tells its lines from those of HTTP is cut"),
    (FILTERED, "a download is reset", &[], "one RST does not tell that an ACK came before"),
    (FILTERED, "a RST in the", &[], "that a RST had no effect is seen by what follows it"),
    (FILTERED, "a RST without effect", &[], "that is seen by what follows it"),
    (FILTERED, "long acknowledged", &[], "that a RST has no effect is seen by ACKs before it"),
    (FILTERED, "far beyond any window", &[], "the window is told by what is sent in it"),
    (FILTERED, "answers an older segment", &[], "ACKs tell which segment is older"),
    (FILTERED, "two passive RSTs", &[], "what is held twice tells that copies are made"),
    (FILTERED, "a health check", &[], "one RST alone does not tell that an ACK came before it"),
    (FILTERED, "health_check: a single", &[], "one RST does not tell that an ACK came before"),
    (
        FILTERED,
        "unsolicited 408",
        &["status"],
        "a message rides on the FIN, those before are gone",
    ),
    (FILTERED, "told apart late", &[], "the message that tells the sides apart is gone"),
    (
        DOUBLED,
        "only the refusal",
        &["reset.count"],
        "without identification a copy has no mark",
    ),
    (CUT, "told apart late", &[], "the message that tells the sides apart is cut"),
    (CUT, "that are no frames", &["requests", "responses"], "the bytes that are none are cut"),
    (CUT, "chunked beside a length", &[], "what stands beside a length, which no server sends"),
    (
        CUT,
        "the length of a response stands in front of the cut",
        &["phase", "stage", "cause"],
        "what stalls for so long looks like what is done, where the length is cut, too",
    ),
];

const FILTERED: &str = "filtered";
const CUT: &str = "cut";
const DOUBLED: &str = "doubled";

type Fields = BTreeMap<&'static str, String>;

/// A capture, and where each of its frames stands in the whole one.
#[derive(Clone)]
struct Poor {
    frames: Vec<Frame>,
    origin: Vec<usize>,
}

impl Poor {
    fn whole(frames: &[Frame]) -> Poor {
        Poor { frames: frames.to_vec(), origin: (0..frames.len()).collect() }
    }

    fn of(whole: &[Frame], origin: Vec<usize>) -> Poor {
        Poor { frames: origin.iter().map(|&at| whole[at].clone()).collect(), origin }
    }
}

/// Where a capture comes from.
struct Source {
    name: String,
    frames: Vec<Frame>,
    log: Option<PathBuf>,
}

fn sources() -> Vec<Source> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let recorded = |path: &str, log: Option<&str>| Source {
        name: path.to_owned(),
        frames: support::frames_of(&data.join(path)),
        log: log.map(|log| data.join(log)),
    };
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (article, log) = support::article::files(directory);
    let mut all = vec![
        recorded("sample/sample.pcap", Some("sample/error.log")),
        recorded("causes/client.pcap", None),
        recorded("causes/server.pcap", None),
        recorded("causes/http2.pcap", None),
        Source { name: "article".into(), frames: support::frames_of(&article), log: Some(log) },
    ];
    all.extend(cases::all().into_iter().map(|case| Source {
        frames: Capture::of(&Talk::default(), &case.script).frames(),
        name: case.name,
        log: None,
    }));
    all
}

/// Offset of the TCP header in a frame of Ethernet, whichever version of IP follows.
fn tcp_at(frame: &Frame) -> usize {
    match frame.bytes[14] >> 4 {
        4 => 14 + usize::from(frame.bytes[14] & 15) * 4,
        _ => 14 + 40,
    }
}

fn flags(frame: &Frame) -> u8 {
    frame.bytes.get(tcp_at(frame) + 13).copied().unwrap_or_default()
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;

fn is_end(frame: &Frame) -> bool {
    flags(frame) & (SYN | FIN | RST) != 0
}

/// What is said of each stream, by its number in the whole capture.
fn said(source: &Source, poor: &Poor, streams: &[Option<u32>]) -> BTreeMap<u32, Fields> {
    let mut session = Session::new();
    if let Some(log) = &source.log {
        session.set_time_zone(zone(&source.name)).unwrap();
        support::read_log(&mut session, log);
    }
    support::feed(&mut session, &poor.frames, |_, _| ());
    let mut out = BTreeMap::new();
    let mut known = BTreeSet::new();
    for (number, &at) in (1..).zip(&poor.origin) {
        let Some(frame) = session.frame(number, 0) else { continue };
        if !known.insert(frame.stream) {
            continue;
        }
        let verdict = session.verdict_of(frame.stream, When::Final).unwrap();
        let mut fields = fields::of_stream(&verdict);
        fields.extend(fields::of_origin(&verdict));
        let lines: Vec<_> = verdict
            .entries()
            .filter(|(_, found)| found.certain)
            .map(|(entry, _)| entry.line.to_string())
            .collect();
        if !lines.is_empty() {
            fields.insert("lines", lines.join(","));
        }
        for name in ["close.frame", "reset.frame", "answers"] {
            if let Some(value) = fields.get_mut(name) {
                let frame: usize = value.parse().unwrap();
                *value = poor.origin[frame - 1].to_string();
            }
        }
        let summary = verdict.summary();
        assert!(!is_negative(&summary), "{}: {summary}", source.name);
        fields.insert("summary", summary);
        out.insert(streams.get(at).copied().flatten().unwrap_or(frame.stream), fields);
    }
    out
}

/// A length of time in a sentence is negative.
fn is_negative(sentence: &str) -> bool {
    let words: Vec<_> = sentence.split([' ', ',', ';', '(']).collect();
    words.windows(2).any(|pair| {
        let number = pair[0].strip_prefix('-').is_some_and(|n| n.parse::<f64>().is_ok());
        number && ["us", "ms", "s"].contains(&pair[1])
    })
}

fn zone(name: &str) -> &'static str {
    match name {
        "article" => support::article::ZONE,
        _ => "UTC",
    }
}

/// By frame of the whole capture: its stream.
fn streams_of(frames: &[Frame]) -> Vec<Option<u32>> {
    let mut session = Session::new();
    let mut streams = vec![None; frames.len()];
    support::feed(&mut session, frames, |session, frame| {
        streams[frame as usize - 1] = session.frame(frame, 0).map(|info| info.stream);
    });
    streams
}

fn is_less(less: Option<Less>, whole: Option<&str>, poor: Option<&str>) -> bool {
    let number = |text: Option<&str>| {
        text.and_then(|text| text.trim_end_matches("ms").parse::<i64>().ok())
    };
    match less {
        _ if whole == poor => true,
        None => false,
        Some(Word(word)) => poor.is_none_or(|poor| poor == word),
        Some(Absent) => poor.is_none(),
        Some(Fewer) => poor.is_none() || number(poor) < number(whole),
        Some(Longer) => poor.is_none() || number(poor) > number(whole),
        Some(Part) => poor.zip(whole).is_none_or(|(poor, whole)| whole.starts_with(poor)),
        Some(Any) => true,
    }
}

/// What a poorer capture says otherwise than the whole one.
fn contradictions(source: &Source, how: &str, make: impl Fn(&[Frame]) -> Poor) -> Vec<String> {
    let streams = streams_of(&source.frames);
    let whole = said(source, &Poor::whole(&source.frames), &streams);
    let poor = make(&source.frames);
    // IPv6 has no identification, so a copy of a RST has no mark.
    let unmarked = how == DOUBLED && source.frames[0].bytes[14] >> 4 == 6;
    let untraced = |name: &str, whole: &Fields| {
        let has = |name| whole.contains_key(name);
        unmarked && name == "reset.count"
            // The filter explains the numbers by which a FIN is told that is lost besides; of a
            // connection without any end it leaves the handshake.
            || how == FILTERED
                && !has("close.frame")
                && (name.starts_with("close") || !has("reset.frame"))
            || UNTRACED.iter().any(|(way, case, fields, _)| {
                *way == how
                    && source.name.contains(case)
                    && (fields.is_empty() || fields.contains(&name))
            })
    };
    let mut out = Vec::new();
    for (number, poor) in said(source, &poor, &streams) {
        let Some(whole) = whole.get(&number) else { continue };
        let names: BTreeSet<_> = whole.keys().chain(poor.keys()).copied().collect();
        for name in names.into_iter().filter(|&name| name != "summary") {
            let values = [whole, &poor].map(|fields| fields.get(name).map(String::as_str));
            let less = LESS.iter().find(|row| row.0 == name).map(|row| row.1);
            if !is_less(less, values[0], values[1]) && !untraced(name, whole) {
                out.push(format!(
                    "{} {number}: {name} {:?} became {:?}\n    {}\n    {}",
                    source.name, values[0], values[1], whole["summary"], poor["summary"]
                ));
            }
        }
    }
    out
}

fn check(how: &str, make: impl Fn(&[Frame]) -> Poor) {
    let found: Vec<_> =
        sources().iter().flat_map(|source| contradictions(source, how, &make)).collect();
    assert!(found.is_empty(), "{how}: {} contradictions\n{}", found.len(), found.join("\n"));
}

#[test]
fn a_capture_of_ends_alone_contradicts_nothing() {
    check(FILTERED, |frames| {
        Poor::of(frames, (0..frames.len()).filter(|&at| is_end(&frames[at])).collect())
    });
}

#[test]
fn cut_frames_contradict_nothing() {
    for snaplen in [54, 64, 96, 256] {
        check(CUT, |frames| {
            let mut poor = Poor::whole(frames);
            for frame in &mut poor.frames {
                frame.bytes.truncate(snaplen);
            }
            poor
        });
    }
}

#[test]
fn frames_twice_contradict_nothing() {
    check(DOUBLED, |frames| Poor::of(frames, (0..2 * frames.len()).map(|at| at / 2).collect()));
}
