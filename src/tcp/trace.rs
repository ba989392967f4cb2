// SPDX-License-Identifier: GPL-2.0-or-later
//! What the packets around a RST tell about who sent it, and in answer to what.
//!
//! A RST is judged against the other packets of the side whose address it bears, never against
//! fixed values: what one system puts into every RST is a forgery on another.

use serde::{Deserialize, Serialize};

use crate::tcp::segment::Segment;
use crate::tcp::stream::Side;
use crate::time::{CaptureTime, SECOND};

/// Segments before a RST that it can be an answer to. A sender has more than these under way,
/// yet all that a closed socket is sent at once look the same to it.
const RECENT: usize = 6;

/// Nanoseconds within which a host answers a segment that finds no socket, where the capture
/// lacks the handshake, which tells how far away it is.
const ANSWERED_WITHIN: i64 = 2 * SECOND;

/// Nanoseconds by which such an answer may be slower than that of the handshake: no process has
/// to wake for either, but queues on the way fill and empty.
const JITTER: i64 = SECOND / 5;

/// Hops by which packets of one host may differ when routes change (a box that gives other
/// answers than the host is found by one; one that answers nothing, by more).
const NEAR: u8 = 2;

/// How a RST came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// A living socket aborted.
    Active,
    /// An answer to a segment that found no socket.
    Passive,
    /// There is evidence of a third party.
    Injected,
    /// The packets do not tell.
    Unclear,
}

impl Form {
    /// The word of the public interface.
    pub fn word(self) -> &'static str {
        match self {
            Form::Active => "active",
            Form::Passive => "passive",
            Form::Injected => "injected",
            Form::Unclear => "unclear",
        }
    }
}

/// What a segment is, as far as a RST can answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A SYN without an ACK.
    Syn,
    /// A SYN with an ACK.
    SynAck,
    /// Neither data nor SYN nor FIN.
    Ack,
    /// A FIN without data.
    Fin,
    /// Data, which may carry a FIN.
    Data,
    /// Data that is one TLS alert.
    TlsAlert,
    /// At most one byte, right before what was sent last: a keep-alive probe.
    Probe,
}

/// One segment before the RST.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Frame number.
    pub frame: u32,
    /// When it was captured.
    pub time: CaptureTime,
    /// Who sent it.
    pub side: Side,
    /// What it is.
    pub what: What,
    /// Bytes of payload.
    pub payload_len: u32,
    /// Its sender had sent nothing for this long, in nanoseconds.
    pub silence: i64,
    seq_end: u32,
    ack: Option<u32>,
}

impl Seen {
    /// Where data begins, and what it acknowledges.
    pub fn numbers(&self) -> Option<[u32; 2]> {
        Some([self.seq_end.wrapping_sub(self.payload_len), self.ack?])
    }
}

/// What the packets of one side have in common.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Habits {
    /// TTL or hop limit, while all have the same.
    pub ttl: Option<u8>,
    /// They do not all have the same.
    pub ttl_varies: bool,
    /// Its frames, one of them.
    pub frame: u32,
    /// Nanoseconds in which its kernel answered in the handshake. Later segments may cross.
    answered_in: Option<i64>,
}

impl Habits {
    fn note(&mut self, segment: &Segment<'_>) {
        match (self.ttl, segment.ttl) {
            (Some(known), Some(ttl)) => self.ttl_varies |= known != ttl,
            (None, ttl) => self.ttl = ttl,
            (Some(_), None) => {}
        }
        self.frame = segment.frame;
    }
}

/// The last segments of a stream, and what each side's have in common.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Trace {
    recent: Vec<Seen>,
    /// By [`Side`].
    pub habits: [Habits; 2],
    last: [Option<CaptureTime>; 2],
    /// SYN-ACKs that came after the client had acknowledged one.
    pub syn_ack_again: u8,
    /// SYNs of the client.
    pub syns: u8,
    /// The server acknowledged something other than the SYN, and did not accept it.
    pub stray_ack: Option<u32>,
    /// Keep-alive probes in a row that nobody answered, and whose.
    pub probes: (u8, Option<Side>),
    /// Data that the client sent again in a row, without progress of the acknowledgments.
    pub retransmissions: u8,
}

/// What is noted of the first RST.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ResetSigns {
    /// It acknowledges something.
    pub ack_flag: bool,
    /// Its sequence number stands this far from the next one of its side, if that is known.
    pub off: Option<i64>,
    /// Its window.
    pub window: u16,
    /// Its TTL or hop limit.
    pub ttl: Option<u8>,
    /// What its side's other packets have in common.
    pub habits: Habits,
    /// The segment of the peer that its numbers answer.
    pub answers: Option<Seen>,
    /// When another one came that they answer as well.
    pub rival_at: Option<CaptureTime>,
}

/// What is seen of a segment's place in its direction.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Bytes between the next one of its side and its first.
    pub off: i64,
    /// Its payload is new.
    pub fresh: bool,
    /// The connection is established.
    pub established: bool,
}

impl Trace {
    /// What was taken for one side was the other one.
    pub fn turn_round(&mut self) {
        self.habits.reverse();
        self.last.reverse();
        self.probes.1 = self.probes.1.map(Side::peer);
        for seen in &mut self.recent {
            seen.side = seen.side.peer();
        }
    }

    /// The connection is closed: what led up to that explains nothing any more, save the last
    /// segment, which a RST may still answer.
    pub fn rest(&mut self) {
        self.recent.drain(..self.recent.len().saturating_sub(1));
        self.recent.shrink_to_fit();
    }

    /// Notes a segment that is no RST.
    pub fn note(&mut self, side: Side, segment: &Segment<'_>, place: Place) {
        let habits = &mut self.habits[side as usize];
        habits.note(segment);
        if let Some(asked) = self.recent.last().filter(|last| last.side != side) {
            if !place.established {
                habits.answered_in.get_or_insert(segment.time.since(asked.time));
            }
        }
        let tcp = &segment.tcp;
        let what = what(segment, place);
        match (side, what) {
            (Side::Client, What::Syn) => self.syns = self.syns.saturating_add(1),
            (Side::Server, What::SynAck) if place.established => {
                self.syn_ack_again = self.syn_ack_again.saturating_add(1);
            }
            (Side::Server, What::Ack) if !place.established => {
                self.stray_ack = Some(segment.frame);
            }
            _ => {}
        }
        // By the time stamps it does not follow what stands before it.
        let is_back = self.last.iter().flatten().any(|last| segment.time < *last);
        let last = self.last[side as usize];
        self.last[side as usize] = last.max(Some(segment.time));
        let is_asked = self
            .recent
            .iter()
            .any(|seen| seen.what == What::Probe && seen.time <= segment.time);
        self.probes = match (what, self.probes) {
            _ if is_back && !is_asked => self.probes,
            (What::Probe, (count, Some(by))) if by == side => {
                (count.saturating_add(1), Some(by))
            }
            (What::Probe, _) => (1, Some(side)),
            _ => (0, None),
        };
        if side == Side::Client && what == What::Data {
            self.retransmissions = match place.fresh {
                true => 0,
                false => self.retransmissions.saturating_add(1),
            };
        }
        if self.recent.len() == RECENT {
            self.recent.remove(0);
        }
        self.recent.push(Seen {
            frame: segment.frame,
            time: segment.time,
            side,
            what,
            payload_len: segment.payload_len,
            silence: last.map_or(0, |last| segment.time.since(last)),
            seq_end: tcp
                .seq
                .wrapping_add(segment.payload_len)
                .wrapping_add(u32::from(tcp.syn) + u32::from(tcp.fin)),
            ack: tcp.ack_flag.then_some(tcp.ack),
        });
    }

    /// What the last segments tell about a RST of this side.
    pub fn signs(&self, side: Side, segment: &Segment<'_>, off: Option<i64>) -> ResetSigns {
        let tcp = &segment.tcp;
        let habits = self.habits[side as usize];
        let within = habits.answered_in.map_or(ANSWERED_WITHIN, |took| took + JITTER);
        // An answer bears the numbers of what it answers (RFC 9293, section 3.5.2): without
        // an ACK the sequence number that it asks for, with one the end of what it brought.
        // Some living sockets abort without an ACK, too, with a window or long after.
        let answered = |seen: &&Seen| {
            seen.side != side
                && tcp.window == 0
                && (0..=within).contains(&segment.time.since(seen.time))
                && match (seen.ack, tcp.ack_flag) {
                    (Some(ack), false) => ack == tcp.seq && tcp.ack == 0,
                    (None, true) => tcp.seq == 0 && seen.seq_end == tcp.ack,
                    _ => false,
                }
        };
        let answers = self.recent.iter().filter(answered).max_by_key(|seen| seen.time).copied();
        let others = self.recent.iter().filter(answered);
        let others = others.filter(|seen| answers.is_some_and(|by| by.frame != seen.frame));
        ResetSigns {
            ack_flag: tcp.ack_flag,
            off,
            window: tcp.window,
            ttl: segment.ttl,
            habits,
            answers,
            rival_at: others.map(|seen| seen.time).max(),
        }
    }
}

fn what(segment: &Segment<'_>, place: Place) -> What {
    let tcp = &segment.tcp;
    match segment.payload_len {
        _ if tcp.syn && tcp.ack_flag => What::SynAck,
        _ if tcp.syn => What::Syn,
        0 | 1 if place.off == -1 && !tcp.fin && place.established => What::Probe,
        0 if tcp.fin => What::Fin,
        0 => What::Ack,
        _ if is_tls_alert(segment.payload, segment.payload_len) => What::TlsAlert,
        _ => What::Data,
    }
}

/// One record of type alert, encrypted or not, and nothing else. TLS 1.3 hides the type, but
/// not the length: an alert's two bytes, its type and an authentication tag of 16.
pub fn is_tls_alert(payload: &[u8], payload_len: u32) -> bool {
    match payload {
        [21, 3, _, high, low, ..] => {
            u32::from(u16::from_be_bytes([*high, *low])) + 5 == payload_len
        }
        [23, 3, 3, 0, 19, ..] => payload_len == 24,
        _ => false,
    }
}

/// Whether the last record of these, which begin here, is an alert.
pub fn ends_in_tls_alert(mut payload: &[u8], mut payload_len: u32) -> bool {
    while let [20..=23, 3, _, high, low, ..] = *payload {
        let len = usize::from(u16::from_be_bytes([high, low])) + 5;
        match (payload.get(len..), payload_len.checked_sub(len as u32)) {
            (Some(rest), Some(left)) if left > 0 => (payload, payload_len) = (rest, left),
            _ => break,
        }
    }
    is_tls_alert(payload, payload_len)
}

/// A connection that was silent for this long was idle: boxes on the way forget idle ones.
pub const IDLE: i64 = SECOND;

impl ResetSigns {
    /// By how many hops its TTL differs from those of its side's other packets, which are all
    /// the same. `host` is what other connections tell of the host, where this one tells nothing.
    pub fn hops_off(&self, host: Option<u8>) -> Option<u8> {
        let known = self.habits.ttl.or(host).filter(|_| !self.habits.ttl_varies)?;
        Some(known.abs_diff(self.ttl?))
    }

    /// Whether it comes from elsewhere than its side's other packets, whatever the routes do.
    pub fn is_far_off(&self, host: Option<u8>) -> bool {
        self.hops_off(host).is_some_and(|hops| hops > NEAR)
    }

    /// Its number is the one that its side goes on with, before or behind a FIN.
    fn is_next(&self) -> bool {
        self.off.is_some_and(|off| (0..=1).contains(&off))
    }

    /// Its number is none that its side would use.
    pub fn is_out_of_order(&self) -> bool {
        self.off.is_some() && !self.is_next()
    }

    /// Its number is so far from what was seen of its side that it may belong to what was not
    /// seen, or to another connection; an answer repeats what it was sent.
    pub fn is_elsewhere(&self) -> bool {
        self.answers.is_none() && self.is_out_of_order()
    }

    /// How the RST came about. `ignored` if the connection went on after it.
    pub fn form(&self, host: Option<u8>, ignored: bool) -> Form {
        // What answers a segment is an answer, whoever gives it in the peer's name.
        if self.answers.is_some() {
            Form::Passive
        } else if ignored || self.is_far_off(host) {
            Form::Injected
        } else if self.ack_flag
            && self.is_next()
            && matches!(self.hops_off(host), None | Some(0))
        {
            Form::Active
        } else {
            Form::Unclear
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::segment::{Endpoint, Header};

    fn noted(trace: &mut Trace, frame: u32) {
        let end = Endpoint { addr: None, port: 80 };
        let segment = Segment {
            frame,
            layer: 0,
            stream: 0,
            time: CaptureTime(i64::from(frame)),
            src: end,
            dst: end,
            tcp: Header::default(),
            payload_len: 0,
            payload: &[],
            ip_id: None,
            ttl: Some(64),
            decrypted: &[],
        };
        trace.note(Side::Server, &segment, Place { off: 0, fresh: false, established: true });
    }

    #[test]
    fn a_closed_connection_keeps_one_segment() {
        let mut trace = Trace::default();
        (1..20).for_each(|frame| noted(&mut trace, frame));
        assert_eq!(trace.recent.len(), RECENT);
        assert_eq!(trace.recent[0].frame, 19 - RECENT as u32 + 1, "in the order of frames");
        trace.rest();
        assert_eq!(trace.recent.len(), 1);
        assert_eq!(trace.recent[0].frame, 19);
        assert!(trace.recent.capacity() < RECENT);
        assert!(std::mem::size_of::<Trace>() <= 160, "{}", std::mem::size_of::<Trace>());
    }
}
