"""What is built from which modules: go.mod, flags, keys, the Go that does it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kindbed import programs, requirements
from kindbed import versions as v
from kindbed.cache import Cache
from kindbed.lock import MODULES, SOURCES, Module, go_mod, staging
from kindbed.programs import BUILDS, Programs, new_enough

from tune_nodes.errors import TuneError

KUBERNETES_GO_MOD = """\
module k8s.io/kubernetes

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/mount-utils => ./staging/src/k8s.io/mount-utils
)

require k8s.io/klog/v2 v2.130.1
"""


@pytest.fixture
def go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "find_go", lambda: ("/usr/local/go/bin/go", "go version go1.26.1 linux/amd64"))


@pytest.mark.parametrize(
    ("answer", "enough"),
    [
        ("go version go1.26.0 linux/amd64", True),
        ("go version go1.27rc1 linux/amd64", True),
        ("go version go2.0 linux/amd64", True),
        ("go version go1.19.8 linux/amd64", False),
        ("go version go1.9.1 linux/amd64", False),
        ("", False),
        ("go: no such tool", False),
    ],
)
def test_which_go_is_new_enough(answer: str, enough: bool) -> None:
    assert new_enough(answer) is enough


def test_without_a_go_that_is_new_enough_it_says_what_was_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "go"
    old.write_text("#!/bin/sh\necho go version go1.19.8 linux/amd64\n")
    old.chmod(0o755)
    monkeypatch.setattr(programs, "PLACES", (str(old), str(tmp_path / "none")))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(TuneError, match=rf"no Go {re.escape(v.GO)} or newer") as found:
        programs.find_go()
    assert found.value.why == f"{old} is go version go1.19.8 linux/amd64"
    assert "/usr/local/go" in found.value.next


def test_kubernetes_own_modules_are_named() -> None:
    assert staging(KUBERNETES_GO_MOD, "0.34.4") == {
        "k8s.io/api": "k8s.io/api v0.34.4",
        "k8s.io/mount-utils": "k8s.io/mount-utils v0.34.4",
    }


def test_go_mod() -> None:
    module = Module(requires={"a.test/b": "1.2.3"}, tools=("a.test/b/cmd",))
    assert go_mod("thing", module, {"c.test/d": "./stubs/d"}) == (
        "module tune-nodes.test/thing\n\ngo 1.24.0\n\ntool a.test/b/cmd\n\n"
        "require a.test/b v1.2.3\n\nreplace c.test/d => ./stubs/d\n"
    )


@pytest.mark.parametrize("name", sorted(MODULES))
def test_what_is_committed_is_what_versions_says(name: str) -> None:
    text = (SOURCES / name / "go.mod").read_text()
    for path, version in MODULES[name].requires.items():
        assert re.search(rf"^(require|\s)\s*{re.escape(path)} v{re.escape(version)}(?: // indirect)?$", text, re.M), (
            path
        )
    if MODULES[name].requires:
        assert (SOURCES / name / "go.sum").stat().st_size > 0


def test_every_module_is_built() -> None:
    assert set(BUILDS) == set(MODULES) == {path.name for path in SOURCES.iterdir() if path.is_dir()}


def test_flags() -> None:
    flags = BUILDS["kube"].flags()
    assert "-trimpath" in flags
    assert [name for name, build in BUILDS.items() if any("-l" in flag.split() for flag in build.flags())] == ["cilium"]
    linker = next(flag for flag in flags if flag.startswith("-ldflags="))
    assert f"-X k8s.io/component-base/version.gitVersion=v{v.KUBERNETES}" in linker
    assert "-extldflags -static" in next(f for f in BUILDS["flanneld"].flags() if f.startswith("-ldflags="))


@pytest.mark.usefixtures("go")
def test_a_key_for_each_program_and_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Programs(Cache(tmp_path))
    keys = {name: one.key(name) for name in BUILDS}
    assert len(set(keys.values())) == len(BUILDS)
    assert keys == {name: Programs(Cache(tmp_path)).key(name) for name in BUILDS}
    monkeypatch.setattr(programs, "find_go", lambda: ("/usr/local/go/bin/go", "go version go1.27.0 linux/amd64"))
    other = Programs(Cache(tmp_path))
    assert not set(keys.values()) & {other.key(name) for name in BUILDS}


@pytest.mark.usefixtures("go")
def test_a_program_that_is_there_is_not_built(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    found = Programs(cache)
    directory = cache.path("kube", found.key("kube"))
    directory.mkdir(parents=True)
    assert found.path("kube", "kubectl") == directory / "kubectl"


def test_what_a_machine_lacks() -> None:
    assert requirements.missing_programs(lambda name: f"/usr/bin/{name}") == {}
    missing = requirements.missing_programs(lambda name: None if "docker" in name else name)
    assert missing == {"docker": "docker.io", "dockerd": "docker.io"}


def test_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements.os, "geteuid", lambda: 1000)
    assert "root" in requirements.why_not()
    monkeypatch.setattr(requirements.os, "geteuid", lambda: 0)
    monkeypatch.setattr(requirements, "missing_programs", lambda: {"dockerd": "docker.io", "docker": "docker.io"})
    assert requirements.why_not() == "missing: dockerd, docker (next: apt-get install docker.io)"
