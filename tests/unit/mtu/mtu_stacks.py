"""Observations of made-up nodes, in the few words that matter for an MTU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from ansible_collections.tune.nodes.plugins.module_utils.mtu import links, pins, read
from ansible_collections.tune.nodes.plugins.module_utils.mtu.family import FAMILY

FIXTURES = Path(__file__).parents[2] / "fixtures/mtu"
OURS = {"by": "tune-nodes", "file": "", "id": "", "type": "", "dhcp": ""}
FLANNEL_ENV = "/run/flannel/subnet.env"
Row = dict[str, Any]
#: Links that a made-up node has routes by, and what pins.summary() says of such a link.
ROUTED = ("eth0", "flannel.1", "cni0")
FREE: Row = {"free": 2, "own": 0, "hindered": "", "pins": "none"}


def captured(name: str) -> Row:
    """Return what a captured dump says: links, addresses, routes as read.py has them, and what ip said."""
    raw = json.loads((FIXTURES / "captured" / f"{name}.json").read_text())

    def decoded(kind: str, decode: Any) -> list[Row]:
        return [row for row in (decode(bytes.fromhex(text)) for text in raw[kind]) if row is not None]

    routes = decoded("routes", links.decode_route)
    found = decoded("links", links.decode_link)
    names = {link["index"]: link["name"] for link in found}
    return {
        "links": found,
        "pinning": {"summary": pins.summary(decoded("routes", pins.decode), names), "kept": {}},
        "addresses": decoded("addresses", links.decode_address),
        "routes": [row for row in routes if not row["cached"]],
        "cached": [row for row in routes if row["cached"]],
        "ip": raw["ip"],
    }


def constructed(name: str) -> Row:
    """Return one of the hand-written observations of hardware that no test machine has."""
    found: Row = json.loads((FIXTURES / "constructed" / f"{name}.json").read_text())
    return node(
        found["links"],
        addresses=found.get("addresses", {}),
        default=found.get("default", ""),
        cni=found.get("cni", ""),
        given=found.get("given"),
        keepers=found.get("keepers", {}),
    )


def link(name: str, mtu: int = 1500, kind: str = "", **more: Any) -> Row:
    """Return a link; ``over`` and ``master`` are names that node() turns into indexes, a tunnel's are in ``tunnel``."""
    tunnel = more.pop("tunnel", None)
    if tunnel is not None:
        empty = {"id": 0, "local": "", "remote": "", "link": 0, "family": 0, "external": False, "options": 0}
        tunnel = {**empty, **tunnel}
    found: Row = {
        "name": name,
        "kind": kind,
        "mtu": mtu,
        "min": 68,
        "max": 9216,
        "up": True,
        "running": True,
        "type": 1,
        "mac": "02:00:00:00:00:01",
        "over": "",
        "master": "",
        "away": False,
        "port": "",
        "tunnel": tunnel,
    }
    return {**found, **more}


def vxlan(name: str = "flannel.1", mtu: int = 1450, over: str = "eth0", **more: Any) -> Row:
    """Return a vxlan over an interface, IPv4 unless told otherwise."""
    tunnel = {"id": 1, "local": "192.0.2.1", "family": 4, "link": over, **more.pop("tunnel", {})}
    return link(name, mtu, "vxlan", max=65535, tunnel=tunnel, **more)


def pod(number: int, mtu: int = 1450, master: str = "cni0") -> Row:
    """Return this node's end of a pod's cable."""
    return link(f"veth{number:08x}", mtu, "veth", max=65535, away=True, master=master, port="bridge" if master else "")


def bridge(name: str = "cni0", mtu: int = 1450) -> Row:
    """Return a bridge."""
    return link(name, mtu, "bridge", max=65535)


def node(
    rows: list[Row],
    addresses: dict[str, list[str]] | None = None,
    default: str = "eth0",
    cni: str = "flannel",
    given: int | None = None,
    keepers: dict[str, Row] | None = None,
    **more: Any,
) -> Row:
    """Return an observation as read.observe() would.

    Args:
        addresses: link -> its addresses.
        default: the link of the default route.
        given: what the CNI gives new pods.
        keepers: link -> who keeps its MTU, where that is not the boot unit.
    """
    index = {row["name"]: number for number, row in enumerate(rows, 1)}
    found = []
    for row in rows:
        at = {"index": index[row["name"]], "link": index.get(row["over"], 0), "master": index.get(row["master"], 0)}
        done = {**row, **at}
        del done["over"]
        if row["tunnel"] is not None and isinstance(row["tunnel"]["link"], str):
            # A name that no link has stands for an interface that is gone.
            done["tunnel"] = {
                **row["tunnel"],
                "link": index.get(row["tunnel"]["link"], 99 if row["tunnel"]["link"] else 0),
            }
        found.append(done)
    listed = [
        {"index": index[name], "family": 6 if ":" in text else 4, "address": text}
        for name, texts in (addresses or {"eth0": ["192.0.2.1"]}).items()
        for text in texts
    ]
    route = {"family": 4, "to": "default", "via": "192.0.2.254", "index": index.get(default, 0), "metric": 0}
    observation: Row = {
        "links": found,
        "addresses": listed,
        "routes": [{**route, "mtu": 0, "locked": False, "advmss": 0, "cached": False}] if default else [],
        "cached": [],
        "pinning": {"summary": {row["name"]: dict(FREE) for row in rows if row["name"] in ROUTED}, "kept": {}},
        "kernel": "6.1.0",
        "cni": {
            "name": cni,
            "file": "/etc/cni/net.d/10-x.conflist" if cni else "",
            "types": [cni or "x"] if cni else [],
            "mtu": given,
            "mtu_from": FLANNEL_ENV if given else "",
            "bridge": "",
            "env": cni == "flannel",
            "agent": True,
        },
        "cloud": "",
        "keepers": {row["name"]: {**OURS, **(keepers or {}).get(row["name"], {})} for row in rows},
        "drivers": {row["name"]: "mlx5_core" for row in rows if row["kind"] == ""},
    }
    return {**observation, **more}


def flannel(mtu: int = 1500, pods: int = 2, **more: Any) -> Row:
    """Return a Flannel node whose layers all follow from its interface."""
    cables = [pod(number, mtu - 50) for number in range(pods)]
    rows = [link("eth0", mtu), vxlan(mtu=mtu - 50), bridge(mtu=mtu - 50), *cables]
    return node(rows, **{"given": mtu - 50, **more})


def plan(observation: Row, *settings: Row) -> list[Any]:
    """Return the changes that the family plans."""
    return FAMILY.plan(FAMILY.parse(list(settings)), observation)


def pending(changes: list[Any]) -> list[str]:
    """Return "eth0 1500>9000" for each change to be made, in order."""
    return [f"{c.key[:-4]} {c.before}>{c.want}" for c in changes if c.status == "pending"]


def by_key(changes: list[Any]) -> dict[str, Any]:
    """Return key -> change."""
    return {change.key: change for change in changes}


def completed(name: str, root: Path) -> Row:
    """Return a captured dump as read.observe() would, with the files below ``root``."""
    dump = captured(name)
    del dump["ip"]
    return read.complete(dump, Host(root=str(root), kernel="6.18"))
