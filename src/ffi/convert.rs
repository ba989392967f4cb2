// SPDX-License-Identifier: GPL-2.0-or-later
//! Between the plain shapes of the header and the types of the core.

use std::borrow::Cow;
use std::fmt::Display;
use std::net::IpAddr;

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};

use super::guard::Failure;
use crate::abi;
use crate::correlate::matcher::Match;
use crate::correlate::store::{AccessEntry, Entry, ErrorEntry, Parts, Variable};
use crate::correlate::verdict::Verdict;
use crate::error::Error;
use crate::session::FrameInfo;
use crate::tcp::segment::{self, Endpoint, Segment};
use crate::time::CaptureTime;

// ---- Into the core -------------------------------------------------------------------------

/// The bytes at `data`; NULL only where there are none.
///
/// # Safety
/// `data` is NULL or holds `len` bytes, which nobody writes to during `'a`.
pub(super) unsafe fn bytes<'a>(
    data: *const u8,
    len: usize,
    name: &'static str,
) -> Result<&'a [u8], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(Failure::Null(name));
    }
    if isize::try_from(len).is_err() {
        return Err(Failure::Argument { what: name, value: i64::MAX });
    }
    // SAFETY: not NULL, no longer than any object can be, and the rest is the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(data, len) })
}

/// The runs of bytes at `runs`. Few segments have any, so few allocate.
///
/// # Safety
/// `runs` is NULL or holds `count` runs, each of which is as [`bytes`] asks.
pub(super) unsafe fn runs<'a>(
    runs: *const abi::rstdiag_bytes,
    count: u32,
) -> Result<Vec<&'a [u8]>, Failure> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if runs.is_null() {
        return Err(Failure::Null("decrypted"));
    }
    // SAFETY: not NULL, and the rest is the caller's promise.
    let runs = unsafe { std::slice::from_raw_parts(runs, count as usize) };
    let run = |run: &abi::rstdiag_bytes| {
        let len = usize::try_from(run.len)
            .map_err(|_| Failure::Argument { what: "decrypted", value: i64::MAX })?;
        // SAFETY: the caller's promise about each of them.
        unsafe { bytes(run.data, len, "decrypted") }
    };
    runs.iter().map(run).collect()
}

/// A segment as the core takes it.
///
/// # Safety
/// The pointers in `raw` are NULL or hold as many bytes as it says, during `'a`.
pub(super) unsafe fn segment<'a>(
    raw: &abi::rstdiag_segment,
    decrypted: &'a [&'a [u8]],
) -> Result<Segment<'a>, Failure> {
    if raw.frame == 0 {
        return Err(Failure::Argument { what: "frame", value: 0 });
    }
    // SAFETY: the caller's promise about `bytes`.
    let held = unsafe { bytes(raw.bytes, raw.bytes_len as usize, "bytes") }?;
    // SAFETY: the caller's promise about `ip`.
    let ip = unsafe { bytes(raw.ip, raw.ip_len as usize, "ip") }?;
    let given = (address(&raw.src, "src")?, address(&raw.dst, "dst")?);
    let (src_port, dst_port, tcp, payload) =
        segment::slice(held).ok_or(Error::Header { frame: raw.frame })?;
    let ip = network(ip);
    let (src, dst) = ip.map_or(given, |ip| (Some(ip.src), Some(ip.dst)));
    // A frame may hold more than the segment: padding, or a trailer of the capture's card.
    let payload = &payload[..payload.len().min(raw.payload_len as usize)];
    Ok(Segment {
        frame: raw.frame,
        layer: raw.layer,
        stream: raw.stream,
        time: CaptureTime(raw.time_ns),
        src: Endpoint { addr: src, port: src_port },
        dst: Endpoint { addr: dst, port: dst_port },
        tcp,
        payload_len: raw.payload_len,
        payload,
        ip_id: ip.and_then(|ip| ip.id),
        ttl: ip.map(|ip| ip.ttl),
        decrypted,
    })
}

fn address(raw: &abi::rstdiag_address, what: &'static str) -> Result<Option<IpAddr>, Failure> {
    let [a, b, c, d, ..] = raw.bytes;
    match raw.family {
        0 => Ok(None),
        4 => Ok(Some(IpAddr::from([a, b, c, d]))),
        6 => Ok(Some(IpAddr::from(raw.bytes))),
        family => Err(Failure::Argument { what, value: i64::from(family) }),
    }
}

/// What the analysis uses of an IP header.
#[derive(Clone, Copy)]
struct Network {
    src: IpAddr,
    dst: IpAddr,
    id: Option<u16>,
    ttl: u8,
}

/// Reads an IP header. Bytes that are none count as no header: the TCP header is still good.
fn network(ip: &[u8]) -> Option<Network> {
    match ip.first()? >> 4 {
        4 => Ipv4HeaderSlice::from_slice(ip).ok().map(|ip| Network {
            src: ip.source_addr().into(),
            dst: ip.destination_addr().into(),
            id: Some(ip.identification()),
            ttl: ip.ttl(),
        }),
        6 => Ipv6HeaderSlice::from_slice(ip).ok().map(|ip| Network {
            src: ip.source_addr().into(),
            dst: ip.destination_addr().into(),
            id: None,
            ttl: ip.hop_limit(),
        }),
        _ => None,
    }
}

// ---- Out of the core -----------------------------------------------------------------------

pub(super) fn frame(info: FrameInfo) -> abi::rstdiag_frame {
    let mut flags = 0;
    if info.closed {
        flags |= abi::RSTDIAG_FRAME_CLOSED;
    }
    if info.first_reset {
        flags |= abi::RSTDIAG_FRAME_FIRST_RESET;
    }
    abi::rstdiag_frame { stream: info.stream, flags }
}

/// Number of fields.
pub(super) const FIELDS: usize = abi::RSTDIAG_FIELD_COUNT as usize;

/// Which fields somebody looks at: not zero for each of them.
pub(super) type Wanted = [u8; FIELDS];

/// Every field.
pub(super) const EVERY_FIELD: Wanted = [1; FIELDS];

/// Puts the values that one field has in a verdict.
type OfStream = fn(&Verdict<'_>, &mut Put<'_>);

/// How each field of a stream is taken from its verdict, in the order of display.
#[rustfmt::skip]
const OF_STREAM: &[(abi::rstdiag_field, OfStream)] = &[
    (abi::RSTDIAG_FIELD_SUMMARY, |v, put| put.text(v.summary())),
    (abi::RSTDIAG_FIELD_SEVERITY, |v, put| put.text(v.severity().word())),
    (abi::RSTDIAG_FIELD_PHASE, |v, put| put.texts(v.phase().map(|phase| phase.word()))),
    (abi::RSTDIAG_FIELD_STAGE, |v, put| put.text(v.stage().word())),
    (abi::RSTDIAG_FIELD_TRANSACTION, |v, put| put.text(v.transaction().word())),
    (abi::RSTDIAG_FIELD_CLOSE, |v, put| put.text(v.close().word())),
    (abi::RSTDIAG_FIELD_CLOSE_BY, |v, put| put.texts(v.closed_by().map(|side| side.word()))),
    (abi::RSTDIAG_FIELD_CLOSE_FRAME, |v, put| put.numbers(v.first_end().map(|close| close.at.frame))),
    (abi::RSTDIAG_FIELD_CLOSE_PIGGYBACKED, |v, put| put.numbers(v.first_end().and_then(|close| close.piggybacked))),
    (abi::RSTDIAG_FIELD_RESET_BY, |v, put| put.texts(v.resets().map(|resets| resets.by.word()))),
    (abi::RSTDIAG_FIELD_RESET_FRAME, |v, put| put.numbers(v.resets().map(|resets| resets.at.frame))),
    (abi::RSTDIAG_FIELD_RESET_COUNT, |v, put| put.numbers(v.resets().map(|resets| resets.count))),
    (abi::RSTDIAG_FIELD_RESET_TEXT, |v, put| {
        put.texts(v.resets().map(|resets| &resets.text).filter(|text| !text.is_empty()));
    }),
    (abi::RSTDIAG_FIELD_RESET_FORM, |v, put| put.texts(v.form().map(|form| form.word()))),
    (abi::RSTDIAG_FIELD_RESET_ANSWERS, |v, put| put.numbers(v.answers())),
    (abi::RSTDIAG_FIELD_CAUSE, |v, put| put.texts(v.cause().map(|cause| cause.row.word))),
    (abi::RSTDIAG_FIELD_EVIDENCE, |v, put| put.texts(v.cause().map(|c| c.evidence).unwrap_or_default())),
    (abi::RSTDIAG_FIELD_ADVICE, |v, put| put.texts(v.cause().map(|cause| cause.row.advice))),
    (abi::RSTDIAG_FIELD_IDLE, |v, put| put.numbers(v.idle())),
    (abi::RSTDIAG_FIELD_CLIENT, |v, put| put.shown(v.client())),
    (abi::RSTDIAG_FIELD_SERVER, |v, put| put.shown(v.server())),
    (abi::RSTDIAG_FIELD_REQUESTS, |v, put| put.numbers(v.requests().map(clamp))),
    (abi::RSTDIAG_FIELD_RESPONSES, |v, put| put.numbers(v.responses().map(clamp))),
    (abi::RSTDIAG_FIELD_REQUEST, |v, put| put.texts(v.request())),
    (abi::RSTDIAG_FIELD_RESPONSE_STATUS, |v, put| put.numbers(v.response_status())),
    (abi::RSTDIAG_FIELD_RESPONSE_ACKED, |v, put| put.numbers(v.response_acked())),
    (abi::RSTDIAG_FIELD_RESPONSE_MISSING, |v, put| put.numbers(v.response_missing().map(clamp))),
    (abi::RSTDIAG_FIELD_CAVEAT, |v, put| put.texts(v.caveats().words())),
    (abi::RSTDIAG_FIELD_NGINX_SEES, |v, put| put.numbers(v.nginx_sees())),
    (abi::RSTDIAG_FIELD_LEG, |v, put| put.texts(v.leg().map(|leg| leg.word()))),
    (abi::RSTDIAG_FIELD_OTHER_LEG, |v, put| put.numbers(v.other_leg())),
    (abi::RSTDIAG_FIELD_LOG_MORE, |v, put| {
        put.numbers(Some(v.more_logged()).filter(|more| *more > 0).map(|more| clamp(more as u64)));
    }),
];

/// Fields of a stream that entries have a say in.
const BY_LOG: [abi::rstdiag_field; 5] = [
    abi::RSTDIAG_FIELD_SUMMARY,
    abi::RSTDIAG_FIELD_NGINX_SEES,
    abi::RSTDIAG_FIELD_LEG,
    abi::RSTDIAG_FIELD_OTHER_LEG,
    abi::RSTDIAG_FIELD_LOG_MORE,
];

/// Whether anything is wanted that takes the log to know.
pub(super) fn is_log_wanted(wanted: &Wanted) -> bool {
    let of_entry = OF_ENTRY.iter().map(|row| row.0);
    of_entry.chain(BY_LOG).any(|field| wanted[field as usize] != 0)
}

/// An entry of a verdict, its parts, and how it was matched.
type Logged<'a> = (&'a Entry<'a>, &'a Parts<'a>, &'a Match);

/// Puts the values that one field has in a log entry.
type OfEntry = fn(&Logged<'_>, &mut Put<'_>);

fn error<'p, 'e>(parts: &'p Parts<'e>) -> Option<&'p ErrorEntry<'e>> {
    match parts {
        Parts::Error(parts) => Some(parts),
        Parts::Access(_) => None,
    }
}

fn access<'p, 'e>(parts: &'p Parts<'e>) -> Option<&'p AccessEntry<'e>> {
    match parts {
        Parts::Error(_) => None,
        Parts::Access(parts) => Some(parts),
    }
}

/// A text of an entry, which either log names in its own way.
fn logged<'e>(
    parts: &Parts<'e>,
    of_error: fn(&ErrorEntry<'e>) -> Option<&'e [u8]>,
    of_access: Variable,
) -> Option<Cow<'e, [u8]>> {
    match parts {
        Parts::Error(parts) => of_error(parts).map(Cow::Borrowed),
        Parts::Access(parts) => parts.value(of_access),
    }
}

/// How each field of a log entry is taken from it, in the order of display.
#[rustfmt::skip]
const OF_ENTRY: &[(abi::rstdiag_field, OfEntry)] = &[
    (abi::RSTDIAG_FIELD_LOG, |(e, _, _), put| put.text(&e.raw)),
    (abi::RSTDIAG_FIELD_LOG_KIND, |(_, e, _), put| put.text(e.kind())),
    (abi::RSTDIAG_FIELD_LOG_FILE, |(e, _, _), put| put.text(e.file)),
    (abi::RSTDIAG_FIELD_LOG_LINE, |(e, _, _), put| put.number(clamp(e.line))),
    (abi::RSTDIAG_FIELD_LOG_TIME, |(e, _, _), put| put.number(e.time.0)),
    (abi::RSTDIAG_FIELD_LOG_LEVEL, |(_, e, _), put| put.texts(error(e).map(|e| e.level.word()))),
    (abi::RSTDIAG_FIELD_LOG_PID, |(_, e, _), put| match e {
        Parts::Error(e) => put.number(e.pid),
        Parts::Access(e) => put.numbers(e.pid()),
    }),
    (abi::RSTDIAG_FIELD_LOG_CONNECTION, |(_, e, _), put| put.numbers(match e {
        Parts::Error(e) => e.connection,
        Parts::Access(e) => e.connection(),
    }.map(clamp))),
    (abi::RSTDIAG_FIELD_LOG_MESSAGE, |(_, e, _), put| put.texts(error(e).map(|e| e.message))),
    (abi::RSTDIAG_FIELD_LOG_ERRNO, |(_, e, _), put| {
        put.numbers(error(e).and_then(|e| e.errno).map(|errno| errno.code));
    }),
    (abi::RSTDIAG_FIELD_LOG_ACTION, |(_, e, _), put| put.texts(error(e).and_then(|e| e.action))),
    (abi::RSTDIAG_FIELD_LOG_CLIENT, |(_, e, _), put| {
        put.texts(logged(e, |e| e.client, Variable::RemoteAddr));
    }),
    (abi::RSTDIAG_FIELD_LOG_SERVER, |(_, e, _), put| {
        put.texts(logged(e, |e| e.server, Variable::ServerName));
    }),
    (abi::RSTDIAG_FIELD_LOG_REQUEST, |(_, e, _), put| {
        put.texts(logged(e, |e| e.request, Variable::Request));
    }),
    (abi::RSTDIAG_FIELD_LOG_SUBREQUEST, |(_, e, _), put| {
        put.texts(error(e).and_then(|e| e.subrequest));
    }),
    (abi::RSTDIAG_FIELD_LOG_UPSTREAM, |(_, e, _), put| {
        put.texts(logged(e, |e| e.upstream, Variable::UpstreamAddr));
    }),
    (abi::RSTDIAG_FIELD_LOG_HOST, |(_, e, _), put| {
        put.texts(logged(e, |e| e.host, Variable::HttpHost));
    }),
    (abi::RSTDIAG_FIELD_LOG_REFERRER, |(_, e, _), put| {
        put.texts(logged(e, |e| e.referrer, Variable::HttpReferer));
    }),
    (abi::RSTDIAG_FIELD_LOG_STATUS, |(_, e, _), put| {
        put.numbers(access(e).and_then(|e| e.status()));
    }),
    (abi::RSTDIAG_FIELD_LOG_REQUEST_TIME, |(_, e, _), put| {
        put.numbers(access(e).and_then(|e| e.request_time()));
    }),
    (abi::RSTDIAG_FIELD_LOG_BYTES_SENT, |(_, e, _), put| {
        put.numbers(access(e).and_then(|e| e.bytes_sent()).map(clamp));
    }),
    (abi::RSTDIAG_FIELD_LOG_REQUEST_ID, |(_, e, _), put| {
        put.texts(access(e).and_then(|e| e.request_id()));
    }),
    (abi::RSTDIAG_FIELD_MATCH_SCORE, |(_, _, m), put| put.number(m.score)),
    (abi::RSTDIAG_FIELD_MATCH_EVIDENCE, |(_, _, m), put| put.text(m.evidence.words())),
    (abi::RSTDIAG_FIELD_MATCH_DELTA, |(_, _, m), put| put.number(m.delta)),
    (abi::RSTDIAG_FIELD_MATCH_RIVALS, |(_, _, m), put| put.number(m.open_rivals())),
];

fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The values of one verdict. Kept from call to call, so that its memory is too.
#[derive(Default)]
pub(super) struct Values {
    pub(super) values: Vec<abi::rstdiag_value>,
    pub(super) text: Vec<u8>,
}

impl Values {
    /// Takes the wanted fields from a verdict.
    pub(super) fn fill(
        &mut self,
        verdict: &Verdict<'_>,
        wanted: &Wanted,
    ) -> Result<(), Failure> {
        self.values.clear();
        self.text.clear();
        self.group(0, OF_STREAM, wanted, |row, put| row(verdict, put));
        if is_log_wanted(wanted) {
            for (group, (entry, found)) in (1..).zip(verdict.logged()) {
                let Some(parts) = entry.any_parts() else { continue };
                self.group(group, OF_ENTRY, wanted, |row, put| {
                    row(&(&entry, &parts, &found), put);
                });
            }
        }
        if u32::try_from(self.text.len()).is_err() {
            let limit = u64::from(u32::MAX);
            return Err(Error::Limit { what: "bytes of text in one verdict", limit }.into());
        }
        Ok(())
    }

    fn group<T>(
        &mut self,
        group: u32,
        table: &[(abi::rstdiag_field, T)],
        wanted: &Wanted,
        extract: impl Fn(&T, &mut Put<'_>),
    ) {
        for (field, row) in table {
            if wanted[*field as usize] != 0 {
                extract(row, &mut Put { into: self, field: *field, group });
            }
        }
    }
}

/// Takes the value, or the values, of one field.
struct Put<'v> {
    into: &'v mut Values,
    field: abi::rstdiag_field,
    group: u32,
}

impl Put<'_> {
    fn text(&mut self, text: impl AsRef<[u8]>) {
        let start = self.into.text.len();
        escape(text.as_ref(), &mut self.into.text);
        let len = self.into.text.len() - start;
        // `fill` refuses a verdict whose text is so long that this cuts.
        self.push(0, start as u32, len as u32);
    }

    fn texts(&mut self, texts: impl IntoIterator<Item: AsRef<[u8]>>) {
        texts.into_iter().for_each(|text| self.text(text));
    }

    fn shown(&mut self, what: impl Display) {
        self.text(what.to_string());
    }

    fn number(&mut self, number: impl Into<i64>) {
        self.push(number.into(), 0, 0);
    }

    fn numbers(&mut self, number: Option<impl Into<i64>>) {
        number.into_iter().for_each(|number| self.number(number));
    }

    fn push(&mut self, number: i64, text_offset: u32, text_len: u32) {
        let (field, group) = (self.field, self.group);
        let value = abi::rstdiag_value { field, group, number, text_offset, text_len };
        self.into.values.push(value);
    }
}

/// Appends `text` as it can be shown to somebody: bytes that are no UTF-8 as `\xNN`, and
/// escaped whatever would act on the display instead of being displayed.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        let valid = chunk.valid();
        if valid.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            out.extend_from_slice(valid.as_bytes());
        } else {
            for char in valid.chars() {
                escape_char(char, out);
            }
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        }
    }
}

fn escape_char(char: char, out: &mut Vec<u8>) {
    let escaped = match char {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        '\0'..='\x1f' | '\x7f' => format!("\\x{:02x}", u32::from(char)),
        // C1 controls, line and paragraph separators, and marks that reverse what follows:
        // a log line is written by whoever sent the request.
        '\u{80}'..='\u{9f}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => format!("\\u{{{:x}}}", u32::from(char)),
        _ => return out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
    };
    out.extend_from_slice(escaped.as_bytes());
}

/// `text` as [`escape`] shows it.
pub(super) fn escaped(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    escape(text, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Session, When};
    use crate::tcp::segment::Header;

    const LOG: &[u8] =
        b"2026/01/01 00:00:00 [info] 7#7: *18446744073709551615 client timed out \
        (110: \xff\tx) while waiting for request, client: 192.0.2.1, server: 0.0.0.0:80\n\
        2026/01/01 00:00:00 [info] 7#7: *18446744073709551615 client timed out \
        (110: x) while waiting for request, client: 192.0.2.1, server: 0.0.0.0:80\n";

    /// A connection that its server resets before any request, joined by its only segments
    /// with a gap, and two entries about it.
    fn session() -> Session {
        let mut session = Session::new();
        assert!(session.set_time_zone("UTC").is_ok());
        session.begin_error_log("error.log");
        session.log_bytes(LOG);
        assert!(session.end_log().is_ok());
        let client = Endpoint { addr: Some(IpAddr::from([192, 0, 2, 1])), port: 4000 };
        let server = Endpoint { addr: Some(IpAddr::from([192, 0, 2, 2])), port: 80 };
        let syn = Header { syn: true, ..Header::default() };
        let accepted = Header { syn: true, ack_flag: true, ack: 1, ..Header::default() };
        let ack = Header { seq: 1, ack_flag: true, ack: 1, ..Header::default() };
        let reset = Header { seq: 1, rst: true, ..Header::default() };
        for (frame, from_client, tcp) in
            [(1, true, syn), (2, false, accepted), (3, true, ack), (4, false, reset)]
        {
            let (src, dst) = if from_client { (client, server) } else { (server, client) };
            let time = CaptureTime(1_767_225_600_000_000_000 + i64::from(frame));
            let segment = Segment {
                frame,
                layer: 0,
                stream: 0,
                time,
                src,
                dst,
                tcp,
                payload_len: 0,
                payload: &[],
                ip_id: None,
                ttl: None,
                decrypted: &[],
            };
            assert!(session.feed(&segment).is_ok());
        }
        session
    }

    fn values(wanted: &Wanted) -> Values {
        let mut values = Values::default();
        let mut session = session();
        let verdict = session.verdict(4, 0, When::Final);
        assert!(verdict.is_some_and(|verdict| values.fill(&verdict, wanted).is_ok()));
        values
    }

    fn only(fields: &[abi::rstdiag_field]) -> Wanted {
        let mut wanted = [0; FIELDS];
        fields.iter().for_each(|field| wanted[*field as usize] = 1);
        wanted
    }

    #[test]
    fn every_field_of_the_header_has_one_row_and_its_order() {
        let rows = OF_STREAM.iter().map(|row| row.0).chain(OF_ENTRY.iter().map(|row| row.0));
        assert!(rows.eq(0..abi::RSTDIAG_FIELD_COUNT));
    }

    #[test]
    fn unwanted_fields_are_left_out_and_repeated_ones_repeat() {
        assert!(values(&only(&[])).values.is_empty());
        let found = values(&only(&[abi::RSTDIAG_FIELD_LOG_LEVEL]));
        let texts: Vec<_> = found.values.iter().map(|value| text(&found, value)).collect();
        assert_eq!(texts, ["info", "info"]);
    }

    #[test]
    fn every_field_that_the_log_changes_asks_for_it() {
        let (mut with, mut without) = (session(), session());
        for field in 0..abi::RSTDIAG_FIELD_COUNT {
            let wanted = only(&[field]);
            let fill = |verdict: Option<Verdict<'_>>| {
                let mut values = Values::default();
                assert!(verdict.is_some_and(|v| values.fill(&v, &wanted).is_ok()));
                (values.values.len(), values.text)
            };
            let differs = fill(with.verdict(4, 0, When::Final))
                != fill(without.verdict_of_packets(4, 0, When::Final));
            assert!(!differs || is_log_wanted(&wanted), "field {field}");
        }
    }

    #[test]
    fn the_values_of_one_entry_share_a_group() {
        let fields = [
            abi::RSTDIAG_FIELD_SUMMARY,
            abi::RSTDIAG_FIELD_LOG,
            abi::RSTDIAG_FIELD_LOG_LINE,
            abi::RSTDIAG_FIELD_LOG_CONNECTION,
            abi::RSTDIAG_FIELD_MATCH_DELTA,
        ];
        let found = values(&only(&fields));
        let groups: Vec<_> = found.values.iter().map(|value| value.group).collect();
        assert_eq!(groups, [0, 1, 1, 1, 1, 2, 2, 2, 2]);
        let numbers: Vec<_> = found.values.iter().map(|value| value.number).collect();
        assert_eq!(numbers, [0, 0, 1, i64::MAX, -4, 0, 2, i64::MAX, -4]);
        assert!(text(&found, &found.values[1]).contains(r"(110: \xff\tx)"));
    }

    fn text<'v>(found: &'v Values, value: &abi::rstdiag_value) -> &'v str {
        let start = value.text_offset as usize;
        let bytes = &found.text[start..start + value.text_len as usize];
        std::str::from_utf8(bytes).unwrap_or("not UTF-8")
    }

    #[test]
    fn what_would_act_on_the_display_is_escaped() {
        for (given, shown) in [
            (&b"plain \\x22 text"[..], r"plain \x22 text"),
            (b"\0\x1b[31m\r\n\t\x7f", r"\x00\x1b[31m\r\n\t\x7f"),
            (b"caf\xc3\xa9 \xff\xc3", r"caf\u00e9 \xff\xc3"),
            ("\u{202e}txt\u{85}".as_bytes(), r"\u{202e}txt\u{85}"),
        ] {
            assert_eq!(escaped(given), shown.replace(r"\u00e9", "\u{e9}"));
        }
    }
}
