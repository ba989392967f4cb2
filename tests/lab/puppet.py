# SPDX-License-Identifier: GPL-2.0-or-later
"""A TCP end without a kernel: it sends exactly the segments that a scenario asks for.

Some endings are a race when kernels make them, a simultaneous close above all. A puppet has a
hardware and an IP address of its own on the lab's switch, so nobody else answers for it, and
what it leaves out is certain to be missing from the capture.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from typing import Callable, Optional, Tuple

from network import CLIENT, NGINX, UPSTREAM, Network

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
# One hardware address for each host's puppets: the switch learns which port it lives at.
PUPPET_MACS = {CLIENT: bytes.fromhex("02004d570001"), UPSTREAM: bytes.fromhex("02004d570002")}
Address = Tuple[str, int]


@dataclass(frozen=True)
class Received:
    """One segment that the other end sent to the puppet."""

    peer: Address
    seq: int
    ack: int
    flags: int
    payload: bytes


def _checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def tcp_segment(source: Address, target: Address, seq: int, ack: int, flags: int,
                data: bytes = b"") -> bytes:
    """A segment with its checksum; a SYN has the option that a kernel would miss."""
    options = b"\x02\x04\x05\xb4" if flags & SYN else b""  # maximum segment size 1460
    offset = (20 + len(options)) // 4 << 4

    def header(checksum: int) -> bytes:
        return struct.pack("!HHIIBBHHH", source[1], target[1], seq & 0xFFFFFFFF,
                           ack & 0xFFFFFFFF, offset, flags, 64000, checksum, 0)

    segment = header(0) + options + data
    pseudo = (socket.inet_aton(source[0]) + socket.inet_aton(target[0])
              + struct.pack("!HH", socket.IPPROTO_TCP, len(segment)))
    return header(_checksum(pseudo + segment)) + options + data


def ip_packet(source: str, target: str, identification: int, segment: bytes,
              ttl: int = 64) -> bytes:
    """A packet with its checksum."""
    def header(checksum: int) -> bytes:
        return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), identification, 0x4000,
                           ttl, socket.IPPROTO_TCP, checksum,
                           socket.inet_aton(source), socket.inet_aton(target))

    return header(_checksum(header(0))) + segment


def parse(frame: bytes, mine: Address) -> Optional[Received]:
    """The segment in a frame, if it is one to that address and port."""
    packet = frame[14:]
    if len(packet) < 40 or packet[9] != socket.IPPROTO_TCP:
        return None
    if socket.inet_ntoa(packet[16:20]) != mine[0]:
        return None
    segment = packet[(packet[0] & 15) * 4:struct.unpack_from("!H", packet, 2)[0]]
    port, to, seq, ack, offset, flags = struct.unpack_from("!HHIIBB", segment)
    if to != mine[1]:
        return None
    peer = (socket.inet_ntoa(packet[12:16]), port)
    return Received(peer, seq, ack, flags & 0x1F, segment[(offset >> 4) * 4:])


class Puppet:
    """One connection, moved by hand. `next_in` is the next byte expected, as in RCV.NXT."""

    def __init__(self, network: Network, host: str, local: Address) -> None:
        self.opened = time.time()
        self.local = local
        self.peer: Optional[Address] = None
        self.next_out = 1000
        self.next_in = 0
        self._wire = network.wire(host)
        self._header = network.mac(NGINX) + PUPPET_MACS[host] + b"\x08\x00"
        self._identification = 0

    def send(self, flags: int, data: bytes = b"", ack: Optional[int] = None,
             seq: Optional[int] = None) -> None:
        """One segment. `ack` where it is not to say everything that arrived, `seq` where it is
        not to follow what was sent."""
        assert self.peer
        seq = self.next_out if seq is None else seq
        self._identification += 1
        segment = tcp_segment(self.local, self.peer, seq,
                              (self.next_in if ack is None else ack) if flags & ACK else 0,
                              flags, data)
        packet = ip_packet(self.local[0], self.peer[0], self._identification, segment)
        self._wire.send(self._header + packet)
        self.next_out = max(self.next_out,
                            seq + len(data) + bool(flags & SYN) + bool(flags & FIN))

    def connect(self, peer: Address) -> None:
        """The three-way handshake as the opening end."""
        self.open_half(peer)
        self.send(ACK)

    def open_half(self, peer: Address) -> None:
        """SYN out, SYN-ACK in, and no answer to it."""
        self.peer = peer
        self.send(SYN)
        self._expect(lambda got: got.flags & SYN, "SYN-ACK")

    def accept(self) -> None:
        """The three-way handshake as the answering end."""
        self.peer = self._expect(lambda got: got.flags & SYN, "SYN").peer
        self.send(SYN | ACK)
        self._expect(lambda got: got.flags & ACK, "ACK")

    def read(self, until: bytes) -> None:
        """Takes data in order, without acknowledging, until it ends so."""
        got = b""
        while not got.endswith(until):
            segment = self._expect(lambda got: got.payload and got.seq == self.next_in, "data")
            got += segment.payload
            self.next_in = (self.next_in + len(segment.payload)) & 0xFFFFFFFF

    def await_fin(self) -> None:
        """Waits for a FIN and does not count it as received: its ACK is another step."""
        self._expect(lambda got: got.flags & FIN, "FIN")

    def take_fin(self, flags: int = ACK) -> None:
        """Acknowledges the FIN that `await_fin` saw, with FIN in the same segment if asked."""
        self.next_in = (self.next_in + 1) & 0xFFFFFFFF
        self.send(flags)

    def await_ack(self) -> None:
        """Waits until everything sent is acknowledged."""
        self._expect(lambda got: got.flags & ACK and got.ack == self.next_out & 0xFFFFFFFF, "ACK")

    def _expect(self, wanted: Callable[[Received], object], what: str) -> Received:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            self._wire.settimeout(max(0.01, deadline - time.monotonic()))
            got = parse(self._wire.recv(65536 + 14), self.local)
            if got and self.peer in (None, got.peer) and wanted(got):
                if got.flags & SYN:
                    self.next_in = (got.seq + 1) & 0xFFFFFFFF
                return got
        raise TimeoutError(f"puppet {self.local}: no {what}")
