// SPDX-License-Identifier: GPL-2.0-or-later
//! Bytes as lines of nginx's logs, and as what the user set.

use rstdiag::abi;

use super::script::{Input, BEGIN, LEGS, SECOND};

/// A line of a log.
pub struct Line {
    pub is_access: bool,
    pub text: Vec<u8>,
}

const REQUESTS: [&str; 8] =
    ["GET /a", "POST /p", "GET /b", "PUT /p", "HEAD /a", "GET /", "", "GET /a%0A"];

/// Messages, with what nginx was doing; `{c}` is the client's address and `{u}` the upstream's.
const MESSAGES: [&str; 40] = [
    "client {c} closed keepalive connection",
    "client {c} closed keepalive connection (104: Connection reset by peer)",
    "client closed connection while waiting for request",
    "client closed connection while SSL handshaking",
    "client prematurely closed connection",
    "client prematurely closed connection while reading client request headers",
    "client prematurely closed connection (104: Connection reset by peer) while sending to client",
    "epoll_wait() reported that client prematurely closed connection, so upstream connection is \
     closed too while sending request to upstream",
    "client prematurely closed connection while processing HTTP/2 connection",
    "recv() failed (104: Connection reset by peer)",
    "recv() failed (104: Connection reset by peer) while waiting for request",
    "recv() failed (104: Connection reset by peer) while reading client request line",
    "recv() failed (104: Connection reset by peer) while sending to client",
    "recv() failed (104: Connection reset by peer) while reading response header from upstream",
    "recv() failed (104: Connection reset by peer) while proxying upgraded connection",
    "recv() failed (104: Connection reset by peer) while processing HTTP/2 connection",
    "readv() failed (104: Connection reset by peer) while reading upstream",
    "writev() failed (32: Broken pipe) while sending request to upstream",
    "writev() failed (104: Connection reset by peer) while sending to client",
    "send() failed (32: Broken pipe) while sending response to client",
    "SSL_write() failed (104: Connection reset by peer) while sending to client",
    "SSL_do_handshake() failed (SSL: error:0A000416:SSL routines::ssl/tls alert certificate \
     unknown:SSL alert number 46) while SSL handshaking",
    "SSL_do_handshake() failed (SSL: error:0A00010B:SSL routines::wrong version number) while \
     SSL handshaking to upstream",
    "peer closed connection in SSL handshake (104: Connection reset by peer) while SSL \
     handshaking",
    "connect() failed (111: Connection refused) while connecting to upstream",
    "connect() failed (113: No route to host) while connecting to upstream",
    "connect() to {u} failed (99: Cannot assign requested address) while connecting to upstream",
    "upstream timed out (110: Connection timed out) while connecting to upstream",
    "upstream timed out (110: Connection timed out) while reading response header from upstream",
    "upstream timed out (110: Connection timed out) while reading upstream",
    "upstream prematurely closed connection while reading response header from upstream",
    "upstream prematurely closed connection while reading upstream",
    "no live upstreams while connecting to upstream",
    "client timed out (110: Connection timed out) while waiting for request",
    "client timed out (110: Connection timed out) while sending to client",
    "client {c}:40000 connected to 10.0.0.2:80",
    "proxy 10.0.0.2:50000 connected to {u}",
    "client disconnected, bytes from/to client:2/0, bytes from/to upstream:0/2",
    "open() \"/usr/share/nginx/html/a, client: 10.0.0.7\" failed (2: No such file or directory)",
    "worker process 7 exited on signal 9",
];

const LEVELS: [&str; 4] = ["info", "error", "crit", "alert"];

impl Line {
    /// A line about a connection, near a time of the capture.
    pub fn of(leg: usize, now: i64, input: &mut Input<'_>) -> Line {
        let kind = input.byte();
        let is_access = kind & 1 != 0;
        if kind & 0x0e == 0x0e {
            let len = usize::from(input.byte());
            return Line { is_access, text: [input.bytes(len), b"\n"].concat() };
        }
        // In quarters of a second, up to half a minute before or after.
        let offset = i64::from(input.byte() as i8) * (SECOND / 4);
        let time = now.saturating_add(offset);
        let number = 1 + input.byte() % 8;
        let request = input.pick(&REQUESTS);
        let [(client, port), _] = LEGS[if leg == 2 { 0 } else { leg }];
        let text = match is_access {
            true => access_line(kind, time, client, port, number, request, input),
            false => error_line(kind, time, client, number, request, input),
        };
        Line { is_access, text: text.into_bytes() }
    }
}

/// Day of January 2026 and time of day; what is outside of the month stays at its begin.
fn clock(time: i64) -> (i64, String) {
    let seconds = time.div_euclid(SECOND) - BEGIN;
    let seconds = if (0..31 * 86_400).contains(&seconds) { seconds } else { 0 };
    let (day, of_day) = (1 + seconds / 86_400, seconds % 86_400);
    (day, format!("{:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60))
}

fn error_line(
    kind: u8,
    time: i64,
    client: &str,
    number: u8,
    request: &str,
    input: &mut Input<'_>,
) -> String {
    const UPSTREAM: &str = "10.0.0.3:8080";
    let message = input.pick(&MESSAGES).replace("{c}", client).replace("{u}", UPSTREAM);
    let level = LEVELS[usize::from(kind >> 4) % LEVELS.len()];
    let pid = 7 + (kind >> 6 & 1);
    let (day, clock) = clock(time);
    let mut line =
        format!("2026/01/{day:02} {clock} [{level}] {pid}#{pid}: *{number} {message}");
    // A client that is idle has no context but its address.
    if !message.contains("keepalive") {
        line += &format!(", client: {client}, server: h");
    }
    if !request.is_empty() {
        line += &format!(", request: \"{request} HTTP/1.1\"");
        if level != "info" || kind & 0x80 != 0 {
            let path = request.split(' ').next_back().unwrap_or_default();
            line += &format!(", upstream: \"http://{UPSTREAM}{path}\"");
        }
        line += ", host: \"h\"";
    }
    line + "\n"
}

/// Formats of access logs. The lines below are of the format that a line's byte says, whatever
/// the user has set.
const FORMATS: [&str; 4] = ["combined", PORTS, "json", "$status$"];
const PORTS: &str = "$remote_addr:$remote_port $connection $msec \"$request\" $status \
                     $bytes_sent $request_time $upstream_addr $upstream_status $request_id";

fn access_line(
    kind: u8,
    time: i64,
    client: &str,
    port: u16,
    number: u8,
    request: &str,
    input: &mut Input<'_>,
) -> String {
    let status = input.pick(&[200, 499, 400, 408, 502, 504, 101, 206]);
    let bytes = input.pick(&[0u32, 10, 100, 150, 1000, 4_000_000_000]);
    let msec = time.div_euclid(1_000_000);
    let msec = format!("{}.{:03}", msec.div_euclid(1000), msec.rem_euclid(1000));
    match kind >> 4 & 3 {
        0 => {
            let (day, clock) = clock(time);
            format!(
                "{client} - - [{day:02}/Jan/2026:{clock} +0000] \"{request} HTTP/1.1\" {status} \
                 {bytes} \"-\" \"curl/8\"\n"
            )
        }
        1 => format!(
            "{client}:{port} {number} {msec} \"{request} HTTP/1.1\" {status} {bytes} 0.0{number} \
             10.0.0.3:8080 {status} 0123456789abcdef0123456789abcdef\n"
        ),
        _ => format!(
            "{{\"remote_addr\":\"{client}\",\"remote_port\":\"{port}\",\"msec\":\"{msec}\",\
             \"connection\":\"{number}\",\"request\":\"{request} HTTP/1.1\",\
             \"status\":\"{status}\",\"bytes_sent\":{bytes}}}\n"
        ),
    }
}

/// What the user set, by the number of the option.
pub fn options(input: &mut Input<'_>) -> Vec<(i32, &'static str)> {
    vec![
        (
            abi::RSTDIAG_OPTION_TIME_ZONE,
            input.pick(&["UTC", "auto", "+08:00", "Asia/Shanghai", "America/New_York", "noon"]),
        ),
        (abi::RSTDIAG_OPTION_WINDOW, input.pick(&["2", "0", "0.5", "86400", "-1", "1e300"])),
        (
            abi::RSTDIAG_OPTION_CLOCK_OFFSET,
            input.pick(&["auto", "0", "-1.7", "315576000", "nan"]),
        ),
        (
            abi::RSTDIAG_OPTION_NGINX_ADDRESSES,
            input.pick(&[
                "",
                "10.0.0.2",
                "10.0.0.0/24",
                "2001:db8::/32 10.0.0.2",
                "10.0.0.2/99",
            ]),
        ),
        (abi::RSTDIAG_OPTION_ACCESS_LOG_FORMAT, input.pick(&FORMATS)),
    ]
}
