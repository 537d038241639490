"""The module as a play calls it, in check mode and with bad input: nothing may be written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def check(tmp_path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Run the module in check mode with diff on this machine, in a network namespace; return its result."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
        "ANSIBLE_NOCOLOR": "1",
    }
    ansible = str(Path(sys.executable).with_name("ansible"))
    command = ["unshare", "--net", ansible, "localhost", "-i", "localhost,", "-c", "local", "--check", "--diff"]
    command += ["-e", f"ansible_python_interpreter={sys.executable}"]
    command += ["-m", "tune.nodes.sysctl", "-a", json.dumps({"settings": settings})]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=environment, cwd=tmp_path
    )
    _before, arrow, after = done.stdout.partition("=> ")
    assert arrow, done.stdout + done.stderr
    result: dict[str, Any] = json.JSONDecoder().raw_decode(after)[0]
    return result


def test_check_mode_says_what_would_change(tmp_path: Path) -> None:
    result = check(tmp_path, {"net.core.somaxconn": 1000000, "net.core.rmem_max": 134217728})
    assert result["changed"] is True
    keys = [change for change in result["changes"] if change["family"] == "sysctl"]  # our own files are changes too
    assert [(change["key"], change["status"], change["requested"]) for change in keys] == [
        ("net.core.somaxconn", "pending", "floor 1000000"),
        ("net.core.rmem_max", "unsupported", "floor 134217728"),
    ]


def test_a_wrong_setting_fails_with_what_why_and_next(tmp_path: Path) -> None:
    result = check(tmp_path, {"net.core.somaxcon": 1024})
    assert result["error"]["code"] == "usage"
    assert "net.core.somaxcon is not in the key catalogue" in result["msg"]
    assert "did you mean net.core.somaxconn" in result["msg"]
