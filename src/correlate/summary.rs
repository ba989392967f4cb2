// SPDX-License-Identifier: GPL-2.0-or-later
//! The verdict in one sentence that a web developer understands.

use std::fmt::Write;

use crate::correlate::verdict::{Transaction, Verdict};
use crate::nginx::message::Leg;
use crate::tcp::http::{EndsBy, Progress};
use crate::tcp::phase::Phase;
use crate::tcp::stream::{Caveats, Close, Side};

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
    }
    .replace("the nginx", "nginx");
    let cut = cut_off(verdict);
    let transaction = match verdict.transaction() {
        Transaction::Completed if is_websocket(verdict) => "; the session was closed",
        Transaction::Failed if is_websocket(verdict) => "; the message is lost",
        Transaction::Completed => "; the transaction is done",
        Transaction::Failed if cut.is_some() => cut.as_deref().unwrap_or_default(),
        Transaction::Failed => "; the transaction failed",
        Transaction::None if verdict.stream().is_tunnelled() => {
            "; no request had been sent through the tunnel"
        }
        Transaction::None => "; no request had been sent",
        Transaction::Unknown if is_websocket(verdict) => "",
        Transaction::Unknown if verdict.close() == Close::Open => "",
        Transaction::Unknown if is_in_the_clear(verdict) => {
            "; its protocol is not recognized, so whether all was done is not known"
        }
        Transaction::Unknown => "; whether the transaction was done is not known",
    };
    out.push_str(&transaction.replace("the nginx", "nginx"));
    if let Some((sent, resets)) = verdict.crossed_at().zip(verdict.resets()) {
        let (who, later) = (name(verdict, Side::Client), sent.since(resets.at.time));
        let more = format!(", but the {who} sent more {} after the RST", duration(later));
        out.push_str(&more.replace("the nginx", "nginx"));
    }
    if let Some((entry, matched)) = verdict.logged().next() {
        let name = entry.file.rsplit('/').next().unwrap_or(entry.file);
        let line = entry.line;
        let _ = match (matched.certain, matched.open_rivals()) {
            (true, _) => write!(out, "; logged at {name}:{line}"),
            (false, n) => write!(out, "; perhaps logged at {name}:{line}, which fits {n} more"),
        };
    }
    out
}

/// What a reader calls this side: nginx by its name, where the log tells which leg this is.
fn name(verdict: &Verdict<'_>, side: Side) -> &'static str {
    match (verdict.leg(), side) {
        (Some(Leg::Client), Side::Server) | (Some(Leg::Upstream), Side::Client) => "nginx",
        (Some(Leg::Upstream), Side::Server) => "upstream",
        _ => side.word(),
    }
}

fn reset(verdict: &Verdict<'_>, by: Side) -> String {
    let (who, peer) = (name(verdict, by), name(verdict, by.peer()));
    let phase = verdict.phase().unwrap_or_default();
    match (phase, by, verdict.stream().was_accepted()) {
        (Phase::Handshake, Side::Server, false) => {
            format!("{who} refused the connection with a RST in answer to the SYN")
        }
        (Phase::Handshake, Side::Client, true) => {
            format!(
                "{who} reset the connection in the handshake, after the SYN-ACK of the {peer}"
            )
        }
        (Phase::Teardown, ..) => {
            let (Some(closing), Some(resets)) = (verdict.closing(), verdict.resets()) else {
                return format!("{who} reset in the teardown");
            };
            let after = duration(resets.at.time.since(closing.at.time));
            let closer = match closing.by == by {
                true => "its own FIN".to_owned(),
                false => format!("the FIN of the {peer}"),
            };
            let moment = moment(verdict, verdict.stage());
            format!("{who} reset {after} after {closer}, which came {moment}")
        }
        (Phase::Unknown, ..) if verdict.first_end().is_none() => format!(
            "{who} reset {}, perhaps behind a FIN that is not in the capture",
            moment(verdict, verdict.stage())
        ),
        (phase, ..) => format!("{who} reset {}", moment(verdict, phase)),
    }
}

fn close(verdict: &Verdict<'_>) -> String {
    let moment = moment(verdict, verdict.stage());
    let Some(closing) = verdict.closing() else {
        return match verdict.close() {
            Close::Open => format!("still open when the capture ends, {moment}"),
            _ => format!("no FIN is in the capture, though one may have been sent, {moment}"),
        };
    };
    let (who, peer) = (name(verdict, closing.by), name(verdict, closing.by.peer()));
    let mut out = match verdict.close() {
        Close::FourWay => format!("four-way close begun by the {who} {moment}"),
        Close::ThreeWay => format!("three-way close begun by the {who} {moment}"),
        Close::Simultaneous => format!("simultaneous close by both sides {moment}"),
        Close::HalfClose => {
            format!("{who} closed its direction {moment}, and the {peer} sent on")
        }
        Close::Unknown if verdict.stream().fin(closing.by.peer()).is_some() => {
            format!("close by both sides, begun by the {who} {moment}")
        }
        Close::Unknown => {
            format!("{who} sent a FIN {moment}; what the {peer} sent is not in the capture")
        }
        _ => format!("{who} sent a FIN {moment}, and the {peer} sent none"),
    };
    if closing.piggybacked == Some(true) {
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
    let idle = verdict.stream().idle().map(duration);
    if let Some(moment) = moment_in_tunnel(verdict, stage, idle.as_deref()) {
        return moment;
    }
    if let Some(moment) = moment_by_bursts(verdict, stage, idle.as_deref()) {
        return moment;
    }
    match (stage, idle) {
        (Phase::Handshake, _) => "in the handshake".to_owned(),
        (Phase::TlsHandshake, _) => match verdict.stream().tls_refusal() {
            Some(alert) => {
                let by = name(verdict, alert.by);
                format!("in the TLS handshake, after the {by}'s alert: {}", alert.words())
            }
            None => "during the TLS handshake".to_owned(),
        },
        (Phase::BeforeRequest, _) => match verdict.closing() {
            Some(closing) => {
                let after = duration(closing.at.time.since(verdict.opened()));
                format!("{after} after the handshake, before any request")
            }
            None => "before any request".to_owned(),
        },
        (Phase::DuringRequest, _) => format!("while {request} was being sent"),
        (Phase::AwaitingResponse, Some(idle)) => {
            format!("{idle} after {request}, before any byte of the response")
        }
        (Phase::AwaitingResponse, None) => format!("awaiting the response to {request}"),
        (Phase::DuringResponse, _) => during_response(verdict, &request),
        (Phase::AfterResponse, idle) => after_response(verdict, &request, idle),
        (Phase::Teardown, _) => "in the teardown".to_owned(),
        (Phase::Unknown, _) => {
            let caveats: Vec<_> = verdict.caveats().words().collect();
            match caveats.as_slice() {
                [] => "at a point of the exchange that cannot be told".to_owned(),
                _ => format!(
                    "at a point of the exchange that the capture does not show ({})",
                    caveats.join(", ")
                ),
            }
        }
    }
}

/// What is said can be read, and nobody knows what it means.
fn is_in_the_clear(verdict: &Verdict<'_>) -> bool {
    verdict.stream().is_unrecognized() && !verdict.caveats().encrypted
}

/// What a RST cut of something that is not recognized.
fn cut_off(verdict: &Verdict<'_>) -> Option<String> {
    let side = verdict.stream().cut_off()?;
    let who = name(verdict, side);
    Some(match verdict.stream().unacked(side) {
        0 => format!("; data of the {who} came too late"),
        1 => format!("; 1 byte of the {who} was never acknowledged"),
        count => format!("; {count} bytes of the {who} were never acknowledged"),
    })
}

/// When in a conversation in which nobody can tell requests and responses; `None` where another
/// kind of moment has words of its own.
fn moment_by_bursts(verdict: &Verdict<'_>, stage: Phase, idle: Option<&str>) -> Option<String> {
    if !verdict.stream().is_unrecognized() {
        return None;
    }
    let [client, server] = [Side::Client, Side::Server].map(|side| name(verdict, side));
    let after = idle.map_or("after".to_owned(), |idle| format!("{idle} after"));
    let Caveats { mid_stream, one_sided, gap, truncated, .. } = verdict.caveats();
    match stage {
        Phase::DuringRequest => Some(format!("while data of the {client} was being sent")),
        Phase::AwaitingResponse => {
            Some(format!("{after} data of the {client}, before any answer"))
        }
        Phase::DuringResponse => Some(format!("while data of the {server} was being sent")),
        Phase::AfterResponse => Some(format!("{after} the last data of the {server}")),
        Phase::Unknown if !(mid_stream || one_sided || gap || truncated) => {
            let who = name(verdict, verdict.stream().spoke_last()?);
            Some(format!("{after} the last data of the {who}"))
        }
        _ => None,
    }
}

fn is_websocket(verdict: &Verdict<'_>) -> bool {
    verdict.stream().websocket().is_some()
}

/// When in the life of a tunnel; `None` where a tunnel has no words of its own.
fn moment_in_tunnel(verdict: &Verdict<'_>, stage: Phase, idle: Option<&str>) -> Option<String> {
    if !verdict.stream().is_tunnelled() {
        return None;
    }
    let after = idle.map_or("after".to_owned(), |idle| format!("{idle} after"));
    let opened = verdict.request().map_or("a request".into(), shortened);
    Some(match (stage, is_websocket(verdict)) {
        (Phase::DuringRequest, true) => {
            "in the middle of a WebSocket message of the client".into()
        }
        (Phase::DuringResponse, true) => {
            "in the middle of a WebSocket message of the server".into()
        }
        (Phase::AfterResponse, true) if verdict.stream().is_closed_by_frame() => {
            format!("{after} the last frame of the WebSocket opened by {opened}")
        }
        (Phase::AfterResponse, true) => format!(
            "{after} the last frame of the WebSocket opened by {opened}, without a Close frame"
        ),
        (Phase::TlsHandshake, _) => {
            format!("during the TLS handshake in the tunnel of {opened}")
        }
        (Phase::BeforeRequest, _) => format!("before any request in the tunnel of {opened}"),
        (Phase::DuringRequest, false) => "while data was being sent through the tunnel".into(),
        (Phase::AwaitingResponse, _) => {
            format!("{after} data of the client in the tunnel of {opened}, before any answer")
        }
        (Phase::DuringResponse | Phase::AfterResponse, false) => {
            format!("{after} the last data of the server in the tunnel of {opened}")
        }
        (Phase::Handshake | Phase::Teardown | Phase::Unknown, _) => return None,
    })
}

fn during_response(verdict: &Verdict<'_>, request: &str) -> String {
    let answer = answer(verdict);
    let ends_by = verdict.exchange().map(|exchange| exchange.ends_by);
    let short = match (ends_by, verdict.response_missing()) {
        (Some(EndsBy::LastChunk), _) => ", before its last chunk".to_owned(),
        (Some(EndsBy::LastRecord), _) => ", before its last record".to_owned(),
        (_, Some(missing)) => format!(", {missing} bytes short"),
        _ => String::new(),
    };
    format!("during the {answer} to {request}{short}")
}

fn after_response(verdict: &Verdict<'_>, request: &str, idle: Option<String>) -> String {
    let after = idle.map_or("after".to_owned(), |idle| format!("{idle} after"));
    let Some(exchange) = verdict.exchange() else {
        return format!("{after} the last data of the server");
    };
    if let Some(given_up) = exchange.given_up {
        return format!("{after} the {} gave up {request}", name(verdict, given_up.by));
    }
    if exchange.answered == Progress::Cut {
        return format!("{after} the last data of the {} to {request}", answer(verdict));
    }
    if exchange.answered != Progress::Complete {
        // What was complete by then is the response before it.
        return format!("{after} the last complete response, before {request}");
    }
    let answer = answer(verdict);
    let acknowledged = match verdict.response_acked() {
        Some(true) => ", which the client had acknowledged",
        Some(false) => ", which the client had not acknowledged",
        None => "",
    };
    let early = match exchange.sent {
        Progress::Begun => ", with the request still incomplete",
        _ => "",
    };
    format!("{after} the complete {answer} to {request}{acknowledged}{early}")
}

fn answer(verdict: &Verdict<'_>) -> String {
    verdict.response_status().map_or("response".to_owned(), |status| status.to_string())
}

fn shortened(request: &str) -> String {
    match request.char_indices().nth(REQUEST) {
        Some((end, _)) => format!("{}...", &request[..end]),
        None => request.to_owned(),
    }
}

/// A length of time with the precision that a person needs. Where time stamps go back it is none.
pub fn duration(ns: i64) -> String {
    let ms = ns.max(0) as f64 / 1e6;
    match ms {
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
