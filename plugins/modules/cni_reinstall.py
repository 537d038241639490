#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: cni_reinstall
short_description: Record what a CNI is made of, and put it back as it was recorded
version_added: 0.1.0
description:
  - Keeps the objects of a cluster's CNI while it works, and later puts them back by server-side apply.
  - Its agents are started anew on one node after the other, control plane last. The first node that does not come out
    well ends it; the same task goes on later.
  - What is there before is backed up, and O(state=restored) brings that back.
  - Talks to the API server, and is run on the controller (C(delegate_to=localhost)).
requirements:
  - The Python package tune-nodes, in the Python that runs the module.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    support: full
    platforms: posix
options:
  state:
    description:
      - V(recorded) records the CNI. Where the newest record holds the same already, nothing is done.
      - V(installed) puts O(record) back. Where all is as recorded, nothing is done.
      - V(restored) takes the reinstall O(run) back.
    type: str
    choices: [recorded, installed, restored]
    default: installed
  record:
    description: Of O(state=installed), the record's id or its directory; V(latest) for the newest of this cluster.
    type: str
    default: latest
  run:
    description: Of O(state=restored), the reinstall's id; V(latest) for the newest.
    type: str
    default: latest
  manifests:
    description: Of O(state=recorded), files that the CNI is installed by. The cluster itself where there are none.
    type: list
    elements: path
    default: []
  namespace:
    description: Of objects in O(manifests) that name none; kubectl's C(default) where it is absent.
    type: str
    default: ""
  allow_latest:
    description: Also record images that do not say which version they are.
    type: bool
    default: false
  approve:
    description: Of O(state=installed), do the plan of this hash and no other, as check mode returns it.
    type: str
    default: ""
  force_conflicts:
    description: Also take fields that others hold at other values.
    type: bool
    default: false
  probe_image:
    description:
      - Image of the pod that proves on each node that new pods get a network. Nodes have it already.
      - The agent's own where it is absent.
    type: str
    default: ""
  limit:
    description: Seconds that each wait on a node may take.
    type: float
    default: 180
  kubeconfig:
    description: The cluster's kubeconfig.
    type: path
    required: true
  context:
    description: Context of the kubeconfig; its current one where it is absent.
    type: str
    default: ""
  state_dir:
    description: Where records and backups are kept. The user's state directory where it is absent.
    type: path
author:
  - The tune-nodes authors (@tune-nodes)
"""

EXAMPLES = r"""
- name: Record the CNI while it works
  tune.nodes.cni_reinstall:
    state: recorded
    kubeconfig: "{{ inventory_dir }}/kubeconfig"
  delegate_to: localhost
  run_once: true

- name: Put it back
  tune.nodes.cni_reinstall:
    record: latest
    kubeconfig: "{{ inventory_dir }}/kubeconfig"
  delegate_to: localhost
  run_once: true
  register: installed

- name: Bring back what was there before
  tune.nodes.cni_reinstall:
    state: restored
    run: "{{ installed.run }}"
    kubeconfig: "{{ inventory_dir }}/kubeconfig"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
record:
  description: Id of the record.
  returned: always; in check mode of O(state=recorded) only where there is one already
  type: str
  sample: 20261124-160559-6bed41
run:
  description: Id of the reinstall, for O(state=restored). Empty where nothing was done.
  returned: O(state=installed), O(state=restored)
  type: str
  sample: 20261124-163104-81c02e
plan_hash:
  description: Hash of the plan, for O(approve).
  returned: O(state=installed)
  type: str
  sample: "sha256:28fa05764c854fe7df4320c6756343a8"
steps:
  description: Each object, what is done about it, and who else holds fields of it.
  returned: O(state=installed)
  type: list
  elements: dict
  sample: [{object: DaemonSet kube-flannel/kube-flannel-ds, status: create, what: "", managers: [], left: ""}]
nodes:
  description: Nodes whose agents are new; in check mode those whose would be.
  returned: O(state=installed), O(state=restored)
  type: list
  elements: str
  sample: [worker-1, worker-2, control-plane-1]
silent:
  description: Nodes whose kubelet does not answer, and which are not waited for.
  returned: O(state=installed)
  type: list
  elements: str
  sample: []
said:
  description: What was done, a sentence each.
  returned: always
  type: list
  elements: str
  sample: ["ConfigMap kube-flannel/kube-flannel-cfg: made"]
left:
  description: What is not in the record, or was not brought back, a sentence each.
  returned: always
  type: list
  elements: str
  sample: ["Secret kube-system/cilium-ca: secrets are never recorded; keep it where you keep secrets"]
"""

import traceback
from pathlib import Path
from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    from tune_nodes.cluster.client import Cluster
    from tune_nodes.errors import TuneError
    from tune_nodes.recovery.reinstall import describe, record, runs, service
    from tune_nodes.recovery.reinstall.carry import Way
    from tune_nodes.runs.store import default_state_dir
except ImportError:
    MISSING = traceback.format_exc()
else:
    MISSING = ""

OPTIONS: Dict[str, Dict[str, Any]] = {
    "state": {"type": "str", "choices": ["recorded", "installed", "restored"], "default": "installed"},
    "record": {"type": "str", "default": "latest"},
    "run": {"type": "str", "default": "latest"},
    "manifests": {"type": "list", "elements": "path", "default": []},
    "namespace": {"type": "str", "default": ""},
    "allow_latest": {"type": "bool", "default": False},
    "approve": {"type": "str", "default": ""},
    "force_conflicts": {"type": "bool", "default": False},
    "probe_image": {"type": "str", "default": ""},
    "limit": {"type": "float", "default": 180},
    "kubeconfig": {"type": "path", "required": True},
    "context": {"type": "str", "default": ""},
    "state_dir": {"type": "path"},
}


def recorded(cluster: Any, state: Path, options: Dict[str, Any], check: bool) -> Dict[str, Any]:
    """Record the CNI, unless the newest record holds the same. Raises TuneError."""
    home = record.home(state)
    files = [Path(name) for name in options["manifests"]]
    found = service.gathered(cluster, files, options["allow_latest"], options["namespace"])
    same = service.same_as(home, found)
    result = {"changed": same is None, "said": [], "left": found.facts.left}
    if same is not None:
        return dict(result, record=same.id)
    if check:
        return result
    made = record.write(home, found.parts, found.facts)
    return dict(result, record=made.id, said=["recorded %d objects in %s" % (len(made.parts), made.directory)])


def installed(cluster: Any, state: Path, options: Dict[str, Any], way: Any, check: bool) -> Dict[str, Any]:
    """Plan, and unless ``check`` put the record back. Raises TuneError."""
    chosen = record.chosen(record.home(state), options["record"], cluster.server)
    found = service.look(cluster, chosen, state, options["force_conflicts"])
    plan = found.plan
    result = describe.plan_document(found)
    result = dict(result, changed=plan.work or found.run is not None, run="", left=chosen.manifest.facts.left, said=[])
    result["nodes"] = list(plan.nodes) if plan.roll else []
    result["diff"] = describe.diff(plan)
    if plan.barred:
        raise service.barred(plan)
    if options["approve"] not in ("", plan.hash):
        raise TuneError(
            "the plan is not the one that was approved", "now it is " + plan.hash, "look at it in check mode"
        )
    if check or not result["changed"]:
        return result
    result["run"], result["nodes"] = service.carry_out(cluster, found, state, way)
    return result


def restored(cluster: Any, state: Path, reference: str, way: Any, check: bool) -> Dict[str, Any]:
    """Take a reinstall back. Raises TuneError."""
    run = runs.named(runs.home(state), reference)
    result = {"record": run.record, "run": run.id, "nodes": [], "said": [], "left": []}
    if run.back.ended or check:
        return dict(result, changed=not run.back.ended)
    done = service.take_back(cluster, run, state, way)
    words = [key + ": as before" for key in done.restored] + [key + ": removed" for key in done.removed]
    return dict(result, changed=bool(words), nodes=done.nodes, left=done.left, said=words)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    if MISSING:
        module.fail_json(msg=missing_required_lib("tune-nodes"), exception=MISSING)
    options: Dict[str, Any] = module.params
    state = Path(options["state_dir"]) if options["state_dir"] else default_state_dir()
    said: List[str] = []
    way = Way(options["force_conflicts"], options["limit"], options["probe_image"], said.append)
    try:
        if not 5 <= options["limit"] <= 3600:
            raise TuneError("limit cannot be %g" % options["limit"], "", "give 5 to 3600 seconds")
        with Cluster.open(Path(options["kubeconfig"]), options["context"]) as cluster:
            if options["state"] == "recorded":
                result = recorded(cluster, state, options, module.check_mode)
            elif options["state"] == "installed":
                result = installed(cluster, state, options, way, module.check_mode)
            else:
                result = restored(cluster, state, options["run"], way, module.check_mode)
    except TuneError as problem:
        error = {"what": problem.what, "why": problem.why, "next": problem.next}
        module.fail_json(msg=str(problem), error=error, said=said)
    module.exit_json(**dict(result, said=said + result["said"]))


if __name__ == "__main__":
    main()
