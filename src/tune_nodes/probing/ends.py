"""What nodes say of themselves as ends of paths, and what they measured: read from untrusted answers (pure)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tune_nodes.fleet.untrusted import one_line


class Said(BaseModel):
    """Base of what a node says: fields of a newer node side are dropped."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Link(Said):
    """A link and its MTU in bytes."""

    name: str = Field(max_length=64)
    mtu: int = Field(ge=0, le=1 << 20)
    kind: str = Field(default="", max_length=32)
    overhead: int | None = Field(default=None, ge=0, le=1000)


class LinkFault(Said):
    """What the node itself finds wrong with its links' MTUs."""

    word: str = Field(max_length=64)
    at: str = Field(default="", max_length=64)
    text: str = Field(default="", max_length=400)


class Layers(Said):
    """A node's layers, outermost first."""

    cni: str = Field(default="", max_length=64)
    underlay: tuple[Link, ...] = ()
    tunnels: tuple[Link, ...] = ()
    bridges: tuple[Link, ...] = ()
    pods: tuple[int, ...] = ()
    faults: tuple[LinkFault, ...] = ()


def _addresses(raw: Any) -> dict[int, str]:
    """Return addresses by family; what is none is left out."""
    found: dict[int, str] = {}
    for text in raw.values() if isinstance(raw, Mapping) else ():
        try:
            address = ipaddress.ip_address(str(text))
        except ValueError:
            continue
        if not (address.is_loopback or address.is_unspecified or address.is_multicast):
            found.setdefault(address.version, str(address))
    return found


class PodEnd(Said):
    """What stands for a node's pods: one of them, or the CNI's bridge where none runs."""

    name: str = Field(default="", max_length=253)
    uid: str = Field(default="", max_length=64)
    addresses: dict[int, str] = Field(default_factory=dict)
    mtu: int = Field(default=0, ge=0, le=1 << 20)
    bridge: bool = False

    @field_validator("addresses", mode="before")
    @classmethod
    def _only_addresses(cls, raw: Any) -> dict[int, str]:
        return _addresses(raw)

    @field_validator("name", "uid", mode="before")
    @classmethod
    def _plain(cls, raw: Any) -> str:
        return one_line(str(raw or ""), 250)


class End(Said):
    """A node as an end of paths."""

    addresses: dict[int, str] = Field(default_factory=dict)
    pod: PodEnd | None = None
    layers: Layers = Layers()
    why: str = Field(default="", max_length=4100)

    @field_validator("addresses", mode="before")
    @classmethod
    def _only_addresses(cls, raw: Any) -> dict[int, str]:
        return _addresses(raw)


class Measured(Said):
    """One measurement, as plugins/module_utils/paths/measure.py describes it."""

    id: str
    mtu: int | None = None
    size: int | None = None
    ms: float | None = None
    small: str = ""
    exact: str = ""
    above: str = ""
    back: str = ""
    forth: str = ""
    passes: int | None = None
    told: int | None = None
    trouble: str = ""
    packets: int = Field(default=0, ge=0)
    bytes: int = Field(default=0, ge=0)


def end_of(paths: Mapping[str, Any]) -> End | None:
    """Return what a node said of itself, None where it is not understood."""
    try:
        return End.model_validate(paths.get("self") or {}) if paths.get("self") else None
    except ValidationError:
        return None


def unheard(address: str) -> End | None:
    """Return a node that could not be asked, known by its address alone; None where that is a name or this machine."""
    found = _addresses({"": address})
    return End(addresses=found) if found else None


def measured(paths: Mapping[str, Any]) -> list[Measured]:
    """Return a node's measurements; what is not understood is left out."""
    rows = paths.get("measured")
    found: list[Measured] = []
    for row in rows if isinstance(rows, Iterable) and not isinstance(rows, str | Mapping) else ():
        try:
            found.append(Measured.model_validate(row))
        except ValidationError:
            continue
    return found
