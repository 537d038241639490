"""What comes back from a node, and what it means."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.tune.nodes.plugins.action.tune import build_request
from ansible_collections.tune.nodes.plugins.plugin_utils.link import (
    BOOTSTRAP,
    connection_error,
    explain_no_answer,
    interpreter_of,
    parse_answer,
)
from hypothesis import given
from hypothesis import strategies as st

RESULT = {"schema": 1, "ok": True}
LINE = json.dumps(RESULT)


@pytest.mark.parametrize(
    "text",
    [LINE, LINE + "\n", "Welcome!\n" + LINE, LINE + "\nbye\n", "\x1b[1mbanner " + LINE, LINE + '\n{"schema": broken\n'],
)
def test_result_is_found_among_banners(text: str) -> None:
    assert parse_answer(text) == RESULT


@given(st.text())
def test_junk_is_no_result(text: str) -> None:
    found = parse_answer(text)
    assert found is None or isinstance(found, dict)


EXPLAINED = [
    (127, "", "sh: 1: /usr/bin/python3: not found", "failed", "no Python"),
    (126, "", "/usr/bin/python3: No such file or directory", "failed", "no Python"),
    (255, "", "Connection to 10.0.0.1 closed by remote host.", "lost", "lost"),
    (1, "", "Traceback ... MemoryError", "failed", "failed"),
    (0, "", "", "failed", "failed"),
]


@pytest.mark.parametrize(("rc", "out", "err", "kind", "words"), EXPLAINED)
def test_no_answer_is_explained(rc: int, out: str, err: str, kind: str, words: str) -> None:
    found = explain_no_answer(rc, out, err, "/usr/bin/python3")
    assert found.kind == kind
    assert words in found.what


UNREACHED = [
    ("Failed to connect: ssh: connect to host 10.0.0.1 port 22: Connection timed out", "unreachable"),
    # What ssh says where the other end accepts and then says nothing, so that no session came of it.
    ("Failed to connect: Connection to 10.0.0.1 port 22 timed out", "unreachable"),
    ("Failed to connect: Connection to fd00::1 port 2222 timed out\r\n", "unreachable"),
    ("Host key verification failed.", "unreachable"),
    ("Timeout, server 10.0.0.1 not responding.", "lost"),
    ("Connection to 10.0.0.1 closed by remote host.", "lost"),
    ("the task timed out after connection to 10.0.0.1 port 22", "lost"),
]


@pytest.mark.parametrize(("text", "kind"), UNREACHED)
def test_what_never_became_a_session_has_run_nothing(text: str, kind: str) -> None:
    assert connection_error(text).kind == kind


def test_a_megabyte_of_noise_is_bounded() -> None:
    assert len(explain_no_answer(1, "", "x" * (1 << 20), "/usr/bin/python3").why) < 500


@pytest.mark.parametrize(
    ("named", "path"),
    [
        (None, "/usr/bin/python3"),
        ("auto", "/usr/bin/python3"),
        ("auto_silent", "/usr/bin/python3"),
        ("/opt/py", "/opt/py"),
    ],
)
def test_interpreter(named: str | None, path: str) -> None:
    assert interpreter_of({"ansible_python_interpreter": named}) == path


def test_bootstrap_runs_code_from_memory() -> None:
    from ansible_collections.tune.nodes.plugins.module_utils import bundle

    name, code = bundle.build()
    data = b"%s %d\n" % (name.encode(), len(code)) + code + b'{"schema": 1, "op": "nonsense"}'
    command = [sys.executable, "-I", "-S", "-c", BOOTSTRAP]
    done = subprocess.run(command, input=data, capture_output=True, timeout=60, check=True)
    found = parse_answer(done.stdout.decode())
    assert found
    assert found["error"]["code"] in ("usage", "failed")


def arguments(**more: Any) -> dict[str, Any]:
    return {"sysctl": [{"key": "k", "value": 1}], **more}


def test_request_of_a_task() -> None:
    request = build_request("apply", arguments(window=60), "n1", False)
    assert request["op"] == "apply"
    assert request["window"] == 60
    assert request["layers"][0]["sysctl"] == [{"key": "k", "value": 1}]
    assert build_request("apply", arguments(), "n1", True)["op"] == "plan"
    assert build_request("rollback", {"tx": "r1"}, "n1", True)["check"] is True


def test_request_of_a_file_is_the_nodes_own(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"operation": "apply", "common": {"run": "r"}, "nodes": {"n1": {"expect": "h"}}}))
    assert build_request("plan", {"request_file": str(path)}, "n1", False)["expect"] == "h"
    with pytest.raises(AnsibleActionFail):
        build_request("plan", {"request_file": str(path)}, "n2", False)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"operation": "format-disk"}'])
def test_request_files_that_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(AnsibleActionFail):
        build_request("plan", {"request_file": str(path)}, "n1", False)
