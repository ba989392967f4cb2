// SPDX-License-Identifier: GPL-2.0-or-later
//! What the lab's scenarios did, and where an answer differs from it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::found::{lines, Found};

/// `truth.json` of a recording; see `tests/lab/README.md`.
#[derive(Deserialize)]
pub struct Truth {
    pub streams: Vec<TrueStream>,
    pub entries: Vec<TrueEntry>,
    /// What is not told, or told to be unknown, is not wrong.
    #[serde(skip)]
    pub may_be_less: bool,
}

#[derive(Deserialize)]
pub struct TrueStream {
    pub scenario: String,
    pub leg: String,
    client: String,
    server: String,
    unasserted: Vec<String>,
    other_leg: Option<usize>,
    log_lines: Vec<u64>,
    #[serde(flatten)]
    fields: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
pub struct TrueEntry {
    pub line: u64,
    /// `client`, `upstream`, or `none` if it is about no connection's end.
    pub leg: String,
    /// What it tells of left a packet.
    pub packet: bool,
    pub stream: Option<usize>,
}

/// Names in the truth, and the fields that they are about.
const ASSERTED: &[(&str, &str)] = &[
    ("phase", "rstdiag.phase"),
    ("stage", "rstdiag.stage"),
    ("reset_by", "rstdiag.reset.by"),
    ("transaction", "rstdiag.transaction"),
    ("close", "rstdiag.close"),
    ("close_by", "rstdiag.close.by"),
    ("piggybacked", "rstdiag.close.piggybacked"),
    ("requests", "rstdiag.requests"),
    ("responses", "rstdiag.responses"),
    ("request", "rstdiag.request"),
    ("status", "rstdiag.response.status"),
];

/// How a comparison went.
#[derive(Debug, Default)]
pub struct Tally {
    /// Differences, one a line; there must be none.
    pub wrong: Vec<String>,
    /// Streams and values that were compared.
    pub streams: usize,
    pub values: usize,
    /// Values that were not told, where that is allowed.
    pub untold: usize,
    /// Entries of the log that are about a stream's end, and how many of them were matched.
    pub entries: usize,
    pub matched: usize,
    /// Streams of upstreams with a client that asked for the same, and how many of them, and of
    /// those clients, were linked.
    pub upstreams: usize,
    pub linked: [usize; 2],
}

impl Truth {
    pub fn read(path: &Path) -> Truth {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// Compares what was found with what was done. An entry that is said to be about another
    /// stream is wrong; one that is said to be about none is only not matched. The same goes for
    /// the other leg, which is told by its first frame: `begins` has the streams by those.
    pub fn compare(&self, found: &BTreeMap<u32, Found>, begins: &BTreeMap<u32, u32>) -> Tally {
        let mut tally = Tally::default();
        let mut left: Vec<(&u32, &Found)> = found.iter().collect();
        // By the number of the stream: its place in the truth.
        let mut places = BTreeMap::new();
        for (place, stream) in self.streams.iter().enumerate() {
            // Streams of one 4-tuple come in the order of their numbers, here as there.
            let same = |(_, found): &(&u32, &Found)| {
                found["rstdiag.client"] == [stream.client.as_str()]
                    && found["rstdiag.server"] == [stream.server.as_str()]
            };
            let Some(at) = left.iter().position(same) else {
                tally.wrong.push(format!("{}: the stream was not found", stream.scenario));
                continue;
            };
            let (number, found) = left.remove(at);
            places.insert(*number, place);
            stream.compare(found, self.may_be_less, &mut tally);
        }
        self.compare_legs(found, begins, &places, &mut tally);
        for (_, extra) in left {
            tally.wrong.push(format!("nobody made {:?}", extra["rstdiag.client"]));
        }
        tally.entries = self.entries.iter().filter(|entry| entry.stream.is_some()).count();
        tally
    }
}

impl Truth {
    fn compare_legs(
        &self,
        found: &BTreeMap<u32, Found>,
        begins: &BTreeMap<u32, u32>,
        places: &BTreeMap<u32, usize>,
        tally: &mut Tally,
    ) {
        tally.upstreams = self.streams.iter().filter(|s| s.other_leg.is_some()).count();
        for (number, &place) in places {
            let stream = &self.streams[place];
            let Some(told) = found[number]["rstdiag.other_leg"].first() else { continue };
            let other = begins.get(&told.parse().unwrap()).and_then(|other| places.get(other));
            let upstream = stream.leg == "upstream";
            let right = other.is_some_and(|&other| match upstream {
                true => stream.other_leg == Some(other),
                false => self.streams[other].other_leg == Some(place),
            });
            tally.linked[usize::from(!upstream)] += usize::from(right);
            if !right {
                let name = |place: usize| self.streams[place].scenario.clone();
                let truth = stream.other_leg.map(name);
                let truth = truth.as_slice();
                stream.report(
                    tally,
                    "other_leg",
                    truth,
                    std::slice::from_ref(told),
                    &found[number],
                );
            }
        }
    }
}

impl TrueStream {
    fn compare(&self, found: &Found, may_be_less: bool, tally: &mut Tally) {
        tally.streams += 1;
        for (name, field) in ASSERTED {
            if self.unasserted.iter().any(|unasserted| unasserted == name) {
                continue;
            }
            let told = &found[field];
            let truth = self.fields.get(*name).unwrap_or(&Value::Null);
            let none_begun = *truth == 0 && told.is_empty();
            tally.values += 1;
            let is_less = told.is_empty() || *told == ["unknown"];
            if is_less && may_be_less && !none_begun {
                tally.untold += usize::from(*told != words(truth));
            } else if !none_begun && *told != words(truth) {
                self.report(tally, name, &words(truth), told, found);
            }
        }
        let told = lines(found);
        tally.matched += self.log_lines.iter().filter(|line| told.contains(line)).count();
        if told.iter().any(|line| !self.log_lines.contains(line)) {
            let text = |lines: &[u64]| lines.iter().map(u64::to_string).collect::<Vec<_>>();
            self.report(tally, "log_lines", &text(&self.log_lines), &text(&told), found);
        }
    }

    fn report(
        &self,
        tally: &mut Tally,
        name: &str,
        truth: &[String],
        told: &[String],
        found: &Found,
    ) {
        tally.wrong.push(format!(
            "{} ({} leg, {}): {name} is {truth:?}, not {told:?}: {}",
            self.scenario, self.leg, self.client, found["rstdiag.summary"][0]
        ));
    }
}

/// A value of the truth as `tshark -T fields` prints it.
fn words(value: &Value) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::Bool(flag) => vec![if *flag { "1" } else { "0" }.to_owned()],
        Value::String(text) => vec![text.clone()],
        other => vec![other.to_string()],
    }
}
