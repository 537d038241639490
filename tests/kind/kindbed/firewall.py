"""What keeps a cluster to itself: nothing of it reaches the machine's services or anything beyond, nor the reverse.

Ping to the machine is left: it is the nodes' gateway, and a gateway answers.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from kindbed.command import find, run
from kindbed.docker import RUN_DIR

BRIDGE = "tn-kind0"
FAMILIES = {"iptables": "ip", "ip6tables": "ip6"}  # program -> nft's word
_MADE = "made-table-of-"  # a file of this name: there was no such table before, as on a machine without a firewall
_NEW = ("-m", "conntrack", "--ctstate", "NEW", "-j", "REJECT")
_FORWARD = (
    ("-i", BRIDGE, "-o", BRIDGE, "-j", "ACCEPT"),
    ("-i", BRIDGE, "!", "-o", BRIDGE, *_NEW),
    ("!", "-i", BRIDGE, "-o", BRIDGE, *_NEW),
)
_INPUT = (("-i", BRIDGE, "-p", "tcp", *_NEW), ("-i", BRIDGE, "-p", "udp", *_NEW))

Rule = tuple[str, str, tuple[str, ...]]  # program, chain, match and target


def rules(forward: str, *, ipv6: bool) -> list[Rule]:
    """Return the rules.

    Args:
        forward: the chain for forwarded packets: DOCKER-USER where docker made one (its own rules stand before
            anything in FORWARD), else FORWARD.
        ipv6: whether the machine has it.
    """
    found: list[Rule] = [("iptables", forward, rule) for rule in _FORWARD]
    found += [("iptables", "INPUT", rule) for rule in _INPUT]
    if ipv6:
        found += [("ip6tables", chain, rule) for _, chain, rule in rules("FORWARD", ipv6=False)]
    return found


def _ask(program: str, *argv: str) -> bool:
    return run([program, "--wait", *argv], timeout=30, check=False).returncode == 0


def _ipv6() -> bool:
    return Path("/proc/net/if_inet6").exists()


def _table(program: str) -> str:
    """Return the filter table as it stands, "" where there is none; asking makes none."""
    # Asked for this table alone, it would make one up.
    _, begin, rest = run([f"{program}-save"], timeout=30).stdout.partition("*filter\n")
    return begin + rest.partition("COMMIT")[0]


def empty(table: str) -> bool:
    """Return whether a filter table does nothing: it has no rule, no chain of its own, and accepts every packet."""
    return all(re.fullmatch(r"\*filter|:(INPUT|FORWARD|OUTPUT) ACCEPT \[.*\]", line) for line in table.splitlines())


def remember() -> None:
    """Keep in mind which tables are not there. To be called before a daemon is started: it makes them by looking."""
    RUN_DIR.mkdir(mode=0o711, exist_ok=True)
    for program in FAMILIES:
        if not _table(program):
            (RUN_DIR / f"{_MADE}{program}").touch()


def close() -> None:
    """Put the rules that are not there yet before all others of their chains."""
    forward = "DOCKER-USER" if _ask("iptables", "--list-rules", "DOCKER-USER") else "FORWARD"
    for program, chain, rule in reversed(rules(forward, ipv6=_ipv6())):
        if not _ask(program, "--check", chain, *rule):
            run([program, "--wait", "--insert", chain, *rule], timeout=30)


def open_() -> None:
    """Take the rules out again, wherever they stand, and the tables that came with them."""
    for forward in ("DOCKER-USER", "FORWARD"):
        for program, chain, rule in rules(forward, ipv6=_ipv6()):
            while _ask(program, "--check", chain, *rule):
                run([program, "--wait", "--delete", chain, *rule], timeout=30)
    for program, family in FAMILIES.items():
        made = RUN_DIR / f"{_MADE}{program}"
        if made.exists():
            if (table := _table(program)) and empty(table):
                run([find("nft", "nftables"), "delete", "table", family, "filter"], timeout=30)
            made.unlink()
    with contextlib.suppress(OSError):  # our own daemon is in it, or it was never made
        RUN_DIR.rmdir()
