# SPDX-License-Identifier: GPL-2.0-or-later
"""The ends that scenarios hold in their hands: clients, and the upstream's accepted connections.

Every method is one thing that an application or its kernel does on purpose, so that a scenario
reads as the story of its connection.
"""

from __future__ import annotations

import queue
import re
import selectors
import socket
import struct
import threading
import time
from collections import defaultdict
from http.client import HTTPResponse
from typing import DefaultDict, Dict, Optional, Tuple

from network import UPSTREAM, Network

Address = Tuple[str, int]
PATIENCE = 15.0
TRACE = "X-Trace"


class Connection:
    """One end of an established connection."""

    def __init__(self, sock: socket.socket, opened: float) -> None:
        self.socket = sock
        self.opened = opened
        self.local: Address = sock.getsockname()
        self.peer: Address = sock.getpeername()
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        """Data in a segment of its own."""
        self.socket.sendall(data)

    def send_with_fin(self, data: bytes) -> None:
        """Data whose last segment carries the FIN: it is held back until the FIN is queued."""
        self.socket.sendall(data, socket.MSG_MORE)
        self.socket.shutdown(socket.SHUT_WR)

    def fin(self) -> None:
        """Sends FIN and goes on reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def read(self, size: int) -> bytes:
        """Exactly so many bytes, acknowledged on return."""
        got = b""
        while len(got) < size:
            more = self.socket.recv(size - len(got))
            if not more:
                raise EOFError(f"{self.local}: end after {len(got)} of {size} bytes")
            got += more
        self.acknowledge()
        return got

    def read_until(self, end: bytes) -> bytes:
        """Everything up to and including `end`, and not a byte more; acknowledged on return."""
        got = b""
        while not got.endswith(end):
            got += self.read(1)
        return got

    def drain(self) -> None:
        """Reads and forgets until the peer's FIN."""
        while self.socket.recv(65536):
            pass

    def acknowledge(self) -> None:
        """Makes the kernel send an ACK that it was going to delay."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def reset(self) -> None:
        """Aborts: RST instead of FIN, whatever was read or not."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        """Plain close(): FIN, or RST when data lies unread."""
        self.socket.close()

    def end_three_way(self) -> None:
        """Answers the peer's FIN by closing at once: FIN and ACK are one segment."""
        self.drain()
        self.socket.close()

    def end_four_way(self) -> None:
        """Acknowledges the peer's FIN in a segment of its own, then closes."""
        self.drain()
        self.acknowledge()
        self.socket.close()


class Client(Connection):
    """A browser's or caller's end."""

    def __init__(self, sock: socket.socket, opened: float, token: str) -> None:
        super().__init__(sock, opened)
        self.token = token

    def request(self, method: str, uri: str, *headers: str, body: bytes = b"",
                length: int = -1, version: str = "1.1") -> bytes:
        """The bytes of a request. `length` promises more than `body` holds."""
        lines = [f"{method} {uri} HTTP/{version}", "Host: shop.example.com",
                 f"{TRACE}: {self.token}", *headers]
        if length >= 0 or body:
            lines.append(f"Content-Length: {max(length, len(body))}")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def ask(self, method: str, uri: str, *headers: str, body: bytes = b"") -> None:
        """Sends a complete request."""
        self.send(self.request(method, uri, *headers, body=body))

    def response(self, method: str = "GET") -> int:
        """Reads one response to its end, acknowledges it, and tells its status."""
        response = HTTPResponse(self.socket, method=method)
        try:
            response.begin()
            response.read()
        finally:
            response.close()
        self.acknowledge()
        return response.status


class Server(Connection):
    """The upstream's end of a connection that nginx opened."""

    def take_request(self) -> bytes:
        """Reads a whole request and acknowledges it."""
        head = self.read_until(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        return head + (self.read(int(length[1])) if length else b"")

    def answer(self, body: bytes = b"ok\n", *headers: str, status: str = "200 OK",
               length: int = -1) -> None:
        """A response in one segment; `length` promises more than `body` holds."""
        self.send(response(body, *headers, status=status, length=length))

    def push(self, body: bytes) -> None:
        """Answers with as much of `body` as nginx takes, until it has taken none for a while."""
        self.socket.settimeout(0.3)
        try:
            self.send(response(body))
            raise RuntimeError("nginx took everything: it was to be blocked")
        except socket.timeout:
            self.socket.settimeout(PATIENCE)


def response(body: bytes = b"ok\n", *headers: str, status: str = "200 OK",
             length: int = -1) -> bytes:
    """The bytes of a response with a Content-Length."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: text/plain",
             f"Content-Length: {max(length, len(body))}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Application:
    """The upstream's listener. It hands each connection to the scenario whose token it carries.

    The token is peeked at, not read: whether a request is ever read is the scenario's decision.
    """

    def __init__(self, network: Network, port: int) -> None:
        self._queues: DefaultDict[str, "queue.Queue[Server]"] = defaultdict(queue.Queue)
        self._opened: Dict[socket.socket, float] = {}
        self._stop = threading.Event()
        self._listener = network.tcp_socket(UPSTREAM)
        self._listener.bind(("", port))
        self._listener.listen(256)
        self._listener.setblocking(False)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "Application":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._listener.close()

    def next(self, token: str) -> Server:
        """The next connection that nginx opens for this client connection, or to this address."""
        return self._queues[token].get(timeout=PATIENCE)

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._stop.is_set():
                for key, _ in selector.select(timeout=0.1):
                    if key.fileobj is self._listener:
                        self._accept(selector)
                    else:
                        self._hand_over(selector, key.fileobj)  # type: ignore[arg-type]

    def _accept(self, selector: selectors.BaseSelector) -> None:
        sock, _ = self._listener.accept()
        self._opened[sock] = time.time()
        selector.register(sock, selectors.EVENT_READ)

    def _hand_over(self, selector: selectors.BaseSelector, sock: socket.socket) -> None:
        head = sock.recv(4096, socket.MSG_PEEK)
        token = _token(head, sock)
        if not head or token:
            selector.unregister(sock)
            opened = self._opened.pop(sock)
            if token:
                self._queues[token].put(Server(sock, opened))
            else:
                sock.close()


def _token(head: bytes, sock: socket.socket) -> Optional[str]:
    """What tells whose connection it is: the token among the headers or variables, or where
    those are compressed, the address, which is one scenario's alone."""
    if head.startswith(b"PRI * HTTP/2.0"):
        return str(sock.getsockname()[0])
    name = TRACE.upper().replace("-", "_")
    found = (re.search(rf"(?i)\r\n{TRACE}: ([^\r]+)\r\n".encode(), head)
             or re.search(rf"HTTP_{name}[\0-.]{{0,2}}([a-z_]+/\d+)".encode(), head))
    return found[1].decode() if found else None
