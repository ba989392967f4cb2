// SPDX-License-Identifier: GPL-2.0-or-later
//! What an access entry by itself says about the end of a connection, as a table.
//!
//! Where the error log is silent, and at its default level it is about every client, a status
//! that nginx gave nobody, or a body that broke off, is the only trace that an end leaves.

use super::access_log::AccessEntry;
use super::message::{By, Shows};

/// What an access entry says about the end of its client's connection, or about a response that
/// tells of the end of an upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AccessEnd {
    /// What the row is called.
    pub name: &'static str,
    /// Who ended it.
    pub by: By,
    /// What a capture of the client's connection holds of it.
    pub shows: Shows,
}

/// Which entries a row is about.
type Holds = fn(status: u16, answered: Option<bool>) -> bool;

const fn row(name: &'static str, by: By, shows: Shows) -> AccessEnd {
    AccessEnd { name, by, shows }
}

/// Rows by status, and by whether nginx gave the client anything; the first that holds counts.
static ROWS: &[(Holds, AccessEnd)] = &[
    // nginx's own status for a client that did not wait; nothing was sent to it.
    (|status, _| status == 499, row("client_gone", By::Peer, Shows::ResetOrFin)),
    // A head or body that broke off is a bad request, too, and gets no answer.
    (
        |status, answered| status == 400 && answered == Some(true),
        row("bad_request", By::Nginx, Shows::Answer),
    ),
    (|status, _| status == 400, row("client_gone_asking", By::Peer, Shows::ResetOrFin)),
    // A timer of nginx's; it closes without a word unless error_page has one.
    (
        |status, answered| status == 408 && answered == Some(true),
        row("request_timeout_answered", By::Nginx, Shows::Answer),
    ),
    (|status, _| status == 408, row("request_timeout", By::Nginx, Shows::ResetOrFin)),
    (|status, _| status == 444, row("closed_unanswered", By::Nginx, Shows::ResetOrFin)),
    (
        |status, answered| status >= 500 && answered == Some(false),
        row("client_gone_failing", By::Peer, Shows::ResetOrFin),
    ),
    (|status, _| status >= 500, row("failed", By::Nginx, Shows::Answer)),
];

/// A response that nginx began and did not end, or may not have ended.
static CUT: AccessEnd = row("cut_answer", By::Peer, Shows::CutAnswer);

/// Statuses of responses whose body may break off.
fn has_body(status: u16) -> bool {
    matches!(status, 200 | 203 | 206)
}

/// What an entry says about an end by itself; `None` if it says nothing. A response with a body
/// may have broken off unless the entry says that all of it was sent: only packets tell. Those of HTTP/3
/// tell of no TCP connection.
pub fn classify(entry: &AccessEntry<'_>) -> Option<AccessEnd> {
    let status = entry.status()?;
    let is_http3 = entry.is_http3();
    let answered = entry.bytes_sent().or(entry.body_bytes_sent()).map(|bytes| bytes > 0);
    let told = ROWS.iter().find(|(holds, _)| holds(status, answered));
    let over_tcp = |end: AccessEnd| match is_http3 {
        true => AccessEnd { shows: Shows::NoTcp, ..end },
        false => end,
    };
    told.map(|(_, end)| over_tcp(*end)).or_else(|| {
        let is_head = entry.method().is_some_and(|method| *method == b"HEAD"[..]);
        let may_be_cut = match entry.completed() {
            Some(whole) => !whole,
            None => has_body(status) && !is_head,
        };
        (may_be_cut && !is_http3).then_some(CUT)
    })
}

/// Whether nginx sent a response with this status, so that the capture shows it.
pub fn is_sent(status: u16, end: Option<&AccessEnd>) -> bool {
    let silent = end.is_some_and(|end| matches!(end.shows, Shows::ResetOrFin));
    !silent && !matches!(status, 0 | 9)
}
