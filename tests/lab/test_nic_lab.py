# SPDX-License-Identifier: Apache-2.0
"""NIC queues on real devices: veth pairs with four queues in a throw-away network namespace.

The family's own code runs in a process inside the namespace; the ethtool program is the independent witness.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]

#: Runs in the namespace: settings in, plan out; "apply" also writes each pending change and reads it back.
DRIVER = """
import json, sys
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.host import observe_host
from ansible_collections.tune.nodes.plugins.module_utils.nic.family import FAMILY

request = json.load(sys.stdin)
host = observe_host()
answer = {"changes": [], "error": None, "values": {}}
try:
    if "settings" in request:
        settings = FAMILY.parse(request["settings"])
        for change in FAMILY.plan(settings, FAMILY.observe(settings, host)):
            if request["apply"] and change.status == "pending":
                FAMILY.write(change.key, change.want, host)
                change.after = FAMILY.read(change.key, host)
            answer["changes"].append(change.to_dict())
    for key, value in request.get("write", []):
        FAMILY.write(key, value, host)
    for key in request.get("read", []):
        answer["values"][key] = FAMILY.read(key, host)
    if "same" in request:
        answer["same"] = FAMILY.same_device(request["same"], host)
except NodeError as exc:
    answer["error"] = exc.to_dict()
print(json.dumps(answer))
"""


class Namespace:
    """A network namespace with its own /sys, and commands in it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, *argv: str, stdin: str = "") -> str:
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *argv],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout

    def ask(self, wrap: tuple[str, ...] = (), **request: Any) -> dict[str, Any]:
        path = f"import sys; sys.path.insert(0, {str(ROOT / '.ansible/collections')!r})\n"
        out = self.run(*wrap, sys.executable, "-c", path + DRIVER, stdin=json.dumps(request))
        answer: dict[str, Any] = json.loads(out)
        return answer

    def apply(self, *settings: dict[str, Any]) -> list[dict[str, Any]]:
        answer = self.ask(settings=settings, apply=True)
        assert answer["error"] is None
        changes: list[dict[str, Any]] = answer["changes"]
        assert all(c["after"] == c["want"] for c in changes if c["status"] == "pending")
        return changes

    def plan(self, *settings: dict[str, Any]) -> list[dict[str, Any]]:
        changes: list[dict[str, Any]] = self.ask(settings=settings, apply=False)["changes"]
        return changes

    def channels(self, interface: str = "v0") -> tuple[int, int]:
        """Return the (rx, tx) counts in use, as the ethtool program says."""
        now = self.run("ethtool", "-l", interface).split("Current hardware settings:")[1]
        rx, tx = (re.search(rf"^{side}:\s+(\d+)", now, re.M) for side in ("RX", "TX"))
        assert rx and tx
        return int(rx[1]), int(tx[1])

    def mask(self, queue: str, interface: str = "v0") -> str:
        """Return a queue's mask file, as cat says."""
        kind = "rps_cpus" if queue.startswith("rx") else "xps_cpus"
        return self.run("cat", f"/sys/class/net/{interface}/queues/{queue}/{kind}").strip()


@pytest.fixture
def netns() -> Iterator[Namespace]:
    name = f"tn-nic-{uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=30)
    try:
        inside = Namespace(name)
        pair = "link add v0 numtxqueues 4 numrxqueues 4 type veth peer name v1 numtxqueues 4 numrxqueues 4"
        inside.run("ip", *pair.split())
        inside.run("ip", "link", "set", "v0", "up")
        inside.run("ip", "link", "set", "v1", "up")
        inside.run("ethtool", "-L", "v0", "rx", "1", "tx", "1")
        yield inside
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True, timeout=30)


def online() -> int:
    return len(Path("/proc/cpuinfo").read_text().split("processor\t")) - 1


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (2, (2, 2)),
        ("max", (4, 4)),
        (9, (4, 4)),
        ({"rx": 3, "tx": 2}, (3, 2)),
        ("auto", (min(4, online()), min(4, online()))),
    ],
)
def test_channels_are_what_ethtool_says(netns: Namespace, wish: Any, expected: tuple[int, int]) -> None:
    changes = netns.apply({"interfaces": ["v0"], "channels": wish})
    assert netns.channels() == expected
    assert changes[0]["before"] == "rx=1 tx=1"
    again = netns.plan({"interfaces": ["v0"], "channels": wish})
    assert [c["status"] for c in again] == ["ok"]
    assert "UP" in netns.run("ip", "-o", "link", "show", "v0").split("state", 1)[1]


def test_everything_is_put_back_by_writing_before_in_reverse(netns: Namespace) -> None:
    netns.run("ethtool", "-L", "v0", "rx", "2", "tx", "2")
    netns.run("sh", "-c", "echo 1 > /sys/class/net/v0/queues/rx-1/rps_cpus")
    was = (netns.channels(), [netns.mask(q) for q in ("rx-0", "rx-1", "tx-0", "tx-1")])
    grown = netns.apply({"interfaces": ["v0"], "channels": 4, "rps": "0-1", "xps": "auto"})
    assert netns.mask("rx-3") == "3"
    assert netns.ask(write=[[c["key"], c["before"]] for c in reversed(grown)])["error"] is None
    assert (netns.channels(), [netns.mask(q) for q in ("rx-0", "rx-1", "tx-0", "tx-1")]) == was
    shrunk = netns.apply({"interfaces": ["v0"], "channels": 1})
    assert [c["key"] for c in shrunk] == ["v0/rps/rx-1", "v0/channels"]
    assert netns.channels() == (1, 1)
    assert netns.ask(write=[[c["key"], c["before"]] for c in reversed(shrunk)])["error"] is None
    assert (netns.channels(), [netns.mask(q) for q in ("rx-0", "rx-1", "tx-0", "tx-1")]) == was


def test_rps_spreads_one_queue_and_is_dropped_when_there_is_one_for_each_core(netns: Namespace) -> None:
    everyone = netns.run("cat", "/sys/devices/system/cpu/online").strip()
    netns.apply({"interfaces": ["v0"], "rps": "auto"})
    assert int(netns.mask("rx-0"), 16) == 2 ** online() - 1, everyone
    netns.apply({"interfaces": ["v0"], "channels": "auto", "rps": "auto"})
    if min(4, online()) == online():
        assert int(netns.mask("rx-0"), 16) == 0
    netns.apply({"interfaces": ["v0"], "rps": "0"})
    assert int(netns.mask("rx-0"), 16) == 1
    netns.apply({"interfaces": ["v0"], "rps": "off"})
    assert int(netns.mask("rx-0"), 16) == 0


def test_xps_gives_each_cpu_one_queue(netns: Namespace) -> None:
    wish = {"interfaces": ["v0"], "channels": 2, "xps": "auto"}
    netns.apply(wish)
    masks = [int(netns.mask(q), 16) for q in ("tx-0", "tx-1")]
    assert masks[0] & masks[1] == 0
    assert masks[0] | masks[1] == 2 ** online() - 1
    assert {c["status"] for c in netns.plan(wish)} == {"ok"}


def test_rings_and_combined_are_not_to_be_had_here(netns: Namespace) -> None:
    changes = netns.plan({"interfaces": ["v0"], "rings": "max", "channels": 4})
    assert {c["key"]: c["status"] for c in changes} == {"v0/rings": "unsupported", "v0/channels": "pending"}
    assert netns.ask(write=[["v0/rings", "rx=512 tx=512"]])["error"]["code"] == "unsupported"


def test_the_kernels_refusal_is_in_plain_words(netns: Namespace) -> None:
    error = netns.ask(write=[["v0/channels", "rx=9 tx=9"]])["error"]
    assert error["what"] == "the number of queues of v0 cannot be set"
    assert "EINVAL" in error["why"]
    assert netns.channels() == (1, 1)


def test_what_is_gone_is_said_to_be_gone(netns: Namespace) -> None:
    assert netns.ask(write=[["v9/channels", "rx=1 tx=1"]])["error"]["code"] == "gone"
    assert netns.ask(write=[["v0/rps/rx-3", "3"]])["error"]["code"] == "gone"
    answer = netns.ask(read=["v9/channels", "v9/rps/rx-0", "v0/rps/rx-3"], write=[["v0/rps/rx-3", "0"]])
    assert answer["error"] is None
    assert answer["values"] == {"v9/channels": None, "v9/rps/rx-0": None, "v0/rps/rx-3": "0"}


def test_a_read_only_sys_leaves_channels_and_says_why_masks_are_out_of_reach(netns: Namespace) -> None:
    wrap = ("unshare", "-m", "sh", "-c", 'mount -o remount,ro,bind /sys && exec "$@"', "sh")
    answer = netns.ask(wrap, settings=[{"interfaces": ["v0"], "channels": 2, "rps": "0"}], apply=True)
    assert answer["error"] is None
    assert [(c["key"], c["status"]) for c in answer["changes"]] == [
        ("v0/channels", "pending"),
        ("v0/rps/rx-0", "unsupported"),
    ]
    assert "read-only" in answer["changes"][1]["note"]
    assert netns.channels() == (2, 2)
    assert netns.ask(wrap, write=[["v0/rps/rx-0", "1"]])["error"]["code"] == "unsupported"


def test_the_sys_of_another_namespace_is_not_believed(netns: Namespace) -> None:
    """An interface of this name lives in the other namespace too, and must keep its masks."""
    other = f"tn-nic-{uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", other], check=True, timeout=30)
    try:
        theirs = Namespace(other)
        theirs.run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
        # /sys of the other namespace, sockets of ours.
        wrap = ("ip", "netns", "exec", other, "nsenter", f"--net=/run/netns/{netns.name}")
        answer = netns.ask(wrap, settings=[{"interfaces": ["v0"], "channels": 2, "rps": "0"}], apply=True)
        assert [(c["key"], c["status"]) for c in answer["changes"]] == [
            ("v0/channels", "pending"),
            ("v0/rps/rx-0", "unsupported"),
        ]
        assert netns.channels() == (2, 2)
        assert netns.ask(wrap, write=[["v0/rps/rx-0", "1"]])["error"]["code"] == "unsupported"
        assert int(theirs.mask("rx-0"), 16) == 0
        assert int(netns.mask("rx-0"), 16) == 0
    finally:
        subprocess.run(["ip", "netns", "del", other], check=True, timeout=30)


def test_an_open_af_xdp_socket_keeps_its_queues(netns: Namespace) -> None:
    netns.run("ethtool", "-L", "v0", "rx", "4", "tx", "4")
    holder = (
        "import socket,subprocess,sys; s=socket.socket(44, socket.SOCK_RAW, 0); sys.exit(subprocess.call(sys.argv[1:]))"
    )
    wrap = (sys.executable, "-c", holder)
    held = netns.ask(wrap, settings=[{"interfaces": ["v0"], "channels": 2}], apply=True)["changes"]
    assert [(c["status"], c["owner"]) for c in held] in ([("owned", "af_xdp")], [("pending", "")])
    if held[0]["status"] == "owned":  # a kernel without diagnosis: which queues is unknown, so none are taken
        assert netns.channels() == (4, 4)
        assert "AF_XDP sockets are open" in held[0]["note"]
    netns.apply({"interfaces": ["v0"], "channels": 1})
    assert netns.channels() == (1, 1)


def test_physical_means_the_default_routes_device_in_a_namespace(netns: Namespace) -> None:
    wish = {"interfaces": "physical", "channels": 2}
    assert [c["status"] for c in netns.plan(wish)] == ["unsupported"]
    netns.run("ip", "addr", "add", "198.18.77.2/24", "dev", "v0")
    netns.run("ip", "route", "add", "default", "via", "198.18.77.1")
    assert [c["key"] for c in netns.apply(wish)] == ["v0/channels"]
    assert netns.channels() == (2, 2)


def test_kept_settings_know_their_device(netns: Namespace) -> None:
    netns.run("ip", "link", "set", "v0", "address", "02:00:00:00:00:77")
    kept = netns.plan({"interfaces": ["v0"], "channels": 2})[0]["persist"]
    assert kept["identity"]["mac"] == "02:00:00:00:00:77"
    assert netns.ask(same=kept)["same"] == [True, ""]
    netns.run("ip", "link", "set", "v0", "address", "02:00:00:00:00:78")
    assert netns.ask(same=kept)["same"][0] is False
    other = {**kept, "identity": {**kept["identity"], "driver": "ena"}}
    assert "now by veth" in netns.ask(same=other)["same"][1]
