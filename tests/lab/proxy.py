# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's nginx: its configuration, and its life from start to stop."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Callable, List, Optional

from network import (CLIENT, CLIENT_NET, NGINX, NGINX_IP, PROMPT_FROM, PROMPT_NET, PUPPET_NET,
                     UPSTREAM_NET, Hosts, run)

# Ports on which Wireshark looks for HTTP by itself. `TIMED` has timeouts of one second and ends
# with FIN, `ABORTING` the same with reset_timedout_connection.
MAIN, TIMED, ABORTING, SECURE = 80, 8080, 8088, 443
# Behind a load balancer that speaks the PROXY protocol.
PROXIED = 81
APP_PORT = 8080
CLOSED_PORT = 3128
POOLS = 5
FASTCGI_POOLS, GRPC_POOLS = range(5, 7), range(7, 14)

APP = f"{UPSTREAM_NET}.1"
PROMPT_APP = f"{UPSTREAM_NET}.{PROMPT_FROM + 1}"
PUPPET_APP = f"{PUPPET_NET}.250"
BLACK_HOLE = f"{PUPPET_NET}.251"

STATIC_FILES = {"logo.txt": 900, "catalog.txt": 120_000}


def pool_address(number: int) -> str:
    """A pool has an upstream address of its own, so that no other scenario takes its connection."""
    return f"{UPSTREAM_NET}.{11 + number}"


# Truth only: joins a connection number of the error log to the client port that a scenario knows.
_ACCESS_FIELDS = {
    "connection": "$connection",
    "connection_requests": "$connection_requests",
    "remote_addr": "$realip_remote_addr",
    "remote_port": "$realip_remote_port",
    "msec": "$msec",
    "time_iso8601": "$time_iso8601",
    "request": "$request",
    "status": "$status",
    "bytes_sent": "$bytes_sent",
    "request_time": "$request_time",
    "request_completion": "$request_completion",
    "host": "$host",
    "upstream_addr": "$upstream_addr",
    "upstream_status": "$upstream_status",
    "upstream_response_time": "$upstream_response_time",
}

# What each location is for stands in front of it; scenarios choose by URI.
_LOCATIONS = """
    location / { proxy_pass http://$app; }
    # The answer is passed on as it comes, so "half of it" is the same half on both legs.
    location /events/ { proxy_pass http://$app; proxy_buffering off; }
    # The request is passed on as it comes.
    location /upload/ {
        proxy_pass http://$app; proxy_request_buffering off; proxy_http_version 1.1;
    }
    # The upstream may not be silent for long.
    location /report/ {
        proxy_pass http://$app; proxy_buffering off; proxy_read_timeout 1s;
    }
    # Nowhere to put an answer but the client: what it does not take stays in the socket.
    location /export/ { proxy_pass http://$app; proxy_max_temp_file_size 0; }
    # The client's FIN is not taken for its departure.
    location /batch/ {
        proxy_pass http://$app; proxy_ignore_client_abort on; proxy_buffering off;
    }
    # nginx sends FIN after its answer and then listens until the client ends too.
    location /pay/ { proxy_pass http://$app; lingering_close always; }
    location /avatar/ { proxy_pass http://$app; client_max_body_size 1k; }
    # The request is passed on as it comes, and what comes after the answer is not waited for.
    location /import/ {
        proxy_pass http://$app; proxy_request_buffering off; proxy_http_version 1.1;
        lingering_close off;
    }
    location /static/ { alias files/; }
    location /beacon { return 200 "thanks\\n"; }
    location /wp-login.php { return 444; }
    # An upstream connection that nobody accepts has no other end that could tell its port,
    # so the request says which one to use.
    location /legacy/ {
        proxy_pass http://LEGACY; proxy_bind NGINX:$http_x_bind;
    }
    location /void/ {
        proxy_pass http://VOID; proxy_bind NGINX:$http_x_bind; proxy_connect_timeout 1s;
    }
    location /down/ { proxy_pass http://nobody; }
    location /socket/quiet {
        proxy_pass http://$app; proxy_http_version 1.1; proxy_read_timeout 1s;
        proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
    }
    # A WebSocket; the one above may not be silent for long.
    location /socket/ {
        proxy_pass http://$app; proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
    }
    location /puppet/ { proxy_pass http://PUPPET; }
    # Gateways, which speak no HTTP/1.
    location /fastcgi/ { fastcgi_pass APPLICATION; fastcgi_buffering off; }
    location /fastcgi/refused/ {
        fastcgi_pass LEGACY; fastcgi_bind NGINX:$http_x_bind;
    }
    location /uwsgi/ { uwsgi_pass APPLICATION; uwsgi_buffering off; }
    location /scgi/ { scgi_pass APPLICATION; scgi_buffering off; }
"""

# What the files that nginx comes with tell a gateway.
_PARAMS = "\n".join(
    f"  {kind}_param {name} ${variable};"
    for kind in ("fastcgi", "uwsgi", "scgi")
    for name, variable in (("QUERY_STRING", "query_string"), ("REQUEST_METHOD", "request_method"),
                           ("CONTENT_TYPE", "content_type"), ("REQUEST_URI", "request_uri"),
                           ("SERVER_PROTOCOL", "server_protocol"))
) + "\n" + "\n".join(f"  {kind}_param CONTENT_LENGTH $content_length;"
                     for kind in ("fastcgi", "uwsgi"))

_SHORT = """
    client_header_timeout 1s; client_body_timeout 1s; send_timeout 1s; keepalive_timeout 1s;
"""


def _locations() -> str:
    text = (_LOCATIONS.replace("APPLICATION", f"{APP}:{APP_PORT}")
            .replace("LEGACY", f"{APP}:{CLOSED_PORT}")
            .replace("VOID", f"{BLACK_HOLE}:{APP_PORT}")
            .replace("PUPPET", f"{PUPPET_APP}:{APP_PORT}")
            .replace("NGINX", NGINX_IP))
    pools = "".join(
        f"""    location /pool/{number}/ {{
        proxy_pass http://pool{number}; proxy_http_version 1.1; proxy_set_header Connection "";
    }}
""" for number in range(POOLS))
    pools += "".join(f"    location /fastcgi/{number}/ "
                     f"{{ fastcgi_pass pool{number}; fastcgi_keep_conn on; }}\n"
                     for number in FASTCGI_POOLS)
    pools += "".join(f"    location /grpc/{number}/ {{ grpc_pass grpc://pool{number}; }}\n"
                     for number in GRPC_POOLS)
    return text + pools


def _upstreams() -> str:
    single = {"app": APP, "app_prompt": PROMPT_APP}
    text = "".join(f"    upstream {name} {{ server {address}:{APP_PORT} max_fails=0; }}\n"
                   for name, address in single.items())
    text += f"    upstream nobody {{ server {APP}:{APP_PORT} down; }}\n"
    for number in (*range(POOLS), *FASTCGI_POOLS, *GRPC_POOLS):
        text += (f"    upstream pool{number} "
                 f"{{ server {pool_address(number)}:{APP_PORT} max_fails=0; keepalive 4; }}\n")
    return text


def _server(listen: str, extra: str) -> str:
    return f"""
  server {{
    listen {NGINX_IP}:{listen};
    server_name shop.example.com;
    {extra}
    {_locations()}
  }}"""


def configuration(home: Path) -> str:
    """nginx.conf. One worker: a pool of upstream connections belongs to a worker."""
    fields = ",".join(
        f'"{name}":{variable}' if name in ("connection", "connection_requests", "msec")
        else f'"{name}":"{variable}"' for name, variable in _ACCESS_FIELDS.items())
    temporary = "\n".join(f"  {kind}_temp_path {home}/temp-{kind};"
                          for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""
user root;
daemon off;
pid {home}/nginx.pid;
error_log {home}/error.log info;
worker_processes 1;
# Quicker than its own kernel's delayed ACK even on a busy machine (see network.py).
worker_priority -20;
events {{ worker_connections 1024; }}
http {{
  log_format truth escape=json '{{{fields}}}';
  access_log {home}/access.json truth;
{temporary}
{_PARAMS}
  default_type text/plain;
  keepalive_timeout 30s;
  lingering_timeout 3s;
  geo $app {{ default app; {PROMPT_NET}.0/24 app_prompt; }}
{_upstreams()}
{_server(f"{MAIN} default_server", "")}
{_server(f"{PROXIED} default_server proxy_protocol",
         f"set_real_ip_from {CLIENT_NET}.0/24; real_ip_header proxy_protocol;")}
{_server(f"{TIMED} default_server", _SHORT)}
{_server(f"{ABORTING} default_server", _SHORT + "reset_timedout_connection on;")}
{_server(f"{SECURE} ssl default_server",
         f"ssl_certificate {home}/cert.pem; ssl_certificate_key {home}/key.pem;")}
}}
"""


class Nginx:
    """Debian's nginx on its host, with everything it writes in one directory."""

    def __init__(self, network: Hosts, home: Path, host: str = NGINX, address: str = NGINX_IP,
                 config: Callable[[Path], str] = configuration) -> None:
        self._network = network
        self._home = home
        self._host = host
        self._address = address
        self._config = config
        self._process: Optional[subprocess.Popen[bytes]] = None

    def __enter__(self) -> "Nginx":
        self._write_files()
        config = self._home / "nginx.conf"
        config.write_text(self._config(self._home))
        self._process = subprocess.Popen(
            self._network.command(
                self._host, "env", "TZ=UTC", "nginx", "-p", str(self._home), "-c", str(config),
                "-e", str(self._home / "error.log")),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True)
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def forget_start(self) -> None:
        """Empties the logs: what nginx says while it starts is no part of the story."""
        for name in ("error.log", "access.json"):
            with open(self._home / name, "w", encoding="utf-8"):
                pass

    def error_log(self) -> bytes:
        """The error log so far."""
        return (self._home / "error.log").read_bytes()

    def access_log(self) -> bytes:
        """The access log so far."""
        return (self._home / "access.json").read_bytes()

    def _write_files(self) -> None:
        files = self._home / "files"
        files.mkdir()
        for name, size in STATIC_FILES.items():
            line = f"{name}: all work and no play\n".encode()
            (files / name).write_bytes((line * (size // len(line) + 1))[:size])
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30",
            "-subj", "/CN=shop.example.com", "-keyout", str(self._home / "key.pem"),
            "-out", str(self._home / "cert.pem"))

    def _wait_until_it_listens(self) -> None:
        """Connects until nginx accepts. Runs before the capture and before the logs count."""
        assert self._process
        for _ in range(100):
            if self._process.poll() is not None:
                assert self._process.stdout
                raise RuntimeError(f"nginx: {self._process.stdout.read().decode()}")
            with self._network.tcp_socket(CLIENT) as probe:
                try:
                    probe.connect((self._address, MAIN))
                    return
                except OSError:
                    time.sleep(0.05)
        raise RuntimeError("nginx does not listen")


def error_lines(log: bytes) -> List[str]:
    """The lines of an error log, the first being number 1."""
    return log.decode("utf-8", "replace").split("\n")[:-1]


def connection_number(line: str) -> Optional[int]:
    """`*N` of an error line."""
    found = re.match(r"\S+ \S+ \[\w+\] \d+#\d+: \*(\d+) ", line)
    return int(found[1]) if found else None


def client_address(line: str) -> Optional[str]:
    """The client that an error line names."""
    found = re.search(r", client: ([0-9.]+),|: \*\d+ client ([0-9.]+) closed", line)
    return (found[1] or found[2]) if found else None
