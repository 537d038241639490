#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Read a node's CNI state and say which leases are stale."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cni_state
short_description: Read a node's CNI state and say which leases are stale
version_added: 0.1.0
description:
  - Says which CNI the container runtime truly uses, what others left behind, how full the node's address ranges are,
    and which leases of host-local no sandbox holds any more. Changes nothing.
  - Leases are read first, then the runtime's sandboxes in every state, then the addresses in all network namespaces.
    A lease is stale only where no sandbox has its id, it is older than O(grace), and nobody has its address.
  - Says why nothing could be released (C(refusals)) where the runtime does not answer, names no sandbox, the clock was
    set, or too many leases look stale.
options:
  grace:
    description: How old a lease must be, in seconds or as C(90s), C(15m), C(2h). One from before the last boot is old
      enough.
    type: str
    default: 15m
  max_stale_percent:
    description: More stale leases than this share of a network's are not believed.
    type: float
    default: 90
  pod_ips:
    description: Addresses of the node's pods in the API. Without them that proof is named as not checked.
    type: list
    elements: str
  agents:
    description: CNIs whose agents have a pod on this node in the API. Without it, that proof is not to be had.
    type: list
    elements: str
  pod_cidrs:
    description: The podCIDRs of all nodes.
    type: list
    elements: str
  node_ips:
    description: Addresses of all nodes.
    type: list
    elements: str
  own:
    description: This node in the API, with C(name), C(pod_cidrs), C(public_ip), C(vtep_mac) and C(vni) of Flannel,
      C(managed), whether Flannel takes its subnet from the podCIDR, and C(unready), the CNIs whose agents' pods here
      are not ready. Without it those are not compared.
    type: dict
  peers:
    description: The other nodes, each with C(name), C(pod_cidrs), C(public_ip) and C(vtep_mac); 1,000 are compared.
    type: list
    elements: dict
  pings:
    description: Send one echo request from the node to each of its running pods.
    type: bool
    default: false
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    support: full
    platforms: linux
requirements:
  - python >= 3.8 on the node
  - crictl, or containerd's ctr, on the node
seealso:
  - module: tune.nodes.cni_leases
  - module: tune.nodes.cni_evidence
author:
  - The tune-nodes authors (@tune-nodes)
"""

EXAMPLES = r"""
- name: Look at the node's leases
  tune.nodes.cni_state:
    pings: true
  register: state

- name: Say how full its ranges are
  ansible.builtin.debug:
    msg: "{{ item.name }}: {{ item.free }} of {{ item.usable }} free, {{ item.stale }} stale"
  loop: "{{ state.cni.networks }}"
"""

RETURN = r"""
cni:
  description: What was found.
  returned: always
  type: dict
  contains:
    cni:
      description: The CNI in use, its configuration, where the runtime looks for both, and what others left.
      type: dict
      sample: {name: flannel, file: /etc/cni/net.d/10-flannel.conflist, network: cbr0, leftovers: []}
    networks:
      description: A row for each network whose leases are files on the node.
      type: list
      elements: dict
      sample: [{name: cbr0, leases: 253, usable: 253, free: 0, live: 5, stale: 248, young: 0, in_use: 0, unclear: 0}]
    leases:
      description: Leases with C(verdict) and C(why), those without a sandbox first, 400 at most.
      type: list
      elements: dict
      sample: [{network: cbr0, ip: 10.244.1.7, id: 3f2a, verdict: stale, why: no sandbox has its id}]
    refusals:
      description: Why nothing would be released, with C(code), C(what), C(why) and C(next).
      type: list
      elements: dict
      sample: []
    not_checked:
      description: Proofs that were not to be had.
      type: list
      elements: str
      sample: []
    pings:
      description: An answer of each running pod, with O(pings).
      type: list
      elements: dict
      sample: [{ip: 10.244.1.2, pod: shop/cart-0, ok: true, ms: 0.1, detail: 84 bytes}]
    orphans:
      description: What CNIs that are not configured have left, as M(tune.nodes.cni_orphans) returns it.
      type: list
      elements: dict
      sample: [{id: 4f2ab90c11d07e35, kind: link, name: flannel.1, owner: flannel, refused: ""}]
    faults:
      description: What is wrong with the CNI, each with C(code), C(what), C(why), C(next), and C(rung), the number of
        the one of the recovery ladder that helps.
      type: list
      elements: dict
      sample: [{code: no-subnet-env, what: there is no subnet.env, why: the agent writes it, next: "", rung: 1}]
    scan:
      description: This scan, for O(tune.nodes.cni_leases#module:first).
      type: dict
      sample: {boot_id: 1f0c, taken: 812.4, wall: 1795534046.4, stale: []}
changes:
  description: One entry for each lease that this scan alone would release; empty where anything speaks against it.
  returned: always
  type: list
  elements: dict
  sample: [{key: cbr0/10.244.1.7, before: held by sandbox 3f2a, want: null, status: pending}]
tune_nodes:
  description: The same for the command line.
  returned: always
  type: dict
  sample: {outcome: pending}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.ansible_glue import answer
from ..module_utils.cni.answers import LOOK_OPTIONS, fields_of, result_of
from ..module_utils.cni.calls import look


def main() -> None:
    """Run as Ansible runs it."""
    module = AnsibleModule(
        argument_spec=dict(
            LOOK_OPTIONS,
            pings={"type": "bool", "default": False},
            agents={"type": "list", "elements": "str"},
            pod_cidrs={"type": "list", "elements": "str"},
            node_ips={"type": "list", "elements": "str"},
            own={"type": "dict"},
            peers={"type": "list", "elements": "dict"},
        ),
        supports_check_mode=True,
    )
    pings = bool(module.params["pings"])
    result = result_of(module.params, module.check_mode, lambda ask: look(ask, pings))
    answer(module, result, **dict(fields_of(result), changed=False))


if __name__ == "__main__":
    main()
