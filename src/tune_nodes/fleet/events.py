"""From ansible-runner's events to one record per node (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from tune_nodes.fleet.untrusted import bounded, clean, one_line
from tune_nodes.runs.models import (
    ChangeRecord,
    ErrorRecord,
    NodeRecord,
    Outcome,
    PodRecord,
    ProbeRecord,
    StalePod,
    Transaction,
)

#: The key of a host's result that carries ours.
RESULT_KEY = "tune_nodes"
#: Lines of ansible-playbook's own output kept for an error message.
TAIL = 40
#: Most of its error messages kept.
ERRORS = 5

_HOST_EVENTS = {
    "runner_on_ok": Outcome.FAILED,
    "runner_on_failed": Outcome.FAILED,
    "runner_on_unreachable": Outcome.UNREACHABLE,
    "runner_on_skipped": Outcome.SKIPPED,
}
_PARTS: dict[str, type[BaseModel]] = {
    "changes": ChangeRecord,
    "probes_before": ProbeRecord,
    "probes_after": ProbeRecord,
    "tx": Transaction,
    "error": ErrorRecord,
    "pods": PodRecord,
    "stale_pods": StalePod,
}
_PLAIN = ("outcome", "host", "plan_hash", "warnings", "timings", "paths")

# What ssh says, and what a person does about it. First match wins.
_SSH_HINTS = (
    (
        "remote host identification has changed",
        "host-key",
        "the host key differs from the one in known_hosts",
        "find out why it changed before you accept it: ssh-keygen -F HOST, then ssh-keygen -R HOST",
    ),
    (
        "host key verification failed",
        "host-key",
        "the host key is unknown or differs from the one in known_hosts",
        "check its fingerprint on the node's console, then add it: ssh-keyscan HOST >> ~/.ssh/known_hosts",
    ),
    (
        "could not resolve hostname",
        "resolve",
        "the name does not resolve",
        "set ansible_host in the inventory, or add it to DNS",
    ),
    (
        "permission denied",
        "ssh-auth",
        "ssh let nobody in",
        "try: ssh USER@HOST true; see -u, --private-key, -k",
    ),
    (
        "connection refused",
        "ssh",
        "nothing listens on the ssh port",
        "is sshd running? is ansible_port right?",
    ),
    ("connection timed out", "ssh", "no answer on the ssh port", "is the node up? does a firewall drop ssh?"),
    (
        "incorrect sudo password",
        "become",
        "sudo refused the password",
        "give the right password with -K",
    ),
    (
        "incorrect become password",
        "become",
        "sudo refused the password",
        "give the right password with -K",
    ),
    ("missing sudo password", "become", "sudo asks for a password", "add -K (--ask-become-pass)"),
    ("missing become password", "become", "sudo asks for a password", "add -K (--ask-become-pass)"),
    ("a password is required", "become", "sudo asks for a password", "add -K (--ask-become-pass)"),
    ("no python interpreters found", "python", "there is no Python on the node", "install python3 on the node"),
    (
        "python: not found",
        "python",
        "there is no Python on the node",
        "install python3 on the node, or set ansible_python_interpreter",
    ),
)


def explain(message: str, unreachable: bool) -> ErrorRecord:
    """Turn Ansible's message about a host into what, why and next."""
    low = message.lower()
    what = "the node could not be reached" if unreachable else "the node could not be worked on"
    for needle, code, why, step in _SSH_HINTS:
        if needle in low:
            return ErrorRecord(what=what, why=f"{why} ({one_line(message, 300)})", next=step, code=code)
    return ErrorRecord(
        what=what,
        why=one_line(message, 600) or "no reason was given",
        next="run again with -vvv to see the connection" if unreachable else "",
        code="unreachable" if unreachable else "failed",
    )


def _known(model: type[BaseModel], raw: Any) -> Any:
    """Drop fields a newer node side may have added; everything else is for the model to judge."""
    if not isinstance(raw, dict):
        return raw
    return {key: value for key, value in raw.items() if key in model.model_fields}


def _with_step(record: NodeRecord) -> ErrorRecord | None:
    """Add the next step to an error of the connection that came without one."""
    error = record.error
    if error is None or error.next or record.outcome not in (Outcome.UNREACHABLE, Outcome.FAILED):
        return error
    unreachable = record.outcome is Outcome.UNREACHABLE
    return error.model_copy(update={"next": explain(f"{error.what} {error.why}", unreachable).next})


def node_record(name: str, raw: Mapping[str, Any]) -> NodeRecord:
    """Build a node's record from the ``tune_nodes`` part of its result.

    Whatever does not follow the contract becomes outcome ``failed`` with an error that says so.
    """
    data = bounded(dict(raw))
    picked: dict[str, Any] = {"name": name}
    for key in _PLAIN:
        if data.get(key) is not None:
            picked[key] = data[key]
    for key, model in _PARTS.items():
        value = data.get(key)
        if isinstance(value, list):
            picked[key] = [_known(model, item) for item in value]
        elif value is not None:
            picked[key] = _known(model, value)
    host = picked.setdefault("host", {})
    identity = data.get("identity")
    if isinstance(identity, dict) and isinstance(host, dict):
        picked["host"] = {**host, **{k: v for k, v in identity.items() if v}}
    try:
        record = NodeRecord.model_validate(picked)
        return record.model_copy(update={"error": _with_step(record)})
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return NodeRecord(
            name=name,
            outcome=Outcome.FAILED,
            error=ErrorRecord(
                what="the node's answer does not follow the contract",
                why=one_line(f"{where}: {first['msg']}", 300),
                next="check with tune-nodes doctor that CLI and collection have one version",
                code="protocol",
            ),
        )


def _message(res: Mapping[str, Any]) -> str:
    parts = []
    for key in ("msg", "exception", "module_stderr", "module_stdout", "reason"):
        value = res.get(key)
        if isinstance(value, str) and value.strip():
            parts.append(clean(value, 2000))
            if key == "msg" and len(value.strip()) > 20:
                break
    return "\n".join(parts)


def record_from_event(event: Mapping[str, Any]) -> NodeRecord | None:
    """Return the record an event carries, None for events that say nothing final about a node."""
    kind = event.get("event")
    data = event.get("event_data")
    if kind not in _HOST_EVENTS or not isinstance(data, Mapping):
        return None
    name, res = data.get("host"), data.get("res")
    if not isinstance(name, str) or not name:
        return None
    if isinstance(res, Mapping) and isinstance(res.get(RESULT_KEY), Mapping):
        return node_record(name, res[RESULT_KEY])
    outcome = _HOST_EVENTS[str(kind)]
    if outcome is Outcome.SKIPPED:
        error = ErrorRecord(what="Ansible skipped the node", next="check what stands after --")
        return NodeRecord(name=name, outcome=Outcome.FAILED, error=error)
    message = _message(res) if isinstance(res, Mapping) else ""
    if kind == "runner_on_ok":
        message = message or "the result was empty or too large"
    return NodeRecord(name=name, outcome=outcome, error=explain(message, outcome is Outcome.UNREACHABLE))


@dataclass
class Collector:
    """Gathers one ansible-playbook call's events.

    Args:
        names: nodes of this call; events of any other host are dropped.
        on_record: called with each node's record as it arrives.
        on_line: called with each line of ansible-playbook's own output, cleaned.
    """

    names: Iterable[str]
    on_record: Callable[[NodeRecord], None] | None = None
    on_line: Callable[[str], None] | None = None
    records: dict[str, NodeRecord] = field(default_factory=dict)
    tail: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    started: bool = False
    _playbook: str = ""

    def __post_init__(self) -> None:
        self._wanted = frozenset(self.names)

    def __call__(self, event: Mapping[str, Any]) -> bool:
        """Take one event. Returns False: ansible-runner keeps no file for it."""
        line = event.get("stdout")
        if isinstance(line, str) and line.strip():
            self._line(line)
        data = event.get("event_data")
        uuid = data.get("playbook_uuid") if isinstance(data, Mapping) else None
        if event.get("event") == "playbook_on_start" and not self._playbook:
            self.started, self._playbook = True, str(uuid or "")
            return False
        # The stream is text on a terminal: a node that prints an event's escape sequence could speak for another
        # node. It cannot know the playbook's uuid, made on this machine before any node was reached.
        if self._playbook and uuid != self._playbook:
            return False
        record = record_from_event(event)
        if record is not None and record.name in self._wanted and record.name not in self.records:
            self.records[record.name] = record
            if self.on_record is not None:
                self.on_record(record)
        return False

    def _line(self, text: str) -> None:
        cleaned = clean(text, 2000).strip()
        if not cleaned:
            return
        if len(self.errors) < ERRORS and ("[ERROR]" in cleaned or ": error: " in cleaned):
            self.errors.append(cleaned)
        self.tail = [*self.tail[-(TAIL - 1) :], cleaned]
        if self.on_line is not None:
            self.on_line(cleaned)

    @property
    def said(self) -> list[str]:
        """What ansible-playbook printed that explains a failure: its errors, else the last lines."""
        return self.errors or [line for line in self.tail if not line.startswith("[WARNING]")]

    def missing(self) -> list[str]:
        """Return the nodes nothing was heard of, sorted."""
        return sorted(self._wanted - self.records.keys())


def no_result(name: str, why: str) -> NodeRecord:
    """Return the record of a node that neither answered nor failed."""
    return NodeRecord(
        name=name,
        outcome=Outcome.FAILED,
        error=ErrorRecord(
            what="no result came back",
            why=why,
            next="a change that was not confirmed undoes itself when its window ends; then run tune-nodes verify",
            code="no-result",
        ),
    )
