#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Set kernel parameters in a change that undoes itself."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: sysctl
short_description: Set kernel parameters in a change that undoes itself
version_added: 0.1.0
description:
  - Sets keys below C(/proc/sys) and keeps them, as one transaction. Before the first write the values that the node
    holds are saved and a timer is armed that puts them back; only a confirmation disarms it.
  - Every key has a class. A V(floor) is only raised and a V(ceiling) only lowered, each number of a vector by itself,
    so a newer kernel's better default is never made worse. An V(exact) key is set as given.
  - Class, scope, owners, reason and source of the usual keys come from the collection's key catalogue.
  - A key that another running program also writes (kube-proxy, Cilium, Calico, kubelet, k3s, TuneD, bpftune ...) is
    reported as C(owned) and left alone, unless the setting says O(settings.take=true).
  - A key that this node cannot have is reported as C(unsupported) and is never C(changed).
  - Runs no C(sysctl) command, reloads no other file, and owns C(/etc/sysctl.d/90-tune-nodes.conf) alone.
options:
  settings:
    description:
      - The wishes, a mapping from key to value, or from key to a mapping.
      - Keys are written as systemd reads them. The first separator decides, so C(net.ipv4.conf.eth0/100.forwarding)
        and C(net/ipv4/conf/eth0.100/forwarding) are the same key.
      - A mapping has C(value), and may have C(class) (V(floor), V(ceiling) or V(exact)), C(scope) (V(netns) or
        V(host)), C(owners) (a list of program names), C(take), C(opt_in), C(module), C(reason) and C(source).
      - C(class) must be given for a key that the catalogue does not know, and C(opt_in=true) for a key whose cost must
        be accepted by name (busy polling, congestion control, queue discipline).
    type: dict
    required: true
extends_documentation_fragment:
  - tune.nodes.change
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    description: Returns the very changes that a real run would make, and writes nothing.
    support: full
  diff_mode:
    description: One diff for each key that changes.
    support: full
  platform:
    platforms: linux
requirements:
  - python >= 3.8 on the node
seealso:
  - module: tune.nodes.transaction
  - module: tune.nodes.confirm
  - module: tune.nodes.rollback
author:
  - The tune-nodes authors
"""

EXAMPLES = r"""
- name: Raise the accept queue, and confirm over a new connection
  tune.nodes.sysctl:
    settings:
      net.core.somaxconn: 16384
      net.ipv4.tcp_rmem: 4096 131072 16777216
  register: tuned

- name: Confirm
  tune.nodes.confirm:
    transaction: "{{ tuned.transaction }}"

- name: Use a class and a key of one's own
  tune.nodes.sysctl:
    settings:
      net.ipv4.tcp_fin_timeout:
        value: 15
        class: exact
        reason: many short connections to one peer
      net.example.limit:
        value: 4096
        class: floor
    persist: auto

- name: Take the connection table's size from kube-proxy
  tune.nodes.sysctl:
    settings:
      net.netfilter.nf_conntrack_max:
        value: 1048576
        take: true
    transaction: "{{ begun.transaction }}"
"""

RETURN = r"""
changes:
  description: One entry for each setting, in the order of the writes.
  returned: always
  type: list
  elements: dict
  contains:
    key:
      description: The key in its canonical spelling.
      type: str
      sample: net.core.somaxconn
    before:
      description: What the node held, null where it has no such key.
      type: str
      sample: "4096"
    want:
      description: What the node should hold.
      type: str
      sample: "16384"
    after:
      description: What was read back after the write.
      type: str
      sample: "16384"
    status:
      description: One of ok, pending (check mode), changed, unsupported, owned, failed, reverted.
      type: str
      sample: changed
    requested:
      description: The wish as it was given.
      type: str
      sample: floor 16384
    reason:
      description: Why this value is wanted.
      type: str
      sample: longest accept queue a listener may have
    source:
      description: Where the value or rule comes from.
      type: str
      sample: https://docs.kernel.org/networking/ip-sysctl.html
    owner:
      description: The program that also writes this key, empty where there is none.
      type: str
      sample: kube-proxy
    note:
      description: Why a key is unsupported or owned, which file shadows it, what to tell the owner.
      type: str
      sample: /etc/sysctl.d/99-site.conf:12 sets it to 128 at boot, after ours; remove that line
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
from ..module_utils.sysctl.family import FAMILY


def raw_settings(settings: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Return the node's raw settings for the module's mapping; the node checks what is in them."""
    return [
        dict(wish, key=str(key)) if isinstance(wish, dict) else {"key": str(key), "value": wish}
        for key, wish in settings.items()
    ]


def main() -> None:
    """Run as Ansible runs it."""
    module = AnsibleModule(
        argument_spec=dict(CHANGE_OPTIONS, settings={"type": "dict", "required": True}),
        supports_check_mode=True,
    )
    run_node_module(module, [FAMILY], {"sysctl": raw_settings(module.params["settings"])})


if __name__ == "__main__":
    main()
