#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Set queues, rings and packet steering of network devices in a change that undoes itself."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: nic_queues
short_description: Set queues, rings and packet steering of network devices in a change that undoes itself
version_added: 0.1.0
description:
  - Sets the number of queues (channels), ring sizes, RPS and XPS of network devices, and keeps them, as one
    transaction. Before the first write the values that the node holds are saved and a timer is armed that puts them
    back; only a confirmation disarms it.
  - Asks the kernel itself (the ethtool ioctl, C(/sys), socket diagnosis); the C(ethtool) program is not needed.
  - Queues are not taken away from a hand-set RSS table, a receive flow rule (ntuple) or an AF_XDP socket. Such a device
    is reported as C(owned) and left. A hand-set RSS table that a driver resets is put back.
  - A bond stands for its ports. They are changed one after the other, the active one last, each only when the link of
    the one before is back.
  - What a device or its driver cannot do is reported as C(unsupported) and is never C(changed).
  - Kept settings are applied at boot only where kernel, driver and card are those they were confirmed on.
options:
  interfaces:
    description:
      - Which devices are meant. V(physical) is every NIC of the node; virtual functions whose physical function is in
        the same node, representors and radios are left out. In a container, where no interface has a device of its own,
        it is the default route's.
      - V(default-route) is what the default routes leave through, below VLANs, bridges and bonds.
      - Else a name or glob, or a list of them.
      - Excludes O(settings).
    type: raw
  channels:
    description:
      - V(auto) is one queue for each physical core near the device (those of its NUMA node, or of the node where it has
        none; isolated CPUs left out), as far as the device goes. A device that has between one for each core and one
        for each CPU is left as it is.
      - V(max) is as many as the device has.
      - A number is a number of combined queues, or of rx and of tx queues each on a device that has no combined ones.
        More than the device has is cut to that and noted.
      - A mapping of C(rx) and C(tx) sets them apart.
    type: raw
  rings:
    description:
      - V(max), a number, or a mapping of C(rx) and C(tx). Below the device's maximum a power of two is used, as many
        drivers round to one by themselves.
    type: raw
  rps:
    description:
      - V(auto) spreads the packets of a device with fewer receive queues than cores over the CPUs near it, and takes
        steering away where each core has a queue. V(off), or a list of CPUs such as V(0-3,8), is used as given.
    type: raw
  xps:
    description:
      - V(auto) gives each CPU one transmit queue, and leaves a device where each has one already. V(off), or a list of
        CPUs, is used as given.
    type: raw
  settings:
    description:
      - Several wishes at once. Where two speak of the same aspect of a device, the last one counts.
    type: list
    elements: dict
    suboptions:
      interfaces:
        description: As O(interfaces).
        type: raw
        required: true
      channels:
        description: As O(channels).
        type: raw
      rings:
        description: As O(rings).
        type: raw
      rps:
        description: As O(rps).
        type: raw
      xps:
        description: As O(xps).
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
seealso:
  - module: tune.nodes.transaction
  - module: tune.nodes.confirm
  - module: tune.nodes.rollback
author:
  - The tune-nodes authors
"""

EXAMPLES = r"""
- name: Give every NIC one queue for each core near it
  tune.nodes.nic_queues:
    interfaces: physical
    channels: auto
  register: queues

- name: Confirm over a new connection
  tune.nodes.confirm:
    transaction: "{{ queues.transaction }}"

- name: Use four queues and the largest rings on one device
  tune.nodes.nic_queues:
    interfaces: eth0
    channels: 4
    rings: max
    persist: auto

- name: Set several devices apart, in a transaction with others
  tune.nodes.nic_queues:
    settings:
      - interfaces: physical
        channels: auto
        rps: auto
        xps: auto
      - interfaces: [ens5, "ens6*"]
        channels: {rx: 4, tx: 2}
        reason: this card receives more than it sends
    transaction: "{{ begun.transaction }}"
"""

RETURN = r"""
changes:
  description: One entry for each value, in the order of the writes.
  returned: always
  type: list
  elements: dict
  contains:
    key:
      description: Device and aspect; RPS and XPS have one key for each queue.
      type: str
      sample: eth0/channels
    before:
      description: What the device had, null where it has nothing of the kind.
      type: str
      sample: combined=2
    want:
      description: What it should have.
      type: str
      sample: combined=4
    after:
      description: What was read back after the write.
      type: str
      sample: combined=4
    status:
      description: One of ok, pending (check mode), changed, unsupported, owned, failed, reverted.
      type: str
      sample: changed
    requested:
      description: The wish as it was given.
      type: str
      sample: auto
    reason:
      description: Why this value is wanted.
      type: str
      sample: one queue for each core near the NIC; more queues than cores bring nothing
    source:
      description: Where the value or rule comes from.
      type: str
      sample: Linux Documentation/networking/scaling.rst
    owner:
      description: What keeps the queues (rss-table, ntuple, af_xdp), empty where nothing does.
      type: str
      sample: ntuple
    note:
      description: What the value was taken from, or why it cannot be had.
      type: str
      sample: 4 cores on NUMA node 0, the device has at most 8 queues
    disruptive:
      description: Whether the driver may take the link down for a moment.
      type: bool
      sample: true
    identity:
      description: Driver and permanent address of the device.
      type: dict
      sample: {driver: ena, mac: "0a:58:a9:00:00:01"}
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
from ..module_utils.nic.family import FAMILY

WISHES: Dict[str, Dict[str, Any]] = {name: {"type": "raw"} for name in ("channels", "rings", "rps", "xps")}
TEXTS: Dict[str, Dict[str, Any]] = {name: {"type": "str"} for name in ("reason", "source")}


def raw_settings(params: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Return the node's raw settings for the module's options; the node checks what is in them."""
    wishes = params["settings"]
    if wishes is None:
        wishes = [{name: params[name] for name in ("interfaces", *WISHES)}]
    return [{name: value for name, value in wish.items() if value is not None} for wish in wishes]


def main() -> None:
    """Run as Ansible runs it."""
    module = AnsibleModule(
        argument_spec=dict(
            CHANGE_OPTIONS,
            interfaces={"type": "raw"},
            settings={
                "type": "list",
                "elements": "dict",
                "options": dict(WISHES, interfaces={"type": "raw", "required": True}, **TEXTS),
            },
            **WISHES,
        ),
        mutually_exclusive=[("settings", name) for name in ("interfaces", *WISHES)],
        required_one_of=[("interfaces", "settings")],
        required_by=dict.fromkeys(WISHES, ("interfaces",)),
        supports_check_mode=True,
    )
    run_node_module(module, [FAMILY], {"nic_queues": raw_settings(module.params)})


if __name__ == "__main__":
    main()
