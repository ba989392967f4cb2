// SPDX-License-Identifier: GPL-2.0-or-later
//! The verdict in one sentence that a web developer understands.

use std::fmt::Write;

use crate::correlate::verdict::{Transaction, Verdict};
use crate::tcp::http::Progress;
use crate::tcp::phase::Phase;
use crate::tcp::stream::{Close, Side};

/// Characters of a request that fit into a sentence.
const REQUEST: usize = 72;

/// What happened, whether it hurt, and where it is logged.
pub fn sentence(verdict: &Verdict<'_>) -> String {
    let mut out = match verdict.resets() {
        Some(resets) if resets.effective => reset(verdict, resets.by),
        Some(resets) => {
            let (by, frame) = (resets.by.word(), resets.at.frame);
            format!("{}; the {by}'s RST in frame {frame} had no effect", close(verdict))
        }
        None => close(verdict),
    };
    let transaction = match verdict.transaction() {
        Transaction::Completed => "; the transaction is done",
        Transaction::Failed => "; the transaction failed",
        Transaction::None => "; no request was lost",
        Transaction::Unknown if verdict.close() == Close::Open => "",
        Transaction::Unknown => "; whether the transaction was done is not known",
    };
    out.push_str(transaction);
    if let Some((entry, matched)) = verdict.entries().next() {
        let name = entry.file.rsplit('/').next().unwrap_or(entry.file);
        let line = entry.line;
        let _ = match (matched.certain, matched.rivals) {
            (true, _) => write!(out, "; logged at {name}:{line}"),
            (false, 0) => write!(out, "; perhaps logged at {name}:{line}"),
            (false, n) => write!(out, "; perhaps logged at {name}:{line}, which fits {n} more"),
        };
    }
    out
}

fn reset(verdict: &Verdict<'_>, by: Side) -> String {
    let who = by.word();
    let peer = by.peer().word();
    let phase = verdict.phase().unwrap_or_default();
    match (phase, by, verdict.stream().was_accepted()) {
        (Phase::Handshake, Side::Server, false) => {
            "server refused the connection with a RST in answer to the SYN".to_owned()
        }
        (Phase::Handshake, Side::Client, true) => {
            "client reset the connection in the handshake, after the server's SYN-ACK"
                .to_owned()
        }
        (Phase::Teardown, ..) => {
            let (closer, after) = match (verdict.closing(), verdict.resets()) {
                (Some(closing), Some(resets)) => {
                    (closing.by.word(), duration(resets.at.time.since(closing.at.time)))
                }
                _ => (peer, duration(0)),
            };
            let moment = moment(verdict, verdict.stage());
            format!("{who} reset {after} after the FIN of the {closer}, which came {moment}")
        }
        (phase, ..) => format!("{who} reset {}", moment(verdict, phase)),
    }
}

fn close(verdict: &Verdict<'_>) -> String {
    let moment = moment(verdict, verdict.stage());
    let Some(closing) = verdict.closing() else {
        return format!("still open when the capture ends, {moment}");
    };
    let (who, peer) = (closing.by.word(), closing.by.peer().word());
    let mut out = match verdict.close() {
        Close::FourWay => format!("four-way close begun by the {who} {moment}"),
        Close::ThreeWay => format!("three-way close begun by the {who} {moment}"),
        Close::Simultaneous => format!("simultaneous close by both sides {moment}"),
        Close::HalfClose => format!("{who} closed its direction {moment}, and {peer} sent on"),
        _ => format!("{who} sent a FIN {moment}, and {peer} sent none"),
    };
    if closing.piggybacked {
        let _ = match (closing.by, verdict.request()) {
            (Side::Client, Some(request)) => {
                write!(out, " (the FIN rides on {})", shortened(request))
            }
            _ => write!(out, " (the FIN rides on data)"),
        };
    }
    out
}

/// When in the life of the connection, in words.
fn moment(verdict: &Verdict<'_>, stage: Phase) -> String {
    let request = verdict.request().map_or("a request".into(), shortened);
    let idle = || verdict.closing().and_then(|closing| closing.idle).map(duration);
    match stage {
        Phase::Handshake => "in the handshake".to_owned(),
        Phase::TlsHandshake => "during the TLS handshake".to_owned(),
        Phase::BeforeRequest => match verdict.closing() {
            Some(closing) => {
                let after = duration(closing.at.time.since(verdict.stream().opened));
                format!("{after} after the handshake, before any request")
            }
            None => "before any request".to_owned(),
        },
        Phase::DuringRequest => format!("while {request} was being sent"),
        Phase::AwaitingResponse => match idle() {
            Some(idle) => format!("{idle} after {request}, before any byte of the response"),
            None => format!("awaiting the response to {request}"),
        },
        Phase::DuringResponse => {
            let answer = answer(verdict, "response");
            match verdict.response_missing() {
                Some(missing) => {
                    format!("during the {answer} to {request}, {missing} bytes short")
                }
                None => format!("during the {answer} to {request}"),
            }
        }
        Phase::AfterResponse => after_response(verdict, &request, idle()),
        Phase::Teardown => "in the teardown".to_owned(),
        Phase::Unknown => {
            let caveats: Vec<_> = verdict.caveats().words().collect();
            let why = if caveats.is_empty() {
                String::new()
            } else {
                format!(" ({})", caveats.join(", "))
            };
            format!("at a point of the exchange that the capture does not show{why}")
        }
    }
}

fn after_response(verdict: &Verdict<'_>, request: &str, idle: Option<String>) -> String {
    let after = idle.map_or("after".to_owned(), |idle| format!("{idle} after"));
    let Some(exchange) = verdict.exchange() else {
        return format!("{after} the last data of the server");
    };
    let answer = answer(verdict, "response");
    let acknowledged = match verdict.response_acked() {
        Some(true) => ", which the client had acknowledged",
        Some(false) => ", which the client had not acknowledged",
        None => "",
    };
    let early = match exchange.sent {
        Progress::Begun | Progress::Lost => ", with the request still incomplete",
        _ => "",
    };
    format!("{after} the complete {answer} to {request}{acknowledged}{early}")
}

fn answer(verdict: &Verdict<'_>, otherwise: &str) -> String {
    verdict.response_status().map_or(otherwise.to_owned(), |status| status.to_string())
}

fn shortened(request: &str) -> String {
    match request.char_indices().nth(REQUEST) {
        Some((end, _)) => format!("{}...", &request[..end]),
        None => request.to_owned(),
    }
}

/// A length of time with the precision that a person needs.
pub fn duration(ns: i64) -> String {
    let ms = ns as f64 / 1e6;
    match ms.abs() {
        size if size < 0.1 => format!("{:.0} us", ms * 1e3),
        size if size < 10.0 => format!("{ms:.1} ms"),
        size if size < 1000.0 => format!("{ms:.0} ms"),
        size if size < 10_000.0 => format!("{:.1} s", ms / 1e3),
        _ => format!("{:.0} s", ms / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_a_person_would_say_them() {
        let cases = [
            (0, "0 us"),
            (20_000, "20 us"),
            (200_000, "0.2 ms"),
            (15_400_000, "15 ms"),
            (1_500_000_000, "1.5 s"),
            (75_012_000_000, "75 s"),
        ];
        for (ns, text) in cases {
            assert_eq!(duration(ns), text);
        }
    }

    #[test]
    fn long_requests_are_shortened_between_characters() {
        let request = format!("GET /{}", "ä".repeat(100));
        assert!(shortened(&request).ends_with("ä..."));
        assert_eq!(shortened("GET /"), "GET /");
    }
}
