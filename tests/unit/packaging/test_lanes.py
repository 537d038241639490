"""The script that runs the lanes, with a program in a lane's place."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "test"
#: Notes that it began, and ends tidily on Ctrl-C, as Python does.
PROGRAM = """\
#!/bin/sh
trap 'exit 130' INT
echo began >>"$NOTES"
for _ in $(seq 600); do sleep 0.1; done
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with nothing but the script and the program that two of its lanes call."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts")
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "pytest").write_text(PROGRAM)
    (programs / "pytest").chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("lanes", [("unit", "unit"), ("unit+unit", "unit")])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_no_other_lane_begins(checkout: Path, lanes: tuple[str, ...], number: int, code: int) -> None:
    notes = checkout / "notes"
    notes.touch()
    wanted = lanes[0].count("unit")
    environment = {"PATH": os.environ["PATH"], "HOME": str(checkout), "NOTES": str(notes)}
    with subprocess.Popen(
        [checkout / "scripts" / "test", *lanes],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        limit = time.monotonic() + 60
        while len(notes.read_text().splitlines()) < wanted:
            assert process.poll() is None and time.monotonic() < limit
            time.sleep(0.05)
        os.killpg(process.pid, number)
        assert process.wait(60) == code
    assert notes.read_text().splitlines() == ["began"] * wanted
