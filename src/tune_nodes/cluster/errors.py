"""What can be wrong with a cluster, in the words of the command line."""

from __future__ import annotations

from tune_nodes.errors import Exit, TuneError, UsageError

NO_KUBECONFIG = "no-kubeconfig"
BAD_KUBECONFIG = "bad-kubeconfig"
UNREACHABLE = "unreachable"
UNAUTHORIZED = "unauthorized"
FORBIDDEN = "forbidden"
NOT_FOUND = "not-found"
CONFLICT = "conflict"
SERVER = "server"


class ClusterError(TuneError):
    """The cluster cannot be used, or refused one call; ``data["code"]`` is one of this module's constants.

    Args:
        code: for programs.
        what: one sentence.
        why: the cause, "" where unknown.
        next: the next command or step.
        exit: exit code where the run ends because of it.
    """

    def __init__(self, code: str, what: str, why: str = "", next: str = "", exit: Exit = Exit.FAILED) -> None:
        TuneError.__init__(self, what, why, next, exit, {"code": code})

    @property
    def code(self) -> str:
        """The code in ``data``."""
        return str(self.data["code"])


class KubeconfigError(ClusterError, UsageError):
    """The kubeconfig is missing, broken or names something that it does not have; no server was asked (exit 5)."""

    def __init__(self, what: str, why: str = "", next: str = "", code: str = BAD_KUBECONFIG) -> None:
        ClusterError.__init__(self, code, what, why, next, Exit.USAGE)
