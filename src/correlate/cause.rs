// SPDX-License-Identifier: GPL-2.0-or-later
//! The likely cause of an end, as a table: what must be seen, what must not, what to say and
//! what to do.
//!
//! A row is claimed only if everything that it needs is seen, nothing that contradicts it is,
//! and no other row fits as well. Silence is an answer.

use crate::correlate::summary::duration;
use crate::correlate::survey::Survey;
use crate::correlate::verdict::{Transaction, Verdict};
use crate::tcp::http::{GivenUp, Progress};
use crate::tcp::http2;
use crate::tcp::phase::Phase;
use crate::tcp::stream::{Resets, Side};
use crate::tcp::tls::About;
use crate::tcp::trace::{Form, Trace, What, IDLE};
use crate::time::SECOND;

/// One cause.
#[derive(Debug)]
pub struct Row {
    /// The word of the public interface.
    pub word: &'static str,
    /// All of these are seen.
    pub needs: &'static [Sign],
    /// None of these is seen.
    pub not: &'static [Sign],
    /// A cause that leaves the same packets and is less common.
    pub or: Option<&'static str>,
    /// It costs nobody anything, whatever it looks like.
    pub harmless: bool,
    /// What happened, in a sentence.
    pub sentence: &'static str,
    /// What to change or to check next.
    pub advice: &'static str,
}

/// One thing that packets show or do not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The first RST bears the client's address.
    ResetByClient,
    /// The first RST bears the server's address.
    ResetByServer,
    /// The reset has this form.
    Is(Form),
    /// The reset cut this phase.
    Cut(Phase),
    /// The RST answers a segment of this kind.
    Answers(What),
    /// The TTL of the RST is that of its side's other packets.
    TtlAsUsual,
    /// It is not.
    TtlForeign,
    /// The numbers or the TTL of the RST are none that its side would use, or its side went on.
    OutOfPlace,
    /// The server accepted the connection.
    Accepted,
    /// The handshake is in the capture, and was completed.
    Established,
    /// The client never sent a byte.
    NothingAsked,
    /// The client stayed for a second or longer.
    Stayed,
    /// The SYN-ACK came a second or more after the first SYN, or after SYNs were repeated.
    SynAckLate,
    /// The server repeated its SYN-ACK although the client had acknowledged it.
    SynAckRepeated,
    /// It did so more than once.
    SynAckRepeatedOften,
    /// The server answered the SYN with an ACK of other numbers.
    StrayAck,
    /// The side whose address the RST bears had sent a FIN.
    AfterOwnFin,
    /// The other side had sent a FIN.
    AfterPeerFin,
    /// The segment that is answered brings a new request, which the server has not received.
    AnsweredRequest,
    /// The segment that is answered is the ACK that completes the handshake.
    AnsweredHandshake,
    /// The segment that is answered is data or a keep-alive probe.
    AnsweredTraffic,
    /// The sender of the segment that is answered had been silent before it.
    AfterSilence,
    /// Data of the other side may be unread: it spoke last, or had not ended.
    Unread,
    /// Where the last request ends is not in the capture.
    RequestUnseen,
    /// Keep-alive probes of the side that reset stayed without an answer.
    ProbesUnanswered,
    /// Nothing that the client sent was acknowledged.
    Unheard,
    /// The client sent its request again and again, and nothing of it was acknowledged.
    RequestRepeated,
    /// The same client asked for many ports of one host and went away.
    ManyPorts,
    /// The same client came to the same port and went away, several times.
    CameOften,
    /// The server reset several connections at the same moment, before it had said a word.
    ManyTogether,
    /// The server closed an idle connection after a whole number of seconds.
    IdleForWholeSeconds,
    /// The client closed before it had the response.
    ClientLeft,
    /// The payload is encrypted.
    Encrypted,
    /// There is no RST.
    NoReset,
    /// The answered segment has the numbers of another connection.
    ContinuesAnother,
    /// The response is one by which a gateway tells that an upstream failed.
    BadGateway,
    /// The server closed in order, in the middle of a response.
    EndedShort,
    /// An alert ended the TLS handshake before the connection ended.
    TlsRefused,
    /// That alert is about this.
    TlsRefusedFor(About),
    /// This side gave an exchange of HTTP/2 up, and the connection went on.
    GivenUpBy(Side),
    /// The server said that it has not begun with the open request of HTTP/2.
    Unprocessed,
    /// The connection is a WebSocket, or a tunnel in which no HTTP is read.
    Tunnelled,
    /// No protocol of requests is recognized in what was said.
    Unrecognized,
}

use Sign::*;

impl Sign {
    /// What is seen, in words that stand alone.
    pub fn words(self) -> &'static str {
        match self {
            ResetByClient => "the first RST bears the client's address",
            ResetByServer => "the first RST bears the server's address",
            Is(Form::Active) => "the RST is active: a living socket aborted",
            Is(Form::Passive) => "the RST is passive: it answers a segment that found no socket",
            Is(Form::Injected) => "the RST is injected: there is evidence of a third party",
            Is(Form::Unclear) => "the form of the RST is unclear",
            Cut(Phase::Handshake) => "the RST cut the handshake",
            Cut(Phase::TlsHandshake) => "the RST cut the TLS handshake",
            Cut(Phase::BeforeRequest) => "the RST came before any request",
            Cut(Phase::DuringRequest) => "the RST cut a request",
            Cut(Phase::AwaitingResponse) => "the RST came before any byte of the response",
            Cut(Phase::DuringResponse) => "the RST cut a response",
            Cut(Phase::AfterResponse) => "the RST came after the complete response",
            Cut(Phase::Teardown) => "the RST came after a FIN",
            Cut(Phase::Unknown) => "what the RST cut is not in the capture",
            Answers(What::Syn) => "the RST answers a SYN",
            Answers(What::SynAck) => "the RST answers a SYN-ACK",
            Answers(What::Ack) => "the RST answers an ACK without data",
            Answers(What::Fin) => "the RST answers a FIN",
            Answers(What::Data) => "the RST answers data",
            Answers(What::TlsAlert) => "the RST answers a TLS alert, such as close_notify",
            Answers(What::Probe) => "the RST answers a keep-alive probe",
            AnsweredRequest => {
                "the RST answers a new request, nothing of which the server has acknowledged"
            }
            AnsweredHandshake => "the RST answers the ACK that completes the handshake",
            AnsweredTraffic => "the RST answers data or a keep-alive probe",
            TtlAsUsual => "the RST has the TTL of its side's other packets",
            TtlForeign => "the RST has another TTL than its side's other packets",
            OutOfPlace => {
                "the RST answers nothing and has a TTL or number that its side would not use, or \
                 the connection went on after it"
            }
            Accepted => "the server accepted the connection",
            Established => "the handshake is in the capture, and was completed",
            NothingAsked => "the client never sent a byte",
            Stayed => "the client stayed for a second or longer",
            SynAckLate => "the SYN-ACK came a second or more late, or after repeated SYNs",
            SynAckRepeated => "the server repeated its SYN-ACK after the client's ACK",
            SynAckRepeatedOften => {
                "the server repeated its SYN-ACK after the client's ACK, more than once"
            }
            StrayAck => "the server answered the SYN with an ACK of other numbers",
            AfterOwnFin => "the side that reset had sent a FIN before",
            AfterPeerFin => "the other side had sent a FIN before the RST",
            AfterSilence => {
                "the sender of the answered segment had been silent for a second or more"
            }
            Unread => "data of the other side may be unread: it spoke last, or had not ended",
            RequestUnseen => "where the last request ends is not in the capture",
            ProbesUnanswered => {
                "keep-alive probes of the side that reset stayed without an answer, two or more"
            }
            Unheard => "nothing that the client sent was acknowledged",
            RequestRepeated => {
                "the client sent its request three times more or oftener, and nothing of it was \
                 acknowledged"
            }
            ManyPorts => "the client went away from more than four ports of this host",
            CameOften => "the client left this port without a word, more than once",
            ManyTogether => {
                "the server reset three connections or more in the same moment, none of which \
                 it had sent a byte on"
            }
            IdleForWholeSeconds => {
                "the server closed an idle connection after a whole number of seconds"
            }
            ClientLeft => "the client closed first, and never had the whole response",
            Encrypted => "the payload is encrypted",
            NoReset => "there is no RST",
            ContinuesAnother => "the answered segment has the numbers of another connection",
            BadGateway => "the response is a 502 or 504",
            EndedShort => "the server's FIN came in the middle of a response",
            TlsRefused => "a fatal alert ended the TLS handshake",
            TlsRefusedFor(About::Certificate) => "a TLS alert about a certificate",
            TlsRefusedFor(About::Version) => "a TLS alert about the version",
            TlsRefusedFor(About::Parameters) => "a TLS alert about ciphers and the like",
            TlsRefusedFor(About::Name) => "a TLS alert about the name that is asked for",
            TlsRefusedFor(About::Protocol) => "a TLS alert about the application protocol",
            TlsRefusedFor(About::Other) => "a TLS alert about something else, or encrypted",
            GivenUpBy(Side::Client) => "the client gave the exchange up (RST_STREAM)",
            GivenUpBy(Side::Server) => {
                "the server gave the exchange up (RST_STREAM, or short of its Content-Length)"
            }
            Unprocessed => {
                "the server said that it has not begun with the request (GOAWAY, or \
                 REFUSED_STREAM)"
            }
            Tunnelled => {
                "the connection is a WebSocket, or a tunnel in which no HTTP can be read"
            }
            Unrecognized => "what was said is encrypted, or in a protocol that is not known",
        }
    }
}

/// A row before anything is asked of it.
const ROW: Row =
    Row { word: "", needs: &[], not: &[], or: None, harmless: false, sentence: "", advice: "" };

/// The causes. Where two could fit, each names what contradicts it.
pub static ROWS: &[Row] = &[
    Row {
        word: "port_closed",
        needs: &[ResetByServer, Cut(Phase::Handshake), Answers(What::Syn), TtlAsUsual],
        not: &[Accepted, ManyPorts],
        sentence: "Nobody listens on this port: the host itself answered the SYN with a RST.",
        advice: "Start the service, or correct the port. 'ss -ltn' on the server lists the \
                 ports that are listened on.",
        ..ROW
    },
    Row {
        word: "firewall_reject",
        needs: &[ResetByServer, Answers(What::Syn), TtlForeign],
        not: &[Accepted],
        sentence: "A box on the way answered the SYN in the server's name: its TTL is not the \
                   server's.",
        advice: "Look for a rule with 'REJECT --reject-with tcp-reset', or an access list, on \
                 the way to the server; the server itself never saw the SYN.",
        ..ROW
    },
    Row {
        word: "firewall_reject",
        needs: &[Answers(What::Data), TtlForeign],
        not: &[AfterSilence, OutOfPlace, AfterOwnFin, AfterPeerFin],
        sentence:
            "A box on the way answered this segment in the peer's name: the numbers fit, \
                   the TTL is not the peer's.",
        advice: "Look for a filter that rejects by content or rate between the two hosts, and \
                 capture on its far side: there the segment never arrives.",
        ..ROW
    },
    Row {
        word: "client_gave_up",
        needs: &[ResetByClient, Answers(What::SynAck), SynAckLate],
        not: &[Established, ManyPorts, OutOfPlace],
        sentence: "The SYN-ACK came when the client no longer waited for it.",
        advice: "The way to the server, or the server's accept queue, was slower than the \
                 client's connect timeout. Compare that timeout with the time from SYN to \
                 SYN-ACK.",
        ..ROW
    },
    Row {
        word: "health_check",
        needs: &[ResetByClient, Accepted, NothingAsked, CameOften],
        not: &[Stayed, ManyPorts, SynAckLate, AfterPeerFin, StrayAck, OutOfPlace],
        harmless: true,
        sentence: "A load balancer or monitor looks whether the port answers, and leaves.",
        advice: "Nothing is wrong. To quiet it, let the check close in order.",
        ..ROW
    },
    Row {
        word: "port_scan",
        needs: &[NothingAsked, ManyPorts],
        not: &[SynAckLate, AfterPeerFin, StrayAck, OutOfPlace, NoReset],
        harmless: true,
        sentence: "One client looks which ports answer.",
        advice: "Nothing was lost. If the client is not yours, see what your firewall lets in.",
        ..ROW
    },
    Row {
        word: "accept_queue_overflow",
        needs: &[ResetByServer, Answers(What::Data), SynAckRepeated, Unheard, TtlAsUsual],
        not: &[AfterOwnFin],
        sentence: "The server's kernel dropped the client's ACK, because the queue of \
                   connections that wait for accept() was full, and gave up in the end.",
        advice:
            "Raise the backlog ('listen ... backlog=' in nginx) and net.core.somaxconn, or \
                 let the application accept faster. 'nstat -az TcpExtListenOverflows' on the \
                 server confirms it.",
        ..ROW
    },
    Row {
        word: "accept_queue_overflow",
        needs: &[ResetByServer, AnsweredHandshake, TtlAsUsual],
        not: &[AfterOwnFin, AfterPeerFin],
        sentence:
            "The server's kernel reset the connection as soon as it was established: the \
                   queue of connections that wait for accept() was full.",
        advice:
            "Raise the backlog ('listen ... backlog=' in nginx) and net.core.somaxconn, or \
                 let the application accept faster. This server resets instead of waiting, by \
                 net.ipv4.tcp_abort_on_overflow.",
        ..ROW
    },
    Row {
        word: "accept_queue_overflow",
        needs: &[SynAckRepeatedOften, Unheard],
        not: &[ResetByClient, ResetByServer],
        or: Some("request_dropped"),
        sentence:
            "The server's kernel dropped the client's ACK: the queue of connections that \
                   wait for accept() was full.",
        advice:
            "Raise the backlog ('listen ... backlog=' in nginx) and net.core.somaxconn, or \
                 let the application accept faster. 'nstat -az TcpExtListenOverflows' on the \
                 server confirms it.",
        ..ROW
    },
    Row {
        word: "port_reuse",
        needs: &[ResetByClient, Cut(Phase::Handshake), StrayAck, Answers(What::Ack)],
        sentence:
            "The server still held an older connection with the same ports, and answered \
                   the SYN with its old numbers.",
        advice: "The client reuses its ports faster than the server forgets them. Keep \
                 connections alive, or widen net.ipv4.ip_local_port_range on the client.",
        ..ROW
    },
    Row {
        word: "listener_restart",
        needs: &[ResetByServer, Is(Form::Active), ManyTogether],
        not: &[AfterOwnFin],
        sentence:
            "The listening socket was closed with connections waiting in its queue: they \
                   were all reset at once, unseen by the application.",
        advice:
            "Restart without closing the listener (nginx: reload, not restart), or take the \
                 server out of rotation first.",
        ..ROW
    },
    Row {
        word: "client_abort",
        needs: &[ResetByClient, Is(Form::Active), Cut(Phase::AwaitingResponse)],
        not: &[ProbesUnanswered, RequestRepeated, Tunnelled, Unrecognized],
        sentence: "The client gave up while it waited for the response.",
        advice: "See the client's own timeout, or a user who left; nginx writes 499. If the \
                 time that it waited is always the same, it is a timeout.",
        ..ROW
    },
    Row {
        word: "client_abort",
        needs: &[ResetByClient, Is(Form::Active), Cut(Phase::DuringResponse)],
        not: &[ProbesUnanswered, Tunnelled, Unrecognized],
        sentence: "The client went away in the middle of the response.",
        advice: "A user left, or the client stopped reading. The response is lost; the server \
                 cannot prevent it.",
        ..ROW
    },
    Row {
        word: "client_abort",
        needs: &[ResetByClient, Is(Form::Active), Cut(Phase::DuringRequest)],
        not: &[ProbesUnanswered, Tunnelled, Unrecognized],
        sentence: "The client went away in the middle of its own request.",
        advice:
            "A user left, or the client's own timeout for the upload passed; see the client.",
        ..ROW
    },
    Row {
        word: "client_abort",
        needs: &[ClientLeft, NoReset],
        not: &[RequestRepeated, GivenUpBy(Side::Client), GivenUpBy(Side::Server), Tunnelled],
        sentence: "The client closed before it had the response.",
        advice:
            "See the client's timeout, or a user who left; nginx writes 499. If such clients \
                 only close their sending side, 'proxy_ignore_client_abort on' serves them.",
        ..ROW
    },
    Row {
        word: "client_abort",
        needs: &[GivenUpBy(Side::Client), NoReset],
        sentence: "The client cancelled the request and kept the HTTP/2 connection.",
        advice: "See the client's own timeout, or a user who left; nginx writes 499.",
        ..ROW
    },
    Row {
        word: "unread_data",
        needs: &[ResetByServer, Is(Form::Active), Unread],
        not: &[
            ManyTogether,
            ProbesUnanswered,
            SynAckRepeated,
            TlsRefused,
            Unprocessed,
            Tunnelled,
            Unrecognized,
        ],
        or: Some("forced_abort"),
        sentence: "The server closed its socket with data of the client still unread, which \
                   makes a RST of the close.",
        advice: "Let the server read the request to its end before it closes (nginx: \
                 lingering_close always), or send the body only after '100 Continue'.",
        ..ROW
    },
    Row {
        word: "unread_data",
        needs: &[ResetByServer, Is(Form::Active), Unread, Unrecognized],
        not: &[ManyTogether, ProbesUnanswered, SynAckRepeated, TlsRefused, Tunnelled],
        or: Some("forced_abort"),
        sentence: "The server closed its socket with data of the client still unread, which \
                   makes a RST of the close.",
        advice:
            "See the server's own log for why it closed, and let it read to the end of what \
                 the client sends before it does.",
        ..ROW
    },
    Row {
        word: "unread_data",
        needs: &[ResetByClient, Is(Form::Active), Unread, Unrecognized],
        // In the midst of an encrypted exchange, an abort looks the same.
        not: &[AfterPeerFin, Encrypted, ProbesUnanswered, TlsRefused, Tunnelled],
        or: Some("forced_abort"),
        sentence:
            "The client closed its socket with data of the server still unread, or aborts \
                   on purpose.",
        advice:
            "See why the client did not wait. If it was done, let it close in order: read to \
                 the end of the data, and without SO_LINGER 0.",
        ..ROW
    },
    Row {
        word: "unread_data",
        needs: &[ResetByClient, Is(Form::Active), Cut(Phase::AfterResponse), Unread],
        not: &[ProbesUnanswered, Tunnelled, Unrecognized],
        or: Some("forced_abort"),
        sentence: "The client closed its socket with data of the response still unread, or \
                   aborts on purpose, when it had all of it.",
        advice: "Nothing was lost. Let the client read the response to its end and close in \
                 order, without SO_LINGER 0.",
        ..ROW
    },
    Row {
        word: "forced_abort",
        needs: &[ResetByServer, Is(Form::Active)],
        not: &[
            Unread,
            ManyTogether,
            ProbesUnanswered,
            Cut(Phase::Handshake),
            // Then nobody can tell whether anything was unread.
            Cut(Phase::Unknown),
            RequestUnseen,
            TlsRefused,
            Unprocessed,
            Tunnelled,
        ],
        sentence: "The server aborted the connection on purpose, with nothing new from the \
                   client.",
        advice: "Look for SO_LINGER 0, reset_timedout_connection, 'return 444', or a process \
                 that was killed; compare the idle time with the server's timeouts.",
        ..ROW
    },
    Row {
        word: "late_tls_alert",
        needs: &[Answers(What::TlsAlert), AfterOwnFin, Is(Form::Passive)],
        not: &[TlsRefused],
        harmless: true,
        sentence: "A TLS close_notify came after the other side had closed, and met no socket.",
        advice: "Nothing is wrong. To quiet it in nginx: lingering_close always.",
        ..ROW
    },
    Row {
        word: "keepalive_race",
        needs: &[ResetByServer, Is(Form::Passive), AfterOwnFin, AnsweredRequest],
        sentence:
            "The client sent a new request on a kept-alive connection that the server was \
                   just closing.",
        advice: "Make the server's keep-alive timeout longer than the client's, and let the \
                 client send such a request again (proxy_next_upstream, for requests that are \
                 safe to repeat).",
        ..ROW
    },
    Row {
        word: "keepalive_race",
        needs: &[Unprocessed],
        sentence: "The client sent a request on an HTTP/2 connection that the server was just \
                   closing, and the server said that it has not begun with it.",
        advice:
            "Such a request is safe to send again on a new connection, whatever its method; \
                 see that the client does. A longer keepalive_timeout, or more \
                 keepalive_requests, make it rarer.",
        ..ROW
    },
    Row {
        word: "data_after_close",
        needs: &[ResetByClient, Is(Form::Passive), AfterOwnFin, Answers(What::Data)],
        not: &[Tunnelled, Unrecognized],
        sentence: "The server sent its response to a client that had closed already.",
        advice: "See why the client did not wait: its timeout, or a user who left. The server \
                 is not at fault.",
        ..ROW
    },
    Row {
        word: "data_after_close",
        needs: &[
            ResetByClient,
            Is(Form::Passive),
            AfterOwnFin,
            Answers(What::Data),
            Unrecognized,
        ],
        not: &[Tunnelled],
        sentence: "The server went on sending to a client that had closed already.",
        advice:
            "If the client was done, nothing was lost. If not, see why it did not wait: its \
                 timeout, or a user who left.",
        ..ROW
    },
    Row {
        word: "data_after_close",
        needs: &[ResetByServer, Is(Form::Passive), AfterOwnFin, Answers(What::Data)],
        not: &[AnsweredRequest, Encrypted, Tunnelled],
        sentence: "The client went on sending to a server that had closed already.",
        advice: "The server answered before it had read all, or gave up on the client. Let it \
                 linger (lingering_close always, lingering_timeout).",
        ..ROW
    },
    Row {
        word: "data_after_close",
        needs: &[ResetByServer, Is(Form::Passive), AfterOwnFin, Answers(What::Data), Encrypted],
        not: &[Tunnelled],
        or: Some("keepalive_race"),
        sentence: "The client went on sending to a server that had closed already.",
        advice:
            "If the server closes idle connections, make its keep-alive timeout longer than \
                 the client's; if it closes before it has read all, let it linger \
                 (lingering_close always).",
        ..ROW
    },
    Row {
        word: "state_lost",
        needs: &[AnsweredTraffic, AfterSilence, TtlForeign],
        not: &[AfterOwnFin, AfterPeerFin, OutOfPlace],
        or: Some("firewall_reject"),
        sentence: "A box between the two had forgotten the idle connection, and reset it when \
                   it was used again.",
        advice: "Send keep-alive probes more often than the box forgets (so_keepalive in \
                 'listen', net.ipv4.tcp_keepalive_time), or close idle connections earlier.",
        ..ROW
    },
    Row {
        word: "peer_lost_socket",
        needs: &[ResetByServer, AnsweredTraffic, AfterSilence, TtlAsUsual, Established],
        not: &[AfterOwnFin, AfterPeerFin, OutOfPlace, SynAckRepeated],
        sentence: "The host itself no longer knows the connection, though it never closed it.",
        advice: "It was restarted, or its address moved to another machine. See the uptime, \
                 and failovers, at this time.",
        ..ROW
    },
    Row {
        word: "nat_mismatch",
        needs: &[AnsweredTraffic, ContinuesAnother],
        not: &[Established],
        sentence: "This segment belongs to another connection of the capture; an address \
                   translation missed it, and it met no socket.",
        advice: "Look at the box or node that translates: in Linux, conntrack counts such \
                 segments as INVALID ('conntrack -S'); drop those instead of passing them on.",
        ..ROW
    },
    Row {
        word: "keepalive_probes_failed",
        needs: &[ProbesUnanswered, Is(Form::Active)],
        sentence: "TCP keep-alive gave up: nobody answered its probes.",
        advice: "The other host or the way to it was gone. Capture there, too.",
        ..ROW
    },
    Row {
        word: "injected",
        needs: &[Is(Form::Injected), OutOfPlace],
        not: &[Cut(Phase::Handshake)],
        sentence:
            "A third party sent this RST: the side whose address it bears would not have.",
        advice:
            "Capture at that side: if the RST is not seen leaving there, look at the boxes \
                 on the way (intrusion prevention, censorship, load balancers).",
        ..ROW
    },
    Row {
        word: "request_dropped",
        needs: &[RequestRepeated],
        not: &[SynAckRepeated, ResetByServer, Unrecognized],
        sentence:
            "The handshake was answered, the request was not: it is sent again and again, \
                   and nothing of it is acknowledged.",
        advice:
            "Something on the way drops it: a filter by content, or a smaller MTU. Capture \
                 at the server, and try a short request.",
        ..ROW
    },
    Row {
        word: "keepalive_timeout",
        needs: &[NoReset, IdleForWholeSeconds],
        not: &[GivenUpBy(Side::Client), GivenUpBy(Side::Server), Tunnelled],
        harmless: true,
        sentence: "The server closed the connection because it had been idle for long enough.",
        advice: "Nothing is wrong. See keepalive_timeout if it is too short for the client.",
        ..ROW
    },
    Row {
        word: "keepalive_timeout",
        needs: &[ResetByClient, Is(Form::Active), AfterPeerFin, IdleForWholeSeconds],
        not: &[GivenUpBy(Side::Client), GivenUpBy(Side::Server)],
        harmless: true,
        sentence: "The server closed the connection because it had been idle for long enough, \
                   and the client later dropped it without reading the farewell.",
        advice: "Nothing is wrong. See keepalive_timeout if it is too short for the client.",
        ..ROW
    },
    Row {
        word: "crash",
        needs: &[NoReset, EndedShort],
        not: &[Tunnelled],
        or: Some("upstream_failed"),
        sentence: "The server ended the response in order, before its end: its process was \
                   killed or gave up, and the system closed for it.",
        advice:
            "See the server's own log for a process that exited at this time, or, behind a \
                 proxy, the upstream that broke off. The client has a short body and may not \
                 notice.",
        ..ROW
    },
    Row {
        word: "upstream_failed",
        needs: &[NoReset, BadGateway],
        sentence:
            "The client's connection is in order; behind it, the upstream did not answer.",
        advice: "See the stream of the upstream: it shows which side ended it, and when.",
        ..ROW
    },
    Row {
        word: "upstream_failed",
        needs: &[NoReset, GivenUpBy(Side::Server)],
        not: &[Unprocessed],
        or: Some("crash"),
        sentence:
            "The server gave the response up and kept the HTTP/2 connection: most often, \
                   because the upstream behind it broke off.",
        advice: "See the stream of the upstream: it shows which side ended it, and when. \
                 Without an upstream, see the server's own log.",
        ..ROW
    },
    Row {
        word: "tls_handshake_failed",
        needs: &[TlsRefusedFor(About::Certificate)],
        sentence: "One side did not accept the other's certificate, or that it had none.",
        advice: "If the alert is the client's: let the server send the whole chain \
                 (ssl_certificate with the intermediates), for this name and not expired, and \
                 let the client trust its root. If it is the server's: see the client's \
                 certificate, ssl_client_certificate and ssl_verify_client.",
        ..ROW
    },
    Row {
        word: "tls_handshake_failed",
        needs: &[TlsRefusedFor(About::Version)],
        sentence: "The two sides have no version of TLS in common.",
        advice: "See ssl_protocols at the server and what the client is able to; 'openssl \
                 s_client -tls1_2' tries one version.",
        ..ROW
    },
    Row {
        word: "tls_handshake_failed",
        needs: &[TlsRefusedFor(About::Parameters)],
        sentence: "The two sides have no cipher, group or signature in common.",
        advice:
            "See ssl_ciphers, ssl_ecdh_curve and the type of the server's key, and what the \
                 client offers in its ClientHello.",
        ..ROW
    },
    Row {
        word: "tls_handshake_failed",
        needs: &[TlsRefusedFor(About::Name)],
        sentence: "The server does not serve the name that the client asks for.",
        advice: "See which name the ClientHello bears (SNI), and server_name, \
                 ssl_reject_handshake and the default server.",
        ..ROW
    },
    Row {
        word: "tls_handshake_failed",
        needs: &[TlsRefusedFor(About::Protocol)],
        sentence: "The two sides have no application protocol in common.",
        advice:
            "See what the client offers by ALPN, and whether the server speaks it ('http2' \
                 in nginx's listen).",
        ..ROW
    },
    Row {
        word: "tls_handshake_failed",
        needs: &[TlsRefusedFor(About::Other)],
        sentence: "An alert ended the TLS handshake.",
        advice: "See the log of the side that sent the alert. If the alert is encrypted, the \
                 keys (tls.keylog_file) tell what it says; most often, the client does not \
                 trust the certificate.",
        ..ROW
    },
];

/// What a cause was found by.
#[derive(Debug)]
pub struct Cause {
    /// The row.
    pub row: &'static Row,
    /// What was seen, with frames and values.
    pub evidence: Vec<String>,
}

/// The cause that the packets single out, if they do.
pub fn find(verdict: &Verdict<'_>, survey: &Survey) -> Option<Cause> {
    let seen = Signs { verdict, survey };
    let fits = |row: &&Row| {
        row.needs.iter().all(|&sign| seen.holds(sign))
            && !row.not.iter().any(|&sign| seen.may_hold(sign))
    };
    let mut rows = ROWS.iter().filter(fits);
    let row = rows.next()?;
    if rows.any(|other| other.word != row.word) {
        return None;
    }
    let mut evidence: Vec<String> = row.needs.iter().filter_map(|&s| seen.says(s)).collect();
    evidence.extend(seen.goaway().filter(|said| !evidence.contains(said)));
    // Where nobody knows what a request is, none was dropped.
    let is_known = |other: &&str| {
        let mut rows = ROWS.iter().filter(|row| row.word == *other);
        !seen.holds(Unrecognized) || rows.any(|row| !row.not.contains(&Unrecognized))
    };
    let other = row.or.filter(is_known);
    evidence.extend(other.map(|other| format!("the same packets can mean {other}")));
    Some(Cause { row, evidence })
}

/// Ports of one host that an honest client may find closed, as when that host is down: who asks
/// for more looks for what is there.
const KNOWN_PORTS: usize = 4;

/// What is seen of one stream.
struct Signs<'a> {
    verdict: &'a Verdict<'a>,
    survey: &'a Survey,
}

impl Signs<'_> {
    fn resets(&self) -> Option<&Resets> {
        self.verdict.resets()
    }

    fn trace(&self) -> &Trace {
        self.verdict.stream().trace()
    }

    fn had_fin(&self, side: Side) -> bool {
        let fin = self.verdict.stream().fin(side);
        self.resets().zip(fin).is_some_and(|(resets, fin)| {
            fin.frame <= resets.at.frame || fin.time < resets.at.time
        })
    }

    /// The capture lacks a FIN of the side that reset: the segment that its RST answers had
    /// acknowledged one.
    fn had_unseen_fin(&self) -> bool {
        let signs = self.resets().map(|resets| &resets.signs);
        signs.is_some_and(|s| s.answers.is_some() && !s.ack_flag && s.off == Some(1))
    }

    /// The handshake is in the capture, and was completed.
    fn is_established(&self) -> bool {
        let stream = self.verdict.stream();
        stream.was_joined_early() && stream.is_established()
    }

    fn idle(&self) -> Option<i64> {
        self.verdict.idle()
    }

    fn by(&self) -> Option<Side> {
        self.verdict.reset_by()
    }

    /// The exchange of HTTP/2 that was given up, and how.
    fn given_up(&self) -> Option<GivenUp> {
        self.verdict.exchange()?.given_up
    }

    /// The server's announcement of the end of an HTTP/2 connection.
    fn goaway(&self) -> Option<String> {
        let said = self.verdict.stream().http2()?.goaway?;
        let (frame, last, code) = (said.frame, said.last, http2::error(said.code));
        Some(format!("frame {frame}: the server's GOAWAY: {code}, last stream {last}"))
    }

    fn host_ttl(&self) -> Option<u8> {
        let end = self.by().map(|side| self.verdict.stream().end(side))?;
        self.survey.ttl(end.addr)
    }

    fn hops_off(&self) -> Option<u8> {
        self.resets()?.signs.hops_off(self.host_ttl())
    }

    /// The RST answers nothing, and comes from elsewhere than its side.
    fn is_far_off(&self) -> bool {
        let host = self.host_ttl();
        self.resets().is_some_and(|r| r.signs.answers.is_none() && r.signs.is_far_off(host))
    }

    /// The ports of the server's host that the client went away from.
    fn probed(&self) -> usize {
        self.survey.probed(self.verdict.client().addr, self.verdict.server().addr)
    }

    /// Whether a sign holds, or may hold for all that the capture shows: what was said, asked
    /// and answered is not known where it lacks that.
    fn may_hold(&self, sign: Sign) -> bool {
        let of_talk = matches!(
            sign,
            Unread
                | ProbesUnanswered
                | RequestRepeated
                | SynAckRepeated
                | AnsweredRequest
                | Encrypted
                | TlsRefused
                | Unprocessed
                | GivenUpBy(_)
                | Tunnelled
        );
        let closed_before = |side| self.verdict.stream().may_lack_fin(side);
        let unseen = match sign {
            AfterOwnFin => self.by().is_some_and(closed_before),
            AfterPeerFin => self.by().map(Side::peer).is_some_and(closed_before),
            Cut(_) => self.verdict.phase() == Some(Phase::Unknown),
            // What tells it of others is told by the order of their segments.
            ManyPorts | ManyTogether => {
                let (client, server) = (self.verdict.client().addr, self.verdict.server().addr);
                self.survey.is_blurred(client, server)
            }
            // One more of them may stand behind the RST, or something else between them.
            ProbesUnanswered if self.verdict.stream().is_out_of_order() => {
                self.verdict.stream().trace().probes.0 > 0
            }
            // When the last data came is not known.
            Unread if self.idle().is_none() => self.verdict.stream().last_data().is_some(),
            _ => of_talk && self.is_blind(),
        };
        self.holds(sign) || unseen
    }

    /// The capture lacks what tells how far the exchange had come.
    fn is_blind(&self) -> bool {
        let (verdict, caveats) = (self.verdict, self.verdict.caveats());
        verdict.stage() == Phase::Unknown && (caveats.gap || caveats.truncated)
            || verdict.stream().shows_only_ends()
    }

    fn holds(&self, sign: Sign) -> bool {
        let (verdict, survey) = (self.verdict, self.survey);
        let stream = verdict.stream();
        let (client, server) = (verdict.client(), verdict.server());
        let answers = self.resets().and_then(|resets| resets.signs.answers);
        let trace = self.trace();
        match sign {
            ResetByClient => self.by() == Some(Side::Client),
            ResetByServer => self.by() == Some(Side::Server),
            NoReset => self.resets().is_none(),
            Is(form) => verdict.form() == Some(form),
            Cut(phase) => verdict.phase() == Some(phase),
            Answers(what) => answers.is_some_and(|seen| seen.what == what),
            TtlAsUsual => self.hops_off() == Some(0),
            TtlForeign => self.hops_off().is_some_and(|hops| hops > 0),
            OutOfPlace => self.resets().is_some_and(|resets| {
                let signs = &resets.signs;
                !resets.effective
                    || self.is_far_off()
                    || signs.answers.is_none()
                        && signs.is_out_of_order()
                        && signs.habits.ttl.is_some()
            }),
            Accepted => stream.was_accepted(),
            Established => self.is_established(),
            NothingAsked => stream.is_unasked(),
            Stayed => verdict.closing().is_some_and(|c| c.at.time.since(stream.opened) >= IDLE),
            SynAckLate => {
                let waited = answers.map(|seen| seen.time.since(stream.opened));
                trace.syns > 1 || waited.is_some_and(|w| w >= SECOND)
            }
            SynAckRepeated => trace.syn_ack_again > 0,
            SynAckRepeatedOften => trace.syn_ack_again > 1,
            StrayAck => trace.stray_ack.is_some(),
            AfterOwnFin => {
                self.had_unseen_fin() || self.by().is_some_and(|side| self.had_fin(side))
            }
            AfterPeerFin => self.by().is_some_and(|side| self.had_fin(side.peer())),
            AnsweredRequest => {
                let open = stream.exchange().filter(|e| e.answered == Progress::None);
                open.is_some_and(|exchange| stream.is_unreceived(exchange))
                    && answers.is_some_and(|seen| seen.what == What::Data)
            }
            AnsweredHandshake => answers.is_some_and(|seen| {
                seen.what == What::Ack && self.is_established() && seen.time == stream.opened
            }),
            AnsweredTraffic => {
                answers.is_some_and(|seen| matches!(seen.what, What::Data | What::Probe))
            }
            AfterSilence => answers.is_some_and(|seen| seen.silence >= IDLE),
            Unread => self.by().is_some_and(|side| {
                let unfinished = stream.exchange().is_some_and(|e| e.sent == Progress::Begun);
                let soon = self.idle().is_some_and(|idle| idle < IDLE);
                let just_answered = verdict.phase() == Some(Phase::AfterResponse) && soon;
                stream.spoke_last() == Some(side.peer())
                    || side == Side::Server && (unfinished || just_answered)
            }),
            RequestUnseen => {
                let sent = stream.exchange().map(|exchange| exchange.sent);
                matches!(sent, Some(Progress::Lost | Progress::Cut))
            }
            ProbesUnanswered => {
                let of_side = trace.probes.0 > 1 && trace.probes.1 == self.by();
                // What the capture never shows is not known to be missing, nor what it holds elsewhere.
                of_side && !(stream.caveats().one_sided || stream.is_order_untold())
            }
            Unheard => stream.is_unheard() && !stream.caveats().one_sided,
            RequestRepeated => trace.retransmissions > 2 && self.holds(Unheard),
            ManyPorts => self.probed() > KNOWN_PORTS,
            CameOften => survey.left(client, server) > 1,
            ManyTogether => self.resets().is_some_and(|resets| {
                stream.is_unserved() && survey.dropped_together(server, resets.at.time) > 2
            }),
            Encrypted => verdict.caveats().encrypted,
            IdleForWholeSeconds => verdict.first_end().is_some_and(|closing| {
                closing.by == Side::Server
                    && closing.stage == Phase::AfterResponse
                    && self.idle().is_some_and(is_whole_seconds)
            }),
            ClientLeft => verdict.first_end().is_some_and(|closing| {
                closing.by == Side::Client
                    && verdict.transaction() == Transaction::Failed
                    && !closing.stage.is_before_request()
            }),
            ContinuesAnother => answers.is_some_and(|seen| survey.continued(&seen).is_some()),
            BadGateway => matches!(verdict.response_status(), Some(502 | 504)),
            EndedShort => verdict.first_end().is_some_and(|closing| {
                closing.by == Side::Server && closing.stage == Phase::DuringResponse
            }),
            TlsRefused => stream.tls_refusal().is_some(),
            TlsRefusedFor(about) => {
                stream.tls_refusal().is_some_and(|alert| alert.about() == about)
            }
            GivenUpBy(side) => self.given_up().is_some_and(|given_up| given_up.by == side),
            Unprocessed => {
                let exchange = verdict.exchange();
                let failed = verdict.transaction() == Transaction::Failed;
                let http = stream.http2().filter(|_| failed);
                http.zip(exchange).is_some_and(|(http, exchange)| http.is_unprocessed(exchange))
            }
            Tunnelled => stream.is_tunnelled(),
            Unrecognized => stream.is_unrecognized(),
        }
    }

    /// What is seen, with frames and values; `None` where the sign is in other fields.
    fn says(&self, sign: Sign) -> Option<String> {
        let resets = self.resets();
        let frame = resets.map(|resets| resets.at.frame);
        let signs = resets.map(|resets| resets.signs);
        let trace = self.trace();
        let verdict = self.verdict;
        let rst = frame.map(|frame| format!("RST in frame {frame}"));
        Some(match sign {
            Is(form) => format!("{} is {}", rst?, form.word()),
            Answers(_) | AnsweredRequest | AnsweredHandshake | AnsweredTraffic => {
                let seen = signs?.answers?;
                let after = duration(resets?.at.time.since(seen.time));
                format!("{} answers frame {} after {after}", rst?, seen.frame)
            }
            TtlAsUsual | TtlForeign => {
                let signs = signs?;
                let known = signs.habits.ttl.or(self.host_ttl())?;
                let others = match signs.habits.ttl {
                    Some(_) => {
                        format!("the side's other packets (frame {})", signs.habits.frame)
                    }
                    None => "the host's other connections".to_owned(),
                };
                format!("{} has TTL {}, {others} have {known}", rst?, signs.ttl?)
            }
            OutOfPlace => {
                let resets = resets?;
                match (resets.effective, self.is_far_off()) {
                    (false, _) => format!("the connection went on after the {}", rst?),
                    (true, true) => return self.says(TtlForeign),
                    (true, false) => format!(
                        "{} answers nothing and stands {} bytes off the side's numbers",
                        rst?, resets.signs.off?
                    ),
                }
            }
            SynAckLate => {
                let waited = signs?.answers?.time.since(verdict.opened());
                let waited = duration(waited);
                match trace.syns {
                    0 | 1 => format!("the SYN-ACK came {waited} after the SYN"),
                    syns => format!("the SYN-ACK came {waited} after the first of {syns} SYNs"),
                }
            }
            SynAckRepeated | SynAckRepeatedOften => {
                format!("the SYN-ACK came {} after the ACK", again(trace.syn_ack_again))
            }
            StrayAck => format!("frame {} acknowledges something older", trace.stray_ack?),
            AfterSilence => {
                let seen = signs?.answers?;
                format!("frame {} came after {} of silence", seen.frame, duration(seen.silence))
            }
            ProbesUnanswered => {
                format!("{} keep-alive probes without an answer", trace.probes.0)
            }
            Unheard => "nothing that the client sent was acknowledged".to_owned(),
            RequestRepeated => format!(
                "the client sent its data {} without an acknowledgment",
                again(trace.retransmissions)
            ),
            ManyPorts => format!("the client went away from {} ports", self.probed()),
            CameOften => format!(
                "the client left this port {} times without a word",
                self.survey.left(verdict.client(), verdict.server())
            ),
            ManyTogether => format!(
                "{} connections were reset at the same moment",
                self.survey.dropped_together(verdict.server(), resets?.at.time)
            ),
            IdleForWholeSeconds => {
                let closing = verdict.closing()?;
                let idle = duration(self.idle()?);
                format!("FIN in frame {} after {idle} of silence", closing.at.frame)
            }
            ClientLeft => {
                let closing = verdict.closing()?;
                format!("the client's FIN in frame {} came first", closing.at.frame)
            }
            ContinuesAnother => {
                let seen = signs?.answers?;
                let other = self.survey.continued(&seen)?;
                format!("frame {} continues the connection of frame {other}", seen.frame)
            }
            BadGateway => match (verdict.response_status()?, self.failed_upstream()) {
                (status, Some(frame)) => format!(
                    "status {status}, and the stream that begins with frame {frame} got no answer"
                ),
                (status, None) => format!("status {status}"),
            },
            EndedShort => {
                let frame = verdict.closing()?.at.frame;
                match verdict.response_missing() {
                    Some(missing) => format!("FIN in frame {frame}, {missing} bytes short"),
                    None => format!("FIN in frame {frame}, in the middle of the response"),
                }
            }
            TlsRefused | TlsRefusedFor(_) => {
                let alert = verdict.stream().tls_refusal()?;
                let (frame, by) = (alert.frame, alert.by.word());
                format!("frame {frame}: the {by}'s TLS alert: {}", alert.words())
            }
            Unprocessed if self.given_up().is_none() => self.goaway()?,
            GivenUpBy(_) | Unprocessed => {
                let GivenUp { by, code, frame } = self.given_up()?;
                match code {
                    Some(code) => {
                        let (by, code) = (by.word(), http2::error(code));
                        format!("frame {frame}: the {by}'s RST_STREAM: {code}")
                    }
                    None => {
                        format!("frame {frame} ends the response before its Content-Length")
                    }
                }
            }
            AfterOwnFin => {
                match verdict.stream().fin(self.by()?) {
                    Some(fin) => format!("its sender's FIN in frame {}", fin.frame),
                    None => "a FIN that the capture lacks was acknowledged".to_owned(),
                }
            }
            Unread => match verdict.stream().spoke_last() == self.by() {
                true => {
                    let what = match verdict.stream().is_unrecognized() {
                        true => "its sender's last data",
                        false => "the response",
                    };
                    format!("the RST came {} after {what}", duration(self.idle()?))
                }
                false => "the last data came from the other side".to_owned(),
            },
            ResetByClient | ResetByServer | Cut(_) | Accepted | Established | NothingAsked
            | NoReset | AfterPeerFin | Encrypted | Stayed | Tunnelled | Unrecognized
            | RequestUnseen => {
                return None
            }
        })
    }

    /// The stream of an upstream that explains a 502 or 504.
    fn failed_upstream(&self) -> Option<u32> {
        let stream = self.verdict.stream();
        let request = crate::correlate::events::stream_request(stream);
        let to = self.verdict.closing().map_or(self.verdict.end(), |closing| closing.at.time);
        self.survey.failed_upstream(self.verdict.server().addr, request, stream.opened, to)
    }
}

/// How often something came again.
fn again(times: u8) -> String {
    match times {
        1 => "once more".to_owned(),
        _ => format!("{times} times more"),
    }
}

/// Timers fire at whole seconds, and a few milliseconds late.
fn is_whole_seconds(idle: i64) -> bool {
    const LATE: i64 = 20_000_000;
    idle >= SECOND && (idle + SECOND / 500) % SECOND <= LATE
}
