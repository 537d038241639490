"""Settings in layers: which one wins, where each came from, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_nodes import config
from tune_nodes.config import Kind, load_config
from tune_nodes.errors import Exit, UsageError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(config, "SYSTEM_FILE", tmp_path / "etc" / "config.yml")
    (tmp_path / "etc").mkdir()
    (tmp_path / "home" / "tune-nodes").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    return tmp_path


def _load(place: Path, env: dict[str, str] | None = None, **more: Any) -> config.Config:
    return load_config(env={"XDG_CONFIG_HOME": str(place / "home"), **(env or {})}, cwd=place / "here", **more)


def test_defaults(place: Path) -> None:
    found = _load(place)
    assert (found.settings.profile, found.settings.window, found.settings.serial) == ("kubernetes-node", 120, ["25%"])
    assert {source.kind for _, _, source in found.rows()} == {Kind.DEFAULT}
    assert [key for key, _, _ in found.rows()] == config.keys()


def test_each_layer_is_stronger_than_the_one_before(place: Path) -> None:
    layers = [
        (Kind.FILE, place / "etc/config.yml", "forks: 1\ncanary: 1\nsoak: 1\ntimeouts: {connect: 1, inventory: 1}\n"),
        (Kind.FILE, place / "home/tune-nodes/config.yml", "forks: 2\ncanary: 2\nsoak: 2\ntimeouts: {connect: 2}\n"),
        (Kind.FILE, place / "here/tune-nodes.yml", "# mine\nforks: 3\ncanary: 3\n"),
    ]
    for _, path, text in layers:
        path.write_text(text)
    found = _load(place, {"TUNE_NODES_FORKS": "4", "TUNE_NODES_CANARY": "4"}, flags={"forks": 5, "soak": None})
    rows = {key: (value, str(source)) for key, value, source in found.rows()}
    assert rows["forks"] == (5, "--forks")
    assert rows["canary"] == (4, "TUNE_NODES_CANARY")
    assert rows["soak"] == (2.0, f"{place}/home/tune-nodes/config.yml:3")
    assert rows["timeouts.connect"] == (2, f"{place}/home/tune-nodes/config.yml:4")
    assert rows["timeouts.inventory"] == (1, f"{place}/etc/config.yml:4")
    assert rows["fail_percent"] == (5.0, "default")
    assert found.chosen("forks") and found.chosen("canary") and not found.chosen("soak")


def test_named_file(place: Path) -> None:
    (place / "here/tune-nodes.yml").write_text("forks: 3\n")
    (place / "here/other.yml").write_text("forks: 7\n")
    assert _load(place, file=Path("other.yml")).settings.forks == 7
    assert _load(place, {"TUNE_NODES_CONFIG": "other.yml"}).settings.forks == 7
    with pytest.raises(UsageError, match=r"cannot read .*none.yml"):
        _load(place, {"TUNE_NODES_CONFIG": "none.yml"})


def test_environment_lists_are_parted_by_blanks(place: Path) -> None:
    env = {"TUNE_NODES_INVENTORY": "prod h1,h2,", "TUNE_NODES_SERIAL": "1 25%", "TUNE_NODES_QUARANTINE_SKIP": "no"}
    found = _load(place, {**env, "TUNE_NODES_TIMEOUTS_CONNECT": "3", "TUNE_NODES_PROFILE": ""}).settings
    assert (found.inventory, found.serial) == (["prod", "h1,h2,"], ["1", "25%"])
    assert (found.quarantine.skip, found.timeouts.connect, found.profile) == (False, 3, "kubernetes-node")


def test_numbers_and_single_texts_are_taken_as_meant(place: Path) -> None:
    (place / "here/tune-nodes.yml").write_text("serial: 5\nmax_unavailable: 2\ninventory: prod\nstate_dir: ~/x\n")
    found = _load(place).settings
    assert (found.serial, found.max_unavailable, found.inventory) == (["5"], "2", ["prod"])
    assert found.state_dir == Path.home() / "x"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("fork: 5\n", 1, "fork: unknown field (did you mean forks?)"),
        ("\ntimeouts: {conect: 5}\n", 2, "did you mean connect?"),
        ("forks: many\n", 1, "forks: input should be a valid integer"),
        ("forks: 0\n", 1, "greater than or equal to 1"),
        ("forks:\n", 1, "forks: "),
        ("timeouts: 5\n", 1, "timeouts: "),
        ("serial: [1, 0%]\n", 1, "'0%' is neither a number of nodes nor a percentage"),
        ("serial: []\n", 1, "serial: "),
        ("max_unavailable: half\n", 1, "'half' is neither"),
        ("window: 5\n", 1, "greater than or equal to 20"),
        ("output: xml\n", 1, "'table', 'wide', 'json' or 'yaml'"),
        ("state_dir: ~nobody-of-that-name/x\n", 1, "no such user's home"),
        ("forks: 1\nforks: 2\n", 2, "a second time"),
        ("- forks\n", 1, "must be a mapping"),
        ("forks: !!python/name:os.system\n", 1, "YAML tags"),
    ],
)
def test_bad_files_are_refused_with_the_line(place: Path, text: str, line: int, says: str) -> None:
    (place / "here/tune-nodes.yml").write_text(text)
    with pytest.raises(UsageError) as err:
        _load(place)
    assert str(err.value).startswith(f"tune-nodes.yml:{line}: ")
    assert says in str(err.value)
    assert err.value.exit is Exit.USAGE


def test_a_weaker_files_mistake_is_not_hidden_by_a_stronger_one(place: Path) -> None:
    (place / "etc/config.yml").write_text("forks: many\n")
    with pytest.raises(UsageError, match=r"etc/config.yml:1"):
        _load(place, flags={"forks": 5})


def test_bad_environment_and_flags_are_named(place: Path) -> None:
    with pytest.raises(UsageError, match="TUNE_NODES_TIMEOUTS_CONNECT: input should be a valid integer"):
        _load(place, {"TUNE_NODES_TIMEOUTS_CONNECT": "soon"})
    with pytest.raises(UsageError, match="--max-unavailable: 'half' is neither"):
        _load(place, flags={"max_unavailable": "half"})
    with pytest.raises(UsageError, match="2 problems"):
        _load(place, {"TUNE_NODES_FORKS": "x", "TUNE_NODES_SERIAL": "y"})


def test_mistyped_variables_are_warned_of_and_strangers_are_not(place: Path) -> None:
    env = {"TUNE_NODES_FORK": "5", "TUNE_NODES_SERVICE_HOST": "10.0.0.1", "TUNE_NODES_YES": "1"}
    assert _load(place, env).warnings == ("TUNE_NODES_FORK is not a setting; did you mean TUNE_NODES_FORKS?",)


def test_a_file_that_anybody_could_have_written_is_not_read(place: Path) -> None:
    (place / "here/tune-nodes.yml").write_text("forks: 3\n")
    (place / "here").chmod(0o1777)
    found = _load(place)
    assert found.settings.forks == 20
    assert "is not read" in found.warnings[0]


@given(st.dictionaries(st.sampled_from(config.keys()), st.text(max_size=12).filter(lambda t: "\0" not in t)))
def test_junk_in_the_environment_is_a_usage_error(values: dict[str, str]) -> None:
    env = {config.variable(key): text for key, text in values.items()}
    try:
        found = load_config(env={**env, "XDG_CONFIG_HOME": "/nonexistent"}, cwd=Path("/nonexistent"))
    except UsageError:
        return
    assert set(found.sources) == set(config.keys())
