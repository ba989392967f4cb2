#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The fourth lab: HTTP/2 and TLS handshakes by the tools that people use, with a real nginx.

    http2.py OUTDIR      needs root, nginx, tcpdump, openssl, curl, nghttp

Writes OUTDIR/capture.pcap, keys.log (for Wireshark's tls.keylog_file), error.log and truth.json.
The truth is what each scenario did. Each has a client address to itself, so that its streams and
nginx's lines about them are known by that address.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional

from network import CLIENT, CLIENT_NET, NGINX_IP, UPSTREAM, UPSTREAM_NET, Capture, Network, settle
from proxy import MAIN, SECURE, Nginx

# HTTP/2 in the clear, and with a short patience in either form.
CLEAR, CLEAR_SHORT, SECURE_SHORT = 81, 82, 442
# One version only, no server of any name, one cipher only, only with a client's certificate.
TLS13, REJECTING, ONE_CIPHER, CERTIFIED = 444, 445, 446, 447
APP_PORT = 8080
PATIENCE = 10.0
SMALL, BIG = "x" * 300, "y" * 3_000_000

Truth = Dict[str, object]


def configuration(home: Path) -> str:
    """An nginx with one port for each thing that a handshake can fail by."""
    def server(listen: str, more: str = "") -> str:
        return f"""
    server {{
        listen {listen}; {more}
        root {home}/files;
        location /big {{ limit_rate 100k; }}
        location /app/ {{
            proxy_pass http://{UPSTREAM_NET}.1:{APP_PORT};
            proxy_request_buffering off; proxy_buffering off; proxy_http_version 1.1;
        }}
    }}"""
    return f"""
daemon off; master_process off; user root; pid {home}/nginx.pid;
error_log {home}/error.log info;
events {{ worker_connections 256; }}
http {{
    access_log off;
    ssl_certificate {home}/cert.pem; ssl_certificate_key {home}/key.pem;
    ssl_protocols TLSv1.2 TLSv1.3;
    {server(f"{MAIN}")}
    {server(f"{CLEAR} http2")}
    {server(f"{CLEAR_SHORT} http2", "keepalive_timeout 1s;")}
    {server(f"{SECURE} ssl http2")}
    {server(f"{SECURE_SHORT} ssl http2", "keepalive_timeout 1s;")}
    {server(f"{TLS13} ssl", "ssl_protocols TLSv1.3;")}
    server {{ listen {REJECTING} ssl; ssl_reject_handshake on; }}
    {server(f"{ONE_CIPHER} ssl",
            "ssl_protocols TLSv1.2; ssl_ciphers ECDHE-RSA-AES256-GCM-SHA384;")}
    {server(f"{CERTIFIED} ssl",
            f"ssl_verify_client on; ssl_client_certificate {home}/cert.pem;")}
}}
"""


class Application(threading.Thread):
    """The upstream. What becomes of a request stands in its path."""

    def __init__(self, network: Network) -> None:
        super().__init__(daemon=True)
        self._socket = network.tcp_socket(UPSTREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((f"{UPSTREAM_NET}.1", APP_PORT))
        self._socket.listen(64)
        self._held: List[socket.socket] = []
        self.asked = threading.Event()

    def run(self) -> None:
        while True:
            try:
                taken, _ = self._socket.accept()
            except OSError:
                return
            request = taken.recv(65536)
            if b"/app/half" in request:
                taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"z" * 400)
                taken.close()
            elif b"/app/die" in request:
                taken.close()
            else:
                self._held.append(taken)
                self.asked.set()

    def close(self) -> None:
        """Takes no more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Stage:
    """What a scenario is given."""

    def __init__(self, network: Network, application: Application, target: Path,
                 number: int) -> None:
        self.network = network
        self.application = application
        self.address = f"{CLIENT_NET}.{10 + number}"
        self._body = target / "body"
        self._environment = {**os.environ, "SSLKEYLOGFILE": str(target / "keys.log")}

    def start(self, *command: str, **more: int) -> "subprocess.Popen[bytes]":
        """A program of the client's host."""
        return subprocess.Popen(self.network.command(CLIENT, *command), env=self._environment,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)

    def curl(self, *arguments: str, status: int = 0, **more: int) -> None:
        """Curl, from this scenario's address; it has to end with this status."""
        with self.start("curl", "-s", "--interface", self.address, *arguments, **more) as curl:
            found = curl.wait(timeout=PATIENCE)
        if found != status:
            raise RuntimeError(f"curl {arguments} ended with {found}")

    def kill_curl(self, ready: Callable[[], bool], *arguments: str, **more: int) -> None:
        """Curl, killed once it has come as far as this."""
        self._body.unlink(missing_ok=True)
        with self.start("curl", "-s", "-N", "-o", str(self._body), "--interface", self.address,
                        *arguments, **more) as curl:
            until = time.monotonic() + PATIENCE
            while not ready():
                if time.monotonic() > until or curl.poll() is not None:
                    raise RuntimeError(f"curl {arguments} did not come that far")
                time.sleep(0.01)
            curl.kill()

    def has_body(self) -> bool:
        """Curl has a part of the response."""
        return self._body.exists() and self._body.stat().st_size > 0


def url(port: int, path: str) -> str:
    """An address of nginx's."""
    scheme = "http" if port in (MAIN, CLEAR, CLEAR_SHORT) else "https"
    return f"{scheme}://{NGINX_IP}:{port}{path}"


def h2(port: int) -> List[str]:
    """How curl is told to speak HTTP/2 there."""
    return ["--http2-prior-knowledge"] if port in (CLEAR, CLEAR_SHORT) else ["-k", "--http2"]


def exchange(stage: str, transaction: str, request: str, status: Optional[int],
             responses: int = 1, requests: int = 1, **more: object) -> Truth:
    """The truth of a connection on which something was asked."""
    return {"stage": stage, "transaction": transaction, "request": request, "status": status,
            "requests": requests, "responses": responses, **more}


def done(path: str, **more: object) -> Truth:
    """The truth of one that ended well."""
    return exchange("after_response", "completed", f"GET {path}", 200, **more)


def refused(evidence: str) -> Truth:
    """The truth of a handshake that an alert ended. OpenSSL does not encrypt its own, even in
    TLS 1.3, so no keys are needed to read it."""
    return {"stage": "tls_handshake", "transaction": "none", "severity": "warning",
            "cause": "tls_handshake_failed", "evidence": evidence}


# ---- Scenarios: each returns the truths of its streams, in order ---------------------------------

def complete(s: Stage, port: int) -> List[Truth]:
    s.curl(*h2(port), url(port, "/small"))
    return [done("/small", close_by="client")]


def several(s: Stage, port: int) -> List[Truth]:
    s.curl(*h2(port), url(port, "/small"), url(port, "/small?2"), url(port, "/small?3"))
    return [done("/small?3", close_by="client", requests=3, responses=3)]


def idle(s: Stage, port: int) -> List[Truth]:
    # Three seconds between two requests, and nginx waits for one; where the machine is busy, not
    # exactly one, and then the cause is not evident.
    s.curl(*h2(port), "--rate", "20/m", url(port, "/small"), url(port, "/small?2"))
    return [done("/small", close_by="server", cause_or_none="keepalive_timeout",
                 evidence="the server's GOAWAY: NO_ERROR, last stream 1"),
            done("/small?2", close_by="client")]


def killed_in_response(s: Stage, port: int) -> List[Truth]:
    s.kill_curl(s.has_body, *h2(port), url(port, "/big"))
    return [exchange("during_response", "failed", "GET /big", 200, responses=0,
                     close_by="client", cause="client_abort")]


def killed_in_request(s: Stage, port: int) -> List[Truth]:
    reading, writing = os.pipe()
    os.write(writing, b"a part of it")
    s.application.asked.clear()
    s.kill_curl(s.application.asked.is_set, *h2(port), "-T", "-", url(port, "/app/upload"),
                stdin=reading)
    os.close(reading)
    os.close(writing)
    return [exchange("during_request", "failed", "PUT /app/upload", None, responses=0,
                     close_by="client", cause="client_abort")]


def killed_while_waiting(s: Stage, port: int) -> List[Truth]:
    s.application.asked.clear()
    s.kill_curl(s.application.asked.is_set, *h2(port), url(port, "/app/silent"))
    return [exchange("awaiting_response", "failed", "GET /app/silent", None, responses=0,
                     close_by="client", cause="client_abort")]


def upstream_dies(s: Stage, port: int) -> List[Truth]:
    s.curl(*h2(port), url(port, "/app/die"))
    return [exchange("after_response", "completed", "GET /app/die", 502,
                     cause="upstream_failed",
                     upstream_log="upstream prematurely closed connection")]


def upstream_dies_in_response(s: Stage, port: int) -> List[Truth]:
    s.curl(*h2(port), url(port, "/app/half"), status=92)  # a stream that was not closed cleanly
    return [exchange("after_response", "failed", "GET /app/half", 200, responses=0,
                     cause="upstream_failed", evidence="the server's RST_STREAM: INTERNAL_ERROR",
                     upstream_log="upstream prematurely closed connection")]


def streams_at_once(s: Stage, port: int) -> List[Truth]:
    s.address = f"{CLIENT_NET}.1"  # nghttp cannot be told another
    with s.start("nghttp", "-n", url(port, "/small"), url(port, "/small?2")) as nghttp:
        assert nghttp.wait(timeout=PATIENCE) == 0
    return [{"stage": "after_response", "transaction": "completed", "status": 200,
             "requests": 2, "responses": 2}]


def unknown_ca_12(s: Stage) -> List[Truth]:
    s.curl("--tls-max", "1.2", url(SECURE, "/small"), status=60)
    return [refused("the client's TLS alert: unknown_ca (48)")]


def unknown_ca_13(s: Stage) -> List[Truth]:
    s.curl("--tlsv1.3", url(SECURE, "/small"), status=60)
    return [refused("the client's TLS alert: unknown_ca (48)")]


def no_common_version(s: Stage) -> List[Truth]:
    s.curl("-k", "--tls-max", "1.2", url(TLS13, "/small"), status=35)
    return [refused("the server's TLS alert: protocol_version (70)")]


def no_common_cipher(s: Stage) -> List[Truth]:
    s.curl("-k", "--tls-max", "1.2", "--ciphers", "ECDHE-RSA-AES128-GCM-SHA256",
           url(ONE_CIPHER, "/small"), status=35)
    return [refused("the server's TLS alert: handshake_failure (40)")]


def unknown_name(s: Stage) -> List[Truth]:
    s.curl("-k", url(REJECTING, "/small"), status=35)
    return [refused("the server's TLS alert: unrecognized_name (112)")]


def reset_in_handshake(s: Stage) -> List[Truth]:
    hello = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    try:
        context.wrap_bio(ssl.MemoryBIO(), hello).do_handshake()
    except ssl.SSLWantReadError:
        pass
    with s.network.tcp_socket(CLIENT) as raw:
        raw.settimeout(PATIENCE)
        raw.bind((s.address, 0))
        raw.connect((NGINX_IP, SECURE))
        raw.sendall(hello.read())
        raw.recv(1)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return [{"stage": "tls_handshake", "phase": "tls_handshake", "transaction": "none",
             "reset_by": "client"}]


def no_client_certificate(s: Stage) -> List[Truth]:
    s.curl("-k", "--http1.1", url(CERTIFIED, "/small"))
    return [exchange("after_response", "completed", "GET /small", 400)]


def plain_to_tls(s: Stage) -> List[Truth]:
    s.curl(url(SECURE, "/small").replace("https", "http"), "--http1.1")
    return [exchange("after_response", "completed", "GET /small", 400)]


def scenarios() -> Dict[str, Callable[[Stage], List[Truth]]]:
    """Every scenario by its name; those of HTTP/2 in the clear and inside TLS."""
    found: Dict[str, Callable[[Stage], List[Truth]]] = {}
    for kind, port, short in (("clear", CLEAR, CLEAR_SHORT), ("tls", SECURE, SECURE_SHORT)):
        for play in (complete, killed_in_response, killed_in_request,
                     killed_while_waiting, upstream_dies, upstream_dies_in_response):
            found[f"{kind}_{play.__name__}"] = lambda s, p=play, at=port: p(s, at)
        found[f"{kind}_idle"] = lambda s, at=short: idle(s, at)
    # In the clear, this curl fails when it is to use a connection again.
    found["tls_several"] = lambda s: several(s, SECURE)
    found["streams_at_once"] = lambda s: streams_at_once(s, CLEAR)
    for alone in (unknown_ca_12, unknown_ca_13, no_common_version, no_common_cipher,
                  unknown_name, reset_in_handshake, no_client_certificate, plain_to_tls):
        found[alone.__name__] = alone
    return found


def record(target: Path, home: Path) -> None:
    """Records every scenario, one after the other."""
    (target / "keys.log").unlink(missing_ok=True)
    truth: List[Truth] = []
    with Network() as network, Nginx(network, home, config=configuration) as nginx:
        application = Application(network)
        application.start()
        (home / "files/small").write_text(SMALL)
        (home / "files/big").write_text(BIG)
        with Capture(network, target / "capture.pcap") as capture:
            nginx.forget_start()
            for number, (name, play) in enumerate(scenarios().items()):
                stage = Stage(network, application, home, number)
                for told in play(stage):
                    truth.append({"scenario": name, "address": stage.address, **told})
            settle(0.5)  # the last packets, and what nginx says about them
            capture.stop()
        application.close()
        (target / "error.log").write_bytes(nginx.error_log())
    shutil.copyfile(home / "keys.log", target / "keys.log")
    (target / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directory", type=Path, metavar="OUTDIR")
    target = parser.parse_args().directory
    target.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="rstdiag-http2-"))
    home.chmod(0o755)
    try:
        record(target, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
