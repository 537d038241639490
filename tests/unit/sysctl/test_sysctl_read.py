"""Reading and writing below a root laid out from a captured /proc/sys."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from ansible_collections.tune.nodes.plugins.module_utils.sysctl.family import FAMILY

FIXTURES = Path(__file__).parents[2] / "fixtures" / "sysctl"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Return a host whose /proc/sys holds what a Debian machine's did."""
    for path, found in json.loads((FIXTURES / "initial.json").read_text(encoding="utf-8")).items():
        file = tmp_path / "proc/sys" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(found["text"], encoding="utf-8")
        file.chmod(int(found["mode"], 8))
    return Host(root=str(tmp_path), initial_netns=True, kernel="6.1.0-test")


def plan_on(host: Host, *raw: dict[str, Any]) -> list[tuple[str, str | None, str | None]]:
    settings = FAMILY.parse(raw)
    observation = json.loads(json.dumps(FAMILY.observe(settings, host)))
    return [(c.status, c.before, c.want) for c in FAMILY.plan(settings, observation)]


def test_read_is_canonical(host: Host) -> None:
    assert FAMILY.read("net.ipv4.tcp_rmem", host) == "4096 131072 33554432"
    assert FAMILY.read("net.core.nothing", host) is None
    assert FAMILY.read("net.core.somaxconn.more", host) is None


def test_what_is_not_text_cannot_be_read(host: Host) -> None:
    Path(host.path("proc/sys/kernel/core_pattern")).write_bytes(b"\xff\xfe\n")
    with pytest.raises(NodeError, match=r"cannot be read"):
        FAMILY.read("kernel.core_pattern", host)
    raw = {"key": "kernel.core_pattern", "value": "core"}
    assert plan_on(host, raw) == [("unsupported", None, "core")]


def test_observe_plan_write_read_and_then_nothing_is_left_to_do(host: Host) -> None:
    raw: list[dict[str, Any]] = [
        {"key": "net.core.somaxconn", "value": 32768},
        {"key": "net.ipv4.tcp_rmem", "value": "8192 131072 16777216"},
        {"key": "net.ipv4.tcp_fin_timeout", "value": 5},
    ]
    settings = FAMILY.parse(raw)
    for change in FAMILY.plan(settings, FAMILY.observe(settings, host)):
        assert change.status == "pending" and change.want is not None
        FAMILY.write(change.key, change.want, host)
        assert FAMILY.read(change.key, host) == change.want
    assert [status for status, _before, _want in plan_on(host, *raw)] == ["ok", "ok", "ok"]
    assert Path(host.path("proc/sys/net/ipv4/tcp_fin_timeout")).read_text(encoding="utf-8") == "5\n"


def test_writing_what_is_not_there_makes_nothing(host: Host) -> None:
    with pytest.raises(NodeError) as caught:
        FAMILY.write("net.core.nothing", "1", host)
    assert caught.value.code == "unsupported" and "no such key" in caught.value.why
    assert not Path(host.path("proc/sys/net/core/nothing")).exists()


def test_a_module_that_the_kernel_lacks_is_not_waited_for(host: Host, tmp_path: Path) -> None:
    Path(host.path("proc/sys/net/bridge/bridge-nf-call-iptables")).unlink()
    raw = {"key": "net.bridge.bridge-nf-call-iptables", "value": 1}

    def kept() -> bool:
        settings = FAMILY.parse([raw])
        return FAMILY.plan(settings, FAMILY.observe(settings, host))[0].persist is not None

    assert kept()  # no list of modules: it may come
    modules = tmp_path / "lib/modules/6.1.0-test"
    modules.mkdir(parents=True)
    (modules / "modules.dep").write_text("kernel/net/ipv4/tcp_bbr.ko.xz:\n", encoding="utf-8")
    assert not kept()
    (modules / "modules.dep").write_text("kernel/net/bridge/br_netfilter.ko: kernel/x.ko\n", encoding="utf-8")
    assert kept()
    (tmp_path / "sys/module/br_netfilter").mkdir(parents=True)
    assert not kept()  # loaded, and still no key


BBR = {"key": "net.ipv4.tcp_congestion_control", "value": "vegas", "opt_in": True}
FQ = {"key": "net.core.default_qdisc", "value": "fq", "opt_in": True}


def test_algorithms_are_looked_for_where_the_kernel_lists_them(host: Host, tmp_path: Path) -> None:
    assert [status for status, _b, _w in plan_on(host, BBR, FQ)] == ["unsupported", "unsupported"]
    available = tmp_path / "proc/sys/net/ipv4/tcp_available_congestion_control"
    available.write_text("reno cubic vegas\n", encoding="utf-8")
    assert [status for status, _b, _w in plan_on(host, BBR, FQ)] == ["pending", "unsupported"]
    modules = tmp_path / "lib/modules/6.1.0-test"
    modules.mkdir(parents=True)
    (modules / "modules.dep").write_text("kernel/net/sched/sch_fq.ko:\n", encoding="utf-8")
    assert [status for status, _b, _w in plan_on(host, BBR, FQ)] == ["pending", "pending"]


def test_a_kernel_that_tells_its_configuration_is_believed(host: Host, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "proc/config.gz", "wb") as handle:
        handle.write(b"CONFIG_NET_SCH_FQ=y\n# CONFIG_TCP_CONG_VEGAS is not set\n")
    assert [status for status, _b, _w in plan_on(host, BBR, FQ)] == ["unsupported", "pending"]
    (tmp_path / "proc/config.gz").write_bytes(b"\x1f\x8bnot gzip")
    assert [status for status, _b, _w in plan_on(host, FQ)] == ["unsupported"]


def test_sysctl_d_is_part_of_the_observation(host: Host, tmp_path: Path) -> None:
    directory = tmp_path / "etc/sysctl.d"
    directory.mkdir(parents=True)
    (directory / "90-tune-nodes.conf").write_text("net.ipv4.tcp_sack = 0\n", encoding="utf-8")
    (directory / "99-site.conf").write_text("# ours\nnet/ipv4/tcp_sack = 0\n", encoding="utf-8")
    settings = FAMILY.parse([{"key": "net.ipv4.tcp_sack", "value": 1}])
    (change,) = FAMILY.plan(settings, FAMILY.observe(settings, host))
    assert change.note == "/etc/sysctl.d/99-site.conf:2 sets it to 0 at boot, after ours: remove that line"
