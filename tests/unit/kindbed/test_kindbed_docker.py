"""The daemon and the firewall: which daemon is used, what it is told, what keeps a cluster to itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from kindbed import docker, firewall
from kindbed.cache import Cache
from kindbed.docker import PID_FILE, SOCKET, Docker, connect, daemon_argv, own_pid

from tune_nodes.errors import TuneError


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The daemons that answer, by address; "" is the machine's."""
    answer: set[str] = set()
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(docker, "find", lambda program, package="": f"/usr/bin/{program}")
    monkeypatch.setattr(docker.shutil, "which", lambda name, path=None: f"/usr/bin/{name}")
    monkeypatch.setattr(Docker, "answers", lambda self: self.host in answer)
    return answer


def no_runtime() -> Path:
    raise AssertionError("no daemon may be started")


@pytest.mark.parametrize(
    ("running", "expected"), [({""}, ""), ({SOCKET}, SOCKET), ({"", SOCKET}, SOCKET)], ids=["machine", "own", "both"]
)
def test_a_daemon_that_runs_is_used(tmp_path: Path, answering: set[str], running: set[str], expected: str) -> None:
    answering |= running
    found = connect(Cache(tmp_path), no_runtime)
    assert found is not None
    assert found.host == expected


def test_none_is_started_unless_asked(tmp_path: Path, answering: set[str]) -> None:
    assert connect(Cache(tmp_path), None) is None
    assert answering == set()


def test_one_of_our_own_is_started(tmp_path: Path, answering: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, Path]] = []
    monkeypatch.setattr(docker, "_start", lambda own, cache, runtime: started.append((own.host, runtime)))
    found = connect(Cache(tmp_path), lambda: Path("/cache/runc-nores"))
    assert found is not None
    assert found.host == SOCKET
    assert started == [(SOCKET, Path("/cache/runc-nores"))]
    assert answering == set()


def test_a_daemon_that_was_named_and_is_not_there_is_an_error(
    tmp_path: Path, answering: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answering.add(SOCKET)
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    answers = iter([False, True])
    monkeypatch.setattr(Docker, "answers", lambda self: next(answers))
    with pytest.raises(TuneError, match="DOCKER_HOST"):
        connect(Cache(tmp_path), no_runtime)
    named = connect(Cache(tmp_path), no_runtime)
    assert named is not None
    assert named.env == {}, "the client reads the variable itself"


def test_our_own_daemon_leaves_the_machine_alone(tmp_path: Path) -> None:
    argv = daemon_argv("/usr/sbin/dockerd", Cache(tmp_path), Path("/cache/runc-nores"))
    assert argv[0] == "/usr/sbin/dockerd"
    assert {"--iptables=false", "--ip-forward=false", "--ip-masq=false", "--bridge=none"} <= set(argv)
    assert f"--host={SOCKET}" in argv
    assert f"--data-root={tmp_path}/kind/docker" in argv
    assert not [word for word in argv if "tcp://" in word]


def test_only_our_own_daemon_is_ever_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid_file, proc = tmp_path / "docker.pid", tmp_path / "proc"
    monkeypatch.setattr(docker, "PID_FILE", pid_file)
    assert own_pid(proc) is None
    (proc / "77").mkdir(parents=True)
    for content in ("", "junk", "78"):
        pid_file.write_text(content)
        assert own_pid(proc) is None
    pid_file.write_text("77\n")
    # After a reboot the number may be any other process's.
    (proc / "77/cmdline").write_bytes(b"dockerd\0--pidfile=/var/run/docker.pid\0")
    assert own_pid(proc) is None
    (proc / "77/cmdline").write_bytes(f"dockerd\0--pidfile={pid_file}\0".encode())
    assert own_pid(proc) == 77
    assert PID_FILE.parent.is_relative_to("/run")


def test_rules() -> None:
    found = firewall.rules("DOCKER-USER", ipv6=True)
    new = ("-m", "conntrack", "--ctstate", "NEW", "-j", "REJECT")
    assert found[:3] == [
        ("iptables", "DOCKER-USER", ("-i", "tn-kind0", "-o", "tn-kind0", "-j", "ACCEPT")),
        ("iptables", "DOCKER-USER", ("-i", "tn-kind0", "!", "-o", "tn-kind0", *new)),
        ("iptables", "DOCKER-USER", ("!", "-i", "tn-kind0", "-o", "tn-kind0", *new)),
    ]
    assert ("iptables", "INPUT", ("-i", "tn-kind0", "-p", "tcp", *new)) in found
    assert {chain for program, chain, _ in found if program == "ip6tables"} == {"FORWARD", "INPUT"}
    assert {program for program, _, _ in firewall.rules("FORWARD", ipv6=False)} == {"iptables"}


class Tables:
    """An iptables of lists, to see what is put in and taken out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, run_dir: Path, chains: tuple[str, ...], foreign: bool) -> None:
        self.deleted: list[tuple[str, ...]] = []
        self.made: set[str] = set()
        self.run_dir = run_dir
        self.kept: dict[tuple[str, str], list[tuple[str, ...]]] = {
            (program, chain): [("foreign",)] if foreign else []
            for program in ("iptables", "ip6tables")
            for chain in chains
        }
        monkeypatch.setattr(firewall, "RUN_DIR", run_dir)
        monkeypatch.setattr(firewall, "_table", self.table)
        monkeypatch.setattr(firewall, "_ask", self.ask)
        monkeypatch.setattr(firewall, "run", lambda argv, timeout: self.change(*argv))
        monkeypatch.setattr(firewall, "_ipv6", lambda: True)

    def ask(self, program: str, verb: str, chain: str, *rule: str) -> bool:
        rules = self.kept.get((program, chain))
        return rules is not None and (verb == "--list-rules" or rule in rules)

    def table(self, program: str) -> str:
        rules = [
            f"-A {chain} {' '.join(rule)}"
            for (one, chain), kept in self.kept.items()
            for rule in kept
            if one == program
        ]
        return "\n".join(["*filter", ":INPUT ACCEPT [0:0]", *rules]) if rules or program in self.made else ""

    def change(self, program: str, wait: str, verb: str, chain: str, *rule: str) -> None:
        if program.endswith("nft"):
            self.deleted.append((wait, verb, chain, *rule))
            return
        assert wait == "--wait"
        if verb == "--insert":
            self.made.add(program)
            self.kept[program, chain].insert(0, rule)
        else:
            self.kept[program, chain].remove(rule)


@pytest.mark.parametrize("chains", [("INPUT", "FORWARD"), ("INPUT", "FORWARD", "DOCKER-USER")])
def test_rules_stand_first_once_and_go_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chains: tuple[str, ...]
) -> None:
    tables = Tables(monkeypatch, tmp_path / "run", chains, foreign=True)
    before = {place: list(rules) for place, rules in tables.kept.items()}
    firewall.remember()
    firewall.close()
    closed = {place: list(rules) for place, rules in tables.kept.items()}
    forward = "DOCKER-USER" if "DOCKER-USER" in chains else "FORWARD"
    wanted = [rule for program, chain, rule in firewall.rules(forward, ipv6=False) if chain == forward]
    assert closed["iptables", forward] == [*wanted, ("foreign",)]
    firewall.close()
    assert tables.kept == closed
    firewall.open_()
    assert tables.kept == before
    assert tables.deleted == []
    assert not tables.run_dir.exists()


def test_a_table_that_came_with_the_rules_goes_with_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(firewall, "find", lambda program, package: f"/usr/sbin/{program}")
    tables = Tables(monkeypatch, tmp_path / "run", ("INPUT", "FORWARD"), foreign=False)
    firewall.remember()
    firewall.open_()  # something was built, and no cluster made
    assert tables.deleted == []
    firewall.remember()
    firewall.close()
    firewall.remember()  # now they are there, by our own doing
    firewall.open_()
    assert tables.deleted == [("delete", "table", "ip", "filter"), ("delete", "table", "ip6", "filter")]
    tables.deleted.clear()
    tables.made.clear()
    firewall.remember()
    firewall.close()
    tables.kept["iptables", "INPUT"].append(("of somebody who came later",))
    firewall.open_()
    assert tables.deleted == [("delete", "table", "ip6", "filter")]
    assert tables.kept["iptables", "INPUT"] == [("of somebody who came later",)]


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        ("", ""),
        ("*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n", ""),
        ("# x\n*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n# y\n*nat\n-A x\nCOMMIT\n", "*filter\n:INPUT ACCEPT [0:0]\n"),
    ],
)
def test_one_table_of_those_that_are_there(monkeypatch: pytest.MonkeyPatch, saved: str, expected: str) -> None:
    done = subprocess.CompletedProcess(["iptables-save"], 0, saved, "")
    monkeypatch.setattr(firewall, "run", lambda argv, timeout: done)
    assert firewall._table("iptables") == expected


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("*filter\n:INPUT ACCEPT [3:180]\n:FORWARD ACCEPT [0:0]\n", True),
        ("*filter\n:INPUT DROP [0:0]\n", False),
        ("*filter\n:INPUT ACCEPT [0:0]\n:f2b-sshd - [0:0]\n", False),
        ("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j DROP\n", False),
        ("", True),
    ],
)
def test_what_an_empty_table_is(table: str, expected: bool) -> None:
    assert firewall.empty(table) is expected
