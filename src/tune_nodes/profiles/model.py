"""What a profile file may say, field by field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from ansible_collections.tune.nodes.plugins.module_utils import match as node_match
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.nic.model import KEYWORDS
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, field_validator, model_validator

#: A window shorter than this leaves no time to confirm (the node refuses a confirm in the last 15 s).
MIN_WINDOW = 20
MAX_WINDOW = 3600
MAX_TEXT = 2000

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._:-]{0,251}[A-Za-z0-9_.])?\Z")

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]


class Part(BaseModel):
    """Base of every part of a profile: a field that is not known is a mistake."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Filled(Part):
    """A part in which a line without a value is a mistake."""

    @model_validator(mode="after")
    def _no_empty_line(self) -> Self:
        empty = sorted(name for name in self.model_fields_set if getattr(self, name) is None)
        if empty:
            raise ValueError(f"{', '.join(empty)} has no value; leave the line out")
        return self


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Names = Annotated[list[str], BeforeValidator(_listed)]


def _label(value: Any) -> Any:
    """Labels are text: a bare true in YAML means the word, as in the inventory."""
    return str(value).lower() if isinstance(value, bool) else value


class Match(Part):
    """Conditions on what a node is; all must hold (grammar: module_utils/match.py)."""

    link_speed_mbps: Any = None
    cpus: Any = None
    memory_mib: Any = None
    kernel: Any = None
    role: Any = None
    os_id: Any = None
    groups: Any = None
    labels: Any = None

    @field_validator("*")
    @classmethod
    def _one_condition(cls, value: Any, info: Any) -> Any:
        if value is None:
            raise ValueError("a condition without a value; leave the line out")
        if info.field_name == "kernel" and isinstance(value, float):
            raise ValueError(f"{value} is a number to YAML, and 5.10 would read as 5.1; write it in quotes")
        if info.field_name == "labels" and isinstance(value, dict):
            value = {label: _label(wanted) for label, wanted in value.items()}
        try:
            node_match.check({info.field_name: value})
        except NodeError as err:
            raise ValueError(f"{err.what.partition(': ')[2]}{'; ' + err.why if err.why else ''}") from err
        return value

    def raw(self) -> dict[str, Any] | None:
        """Return the match as it stands in a layer; None where nothing is asked."""
        return self.model_dump(exclude_unset=True) or None


class SysctlWish(Part):
    """One key's wish: a bare value, or a mapping with more to say."""

    value: Any = None
    class_: Literal["floor", "ceiling", "exact"] | None = Field(default=None, alias="class")
    scope: Literal["netns", "host"] | None = None
    owners: list[str] | None = None
    take: bool = False
    module: str | None = None
    opt_in: bool | None = None
    reason: Text = ""
    source: Text = ""
    drop: bool = False

    @model_validator(mode="before")
    @classmethod
    def _bare_value(cls, data: Any) -> Any:
        return data if isinstance(data, dict) else {"value": data}

    @field_validator("value")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError(f"{str(value).lower()} is not a kernel value; write {int(value)}")
        if isinstance(value, list):
            raise ValueError("a list is not a kernel value; write the numbers in one text, parted by spaces")
        if not isinstance(value, (int, str)):
            raise ValueError(f"wanted a number or text, got {'nothing' if value is None else type(value).__name__}")
        return value

    @model_validator(mode="after")
    def _value_or_drop(self) -> Self:
        if self.drop and self.model_fields_set - {"drop"}:
            raise ValueError("drop: true takes the key out; it goes with nothing else")
        if not self.drop and "value" not in self.model_fields_set:
            raise ValueError("no value")
        return self

    def raw(self, key: str) -> dict[str, Any]:
        """Return the setting as it stands in a layer."""
        return {"key": key, **self.model_dump(by_alias=True, exclude_unset=True)}


class NicWish(Filled):
    """What some interfaces should be like; each wish stands by itself. The node side's parser checks the values."""

    interfaces: Any
    channels: Any = None
    rings: Any = None
    rps: Any = None
    xps: Any = None
    reason: Text = ""
    source: Text = ""

    def raw(self) -> dict[str, Any]:
        """Return the setting as it stands in a layer: interfaces are a keyword or a list."""
        raw = self.model_dump(exclude_unset=True)
        if isinstance(self.interfaces, str) and self.interfaces not in KEYWORDS:
            raw["interfaces"] = [self.interfaces]
        return raw


class MtuWish(Filled):
    """What the MTU of some interfaces, and of pods, should be. The node side's parser checks the values."""

    interfaces: Any = "auto"
    underlay: Any = None
    pods: Any = None
    reason: Text = ""
    source: Text = ""

    def raw(self) -> dict[str, Any]:
        """Return the setting as it stands in a layer."""
        return {"interfaces": self.interfaces, **self.model_dump(exclude_unset=True)}


class ExtraProbe(Part):
    """A further check: a fixed address to reach with DF pings at the path's MTU, or a name to look up."""

    kind: Literal["peer", "dns"]
    target: str

    @field_validator("target")
    @classmethod
    def _host(cls, value: str) -> str:
        return _host_name(value)


def _host_name(value: str) -> str:
    if not _HOST.match(value):
        raise ValueError(f"{value[:64]!r} is not a host name or address")
    return value


class Probes(Part):
    """What must still answer after a change; only what answered before is demanded."""

    gateway: bool = True
    api: bool = True
    kubelet: bool = True
    peers: int = Field(default=2, ge=0, le=16)
    dns: Names = Field(default_factory=list, max_length=16)
    extra: list[ExtraProbe] = Field(default_factory=list, max_length=32)

    @field_validator("dns")
    @classmethod
    def _names(cls, value: list[str]) -> list[str]:
        return [_host_name(name) for name in value]

    def requests(self, peers: list[str]) -> list[dict[str, str]]:
        """Return the probes as they stand in a node's request.

        Args:
            peers: addresses of nodes outside the wave, best first; the first ``self.peers`` are used.
        """
        wanted: list[dict[str, str]] = [{"kind": "gateway"}] if self.gateway else []
        wanted += [{"kind": "peer", "target": peer} for peer in peers[: self.peers]]
        wanted += [{"kind": kind} for kind, on in (("api", self.api), ("kubelet", self.kubelet)) if on]
        wanted += [{"kind": "dns", "target": name} for name in self.dns]
        wanted += [{"kind": probe.kind, "target": probe.target} for probe in self.extra]
        return [probe for index, probe in enumerate(wanted) if probe not in wanted[:index]]


class ClusterWish(Filled):
    """Whether a run uses the cluster, and drains; options and TUNE_NODES_* variables are stronger."""

    mode: Literal["auto", "required", "off"] | None = None
    drain: bool | None = None
    drain_timeout: float | None = Field(default=None, ge=1, le=86400)


class Variant(Part):
    """Settings that hold on some of the profile's nodes only; later variants override earlier ones."""

    match: Match
    sysctl: dict[str, SysctlWish] = Field(default_factory=dict)
    nic_queues: list[NicWish] = Field(default_factory=list)
    mtu: list[MtuWish] = Field(default_factory=list)


class Profile(Part):
    """One profile file."""

    name: str = ""  # the file's stem; may be repeated, not contradicted
    description: Text = ""
    extends: Names = Field(default_factory=list, max_length=16)
    match: Match | None = None
    sysctl: dict[str, SysctlWish] = Field(default_factory=dict)
    nic_queues: list[NicWish] = Field(default_factory=list)
    mtu: list[MtuWish] = Field(default_factory=list)
    variants: list[Variant] = Field(default_factory=list, max_length=64)
    probes: Probes | None = None
    window: int | None = Field(default=None, ge=MIN_WINDOW, le=MAX_WINDOW)
    cluster: ClusterWish | None = None

    def parts(self) -> Iterator[tuple[tuple[str | int, ...], Profile | Variant]]:
        """Yield everything that holds settings, with where it stands: the profile itself, then each variant."""
        yield (), self
        for index, variant in enumerate(self.variants):
            yield ("variants", index), variant
