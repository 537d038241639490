"""The lab: nodes on this machine, each a set of namespaces with its own sshd, network, /etc, /var and /run."""

from tune_nodes.lab.faults import FAULTS
from tune_nodes.lab.fleet import Lab
from tune_nodes.lab.model import LabState, NodeStatus
from tune_nodes.lab.node import LabNode
from tune_nodes.lab.trigger import once

__all__ = ["FAULTS", "Lab", "LabNode", "LabState", "NodeStatus", "once"]
