"""What a lab is: names and addresses (pure), and the document kept in its directory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tune_nodes.errors import UsageError

SCHEMA = 1
#: One /22 a lab: 1,000 nodes fit, and a bridge takes 1,023 ports.
POOL = IPv4Network("10.77.0.0/16")
MAX_NODES = 1000
MAX_QUEUES = 64
SUBNETS = tuple(POOL.subnets(new_prefix=22))

_NAME = re.compile(r"[a-z][a-z0-9-]{0,23}")


def check_name(name: str) -> str:
    """Return a lab's name if it may be one: it becomes part of host, namespace and directory names."""
    if not _NAME.fullmatch(name) or name.endswith("-"):
        raise UsageError(
            f"{name!r} cannot name a lab", "lower-case letters, digits and dashes, at most 24, a letter first"
        )
    return name


def check_size(nodes: int, queues: int) -> None:
    """Raise UsageError for a lab that cannot be built."""
    if not 1 <= nodes <= MAX_NODES:
        raise UsageError(f"a lab has 1 to {MAX_NODES} nodes, not {nodes}", "a bridge takes 1,023 ports")
    if not 1 <= queues <= MAX_QUEUES:
        raise UsageError(f"a lab's NIC has 1 to {MAX_QUEUES} queues, not {queues}")


@dataclass(frozen=True)
class Layout:
    """Names and addresses of a lab. ``index`` tells labs apart in names too short for the lab's own."""

    name: str
    index: int

    @property
    def network(self) -> IPv4Network:
        """The lab's own /22."""
        return SUBNETS[self.index]

    @property
    def gateway(self) -> IPv4Address:
        """The bridge's address: the nodes' default route. Nothing is forwarded beyond it."""
        return self.network[1]

    @property
    def controller(self) -> IPv4Address:
        """This machine's address in the lab."""
        return self.network[-2]

    @property
    def interface(self) -> str:
        """This machine's one interface in the lab."""
        return f"tnlab{self.index}"

    @property
    def hub(self) -> str:
        """The network namespace that holds the bridge: no rule of the machine's firewall reaches into it."""
        return f"tn-{self.name}-hub"

    def node(self, number: int) -> str:
        """Inventory name of a node, counted from 1."""
        return f"{self.name}-{number}"

    def netns(self, number: int) -> str:
        """Network namespace of a node."""
        return f"tn-{self.name}-{number}"

    def port(self, number: int) -> str:
        """The hub's end of a node's cable."""
        return f"n{number}"

    def address(self, number: int) -> IPv4Address:
        """Address of a node."""
        return self.network[10 + number]


class Document(BaseModel):
    """Base of what is stored: unknown fields are errors, so that a foreign or newer file is noticed."""

    model_config = ConfigDict(extra="forbid")


class Started(Document):
    """A process, told from a later one with the same number by its start time (clock ticks since boot)."""

    pid: int
    start: int


class NodeState(Document):
    """One node."""

    number: int
    name: str
    address: str
    user: str = "root"
    init: Started | None = None  # holds the node's namespaces open; None while the node is down
    faults: dict[str, dict[str, Any]] = Field(default_factory=dict)  # fault -> what healing needs


class LabState(Document):
    """``state.json`` of a lab's directory. Written before the first namespace is made, so that ``down`` finds all."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_: int = Field(default=SCHEMA, alias="schema")
    name: str
    index: int
    queues: int
    boot_id: str  # of the machine: after a reboot nothing of the lab is left but files
    complete: bool = False  # all of it was made; else it is only good for taking down
    inventory: Path | None = None
    nodes: list[NodeState] = Field(default_factory=list)

    @property
    def layout(self) -> Layout:
        """Names and addresses."""
        return Layout(self.name, self.index)


class NodeStatus(Document):
    """One line of ``lab status``."""

    node: str
    address: str
    user: str
    up: bool  # its namespaces exist
    ssh: bool  # a login over ssh, host key checked, ended well
    detail: str = ""
    sshd_pid: int | None = None
    faults: list[str] = Field(default_factory=list)
