// SPDX-License-Identifier: GPL-2.0-or-later
//! What was found on each stream, by whichever front end, in the same words.

use std::collections::BTreeMap;
use std::path::Path;

use rstdiag::correlate::store::Parts;
use rstdiag::correlate::verdict::Verdict;
use rstdiag::nginx::log_format::Variable;
use rstdiag::session::{Session, When};

use super::host::host;

/// Fields that every front end shows alike: as `tshark -T fields` prints them.
pub const FIELDS: &[&str] = &[
    "rstdiag.summary",
    "rstdiag.severity",
    "rstdiag.phase",
    "rstdiag.stage",
    "rstdiag.transaction",
    "rstdiag.close",
    "rstdiag.close.by",
    "rstdiag.close.frame",
    "rstdiag.close.piggybacked",
    "rstdiag.reset.by",
    "rstdiag.reset.frame",
    "rstdiag.reset.count",
    "rstdiag.reset.text",
    "rstdiag.reset.form",
    "rstdiag.reset.answers",
    "rstdiag.cause",
    "rstdiag.evidence",
    "rstdiag.advice",
    "rstdiag.idle",
    "rstdiag.client",
    "rstdiag.server",
    "rstdiag.requests",
    "rstdiag.responses",
    "rstdiag.request",
    "rstdiag.response.status",
    "rstdiag.response.acked",
    "rstdiag.response.missing",
    "rstdiag.caveat",
    "rstdiag.nginx_sees",
    "rstdiag.leg",
    "rstdiag.other_leg",
    "rstdiag.log.more",
    "rstdiag.log.kind",
    "rstdiag.log.line",
    "rstdiag.log.level",
    "rstdiag.log.connection",
    "rstdiag.log.message",
    "rstdiag.log.errno",
    "rstdiag.log.action",
    "rstdiag.log.client",
    "rstdiag.log.server",
    "rstdiag.log.request",
    "rstdiag.log.upstream",
    "rstdiag.log.host",
    "rstdiag.log.status",
    "rstdiag.log.request_time",
    "rstdiag.log.bytes_sent",
    "rstdiag.log.request_id",
    "rstdiag.match.score",
    "rstdiag.match.evidence",
    "rstdiag.match.delta",
    "rstdiag.match.rivals",
];

/// Values of the fields of one stream.
pub type Found = BTreeMap<&'static str, Vec<String>>;

/// Score from which on an entry is said to be about a stream, not only perhaps.
const CERTAIN: u32 = 60;

/// Lines of the error log that are said to be about the stream.
pub fn lines(found: &Found) -> Vec<u64> {
    lines_of("error", found)
}

/// Lines of a log of this kind that are said to be about the stream.
pub fn lines_of(wanted: &str, found: &Found) -> Vec<u64> {
    let kinds = found["rstdiag.log.kind"].iter().zip(&found["rstdiag.match.score"]);
    let lines = found["rstdiag.log.line"].iter().zip(kinds);
    lines
        .filter(|(_, (kind, score))| {
            *kind == wanted && score.parse::<u32>().unwrap() >= CERTAIN
        })
        .map(|(line, _)| line.parse().unwrap())
        .collect()
}

/// What the core says of every stream, once all has been fed.
pub fn by_core(session: &mut Session) -> BTreeMap<u32, Found> {
    let numbers: Vec<u32> = session.streams().collect();
    let found = numbers.into_iter().map(|number| {
        let verdict = session.verdict_of(number, When::Final).expect("a stream that was fed");
        (number, of_verdict(&verdict))
    });
    found.collect()
}

fn of_verdict(v: &Verdict<'_>) -> Found {
    let mut found: Found = FIELDS.iter().map(|name| (*name, Vec::new())).collect();
    let mut put = |name: &str, value: Option<String>| {
        let (_, values) = found.iter_mut().find(|(n, _)| **n == name).expect("a known field");
        values.extend(value);
    };
    let seconds = |ns: i64| {
        let sign = if ns < 0 { "-" } else { "" };
        format!("{sign}{}.{:09}", ns.abs() / 1_000_000_000, ns.abs() % 1_000_000_000)
    };
    let flag = |flag: bool| if flag { "1" } else { "0" }.to_owned();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    put("rstdiag.summary", Some(v.summary()));
    put("rstdiag.severity", Some(v.severity().word().into()));
    put("rstdiag.phase", v.phase().map(|phase| phase.word().into()));
    put("rstdiag.stage", Some(v.stage().word().into()));
    put("rstdiag.transaction", Some(v.transaction().word().into()));
    put("rstdiag.close", Some(v.close().word().into()));
    put("rstdiag.close.by", v.closed_by().map(|side| side.word().into()));
    put("rstdiag.close.frame", v.first_end().map(|c| c.at.frame.to_string()));
    put("rstdiag.close.piggybacked", v.first_end().and_then(|c| c.piggybacked).map(flag));
    put("rstdiag.reset.by", v.resets().map(|r| r.by.word().into()));
    put("rstdiag.reset.frame", v.resets().map(|r| r.at.frame.to_string()));
    put("rstdiag.reset.count", v.resets().map(|r| r.count.to_string()));
    put("rstdiag.reset.form", v.form().map(|form| form.word().into()));
    put("rstdiag.reset.answers", v.answers().map(|frame| frame.to_string()));
    if let Some(cause) = v.cause() {
        put("rstdiag.cause", Some(cause.row.word.into()));
        cause.evidence.into_iter().for_each(|seen| put("rstdiag.evidence", Some(seen)));
        put("rstdiag.advice", Some(cause.row.advice.into()));
    }
    put("rstdiag.idle", v.idle().map(seconds));
    put("rstdiag.client", Some(v.client().to_string()));
    put("rstdiag.server", Some(v.server().to_string()));
    put("rstdiag.requests", v.requests().map(|n| n.to_string()));
    put("rstdiag.responses", v.responses().map(|n| n.to_string()));
    put("rstdiag.request", v.request().map(str::to_owned));
    put("rstdiag.response.status", v.response_status().map(|n| n.to_string()));
    put("rstdiag.response.acked", v.response_acked().map(flag));
    put("rstdiag.response.missing", v.response_missing().map(|n| n.to_string()));
    v.caveats().words().for_each(|word| put("rstdiag.caveat", Some(word.into())));
    put("rstdiag.nginx_sees", v.nginx_sees().map(flag));
    put("rstdiag.leg", v.leg().map(|leg| leg.word().into()));
    put("rstdiag.other_leg", v.other_leg().map(|frame| frame.to_string()));
    let more = Some(v.more_logged()).filter(|more| *more > 0);
    put("rstdiag.log.more", more.map(|more| more.to_string()));
    for (entry, matched) in v.logged() {
        put("rstdiag.log.kind", entry.any_parts().map(|parts| parts.kind().into()));
        put("rstdiag.log.line", Some(entry.line.to_string()));
        match entry.any_parts() {
            Some(Parts::Error(parts)) => {
                put("rstdiag.log.level", Some(parts.level.word().into()));
                put("rstdiag.log.connection", parts.connection.map(|n| n.to_string()));
                put("rstdiag.log.message", Some(text(parts.message)));
                put("rstdiag.log.errno", parts.errno.map(|errno| errno.code.to_string()));
                put("rstdiag.log.action", parts.action.map(text));
                put("rstdiag.log.client", parts.client.map(text));
                put("rstdiag.log.server", parts.server.map(text));
                put("rstdiag.log.request", parts.request.map(text));
                put("rstdiag.log.upstream", parts.upstream.map(text));
                put("rstdiag.log.host", parts.host.map(text));
            }
            Some(Parts::Access(parts)) => {
                let value = |variable| parts.value(variable).map(|value| text(&value));
                put("rstdiag.log.connection", parts.connection().map(|n| n.to_string()));
                put("rstdiag.log.client", value(Variable::RemoteAddr));
                put("rstdiag.log.server", value(Variable::ServerName));
                put("rstdiag.log.request", value(Variable::Request));
                put("rstdiag.log.upstream", value(Variable::UpstreamAddr));
                put("rstdiag.log.host", value(Variable::HttpHost));
                put("rstdiag.log.status", parts.status().map(|n| n.to_string()));
                put("rstdiag.log.request_time", parts.request_time().map(seconds));
                put("rstdiag.log.bytes_sent", parts.bytes_sent().map(|n| n.to_string()));
                put("rstdiag.log.request_id", value(Variable::RequestId));
            }
            None => {}
        }
        put("rstdiag.match.score", Some(matched.score.to_string()));
        put("rstdiag.match.evidence", Some(matched.evidence.words()));
        put("rstdiag.match.delta", Some(seconds(matched.delta)));
        put("rstdiag.match.rivals", Some(matched.open_rivals().to_string()));
    }
    found
}

/// What tshark shows of every stream in two passes; asserts that every frame of a stream shows
/// the same.
pub fn by_tshark(capture: &Path, options: &[String]) -> BTreeMap<u32, Found> {
    let mut out: BTreeMap<u32, Found> = BTreeMap::new();
    for (stream, frame, found) in rows(capture, options, &["-2", "-Y", "tcp"]) {
        let first = out.entry(stream).or_insert_with(|| found.clone());
        assert_eq!(*first, found, "frame {frame} of stream {stream} shows something else");
    }
    out
}

/// What tells of a storm which entry is about which stream.
const OF_A_STORM: &[&str] = &[
    "rstdiag.phase",
    "rstdiag.log.line",
    "rstdiag.match.score",
    "rstdiag.match.rivals",
    "rstdiag.other_leg",
];

/// Asserts that two passes of tshark show of a storm, on the first frame of each stream, what
/// the core says once it has seen the same; returns how many streams and lines that are. Each
/// stream begins with its SYN.
pub fn same_storm(capture: &Path, options: &[String], session: &mut Session) -> (usize, usize) {
    let syn = "tcp.flags.syn == 1 && tcp.flags.ack == 0";
    let mut names = vec!["tcp.stream", "frame.number"];
    names.extend(OF_A_STORM);
    let mut shown = BTreeMap::new();
    for mut row in host().fields(capture, options, &["-2", "-Y", syn], &names) {
        let values = row.split_off(2);
        let [stream, frame] = [&row[0][0], &row[1][0]].map(|text| text.parse::<u32>().unwrap());
        // A SYN may have been sent again.
        shown.entry(stream).or_insert((frame, values));
    }
    let begins: BTreeMap<u32, u32> = super::stream_begins(capture)
        .into_iter()
        .map(|(frame, stream)| (stream, frame))
        .collect();
    let found = by_core(session);
    assert!(shown.keys().eq(found.keys()), "{} and {} streams", shown.len(), found.len());
    let mut lines = 0;
    for (stream, (frame, values)) in &shown {
        assert_eq!(begins[stream], *frame, "stream {stream} does not begin with a SYN");
        for (name, values) in OF_A_STORM.iter().zip(values) {
            assert_eq!(*values, found[stream][name], "{name} of stream {stream}");
        }
        lines += values[1].len();
    }
    (shown.len(), lines)
}

/// What tshark shows in one pass: stream, frame, and what stands on that frame.
pub fn by_one_pass(capture: &Path, options: &[String]) -> Vec<(u32, u32, Found)> {
    rows(capture, options, &["-Y", "tcp"])
}

/// What stands on the frames that tshark prints with these arguments: stream, frame, fields.
pub fn rows(capture: &Path, options: &[String], more: &[&str]) -> Vec<(u32, u32, Found)> {
    let mut names = vec!["tcp.stream", "frame.number"];
    names.extend(FIELDS);
    let rows = host().fields(capture, options, more, &names).into_iter();
    let row = |row: Vec<Vec<String>>| {
        let mut values = row.into_iter();
        let mut number = || values.next()?.first()?.parse::<u32>().ok();
        let (stream, frame) = (number().expect("a stream"), number().expect("a frame"));
        let values = FIELDS
            .iter()
            .copied()
            .zip(values.map(|all| all.iter().map(|v| plain(v)).collect()));
        (stream, frame, values.collect())
    };
    rows.map(row).collect()
}

/// Booleans are printed as `True` since Wireshark 4.2.
fn plain(value: &str) -> String {
    match value {
        "True" => "1".to_owned(),
        "False" => "0".to_owned(),
        _ => value.to_owned(),
    }
}
