// SPDX-License-Identifier: GPL-2.0-or-later
//! What the streams of a capture tell about each other: how far away each host is, who asks
//! for many ports, what ended together, which request went on to which upstream.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::correlate::events::stream_request;
use crate::correlate::pace::Pace;
use crate::tcp::http::Progress;
use crate::tcp::phase::Phase::Handshake;
use crate::tcp::segment::Endpoint;
use crate::tcp::stream::{Side, Stream};
use crate::tcp::streams::Streams;
use crate::tcp::trace::Seen;
use crate::time::{CaptureTime, SECOND};

/// Ends this close to each other, in nanoseconds, have one reason.
const TOGETHER: i64 = 20_000_000;

/// When a stream ended, and its first frame.
type Ended = (CaptureTime, u32);

/// A look at all streams.
#[derive(Debug, Default)]
pub struct Survey {
    pace: Pace,
    /// TTL or hop limit of each host's packets; `None` where they differ.
    ttls: HashMap<IpAddr, Option<u8>>,
    /// By the addresses of client and server: the ports whose answer it did not want.
    probed: HashMap<(IpAddr, Option<IpAddr>), HashSet<u16>>,
    /// Of those, some had connections that the capture holds out of order.
    blurred: HashSet<(IpAddr, Option<IpAddr>)>,
    /// By client address and server: how often it left without a request.
    left: HashMap<(IpAddr, Endpoint), u32>,
    /// By server: when it reset connections on which it had not said a word.
    dropped: HashMap<Endpoint, Vec<CaptureTime>>,
    /// By the numbers of a segment that met no socket: the first frame of the connection that
    /// it continues, if there is one.
    continued: HashMap<[u32; 2], Option<u32>>,
    /// By the host that asked and the request: upstreams that did not answer.
    failed: HashMap<(IpAddr, Option<u64>), Vec<Ended>>,
}

impl Survey {
    /// A segment was fed.
    pub fn fed(&mut self) {
        self.pace.changed();
    }

    /// Whatever is out of date is taken anew for the next question.
    pub fn insist(&mut self) {
        self.pace.insist();
    }

    /// The look at all streams, taken anew if the last one is out of date.
    pub fn refreshed(&mut self, streams: &Streams) -> &Survey {
        if self.pace.is_due() {
            self.look(streams);
        }
        self
    }

    fn look(&mut self, streams: &Streams) {
        let mut survey = Survey::default();
        for (_, stream) in streams.iter() {
            survey.add(&stream);
        }
        if !survey.continued.is_empty() {
            for (_, stream) in streams.iter() {
                survey.note_continued(&stream);
            }
        }
        survey.dropped.values_mut().for_each(|times| times.sort_unstable());
        survey.failed.values_mut().for_each(|ends| ends.sort_unstable());
        survey.pace.worked_out(streams.count());
        *self = survey;
    }

    fn add(&mut self, stream: &Stream) {
        let (client, server) = (stream.end(Side::Client), stream.end(Side::Server));
        for (side, end) in [(Side::Client, client), (Side::Server, server)] {
            let habits = stream.trace().habits[side as usize];
            if let Some(addr) = end.addr {
                self.note_ttl(addr, habits.ttl, habits.ttl_varies);
            }
        }
        let stray = stream.resets().filter(|_| !stream.was_joined_early());
        let answered = stray.and_then(|resets| resets.signs.answers?.numbers());
        self.continued.extend(answered.map(|numbers| (numbers, None)));
        let Some(asker) = client.addr else { return };
        let is_moved = stream.is_out_of_order() && !stream.is_established();
        if stream.is_reset_untimely() || stream.resets().is_some() && is_moved {
            self.blurred.insert((asker, server.addr));
        }
        let went = stream.is_unasked() && stream.resets().is_some_and(|r| r.by == Side::Client);
        if went {
            *self.left.entry((asker, server)).or_default() += 1;
        }
        if went || stream.is_unasked() && stream.was_refused() {
            self.probed.entry((asker, server.addr)).or_default().insert(server.port);
        }
        let dropped = stream.resets().filter(|r| r.by == Side::Server && r.phase != Handshake);
        if let Some(resets) = dropped.filter(|_| stream.is_unserved()) {
            self.dropped.entry(server).or_default().push(resets.at.time);
        }
        if let Some(end) = unanswered(stream) {
            let key = (asker, stream_request(stream));
            self.failed.entry(key).or_default().push((end, stream.first_frame));
        }
    }

    fn note_continued(&mut self, stream: &Stream) {
        let known = stream.next_seqs().filter(|_| stream.was_joined_early());
        let Some([ours, theirs]) = known else { return };
        for numbers in [[ours, theirs], [theirs, ours]] {
            if let Some(other) = self.continued.get_mut(&numbers) {
                *other = Some(stream.first_frame);
            }
        }
    }

    fn note_ttl(&mut self, addr: IpAddr, ttl: Option<u8>, varies: bool) {
        let Some(ttl) = ttl else { return };
        let known = self.ttls.entry(addr).or_insert(Some(ttl));
        if varies || *known != Some(ttl) {
            *known = None;
        }
    }

    /// TTL or hop limit of a host's packets, if they all have the same.
    pub fn ttl(&self, host: Option<IpAddr>) -> Option<u8> {
        self.ttls.get(&host?).copied().flatten()
    }

    /// Ports of one host that this client knocked at and went away from.
    pub fn probed(&self, client: Option<IpAddr>, host: Option<IpAddr>) -> usize {
        client.and_then(|client| self.probed.get(&(client, host))).map_or(0, HashSet::len)
    }

    /// Whether it may have been more.
    pub fn is_blurred(&self, client: Option<IpAddr>, host: Option<IpAddr>) -> bool {
        client.is_some_and(|client| self.blurred.contains(&(client, host)))
    }

    /// How often this client came to this server and left without a request.
    pub fn left(&self, client: Endpoint, server: Endpoint) -> u32 {
        let key = client.addr.map(|addr| (addr, server));
        key.and_then(|key| self.left.get(&key)).copied().unwrap_or(0)
    }

    /// The first frame of the connection that data with these numbers continues.
    pub fn continued(&self, seen: &Seen) -> Option<u32> {
        self.continued.get(&seen.numbers()?).copied().flatten()
    }

    /// Connections that this server dropped at this time, unanswered.
    pub fn dropped_together(&self, server: Endpoint, at: CaptureTime) -> usize {
        let Some(times) = self.dropped.get(&server) else { return 0 };
        let from = times.partition_point(|time| at.since(*time) > TOGETHER);
        let to = times.partition_point(|time| time.since(at) <= TOGETHER);
        to - from
    }

    /// The first frame of a stream on which this host passed a request on, in vain, that ended
    /// between two instants.
    pub fn failed_upstream(
        &self,
        host: Option<IpAddr>,
        request: Option<u64>,
        from: CaptureTime,
        to: CaptureTime,
    ) -> Option<u32> {
        let to = to.plus(SECOND / 100);
        [request, None].into_iter().find_map(|request| {
            let ends = self.failed.get(&(host?, request))?;
            let first = ends.get(ends.partition_point(|(end, _)| *end < from))?;
            (first.0 <= to).then_some(first.1)
        })
    }
}

/// When a stream ended by its server's doing, without a whole response to what was asked.
fn unanswered(stream: &Stream) -> Option<CaptureTime> {
    let by_server = stream.first_end().filter(|closing| closing.by == Side::Server)?;
    let answered = match stream.is_unrecognized() {
        true => stream.spoke_last() == Some(Side::Server),
        false => stream.exchange().is_some_and(|e| e.answered == Progress::Complete),
    };
    (!answered).then_some(by_server.at.time)
}
