"""Owners are found by live evidence, and left out where their own configuration lets the key go."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from ansible_collections.tune.nodes.plugins.module_utils.sysctl import owners
from ansible_collections.tune.nodes.plugins.module_utils.sysctl.family import FAMILY
from hypothesis import given
from hypothesis import strategies as st

FIXTURES = Path(__file__).parents[2] / "fixtures" / "sysctl"
PID = 7


def host_with(root: Path, comm: str, cmdline: str = "", files: dict[str, str] | None = None) -> Host:
    """Return a host on which one program runs; ``files`` lie in its own mount namespace or on the host."""
    process = root / "proc" / str(PID)
    process.mkdir(parents=True)
    (process / "cmdline").write_text(cmdline.replace(" ", "\0") + "\0", encoding="utf-8")
    for name, text in (files or {}).items():
        path = root / name.replace("INSIDE", f"proc/{PID}/root")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Host(root=str(root), processes={comm: [PID]})


def owner_on(host: Host, key: str) -> str:
    wish = "4096 131072 16777216" if key.endswith("mem") else 1
    found = owners.detect(FAMILY.parse([{"key": key, "value": wish, "class": "exact", "opt_in": True}]), host)
    return found[key].owner if found else ""


KUBE_PROXY_YAML = (FIXTURES / "kube-proxy.yaml").read_text(encoding="utf-8")
CONNTRACK = "net.netfilter.nf_conntrack_max"
ESTABLISHED = "net.netfilter.nf_conntrack_tcp_timeout_established"
CLOSE_WAIT = "net.netfilter.nf_conntrack_tcp_timeout_close_wait"
BANDWIDTH = {"INSIDE/tmp/cilium/config-map/enable-bandwidth-manager": "true"}
CONFIG = {"INSIDE/var/lib/kube-proxy/config.conf": KUBE_PROXY_YAML}
WITH_CONFIG = "/usr/local/bin/kube-proxy --config=/var/lib/kube-proxy/config.conf"


@pytest.mark.parametrize(
    ("comm", "cmdline", "files", "key", "owner"),
    [
        ("kube-proxy", "kube-proxy", {}, CONNTRACK, "kube-proxy"),
        ("kube-proxy", WITH_CONFIG, {}, CONNTRACK, "kube-proxy"),
        ("kube-proxy", WITH_CONFIG, CONFIG, CONNTRACK, ""),
        ("kube-proxy", WITH_CONFIG, CONFIG, ESTABLISHED, ""),
        ("kube-proxy", WITH_CONFIG, CONFIG, CLOSE_WAIT, "kube-proxy"),
        ("kube-proxy", "kube-proxy --conntrack-max-per-core 0", {}, CONNTRACK, ""),
        ("kube-proxy", "kube-proxy --conntrack-max-per-core=32768", {}, CONNTRACK, "kube-proxy"),
        ("kube-proxy", "kube-proxy", {}, "net.core.somaxconn", ""),
        ("k3s-server", "k3s server", {}, CONNTRACK, "k3s"),
        ("k3s-server", "k3s server --kube-proxy-arg=conntrack-max-per-core=0", {}, CONNTRACK, ""),
        (
            "k3s-agent",
            "k3s agent",
            {"etc/rancher/k3s/config.yaml": "kube-proxy-arg:\n- conntrack-max-per-core=0\n"},
            CONNTRACK,
            "",
        ),
        ("kubelet", "kubelet", {}, "vm.overcommit_memory", "kubelet"),
        ("kubelet", "kubelet", {}, "kernel.panic", "kubelet"),
        ("kubelet", "kubelet", {}, "net.ipv4.tcp_rmem", ""),
        ("cilium-agent", "cilium-agent", {}, "net.ipv4.conf.all.rp_filter", "cilium"),
        ("cilium-agent", "cilium-agent", {}, "net.core.default_qdisc", ""),
        ("cilium-agent", "cilium-agent", BANDWIDTH, "net.core.default_qdisc", "cilium-bandwidth"),
        ("calico-node", "calico-node -felix", {}, "net.ipv4.conf.cali1.rp_filter", "calico"),
        ("bpftune", "bpftune", {}, "net.ipv4.tcp_rmem", "bpftune"),
        ("bpftune", "bpftune", {}, "net.core.netdev_max_backlog", "bpftune"),
        ("bpftune", "bpftune", {}, "net.ipv6.neigh.default.gc_thresh3", "bpftune"),
        ("bpftune", "bpftune", {}, "net.core.somaxconn", ""),
        ("systemd-network", "systemd-networkd", {}, "net.ipv4.ip_forward", ""),
        (
            "systemd-network",
            "systemd-networkd",
            {"etc/systemd/network/10-lan.network": "[Network]\nIPForward=yes\n"},
            "net.ipv4.ip_forward",
            "systemd-networkd",
        ),
        (
            "systemd-network",
            "systemd-networkd",
            {"etc/systemd/network/10-lan.network": "[Network]\nIPForward=no\n"},
            "net.ipv4.ip_forward",
            "",
        ),
        ("NetworkManager", "NetworkManager", {}, "net.ipv6.conf.eth0.accept_ra", "NetworkManager"),
    ],
)
def test_owners(tmp_path: Path, comm: str, cmdline: str, files: dict[str, str], key: str, owner: str) -> None:
    assert owner_on(host_with(tmp_path, comm, cmdline, files), key) == owner


@pytest.mark.parametrize(
    ("key", "profile"),
    [
        ("net.ipv4.tcp_rmem", "network-throughput"),
        ("net.core.somaxconn", "network-throughput"),
        ("vm.swappiness", "throughput-performance"),
        ("kernel.numa_balancing", "throughput-performance"),
        ("net.core.rmem_max", ""),
    ],
)
def test_tuned_owns_the_keys_of_its_active_profile(tmp_path: Path, key: str, profile: str) -> None:
    files = {"INSIDE/etc/tuned/active_profile": "network-throughput\n"}
    for name in ("network-throughput", "throughput-performance"):
        text = (FIXTURES / "tuned" / name / "tuned.conf").read_text(encoding="utf-8")
        files[f"INSIDE/usr/lib/tuned/{name}/tuned.conf"] = text
    host = host_with(tmp_path, "tuned", "python3 /usr/sbin/tuned", files)
    wish = "1 2 3" if key.endswith("rmem") else 4096 if key.startswith("net") else 1
    found = owners.detect(FAMILY.parse([{"key": key, "value": wish, "class": "exact", "opt_in": True}]), host)
    assert (found[key].evidence if found else "") == (f"process tuned (pid 7), profile {profile}" if profile else "")


def test_tuned_profiles_that_include_each_other_end(tmp_path: Path) -> None:
    files = {
        "INSIDE/etc/tuned/active_profile": "a ../../etc",
        "INSIDE/etc/tuned/a/tuned.conf": "[main]\ninclude=b\n",
        "INSIDE/etc/tuned/b/tuned.conf": "[main]\ninclude=a\n",
    }
    assert owner_on(host_with(tmp_path, "tuned", "tuned", files), "net.core.somaxconn") == ""


@given(st.text(max_size=300))
def test_a_tuned_profile_of_junk_is_survived(text: str) -> None:
    includes, keys = owners.parse_tuned("[sysctl]\n" + text)
    assert all("/" not in name for name in includes)
    assert all("." in key for key in keys)


def test_without_a_process_there_is_no_owner(tmp_path: Path) -> None:
    assert owner_on(Host(root=str(tmp_path)), CONNTRACK) == ""


def test_a_setting_names_its_own_owners(tmp_path: Path) -> None:
    host = host_with(tmp_path, "site-agent")
    raw = {"key": "net.core.somaxconn", "value": 1, "owners": ["site-agent"]}
    (found,) = owners.detect(FAMILY.parse([raw]), host).values()
    assert (found.owner, found.evidence) == ("site-agent", "process site-agent (pid 7)")
    none = {"key": CONNTRACK, "value": 1, "owners": []}
    assert owners.detect(FAMILY.parse([none]), Host(root=str(tmp_path), processes={"kube-proxy": [1]})) == {}


def test_every_owner_says_how_to_be_told() -> None:
    assert all(owner.tell and owner.comms for owner in owners.OWNERS.values())
