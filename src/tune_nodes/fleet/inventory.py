"""Inventories as Ansible reads them: through ``ansible-inventory``, never by importing ansible."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tune_nodes import collection
from tune_nodes.errors import TuneError, UsageError
from tune_nodes.fleet.inventory_document import Inventory, InventoryNode, parse_inventory
from tune_nodes.fleet.untrusted import one_line

__all__ = ["Inventory", "InventoryNode", "find_inventory", "known_inventories", "parse_inventory", "read_inventory"]

SUFFIXES = ("", ".yml", ".yaml", ".ini", ".json")
TIMEOUT = 120.0
MAX_PATH = 4000  # bytes; the kernel takes a little more, and less of one part
MAX_FILE_NAME = 240

#: What Ansible only warns of and a tool that changes networks must not: half an inventory, a pattern that fits nothing.
STRICT = {
    "ANSIBLE_INVENTORY_UNPARSED_FAILED": "1",
    "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1",
    "ANSIBLE_HOST_PATTERN_MISMATCH": "error",
    "ANSIBLE_DUPLICATE_YAML_DICT_KEY": "error",
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_FORCE_COLOR": "0",
}

_SAID = re.compile(r"\[(?:ERROR|WARNING)\]: (.*)|(Origin: .*)|(Failed to parse inventory: .*)")
_MISMATCH = re.compile(r"Could not match supplied host pattern, ignoring: (\S+)")


def known_inventories(cwd: Path | None = None) -> list[str]:
    """Return the names below ``inventories/`` that ``--inventory NAME`` finds."""
    directory = (cwd or Path.cwd()) / "inventories"
    if not directory.is_dir():
        return []
    names = {p.name if p.is_dir() else p.stem for p in directory.iterdir() if p.is_dir() or p.suffix in SUFFIXES}
    return sorted(name for name in names if not name.startswith("."))


def find_inventory(name: str, cwd: Path | None = None) -> str:
    """Return an inventory as ``ansible-inventory -i`` takes it: an absolute path, or a host list ``h1,h2,``.

    Args:
        name: a name below ``inventories/``, a path, or a host list (it holds a comma).
        cwd: where to start from (default: the current directory).

    Raises:
        UsageError: there is no such inventory; says which there are.
    """
    here = cwd or Path.cwd()
    if "," in name:
        return _host_list(name)
    for candidate in _candidates(name, here):
        if candidate.exists():
            return str(candidate.absolute())
    known = known_inventories(here)
    near = difflib.get_close_matches(name, known, 1)
    raise UsageError(
        f"there is no inventory {one_line(name)!r}",
        f"inventories/ has {', '.join(known)}" if known else "there is no inventories/ directory here with any in it",
        f"tune-nodes --inventory {near[0]}" if near else f"give a path, or one host as {one_line(name) or 'host'},",
    )


def _candidates(name: str, here: Path) -> Iterator[Path]:
    if not name.isprintable() or not 0 < len(name.encode()) < MAX_PATH:
        return
    if max(len(part.encode()) for part in name.split("/")) > MAX_FILE_NAME:
        return
    yield from (here / "inventories" / f"{name}{suffix}" for suffix in SUFFIXES)
    with contextlib.suppress(RuntimeError):  # ~ of nobody
        yield here / Path(name).expanduser()


def _host_list(text: str) -> str:
    hosts = [host.strip() for host in text.split(",") if host.strip()]
    twice = sorted({host for host in hosts if hosts.count(host) > 1})
    if not hosts:
        raise UsageError("the host list is empty", "it holds commas only", "tune-nodes --inventory n1,n2,")
    if twice:
        raise UsageError(f"{twice[0]} is named twice in the host list", next="name each node once")
    return ",".join(hosts) + ","


@contextlib.contextmanager
def _password_pipe(password: str | None) -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """Yield the arguments and descriptors that hand a vault password over without writing it anywhere."""
    if password is None:
        yield [], ()
        return
    reader, writer = os.pipe()
    try:
        os.write(writer, password.encode() + b"\n")
        os.close(writer)
        yield [f"--vault-password-file=/dev/fd/{reader}"], (reader,)
    finally:
        os.close(reader)


def without_kubeconfig(sources: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return what keeps Ansible from reading a ``kubeconfig`` beside an inventory's files as one of them.

    Only set where there is one: it takes the place of ``inventory.ignore_patterns`` in an ansible.cfg.
    """
    name = "ANSIBLE_INVENTORY_IGNORE_REGEX"
    if not any((Path(source) / "kubeconfig").is_file() for source in sources if "," not in source):
        return {}
    return {name: ",".join(part for part in (environ.get(name, ""), "^kubeconfig$") if part)}


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    chosen = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or ""
    # Ansible refuses to start in any other encoding, and cron jobs have none.
    locale = {} if chosen.lower().replace("-", "").endswith("utf8") else {"LC_ALL": "C.UTF-8"}
    return {**env, **STRICT, **locale}


def command(sources: Sequence[str], limit: str = "", args: Sequence[str] = ()) -> list[str]:
    """Return the argument list of ``ansible-inventory`` (pure)."""
    argv = [str(collection.scripts() / "ansible-inventory"), "--list"]
    argv += [f"--inventory={source}" for source in sources]
    if limit:
        argv.append(f"--limit={limit}")
    return [*argv, *args]


def _run(
    argv: list[str], env: Mapping[str, str], timeout: float, cwd: Path | None, fds: tuple[int, ...]
) -> tuple[int, str, str]:
    """Run a program in a session of its own, so that on a timeout or an interrupt its scripts end with it."""
    try:
        process = subprocess.Popen(
            argv,
            env=dict(env),
            cwd=cwd,
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as err:
        raise TuneError(f"cannot start {argv[0]}", err.strerror or str(err), "tune-nodes doctor") from err
    with process:
        try:
            out, err_text = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as err:
            raise TuneError(
                f"the inventory was not read within {timeout:g} s",
                "a dynamic source that hangs, or a larger timeouts.inventory is needed",
                " ".join(["ansible-inventory", "--list", *(a for a in argv if a.startswith("--inventory="))]),
            ) from err
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out, err_text


def _said(stderr: str) -> str:
    """Return what Ansible said, without the excerpts of files that it shows (they may hold secrets)."""
    lines = []
    for line in stderr.splitlines():
        found = _SAID.match(line.strip())
        text = next((part for part in found.groups() if part), "") if found else ""
        if text and text not in lines:
            lines.append(one_line(text))
    return "; ".join(lines[:6])


def _failure(sources: Sequence[str], limit: str, stderr: str) -> UsageError:
    said = _said(stderr)
    missed = _MISMATCH.search(stderr)
    if missed and limit:
        return UsageError(
            f"--limit {one_line(limit)}: {one_line(missed.group(1))} matches no node or group", next="see -l in --help"
        )
    shown = ", ".join(one_line(source) for source in sources)
    vaulted = "vault" in said.lower()
    step = "give --vault-password-file or -J" if vaulted else f"ansible-inventory -i {shown} --list"
    return UsageError(f"the inventory {shown} cannot be read", said or "ansible-inventory failed", step)


def read_inventory(
    names: Sequence[str],
    limit: str = "",
    *,
    args: Sequence[str] = (),
    vault_password: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
    cwd: Path | None = None,
) -> Inventory:
    """Read inventories as Ansible does.

    Args:
        names: what the user gave with ``-i``, each looked up by :func:`find_inventory`.
        limit: Ansible's host pattern; hosts, groups, globs, ``&``, ``!``, ``~regex``, ``@file``.
        args: further arguments of ``ansible-inventory`` (``--vault-id``, ``--vault-password-file``, ``-e``).
        vault_password: handed over through a pipe.
        env: environment to run in (default: this process's with our collection path).
        timeout: seconds, dynamic sources included.
        cwd: where relative names start.

    Raises:
        UsageError: no such inventory, unreadable, partly unreadable, empty, a limit that matches nothing, the
            same machine under two names.
        TuneError: ``ansible-inventory`` cannot be started or does not end in time.
    """
    if not names:
        known = known_inventories(cwd)
        why = f"inventories/ has {', '.join(known)}" if known else ""
        raise UsageError("no inventory given", why, f"tune-nodes --inventory {known[0] if known else 'PATH'}")
    sources = [find_inventory(name, cwd) for name in names]
    base = {**os.environ, **collection.environment(cwd=cwd)} if env is None else env
    environment = {**_environment(base), **without_kubeconfig(sources, base)}
    with _password_pipe(vault_password) as (password_args, fds):
        argv = command(sources, limit, [*args, *password_args])
        code, out, err_text = _run(argv, environment, timeout, cwd, fds)
    if code != 0:
        raise _failure(sources, limit, err_text)
    return parse_inventory(out, sources, limit, _said(err_text))
