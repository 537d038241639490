# SPDX-License-Identifier: Apache-2.0
"""Measure one path: what passes at its exact size, one above, and where it fails, in which direction and what does."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, Mapping, Optional

from .packets import LEAST
from .wire import ANSWERED, DO, FAILED, PROBE, SILENT, Wire

#: Bytes of the probe that only asks whether anything answers.
SMALL = 96
#: Bytes of a reply asked for in pieces that every path carries: does it answer such requests at all?
CONTROL = 600
_TRIES = 3  # an answer may be lost; a black hole loses all
_FIRST_WAIT, _LEAST_WAIT, _MOST_WAIT = 1.0, 0.2, 1.0
#: Times that a path whose routers tell a smaller MTU is measured anew at that size.
_TOLD = 3

Found = Dict[str, Any]
Clock = Callable[[], float]


class OutOfTimeError(Exception):
    """The time for this node's measurements is over."""


class Path:
    """The measurement of one path.

    Args:
        wire: the path.
        size: bytes to measure at; None: the path's MTU.
        until: when to stop, by ``clock``.
        clock: seconds.
    """

    def __init__(self, wire: Wire, size: Optional[int], until: float, clock: Clock = time.monotonic) -> None:
        self.wire, self.wanted, self.until, self.clock = wire, size, until, clock
        self.wait = _FIRST_WAIT
        self.found: Found = {
            "mtu": None,
            "size": size,
            "ms": None,
            "small": "",
            "exact": "",
            "above": "",
            "back": "",
            "forth": "",
            "passes": None,
            "told": None,
            "trouble": "",
        }

    def measure(self) -> Found:
        """Return what was found; steps that the time did not suffice for are "". Raises OSError: there is no way.

        Returns:
            ``mtu`` (bytes, as the kernel here holds it for this path), ``size`` (measured at), ``ms`` (a small echo's
            time), ``small``, ``exact``, ``above`` (echoes), ``back`` (only the reply was large), ``forth`` (only the
            request was large): each ``answered``, ``silent``, ``too-large`` (for this end's own MTU) or ``failed``;
            ``passes`` (the largest echo that passes, None where none does), ``told`` (a smaller MTU that a router
            told of), ``trouble``.
        """
        try:
            self._measure()
        except OutOfTimeError:
            self.found["trouble"] = "the time for this node's measurements was over"
        self.found["trouble"] = self.found["trouble"] or self.wire.trouble
        return self.found

    def _measure(self) -> None:
        found, wire = self.found, self.wire
        found["mtu"] = wire.mtu()
        found["size"] = size = max(self.wanted or found["mtu"], LEAST[wire.family])
        found["small"] = self._small()
        if found["small"] != ANSWERED:
            return
        found["exact"] = self._exact()
        size = found["size"]
        found["above"] = self._timed(lambda: wire.echo(size + 1, PROBE, self.wait))
        if found["exact"] == ANSWERED:
            found["passes"] = size
            return
        if found["exact"] == SILENT:
            self._directions(size)
        found["passes"] = self._largest(min(SMALL, size), size)

    def _timed(self, work: Callable[[], str]) -> str:
        if self.clock() >= self.until:
            raise OutOfTimeError
        return work()

    def _small(self) -> str:
        """Ask whether anything answers; how long that took sets how long later answers are waited for."""
        started = self.clock()
        for _ in range(_TRIES):
            begun = self.clock()
            outcome = self._timed(lambda: self.wire.echo(min(SMALL, self.found["size"]), DO, _FIRST_WAIT))
            if outcome == ANSWERED:
                took = self.clock() - begun
                self.found["ms"] = round(took * 1000, 2)
                self.wait = min(_MOST_WAIT, max(_LEAST_WAIT, 4 * took))
                return ANSWERED
            if outcome == FAILED or self.clock() - started > _TRIES * _FIRST_WAIT:
                break
        return outcome

    def _exact(self) -> str:
        """Try the size itself; where a router says what it carries, the path's size is that from then on."""
        outcome = ""
        for _ in range(_TOLD):
            outcome = self._timed(lambda: self.wire.echo(self.found["size"], DO, self.wait, _TRIES))
            mtu = self.wire.mtu()
            if self.wanted is not None or mtu >= self.found["size"]:
                return outcome
            self.found.update(size=mtu, told=mtu)
        return outcome

    def _directions(self, size: int) -> None:
        """Find out which way a large packet is lost; "" where this cannot be told from here."""
        found, wire = self.found, self.wire
        found["back"] = self._timed(lambda: wire.echo_back(size, self.wait, _TRIES))
        if found["back"] == ANSWERED:
            found["forth"] = SILENT  # the way back carries it, and yet no echo comes through
            return
        if self._timed(lambda: wire.echo_back(CONTROL, self.wait, _TRIES)) != ANSWERED:
            found["back"] = ""  # pieces do not pass, or are not put together: nothing is known
        # At most three: the other end's kernel answers six at once, and then one a second.
        if self._timed(lambda: wire.closed_port(SMALL, self.wait, 1)) == ANSWERED:
            outcome = self._timed(lambda: wire.closed_port(size, self.wait, 2))
            found["forth"] = outcome if outcome in (ANSWERED, SILENT) else ""

    def _largest(self, passes: int, fails: int) -> int:
        """Return the largest echo that passes, by halving: eleven probes for 1500 bytes."""
        while fails - passes > 1:
            middle = (passes + fails) // 2
            if self._passes(middle):
                passes = middle
            else:
                fails = middle
        return passes

    def _passes(self, size: int) -> bool:
        return self._timed(lambda: self.wire.echo(size, PROBE, self.wait, 2)) == ANSWERED


def measure(target: Mapping[str, Any], until: float) -> Found:
    """Measure the path to a target ``{"id", "family", "address", "source", "size"}`` until a time (monotonic).

    Returns:
        What :meth:`Path.measure` returns with ``id``, ``packets`` and ``bytes``; without a way there, ``trouble``.
    """
    try:
        with Wire(int(target["family"]), str(target["address"]), str(target.get("source") or "")) as wire:
            path = Path(wire, target.get("size"), until)
            try:
                found = path.measure()
            except OSError as exc:
                found = dict(path.found, trouble=exc.strerror or str(exc))
            return dict(found, id=target["id"], packets=wire.packets, bytes=wire.bytes)
    except OSError as exc:
        return {"id": target["id"], "trouble": exc.strerror or str(exc), "packets": 0, "bytes": 0}
