"""A node of the inventory is a Node object for certain, or it is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_nodes.cluster.match import match_nodes, same_machine
from tune_nodes.cluster.model import NodeFacts


def nodes(**addresses: str) -> dict[str, NodeFacts]:
    """Return Node objects by name; ``_`` in a keyword stands for a dot."""
    return {
        name: NodeFacts(name, tuple(filter(None, address.split(","))))
        for key, address in addresses.items()
        for name in [key.replace("_", ".")]
    }


NODES = nodes(w1="10.0.0.1", w2_example_com="10.0.0.2,fd00::2", w3_a="10.0.0.3", w3_b="10.0.0.4")


@pytest.mark.parametrize(
    ("name", "address", "node", "by"),
    [
        ("w1", "10.0.0.1", "w1", "name"),
        ("w1", "", "w1", "name"),
        ("W1", "bastion.example.com", "w1", "name"),
        ("w1.example.com", "", "w1", "name"),  # the Node's name is the bare one
        ("w2", "", "w2.example.com", "name"),
        ("w2.example.com", "10.0.0.2", "w2.example.com", "name"),
        ("w3.a", "", "w3.a", "name"),
        ("anything", "10.0.0.2", "w2.example.com", "address"),
        ("anything", "fd00:0:0::2", "w2.example.com", "address"),
        ("10.0.0.3", "", "w3.a", "address"),  # an inventory of bare addresses
        ("10.0.0.3", "10.0.0.3", "w3.a", "address"),
    ],
)
def test_match(name: str, address: str, node: str, by: str) -> None:
    found, sentences = match_nodes({name: address}, NODES)
    assert not sentences
    assert (found[name].node.name, found[name].by) == (node, by)


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ({"w9": ""}, "w9: no Node object has this name"),
        ({"w9": "10.9.9.9"}, "w9: no Node object has this name or has the address 10.9.9.9"),
        ({"w2.other.com": ""}, "w2.other.com: no Node object has this name"),  # another domain is another machine
        ({"w3": ""}, "w3 may be any of the Nodes w3.a, w3.b"),
        ({"w1": "10.0.0.2"}, "w1 is the name of the Node w1, but its address 10.0.0.2 is that of w2.example.com"),
        ({"w1": "", "x": "10.0.0.1"}, "w1, x are all the one Node w1"),
        ({"w2.x": "", "w2.y": ""}, "w2.x: no Node object has this name"),
        ({"\x1b[31mw9": ""}, "w9: no Node object has this name"),
    ],
)
def test_no_match(targets: dict[str, str], said: str) -> None:
    found, sentences = match_nodes(targets, NODES)
    assert not found
    assert said in sentences


def test_an_address_of_two_nodes_is_nobodys() -> None:
    found, sentences = match_nodes({"x": "10.0.0.1"}, nodes(a="10.0.0.1", b="10.0.0.1"))
    assert not found
    assert sentences == ["x: its address 10.0.0.1 is that of the Nodes a, b"]


def test_the_address_decides_between_two_names_that_begin_alike() -> None:
    found, _ = match_nodes({"w1.x": "10.0.0.1", "w1.y": "10.0.0.9"}, NODES)
    assert {name: match.by for name, match in found.items()} == {"w1.x": "address"}


names = st.sampled_from(["w1", "w2", "w2.example.com", "w3", "w3.a", "10.0.0.1", "x", "", "W1.EXAMPLE.COM"])
addresses = st.sampled_from(["", "10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::2", "junk", "10.0.0.300"])


@given(targets=st.dictionaries(names, addresses))
def test_every_name_is_matched_or_explained_and_no_node_is_given_twice(targets: dict[str, str]) -> None:
    found, sentences = match_nodes(targets, NODES)
    given_out = [match.node.name for match in found.values()]
    assert len(given_out) == len(set(given_out))
    assert bool(sentences) == (len(found) < len(targets))


@pytest.mark.parametrize(
    ("object_ids", "own", "same"),
    [
        (("aa", "1"), ("aa", "1"), True),
        (("AA-AA", "1"), ("aaaa", "1"), True),
        (("aa", ""), ("aa", "1"), True),
        (("aa", "1"), ("bb", "1"), False),
        (("aa", "1"), ("aa", "2"), None),  # one image, two machines; or a reboot that its kubelet has not told yet
        (("", "1"), ("aa", "1"), None),
        (("aa", "1"), ("", ""), None),
    ],
)
def test_same_machine(object_ids: tuple[str, str], own: tuple[str, str], same: bool | None) -> None:
    facts = NodeFacts("n", machine_id=object_ids[0], boot_id=object_ids[1])
    assert same_machine(facts, *own) is same
