# SPDX-License-Identifier: GPL-2.0-or-later
"""Access lines of a real nginx in several formats, and what the client really sent.

Runs in a network namespace of its own:

    sudo unshare --net python3 tests/lab/access_log.py DIR FORMATS

FORMATS holds one `log_format` directive a line, with the name of its log. DIR gets a NAME.log
for each, and truth.json: one object for each request, in the order of the lines. Bytes are
characters of the same number.
"""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Dict, List

PORT, APP, BROKEN, CLOSED = 8080, 9001, 9002, 9003
PATIENCE = 10

_CONFIG = """
user root; daemon off; worker_processes 1;
pid HOME/nginx.pid; error_log HOME/error.log info;
events { worker_connections 64; }
http {
  client_body_temp_path HOME/t1; proxy_temp_path HOME/t2; fastcgi_temp_path HOME/t3;
  uwsgi_temp_path HOME/t4; scgi_temp_path HOME/t5;
  FORMATS
  LOGS
  upstream app { server 127.0.0.1:9001; }
  upstream retry { server 127.0.0.1:9002 max_fails=0; server 127.0.0.1:9001 backup; }
  server {
    listen 127.0.0.1:8080; server_name shop.example.com; client_header_timeout 1s;
    add_header X-Id $request_id always;
    location / { return 200 "thanks\\n"; }
    location /app { proxy_pass http://app; }
    location /retry { proxy_pass http://retry; }
    location /twice { proxy_pass http://127.0.0.1:9003; error_page 502 = @other; }
    location @other { proxy_pass http://app; }
    location /gone { return 444; }
  }
}
"""


def serve(port: int, answer: bytes) -> None:
    """An upstream that reads a head, answers, and closes."""
    listener = socket.create_server(("127.0.0.1", port))

    def loop() -> None:
        while True:
            sock, _ = listener.accept()
            with sock:
                head = b""
                while b"\r\n\r\n" not in head:
                    more = sock.recv(4096)
                    if not more:
                        break
                    head += more
                sock.sendall(answer)

    threading.Thread(target=loop, daemon=True).start()


def text(value: bytes) -> str:
    """Bytes as JSON can hold them."""
    return value.decode("latin-1")


class Client:
    """Sends one request after the other, and notes what it sent and got."""

    def __init__(self, home: Path, logs: List[Path]) -> None:
        self._home = home
        self._logs = logs
        self.truth: List[Dict[str, object]] = []

    def ask(self, target: bytes, upstream: str = "", statuses: str = "",
            request: bytes = b"", **headers: bytes) -> None:
        """One request on a connection of its own."""
        request = request or b"GET " + target + b" HTTP/1.1"
        lines = [request, b"Host: shop.example.com", b"Connection: close"]
        lines += [name.replace("_", "-").encode() + b": " + value
                  for name, value in headers.items()]
        before = time.time()
        with socket.create_connection(("127.0.0.1", PORT), timeout=PATIENCE) as sock:
            port = sock.getsockname()[1]
            sock.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
            answer = b""
            while more := sock.recv(65536):
                answer += more
        self._wait_for_line()
        head, _, body = answer.partition(b"\r\n\r\n")
        ids = [line[6:] for line in head.split(b"\r\n") if line.startswith(b"X-Id: ")]
        user = headers.get("Authorization")
        self.truth.append({
            "before": before, "after": time.time(),
            "remote_addr": "127.0.0.1", "remote_port": str(port),
            "server_addr": "127.0.0.1", "server_port": str(PORT),
            "connection_requests": "1",
            "status": text(head[9:12]) if head else "444",
            "bytes_sent": str(len(answer)), "body_bytes_sent": str(len(body)),
            # nginx counts what it understood.
            "request_length": str(len(b"\r\n".join(lines)) + 4) if target else None,
            "request": text(request), "request_uri": text(target) if target else None,
            "request_id": text(ids[0]) if ids else None,
            "http_referer": text(headers.get("Referer", b"")),
            "http_user_agent": text(headers.get("User_Agent", b"")),
            "http_x_forwarded_for": text(headers.get("X_Forwarded_For", b"")),
            "remote_user": text(base64.b64decode(user[6:]).split(b":")[0]) if user else "",
            "upstream_addr": upstream, "upstream_status": statuses,
        })

    def _wait_for_line(self) -> None:
        deadline = time.time() + PATIENCE
        wanted = len(self.truth) + 1
        while any(log.read_bytes().count(b"\n") < wanted for log in self._logs):
            if time.time() > deadline:
                raise RuntimeError("nginx wrote no line for the request")
            time.sleep(0.005)


def play(client: Client) -> None:
    """The requests."""
    app, broken, closed = (f"127.0.0.1:{port}" for port in (APP, BROKEN, CLOSED))
    client.ask(b"/plain?a=b")
    client.ask(b"/odd", User_Agent=b"\"quoted\" \\back\\ \xe4\xf6\xff\tTab [x] 200 -",
               Referer=b"http://r/\x7f\x80, client: 9.9.9.9", X_Forwarded_For=b"1.2.3.4, ::1")
    client.ask(b"/empty", Referer=b"", User_Agent=b"")
    client.ask(b"/user", Authorization=b"Basic " + base64.b64encode(
        b"a [24/Nov/2026:07:22:02 +0000] \"GET / HTTP/1.1\" 200:secret"))
    client.ask(b"/%22%5c\\x22<>|`{}'", User_Agent=b"a b c")
    client.ask(b"/app/one", app, "200")
    client.ask(b"/retry/two", f"{broken}, {app}", "502, 200")
    client.ask(b"/twice/three", f"{closed} : {app}", "502 : 200")
    client.ask(b"/gone")
    client.ask(b"", request=b"\x16\x03\x01\"\\\xff nonsense")


def main() -> None:
    """Writes the logs and the truth."""
    home = Path(sys.argv[1])
    formats = Path(sys.argv[2]).read_text("utf-8")
    subprocess.run(("ip", "link", "set", "lo", "up"), check=True)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"
    serve(APP, answer)
    serve(BROKEN, b"")
    names = [line.split()[1] for line in formats.splitlines()]
    logs = [home / f"{name}.log" for name in names]
    config = (_CONFIG.replace("FORMATS", formats)
              .replace("LOGS", "\n  ".join(
                  f"access_log {log} {log.stem};" for log in [*logs, home / "combined.log"]))
              .replace("HOME", str(home)))
    (home / "nginx.conf").write_text(config)
    nginx = subprocess.Popen(("nginx", "-p", str(home), "-c", str(home / "nginx.conf"),
                              "-e", str(home / "error.log")),
                             stdin=subprocess.DEVNULL)
    try:
        deadline = time.time() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", PORT)).close()
                break
            except OSError:
                if nginx.poll() is not None or time.time() > deadline:
                    raise
                time.sleep(0.02)
        client = Client(home, [*logs, home / "combined.log"])
        play(client)
        (home / "truth.json").write_text(json.dumps(client.truth, indent=1))
    finally:
        nginx.terminate()
        nginx.wait(PATIENCE)


if __name__ == "__main__":
    main()
