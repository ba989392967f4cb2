# SPDX-License-Identifier: GPL-2.0-or-later
"""Client, server and upstream behind a router, and what a router can do to a connection.

The router is a kernel that forwards, so each side sees the other's packets with a smaller TTL
than the router's own; and its firewall is netfilter itself, so a REJECT, a lost state or a
missing translation is made by the code that makes it elsewhere. Rules look addresses up in
sets: a scenario puts its own addresses there and disturbs nobody.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import socket
import struct
import subprocess
import threading
from collections import defaultdict
from typing import DefaultDict, List, Set

from network import CLIENT, UPSTREAM, Hosts
from puppet import Address, Received, ip_packet, parse, tcp_segment

ROUTER, SERVER = "router", "server"

CLIENT_NET, SERVER_NET, UPSTREAM_NET = "10.78.1", "10.78.2", "10.78.3"
# Addresses of services that the router translates to the server's of the same last byte.
SERVICE_NET = "10.78.9"
_NETS = {CLIENT: CLIENT_NET, SERVER: SERVER_NET, UPSTREAM: UPSTREAM_NET}
# The cables have networks of their own, so that a whole network can be a host's own address.
_CABLES = {CLIENT: "10.78.101", SERVER: "10.78.102", UPSTREAM: "10.78.103"}

# How long the router remembers a silent connection, and a silence that outlasts that.
STATE_TIMEOUT, SILENCE = 8, 9.5

# The IP identification of forged packets: that of nobody's next one.
_FORGED_ID = 0xBEEF

_RULES = """
table ip lab {
    # Who cannot send what to whom; pairs of source and destination.
    set dropped { type ipv4_addr . ipv4_addr; }
    set rejected { type ipv4_addr . ipv4_addr; }
    set rejected_ports { type ipv4_addr . ipv4_addr . inet_service; }
    # Connections of these addresses are tracked, and of the guarded ones only those pass that
    # the router remembers.
    set tracked { type ipv4_addr; }
    set guarded { type ipv4_addr; }
    map services { type ipv4_addr : ipv4_addr; }

    chain raw {
        type filter hook prerouting priority raw;
        ip saddr != @tracked ip daddr != @tracked notrack
    }
    chain translate {
        type nat hook prerouting priority dstnat;
        dnat to ip daddr map @services
    }
    chain forward {
        type filter hook forward priority filter;
        ip saddr . ip daddr @dropped drop
        ip saddr . ip daddr @rejected reject with tcp reset
        ip saddr . ip daddr . tcp dport @rejected_ports reject with tcp reset
        ct state invalid ip saddr @guarded reject with tcp reset
        ct state invalid ip daddr @guarded reject with tcp reset
    }
}
"""


class RoutedNetwork(Hosts):
    """Three hosts, each on a port of its own of the router."""

    def _build(self) -> None:
        if not shutil.which("nft"):
            raise RuntimeError("the router's firewall needs nft (Debian: nftables)")
        self._make(ROUTER, *_NETS)
        self.set(ROUTER, "net/ipv4/ip_forward", "1")
        for key in ("all", "default"):
            self.set(ROUTER, f"net/ipv4/conf/{key}/rp_filter", "0")
        for host in _NETS:
            self._plug_in(host)
        # What no rule translates goes nowhere.
        self.ip(ROUTER, "route", "add", "blackhole", f"{SERVICE_NET}.0/24")
        subprocess.run(self.command(ROUTER, "nft", "-f", "-"), input=_RULES.encode(), check=True)
        # After the rules, which load what has these: no connection is picked up in its middle.
        self.set(ROUTER, "net/netfilter/nf_conntrack_tcp_loose", "0")
        self.set(ROUTER, "net/netfilter/nf_conntrack_tcp_timeout_established",
                 str(STATE_TIMEOUT))
        # One repetition of a SYN-ACK instead of five: 3 s until a handshake is given up.
        self.set(SERVER, "net/ipv4/tcp_synack_retries", "1")

    def _plug_in(self, host: str) -> None:
        """One cable from the host's eth0 to a port of the router."""
        port, cable, net = f"port-{host}", _CABLES[host], f"{_NETS[host]}.0/24"
        self.ip(ROUTER, "link", "add", port, "type", "veth",
                 "peer", "name", "eth0", "netns", self.name(host))
        self.ip(ROUTER, "link", "set", port, "up")
        self.ip(ROUTER, "addr", "add", f"{cable}.254/24", "dev", port)
        self.ip(host, "link", "set", "lo", "up")
        self.ip(host, "link", "set", "eth0", "up")
        self.ip(host, "addr", "add", f"{cable}.1/24", "dev", "eth0")
        # Every address of the network is the host's own, without a list of them.
        self.ip(host, "route", "add", "local", net, "dev", "lo")
        self.ip(ROUTER, "route", "add", net, "via", f"{cable}.1")
        # The server acknowledges at once, so that an ACK never waits for data or FIN to ride
        # on. A client's ACK may: some scenarios live by that.
        quick = ("quickack", "1") if host == SERVER else ()
        self.ip(host, "route", "add", "default", "via", f"{cable}.254", *quick)
        self._tune(host)


class Router:
    """What a scenario can ask of the router."""

    def __init__(self, network: RoutedNetwork) -> None:
        self._network = network
        self._lane = SlowLane(network)

    def __enter__(self) -> "Router":
        self._lane.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._lane.stop()

    def put(self, name: str, element: str) -> None:
        """Adds to a set of the rules: works when it returns."""
        self._nft("add", name, element)

    def take(self, name: str, element: str) -> None:
        """Removes from a set of the rules."""
        self._nft("delete", name, element)

    def both_ways(self, name: str, one: str, other: str) -> None:
        """Adds a pair of addresses in either order."""
        self.put(name, f"{one} . {other}, {other} . {one}")

    def slow(self, source: str, port_of: str) -> None:
        """Sends what comes from an address through the lane where it can be held."""
        self._network.ip(ROUTER, "rule", "add", "from", source, "iif", f"port-{port_of}",
                          "lookup", str(SlowLane.TABLE))

    def hold(self, source: str) -> None:
        """Keeps what comes from a slow address until it is let go."""
        self._lane.hold(source)

    def let_go(self, source: str) -> None:
        """Sends on what was held, in its order."""
        self._lane.let_go(source)

    def eavesdrop(self, target: Address) -> "Eavesdropper":
        """Watches what clients send to an address and port."""
        return Eavesdropper(self._network.wire(ROUTER, "port-client"), target)

    def forge(self, source: Address, target: Address, seq: int, ack: int, flags: int,
              ttl: int) -> None:
        """Sends a segment as if it came from somebody else, who knows nothing of it."""
        with self._network.inside(ROUTER):
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        packet = ip_packet(source[0], target[0], _FORGED_ID,
                           tcp_segment(source, target, seq, ack, flags), ttl)
        with raw:
            raw.sendto(packet, (target[0], 0))

    def _nft(self, verb: str, name: str, element: str) -> None:
        command = self._network.command(ROUTER, "nft", verb, "element", "ip", "lab", name,
                                        f"{{ {element} }}")
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              check=False)
        if done.returncode:
            raise RuntimeError(f"nft {verb} {name} {element}: {done.stdout.decode()}")


class Eavesdropper:
    """The eyes of a box in the path that reads along and only sometimes acts."""

    def __init__(self, wire: socket.socket, target: Address) -> None:
        self._wire = wire
        self._target = target

    def __enter__(self) -> "Eavesdropper":
        return self

    def __exit__(self, *_: object) -> None:
        self._wire.close()

    def wait_for(self, word: bytes) -> Received:
        """The first segment that carries a word."""
        self._wire.settimeout(10)
        while True:
            got = parse(self._wire.recv(65536 + 14), self._target)
            if got and word in got.payload:
                return got


class SlowLane:
    """A detour inside the router on which packets can be held, in place of a long cable.

    It is a TUN device: what the kernel routes into it comes out here, and goes back into the
    kernel when it may. A packet on this lane is forwarded twice, so it loses two hops."""

    TABLE = 78
    _TUNSETIFF, _TUN_WITHOUT_HEADER = 0x400454CA, 0x1001

    def __init__(self, network: RoutedNetwork) -> None:
        with network.inside(ROUTER):
            self._device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            fcntl.ioctl(self._device, self._TUNSETIFF,
                        struct.pack("16sH22x", b"lane", self._TUN_WITHOUT_HEADER))
        network.ip(ROUTER, "link", "set", "lane", "up")
        network.ip(ROUTER, "route", "add", "default", "dev", "lane", "table", str(self.TABLE))
        self._lock = threading.Lock()
        self._holding: Set[str] = set()
        self._held: DefaultDict[str, List[bytes]] = defaultdict(list)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._forward, daemon=True)

    def start(self) -> None:
        """Opens the lane."""
        self._thread.start()

    def stop(self) -> None:
        """Closes the lane; what it holds is lost."""
        self._stop.set()
        self._thread.join()
        os.close(self._device)

    def hold(self, source: str) -> None:
        """See Router."""
        with self._lock:
            self._holding.add(source)

    def let_go(self, source: str) -> None:
        """See Router."""
        with self._lock:
            self._holding.discard(source)
            for packet in self._held.pop(source, []):
                os.write(self._device, packet)

    def _forward(self) -> None:
        while not self._stop.is_set():
            if not select.select([self._device], [], [], 0.1)[0]:
                continue
            packet = os.read(self._device, 65536)
            source = socket.inet_ntoa(packet[12:16]) if packet[0] >> 4 == 4 else ""
            with self._lock:
                if source in self._holding:
                    self._held[source].append(packet)
                elif source:
                    os.write(self._device, packet)
