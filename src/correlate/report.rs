// SPDX-License-Identifier: GPL-2.0-or-later
//! The report in words: what was reset and how bad that is, which entry belongs to what, and
//! why the rest belongs to nothing.
//!
//! A report is a plan of parts: a few bytes for each stream and entry that it lists. Their
//! lines are written one part at a time, so that the report of a large capture takes no more
//! memory than the capture does.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use crate::correlate::cause::Row;
use crate::correlate::coverage::{is_outside, span_of_errors, Span};
use crate::correlate::events::stream_request;
use crate::correlate::matcher::Match;
use crate::correlate::reasons::{self, EntryFacts, Reason, StreamFacts};
use crate::correlate::store::{is_access, Entry, Kept, Parts, Store, Traits, Variable};
use crate::correlate::verdict::{Severity, Verdict};
use crate::limits;
use crate::nginx::access_reader::AccessCounts;
use crate::nginx::error_log;
use crate::nginx::message::{Leg, Shows};
use crate::nginx::reader::Counts;
use crate::tcp::phase::Phase;
use crate::tcp::segment::Endpoint;
use crate::tcp::stream::{Side, Stream};
use crate::time::{CaptureTime, SECOND};

/// Columns of a line, beyond which sentences are wrapped.
const WIDTH: usize = 96;

/// Rivals of an entry that are named; the others are counted.
const RIVALS: usize = 8;

/// What stands for a cause where the packets do not single one out.
const NO_CAUSE: &str = "no single cause";

/// A log that was read.
#[derive(Clone, Debug)]
pub struct LogFile {
    /// Its path, as the user gave it.
    pub path: String,
    /// What it held.
    pub held: Held,
}

/// What a log held.
#[derive(Clone, Copy, Debug)]
pub enum Held {
    /// An error log.
    Errors(Counts),
    /// An access log.
    Accesses(AccessCounts),
}

impl LogFile {
    /// What it held, if it is an error log.
    fn errors(&self) -> Option<&Counts> {
        match &self.held {
            Held::Errors(counts) => Some(counts),
            Held::Accesses(_) => None,
        }
    }
}

/// What a report is about, besides the streams.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The entries.
    pub store: &'a Store,
    /// The logs that hold them.
    pub logs: &'a [LogFile],
    /// Nanoseconds that entry and packet may lie apart beyond the log's resolution.
    pub window: i64,
    /// Times of the first segment and of the last one.
    pub span: Option<Span>,
}

/// One part of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// These lines.
    Text(Vec<String>),
    /// A stream with a RST, and why no entry is about it for certain, if none is.
    Reset(u32, Option<&'static Reason>),
    /// An entry that is about a stream, and its score.
    Matched(u32, u32, u8),
    /// An entry that is about no stream for certain, why not, and those that it may be about.
    Unmatched(u32, &'static Reason, Candidates),
}

/// Streams that an entry may be about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// Those on which it is shown.
    pub shown: Vec<u32>,
    /// All of them.
    pub count: usize,
}

/// A report: its parts, in order.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The parts.
    pub parts: Vec<Part>,
}

/// What is needed of all streams, gathered while they pass by one by one.
#[derive(Debug, Default)]
pub struct Gathering {
    streams: usize,
    resets: Vec<Reset>,
    claims: Vec<Claim>,
    /// Addresses that matched entries show to be nginx's.
    nginx: HashSet<IpAddr>,
    /// Who took part in any stream.
    peers: HashSet<Peer>,
    /// When the first stream without an end began, by peer and request.
    endless: HashMap<(Peer, Asked), CaptureTime>,
}

/// An entry that is about a stream, or may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    entry: u32,
    stream: u32,
    /// Only if it is certain.
    score: Option<u8>,
    rivals: u32,
}

/// A stream with a RST.
#[derive(Debug)]
struct Reset {
    stream: u32,
    severity: Severity,
    cause: Option<&'static Row>,
    by: Side,
    phase: Phase,
    at: CaptureTime,
    ends: [Option<IpAddr>; 2],
    leg: Option<Leg>,
    has_entry: bool,
    facts: StreamFacts,
}

/// The far side of one of nginx's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Peer {
    Client(IpAddr),
    Upstream(Endpoint),
}

/// What was asked for: anything, or this request where it is readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Asked {
    Anything,
    Request(Option<u64>),
}

impl Gathering {
    /// Takes the final verdict on a stream.
    pub fn add(&mut self, number: u32, verdict: &Verdict<'_>) {
        self.streams += 1;
        let ends = [verdict.client(), verdict.server()];
        let (mut has_entry, mut has_rivals) = (false, false);
        let (logged, _) = verdict.matched(usize::MAX);
        for found in logged {
            self.claims.push(Claim {
                entry: found.entry,
                stream: number,
                score: found.certain.then_some(found.score),
                rivals: found.open_rivals(),
            });
            has_entry |= found.certain;
            has_rivals |= !found.certain;
            self.nginx.extend(nginx_address(&found, ends));
        }
        self.note_peers(verdict.stream(), ends);
        let Some(resets) = verdict.resets() else { return };
        self.resets.push(Reset {
            stream: number,
            severity: verdict.severity(),
            cause: verdict.cause().map(|cause| cause.row),
            by: resets.by,
            phase: verdict.phase().unwrap_or_default(),
            at: resets.at.time,
            ends: ends.map(|end| end.addr),
            leg: verdict.leg(),
            has_entry,
            facts: StreamFacts {
                has_rivals,
                no_effect: !resets.effective,
                after_fin: verdict
                    .stream()
                    .fin(resets.by.peer())
                    .is_some_and(|fin| fin.frame < resets.at.frame),
                ..StreamFacts::default()
            },
        });
    }

    fn note_peers(&mut self, stream: &Stream, [client, server]: [Endpoint; 2]) {
        let clients = client.addr.into_iter().chain(stream.named_clients());
        for peer in clients.map(Peer::Client).chain([Peer::Upstream(server)]) {
            self.peers.insert(peer);
            if stream.closing().is_some() {
                continue;
            }
            for asked in [Asked::Anything, Asked::Request(stream_request(stream))] {
                let first = self.endless.entry((peer, asked)).or_insert(stream.opened);
                *first = stream.opened.min(*first);
            }
        }
    }

    /// The report on all that was gathered.
    pub fn report(mut self, scope: &Scope<'_>) -> Report {
        self.claims.sort_unstable();
        let resets = self.judged_resets(scope);
        let entries = self.judged_entries(scope);
        let mut parts = vec![Part::Text(header(scope, self.streams))];
        parts.push(Part::Text(answer(self.streams, &self.resets)));
        self.list_resets(&resets, &mut parts);
        list_missing_entries(&resets, &mut parts);
        list_entries(entries, &mut parts);
        Report { parts }
    }

    /// Why each stream with a RST has no entry for certain, if it has none.
    fn judged_resets(&self, scope: &Scope<'_>) -> Vec<Option<&'static Reason>> {
        let covered = covered(scope);
        let errors = scope.logs.iter().filter_map(LogFile::errors);
        let lines =
            errors.fold((0, 0), |sum, counts| (sum.0 + counts.entries, sum.1 + counts.infos));
        let lacks_clients =
            Counts { entries: lines.0, infos: lines.1, ..Counts::default() }.may_lack_clients();
        let judge = |reset: &Reset| {
            let [client, server] =
                reset.ends.map(|end| end.is_some_and(|end| self.nginx.contains(&end)));
            let leg = reset.leg.or(match (client, server) {
                (true, false) => Some(Leg::Upstream),
                (false, true) => Some(Leg::Client),
                _ => None,
            });
            reasons::of_stream(&StreamFacts {
                no_log: lines.0 == 0 && scope.store.accesses().count() == 0,
                foreign: !self.nginx.is_empty() && !client && !server,
                unaccepted: reset.phase == Phase::Handshake && leg != Some(Leg::Upstream),
                by_nginx: match leg {
                    Some(Leg::Client) => reset.by == Side::Server,
                    Some(Leg::Upstream) => reset.by == Side::Client,
                    _ => false,
                },
                idle_upstream: (leg, reset.by, reset.phase)
                    == (Some(Leg::Upstream), Side::Server, Phase::AfterResponse),
                level_too_low: lacks_clients && leg != Some(Leg::Upstream),
                outside: covered.is_some_and(|(from, to)| reset.at < from || reset.at > to),
                ..reset.facts
            })
        };
        let resets = self.resets.iter();
        resets.map(|reset| (!reset.has_entry).then(|| judge(reset))).collect()
    }

    /// What each entry is about, in the order of the log.
    fn judged_entries(&self, scope: &Scope<'_>) -> Vec<Part> {
        // What the error log tells as well is not told twice.
        let told: HashSet<u32> =
            (0..scope.store.count()).filter_map(|entry| scope.store.access_of(entry)).collect();
        // Of what only packets show to be about an end, what they show.
        let claimed =
            self.claims.iter().map(|claim| claim.entry).filter(|&entry| is_access(entry));
        let accesses: BTreeSet<u32> = scope.store.telling_accesses().chain(claimed).collect();
        let accesses = accesses.into_iter().filter(|entry| !told.contains(entry));
        let entries = (0..scope.store.count()).chain(accesses);
        let entries = entries.filter_map(|entry| Some((entry, scope.store.kept(entry)?)));
        let mut claims = self.claims.as_slice();
        let judge = |(entry, kept): (u32, Kept)| {
            claims = &claims[claims.partition_point(|claim| claim.entry < entry)..];
            let own = claims.partition_point(|claim| claim.entry == entry);
            let (own, rest) = claims.split_at(own);
            claims = rest;
            let certain = own.iter().find_map(|claim| Some((claim.stream, claim.score?)));
            if let Some((stream, score)) = certain {
                return Part::Matched(entry, stream, score);
            }
            let reason = reasons::of_entry(&self.entry_facts(&kept.traits, own, scope));
            let shown: Vec<u32> = own.iter().map(|claim| claim.stream).collect();
            let rivals = own.iter().map(|claim| claim.rivals as usize + 1).max();
            let count = shown.len().max(rivals.unwrap_or(0));
            Part::Unmatched(entry, reason, Candidates { shown, count })
        };
        entries.map(judge).collect()
    }

    fn entry_facts(&self, traits: &Traits, claims: &[Claim], scope: &Scope<'_>) -> EntryFacts {
        let peer = match traits.leg {
            Leg::Upstream => traits.upstream.map(|upstream| {
                let addr = Some(upstream.ip().to_canonical());
                Peer::Upstream(Endpoint { addr, port: upstream.port() })
            }),
            Leg::Client | Leg::Unknown => traits.client.map(Peer::Client),
        };
        let latest = traits.instant.map(|instant| instant.plus(SECOND + scope.window));
        let outside = |instant: CaptureTime| {
            scope.span.is_none_or(|span| is_outside(span, scope.window, instant))
        };
        let asked = match traits.request_on(traits.leg) {
            None => vec![Asked::Anything],
            some => vec![Asked::Request(some), Asked::Request(None)],
        };
        let began_in_time = |asked: Asked| {
            let began = self.endless.get(&(peer?, asked))?;
            Some(*began <= latest?)
        };
        EntryFacts {
            has_rivals: !claims.is_empty(),
            no_such_time: traits.instant.is_none(),
            outside: traits.instant.is_some_and(outside),
            not_tcp: traits.shows == Shows::NoTcp,
            no_packet: matches!(traits.shows, Shows::NoPacket | Shows::Stays),
            peer_unseen: peer.is_some_and(|peer| !self.peers.contains(&peer)),
            endless: asked.into_iter().any(|asked| began_in_time(asked) == Some(true)),
            not_last: traits.shows == Shows::Answer,
        }
    }

    /// Lists streams with a RST: the worst first, and those of one cause together.
    fn list_resets(&self, reasons: &[Option<&'static Reason>], parts: &mut Vec<Part>) {
        let mut order: Vec<usize> = (0..self.resets.len()).collect();
        let sizes = group_sizes(&self.resets);
        order.sort_by_key(|&at| group_order(&self.resets[at], &sizes));
        if !order.is_empty() {
            parts.push(Part::Text(heading("Resets, the worst first")));
        }
        let mut last = None;
        for at in order {
            let reset = &self.resets[at];
            let group = Group::of(reset);
            if last != Some(group) {
                parts.push(Part::Text(group_title(&group, reset.cause, sizes[&group])));
                last = Some(group);
            }
            parts.push(Part::Reset(reset.stream, reasons[at]));
        }
    }
}

/// The address of nginx on a stream that an entry is about for certain.
fn nginx_address(found: &Match, [client, server]: [Endpoint; 2]) -> Option<IpAddr> {
    match found.leg {
        _ if !found.certain => None,
        Leg::Client => server.addr,
        Leg::Upstream => client.addr,
        Leg::Unknown => None,
    }
}

/// The instants that the logs cover, as wide as entries may lie apart from packets.
fn covered(scope: &Scope<'_>) -> Option<Span> {
    let clock = scope.store.clock();
    let counts = scope.logs.iter().filter_map(LogFile::errors);
    let spans = counts.filter_map(|counts| span_of_errors(counts, clock));
    let wide = |(from, to): Span| (from.plus(-scope.window), to.plus(SECOND + scope.window));
    spans.map(wide).reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
}

// ---- Groups of resets ----------------------------------------------------------------------

/// Resets that are equally bad and have the same cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Group {
    rank: u8,
    severity: &'static str,
    /// Word and sentence: several rows share a word.
    cause: Option<(&'static str, &'static str)>,
}

impl Group {
    fn of(reset: &Reset) -> Group {
        let rank = match reset.severity {
            Severity::Failure => 0,
            Severity::Warning => 1,
            Severity::Harmless => 2,
        };
        let cause = reset.cause.map(|row| (row.word, row.sentence));
        Group { rank, severity: reset.severity.word(), cause }
    }
}

fn group_sizes(resets: &[Reset]) -> HashMap<Group, usize> {
    let mut sizes = HashMap::new();
    for reset in resets {
        *sizes.entry(Group::of(reset)).or_insert(0) += 1;
    }
    sizes
}

/// The worst first, then what happened most often, then in the order of the capture.
fn group_order(
    reset: &Reset,
    sizes: &HashMap<Group, usize>,
) -> (u8, Reverse<usize>, Option<(&'static str, &'static str)>, u32) {
    let group = Group::of(reset);
    let size = sizes.get(&group).copied().unwrap_or_default();
    (group.rank, Reverse(size), group.cause, reset.stream)
}

fn group_title(group: &Group, cause: Option<&Row>, size: usize) -> Vec<String> {
    let word = cause.map_or(NO_CAUSE, |row| row.word);
    let mut lines = vec![String::new()];
    lines.push(format!("{}: {word} ({})", group.severity, plural(size, "stream")));
    if let Some(row) = cause {
        lines.extend(wrapped(row.sentence, "  "));
        lines.extend(wrapped(&format!("To do: {}", row.advice), "  "));
    }
    lines
}

// ---- Header and answer ---------------------------------------------------------------------

fn header(scope: &Scope<'_>, streams: usize) -> Vec<String> {
    let store = scope.store;
    let title = "Reset diagnosis";
    let mut lines = vec![title.to_owned(), "=".repeat(title.len())];
    lines.push(match scope.span {
        Some((begin, end)) => format!(
            "capture  {} to {}, {}",
            moment(begin, store),
            moment(end, store),
            plural(streams, "TCP stream")
        ),
        None => "capture  no TCP".to_owned(),
    });
    for log in scope.logs {
        lines.push(format!("log      {}", log.path));
        lines.extend(match &log.held {
            Held::Errors(counts) => error_log_lines(counts),
            Held::Accesses(counts) => access_log_lines(counts),
        });
    }
    if scope.logs.is_empty() {
        lines.push("log      none; name one with -o rstdiag.error_log:FILE".to_owned());
    }
    if !scope.logs.is_empty() {
        lines.extend(hanging(&store.clock().words(), "clock    ", "         "));
        lines.push("         all times are as that clock shows them".to_owned());
    }
    lines
}

fn error_log_lines(counts: &Counts) -> Vec<String> {
    let &Counts { lines: read, entries, ends, span, early, quoted, .. } = counts;
    let mut lines = Vec::new();
    lines.extend(span.map(|(from, to)| format!("         {from} to {to}")));
    lines.push(format!(
        "         {}, {}, {ends} about ends of connections",
        plural(read as usize, "line"),
        plural(entries as usize, "entry"),
    ));
    if early > 0 {
        let early = plural(early as usize, "entry");
        lines.push(format!("         {early} left out: long before the capture"));
    }
    if quoted > 0 {
        let quoted = plural(quoted as usize, "entry");
        lines.push(format!("         {quoted} left out: a client wrote it into its request"));
    }
    if counts.may_lack_clients() {
        lines.push(
            "         no line at [info], so no reset of a client can be in it:".to_owned(),
        );
        lines.push("         'error_log FILE info;' makes nginx log them".to_owned());
    }
    lines
}

fn access_log_lines(counts: &AccessCounts) -> Vec<String> {
    let read = plural(counts.lines as usize, "line");
    let entries = plural(counts.entries as usize, "request");
    vec![format!("         {read}, {entries}")]
}

/// First the answer: how many resets hurt, and why.
fn answer(streams: usize, resets: &[Reset]) -> Vec<String> {
    let title = format!("{} of {} reset", resets.len(), plural(streams, "TCP stream"));
    let mut lines = heading(&title);
    let mut groups: Vec<(Group, usize)> = group_sizes(resets).into_iter().collect();
    groups.sort_by_key(|&(group, size)| (group.rank, Reverse(size), group.cause));
    for (rank, word, meaning) in [
        (0, "failure", "a request, a response or other data was lost"),
        (1, "warning", "out of order, with nothing known to be lost"),
        (2, "harmless", "nothing is missing"),
    ] {
        let groups = groups.iter().filter(|(group, _)| group.rank == rank);
        let sum: usize = groups.clone().map(|(_, size)| size).sum();
        lines.push(format!("{sum:>7}  {word}: {meaning}"));
        lines.extend(groups.flat_map(|(group, size)| {
            let cause = group.cause.map(|(word, sentence)| format!("{word}: {sentence}"));
            let cause = cause.unwrap_or_else(|| NO_CAUSE.to_owned());
            hanging(&cause, &format!("{size:>11}  "), &" ".repeat(13))
        }));
    }
    lines
}

// ---- Lists ---------------------------------------------------------------------------------

/// How often each reason keeps a reset from having an entry.
fn list_missing_entries(reasons: &[Option<&'static Reason>], parts: &mut Vec<Part>) {
    let missing: Vec<&Reason> = reasons.iter().copied().flatten().collect();
    if reasons.is_empty() {
        return;
    }
    let mut lines = heading(&format!(
        "{} with an entry in the log, {} without",
        plural(reasons.len() - missing.len(), "reset"),
        missing.len()
    ));
    for reason in reasons::of_streams() {
        let count = missing.iter().filter(|other| **other == reason).count();
        if count > 0 {
            lines.extend(row(count, reason));
        }
    }
    parts.push(Part::Text(lines));
}

/// Lists entries without a stream, by reason, then those with one.
fn list_entries(entries: Vec<Part>, parts: &mut Vec<Part>) {
    let mut matched = Vec::new();
    let mut by_reason: HashMap<&str, Vec<Part>> = HashMap::new();
    for part in entries {
        match &part {
            Part::Unmatched(_, reason, _) => {
                by_reason.entry(reason.word).or_default().push(part)
            }
            _ => matched.push(part),
        }
    }
    let title = |count: usize, which: &str| {
        let entries = plural(count, "entry");
        Part::Text(heading(&format!("{entries} about ends of connections {which}")))
    };
    let without = by_reason.values().map(Vec::len).sum();
    if without > 0 {
        parts.push(title(without, "without a stream"));
    }
    for reason in reasons::of_entries() {
        let Some(list) = by_reason.remove(reason.word) else { continue };
        parts.push(Part::Text(row(list.len(), reason)));
        parts.extend(list);
    }
    if !matched.is_empty() {
        parts.push(title(matched.len(), "with their streams"));
        parts.extend(first_of_each(matched));
    }
}

/// Of the entries about each stream as many as are shown, and how many more there are.
fn first_of_each(matched: Vec<Part>) -> Vec<Part> {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    let mut parts = matched;
    parts.retain(|part| {
        let &Part::Matched(_, stream, _) = part else { return true };
        let count = counts.entry(stream).or_default();
        *count += 1;
        *count <= limits::SHOWN
    });
    let more = counts.into_iter().filter(|(_, count)| *count > limits::SHOWN);
    parts.extend(more.map(|(stream, count)| {
        let more = plural(count - limits::SHOWN, "entry");
        Part::Text(vec![format!("  and {more} more about tcp.stream {stream}")])
    }));
    parts
}

/// A line with a line below it.
fn heading(title: &str) -> Vec<String> {
    vec![String::new(), title.to_owned(), "-".repeat(title.len())]
}

/// A row of a table of reasons.
fn row(count: usize, reason: &Reason) -> Vec<String> {
    let text = format!("{}: {}", reason.word, reason.means);
    hanging(&text, &format!("{count:>7}  "), &" ".repeat(9))
}

// ---- Lines of one part ---------------------------------------------------------------------

/// The lines about a stream with a RST.
pub fn reset_lines(
    number: u32,
    verdict: &Verdict<'_>,
    missing: Option<&Reason>,
) -> Vec<String> {
    let Some(resets) = verdict.resets() else { return Vec::new() };
    let mut lines = vec![
        String::new(),
        format!(
            "  frame {}  tcp.stream {number}  {}  {} -> {}",
            resets.at.frame,
            moment(resets.at.time, verdict.store()),
            verdict.client(),
            verdict.server(),
        ),
    ];
    let form = verdict.form().map_or("", |form| form.word());
    let (phase, by) = (resets.phase.word(), resets.by.word());
    let transaction = verdict.transaction().word();
    lines.push(format!("    {phase}, by {by} ({form}), transaction {transaction}"));
    lines.extend(wrapped(&verdict.summary(), "    "));
    lines.extend(missing.map(|reason| format!("    no entry: {}", reason.word)));
    lines
}

/// The lines about an entry that is about a stream.
pub fn matched_lines(entry: u32, number: u32, score: u8, verdict: &Verdict<'_>) -> Vec<String> {
    let store = verdict.store();
    let found = store.entry(entry);
    let parts = found.as_ref().and_then(Entry::any_parts);
    let mut title = title(entry, parts.as_ref(), store);
    if let Some(closing) = verdict.closing() {
        title.push_str(&format!("  frame {}", closing_frame(verdict, closing.at.frame)));
    }
    title.push_str(&format!("  tcp.stream {number}  score {score}"));
    let mut lines = vec![title];
    lines.extend(parts.iter().flat_map(what_happened));
    lines
}

/// The frame that a reader wants to see: of the RST if there is one, else of the first FIN.
fn closing_frame(verdict: &Verdict<'_>, closing: u32) -> u32 {
    verdict.resets().map_or(closing, |resets| resets.at.frame)
}

/// The lines about an entry that is about none of these streams for certain.
pub fn unmatched_lines(entry: u32, streams: &Candidates, store: &Store) -> Vec<String> {
    let raw = store.raw(entry).unwrap_or_default();
    // An entry whose time does not exist is no less readable.
    let parts = match is_access(entry) {
        true => store.access_parts(&raw),
        false => error_log::parse(&raw).ok().map(Box::new).map(Parts::Error),
    };
    let mut lines = vec![title(entry, parts.as_ref(), store)];
    if let Some(parts) = &parts {
        lines.extend(what_happened(parts));
        lines.extend(named(parts).map(|(name, value)| format!("    {name}: {value}")));
    }
    if !streams.shown.is_empty() {
        let shown = streams.shown.iter().take(RIVALS).map(u32::to_string).collect::<Vec<_>>();
        let more = match streams.count - shown.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        lines.push(format!("    could be about tcp.stream {}{more}", shown.join(", ")));
    }
    lines
}

/// Who and what an entry names.
fn named(parts: &Parts<'_>) -> impl Iterator<Item = (&'static str, String)> {
    let named = match parts {
        Parts::Error(parts) => [
            ("client", parts.client.map(text)),
            ("request", parts.request.map(text)),
            ("upstream", parts.upstream.map(text)),
        ],
        Parts::Access(parts) => [
            ("client", parts.client_addr().map(|client| client.to_string())),
            ("upstream", parts.value(Variable::UpstreamAddr).map(|addr| text(&addr))),
            ("request id", parts.request_id().map(text)),
        ],
    };
    named.into_iter().filter_map(|(name, value)| Some((name, value?)))
}

/// Where an entry stands, when it was written, and by which connection.
fn title(entry: u32, parts: Option<&Parts<'_>>, store: &Store) -> String {
    let file = store.file(entry).unwrap_or_default();
    let name = file.rsplit('/').next().unwrap_or(file);
    let kept = store.kept(entry);
    let line = kept.map_or(0, |kept| kept.line);
    let mut out = format!("  {name}:{line}");
    match parts {
        Some(Parts::Error(parts)) => {
            out.push_str(&format!("  {} [{}]", parts.time, parts.level.word()));
        }
        Some(Parts::Access(_)) => {
            let instant = kept.and_then(|kept| kept.traits.instant);
            out.extend(instant.map(|instant| format!("  {}", moment(instant, store))));
        }
        None => {}
    }
    let connection = kept.and_then(|kept| kept.connection);
    out.extend(connection.map(|number| format!(" *{number}")));
    out
}

/// The message as nginx writes it, without the context; of an access entry what became of the
/// request.
fn what_happened(parts: &Parts<'_>) -> Vec<String> {
    let out = match parts {
        Parts::Error(parts) => {
            let mut out = text(parts.message);
            out.extend(
                parts.errno.map(|errno| format!(" ({}: {})", errno.code, text(errno.text))),
            );
            out.extend(parts.action.map(|action| format!(" while {}", text(action))));
            out
        }
        Parts::Access(parts) => {
            let method = parts.method().map_or_else(String::new, |method| text(&method));
            let target = parts.target().map_or_else(String::new, |target| text(&target));
            let status = parts.status().map_or_else(String::new, |status| status.to_string());
            let bytes = parts.bytes_sent().or_else(|| parts.body_bytes_sent());
            let bytes = bytes.map_or_else(String::new, |bytes| format!(", {bytes} bytes"));
            format!("{status} for {method} {target}{bytes}")
        }
    };
    wrapped(&out, "    ")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An instant as the log's clock shows it, with milliseconds.
fn moment(instant: CaptureTime, store: &Store) -> String {
    let milliseconds = instant.0.rem_euclid(SECOND) / 1_000_000;
    format!("{}.{milliseconds:03}", store.shown(instant))
}

/// `1 stream`, `2 streams`, `2 entries`.
fn plural(count: usize, noun: &str) -> String {
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("{count} {noun}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {noun}s"),
    }
}

/// A sentence in lines of [`WIDTH`] columns; what has no space is not cut.
fn wrapped(sentence: &str, indent: &str) -> Vec<String> {
    hanging(sentence, indent, indent)
}

/// The same, with another beginning of the first line.
fn hanging(sentence: &str, first: &str, indent: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut line, mut columns) = (first.to_owned(), first.len());
    let mut is_empty = true;
    for word in sentence.split(' ') {
        let width = word.chars().count();
        if !is_empty && columns + 1 + width > WIDTH {
            lines.push(std::mem::replace(&mut line, indent.to_owned()));
            columns = indent.len();
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
            columns += 1;
        }
        line.push_str(word);
        columns += width;
        is_empty = false;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_wrapped_at_spaces_and_lose_nothing() {
        let sentence = "word ".repeat(60) + &"x".repeat(2 * WIDTH) + " end";
        let lines = wrapped(&sentence, "    ");
        let is_long = |line: &&String| line.len() > WIDTH;
        assert_eq!(lines.iter().filter(is_long).count(), 1);
        let joined: Vec<_> = lines.iter().map(|line| line.trim_start()).collect();
        assert_eq!(joined.join(" "), sentence);
    }

    #[test]
    fn counts_agree_with_their_nouns() {
        let shown =
            [(0, "entry"), (1, "entry"), (2, "stream")].map(|(n, noun)| plural(n, noun));
        assert_eq!(shown, ["0 entries", "1 entry", "2 streams"]);
    }
}
