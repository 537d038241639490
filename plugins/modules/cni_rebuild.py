#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""One step of the rebuild of a node's CNI state."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cni_rebuild
short_description: One step of the rebuild of a node's CNI state
version_added: 0.1.0
description:
  - The node's part of a rebuild that C(tune-nodes recover cni --rung 4) leads. How far it has come is kept in
    C(/var/lib/tune-nodes/rebuild), so that whoever carries on knows what is done. Each step may be done again.
  - V(begin) refuses a CNI that does not make everything anew when its agent starts, and keeps an archive of its files.
  - V(fence) puts a configuration before all others with which no sandbox starts, while those that end still give back
    what they have.
  - V(clear) stops the agent's processes, then takes away links, routes, chains, tables and sets of the configured CNI
    by their exact names, and moves its files to quarantine. It refuses while a pod still has a network.
  - V(open) takes the fence away and waits until the runtime's network is ready.
  - V(finish) notes that it is over. V(undo) brings back what was taken away and takes the fence away.
  - V(status) changes nothing. The node is drained, and its agent replaced, by the command line.
options:
  step:
    description: What to do.
    type: str
    choices: [status, begin, fence, clear, open, finish, undo]
    default: status
  run:
    description: Names the rebuild. Only V(status) goes without, and answers for the one that is not finished.
    type: str
  host_pods:
    description: Uids of the node's pods that use its own network and live on.
    type: list
    elements: str
    default: []
  agents:
    description: Uids of the pods of the CNI's agent on this node. They are stopped, and must be deleted afterwards.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: none
  diff_mode:
    support: none
  platform:
    support: full
    platforms: linux
requirements:
  - python >= 3.8 on the node
  - crictl, or containerd's ctr, on the node
seealso:
  - module: tune.nodes.cni_state
  - module: tune.nodes.cni_orphans
author:
  - The tune-nodes authors (@tune-nodes)
"""

EXAMPLES = r"""
- name: Is a rebuild of this node unfinished?
  tune.nodes.cni_rebuild:
  register: rebuild

- name: Take an unfinished one back
  tune.nodes.cni_rebuild:
    step: undo
    run: "{{ rebuild.cni.rebuild.record.run }}"
  when: rebuild.cni.rebuild.record is not none
"""

RETURN = r"""
cni:
  description: What was done.
  returned: always
  type: dict
  contains:
    rebuild:
      description: C(record) says how far the rebuild has come, null where there is none; C(backup) where its archive
        lies; C(removed) and C(restored) what became of each artefact.
      type: dict
      sample: {record: {run: 20261124-190000-aaaaaa, phase: fenced, cni: flannel}}
changes:
  description: One entry for each artefact, and for each phase that was reached.
  returned: always
  type: list
  elements: dict
  sample: [{key: link/cni0, before: bridge, want: null, status: changed}]
tune_nodes:
  description: The same for the command line.
  returned: always
  type: dict
  sample: {outcome: changed}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.ansible_glue import answer
from ..module_utils.cni.answers import fields_of
from ..module_utils.cni.rebuild.verbs import STEPS, Asked, carry_out


def main() -> None:
    """Run as Ansible runs it."""
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "choices": list(STEPS), "default": "status"},
            "run": {"type": "str"},
            "host_pods": {"type": "list", "elements": "str", "default": []},
            "agents": {"type": "list", "elements": "str", "default": []},
        },
        required_if=[("step", step, ("run",)) for step in STEPS if step != "status"],
    )
    given = module.params
    ask = Asked(given["step"], given["run"] or "", frozenset(given["host_pods"]), frozenset(given["agents"]))
    result = carry_out(ask)
    answer(module, result, **fields_of(result))


if __name__ == "__main__":
    main()
