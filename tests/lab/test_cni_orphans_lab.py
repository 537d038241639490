"""What CNIs leave, laid in a namespace of its own on this kernel: removed exactly, brought back, what is foreign kept.

The programs ip, iptables, nft and ipset are the witnesses; the code under test runs in a process in the namespace.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]

# Reads, judges with what it is told of the cluster, removes or brings back. "kill": after so many steps, as kill -9.
DRIVER = """
import json, os, signal, sys
from ansible_collections.tune.nodes.plugins.module_utils.cni import command, detect
from ansible_collections.tune.nodes.plugins.module_utils.cni.model import Sandbox
from ansible_collections.tune.nodes.plugins.module_utils.cni.orphans import backup, path, plan, read, remove, routes
from ansible_collections.tune.nodes.plugins.module_utils.host import Host, observe_host

asked = json.load(sys.stdin)
left = [asked.get("kill", -1)]

def run(argv, *rest):
    if "show" not in argv and {"-D", "-F", "-X", "-N", "-A", "-I", "del", "add", "destroy", "delete"} & set(argv):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return command.run(argv, *rest)

def again():
    node = read.read(observe_host(asked["root"]), asked["conf_dir"], run)
    found = {one.key: one for one in map(routes.route, node.routes)}
    found.update({one.key: one for one in node.artefacts})
    return found

if asked["undo"]:
    kept = backup.kept(Host(root=asked["root"]), asked["undo"])
    rows = remove.restore(kept, again, run)
    print(json.dumps([[row.artefact.kind, row.artefact.name, row.how, row.note] for row in rows]))
    sys.exit(0)
host = observe_host(asked["root"])
node = read.read(host, asked["conf_dir"], run)
used = read.used(host, node, {})
facts = plan.Facts(["cilium"], ["10.244.0.0/24"])
confs = detect.confs(asked["conf_dir"], host)
way = path.Path(tuple(asked["peers"]), tuple(asked["devices"]))
found = plan.judge(plan.Asked(node, confs, used, {"a": Sandbox("a")}, facts, way))
rows = remove.remove(backup.Backup(Host(root=asked["root"]), asked["run"]), found.removable, again, run)
stays = {one.artefact.name: one.refused for one in found.orphans if one.refused}
print(json.dumps({"rows": [[r.artefact.kind, r.artefact.name, r.how, r.note] for r in rows], "stays": stays,
                  "unread": node.unread}))
"""

# What is somebody else's. The second rule of FORWARD stands between two of Flannel's.
OTHERS = """
ip link set lo up
ip link add eth0 type veth peer name out
ip addr add 198.18.9.2/24 dev eth0
ip link set eth0 up
ip link set out up
ip link add br-other type bridge
ip addr add 10.99.0.1/24 dev br-other
ip route add 10.98.0.0/24 via 198.18.9.7 dev eth0
ip route add 10.97.0.0/24 via 198.18.9.7 dev eth0 table 200
ip rule add priority 9 fwmark 0x77 lookup 200
nft add table inet foreign
nft add set inet foreign s { type ipv4_addr; flags interval; }
nft add element inet foreign s { 192.0.2.0/28 }
ipset create foreignset hash:ip
ipset add foreignset 192.0.2.9
iptables-nft -N KUBE-SERVICES
iptables-nft -A INPUT -m comment --comment "kube portal" -j KUBE-SERVICES
iptables-nft -t nat -N KUBE-POSTROUTING
iptables-nft -t nat -A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
iptables-legacy -A FORWARD -s 192.0.2.0/24 -j ACCEPT
"""

LEFT = """
iptables-nft -t nat -N FLANNEL-POSTRTG
iptables-nft -t nat -A FLANNEL-POSTRTG -s 10.244.0.0/16 -m comment --comment "flanneld masq" -j RETURN
iptables-nft -t nat -A FLANNEL-POSTRTG -s 10.244.0.0/16 -m comment --comment "flanneld masq" -j RETURN
iptables-nft -t nat -I POSTROUTING 1 -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
iptables-nft -N FLANNEL-FWD
iptables-nft -A FLANNEL-FWD -s 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
iptables-nft -A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
iptables-nft -A FORWARD -s 192.0.2.0/24 -j ACCEPT
iptables-nft -A FORWARD -s 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
iptables-legacy -N cali-FORWARD
iptables-legacy -N cali-wl-to
iptables-legacy -A cali-FORWARD -m comment --comment "cali:abc" -j cali-wl-to
iptables-legacy -A FORWARD -m comment --comment "cali:xyz" -j cali-FORWARD
ip6tables-nft -N FLANNEL-FWD
ip6tables-nft -A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
nft add table ip flannel-ipv4
nft add chain ip flannel-ipv4 postrtg { type nat hook postrouting priority srcnat; }
nft add rule ip flannel-ipv4 postrtg ip saddr 10.244.0.0/16 counter masquerade
ipset create cali40all hash:net
ipset add cali40all 10.0.0.0/8
ip link add flannel.1 address 02:00:00:00:00:aa mtu 1400 type vxlan id 1 dev eth0 local 198.18.9.2 dstport 8472
ip addr add 10.244.5.0/32 dev flannel.1
ip link set flannel.1 up
ip route add 10.244.3.0/24 via 10.244.3.0 dev flannel.1 onlink
ip route add 10.244.4.0/24 via 10.244.4.0 dev flannel.1 onlink table 100
ip link add cni0 type bridge
ip addr add 10.244.5.1/24 dev cni0
ip link set cni0 up
ip rule add priority 20 lookup 77
ip route add blackhole 10.244.7.0/26 proto 80
"""

SHOWN = (
    ["iptables-nft-save"],
    ["ip6tables-nft-save"],
    ["iptables-legacy-save"],
    ["nft", "-s", "list", "ruleset", "inet"],
    ["nft", "list", "tables"],
    ["ipset", "save"],
    ["ip", "-4", "route", "show", "table", "all"],
    ["ip", "rule"],
    ["ip", "-o", "link"],
    ["ip", "-o", "-4", "addr"],
)


class Space:
    """A network namespace, and a directory for what is removed in it."""

    def __init__(self, name: str, root: Path) -> None:
        self.name, self.root = name, root
        self.conf_dir = root / "etc/cni/net.d"
        self.conf_dir.mkdir(parents=True)
        conf = {"cniVersion": "0.3.1", "name": "cilium", "plugins": [{"type": "cilium-cni"}]}
        (self.conf_dir / "05-cilium.conflist").write_text(json.dumps(conf))

    def run(self, *argv: str, stdin: str = "", check: bool = True) -> str:
        """Run a program in the namespace."""
        whole = ["ip", "netns", "exec", self.name, *argv]
        done = subprocess.run(whole, input=stdin, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0 or not check, f"{argv}: {done.stderr}"
        return done.stdout

    def lay(self, text: str) -> None:
        """Run lines of commands."""
        self.run("sh", "-e", stdin="".join(_quoted(line) + "\n" for line in text.splitlines()))

    def shown(self) -> dict[str, list[str]]:
        """Return what every program shows, without counters, numbers of devices and times."""
        return {" ".join(argv): _plain(self.run(*argv)) for argv in SHOWN}

    def ask(self, *, killed: bool = False, **request: Any) -> Any:
        """Run the code under test."""
        asked = {"conf_dir": "/etc/cni/net.d", "root": str(self.root), "undo": "", "peers": [], "devices": []}
        start = f"import sys; sys.path.insert(0, {str(ROOT / '.ansible/collections')!r})\n"
        argv = ["ip", "netns", "exec", self.name, sys.executable, "-c", start + DRIVER]
        done = subprocess.run(
            argv, input=json.dumps({**asked, **request}), capture_output=True, text=True, timeout=90, check=False
        )
        if killed:
            assert done.returncode == -signal.SIGKILL, done.stderr
            return None
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def _quoted(line: str) -> str:
    return re.sub(r"([{};])", r"'\1'", line)


def _plain(text: str) -> list[str]:
    """Return lines in order where order counts: of rules; sorted where the kernel has none."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            moving = r"\[\d+:\d+\]|^\d+: |@if\d+|initval 0x\w+|\blinkdown\b|NO-CARRIER,|,LOWER_UP|state \w+ "
            lines.append(re.sub(moving, "", line).strip())
    rules = any(line.startswith("*") for line in lines)
    return lines if rules else sorted(lines)


def same_rules(one: dict[str, list[str]], other: dict[str, list[str]]) -> None:
    """Assert two looks are the same; chains may be listed in another order, rules within a chain may not."""
    assert one.keys() == other.keys()
    for name in one:
        if name.endswith("-save"):
            assert sorted(one[name]) == sorted(other[name]), name
            for chain in {line.split()[1] for line in one[name] if line.startswith("-A")}:
                rows = [[line for line in look[name] if line.startswith(f"-A {chain} ")] for look in (one, other)]
                assert rows[0] == rows[1], name
        else:
            assert one[name] == other[name], name


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Space]:
    """A namespace with what others made in it."""
    name = f"orphans-{uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=20)
    try:
        made = Space(name, tmp_path)
        made.lay(OTHERS)
        yield made
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True, timeout=20)


def test_what_is_left_goes_comes_back_and_nothing_else_moves(space: Space) -> None:
    others = space.shown()
    space.lay(LEFT)
    file = space.conf_dir / "10-flannel.conflist"
    file.write_text('{"cniVersion": "0.3.1", "name": "cbr0", "plugins": [{"type": "flannel"}]}')
    file.chmod(0o640)
    laid = space.shown()
    found = space.ask(run="one")
    assert found["unread"] == [] and found["stays"] == {}
    assert [row for row in found["rows"] if row[2] != "removed"] == []
    kinds = [row[0] for row in found["rows"]]
    assert kinds == [*["chains"] * 4, "table", "ipset", *["route"] * 3, *["link"] * 2, "file"]
    after = space.shown()
    # Between two of Flannel's rules stood one that is not: it is there, and so is the empty builtin of a legacy table.
    assert "-A FORWARD -s 192.0.2.0/24 -j ACCEPT" in after["iptables-nft-save"]
    for look in (after, others):
        look["iptables-nft-save"] = [line for line in look["iptables-nft-save"] if "192.0.2.0/24" not in line]
        look["ip rule"] = [line for line in look["ip rule"] if "lookup 77" not in line]
        look["nft list tables"] = [line for line in look["nft list tables"] if line != "table ip6 filter"]
        look["ip6tables-nft-save"] = []
    same_rules(after, others)
    assert [path.name for path in space.conf_dir.iterdir()] == ["05-cilium.conflist"]
    back = space.ask(undo="one")
    assert [row for row in back if row[2] != "restored"] == []
    same_rules(space.shown(), laid)
    assert file.stat().st_mode & 0o777 == 0o640
    assert {row[2] for row in space.ask(undo="latest")} == {"there"}


@pytest.mark.parametrize("steps", [2, 4, 9, 16, 20])
def test_killed_in_the_middle_the_next_run_ends_it_or_undo_brings_it_back(space: Space, steps: int) -> None:
    space.lay(LEFT)
    laid = space.shown()
    space.ask(run="cut", kill=steps, killed=True)
    assert space.shown() != laid
    back = space.ask(undo="cut")
    assert [row for row in back if row[2] not in ("restored", "there")] == []
    same_rules(space.shown(), laid)
    space.ask(run="cut2", kill=steps, killed=True)
    ended = space.ask(run="end")
    assert [row for row in ended["rows"] if row[2] != "removed"] == []
    assert not any("FLANNEL" in line for line in space.shown()["iptables-nft-save"])
    for run in ("end", "cut2"):
        assert not [row for row in space.ask(undo=run) if row[2] == "failed"]
    same_rules(space.shown(), laid)


def test_the_way_of_our_own_connection_stays(space: Space) -> None:
    space.lay(LEFT)
    found = space.ask(run="own", peers=["10.244.3.9"], devices=["cni0"])
    assert found["stays"] == {
        "cni0": "our own connection to this node goes through it",
        "ip4 10.244.3.0/24 via 10.244.3.0 dev flannel.1 onlink": "our own connection comes from 10.244.3.9, "
        "which it leads to",
    }
    assert "cni0" in space.run("ip", "-o", "link")


def test_what_was_made_anew_since_is_left_by_an_undo(space: Space) -> None:
    space.lay(LEFT)
    space.ask(run="anew")
    space.lay("ip link add cni0 type bridge\nip addr add 10.244.8.1/24 dev cni0\n")
    rows = {row[1]: row[2] for row in space.ask(undo="anew")}
    assert rows.pop("cni0") == "differs" and set(rows.values()) <= {"restored", "there"}
    assert "10.244.8.1/24" in space.run("ip", "-o", "addr", "show", "dev", "cni0")
