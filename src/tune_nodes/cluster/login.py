"""From a context of a kubeconfig to the kubernetes client's configuration, secrets kept off the disk."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import ssl
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tune_nodes.cluster.errors import KubeconfigError
from tune_nodes.cluster.kubeconfig import Context
from tune_nodes.cluster.plugin import run_plugin
from tune_nodes.fleet.untrusted import one_line

#: Seconds before its end at which a credential is fetched anew.
EARLY = 60
#: What the API server is told, so that its audit log names us.
AGENT = "tune-nodes"


@dataclass
class Login:
    """Who we are to the server.

    Args:
        configuration: the client's ``Configuration``.
        kind: "token", "client certificate", "password" or "" for nobody; for messages.
        headers: those of a user that acts for another (``as``).
        renewable: whether reading again may give other credentials.
        expires: seconds of the epoch, None where unknown.
        since: when it was made, likewise.
        files: those that hold keys; gone when it is closed.
    """

    configuration: Any
    kind: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    renewable: bool = False
    expires: float | None = None
    since: float = field(default_factory=time.time)
    files: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def stale(self) -> bool:
        """Whether the credentials end within a minute and others can be had; those just got are used in any case."""
        now = time.time()
        return self.renewable and self.expires is not None and self.expires - EARLY < now > self.since + EARLY

    def close(self) -> None:
        """Forget the keys."""
        self.files.close()


def log_in(context: Context) -> Login:
    """Return the client's configuration for a context.

    Raises:
        KubeconfigError: a certificate, key or token file is missing or broken, or the way of logging in is unknown.
        ClusterError: the program that gives credentials failed.
    """
    login = Login(configuration=None, kind="", headers=_impersonation(context))
    try:
        user = _user(context, login)
        cluster = _cluster(context, login)
        if "client-certificate" in user:
            _check_pair(context, user["client-certificate"], user["client-key"])
        login.configuration = _configuration(context, cluster, user)
    except BaseException:
        login.close()
        raise
    return login


def _cluster(context: Context, login: Login) -> dict[str, Any]:
    """Return the entry that the client's own loader takes, with paths in place of data."""
    given = context.cluster
    cluster: dict[str, Any] = {"server": context.server}
    for key in ("tls-server-name", "proxy-url"):
        if given.get(key):
            if not isinstance(given[key], str):
                raise _wrong(context, f"has a {key} that is no text")
            cluster[key] = given[key]
    if given.get("insecure-skip-tls-verify") is True:
        cluster["insecure-skip-tls-verify"] = True
    elif authority := _file(context, given, "certificate-authority", login):
        _check_authority(context, authority)
        cluster["certificate-authority"] = authority
    return cluster


def _user(context: Context, login: Login) -> dict[str, Any]:
    """Return the entry that the client's own loader takes: a token, a password or paths; and say of what kind it is."""
    given = context.user
    token = given.get("token")
    if isinstance(given.get("tokenFile"), str):
        login.renewable = True  # another program renews the file
        token = _read(context, context.path(given["tokenFile"]), "token file").strip()
    if isinstance(given.get("exec"), dict) and not token:
        return _from_plugin(context, login)
    if "auth-provider" in given and not token:
        token = _from_provider(context)
    certificate = _file(context, given, "client-certificate", login)
    key = _file(context, given, "client-key", login)
    if bool(certificate) != bool(key):
        raise _wrong(context, "has a client certificate without its key, or a key without its certificate")
    user: dict[str, Any] = {"client-certificate": certificate, "client-key": key} if certificate and key else {}
    login.kind = "client certificate" if user else ""
    if isinstance(token, str) and token:
        login.kind = "token"
        user["token"] = _sendable(context, token)
    elif isinstance(given.get("username"), str) and isinstance(given.get("password"), str):
        login.kind = "password"
        user |= {"username": given["username"], "password": given["password"]}
    return user


def _from_plugin(context: Context, login: Login) -> dict[str, Any]:
    credential = run_plugin(context)
    login.renewable, login.expires = True, credential.expires
    login.kind = "token" if credential.token else "client certificate"
    user: dict[str, Any] = {"token": _sendable(context, credential.token)} if credential.token else {}
    if credential.certificate and credential.key:
        user["client-certificate"] = _in_memory(credential.certificate.encode(), login)
        user["client-key"] = _in_memory(credential.key.encode(), login)
    return user


def _sendable(context: Context, token: str) -> str:
    """Return a token that fits into a header; the HTTP library's own complaint would print it."""
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise _wrong(context, "has a token with characters that no token has")
    return token


def _from_provider(context: Context) -> object:
    """Return the token that kubectl keeps in the file for OpenID Connect; kubectl renews it, we do not."""
    provider = context.user["auth-provider"]
    settings = provider.get("config") if isinstance(provider, dict) else None
    token = settings.get("id-token") if isinstance(settings, dict) and provider.get("name") == "oidc" else None
    if not token:
        raise _wrong(context, "logs in by an auth-provider that is not known here (oidc with an id-token is)")
    return token


def _impersonation(context: Context) -> list[tuple[str, str]]:
    """Return the headers of a user that acts for another: without them we would act with more rights than meant."""
    user = context.user
    names = ("Impersonate-User", user.get("as")), ("Impersonate-Uid", user.get("as-uid"))
    headers = [(name, value) for name, value in names if isinstance(value, str) and value]
    groups = user.get("as-groups")
    headers += [("Impersonate-Group", str(group)) for group in (groups if isinstance(groups, list) else ())]
    if any(not value.isprintable() for _, value in headers):
        raise _wrong(context, "acts for a user whose name cannot be sent")
    return headers


def _wrong(context: Context, why: str, next: str = "") -> KubeconfigError:
    return KubeconfigError(
        f"the kubeconfig {context.file} cannot be used", f"its context {one_line(context.name)!r} {why}", next
    )


def _read(context: Context, path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        why = getattr(err, "strerror", "") or "not text"
        raise _wrong(context, f"names the {what} {one_line(str(path))}, which cannot be read: {why}") from None


def _file(context: Context, entry: Any, key: str, login: Login) -> str:
    """Return a path to what a key of the file gives as data or as a path; "" where it gives neither."""
    data, path = entry.get(f"{key}-data"), entry.get(key)
    if isinstance(data, str) and data:
        try:
            return _in_memory(base64.b64decode(data, validate=True), login)
        except (binascii.Error, ValueError):
            raise _wrong(context, f"has a {key}-data that is not base64") from None
    if isinstance(path, str) and path:
        full = context.path(path)
        if not full.is_file():
            raise _wrong(context, f"names the {key} {one_line(str(full))}, which does not exist")
        return str(full)
    return ""


def _in_memory(content: bytes, login: Login) -> str:
    """Return a path to a file that ends with this process: OpenSSL takes certificates and keys from files only."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("tune-nodes")
        name = f"/proc/self/fd/{descriptor}"
    else:  # not on Linux: a file that only its owner reads
        descriptor, name = tempfile.mkstemp(prefix="tune-nodes-")
        login.files.callback(os.unlink, name)
    handle: IO[bytes] = login.files.enter_context(os.fdopen(descriptor, "wb"))
    handle.write(content)
    handle.flush()
    return name


def _check_authority(context: Context, path: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (ssl.SSLError, OSError):
        raise _wrong(context, "has a certificate-authority that is not a certificate") from None


def _check_pair(context: Context, certificate: str, key: str) -> None:
    def no_password() -> str:
        return ""  # else OpenSSL would ask on the terminal

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, no_password)
    except (ssl.SSLError, OSError):
        why = "has a client certificate and a key that do not fit, are broken, or want a password"
        raise _wrong(context, why) from None


def _configuration(context: Context, cluster: dict[str, Any], user: dict[str, Any]) -> Any:
    # Loading the client takes a quarter of a second, which a run without a cluster does not pay.
    from kubernetes.client import Configuration
    from kubernetes.config import ConfigException, load_kube_config_from_dict

    document = {
        "current-context": "context",
        "contexts": [{"name": "context", "context": {"cluster": "cluster", "user": "user"}}],
        "clusters": [{"name": "cluster", "cluster": cluster}],
        "users": [{"name": "user", "user": user}],
    }
    configuration = Configuration()
    try:
        load_kube_config_from_dict(document, client_configuration=configuration, persist_config=False)
    except ConfigException as err:
        raise _wrong(context, f"was refused by the client: {one_line(str(err))}") from None
    return configuration
