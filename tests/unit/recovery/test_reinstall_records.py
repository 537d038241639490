"""Records on disk, and manifests that they are made from."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cni_server import JSON, CniServer, flannel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lease_server import opened

from tune_nodes.cluster.client import Cluster
from tune_nodes.errors import TuneError, UsageError
from tune_nodes.policy.keeping import document
from tune_nodes.recovery.reinstall import manifests, plan, record, runs, service
from tune_nodes.recovery.reinstall.carry import Way


@pytest.fixture
def server() -> CniServer:
    return CniServer()


@pytest.fixture
def cluster(server: CniServer, tmp_path: Path) -> Iterator[Cluster]:
    with opened(server, tmp_path) as made:
        yield made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return record.home(tmp_path / "state")


@pytest.fixture
def made(cluster: Cluster, home: Path) -> record.Record:
    return service.make(cluster, home)


def sealed(directory: Path) -> None:
    """Write the sums anew, as somebody would who changes a record on purpose."""
    sums = "".join(
        f"{hashlib.sha256((directory / name).read_bytes()).hexdigest()}  {name}\n" for name in document.FILES
    )
    (directory / document.SUMS).write_text(sums)


def test_a_record_is_private_and_read_back(made: record.Record, home: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made.directory.iterdir()}
    assert modes == dict.fromkeys(("manifest.json", "raw.json", "cleaned.json", "SHA256SUMS"), 0o600)
    assert stat.S_IMODE(made.directory.stat().st_mode) == 0o700
    assert [path.name for path in home.iterdir()] == [made.id], "nothing half written stays"
    assert record.Record.load(made.directory) == made


def test_cleaned_json_is_a_list_that_kubectl_takes(made: record.Record) -> None:
    found = json.loads((made.directory / "cleaned.json").read_text())
    assert (found["apiVersion"], found["kind"]) == ("v1", "List")
    assert all(one["apiVersion"] and one["kind"] and one["metadata"]["name"] for one in found["items"])


@pytest.mark.parametrize("name", document.FILES)
@pytest.mark.parametrize("how", ["cut", "gone", "junk", "one byte"])
def test_a_damaged_record_is_refused(made: record.Record, name: str, how: str) -> None:
    path = made.directory / name
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": data[:-20], "junk": b"\x00junk", "one byte": data[:-3] + b"x" + data[-2:]}[how])
    with pytest.raises(UsageError, match="is no whole record"):
        record.Record.load(made.directory)


def test_an_object_that_was_exchanged_is_refused_with_right_sums(made: record.Record) -> None:
    path = made.directory / "cleaned.json"
    path.write_text(path.read_text().replace("v0.28.1", "v0.28.2"))
    sealed(made.directory)
    with pytest.raises(UsageError, match="DaemonSet kube-flannel/kube-flannel-ds is not what was recorded"):
        record.Record.load(made.directory)


def test_a_list_that_names_another_object_is_refused(made: record.Record) -> None:
    path = made.directory / "manifest.json"
    rows = json.loads(path.read_text())
    rows["objects"][-1]["name"] = "kube-proxy"
    path.write_text(json.dumps(rows))
    sealed(made.directory)
    with pytest.raises(UsageError, match="its list says DaemonSet kube-flannel/kube-proxy, the object another"):
        record.Record.load(made.directory)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(JSON, st.sampled_from(document.FILES))
def test_junk_is_no_record(made: record.Record, junk: Any, name: str) -> None:
    kept = (made.directory / name).read_bytes()
    try:
        (made.directory / name).write_text(json.dumps(junk))
        sealed(made.directory)
        with pytest.raises(UsageError):
            record.Record.load(made.directory)
    finally:
        (made.directory / name).write_bytes(kept)
        sealed(made.directory)


def test_what_is_half_written_leaves_nothing(cluster: Cluster, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(document, "_put", full)
    with pytest.raises(UsageError, match="No space left"):
        service.make(cluster, home)
    assert list(home.iterdir()) == []


def test_secrets_are_named_and_not_recorded(server: CniServer, cluster: Cluster, home: Path) -> None:
    agents = flannel()[-1]
    agents["spec"]["template"]["spec"]["volumes"].append({"name": "keys", "secret": {"secretName": "wireguard"}})
    server.keep("/apis/apps/v1/namespaces/kube-flannel/daemonsets/kube-flannel-ds", agents)
    secret = {"metadata": {"name": "wireguard", "uid": "s"}, "data": {"key": "dG9wLXNlY3JldA=="}}
    server.objects["/api/v1/namespaces/kube-flannel/secrets/wireguard"] = secret
    made = service.make(cluster, home)
    assert any(one.startswith("Secret kube-flannel/wireguard: secrets are never") for one in made.manifest.facts.left)
    assert not any("dG9wLXNlY3JldA" in path.read_text() for path in made.directory.iterdir())
    assert not any("secrets" in path for _, path, _ in server.asked), "it is not even read"


def test_an_image_that_says_no_version_is_refused(server: CniServer, cluster: Cluster, home: Path) -> None:
    server.keep("/apis/apps/v1/namespaces/kube-flannel/daemonsets/kube-flannel-ds", flannel("example/flannel")[-1])
    with pytest.raises(UsageError, match="example/flannel does not say which version it is"):
        service.make(cluster, home)
    assert record.kept(home) == []
    assert service.make(cluster, home, allow_latest=True).parts


def test_services_of_agents_and_the_servers_roles(server: CniServer, cluster: Cluster, home: Path) -> None:
    for name, selector in (("typha", {"app": "flannel"}), ("other", {"app": "shop"}), ("all", {})):
        item = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "kube-flannel"}}
        server.keep(f"/api/v1/namespaces/kube-flannel/services/{name}", {**item, "spec": {"selector": selector}})
    role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/flannel"
    server.objects[role]["metadata"]["labels"] = {"kubernetes.io/bootstrapping": "rbac-defaults"}
    made = service.make(cluster, home)
    keys = [str(part.key) for part in made.parts]
    assert [key for key in keys if key.startswith("Service ")] == ["Service kube-flannel/typha"]
    assert "ClusterRole flannel" not in keys
    assert "ClusterRole flannel: the server keeps it itself" in made.manifest.facts.left


def test_without_a_cni_there_is_nothing_to_record(server: CniServer, cluster: Cluster, home: Path) -> None:
    server.lose("/apis/apps/v1/namespaces/kube-flannel/daemonsets/kube-flannel-ds")
    with pytest.raises(TuneError, match="no DaemonSet of a CNI") as caught:
        service.make(cluster, home)
    assert "--manifest FILE" in caught.value.next


# -- finding one ------------------------------------------------------------------------------------------------------


def test_records_are_found(home: Path, cluster: Cluster) -> None:
    first, second = service.make(cluster, home), service.make(cluster, home)
    assert [path.name for path in record.kept(home)] == sorted([first.id, second.id], reverse=True)
    assert record.find(home, first.id).name == first.id
    assert record.find(home, first.id[-6:]).name == first.id
    assert record.find(home, str(home / "elsewhere")) == home / "elsewhere"
    assert record.newest_of(home, cluster.server).id == record.kept(home)[0].name
    for reference, said in (("nothing", "there is no record 'nothing'"), (first.id[:8], "there is no single record")):
        with pytest.raises(UsageError, match=said):
            record.find(home, reference)
    with pytest.raises(UsageError, match=r"no record of https://192\.0\.2\.1:6443") as caught:
        record.newest_of(home, "https://192.0.2.1:6443")
    assert "2 records here are of other clusters" in caught.value.why


@pytest.mark.parametrize(
    "lines",
    [b"", b"junk\n", b'{"event":"writing"}\n', b'[1]\n{"event":"done"}\n'],
    ids=["empty", "junk", "no beginning", "a list"],
)
def test_a_journal_without_a_beginning_is_no_run(tmp_path: Path, lines: bytes) -> None:
    directory = runs.home(tmp_path) / "20261124-160559-6bed41"
    directory.mkdir(parents=True)
    (directory / "journal.jsonl").write_bytes(lines)
    assert list(runs.known(runs.home(tmp_path))) == []
    with pytest.raises(UsageError, match="no reinstall to take back"):
        runs.named(runs.home(tmp_path), "latest")
    with pytest.raises(UsageError, match="is no reinstall"):
        runs.named(runs.home(tmp_path), directory.name)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.dictionaries(st.sampled_from(["event", "object", "pods", "node", "undo", "roll", "absent"]), JSON)))
def test_a_journal_of_junk_is_read(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    names = ("writing", "wrote", "rolling", "node", "rolled", "done", "undo", "begin")
    lines = [{"event": "begin", "server": "s"}, *({**row, "event": names[n % 8]} for n, row in enumerate(rows))]
    (tmp_path / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = runs.load(tmp_path)
    assert run is not None
    assert run.server == "s"


# -- manifests --------------------------------------------------------------------------------------------------------


def written(tmp_path: Path, *documents: Any, raw: str = "") -> Path:
    path = tmp_path / "cni.yml"
    path.write_text(raw or yaml.safe_dump_all(documents))
    return path


CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cfg"}, "data": {"a": "b"}}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("a: [", "is no YAML"),
        ("- 1\n- 2\n", "holds something that is no object"),
        ("kind: ConfigMap\n", "holds something that is no object"),
        ("", "no object is in"),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, annotations: {when: 2026-11-24}}\n",
            "no API server takes",
        ),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: &x {b: *x}\n", "no API server takes"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nvalue: .nan\n", "no API server takes"),
        ("apiVersion: v1\nkind: List\nitems: [1]\n", "holds something that is no object"),
        (yaml.safe_dump_all([CONFIG, CONFIG]), "stands in the manifests twice"),
    ],
)
def test_manifests_that_are_refused(tmp_path: Path, raw: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        manifests.read([written(tmp_path, raw=raw or "---\n")])


def test_a_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        manifests.read([tmp_path / "missing.yml"])


def test_secrets_and_hooks_in_manifests_are_left_out(tmp_path: Path) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"a": "b"}}
    hook = {**CONFIG, "metadata": {"name": "job", "annotations": {"helm.sh/hook": "pre-install"}}}
    listed = {"apiVersion": "v1", "kind": "List", "items": [CONFIG, secret, hook]}
    found, left = manifests.read([written(tmp_path, listed, None)])
    assert [str(part.key) for part in found] == ["ConfigMap cfg"]
    assert [one.partition(":")[0] for one in left] == ["Secret keys", "ConfigMap job"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=200) | JSON.map(json.dumps))
def test_any_text_is_a_manifest_or_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cni.yml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        found, _ = manifests.read([path])
    except UsageError:
        return
    assert found


def test_a_record_from_manifests_puts_each_object_where_it_belongs(
    cluster: Cluster, home: Path, tmp_path: Path
) -> None:
    made = service.make(cluster, home, [written(tmp_path, *flannel(), CONFIG)], namespace="kube-flannel")
    assert str(made.parts[4].key) == "ConfigMap kube-flannel/cfg"
    assert made.parts[4].body["metadata"] == {"name": "cfg", "namespace": "kube-flannel"}
    assert "namespace" not in made.parts[0].body["metadata"]
    assert (made.manifest.facts.source, made.is_of_cluster) == ("files: cni.yml", False)
    assert str(service.make(cluster, home, [written(tmp_path, CONFIG)]).parts[0].key) == "ConfigMap default/cfg"
    there = {**CONFIG, "metadata": {"name": "cfg", "namespace": "default"}}
    with pytest.raises(UsageError, match="ConfigMap default/cfg stands in the manifests twice"):
        service.make(cluster, home, [written(tmp_path, CONFIG, there)])


POOL = {"apiVersion": "crd.example.org/v1", "kind": "Pool", "metadata": {"name": "p", "namespace": "x"}}
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "pools.crd.example.org"},
    "spec": {
        "group": "crd.example.org",
        "names": {"kind": "Pool", "plural": "pools"},
        "scope": "Cluster",
        "versions": [{"name": "v1"}],
    },
}


def test_a_kind_that_the_manifests_define_themselves(
    cluster: Cluster, home: Path, tmp_path: Path, server: CniServer
) -> None:
    with pytest.raises(UsageError, match=r"this cluster has no kind Pool in crd\.example\.org/v1"):
        service.make(cluster, home, [written(tmp_path, POOL)])
    made = service.make(cluster, home, [written(tmp_path, POOL, DEFINITION)])
    assert [str(part.key) for part in made.parts] == ["CustomResourceDefinition pools.crd.example.org", "Pool p"]
    found = plan.look(cluster, made)
    assert [(step.status, step.text) for step in found.steps] == [("create", ""), ("create", "its kind is made first")]


def test_a_kind_is_made_before_its_objects_and_stays(
    cluster: Cluster, home: Path, tmp_path: Path, server: CniServer
) -> None:
    made = service.make(cluster, home, [written(tmp_path, POOL, DEFINITION)])
    found = service.look(cluster, made, tmp_path)
    run, nodes = service.carry_out(cluster, found, tmp_path, Way(limit=5))
    assert nodes == []
    assert server.objects["/apis/crd.example.org/v1/pools/p"]["kind"] == "Pool"
    assert not service.look(cluster, made, tmp_path).plan.work
    done = service.take_back(cluster, runs.named(runs.home(tmp_path), run), tmp_path, Way(limit=5))
    assert done.removed == ["Pool p"]
    assert done.left == ["CustomResourceDefinition pools.crd.example.org: what is in it may be others'"]


def test_a_kind_that_nobody_defines_any_more_stands_in_the_way(cluster: Cluster, home: Path, tmp_path: Path) -> None:
    made = service.make(cluster, home, [written(tmp_path, POOL, DEFINITION)])
    alone = record.write(home, made.parts[1:], made.manifest.facts)
    (step,) = plan.look(cluster, alone).barred
    assert step.text == "the server has no kind Pool in crd.example.org/v1"
