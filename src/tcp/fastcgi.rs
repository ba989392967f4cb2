// SPDX-License-Identifier: GPL-2.0-or-later
//! Progress of FastCGI 1.0 on a connection, record by record.
//!
//! A request ends with an empty STDIN behind an empty PARAMS, a response with END_REQUEST. What
//! the application writes to STDERR is for the server's log, which goes on to wait for an answer
//! behind it, so it is no part of one. One request at a time is followed: applications that
//! take several on one connection are not to be found, and nginx numbers all of its 1.

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::tcp::gateway::{self, Asked};
use crate::tcp::half::Piece;
use crate::tcp::http::{self, EndsBy, Exchange, Progress};
use crate::tcp::stream::Side;

const HEADER: usize = 8;
const VERSION: u8 = 1;
const BEGIN_REQUEST: u8 = 1;
const ABORT_REQUEST: u8 = 2;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;
const DATA: u8 = 8;
const UNKNOWN_TYPE: u8 = 11;

/// Bytes of the record that ends a response.
const LAST_RECORD: u64 = 16;

/// The FastCGI conversation of one connection.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FastCgi {
    client: Records,
    server: Records,
    /// Number that the open request bears, or the last one.
    id: u16,
    params: Text,
    head: Text,
    /// The exchange whose END_REQUEST has not been seen.
    open: Option<Exchange>,
    /// The exchange that was ended last.
    last: Option<Exchange>,
    /// Requests that were begun.
    pub begun: u64,
    /// Responses that are complete.
    pub completed: u64,
    /// Records were lost, behind which further requests may hide.
    has_hidden: bool,
}

/// The records of one side.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Records {
    header: [u8; HEADER],
    header_len: usize,
    /// Bytes of the current record's content that are still to come.
    content: u64,
    /// The same of its padding.
    padding: u64,
    lost: bool,
}

/// Text that is spread over records.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Text {
    /// What is there so far.
    Part(Vec<u8>),
    /// It has been read.
    Whole,
    /// A part of it is missing, or it is too long.
    Lost,
}

impl Default for Text {
    fn default() -> Text {
        Text::Part(Vec::new())
    }
}

/// Whether a client begins a FastCGI conversation with these bytes: BEGIN_REQUEST, whole.
pub fn starts(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [VERSION, BEGIN_REQUEST, high, low, 0, 8, _, 0, 0, 1..=3, 0 | 1, 0, 0, 0, 0, 0, ..]
            if (*high, *low) != (0, 0)
    )
}

impl FastCgi {
    /// Takes the next piece that a side sent, and its position.
    pub fn take(&mut self, side: Side, at: i64, piece: Piece<'_>) {
        match piece {
            Piece::Data(bytes) => self.bytes(side, at, bytes),
            Piece::Missing(count) => self.missing(side, at, count),
        }
    }

    /// The exchange that is open, else the one that was ended last, if no other one can have
    /// begun behind it.
    pub fn exchange(&self) -> Option<&Exchange> {
        let last = self.last.as_ref().filter(|_| !self.client.lost);
        self.open.as_ref().filter(|_| !(self.client.lost && self.server.lost)).or(last)
    }

    /// Whether the records of a side can't be told apart any more.
    pub fn is_lost(&self) -> bool {
        self.client.lost || self.server.lost
    }

    fn records(&mut self, side: Side) -> &mut Records {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// Whether [`FastCgi::begun`] and [`FastCgi::completed`] count every message.
    pub fn is_counted(&self) -> bool {
        !self.has_hidden
    }

    fn bytes(&mut self, side: Side, mut at: i64, mut bytes: &[u8]) {
        if side == Side::Client && self.client.lost {
            self.find_request(bytes);
        }
        while !bytes.is_empty() && !self.records(side).lost {
            let records = self.records(side);
            let taken = if records.header_len < HEADER {
                let taken = (HEADER - records.header_len).min(bytes.len());
                let to = records.header_len + taken;
                records.header[records.header_len..to].copy_from_slice(&bytes[..taken]);
                records.header_len = to;
                if to == HEADER {
                    self.begin_record(side, at + taken as i64);
                }
                taken
            } else if records.content > 0 {
                let taken = records.content.min(bytes.len() as u64);
                records.content -= taken;
                self.content(side, &bytes[..taken as usize]);
                taken as usize
            } else {
                let taken = records.padding.min(bytes.len() as u64);
                records.padding -= taken;
                taken as usize
            };
            (at, bytes) = (at + taken as i64, &bytes[taken..]);
            self.end_record(side, at);
        }
    }

    /// Goes on with a request that begins here, out of step. What else a client sends behind an
    /// answer may be one, too, and then nobody can tell which is answered.
    fn find_request(&mut self, bytes: &[u8]) {
        let begins = starts(bytes);
        let is_answered = |exchange: &Exchange| exchange.answered != Progress::None;
        if begins || self.open.as_ref().is_some_and(is_answered) {
            (self.open, self.last) = (None, None);
        }
        if begins {
            (self.client, self.server) = Default::default();
        }
    }

    /// Bytes that the capture lacks: no harm if they lie within a record whose end is known.
    fn missing(&mut self, side: Side, at: i64, count: u64) {
        let records = self.records(side);
        let left = records.content + records.padding;
        if records.lost || records.header_len < HEADER || count > left {
            self.lose(side);
            let sent = self.open.as_mut().map(|exchange| &mut exchange.sent);
            if let Some(sent) = sent.filter(|sent| **sent == Progress::Lost) {
                *sent = Progress::Cut;
            }
            return;
        }
        let content = records.content.min(count);
        records.content -= content;
        records.padding -= count - content;
        if content > 0 {
            match self.kind(side) {
                PARAMS => self.cut_params(),
                STDOUT if matches!(self.head, Text::Part(_)) => self.head = Text::Lost,
                _ => {}
            }
        }
        self.end_record(side, at.saturating_add_unsigned(count));
    }

    /// Type of a side's current record.
    fn kind(&mut self, side: Side) -> u8 {
        self.records(side).header[1]
    }

    /// Takes a header, which ends at this position.
    fn begin_record(&mut self, side: Side, at: i64) {
        let records = self.records(side);
        let [version, kind, a, b, c, d, padding, _] = records.header;
        let (id, content) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        records.content = u64::from(content);
        records.padding = u64::from(padding);
        let start = at - HEADER as i64;
        match (side, kind) {
            _ if version != VERSION || !(BEGIN_REQUEST..=UNKNOWN_TYPE).contains(&kind) => {
                self.lose(side);
            }
            // Management of the connection.
            _ if id == 0 => {}
            (Side::Client, BEGIN_REQUEST) => self.begin(id, start),
            (Side::Client, ABORT_REQUEST | PARAMS | STDIN | DATA) if id == self.id => {}
            (Side::Server, STDOUT | STDERR | END_REQUEST) if self.is_asked(id) => {
                if kind == STDOUT && content > 0 {
                    self.answer(start, at);
                }
            }
            _ => self.lose(side),
        }
    }

    fn begin(&mut self, id: u16, start: i64) {
        self.begun += 1;
        self.id = id;
        (self.params, self.head) = Default::default();
        let answered = if self.server.lost { Progress::Lost } else { Progress::None };
        let mut exchange = Exchange::begun();
        (exchange.request_start, exchange.answered) = (start, answered);
        if self.open.replace(exchange).is_some() {
            // Two at once, or a capture out of order: which of them is answered, nobody can tell.
            self.lose(Side::Client);
            self.lose(Side::Server);
        }
    }

    /// Whether a request with this number waits for its answer.
    fn is_asked(&self, id: u16) -> bool {
        self.open.is_some() && id == self.id
    }

    /// Takes the header of a record of STDOUT, which begins and ends at these positions.
    fn answer(&mut self, start: i64, at: i64) {
        let left = self.server.content + self.server.padding + LAST_RECORD;
        let Some(exchange) = &mut self.open else { return };
        if exchange.answered == Progress::None {
            exchange.answered = Progress::Begun;
            exchange.response_start = start;
            exchange.ends_by = EndsBy::LastRecord;
        }
        exchange.response_end = Some(at.saturating_add_unsigned(left));
    }

    fn content(&mut self, side: Side, bytes: &[u8]) {
        match self.kind(side) {
            PARAMS => {
                let Text::Part(params) = &mut self.params else { return };
                match params.len() + bytes.len() <= limits::HEAD {
                    true => params.extend_from_slice(bytes),
                    false => self.params = Text::Lost,
                }
            }
            STDOUT => {
                let Text::Part(head) = &mut self.head else { return };
                if let Some(head) = http::take_answer_head(head, bytes) {
                    self.head = Text::Whole;
                    if let Some(exchange) = &mut self.open {
                        exchange.status = http::cgi_status(&head);
                    }
                } else if head.len() >= limits::HEAD {
                    self.head = Text::Lost;
                }
            }
            _ => {}
        }
    }

    /// Takes the end of a side's record, if this position is one.
    fn end_record(&mut self, side: Side, at: i64) {
        let records = self.records(side);
        if records.lost || records.header_len < HEADER || records.content + records.padding > 0
        {
            return;
        }
        records.header_len = 0;
        let [_, kind, a, b, c, d, ..] = records.header;
        let is_empty = (c, d) == (0, 0);
        match kind {
            _ if (a, b) == (0, 0) => {}
            PARAMS if is_empty => self.end_params(),
            STDIN if is_empty && !matches!(self.params, Text::Part(_)) => {
                // The answer may be complete already.
                if let Some(exchange) = self.open.as_mut().or(self.last.as_mut()) {
                    exchange.sent = Progress::Complete;
                }
            }
            END_REQUEST => self.end(at),
            _ => {}
        }
    }

    fn end_params(&mut self) {
        let Text::Part(params) = std::mem::replace(&mut self.params, Text::Whole) else {
            return;
        };
        if let Some(asked) = gateway::fastcgi_request(&params) {
            self.note_asked(asked);
        }
    }

    /// The capture lacks the rest of the variables.
    fn cut_params(&mut self) {
        if let Text::Part(params) = std::mem::replace(&mut self.params, Text::Lost) {
            self.note_asked(gateway::fastcgi_cut(&params));
        }
    }

    fn note_asked(&mut self, asked: Asked<'_>) {
        if let Some(exchange) = self.open.as_mut().or(self.last.as_mut()) {
            exchange.request = asked.text().map(|text| http::kept(&text));
            exchange.host = asked.host;
            exchange.id = asked.id;
            exchange.clients = asked.clients.into();
        }
    }

    /// END_REQUEST completes an answer that has a head. Without one there is no answer, and the
    /// server tells its client so.
    fn end(&mut self, at: i64) {
        let Some(mut exchange) = self.open.take() else { return };
        if exchange.answered == Progress::Begun && !matches!(self.head, Text::Part(_)) {
            exchange.answered = Progress::Complete;
            exchange.response_end = Some(at);
            self.completed += 1;
        }
        self.last = Some(exchange);
    }

    fn lose(&mut self, side: Side) {
        self.records(side).lost = true;
        self.has_hidden = true;
        let Some(exchange) = &mut self.open else { return };
        match side {
            Side::Client if exchange.sent == Progress::Begun => exchange.sent = Progress::Lost,
            Side::Client => {}
            Side::Server => exchange.answered = Progress::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, content: &[u8], padding: u8) -> Vec<u8> {
        let [high, low] = (content.len() as u16).to_be_bytes();
        let mut record = vec![VERSION, kind, 0, 1, high, low, padding, 0];
        record.extend(content);
        record.resize(record.len() + usize::from(padding), 0);
        record
    }

    /// Plays records `(side, type, content)`, padded by `padding`, in pieces of `size`.
    fn play_in(size: usize, padding: u8, records: &[(Side, u8, &[u8])]) -> FastCgi {
        let mut talk = FastCgi::default();
        let mut at = [0, 0];
        for &(side, kind, content) in records {
            for piece in record(kind, content, padding).chunks(size) {
                talk.take(side, at[side as usize], Piece::Data(piece));
                at[side as usize] += piece.len() as i64;
            }
        }
        talk
    }

    fn told(talk: &FastCgi) -> String {
        let exchange = talk.exchange().map_or("-".to_owned(), |e| {
            format!("{:?} {:?}/{:?} {:?}", e.request, e.sent, e.answered, e.status)
        });
        format!("{}/{} {exchange}", talk.begun, talk.completed)
    }

    /// What is told of records, however they are cut and padded.
    fn play(records: &[(Side, u8, &[u8])]) -> String {
        let whole = told(&play_in(usize::MAX, 0, records));
        for (size, padding) in [(1, 0), (1, 7), (3, 1), (1000, 255)] {
            assert_eq!(told(&play_in(size, padding, records)), whole, "{size} {padding}");
        }
        whole
    }

    const BEGIN: (Side, u8, &[u8]) = (Side::Client, BEGIN_REQUEST, &[0, 1, 1, 0, 0, 0, 0, 0]);
    const VARS: (Side, u8, &[u8]) =
        (Side::Client, PARAMS, b"\x0e\x03REQUEST_METHODGET\x0b\x02REQUEST_URI/a");
    const NO_VARS: (Side, u8, &[u8]) = (Side::Client, PARAMS, b"");
    const NO_BODY: (Side, u8, &[u8]) = (Side::Client, STDIN, b"");
    const ASKED: [(Side, u8, &[u8]); 4] = [BEGIN, VARS, NO_VARS, NO_BODY];
    const END: (Side, u8, &[u8]) = (Side::Server, END_REQUEST, &[0; 8]);

    fn out(text: &str) -> (Side, u8, &[u8]) {
        (Side::Server, STDOUT, text.as_bytes())
    }

    #[test]
    fn a_request_ends_with_an_empty_record_and_an_answer_with_the_last_one() {
        assert_eq!(play(&ASKED[..1]), "1/0 None Begun/None None");
        assert_eq!(play(&ASKED[..3]), r#"1/0 Some("GET /a") Begun/None None"#);
        let mut records = ASKED.to_vec();
        assert_eq!(play(&records), r#"1/0 Some("GET /a") Complete/None None"#);
        records.push((Side::Server, STDERR, b"PHP message"));
        assert_eq!(play(&records), r#"1/0 Some("GET /a") Complete/None None"#);
        records.push(out("Status: 404 Not"));
        assert_eq!(play(&records), r#"1/0 Some("GET /a") Complete/Begun None"#);
        records.push(out(" Found\r\n\r\nno"));
        assert_eq!(play(&records), r#"1/0 Some("GET /a") Complete/Begun Some(404)"#);
        records.extend([out(""), END]);
        assert_eq!(play(&records), r#"1/1 Some("GET /a") Complete/Complete Some(404)"#);
        records.push(BEGIN);
        assert_eq!(play(&records), "2/1 None Begun/None None");
    }

    #[test]
    fn a_status_is_told_by_the_head() {
        for (head, status) in [
            ("Content-Type: text/plain\r\n\r\n", Some(200)),
            ("Location: /b\n\n", Some(302)),
            ("Status: 503\r\n\r\n", Some(503)),
            ("HTTP/1.1 201 Created\r\n\r\n", Some(201)),
            ("Status: no\r\n\r\n", None),
        ] {
            let records = [&ASKED[..], &[out(head), END]].concat();
            let talk = play_in(usize::MAX, 0, &records);
            assert_eq!(talk.exchange().and_then(|e| e.status), status, "{head}");
        }
    }

    #[test]
    fn an_end_without_a_head_completes_nothing() {
        let asked = r#"Some("GET /a") Complete"#;
        assert_eq!(play(&[&ASKED[..], &[END]].concat()), format!("1/0 {asked}/None None"));
        let cut = [&ASKED[..], &[out("Status: 200"), END]].concat();
        assert_eq!(play(&cut), format!("1/0 {asked}/Begun None"));
    }

    #[test]
    fn an_answer_promises_the_rest_of_its_record_and_the_last_one() {
        let records = [&ASKED[..], &[out("A: b\n\nxyz")]].concat();
        let talk = play_in(usize::MAX, 2, &records);
        let end = talk.exchange().and_then(|e| e.response_end);
        assert_eq!(end, Some(8 + 9 + 2 + 16));
    }

    #[test]
    fn missing_bytes_inside_a_record_are_passed_over_and_others_lose_the_records() {
        let mut talk = play_in(usize::MAX, 0, &ASKED);
        let answer = record(STDOUT, b"A: b\n\nxyz", 0);
        talk.take(Side::Server, 0, Piece::Data(&answer[..12]));
        talk.take(Side::Server, 12, Piece::Missing(5));
        assert!(!talk.is_lost());
        talk.take(Side::Server, 17, Piece::Data(&record(END_REQUEST, &[0; 8], 0)));
        assert_eq!(told(&talk), r#"1/1 Some("GET /a") Complete/Complete None"#);
        let mut talk = play_in(usize::MAX, 0, &ASKED);
        talk.take(Side::Server, 0, Piece::Missing(1));
        assert!(talk.is_lost());
        assert_eq!(told(&talk), r#"1/0 Some("GET /a") Complete/Lost None"#);
    }

    #[test]
    fn what_is_no_record_loses_the_records() {
        for (side, bytes) in [
            (Side::Server, &b"HTTP/1.1"[..]),
            (Side::Server, &[1, 6, 0, 2, 0, 1, 0, 0]),
            (Side::Server, &[1, 12, 0, 1, 0, 1, 0, 0]),
            (Side::Client, &[1, 1, 0, 1, 0, 8, 0, 0]),
            (Side::Client, &[1, 5, 0, 2, 0, 8, 0, 0]),
            (Side::Client, &[1, 6, 0, 1, 0, 8, 0, 0]),
        ] {
            let mut talk = play_in(usize::MAX, 0, &ASKED);
            talk.take(side, 0, Piece::Data(bytes));
            assert!(talk.is_lost(), "{bytes:?}");
        }
    }

    #[test]
    fn a_conversation_is_told_by_its_whole_first_record() {
        let begin = record(BEGIN_REQUEST, BEGIN.2, 0);
        assert!(starts(&begin));
        assert!(!starts(&begin[..15]));
        for (at, byte) in
            [(0, 2), (1, 4), (3, 0), (4, 1), (5, 9), (7, 1), (9, 4), (10, 2), (15, 1)]
        {
            let mut other = begin.clone();
            other[at] = byte;
            assert!(!starts(&other), "{at}");
        }
    }
}
