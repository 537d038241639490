#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: probe
short_description: Measure what the paths from a node carry, and in which direction large packets vanish
version_added: 0.1.0
description:
  - Sends packets that may not be cut up to each target, of the size that the path's MTU allows and of one byte more.
  - Where the size does not pass, finds the largest that does, and whether the way there or the way back loses large
    packets. Nothing has to listen on the target; that it answers pings is enough.
  - Sends a few packets to a target, about 30 where packets vanish. Changes nothing.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    support: full
    platforms: linux
options:
  targets:
    description: Addresses, IPv4 or IPv6, of other nodes or of pods.
    type: list
    elements: str
    required: true
  source:
    description: An address of this node to send from; by default the one that the route has.
    type: str
    default: ""
  size:
    description: Bytes of the packets with their IP header. By default what the kernel sends on each path at most.
    type: int
  required:
    description: Fail where a target does not answer at this size.
    type: bool
    default: false
author:
  - The tune-nodes authors (@tune-nodes)
"""

EXAMPLES = r"""
- name: Every node reaches every other with full packets
  tune.nodes.probe:
    targets: "{{ groups['all'] | map('extract', hostvars, 'ansible_host') | difference([ansible_host]) }}"
    required: true

- name: See whether 1450 bytes reach a pod
  tune.nodes.probe:
    targets: [10.244.1.7]
    size: 1450
  register: found

- name: Say what passes
  ansible.builtin.debug:
    msg: "{{ found.paths[0].passes }} of {{ found.paths[0].size }} bytes pass"
"""

RETURN = r"""
passed:
  description: Whether every target answered at its size.
  returned: always
  type: bool
  sample: true
paths:
  description: What was measured, a mapping for each target. Outcomes are C(answered), C(silent), C(too-large) (for this
    node's own MTU), C(failed), or empty where they were not needed.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: The target.
      type: str
      returned: always
      sample: 10.77.0.12
    mtu:
      description: The MTU that the kernel holds for the path.
      type: int
      returned: when there is a way there
      sample: 1500
    size:
      description: Bytes that were sent.
      type: int
      returned: when there is a way there
      sample: 1500
    ms:
      description: Milliseconds until a small echo came back.
      type: float
      returned: when there is a way there
      sample: 0.4
    small:
      description: Whether a small packet is answered.
      type: str
      returned: when there is a way there
      sample: answered
    exact:
      description: Whether one of that size is.
      type: str
      returned: when there is a way there
      sample: silent
    above:
      description: Whether one of a byte more is.
      type: str
      returned: when there is a way there
      sample: too-large
    back:
      description: Whether a reply of that size comes back where only it is large. Told where O(size) does not pass.
      type: str
      returned: when there is a way there
      sample: answered
    forth:
      description: Whether a packet of that size arrives where only it is large. Told where O(size) does not pass.
      type: str
      returned: when there is a way there
      sample: silent
    passes:
      description: Bytes of the largest packet that goes there and back; null where none does.
      type: int
      returned: when there is a way there
      sample: 1400
    told:
      description: A smaller MTU that a router on the path told of, which is then the size that is measured.
      type: int
      returned: when there is a way there
      sample: null
    trouble:
      description: Why it could not be measured, in the kernel's words.
      type: str
      returned: always
      sample: ""
    packets:
      description: Packets sent.
      type: int
      returned: always
      sample: 20
    bytes:
      description: Bytes sent.
      type: int
      returned: always
      sample: 23043
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.ansible_glue import answer, request
from ..module_utils.families import TUNING
from ..module_utils.node import handle


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "targets": {"type": "list", "elements": "str", "required": True},
            "source": {"type": "str", "default": ""},
            "size": {"type": "int"},
            "required": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    targets = [{"address": a, "source": wanted["source"], "size": wanted["size"]} for a in wanted["targets"]]
    result = handle(request("probe", {}, paths={"targets": targets}), TUNING)
    paths = (result.get("paths") or {}).get("measured") or []
    lost = [path for path in paths if path.get("exact") != "answered"]
    found = {"paths": paths, "passed": bool(result.get("ok")) and not lost}
    if lost and wanted["required"]:
        names = ", ".join("%s (%s pass)" % (path["id"], path.get("passes") or "none") for path in lost)
        module.fail_json(msg="packets of the size that is sent are not answered: " + names, changed=False, **found)
    answer(module, result, **found)


if __name__ == "__main__":
    main()
