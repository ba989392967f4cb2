// SPDX-License-Identifier: GPL-2.0-or-later
//! The criteria by which an entry can agree with a stream, and what each is worth.

/// A criterion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Criterion {
    /// The entry was written when the packet came.
    Time,
    /// The stream ended as the entry says: by a RST or a FIN of that side.
    Reset,
    /// The same method and URI.
    Uri,
    /// The same client address.
    Client,
    /// The same client port, as an access entry of the same connection tells.
    Port,
    /// This message can come in this phase.
    Phase,
    /// Connection numbers and connections stand in the same order.
    Order,
    /// The same upstream address and port.
    Upstream,
    /// The same host.
    Host,
    /// The same status of the response, as an access entry tells.
    Status,
    /// As many bytes of the response, as an access entry tells.
    Bytes,
    /// The same identifier of the request, as an access entry tells.
    RequestId,
}

/// Words and weights. The weights only rank entries that fit, so what counts is their order:
/// what few streams share (a URI, a moment) weighs more than what many share (a host).
const TABLE: [(Criterion, &str, u8); 12] = [
    (Criterion::Time, "time", 20),
    (Criterion::Reset, "reset", 15),
    (Criterion::Uri, "uri", 25),
    (Criterion::Client, "client", 15),
    (Criterion::Port, "port", 25),
    (Criterion::Phase, "phase", 10),
    (Criterion::Order, "order", 5),
    (Criterion::Upstream, "upstream", 15),
    (Criterion::Host, "host", 5),
    (Criterion::Status, "status", 5),
    (Criterion::Bytes, "bytes", 10),
    (Criterion::RequestId, "request_id", 25),
];

/// The criteria that agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence(u16);

impl Evidence {
    /// Adds a criterion if it agrees.
    pub fn add(&mut self, criterion: Criterion, agrees: bool) {
        self.0 |= u16::from(agrees) << criterion as u16;
    }

    /// Whether this criterion agrees.
    pub fn has(self, criterion: Criterion) -> bool {
        self.0 & 1 << criterion as u16 != 0
    }

    /// What all of it is worth, at most 100.
    pub fn weight(self) -> u8 {
        let agreeing = TABLE.iter().filter(|row| self.has(row.0)).map(|row| u16::from(row.2));
        agreeing.sum::<u16>().min(100) as u8
    }

    /// The words of the public interface, joined by commas.
    pub fn words(self) -> String {
        let words: Vec<_> =
            TABLE.iter().filter(|row| self.has(row.0)).map(|row| row.1).collect();
        words.join(",")
    }
}
