#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: transaction
short_description: Begin, look at or abort a transaction that several modules share
version_added: 0.1.0
description:
  - Begins a transaction on the node and arms its revert before anything is written.
  - Modules of this collection join it by its id. Each join gives the transaction its whole window again.
  - Unless M(tune.nodes.confirm) confirms it over a new connection within the window, the node puts back every
    value by itself, whether or not the controller still lives.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    description: In check mode nothing is begun or aborted.
  diff_mode:
    support: none
  platform:
    support: full
    platforms: linux
options:
  state:
    description:
      - V(begin) begins a transaction and arms its revert.
      - V(status) says where a transaction stands.
      - V(aborted) puts an unconfirmed transaction back at once.
    type: str
    choices: [begin, status, aborted]
    default: begin
  transaction:
    description: The id. Needed for V(status) and V(aborted); for V(begin) one is made where none is given.
    type: str
  window:
    description: Seconds within which the transaction must be confirmed, from 20 to 3600.
    type: int
    default: 120
author:
  - The tune-nodes authors (@tune-nodes)
"""

EXAMPLES = r"""
- name: Begin
  tune.nodes.transaction:
    state: begin
  register: tx

- name: Raise a floor in it
  tune.nodes.sysctl:
    settings:
      net.core.somaxconn: 16384
    transaction: "{{ tx.transaction }}"

- name: Confirm over a new connection
  tune.nodes.confirm:
    transaction: "{{ tx.transaction }}"
"""

RETURN = r"""
transaction:
  description: The id.
  returned: always
  type: str
  sample: tx-1764061234567
state:
  description: Where it stands.
  returned: when there is one
  type: str
  sample: ARMED
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.ansible_glue import answer, request
from ..module_utils.families import TUNING
from ..module_utils.node import handle
from ..module_utils.transaction.session import new_id

OPERATION = {"begin": "begin", "status": "status", "aborted": "revert"}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["begin", "status", "aborted"], "default": "begin"},
            "transaction": {"type": "str"},
            "window": {"type": "int", "default": 120},
        },
        required_if=[("state", "status", ["transaction"]), ("state", "aborted", ["transaction"])],
        supports_check_mode=True,
    )
    state, tx_id = module.params["state"], module.params["transaction"]
    if module.check_mode and state != "status":
        module.exit_json(changed=False, transaction=tx_id, state=None)
    params = dict(module.params)
    if state == "begin":
        params.update(transaction=None, run=tx_id or new_id("tx"))
    result = handle(request(OPERATION[state], params), TUNING)
    if state == "status" and result.get("ok") and result.get("tx") is None:
        module.fail_json(msg="this node has no transaction %s" % tx_id)
    answer(module, result, changed=state == "aborted" and bool(result.get("rows")))


if __name__ == "__main__":
    main()
