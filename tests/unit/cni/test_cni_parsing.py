"""What is read: captured output of real programs, and any text at all."""

from __future__ import annotations

import ipaddress
import json

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.cni import addresses, attachment, cri, detect, evidence, leases
from ansible_collections.tune.nodes.plugins.module_utils.cni.model import Lease, address_of
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from cni_node import CAPTURED, LEASES, LIVE
from hypothesis import given
from hypothesis import strategies as st

PODS = (CAPTURED / "crictl-pods.json").read_text()
INFO = (CAPTURED / "crictl-info.json").read_text()
CTR = (CAPTURED / "ctr-containers-ls.txt").read_text()
CONF = (CAPTURED / "etc/cni/net.d/10-flannel.conflist").read_text()
ENV = {"FLANNEL_SUBNET": "10.244.1.1/24", "FLANNEL_NETWORK": "10.244.0.0/16"}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def test_both_ways_of_asking_name_the_same_sandboxes() -> None:
    found = cri.parse_pods(PODS)
    assert sorted(found) == sorted(cri.parse_ctr(CTR))
    assert len(found) == 7
    live = {one.name: one for one in found.values()}
    assert live["live-0"].namespace == "leases-test" and live["live-0"].ready and live["live-0"].created_ns > 10**18


@pytest.mark.parametrize("text", ["", "{}", '{"items": {}}', '{"items": [{"state": "SANDBOX_READY"}]}', "[1]", "null"])
def test_an_answer_of_crictl_that_is_not_understood_is_an_error(text: str) -> None:
    with pytest.raises(NodeError) as problem:
        cri.parse_pods(text)
    assert problem.value.code == "cri"


@pytest.mark.parametrize("text", ["", "ctr: failed to dial", "CONTAINER IMAGE\n/../x y z"])
def test_an_answer_of_ctr_that_is_not_understood_is_an_error(text: str) -> None:
    with pytest.raises(NodeError):
        cri.parse_ctr(text)


def test_no_sandboxes_is_an_answer_too() -> None:
    assert cri.parse_pods('{"items": []}') == {}
    assert cri.parse_ctr("CONTAINER    IMAGE    RUNTIME\n") == {}


@given(st.text() | JSON.map(json.dumps))
def test_any_answer_is_an_error_or_a_list(text: str) -> None:
    for parse in (cri.parse_pods, cri.parse_ctr):
        try:
            assert isinstance(parse(text), dict)
        except NodeError as problem:
            assert problem.code == "cri"


def test_the_runtime_says_where_it_looks_and_what_it_uses() -> None:
    found = cri.parse_info(INFO)
    assert (found.conf_dir, found.bin_dirs, found.loaded) == ("/etc/cni/net.d", ["/opt/cni/bin"], "cbr0")
    assert found.network_ready is True


@given(st.text() | JSON.map(json.dumps))
def test_any_info_is_survived(text: str) -> None:
    assert isinstance(cri.parse_info(text).bin_dirs, list)
    assert isinstance(cri.parse_config(text).conf_dir, str)


def test_containerds_configuration_names_the_directories() -> None:
    text = '[plugins."io.containerd.grpc.v1.cri".cni]\n  bin_dir = "/opt/cni/bin"\n  conf_dir = "/etc/cni/net.d"\n'
    found = cri.parse_config(text)
    assert (found.conf_dir, found.bin_dirs) == ("/etc/cni/net.d", ["/opt/cni/bin"])


def test_captured_leases_are_read() -> None:
    for name in LIVE:
        sandbox, ifname = leases.parse_lease((CAPTURED / LEASES / name).read_bytes())
        assert sandbox in cri.parse_pods(PODS) and ifname == "eth0"


@pytest.mark.parametrize(
    ("data", "want"),
    [
        (b"abc\r\neth0", ("abc", "eth0")),
        (b"abc\r\neth0\n", ("abc", "eth0")),
        (b"abc\neth0", ("abc", "eth0")),
        (b"abc", ("abc", "")),
        (b"", ("", "")),
        (b"abc\r\neth0\r\nmore", ("", "")),
        (b"../../etc\r\neth0", ("", "")),
        (b"\xff\xfe", ("", "")),
        (b"abc\r\n../eth0", ("", "")),
        (b"abc\r\n" + b"e" * 16, ("", "")),
    ],
)
def test_a_lease_is_understood_or_not_at_all(data: bytes, want: tuple[str, str]) -> None:
    assert leases.parse_lease(data) == want


@given(st.binary(max_size=300))
def test_any_lease_is_survived(data: bytes) -> None:
    sandbox, ifname = leases.parse_lease(data)
    assert "/" not in sandbox + ifname


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("10.244.1.2", True),
        ("010.244.1.2", False),
        ("10.244.1.2 ", False),
        ("fd00::2", True),
        ("FD00::2", False),
        ("lock", False),
        ("last_reserved_ip.0", False),
    ],
)
def test_a_leases_name_is_a_canonical_address(name: str, want: bool) -> None:
    assert leases.is_lease_name(name) is want


def test_a_fib_trie_names_own_addresses_and_routes_to_one() -> None:
    pod = (CAPTURED / "fib_trie-pod.txt").read_text()
    assert addresses.parse_fib_trie(pod) == {"10.244.1.3"}
    host = addresses.parse_fib_trie((CAPTURED / "fib_trie-host.txt").read_text())
    assert {"10.244.1.1", "10.244.1.0", "172.17.0.7"} <= host
    assert not any(address in host for address in LIVE)
    leaf = "     |-- {}\n        /32 link {}\n"
    route = (
        "Main:\n  +-- 0.0.0.0/0 3 0 5\n" + leaf.format("10.9.0.7", "UNICAST") + leaf.format("10.9.0.255", "BROADCAST")
    )
    assert addresses.parse_fib_trie(route) == {"10.9.0.7"}


def test_addresses_of_ipv6_are_compared_as_addresses() -> None:
    inet6 = "fd000000000000000000000000000007 03 40 00 80     eth0\nfe800000000000000000000000000001 03 40 20 80 eth0\n"
    assert addresses.parse_if_inet6(inet6) == {"fd00::7"}
    zero = "0" * 32
    routes = (
        f"fd000000000000000000000000000009 80 {zero} 00 {zero} 00000400 00000001 00000000 00000001     veth1\n"
        f"fd000000000000000000000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001     cni0\n"
    )
    assert addresses.parse_ipv6_route(routes) == {"fd00::9"}


@given(st.text())
def test_any_proc_file_is_survived(text: str) -> None:
    for parse in (addresses.parse_fib_trie, addresses.parse_if_inet6, addresses.parse_ipv6_route):
        for found in parse(text):
            assert str(ipaddress.ip_address(found)) == found


def conf(text: str) -> detect.Conf:
    """Return a configuration that is one."""
    found = detect.read_conf("/etc/cni/net.d/x.conflist", text)
    assert isinstance(found, detect.Conf)
    return found


def test_flannels_range_is_its_subnets_without_the_gateway() -> None:
    networks, others = leases.networks_of(conf(CONF), ENV)
    assert others == []
    assert [(one.name, one.directory, one.usable) for one in networks] == [("cbr0", "/var/lib/cni/networks/cbr0", 253)]


INNER = {"type": "host-local", "subnet": "10.2.0.0/30", "dataDir": "/run/ipam"}
DELEGATES = [{"name": "inner", "plugins": [{"type": "macvlan", "ipam": INNER}]}]
MULTUS = json.dumps({"name": "m", "type": "multus", "delegates": DELEGATES})
TEN = [[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": "10.1.0.19"}]]
LAST = [[{"subnet": "10.1.0.0/24", "gateway": "10.1.0.254"}]]
BOTH = [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/120"}]]


def ipam(**block: object) -> str:
    """Return a configuration of a bridge with this IPAM."""
    return json.dumps({"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "bridge", "ipam": block}]})


@pytest.mark.parametrize(
    ("text", "names", "usable", "others"),
    [
        (ipam(type="host-local", subnet="10.1.0.0/24"), ["net"], 253, []),
        (ipam(type="host-local", ranges=TEN), ["net"], 10, []),
        (ipam(type="host-local", ranges=LAST), ["net"], 253, []),
        (ipam(type="host-local", ranges=BOTH), ["net"], 253 + 254, []),
        (ipam(type="host-local", ranges=[[{"subnet": "nonsense"}]]), ["net"], None, []),
        (ipam(type="host-local"), ["net"], None, []),
        (ipam(type="calico-ipam"), [], None, ["calico-ipam"]),
        (ipam(type="whereabouts", range="10.0.0.0/24"), [], None, ["whereabouts"]),
        ('{"name": "../up", "type": "bridge", "ipam": {"type": "host-local"}}', [], None, ["host-local"]),
        ('{"name": "cilium", "type": "cilium-cni"}', [], None, []),
        (MULTUS, ["inner"], 1, []),
    ],
)
def test_networks_of_a_configuration(text: str, names: list[str], usable: int | None, others: list[str]) -> None:
    networks, found = leases.networks_of(conf(text), {})
    assert [network.name for network in networks] == names
    assert found == others
    assert [network.usable for network in networks] == [usable] * len(networks)


def test_a_data_directory_of_its_own_is_used() -> None:
    networks, _ = leases.networks_of(conf(ipam(type="host-local", subnet="10.1.0.0/24", dataDir="/run/ipam/")), {})
    assert networks[0].directory == "/run/ipam/net"


@given(JSON)
def test_any_configuration_is_survived(document: object) -> None:
    found = detect.read_conf("/x.conflist", json.dumps(document))
    if found is not None:
        networks, _ = leases.networks_of(found, {})
        assert all("/.." not in network.directory for network in networks)


def test_a_captured_attachment_is_understood() -> None:
    path = next(path for path in (CAPTURED / "var/lib/cni/results").iterdir() if path.name.startswith("cbr0-"))
    found = attachment.parse(path.read_bytes())
    assert found is not None
    assert path.name == f"cbr0-{found.id}-eth0"
    assert [plugin["type"] for plugin in found.plugins] == ["flannel", "portmap"]
    assert dict(found.args)["K8S_POD_NAMESPACE"] == "leases-test"
    given = attachment.configuration(found, found.plugins[1])
    assert (given["name"], given["cniVersion"]) == ("cbr0", "0.3.1")
    assert "prevResult" not in given  # of CNI 0.4.0 and later


@given(st.binary(max_size=200) | JSON.map(lambda document: json.dumps(document).encode()))
def test_any_attachment_is_survived(data: bytes) -> None:
    found = attachment.parse(data)
    assert found is None or all("/" not in str(plugin["type"]) for plugin in found.plugins)


@given(JSON)
def test_any_lease_that_a_request_brings_back_is_survived(raw: object) -> None:
    found = Lease.from_dict(raw)
    assert found is None or Lease.from_dict(found.to_dict()) == found


@given(st.text() | st.none() | st.integers())
def test_an_address_is_one_or_none(text: object) -> None:
    found = address_of(text)
    assert found is None or ipaddress.ip_address(str(found)) == found


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("    token: abcdefghijkl\n", "abcdefghijkl"),
        ('"password": "hunter2hunter2",', "hunter2hunter2"),
        ("Authorization: Bearer abc.def-ghi_jkl", "abc.def-ghi_jkl"),
        ("x eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJl.c2lnbmF0dXJl y", "c2lnbmF0dXJl"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nxyz\n-----END RSA PRIVATE KEY-----", "MIIE"),
        ("client-key-data: LS0tLS1C", "LS0tLS1C"),
    ],
)
def test_secrets_are_blanked(text: str, gone: str) -> None:
    assert gone not in evidence.redact(text) and "[redacted]" in evidence.redact(text)


@given(st.text())
def test_any_text_can_be_redacted(text: str) -> None:
    assert isinstance(evidence.redact(text), str)
