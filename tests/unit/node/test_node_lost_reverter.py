"""A transaction whose reverter is gone before its window ended: nobody else would put it back."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from ansible_collections.tune.nodes.plugins.module_utils.transaction import reverter, store
from ansible_collections.tune.nodes.plugins.module_utils.transaction.restore import outcome, resolve
from ansible_collections.tune.nodes.plugins.module_utils.transaction.store import Store, Tx

PID, START = 77, 4242


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A node on which process 77 runs, begun at tick 4242."""
    process = tmp_path / "proc" / str(PID)
    process.mkdir(parents=True)
    (process / "stat").write_text(f"{PID} (a) b) S " + "0 " * 18 + f"{START} 0 0\n")
    return Host(root=str(tmp_path), boot_id="boot-1", python="/usr/bin/python3")


def armed(host: Host, handle: dict[str, object] | None, window: float = 120.0) -> tuple[Store, Tx]:
    place = Store(host)
    place.create_dirs()
    header = {"boot_id": host.boot_id, "window": window, "deadline": store.now() + window, "run": "t1"}
    tx = place.create("t1", {**header, **({} if handle is None else {"reverter": handle})})
    place.save_header(tx)
    return place, tx


@pytest.mark.parametrize(
    ("handle", "state"),
    [
        pytest.param({"kind": "process", "pid": PID, "start": START}, store.ARMED, id="alive"),
        pytest.param({"kind": "process", "pid": PID, "start": START + 1}, store.REVERTED, id="pid-used-again"),
        pytest.param({"kind": "process", "pid": PID + 1, "start": START}, store.REVERTED, id="process-gone"),
        pytest.param(None, store.ARMED, id="not-armed-yet"),
    ],
)
def test_resolve_reverts_what_nothing_else_would(host: Host, handle: dict[str, object] | None, state: str) -> None:
    place, _ = armed(host, handle)
    resolve(place, [], host)
    assert place.get("t1").state == state


@pytest.mark.parametrize(("active", "state"), [(True, store.ARMED), (False, store.REVERTED)])
def test_a_timer_that_systemd_lost(host: Host, monkeypatch: pytest.MonkeyPatch, active: bool, state: str) -> None:
    monkeypatch.setattr(reverter, "_timer_active", lambda unit: active and unit == "tune-nodes-revert-t1-1")
    monkeypatch.setattr(reverter, "disarm", lambda handle: None)
    place, _ = armed(host, {"kind": "systemd", "unit": "tune-nodes-revert-t1-1", "generation": 1})
    resolve(place, [], host)
    found = place.get("t1")
    assert found.state == state
    if not active:
        assert "its revert timer was gone" in outcome(found)["why"]


@pytest.mark.parametrize("window", [20.0, 20.01, 20.04, 20.06, 20.09, 119.949])
def test_a_timer_is_never_early(host: Host, monkeypatch: pytest.MonkeyPatch, window: float) -> None:
    """One that fires before the deadline finds nothing due, and would not fire again."""
    asked: list[str] = []
    monkeypatch.setattr(reverter, "now", lambda: 1000.0)
    monkeypatch.setattr(reverter, "_run", asked.extend)
    _, tx = armed(host, None)
    tx.header.update(deadline=1000.0 + window, python="/usr/bin/python3", code="/code")
    host.init = "systemd"
    reverter.arm(tx, host)
    (active,) = (word.partition("=")[2] for word in asked if word.startswith("--on-active="))
    assert window <= float(active.removesuffix("s")) <= window + 0.2
