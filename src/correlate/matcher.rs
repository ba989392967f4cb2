// SPDX-License-Identifier: GPL-2.0-or-later
//! Which log entry is about which stream.
//!
//! What fits what is decided pair by pair in [`crate::correlate::fit`]; who gets whom, where
//! several fit, for all at once: the order of the log drops most of them (`order`), and what it
//! leaves is decided in [`crate::correlate::assign`], or, where it is too much for that, in
//! `crowd`.
//!
//! While a capture is being read, a stream is weighed against its neighbours of that moment
//! only. Once it has been read, everything is matched at once, when somebody asks; if more
//! segments come after all, that is done again, but never at a greater cost than the segments
//! and questions since then have paid for, so that a live capture stays linear.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::correlate::arrivals::Arrivals;
use crate::correlate::assign::{assign, assign_each, Decision, Edge, Place, ONE_PROCESS};
use crate::correlate::clock::Ballot;
use crate::correlate::crowd;
use crate::correlate::doubt;
use crate::correlate::events::{stream_request, stream_requests, Events};
use crate::correlate::evidence::{Criterion, Evidence};
use crate::correlate::fit::{candidates, ends, fits, fits_end, End, Ends, Fit, Known};
use crate::correlate::legs::{Addresses, BUSY};
use crate::correlate::order;
use crate::correlate::pace::Pace;
use crate::correlate::process::{Claim, InOrder, ONE_ROUND};
use crate::correlate::shares::Shares;
use crate::correlate::store::{is_access, Kept, Store, Traits};
use crate::correlate::strangers::{drop_scarce, Strangers};
use crate::limits;
use crate::nginx::message::Leg;
use crate::tcp::http::Progress;
use crate::tcp::stream::{request_bit, Side, Stream};
use crate::tcp::streams::Streams;
use crate::time::{CaptureTime, SECOND};

/// Pairs of entries and streams that are decided without asking the order first.
const FEW: usize = 64;

/// Score from which on no other stream fits.
pub(super) const CERTAIN: u8 = 90;

/// Seconds that entry and packet may lie apart, unless the user says otherwise.
const WINDOW: i64 = 2 * SECOND;

/// An entry that is, or may be, about a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Match {
    /// Index of the entry in the [`Store`].
    pub entry: u32,
    /// Which of nginx's connections the stream is, if the entry is about it.
    pub leg: Leg,
    /// 0 to 100; 90 and more means that no other stream fits.
    pub score: u8,
    /// The criteria that agree.
    pub evidence: Evidence,
    /// Nanoseconds from the packet to the entry.
    pub delta: i64,
    /// Other streams that the entry could be about.
    pub rivals: u32,
    /// The entry is about this stream; else it may be.
    pub certain: bool,
    /// The entry is about a RST.
    pub(super) about_reset: bool,
    /// What agrees is enough to claim it.
    pub(super) telling: bool,
    /// How much what agrees weighs, 0 to 100.
    pub(super) weight: u8,
    /// As [`Fit::taken`].
    pub(super) taken: bool,
}

impl Match {
    /// Whether it is worth showing: what may be about a stream has rivals, and is shown on each of
    /// them. What could be about no other, and is not certain, lost this one to entries that
    /// could as well be about it.
    fn is_shown(&self) -> bool {
        self.certain || self.rivals > 0
    }

    /// Other streams that the entry could be about, for all that is known.
    pub fn open_rivals(&self) -> u32 {
        if self.certain {
            0
        } else {
            self.rivals
        }
    }

    /// Takes back that the entry is about this stream: it may be.
    pub(super) fn leave_open(&mut self) {
        self.certain = false;
        self.score = score(Decision::Open, self.weight, self.rivals, false);
    }
}

/// Matches entries with streams.
#[derive(Debug)]
pub struct Matcher {
    window: i64,
    addresses: Addresses,
    events: Events,
    /// Everything, matched: the entries of each stream.
    settled: Settled,
    /// The last end of a stream by then.
    settled_at: CaptureTime,
    /// How far the capture has come.
    now: CaptureTime,
    pace: Pace,
    /// When to count votes for the log's clock while the capture is being read.
    clock_pace: Pace,
    /// The answer to the last question about one stream.
    answer: Vec<Match>,
}

/// An entry and a stream that fit each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub entry: u32,
    pub fit: Fit,
    /// As its group's.
    pub dropped: u32,
}

/// Entries that only their numbers tell apart, and the streams that each of them fits.
#[derive(Debug)]
pub(super) struct Group {
    pub entries: Vec<u32>,
    /// By when the streams ended.
    pub fits: Vec<Fit>,
    /// Streams that fit as well, and that the order has dropped.
    pub dropped: u32,
}

impl Default for Matcher {
    fn default() -> Matcher {
        Matcher {
            window: WINDOW,
            addresses: Addresses::default(),
            events: Events::default(),
            settled: Settled::default(),
            settled_at: CaptureTime(i64::MIN),
            now: CaptureTime(i64::MIN),
            pace: Pace::default(),
            clock_pace: Pace::default(),
            answer: Vec::new(),
        }
    }
}

impl Matcher {
    /// Sets how many nanoseconds entry and packet may lie apart beyond the log's resolution.
    pub fn set_window(&mut self, ns: i64) {
        self.window = ns;
    }

    /// How many nanoseconds entry and packet may lie apart beyond the log's resolution.
    pub fn window(&self) -> i64 {
        self.window
    }

    /// Sets the addresses of the nginx host.
    pub fn set_addresses(&mut self, addresses: Addresses) {
        self.addresses = addresses;
        self.pace.forget();
    }

    /// Entries to come tell ports, before anything has ended.
    pub fn expect_ports(&mut self) {
        self.events.expect_ports();
    }

    /// More ended on a stream than the ends that it `had`.
    pub fn stream_ended(
        &mut self,
        number: u32,
        stream: &Stream,
        had: [bool; 3],
        now: CaptureTime,
    ) {
        self.events.add(number, stream, had);
        self.events.forget_before(now.plus(-2 * self.reach()));
    }

    /// Nanoseconds that two ends may lie apart that rivals are about: an entry may be as far
    /// from each of them.
    fn reach(&self) -> i64 {
        2 * self.window + SECOND
    }

    /// A segment was fed, and the capture has come so far.
    pub fn fed(&mut self, now: CaptureTime) {
        self.now = now;
        self.pace.changed();
        self.clock_pace.changed();
    }

    /// Entries were added: at first all of a log, later what it grew by.
    pub fn log_changed(&mut self, at_first: bool) {
        for pace in [&mut self.pace, &mut self.clock_pace] {
            match at_first {
                true => pace.forget(),
                false => pace.changed(),
            }
        }
    }

    /// What is out of date is matched anew for the next question.
    pub fn insist(&mut self) {
        self.pace.insist();
    }

    /// Matches everything anew, if that is due.
    pub fn refresh(&mut self, streams: &Streams, store: &mut Store) {
        if store.compared_count() > 0 && self.pace.is_due() {
            self.settle(streams, store);
        }
    }

    /// Entries that are certainly about a stream, as of the last time everything was matched.
    pub fn certain(&self, number: u32) -> impl Iterator<Item = &Match> {
        self.settled.of(number).iter().take_while(|found| found.certain)
    }

    /// The entries about a stream, when every segment has been fed.
    pub fn all(&mut self, number: u32, streams: &Streams, store: &mut Store) -> &[Match] {
        if store.compared_count() == 0 {
            return &[];
        }
        self.refresh(streams, store);
        let last = streams.get(number).and_then(|s| ends(&s).map(|(_, time)| time).max());
        let is_past = last.is_some_and(|last| last < self.settled_at.plus(-self.reach()));
        if self.pace.is_current() || is_past {
            return self.settled.of(number);
        }
        self.so_far(number, streams, store)
    }

    /// The entries about a stream, judged by its neighbours of this moment.
    pub fn so_far(&mut self, number: u32, streams: &Streams, store: &mut Store) -> &[Match] {
        self.answer.clear();
        if store.compared_count() == 0 {
            return &[];
        }
        if store.clock().asks() && self.clock_pace.is_due() {
            let mut ballot = Ballot::new(store);
            streams.iter().for_each(|(_, stream)| ballot.add(&stream));
            self.set_clock(ballot, streams, store);
        }
        if let Some(stream) = streams.get(number) {
            self.events.sort();
            self.answer = self.near(number, &stream, streams, store).unwrap_or_default();
        }
        &self.answer
    }

    fn set_clock(&mut self, ballot: Ballot, streams: &Streams, store: &mut Store) {
        if let Some(clock) = ballot.count(store.clock()) {
            store.set_clock(clock);
        }
        self.clock_pace.worked_out(streams.count() + store.compared_count());
    }

    fn settle(&mut self, streams: &Streams, store: &mut Store) {
        let has_accesses = store.accesses().format().is_some();
        let mut events = Events::new(has_accesses);
        let mut ballot = Ballot::new(store);
        let mut strangers = Strangers::new(store);
        let mut arrivals = Arrivals::default();
        self.settled_at = CaptureTime(i64::MIN);
        for (number, stream) in streams.iter() {
            events.add(number, &stream, [false; 3]);
            events.add_silence(number, &stream);
            if has_accesses {
                events.add_answer(number, &stream);
            }
            ballot.add(&stream);
            arrivals.add(number, &stream);
            let last = ends(&stream).map(|(_, time)| time).max();
            strangers.see(&stream, last);
            self.settled_at = self.settled_at.max(last.unwrap_or(self.settled_at));
        }
        events.sort();
        self.set_clock(ballot, streams, store);
        let mut shares = Shares::default();
        let mut decided = |entries: Vec<u32>, context: Context<'_>, known: &[Claim]| {
            let groups = self.groups(entries, &events, streams, store, context, usize::MAX);
            let mut groups = groups.unwrap_or_default();
            if let Some(strangers) = context.known.strangers {
                shares.count(&groups, strangers, store, self.window);
                strangers.judge(&mut groups, streams, store, self.window);
            }
            let mut decided = decide_all(groups, store, &arrivals, known);
            decided.retain(|(_, found)| found.telling);
            decided
        };
        let Parts { clients, upstreams, unnumbered } = Parts::new(store);
        let (known, none) = (self.known(store), Waits::default());
        let with_strangers = Known { strangers: Some(&strangers), ..known };
        let mut all = decided(clients, Context { waits: &none, known: with_strangers }, &[]);
        // Whose request an upstream was asked for tells when it was asked.
        let waits = Waits::new(&upstreams, &all, streams, store);
        let lines = lines(&all, store);
        let mut told = decided(upstreams.clone(), Context { waits: &waits, known }, &lines);
        for (_, found) in &mut told {
            if waits.are_guessed(found.entry, store) {
                found.score = found.score.min(CERTAIN - 1);
            }
        }
        let found: HashSet<u32> = told.iter().map(|(_, found)| found.entry).collect();
        let lone = upstreams.into_iter().filter(|entry| !found.contains(entry)).collect();
        let groups = |entries| {
            let context = Context { waits: &none, known };
            self.groups(entries, &events, streams, store, context, usize::MAX)
                .unwrap_or_default()
        };
        let doubted = doubt_clients(lone, &mut all, groups, store);
        all.extend(told.into_iter().chain(doubted));
        all.extend(decided(unnumbered, Context { waits: &none, known }, &[]));
        all.iter_mut().for_each(|(_, found)| shares.limit(found, store));
        self.settled = Settled::new(all);
        self.pace.worked_out(streams.count() + store.compared_count());
    }

    /// The matches of one stream, decided among the entries that fit it and the other streams
    /// that fit those; `None` where these are too many to be weighed now.
    fn near(
        &self,
        number: u32,
        stream: &Stream,
        streams: &Streams,
        store: &Store,
    ) -> Option<Vec<Match>> {
        let (mut near, mut looks) = (Vec::new(), 0);
        for end in End::all(stream, streams.show_only_ends()) {
            let (from, to) = (end.time.plus(-self.window - SECOND), end.time.plus(self.window));
            let requests = stream_requests(stream).into_iter();
            let entries = requests.flat_map(|request| store.between(request, from, to));
            for entry in entries {
                looks += 1;
                if looks > limits::NEIGHBOURS {
                    return None;
                }
                let kept = store.kept(entry);
                if kept.is_some_and(|kept| fits_end(&kept.traits, &end, self.known(store))) {
                    near.push(entry);
                }
            }
        }
        near.sort_unstable();
        near.dedup();
        // An access entry without a number may be about the stream of an error entry.
        let (unnumbered, near) =
            near.into_iter().partition(|&entry| is_unnumbered_access(entry, store));
        let mut out = Vec::new();
        for entries in [near, unnumbered] {
            let entries: Vec<u32> = entries;
            let context = Context { waits: &Waits::default(), known: self.known(store) };
            let events = &self.events;
            let groups =
                self.groups(entries, events, streams, store, context, limits::NEIGHBOURS)?;
            let decided = decide(&pairs(&groups), store, Asked::Here).into_iter();
            let own = decided.filter(|(to, found)| *to == number && found.is_shown());
            out.extend(own.map(|(_, found)| found));
        }
        out.iter_mut().for_each(|found| self.expect_more(found, store));
        out.sort_by_key(rank);
        Some(out)
    }

    /// Says less of an entry that was written just now: a stream that has yet to end may fit it as
    /// well, or better.
    fn expect_more(&self, found: &mut Match, store: &Store) {
        let traits = store.kept(found.entry).map(|kept| kept.traits);
        let until =
            traits.and_then(|it| Some(it.instant?.plus(it.resolution + store.clock().error())));
        let is_past = until.is_none_or(|until| self.now > until);
        if is_past || !found.certain || found.evidence.has(Criterion::Port) {
            return;
        }
        if found.score < CERTAIN && found.rivals > 0 {
            found.leave_open();
        }
        found.score = found.score.min(CERTAIN - 1);
    }

    /// What is known of addresses while the capture is being read.
    fn known<'a>(&'a self, store: &'a Store) -> Known<'a> {
        Known { nginx: &self.addresses, strangers: None, upstreams: store.upstreams() }
    }

    /// Groups entries by what the matcher sees of them, and finds the streams of each group;
    /// `None` as soon as they may stand for more pairs than `most`.
    fn groups(
        &self,
        entries: impl IntoIterator<Item = u32>,
        events: &Events,
        streams: &Streams,
        store: &Store,
        context: Context<'_>,
        most: usize,
    ) -> Option<Vec<Group>> {
        let mut by_traits: HashMap<Traits, Vec<u32>> = HashMap::new();
        for entry in entries {
            if let Some(kept) = store.kept(entry) {
                let waited = context.waits.of(entry, &kept, store);
                let traits = Traits { waited, ..kept.traits };
                by_traits.entry(traits).or_default().push(entry);
            }
        }
        // In the order of the log, so that the streams that are looked at are near each other.
        let mut by_traits: Vec<(Traits, Vec<u32>)> = by_traits.into_iter().collect();
        by_traits.sort_by(|a, b| a.1.cmp(&b.1));
        let mut ends = Ends::new(streams, context.known);
        let mut pairs = 0;
        let groups = by_traits.into_iter().map(|(traits, entries)| {
            // Candidates are counted first: to look at their streams takes far longer.
            if most < usize::MAX {
                let candidates = candidates(&traits, self.window, events);
                pairs += entries.len() * candidates.take(most + 1).count();
            }
            (pairs <= most).then(|| {
                let fits = fits(&traits, self.window, events, &mut ends);
                Group { entries, fits, dropped: 0 }
            })
        });
        let mut groups = groups.collect::<Option<Vec<Group>>>()?;
        go_together(&mut groups, store);
        Some(groups)
    }
}

/// Leaves to entries about one connection of a client only the streams that each of them fits.
fn go_together(groups: &mut Vec<Group>, store: &Store) {
    // By process and number: the groups of the entries.
    let mut connections: HashMap<(u32, u64), BTreeSet<usize>> = HashMap::new();
    let connection = |entry: u32| {
        // Of access entries, one stands for each connection.
        let kept = store.kept(entry).filter(|_| !is_access(entry))?;
        let number = kept.connection.filter(|_| kept.traits.leg == Leg::Client);
        Some((kept.pid, number?))
    };
    for (at, group) in groups.iter().enumerate() {
        for connection in group.entries.iter().filter_map(|&entry| connection(entry)) {
            connections.entry(connection).or_default().insert(at);
        }
    }
    connections.retain(|_, of| of.len() > 1);
    let mut common: HashMap<(u32, u64), HashSet<u32>> = HashMap::new();
    for (connection, of) in connections {
        let streams = |at: &usize| groups[*at].fits.iter().map(|fit| fit.stream).collect();
        let sets = of.iter().map(streams);
        let left = sets.reduce(|one: HashSet<u32>, other| &one & &other).unwrap_or_default();
        if left.len() <= FEW {
            common.insert(connection, left);
        }
    }
    let mut apart = Vec::new();
    for group in groups.iter_mut().filter(|_| !common.is_empty()) {
        let Group { entries, fits, .. } = group;
        entries.retain(|&entry| {
            let Some(left) = connection(entry).and_then(|it| common.get(&it)) else {
                return true;
            };
            let fits = fits.iter().filter(|fit| left.contains(&fit.stream)).copied();
            apart.push(Group { entries: vec![entry], fits: fits.collect(), dropped: 0 });
            false
        });
    }
    groups.retain(|group| !group.entries.is_empty());
    groups.append(&mut apart);
}

/// What is known beyond entries and streams.
#[derive(Clone, Copy)]
struct Context<'a> {
    waits: &'a Waits,
    known: Known<'a>,
}

/// Entries by what has to be known before them.
struct Parts {
    /// About the client's connection, or about either.
    clients: Vec<u32>,
    /// About the upstream's.
    upstreams: Vec<u32>,
    /// Of an access log without numbers of connections. What they are about may be the same end
    /// that an error entry is about, so they take no stream from those.
    unnumbered: Vec<u32>,
}

impl Parts {
    fn new(store: &Store) -> Parts {
        let (unnumbered, numbered): (Vec<u32>, Vec<u32>) =
            store.compared().partition(|&entry| is_unnumbered_access(entry, store));
        let is_upstream = |entry: &u32| {
            store.kept(*entry).is_some_and(|kept| kept.traits.leg == Leg::Upstream)
        };
        let (upstreams, clients) = numbered.into_iter().partition(is_upstream);
        Parts { clients, upstreams, unnumbered }
    }
}

fn is_unnumbered_access(entry: u32, store: &Store) -> bool {
    is_access(entry) && store.kept(entry).is_some_and(|kept| kept.connection.is_none())
}

/// When the clients waited that upstreams were asked for, by the number of their connection.
#[derive(Default)]
struct Waits(HashMap<u64, Option<Wait>>);

/// When a client waited for the answers to its requests.
struct Wait {
    opened: CaptureTime,
    /// When its last request began, if it is known.
    asked_at: Option<CaptureTime>,
    /// When it had its last answer, or was gone.
    until: CaptureTime,
    /// The last request, if it is the only one or not like any before.
    last: Option<u64>,
    /// It is certain that every other one was answered before that.
    in_turn: bool,
    /// Other streams could have been the client's.
    guessed: bool,
}

impl Waits {
    /// Of the connections that entries about upstreams name, as far as these decisions tell.
    fn new(
        upstreams: &[u32],
        decided: &[(u32, Match)],
        streams: &Streams,
        store: &Store,
    ) -> Waits {
        let number = |entry| store.kept(entry).and_then(|kept| kept.connection);
        let wanted: HashSet<u64> =
            upstreams.iter().filter_map(|&entry| number(entry)).collect();
        let certain = decided.iter().filter(|(_, m)| m.certain && m.leg == Leg::Client);
        let mut told: Vec<(u32, u64, bool)> = certain
            .filter_map(|(stream, found)| {
                Some((*stream, number(found.entry)?, found.score < CERTAIN))
            })
            .filter(|(_, number, _)| wanted.contains(number))
            .collect();
        told.sort_unstable();
        told.dedup_by_key(|(stream, number, _)| (*stream, *number));
        let mut waits: HashMap<u64, Option<Wait>> = HashMap::new();
        for (stream, number, guessed) in told {
            let wait = streams.get(stream).map(|stream| Wait::new(&stream, guessed));
            // Numbers begin anew with nginx: one that names two streams tells nothing.
            waits.entry(number).and_modify(|wait| *wait = None).or_insert(wait);
        }
        Waits(waits)
    }

    /// Between which instants the upstream was asked that an entry is about, by the packets of the
    /// client's stream and by the access entry of its request.
    fn of(&self, entry: u32, kept: &Kept, store: &Store) -> Option<(CaptureTime, CaptureTime)> {
        if kept.traits.leg != Leg::Upstream {
            return None;
        }
        let logged = store.asked_between(entry);
        let error = store.clock().error();
        let logged = logged.map(|(from, to)| (from.plus(-error), to.plus(error)));
        match (self.shown(kept), logged) {
            (Some((from, to)), Some((other_from, other_to))) => {
                Some((from.max(other_from), to.min(other_to)))
            }
            (shown, logged) => shown.or(logged),
        }
    }

    /// Whether it is no more than likely when the upstream was asked that an entry is about.
    fn are_guessed(&self, entry: u32, store: &Store) -> bool {
        let number = store.kept(entry).and_then(|kept| kept.connection);
        let wait = number.and_then(|number| self.0.get(&number)?.as_ref());
        wait.is_some_and(|wait| wait.guessed)
    }

    /// The same, by the packets of the client's stream.
    fn shown(&self, kept: &Kept) -> Option<(CaptureTime, CaptureTime)> {
        let wait = self.0.get(&kept.connection?)?.as_ref()?;
        match (wait.asked_at, kept.traits.request) {
            (Some(asked_at), Some(request)) if wait.last == Some(request) => {
                Some((asked_at, wait.until))
            }
            (Some(asked_at), Some(_)) if wait.last.is_some() && wait.in_turn => {
                Some((wait.opened, asked_at))
            }
            _ => Some((wait.opened, wait.until)),
        }
    }
}

impl Wait {
    fn new(stream: &Stream, guessed: bool) -> Wait {
        let last = stream_request(stream).filter(|&request| {
            stream.http2().is_none() && stream.asked_earlier() & 1 << request_bit(request) == 0
        });
        let complete = stream.exchange().is_some_and(|e| e.answered == Progress::Complete);
        let answered = stream.last_data().filter(|_| complete && !stream.is_tunnelled());
        // What nginx ends, it is done with; that a client is gone it has to learn.
        let ended = stream.fin(Side::Server).map(|fin| fin.time);
        let reset = stream.effective_resets().filter(|resets| resets.by == Side::Server);
        let ended = ended.or(reset.map(|resets| resets.at.time));
        let closing = stream.closing().map(|closing| closing.at.time.plus(BUSY));
        let gone = || ended.or(closing);
        Wait {
            opened: stream.opened,
            asked_at: stream.asked_at(),
            until: answered.or_else(gone).unwrap_or(CaptureTime(i64::MAX)),
            last,
            in_turn: stream.talk().is_some_and(|talk| talk.begun() <= talk.completed() + 1),
            guessed,
        }
    }
}

/// Doubts what was told of clients while other streams fitted as well, where an entry about an
/// upstream fits none that was asked while such a client waited, and fits others: then the client
/// was another one, or the upstream was not captured. Both are left open.
fn doubt_clients(
    lone: Vec<u32>,
    clients: &mut Vec<(u32, Match)>,
    groups: impl Fn(Vec<u32>) -> Vec<Group>,
    store: &Store,
) -> Vec<(u32, Match)> {
    let number = |entry| store.kept(entry).and_then(|kept| kept.connection);
    let mut rivalled: HashMap<u64, Vec<u32>> = HashMap::new();
    let by_rivals = |found: &Match| found.certain && found.rivals > 0;
    for (_, found) in clients.iter().filter(|(_, found)| by_rivals(found)) {
        if let Some(number) = number(found.entry) {
            rivalled.entry(number).or_default().push(found.entry);
        }
    }
    let is_rivalled = |entry: &u32| number(*entry).is_some_and(|n| rivalled.contains_key(&n));
    let lone: Vec<u32> = lone.into_iter().filter(is_rivalled).collect();
    let mut lone = groups(lone);
    lone.retain(|group| !group.fits.is_empty());
    let numbers = lone.iter().flat_map(|group| &group.entries).filter_map(|&it| number(it));
    let doubted = numbers.filter_map(|number| rivalled.get(&number)).flatten();
    let doubted: BTreeSet<u32> = doubted.copied().collect();
    clients.retain(|(_, found)| !doubted.contains(&found.entry));
    let mut out = Vec::new();
    for group in lone.iter().chain(&groups(doubted.into_iter().collect())) {
        leave_open(group, &mut out);
    }
    out
}

/// Shows each entry of a group on each of its streams, unless that is too much.
fn leave_open(group: &Group, out: &mut Vec<(u32, Match)>) {
    if pair_count(std::slice::from_ref(group)) > FEW {
        return crowd::leave_open(group, &group.fits, out);
    }
    let rivals = group.fits.len().saturating_sub(1) as u32;
    out.extend(
        pairs(std::slice::from_ref(group))
            .iter()
            .map(|pair| (pair.fit.stream, pair.decided(Decision::Open, rivals))),
    );
}

/// Pairs of entries and streams that groups stand for.
fn pair_count(groups: &[Group]) -> usize {
    groups.iter().map(|group| group.entries.len() * group.fits.len()).sum()
}

/// The pairs that groups stand for.
fn pairs(groups: &[Group]) -> Vec<Pair> {
    let all = groups.iter().flat_map(|group| {
        let entries = group.entries.iter();
        entries.flat_map(move |&entry| {
            let fits = group.fits.iter();
            fits.map(move |&fit| Pair { entry, fit, dropped: group.dropped })
        })
    });
    all.collect()
}

/// Decides for all groups: for a few that hang together at once; in a storm, for what the order of
/// all entries leaves of them.
fn decide_all(
    groups: Vec<Group>,
    store: &Store,
    arrivals: &Arrivals,
    known: &[Claim],
) -> Vec<(u32, Match)> {
    let (mut few, mut crowds) = (Vec::new(), Vec::new());
    for mut part in parts(groups) {
        drop_scarce(&mut part, store);
        match pair_count(&part) {
            count if count <= FEW => few.push(part),
            _ => crowds.extend(part),
        }
    }
    let decide_few = |part: &Vec<Group>| {
        without_silent(decide(&pairs(part), store, Asked::Here)).into_iter()
    };
    if crowds.is_empty() {
        return few.iter().flat_map(decide_few).collect();
    }
    // What is told without the order confirms it.
    let (told, few): (Vec<_>, Vec<_>) = few.into_iter().partition(|part| pair_count(part) <= 1);
    let mut out: Vec<(u32, Match)> = told.iter().flat_map(decide_few).collect();
    // In a storm lines may be so late that the stream that they are about no longer fits, and another
    // one does.
    for (_, found) in &mut out {
        let named = [Criterion::Port, Criterion::RequestId];
        if !named.iter().any(|criterion| found.evidence.has(*criterion)) {
            found.score = found.score.min(CERTAIN - 1);
        }
    }
    crowds.extend(few.into_iter().flatten());
    let told: Vec<Group> = told.into_iter().flatten().collect();
    let (narrowed, rest) = order::narrow(&crowds, &told, store, arrivals, known);
    rest.iter().for_each(|group| crowd::leave_open(group, &group.fits, &mut out));
    let known_fits = told.iter().chain(&narrowed).flat_map(|group| &group.fits);
    let fits: HashMap<u32, Fit> = known_fits.map(|fit| (fit.stream, *fit)).collect();
    let parts = parts(narrowed);
    out.extend(parts.iter().flat_map(|part| decide(&pairs(part), store, Asked::Before)));
    doubt_crossing(&mut out, &fits, known, store);
    out
}

/// When what lines are about ended, as far as that is decided.
fn lines(decided: &[(u32, Match)], store: &Store) -> Vec<Claim> {
    decided.iter().filter_map(|(_, found)| line(found, store)).collect()
}

fn line(found: &Match, store: &Store) -> Option<Claim> {
    let kept = store.kept(found.entry).filter(|_| found.certain && found.taken)?;
    let ended = kept.traits.instant?.plus(-found.delta);
    order::line(found.entry, &kept, ended)
}

/// Leaves open what was told against the order in which one process numbers and writes.
fn doubt_crossing(
    decided: &mut [(u32, Match)],
    fits: &HashMap<u32, Fit>,
    known: &[Claim],
    store: &Store,
) {
    let number = |stream: u32, found: &Match| {
        let kept = store.kept(found.entry).filter(|_| !is_access(found.entry))?;
        let is_told = found.certain && found.leg == Leg::Client;
        Claim::number(kept.pid, kept.connection.filter(|_| is_told)?, fits.get(&stream)?)
    };
    let numbers = decided.iter().filter_map(|(stream, found)| number(*stream, found));
    let written = decided.iter().filter_map(|(_, found)| line(found, store));
    let in_order = InOrder::new(numbers.chain(written).chain(known.iter().copied()));
    for (stream, found) in decided {
        let crosses = number(*stream, found).is_some_and(|claim| !in_order.has(claim))
            || line(found, store).is_some_and(|claim| !in_order.allow(claim));
        if crosses {
            // It and those nearby cannot all be right.
            found.rivals = found.rivals.max(1);
            found.leave_open();
        }
    }
}

/// Where the order is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Among the few that are decided for.
    Here,
    /// Among all entries, and what it tells has been dropped.
    Before,
}

/// Splits groups into parts that have no stream in common.
fn parts(groups: Vec<Group>) -> Vec<Vec<Group>> {
    // The lowest group of each stream stands for all that are joined to it.
    let mut joined: Vec<usize> = (0..groups.len()).collect();
    fn root(joined: &mut [usize], mut at: usize) -> usize {
        while joined[at] != at {
            joined[at] = joined[joined[at]];
            at = joined[at];
        }
        at
    }
    let mut by_stream: HashMap<u32, usize> = HashMap::new();
    for (index, group) in groups.iter().enumerate() {
        for fit in &group.fits {
            let other = *by_stream.entry(fit.stream).or_insert(index);
            let (one, other) = (root(&mut joined, index), root(&mut joined, other));
            joined[one.max(other)] = one.min(other);
        }
    }
    let mut parts: BTreeMap<usize, Vec<Group>> = BTreeMap::new();
    for (index, group) in groups.into_iter().enumerate() {
        parts.entry(root(&mut joined, index)).or_default().push(group);
    }
    parts.into_values().collect()
}

/// Decides which of the pairs hold. Several entries of one client connection go together.
fn decide(pairs: &[Pair], store: &Store, order: Asked) -> Vec<(u32, Match)> {
    let units = Units::new(pairs, store);
    let mut of_request = Evidence::default();
    [Criterion::Uri, Criterion::Host].iter().for_each(|&it| of_request.add(it, true));
    let mut edges = Vec::new();
    // What each would weigh if its entry named a request.
    let mut at_best = Vec::new();
    // The pairs of each edge.
    let mut members: Vec<&[usize]> = Vec::new();
    for (unit, (place, fits)) in (0u32..).zip(&units.0) {
        for indices in fits {
            let best = indices.iter().map(|&i| &pairs[i].fit).max_by_key(|fit| fit.weight);
            let Some(&Fit { stream, weight, moment, .. }) = best else { continue };
            edges.push(Edge { unit, stream, weight, moment, place: *place });
            let is_silent = |&i: &usize| {
                store.kept(pairs[i].entry).is_some_and(|it| it.traits.request.is_none())
            };
            let silent = if indices.iter().all(is_silent) { of_request.weight() } else { 0 };
            at_best.push(weight.saturating_add(silent));
            members.push(indices);
        }
    }
    let mut out = Vec::new();
    let mut assigned = match order {
        Asked::Here => assign(&edges),
        Asked::Before => assign_each(&edges),
    };
    if order == Asked::Here {
        doubt::where_streams_lack(&edges, &at_best, &mut assigned);
    }
    for assigned in doubt::everywhere(&edges, assigned) {
        for &index in members[assigned.edge] {
            let pair = &pairs[index];
            out.push((pair.fit.stream, pair.decided(assigned.by, assigned.rivals)));
        }
    }
    out
}

/// What is left of matches where each that tells nothing by itself is silent: of an entry that stays
/// open, the other streams on which it is shown are its rivals.
fn without_silent(mut decided: Vec<(u32, Match)>) -> Vec<(u32, Match)> {
    decided.retain(|(_, found)| found.telling);
    let mut places: HashMap<u32, u32> = HashMap::new();
    for (_, found) in decided.iter().filter(|(_, found)| !found.certain) {
        *places.entry(found.entry).or_default() += 1;
    }
    for (_, found) in decided.iter_mut().filter(|(_, found)| !found.certain) {
        found.rivals = places[&found.entry] - 1;
        found.leave_open();
    }
    decided
}

/// Entries that go together: for each unit its place in the order, and for each stream that
/// all of them fit, the pairs.
struct Units(Vec<(Option<Place>, Vec<Vec<usize>>)>);

impl Units {
    fn new(pairs: &[Pair], store: &Store) -> Units {
        let mut groups: BTreeMap<(Option<u64>, u32), Vec<usize>> = BTreeMap::new();
        for (index, pair) in pairs.iter().enumerate() {
            let connection = store.kept(pair.entry).and_then(|kept| kept.connection);
            // The entries about one client's connection share its number. An upstream's
            // connection has none of its own.
            let shared = connection.filter(|_| pair.fit.leg == Leg::Client);
            let alone = if shared.is_some() { 0 } else { pair.entry };
            groups.entry((shared, alone)).or_default().push(index);
        }
        let mut units = Vec::new();
        for group in groups.into_values() {
            let together = by_stream(&group, pairs, true);
            if !together.is_empty() {
                units.push((place(&pairs[group[0]], store), together));
                continue;
            }
            let mut entries: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
            for index in group {
                entries.entry(pairs[index].entry).or_default().push(index);
            }
            let alone = entries.into_values();
            units.extend(
                alone.map(|e| (place(&pairs[e[0]], store), by_stream(&e, pairs, false))),
            );
        }
        Units(units)
    }
}

/// How far apart, in nanoseconds, two connections have to be complete for several processes to
/// number them in this order, and two ends to come for them to be logged in this order, where too
/// little happens to tell that: any of them may have been held up.
const RACE: i64 = SECOND;

/// Where an entry stands in the order of its leg.
pub(super) fn place(pair: &Pair, store: &Store) -> Option<Place> {
    let kept = store.kept(pair.entry)?;
    let (number, own) = match pair.fit.leg {
        Leg::Client => (kept.connection?, ONE_PROCESS),
        // What came while the client did not take what nginx had, that reads when it does. Among many
        // it shows how late lines are, among a few it does not.
        Leg::Upstream if kept.traits.phases.is_passed_on() => return None,
        Leg::Upstream => {
            (u64::from(kept.file) << 32 | order::line_of(pair.entry, &kept)?, ONE_ROUND)
        }
        Leg::Unknown => return None,
    };
    Some(Place { number, process: kept.pid, race: RACE, own })
}

/// Pairs of a group by stream, of those streams only that fit each of its entries if `all`.
fn by_stream(group: &[usize], pairs: &[Pair], all: bool) -> Vec<Vec<usize>> {
    let entries: BTreeSet<u32> = group.iter().map(|&index| pairs[index].entry).collect();
    let mut streams: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for &index in group {
        streams.entry(pairs[index].fit.stream).or_default().push(index);
    }
    let fits = |indices: &Vec<usize>| !all || indices.len() == entries.len();
    streams.into_values().filter(fits).collect()
}

impl Pair {
    pub(super) fn decided(&self, by: Decision, rivals: u32) -> Match {
        let Fit { leg, mut evidence, weight, delta, about_reset, .. } = self.fit;
        let doubtful = self.fit.stranger || self.fit.claimed;
        // Where the order has left but one, it was the order that told.
        let (by, rivals) = match by {
            Decision::Only if self.dropped > 0 => (Decision::Order, self.dropped),
            by => (by, rivals + self.dropped),
        };
        evidence.add(Criterion::Order, by == Decision::Order);
        Match {
            entry: self.entry,
            leg,
            score: score(by, weight, rivals, doubtful),
            evidence,
            delta,
            rivals,
            certain: by != Decision::Open,
            about_reset,
            telling: self.fit.is_telling(),
            weight,
            taken: self.fit.taken,
        }
    }
}

fn score(by: Decision, weight: u8, rivals: u32, doubtful: bool) -> u8 {
    let weight = u32::from(weight);
    let score = match by {
        Decision::Only if !doubtful => u32::from(CERTAIN) + weight / 10,
        Decision::Only | Decision::Best | Decision::Order => 60 + weight * 29 / 100,
        Decision::Open => weight.max(1) / (1 + rivals.max(1)),
    };
    score.min(100) as u8
}

/// Matches of many streams, in no more room than they need.
#[derive(Debug, Default)]
struct Settled {
    /// For each match its stream, in order.
    streams: Vec<u32>,
    matches: Vec<Match>,
}

impl Settled {
    fn new(mut all: Vec<(u32, Match)>) -> Settled {
        all.retain(|(_, found)| found.is_shown());
        all.sort_by_key(|(stream, found)| (*stream, rank(found)));
        let mut settled = Settled {
            streams: Vec::with_capacity(all.len()),
            matches: Vec::with_capacity(all.len()),
        };
        settled.streams.extend(all.iter().map(|(stream, _)| stream));
        settled.matches.extend(all.iter().map(|(_, found)| *found));
        settled
    }

    fn of(&self, stream: u32) -> &[Match] {
        let from = self.streams.partition_point(|&other| other < stream);
        let len = self.streams[from..].partition_point(|&other| other == stream);
        &self.matches[from..from + len]
    }
}

/// What is certain first, and of that what is about the reset, then in the order of the log.
fn rank(found: &Match) -> (bool, bool, u32) {
    (!found.certain, !found.about_reset, found.entry)
}
