"""The wire to one API server: requests with time limits, pages, watches. Objects stay plain JSON.

The kubernetes client gives credentials, TLS and proxies. Its typed objects are not used: 5,000 nodes take it seconds,
and one object with a field missing would fail the whole list.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tune_nodes.cluster import refusals
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.errors import NOT_FOUND, UNREACHABLE, ClusterError, KubeconfigError
from tune_nodes.cluster.kubeconfig import Context, read_context
from tune_nodes.cluster.login import AGENT, Login, log_in

#: Objects in one page of a list.
PAGE = 500
#: Pages of one list: a million objects.
MAX_PAGES = 2000
#: Bytes of one answer; a page of 500 large nodes is 15 MB.
MAX_BYTES = 128 * 1024 * 1024
MAX_LINE = 4 * 1024 * 1024
#: How many time limits one whole answer may take, beyond that of each read.
PATIENCE = 6
#: Seconds to wait before a call that only reads is made again.
RETRIES = (0.3, 1.0)
_AGAIN = (429, 500, 502, 503, 504)
MERGE_PATCH = "application/merge-patch+json"
#: Of server-side apply; JSON is YAML.
APPLY_PATCH = "application/apply-patch+yaml"
#: Of a request that the server checks to the end and then does not keep.
DRY_RUN = {"dryRun": "All"}


@dataclass(frozen=True)
class _Ask:
    """What is sent. ``path``: instead of the call's own; ``read``: seconds of silence allowed, 0 for the usual."""

    method: str
    query: Mapping[str, str] | None = None
    body: Mapping[str, Any] | None = None
    content: str = "application/json"
    path: str = ""
    read: float = 0


class Api:
    """One context of a kubeconfig. Every method raises ClusterError; safe to use from several threads.

    ``sent`` counts requests by method; ``throttled`` the answers 429.
    """

    def __init__(self, kubeconfig: Path, context: str = "", timeout: float = 10) -> None:
        self.kubeconfig = kubeconfig
        self.timeout = timeout
        self.context: Context = read_context(kubeconfig, context)
        self._lock = threading.Lock()
        self._login: Login = log_in(self.context)
        self._pool: Any = self._connect(self._login)
        self._spent: list[Login] = []
        self.sent: Counter[str] = Counter()
        self.throttled = 0

    @property
    def server(self) -> str:
        """The server's URL."""
        return self.context.server

    @property
    def kind(self) -> str:
        """Of the credentials: "token", "client certificate", "password" or ""."""
        return self._login.kind

    @property
    def insecure(self) -> bool:
        """Whether the server's certificate is not checked, or there is none."""
        return not self._login.configuration.verify_ssl or not self.server.startswith("https")

    def close(self) -> None:
        """Close the connections and forget the keys."""
        self._pool.clear()
        for login in (self._login, *self._spent):
            login.close()

    @staticmethod
    def _connect(login: Login) -> Any:
        import urllib3
        from kubernetes.client.rest import RESTClientObject

        if not login.configuration.verify_ssl:  # said once, in words, by ``facts`` and ``doctor``
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        try:
            return RESTClientObject(login.configuration).pool_manager
        except (ImportError, ValueError, urllib3.exceptions.HTTPError) as problem:
            # The proxy's URL may hold a password, and so may the problem's text.
            why = "it is a SOCKS proxy, which needs the Python package PySocks"
            raise KubeconfigError(
                "the proxy to the API server cannot be used",
                why if isinstance(problem, ImportError) else "",
                "correct proxy-url in the kubeconfig, or HTTPS_PROXY",
            ) from None

    def _renew(self, used: Login) -> bool:
        """Log in again where that may help; False where it cannot."""
        with self._lock:
            if self._login is not used:
                return True  # another thread has done it
            if not used.renewable:
                return False
            fresh = log_in(self.context)
            self._login, self._pool = fresh, self._connect(fresh)
            self._spent.append(used)  # another thread may be using its keys
        return True

    def get(self, call: Call, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return an object, or one page of a list; tried again where the server or the way to it falters."""
        return self._again(lambda: self._json(call, _Ask("GET", query)))

    def post(
        self, call: Call, body: Mapping[str, Any], query: Mapping[str, str] | None = None, *, safe: bool = False
    ) -> dict[str, Any]:
        """Create an object. ``safe``: it only asks (an access review, a dry run), so that it may be tried again."""

        def once() -> dict[str, Any]:
            return self._json(call, _Ask("POST", query, body))

        return self._again(once) if safe else once()

    def patch(self, call: Call, body: Mapping[str, Any]) -> dict[str, Any]:
        """Merge a patch into an object; never tried again by itself."""
        return self._json(call, _Ask("PATCH", {"fieldManager": AGENT}, body, MERGE_PATCH))

    def apply(self, call: Call, body: Mapping[str, Any], *, force: bool = False, dry: bool = False) -> dict[str, Any]:
        """Apply an object on the server's side, and return it as it is then.

        Args:
            call: what; with a name.
            body: the fields that shall be so; those that we applied before and that are not in it any more go.
            force: also take fields that another manager holds at another value.
            dry: nothing is kept, so that it may be tried again.

        Raises:
            ClusterError: code conflict where others hold fields; each of them stands in ``reasons``.
        """
        query = {"fieldManager": AGENT, "force": "true" if force else "false", **(DRY_RUN if dry else {})}

        def once() -> dict[str, Any]:
            return self._json(call, _Ask("PATCH", query, body, APPLY_PATCH))

        return self._again(once) if dry else once()

    def delete(self, call: Call, uid: str = "", version: str = "") -> dict[str, Any]:
        """Delete an object. Never tried again by itself.

        Args:
            call: what; with a name.
            uid: only the object with this uid, "" for any.
            version: only while its resourceVersion is this, "" for any.

        Raises:
            ClusterError: code conflict where it is another object, or was changed meanwhile; not-found.
        """
        wanted = {"uid": uid, "resourceVersion": version}
        only = {key: value for key, value in wanted.items() if value}
        options = {"apiVersion": "v1", "kind": "DeleteOptions", **({"preconditions": only} if only else {})}
        return self._json(call, _Ask("DELETE", None, options))

    def version(self) -> dict[str, Any]:
        """Return what the server says of its version."""
        return self.read("/version")

    def read(self, path: str) -> dict[str, Any]:
        """Return what a path outside the resources says: ``/version``, ``/apis/GROUP``."""
        return self._again(lambda: self._json(Call("get", path.strip("/")), _Ask("GET", path=path)))

    def pages(self, call: Call, query: Mapping[str, str] | None = None) -> Iterator[dict[str, Any]]:
        """Yield the pages of a list; a list that went stale half-way is begun anew, so that pages may repeat."""
        asked = {"limit": str(PAGE), **(query or {})}
        restarts = 1
        for _ in range(MAX_PAGES):
            try:
                page = self.get(call, asked)
            except refusals.Refused as problem:
                if problem.status != 410 or "continue" not in asked or not restarts:
                    raise
                restarts -= 1
                del asked["continue"]
                continue
            yield page
            metadata = page.get("metadata")
            token = metadata.get("continue") if isinstance(metadata, dict) else None
            if not isinstance(token, str) or not token:
                return
            asked["continue"] = token
        raise refusals.not_an_api_server(self.server, f"a list has more than {MAX_PAGES} pages")

    def items(self, call: Call, query: Mapping[str, str] | None = None) -> Iterator[dict[str, Any]]:
        """Yield the objects of a list."""
        for page in self.pages(call, query):
            yield from members(page)

    def watch(self, call: Call, version: str, seconds: int, silence: float) -> Iterator[dict[str, Any]]:
        """Yield the events after a resource version until the server ends the watch.

        Args:
            call: what is watched.
            version: the list's resourceVersion, or that of the last event.
            seconds: after which the server ends it.
            silence: seconds without a byte after which the connection counts as dead.

        Raises:
            ClusterError: code not-found where the version is too old: list again.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        response = self._response(call, _Ask("GET", query, read=silence))
        try:
            for event in self._lines(response):
                if event.get("type") == "ERROR":
                    raise self._watch_error(call, event)
                yield event
        finally:
            response.close()

    def _watch_error(self, call: Call, event: Mapping[str, Any]) -> ClusterError:
        status = event.get("object")
        code = status.get("code") if isinstance(status, dict) else None
        if code == 410:
            return ClusterError(NOT_FOUND, f"the API server could not {call}", "the version watched from is too old")
        body = json.dumps(status).encode()
        number = code if isinstance(code, int) else 500
        return refusals.refused(call, number, body, self.server, self.context.name, self.kind)

    def _lines(self, response: Any) -> Iterator[dict[str, Any]]:
        rest = b""
        for part in self._parts(response):
            *lines, rest = (rest + part).split(b"\n")
            if len(rest) > MAX_LINE:
                raise refusals.not_an_api_server(self.server, "one event is larger than 4 MiB")
            yield from (self._parsed(line) for line in lines if line.strip())
        if rest.strip():
            yield self._parsed(rest)

    def _parts(self, response: Any) -> Iterator[bytes]:
        """Yield an answer's bytes as they come, with the errors of the wire translated."""
        import urllib3.exceptions as kinds

        try:
            while part := response.read1(1 << 16):
                yield part
        except (kinds.HTTPError, OSError) as problem:
            raise refusals.unreached(problem, self.server, self.timeout) from problem

    def _again(self, once: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        for pause in RETRIES:
            started = time.monotonic()
            try:
                return once()
            except ClusterError as problem:
                quick = time.monotonic() - started < self.timeout / 2  # a server that hangs is not asked thrice
                if not (quick and _passing(problem)):
                    raise
                asked = problem.retry_after if isinstance(problem, refusals.Refused) else 0
            time.sleep(max(pause, asked))
        return once()

    def _json(self, call: Call, ask: _Ask) -> dict[str, Any]:
        response = self._response(call, ask)
        try:
            return self._parsed(self._whole(response))
        finally:
            response.release_conn()

    def _whole(self, response: Any) -> bytes:
        """Return an answer's body; a drip of bytes does not hold us up for ever."""
        deadline = time.monotonic() + self.timeout * PATIENCE
        found = bytearray()
        for part in self._parts(response):
            found += part
            if len(found) > MAX_BYTES:
                response.close()
                raise refusals.not_an_api_server(self.server, f"an answer is larger than {MAX_BYTES >> 20} MiB")
            if time.monotonic() > deadline:
                response.close()
                raise refusals.unreached(TimeoutError(), self.server, self.timeout * PATIENCE)
        return bytes(found)

    def _parsed(self, body: bytes) -> dict[str, Any]:
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            raise refusals.not_an_api_server(self.server, "its answer is not JSON") from None
        if not isinstance(value, dict):
            raise refusals.not_an_api_server(self.server, "its answer is not an object")
        return value

    def _response(self, call: Call, ask: _Ask) -> Any:
        """Return an answer whose status is a success, its body not read yet."""
        url = f"{self.server}{ask.path or call.path}" + (f"?{urlencode(ask.query)}" if ask.query else "")
        if self._login.stale:
            self._renew(self._login)
        login = self._login
        response = self._send(url, ask)
        if response.status == 401 and self._renew(login):
            response.close()
            response = self._send(url, ask)
        if 200 <= response.status < 300:
            return response
        try:
            said = self._whole(response)
        finally:
            response.release_conn()
        problem = refusals.refused(call, response.status, said, self.server, self.context.name, self.kind)
        problem.retry_after = refusals.seconds_of(response.headers.get("Retry-After"))
        raise problem

    def _send(self, url: str, ask: _Ask) -> Any:
        import urllib3

        headers = urllib3.HTTPHeaderDict({"Accept": "application/json", "User-Agent": AGENT})
        for name, value in self._login.headers:
            headers.add(name, value)
        data = json.dumps(ask.body) if ask.body is not None else None
        if data is not None:
            headers["Content-Type"] = ask.content
        for setting in self._login.configuration.auth_settings().values():
            headers[setting["key"]] = setting["value"]
        limit = urllib3.Timeout(connect=self.timeout, read=ask.read or self.timeout)
        try:
            # Redirects are not followed: the credentials are for this server only.
            response = self._pool.request(
                ask.method,
                url,
                body=data,
                headers=headers,
                timeout=limit,
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as problem:
            raise refusals.unreached(problem, self.server, self.timeout) from problem
        with self._lock:
            self.sent[ask.method] += 1
            self.throttled += response.status == 429
        return response


def _passing(problem: ClusterError) -> bool:
    """Say whether an error may be over in a moment."""
    return problem.status in _AGAIN if isinstance(problem, refusals.Refused) else problem.code == UNREACHABLE


def members(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the objects of a list's page; anything else in it is left out (pure)."""
    items = page.get("items")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
