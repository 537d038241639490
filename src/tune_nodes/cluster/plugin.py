"""Credentials from a program that the kubeconfig names (``exec``): run by us, with a time limit and without a terminal.

The protocol: https://kubernetes.io/docs/reference/config-api/client-authentication.v1/
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tune_nodes.cluster.errors import UNAUTHORIZED, ClusterError, KubeconfigError
from tune_nodes.cluster.kubeconfig import Context
from tune_nodes.fleet.untrusted import one_line

#: Seconds that a program may take: some ask a service on the network.
LIMIT = 30
VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


@dataclass(frozen=True)
class Credential:
    """What a program gave. ``expires``: seconds of the epoch, None where it does not say."""

    token: str = ""
    certificate: str = ""
    key: str = ""
    expires: float | None = None


def run_plugin(context: Context, limit: float = LIMIT) -> Credential:
    """Run the program of a context's user.

    Raises:
        KubeconfigError: there is no such program, or its entry in the file is broken.
        ClusterError: it failed, hung, or gave no credential (code unauthorized).
    """
    spec = context.user.get("exec")
    if not isinstance(spec, dict) or not isinstance(spec.get("command"), str) or spec.get("apiVersion") not in VERSIONS:
        raise KubeconfigError(
            f"{context.file}: the exec entry of the context {one_line(context.name)!r} cannot be used",
            f"it needs a command, and an apiVersion that is {' or '.join(VERSIONS)}",
        )
    shown = one_line(spec["command"], 80)
    if spec.get("interactiveMode") == "Always":
        raise KubeconfigError(
            f"{shown} of the context {one_line(context.name)!r} wants a terminal, and is given none",
            "its interactiveMode is Always",
            "use a context with a token, such as that of a ServiceAccount",
        )
    code, out, said = _run(_argv(context, spec), _environment(context, spec), shown, limit, spec)
    if code != 0:
        raise _failed(context, shown, f"it ended with {code}: {one_line(said, 200) or 'it said nothing'}")
    return _parse(context, shown, str(spec["apiVersion"]), out)


def _argv(context: Context, spec: Mapping[str, Any]) -> list[str]:
    command = spec["command"]
    # As kubectl: a path starts from the file's directory, a bare name is looked for in PATH.
    program = str(context.path(command)) if "/" in command else command
    args = spec.get("args")
    return [program, *(str(arg) for arg in args or ())] if isinstance(args, list | None) else [program]


def _environment(context: Context, spec: Mapping[str, Any]) -> dict[str, str]:
    env = dict(os.environ)
    entries = spec.get("env")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            env[entry["name"]] = str(entry.get("value", ""))
    info: dict[str, Any] = {
        "apiVersion": spec["apiVersion"],
        "kind": "ExecCredential",
        "spec": {"interactive": False},
    }
    if spec.get("provideClusterInfo"):
        kept = ("server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data", "proxy-url")
        info["spec"]["cluster"] = {key: context.cluster[key] for key in kept if key in context.cluster}
    env["KUBERNETES_EXEC_INFO"] = json.dumps(info)
    return env


def _run(
    argv: list[str], env: Mapping[str, str], shown: str, limit: float, spec: Mapping[str, Any]
) -> tuple[int, str, str]:
    """Run a program in a session of its own, so that what it starts ends with it when the time is over."""
    if shutil.which(argv[0], path=env.get("PATH")) is None:
        hint = spec.get("installHint")
        raise KubeconfigError(
            f"the kubeconfig wants {shown} for its credentials, which is not here",
            one_line(hint, 300) if isinstance(hint, str) else "",
            f"install {shown}, or use a context with a token",
        )
    try:
        process = subprocess.Popen(
            argv,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except (OSError, ValueError) as err:
        raise KubeconfigError(f"{shown} cannot be started", getattr(err, "strerror", "") or "") from err
    with process:
        try:
            out, said = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired as err:
            raise ClusterError(
                UNAUTHORIZED, f"{shown} gave no credentials within {limit:g} s", "it hangs, or waits for an answer"
            ) from err
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out, said


def _failed(context: Context, shown: str, why: str) -> ClusterError:
    return ClusterError(
        UNAUTHORIZED,
        f"{shown} gave no credentials for the context {one_line(context.name)!r}",
        why,
        "log in again, then: tune-nodes doctor --cluster",
    )


def _parse(context: Context, shown: str, version: str, out: str) -> Credential:
    try:
        document = json.loads(out)
    except (ValueError, RecursionError):
        raise _failed(context, shown, "its answer is not JSON") from None
    status = document.get("status") if isinstance(document, dict) else None
    if not isinstance(status, dict) or document.get("apiVersion") != version:
        raise _failed(context, shown, f"its answer is not an ExecCredential of {version}")
    token, certificate, key = (
        status.get(name) if isinstance(status.get(name), str) else ""
        for name in ("token", "clientCertificateData", "clientKeyData")
    )
    if not token and not (certificate and key):
        raise _failed(context, shown, "its answer has neither a token nor a certificate")
    return Credential(str(token), str(certificate), str(key), _epoch(status.get("expirationTimestamp")))


def _epoch(value: object) -> float | None:
    try:
        return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None
