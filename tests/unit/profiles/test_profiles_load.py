"""Profiles from file to layers: what is refused and with which words, extends, variants, shipped ones."""

from __future__ import annotations

import json
import re
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils import match
from ansible_collections.tune.nodes.plugins.module_utils.nic.family import FAMILY as NIC_QUEUES
from ansible_collections.tune.nodes.plugins.module_utils.sysctl.family import FAMILY as SYSCTL
from hypothesis import given
from hypothesis import strategies as st

from tune_nodes.errors import Exit, UsageError
from tune_nodes.profiles import load
from tune_nodes.profiles.load import SearchDir, available, find, resolve
from tune_nodes.profiles.model import Profile

SHIPPED = ["article", "kubernetes-node", "large-cluster", "latency"]
SHIPPED += ["throughput-100g", "throughput-10g", "throughput-25g"]


@pytest.fixture
def dirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[SearchDir]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profiles").mkdir()
    return [SearchDir("./profiles", tmp_path / "profiles"), SearchDir("shipped", load.SHIPPED)]


def _write(dirs: list[SearchDir], name: str, text: str) -> None:
    (dirs[0].path / f"{name}.yml").write_text(text)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("sysctl:\n  net.core.somaxcon: 1\n", 2, "not in the key catalogue.*did you mean net.core.somaxconn"),
        ("sysctl:\n  net.core.x.y: 1\n", 2, "give class: floor, ceiling or exact"),
        ("sysctl:\n  net.core.somaxconn: many\n", 2, "'many' is not a whole number"),
        ("sysctl:\n  net.core.somaxconn: true\n", 2, "true is not a kernel value; write 1"),
        ("sysctl:\n  net.core.somaxconn: 1.5\n", 2, "wanted a number or text, got float"),
        ("sysctl:\n  net.core.somaxconn:\n", 2, "got nothing"),
        ("sysctl:\n  net.core.somaxconn: 0\n", 2, "0 is impossible"),
        ("sysctl:\n  net.core.somaxconn: 99999999999\n", 2, "is impossible"),
        ("sysctl:\n  net.ipv4.tcp_rmem: [1, 2, 3]\n", 2, "in one text, parted by spaces"),
        ("sysctl:\n  net.ipv4.tcp_rmem: 1 2\n", 2, "is not 3 whole numbers"),
        ("sysctl:\n  net.ipv4.tcp_rmem: 3 2 1\n", 2, "must not decrease"),
        ("sysctl:\n  net.core.somaxconn: {value: 1, clas: floor}\n", 2, "unknown field.*did you mean class"),
        ("sysctl:\n  net.core.somaxconn: {value: 1, class: flor}\n", 2, "'floor', 'ceiling' or 'exact'"),
        ("sysctl:\n  net.core.somaxconn: {class: floor}\n", 2, "no value"),
        ("sysctl:\n  net.core.somaxconn: {value: 1, take: perhaps}\n", 2, "take: .*boolean"),
        ("sysctl:\n  net.core.somaxconn: {value: 1, owners: cilium}\n", 2, "owners: .*list"),
        ("sysctl:\n  net.core.somaxconn: {drop: true, value: 1}\n", 2, "goes with nothing else"),
        ("sysctl:\n  net.core.somaxconn: {drop: true}\n", 2, "is dropped, but no profile before this one sets it"),
        ("sysctl:\n  net.core.busy_poll: 50\n", 2, "must be asked for by name.*opt_in: true"),
        ("sysctl:\n  net.core.somaxconn: 1\n  net/core/somaxconn: 2\n", 3, "is the same key as net.core.somaxconn"),
        ("sysctl:\n  ../../etc/passwd: 1\n", 2, "is not a sysctl key"),
        ("sysctl:\n  net.ipv4.conf.*.rp_filter: 1\n", 2, "without globs"),
        ("sysctl: [a]\n", 1, "sysctl: .*dictionary"),
        ("\nsysctls: {}\n", 2, "unknown field.*did you mean sysctl"),
        ("extends: nothere\n", 1, "extends: no profile named 'nothere'"),
        ("extends:\n  - article\n  - throughput-10\n", 3, "did you mean throughput-10g"),
        ("extends: ./other.yml\n", 1, "no profile file './other.yml'"),
        ("nic_queues:\n  - interfaces: physical\n", 2, "asks for nothing"),
        ("nic_queues:\n  - channels: auto\n", 2, "interfaces: is missing"),
        ("nic_queues:\n  - {interfaces: physical, channels: most}\n", 2, "'most' is not understood"),
        ("nic_queues:\n  - {interfaces: physical, channels: 0}\n", 2, "out of range"),
        ("nic_queues:\n  - {interfaces: physical, rps: 0-}\n", 2, "a CPU list"),
        ("nic_queues:\n  - {interfaces: physical, rings:}\n", 2, "rings has no value"),
        ("match: {cpus: several}\n", 1, "match.cpus: .*is not a condition"),
        ("match: {speed: 1}\n", 1, "match.speed: unknown field"),
        ("match: {kernel: 5.10}\n", 1, "write it in quotes"),
        ("match: {cpus:}\n", 1, "leave the line out"),
        ("variants:\n  - sysctl: {}\n", 2, "match: is missing"),
        (
            "variants:\n  - match: {cpus: 1}\n    sysctl:\n      net.core.nope: 1\n",
            4,
            "variants.0.sysctl.net.core.nope",
        ),
        ("probes: {gatway: true}\n", 1, "did you mean gateway"),
        ("probes: {peers: 99}\n", 1, "probes.peers: .*less than or equal to 16"),
        ("probes:\n  dns: ['a b']\n", 2, "is not a host name"),
        ("probes:\n  extra: [{kind: http, target: x}]\n", 2, "'peer' or 'dns'"),
        ("cluster: {mode: maybe}\n", 1, "cluster.mode: .*'auto', 'required' or 'off'"),
        ("cluster:\n  drain:\n", 1, "drain has no value"),
        ("window: 5\n", 1, "greater than or equal to 20"),
        ("window: soon\n", 1, "window: .*integer"),
        ("name: other\n", 1, "says other, but the file's name makes it p"),
    ],
)
def test_bad_profiles_are_refused_with_file_line_and_key(
    dirs: list[SearchDir], text: str, line: int, says: str
) -> None:
    _write(dirs, "p", text)
    with pytest.raises(UsageError) as err:
        resolve("p", dirs)
    assert err.value.exit is Exit.USAGE
    assert f"profiles/p.yml:{line}:" in str(err.value)
    assert re.search(says, str(err.value)), str(err.value)


def test_all_problems_at_once(dirs: list[SearchDir]) -> None:
    _write(dirs, "p", "sysctl:\n  net.core.somaxcon: 1\n  net.core.rmem_max: x\n")
    with pytest.raises(UsageError, match="profile p: 2 problems") as err:
        resolve("p", dirs)
    assert [p["where"] for p in err.value.data["problems"]] == ["profiles/p.yml:2", "profiles/p.yml:3"]


@pytest.mark.parametrize(
    ("files", "chain"),
    [
        ({"p": "extends: p"}, "p -> p"),
        ({"p": "extends: [q]", "q": "extends: r", "r": "extends: p"}, "p -> q -> r -> p"),
        ({"p": "extends: [article, q]", "q": "extends: ./r.yml", "r": "extends: q"}, "q -> r -> q"),
    ],
)
def test_circles_are_named(dirs: list[SearchDir], files: dict[str, str], chain: str) -> None:
    for name, text in files.items():
        _write(dirs, name, text)
    with pytest.raises(UsageError, match=f"circle: {chain}$"):
        resolve("p", dirs)


def test_too_many(dirs: list[SearchDir]) -> None:
    for number in range(70):
        _write(dirs, f"p{number}", f"extends: p{number + 1}")
    with pytest.raises(UsageError, match="more than 64 profiles"):
        resolve("p0", dirs)


def test_layers_bases_first_and_each_once(dirs: list[SearchDir]) -> None:
    _write(dirs, "base", "sysctl: {net.core.somaxconn: 1}\nprobes: {peers: 5, dns: a.example}\nwindow: 60")
    _write(dirs, "left", "extends: base\nsysctl: {net/core/somaxconn: '2'}")
    _write(dirs, "right", "extends: base\nmatch: {cpus: '>=4'}\nprobes: {gateway: false}\nwindow: 90\n")
    text = "extends: [left, right]\ndescription: d\nmatch: {os_id: debian}\nvariants:\n"
    text += "  - match: {cpus: 8}\n    sysctl: {net.core.somaxconn: {drop: true}}\n"
    text += "    nic_queues: [{interfaces: eth0, rps: off}]\n"
    _write(dirs, "p", text)
    found = resolve("p", dirs)
    assert found.chain == ["base", "left", "right", "p"]
    assert found.layers == [
        {"profile": "base", "match": None, "sysctl": [{"key": "net.core.somaxconn", "value": 1}], "nic_queues": []},
        {"profile": "left", "match": None, "sysctl": [{"key": "net.core.somaxconn", "value": "2"}], "nic_queues": []},
        {
            "profile": "p variant 1",
            "match": {"all_of": [{"os_id": "debian"}, {"cpus": 8}]},
            "sysctl": [{"key": "net.core.somaxconn", "drop": True}],
            "nic_queues": [{"interfaces": ["eth0"], "rps": "off"}],
        },
    ]
    assert (found.probes.gateway, found.probes.peers, found.probes.dns) == (False, 5, ["a.example"])
    assert (found.window, found.description, found.name) == (90, "d", "p")


def test_a_label_that_is_true_means_the_word(dirs: list[SearchDir]) -> None:
    _write(dirs, "p", "match: {labels: {gpu: true, rack: 7}}\nsysctl: {net.core.somaxconn: 1}")
    layers = resolve("p", dirs).layers
    assert match.select(layers, {"labels": {"gpu": "true", "rack": "7"}})[1] == ["p: applies"]


def test_probes_as_requested() -> None:
    probes = load.Probes(
        peers=1, dns=["a"], extra=[{"kind": "peer", "target": "10.0.0.1"}, {"kind": "dns", "target": "a"}]
    )
    assert probes.requests(["10.0.0.2", "10.0.0.3"]) == [
        {"kind": "gateway"},
        {"kind": "peer", "target": "10.0.0.2"},
        {"kind": "api"},
        {"kind": "kubelet"},
        {"kind": "dns", "target": "a"},
        {"kind": "peer", "target": "10.0.0.1"},
    ]


def test_probes_of_the_kubelet_can_be_left_out() -> None:
    assert load.Probes(gateway=False, api=False, kubelet=False).requests([]) == []


def test_what_is_said_of_the_cluster_is_merged_field_by_field(dirs: list[SearchDir]) -> None:
    _write(dirs, "base", "cluster: {mode: off, drain_timeout: 60}")
    _write(dirs, "shop", "extends: base\ncluster: {mode: required, drain: true}")
    assert resolve("base", dirs).cluster == {"mode": "off", "drain_timeout": 60}
    found = resolve("shop", dirs)
    assert found.cluster == {"mode": "required", "drain_timeout": 60, "drain": True}
    _write(dirs, "shop", "extends: base\ncluster: {mode: required, drain: false}")
    assert resolve("shop", dirs).digest != found.digest


def test_digest_follows_what_nodes_get(dirs: list[SearchDir]) -> None:
    _write(dirs, "a", "description: one\nsysctl: {net.core.somaxconn: 1}")
    first = resolve("a", dirs).digest
    _write(dirs, "a", "# comment\nsysctl:\n  net.core.somaxconn: 1")
    assert resolve("a", dirs).digest == first
    _write(dirs, "a", "sysctl: {net.core.somaxconn: 2}")
    assert resolve("a", dirs).digest != first


def test_a_local_profile_hides_and_extends_the_shipped_one(dirs: list[SearchDir]) -> None:
    _write(
        dirs, "kubernetes-node", "extends: shipped:kubernetes-node\nsysctl: {net.ipv4.tcp_mtu_probing: {drop: true}}"
    )
    found = resolve("kubernetes-node", dirs)
    chosen, _ = match.select(found.layers, {})
    assert "net.ipv4.tcp_mtu_probing" not in [s["key"] for s in chosen["sysctl"]]
    assert {f.name: f.label for f in available(dirs)}["kubernetes-node"] == "./profiles"


def test_paths(dirs: list[SearchDir], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: profiles/p.yml\n")
    _write(dirs, "p", "extends: article\n")
    assert resolve("mine.yaml", dirs).chain == ["article", "p", "mine"]
    assert resolve(str(tmp_path / "mine.yaml"), dirs).name == "mine"
    with pytest.raises(UsageError, match="no profile file"):
        find("./none.yml", dirs)
    with pytest.raises(UsageError, match="no profile file"):
        find("~nobody-of-that-name/x.yml", dirs)


@pytest.mark.parametrize("name", ["nothere", "", "..", "a b", "x" * 9999, "shipped:", "shipped:../x"])
def test_unknown_names(dirs: list[SearchDir], name: str) -> None:
    with pytest.raises(UsageError) as err:
        find(name, dirs)
    assert len(str(err.value)) < 500


def test_search_order(tmp_path: Path) -> None:
    labels = [d.label for d in load.search_dirs(tmp_path, {"XDG_CONFIG_HOME": str(tmp_path / "c")})]
    assert labels == ["./profiles", "user", "/etc", "shipped"]


def test_the_shipped_ones() -> None:
    assert [f.name for f in available([SearchDir("shipped", load.SHIPPED)])] == SHIPPED
    assert load.DEFAULT in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_each_shipped_setting_is_taken_by_the_node_and_explained(name: str) -> None:
    found = resolve(f"shipped:{name}")
    assert found.description
    for layer in found.layers:
        assert SYSCTL.parse([s for s in layer["sysctl"] if "drop" not in s]) or not layer["sysctl"]
        assert NIC_QUEUES.parse(layer["nic_queues"]) or not layer["nic_queues"]
        for setting in layer["sysctl"] + layer["nic_queues"]:
            assert setting["reason"] and setting["source"], setting


def _values(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    chosen, _ = match.select(resolve(f"shipped:{name}").layers, facts)
    return {s["key"]: (s["class"], s["value"]) for s in chosen["sysctl"]}


def test_article_is_exact_to_the_letter() -> None:
    found = resolve("shipped:article")
    exact = {"net.core.rmem_max": ("exact", 134217728), "net.core.wmem_max": ("exact", 134217728)}
    assert _values("article", {}) == exact
    assert [(q["interfaces"], q["channels"]) for q in found.layers[0]["nic_queues"]] == [("default-route", 4)]


def test_the_default_interrupts_nothing_and_lowers_nothing() -> None:
    found = resolve("shipped:kubernetes-node")
    assert all(not layer["nic_queues"] for layer in found.layers)
    assert {cls for key, (cls, _) in _values("kubernetes-node", {}).items() if "probing" not in key} == {"floor"}


def test_faster_links_get_no_less() -> None:
    tiers = [_values(f"throughput-{speed}", {}) for speed in ("10g", "25g", "100g")]
    for slower, faster in pairwise(tiers):
        for key, (cls, value) in slower.items():
            pairs = zip(str(value).split(), str(faster[key][1]).split(), strict=True)
            assert faster[key][0] == cls
            assert all(int(a) <= int(b) for a, b in pairs), key


def test_large_cluster_sizes_the_connection_table_by_memory() -> None:
    small, large = _values("large-cluster", {"memory_mib": 4096}), _values("large-cluster", {"memory_mib": 16384})
    assert small["net.netfilter.nf_conntrack_max"] == ("floor", 131072)
    assert large["net.netfilter.nf_conntrack_max"] == ("floor", 1048576)


def test_the_documented_profile_is_right(dirs: list[SearchDir]) -> None:
    text = (Path(__file__).parents[3] / "docs" / "profiles.md").read_text()
    _write(dirs, "shop", text.split("```yaml\n# profiles/shop.yml\n")[1].split("```")[0])
    found = resolve("shop", dirs)
    assert found.chain == ["kubernetes-node", "throughput-10g", "shop"]
    assert [layer["profile"] for layer in found.layers][-2:] == ["shop", "shop variant 1"]


def test_a_directory_that_anybody_may_fill_is_not_searched(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    assert "./profiles" not in [d.label for d in load.search_dirs(tmp_path, {})]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
    max_leaves=8,
)
FIELDS = st.sampled_from([*Profile.model_fields, "nic", "Sysctl"])
KEYS = st.sampled_from(["net.core.somaxconn", "net.ipv4.tcp_rmem", "a/b", "net..x"]) | st.text(max_size=8)
PROFILES = st.dictionaries(FIELDS, JUNK | st.dictionaries(KEYS, JUNK, max_size=2), min_size=1, max_size=3)


@given(PROFILES)
def test_junk_profiles_are_usage_errors(data: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "p.yml"
        path.write_text(json.dumps(data))
        try:
            found = resolve(str(path), [])
        except UsageError as err:
            assert str(err)
        else:
            assert json.dumps(found.layers)
