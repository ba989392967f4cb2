// SPDX-License-Identifier: GPL-2.0-or-later
//! Why an entry has no stream, and why a reset has no entry.
//!
//! Nothing vanishes: whatever has no counterpart has exactly one reason. Facts are gathered
//! elsewhere as plain data; here they are judged, from the most telling reason to the least.

/// What is known of an entry about the end of a connection that no stream has for certain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryFacts {
    /// It may be about a stream, but others would do as well.
    pub has_rivals: bool,
    /// Its time does not exist in the zone of the log.
    pub no_such_time: bool,
    /// It was written before the capture began or after it ended.
    pub outside: bool,
    /// Its client's connection is none of TCP.
    pub not_tcp: bool,
    /// What it tells of leaves no packet.
    pub no_packet: bool,
    /// The capture holds no connection of the client or upstream that it names.
    pub peer_unseen: bool,
    /// A stream that it could be about has no end in the capture.
    pub endless: bool,
    /// It tells of a response, not of the end of a connection.
    pub not_last: bool,
}

/// What is known of a stream with a RST that no entry is about for certain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamFacts {
    /// No log was given, or none could be read.
    pub no_log: bool,
    /// An entry may be about it, but other streams would do as well.
    pub has_rivals: bool,
    /// The connection went on after the RST.
    pub no_effect: bool,
    /// Neither of its addresses is nginx's, as far as entries with a stream tell.
    pub foreign: bool,
    /// It was reset in the handshake, and nginx was not the one that connected.
    pub unaccepted: bool,
    /// nginx itself, or its system, sent the RST.
    pub by_nginx: bool,
    /// It was nginx's, kept for an upstream, and idle when the upstream reset it.
    pub idle_upstream: bool,
    /// Who received the RST had sent its own FIN before.
    pub after_fin: bool,
    /// It may be a client's, and the log holds no entry of the level of clients.
    pub level_too_low: bool,
    /// It was reset before the first line of the log or after its last one.
    pub outside: bool,
}

/// One reason: its word and what it means.
#[derive(Debug, PartialEq, Eq)]
pub struct Reason {
    /// The word that the report shows.
    pub word: &'static str,
    /// What it means, and what to do about it if anything can be done.
    pub means: &'static str,
}

type Row<Facts> = (fn(&Facts) -> bool, Reason);

/// Reasons of entries, the most telling first; the last one is left when no other holds.
static OF_ENTRY: &[Row<EntryFacts>] = &[
    (
        |facts| facts.has_rivals,
        Reason { word: "rivals", means: "several streams fit it equally well" },
    ),
    (
        |facts| facts.no_such_time,
        Reason {
            word: "no_such_time",
            means: "its hour does not exist in the zone of the log; is time_zone right?",
        },
    ),
    (
        |facts| facts.not_tcp,
        Reason {
            word: "not_tcp",
            means: "its client spoke HTTP/3, over UDP: no TCP stream can be that connection",
        },
    ),
    (
        |facts| facts.no_packet,
        Reason {
            word: "no_packet_expected",
            means: "nginx or its system gave up before any packet was sent",
        },
    ),
    (
        |facts| facts.outside,
        Reason {
            word: "outside_capture",
            means: "written before the capture began or after it ended; is time_zone right?",
        },
    ),
    (
        |facts| facts.peer_unseen,
        Reason {
            word: "not_captured",
            means: "the capture holds no connection of the client or upstream that it names",
        },
    ),
    (
        |facts| facts.endless,
        Reason {
            word: "no_end",
            means: "a stream that it could be about is still open when the capture ends",
        },
    ),
    (
        |facts| facts.not_last,
        Reason {
            word: "no_last_response",
            means: "it tells of a response, and only the last one of a connection is compared",
        },
    ),
    (
        |_| true,
        Reason {
            word: "no_stream",
            means: "no stream ended like this at that time, unless another entry is about it",
        },
    ),
];

/// Reasons of streams with a RST, the most telling first; the last one is left when no other
/// holds.
static OF_STREAM: &[Row<StreamFacts>] = &[
    (|facts| facts.no_log, Reason { word: "no_log", means: "there is no log to look into" }),
    (
        |facts| facts.has_rivals,
        Reason { word: "rivals", means: "entries that fit it fit other streams equally well" },
    ),
    (
        |facts| facts.no_effect,
        Reason {
            word: "no_effect",
            means: "the connection went on: nobody learns of this RST",
        },
    ),
    (
        |facts| facts.foreign,
        Reason {
            word: "not_nginx",
            means: "neither address is nginx's, as far as the matched entries tell",
        },
    ),
    (
        |facts| facts.unaccepted,
        Reason {
            word: "never_reached_nginx",
            means: "reset in the handshake: no application was given the connection",
        },
    ),
    (
        |facts| facts.by_nginx,
        Reason {
            word: "by_nginx",
            means: "the RST came from nginx's own host, and nginx does not log what it does",
        },
    ),
    (
        |facts| facts.idle_upstream,
        Reason {
            word: "idle_upstream",
            means: "nginx kept it for the upstream's next request, and drops those silently",
        },
    ),
    (
        |facts| facts.after_fin,
        Reason {
            word: "after_fin",
            means: "the receiver had sent its own FIN before, and was done with the connection",
        },
    ),
    (
        |facts| facts.level_too_low,
        Reason {
            word: "level_too_low",
            means: "resets of clients are logged at [info], and the log holds no such line",
        },
    ),
    (
        |facts| facts.outside,
        Reason {
            word: "outside_log",
            means: "before the first line of the log or after its last one",
        },
    ),
    (|_| true, Reason { word: "no_entry", means: "no entry of the log fits it" }),
];

/// Why no stream is an entry's for certain.
pub fn of_entry(facts: &EntryFacts) -> &'static Reason {
    first(OF_ENTRY, facts)
}

/// Why no entry is a stream's for certain.
pub fn of_stream(facts: &StreamFacts) -> &'static Reason {
    first(OF_STREAM, facts)
}

/// Every reason of an entry, in order.
pub fn of_entries() -> impl Iterator<Item = &'static Reason> {
    OF_ENTRY.iter().map(|row| &row.1)
}

/// Every reason of a stream, in order.
pub fn of_streams() -> impl Iterator<Item = &'static Reason> {
    OF_STREAM.iter().map(|row| &row.1)
}

fn first<Facts>(rows: &'static [Row<Facts>], facts: &Facts) -> &'static Reason {
    static NONE: Reason = Reason { word: "unknown", means: "" };
    rows.iter().find(|(holds, _)| holds(facts)).map_or(&NONE, |(_, reason)| reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One fact each, in the order of the table, and the reason that it is.
    #[test]
    fn each_fact_of_an_entry_is_a_reason_and_the_first_one_counts() {
        let none = EntryFacts::default();
        let cases = [
            (EntryFacts { has_rivals: true, ..none }, "rivals"),
            (EntryFacts { no_such_time: true, ..none }, "no_such_time"),
            (EntryFacts { not_tcp: true, ..none }, "not_tcp"),
            (EntryFacts { no_packet: true, ..none }, "no_packet_expected"),
            (EntryFacts { outside: true, ..none }, "outside_capture"),
            (EntryFacts { peer_unseen: true, ..none }, "not_captured"),
            (EntryFacts { endless: true, ..none }, "no_end"),
            (EntryFacts { not_last: true, ..none }, "no_last_response"),
            (none, "no_stream"),
            (EntryFacts { outside: true, peer_unseen: true, ..none }, "outside_capture"),
        ];
        let words: Vec<_> = cases.iter().map(|(facts, _)| of_entry(facts).word).collect();
        assert_eq!(words, cases.map(|(_, word)| word));
        assert!(of_entries().all(|reason| words.contains(&reason.word)));
    }

    #[test]
    fn each_fact_of_a_stream_is_a_reason_and_the_first_one_counts() {
        let none = StreamFacts::default();
        let cases = [
            (StreamFacts { no_log: true, ..none }, "no_log"),
            (StreamFacts { has_rivals: true, ..none }, "rivals"),
            (StreamFacts { no_effect: true, ..none }, "no_effect"),
            (StreamFacts { foreign: true, ..none }, "not_nginx"),
            (StreamFacts { unaccepted: true, ..none }, "never_reached_nginx"),
            (StreamFacts { by_nginx: true, ..none }, "by_nginx"),
            (StreamFacts { idle_upstream: true, ..none }, "idle_upstream"),
            (StreamFacts { after_fin: true, ..none }, "after_fin"),
            (StreamFacts { level_too_low: true, ..none }, "level_too_low"),
            (StreamFacts { outside: true, ..none }, "outside_log"),
            (none, "no_entry"),
            (StreamFacts { level_too_low: true, outside: true, ..none }, "level_too_low"),
            (StreamFacts { no_log: true, unaccepted: true, ..none }, "no_log"),
        ];
        let words: Vec<_> = cases.iter().map(|(facts, _)| of_stream(facts).word).collect();
        assert_eq!(words, cases.map(|(_, word)| word));
        assert!(of_streams().all(|reason| words.contains(&reason.word)));
    }
}
