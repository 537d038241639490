# SPDX-License-Identifier: Apache-2.0
"""CPU lists ("0-3,8") and masks ("ff", "1,00000000") as the kernel writes them. Pure."""

from __future__ import annotations

from typing import Iterable, List, Optional, Sequence, Set

#: More CPUs than any Linux has; a bound, so that junk cannot ask for a list of billions.
MAX_CPUS = 8192


def parse_list(text: str) -> Optional[List[int]]:
    """Parse a CPU list such as "0-3,8"; [] for an empty one, None for anything that is not a list."""
    found: Set[int] = set()
    for part in text.strip().split(","):
        first, dash, last = part.strip().partition("-")
        if not part.strip():
            if text.strip():
                return None
            continue
        if not _is_number(first) or (dash and not _is_number(last)):
            return None
        low, high = int(first), int(last) if dash else int(first)
        if low > high or high >= MAX_CPUS:
            return None
        found.update(range(low, high + 1))
    return sorted(found)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6


def format_list(cpus: Iterable[int]) -> str:
    """Return the CPU list of these CPUs, "" for none."""
    parts: List[List[int]] = []
    for cpu in sorted(set(cpus)):
        if parts and cpu == parts[-1][1] + 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(str(low) if low == high else "%d-%d" % (low, high) for low, high in parts)


def parse_mask(text: str) -> Optional[List[int]]:
    """Return the CPUs of a hexadecimal mask, None for anything that is not one."""
    digits = text.strip().replace(",", "")
    if not digits or len(digits) > MAX_CPUS // 4 or not all(c in "0123456789abcdefABCDEF" for c in digits):
        return None
    value = int(digits, 16)
    return [bit for bit in range(value.bit_length()) if value >> bit & 1]


def format_mask(cpus: Iterable[int]) -> str:
    """Return the canonical mask: lower case, words of 32 bits parted by commas, no leading zeros, "0" for none."""
    value = 0
    for cpu in cpus:
        value |= 1 << cpu
    words: List[str] = []
    while value >> 32:
        words.insert(0, "%08x" % (value & 0xFFFFFFFF))
        value >>= 32
    return ",".join(["%x" % value, *words])


def canonical_mask(text: Optional[str]) -> Optional[str]:
    """Return a mask as :func:`format_mask` writes it, None if it is not one."""
    cpus = parse_mask(text) if text is not None else None
    return None if cpus is None else format_mask(cpus)


def count_cores(cpus: Sequence[int], cores: Sequence[Sequence[int]]) -> int:
    """Return how many physical cores these CPUs are; a CPU of no known core counts as one."""
    wanted = set(cpus)
    known = {cpu: index for index, siblings in enumerate(cores) for cpu in siblings}
    return len({("core", known[cpu]) if cpu in known else ("cpu", cpu) for cpu in wanted})
