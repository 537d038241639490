"""The key catalogue is complete in itself and true of a real kernel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.sysctl import catalogue, entry, model
from ansible_collections.tune.nodes.plugins.module_utils.sysctl.owners import OWNERS

FIXTURES = Path(__file__).parents[2] / "fixtures" / "sysctl"
INITIAL = json.loads((FIXTURES / "initial.json").read_text(encoding="utf-8"))
NETNS = json.loads((FIXTURES / "netns.json").read_text(encoding="utf-8"))
INHERITANCE = json.loads((FIXTURES / "inheritance.json").read_text(encoding="utf-8"))

# The keys the benchmark sets; each must be known.
BENCH = [
    "tcp_fin_timeout",
    "tcp_keepalive_time",
    "tcp_keepalive_intvl",
    "tcp_keepalive_probes",
    "tcp_max_syn_backlog",
    "tcp_max_tw_buckets",
    "tcp_mtu_probing",
    "tcp_notsent_lowat",
    "tcp_orphan_retries",
    "tcp_retries2",
    "tcp_slow_start_after_idle",
    "tcp_syn_retries",
    "tcp_synack_retries",
    "tcp_tw_reuse",
    "tcp_rfc1337",
    "tcp_rmem",
    "tcp_wmem",
    "tcp_no_metrics_save",
    "tcp_ecn",
    "ip_local_port_range",
    "tcp_abort_on_overflow",
    "tcp_autocorking",
    "igmp_max_memberships",
    "tcp_early_retrans",
]


@pytest.mark.parametrize("row", catalogue.ENTRIES.values(), ids=lambda row: row.key)
def test_every_row_is_whole(row: entry.Entry) -> None:
    assert row.cls in entry.CLASSES and row.scope in entry.SCOPES
    assert row.reason and row.source.startswith("https://")
    assert set(row.owners) <= set(OWNERS)
    assert (row.shape == entry.VECTOR) == (row.length > 1)
    assert model.canonical_key(row.key.replace("*", "eth0/100")) == row.key.replace("*", "eth0/100")
    if row.shape in (entry.INT, entry.VECTOR):
        assert row.minimum is not None and row.maximum is not None and row.minimum < row.maximum
    else:
        assert row.cls == entry.EXACT


@pytest.mark.parametrize("row", catalogue.ENTRIES.values(), ids=lambda row: row.key)
def test_scope_and_shape_are_those_of_a_real_kernel(row: entry.Entry) -> None:
    path = "/".join(model.segments(row.key.replace("*", "all")))
    if path in INITIAL:  # the others belong to modules or hardware that machine has not
        held = model.normalise_value(row.key, INITIAL[path]["text"])
        if row.shape in (entry.INT, entry.VECTOR):
            assert len(model.numbers(held) or []) == row.length
        writable_in_a_namespace = path in NETNS and int(NETNS[path]["mode"], 8) & 0o200
        if row.key.startswith("net."):
            assert bool(writable_in_a_namespace) == (row.scope == entry.NETNS)
        else:
            assert row.scope == entry.HOST


@pytest.mark.parametrize("row", [r for r in catalogue.ENTRIES.values() if r.scope == entry.NETNS], ids=lambda r: r.key)
def test_how_pods_come_by_a_key_is_that_of_a_real_kernel(row: entry.Entry) -> None:
    keys = [row.key.replace("*", name) for name in ("all", "default")]
    assert {INHERITANCE[key] for key in keys} == {row.pods}


def test_what_is_one_for_all_is_so_for_pods() -> None:
    assert {row.pods for row in catalogue.ENTRIES.values() if row.scope == entry.HOST} == {entry.HOST}


def test_no_key_of_the_catalogue_is_missing_from_the_captured_kernel() -> None:
    paths = ["/".join(model.segments(key.replace("*", "all"))) for key in catalogue.ENTRIES]
    assert [path for path in paths if path not in INITIAL] == []


def test_the_benchmark_keys_are_known() -> None:
    assert [key for key in BENCH if catalogue.lookup("net.ipv4." + key) is None] == []


def test_interfaces_are_found_by_their_pattern() -> None:
    found = catalogue.lookup("net.ipv4.conf.eth0/100.rp_filter")
    assert found is not None and found.key == "net.ipv4.conf.*.rp_filter"
    assert catalogue.lookup("net.ipv4.conf.eth0.nothing") is None
    assert catalogue.lookup("net.core.nothing") is None


def test_suggestions_name_the_nearest_keys() -> None:
    assert catalogue.suggestions("net.ipv4.tcp_rmen")[0] == "net.ipv4.tcp_rmem"
    assert catalogue.suggestions("nothing like it at all") == []


def test_keys_in_an_order_are_in_the_catalogue() -> None:
    assert all(key in catalogue.ENTRIES for group in catalogue.ORDERED_KEYS for key in group)


def test_the_documentation_lists_every_row_as_it_is() -> None:
    text = (Path(__file__).parents[3] / "docs" / "sysctl.md").read_text(encoding="utf-8")
    listed = [line for line in text.splitlines() if line.startswith(("| `net.", "| `fs.", "| `vm.", "| `kernel."))]
    assert listed == [document(row) for row in catalogue.ENTRIES.values()]


def document(row: entry.Entry) -> str:
    """Return a row as docs/sysctl.md shows it."""
    cls = row.cls + (", opt-in" if row.opt_in else "")
    pods = "" if row.scope == entry.HOST else row.pods + (", node only" if row.node_only else "")
    return f"| `{row.key}` | {cls} | {row.scope} | {pods} | {', '.join(row.owners)} | {row.reason} |"
