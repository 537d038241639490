#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: rollback
short_description: Undo a confirmed transaction on a node
version_added: 0.1.0
description:
  - Puts back each value only where the node still holds what the transaction wrote. A value that somebody
    changed since is reported as C(foreign) and left.
  - What the transaction kept over reboots is taken out again.
  - Is refused where a newer transaction changed the same thing; roll that one back first.
  - The rollback is a transaction itself. With O(persist=confirm) it must be confirmed with M(tune.nodes.confirm).
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
options:
  transaction:
    description: Id of the confirmed transaction; for a run of the tune-nodes command it is the run's id.
    type: str
    required: true
  persist:
    description:
      - V(confirm) leaves the rollback to be confirmed over a new connection.
      - V(auto) confirms it at once, after verification on the node only.
    type: str
    choices: [confirm, auto]
    default: confirm
  window:
    description: Seconds within which the rollback must be confirmed, from 20 to 3600.
    type: int
    default: 120
author:
  - The tune-nodes authors (@tune-nodes)
"""

EXAMPLES = r"""
- name: Undo a run on this node
  tune.nodes.rollback:
    transaction: 20261124-081530-a1b2c3
  register: undo

- name: Confirm over a new connection
  tune.nodes.confirm:
    transaction: "{{ undo.transaction }}"
  when: undo is changed
"""

RETURN = r"""
transaction:
  description: Id of the rollback's own transaction.
  returned: when something is put back
  type: str
  sample: rollback-1764061234567
changes:
  description: What is put back, and what is left as C(foreign).
  returned: always
  type: list
  elements: dict
  sample:
    - family: sysctl
      key: net.core.somaxconn
      before: "16384"
      want: "4096"
      status: changed
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.ansible_glue import answer, request
from ..module_utils.families import TUNING
from ..module_utils.node import handle


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "transaction": {"type": "str", "required": True},
            "persist": {"type": "str", "choices": ["confirm", "auto"], "default": "confirm"},
            "window": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    answer(module, handle(request("rollback", module.params, check=module.check_mode), TUNING))


if __name__ == "__main__":
    main()
