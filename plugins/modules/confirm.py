# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: confirm
short_description: Confirm a transaction over a truly new connection
version_added: 0.1.0
description:
  - Opens a connection that shares no socket with the one the change was made through, so that a confirm proves
    that the node can still be reached, runs the probes there and confirms the transaction.
  - The node refuses a confirm that comes through the changing connection, one with less than 15 seconds left,
    and one where a value changed since it was written.
  - Where no new connection can be made the node reverts by itself when its window ends; this task waits for
    that and fails.
  - This is an action; it runs on the controller.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - ansible.builtin.action_common_attributes.conn
attributes:
  check_mode:
    support: full
    description: In check mode nothing is confirmed.
  diff_mode:
    support: none
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
  transaction:
    description: Id of the transaction. Nothing is done where it is empty, as after a run without changes.
    type: str
    required: true
  probes:
    description:
      - Probes that must pass, each a mapping of C(kind) and C(target).
      - The kinds are C(gateway), C(peer), C(dns), C(api) and C(kubelet).
    type: list
    elements: dict
    default: []
author:
  - The tune-nodes authors (@tune-nodes)
"""

EXAMPLES = r"""
- name: Confirm, and see that the gateway answers
  tune.nodes.confirm:
    transaction: "{{ tx.transaction }}"
    probes:
      - kind: gateway
"""

RETURN = r"""
state:
  description: Where the transaction stands.
  returned: always
  type: str
  sample: DONE
probes:
  description: What the probes found.
  returned: always
  type: list
  elements: dict
  sample: [{id: "gateway:10.0.0.1", ok: true, detail: "1500 bytes, DF", ms: 0.4}]
"""
