// SPDX-License-Identifier: GPL-2.0-or-later
//! The verdict on one stream: what the public fields say.
//!
//! A verdict is a view. Each answer is worked out when it is asked for, because a host asks
//! for a few fields on a great many frames.

use std::collections::HashSet;

use crate::correlate::cause::{self, Cause};
use crate::correlate::legs::Standing;
use crate::correlate::matcher::Match;
use crate::correlate::store::{is_access, Entry, Store};
use crate::correlate::summary;
use crate::correlate::survey::Survey;
use crate::limits;
use crate::nginx::message::Leg;
use crate::tcp::http::{Exchange, Progress};
use crate::tcp::phase::Phase;
use crate::tcp::segment::Endpoint;
use crate::tcp::stream::{Caveats, Close, Closing, Resets, Side, Stream};
use crate::tcp::streams::StreamRef;
use crate::tcp::trace::{Form, What};
use crate::time::CaptureTime;

/// Whether the exchange that was open at the end, else the last one, was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// The response is complete and the client's TCP has all of it.
    Completed,
    /// A part of the request or of the response was lost.
    Failed,
    /// No request was begun.
    None,
    /// The capture does not show enough to tell.
    Unknown,
}

impl Transaction {
    /// The word of the public interface.
    pub fn word(self) -> &'static str {
        match self {
            Transaction::Completed => "completed",
            Transaction::Failed => "failed",
            Transaction::None => "none",
            Transaction::Unknown => "unknown",
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Orderly, or nothing is missing.
    Harmless,
    /// Out of order, with nothing known to be lost.
    Warning,
    /// A request or a response was lost.
    Failure,
}

impl Severity {
    /// The word of the public interface.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Harmless => "harmless",
            Severity::Warning => "warning",
            Severity::Failure => "failure",
        }
    }
}

/// How far the capture goes.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// When it ended, as far as it has been read.
    pub end: CaptureTime,
    /// It holds only SYN, FIN and RST.
    pub only_ends: bool,
}

/// The verdict on one stream. Methods are named as the public fields.
#[derive(Clone, Debug)]
pub struct Verdict<'a> {
    stream: StreamRef<'a>,
    capture: Extent,
    store: &'a Store,
    matches: &'a [Match],
    /// What other streams tell, once all of them are known.
    survey: Option<&'a Survey>,
    /// Where it stands between clients and upstreams.
    standing: Standing,
}

impl<'a> Verdict<'a> {
    /// The verdict on this stream, given what the capture holds and its log entries.
    pub fn new(
        stream: StreamRef<'a>,
        capture: Extent,
        store: &'a Store,
        matches: &'a [Match],
        survey: Option<&'a Survey>,
        standing: Standing,
    ) -> Verdict<'a> {
        Verdict { stream, capture, store, matches, survey, standing }
    }

    /// What happened, in one sentence.
    pub fn summary(&self) -> String {
        summary::sentence(self)
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self.severity_by_phase() {
            Severity::Warning if self.cause().is_some_and(|cause| cause.row.harmless) => {
                Severity::Harmless
            }
            severity => severity,
        }
    }

    fn severity_by_phase(&self) -> Severity {
        let transaction = self.transaction();
        if self.stream.tls_alert().is_some() && transaction == Transaction::None {
            return Severity::Warning;
        }
        let Some(resets) = self.stream.effective_resets() else {
            return match transaction {
                Transaction::Failed => Severity::Failure,
                // What is not in the capture may have been lost.
                Transaction::Unknown
                    if self.closing().is_some()
                        && (self.stream.is_out_of_order() || self.lacks_bytes())
                        || self.lacks_fin() =>
                {
                    Severity::Warning
                }
                // Browsers report code 1006.
                _ if self.closing().is_some() && self.is_left_open() => Severity::Warning,
                _ if self.closing().is_some() && self.is_unheard() => Severity::Warning,
                _ => Severity::Harmless,
            };
        };
        let phase = self.seen(resets.phase);
        let cut_short = self.exchange().is_some_and(|e| e.sent != Progress::Complete);
        match (phase, transaction, resets.by) {
            // Health checks and port probes leave like this: they asked for nothing.
            (Phase::Handshake, _, Side::Client) if self.stream.was_accepted() => {
                Severity::Harmless
            }
            (_, Transaction::Failed, _) => Severity::Failure,
            // Of the transaction that is done nothing is missing, but of the next one.
            _ if self.crossed_at().is_some() => Severity::Warning,
            (Phase::BeforeRequest, Transaction::None, Side::Client) => Severity::Harmless,
            // One of the two before, whichever it is.
            (Phase::Unknown, Transaction::None, Side::Client)
                if self.stream.is_unserved() && self.stream.was_accepted() =>
            {
                Severity::Harmless
            }
            (Phase::AfterResponse | Phase::Teardown, Transaction::Completed, _)
                if !cut_short =>
            {
                Severity::Harmless
            }
            (Phase::Teardown, Transaction::None, _) => Severity::Harmless,
            // Both sides had closed, and each has all that the other said.
            (Phase::Teardown, Transaction::Unknown, _)
                if self.stream.is_unrecognized()
                    && !(self.lacks_bytes() || self.stream.is_out_of_order())
                    && self.close() != Close::Reset
                    && !self.is_unheard() =>
            {
                Severity::Harmless
            }
            // A close_notify behind the FIN of the other side, which needs it no more.
            (Phase::Teardown, Transaction::Unknown, _) if self.answers_alert() => {
                Severity::Harmless
            }
            _ => Severity::Warning,
        }
    }

    /// Something was said in the clear that is not recognized, and was never acknowledged.
    fn is_unheard(&self) -> bool {
        let unacked = |side| self.stream.unacked(side) > 0;
        let is_clear = self.stream.is_unrecognized() && !self.caveats().encrypted;
        is_clear && (unacked(Side::Client) || unacked(Side::Server))
    }

    /// Bytes that were sent are not in the capture.
    fn lacks_bytes(&self) -> bool {
        let Caveats { gap, truncated, .. } = self.caveats();
        gap || truncated
    }

    /// How the first RST came about.
    pub fn form(&self) -> Option<Form> {
        let resets = self.stream.resets()?;
        let host = self.survey.and_then(|all| all.ttl(self.stream.end(resets.by).addr));
        let form = resets.signs.form(host, !resets.effective);
        // What it answers may have been left out of the capture.
        let unclear = form == Form::Injected && self.stream.shows_only_ends()
            || form == Form::Active && self.stream.may_have_gone_on_after_reset();
        Some(if unclear || self.stream.is_reset_untimely() { Form::Unclear } else { form })
    }

    /// The segment that a passive RST answers.
    pub fn answers(&self) -> Option<u32> {
        let passive = self.form() == Some(Form::Passive);
        let signs = self.stream.resets().filter(|_| passive)?.signs;
        // What else it may answer may stand behind it.
        let is_told = |at| {
            signs.rival_at.is_none_or(|rival| rival < at) && !self.stream.is_out_of_order()
        };
        signs.answers.filter(|seen| is_told(seen.time)).map(|seen| seen.frame)
    }

    /// The likely cause, if the packets single one out and all streams are known.
    pub fn cause(&self) -> Option<Cause> {
        // What a RST answers, and what it cut, is told by the order.
        let survey = self.survey.filter(|_| !self.stream.is_reset_untimely())?;
        cause::find(self, survey)
    }

    /// When the capture ended, as far as it has been read.
    pub fn end(&self) -> CaptureTime {
        self.capture.end
    }

    fn answers_alert(&self) -> bool {
        let answers = self.stream.resets().and_then(|resets| resets.signs.answers);
        answers.is_some_and(|seen| seen.what == What::TlsAlert)
    }

    /// What the first RST cut; `None` without a RST.
    pub fn phase(&self) -> Option<Phase> {
        self.stream.reset_phase().map(|phase| self.seen(phase))
    }

    /// How far the exchange had come at the first FIN or RST, or when the capture ended.
    pub fn stage(&self) -> Phase {
        self.seen(self.stream.stage_at_end(self.end()))
    }

    /// How far the exchange had come at the first FIN or RST that is seen.
    fn reached(&self) -> Phase {
        let closing = self.stream.closing();
        let closing = closing.map(|closing| match self.stream.is_end_untimely() {
            true => Phase::Unknown,
            false => closing.stage,
        });
        self.seen(closing.unwrap_or_else(|| self.stream.stage(self.end(), None)))
    }

    /// A phase, as far as the capture could show it: what completes a handshake is no SYN, FIN or
    /// RST.
    fn seen(&self, phase: Phase) -> Phase {
        match self.capture.only_ends && self.stream.was_accepted() {
            true if phase == Phase::Handshake => Phase::Unknown,
            _ => phase,
        }
    }

    /// The client has certainly sent nothing, as far as the capture could show that: one of ends
    /// alone tells it by their numbers.
    fn is_unasked(&self) -> bool {
        let told = || self.stream.tells_end_of(Side::Client) || !self.stream.was_accepted();
        let is_open = self.closing().is_none() && self.stage() == Phase::Unknown;
        self.stream.is_unasked() && !is_open && (!self.capture.only_ends || told())
    }

    /// Whether the transaction was done.
    pub fn transaction(&self) -> Transaction {
        if self.stream.websocket().is_some() && !self.stream.is_shuffled() {
            return self.transaction_of_messages();
        }
        // What goes through a tunnel counts, not the exchange that opened it.
        let exchange = self.exchange().filter(|_| !self.stream.is_tunnelled());
        let Some(exchange) = exchange else { return self.transaction_unseen() };
        match exchange.answered {
            _ if exchange.given_up.is_some() => Transaction::Failed,
            // Another request may have followed.
            Progress::Complete if self.stream.lacks(Side::Client) => Transaction::Unknown,
            Progress::Complete if self.stream.is_acked(exchange) => Transaction::Completed,
            // The client's own RST leaves no doubt that it did not take the rest.
            Progress::Complete if self.ended_by_reset_of(Side::Client) => {
                match self.stream.caveats().one_sided {
                    true => Transaction::Unknown,
                    false => Transaction::Failed,
                }
            }
            Progress::Complete | Progress::Lost | Progress::Cut => Transaction::Unknown,
            _ if self.stream.lacks(Side::Server) => Transaction::Unknown,
            // Whether such a request is complete, nobody can tell. It has no answer.
            _ if self.is_over() && is_request_without_end(exchange) => Transaction::Failed,
            _ if self.reached() == Phase::Unknown => Transaction::Unknown,
            Progress::None | Progress::Begun => match self.is_over() {
                true => Transaction::Failed,
                false => Transaction::Unknown,
            },
        }
    }

    /// The transaction of a WebSocket is the session: a Close frame ends it, a message that was
    /// cut fails it, and without either nobody said that it was done.
    fn transaction_of_messages(&self) -> Transaction {
        let reset = self.stream.effective_resets().is_some();
        let ended = |side| reset || self.stream.fin(side).is_some();
        match self.stream.stage(self.end(), None) {
            Phase::DuringRequest if ended(Side::Client) => Transaction::Failed,
            Phase::DuringResponse if ended(Side::Server) => Transaction::Failed,
            Phase::AfterResponse if self.stream.is_closed_by_frame() => Transaction::Completed,
            _ => Transaction::Unknown,
        }
    }

    /// A WebSocket ended between two messages, and without a Close frame.
    fn is_left_open(&self) -> bool {
        self.stream.websocket().is_some()
            && self.stage() == Phase::AfterResponse
            && self.transaction() == Transaction::Unknown
    }

    /// The transaction of a stream on which no HTTP message is recognized. Nobody knows what was
    /// done there, unless a RST cut what was said.
    fn transaction_unseen(&self) -> Transaction {
        match self.stage() {
            // A SYN can carry a request.
            Phase::Handshake if self.stream.has_spoken(Side::Client) => Transaction::Unknown,
            stage if stage.is_before_request() => Transaction::None,
            _ if self.stream.cut_off().is_some() => Transaction::Failed,
            // What the capture lacks of the server need not have answered anything.
            _ if self.is_unasked()
                && !self.stream.is_unrecognized()
                && !(self.lacks_bytes() || self.stream.hides(Side::Server)) =>
            {
                Transaction::None
            }
            _ => Transaction::Unknown,
        }
    }

    /// No more of a response can come: the server closed its direction, or a RST was sent.
    fn is_over(&self) -> bool {
        self.stream.effective_resets().is_some() || self.stream.fin(Side::Server).is_some()
    }

    /// The end of one direction is not in the capture, though the direction is.
    fn lacks_fin(&self) -> bool {
        self.close() == Close::Unknown && !self.stream.caveats().one_sided
    }

    fn ended_by_reset_of(&self, side: Side) -> bool {
        self.stream.effective_resets().is_some_and(|resets| resets.by == side)
    }

    /// When the client sent more behind a server's RST that came after the response: it did not know
    /// of it yet.
    pub fn crossed_at(&self) -> Option<CaptureTime> {
        let resets =
            self.stream.effective_resets().filter(|resets| resets.by == Side::Server)?;
        let is_idle = resets.phase == Phase::AfterResponse
            && self.transaction() == Transaction::Completed
            && self.stream.http2().is_none()
            && !self.stream.is_tunnelled();
        resets.crossed_at.filter(|_| is_idle)
    }

    /// When the handshake was complete, or the first segment was seen.
    pub fn opened(&self) -> CaptureTime {
        self.stream.opened
    }

    /// How the connection was closed.
    pub fn close(&self) -> Close {
        self.stream.close()
    }

    /// The first FIN or RST that is seen.
    pub fn closing(&self) -> Option<&Closing> {
        self.stream.closing()
    }

    /// The first FIN or RST, where the capture tells that none came before it.
    pub fn first_end(&self) -> Option<&Closing> {
        self.stream.first_end()
    }

    /// How long nothing had been said before that.
    pub fn idle(&self) -> Option<i64> {
        self.first_end().and_then(|_| self.stream.idle())
    }

    /// The side of the first FIN or RST, where the capture tells that.
    pub fn closed_by(&self) -> Option<Side> {
        self.stream.closed_by()
    }

    /// The RSTs.
    pub fn resets(&self) -> Option<&Resets> {
        self.stream.resets()
    }

    /// Whose address the first RST bears.
    pub fn reset_by(&self) -> Option<Side> {
        self.stream.resets().map(|resets| resets.by)
    }

    /// Address and port of the client.
    pub fn client(&self) -> Endpoint {
        self.stream.end(Side::Client)
    }

    /// Address and port of the server.
    pub fn server(&self) -> Endpoint {
        self.stream.end(Side::Server)
    }

    /// Requests that were begun; `None` where the capture does not tell how many.
    pub fn requests(&self) -> Option<u64> {
        let count = self.stream.requests();
        count.filter(|&count| count > 0 || !self.capture.only_ends || self.is_unasked())
    }

    /// Responses that are complete; `None` where the capture does not tell how many.
    pub fn responses(&self) -> Option<u64> {
        self.stream.responses().filter(|&count| count > 0 || !self.capture.only_ends)
    }

    /// The exchange that `transaction` is about; `None` where the capture may lack a later one.
    pub fn exchange(&self) -> Option<&Exchange> {
        // A response that the server sent unasked is no transaction.
        let asked = |exchange: &&Exchange| exchange.sent != Progress::None;
        self.stream.exchange().filter(asked).filter(|last| !self.stream.may_be_followed(last))
    }

    /// Method and URI of that exchange.
    pub fn request(&self) -> Option<&str> {
        self.exchange().and_then(|exchange| exchange.request.as_deref())
    }

    /// Its status code.
    pub fn response_status(&self) -> Option<u16> {
        self.exchange().and_then(|exchange| exchange.status)
    }

    /// Whether the client's TCP acknowledged every byte of its response.
    pub fn response_acked(&self) -> Option<bool> {
        let exchange =
            self.exchange().filter(|e| has_response(e.answered) && !e.may_be_whole)?;
        let acked = self.stream.is_acked(exchange);
        // What is missing of the response may be all of the rest.
        let is_told = self.shows_acks()
            && !self.stream.may_have_ended()
            && !self.stream.lacks(Side::Server);
        (acked || is_told).then_some(acked)
    }

    /// What the client acknowledged is in the capture.
    fn shows_acks(&self) -> bool {
        let is_seen = self.stream.shows(Side::Client) && !self.stream.shows_only_ends();
        is_seen && !self.stream.hides(Side::Client)
    }

    /// Bytes that its framing promised and the client never acknowledged.
    pub fn response_missing(&self) -> Option<u64> {
        let missing = self.exchange().and_then(|exchange| self.stream.missing(exchange));
        missing.filter(|&missing| missing == 0 || self.shows_acks())
    }

    /// What the capture does not show.
    pub fn caveats(&self) -> Caveats {
        self.stream.caveats()
    }

    /// Whether the application above the server's socket, or nginx as the client of an
    /// upstream, learns of this end; `None` while there is none.
    pub fn nginx_sees(&self) -> Option<bool> {
        self.closing()?;
        // A RST alone may have refused a SYN that is not in the capture.
        let is_reset_alone = self.stream.is_reset_alone();
        let sees = self.stream.is_established() && !is_reset_alone
            || self.leg() == Some(Leg::Upstream);
        // Whether the handshake was completed is not known of some.
        let is_early = self.closing().is_some_and(|c| c.at.time < self.stream.opened);
        let goes_on =
            self.stream.is_reset_untimely() && self.stream.may_have_gone_on_after_reset();
        let is_told = sees && !is_early && !goes_on && !self.stream.is_shuffled();
        (is_told || self.stage() == Phase::Handshake).then_some(sees)
    }

    /// Which of nginx's connections this is, where addresses, log or pairing tell.
    pub fn leg(&self) -> Option<Leg> {
        let logged = || self.matches.first().filter(|m| m.certain).map(|m| m.leg);
        let Standing { given, link } = self.standing;
        given.or_else(logged).or_else(|| link.leg())
    }

    /// The first frame of the stream of the other leg that carried the same transaction.
    pub fn other_leg(&self) -> Option<u32> {
        self.standing.link.from(self.leg()?)
    }

    /// Entries of both logs about this stream, as many as are shown: what is certain first, and of
    /// that the error log.
    pub fn logged(&self) -> impl Iterator<Item = (Entry<'a>, Match)> + 'a {
        let store = self.store;
        let (found, _) = self.matched(limits::SHOWN);
        found.into_iter().filter_map(move |m| Some((store.entry(m.entry)?, m)))
    }

    /// How many more entries there are than are shown.
    pub fn more_logged(&self) -> usize {
        self.matched(limits::SHOWN).1
    }

    /// The entries of the error log about this stream, as many as are shown: what is certain first,
    /// and of that what is about the reset.
    pub fn entries(&self) -> impl Iterator<Item = (Entry<'a>, &'a Match)> + 'a {
        let store = self.store;
        let errors = self.matches.iter().take(limits::SHOWN);
        let errors = errors.filter(|found| !is_access(found.entry));
        errors.filter_map(move |m| Some((store.entry(m.entry)?, m)))
    }

    /// Entries of the access log about this stream, as many as are shown.
    pub fn access_entries(&self) -> Vec<(Entry<'a>, Match)> {
        self.logged().filter(|(_, found)| is_access(found.entry)).collect()
    }

    /// The first so many entries of both logs about this stream, and how many more there are. Of the
    /// access log, these are the entries that tell of an end, and those of requests that entries of
    /// the error log are about. What names the number of a connection is matched as that connection
    /// is.
    pub(crate) fn matched(&self, most: usize) -> (Vec<Match>, usize) {
        let store = self.store;
        // What an entry says of a response that is whole is nothing to tell.
        let is_whole = self.stream.exchange().is_some_and(|e| e.answered == Progress::Complete);
        let mut found: Vec<Match> = Vec::new();
        let mut known = HashSet::new();
        let mut connections = HashSet::new();
        let mut count = self.matches.len().saturating_sub(most);
        for by in self.matches.iter().take(most) {
            if !is_access(by.entry) {
                found.push(*by);
                count += 1;
            }
            let Some(kept) = store.kept(by.entry) else { continue };
            let Some(written) = kept.traits.instant else { continue };
            let of_connection =
                (by.certain && by.leg == Leg::Client && kept.connection.is_some())
                    .then(|| store.accesses_of_connection(by.entry));
            let is_numbered = of_connection.is_some();
            let tells = store.tells(by.entry) && (!by.certain || !is_numbered);
            let itself = (is_access(by.entry) && (tells || !is_whole)).then_some(by.entry);
            let of_request = store.access_of(by.entry).filter(|_| by.certain);
            let single =
                itself.into_iter().chain(of_request).filter(|entry| known.insert(*entry));
            let mut new: Vec<u32> = single.collect();
            // What says something is among those of the connection.
            let counted = |entry: &&u32| is_numbered && store.tells(**entry);
            count += new.iter().filter(|entry| !counted(entry)).count();
            // A connection that many entries are about is gone through once.
            let is_new = |all: &_| first(all).is_some_and(|first| connections.insert(first));
            if let Some(all) = of_connection.filter(is_new) {
                count += all.len();
                new.extend(all.take(most).filter(|entry| known.insert(*entry)));
            }
            found.extend(new.into_iter().filter_map(|entry| {
                let delta = by.delta.saturating_add(store.instant(entry)?.since(written));
                Some(Match { entry, delta, ..*by })
            }));
        }
        found.sort_by_key(|found| (!found.certain, is_access(found.entry)));
        found.truncate(most);
        let more = count.saturating_sub(found.len());
        (found, more)
    }

    pub(crate) fn store(&self) -> &'a Store {
        self.store
    }

    /// The stream itself.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }
}

/// It is certainly a request, and where it ends is not known.
fn is_request_without_end(exchange: &Exchange) -> bool {
    let is_known = exchange.sent == Progress::Lost && exchange.request.is_some();
    exchange.sent == Progress::Cut || is_known
}

fn first(all: &(impl Iterator<Item = u32> + Clone)) -> Option<u32> {
    all.clone().next()
}

fn has_response(answered: Progress) -> bool {
    matches!(answered, Progress::Begun | Progress::Complete)
}

impl Caveats {
    /// The words of the public interface for what holds.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        [
            (self.mid_stream, "mid_stream"),
            (self.one_sided, "one_sided"),
            (self.gap, "gap"),
            (self.truncated, "truncated"),
            (self.encrypted, "encrypted"),
            (self.bad_order, "bad_order"),
        ]
        .into_iter()
        .filter_map(|(holds, word)| holds.then_some(word))
    }
}
