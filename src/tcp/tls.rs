// SPDX-License-Identifier: GPL-2.0-or-later
//! What a TLS connection shows without its keys: record headers (RFC 8446, section 5.1).
//!
//! The types and lengths of records tell when the handshake is over, and from then on which
//! side sent application data, and how much. They do not tell where a request or a response
//! ends, so nothing here claims that.

use serde::{Deserialize, Serialize};

use crate::tcp::app::Around;
use crate::tcp::half::Piece;
use crate::tcp::http::{self, Opening};
use crate::tcp::stream::Side;
use crate::tcp::talk::Talk;

/// Content types of records.
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// Length of a record's header.
const HEADER: usize = 5;

/// Records of TLS 1.3 that a server sends right behind the handshake, unasked: session
/// tickets. OpenSSL sends two.
const TICKETS: u32 = 2;

/// A session ticket is no longer than this with any of the usual libraries.
const TICKET_LEN: u16 = 600;

/// Application data from a client that is shorter than this need not be a request: HTTP/2
/// acknowledges settings and pings in frames of 9 to 17 bytes, and encryption adds 17 to 37.
const SMALLEST_REQUEST: u64 = 64;

/// Bytes of an alert, and of one that TLS 1.3 encrypts: with its type and a tag of 16.
const ALERT_LEN: u16 = 2;
const ENCRYPTED_ALERT_LEN: u16 = ALERT_LEN + 1 + 16;

/// An encrypted Finished is longer than this: its shortest hash has 32 bytes.
const SMALLEST_FINISHED: u16 = 32;

const FATAL: u8 = 2;

/// An alert that ends a handshake (RFC 8446, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The frame of the capture that brought it.
    pub frame: u32,
    /// Who sent it.
    pub by: Side,
    /// What it says; `None` if it is encrypted, and only its length tells that it is one.
    pub description: Option<u8>,
}

/// What an alert of a handshake is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The certificate of the other side, or that it has none.
    Certificate,
    /// The version of TLS.
    Version,
    /// Ciphers, groups or signatures that both sides know.
    Parameters,
    /// The name that the client asks for.
    Name,
    /// The application protocol.
    Protocol,
    /// Something else, or it is encrypted.
    Other,
}

/// Descriptions of alerts: number, name, and what they are about.
const ALERTS: &[(u8, &str, About)] = &[
    (0, "close_notify", About::Other),
    (10, "unexpected_message", About::Other),
    (20, "bad_record_mac", About::Other),
    (22, "record_overflow", About::Other),
    (40, "handshake_failure", About::Parameters),
    (41, "no_certificate", About::Certificate),
    (42, "bad_certificate", About::Certificate),
    (43, "unsupported_certificate", About::Certificate),
    (44, "certificate_revoked", About::Certificate),
    (45, "certificate_expired", About::Certificate),
    (46, "certificate_unknown", About::Certificate),
    (47, "illegal_parameter", About::Other),
    (48, "unknown_ca", About::Certificate),
    (49, "access_denied", About::Certificate),
    (50, "decode_error", About::Other),
    (51, "decrypt_error", About::Other),
    (70, "protocol_version", About::Version),
    (71, "insufficient_security", About::Parameters),
    (80, "internal_error", About::Other),
    (86, "inappropriate_fallback", About::Version),
    (90, "user_canceled", About::Other),
    (109, "missing_extension", About::Other),
    (110, "unsupported_extension", About::Other),
    (112, "unrecognized_name", About::Name),
    (113, "bad_certificate_status_response", About::Certificate),
    (115, "unknown_psk_identity", About::Other),
    (116, "certificate_required", About::Certificate),
    (120, "no_application_protocol", About::Protocol),
];

impl Alert {
    fn row(&self) -> Option<&'static (u8, &'static str, About)> {
        ALERTS.iter().find(|row| Some(row.0) == self.description)
    }

    /// What it is about.
    pub fn about(&self) -> About {
        self.row().map_or(About::Other, |row| row.2)
    }

    /// What it says, in the words of the standard.
    pub fn words(&self) -> String {
        match (self.row(), self.description) {
            (Some((number, name, _)), _) => format!("{name} ({number})"),
            (None, Some(number)) => format!("an unknown one ({number})"),
            (None, None) => "encrypted, by its length".to_owned(),
        }
    }
}

/// What is seen of one side.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Records {
    header: [u8; HEADER],
    header_len: usize,
    /// Bytes of the current record that are still to come.
    left: u64,
    lost: bool,
    changed_cipher: bool,
    /// An encrypted handshake message of TLS 1.2 and before, which is the Finished.
    finished: bool,
    /// The last record is as long as an encrypted alert, behind which nothing follows.
    may_be_closed: bool,
    /// Records of type application data that may be handshake messages or data.
    data_records: u32,
    /// Payload of an alert that is not encrypted.
    alert: [u8; ALERT_LEN as usize],
}

impl Records {
    /// Whether the current record is an alert that anybody can read.
    fn is_plain_alert(&self) -> bool {
        self.header[0] == ALERT && self.header[3..] == ALERT_LEN.to_be_bytes()
    }
}

/// A conversation by direction: who sent application data last, and how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bursts {
    /// The side that sent the last burst.
    pub last: Option<Side>,
    /// Bytes of that burst.
    pub bytes: u64,
    /// The last bytes may have been said before that burst, or behind it.
    pub unplaced: bool,
    /// Whether the server has ever sent any.
    pub answered: bool,
    /// Bytes of all bursts.
    pub said: u64,
}

impl Bursts {
    /// Adds data of this side. What stands in the capture behind its acknowledgment has no place
    /// in the order, if the other side has spoken.
    pub fn add(&mut self, side: Side, bytes: u64, late: bool) {
        self.said = self.said.saturating_add(bytes);
        self.answered |= side == Side::Server;
        self.unplaced = late && self.last == Some(side.peer());
        if self.unplaced {
            return;
        }
        if self.last != Some(side) {
            (self.last, self.bytes) = (Some(side), 0);
        }
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Whether the last burst can only be (a part of) a request.
    pub fn asks(&self) -> bool {
        self.last == Some(Side::Client) && (!self.answered || self.bytes >= SMALLEST_REQUEST)
    }
}

/// The record layer of one connection.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tls {
    client: Records,
    server: Records,
    /// The handshake is of TLS 1.3: the server sent encrypted records before the client did.
    v13: bool,
    /// Records that the server sent behind a TLS 1.3 handshake, each as short as a ticket.
    ticket_like: u32,
    /// Application data, by direction.
    pub bursts: Bursts,
    /// Bytes of records, save alerts.
    said: u64,
    /// The HTTP inside, where the host has the keys.
    plain: Option<Box<Talk>>,
    /// The first alert that ended the handshake.
    refusal: Option<Alert>,
    /// The frame of the capture from which bytes are taken.
    frame: u32,
}

/// Whether the content of a record is of TLS itself: an alert, or handshake messages, of which
/// TLS 1.3 has some behind the handshake (RFC 8446, section 4). They fill their record.
fn is_of_tls(mut content: &[u8]) -> bool {
    if matches!(content, [1 | 2, _]) {
        return true;
    }
    while let [1..=24, high, middle, low, rest @ ..] = content {
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        match rest.get(length..) {
            Some([]) => return true,
            Some(next) => content = next,
            None => return false,
        }
    }
    false
}

/// Whether the bytes that a client sends first are the start of a TLS handshake.
pub fn starts(bytes: &[u8]) -> bool {
    matches!(bytes, [HANDSHAKE, 3, ..] | [HANDSHAKE])
}

/// Whether a server answers a TLS handshake with these bytes: an alert that anybody can read.
pub fn refuses(bytes: &[u8]) -> bool {
    matches!(bytes, [ALERT, 3, 0..=4, 0, 2, 1 | 2, _, ..])
}

/// Whether these bytes look like a record of a connection that was encrypted long before.
pub fn continues(bytes: &[u8]) -> bool {
    matches!(bytes, [CHANGE_CIPHER_SPEC..=APPLICATION_DATA, 3, 1..=4, ..])
}

impl Tls {
    /// A connection that the capture joins after its handshake: encrypted, and no more is
    /// known of it.
    pub fn mid_stream() -> Tls {
        let lost = || Records { lost: true, ..Records::default() };
        Tls { client: lost(), server: lost(), ..Tls::default() }
    }

    /// What is taken next comes from this frame of the capture.
    pub fn come_to(&mut self, frame: u32) {
        self.frame = frame;
    }

    /// The first alert that ended the handshake.
    pub fn refusal(&self) -> Option<Alert> {
        self.refusal
    }

    /// Takes the next piece that a side sent; `late` if it stands in the capture behind its
    /// acknowledgment. What a record of the handshake means depends on what came before it.
    pub fn take(&mut self, side: Side, piece: Piece<'_>, late: bool) {
        if late && !self.established() {
            self.half(side).lost = true;
        }
        match piece {
            Piece::Data(bytes) => self.bytes(side, bytes, late),
            Piece::Missing(count) => {
                self.said = self.said.saturating_add(count);
                let half = self.half(side);
                match half.left.checked_sub(count).filter(|_| half.header_len == HEADER) {
                    Some(left) => half.left = left,
                    None => half.lost = true,
                }
            }
        }
    }

    /// Takes the content of a record that the host decrypted, and that ends at this position of
    /// its side's bytes. Positions inside of it are those of its last bytes, so that what is
    /// complete has been sent in full.
    pub fn decrypted(&mut self, side: Side, end: i64, content: &[u8]) {
        if let [FATAL, description] = *content {
            self.tell_alert(side, description);
        }
        if is_of_tls(content) {
            return;
        }
        let frame = self.frame;
        let plain = self.plain.get_or_insert_with(|| {
            let talk = Talk::that_begins_with(side, content);
            let is_guess = http::opening(content) == Opening::Possible;
            let talk = talk.filter(|_| side == Side::Server || !is_guess);
            Box::new(talk.unwrap_or_else(Talk::mid_stream))
        });
        plain.take(
            side,
            end - content.len() as i64,
            Piece::Data(content),
            Around { frame, ..Around::default() },
        );
    }

    /// The HTTP inside, where the host has the keys.
    pub fn plain(&self) -> Option<&Talk> {
        self.plain.as_deref()
    }

    /// The server sent its FIN here.
    pub fn server_end(&mut self, at: i64) {
        if let Some(plain) = &mut self.plain {
            plain.server_end(at);
        }
    }

    /// Whether a record of this side has begun and not ended.
    pub fn is_within_record(&self, side: Side) -> bool {
        let half = match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        };
        half.left > 0 || half.header_len > 0 && half.header_len < HEADER
    }

    /// Whether both sides have finished the handshake, as far as records tell.
    pub fn established(&self) -> bool {
        if self.v13 {
            self.client.data_records > 0
        } else {
            self.client.finished && self.server.finished
        }
    }

    /// Whether records can't be told apart any more.
    pub fn is_lost(&self) -> bool {
        self.client.lost || self.server.lost
    }

    /// Whether application data was sent, or may have been.
    pub fn has_said(&self) -> bool {
        self.bursts.last.is_some() || self.is_lost()
    }

    /// Whether all that the server has sent since the handshake may be session tickets.
    pub fn may_be_unanswered(&self) -> bool {
        self.v13 && self.ticket_like > 0 && self.ticket_like <= TICKETS
    }

    /// Bytes of all that was said, alerts left out: they end a conversation and are no part
    /// of it.
    pub fn said(&self) -> u64 {
        self.said
    }

    fn half(&mut self, side: Side) -> &mut Records {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    fn bytes(&mut self, side: Side, mut bytes: &[u8], late: bool) {
        while !bytes.is_empty() {
            let half = self.half(side);
            if half.lost {
                return;
            }
            if half.left > 0 {
                let taken = half.left.min(bytes.len() as u64);
                if half.is_plain_alert() {
                    for &byte in &bytes[..taken as usize] {
                        half.alert.rotate_left(1);
                        half.alert[1] = byte;
                    }
                }
                half.left -= taken;
                bytes = &bytes[taken as usize..];
                self.said += if half.header[0] == ALERT { 0 } else { taken };
                let half = self.half(side);
                if half.left == 0 && half.is_plain_alert() && half.alert[0] == FATAL {
                    let description = half.alert[1];
                    self.refuse(side, Some(description));
                }
                continue;
            }
            if half.header_len == HEADER {
                half.header_len = 0;
            }
            let taken = (HEADER - half.header_len).min(bytes.len());
            half.header[half.header_len..half.header_len + taken]
                .copy_from_slice(&bytes[..taken]);
            half.header_len += taken;
            bytes = &bytes[taken..];
            if half.header_len == HEADER {
                let [kind, major, _, high, low] = half.header;
                if !(CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&kind) || major != 3 {
                    half.lost = true;
                    return;
                }
                let length = u16::from_be_bytes([high, low]);
                half.left = u64::from(length);
                self.record(side, kind, length, late);
            }
        }
    }

    fn record(&mut self, side: Side, kind: u8, length: u16, late: bool) {
        match kind {
            CHANGE_CIPHER_SPEC => self.half(side).changed_cipher = true,
            HANDSHAKE if self.half(side).changed_cipher => self.half(side).finished = true,
            APPLICATION_DATA => {
                if side == Side::Server && !self.client.finished && !self.v13 {
                    self.v13 = true;
                    // What the client encrypted before this was early data, not its Finished.
                    self.client.data_records = 0;
                }
                if length == ENCRYPTED_ALERT_LEN && self.v13 {
                    self.refuse(side, None);
                }
                if length < SMALLEST_FINISHED && !self.established() {
                    return;
                }
                let behind_handshake =
                    if self.v13 { self.established() } else { self.half(side).finished };
                self.half(side).data_records += 1;
                if !behind_handshake {
                    return;
                }
                let is_alert = self.v13 && length == ENCRYPTED_ALERT_LEN;
                // What is followed by more was none.
                if std::mem::replace(&mut self.half(side).may_be_closed, is_alert) {
                    self.data(side, ENCRYPTED_ALERT_LEN, late);
                }
                if !is_alert {
                    self.data(side, length, late);
                }
            }
            _ => {}
        }
    }

    /// A side ended the handshake with an alert, if it was not over.
    fn refuse(&mut self, by: Side, description: Option<u8>) {
        if !self.established() && self.refusal.is_none() {
            self.refusal = Some(Alert { frame: self.frame, by, description });
        }
    }

    /// The host has the keys of an alert of which the length told only that it is one.
    fn tell_alert(&mut self, by: Side, description: u8) {
        match &mut self.refusal {
            Some(alert) if alert.by == by && alert.description.is_none() => {
                alert.description = Some(description);
            }
            Some(_) => {}
            None => self.refuse(by, Some(description)),
        }
    }

    /// Application data behind the handshake.
    fn data(&mut self, side: Side, length: u16, late: bool) {
        if length == ENCRYPTED_ALERT_LEN && self.v13 {
            return;
        }
        if side == Side::Server && self.v13 {
            let nobody_asked = self.bursts.last.is_none();
            if length < TICKET_LEN && self.ticket_like <= TICKETS {
                self.ticket_like += 1;
            } else {
                self.ticket_like = TICKETS + 1;
            }
            if nobody_asked && self.ticket_like <= TICKETS {
                return;
            }
        }
        self.bursts.add(side, u64::from(length), late);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Plays records `(side, type, length)`, each in two pieces.
    fn play(records: &[(char, u8, u16)]) -> Tls {
        let mut tls = Tls::default();
        for &(side, kind, length) in records {
            let side = if side == 'c' { Side::Client } else { Side::Server };
            let mut record = vec![kind, 3, 3];
            record.extend(length.to_be_bytes());
            record.extend(vec![0; usize::from(length)]);
            let (head, tail) = record.split_at(3);
            tls.take(side, Piece::Data(head), false);
            tls.take(side, Piece::Data(tail), false);
        }
        tls
    }

    #[test]
    fn tls_1_2_is_established_with_both_finished() {
        let mut flight =
            vec![('c', 22, 200), ('s', 22, 3000), ('c', 22, 70), ('c', 20, 1), ('c', 22, 40)];
        assert!(!play(&flight).established());
        flight.extend([('s', 20, 1), ('s', 22, 40)]);
        assert!(play(&flight).established());
        assert_eq!(play(&flight).bursts.last, None);
        flight.push(('c', 23, 400));
        assert!(play(&flight).bursts.asks());
    }

    #[test]
    fn tls_1_3_is_established_with_the_clients_first_encrypted_record() {
        let mut flight = vec![('c', 22, 500), ('s', 22, 122), ('s', 20, 1), ('s', 23, 900)];
        assert!(!play(&flight).established());
        flight.extend([('c', 20, 1), ('c', 23, 53)]);
        let tls = play(&flight);
        assert!(tls.established());
        assert_eq!(tls.bursts.last, None, "the Finished is no request");
        flight.extend([('s', 23, 250), ('s', 23, 250)]);
        assert_eq!(play(&flight).bursts.last, None, "tickets are no response");
        flight.push(('c', 23, 400));
        assert!(play(&flight).bursts.asks());
    }

    #[test]
    fn tickets_behind_the_request_may_be_no_answer() {
        let mut flight =
            vec![('c', 22, 500), ('s', 22, 122), ('s', 23, 900), ('c', 23, 53), ('c', 23, 400)];
        flight.extend([('s', 23, 250), ('s', 23, 250)]);
        assert!(play(&flight).may_be_unanswered());
        flight.push(('s', 23, 5000));
        assert!(!play(&flight).may_be_unanswered());
    }

    fn refused(flight: &[(char, u8, u16)], by: Side, record: &[u8]) -> Option<Alert> {
        let mut tls = play(flight);
        tls.come_to(7);
        record.chunks(2).for_each(|piece| tls.take(by, Piece::Data(piece), false));
        tls.refusal()
    }

    #[test]
    fn an_alert_ends_a_handshake_and_is_told() {
        let hello = [('c', 22, 200), ('s', 22, 3000)];
        let unknown_ca = [21, 3, 3, 0, 2, 2, 48];
        let alert = refused(&hello, Side::Client, &unknown_ca).unwrap();
        assert_eq!(
            (alert.frame, alert.by, alert.about()),
            (7, Side::Client, About::Certificate)
        );
        assert_eq!(alert.words(), "unknown_ca (48)");
        assert_eq!(refused(&hello, Side::Client, &[21, 3, 3, 0, 2, 1, 0]), None, "a warning");
        let done = [('c', 22, 70), ('c', 20, 1), ('c', 22, 40), ('s', 20, 1), ('s', 22, 40)];
        assert_eq!(refused(&done, Side::Client, &unknown_ca), None, "the handshake is over");
    }

    #[test]
    fn an_encrypted_alert_is_no_finished() {
        let hello = [('c', 22, 500), ('s', 22, 122), ('s', 20, 1), ('s', 23, 900)];
        let mut record = vec![23, 3, 3, 0, 19];
        record.extend([9; 19]);
        let alert = refused(&hello, Side::Client, &record).unwrap();
        assert_eq!((alert.description, alert.about()), (None, About::Other));
        let flight = [&hello[..], &[('c', 23, 19)]].concat();
        let mut tls = play(&flight);
        assert!(!tls.established());
        tls.decrypted(Side::Client, 600, &[2, 42]);
        assert_eq!(tls.refusal().unwrap().words(), "bad_certificate (42)");
    }

    #[test]
    fn missing_bytes_inside_a_record_are_passed_over_and_others_lose_the_records() {
        let mut tls = Tls::default();
        tls.take(Side::Client, Piece::Data(&[22, 3, 1, 0, 100, 1, 2]), false);
        tls.take(Side::Client, Piece::Missing(98), false);
        assert!(!tls.is_lost());
        tls.take(Side::Client, Piece::Missing(1), false);
        assert!(tls.is_lost());
    }
}
