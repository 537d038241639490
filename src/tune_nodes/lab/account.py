"""The lab's ordinary user: present only in its node's own /etc."""

from __future__ import annotations

from dataclasses import dataclass

USER = "ops"
GROUPS_FIRST, GROUPS_LAST = 2000, 60000

SUDOERS = f"""\
# Of this lab node only: one user who may do everything, with his password.
Defaults lecture=never
Defaults secure_path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
root ALL=(ALL:ALL) ALL
{USER} ALL=(ALL:ALL) ALL
"""

PAM_SUDO = """\
#%PAM-1.0
# Of this lab node only: nothing but the node's own /etc/shadow, whatever the machine asks for.
auth required pam_unix.so
account required pam_unix.so
session required pam_permit.so
"""


@dataclass(frozen=True)
class Account:
    """The user's number and the four files that make him known."""

    uid: int
    passwd: str
    shadow: str
    group: str


def taken_ids(text: str) -> set[int]:
    """Return the numbers in the third column of a passwd or group file; unreadable lines are skipped."""
    found = set()
    for line in text.splitlines():
        columns = line.split(":")
        if len(columns) > 2 and columns[2].isdigit():
            found.add(int(columns[2]))
    return found


def without(text: str, user: str) -> str:
    """Return a passwd, shadow or group file without one name's line, ending in a newline."""
    kept = [line for line in text.splitlines() if line.split(":", 1)[0] != user]
    return "".join(f"{line}\n" for line in kept)


def make(passwd: str, shadow: str, group: str) -> Account:
    """Return the machine's account files with the lab's user added, without a password yet."""
    taken = taken_ids(passwd) | taken_ids(group)
    uid = next(number for number in range(GROUPS_FIRST, GROUPS_LAST) if number not in taken)
    return Account(
        uid=uid,
        passwd=without(passwd, USER) + f"{USER}:x:{uid}:{uid}:lab user:/home/{USER}:/bin/bash\n",
        shadow=without(shadow, USER) + f"{USER}:!:19000:0:99999:7:::\n",
        group=without(group, USER) + f"{USER}:x:{uid}:\n",
    )
