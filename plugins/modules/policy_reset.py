#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: policy_reset
short_description: Let traffic through that network policies cut, for a time, after a backup
version_added: 0.1.0
description:
  - Judges what the network policies of a scope cut, and takes the least destructive step that lets it through.
  - Backs the policies up first. What it adds carries the reset's id; what it deletes can be made again from the backup.
  - Talks to the API server, and is run on the controller (C(delegate_to=localhost)).
requirements:
  - The Python package tune-nodes, in the Python that runs the module.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    support: full
    platforms: posix
options:
  state:
    description:
      - V(open) lets the traffic through. Where nothing is cut, nothing is done.
      - V(closed) takes the reset of O(backup) back.
    type: str
    choices: [open, closed]
    default: open
  namespace:
    description: All pods of this namespace; with O(selector), those with its labels.
    type: str
  pod:
    description: This pod, as C(NAMESPACE/POD).
    type: str
  selector:
    description: Pods with these labels, as C(KEY=VALUE), several with commas.
    type: str
  cluster:
    description: All pods of the cluster.
    type: bool
    default: false
  source:
    description: Where the traffic comes from, a pod as C(NAMESPACE/POD) or addresses. Everybody where it is absent.
    type: str
    default: ""
  target:
    description: Where it goes. The pods of the scope where it is absent.
    type: str
    default: ""
  port:
    description: The traffic's port; 0 for all.
    type: int
    default: 0
  ttl:
    description: After this time the Job of O(image) closes it again, as C(90s), C(30m) or C(2h); V(0) for never.
    type: str
    default: 30m
  image:
    description:
      - Image with C(sh), C(date), C(sleep) and C(kubectl), of which the Job is made.
      - Without one only O(state=closed), or C(tune-nodes policy restore), closes it.
    type: str
    default: ""
  probe_image:
    description:
      - Image with C(sh), C(nc) and C(timeout). A pod of it, with the labels of the traffic's source and never ready,
        makes a connection that proves the reset, and is removed again.
      - Without one nothing is proved.
    type: str
    default: ""
  rung:
    description: Take this rung of the ladder; 0 takes the first that opens.
    type: int
    choices: [0, 2, 3, 5, 6]
    default: 0
  approve:
    description: Hash of the plan, as check mode returns it. Needed where policies would be deleted.
    type: str
    default: ""
  pause_gitops:
    description: Pause the owners (Argo CD, Flux) of what is deleted.
    type: bool
    default: false
  backup:
    description: Of O(state=closed), the backup's id; V(latest) for the newest.
    type: str
    default: latest
  kubeconfig:
    description: The cluster's kubeconfig.
    type: path
    required: true
  context:
    description: Context of the kubeconfig; its current one where it is absent.
    type: str
    default: ""
  state_dir:
    description: Where backups are kept, below C(policy-backups). The user's state directory where it is absent.
    type: path
author:
  - The tune-nodes authors (@tune-nodes)
"""

EXAMPLES = r"""
- name: Let the shop's traffic through for half an hour
  tune.nodes.policy_reset:
    namespace: shop
    ttl: 30m
    image: example/kubectl:1.34
    kubeconfig: "{{ inventory_dir }}/kubeconfig"
  delegate_to: localhost
  run_once: true
  register: opened

- name: Close it again
  tune.nodes.policy_reset:
    state: closed
    backup: "{{ opened.reset.backup }}"
    kubeconfig: "{{ inventory_dir }}/kubeconfig"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
plan_hash:
  description: Hash of the plan, for O(approve).
  returned: where something is cut
  type: str
  sample: "sha256:28fa05764c854fe7df4320c6756343a8"
reset:
  description: The plan with every rung, and what was done, as C(tune-nodes policy reset -o json) prints it.
  returned: O(state=open), where something is cut
  type: dict
  sample: {rung: 3, backup: 20261124-160559-6bed41, until: "2026-11-24T16:36:00+00:00", closes_by: job}
said:
  description: What was done, a sentence each.
  returned: always
  type: list
  elements: str
  sample: ["added NetworkPolicy shop/tune-nodes-allow-20261124-160559-6bed41"]
"""

import traceback
from pathlib import Path
from typing import Any, Dict, Tuple

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    from tune_nodes.cluster.client import Cluster
    from tune_nodes.errors import TuneError
    from tune_nodes.policy.keeping import backup as backups
    from tune_nodes.policy.opening import closing, describe, planning, reset
    from tune_nodes.policy.opening.scope import scope_of
    from tune_nodes.policy.proving import prove
except ImportError:
    MISSING = traceback.format_exc()
else:
    MISSING = ""

OPTIONS: Dict[str, Dict[str, Any]] = {
    "state": {"type": "str", "choices": ["open", "closed"], "default": "open"},
    "namespace": {"type": "str"},
    "pod": {"type": "str"},
    "selector": {"type": "str"},
    "cluster": {"type": "bool", "default": False},
    "source": {"type": "str", "default": ""},
    "target": {"type": "str", "default": ""},
    "port": {"type": "int", "default": 0},
    "ttl": {"type": "str", "default": "30m"},
    "image": {"type": "str", "default": ""},
    "probe_image": {"type": "str", "default": ""},
    "rung": {"type": "int", "choices": [0, 2, 3, 5, 6], "default": 0},
    "approve": {"type": "str", "default": ""},
    "pause_gitops": {"type": "bool", "default": False},
    "backup": {"type": "str", "default": "latest"},
    "kubeconfig": {"type": "path", "required": True},
    "context": {"type": "str", "default": ""},
    "state_dir": {"type": "path"},
}


def opened(cluster: Any, directory: Path, options: Dict[str, Any], check: bool) -> Dict[str, Any]:
    """Plan, and unless ``check`` take the rung. Raises TuneError."""
    scope = scope_of(options["namespace"] or "", options["pod"] or "", options["selector"] or "", options["cluster"])
    seconds = 0 if options["ttl"] == "0" else reset.check_ttl(options["ttl"])
    traffic: Tuple[str, str, int] = (options["source"], options["target"], options["port"])
    wish = planning.Wish(scope, *traffic, seconds, options["rung"], options["image"], options["pause_gitops"])
    plan = planning.look(cluster, wish).plan
    if plan is None:
        return {
            "changed": False,
            "said": ["network policies do not cut this traffic, or a reset has opened it already"],
        }
    found = {"changed": True, "plan_hash": plan.hash, "reset": describe.plan_document(plan), "said": []}
    if check:
        return found
    if options["approve"] not in ("", plan.hash):
        raise TuneError(
            "the plan is not the one that was approved", "now it is " + plan.hash, "look at it in check mode"
        )
    if plan.rung.wants_approval and not options["approve"]:
        raise TuneError("rung %d deletes policies" % plan.rung.number, "", "set approve to " + plan.hash)
    done = reset.carry_out(cluster, plan, directory, cluster.user)
    explicit = bool(options["source"] or options["target"])
    proofs = prove.prove(cluster, done, [], options["probe_image"], explicit) if options["probe_image"] else []
    warnings = [*done.warnings, *plan.agents, *(proof.word + ": " + proof.text for proof in proofs if not proof.ok)]
    found["reset"] = dict(describe.plan_document(plan), **describe.done_document(done, proofs))
    return dict(found, said=done.said, warnings=warnings)


def closed(cluster: Any, directory: Path, reference: str, check: bool) -> Dict[str, Any]:
    """Take a reset back. Raises TuneError."""
    chosen = backups.Backup.load(backups.find(directory, reference))
    if check:
        return {"changed": closing.is_open(cluster, chosen), "said": []}
    said = closing.close(cluster, chosen)
    return {"changed": bool(said), "said": said}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    if MISSING:
        module.fail_json(msg=missing_required_lib("tune-nodes"), exception=MISSING)
    options: Dict[str, Any] = module.params
    directory = backups.home(Path(options["state_dir"]) if options["state_dir"] else None)
    try:
        with Cluster.open(Path(options["kubeconfig"]), options["context"]) as cluster:
            if options["state"] == "open":
                result = opened(cluster, directory, options, module.check_mode)
            else:
                result = closed(cluster, directory, options["backup"], module.check_mode)
    except TuneError as problem:
        module.fail_json(msg=str(problem), error={"what": problem.what, "why": problem.why, "next": problem.next})
    module.exit_json(**result)


if __name__ == "__main__":
    main()
