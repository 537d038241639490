#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Keep what a node's network looks like as one archive on the node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cni_evidence
short_description: Keep what a node's network looks like as one archive on the node
version_added: 0.1.0
description:
  - Asks ip, nft, both kinds of iptables, ipset, bpftool, tc, crictl, ctr, conntrack and the journal, each with a time
    limit, and lists CNI configurations, plugins and leases with times and hashes. Programs that are missing are noted.
  - Files that hold keys are left out. In what is kept, tokens, passwords and private keys are blanked.
  - The archive is C(/var/lib/tune-nodes/evidence/RUN.tar.gz), readable by root only; the newest ten are kept. Nothing
    else of the node is changed.
options:
  run:
    description: Names the archive.
    type: str
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
seealso:
  - module: tune.nodes.cni_state
author:
  - The tune-nodes authors (@tune-nodes)
"""

EXAMPLES = r"""
- name: Keep what the node looks like now
  tune.nodes.cni_evidence:
  register: evidence

- name: Fetch it
  ansible.builtin.fetch:
    src: "{{ evidence.cni.evidence.path }}"
    dest: evidence/
"""

RETURN = r"""
cni:
  description: Where the archive is, and what is not in it.
  returned: always
  type: dict
  contains:
    evidence:
      description: The archive.
      type: dict
      sample: {path: /var/lib/tune-nodes/evidence/run-1.tar.gz, sha256: 9f86, bytes: 41210, files: 31, missing: []}
tune_nodes:
  description: The same for the command line.
  returned: always
  type: dict
  sample: {outcome: ok}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.ansible_glue import answer
from ..module_utils.cni.answers import fields_of, result_of
from ..module_utils.cni.calls import gather


def main() -> None:
    """Run as Ansible runs it."""
    module = AnsibleModule(argument_spec={"run": {"type": "str"}}, supports_check_mode=False)
    result = result_of(module.params, False, gather)
    answer(module, result, **dict(fields_of(result), changed=False))


if __name__ == "__main__":
    main()
