#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: observe
short_description: Read what a node is and what tune-nodes keeps on it
version_added: 0.1.0
description:
  - Reads the node's facts that decisions rest on, the settings kept over reboots and the open transactions.
  - Changes nothing, not even in an unfinished transaction's favour unless that one is due.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - ansible.builtin.action_common_attributes.facts
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  facts:
    support: full
  platform:
    support: full
    platforms: linux
author:
  - The tune-nodes authors (@tune-nodes)
"""

EXAMPLES = r"""
- name: Read what the node is
  tune.nodes.observe:

- name: Say which settings are kept
  ansible.builtin.debug:
    var: ansible_facts.tune_nodes.settings
"""

RETURN = r"""
ansible_facts:
  description: Facts under the name C(tune_nodes).
  returned: always
  type: dict
  contains:
    tune_nodes:
      description: What the node is and holds.
      returned: always
      type: dict
      contains:
        node:
          description: Identity, kernel, init, CPUs, memory and roles.
          returned: always
          type: dict
          sample: {hostname: node-1, cpus: 8, roles: [worker]}
        settings:
          description: Settings kept over reboots, by family and key.
          returned: always
          type: dict
          sample: {sysctl: {net.core.somaxconn: {key: net.core.somaxconn, value: "16384", class: floor}}}
        transactions:
          description: Transactions that are not finished.
          returned: always
          type: list
          elements: dict
          sample: []
        observations:
          description: What each family reads without a wish (interfaces and their queues, for one).
          returned: always
          type: dict
          sample: {}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.ansible_glue import answer, request
from ..module_utils.families import TUNING
from ..module_utils.node import handle


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    result = handle(request("observe", {}), TUNING)
    names = ("node", "settings", "transactions", "observations")
    facts = {name: result.get(name) for name in names}
    answer(module, result, ansible_facts={"tune_nodes": facts})


if __name__ == "__main__":
    main()
