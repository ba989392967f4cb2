#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The fourth lab: lines of nginx's error log that the first lab does not provoke, of its HTTP,
TLS, HTTP/2, stream and mail modules, with the connection that each is about.

    log_lines.py OUTDIR      needs root, nginx with its stream and mail modules, tcpdump, openssl

Writes OUTDIR/capture.pcap, error.log and truth.json: for each line of the log its number, the leg
whose end it is about ("client", "upstream", or null where it is about none), and the connection:
address and port of the side that opened it, or null where no packet of it exists. The truth is
what each scenario did: scenarios run one after the other, so a line that appears is the one's that
runs, and each says which lines must appear.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import socket
import ssl
import struct
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Tuple

from network import (CLIENT, CLIENT_NET, NGINX, NGINX_IP, PUPPET_NET, UPSTREAM, UPSTREAM_NET,
                     Capture, Network, run, settle)
from proxy import MAIN, SECURE, Nginx, error_lines
from puppet import ACK, PSH, PUPPET_MACS, Puppet
from tls import END_HEADERS, END_STREAM, HELLO, frame

PROBED, HTTP2, PROBED_TLS, STREAM, STREAM_TLS, IMAP = 8081, 8082, 8443, 6000, 6001, 143
APP, AUTH = 8080, 9000
UNREACHABLE, PROHIBITED, ABROAD, SILENT = "10.77.4.1", "10.77.4.2", "192.0.2.1", "10.77.3.251"
RESET = "(104: Connection reset by peer)"
TIMEOUT = "(110: Connection timed out)"
Address = Tuple[str, int]


def configuration(home: Path) -> str:
    """Each client address has an upstream address of its own."""
    tls = f"ssl_certificate {home}/cert.pem; ssl_certificate_key {home}/key.pem;"
    peer = f"map $remote_addr $peer {{ ~^10\\.77\\.[13]\\.(?<n>\\d+)$ {UPSTREAM_NET}.$n; }}"
    modules = "".join(f"load_module /usr/lib/nginx/modules/ngx_{name}_module.so;\n"
                      for name in ("stream", "mail"))
    temporary = "".join(f"    {kind}_temp_path {home}/temp-{kind};\n"
                        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""
{modules}
daemon off; master_process off; user root; pid {home}/nginx.pid;
error_log {home}/error.log info;
events {{ worker_connections 256; }}
http {{
    access_log off;
{temporary}
    {peer}
    server {{
        listen {SECURE} ssl;
        {tls} ssl_protocols TLSv1.2 TLSv1.3;
        client_header_timeout 1s;
        location /slow/ {{ alias {home}/files/; limit_rate 10k; }}
    }}
    upstream pair {{ server {UPSTREAM_NET}.1:3128; server {UPSTREAM_NET}.1:3129; }}
    server {{
        listen {MAIN};
        listen {PROBED} so_keepalive=1s:1s:1;
        listen {HTTP2} http2;
        listen {PROBED_TLS} ssl so_keepalive=1s:1s:1;
        {tls}
        root {home}/files;
        proxy_connect_timeout 1s; proxy_read_timeout 1s; proxy_ssl_session_reuse off;
        location /slow/ {{ alias {home}/files/; limit_rate 10k; }}
        location /app/ {{ proxy_pass http://$peer:{APP}; proxy_read_timeout 9s; }}
        location /secure/ {{ proxy_pass https://$peer:{APP}; }}
        location /verified/ {{
            proxy_pass https://$peer:{APP}; proxy_ssl_verify on;
            proxy_ssl_trusted_certificate {home}/cert.pem; proxy_ssl_name other.example.com;
        }}
        location /probed/ {{
            proxy_pass http://{PUPPET_NET}.250:{APP}; proxy_socket_keepalive on;
            proxy_read_timeout 9s;
        }}
        location /pair/ {{ proxy_pass http://pair; }}
        location /unreachable/ {{ proxy_pass http://{UNREACHABLE}:{APP}; }}
        location /prohibited/ {{ proxy_pass http://{PROHIBITED}:{APP}; }}
        location /abroad/ {{ proxy_pass http://{ABROAD}:{APP}; }}
        location /unix/ {{ proxy_pass http://unix:{home}/nobody.sock:/; }}
        location /checked/ {{ auth_request /check; alias {home}/files/; }}
        location = /check {{ internal; proxy_pass http://$peer:3128; }}
    }}
}}
stream {{
    {peer}
    proxy_timeout 1s; proxy_connect_timeout 1s;
    server {{ listen {STREAM}; proxy_pass $peer:7000; }}
    server {{ listen {STREAM + 2}; proxy_pass {SILENT}:7000; }}
    server {{ listen {STREAM_TLS} ssl; {tls} proxy_pass $peer:7000; }}
    server {{ listen {STREAM + 3}; proxy_pass $peer:7000; proxy_ssl on; }}
}}
mail {{
    auth_http {UPSTREAM_NET}.1:{AUTH}/;
    auth_http_timeout 1s; timeout 1s;
    server {{ listen {IMAP}; protocol imap; proxy on; proxy_timeout 1s; }}
    server {{ listen {IMAP + 1}; protocol imap; proxy on; auth_http {UPSTREAM_NET}.2:{AUTH}/; }}
}}
"""


# ---- What a scenario says ---------------------------------------------------------------------

@dataclass(frozen=True)
class Line:
    """A line that must appear: level and text, the leg that it is about, and who opened that
    connection."""

    level: str
    text: str
    leg: Optional[str] = None
    opener: Optional[Address] = None


class Stage:
    """What a scenario is given: addresses of its own."""

    def __init__(self, network: Network, number: int) -> None:
        self.network = network
        self.number = number
        self._open: List[socket.socket] = []

    @property
    def app(self) -> str:
        """This scenario's upstream address."""
        return f"{UPSTREAM_NET}.{self.number}"

    def connect(self, port: int = MAIN) -> socket.socket:
        """A client."""
        sock = self.network.tcp_socket(CLIENT)
        sock.settimeout(10)
        sock.bind((f"{CLIENT_NET}.{self.number}", 0))
        sock.connect((NGINX_IP, port))
        self._open.append(sock)
        return sock

    def get(self, uri: str, port: int = MAIN) -> socket.socket:
        """A client that has asked for this."""
        sock = self.connect(port)
        sock.sendall(f"GET {uri} HTTP/1.1\r\nHost: shop\r\n\r\n".encode())
        return sock

    def listen(self, port: int = APP, address: Optional[str] = None) -> socket.socket:
        """An upstream."""
        sock = self.network.tcp_socket(UPSTREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.settimeout(10)
        sock.bind((address or self.app, port))
        sock.listen(8)
        self._open.append(sock)
        return sock

    def accept(self, listener: socket.socket) -> Tuple[socket.socket, Address]:
        """A connection of nginx's, and nginx's end of it."""
        sock, peer = listener.accept()
        sock.settimeout(10)
        self._open.append(sock)
        return sock, peer

    def puppet(self, host: str, address: str, port: int) -> Puppet:
        """An end without a kernel."""
        self.network.neighbour(address, PUPPET_MACS[host])
        return Puppet(self.network, host, (address, port))

    def end(self) -> None:
        """Closes what is open still: the last lines of a scenario have been seen."""
        for sock in self._open:
            sock.close()


def reset(sock: socket.socket) -> None:
    """RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def at(sock: socket.socket) -> Address:
    """Who opened it."""
    name: Address = sock.getsockname()
    return name


Scenario = Callable[[Stage], Iterator[List[Line]]]
SCENARIOS: List[Scenario] = []


def scenario(play: Scenario) -> Scenario:
    """Registers a scenario. It yields the lines that must have appeared before it goes on."""
    SCENARIOS.append(play)
    return play


# ---- TLS with the client ----------------------------------------------------------------------

def client_context(version: ssl.TLSVersion, trusting: bool) -> ssl.SSLContext:
    """A client of this version; one that does not trust refuses by an alert."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE if trusting else ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = version
    return context


def hello() -> bytes:
    """What a TLS client says first."""
    out = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        client_context(ssl.TLSVersion.TLSv1_2, True).wrap_bio(ssl.MemoryBIO(), out).do_handshake()
    return out.read()


@scenario
def tls_closed_before_hello(s: Stage) -> Iterator[List[Line]]:
    """FIN before a byte."""
    client = s.connect(SECURE)
    line = Line("info", "client closed connection while SSL handshaking", "client", at(client))
    client.close()
    yield [line]


@scenario
def tls_closed_in_handshake(s: Stage) -> Iterator[List[Line]]:
    """FIN after the server's hello."""
    client = s.connect(SECURE)
    client.sendall(hello())
    client.recv(65536)
    client.shutdown(socket.SHUT_WR)
    yield [Line("info", "peer closed connection in SSL handshake while", "client", at(client))]


@scenario
def tls_reset_in_handshake(s: Stage) -> Iterator[List[Line]]:
    """RST after the server's hello."""
    client = s.connect(SECURE)
    client.sendall(hello())
    client.recv(100)
    line = Line("info", f"peer closed connection in SSL handshake {RESET} while", "client",
                at(client))
    reset(client)
    yield [line]


@scenario
def tls_silent(s: Stage) -> Iterator[List[Line]]:
    """Nothing after TCP's handshake."""
    client = s.connect(SECURE)
    yield [Line("info", f"client timed out {TIMEOUT} while SSL handshaking", "client", at(client))]


@scenario
def tls_probes_unanswered(s: Stage) -> Iterator[List[Line]]:
    """A client that is gone before its hello."""
    client = s.puppet(CLIENT, f"{PUPPET_NET}.{s.number}", 40000)
    client.connect((NGINX_IP, PROBED_TLS))
    client.send(PSH | ACK, hello()[:20])
    client.await_ack()
    yield [Line("info|crit", f"SSL_do_handshake() failed {TIMEOUT}|peer closed connection in SSL "
                f"handshake {TIMEOUT}", "client", client.local)]


@scenario
def tls_nonsense_after_handshake(s: Stage) -> Iterator[List[Line]]:
    """TLS, and then a request in the clear."""
    client = s.connect(SECURE)
    tls = client_context(ssl.TLSVersion.TLSv1_2, True).wrap_socket(client.dup())
    client.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
    yield [Line("info|crit", "SSL_read() failed (SSL:", "client", at(client))]
    tls.close()


@scenario
def tls_nonsense(s: Stage) -> Iterator[List[Line]]:
    """Bytes that are no TLS."""
    client = s.connect(SECURE)
    client.sendall(b"\x16\x03\x01\x00\x05hello")
    yield [Line("info|crit", "SSL_do_handshake() failed (SSL:", "client", at(client))]


def refused(s: Stage, version: ssl.TLSVersion) -> Address:
    """A client that does not trust nginx's certificate, and leaves."""
    client = s.connect(SECURE)
    read, written = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context(version, False).wrap_bio(read, written)
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            client.sendall(written.read())
            read.write(client.recv(65536))
        except ssl.SSLError:
            break
    # One segment, so that nginx cannot close first.
    client.sendall(written.read(), socket.MSG_MORE)
    client.shutdown(socket.SHUT_WR)
    return at(client)


@scenario
def tls_alert_in_handshake(s: Stage) -> Iterator[List[Line]]:
    """In TLS 1.2 the alert comes before the handshake is over."""
    client = refused(s, ssl.TLSVersion.TLSv1_2)
    yield [Line("info", "SSL_do_handshake() failed (SSL:", "client", client)]


@scenario
def tls_alert_after_handshake(s: Stage) -> Iterator[List[Line]]:
    """In TLS 1.3 too: nginx's side of it is not over before the client's last word."""
    client = refused(s, ssl.TLSVersion.TLSv1_3)
    yield [Line("info", "SSL_do_handshake() failed (SSL:", "client", client)]


@scenario
def tls_reset_in_download(s: Stage) -> Iterator[List[Line]]:
    """RST while nginx writes."""
    client = s.connect(SECURE)
    tls = client_context(ssl.TLSVersion.TLSv1_3, True).wrap_socket(client.dup())
    tls.sendall(b"GET /slow/catalog.txt HTTP/1.1\r\nHost: shop\r\n\r\n")
    tls.recv(100)
    line = Line("info", "(32: Broken pipe)|(104: Connection reset by peer)"
                "|client prematurely closed connection", "client", at(client))
    client.close()
    reset(tls)
    yield [line]


# ---- HTTP -------------------------------------------------------------------------------------

@scenario
def closed_in_download(s: Stage) -> Iterator[List[Line]]:
    """FIN while nginx answers without an upstream."""
    client = s.get("/slow/catalog.txt")
    client.recv(100)
    client.shutdown(socket.SHUT_WR)
    yield [Line("info", "client prematurely closed connection while sending response to client",
                "client", at(client))]


@scenario
def probes_unanswered(s: Stage) -> Iterator[List[Line]]:
    """A client that is gone, before its request."""
    client = s.puppet(CLIENT, f"{PUPPET_NET}.{s.number}", 40000)
    client.connect((NGINX_IP, PROBED))
    yield [Line("info", f"recv() failed {TIMEOUT} while waiting for request", "client",
                client.local)]


@scenario
def probes_unanswered_while_waiting(s: Stage) -> Iterator[List[Line]]:
    """A client that is gone while the upstream works."""
    listener = s.listen()
    client = s.puppet(CLIENT, f"{PUPPET_NET}.{s.number}", 40000)
    client.connect((NGINX_IP, PROBED))
    client.send(PSH | ACK, b"GET /app/gone HTTP/1.1\r\nHost: shop\r\n\r\n")
    client.await_ack()
    s.accept(listener)
    yield [Line("info", "epoll_wait() reported that client prematurely closed connection, so "
                f"upstream connection is closed too {TIMEOUT} while", "client", client.local)]


def http2_request(path: bytes, length: Optional[bytes] = None) -> bytes:
    """A HEADERS frame of stream 1; with a length it is a POST whose body is still to come."""
    block = bytes([0x82 if length is None else 0x83, 0x86, 0x04, len(path)]) + path
    block += bytes([0x01, 4]) + b"shop"
    if length is not None:
        block += bytes([0x0f, 0x0d, len(length)]) + length
    return frame(1, END_HEADERS | (END_STREAM if length is None else 0), 1, block)


@scenario
def http2_closed(s: Stage) -> Iterator[List[Line]]:
    """FIN while a request waits."""
    listener = s.listen()
    client = s.connect(HTTP2)
    client.sendall(HELLO + http2_request(b"/app/h2"))
    s.accept(listener)
    client.shutdown(socket.SHUT_WR)
    yield [Line("info", "client prematurely closed connection while processing HTTP/2", "client",
                at(client))]


@scenario
def http2_reset(s: Stage) -> Iterator[List[Line]]:
    """RST between requests."""
    client = s.connect(HTTP2)
    client.sendall(HELLO)
    client.recv(100)
    line = Line("info", f"recv() failed {RESET} while processing HTTP/2", "client", at(client))
    reset(client)
    yield [line]


@scenario
def http2_body_too_short(s: Stage) -> Iterator[List[Line]]:
    """A stream that ends before its body: its connection goes on."""
    client = s.connect(HTTP2)
    client.sendall(HELLO + http2_request(b"/app/post", b"10") + frame(0, END_STREAM, 1, b"12345"))
    yield [Line("info", "client prematurely closed stream: only 5 out of 10 bytes")]


@scenario
def http2_flood(s: Stage) -> Iterator[List[Line]]:
    """Nine megabytes of settings that nobody knows."""
    client = s.connect(HTTP2)
    line = Line("info", "http2 flood detected while processing HTTP/2", "client", at(client))
    with contextlib.suppress(OSError):
        client.sendall(HELLO)
        for _ in range(600):
            client.sendall(frame(4, 0, 0, b"\x00\xff\x00\x00\x00\x01" * 2730))
    yield [line]


# ---- The upstream's connection ------------------------------------------------------------------

@scenario
def no_route(s: Stage) -> Iterator[List[Line]]:
    """The system answers connect() at once: no packet."""
    for name, level, errno in (("unreachable", "error", 113), ("prohibited", "crit", 13),
                               ("abroad", "error", 101)):
        s.get(f"/{name}/")
        yield [Line(level, f"failed ({errno}: ", "upstream")]
    s.get("/unix/")
    yield [Line("crit", "connect() to unix:", "upstream")]


@scenario
def nobody_has_the_address(s: Stage) -> Iterator[List[Line]]:
    """Nobody answers ARP: the SYN never left. The stream module has its own words for it."""
    s.connect(STREAM + 2)
    yield [Line("info", "connected to"), Line("error", f"upstream timed out {TIMEOUT} while "
                                             "connecting to upstream", "upstream")]


@scenario
def last_of_a_group(s: Stage) -> Iterator[List[Line]]:
    """Both servers refuse; then none is left."""
    s.get("/pair/1")
    refused_one = Line("error", "connect() failed (111: Connection refused) while", "upstream")
    disabled = Line("warn", "upstream server temporarily disabled while")
    yield [refused_one, disabled, refused_one, disabled]
    s.get("/pair/2")
    yield [Line("error", "no live upstreams while connecting to upstream", "upstream")]


@scenario
def check_fails(s: Stage) -> Iterator[List[Line]]:
    """A subrequest's upstream refuses."""
    s.get("/checked/logo.txt")
    yield [Line("error", "connect() failed (111: Connection refused) while", "upstream"),
           Line("error", "auth request unexpected status: 502 while")]


@scenario
def upstream_tls_closed(s: Stage) -> Iterator[List[Line]]:
    """FIN in the handshake with the upstream."""
    listener = s.listen()
    s.get("/secure/closed")
    server, opener = s.accept(listener)
    server.recv(65536)
    server.shutdown(socket.SHUT_WR)
    yield [Line("error", "peer closed connection in SSL handshake while SSL handshaking to "
                "upstream", "upstream", opener)]


@scenario
def upstream_tls_reset(s: Stage) -> Iterator[List[Line]]:
    """RST in it."""
    listener = s.listen()
    s.get("/secure/reset")
    server, opener = s.accept(listener)
    server.recv(65536)
    reset(server)
    yield [Line("error", f"peer closed connection in SSL handshake {RESET} while SSL handshaking "
                "to upstream", "upstream", opener)]


@scenario
def upstream_tls_silent(s: Stage) -> Iterator[List[Line]]:
    """No answer in it."""
    listener = s.listen()
    s.get("/secure/silent")
    _, opener = s.accept(listener)
    yield [Line("error", f"upstream timed out {TIMEOUT} while SSL handshaking to upstream",
                "upstream", opener)]


@scenario
def upstream_tls_nonsense(s: Stage) -> Iterator[List[Line]]:
    """An upstream that does not speak TLS."""
    listener = s.listen()
    s.get("/secure/plain")
    server, opener = s.accept(listener)
    server.recv(65536)
    server.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    yield [Line("error|crit", "SSL_do_handshake() failed (SSL:", "upstream", opener)]


@scenario
def upstream_certificate_of_another(s: Stage) -> Iterator[List[Line]]:
    """A certificate that nginx trusts, for another name."""
    listener = s.listen()
    s.get("/verified/name")
    server, opener = s.accept(listener)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(HOME / "cert.pem", HOME / "key.pem")
    with contextlib.suppress(ssl.SSLError, OSError):
        context.wrap_socket(server.dup(), server_side=True)
    yield [Line("error", "upstream SSL certificate does not match", "upstream", opener)]


@scenario
def upstream_header_too_big(s: Stage) -> Iterator[List[Line]]:
    """More header than nginx has room for."""
    listener = s.listen()
    s.get("/app/big")
    server, opener = s.accept(listener)
    server.recv(65536)
    server.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9000)
    yield [Line("error", "upstream sent too big header while", "upstream", opener)]


@scenario
def upstream_of_old(s: Stage) -> Iterator[List[Line]]:
    """An answer without a header: nginx puts up with it."""
    listener = s.listen()
    s.get("/app/old")
    server, _ = s.accept(listener)
    server.recv(65536)
    server.sendall(b"hello\n")
    server.close()
    yield [Line("error", "upstream sent no valid HTTP/1.0 header while")]


@scenario
def upstream_probes_unanswered(s: Stage) -> Iterator[List[Line]]:
    """An upstream that is gone after it has acknowledged the request."""
    for name, value in (("time", "1"), ("intvl", "1"), ("probes", "1")):
        s.network.set(NGINX, f"net/ipv4/tcp_keepalive_{name}", value)
    server = s.puppet(UPSTREAM, f"{PUPPET_NET}.250", APP)
    s.get("/probed/gone")
    server.accept()
    server.read(b"\r\n\r\n")
    server.send(ACK)
    assert server.peer
    yield [Line("error", f"recv() failed {TIMEOUT} while reading response header from upstream"
                f"|upstream prematurely closed connection {TIMEOUT}", "upstream", server.peer)]


# ---- Stream -------------------------------------------------------------------------------------

def session(s: Stage) -> Tuple[socket.socket, socket.socket, Address]:
    """A proxied session with data both ways."""
    listener = s.listen(7000)
    client = s.connect(STREAM)
    server, opener = s.accept(listener)
    for one, other in ((client, server), (server, client)):
        one.sendall(b"data")
        other.recv(4)
    return client, server, opener


OPENED = [Line("info", "connected to 0.0.0.0:"), Line("info", "proxy 10.77.0.2:")]


@scenario
def stream_client_closes(s: Stage) -> Iterator[List[Line]]:
    """The client first."""
    client, server, _ = session(s)
    line = Line("info", "client disconnected, bytes from/to client:4/4", "client", at(client))
    client.shutdown(socket.SHUT_WR)
    server.recv(1)
    server.close()
    yield [*OPENED, line]


@scenario
def stream_upstream_closes(s: Stage) -> Iterator[List[Line]]:
    """The upstream first."""
    client, server, opener = session(s)
    server.shutdown(socket.SHUT_WR)
    client.recv(1)
    client.close()
    yield [*OPENED, Line("info", "upstream disconnected, bytes", "upstream", opener)]


@scenario
def stream_client_resets(s: Stage) -> Iterator[List[Line]]:
    """RST by the client."""
    client, _, _ = session(s)
    line = Line("info", f"recv() failed {RESET} while proxying and reading from client", "client",
                at(client))
    done = Line("info", "client disconnected, bytes", "client", at(client))
    reset(client)
    yield [*OPENED, line, done]


@scenario
def stream_upstream_resets(s: Stage) -> Iterator[List[Line]]:
    """RST by the upstream."""
    _, server, opener = session(s)
    reset(server)
    yield [*OPENED, Line("error", f"recv() failed {RESET} while proxying and reading from upstream",
                         "upstream", opener),
           Line("info", "upstream disconnected, bytes", "upstream", opener)]


@scenario
def stream_idle(s: Stage) -> Iterator[List[Line]]:
    """Nobody says anything for proxy_timeout; neither leg is guilty."""
    session(s)
    yield [*OPENED, Line("info", f"connection timed out {TIMEOUT} while proxying connection")]


@scenario
def stream_refused(s: Stage) -> Iterator[List[Line]]:
    """Nobody listens."""
    s.connect(STREAM)
    yield [OPENED[0], Line("error", "connect() failed (111: Connection refused) while connecting to "
                           "upstream", "upstream")]


@scenario
def stream_tls_reset(s: Stage) -> Iterator[List[Line]]:
    """RST in the client's TLS handshake."""
    client = s.connect(STREAM_TLS)
    client.sendall(hello())
    client.recv(100)
    line = Line("info", f"peer closed connection in SSL handshake {RESET} while SSL handshaking",
                "client", at(client))
    reset(client)
    yield [OPENED[0], line]


@scenario
def stream_upstream_tls_reset(s: Stage) -> Iterator[List[Line]]:
    """RST in the handshake with the upstream."""
    listener = s.listen(7000)
    s.connect(STREAM + 3)
    server, opener = s.accept(listener)
    server.recv(65536)
    reset(server)
    yield [OPENED[0], Line("error", f"peer closed connection in SSL handshake {RESET} while SSL "
                           "handshaking to upstream", "upstream", opener)]


# ---- Mail ---------------------------------------------------------------------------------------

CONNECTED = Line("info", "connected to 0.0.0.0:")


def greeted(s: Stage, port: int = IMAP) -> socket.socket:
    """An IMAP client that has been greeted."""
    client = s.connect(port)
    client.recv(100)
    return client


def logged_in(s: Stage, status: str = "OK") -> Tuple[socket.socket, socket.socket]:
    """An IMAP client whose name was checked, and the listener that nginx is sent to."""
    auth, server = s.listen(AUTH, f"{UPSTREAM_NET}.1"), s.listen(IMAP)
    client = greeted(s)
    client.sendall(b"a login tea secret\r\n")
    asked, _ = s.accept(auth)
    asked.recv(65536)
    asked.sendall(f"HTTP/1.0 200 OK\r\nAuth-Status: {status}\r\nAuth-Server: {s.app}\r\n"
                  f"Auth-Port: {IMAP}\r\n\r\n".encode())
    asked.close()
    auth.close()
    return client, server


@scenario
def mail_client_resets(s: Stage) -> Iterator[List[Line]]:
    """RST before the login."""
    client = greeted(s)
    line = Line("info", f"recv() failed {RESET} while in auth state", "client", at(client))
    reset(client)
    yield [CONNECTED, line]


@scenario
def mail_client_silent(s: Stage) -> Iterator[List[Line]]:
    """No login."""
    client = greeted(s)
    yield [CONNECTED, Line("info", f"client timed out {TIMEOUT} while in auth state", "client",
                           at(client))]


@scenario
def mail_check_refused(s: Stage) -> Iterator[List[Line]]:
    """The server that checks names does not listen."""
    client = greeted(s)
    client.sendall(b"a login tea secret\r\n")
    yield [CONNECTED, Line("error", "recv() failed (111: Connection refused) while in http auth "
                           "state", "upstream")]


@scenario
def mail_check_silent(s: Stage) -> Iterator[List[Line]]:
    """It does not answer."""
    auth = s.listen(AUTH, f"{UPSTREAM_NET}.2")
    client = greeted(s, IMAP + 1)
    client.sendall(b"a login tea secret\r\n")
    _, opener = s.accept(auth)
    yield [CONNECTED, Line("error", f"auth http server {UPSTREAM_NET}.2:{AUTH} timed out {TIMEOUT} "
                           "while in http auth state", "upstream", opener)]


@scenario
def mail_upstream_resets(s: Stage) -> Iterator[List[Line]]:
    """RST instead of the upstream's greeting."""
    _, listener = logged_in(s)
    server, opener = s.accept(listener)
    reset(server)
    yield [CONNECTED, Line("error|info", f"recv() failed {RESET} while", "upstream", opener)]


@scenario
def mail_upstream_silent(s: Stage) -> Iterator[List[Line]]:
    """No greeting: at info, and yet not the client."""
    _, listener = logged_in(s)
    _, opener = s.accept(listener)
    yield [CONNECTED, Line("info", f"upstream timed out {TIMEOUT} while", "upstream", opener)]


@scenario
def mail_upstream_nonsense(s: Stage) -> Iterator[List[Line]]:
    """Not a greeting that nginx understands."""
    _, listener = logged_in(s)
    server, opener = s.accept(listener)
    server.sendall(b"* BYE\r\n")
    yield [CONNECTED, Line("error", "upstream sent invalid response", "upstream", opener)]


@scenario
def mail_client_resets_session(s: Stage) -> Iterator[List[Line]]:
    """RST in the proxied session."""
    client, listener = logged_in(s)
    server, _ = s.accept(listener)
    server.sendall(b"* OK ready\r\n")
    server.recv(100)
    server.sendall(b"+ OK\r\n")
    server.recv(100)
    server.sendall(b"+ OK\r\n")
    server.recv(100)
    server.sendall(b"a OK done\r\n")
    client.recv(100)
    line = Line("info", f"recv() failed {RESET} while proxying", "client", at(client))
    reset(client)
    yield [CONNECTED, Line("info", "client logged in"), line, Line("info", "proxied session done")]


# ---- Recording ----------------------------------------------------------------------------------

HOME = Path()


class Lines:
    """The error log, line by line."""

    def __init__(self, nginx: Nginx) -> None:
        self._nginx = nginx
        self._number = 0
        self._owners: Dict[str, int] = {}
        self.taken = 0

    def begin(self, number: int) -> None:
        """What earlier scenarios left open ends when they end, and is nobody's concern."""
        self._number = number

    def _is_ours(self, line: str) -> bool:
        connection = re.search(r": (\*\d+) ", line)
        client = re.search(r"client:? 10\.77\.[13]\.(\d+)", line)
        assert connection, line
        owner = int(client[1]) if client else self._number
        return self._owners.setdefault(connection[1], owner) == self._number

    def pass_over(self) -> None:
        """Takes what there is, whatever it is."""
        self.taken = len(error_lines(self._nginx.error_log()))

    def take(self, expected: List[Line], name: str) -> List[Dict[str, object]]:
        """Waits for these lines, and for no other."""
        waiting = list(expected)
        found: List[Dict[str, object]] = []
        for _ in range(1000):
            lines = error_lines(self._nginx.error_log())[self.taken:]
            for line in lines:
                self.taken += 1
                if not self._is_ours(line):
                    continue
                number = next((i for i, one in enumerate(waiting) if is_it(one, line)), None)
                if number is None:
                    raise RuntimeError(f"{name}: nobody expects {line}")
                one = waiting.pop(number)
                found.append({"scenario": name, "line": self.taken, "leg": one.leg, "opener":
                              f"{one.opener[0]}:{one.opener[1]}" if one.opener else None})
            if not waiting:
                return found
            time.sleep(0.01)
        raise RuntimeError(f"{name}: nginx did not log {waiting}")


def is_it(expected: Line, line: str) -> bool:
    """Whether a line of the log is the one that is meant."""
    level = re.match(r"\S+ \S+ \[(\w*)\]", line)
    return (level is not None and level[1] in expected.level.split("|")
            and any(text in line for text in expected.text.split("|")))


def record(target: Path, home: Path) -> None:
    """Plays every scenario, one after the other."""
    truth: List[Dict[str, object]] = []
    faults: List[str] = []
    with Network() as network, Nginx(network, home, config=configuration) as nginx:
        network.ip(NGINX, "route", "add", "unreachable", UNREACHABLE)
        network.ip(NGINX, "route", "add", "prohibit", PROHIBITED)
        network.neighbour(SILENT, PUPPET_MACS[UPSTREAM])
        nginx.forget_start()
        lines = Lines(nginx)
        with Capture(network, target / "capture.pcap") as capture:
            for number, play in enumerate(SCENARIOS, 11):
                stage = Stage(network, number)
                lines.begin(number)
                try:
                    for expected in play(stage):
                        truth += lines.take(expected, play.__name__)
                except Exception:  # one broken scenario must not hide what the others found
                    faults.append(f"{play.__name__}: {traceback.format_exc()}")
                    time.sleep(1.5)
                    lines.pass_over()
                finally:
                    stage.end()
            settle(0.5)
            capture.stop()
        (target / "error.log").write_bytes(nginx.error_log())
    (target / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    if faults:
        sys.exit("\n".join(faults))


def main() -> None:
    """The command."""
    global HOME  # the certificate that an upstream shows is nginx's own
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directory", type=Path, metavar="OUTDIR")
    target = parser.parse_args().directory
    target.mkdir(parents=True, exist_ok=True)
    HOME = Path(tempfile.mkdtemp(prefix="rstdiag-lines-"))
    HOME.chmod(0o755)
    try:
        record(target, HOME)
    finally:
        shutil.rmtree(HOME, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
