// SPDX-License-Identifier: GPL-2.0-or-later
//! What has to hold of every verdict, whatever the packets and the logs are.

use std::collections::{BTreeMap, BTreeSet};

use rstdiag::abi;

use super::host::Value;
use super::script::{Packet, FIN, RST};

/// Fields that a verdict may have several times.
const REPEATED: [u32; 2] = [abi::RSTDIAG_FIELD_EVIDENCE, abi::RSTDIAG_FIELD_CAVEAT];

/// What the capture holds, as far as the rules need it.
#[derive(Default)]
pub struct Captured {
    /// By frame and layer: the stream, and the flags.
    segments: BTreeMap<(u32, u32), (u32, u8)>,
    begins: BTreeMap<u32, u32>,
}

impl Captured {
    pub fn add(&mut self, packet: &Packet) {
        let flags = packet.tcp[13];
        self.segments.insert((packet.frame, packet.layer), (packet.stream, flags));
        self.begins.entry(packet.stream).or_insert(packet.frame);
    }

    /// The places of the segments, and their streams.
    pub fn places(&self) -> impl DoubleEndedIterator<Item = (u32, u32, u32)> + '_ {
        self.segments.iter().map(|(&(frame, layer), &(stream, _))| (frame, layer, stream))
    }

    /// Flags of the segments that a frame holds of a stream.
    fn flags(&self, stream: u32, frame: i64) -> Option<u8> {
        let frame = u32::try_from(frame).ok()?;
        let of_frame = self.segments.range((frame, 0)..=(frame, u32::MAX));
        let flags: Vec<u8> =
            of_frame.filter(|(_, it)| it.0 == stream).map(|(_, it)| it.1).collect();
        flags.into_iter().reduce(|all, one| all | one)
    }

    fn resets(&self, stream: u32) -> i64 {
        let is_reset = |it: &&(u32, u8)| it.0 == stream && it.1 & RST != 0;
        self.segments.values().filter(is_reset).count() as i64
    }

    fn is_begin(&self, frame: i64) -> bool {
        self.begins.values().any(|&begin| i64::from(begin) == frame)
    }
}

/// The values of one group: of the stream, or of an entry.
struct Group<'v>(Vec<&'v Value>);

impl<'v> Group<'v> {
    fn of(values: &'v [Value], group: u32) -> Group<'v> {
        Group(values.iter().filter(|value| value.group == group).collect())
    }

    fn value(&self, field: u32) -> Option<&'v Value> {
        self.0.iter().find(|value| value.field == field).copied()
    }

    fn text(&self, field: u32) -> Option<&'v str> {
        self.value(field).map(|value| value.text.as_str())
    }

    fn number(&self, field: u32) -> Option<i64> {
        self.value(field).map(|value| value.number)
    }
}

/// Entries that are said to be about a stream, rather than perhaps: where each stands, and the
/// streams.
pub type Claims = BTreeMap<(String, i64), BTreeSet<u32>>;

/// Score from which on an entry is said to be about a stream.
const CERTAIN: i64 = 60;

/// Checks the verdict on a stream, and takes note of its entries.
pub fn check(stream: u32, values: &[Value], captured: &Captured, claims: &mut Claims) {
    let order = |value: &Value| (value.group, value.field);
    assert!(values.is_sorted_by_key(order), "order of display");
    for pair in values.windows(2) {
        let is_double = order(&pair[0]) == order(&pair[1]);
        assert!(!is_double || REPEATED.contains(&pair[0].field), "twice: {:?}", pair[0]);
    }
    for value in values {
        assert!(!value.text.contains(|c: char| c.is_control()), "{value:?}");
    }
    of_stream(stream, &Group::of(values, 0), captured);
    let groups = values.last().map_or(0, |last| last.group);
    for group in 1..=groups {
        of_entry(stream, &Group::of(values, group), claims);
    }
}

fn of_stream(stream: u32, of: &Group<'_>, captured: &Captured) {
    let text = |field| of.text(field);
    let is = |field, word: &str| text(field) == Some(word);
    let number = |field| of.number(field);

    assert!(!text(abi::RSTDIAG_FIELD_SUMMARY).expect("a summary").is_empty());
    assert!(number(abi::RSTDIAG_FIELD_IDLE).is_none_or(|idle| idle >= 0), "idle");

    for value in &of.0 {
        let may_be_a_peers =
            [abi::RSTDIAG_FIELD_REQUEST, abi::RSTDIAG_FIELD_RESET_TEXT].contains(&value.field);
        let of_peers = of.text(abi::RSTDIAG_FIELD_REQUEST).unwrap_or_default().contains(" -")
            || of.text(abi::RSTDIAG_FIELD_RESET_TEXT).unwrap_or_default().contains(" -");
        if !may_be_a_peers && !of_peers {
            assert!(!has_negative(&value.text), "negative: {value:?}");
        }
    }

    // The end, and the frames that it names.
    let is_open = is(abi::RSTDIAG_FIELD_CLOSE, "open");
    let by = text(abi::RSTDIAG_FIELD_CLOSE_BY);
    // An end whose first FIN or RST the capture may lack has none.
    assert!(!is_open || by.is_none(), "close.by");
    let is_told = number(abi::RSTDIAG_FIELD_CLOSE_FRAME).is_some();
    assert!(by.is_some() || !is_told, "close.frame without close.by");
    if let Some(frame) = number(abi::RSTDIAG_FIELD_CLOSE_FRAME) {
        let flags = captured.flags(stream, frame).expect("close.frame is one of the stream");
        assert!(flags & (FIN | RST) != 0, "close.frame {frame} is a FIN or RST");
    }
    let reset = number(abi::RSTDIAG_FIELD_RESET_FRAME);
    for field in [
        abi::RSTDIAG_FIELD_PHASE,
        abi::RSTDIAG_FIELD_RESET_BY,
        abi::RSTDIAG_FIELD_RESET_COUNT,
        abi::RSTDIAG_FIELD_RESET_FORM,
    ] {
        assert_eq!(of.value(field).is_some(), reset.is_some(), "a field of resets");
    }
    if let Some(frame) = reset {
        let flags = captured.flags(stream, frame).expect("reset.frame is one of the stream");
        assert!(flags & RST != 0, "reset.frame {frame} is a RST");
        let count = number(abi::RSTDIAG_FIELD_RESET_COUNT).unwrap_or_default();
        assert!((1..=captured.resets(stream)).contains(&count), "{count} RSTs");
    }
    if is(abi::RSTDIAG_FIELD_CLOSE, "reset") {
        assert!(reset.is_some(), "reset without a RST");
    }
    if let Some(frame) = number(abi::RSTDIAG_FIELD_RESET_ANSWERS) {
        assert!(captured.flags(stream, frame).is_some(), "a RST answers its own stream");
    }
    if let Some(frame) = number(abi::RSTDIAG_FIELD_OTHER_LEG) {
        assert!(captured.is_begin(frame), "other_leg {frame} begins a stream");
    }
    if text(abi::RSTDIAG_FIELD_CAUSE).is_some() {
        assert!(text(abi::RSTDIAG_FIELD_EVIDENCE).is_some(), "a cause rests on something");
        assert!(text(abi::RSTDIAG_FIELD_ADVICE).is_some(), "a cause leads to something");
    }

    // The exchange, and how bad it is.
    let transaction = text(abi::RSTDIAG_FIELD_TRANSACTION).expect("a transaction");
    let status = number(abi::RSTDIAG_FIELD_RESPONSE_STATUS);
    let is_failure = is(abi::RSTDIAG_FIELD_SEVERITY, "failure");
    if transaction == "completed" {
        assert_eq!(number(abi::RSTDIAG_FIELD_RESPONSE_ACKED), Some(1), "completed");
        assert_eq!(number(abi::RSTDIAG_FIELD_RESPONSE_MISSING), Some(0), "completed");
        let requests = number(abi::RSTDIAG_FIELD_REQUESTS);
        assert_ne!(requests, Some(0), "completed without a request");
    }
    let is_error = status.is_some_and(|status| status >= 500);
    assert!(!is_failure || transaction == "failed" || is_error, "failure of {transaction}");
}

/// Whether a sentence says a number below zero.
fn has_negative(text: &str) -> bool {
    text.as_bytes().windows(3).any(|it| it[..2] == *b" -" && it[2].is_ascii_digit())
}

fn of_entry(stream: u32, of: &Group<'_>, claims: &mut Claims) {
    let number = |field| of.number(field).expect("every entry has it");
    let score = number(abi::RSTDIAG_FIELD_MATCH_SCORE);
    let rivals = number(abi::RSTDIAG_FIELD_MATCH_RIVALS);
    assert!((0..=100).contains(&score) && rivals >= 0, "{score}, {rivals}");
    assert!(rivals == 0 || score < CERTAIN, "{rivals} rivals, and {score}");
    let took = of.number(abi::RSTDIAG_FIELD_LOG_REQUEST_TIME);
    assert!(took.is_none_or(|took| took >= 0), "request_time");
    let is_error = of.text(abi::RSTDIAG_FIELD_LOG_KIND) == Some("error");
    if is_error && score >= CERTAIN {
        let file = of.text(abi::RSTDIAG_FIELD_LOG_FILE).expect("a file").to_owned();
        let at = (file, number(abi::RSTDIAG_FIELD_LOG_LINE));
        let streams = claims.entry(at).or_default();
        streams.insert(stream);
        assert!(streams.len() == 1, "one entry on {streams:?}");
    }
}

/// Checks a part of a report.
pub fn check_part(part: &str) {
    assert!(part.ends_with('\n'), "whole lines: {part:?}");
    assert!(!part.contains(|c: char| c.is_control() && c != '\n'), "{part:?}");
}
