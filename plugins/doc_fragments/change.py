# SPDX-License-Identifier: Apache-2.0
"""Options of every module that changes a node (ansible_glue.CHANGE_OPTIONS)."""

from __future__ import annotations


class ModuleDocFragment:
    """Read by Ansible for ``extends_documentation_fragment: tune.nodes.change``."""

    DOCUMENTATION = r"""
options:
  persist:
    description:
      - With V(confirm) the change stands only once M(tune.nodes.confirm) has reached the node over a new connection.
        Without it the node puts everything back when the window ends.
      - With V(auto) the node confirms by itself after reading every value back and seeing its links up. That proves
        that the values took, not that the node can still be reached.
      - Not used where O(transaction) is given, as the transaction is confirmed as a whole.
    type: str
    choices: [confirm, auto]
    default: confirm
  window:
    description: Seconds until the change undoes itself, unless it is confirmed; from 20 to 3600.
    type: int
    default: 120
  transaction:
    description:
      - The transaction to join, as returned by M(tune.nodes.transaction). Without it the call is a transaction of its
        own.
    type: str
  run:
    description: Name of the run that the change belongs to, for history and rollback.
    type: str
"""
