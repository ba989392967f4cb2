# SPDX-License-Identifier: GPL-2.0-or-later
"""What a scenario is given: clients to open, upstream connections to take, endings to declare."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass
from typing import Callable, Dict, List, Tuple, Union

from network import (CLIENT, CLIENT_NET, NGINX, NGINX_IP, PROMPT_NET, PUPPET_NET, UPSTREAM, Network,
                     settle)
from peers import PATIENCE, Application, Client, Connection, Server
from proxy import APP_PORT, MAIN, PUPPET_APP
from puppet import PUPPET_MACS, Puppet
from truth import Ending, Expected, Ledger, Log, Stream

Address = Tuple[str, int]
End = Union[Connection, Puppet]


# Of a network's 254 addresses, puppets use some for other things.
SCENARIO_LIMIT = 240


class Stage:
    """One scenario's view of the lab. What a scenario declares and does not close stays open
    until the capture has ended.

    Each scenario has a number, and so client addresses that are its own: one towards which
    nginx's kernel delays ACKs, and a prompt one.
    """

    def __init__(self, network: Network, application: Application, ledger: Ledger,
                 lock: threading.Lock, scenario: str, number: int) -> None:
        if number > SCENARIO_LIMIT:
            raise ValueError("more scenarios than client addresses")
        self.scenario = scenario
        self._network = network
        self._application = application
        self._ledger = ledger
        self._lock = lock
        self._number = number
        self._clients = 0
        self._declared: Dict[End, Stream] = {}

    # Opening

    def address(self, prompt: bool = False) -> str:
        """This scenario's client address."""
        return f"{PROMPT_NET if prompt else CLIENT_NET}.{self._number}"

    def connect(self, port: int = MAIN, prompt: bool = False, source: int = 0,
                receive: int = 0) -> Client:
        """A client connection. `receive` shrinks its buffer, so that it blocks nginx soon."""
        sock = self._network.tcp_socket(CLIENT)
        if receive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        sock.settimeout(PATIENCE)
        sock.bind((self.address(prompt), source))
        opened = time.time()
        sock.connect((NGINX_IP, port))
        self._clients += 1
        return Client(sock, opened, f"{self.scenario}/{self._clients}")

    def upstream(self, client: Client) -> Server:
        """The next connection that nginx opens to the upstream for this client."""
        return self._application.next(client.token)

    def upstream_at(self, address: str) -> Server:
        """The next connection of HTTP/2 that nginx opens to this address."""
        return self._application.next(address)
    def through_proxy(self, target: str) -> Tuple[Client, Connection]:
        """A client that has a forward proxy on nginx's host open a tunnel, and the proxy's end
        of it: what comes out of the tunnel is the scenario's to answer."""
        with self._network.tcp_socket(NGINX) as listener:
            listener.bind((NGINX_IP, 0))
            listener.listen(1)
            listener.settimeout(PATIENCE)
            client = self.connect(listener.getsockname()[1])
            end = Connection(listener.accept()[0], client.opened)
        client.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        end.read_until(b"\r\n\r\n")
        end.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        client.read_until(b"\r\n\r\n")
        return client, end

    def bind_port(self, nth: int = 0) -> int:
        """A port of nginx's for an upstream connection that nobody accepts; below the range
        from which the kernel chooses."""
        return 20000 + self._number * 10 + nth

    def client_puppet(self, port: int = 40000) -> Puppet:
        """A client without a kernel, at an address that nobody else answers for."""
        address = f"{PUPPET_NET}.{self._number}"
        self._network.neighbour(address, PUPPET_MACS[CLIENT])
        return Puppet(self._network, CLIENT, (address, port))

    def spoofing_puppet(self, port: int = 15000) -> Puppet:
        """A client that borrows this scenario's address: the kernel there gets the answers to
        what it never sent, and resets them as any kernel does."""
        return Puppet(self._network, CLIENT, (self.address(), port))

    def upstream_puppet(self) -> Puppet:
        """An upstream without a kernel; one scenario at a time."""
        self._network.neighbour(PUPPET_APP, PUPPET_MACS[UPSTREAM])
        return Puppet(self._network, UPSTREAM, (PUPPET_APP, APP_PORT))

    # Waiting

    def pause(self, seconds: float = 0.1) -> None:
        """Lets what was sent arrive, and nginx act on it."""
        settle(seconds)

    # Declaring

    def client_ends(self, end: End, ending: Ending) -> None:
        """Declares the truth of a client's connection."""
        assert end.peer
        self._declare(end, Stream(self.scenario, "client", end.local, end.peer, end.opened,
                                  ending))

    def upstream_ends(self, end: End, client: End, ending: Ending) -> None:
        """Declares the truth of a connection that nginx opened; `client` asked last on it, so
        nginx's messages about it bear that client's number."""
        assert end.peer
        self._declare(end, Stream(self.scenario, "upstream", end.peer, end.local, end.opened,
                                  ending, self.stream(client)))

    def unaccepted_ends(self, server: Address, port: int, client: Client, opened: float,
                        ending: Ending) -> None:
        """Declares the truth of an upstream connection that no listener of the lab ever saw."""
        stream = Stream(self.scenario, "upstream", (NGINX_IP, port), server, opened, ending,
                        self.stream(client))
        with self._lock:
            self._ledger.streams.append(stream)

    def remark(self, client: End, log: Log, leg: str = "none") -> None:
        """Declares a message that is about no stream's end."""
        with self._lock:
            self._ledger.remarks.append(Expected(self.stream(client), log, leg, end=False))

    def stream(self, end: End) -> Stream:
        """The declared stream of an end."""
        return self._declared[end]

    def _declare(self, end: End, stream: Stream) -> None:
        self._declared[end] = stream
        with self._lock:
            self._ledger.streams.append(stream)


Scenario = Callable[[Stage], None]


@dataclass(frozen=True)
class Entry:
    """A registered scenario; `sample` ones tell the small story of the demo."""

    name: str
    play: Scenario
    sample: bool


SCENARIOS: List[Entry] = []


def scenario(play: Scenario) -> Scenario:
    """Registers a scenario under its function's name."""
    SCENARIOS.append(Entry(play.__name__, play, sample=False))
    return play


def sample_scenario(play: Scenario) -> Scenario:
    """Registers a scenario that is also part of the sample."""
    SCENARIOS.append(Entry(play.__name__, play, sample=True))
    return play
