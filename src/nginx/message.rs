// SPDX-License-Identifier: GPL-2.0-or-later
//! What nginx's messages mean for the two connections of a request, as tables.
//!
//! An entry does not say which connection failed: both legs print the client, the request and
//! the upstream. Three things tell, in this order:
//!
//! 1. the message, if it names a leg (`client prematurely closed connection`, `connect()`);
//! 2. the action, if only one leg can be in it (`SSL handshaking to upstream`);
//! 3. the level: nginx logs errors of client sockets at `info`, those of its own connections
//!    to upstreams at `error`. Errors that it did not expect are `alert` or `crit` on both.
//!
//! The rest of the action is a weak hint, because it is the last thing that nginx set out to
//! do: `while sending to client` stands over reads from the upstream, too.

use std::sync::LazyLock;

use super::error_log::{Errno, ErrorEntry, Level};

/// One of nginx's two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leg {
    /// Client to nginx.
    Client,
    /// nginx to the upstream.
    Upstream,
    /// The entry does not tell.
    Unknown,
}

impl Leg {
    /// The word of the public interface for this leg.
    pub fn word(self) -> &'static str {
        match self {
            Leg::Client => "client",
            Leg::Upstream => "upstream",
            Leg::Unknown => "unknown",
        }
    }
}

/// Who ended the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// The far side of that leg: the client or the upstream.
    Peer,
    /// nginx, or the system that it runs on.
    Nginx,
}

/// What a capture of that leg holds of the end, sent by whoever ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shows {
    /// A RST.
    Reset,
    /// A FIN.
    Fin,
    /// A FIN; inside TLS perhaps a RST, because a read through OpenSSL does not tell them
    /// apart.
    FinOrTlsReset,
    /// A FIN or a RST; the entry does not tell.
    ResetOrFin,
    /// A RST that answers the SYN.
    Refused,
    /// SYNs, data or probes without an answer, perhaps an ICMP message. Where a timer of nginx
    /// has fired, its FIN or RST comes after them.
    NoAnswer,
    /// No packet: nginx or its system gave up before sending any.
    NoPacket,
    /// No TCP segment: the client spoke HTTP/3, over UDP.
    NoTcp,
    /// Nothing: no TCP connection ends with this entry, only an HTTP/2 stream or a request, or
    /// it repeats what another entry says.
    Stays,
    /// A whole response, as an access entry tells; the connection may go on.
    Answer,
    /// A response that breaks off, whoever broke it off.
    CutAnswer,
    /// A response, whole or not.
    AnyAnswer,
}

/// How a message is recognized. Every text is ASCII and case counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// The whole message.
    Is(&'static str),
    /// The message begins so.
    Starts(&'static str),
    /// The message begins and ends so, and names a peer in between.
    Around(&'static str, &'static str),
}

impl Text {
    /// How every such message begins.
    fn beginning(self) -> &'static str {
        match self {
            Text::Is(text) | Text::Starts(text) | Text::Around(text, _) => text,
        }
    }

    /// `None` if the message is another one, else the peer that it names.
    fn find(self, message: &[u8]) -> Option<Option<&[u8]>> {
        match self {
            Text::Is(text) => (message == text.as_bytes()).then_some(None),
            Text::Starts(text) => message.starts_with(text.as_bytes()).then_some(None),
            Text::Around(start, end) => message
                .strip_prefix(start.as_bytes())?
                .strip_suffix(end.as_bytes())
                .map(|peer| Some(peer).filter(|peer| !peer.is_empty())),
        }
    }
}

/// What an error number means, whatever system nginx ran on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrnoKind {
    /// ECONNRESET: the peer sent a RST.
    Reset,
    /// EPIPE: written after the peer's RST had come.
    Pipe,
    /// ECONNABORTED: a RST came before nginx took the connection, or the system dropped it.
    Aborted,
    /// ENOTCONN: the connection was gone already.
    NotConnected,
    /// ETIMEDOUT: a timer of nginx, or the system's retransmissions or probes without answer.
    TimedOut,
    /// ECONNREFUSED: a RST answered the SYN.
    Refused,
    /// EHOSTUNREACH, EHOSTDOWN: nobody there, by ICMP or by ARP.
    HostUnreachable,
    /// ENETUNREACH, ENETDOWN: no way there.
    NetUnreachable,
}

/// Numbers of Linux, of the BSDs with macOS, of Solaris, and of Windows. They do not collide:
/// where two systems use a number, one of the two errors never comes from a socket.
const ERRNOS: [(ErrnoKind, &[u32]); 8] = [
    (ErrnoKind::Reset, &[104, 54, 131, 10054]),
    (ErrnoKind::Pipe, &[32]),
    (ErrnoKind::Aborted, &[103, 53, 130, 10053]),
    (ErrnoKind::NotConnected, &[107, 57, 134, 10057]),
    (ErrnoKind::TimedOut, &[110, 60, 145, 10060]),
    (ErrnoKind::Refused, &[111, 61, 146, 10061]),
    (ErrnoKind::HostUnreachable, &[113, 112, 65, 64, 148, 147, 10065, 10064]),
    (ErrnoKind::NetUnreachable, &[101, 100, 51, 50, 128, 127, 10051, 10050]),
];

impl ErrnoKind {
    /// What an error number means, if it is one that ends connections.
    pub fn of(code: u32) -> Option<ErrnoKind> {
        ERRNOS.iter().find(|(_, codes)| codes.contains(&code)).map(|&(kind, _)| kind)
    }
}

/// Which error numbers a row takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errnos {
    /// Any or none.
    Any,
    /// None.
    Absent,
    /// One of these kinds.
    Of(&'static [ErrnoKind]),
}

impl Errnos {
    fn take(self, errno: Option<Errno<'_>>) -> bool {
        match (self, errno) {
            (Errnos::Any, _) | (Errnos::Absent, None) => true,
            (Errnos::Of(kinds), Some(errno)) => {
                ErrnoKind::of(errno.code).is_some_and(|kind| kinds.contains(&kind))
            }
            _ => false,
        }
    }
}

/// How a row knows the leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegRule {
    /// The message names the client's side.
    Client,
    /// The message names the upstream's side.
    Upstream,
    /// A system call that both legs use: by action and level, as the module says.
    ByLevel,
    /// It is about both at once.
    Both,
}

/// One kind of message.
#[derive(Debug)]
pub struct Row {
    /// Short name of the kind of end; rows that differ only in what packets show share it.
    pub name: &'static str,
    /// The message is one of these.
    pub texts: &'static [Text],
    /// One of these stands somewhere in the message; empty if none need to.
    pub has: &'static [&'static str],
    /// What the system said.
    pub errnos: Errnos,
    /// nginx was doing one of these; empty if it does not matter.
    pub actions: &'static [Action],
    /// The entry has one of these levels; empty if it does not matter.
    pub levels: &'static [Level],
    /// Which connection ended.
    pub leg: LegRule,
    /// Who ended it.
    pub by: By,
    /// What a capture of that connection holds of it.
    pub shows: Shows,
    /// What happened on the wire, in a sentence.
    pub means: &'static str,
}

/// A row before anything narrows it.
const ANY: Row = Row {
    name: "",
    texts: &[],
    has: &[],
    errnos: Errnos::Any,
    actions: &[],
    levels: &[],
    leg: LegRule::ByLevel,
    by: By::Peer,
    shows: Shows::ResetOrFin,
    means: "",
};

const RESET: Errnos = Errnos::Of(&[ErrnoKind::Reset, ErrnoKind::Pipe, ErrnoKind::Aborted]);
const GONE: Errnos = Errnos::Of(&[ErrnoKind::NotConnected]);
const REFUSED: Errnos = Errnos::Of(&[ErrnoKind::Refused]);
const SILENT: Errnos =
    Errnos::Of(&[ErrnoKind::TimedOut, ErrnoKind::HostUnreachable, ErrnoKind::NetUnreachable]);

/// What OpenSSL and its relatives say when the other side sent a fatal alert.
const ALERT: &[&str] = &[" alert ", "_ALERT_"];
/// What they say when the other side closed TCP without closing TLS.
const EOF: &[&str] = &["unexpected eof", "UNEXPECTED_EOF"];

/// System calls and library calls that move data, of every system.
const CALLS: &[Text] = &[
    Text::Starts("recv() failed"),
    Text::Starts("readv() failed"),
    Text::Starts("send() failed"),
    Text::Starts("writev() failed"),
    Text::Starts("sendfile() failed"),
    Text::Starts("sendfilev() failed"),
    Text::Starts("shutdown() failed"),
    Text::Starts("WSARecv() failed"),
    Text::Starts("WSASend() failed"),
    Text::Starts("TransmitFile() failed"),
    Text::Starts("SSL_read"),
    Text::Starts("SSL_write"),
    Text::Starts("SSL_sendfile() failed"),
    Text::Starts("SSL_shutdown() failed"),
];
const SSL_CALLS: &[Text] = &[
    Text::Starts("SSL_read"),
    Text::Starts("SSL_write"),
    Text::Starts("SSL_sendfile() failed"),
    Text::Starts("SSL_shutdown() failed"),
];
const SSL_HANDSHAKE: &[Text] = &[Text::Starts("SSL_do_handshake() failed")];

/// nginx looked at the socket without reading from it, so TLS cannot hide a RST.
const CLIENT_CLOSED_PEEK: &[Text] = &[
    Text::Starts("epoll_wait() reported that client prematurely closed connection"),
    Text::Starts("kevent() reported that client prematurely closed connection"),
    Text::Starts("client prematurely closed connection, so upstream connection is closed too"),
];
const CLIENT_CLOSED: &[Text] = &[Text::Is("client prematurely closed connection")];
const CLIENT_IDLE: &[Text] = &[
    Text::Is("client closed connection"),
    Text::Around("client ", " closed keepalive connection"),
];
/// A connection attempt that went on the wire.
const CONNECT: &[Text] =
    &[Text::Is("connect() failed"), Text::Is("kevent() reported that connect() failed")];
/// A connection attempt that the system answered at once.
const CONNECT_TO: &[Text] = &[Text::Around("connect() to ", " failed")];

/// Every message about the end of a connection, and those that only look like one. The first
/// row that fits counts.
pub static ROWS: &[Row] = &[
    // Not TCP: the resolver and syslog talk UDP through the same calls.
    Row {
        name: "datagram",
        texts: &[Text::Starts("recv() failed"), Text::Starts("send() failed")],
        actions: &[Action::Resolving, Action::LoggingToSyslog],
        shows: Shows::Stays,
        means: "A datagram to a resolver or a syslog server was lost; no TCP is involved.",
        ..ANY
    },
    // -- client leg --------------------------------------------------------------------
    Row {
        name: "client_closed_idle",
        texts: CLIENT_IDLE,
        errnos: Errnos::Absent,
        actions: &[Action::SslHandshaking, Action::ReadingProxyProtocol],
        leg: LegRule::Client,
        shows: Shows::Fin,
        means: "The client sent FIN before TLS or the PROXY header was complete.",
        ..ANY
    },
    Row {
        name: "client_closed_idle",
        texts: CLIENT_IDLE,
        errnos: Errnos::Absent,
        leg: LegRule::Client,
        shows: Shows::FinOrTlsReset,
        means: "The client sent FIN while no request was under way.",
        ..ANY
    },
    Row {
        name: "client_reset_idle",
        texts: CLIENT_IDLE,
        errnos: RESET,
        leg: LegRule::Client,
        shows: Shows::Reset,
        means: "The client sent RST while no request was under way.",
        ..ANY
    },
    Row {
        name: "client_closed_peek",
        texts: CLIENT_CLOSED_PEEK,
        errnos: Errnos::Absent,
        leg: LegRule::Client,
        shows: Shows::Fin,
        means: "The client sent FIN while nginx worked on its request; closing only its \
                sending half is enough for this.",
        ..ANY
    },
    Row {
        name: "client_closed_peek",
        texts: CLIENT_CLOSED,
        errnos: Errnos::Absent,
        actions: &[Action::SendingResponse, Action::SendingFlv, Action::SendingMp4],
        leg: LegRule::Client,
        shows: Shows::Fin,
        means: "The client sent FIN while nginx was about to answer it without an upstream.",
        ..ANY
    },
    Row {
        name: "client_closed",
        texts: CLIENT_CLOSED,
        errnos: Errnos::Absent,
        leg: LegRule::Client,
        shows: Shows::FinOrTlsReset,
        means: "The client sent FIN in the middle of its request, or before it had the \
                response.",
        ..ANY
    },
    Row {
        name: "client_reset",
        texts: &[
            Text::Starts("epoll_wait() reported that client prematurely closed connection"),
            Text::Starts("kevent() reported that client prematurely closed connection"),
            Text::Starts("client prematurely closed connection"),
        ],
        errnos: RESET,
        leg: LegRule::Client,
        shows: Shows::Reset,
        means: "The client sent RST while nginx worked on its request.",
        ..ANY
    },
    Row {
        name: "client_vanished",
        texts: &[
            Text::Starts("epoll_wait() reported that client prematurely closed connection"),
            Text::Starts("kevent() reported that client prematurely closed connection"),
            Text::Starts("client prematurely closed connection"),
        ],
        errnos: SILENT,
        leg: LegRule::Client,
        by: By::Nginx,
        shows: Shows::NoAnswer,
        means: "The client stopped answering; the system gave up on retransmissions or \
                keep-alive probes.",
        ..ANY
    },
    Row {
        name: "client_closed_stream",
        texts: &[Text::Starts("client prematurely closed stream")],
        leg: LegRule::Client,
        shows: Shows::Stays,
        means: "The client gave up one HTTP/2 stream; its connection goes on.",
        ..ANY
    },
    Row {
        name: "client_stalled",
        texts: &[Text::Starts("client timed out")],
        actions: &[
            Action::SendingToClient,
            Action::SendingResponse,
            Action::SendingFlv,
            Action::SendingMp4,
        ],
        leg: LegRule::Client,
        by: By::Nginx,
        shows: Shows::Reset,
        means:
            "The client took nothing of the response for as long as nginx waits; nginx closes. \
                Its FIN stays behind what the client does not take; its RST, under \
                reset_timedout_connection, does not.",
        ..ANY
    },
    Row {
        name: "client_timed_out",
        texts: &[Text::Starts("client timed out")],
        leg: LegRule::Client,
        by: By::Nginx,
        means: "The client was silent for as long as nginx waits; nginx closes, with FIN, or \
                with RST under reset_timedout_connection.",
        ..ANY
    },
    Row {
        name: "http2_flood",
        texts: &[Text::Starts("http2 flood detected")],
        leg: LegRule::Client,
        by: By::Nginx,
        means: "The client sent more HTTP/2 control frames than nginx takes; nginx closes.",
        ..ANY
    },
    Row {
        name: "proxy_header_broken",
        texts: &[Text::Starts("broken header: ")],
        leg: LegRule::Client,
        by: By::Nginx,
        means:
            "The client began with something else than the PROXY header that nginx was told \
                to expect; nginx closes.",
        ..ANY
    },
    Row {
        name: "accept_aborted",
        texts: &[
            Text::Starts("accept4() failed"),
            Text::Starts("accept() failed"),
            Text::Starts("AcceptEx() failed"),
        ],
        errnos: RESET,
        leg: LegRule::Client,
        shows: Shows::Reset,
        means: "The client sent RST before nginx took the connection.",
        ..ANY
    },
    Row {
        name: "stream_client_disconnected",
        texts: &[Text::Starts("client disconnected, ")],
        leg: LegRule::Client,
        means: "The client ended a proxied TCP session first.",
        ..ANY
    },
    Row {
        name: "stream_timed_out",
        texts: &[Text::Is("connection timed out")],
        leg: LegRule::Both,
        by: By::Nginx,
        means: "A proxied TCP session was silent for proxy_timeout; nginx closes both sides.",
        ..ANY
    },
    Row {
        name: "stream_shutdown",
        texts: &[Text::Is("disconnected on shutdown")],
        leg: LegRule::Both,
        by: By::Nginx,
        means: "A worker of nginx that was told to end closed both sides of a proxied session.",
        ..ANY
    },
    // -- TLS handshakes of either leg --------------------------------------------------
    Row {
        name: "handshake_closed",
        texts: &[Text::Is("peer closed connection in SSL handshake")],
        errnos: Errnos::Absent,
        shows: Shows::Fin,
        means: "The other side sent FIN during the TLS handshake.",
        ..ANY
    },
    Row {
        name: "handshake_reset",
        texts: &[
            Text::Is("peer closed connection in SSL handshake"),
            Text::Starts("SSL_do_handshake() failed"),
        ],
        errnos: RESET,
        shows: Shows::Reset,
        means: "The other side sent RST during the TLS handshake.",
        ..ANY
    },
    Row {
        name: "handshake_vanished",
        texts: &[
            Text::Is("peer closed connection in SSL handshake"),
            Text::Starts("SSL_do_handshake() failed"),
        ],
        errnos: SILENT,
        by: By::Nginx,
        shows: Shows::NoAnswer,
        means: "The other side stopped answering during the TLS handshake.",
        ..ANY
    },
    Row {
        name: "handshake_eof",
        texts: SSL_HANDSHAKE,
        has: EOF,
        shows: Shows::FinOrTlsReset,
        means: "The other side closed TCP during the TLS handshake without a TLS alert.",
        ..ANY
    },
    Row {
        name: "handshake_alert",
        texts: SSL_HANDSHAKE,
        has: ALERT,
        means: "The other side ended the TLS handshake with an alert.",
        ..ANY
    },
    Row {
        name: "handshake_failed",
        texts: SSL_HANDSHAKE,
        by: By::Nginx,
        means: "The TLS handshake cannot succeed; nginx sends an alert and closes.",
        ..ANY
    },
    // -- system calls of either leg ----------------------------------------------------
    Row {
        name: "upstream_reset_body",
        texts: &[Text::Starts("readv() failed")],
        errnos: RESET,
        leg: LegRule::Upstream,
        shows: Shows::Reset,
        means: "The upstream sent RST in the middle of its response; only upstreams are read \
                this way.",
        ..ANY
    },
    Row {
        name: "call_reset",
        texts: CALLS,
        errnos: RESET,
        shows: Shows::Reset,
        means: "The other side sent RST; nginx noticed when it read or wrote.",
        ..ANY
    },
    Row {
        name: "call_gone",
        texts: CALLS,
        errnos: GONE,
        means: "The connection was gone before nginx touched it.",
        ..ANY
    },
    Row {
        name: "call_refused",
        texts: CALLS,
        errnos: REFUSED,
        shows: Shows::Refused,
        means: "A RST answered the SYN; nginx noticed when it read or wrote.",
        ..ANY
    },
    Row {
        name: "call_vanished",
        texts: CALLS,
        errnos: SILENT,
        by: By::Nginx,
        shows: Shows::NoAnswer,
        means: "The other side stopped answering; the system gave up on retransmissions or \
                keep-alive probes.",
        ..ANY
    },
    Row {
        name: "tls_eof",
        texts: SSL_CALLS,
        has: EOF,
        shows: Shows::FinOrTlsReset,
        means: "The other side closed TCP without closing TLS first.",
        ..ANY
    },
    Row {
        name: "tls_alert",
        texts: SSL_CALLS,
        has: ALERT,
        means: "The other side ended TLS with an alert.",
        ..ANY
    },
    Row {
        name: "tls_failed",
        texts: SSL_CALLS,
        has: &["(SSL:"],
        by: By::Nginx,
        means: "What came is no TLS, or TLS was over already; nginx closes.",
        ..ANY
    },
    Row {
        name: "kevent_reset",
        texts: &[Text::Starts("kevent() reported about an closed connection")],
        errnos: RESET,
        shows: Shows::Reset,
        means: "The other side sent RST; the system reported it before nginx wrote.",
        ..ANY
    },
    Row {
        name: "kevent_closed",
        texts: &[Text::Starts("kevent() reported about an closed connection")],
        means: "The other side closed; the system reported it before nginx wrote.",
        ..ANY
    },
    // -- upstream leg ------------------------------------------------------------------
    Row {
        name: "connect_unix",
        texts: &[Text::Around("connect() to unix:", " failed")],
        leg: LegRule::Upstream,
        by: By::Nginx,
        shows: Shows::NoPacket,
        means: "A Unix socket did not take the connection; it has no packets.",
        ..ANY
    },
    Row {
        name: "connect_refused",
        texts: &[
            Text::Is("connect() failed"),
            Text::Is("kevent() reported that connect() failed"),
            Text::Around("connect() to ", " failed"),
        ],
        errnos: REFUSED,
        leg: LegRule::Upstream,
        shows: Shows::Refused,
        means: "The upstream's host answered the SYN with RST: nobody listens there.",
        ..ANY
    },
    Row {
        name: "connect_reset",
        texts: &[
            Text::Is("connect() failed"),
            Text::Is("kevent() reported that connect() failed"),
            Text::Around("connect() to ", " failed"),
        ],
        errnos: RESET,
        leg: LegRule::Upstream,
        shows: Shows::Reset,
        means: "The upstream sent RST before nginx had used the connection.",
        ..ANY
    },
    Row {
        name: "connect_unanswered",
        texts: CONNECT,
        leg: LegRule::Upstream,
        by: By::Nginx,
        shows: Shows::NoAnswer,
        means: "Nothing but perhaps ICMP answered the SYNs; no data was ever sent.",
        ..ANY
    },
    Row {
        name: "connect_unanswered",
        texts: CONNECT_TO,
        errnos: Errnos::Of(&[ErrnoKind::HostUnreachable, ErrnoKind::TimedOut]),
        leg: LegRule::Upstream,
        by: By::Nginx,
        shows: Shows::NoAnswer,
        means: "The upstream's host cannot be reached; no data was ever sent.",
        ..ANY
    },
    Row {
        name: "connect_unsent",
        texts: CONNECT_TO,
        leg: LegRule::Upstream,
        by: By::Nginx,
        shows: Shows::NoPacket,
        means: "The system refused to connect: no address, route, or permission. No SYN was \
                sent.",
        ..ANY
    },
    Row {
        name: "no_live_upstreams",
        texts: &[Text::Starts("no live upstreams")],
        leg: LegRule::Upstream,
        by: By::Nginx,
        shows: Shows::NoPacket,
        means: "Every server of the group was out of use; nginx connected to none.",
        ..ANY
    },
    Row {
        name: "upstream_unanswered",
        texts: &[Text::Starts("upstream timed out")],
        actions: &[Action::ConnectingToUpstream],
        leg: LegRule::Upstream,
        by: By::Nginx,
        shows: Shows::NoAnswer,
        means: "The SYNs went without an answer for proxy_connect_timeout.",
        ..ANY
    },
    Row {
        // At info in an upgraded connection, and yet not the client.
        name: "upstream_timed_out",
        texts: &[Text::Starts("upstream timed out")],
        leg: LegRule::Upstream,
        by: By::Nginx,
        means: "The upstream was silent for as long as nginx waits; nginx closes, with FIN, \
                or with RST if something lies unread.",
        ..ANY
    },
    Row {
        name: "auth_server_timed_out",
        texts: &[Text::Around("auth http server ", " timed out")],
        leg: LegRule::Upstream,
        by: By::Nginx,
        means: "The server that a mail client's name was to be checked with was silent for as \
                long as nginx waits; nginx closes.",
        ..ANY
    },
    Row {
        name: "upstream_closed",
        texts: &[Text::Is("upstream prematurely closed connection")],
        leg: LegRule::Upstream,
        shows: Shows::FinOrTlsReset,
        means: "The upstream sent FIN before its response was complete.",
        ..ANY
    },
    Row {
        name: "upstream_closed_inside",
        texts: &[Text::Starts("upstream prematurely closed ")],
        leg: LegRule::Upstream,
        by: By::Nginx,
        means: "The upstream ended the exchange inside its protocol (FastCGI, gRPC, HTTP/2) \
                too early; nginx closes.",
        ..ANY
    },
    Row {
        name: "kevent_upstream_reset",
        texts: &[Text::Starts("kevent() reported that upstream closed connection")],
        errnos: RESET,
        leg: LegRule::Upstream,
        shows: Shows::Reset,
        means: "The upstream sent RST in the middle of its response.",
        ..ANY
    },
    Row {
        name: "kevent_upstream_closed",
        texts: &[Text::Starts("kevent() reported that upstream closed connection")],
        leg: LegRule::Upstream,
        shows: Shows::Fin,
        means: "The upstream sent FIN in the middle of its response.",
        ..ANY
    },
    Row {
        name: "upstream_tolerated",
        texts: &[
            Text::Starts("upstream sent no valid HTTP/1.0 header"),
            Text::Starts("upstream sent duplicate header line"),
        ],
        leg: LegRule::Upstream,
        shows: Shows::Stays,
        means: "nginx puts up with what the upstream sent.",
        ..ANY
    },
    Row {
        name: "upstream_invalid",
        texts: &[Text::Starts("upstream sent ")],
        levels: &[Level::Error],
        leg: LegRule::Upstream,
        by: By::Nginx,
        means: "The upstream sent what nginx cannot use; nginx closes.",
        ..ANY
    },
    Row {
        name: "upstream_certificate",
        texts: &[Text::Starts("upstream SSL certificate ")],
        leg: LegRule::Upstream,
        by: By::Nginx,
        means: "nginx does not trust the upstream's certificate, and closes.",
        ..ANY
    },
    Row {
        name: "stream_upstream_disconnected",
        texts: &[Text::Starts("upstream disconnected, ")],
        leg: LegRule::Upstream,
        means: "The upstream ended a proxied TCP session first.",
        ..ANY
    },
    // -- consequences ------------------------------------------------------------------
    Row {
        name: "upstream_disabled",
        texts: &[Text::Starts("upstream server temporarily disabled")],
        leg: LegRule::Upstream,
        shows: Shows::Stays,
        means: "The failure that the entry before this one reports was the last that nginx \
                tolerates of that server for now.",
        ..ANY
    },
    Row {
        name: "auth_request_failed",
        texts: &[Text::Starts("auth request unexpected status")],
        leg: LegRule::Client,
        shows: Shows::Stays,
        means: "A subrequest failed; the entry that names the subrequest says why.",
        ..ANY
    },
];

/// What an entry says about the end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Which connection ended.
    pub leg: Leg,
    /// Who ended it.
    pub by: By,
    /// What a capture of that connection holds of it; never [`Shows::Stays`].
    pub shows: Shows,
    /// The peer that the message itself names: the TCP peer of an idle client connection, or
    /// the server that nginx could not connect to.
    pub peer: Option<&'a [u8]>,
    /// What nginx had set out to do, if the entry tells.
    pub action: Option<Action>,
    /// The row that fits.
    pub row: &'static Row,
}

/// What an entry says about the end of a connection; `None` if it is about something else.
pub fn classify<'a>(entry: &ErrorEntry<'a>) -> Option<End<'a>> {
    if entry.udp {
        return None;
    }
    let action = entry.action.and_then(Action::of);
    // The mail module still says so while it waits for the upstream's greeting.
    let may_linger = entry.login.is_some() && action == Some(Action::ConnectingToUpstream);
    let action = action.filter(|_| !may_linger);
    let (row, peer) = kin(entry.message)?
        .rows
        .iter()
        .find_map(|row| Some((row, row.find(entry, action)?)))?;
    let leg = match leg(row.leg, entry.level, action) {
        // The client's connection is none of TCP.
        Leg::Unknown if entry.is_http3() => Leg::Upstream,
        leg => leg,
    };
    let shows = match row.shows {
        Shows::Stays => return None,
        _ if leg == Leg::Client && is_of_quic(entry) => Shows::NoTcp,
        shows => shows,
    };
    Some(End { leg, by: row.by, shows, peer, action, row })
}

/// Whether an entry about a client is about one that came over QUIC: by its request, by an action
/// that nginx has for such clients alone, or by none where all others have one.
fn is_of_quic(entry: &ErrorEntry<'_>) -> bool {
    entry.is_http3()
        || entry.action == Some(b"reading client request")
        || entry.action.is_none() && entry.message == b"client closed connection"
}

impl Row {
    /// `None` if the entry is of another kind, else the peer that its message names.
    fn find<'a>(
        &self,
        entry: &ErrorEntry<'a>,
        action: Option<Action>,
    ) -> Option<Option<&'a [u8]>> {
        let peer = self.texts.iter().find_map(|text| text.find(entry.message))?;
        let holds =
            |text: &&str| memchr::memmem::find(entry.message, text.as_bytes()).is_some();
        let fits = self.errnos.take(entry.errno)
            && (self.has.is_empty() || self.has.iter().any(holds))
            && (self.actions.is_empty() || action.is_some_and(|a| self.actions.contains(&a)))
            && (self.levels.is_empty() || self.levels.contains(&entry.level));
        fits.then_some(peer)
    }
}

/// The leg rule of the module's description.
fn leg(rule: LegRule, level: Level, action: Option<Action>) -> Leg {
    let hint = action.map_or(Hint::None, Action::hint);
    match (rule, hint, level) {
        (LegRule::Client, ..) => Leg::Client,
        (LegRule::Upstream, ..) => Leg::Upstream,
        (LegRule::Both, ..) => Leg::Unknown,
        (LegRule::ByLevel, Hint::Only(leg), _) => leg,
        (LegRule::ByLevel, _, Level::Info) => Leg::Client,
        (LegRule::ByLevel, _, Level::Error) => Leg::Upstream,
        (LegRule::ByLevel, Hint::Mostly(leg), _) => leg,
        (LegRule::ByLevel, Hint::None, _) => Leg::Unknown,
    }
}

/// Whether a message begins as one of those about the end of a connection does: the cheap
/// question that is asked of every line of a log before any is taken apart. A no is final.
pub fn may_be_end(message: &[u8]) -> bool {
    let Some(kin) = kin(message) else { return false };
    let head = head(message);
    kin.beginnings.iter().any(|beginning| {
        head & beginning.mask == beginning.head && message.starts_with(beginning.text)
    })
}

/// Whether a message may hold line feeds: these quote what a client sent before nginx had looked
/// at it.
pub(super) fn may_go_on(message: &[u8]) -> bool {
    message.starts_with(b"broken header: ")
}

/// What messages that share their first byte can be.
struct Kin {
    /// How those about the end of a connection begin.
    beginnings: Vec<Beginning>,
    /// The rows that they may fit, in the order of [`ROWS`].
    rows: Vec<&'static Row>,
}

/// How messages begin. Its first bytes are at hand as a number, because nearly every line of a
/// log differs in them.
struct Beginning {
    head: u64,
    /// The bytes of the number that the text has.
    mask: u64,
    text: &'static [u8],
}

impl Beginning {
    fn new(text: &'static [u8]) -> Beginning {
        let unused = 8usize.saturating_sub(text.len()) as u32 * u8::BITS;
        Beginning { head: head(text), mask: u64::MAX.checked_shr(unused).unwrap_or(0), text }
    }
}

/// The first eight bytes as a number, the first one lowest; missing ones are 0.
fn head(text: &[u8]) -> u64 {
    u64::from_le_bytes(
        text.first_chunk().copied().unwrap_or_else(|| {
            std::array::from_fn(|at| text.get(at).copied().unwrap_or_default())
        }),
    )
}

/// What a message can be, by its first byte.
fn kin(message: &[u8]) -> Option<&'static Kin> {
    KIN.get(usize::from(*message.first()?))
}

static KIN: LazyLock<[Kin; 256]> = LazyLock::new(|| {
    std::array::from_fn(|first| {
        let first = first as u8;
        let is_one = |text: &&Text| text.beginning().as_bytes().first() == Some(&first);
        let rows = ROWS.iter().filter(|row| row.texts.iter().any(|text| is_one(&text)));
        let rows: Vec<_> = rows.collect();
        let ends = rows.iter().filter(|row| row.shows != Shows::Stays);
        let mut texts: Vec<_> = ends
            .flat_map(|row| {
                row.texts.iter().filter(is_one).map(|text| text.beginning().as_bytes())
            })
            .collect();
        texts.sort_unstable();
        // Sorted, a beginning stands right before those that begin with it.
        texts.dedup_by(|longer, shorter| longer.starts_with(shorter));
        Kin { beginnings: texts.into_iter().map(Beginning::new).collect(), rows }
    })
});

/// What an action says about the leg of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hint {
    /// Only this leg can fail in it.
    Only(Leg),
    /// This leg, unless the level says otherwise.
    Mostly(Leg),
    /// Both legs are read or written in it.
    None,
}

/// Defines [`Action`] and its table from one list, so that neither can lack a line.
macro_rules! actions {
    ($($(#[$doc:meta])* $action:ident $text:literal $hint:expr;)*) => {
        /// What nginx had set out to do last when it wrote an entry: the words after "while".
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Action {
            $($(#[$doc])* $action,)*
        }

        static ACTIONS: &[(Action, &str, Hint)] = &[$((Action::$action, $text, $hint),)*];
    };
}

actions! {
    /// Accepted; not a byte of the request yet.
    WaitingForRequest "waiting for request" Hint::Mostly(Leg::Client);
    /// The PROXY header is not complete.
    ReadingProxyProtocol "reading PROXY protocol" Hint::Mostly(Leg::Client);
    /// TLS with the client.
    SslHandshaking "SSL handshaking" Hint::Only(Leg::Client);
    /// HTTP/2 outside any stream.
    ProcessingHttp2 "processing HTTP/2 connection" Hint::Mostly(Leg::Client);
    /// The request line is not complete.
    ReadingRequestLine "reading client request line" Hint::Mostly(Leg::Client);
    /// The headers are not complete.
    ReadingRequestHeaders "reading client request headers" Hint::Mostly(Leg::Client);
    /// The line of a request that came right behind another one.
    ReadingPipelinedRequestLine "reading client pipelined request line" Hint::Mostly(Leg::Client);
    /// From the SYN until TCP is connected. Clients that give up meanwhile print it, too.
    ConnectingToUpstream "connecting to upstream" Hint::Mostly(Leg::Upstream);
    /// TLS with the upstream.
    SslHandshakingToUpstream "SSL handshaking to upstream" Hint::Only(Leg::Upstream);
    /// From the first write until the upstream sends its first byte: waiting included.
    SendingRequest "sending request to upstream" Hint::None;
    /// The response's header is not complete, or was waited for in vain.
    ReadingResponseHeader "reading response header from upstream" Hint::Mostly(Leg::Upstream);
    /// A response 103 on its way to the client.
    SendingEarlyHints "sending early hints to client" Hint::Mostly(Leg::Client);
    /// The response's body; unbuffered, writes to the client too.
    ReadingUpstream "reading upstream" Hint::None;
    /// The response's body; unbuffered, reads from the upstream too. Also what comes after it:
    /// lingering close reads from the client.
    SendingToClient "sending to client" Hint::None;
    /// WebSocket or CONNECT: both legs, both directions.
    ProxyingUpgraded "proxying upgraded connection" Hint::None;
    /// A response that needs no upstream.
    SendingResponse "sending response to client" Hint::Mostly(Leg::Client);
    /// The same, by the FLV module.
    SendingFlv "sending flv to client" Hint::Mostly(Leg::Client);
    /// The same, by the MP4 module.
    SendingMp4 "sending mp4 to client" Hint::Mostly(Leg::Client);
    /// The request is over.
    LoggingRequest "logging request" Hint::Mostly(Leg::Client);
    /// The request is over.
    ClosingRequest "closing request" Hint::Mostly(Leg::Client);
    /// Between two requests.
    Keepalive "keepalive" Hint::Mostly(Leg::Client);
    /// Stream: accepted.
    InitializingSession "initializing session" Hint::Mostly(Leg::Client);
    /// Stream: looking at the client's first bytes.
    PrereadingClientData "prereading client data" Hint::Mostly(Leg::Client);
    /// Stream: in between.
    ProxyingConnection "proxying connection" Hint::None;
    /// Stream: names its leg.
    ProxyingFromClient "proxying and reading from client" Hint::Only(Leg::Client);
    /// Stream: names its leg.
    ProxyingFromUpstream "proxying and reading from upstream" Hint::Only(Leg::Upstream);
    /// Stream: names its leg.
    ProxyingToClient "proxying and sending to client" Hint::Only(Leg::Client);
    /// Stream: names its leg.
    ProxyingToUpstream "proxying and sending to upstream" Hint::Only(Leg::Upstream);
    /// Stream: a fixed answer.
    ReturningText "returning text" Hint::Mostly(Leg::Client);
    /// Stream: handing the connection to another listener.
    PassingConnection "passing connection to port" Hint::Mostly(Leg::Client);
    /// Mail.
    InAuthState "in auth state" Hint::Mostly(Leg::Client);
    /// Mail: asking the server that authenticates.
    InHttpAuthState "in http auth state" Hint::None;
    /// Mail.
    SendingGreeting "sending client greeting line" Hint::Mostly(Leg::Client);
    /// Mail.
    InStarttlsState "in starttls state" Hint::Mostly(Leg::Client);
    /// Mail.
    ReadingResponse "reading response from upstream" Hint::Mostly(Leg::Upstream);
    /// Mail.
    Proxying "proxying" Hint::None;
    /// No connection yet; the listening address follows.
    Accepting "accepting new connection on" Hint::Only(Leg::Client);
    /// Asking a DNS server.
    Resolving "resolving" Hint::None;
    /// Writing to a log server.
    LoggingToSyslog "logging to syslog" Hint::None;
}

impl Action {
    /// The action that an entry gives, if it is one of nginx's own.
    pub fn of(text: &[u8]) -> Option<Action> {
        let accepting = Action::Accepting.text().as_bytes();
        let text = if text.starts_with(accepting) { accepting } else { text };
        ACTIONS.iter().find(|row| row.1.as_bytes() == text).map(|row| row.0)
    }

    /// Every action, with nginx's words for it.
    pub fn all() -> impl Iterator<Item = (Action, &'static str)> {
        ACTIONS.iter().map(|row| (row.0, row.1))
    }

    /// nginx's words for it.
    pub fn text(self) -> &'static str {
        self.row().map_or("", |row| row.1)
    }

    fn hint(self) -> Hint {
        self.row().map_or(Hint::None, |row| row.2)
    }

    fn row(self) -> Option<&'static (Action, &'static str, Hint)> {
        ACTIONS.iter().find(|row| row.0 == self)
    }
}
