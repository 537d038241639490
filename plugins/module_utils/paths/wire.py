# SPDX-License-Identifier: Apache-2.0
"""Probes of one path: echoes of a size in one piece, echoes asked for in small pieces, and datagrams to a closed port.

An echo alone cannot tell in which direction a large packet was lost: its reply is as large. Two probes can, from this
end alone and without anything listening on the other:

- A request that travels in small fragments is put together at the other end, and its reply travels back in one piece:
  only the way back carries a large packet.
- A large datagram to a closed port is answered by a small "port unreachable" (RFC 1812, 4.3.2.3: at most 576 bytes):
  only the way there carries a large packet.
"""

from __future__ import annotations

import errno
import os
import random
import socket
import time
from typing import Callable

from .packets import LEAST, TOKEN, echo_request, fragments, is_reply

DO, PROBE = 2, 3  # IP_PMTUDISC_*: DF, held to the path's MTU; DF, the path MTU cache not asked
_IP_MTU_DISCOVER, _IP_MTU = 10, 14
_IPV6_MTU_DISCOVER, _IPV6_MTU = 23, 24
_UDP_HEADERS = {4: 28, 6: 48}
_PORTS = (33434, 33523)  # traceroute's: closed, and known for it

ANSWERED, SILENT, TOO_LARGE, FAILED = "answered", "silent", "too-large", "failed"


class Wire:
    """One path from here to an address, with what was sent over it. A context manager.

    Args:
        family: 4 or 6.
        address: where to.
        source: an address of this end, "" for the one the route has.

    Raises:
        OSError: there is no such way.
    """

    def __init__(self, family: int, address: str, source: str = "") -> None:
        self.family, self.address, self.source = family, address, source
        self.packets = self.bytes = 0
        self.trouble = ""  # the kernel's words where a probe could not be sent
        self._sequence = 0
        self._kind = socket.AF_INET if family == 4 else socket.AF_INET6
        self._echo = self._open(socket.SOCK_RAW, socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._echo.close()

    def _open(self, kind: int, protocol: int = 0, port: int = 0) -> socket.socket:
        """Return a socket that hears this address only."""
        sock = socket.socket(self._kind, kind, protocol)
        try:
            if self.source:
                sock.bind((self.source, 0))
            sock.connect((self.address, port))
        except OSError:
            sock.close()
            raise
        return sock

    def _discover(self, sock: socket.socket, how: int) -> None:
        if self.family == 4:
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, how)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, how)

    def mtu(self) -> int:
        """Return the MTU that the kernel holds for this path: device, route and path MTU cache. Raises OSError."""
        with self._open(socket.SOCK_DGRAM, port=9) as sock:
            if self.family == 4:
                return sock.getsockopt(socket.IPPROTO_IP, _IP_MTU)
            return sock.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)

    def echo(self, size: int, how: int, wait: float, tries: int = 1) -> str:
        """Send echo requests of ``size`` bytes in one piece until one is answered."""
        return self._until(lambda token: self._send_whole(size, how, token), wait, tries)

    def echo_back(self, size: int, wait: float, tries: int = 1) -> str:
        """Send echo requests in small pieces whose replies have ``size`` bytes, until one comes back."""
        return self._until(lambda token: self._send_pieces(size, token), wait, tries)

    def _send_whole(self, size: int, how: int, token: bytes) -> None:
        self._discover(self._echo, how)
        message = echo_request(self.family, max(size, LEAST[self.family]), token, self._next())
        self._count(self._echo.send(message))

    def _send_pieces(self, size: int, token: bytes) -> None:
        message = echo_request(self.family, max(size, LEAST[self.family]), token, self._next())
        source = socket.inet_pton(self._kind, self._echo.getsockname()[0])
        destination = socket.inet_pton(self._kind, self.address)
        with self._open(socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:  # IPPROTO_RAW: with our own headers
            for piece in fragments(message, source, destination, random.randrange(1, 1 << 32)):
                self._count(sock.send(piece))

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence & 0xFFFF

    def _count(self, sent: int) -> None:
        self.packets += 1
        self.bytes += sent

    def _until(self, send: Callable[[bytes], None], wait: float, tries: int) -> str:
        for _ in range(tries):
            token = os.urandom(TOKEN)
            try:
                send(token)
                if self._hears(token, time.monotonic() + wait):
                    return ANSWERED
            except OSError as exc:
                if exc.errno == errno.EMSGSIZE:
                    return TOO_LARGE
                self.trouble = exc.strerror or str(exc)
                return FAILED
        return SILENT

    def _hears(self, token: bytes, until: float) -> bool:
        """Wait for the reply. Raises OSError, EMSGSIZE where a router says that the packet was too large for it."""
        while True:
            left = until - time.monotonic()
            if left <= 0:
                return False
            self._echo.settimeout(left)
            try:
                data = self._echo.recv(65535)
            except socket.timeout:
                return False
            if is_reply(self.family, data, token):
                return True

    def closed_port(self, size: int, wait: float, tries: int = 1) -> str:
        """Send datagrams of ``size`` bytes to a closed port until "port unreachable" comes back."""
        with self._open(socket.SOCK_DGRAM, port=random.randint(*_PORTS)) as sock:
            self._discover(sock, PROBE)
            sock.settimeout(wait)
            for _ in range(tries):
                try:
                    self._count(sock.send(b"\0" * max(0, size - _UDP_HEADERS[self.family])))
                    sock.recv(1)
                except socket.timeout:
                    continue
                except ConnectionRefusedError:
                    return ANSWERED
                except OSError as exc:
                    return TOO_LARGE if exc.errno == errno.EMSGSIZE else FAILED
                return FAILED  # something listens there and answered: that says nothing of the size
        return SILENT
