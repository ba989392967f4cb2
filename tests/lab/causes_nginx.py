# SPDX-License-Identifier: GPL-2.0-or-later
"""The second lab's nginx: few locations, and timeouts that a lab can wait for."""

from __future__ import annotations

from pathlib import Path

from routed import SERVER_NET

NGINX = f"{SERVER_NET}.250"
# `ABORTING` resets who does not finish the headers in a second.
PLAIN, SECURE, ABORTING = 80, 443, 8088


def configuration(home: Path) -> str:
    """nginx.conf. Where a request goes, and from which port, stands in the request: only so
    does the scenario know nginx's end of the upstream connection."""
    temporary = "\n".join(f"  {kind}_temp_path {home}/temp-{kind};"
                          for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""
user root;
daemon off;
pid {home}/nginx.pid;
error_log {home}/error.log info;
worker_processes 1;
worker_priority -20;
events {{ worker_connections 256; }}
http {{
  access_log off;
{temporary}
  default_type text/plain;
  keepalive_timeout 5s;
  server {{
    listen {NGINX}:{PLAIN};
    location / {{ return 200 "ok\\n"; }}
    location /refused/ {{ proxy_pass http://$http_x_to; proxy_bind $http_x_from; }}
    location /app/ {{ proxy_pass http://$http_x_to; proxy_bind $http_x_from; }}
    location /slow/ {{
      proxy_pass http://$http_x_to; proxy_bind $http_x_from; proxy_read_timeout 1s;
    }}
  }}
  server {{
    listen {NGINX}:{SECURE} ssl;
    ssl_certificate {home}/cert.pem;
    ssl_certificate_key {home}/key.pem;
    location / {{ return 200 "ok\\n"; }}
  }}
  server {{
    listen {NGINX}:{ABORTING};
    client_header_timeout 1s;
    reset_timedout_connection on;
  }}
}}
"""
