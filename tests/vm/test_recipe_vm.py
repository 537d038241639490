"""The article's throughput recipe on a machine where all of it is real, and what a reboot makes of it.

The tests of this module look at one machine: tuned, looked at, rebooted once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from clirun import assert_clear
from vmbed.machine import Machine
from vmrun import ARTICLE, OLD, VmCli, boot_report, channels, held, ours, processes, profile, reset, states, wait_on

from commandline import Done

CONNTRACK = {
    "net.netfilter.nf_conntrack_max": "524288",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait": "3600",
}
MORE = profile(
    {
        "net.core.somaxconn": (16384, "floor"),
        "net.core.netdev_max_backlog": (5000, "floor"),
        "net.ipv4.tcp_fin_timeout": (30, "exact"),
        "net.netfilter.nf_conntrack_max": (524288, "floor"),
        "net.netfilter.nf_conntrack_tcp_timeout_close_wait": (3600, "exact"),
    },
    [{"interfaces": ["eth0"], "rps": "0-1"}],
)
RAISED = "30000"  # what somebody else's file makes of a floor between the boots
FILES = [
    "/etc/sysctl.d/90-tune-nodes.conf",
    "/etc/systemd/system/multi-user.target.wants/tune-nodes-boot.service",
    "/etc/systemd/system/tune-nodes-boot.service",
    "/etc/tune-nodes",
    "/etc/udev/rules.d/90-tune-nodes.rules",
]
#: Stands for the real one: its unit's name is what the boot unit must come before.
KUBELET = """[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
[Install]
WantedBy=multi-user.target
"""


@dataclass
class Story:
    """What was done, and what was seen before the reboot."""

    vm: Machine
    cli: VmCli
    article: Done
    again: Done
    more: Done
    before: dict[str, str]
    queues: int
    boot: str


@pytest.fixture(scope="module")
def story(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The machine after: article, article again, MORE, somebody's own file, a reboot."""
    reset(machine)
    cli = VmCli(tmp_path_factory.mktemp("recipe") / "cli", machine)
    article = cli("apply", "-p", "article", "--yes")
    before, queues = held(machine), channels(machine)
    again = cli("apply", "-p", "article", "--yes")
    more = cli("apply", "-p", cli.profile(MORE, "more"), "--yes")
    machine.run("tee", "/etc/sysctl.d/99-test.conf", input=f"net.core.netdev_max_backlog = {RAISED}\n")
    machine.run("tee", "/etc/systemd/system/kubelet.service", input=KUBELET)
    machine.run("systemctl", "-q", "enable", "kubelet.service")
    boot = machine.boot_id()
    machine.reboot()
    yield Story(machine, cli, article, again, more, before, queues, boot)
    machine.run("systemctl", "-q", "disable", "--now", "kubelet.service")
    machine.run("rm", "/etc/systemd/system/kubelet.service")


def test_the_recipe_takes_at_once_and_a_second_run_changes_nothing(story: Story) -> None:
    assert_clear(story.article, 0, "changed 1 of 1")
    assert story.before == {**OLD, **ARTICLE}
    assert story.queues == 4
    assert_clear(story.again, 0, "0 changes", "ok 1 of 1")


def test_the_recipe_holds_after_a_reboot(story: Story) -> None:
    assert story.vm.boot_id() != story.boot
    assert channels(story.vm) == 4
    assert held(story.vm, *ARTICLE) == ARTICLE
    assert held(story.vm, "net.ipv4.tcp_fin_timeout") == {"net.ipv4.tcp_fin_timeout": "30"}


def test_rps_holds_after_a_reboot_on_the_queues_that_came_back_too(story: Story) -> None:
    masks = story.vm.run("sh", "-c", "cat /sys/class/net/eth0/queues/rx-*/rps_cpus").split()
    assert [int(mask, 16) for mask in masks] == [3, 3, 3, 3]


def test_floors_are_decided_anew_at_boot(story: Story) -> None:
    floors = held(story.vm, "net.core.somaxconn", "net.core.netdev_max_backlog")
    assert floors == {"net.core.somaxconn": "16384", "net.core.netdev_max_backlog": RAISED}, "raised, never lowered"


def test_the_boot_unit_ran_in_its_place_within_its_time(story: Story) -> None:
    def at(unit: str, event: str) -> int:
        return int(story.vm.run("systemctl", "show", "-P", f"{event}TimestampMonotonic", unit))

    begun, ended = (at("tune-nodes-boot.service", event) for event in ("ExecMainStart", "ExecMainExit"))
    for earlier in ("systemd-sysctl.service", "systemd-modules-load.service", "network-online.target"):
        assert 0 < at(earlier, "ActiveEnter") <= begun, earlier
    assert ended <= at("kubelet.service", "InactiveExit"), "pods start on a tuned node"
    assert (ended - begun) / 1e6 < 90, "the unit's own limit"
    assert story.vm.run("systemctl", "is-failed", "tune-nodes-boot.service", check=False).strip() == "inactive"
    assert story.vm.run("systemctl", "--failed", "--plain", "--no-legend") == ""
    assert "tune-nodes" not in story.vm.run("systemctl", "show", "-P", "Requires", "multi-user.target")


def test_no_process_and_no_timer_of_ours_is_left(story: Story) -> None:
    assert processes(story.vm) == []
    assert "tune-nodes" not in story.vm.run("systemctl", "list-timers", "--all", "--no-pager")


def test_keys_of_a_module_that_loads_late_are_set_when_it_does(story: Story) -> None:
    assert_clear(story.more, 0, "module nf_conntrack is not loaded yet: kept, and applied when it loads")
    assert ours(story.vm) == FILES
    left = {row["key"] for row in boot_report(story.vm)["changes"] if row["status"] == "unsupported"}
    assert left == set(CONNTRACK)
    story.vm.run("modprobe", "nf_conntrack")
    wait_on(story.vm, f'[ "$(sysctl -n {list(CONNTRACK)[1]})" = 3600 ]', 120)  # the last one to be written
    assert held(story.vm, *CONNTRACK) == CONNTRACK
    set_now = {row["key"]: row["status"] for row in boot_report(story.vm)["changes"]}
    assert set_now == dict.fromkeys(CONNTRACK, "changed")


def test_rolled_back_newest_first_nothing_of_ours_is_left(story: Story) -> None:
    for run in reversed(list(states(story.vm))):
        assert_clear(story.cli("rollback", run, "--yes"), 0)
    found = held(story.vm)
    assert found.pop("net.core.netdev_max_backlog") == RAISED, "somebody else's"
    assert found == {key: OLD[key] for key in found}
    assert channels(story.vm) == 2
    assert ours(story.vm) == []
    assert processes(story.vm) == []
