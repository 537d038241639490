#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Release the leases of sandboxes that are gone, or bring released ones back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cni_leases
short_description: Release the leases of sandboxes that are gone, or bring released ones back
version_added: 0.1.0
description:
  - Frees addresses that host-local holds for sandboxes which no longer exist. No running pod is touched.
  - Takes two scans and acts on what both call stale, down to the inode and time of the file. What makes a lease stale
    is said at M(tune.nodes.cni_state).
  - Where libcni's cached attachment is still there, CNI DEL is run with the plugins it names, so that port mappings go
    with the lease. Else the lease's file alone is moved, under host-local's own lock, if it is still the one judged.
  - Before the first lease goes, copies of all of them and a manifest lie in C(/var/lib/tune-nodes/quarantine/RUN).
    O(undo) brings them back, also after a run that was killed. An address that somebody has since is left to him.
  - Fails, and moves nothing, where the runtime does not answer or names no sandbox, the clock was set, more than
    O(max_stale_percent) look stale, or the node's addresses are not given out by host-local.
options:
  grace:
    description: How old a lease must be, in seconds or as C(90s), C(15m), C(2h). One from before the last boot is old
      enough.
    type: str
    default: 15m
  between:
    description: Time between the two scans, in seconds or as C(90s), C(2m).
    type: str
    default: 2m
  max_stale_percent:
    description: More stale leases than this share of a network's are not believed.
    type: float
    default: 90
  pod_ips:
    description: Addresses of the node's pods in the API. Without them that proof is named as not checked.
    type: list
    elements: str
  first:
    description: C(cni.scan) of an earlier M(tune.nodes.cni_state), as the first of the two scans. Only what is left of
      O(between) is waited for.
    type: dict
  run:
    description: Names the quarantine. Without it a name is made.
    type: str
  undo:
    description: Bring back what this run released; V(latest) is the newest.
    type: str
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    description: Takes both scans, or looks at what would come back, and moves nothing.
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
  - module: tune.nodes.cni_state
author:
  - The tune-nodes authors (@tune-nodes)
"""

EXAMPLES = r"""
- name: Release what no sandbox holds any more
  tune.nodes.cni_leases:
  register: released

- name: Bring it back
  tune.nodes.cni_leases:
    undo: "{{ released.cni.run }}"
"""

RETURN = r"""
cni:
  description: What was found, as M(tune.nodes.cni_state) returns it, and what was done.
  returned: always
  type: dict
  contains:
    run:
      description: Name of the quarantine, for O(undo).
      type: str
      sample: leases-1764061234567
    quarantine:
      description: Where the leases are now.
      type: str
      sample: /var/lib/tune-nodes/quarantine/leases-1764061234567
    released:
      description: How many leases went which way.
      type: dict
      sample: {del: 12, file: 236}
    undone:
      description: Of an undo, what became of the leases.
      type: dict
      sample: {restored: 247, there: 0, taken: 1, failed: 0}
changes:
  description: One entry for each lease.
  returned: always
  type: list
  elements: dict
  sample: [{key: cbr0/10.244.1.7, before: held by sandbox 3f2a, want: null, status: changed, note: its file was moved}]
tune_nodes:
  description: The same for the command line.
  returned: always
  type: dict
  sample: {outcome: changed}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.ansible_glue import answer
from ..module_utils.cni.answers import LOOK_OPTIONS, fields_of, result_of
from ..module_utils.cni.calls import bring_back, drop


def main() -> None:
    """Run as Ansible runs it."""
    module = AnsibleModule(
        argument_spec=dict(
            LOOK_OPTIONS,
            between={"type": "str", "default": "2m"},
            first={"type": "dict"},
            run={"type": "str"},
            undo={"type": "str"},
        ),
        mutually_exclusive=[("undo", "first")],
        supports_check_mode=True,
    )
    result = result_of(module.params, module.check_mode, lambda ask: bring_back(ask) if ask.undo else drop(ask))
    answer(module, result, **fields_of(result))


if __name__ == "__main__":
    main()
