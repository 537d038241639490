# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: tune
short_description: Plan, apply, probe and confirm a node's settings in one task
version_added: 0.1.0
description:
  - Sends one request to the node, which decides, arms its own revert, writes and verifies; then connects anew,
    probes and confirms. All of it happens in one task for each node, so a slow neighbour can neither delay nor
    revert it.
  - In check mode the node only plans.
  - This is an action; it needs no module on the node, only Python 3.8 or later and root.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - ansible.builtin.action_common_attributes.conn
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    support: full
    platforms: linux
  action:
    support: full
  bypass_host_loop:
    support: none
  connection:
    support: full
  delegation:
    support: full
options:
  operation:
    description: What to do.
    type: str
    choices: [apply, plan, rollback, status, observe, probe]
    default: apply
  sysctl:
    description: Kernel parameters, a list as O(tune.nodes.sysctl#module:settings) has them, each with its C(key).
    type: list
    elements: dict
    default: []
  nic_queues:
    description: NIC settings, as M(tune.nodes.nic_queues) has them.
    type: list
    elements: dict
    default: []
  mtu:
    description: MTUs from the interface to the pods, as M(tune.nodes.mtu) has them.
    type: list
    elements: dict
    default: []
  probes:
    description:
      - Probes, each a mapping of C(kind) (C(gateway), C(peer), C(dns), C(api) or C(kubelet)) and C(target).
      - Those that pass before the change must pass after it, or the node puts itself back.
    type: list
    elements: dict
    default: []
  window:
    description: Seconds within which the change must be confirmed, from 20 to 3600.
    type: int
    default: 120
  run:
    description: Id of the run, which becomes the transaction's id.
    type: str
  tx:
    description: Of O(operation=rollback) and O(operation=status), the transaction.
    type: str
  expect:
    description: Hash of the plan that was reviewed; the node refuses where it would plan otherwise now.
    type: str
  request_file:
    description: File on the controller that holds the requests of all nodes. The tune-nodes command uses it.
    type: path
author:
  - The tune-nodes authors (@tune-nodes)
"""

EXAMPLES = r"""
- name: Raise two floors and share the queues out, or leave the node as it was
  tune.nodes.tune:
    sysctl:
      - key: net.core.somaxconn
        value: 16384
      - key: net.ipv4.tcp_rmem
        value: 4096 131072 16777216
    nic_queues:
      - interfaces: physical
        channels: auto
    probes:
      - kind: gateway
"""

RETURN = r"""
tune_nodes:
  description: How the node came out.
  returned: always
  type: dict
  contains:
    outcome:
      description: C(ok), C(pending), C(changed), C(reverted), C(refused), C(failed) or C(unreachable).
      returned: always
      type: str
      sample: changed
    changes:
      description: Every setting with its value before, the wanted one, status, reason and source.
      returned: always
      type: list
      elements: dict
      sample: []
    plan_hash:
      description: Hash of what the plan rests on.
      returned: always
      type: str
      sample: "sha256:4f1c..."
    probes_before:
      description: Probes before the change.
      returned: always
      type: list
      elements: dict
      sample: []
    probes_after:
      description: Probes after it, over a new connection.
      returned: always
      type: list
      elements: dict
      sample: []
    error:
      description: What went wrong, why, and what to do next.
      returned: when something did
      type: dict
      sample: {what: the change was put back, why: "probe lost: gateway:10.0.0.1", next: look at the probes}
"""
