"""sysctl.d read as systemd reads it, and our own file in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from ansible_collections.tune.nodes.plugins.module_utils.sysctl import sysctld
from ansible_collections.tune.nodes.plugins.module_utils.sysctl.family import FAMILY
from hypothesis import given
from hypothesis import strategies as st

KEY = "net.core.somaxconn"


def lay(root: Path, files: dict[str, str]) -> Host:
    """Lay files out below a root; text that begins with "-> " makes a link."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            path.symlink_to(text[3:])
        else:
            path.write_text(text, encoding="utf-8")
    return Host(root=str(root))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("net.core.somaxconn = 1", ("net/core/somaxconn", "1", False)),
        ("  net/core/somaxconn=1  ", ("net/core/somaxconn", "1", False)),
        ("-net.core.somaxconn = 1", ("net/core/somaxconn", "1", True)),
        ("-net.core.somaxconn", ("net/core/somaxconn", None, False)),
        ("net.ipv4.conf.eth0/100.forwarding = 1", ("net/ipv4/conf/eth0.100/forwarding", "1", False)),
        ("net/ipv4/conf/eth0.100/forwarding = 1", ("net/ipv4/conf/eth0.100/forwarding", "1", False)),
        ("/net//ipv4/./conf/all/rp_filter=2", ("net/ipv4/conf/all/rp_filter", "2", False)),
        ("net.ipv4.tcp_rmem = 1\t2  3", ("net/ipv4/tcp_rmem", "1\t2  3", False)),
        ("kernel.core_pattern = a=b", ("kernel/core_pattern", "a=b", False)),
        ("net.core.somaxconn =", ("net/core/somaxconn", "", False)),
        ("net.core.somaxconn", None),
        ("# net.core.somaxconn = 1", None),
        ("; net.core.somaxconn = 1", None),
        ("= 1", None),
        ("-", None),
        ("", None),
    ],
)
def test_lines(line: str, expected: tuple[str, str | None, bool] | None) -> None:
    found = [(item.path, item.value, item.ignore_failure) for item in sysctld.parse(line)]
    assert found == ([expected] if expected else [])


def test_line_numbers_count_every_kind_of_line_end() -> None:
    assert [item.line for item in sysctld.parse("a.b=1\r\n\n# x\na.c=2\ra.d=3\n")] == [1, 4, 5]


@given(st.text(max_size=300))
def test_parse_takes_junk(text: str) -> None:
    for item in sysctld.parse(text):
        assert item.path and item.line >= 1
        sysctld.glob_matches(item.path, "net/core/somaxconn")


@given(st.text(alphabet="*?[]!^-{},/ab\\&|~", max_size=30))
def test_a_glob_that_makes_no_sense_matches_nothing_and_does_not_fall_over(pattern: str) -> None:
    sysctld.glob_matches(pattern, "a/b")


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("net/ipv4/conf/*/rp_filter", "net/ipv4/conf/eth0.100/rp_filter", True),
        ("net/ipv4/*/rp_filter", "net/ipv4/conf/eth0/rp_filter", False),
        ("net/ipv4/conf/eth?/rp_filter", "net/ipv4/conf/eth0/rp_filter", True),
        ("net/ipv4/conf/eth[0-3]/rp_filter", "net/ipv4/conf/eth4/rp_filter", False),
        ("net/ipv4/conf/eth[!0-3]/rp_filter", "net/ipv4/conf/eth4/rp_filter", True),
        ("net/ipv4/conf/eth[^0-3]/rp_filter", "net/ipv4/conf/eth4/rp_filter", True),
        ("net/ipv4/conf/{eth,lxc}*/rp_filter", "net/ipv4/conf/lxc12/rp_filter", True),
        ("net/ipv4/conf/{eth,lxc}*/rp_filter", "net/ipv4/conf/cali1/rp_filter", False),
        ("net/ipv4/conf/[/rp_filter", "net/ipv4/conf/[/rp_filter", True),
    ],
)
def test_globs(pattern: str, path: str, matches: bool) -> None:
    assert sysctld.glob_matches(pattern, path) is matches


# (files, value systemd would set, file) for net.core.somaxconn
PRECEDENCE: list[tuple[dict[str, str], str | None, str]] = [
    ({}, None, ""),
    ({"etc/sysctl.d/10-a.conf": "net.core.somaxconn = 1\n"}, "1", "/etc/sysctl.d/10-a.conf"),
    (
        {"etc/sysctl.d/10-a.conf": "net.core.somaxconn = 1\n", "usr/lib/sysctl.d/50-b.conf": "net/core/somaxconn=2\n"},
        "2",
        "/usr/lib/sysctl.d/50-b.conf",
    ),
    (
        {"etc/sysctl.d/50-b.conf": "net.core.somaxconn = 1\n", "usr/lib/sysctl.d/50-b.conf": "net.core.somaxconn=2\n"},
        "1",
        "/etc/sysctl.d/50-b.conf",
    ),
    ({"etc/sysctl.d/50-b.conf": "-> /dev/null", "usr/lib/sysctl.d/50-b.conf": "net.core.somaxconn=2\n"}, None, ""),
    ({"run/sysctl.d/50-b.conf": "", "usr/lib/sysctl.d/50-b.conf": "net.core.somaxconn=2\n"}, None, ""),
    (
        {
            "run/sysctl.d/50-b.conf": "net.core.somaxconn=3\n",
            "usr/local/lib/sysctl.d/50-b.conf": "net.core.somaxconn=2\n",
        },
        "3",
        "/run/sysctl.d/50-b.conf",
    ),
    ({"etc/sysctl.d/10-a.conf": "net.core.* = 1\nnet.core.somaxconn = 2\nnet.core.so* = 3\n"}, "2", ""),
    ({"etc/sysctl.d/10-a.conf": "net.core.* = 1\nnet.core.so* = 3\n"}, "3", ""),
    ({"etc/sysctl.d/10-a.conf": "net.core.* = 1\nnet.core.so* = 3\nnet.core.* = 1\n"}, "3", ""),
    ({"etc/sysctl.d/10-a.conf": "net.core.* = 1\nnet.core.so* = 3\nnet.core.* = 4\n"}, "4", ""),
    ({"etc/sysctl.d/10-a.conf": "net.core.* = 1\n-net.core.somaxconn\n"}, None, ""),
    ({"etc/sysctl.d/10-a.conf": "net.core.somaxconn = 1\n-net.core.somaxconn\n"}, None, ""),
    ({"etc/sysctl.d/10-a.conf": "-net.core.somaxconn\n-net.core.somaxconn = 5\n"}, "5", ""),
    ({"etc/sysctl.d/10-a.txt": "net.core.somaxconn = 1\n", "etc/sysctl.d/.x.conf": "net.core.somaxconn=1\n"}, None, ""),
    ({"etc/sysctl.conf": "net.core.somaxconn = 1\n"}, None, ""),
    ({"etc/sysctl.conf": "net.core.somaxconn = 1\n", "etc/sysctl.d/99-sysctl.conf": "-> ../sysctl.conf"}, "1", ""),
]


@pytest.mark.parametrize(("files", "value", "where"), PRECEDENCE)
def test_precedence(tmp_path: Path, files: dict[str, str], value: str | None, where: str) -> None:
    found = sysctld.effective(sysctld.load(lay(tmp_path, files)), KEY)
    assert (found.value if found else None) == value
    assert not where or (found is not None and found.file == where and found.line == 1)


def test_files_are_sorted_by_name_in_bytes(tmp_path: Path) -> None:
    names = ["90-tune-nodes.conf", "9-x.conf", "Z.conf", "a.conf", "90-tune-nodes-site.conf", "é.conf"]
    host = lay(tmp_path, {"etc/sysctl.d/" + name: "" for name in names})
    assert [Path(path).name for path in sysctld.config_paths(host)] == [
        "9-x.conf",
        "90-tune-nodes-site.conf",
        "90-tune-nodes.conf",
        "Z.conf",
        "a.conf",
        "é.conf",
    ]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"etc/sysctl.d/50-a.conf": "net.core.somaxconn = 1\n"}, None),
        ({"etc/sysctl.d/99-a.conf": "# x\nnet.core.somaxconn = 1\n"}, ("/etc/sysctl.d/99-a.conf", 2, "1")),
        ({"etc/sysctl.d/99-a.conf": "net.core.* = 1\n"}, None),
        ({"etc/sysctl.d/99-a.conf": "-net.core.somaxconn\n"}, ("/etc/sysctl.d/99-a.conf", 1, None)),
    ],
)
def test_what_wins_over_our_line(
    tmp_path: Path, files: dict[str, str], expected: tuple[str, int, str | None] | None
) -> None:
    found = sysctld.later_than_ours(sysctld.load(lay(tmp_path, files)), KEY)
    assert (found and (found.file, found.line, found.value)) == expected


def test_procps_file_counts_only_where_systemd_does_not_read_it(tmp_path: Path) -> None:
    host = lay(tmp_path, {"etc/sysctl.conf": "net.core.somaxconn = 1\n"})
    alone = sysctld.procps_file(host)
    assert alone is not None and alone.path == "/etc/sysctl.conf" and alone.assignments[0].value == "1"
    lay(tmp_path, {"etc/sysctl.d/99-sysctl.conf": "-> ../sysctl.conf"})
    assert sysctld.procps_file(host) is None


RAW: list[dict[str, Any]] = [
    {"key": "net.ipv4.tcp_fin_timeout", "value": 15, "class": "exact", "reason": "short\nkernel.panic = 1\x1b[31m"},
    {"key": "net.core.somaxconn", "value": 4096},
    {"key": "net/ipv4/conf/eth0.100/forwarding", "value": 1, "take": True},
    {"key": "net.bridge.bridge-nf-call-iptables", "value": 1},
    {"key": "net.ipv4.conf.all.rp_filter", "value": 0},
    {"key": "net.ipv4.tcp_rmem", "value": "4096 131072 16777216", "class": "exact"},
    {"key": "net.ipv4.ip_local_reserved_ports", "value": ""},
]


def test_our_file_holds_exact_values_only_and_reads_back() -> None:
    text = sysctld.render_sysctl_d([setting.to_raw() for setting in FAMILY.parse(RAW)])
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines == [
        "-net.bridge.bridge-nf-call-iptables = 1",
        "net.ipv4.conf.all.rp_filter = 0",
        "-net.ipv4.conf.eth0/100.forwarding = 1",
        "net.ipv4.ip_local_reserved_ports = ",
        "net.ipv4.tcp_fin_timeout = 15",
        "net.ipv4.tcp_rmem = 4096 131072 16777216",
    ]
    assert "# short kernel.panic = 1 [31m\n" in text
    assert sysctld.parse_rendered(text) == {
        "net.bridge.bridge-nf-call-iptables": "1",
        "net.ipv4.conf.all.rp_filter": "0",
        "net.ipv4.conf.eth0/100.forwarding": "1",
        "net.ipv4.ip_local_reserved_ports": "",
        "net.ipv4.tcp_fin_timeout": "15",
        "net.ipv4.tcp_rmem": "4096 131072 16777216",
    }


def test_without_exact_settings_there_is_no_file() -> None:
    assert sysctld.render_sysctl_d([{"key": KEY, "value": 1}]) == ""


def test_a_setting_that_is_none_is_refused() -> None:
    with pytest.raises(NodeError):
        sysctld.render_sysctl_d([{"key": "net.core.x\nkernel.panic", "value": 1, "class": "exact"}])


@given(st.text(max_size=120), st.text(max_size=40))
def test_no_reason_or_value_becomes_a_line_of_its_own(reason: str, value: str) -> None:
    raw = {"key": "net.some.key", "value": value, "class": "exact", "reason": reason}
    try:
        (setting,) = FAMILY.parse([raw])
    except NodeError:
        return
    text = sysctld.render_sysctl_d([setting.to_raw()])
    assert sysctld.parse_rendered(text) == {"net.some.key": setting.value}
