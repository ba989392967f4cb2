// SPDX-License-Identifier: GPL-2.0-or-later
//! A poorer capture says less, never something else.
//!
//! Every recording of the repository, and every script of `tests/data/streams`, is made poorer:
//! filtered to SYN, FIN and RST, cut, doubled, and thinned out and shuffled. What is then said of
//! a stream is held against what the whole capture says of it; [`LESS`] tells for each field what
//! counts as less. All randomness comes from fixed seeds, so a failure comes again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rstdiag::session::{Session, When};
use rstdiag::tcp::segment::Segment;
use support::builder::{Capture, Frame, Talk};
use support::cases;
use support::fields;
use support::random::Random;

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
    (FILTERED, "order: ", &[], "what tells that others are moved is gone"),
    (LOSSY, "order: ", &[], "what tells that others are moved is gone"),
    (LOSSY, "a damaged number", &[], "what puts the number right is gone"),
    (
        SHUFFLED,
        "TCP fast open",
        &[],
        "a SYN-ACK that acknowledges data looks as if the SYN came earlier",
    ),
    (SHUFFLED, "port reuse", &[], "the SYN tells which connection a RST meant"),
    (
        SHUFFLED,
        "takes nothing back",
        &["close.by", "close.frame"],
        "the number of the FIN is no number of its connection",
    ),
    (
        SHUFFLED,
        "unsolicited 408",
        &["acked", "missing", "status"],
        "that it answers nothing is told by what stands before it",
    ),
    (
        SHUFFLED,
        "comes again with the data before it",
        &["close.piggybacked"],
        "which of two FINs of one number came first is told by the order",
    ),
    (SHUFFLED, "simultaneous open", &[], "the first SYN tells which side is the client"),
    (SHUFFLED, "a damaged number", &["form"], "what puts the number right stands behind it"),
    (
        SHUFFLED,
        "a record is not in the capture",
        &["requests"],
        "where nobody acknowledges what is lost, the request is known to be whole",
    ),
    (
        DOUBLED,
        "only the refusal",
        &["reset.count"],
        "without identification a copy has no mark",
    ),
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
const LOSSY: &str = "lossy";
const SHUFFLED: &str = "shuffled";

/// Fields, when they may differ, and why.
type Untold = (&'static [&'static str], fn(&Told<'_>) -> bool, &'static str);

/// What is not told by numbers, whichever script it is of. Which frames may be lost without a trace
/// is decided by [`leaves_no_trace`].
const UNTOLD: &[Untold] = &[
    (&["idle"], |told| told.dealt, "the time stamp of another frame tells no length of time"),
    (
        &["reset.by", "reset.frame"],
        |told| told.dealt && told.resets > 1,
        "which of several RSTs was sent first is not told by their numbers",
    ),
    (
        &["phase"],
        |told| told.dealt && told.goes_on_behind_reset,
        "what a RST cut is told by what stands behind it, and so is that it had no effect",
    ),
    (
        &["reset.count", "reset.frame"],
        |told| told.how == SHUFFLED && told.has_copies,
        "a copy without identification is known by what it stands behind",
    ),
    (
        &["reset.count"],
        |told| told.how == DOUBLED && told.is_unmarked,
        "IPv6 has no identification, so a copy of a RST has no mark",
    ),
    (
        &[],
        |told| {
            let differ = told.poor.get("client") != told.whole.get("client");
            differ && told.has("mid_stream")
        },
        "without a SYN the ports tell the sides, until a message does, which is gone",
    ),
    (
        &[],
        |told| told.how == FILTERED && told.is_open(),
        "of an open connection only the handshake is left",
    ),
    (
        &["close", "close.by", "close.frame", "close.piggybacked"],
        |told| {
            let explains = told.shows_only_ends || told.has("one_sided");
            explains && (told.is_thinned() || !told.is_closed())
        },
        "a filter explains the numbers by which a FIN is told that is lost besides",
    ),
    (
        &[],
        |told| told.how == FILTERED && told.goes_on_behind_reset,
        "that a RST had no effect is seen by what follows it",
    ),
    (
        &["close", "close.by"],
        |told| told.is_thinned() && told.lacks_behind_reset,
        "that a RST had no effect is seen by what follows it",
    ),
    (
        &[],
        |told| told.is_thinned() && told.lacks_rebirth,
        "what begins a connection anew on the same ports is gone",
    ),
    (
        &["severity"],
        |told| told.is_thinned() && told.has("one_sided"),
        "where one direction is missing, nobody expects its FIN",
    ),
    (
        &["responses"],
        |told| told.is_thinned() && !told.whole.contains_key("responses"),
        "a response that is whole counts, whatever it answers",
    ),
];

/// What is known of a stream whose fields are compared.
struct Told<'a> {
    how: &'static str,
    /// Time stamps are dealt anew.
    dealt: bool,
    whole: &'a Fields,
    poor: &'a Fields,
    /// Its packets have no identification.
    is_unmarked: bool,
    /// RSTs of it in the whole capture.
    resets: usize,
    /// Frames of it are held twice.
    has_copies: bool,
    /// Nothing but SYN, FIN and RST is left of it.
    shows_only_ends: bool,
    /// Something else than those stands behind a RST.
    goes_on_behind_reset: bool,
    /// And some of that is lost.
    lacks_behind_reset: bool,
    /// Even a SYN.
    lacks_rebirth: bool,
}

impl Told<'_> {
    /// Frames may be lost.
    fn is_thinned(&self) -> bool {
        [LOSSY, SHUFFLED].contains(&self.how)
    }

    fn has(&self, caveat: &str) -> bool {
        self.poor.get("caveats").is_some_and(|all| all.contains(caveat))
    }

    /// The whole capture tells which end is the first.
    fn is_closed(&self) -> bool {
        self.whole.contains_key("close.frame")
    }

    fn is_open(&self) -> bool {
        !self.is_closed() && !self.whole.contains_key("reset.frame")
    }

    fn is_untold(&self, field: &str) -> bool {
        let is_about = |fields: &[&str]| fields.is_empty() || fields.contains(&field);
        UNTOLD.iter().any(|(fields, when, _)| is_about(fields) && when(self))
    }
}

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
    /// What went over the wire, which the script of a poor capture tells as well.
    wire: Vec<Frame>,
    /// Its script makes it poorer otherwise than by leaving frames out.
    is_reduced: bool,
    /// Its script brings frames in another order than that in which they were sent.
    is_shuffled: bool,
    log: Option<PathBuf>,
}

/// A capture that is made poorer.
struct Trial {
    /// The whole one.
    full: Poor,
    /// That of a connection on which nothing was sent that leaves no trace in the poorer one.
    whole: Poor,
    poor: Poor,
    /// Time stamps are dealt anew.
    dealt: bool,
}

impl Trial {
    fn of(frames: &[Frame], poor: Poor) -> Trial {
        Trial { full: Poor::whole(frames), whole: Poor::whole(frames), poor, dealt: false }
    }
}

fn sources() -> Vec<Source> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let recorded = |name: &str, path: &Path, log: Option<PathBuf>| {
        let frames = support::frames_of(path);
        let wire = frames.clone();
        let name = name.to_owned();
        Source { name, wire, frames, is_reduced: false, is_shuffled: false, log }
    };
    let kept = |path: &str, log: Option<&str>| {
        recorded(path, &data.join(path), log.map(|log| data.join(log)))
    };
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (article, log) = support::article::files(directory);
    let mut all = vec![
        kept("sample/sample.pcap", Some("sample/error.log")),
        kept("causes/client.pcap", None),
        kept("causes/server.pcap", None),
        kept("causes/http2.pcap", None),
        recorded("article", &article, Some(log)),
    ];
    let play = |script: &str| Capture::of(&Talk::default(), script).frames();
    all.extend(cases::all().into_iter().map(|case| Source {
        frames: play(&case.script),
        wire: play(&on_the_wire(&case.script)),
        is_reduced: ["snaplen", "filtered"].iter().any(|word| case.script.contains(word)),
        is_shuffled: ["late=", "stamp="].iter().any(|word| case.script.contains(word)),
        name: case.name,
        log: None,
    }));
    all
}

/// The script of what went over the wire: with what its capture lacks, though it arrived.
fn on_the_wire(script: &str) -> String {
    let wire = |line: &str| match line.contains(" lost") {
        true => format!("{line}\n"),
        false => line.replace(" drop", "") + "\n",
    };
    script.lines().map(wire).collect()
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
    // Of a frame and its copies, each tells the same.
    let first_of = |at: usize| {
        let all = &source.wire[..at];
        let copy = all.iter().position(|frame| frame.bytes == source.wire[at].bytes);
        copy.unwrap_or(at)
    };
    let mut session = Session::new();
    if let Some(log) = &source.log {
        session.set_time_zone(zone(&source.name)).unwrap();
        support::read_log(&mut session, log);
    }
    support::feed(&mut session, &poor.frames, |_, _| ());
    let mut out = BTreeMap::new();
    let (mut known, mut mixed) = (BTreeMap::new(), BTreeSet::new());
    let mut numbers = BTreeMap::new();
    for (number, &at) in (1..).zip(&poor.origin) {
        let Some(frame) = session.frame(number, 0) else { continue };
        let stream = streams.get(at).copied().flatten().unwrap_or(frame.stream);
        // What is one may be two where the SYN comes late.
        if numbers.insert(stream, frame.stream).is_some_and(|other| other != frame.stream) {
            mixed.insert(stream);
        }
        if let Some(first) = known.insert(frame.stream, stream) {
            if first != stream {
                mixed.extend([first, stream]);
            }
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
                *value = first_of(poor.origin[frame - 1]).to_string();
            }
        }
        let summary = verdict.summary();
        assert!(!is_negative(&summary), "{}: {summary}", source.name);
        fields.insert("summary", summary);
        out.insert(stream, fields);
    }
    // Where the SYN of one is lost, two connections of the same ports are one stream.
    out.retain(|stream, _| !mixed.contains(stream));
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
fn contradictions(source: &Source, how: &'static str, trial: &Trial) -> Vec<String> {
    let frames = &trial.full.frames;
    let streams = streams_of(frames);
    let segments = support::segments_of(frames);
    let full = OnceCell::new();
    let whole = said(source, &trial.whole, &streams);
    let mut out = Vec::new();
    for (number, poor) in said(source, &trial.poor, &streams) {
        let Some(whole) = whole.get(&number) else { continue };
        let of_stream: Vec<usize> =
            (0..frames.len()).filter(|&at| streams[at] == Some(number)).collect();
        let shown: Vec<usize> = (trial.poor.origin.iter().copied())
            .filter(|&at| streams[at] == Some(number))
            .collect();
        // Else it is as well the capture of a connection on which they were sent in this order.
        if trial.dealt && moved(&segments, &shown).is_subset(&moved(&segments, &of_stream)) {
            continue;
        }
        let held = |at: &&usize| trial.poor.origin.contains(*at);
        let reset = of_stream.iter().position(|&at| flags(&frames[at]) & RST != 0);
        let behind = reset.map_or(&[][..], |reset| &of_stream[reset + 1..]);
        let told = Told {
            how,
            dealt: trial.dealt,
            whole,
            poor: &poor,
            is_unmarked: segments[of_stream[0]].as_ref().is_some_and(|s| s.ip_id.is_none()),
            resets: of_stream.iter().filter(|&&at| flags(&frames[at]) & RST != 0).count(),
            has_copies: of_stream
                .windows(2)
                .any(|pair| frames[pair[0]].bytes == frames[pair[1]].bytes),
            shows_only_ends: of_stream.iter().filter(held).all(|&at| is_end(&frames[at])),
            goes_on_behind_reset: behind.iter().any(|&at| !is_end(&frames[at])),
            lacks_behind_reset: behind.iter().any(|at| !held(&at)),
            lacks_rebirth: behind.iter().any(|at| !held(&at) && flags(&frames[*at]) & SYN != 0),
        };
        let untraced = |name: &str| {
            told.is_untold(name)
                || UNTRACED.iter().any(|(way, case, fields, _)| {
                    *way == how
                        && source.name.contains(case)
                        && (fields.is_empty() || fields.contains(&name))
                })
        };
        let names: BTreeSet<_> = whole.keys().chain(poor.keys()).copied().collect();
        for name in names.into_iter().filter(|&name| name != "summary") {
            let values = [whole, &poor].map(|fields| fields.get(name).map(String::as_str));
            let less = LESS.iter().find(|row| row.0 == name).map(|row| row.1);
            if is_less(less, values[0], values[1]) || untraced(name) {
                continue;
            }
            let full = full.get_or_init(|| said(source, &trial.full, &streams));
            if full.get(&number).and_then(|full| full.get(name)) != poor.get(name) {
                out.push(format!(
                    "{} {number}: {name} {:?} became {:?}\n    {}\n    {}",
                    source.name, values[0], values[1], whole["summary"], poor["summary"]
                ));
            }
        }
    }
    out
}

fn check(how: &'static str, make: impl Fn(&Source) -> Option<Trial>) {
    let of = |source: &Source| {
        make(source).map_or_else(Vec::new, |trial| contradictions(source, how, &trial))
    };
    let found: Vec<_> = sources().iter().flat_map(of).collect();
    assert!(found.is_empty(), "{how}: {} contradictions\n{}", found.len(), found.join("\n"));
}

#[test]
fn a_capture_of_ends_alone_contradicts_nothing() {
    check(FILTERED, |Source { frames, .. }| {
        let ends = (0..frames.len()).filter(|&at| is_end(&frames[at])).collect();
        Some(Trial::of(frames, Poor::of(frames, ends)))
    });
}

#[test]
fn cut_frames_contradict_nothing() {
    for snaplen in [54, 64, 96, 256] {
        check(CUT, |Source { frames, .. }| {
            let mut poor = Poor::whole(frames);
            for frame in &mut poor.frames {
                frame.bytes.truncate(snaplen);
            }
            Some(Trial::of(frames, poor))
        });
    }
}

#[test]
fn frames_twice_contradict_nothing() {
    check(DOUBLED, |Source { frames, .. }| {
        let twice = (0..2 * frames.len()).map(|at| at / 2).collect();
        Some(Trial::of(frames, Poor::of(frames, twice)))
    });
}

// ---- Lost frames ---------------------------------------------------------------------------

/// Every this many frames, one is not in the capture: 8 %.
const PERCENT_LOST: usize = 8;

const SEEDS: u64 = 16;

#[test]
fn lost_frames_contradict_nothing() {
    for seed in 0..SEEDS {
        // By its name, so that another source changes nothing for those that there are.
        check(LOSSY, |source| {
            let is_whole = !source.is_reduced;
            is_whole.then(|| lossy(source, &mut Random::named(&source.name, seed)))
        });
    }
}

fn lossy(source: &Source, random: &mut Random) -> Trial {
    let wire = &source.wire;
    let mut held = captured(source);
    for frame in &mut held {
        if random.below(100) < PERCENT_LOST {
            *frame = None;
        }
    }
    let kept: Vec<bool> = held.iter().map(Option::is_some).collect();
    let segments = support::segments_of(wire);
    let (untraced, late) = (leaves_no_trace(&segments, &kept), told_late(&segments, &kept));
    let mut order: Vec<usize> = (0..wire.len()).filter(|&at| !untraced[at]).collect();
    order.sort_by_key(|&at| (late[at].unwrap_or(at), late[at].is_some()));
    let mut whole = Poor::of(wire, order);
    for (frame, &at) in whole.frames.iter_mut().zip(&whole.origin) {
        frame.time = wire[late[at].unwrap_or(at)].time;
    }
    let origin = (0..wire.len()).filter(|&at| kept[at]).collect();
    let poor = Poor { frames: held.into_iter().flatten().collect(), origin };
    Trial { full: Poor::whole(wire), whole, poor, dealt: false }
}

/// By frame of the wire: what the capture holds of it.
fn captured(source: &Source) -> Vec<Option<Frame>> {
    let mut held = source.frames.iter().peekable();
    let of = |wire: &Frame| {
        held.next_if(|frame| frame.time == wire.time && frame.bytes == wire.bytes).cloned()
    };
    let found: Vec<_> = source.wire.iter().map(of).collect();
    assert!(source.is_reduced || held.next().is_none(), "{}", source.name);
    found
}

/// Lost frames that leave no trace in what is kept, by what they are:
///
/// | frame | why |
/// |---|---|
/// | a RST | it takes up no number |
/// | an ACK without data, that of the handshake included | neither does it: a client may abort in place of it |
/// | a copy of what is kept | it says nothing new |
/// | data or a FIN that is not acknowledged, and no number without data stands behind it | it may have been lost on its way, or never sent |
/// | what stands before all that is seen of its side | where the numbers of that side begin is not known |
/// | a FIN with a number before that of data | it is no FIN of its connection |
///
/// The poorer capture is as well that of a connection on which they were never sent.
fn leaves_no_trace(segments: &[Option<Segment<'_>>], kept: &[bool]) -> Vec<bool> {
    let held: Vec<_> = segments.iter().zip(kept).filter(|(_, kept)| **kept).collect();
    let untraced = |lost: &Segment<'_>| {
        let seen = held.iter().filter_map(|(seen, _)| seen.as_ref());
        let of_stream = seen.filter(|seen| seen.stream == lost.stream);
        let (own, peers): (Vec<&Segment<'_>>, Vec<_>) =
            of_stream.partition(|seen| seen.src == lost.src);
        let (start, end) = (lost.tcp.seq, lost.tcp.seq.wrapping_add(lost.payload_len));
        let ahead = |number: u32| is_ahead(number, start);
        let acks = peers.iter().filter(|seen| seen.tcp.ack_flag);
        let is_known = own.iter().any(|seen| !seen.tcp.rst && !ahead(seen.tcp.seq))
            || acks.clone().any(|seen| !seen.tcp.rst && !ahead(seen.tcp.ack));
        let is_told = acks.clone().any(|seen| ahead(seen.tcp.ack))
            || own.iter().any(|seen| seen.payload_len == 0 && ahead(seen.tcp.seq));
        let is_copied = own.iter().any(|seen| {
            seen.tcp.seq == start
                && seen.payload_len >= lost.payload_len
                && [seen.tcp.syn, seen.tcp.fin, seen.tcp.rst]
                    == [lost.tcp.syn, lost.tcp.fin, false]
        });
        let is_misplaced = own.iter().any(|seen| {
            is_ahead(seen.tcp.seq.wrapping_add(seen.payload_len), end) && seen.payload_len > 0
        });
        let takes_up = lost.payload_len > 0 || lost.tcp.syn || lost.tcp.fin;
        lost.tcp.rst
            || !takes_up
            || is_copied
            || lost.tcp.fin && is_misplaced
            || !(is_known && is_told)
    };
    let is_lost = |(segment, kept): (&Option<Segment<'_>>, &bool)| {
        !kept && segment.as_ref().is_none_or(untraced)
    };
    segments.iter().zip(kept).map(is_lost).collect()
}

/// Whether a number lies ahead of another one, within what a RST may lie ahead of its side.
fn is_ahead(number: u32, of: u32) -> bool {
    (1..=16 << 20).contains(&number.wrapping_sub(of))
}

/// Lost FINs, and the first end that is seen: where no number by then tells of the FIN, nor does any
/// tell which of the two came first. The poorer capture is as well that of a connection on which
/// the FIN came later.
fn told_late(segments: &[Option<Segment<'_>>], kept: &[bool]) -> Vec<Option<usize>> {
    let held = || segments.iter().zip(kept).enumerate().filter(|(_, (_, kept))| **kept);
    let seen = || held().filter_map(|(at, (segment, _))| Some((at, segment.as_ref()?)));
    let late = |at: usize, lost: &Segment<'_>| {
        let of_stream = || seen().filter(|(_, seen)| seen.stream == lost.stream);
        let (end, _) = of_stream().find(|(_, seen)| seen.tcp.fin || seen.tcp.rst)?;
        let fin = lost.tcp.seq.wrapping_add(lost.payload_len);
        let is_told = |seen: &Segment<'_>| match seen.src == lost.src {
            true => is_ahead(seen.tcp.seq, fin),
            false => seen.tcp.ack_flag && is_ahead(seen.tcp.ack, fin),
        };
        let told = of_stream().any(|(at, seen)| at <= end && is_told(seen));
        (!told && end > at).then_some(end)
    };
    let of = |(at, (segment, kept)): (usize, (&Option<Segment<'_>>, &bool))| {
        let lost = segment.as_ref().filter(|lost| !kept && lost.tcp.fin)?;
        late(at, lost)
    };
    segments.iter().zip(kept).enumerate().map(of).collect()
}

// ---- Frames in another order ---------------------------------------------------------------

/// How frames come to stand elsewhere than they were sent. Each keeps its time stamp, or these are
/// dealt anew, in the order of the capture: then only numbers tell.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// One in eight changes places with the next.
    Neighbours,
    /// One in eight stands up to four places further on.
    Places,
}

const SHUFFLES: u64 = 4;

/// What deals time stamps anew holds a frame back for so many nanoseconds at most.
const HELD_BACK: i64 = 4_000_000;

/// Where frames of these times stand now.
fn order(way: Way, times: &[i64], dealt: bool, random: &mut Random) -> Vec<usize> {
    let mut key = |at: usize| {
        let places = match way {
            Way::Neighbours if random.below(8) == 0 => 1,
            Way::Places if random.below(8) == 0 => 1 + random.below(4),
            Way::Neighbours | Way::Places => 0,
        };
        let is_near = |place: &usize| {
            !dealt || times.get(*place).is_some_and(|time| time - times[at] <= HELD_BACK)
        };
        match (at + 1..=at + places).take_while(is_near).last() {
            Some(place) => 2 * place + 1,
            None => 2 * at,
        }
    };
    let mut order: Vec<_> = (0..times.len()).map(|at| (key(at), at)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, at)| at).collect()
}

fn shuffled(poor: &Poor, way: Way, dealt: bool, random: &mut Random) -> Poor {
    let mut times: Vec<_> = poor.frames.iter().map(|frame| frame.time).collect();
    let order = order(way, &times, dealt, random);
    let mut frames: Vec<Frame> = order.iter().map(|&at| poor.frames[at].clone()).collect();
    if dealt {
        times.sort_unstable();
        for (frame, time) in frames.iter_mut().zip(times) {
            frame.time = time;
        }
    }
    Poor { frames, origin: order.iter().map(|&at| poor.origin[at]).collect() }
}

#[test]
fn frames_in_another_order_contradict_nothing() {
    for way in [Way::Neighbours, Way::Places] {
        for (dealt, thinned) in [(false, false), (false, true), (true, false), (true, true)] {
            for seed in 0..SHUFFLES {
                check(SHUFFLED, |source| {
                    let is_told = !source.is_reduced && !source.is_shuffled;
                    let mut random = Random::named(&source.name, seed);
                    is_told.then(|| shuffle(source, way, dealt, thinned, &mut random))
                });
            }
        }
    }
}

fn shuffle(
    source: &Source,
    way: Way,
    dealt: bool,
    thinned: bool,
    random: &mut Random,
) -> Trial {
    let trial = match thinned {
        true => lossy(source, random),
        false => Trial::of(&source.frames, Poor::whole(&source.frames)),
    };
    let poor = shuffled(&trial.poor, way, dealt, random);
    Trial { poor, dealt, ..trial }
}

/// Frames of a stream, of which numbers tell that the second was sent before the first.
fn moved(segments: &[Option<Segment<'_>>], shown: &[usize]) -> BTreeSet<(usize, usize)> {
    let seen: Vec<_> =
        shown.iter().filter_map(|&at| Some((at, segments[at].as_ref()?))).collect();
    let end = |seen: &Segment<'_>| {
        let flags = u32::from(seen.tcp.syn) + u32::from(seen.tcp.fin);
        seen.tcp.seq.wrapping_add(seen.payload_len + flags)
    };
    let acks =
        |seen: &Segment<'_>| (seen.tcp.ack_flag && !seen.tcp.rst).then_some(seen.tcp.ack);
    let mut moved = BTreeSet::new();
    for (place, &(at, this)) in seen.iter().enumerate() {
        let own = || seen[..place].iter().filter(|(_, other)| other.src == this.src);
        let takes_up = end(this) != this.tcp.seq && !this.tcp.rst;
        let is_new = !own()
            .any(|(_, other)| other.tcp.seq == this.tcp.seq && end(other) != other.tcp.seq);
        let is_copy =
            own().any(|(_, other)| other.tcp.seq == this.tcp.seq && acks(other) == acks(this));
        for &(before, other) in &seen[..place] {
            let is_moved = match other.src == this.src {
                true => {
                    let goes_back =
                        acks(other).zip(acks(this)).is_some_and(|(a, b)| is_ahead(a, b));
                    goes_back && !is_copy
                }
                false => {
                    let is_acked = |ack: u32| ack.wrapping_sub(end(this)) < 16 << 20;
                    takes_up && is_new && acks(other).is_some_and(is_acked)
                }
            };
            if is_moved {
                moved.insert((before, at));
            }
        }
    }
    moved
}
