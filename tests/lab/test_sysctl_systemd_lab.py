"""Our reading of sysctl.d beside systemd-sysctl, and our writes beside the kernel, in namespaces of their own."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from ansible_collections.tune.nodes.plugins.module_utils.sysctl import sysctld

COLLECTIONS = Path(__file__).parents[2] / ".ansible" / "collections"
SYSTEMD_SYSCTL = Path("/lib/systemd/systemd-sysctl")

# Own network and mount namespace, and every sysctl.d directory an empty one of its own, filled from $1. Files are
# copied into those alone: nothing outside the new mounts may be touched, not even a directory's mode.
SETUP = """set -e
mount --make-rprivate /
mount -t tmpfs none /usr/local/lib
mkdir /usr/local/lib/sysctl.d
mount -t tmpfs none /run
mkdir /run/sysctl.d
mount -t tmpfs none /etc/sysctl.d
mount -t tmpfs none /usr/lib/sysctl.d
for kind in fs kernel vm; do
    mount --bind /proc/sys/$kind /proc/sys/$kind
    mount -o remount,ro,bind /proc/sys/$kind
done
for directory in etc/sysctl.d run/sysctl.d usr/local/lib/sysctl.d usr/lib/sysctl.d; do
    if [ -d "$1/$directory" ]; then
        find "$1/$directory" -mindepth 1 -maxdepth 1 -exec cp -P -t "/$directory" {} +
    fi
done
shift
exec "$@"
"""
OUTSIDE = ["/", "/etc", "/etc/sysctl.d", "/run", "/usr", "/usr/lib", "/usr/lib/sysctl.d", "/usr/local/lib"]


@pytest.fixture(autouse=True)
def machine_untouched() -> Iterator[None]:
    """Fail a test that changed the machine it runs on."""
    before = [(path, Path(path).stat().st_mode, Path(path).stat().st_uid) for path in OUTSIDE]
    names = sorted(path.name for path in Path("/etc/sysctl.d").iterdir())
    yield
    assert [(path, Path(path).stat().st_mode, Path(path).stat().st_uid) for path in OUTSIDE] == before
    assert sorted(path.name for path in Path("/etc/sysctl.d").iterdir()) == names


def in_namespace(tree: Path, *command: str) -> str:
    """Run a command in namespaces of its own over which a tree is laid; return its output."""
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", SETUP, "sh", str(tree), *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_python(tree: Path, code: str, *arguments: str) -> Any:
    """Run code in the namespaces with the collection importable; return the JSON it prints."""
    head = f"import sys, json; sys.path.insert(0, {str(COLLECTIONS)!r})\n"
    return json.loads(in_namespace(tree, sys.executable, "-c", head + code, *arguments))


def test_the_files_of_this_machine_are_read_in_systemds_order() -> None:
    shown = subprocess.run([SYSTEMD_SYSCTL, "--cat-config"], capture_output=True, text=True, timeout=30, check=True)
    headers = [line[2:] for line in shown.stdout.splitlines() if line.startswith("# /") and line.endswith(".conf")]
    assert sysctld.config_paths(Host()) == headers


KEYS = ["net.core.somaxconn", "net.ipv4.tcp_fin_timeout", "net.ipv4.conf.lo.rp_filter", "net.ipv4.conf.all.rp_filter"]
SPELLINGS = [
    "net.core.somaxconn",
    "net/core/somaxconn",
    "net.core.soma*",
    "net.core.som?xconn",
    "net.ipv4.tcp_fin_timeout",
    "net/ipv4/tcp_fin_time[a-z]ut",
    "net.ipv4.conf.lo.rp_filter",
    "net.ipv4.conf.*.rp_filter",
    "net/ipv4/conf/l[!a-n]/rp_filter",
    "net.ipv4.conf.{lo,a*}.rp_filter",
    "net.ipv4.conf.all.rp_filter",
]
LINES = ["{key} = {value}", "-{key} = {value}", "-{key}", "{key}={value}", "  {key}  =  {value}  ", "# {key} = {value}"]
DIRECTORIES = [directory + "/" for directory in sysctld.DIRECTORIES]
NAMES = ["10-a.conf", "50-b.conf", "90-tune-nodes.conf", "99-z.conf", "Z.conf", "50-b.txt"]


def random_tree(root: Path, chance: random.Random) -> None:
    for directory in DIRECTORIES:
        (root / directory).mkdir(parents=True)
        for name in chance.sample(NAMES, chance.randint(0, 3)):
            path = root / directory / name
            if chance.random() < 0.15:
                path.symlink_to("/dev/null")
                continue
            lines = [
                chance.choice(LINES).format(key=chance.choice(SPELLINGS), value=chance.randint(1, 2))
                for _ in range(chance.randint(0, 5))
            ]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")


COMPARE = """
import subprocess
from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from ansible_collections.tune.nodes.plugins.module_utils.sysctl import sysctld
from ansible_collections.tune.nodes.plugins.module_utils.sysctl.family import FAMILY
tool, keys = sys.argv[1], sys.argv[2:]
before = {key: FAMILY.read(key, Host()) for key in keys}
subprocess.run([tool], check=False, timeout=30, capture_output=True)
files = sysctld.load(Host())
ours = {}
for key in keys:
    found = sysctld.effective(files, key)
    ours[key] = before[key] if found is None or found.value is None else found.value
print(json.dumps([ours, {key: FAMILY.read(key, Host()) for key in keys}]))
"""


@pytest.mark.parametrize("seed", range(25))
def test_systemd_sets_what_we_say_it_sets(tmp_path: Path, seed: int) -> None:
    random_tree(tmp_path, random.Random(seed))
    ours, systemd = run_python(tmp_path, COMPARE, str(SYSTEMD_SYSCTL), *KEYS)
    assert ours == systemd


RENDERED = """
import subprocess
from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from ansible_collections.tune.nodes.plugins.module_utils.sysctl import sysctld
from ansible_collections.tune.nodes.plugins.module_utils.sysctl.family import FAMILY
subprocess.run(["ip", "link", "add", "v0.100", "type", "veth", "peer", "name", "v1"], check=True, timeout=30)
raw = [dict(item, **{"class": "exact"}) for item in json.loads(sys.argv[2])]
with open("/etc/sysctl.d/90-tune-nodes.conf", "w") as handle:
    handle.write(sysctld.render_sysctl_d(raw))
done = subprocess.run([sys.argv[1]], check=False, timeout=30, capture_output=True, text=True)
print(json.dumps([done.returncode, {s.key: FAMILY.read(s.key, Host()) for s in FAMILY.parse(raw)}]))
"""


def test_systemd_reads_our_file_as_we_mean_it(tmp_path: Path) -> None:
    wishes = {
        "net.core.somaxconn": "8192",
        "net.ipv4.tcp_rmem": "4096 65536 1048576",
        "net.ipv4.conf.v0/100.arp_notify": "1",
        "net.ipv4.conf.gone0.arp_notify": "1",
        "net.ipv4.ip_local_reserved_ports": "8080,9148-9150",
    }
    raw = json.dumps([{"key": key, "value": value, "reason": "a # b"} for key, value in wishes.items()])
    code, held = run_python(tmp_path, RENDERED, str(SYSTEMD_SYSCTL), raw)
    assert code == 0
    assert held == {**wishes, "net.ipv4.conf.gone0.arp_notify": None}


KERNEL = """
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.host import observe_host
from ansible_collections.tune.nodes.plugins.module_utils.sysctl.family import FAMILY
host = observe_host()
found = []
for key, value in json.loads(sys.argv[1]):
    before = FAMILY.read(key, host)
    try:
        FAMILY.write(key, value, host)
        outcome = FAMILY.read(key, host)
    except NodeError as error:
        outcome = error.code + ": " + error.why
        assert FAMILY.read(key, host) == before, (key, before)
    if before is not None and not outcome.startswith(("failed", "unsupported")):
        FAMILY.write(key, before, host)
        assert FAMILY.read(key, host) == before
    found.append(outcome)
print(json.dumps(found))
"""


def test_the_kernel_takes_what_we_write_and_its_refusals_are_plain(tmp_path: Path) -> None:
    cases = [
        ("net.ipv4.tcp_rmem", "4096 65536 1048576", "4096 65536 1048576"),
        ("net.ipv4.ip_local_reserved_ports", "8080,9148-9150", "8080,9148-9150"),
        ("net.ipv4.ip_local_port_range", "10240 65000", "10240 65000"),
        ("net.ipv4.tcp_rmem", "8192 0 1", "failed: the kernel refuses this value"),
        ("net.ipv4.ip_local_port_range", "5000 4000", "failed: the kernel refuses this value"),
        ("net.ipv4.tcp_congestion_control", "nosuch", "unsupported: this kernel has no such key, or no such algorithm"),
        ("net.core.rmem_max", "134217728", "failed: not permitted: read-only here, or this process is not root"),
        ("kernel.pid_max", "4194304", "unsupported: /proc/sys is read-only here"),
        ("net.core.netdev_max_backlog", "10000", "unsupported: this kernel has no such key, or no such algorithm"),
    ]
    assert run_python(tmp_path, KERNEL, json.dumps([case[:2] for case in cases])) == [case[2] for case in cases]


PLAN = """
from ansible_collections.tune.nodes.plugins.module_utils.host import observe_host
from ansible_collections.tune.nodes.plugins.module_utils.sysctl.family import FAMILY
host = observe_host()
settings = FAMILY.parse(json.loads(sys.argv[1]))
first = FAMILY.plan(settings, FAMILY.observe(settings, host))
for change in first:
    if change.status == "pending":
        FAMILY.write(change.key, change.want, host)
second = FAMILY.plan(settings, FAMILY.observe(settings, host))
print(json.dumps([{c.key: c.status for c in found} for found in (first, second)]))
"""


def test_a_namespace_is_tuned_once_and_host_keys_stay_unsupported(tmp_path: Path) -> None:
    raw: list[dict[str, Any]] = [
        {"key": "net.core.rmem_max", "value": 134217728},
        {"key": "net.core.netdev_max_backlog", "value": 10000},
        {"key": "kernel.pid_max", "value": 4194304},
        {"key": "net.core.somaxconn", "value": 32768},
        {"key": "net.ipv4.tcp_wmem", "value": "4096 131072 16777216"},
        {"key": "net.ipv4.conf.lo.arp_notify", "value": 1},
    ]
    first, second = run_python(tmp_path, PLAN, json.dumps(raw))
    host_wide = ["net.core.rmem_max", "net.core.netdev_max_backlog", "kernel.pid_max"]
    assert first == {item["key"]: "unsupported" if item["key"] in host_wide else "pending" for item in raw}
    assert second == {item["key"]: "unsupported" if item["key"] in host_wide else "ok" for item in raw}
