#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Set the MTU of a node's interface, tunnels and pod bridge in a change that undoes itself."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: mtu
short_description: Set the MTU of a node's interface, tunnels and pod bridge in a change that undoes itself
version_added: 0.1.0
description:
  - Works out the right MTU of every layer between the NIC and the pods, and sets those that have another, as one
    transaction. Before the first write the values that the node holds are saved and a timer is armed that puts them
    back; only a confirmation disarms it.
  - Raises from the outside in (NIC, VLAN or bridge, tunnel, the pods' bridge) and lowers from the inside out. What is
    too large is lowered before anything is raised.
  - A stack is changed as a whole or not at all. Where one layer cannot be what it must, every change of it is
    C(unsupported) and says why, and nothing is written.
  - Asks the kernel itself (rtnetlink); the C(ip) program is not needed.
  - Pods that run keep the MTU they were made with. They are counted in the note of C(pods/mtu), never changed.
  - What the CNI's agent sets itself (Calico, Cilium and others) is C(owned) and left; the note says where to set it.
  - An MTU that a DHCP lease brings, or that is kept by a program whose files are not written here (NetworkManager,
    ifupdown), is C(owned) as well.
options:
  interfaces:
    description:
      - Which interfaces carry packets to other nodes. V(auto) is what the CNI's tunnels lie on, and without tunnels the
        default route's interface.
      - Else a name or a list of names. A port of a bond or bridge cannot be named, as it follows from that.
    type: raw
    default: auto
  underlay:
    description:
      - The MTU in bytes of O(interfaces), or V(keep). What lies beneath them (the bond of a VLAN, the ports of a
        bridge) is raised with them, and lowered where it serves nothing else.
    type: raw
  pods:
    description:
      - V(auto) is what fits through the CNI's tunnels, or what the interface has where there are none.
      - A number of bytes is used as given, and refused where it does not fit.
    type: raw
  pin:
    description:
      - V(hold) makes this the first of two rounds. Routes by the links are pinned at the smaller of the MTUs before and
        after, then links are raised; links that shrink are left for the second round. Nodes take the larger packets
        then, and send only the smaller.
      - The second round is the same task without O(pin). It lowers what is to be lowered and takes the pins off. Begin
        it when the first was confirmed on every node.
      - The C(tune-nodes) command does both rounds by itself.
    type: str
    choices: [hold]
  settings:
    description:
      - Several wishes at once. Where two speak of the same interface, or of pods, the last one counts.
    type: list
    elements: dict
    suboptions:
      interfaces:
        description: As O(interfaces).
        type: raw
        default: auto
      underlay:
        description: As O(underlay).
        type: raw
      pods:
        description: As O(pods).
        type: raw
      reason:
        description: Why this is wanted, for plans and reports.
        type: str
      source:
        description: Where the value or rule comes from.
        type: str
extends_documentation_fragment:
  - tune.nodes.change
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    description: Returns the very changes that a real run would make, and writes nothing.
    support: full
  diff_mode:
    description: One diff for each value that changes.
    support: full
  platform:
    platforms: linux
requirements:
  - python >= 3.8 on the node
notes:
  - One node's change does not make a fleet's. While some nodes take larger packets than others, a large packet to one
    that does not is lost without a word, unless O(pin) holds them back; the network between them must carry the new
    size too.
seealso:
  - module: tune.nodes.transaction
  - module: tune.nodes.confirm
  - module: tune.nodes.rollback
author:
  - The tune-nodes authors
"""

EXAMPLES = r"""
- name: See whether every layer has the MTU that follows from its interface
  tune.nodes.mtu:
    underlay: keep
    pods: auto
  check_mode: true

- name: Raise the interface, its tunnel and the pods' bridge
  tune.nodes.mtu:
    underlay: 9000
    pods: auto
  register: mtu

- name: Confirm over a new connection
  tune.nodes.confirm:
    transaction: "{{ mtu.transaction }}"

- name: Raise a whole fleet, the first of two rounds
  tune.nodes.mtu:
    underlay: 9000
    pods: auto
    pin: hold
  register: mtu

- name: Set a bond for storage apart
  tune.nodes.mtu:
    settings:
      - interfaces: auto
        underlay: keep
        pods: auto
      - interfaces: [bond1]
        underlay: 9000
        reason: storage traffic only
    persist: auto
"""

RETURN = r"""
changes:
  description: One entry for each layer, in the order of the writes.
  returned: always
  type: list
  elements: dict
  contains:
    key:
      description:
        - The interface; C(eth0/route-mtu) is what its routes are pinned at, C(pods/mtu) what the CNI gives a new pod.
      type: str
      sample: flannel.1/mtu
    before:
      description: The MTU it had, null where nothing on the node says it.
      type: str
      sample: "1450"
    want:
      description: The MTU it should have.
      type: str
      sample: "8950"
    after:
      description: What was read back after the write.
      type: str
      sample: "8950"
    status:
      description: One of ok, pending (check mode), changed, unsupported, owned, failed, reverted.
      type: str
      sample: changed
    requested:
      description: The wish as it was given.
      type: str
      sample: pods auto
    reason:
      description: Why this value is wanted.
      type: str
      sample: eth0 less 50 bytes of vxlan
    source:
      description: Where the value or rule comes from.
      type: str
      sample: RFC 7348
    owner:
      description: The program that sets it, empty where it is ours to set.
      type: str
      sample: flanneld
    note:
      description: What is wrong with it now, why it cannot be had, or how to tell its owner.
      type: str
      sample: 3 pods keep another MTU until they are made anew
    disruptive:
      description: Whether the driver may take the link down for a moment.
      type: bool
      sample: false
    identity:
      description: Driver and permanent address of an interface, the kind of a tunnel or bridge.
      type: dict
      sample: {driver: ena, mac: "0a:58:a9:00:00:01"}
stale_pods:
  description:
    - Running pods whose C(eth0) has another MTU than new pods should get. They keep it until they are made anew.
  returned: in check mode
  type: list
  elements: dict
  contains:
    uid:
      description: The pod's uid, as the API server has it.
      type: str
      sample: 0d2e9c0e-5a1f-4c2b-8a53-3e7f1f6a0b11
    name:
      description: Its hostname.
      type: str
      sample: web-7d9f
    mtu:
      description: The MTU it has, in bytes.
      type: int
      sample: 1400
plan_hash:
  description: Hash of all that the decisions rest on.
  returned: always
  type: str
  sample: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
transaction:
  description: The transaction to confirm, null where nothing had to change.
  returned: always
  type: str
  sample: 20261124-081530-a1b2c3
state:
  description: Where the transaction stands.
  returned: always
  type: str
  sample: ARMED
"""

from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.ansible_glue import CHANGE_OPTIONS, run_node_module
from ..module_utils.mtu.family import FAMILY

WISHES: Dict[str, Dict[str, Any]] = {name: {"type": "raw"} for name in ("underlay", "pods")}
TEXTS: Dict[str, Dict[str, Any]] = {name: {"type": "str"} for name in ("reason", "source")}
INTERFACES: Dict[str, Any] = {"type": "raw", "default": "auto"}


def raw_settings(params: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Return the node's raw settings for the module's options; the node checks what is in them."""
    wishes = params["settings"]
    if wishes is None:
        wishes = [{name: params[name] for name in ("interfaces", *WISHES)}]
    wishes = [dict(wish, pin=params["pin"]) for wish in wishes]
    return [{name: value for name, value in wish.items() if value is not None} for wish in wishes]


def main() -> None:
    """Run as Ansible runs it."""
    module = AnsibleModule(
        argument_spec=dict(
            CHANGE_OPTIONS,
            interfaces=INTERFACES,
            settings={"type": "list", "elements": "dict", "options": dict(WISHES, interfaces=INTERFACES, **TEXTS)},
            pin={"type": "str", "choices": ["hold"]},
            **WISHES,
        ),
        mutually_exclusive=[("settings", name) for name in WISHES],
        required_one_of=[("settings", *WISHES)],
        supports_check_mode=True,
    )
    run_node_module(module, [FAMILY], {"mtu": raw_settings(module.params)}, ("stale_pods",))


if __name__ == "__main__":
    main()
