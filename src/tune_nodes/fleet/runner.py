"""One call of ansible-playbook through ansible-runner. The only module that imports ansible_runner.

Every call gets a fresh private directory (0700, removed afterwards): files left by an earlier call would change a
later one. ansible-runner is always used in its pexpect mode: ansible-playbook then has a terminal and a session of
its own, so that passwords never stand in a file, an argument or the environment, and Ctrl-C reaches only us.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import ansible_runner

from tune_nodes import collection
from tune_nodes.errors import TuneError, UsageError
from tune_nodes.fleet.events import Collector, no_result
from tune_nodes.fleet.inventory import without_kubeconfig
from tune_nodes.fleet.untrusted import clean
from tune_nodes.runs.models import NodeRecord

#: The variable of playbooks/tune.yml.
REQUEST_VARIABLE = "tune_nodes_request_file"
#: Seconds between two looks at the cancel switch.
POLL = 1

# ansible-playbook's prompts, as regular expressions for pexpect.
SSH_PROMPT = r"^SSH password:\s*$"
BECOME_PROMPT = r"^[A-Z]+ password(\[defaults to SSH password\])?:\s*$"
VAULT_PROMPT = r"^Vault password( \([^)\n]*\))?:\s*$"

# Arguments that would take the choice of hosts, variables or mode away from us.
_OURS = {
    "-i": "-i before the --",
    "--inventory": "-i before the --",
    "--inventory-file": "-i before the --",
    "-l": "-l before the --",
    "--limit": "-l before the --",
    "-C": "tune-nodes plan",
    "--check": "tune-nodes plan",
    "-t": "-t before the --",
    "--tags": "-t before the --",
    "--skip-tags": "-t before the --",
    "-f": "-f before the --",
    "--forks": "-f before the --",
    "-k": "-k before the --",
    "--ask-pass": "-k before the --",
    "-K": "-K before the --",
    "--ask-become-pass": "-K before the --",
    "-J": "--ask-vault-pass before the --",
    "--ask-vault-pass": "--ask-vault-pass before the --",
    "--ask-vault-password": "--ask-vault-pass before the --",
    "--step": "",
    "--start-at-task": "",
    "--syntax-check": "",
    "--list-hosts": "",
    "--list-tasks": "",
    "--list-tags": "",
    "--flush-cache": "",
}


@dataclass(frozen=True)
class AnsibleOptions:
    """What the user said about how Ansible reaches the nodes. Letters and meaning are ansible-playbook's."""

    inventory: tuple[str, ...] = ()
    forks: int = 20
    timeout: int = 10
    user: str = ""
    private_key: str = ""
    become: bool = False
    vault_password_files: tuple[str, ...] = ()
    vault_ids: tuple[str, ...] = ()
    extra_vars: tuple[str, ...] = ()
    verbosity: int = 0
    extra_args: tuple[str, ...] = ()
    ssh_password: str | None = field(default=None, repr=False)
    become_password: str | None = field(default=None, repr=False)
    vault_password: str | None = field(default=None, repr=False)


def check_extra_args(args: Sequence[str]) -> None:
    """Refuse arguments after ``--`` that are this command's own. Raises UsageError."""
    for arg in args:
        name = arg.split("=", 1)[0]
        short = arg[:2] if arg.startswith("-") and not arg.startswith("--") else ""
        hit = name if name in _OURS else short if short in _OURS else ""
        if hit:
            raise UsageError(
                f"{hit} cannot be given after --",
                "tune-nodes itself decides on hosts and mode of every call",
                f"use {_OURS[hit]}" if _OURS[hit] else "",
            )


def build_args(options: AnsibleOptions, limit_file: Path, request_file: Path, playbook: Path) -> list[str]:
    """Return ansible-playbook's arguments (without the program's name). Our own come last: the last one wins."""
    args = [part for source in options.inventory for part in ("-i", source)]
    args += ["--user", options.user] if options.user else []
    args += ["--private-key", options.private_key] if options.private_key else []
    args += ["--become"] if options.become else []
    args += ["--ask-pass"] if options.ssh_password is not None else []
    args += ["--ask-become-pass"] if options.become_password is not None else []
    args += ["--ask-vault-pass"] if options.vault_password is not None else []
    args += [part for path in options.vault_password_files for part in ("--vault-password-file", path)]
    args += [part for vault in options.vault_ids for part in ("--vault-id", vault)]
    args += [part for pair in options.extra_vars for part in ("-e", pair)]
    args += ["-" + "v" * options.verbosity] if options.verbosity else []
    args += options.extra_args
    args += ["--forks", str(options.forks), "--limit", f"@{limit_file}"]
    args += ["-e", json.dumps({REQUEST_VARIABLE: str(request_file)}), str(playbook)]
    return args


def _utf8(environ: Mapping[str, str]) -> bool:
    chosen = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or ""
    return chosen.lower().replace("-", "").endswith("utf8")


def build_env(options: AnsibleOptions, ours: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables set for ansible-playbook on top of the environment.

    Args:
        options: the user's options.
        ours: what the collection needs (``tune_nodes.collection.environment()``).
        environ: the environment this process was started with.
    """
    env = dict(ours)
    env.update(
        {
            "ANSIBLE_PIPELINING": "True",
            "ANSIBLE_SSH_RETRIES": "0",  # a retry would send a request twice
            "ANSIBLE_TIMEOUT": str(options.timeout),
            # Without this ansible-runner itself switches host key checking off.
            "ANSIBLE_HOST_KEY_CHECKING": environ.get("ANSIBLE_HOST_KEY_CHECKING", "True"),
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
            **without_kubeconfig(options.inventory, environ),
        }
    )
    if not _utf8(environ):
        env["LC_ALL"] = "C.UTF-8"  # Ansible refuses to start in any other encoding; cron jobs have none
    return env


def build_passwords(options: AnsibleOptions) -> dict[str, str]:
    """Return prompt pattern to password, for ansible-runner; it types them into ansible-playbook's terminal."""
    pairs = (
        (SSH_PROMPT, options.ssh_password),
        (BECOME_PROMPT, options.become_password),
        (VAULT_PROMPT, options.vault_password),
    )
    # The become pattern would also match "SSH password:"; ansible-runner tries them in this order.
    return {pattern: password for pattern, password in pairs if password is not None}


def limit_lines(names: Sequence[str]) -> str:
    """Return the limit file's text: one exact name a line.

    Raises:
        UsageError: Ansible would read a name as a pattern.
    """
    for name in names:
        if not name or name[0] in "!&~@-" or any(mark in name for mark in "*?[],\n\r\t ") or not name.isprintable():
            raise UsageError(
                f"the node name {clean(name, 100)!r} is a pattern to Ansible",
                "a limit with this name could match other nodes",
                "give the host a plain name in the inventory and its address in ansible_host",
            )
    return "".join(f"{name}\n" for name in names)


@dataclass(frozen=True)
class Call:
    """One request to many nodes.

    Args:
        request: the request file's content (operation, common, nodes).
        on_record: called with each node's record as it arrives.
        cancelled: asked once a second; true stops ansible-playbook (nodes then undo what is not confirmed).
        idle_timeout: seconds without any event after which the call is stopped.
        playbook: which of the collection's playbooks is run.
    """

    request: Mapping[str, Any]
    on_record: Callable[[NodeRecord], None]
    cancelled: Callable[[], bool]
    idle_timeout: float = 600
    playbook: str = "tune.yml"

    @property
    def names(self) -> list[str]:
        """The nodes, in the order of the request."""
        return list(self.request["nodes"])


@dataclass(frozen=True)
class CallResult:
    """What came of a call: a record for every node, whatever happened."""

    records: dict[str, NodeRecord]
    cancelled: bool = False
    rc: int | None = 0


class Runner(Protocol):
    """What the orchestration needs of this module."""

    def run(self, call: Call) -> CallResult:
        """Send a request and wait for all results."""
        ...


def _why(status: str, rc: int | None) -> str:
    if status == "canceled":
        return "the call was cancelled"
    if status == "timeout":
        return "ansible-playbook was silent for too long and was stopped"
    return f"ansible-playbook ended with code {rc} and said nothing about this node"


def start_failure(rc: int | None, said: Sequence[str]) -> TuneError:
    """Return the error of a call that never got to a node (pure).

    Args:
        rc: ansible-playbook's exit code: 4 parser error, 5 bad option (2 from its argument parser), 250 a bug.
        said: what it printed that matters.
    """
    words = " ".join(line.removeprefix("[ERROR]: ") for line in said)[-1500:]
    if rc == 127:
        return UsageError("ansible-playbook could not be started", words, "tune-nodes doctor")
    if rc in (2, 5):
        return UsageError("Ansible refused an option", words, "check what stands after --")
    if rc in (1, 4):
        return UsageError("Ansible refused inventory, playbook or variables", words, "tune-nodes doctor -i INVENTORY")
    return TuneError(f"ansible-playbook ended with code {rc} before any node was reached", words, "run again with -vvv")


class AnsibleRunner:
    """The real :class:`Runner`.

    Args:
        options: the user's options.
        keep: keep the private directories (they hold requests, no passwords).
        on_line: called with each line that ansible-playbook prints.
    """

    def __init__(
        self, options: AnsibleOptions, keep: bool = False, on_line: Callable[[str], None] | None = None
    ) -> None:
        check_extra_args(options.extra_args)
        self.options = options
        self.keep = keep
        self.on_line = on_line

    def run(self, call: Call) -> CallResult:
        """Send a request to the nodes it names and wait.

        Returns:
            A record for every node of the call.

        Raises:
            TuneError: ansible-playbook ended before it reached any node; nothing was touched.
        """
        private = Path(tempfile.mkdtemp(prefix="tune-nodes-"))
        private.chmod(stat.S_IRWXU)
        try:
            return self._run(call, private)
        finally:
            if not self.keep:
                shutil.rmtree(private, ignore_errors=True)

    def _run(self, call: Call, private: Path) -> CallResult:
        limit, request = private / "limit", private / "request.json"
        limit.write_text(limit_lines(call.names), encoding="utf-8")
        request.touch(mode=0o600)
        request.write_text(json.dumps(call.request), encoding="utf-8")
        self._settings(private, call)
        args = build_args(self.options, limit, request, collection.path() / "playbooks" / call.playbook)
        collector = Collector(call.names, call.on_record, self.on_line)
        result = ansible_runner.run(
            private_data_dir=str(private),
            ident="call",
            project_dir=str(Path.cwd()),  # so that relative paths and ansible.cfg mean what they mean to Ansible
            binary=shutil.which("ansible-playbook", path=collection.environment()["PATH"]) or "ansible-playbook",
            cmdline=shlex.join(args),
            envvars=build_env(self.options, collection.environment(), os.environ),
            passwords=build_passwords(self.options),
            suppress_env_files=True,
            quiet=True,
            fact_cache_type="none",
            event_handler=collector,
            status_handler=_forget_command,
            cancel_callback=call.cancelled,
        )
        status, rc = str(result.status), result.rc
        if status == "failed" and not collector.records and not (collector.started and rc in (0, 2, 4)):
            raise start_failure(rc, collector.said)
        records = dict(collector.records)
        for name in collector.missing():
            records[name] = no_result(name, _why(status, rc))
            call.on_record(records[name])
        return CallResult(records, status == "canceled", rc)

    @staticmethod
    def _settings(private: Path, call: Call) -> None:
        # With suppress_env_files ansible-runner ignores settings passed as an argument; the file it does read.
        settings = {
            "pexpect_timeout": POLL,
            "idle_timeout": call.idle_timeout,
            "suppress_output_file": True,
            "suppress_ansible_output": True,
        }
        (private / "env").mkdir(mode=0o700)
        (private / "env" / "settings").write_text(json.dumps(settings), encoding="utf-8")


def _forget_command(status: Mapping[str, Any], runner_config: Any) -> None:
    """Remove the file in which ansible-runner writes the whole environment and the arguments."""
    if status.get("status") == "running":
        with contextlib.suppress(FileNotFoundError):
            (Path(runner_config.artifact_dir) / "command").unlink()
