"""A kubeconfig is found, read and used, or refused with the reason; a secret in it is never shown."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tiny_api import TOKEN, kubeconfig

from tune_nodes.cluster.access import find_kubeconfig
from tune_nodes.cluster.errors import ClusterError, KubeconfigError
from tune_nodes.cluster.kubeconfig import read_context
from tune_nodes.cluster.login import log_in
from tune_nodes.errors import Exit, UsageError

SERVER = "https://192.0.2.1:6443"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a", "b", "with"):
        (tmp_path / name).mkdir()
    for name in ("a/config", "b/config", "with/kubeconfig", "with/hosts.yml"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("explicit", "sources", "listed", "found"),
    [
        ("a/config", ["with"], ["b/config"], "a/config"),
        ("", ["with"], ["b/config"], "with/kubeconfig"),
        ("", ["with/hosts.yml"], [], "with/kubeconfig"),
        ("", ["a", "with"], [], "with/kubeconfig"),
        ("", ["n1,n2,"], ["b/nothing", "b/config"], "b/config"),
        ("", [], ["", "b/nothing"], None),
        ("", ["a"], [], None),
    ],
)
def test_which_is_used(tree: Path, explicit: str, sources: list[str], listed: list[str], found: str | None) -> None:
    env = {"KUBECONFIG": ":".join(str(tree / name) if name else "" for name in listed), "HOME": str(tree)}
    named = str(tree / explicit) if explicit else ""
    places = [source if "," in source else str(tree / source) for source in sources]
    assert find_kubeconfig(named, places, env) == (tree / found if found else None)


def test_the_users_own_is_never_taken_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_kubeconfig("", [], {}) is None


@pytest.mark.parametrize("name", ["missing", ".", "~nobody-of-that-name/config"])
def test_a_named_one_must_exist(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_kubeconfig(name if name.startswith("~") else str(tmp_path / name), [], {})
    assert caught.value.exit is Exit.USAGE
    assert caught.value.data["code"] == "no-kubeconfig"


def document() -> dict[str, Any]:
    return {
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}, {"name": "two", "context": {}}],
        "clusters": [{"name": "c", "cluster": {"server": SERVER}}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
    }


def refusal(tmp_path: Path, text: str | bytes, context: str = "") -> KubeconfigError:
    path = tmp_path / "kubeconfig"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(KubeconfigError) as caught:
        log_in(read_context(path, context))
    assert TOKEN not in str(caught.value)
    assert caught.value.exit is Exit.USAGE
    return caught.value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty"),
        ("- a", "it is not a mapping"),
        (b"\xff\xfe\x00", "it is not UTF-8 text"),
        (f"a: 1\nusers: [{{token: {TOKEN}\n", "line 3: expected"),
        (f"token: {TOKEN}\n\tx: 1", "line 2: "),
        ("[" * 1500, "it is not YAML"),
        ("x" * 3_000_000, "it is larger than 2 MiB"),
        (f"token: !!python/object:os.system {TOKEN}", "could not determine a constructor"),
        ("date: 2026-99-99", "it is not YAML"),
    ],
)
def test_what_is_no_kubeconfig(tmp_path: Path, text: str | bytes, why: str) -> None:
    assert why in refusal(tmp_path, text).why


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="there is no kubeconfig"):
        read_context(tmp_path / "kubeconfig")
    with pytest.raises(KubeconfigError, match="cannot be read"):
        read_context(tmp_path)


@pytest.mark.parametrize(
    ("edit", "context", "said"),
    [
        (lambda d: d.pop("current-context"), "", "has no current context"),
        (lambda d: None, "three", "has no context 'three': it has one, two"),
        (lambda d: None, "two", "its context 'two' names no cluster"),
        (lambda d: d.update(clusters=[]), "", "names the cluster 'c', which the file does not have"),
        (lambda d: d.update(users=None), "", "names the user 'u', which the file does not have"),
        (lambda d: d.update(contexts="x"), "", "has no context 'one': it has none"),
        (lambda d: d["clusters"][0].update(cluster={"server": "192.0.2.1"}), "", "has no server of the form"),
        (
            lambda d: d["clusters"][0].update(cluster={"server": f"https://u:{TOKEN}@h"}),
            "",
            "has no server of the form",
        ),
        (lambda d: d["clusters"][0].update(cluster={"server": "https://h:port"}), "", "has no server of the form"),
        (lambda d: d["clusters"][0]["cluster"].update({"certificate-authority": "ca.crt"}), "", "which does not exist"),
        (lambda d: d["clusters"][0]["cluster"].update({"certificate-authority-data": "?"}), "", "is not base64"),
        (
            lambda d: d["clusters"][0]["cluster"].update({"certificate-authority-data": "aGVsbG8="}),
            "",
            "has a certificate-authority that is not a certificate",
        ),
        (lambda d: d["users"][0].update(user={"client-certificate": "c.crt"}), "", "which does not exist"),
        (lambda d: d["users"][0].update(user={"client-certificate-data": "aGVsbG8="}), "", "without its key"),
        (
            lambda d: d["users"][0].update(user={"client-certificate-data": "aGVsbG8=", "client-key-data": "aGVsbG8="}),
            "",
            "do not fit, are broken, or want a password",
        ),
        (lambda d: d["users"][0].update(user={"tokenFile": "token"}), "", "cannot be read: No such file"),
        (lambda d: d["users"][0].update(user={"token": f"{TOKEN}\nX-Evil: 1"}), "", "characters that no token has"),
        (lambda d: d["users"][0].update(user={"auth-provider": {"name": "gcp"}}), "", "an auth-provider that is not"),
        (lambda d: d["users"][0]["user"].update({"as": "a\nb"}), "", "whose name cannot be sent"),
    ],
)
def test_what_is_wrong_in_one(tmp_path: Path, edit: Any, context: str, said: str) -> None:
    made = document()
    edit(made)
    assert said in str(refusal(tmp_path, yaml.safe_dump(made), context))


@pytest.mark.parametrize(
    ("user", "kind", "header"),
    [
        ({"token": "abc"}, "token", "Bearer abc"),
        ({"tokenFile": "token"}, "token", "Bearer from-file"),
        ({"username": "u", "password": "p"}, "password", "Basic " + base64.b64encode(b"u:p").decode()),
        ({"auth-provider": {"name": "oidc", "config": {"id-token": "oid"}}}, "token", "Bearer oid"),
        ({}, "", None),
    ],
)
def test_ways_to_log_in(tmp_path: Path, user: dict[str, Any], kind: str, header: str | None) -> None:
    (tmp_path / "token").write_text("from-file\n", encoding="utf-8")
    login = log_in(read_context(kubeconfig(tmp_path, SERVER, user)))
    settings = login.configuration.auth_settings()
    assert login.kind == kind
    assert [one["value"] for one in settings.values()] == ([header] if header else [])
    assert login.configuration.host == SERVER


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    where = tmp_path_factory.mktemp("pair")
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
    argv += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*argv, "-keyout", str(where / "key"), "-out", str(where / "crt")], check=True, capture_output=True, timeout=30
    )
    return where / "crt", where / "key"


def test_keys_given_as_data_never_reach_the_disk(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    certificate, key = (base64.b64encode(path.read_bytes()).decode() for path in pair)
    user = {"client-certificate-data": certificate, "client-key-data": key}
    login = log_in(read_context(kubeconfig(tmp_path, SERVER, user, {"certificate-authority-data": certificate})))
    paths = [login.configuration.cert_file, login.configuration.key_file, login.configuration.ssl_ca_cert]
    assert login.kind == "client certificate"
    assert [Path(path).read_bytes() for path in paths] == [
        pair[0].read_bytes(),
        pair[1].read_bytes(),
        pair[0].read_bytes(),
    ]
    assert all(str(Path(path).readlink()).startswith("/memfd:") for path in paths)
    login.close()
    assert not Path(paths[1]).exists() or "memfd" not in str(Path(paths[1]).readlink())


def test_paths_start_from_the_files_own_directory(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    for path in pair:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    user = {"client-certificate": "crt", "client-key": "key"}
    login = log_in(read_context(kubeconfig(tmp_path, SERVER, user, {"certificate-authority": "crt"})))
    assert login.configuration.ssl_ca_cert == str(tmp_path / "crt")


def test_a_users_stand_in_is_kept(tmp_path: Path) -> None:
    user = {"token": "t", "as": "viewer", "as-groups": ["a", "b"]}
    assert log_in(read_context(kubeconfig(tmp_path, SERVER, user))).headers == [
        ("Impersonate-User", "viewer"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
    ]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet="abc:/{}[]-\n ", max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list("cu")), inner, max_size=2),
    max_leaves=6,
)


@given(
    part=st.sampled_from(["current-context", "contexts", "clusters", "users"]),
    value=values,
    inner=st.sampled_from(["", "name", "context", "cluster", "user"]),
)
def test_junk_is_refused_never_an_exception(
    tmp_path_factory: pytest.TempPathFactory, part: str, value: Any, inner: str
) -> None:
    made = document()
    if inner and isinstance(made[part], list):
        made[part][0][inner] = value
    else:
        made[part] = value
    path = tmp_path_factory.getbasetemp() / "junk-kubeconfig"
    path.write_text(yaml.safe_dump(made), encoding="utf-8")
    try:
        log_in(read_context(path)).close()
    except ClusterError as problem:
        assert TOKEN not in str(problem)
