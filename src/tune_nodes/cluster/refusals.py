"""What went wrong between us and an API server, as what, why and next. No header or body of ours gets in here."""

from __future__ import annotations

import json
import re
from typing import Any

from tune_nodes.cluster.call import Call
from tune_nodes.cluster.errors import (
    CONFLICT,
    FORBIDDEN,
    NOT_FOUND,
    SERVER,
    UNAUTHORIZED,
    UNREACHABLE,
    ClusterError,
)
from tune_nodes.fleet.untrusted import one_line

DOCTOR = "tune-nodes doctor --cluster"
#: Longest wait, in seconds, that a server may ask for.
MAX_RETRY_AFTER = 60
_CODES = {404: NOT_FOUND, 409: CONFLICT, 410: NOT_FOUND}
_USER = re.compile(r'User "([^"]{1,300})"')


class Refused(ClusterError):
    """The server answered with an error. ``status``: of HTTP; ``message`` and ``reasons``: the server's own words.

    ``retry_after``: seconds that it asks us to wait, 0 where it does not.
    """

    def __init__(self, error: ClusterError, status: int, message: str = "", reasons: tuple[str, ...] = ()) -> None:
        super().__init__(error.code, error.what, error.why, error.next)
        self.retry_after = 0.0
        self.status = status
        self.message = message
        self.reasons = reasons


def refused(call: Call, status: int, body: bytes, server: str, context: str, kind: str) -> Refused:
    """Return the error for an answer that is not a success.

    Args:
        call: what was asked.
        status: of HTTP.
        body: the answer, a Status object as a rule.
        server: for the message.
        context: for the message.
        kind: of the credentials: "token", "client certificate", "password" or "".
    """
    message, reasons = _status(body)
    if status == 401:
        error = _unauthorized(context, kind)
    elif status == 403:
        error = _forbidden(call, message, context, kind)
    elif status in _CODES:
        error = ClusterError(_CODES[status], f"the API server would not {call}", message or f"it answered {status}")
    elif message:
        error = ClusterError(SERVER, f"the API server could not {call}", f"{status}: {message}", DOCTOR)
    else:
        error = not_an_api_server(server, f"it answered {status} without a word of why")
    return Refused(error, status, message, reasons)


def seconds_of(header: str | None) -> float:
    """Return the seconds of a Retry-After header, bounded; 0 for anything but a number (pure)."""
    if not (header and header.isascii() and header.isdigit()):
        return 0.0
    return float(min(int(header[:6]), MAX_RETRY_AFTER))


def not_an_api_server(server: str, why: str) -> ClusterError:
    """Return the error for an answer that no API server gives."""
    return ClusterError(SERVER, f"what answers at {one_line(server)} is not a working API server", why, DOCTOR)


def _status(body: bytes) -> tuple[str, tuple[str, ...]]:
    """Return the message of a Status object, and the words of its details."""
    try:
        status: Any = json.loads(body)
    except (ValueError, RecursionError):
        return "", ()
    if not isinstance(status, dict) or status.get("kind") != "Status":
        return "", ()
    message = status.get("message")
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    found = [status.get("reason")]
    for cause in causes if isinstance(causes, list) else ():
        found += [cause.get("reason"), cause.get("message")] if isinstance(cause, dict) else []
    words = tuple(one_line(word, 300) for word in found if isinstance(word, str) and word)
    return one_line(message, 400) if isinstance(message, str) else "", words


def _unauthorized(context: str, kind: str) -> ClusterError:
    shown = one_line(context)
    if not kind:
        return ClusterError(
            UNAUTHORIZED, f"the context {shown} has no credentials, and the server takes nobody without", next=DOCTOR
        )
    return ClusterError(
        UNAUTHORIZED,
        f"the {kind} of the context {shown} was refused",
        "it has expired or was revoked, or is for another cluster",
        f"get a new one (log in again, or kubectl create token), then: {DOCTOR}",
    )


def _forbidden(call: Call, message: str, context: str, kind: str) -> ClusterError:
    user = _USER.search(message)
    who = one_line(user[1], 200) if user else f"the user of the context {one_line(context)}"
    why = "the context has no credentials" if not kind else message or "the server does not say why"
    return ClusterError(FORBIDDEN, f"{who} may not {call}", why, DOCTOR)


def unreached(problem: Exception, server: str, seconds: float) -> ClusterError:
    """Return the error for a connection that failed.

    Args:
        problem: of urllib3, or of the socket beneath it.
        server: "https://192.0.2.10:6443".
        seconds: the time limit that was set.
    """
    import urllib3.exceptions as kinds

    shown = one_line(server)
    if isinstance(problem, kinds.ProxyError):
        return _no_way(f"the proxy to {shown} does not work", _errno(problem.original_error))
    if isinstance(problem, kinds.SSLError):
        return _no_trust(shown, one_line(str(problem)))
    if isinstance(problem, kinds.NameResolutionError):
        return _no_way(f"the name of the API server {shown} is not known", "DNS has no address for it")
    if isinstance(problem, kinds.NewConnectionError):
        return _no_way(f"the API server {shown} cannot be reached", _errno(problem))
    if isinstance(problem, kinds.TimeoutError | TimeoutError):
        return _no_way(f"the API server {shown} does not answer", f"nothing came within {seconds:g} s")
    return _no_way(f"the connection to the API server {shown} broke", _errno(problem))


def _no_way(what: str, why: str) -> ClusterError:
    return ClusterError(UNREACHABLE, what, why, DOCTOR)


def _no_trust(shown: str, said: str) -> ClusterError:
    found = re.search(r"certificate verify failed: ([^(]{3,100})", said)
    if found:
        why = f"its certificate cannot be trusted: {found[1].strip()}"
        step = "check certificate-authority in the kubeconfig: it may be that of another cluster"
        return ClusterError(UNREACHABLE, f"the API server {shown} is not the one it should be", why, step)
    if "match" in said:
        step = "use a name or address that its certificate has, or set tls-server-name in the kubeconfig"
        return ClusterError(UNREACHABLE, f"the API server {shown} is not the one it should be", one_line(said), step)
    return ClusterError(UNREACHABLE, f"no TLS with the API server {shown}", said, DOCTOR)


def _errno(problem: BaseException) -> str:
    """Return the operating system's word for it, which stands somewhere beneath."""
    beneath: BaseException | None = problem
    for _ in range(6):
        if isinstance(beneath, OSError) and beneath.strerror:
            return beneath.strerror.lower()
        nested = [arg for arg in getattr(beneath, "args", ()) if isinstance(arg, BaseException)]
        beneath = (nested[0] if nested else None) or getattr(beneath, "__cause__", None)
        if beneath is None:
            break
    return one_line(str(problem).rpartition(": ")[2], 150)
