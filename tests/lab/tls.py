#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The third lab: resets inside TLS 1.2 and 1.3, of HTTP/1.1 and HTTP/2, with the keys.

    tls.py OUTDIR      needs root, nginx, tcpdump, openssl

Writes OUTDIR/capture.pcap, keys.log (for Wireshark's tls.keylog_file) and truth.json. The truth
is what each scenario did.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import ssl
import struct
import sys
import tempfile
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

from network import CLIENT, NGINX_IP, UPSTREAM, UPSTREAM_NET, Capture, Network, settle
from proxy import MAIN, SECURE, Nginx

SILENT_PORT = 8080
VERSIONS = {"tls12": ssl.TLSVersion.TLSv1_2, "tls13": ssl.TLSVersion.TLSv1_3}
SMALL, BIG = "x" * 300, "y" * 3_000_000

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
END_STREAM, END_HEADERS = 1, 4

Steps = Callable[[ssl.SSLSocket], None]


def configuration(home: Path) -> str:
    """An nginx that answers at once, slowly, or never, inside TLS."""
    return f"""
daemon off; master_process off; user root; pid {home}/nginx.pid;
error_log {home}/error.log info;
events {{ worker_connections 256; }}
http {{
    access_log off;
    server {{
        listen {MAIN};
        listen {SECURE} ssl http2;
        ssl_certificate {home}/cert.pem; ssl_certificate_key {home}/key.pem;
        ssl_protocols TLSv1.2 TLSv1.3;
        root {home}/files;
        location /big {{ limit_rate 100k; }}
        location /silent {{ proxy_pass http://{UPSTREAM_NET}.1:{SILENT_PORT}; }}
    }}
}}
"""


# ---- What a client says -----------------------------------------------------------------------

def http1(line: str, *headers: str, body: bytes = b"") -> bytes:
    """A request, or what there is of it."""
    lines = [f"{line} HTTP/1.1", "Host: shop.example.com", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """An HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def http2(method: int, path: str, stream: int, end: bool = True) -> bytes:
    """A HEADERS frame; the method is an index of HPACK's static table."""
    literal = bytes([0x04, len(path)]) + path.encode()
    host = bytes([0x01, 4]) + b"shop"
    flags = END_HEADERS | (END_STREAM if end else 0)
    return frame(1, flags, stream, bytes([0x80 | method, 0x87]) + literal + host)


GET, POST = 2, 3
HELLO = PREFACE + frame(4, 0, 0, b"")


def read_for(seconds: float) -> Steps:
    """Takes what comes within this time."""
    def steps(tls: ssl.SSLSocket) -> None:
        tls.settimeout(seconds)
        try:
            while tls.recv(65536):
                pass
        except (TimeoutError, socket.timeout):
            pass
    return steps


def say(*texts: bytes, wait: float = 0.3) -> Steps:
    """Says things, and takes what comes."""
    def steps(tls: ssl.SSLSocket) -> None:
        for text in texts:
            tls.sendall(text)
            read_for(wait)(tls)
    return steps


def scenarios() -> Dict[str, Tuple[str, Steps, Dict[str, object]]]:
    """Name: protocol, what the client does before it resets, and what that cuts."""
    def truth(phase: str, transaction: str, requests: int, responses: int,
              request: Optional[str] = None) -> Dict[str, object]:
        return {"phase": phase, "transaction": transaction, "requests": requests,
                "responses": responses, "request": request}

    upload = http1("POST /silent/upload", "Content-Length: 100", body=b"0123456789")
    return {
        "before_request": ("http/1.1", say(), truth("before_request", "none", 0, 0)),
        "in_request": ("http/1.1", say(upload),
                       truth("during_request", "failed", 1, 0, "POST /silent/upload")),
        "while_waiting": ("http/1.1", say(http1("GET /silent/a")),
                          truth("awaiting_response", "failed", 1, 0, "GET /silent/a")),
        "in_response": ("http/1.1", say(http1("GET /small"), http1("GET /big")),
                        truth("during_response", "failed", 2, 1, "GET /big")),
        "after_response": ("http/1.1", say(http1("GET /small"), http1("GET /small")),
                           truth("after_response", "completed", 2, 2, "GET /small")),
        "h2_before_request": ("h2", say(HELLO), truth("before_request", "none", 0, 0)),
        "h2_in_request": ("h2", say(HELLO + http2(POST, "/silent/upload", 1, end=False)
                                    + frame(0, 0, 1, b"0123456789")),
                          truth("during_request", "failed", 1, 0, "POST /silent/upload")),
        "h2_while_waiting": ("h2", say(HELLO + http2(GET, "/small", 1),
                                       http2(GET, "/silent/a", 3)),
                             truth("awaiting_response", "failed", 2, 1, "GET /silent/a")),
        "h2_in_response": ("h2", say(HELLO + http2(GET, "/big", 1)),
                           truth("during_response", "failed", 1, 0, "GET /big")),
        "h2_after_response": ("h2", say(HELLO + http2(GET, "/small", 1) + http2(GET, "/small", 3)),
                              truth("after_response", "completed", 2, 2, "GET /small")),
    }


# ---- Recording --------------------------------------------------------------------------------

def play(network: Network, version: str, protocol: str, steps: Steps, keys: Path) -> str:
    """Plays one connection and resets it; returns the client's address and port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = VERSIONS[version]
    context.keylog_filename = str(keys)
    context.set_alpn_protocols([protocol])
    raw = network.tcp_socket(CLIENT)
    raw.settimeout(5)
    raw.connect((NGINX_IP, SECURE))
    host, port = raw.getsockname()
    tls = context.wrap_socket(raw)
    assert tls.selected_alpn_protocol() == protocol
    steps(tls)
    # With linger 0 a close is a RST, and TLS says no farewell.
    tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    tls.close()
    return f"{host}:{port}"


def record(target: Path, home: Path) -> None:
    """Records every scenario in every version."""
    keys = target / "keys.log"
    keys.unlink(missing_ok=True)
    truth: List[Dict[str, object]] = []
    with Network() as network, network.tcp_socket(UPSTREAM) as silent:
        # The kernel takes the connection, and nobody ever answers.
        silent.bind((f"{UPSTREAM_NET}.1", SILENT_PORT))
        silent.listen(64)
        with Nginx(network, home, config=configuration):
            (home / "files/small").write_text(SMALL)
            (home / "files/big").write_text(BIG)
            with Capture(network, target / "capture.pcap") as capture:
                for version in VERSIONS:
                    for name, (protocol, steps, told) in scenarios().items():
                        client = play(network, version, protocol, steps, keys)
                        truth.append({"scenario": f"{version}_{name}", "client": client, **told})
                settle(0.5)
                capture.stop()
    (target / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directory", type=Path, metavar="OUTDIR")
    target = parser.parse_args().directory
    target.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="rstdiag-tls-"))
    home.chmod(0o755)
    try:
        record(target, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
