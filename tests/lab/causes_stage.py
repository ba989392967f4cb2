# SPDX-License-Identifier: GPL-2.0-or-later
"""What a scenario of the second lab is given: two hosts, the router between them, and a place
to declare what it has done and why."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Tuple, TypeVar, Union

from causes_truth import CausedStream, View, Words, passive, quiet
from network import CLIENT, settle
from peers import PATIENCE, Client, Connection, Server
from routed import (CLIENT_NET, SERVER, SERVER_NET, SERVICE_NET, UPSTREAM_NET, RoutedNetwork,
                    Router)
from truth import Address, closed, reset

HTTP = 80
_CLOSED = 7  # TCP_CLOSE of the kernel's states
_REPAIR = 19  # socket.TCP_REPAIR
_REPAIR_QUEUE, _QUEUE_SEQ, _SEND_QUEUE = 20, 21, 2


@dataclass(frozen=True)
class Flow:
    """A connection of which the lab holds no end: who called whom, and when."""

    local: Address
    peer: Address
    opened: float


class Listener:
    """A listening socket of the server's or the upstream's."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.address: Address = sock.getsockname()

    def accept(self) -> Server:
        """The next connection of the queue."""
        sock, _ = self.socket.accept()
        return Server(sock, time.time())

    def waiting(self) -> int:
        """How many connections are ready to be accepted, as the kernel counts them."""
        info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        return int.from_bytes(info[24:28], "little")  # tcpi_unacked of a listener

    def close(self) -> None:
        """Stops listening, which resets what waits."""
        self.socket.close()


Kept = TypeVar("Kept")


class CauseStage:
    """One scenario's view of the lab: addresses of its own, on every host."""

    def __init__(self, network: RoutedNetwork, router: Router, scenario: str,
                 number: int) -> None:
        if number > 200:
            raise ValueError("more scenarios than addresses")
        self.router = router
        self.scenario = scenario
        self.client = f"{CLIENT_NET}.{number}"
        self.server = f"{SERVER_NET}.{number}"
        self.upstream = f"{UPSTREAM_NET}.{number}"
        self.service = f"{SERVICE_NET}.{number}"
        self.streams: List[CausedStream] = []
        self._network = network
        self._ports = 20000 + number * 100
        self._kept: List[object] = []

    # Opening

    def port(self) -> int:
        """A client's port that nobody else uses, below the kernel's choice."""
        self._ports += 1
        return self._ports

    def listen(self, port: int = HTTP, backlog: int = 16, host: str = SERVER) -> Listener:
        """A listener that lives until the capture has ended, unless it is closed."""
        sock = self._network.tcp_socket(host)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.settimeout(PATIENCE)
        sock.bind((self.server if host == SERVER else self.upstream, port))
        sock.listen(backlog)
        return self.keep(Listener(sock))

    def client_socket(self, source: int = 0) -> socket.socket:
        """A client's socket with its address."""
        sock = self._network.tcp_socket(CLIENT)
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((self.client, source or self.port()))
        return sock

    def connect(self, server: Optional[Address] = None, hasty: bool = False) -> Client:
        """A connection of this scenario's client. A hasty one does not acknowledge the SYN-ACK
        before it has something to say, or 200 ms have passed."""
        return self.finish(self.client_socket(), server or (self.server, HTTP), hasty)

    def finish(self, sock: socket.socket, server: Address, hasty: bool = False) -> Client:
        """Connects a socket that was prepared."""
        if hasty:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
        opened = time.time()
        sock.connect(server)
        return self.keep(Client(sock, opened, self.scenario))

    def refused(self, port: int) -> Flow:
        """A connection attempt that must be refused."""
        with self.client_socket() as sock:
            flow = Flow(sock.getsockname(), (self.server, port), time.time())
            try:
                sock.connect(flow.peer)
            except ConnectionRefusedError:
                return flow
        raise RuntimeError(f"{flow.peer} did not refuse")

    def pair(self, listener: Optional[Listener] = None) -> Tuple[Client, Server]:
        """Both ends of a new connection."""
        listener = listener or self.listen()
        client = self.connect(listener.address)
        return client, self.keep(listener.accept())

    def wire(self, host: str) -> socket.socket:
        """A socket for whole IP packets, for a tool that makes its own."""
        with self._network.inside(host):
            return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def keep(self, thing: Kept) -> Kept:
        """Holds on to a socket: what is forgotten gets closed."""
        self._kept.append(thing)
        return thing

    # Acting

    def pause(self, seconds: float = 0.1) -> None:
        """Lets what was sent arrive."""
        settle(seconds)

    def exchange(self, client: Client, server: Server, uri: str = "/") -> None:
        """A complete request and its complete, acknowledged response."""
        client.ask("GET", uri)
        server.take_request()
        server.answer()
        client.response()

    def expect_reset(self, end: Connection) -> None:
        """Waits until the kernel has no such connection any more, unread data or not. No
        scenario that asks for it has FINs in both directions, so it was a RST."""
        for _ in range(int(PATIENCE / 0.01)):
            if end.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _CLOSED:
                return
            time.sleep(0.01)
        raise RuntimeError(f"{end.local} was not reset")

    def expect_timeout(self, end: Connection) -> None:
        """Waits until the kernel gives the connection up."""
        self.expect_reset(end)
        error = end.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error != errno.ETIMEDOUT:
            raise RuntimeError(f"{end.local} ended otherwise: {os.strerror(error)}")

    def probe(self, end: Connection) -> None:
        """Makes the kernel ask a silent peer, and give it up after three questions."""
        for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1),
                              (socket.TCP_KEEPCNT, 3)):
            end.socket.setsockopt(socket.IPPROTO_TCP, option, value)
        end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def vanish(self, end: Connection) -> None:
        """Forgets a connection without a packet, as a host does that loses its power. A socket
        under repair is closed so."""
        end.socket.setsockopt(socket.IPPROTO_TCP, _REPAIR, 1)
        end.socket.close()

    def number_from(self, sock: socket.socket, sequence: int) -> None:
        """Makes an unconnected socket begin with a sequence number."""
        for option, value in ((_REPAIR, 1), (_REPAIR_QUEUE, _SEND_QUEUE),
                              (_QUEUE_SEQ, sequence), (_REPAIR, 0)):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)

    def hand_to_process(self, end: Connection) -> "subprocess.Popen[bytes]":
        """Makes another process the only owner of a connection."""
        with end.socket as sock:
            return subprocess.Popen(("sleep", "60"), pass_fds=(sock.fileno(),),
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL)

    def set(self, host: str, key: str, value: str) -> None:
        """Sets what a host's kernel reads under /proc/sys/net/ipv4."""
        self._network.set(host, f"net/ipv4/{key}", value)

    def command(self, host: str, *command: str) -> None:
        """Runs a program on a host."""
        subprocess.run(self._network.command(host, *command), stdout=subprocess.DEVNULL,
                       check=True)

    # Declaring

    def ends(self, end: Union[Connection, Flow], cause: Optional[str],
             view: Optional[View] = None, *, client: Optional[View] = None,
             server: Optional[View] = None, client_says: Optional[Words] = None,
             server_says: Optional[Words] = None) -> None:
        """Declares a client's connection and what ended it.

        `view` is what both captures show; without it, `client` and `server` are what each of
        them does, and the one that is not given shows nothing of the stream. `client_says` and
        `server_says` are the words allowed there, where the truth is not the only one."""
        flow = self.flow(end)
        views = {"client": client or view, "server": server or view}
        says = {"client": client_says or (cause,), "server": server_says or (cause,)}
        self.streams.append(CausedStream(
            self.scenario, flow.local, flow.peer, flow.opened, cause,
            {name: seen for name, seen in views.items() if seen}, says))

    def flow(self, end: Union[Connection, Flow]) -> Flow:
        """Who an end connects."""
        return end if isinstance(end, Flow) else Flow(end.local, end.peer, end.opened)

    def ordinary(self, listener: Optional[Listener] = None) -> None:
        """A connection on which nothing happens: it shows what this server's packets look
        like, and that not every end has a cause."""
        client, server = self.pair(listener)
        self.exchange(client, server)
        client.fin()
        server.end_four_way()
        self.pause()
        self.ends(client, None, quiet(closed("four_way", "client", "after_response",
                                             "completed", (1, 1), ("GET /", 200))))


def refusal() -> View:
    """A SYN that was answered by RST."""
    return passive(reset("server", "handshake", "none", (0, 0)))


CauseScenario = Callable[[CauseStage], None]
CAUSES: Dict[str, CauseScenario] = {}


def cause_scenario(play: CauseScenario) -> CauseScenario:
    """Registers a scenario under its function's name."""
    CAUSES[play.__name__] = play
    return play

