# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts made of network namespaces: three on one switch; and the capture at a host's port.

A socket belongs to the namespace in which it was made, whichever thread uses it later. So the
whole lab is one process: it steps into a namespace only to make a socket, and a scenario can
hold both ends of a story in one script.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Callable, Iterator, List, Optional, Tuple, TypeVar

CLIENT, NGINX, UPSTREAM = "client", "nginx", "upstream"
HOSTS = (CLIENT, NGINX, UPSTREAM)
HUB = "hub"

NGINX_IP = "10.77.0.2"
CLIENT_NET = "10.77.1"
UPSTREAM_NET = "10.77.2"
# Addresses that no kernel has: only a puppet, or nobody, answers there.
PUPPET_NET = "10.77.3"
# nginx's kernel acknowledges at once what comes from this network, and from the upstream's
# addresses from this one on, so that the ACK of their FIN precedes nginx's own FIN: a four-way
# close. Towards everybody else the ACK waits up to 40 ms for something to ride on, and nginx is
# quicker than that: a three-way close. The FIN of a peer that sent no data waits for the kernel's
# next tick only, so whoever leaves without a word has to be prompt.
PROMPT_NET = "10.77.4"
PROMPT_FROM = 128

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def run(*command: str) -> None:
    """Run a set-up command; its complaint is the exception's text."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout.decode(errors='replace').strip()}")


def _descendants(process: int) -> Iterator[int]:
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        for child in children.read_text().split():
            yield int(child)
            yield from _descendants(int(child))


def _is_at_work(process: int) -> bool:
    """Whether it uses the processor, or would if it got it."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "R"
    except OSError:
        return False  # it has just ended


def settle(seconds: float, is_held_up: Callable[[], bool] = lambda: False,
           patience: float = 10) -> None:
    """Lets what was sent arrive, and whoever gets it act on it: for so long, and then, on a
    machine that is too busy for that, until none of this lab's programs is at work, or waits to
    go on."""
    time.sleep(seconds)
    deadline, at_rest = time.monotonic() + patience, 0
    while at_rest < 3 and time.monotonic() < deadline:
        try:
            at_work = any(map(_is_at_work, _descendants(os.getpid()))) or is_held_up()
        except OSError:
            at_work = False
        at_rest = 0 if at_work else at_rest + 1
        time.sleep(0.002)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Hosts:
    """Namespaces, named by this process's number so that two runs can coexist. How they are
    cabled is `_build`'s, of the lab that inherits this."""

    def __init__(self) -> None:
        self._prefix = f"rstdiag-{os.getpid()}"
        self._made: List[str] = []

    def __enter__(self: "Lab") -> "Lab":
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(self._made):
            subprocess.run(("ip", "netns", "del", name), stderr=subprocess.DEVNULL, check=False)
        self._made.clear()

    def name(self, host: str) -> str:
        """The namespace of a host."""
        return f"{self._prefix}-{host}"

    def command(self, host: str, *command: str) -> Tuple[str, ...]:
        """`command` as it is run on a host. `ip netns exec` execs: the pid is the command's."""
        return ("ip", "netns", "exec", self.name(host), *command)

    @contextlib.contextmanager
    def inside(self, host: str) -> Iterator[None]:
        """Moves the calling thread to a host for as long as it takes to make a socket."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            target = os.open(f"/run/netns/{self.name(host)}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _enter(target)
            finally:
                os.close(target)
            try:
                yield
            finally:
                _enter(home)
        finally:
            os.close(home)

    def tcp_socket(self, host: str) -> socket.socket:
        """A TCP socket that lives on a host."""
        with self.inside(host):
            return socket.socket(socket.AF_INET, socket.SOCK_STREAM)

    def wire(self, host: str, port: str = "eth0") -> socket.socket:
        """A raw Ethernet socket at a host's port: it sees and sends whole frames."""
        with self.inside(host):
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
            raw.bind((port, 0x0800))
            return raw

    def mac(self, host: str) -> bytes:
        """The hardware address of a host's port."""
        with self.inside(host), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("eth0", 0))
            return bytes(raw.getsockname()[4])

    def set(self, host: str, key: str, value: str) -> None:
        """Sets what a host's kernel reads under /proc/sys."""
        run(*self.command(host, "sh", "-c", f"echo {value} >/proc/sys/{key}"))

    def _build(self) -> None:
        raise NotImplementedError

    def _make(self, *hosts: str) -> None:
        for host in hosts:
            self._made.append(self.name(host))  # before, so that no interrupt leaves it behind
            run("ip", "netns", "add", self.name(host))

    def _tune(self, host: str) -> None:
        """Small buffers keep blocked transfers, and so the capture, small.

        No congestion control that paces: a paced segment could still be queued when its sender
        closes, and would then carry the FIN.
        """
        self.set(host, "net/ipv4/tcp_congestion_control", "reno")
        self.set(host, "net/ipv4/tcp_wmem", "4096 16384 16384")
        self.set(host, "net/ipv4/tcp_rmem", "4096 16384 16384")
        self.set(host, "net/ipv6/conf/all/disable_ipv6", "1")

    def ip(self, host: str, *arguments: str) -> None:
        """The ip command on a host."""
        run("ip", "-n", self.name(host), *arguments)


Lab = TypeVar("Lab", bound=Hosts)


class Network(Hosts):
    """A client, nginx and an upstream on one switch."""

    def neighbour(self, address: str, mac: bytes) -> None:
        """Tells nginx's host where an address lives that no kernel answers ARP for."""
        lladdr = ":".join(f"{byte:02x}" for byte in mac)
        run("ip", "-n", self.name(NGINX), "neigh", "replace", address,
            "lladdr", lladdr, "dev", "eth0", "nud", "permanent")

    def _build(self) -> None:
        self._make(HUB, *HOSTS)
        self.ip(HUB, "link", "add", "br0", "type", "bridge")
        self.ip(HUB, "link", "set", "br0", "up")
        for host in HOSTS:
            self._plug_in(host)
        self._address(NGINX, NGINX_IP)
        for host, net in ((CLIENT, CLIENT_NET), (CLIENT, PROMPT_NET), (UPSTREAM, UPSTREAM_NET)):
            self._address(host, f"{net}.1")
            # Every address of the network is the host's own, without a list of them.
            self.ip(host, "route", "add", "local", f"{net}.0/24", "dev", "lo")
        for prompt in (f"{PROMPT_NET}.0/24", f"{UPSTREAM_NET}.{PROMPT_FROM}/25"):
            self.ip(NGINX, "route", "add", prompt, "dev", "eth0", "quickack", "1")

    def _plug_in(self, host: str) -> None:
        """One cable from the host's eth0 to a port of the bridge."""
        port = f"port-{host}"
        self.ip(HUB, "link", "add", port, "type", "veth",
                 "peer", "name", "eth0", "netns", self.name(host))
        self.ip(HUB, "link", "set", port, "master", "br0", "up")
        self.ip(host, "link", "set", "lo", "up")
        self.ip(host, "link", "set", "eth0", "up")
        self._tune(host)

    def _address(self, host: str, address: str) -> None:
        self.ip(host, "addr", "add", f"{address}/16", "dev", "eth0")


class Capture:
    """tcpdump on a host's only port: every connection, in order, as that host's kernel saw it.

    `probe` is an address that a client's datagram reaches through this port; `buffer` is the
    kernel's, in KiB; `interface` may be "any", too."""

    def __init__(self, network: Hosts, target: Path, host: str = NGINX,
                 probe: str = NGINX_IP, buffer: int = 65536,
                 interface: str = "eth0") -> None:
        self._network = network
        self._target = target
        self._host = host
        self._probe = probe
        self._buffer = buffer
        self._interface = interface
        self._process: Optional[subprocess.Popen[bytes]] = None

    def __enter__(self) -> "Capture":
        self._target.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            self._network.command(
                self._host, "tcpdump", "-i", self._interface, "-B", str(self._buffer),
                "--immediate-mode", "-s", "0", "-U", "-Z", "root", "-w", str(self._target), "tcp or udp port 9"),
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        try:
            self._wait_until_it_captures()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """Ends the capture, and refuses one that lost packets."""
        assert self._process
        self._process.send_signal(signal.SIGINT)
        said = self._process.communicate(timeout=10)[1].decode()
        dropped = re.search(r"(\d+) packets? dropped by kernel", said)
        if self._process.returncode or not dropped or int(dropped[1]):
            raise RuntimeError(f"tcpdump lost packets or failed: {said}")

    def _wait_until_it_captures(self) -> None:
        """Sends datagrams to the discard port until one stands in the file.

        That tcpdump says "listening" is not enough to rely on; a packet in the file is.
        """
        with self._network.inside(CLIENT):
            probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with probe:
            for _ in range(200):
                probe.sendto(b"", (self._probe, 9))
                if self._target.exists() and self._target.stat().st_size > 24:
                    return
                time.sleep(0.05)
        raise RuntimeError("tcpdump does not capture")
