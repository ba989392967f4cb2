#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The ninth lab: what is not HTTP. Real servers of other protocols, each of whose connections is
closed in order, reset when all was said, and reset in the middle of an upload.

    protocols.py OUTDIR    needs root, tcpdump, rsyslog, redis-server, postgresql, openssh-server,
                           mosquitto, vsftpd, netcat-openbsd, python3-aiosmtpd

Writes OUTDIR/capture.pcap and truth.json: of each connection its client, its protocol, and how it
was ended. The clients are sockets of this program, which says what it has to by itself, because
no client of these protocols ends a connection at a chosen moment.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import fcntl
import glob
import itertools
import json
import pwd
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Tuple

from network import CLIENT, NGINX, NGINX_IP, Capture, Network, settle

# How long anything may take, on however busy a machine.
PATIENCE = 120
# An upload that is cut, and how much of it the client's kernel takes before the server's does.
BULK = b"x" * 1_000_000
AHEAD = 100_000

Command = Tuple[str, ...]
Process = subprocess.Popen  # of bytes


# ---- Servers ----------------------------------------------------------------------------------

def as_user(name: str) -> Command:
    """Runs what follows as another user: some servers refuse root."""
    user = pwd.getpwnam(name)
    return ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")


def written(path: Path, text: str) -> str:
    """The name of a new file with this text."""
    path.write_text(text, encoding="utf-8")
    return str(path)


def syslog(home: Path) -> Command:
    """rsyslog"""
    conf = written(home / "rsyslog.conf", f"""
global(workDirectory="{home}")
module(load="imtcp")
input(type="imtcp" address="{NGINX_IP}" port="514")
*.* action(type="omfile" file="{home}/syslog")
""")
    return ("rsyslogd", "-n", "-f", conf, "-i", str(home / "rsyslog.pid"))


def redis(home: Path) -> Command:
    """redis-server"""
    return ("redis-server", "--bind", NGINX_IP, "--port", "6379", "--protected-mode", "no",
            "--save", "", "--dir", str(home))


def postgresql(home: Path) -> Command:
    """postgres"""
    programs = Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])
    data = home / "postgresql"
    data.mkdir()
    shutil.chown(data, "postgres", "postgres")
    user = as_user("postgres")
    subprocess.run((*user, str(programs / "initdb"), "-D", str(data), "-A", "trust", "--no-sync"),
                   check=True, stdout=subprocess.DEVNULL, cwd="/")
    with open(data / "pg_hba.conf", "a", encoding="utf-8") as access:
        access.write("host all all all trust\n")
    return (*user, str(programs / "postgres"), "-D", str(data), "-h", NGINX_IP, "-k", str(data))


def smtp(_: Path) -> Command:
    """aiosmtpd, which the system's own Python has"""
    return ("/usr/bin/python3", "-m", "aiosmtpd", "-n", "-l", f"{NGINX_IP}:25",
            "-c", "aiosmtpd.handlers.Sink")


def ssh(home: Path) -> Command:
    """sshd"""
    Path("/run/sshd").mkdir(exist_ok=True)
    subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / "key")),
                   check=True)
    return ("/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-h", str(home / "key"), "-p", "22",
            "-o", f"ListenAddress={NGINX_IP}", "-o", f"PidFile={home}/sshd.pid")


def mqtt(home: Path) -> Command:
    """mosquitto"""
    conf = written(home / "mosquitto.conf",
                   f"listener 1883 {NGINX_IP}\nallow_anonymous true\nuser root\n")
    return ("mosquitto", "-c", conf)


def ftp(home: Path) -> Command:
    """vsftpd"""
    root, empty = home / "ftp", home / "empty"
    (root / "in").mkdir(parents=True)
    empty.mkdir()
    shutil.chown(root / "in", "ftp", "nogroup")
    conf = written(home / "vsftpd.conf", f"""
listen=YES
background=NO
listen_address={NGINX_IP}
anonymous_enable=YES
no_anon_password=YES
anon_root={root}
anon_upload_enable=YES
write_enable=YES
anon_umask=022
secure_chroot_dir={empty}
seccomp_sandbox=NO
xferlog_enable=NO
""")
    return ("vsftpd", conf)


def netcat(_: Path) -> Command:
    """nc"""
    return ("nc", "-l", "-k", "-d", NGINX_IP, "9000")


# ---- Clients ----------------------------------------------------------------------------------

CLIENT_PORTS = itertools.count(20_000)


class Client:
    """A client's connection."""

    def __init__(self, network: Network, port: int, host: str = NGINX_IP) -> None:
        self.sock = network.tcp_socket(CLIENT)
        self.sock.settimeout(PATIENCE)
        # The system may choose one port twice, for two servers, and the truth is by ports.
        self.sock.bind(("", next(CLIENT_PORTS)))
        self.sock.connect((host, port))
        self.name = "%s:%d" % self.sock.getsockname()

    def say(self, data: bytes) -> None:
        """Sends all of it."""
        self.sock.sendall(data)

    def hear(self, until: bytes) -> bytes:
        """Takes what comes, up to these bytes."""
        heard = b""
        while until not in heard:
            more = self.sock.recv(65536)
            if not more:
                raise RuntimeError(f"closed before {until!r}: {heard!r}")
            heard += more
        return heard

    def ask(self, data: bytes, until: bytes) -> bytes:
        """Says something and takes the answer."""
        self.say(data)
        return self.hear(until)

    def close(self) -> None:
        """Closes in order, when the server has all of it and has closed as well."""
        self.arrive()
        self.sock.shutdown(socket.SHUT_WR)
        while self.sock.recv(65536):
            pass
        self.sock.close()

    def arrive(self) -> None:
        """Waits until the server's kernel has acknowledged everything."""
        left = array.array("i", [1])
        for _ in range(PATIENCE * 100):
            fcntl.ioctl(self.sock, termios.TIOCOUTQ, left)
            if left[0] == 0:
                return
            time.sleep(0.01)
        raise RuntimeError("the server does not acknowledge")

    def reset(self) -> None:
        """With linger 0 a close is a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def reset_in_upload(self) -> None:
        """Resets with most of an upload still to be sent: it is larger than both buffers. A server
        that reads as fast as this sends may get all of it."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, AHEAD)
        self.sock.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < len(BULK):
                sent += self.sock.send(BULK[sent:])
        self.reset()


Open = Callable[[Network], List[Client]]


def syslog_client(network: Network) -> List[Client]:
    """Nobody answers a log."""
    client = Client(network, 514)
    client.say(b"<13>1 2024-01-01T00:00:00Z web1 app - - - GET /a HTTP/1.1\n")
    client.say(b"<13>1 2024-01-01T00:00:01Z web1 app - - - done\n")
    return [client]


def redis_client(network: Network) -> List[Client]:
    """Ends in the middle of a value."""
    client = Client(network, 6379)
    client.ask(b"PING\r\n", b"+PONG\r\n")
    client.ask(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n", b"+OK\r\n")
    client.say(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$99999999\r\n")
    return [client]


def postgresql_client(network: Network) -> List[Client]:
    """Ends in the middle of a message."""
    client = Client(network, 5432)
    start = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0"
    ready = b"Z\0\0\0\x05I"
    client.ask(struct.pack(">I", len(start) + 4) + start, ready)
    query = b"SELECT 1;\0"
    client.ask(b"Q" + struct.pack(">I", len(query) + 4) + query, ready)
    client.say(b"Q" + struct.pack(">I", 99_999_999))
    return [client]


def smtp_client(network: Network) -> List[Client]:
    """Ends in the middle of a mail."""
    client = Client(network, 25)
    client.hear(b"\r\n")
    client.ask(b"HELO x\r\n", b"250 ")
    client.ask(b"MAIL FROM:<a@example.com>\r\n", b"250 ")
    client.ask(b"RCPT TO:<b@example.com>\r\n", b"250 ")
    client.ask(b"DATA\r\n", b"354 ")
    client.say(b"Subject: x\r\n\r\nfirst line\r\n")
    return [client]


def ssh_client(network: Network) -> List[Client]:
    """Ends before the keys are exchanged."""
    client = Client(network, 22)
    client.hear(b"\n")
    client.ask(b"SSH-2.0-lab\r\n", b"ssh-ed25519")
    client.say(struct.pack(">IB", 30_000, 4))
    return [client]


def mqtt_client(network: Network) -> List[Client]:
    """Ends in the middle of what it publishes."""
    client = Client(network, 1883)
    client.ask(b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01x", b"\x20\x02\0\0")
    client.say(b"\x30\xff\xff\xff\x7f\0\x01a")
    return [client]


def ftp_client(network: Network) -> List[Client]:
    """The control connection, and the one for the file, which ends without its end being told."""
    control = Client(network, 21)
    control.hear(b"220 ")
    control.ask(b"USER anonymous\r\n", b"230 ")
    answer = control.ask(b"PASV\r\n", b").\r\n")
    numbers = re.search(rb"\((\d+,\d+,\d+,\d+),(\d+),(\d+)\)", answer)
    assert numbers, answer
    data = Client(network, int(numbers[2]) * 256 + int(numbers[3]))
    name = data.name.replace(":", "-")
    control.ask(f"STOR in/{name}\r\n".encode(), b"150 ")
    data.say(b"a file\n")
    return [data, control]


def netcat_client(network: Network) -> List[Client]:
    """Bytes, and nothing else."""
    client = Client(network, 9000)
    client.say(b"NOTICE what follows is a file\n")
    return [client]


PROTOCOLS: Dict[str, Tuple[int, Callable[[Path], Command], Open]] = {
    "syslog": (514, syslog, syslog_client),
    "redis": (6379, redis, redis_client),
    "postgresql": (5432, postgresql, postgresql_client),
    "smtp": (25, smtp, smtp_client),
    "ssh": (22, ssh, ssh_client),
    "mqtt": (1883, mqtt, mqtt_client),
    "ftp": (21, ftp, ftp_client),
    "netcat": (9000, netcat, netcat_client),
}


# ---- Recording --------------------------------------------------------------------------------

@contextlib.contextmanager
def running(network: Network, home: Path) -> Iterator[None]:
    """All servers, when each of them answers."""
    processes: Dict[str, Process] = {}
    with contextlib.ExitStack() as stack:
        for name, (_, server, _) in PROTOCOLS.items():
            log = stack.enter_context(open(home / f"{name}.log", "wb"))
            process = subprocess.Popen(network.command(NGINX, *server(home)), cwd="/",
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       start_new_session=True)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            processes[name] = process
        for name, (port, _, _) in PROTOCOLS.items():
            wait_for(network, port, processes[name], home / f"{name}.log")
        yield


def wait_for(network: Network, port: int, process: Process, log: Path) -> None:
    """Waits until a port answers."""
    for _ in range(PATIENCE * 10):
        if process.poll() is not None:
            break
        with network.tcp_socket(CLIENT) as sock, contextlib.suppress(OSError):
            sock.connect((NGINX_IP, port))
            return
        time.sleep(0.1)
    raise RuntimeError(f"nobody listens on {port}: {log.read_text(errors='replace')}")


def closed(clients: List[Client]) -> None:
    """Each is closed in order."""
    for client in clients:
        client.close()


def reset(clients: List[Client]) -> None:
    """Each is reset when the server has all that was said, and has said all that it says."""
    for client in clients:
        client.arrive()
    settle(0.2)
    cut(clients, Client.reset)


def reset_in_upload(clients: List[Client]) -> None:
    """The first is reset in the middle of an upload, and the others when that was said."""
    cut(clients, Client.reset_in_upload)


def cut(clients: List[Client], first: Callable[[Client], None]) -> None:
    """Ends the first, and the others behind the server's word on that: FTP tells the control
    connection that the one for the file was cut."""
    first(clients[0])
    for other in clients[1:]:
        other.hear(b"\r\n")
        other.reset()


ENDS = (closed, reset, reset_in_upload)


def record(target: Path, home: Path) -> None:
    """Plays each protocol to each end."""
    truth: List[Dict[str, object]] = []
    with Network() as network, running(network, home):
        with Capture(network, target / "capture.pcap") as capture:
            for name, (_, _, begin) in PROTOCOLS.items():
                for end in ENDS:
                    clients = begin(network)
                    end(clients)
                    for client in clients:
                        is_first = client is clients[0]
                        how = end if is_first or end is closed else reset
                        truth.append({"protocol": name, "client": client.name,
                                      "end": how.__name__})
            settle(0.5)
            capture.stop()
    (target / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directory", type=Path, metavar="OUTDIR")
    target = parser.parse_args().directory
    target.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="rstdiag-protocols-"))
    home.chmod(0o755)
    try:
        record(target, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
