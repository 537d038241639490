"""The exact argument list and environment of ansible-playbook; and real calls of it that reach no node."""

from __future__ import annotations

import json
import stat
import tempfile
from pathlib import Path

import pytest

from tune_nodes.errors import Exit, TuneError
from tune_nodes.fleet import runner
from tune_nodes.fleet.runner import AnsibleOptions, AnsibleRunner, Call, build_args, build_env, build_passwords
from tune_nodes.fleet.target import Target, request
from tune_nodes.runs.models import NodeRecord, Outcome

LIMIT, REQUEST, PLAYBOOK = Path("/p/limit"), Path("/p/request.json"), Path("/c/playbooks/tune.yml")
LAST = ["--forks", "20", "--limit", "@/p/limit", "-e", '{"tune_nodes_request_file": "/p/request.json"}', str(PLAYBOOK)]


@pytest.mark.parametrize(
    ("options", "first"),
    [
        (AnsibleOptions(), []),
        (AnsibleOptions(inventory=("a", "h1,h2,")), ["-i", "a", "-i", "h1,h2,"]),
        (AnsibleOptions(user="u", private_key="~/k", become=True), ["--user", "u", "--private-key", "~/k", "--become"]),
        (
            AnsibleOptions(ssh_password="s", become_password="b", vault_password="v"),
            ["--ask-pass", "--ask-become-pass", "--ask-vault-pass"],
        ),
        (
            AnsibleOptions(vault_password_files=("f",), vault_ids=("dev@f",), extra_vars=("a=b c", "@x.yml")),
            ["--vault-password-file", "f", "--vault-id", "dev@f", "-e", "a=b c", "-e", "@x.yml"],
        ),
        (AnsibleOptions(verbosity=3, extra_args=("--become-user", "x")), ["-vvv", "--become-user", "x"]),
    ],
)
def test_arguments(options: AnsibleOptions, first: list[str]) -> None:
    assert build_args(options, LIMIT, REQUEST, PLAYBOOK) == first + LAST


def test_environment() -> None:
    ours = {"ANSIBLE_COLLECTIONS_PATH": "/c:/user", "PATH": "/venv/bin"}
    assert build_env(AnsibleOptions(timeout=7), ours, {"LANG": "en_US.UTF-8"}) == {
        **ours,
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_SSH_RETRIES": "0",
        "ANSIBLE_TIMEOUT": "7",
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_STRATEGY": "ansible.builtin.linear",
        "ANSIBLE_GATHERING": "explicit",
        "ANSIBLE_ANY_ERRORS_FATAL": "False",
        "ANSIBLE_STDOUT_CALLBACK": "default",
        "ANSIBLE_DISPLAY_FAILED_STDERR": "False",
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
        "ANSIBLE_NOCOLOR": "True",
        "ANSIBLE_FORCE_COLOR": "False",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
        "MAX_EVENT_RES": "2000000",
    }


@pytest.mark.parametrize("environ", [{}, {"LANG": "C"}, {"LC_ALL": "POSIX", "LANG": "en_US.UTF-8"}])
def test_a_cron_job_gets_an_encoding(environ: dict[str, str]) -> None:
    assert build_env(AnsibleOptions(), {}, environ)["LC_ALL"] == "C.UTF-8"


def test_host_keys_are_checked_unless_the_user_says_otherwise() -> None:
    chosen = {"ANSIBLE_HOST_KEY_CHECKING": "False"}
    assert build_env(AnsibleOptions(), {}, chosen)["ANSIBLE_HOST_KEY_CHECKING"] == "False"


def test_passwords_are_nowhere_but_in_passwords() -> None:
    options = AnsibleOptions(ssh_password="SECRET1", become_password="SECRET2", vault_password="SECRET3")
    assert "SECRET" not in " ".join(build_args(options, LIMIT, REQUEST, PLAYBOOK))
    assert "SECRET" not in json.dumps(build_env(options, {}, {}))
    assert "SECRET" not in repr(options)
    assert list(build_passwords(options).values()) == ["SECRET1", "SECRET2", "SECRET3"]
    assert build_passwords(AnsibleOptions()) == {}


@pytest.mark.parametrize(
    "args",
    [
        ["-i", "x"],
        ["--limit=all"],
        ["-lall"],
        ["--check"],
        ["-C"],
        ["--tags", "x"],
        ["-K"],
        ["--list-hosts"],
        ["--step"],
    ],
)
def test_what_is_ours_is_refused_after_the_dashes(args: list[str]) -> None:
    with pytest.raises(TuneError, match="cannot be given after --") as caught:
        runner.check_extra_args(args)
    assert caught.value.exit is Exit.USAGE


def test_other_arguments_pass() -> None:
    runner.check_extra_args(["--become-method", "doas", "--ssh-common-args=-o ProxyJump=j", "-c", "ssh"])


@pytest.mark.parametrize("name", ["", "a*", "a,b", "!a", "&a", "~a", "@f", "-a", "a[1:2]", "a b", "a\nb", "a\x1b"])
def test_names_that_are_patterns_are_refused(name: str) -> None:
    with pytest.raises(TuneError):
        runner.limit_lines(["ok", name])


def test_limit_lines() -> None:
    assert runner.limit_lines(["n1", "fe80::1", "n-2.example"]) == "n1\nfe80::1\nn-2.example\n"


# -- real calls -----------------------------------------------------------------------------------------------------


def call(names: list[str], seen: list[NodeRecord]) -> Call:
    document = request("plan", "20260101-000000-abcdef", [Target(name) for name in names], 120)
    return Call(document, seen.append, lambda: False, idle_timeout=60)


def test_a_node_that_refuses_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    inventory = tmp_path / "hosts.ini"
    inventory.write_text("n1 ansible_host=127.0.0.1 ansible_port=1\nother ansible_host=127.0.0.1 ansible_port=1\n")
    seen: list[NodeRecord] = []
    result = AnsibleRunner(AnsibleOptions(inventory=(str(inventory),), timeout=5)).run(call(["n1"], seen))
    assert result.records["n1"].outcome is Outcome.UNREACHABLE
    assert "refused" in (result.records["n1"].error or pytest.fail("no error")).why
    assert [record.name for record in seen] == ["n1"]
    assert set(result.records) == {"n1"}
    assert list(temporary.glob("tune-nodes-*")) == []


def test_kept_directories_are_private_and_hold_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    options = AnsibleOptions(
        inventory=("127.0.0.1,",), extra_vars=("ansible_port=1",), timeout=5, become_password="pw1234"
    )
    AnsibleRunner(options, keep=True).run(call(["127.0.0.1"], []))
    (private,) = tmp_path.glob("tune-nodes-*")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    files = [path for path in private.rglob("*") if path.is_file()]
    assert not any(path.name == "command" for path in files)
    assert not any(b"pw1234" in path.read_bytes() for path in files)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (AnsibleOptions(inventory=("/nonexistent/hosts",)), "refused inventory"),
        (AnsibleOptions(inventory=("127.0.0.1,",), extra_args=("--no-such-option",)), "refused an option"),
    ],
)
def test_ansible_that_does_not_start_is_one_clear_error(options: AnsibleOptions, words: str) -> None:
    with pytest.raises(TuneError, match=words) as caught:
        AnsibleRunner(options).run(call(["127.0.0.1"], []))
    assert caught.value.exit is Exit.USAGE
    assert caught.value.why


def test_a_name_that_is_not_in_the_inventory() -> None:
    with pytest.raises(TuneError, match="no hosts to target"):
        AnsibleRunner(AnsibleOptions(inventory=("127.0.0.1,",))).run(call(["gone"], []))


def test_cancelled_at_once() -> None:
    document = request("plan", "20260101-000000-abcdef", [Target("192.0.2.1")], 120)
    options = AnsibleOptions(inventory=("192.0.2.1,",), extra_vars=("ansible_connection=local", "ansible_port=1"))
    result = AnsibleRunner(options).run(Call(document, lambda record: None, lambda: True))
    assert set(result.records) == {"192.0.2.1"}
