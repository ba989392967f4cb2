// SPDX-License-Identifier: GPL-2.0-or-later
//! Which phases of a connection agree with which messages, as a table.

use crate::nginx::access_end::AccessEnd;
use crate::nginx::error_log::ErrorEntry;
use crate::nginx::message::{Action, By, End, Leg, Shows};
use crate::tcp::phase::Phase::{self, *};

/// A set of phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Phases(u16);

impl Phases {
    /// Every phase.
    pub const ANY: Phases = Phases(u16::MAX);

    /// Stands beside the phases for a response of which not even the head is complete.
    const HEAD: Phases = Phases(1 << 15);

    /// The set of these phases.
    pub const fn of(phases: &[Phase]) -> Phases {
        let mut set = 0;
        let mut index = 0;
        while index < phases.len() {
            set |= 1 << phases[index] as u16;
            index += 1;
        }
        Phases(set)
    }

    /// Whether this phase is in the set.
    pub fn contains(self, phase: Phase) -> bool {
        self.0 & 1 << phase as u16 != 0
    }

    /// Whether this phase agrees with the set, and so is evidence; `None` if it contradicts.
    /// A phase that is not known does neither, and a set of all is no evidence. `in_head` tells
    /// of a response under way that its head is not complete.
    pub fn agrees(self, phase: Phase, in_head: bool) -> Option<bool> {
        let in_head = in_head && phase == DuringResponse && self.0 & Phases::HEAD.0 != 0;
        match phase {
            Unknown => Some(false),
            _ => (in_head || self.contains(phase)).then_some(self != Phases::ANY),
        }
    }

    /// Whether nginx had not sent its request: what a kept-alive connection bears is an earlier one.
    pub fn is_unsent(self) -> bool {
        self == CONNECTING
    }

    /// Whether nginx passes on the upstream's response: it reads no more of that than its client takes.
    pub fn is_passed_on(self) -> bool {
        self == ANSWERING
    }

    /// Whether several requests may be open at once, which encrypted data does not tell.
    pub fn is_of_http2(self) -> bool {
        self == HTTP2
    }

    /// The set without this phase.
    pub fn without(self, phase: Phase) -> Phases {
        Phases(self.0 & !(1 << phase as u16))
    }

    /// Whether a phase is in both sets.
    pub fn meets(self, other: Phases) -> bool {
        self.0 & other.0 & !Phases::HEAD.0 != 0
    }

    const fn or(self, other: Phases) -> Phases {
        Phases(self.0 | other.0)
    }
}

/// The client's connection while nginx sends to it. The action outlives the response: nginx
/// still reads from the client under it, before and after its own FIN.
const SENDING: Phases =
    Phases::of(&[AwaitingResponse, DuringResponse, AfterResponse, Teardown]);

/// The client's connection while nginx has not begun the response; the request body may still
/// be on its way.
const PASSING_ON: Phases = Phases::of(&[DuringRequest, AwaitingResponse, Teardown]);

/// The client's connection while nginx reads the request's head. A bad head is answered before
/// it is complete, and the rest of it read and dropped under the same action.
const READING: Phases = Phases::of(&[DuringRequest, DuringResponse, AfterResponse, Teardown]);

/// The upstream's connection from the request's first byte to the response's head. A kept-alive
/// connection that the upstream closes at that moment was idle when its FIN or RST was sent.
const ASKING: Phases = Phases::of(&[
    BeforeRequest,
    DuringRequest,
    AwaitingResponse,
    DuringResponse,
    AfterResponse,
    Teardown,
]);

/// The upstream's connection while nginx reads the response's head. Once it has all of it, it
/// is doing something else, and a RST does not take away what came before it; so one that was
/// idle is not meant, unless the request crossed its end.
const READING_HEAD: Phases =
    Phases::of(&[BeforeRequest, DuringRequest, AwaitingResponse, Teardown]).or(Phases::HEAD);

/// The upstream's connection when nginx is about to use it. One that is kept alive is looked at
/// then, too.
const CONNECTING: Phases = Phases::of(&[Handshake, BeforeRequest, AfterResponse]);

/// The upstream's connection while nginx passes on the response, whose head it has.
const ANSWERING: Phases = Phases::of(&[DuringResponse, AfterResponse, Teardown]);

/// What nginx was doing, and how far the connection of each leg can have come by then: the
/// client's, the upstream's. What is not listed says nothing.
const TABLE: &[(Action, Phases, Phases)] = &[
    (Action::WaitingForRequest, Phases::of(&[BeforeRequest]), Phases::ANY),
    (Action::ReadingProxyProtocol, Phases::of(&[BeforeRequest, DuringRequest]), Phases::ANY),
    (Action::SslHandshaking, Phases::of(&[BeforeRequest, TlsHandshake]), Phases::ANY),
    (Action::ReadingRequestLine, READING, Phases::ANY),
    (Action::ReadingRequestHeaders, READING, Phases::ANY),
    (
        Action::ReadingPipelinedRequestLine,
        Phases::of(&[DuringRequest, AfterResponse]),
        Phases::ANY,
    ),
    (Action::ConnectingToUpstream, PASSING_ON, CONNECTING),
    (Action::SslHandshakingToUpstream, PASSING_ON, Phases::of(&[BeforeRequest, TlsHandshake])),
    (Action::SendingRequest, PASSING_ON, ASKING),
    (Action::ReadingResponseHeader, PASSING_ON, READING_HEAD),
    (Action::ReadingUpstream, PASSING_ON.or(SENDING), ANSWERING),
    (Action::SendingToClient, PASSING_ON.or(SENDING), ANSWERING),
    (Action::SendingResponse, SENDING, Phases::ANY),
    (Action::Keepalive, Phases::of(&[AfterResponse, Teardown]), Phases::ANY),
];

/// Whether an entry is about a connection that was idle: nginx waited for its next request.
pub fn is_idle(end: &End<'_>) -> bool {
    matches!(end.row.name, "client_closed_idle" | "client_reset_idle")
}

/// Whether nginx read the end that an entry is about from a connection that it still held: it had
/// not closed it before. Only lingering close reads on, and writes something else.
pub fn is_held(end: &End<'_>, entry: &ErrorEntry<'_>) -> bool {
    match (end.by, end.leg) {
        (By::Nginx, _) | (_, Leg::Unknown) => false,
        (By::Peer, Leg::Client) => matches!(
            end.row.name,
            "client_closed_idle"
                | "client_reset_idle"
                | "client_closed_peek"
                | "client_closed"
                | "client_reset"
        ),
        // Both directions are closed at once, except where bytes are passed on as they are,
        // without requests.
        (By::Peer, Leg::Upstream) => entry.request.is_some(),
    }
}

/// The client's connection when nginx still works on a request that came by HTTP/2, or waits for
/// the rest of a frame.
const HTTP2: Phases = Phases::of(&[DuringRequest, AwaitingResponse, DuringResponse, Teardown]);

/// The client's connection when a response breaks off, or before its first byte.
const CUT: Phases = Phases::of(&[AwaitingResponse, DuringResponse]);

/// How far a connection can have come when an access entry tells of it.
pub fn phases_of_access(shows: Shows, end: Option<&AccessEnd>) -> Phases {
    match (shows, end.map(|end| end.name)) {
        (Shows::Answer, _) => Phases::of(&[AfterResponse]),
        (Shows::CutAnswer, _) => CUT,
        (Shows::AnyAnswer, _) => CUT.or(Phases::of(&[AfterResponse])),
        // All of these are about a request that was begun and had no answer.
        _ => PASSING_ON,
    }
}

/// How far a connection can have come when nginx writes this about its end.
pub fn phases(end: &End<'_>, entry: &ErrorEntry<'_>) -> Phases {
    if end.shows == Shows::Refused {
        return Phases::of(&[Handshake]);
    }
    if entry.action.is_none() {
        return without_action(end);
    }
    // Of an idle connection nginx writes nothing.
    if (end.row.name, end.action) == ("client_closed", Some(Action::ProcessingHttp2)) {
        return HTTP2;
    }
    let row = end.action.and_then(|action| TABLE.iter().find(|row| row.0 == action));
    match (row, end.leg) {
        (Some(&(_, client, _)), Leg::Client) => client,
        (Some(&(_, _, upstream)), Leg::Upstream) => upstream,
        _ => Phases::ANY,
    }
}

/// Nginx names no action while it reads a request body, and when an idle connection ends.
fn without_action(end: &End<'_>) -> Phases {
    match (end.leg, end.row.name) {
        (Leg::Client, "client_reset_idle") => Phases::of(&[AfterResponse, Teardown]),
        // A client may close its direction at any time after the request; nginx can notice
        // when it has nothing else to do.
        (Leg::Client, "client_closed_idle") => SENDING,
        (Leg::Client, _) => PASSING_ON.or(SENDING),
        _ => Phases::ANY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_it_was_made_of() {
        let set = Phases::of(&[Handshake, Teardown]);
        for phase in Phase::ALL {
            assert_eq!(set.contains(phase), matches!(phase, Handshake | Teardown), "{phase:?}");
            assert!(Phases::ANY.contains(phase));
        }
    }
}
