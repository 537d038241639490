#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Put the MTU right in the CNI's own configuration, and name the pods that keep an old one."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cni_mtu
short_description: Put the MTU right in the CNI's own configuration, and name the pods that keep an old one
version_added: 0.1.0
description:
  - Takes what M(tune.nodes.mtu) said of every node, reads where the CNI keeps its MTU in the Kubernetes API, and
    changes it where it is wrong. A value that the CNI would find by itself is taken out, not corrected.
  - Every object is stored as it was before it is changed, and changed only if nobody has changed it since it was read.
  - Then the CNI's agents are started anew where they read the MTU only at their start, one node at a time, by the
    Eviction API; the next only when the one before is ready again.
  - Pods keep the MTU they were made with. They are listed by workload, and made anew by their controllers where
    O(restart_pods) is true.
  - Knows Flannel (and Canal), Calico with and without its operator, Cilium and kube-router. Of another CNI nothing is
    written, and RV(refused) says what would have to be known.
options:
  nodes:
    description:
      - What each node said, by its name in the inventory. All nodes of the cluster belong in it, as the CNI's
        configuration is for all of them.
    type: dict
    required: true
  addresses:
    description: Name in the inventory to the address that ssh uses, where Node objects have other names.
    type: dict
    default: {}
  kubeconfig:
    description: The cluster's kubeconfig.
    type: path
    required: true
  context:
    description: Context of the kubeconfig; its current one where this is empty.
    type: str
    default: ""
  backup_dir:
    description: Where objects are stored before they are changed, each change in a directory of its own.
    type: path
    default: ~/.local/state/tune-nodes/cni-mtu
  restart_pods:
    description:
      - Have pods with an old MTU made anew, one by one, within their PodDisruptionBudgets. Pods without a controller,
        static pods and those of Jobs are left.
    type: bool
    default: false
  delete_emptydir_data:
    description: Whether O(restart_pods) takes pods that keep data in an emptyDir, which is lost.
    type: bool
    default: false
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    description: Returns what would be changed, and writes nothing.
    support: full
  diff_mode:
    description: One diff for each setting.
    support: full
  platform:
    description: Runs where the kubeconfig is, as a rule on the controller.
    platforms: posix
requirements:
  - the Python package tune-nodes, of this collection's version, for the Python that runs this module
seealso:
  - module: tune.nodes.mtu
author:
  - The tune-nodes authors
"""

EXAMPLES = r"""
- name: Read every node's MTUs
  tune.nodes.mtu:
    underlay: keep
    pods: auto
  check_mode: true
  register: stack

- name: Put the CNI's configuration right
  tune.nodes.cni_mtu:
    kubeconfig: kubeconfig
    nodes: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'stack'))) }}"
  delegate_to: localhost
  run_once: true
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
"""

RETURN = r"""
cni:
  description: The CNI.
  returned: success
  type: str
  sample: flannel
settings:
  description: Every place in the API that holds an MTU.
  returned: success
  type: list
  elements: dict
  contains:
    object:
      description: Where it is.
      type: str
      sample: ConfigMap kube-flannel/kube-flannel-cfg
    key:
      description: Which of its fields.
      type: str
      sample: net-conf.json Backend.MTU
    now:
      description: Bytes before; null where the CNI works it out.
      type: int
      sample: 1300
    want:
      description: Bytes as it should be; null where the CNI works it out.
      type: int
    status:
      description: One of ok, pending (check mode), changed, unsupported.
      type: str
      sample: changed
    reason:
      description: Why.
      type: str
      sample: 1300 less 50 bytes of vxlan is not the 1450 that pods should have
    note:
      description: What else there is to know.
      type: str
      sample: ""
refused:
  description: Why nothing was written, empty where something could be.
  returned: success
  type: str
  sample: ""
faults:
  description: What is wrong as it stands.
  returned: success
  type: list
  elements: str
  sample: []
restarted:
  description: Nodes whose agent was started anew, or would be.
  returned: success
  type: list
  elements: str
  sample: [worker-1]
workloads:
  description: Workloads with pods that have another MTU than new ones get, as they were found.
  returned: success
  type: list
  elements: dict
  contains:
    namespace:
      description: Its namespace.
      type: str
      sample: shop
    kind:
      description: Deployment, DaemonSet and so on; Pod for one without a controller.
      type: str
      sample: Deployment
    name:
      description: Its name.
      type: str
      sample: web
    stale:
      description: The pods.
      type: list
      elements: str
      sample: [web-7d9f-x2x]
    pods:
      description: How many it has in all.
      type: int
      sample: 3
    mtu:
      description: The MTUs that they have.
      type: list
      elements: int
      sample: [1250]
    left:
      description: Why some are not made anew by O(restart_pods).
      type: str
      sample: ""
restarted_pods:
  description: Pods that were made anew.
  returned: success
  type: list
  elements: str
  sample: [shop/web-7d9f-x2x]
backup:
  description: The directory of the backup, empty where no object was changed. C(tune-nodes mtu cni --undo) takes it.
  returned: success
  type: str
  sample: /home/jo/.local/state/tune-nodes/cni-mtu/20261124-081530-a1b2c3
"""

import traceback
from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    from tune_nodes.cnimtu import module as work
except ImportError:
    HAS_PACKAGE, PROBLEM = False, traceback.format_exc()
else:
    HAS_PACKAGE, PROBLEM = True, ""

OPTIONS: Dict[str, Dict[str, Any]] = {
    "nodes": {"type": "dict", "required": True},
    "addresses": {"type": "dict", "default": {}},
    "kubeconfig": {"type": "path", "required": True},
    "context": {"type": "str", "default": ""},
    "backup_dir": {"type": "path", "default": "~/.local/state/tune-nodes/cni-mtu"},
    "restart_pods": {"type": "bool", "default": False},
    "delete_emptydir_data": {"type": "bool", "default": False},
}


def diffs(settings: List[Dict[str, Any]]) -> List[Dict[str, str]]:
    """Return changed settings as Ansible's diffs."""
    found = []
    for one in settings:
        if one["status"] in ("pending", "changed"):
            header = "%s %s" % (one["object"], one["key"])
            before, after = ("%s\n" % (one[name] or "automatic") for name in ("now", "want"))
            found.append({"before_header": header, "after_header": header, "before": before, "after": after})
    return found


def main() -> None:
    """Run as Ansible runs it."""
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    if not HAS_PACKAGE:
        module.fail_json(
            msg="%s It speaks to the cluster; install it where this task runs, or leave the kubeconfig out."
            % missing_required_lib("tune-nodes"),
            exception=PROBLEM,
        )
    found = work.run(module.params, module.check_mode)
    for warning in found.pop("warnings"):
        module.warn(warning)
    if module._diff:
        found["diff"] = diffs(found["settings"])
    if found.get("failed"):
        module.fail_json(**found)
    module.exit_json(**found)


if __name__ == "__main__":
    main()
