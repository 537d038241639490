#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Module tune.nodes.cni_orphans: remove what CNIs have left on a node and nobody uses, or bring it back."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cni_orphans
short_description: Remove what CNIs that are no longer configured have left on a node, or bring it back
version_added: 0.1.0
description:
  - An orphan belongs to no configured CNI and no live sandbox. That is proved for each one, and the proof is returned.
  - Looks at network devices, routes of all tables, policy rules, iptables of both kinds for IPv4 and IPv6, nft tables,
    ipsets, configuration files, and BPF programs. BPF programs are named only, and what their CNI left besides stays
    with them. A reboot takes them away.
  - Each rule, chain, set, route and device goes by a call of its own. No table is flushed or restored as a whole, and
    what others made stays as it is, byte for byte.
  - What our own connection to the node goes through stays.
  - Before anything goes, the words that bring it back lie in C(/var/lib/tune-nodes/removed/RUN). O(undo) runs them,
    also after a run that was killed.
options:
  only:
    description: The C(id) of orphans that an earlier look named. Others stay. Without it all that may go goes.
    type: list
    elements: str
  agents:
    description: CNIs whose agents have a pod on this node in the API. Without it, configuration files stay.
    type: list
    elements: str
  pod_cidrs:
    description: The podCIDRs of all nodes. Without them, routes to nodes that are gone are not looked for.
    type: list
    elements: str
  node_ips:
    description: Addresses of all nodes.
    type: list
    elements: str
  own_cidrs:
    description: This node's podCIDRs. Without them, Flannel's bridge with an earlier subnet is not looked for.
    type: list
    elements: str
  run:
    description: Names the backup. Without it a name is made.
    type: str
  undo:
    description: Bring back what this run removed; V(latest) is the newest.
    type: str
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    description: Names what would go, or come back, and changes nothing.
    support: full
  diff_mode:
    support: full
  platform:
    support: full
    platforms: linux
requirements:
  - python >= 3.8 on the node
  - ip on the node, and of iptables, nft and ipset those that are in use there
  - crictl, or containerd's ctr, on the node
seealso:
  - module: tune.nodes.cni_state
  - module: tune.nodes.cni_leases
author:
  - The tune-nodes authors (@tune-nodes)
"""

EXAMPLES = r"""
- name: Say what is left of other CNIs
  tune.nodes.cni_orphans:
  check_mode: true
  register: left

- name: Remove it
  tune.nodes.cni_orphans:
    only: "{{ left.cni.orphans | map(attribute='id') }}"
  register: removed

- name: Bring it back
  tune.nodes.cni_orphans:
    undo: "{{ removed.cni.backup_run }}"
"""

RETURN = r"""
cni:
  description: What was found and what was done.
  returned: always
  type: dict
  contains:
    orphans:
      description: One entry for each, at most a hundred, with the proof and, where it stays, why.
      type: list
      elements: dict
      sample:
        - id: 4f2ab90c11d07e35
          kind: chains
          name: iptables-nft nat (flannel)
          owner: flannel
          what: [":FLANNEL-POSTRTG"]
          lines: 6
          proof: [no agent of flannel runs on this node (flanneld)]
          refused: ""
    orphans_not_checked:
      description: What could not be looked at.
      type: list
      elements: str
    orphans_removed:
      description: How many went, and how many did not.
      type: dict
      sample: {removed: 4}
    backup_run:
      description: Name of the backup, for O(undo).
      type: str
      sample: orphans-1764061234567
    backup:
      description: Where the backup lies.
      type: str
      sample: /var/lib/tune-nodes/removed/orphans-1764061234567
    orphans_undone:
      description: Of an undo, what became of each.
      type: dict
      sample: {restored: 4, there: 0, differs: 0, failed: 0}
changes:
  description: One entry for each orphan.
  returned: always
  type: list
  elements: dict
  sample: [{key: ipset/cali40all, before: of calico, want: null, status: changed}]
tune_nodes:
  description: The same for the command line.
  returned: always
  type: dict
  sample: {outcome: changed}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.ansible_glue import answer
from ..module_utils.cni.answers import fields_of
from ..module_utils.cni.orphans.calls import asked, bring_back, drop

_LISTS = ("only", "agents", "pod_cidrs", "node_ips", "own_cidrs")


def main() -> None:
    """Run as Ansible runs it."""
    lists = {name: {"type": "list", "elements": "str"} for name in _LISTS}
    module = AnsibleModule(
        argument_spec=dict(lists, run={"type": "str"}, undo={"type": "str"}),
        mutually_exclusive=[("undo", "only")],
        supports_check_mode=True,
    )
    ask = asked(module.params, module.check_mode)
    result = bring_back(ask) if ask.undo else drop(ask)
    answer(module, result, **fields_of(result))


if __name__ == "__main__":
    main()
