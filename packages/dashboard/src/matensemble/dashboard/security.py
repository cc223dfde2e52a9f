"""Who may ask, and what a browser may do with the answer.

Owns the token, the list of allowed hosts, the checks before any route, the bounds of what is sent
and the headers on every answer. They stand in one place in front of the routes, so that no route
can forget them. The page itself and its assets need no token: they hold nothing. All else does.

Against whom: other users of a login node (they reach a loopback port, and read command lines and
environments), and web pages in the user's browser (forged requests, DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import re
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

API_PREFIX = "/api/"
ASSETS_PREFIX = "/assets/"
ALLOWED_METHODS = ("GET", "POST")
OWN_HEADER = "x-matensemble"
"""With the value 1 on what changes something: no page of another origin can send it unasked."""
MAX_QUERY_BYTES = 8 * 1024
MAX_HEADER_BYTES = 16 * 1024
"""All headers of a request together."""
MAX_BODY_BYTES = 64 * 1024
MAX_JSON_DEPTH = 16
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; worker-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::\d{1,5})?")


def is_loopback(host: str) -> bool:
    """Tell whether `host` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_wildcard(host: str) -> bool:
    """Tell whether `host` stands for every address of this machine."""
    return host in ("0.0.0.0", "::")


def names_of(host: str) -> frozenset[str]:
    """Return the names under which a server bound to `host` may be asked.

    The port does not count: a tunnel may end at another one.
    """
    if is_wildcard(host):
        name = socket.gethostname().lower()
        return LOOPBACK_NAMES | {name, name.partition(".")[0]}
    return LOOPBACK_NAMES | {host.lower()}


@dataclass(frozen=True, slots=True)
class Access:
    """What a request must show."""

    hosts: frozenset[str] = LOOPBACK_NAMES
    """Names and addresses allowed in the ``Host`` header, lower case, without port."""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    """256 random bits; never in argv, the environment or a log."""
    cookie: str = field(default_factory=lambda: f"matensemble_{secrets.token_hex(4)}")
    """Name of the session cookie; its own for each server, because cookies ignore ports."""

    def refuse(self, request: Request) -> Response | None:
        """Return the refusal of a request, or None if it may go on to its route."""
        if request.method not in ALLOWED_METHODS:
            return problem(
                HTTPStatus.METHOD_NOT_ALLOWED,
                f"{request.method} is not used here.",
                {"allow": ", ".join(ALLOWED_METHODS)},
            )
        if _host_name(request) not in self.hosts:
            return problem(
                HTTPStatus.BAD_REQUEST,
                "The dashboard does not answer under this name. Open the link that was printed "
                "when it started, or start it with --host NAME.",
            )
        refusal = _refuse_size(request)
        if refusal is not None or is_open(route_path(request.scope)):
            return refusal
        return self._refuse_sender(request)

    def _refuse_sender(self, request: Request) -> Response | None:
        if _is_foreign(request):
            return problem(HTTPStatus.FORBIDDEN, "The request came from another page.")
        if request.method != "GET" and request.headers.get(OWN_HEADER) != "1":
            return problem(HTTPStatus.FORBIDDEN, "It needs the header X-MatEnsemble: 1.")
        if not self._is_known(request):
            return problem(
                HTTPStatus.UNAUTHORIZED,
                "Open the link that was printed when the dashboard started; it holds the key.",
                {"www-authenticate": "Bearer"},
            )
        return None

    def _is_known(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._matches(given):
            return True
        # A browser sends it on its own, which `_is_foreign` and the header are there for.
        return self._matches(request.cookies.get(self.cookie, ""))

    def _matches(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.token.encode())

    def start_session(self, response: Response, root_path: str = "") -> None:
        """Put the session cookie on a response.

        It is for the interface below `root_path`, where the application is mounted. It is not
        marked ``Secure``, because the dashboard is reached over plain HTTP on loopback.
        """
        response.set_cookie(
            self.cookie,
            self.token,
            path=quote(root_path) + API_PREFIX,
            httponly=True,
            samesite="strict",
        )


class Guard:
    """ASGI middleware: checks each request against `Access`, dresses each answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it before any route sees it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        path = route_path(scope)  # before the routes change the scope

        async def send_dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                headers.update(SECURITY_HEADERS)
                headers["cache-control"] = _cache_rule(path, message["status"])
                message["headers"] = headers.raw
            await send(message)

        request = Request(scope, receive)
        answer = self._access.refuse(request)
        if answer is None and request.method != "GET":
            try:
                body = await _read_body(request)
            except ClientDisconnect:
                return
            answer = _refuse_body(request, body)
            receive = _again(body, receive)
        await (answer or self._app)(scope, receive, send_dressed)


def problem(status: HTTPStatus, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an answer that says why there is no other (`schemas.Problem`)."""
    return JSONResponse(
        {"title": status.phrase, "detail": detail}, status_code=status, headers=headers
    )


def route_path(scope: Scope) -> str:
    """Return the path of a request below the place where the application is mounted."""
    path, root_path = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path.removeprefix(root_path) if path.startswith(f"{root_path}/") else path


def is_open(path: str) -> bool:
    """Tell whether what stands at a path may be had without the token."""
    return path == "/" or path.startswith(ASSETS_PREFIX)


async def _read_body(request: Request) -> bytes:
    """Return the body, or as much of one that is too large as shows it."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            break
    return body


def _refuse_size(request: Request) -> Response | None:
    if len(request.scope["query_string"]) > MAX_QUERY_BYTES:
        return problem(HTTPStatus.REQUEST_URI_TOO_LONG, "The question is too long.")
    if sum(len(name) + len(value) for name, value in request.headers.raw) > MAX_HEADER_BYTES:
        return problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers are too long.")
    return None


def _refuse_body(request: Request, body: bytes) -> Response | None:
    if len(body) > MAX_BODY_BYTES:
        return problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"More than {MAX_BODY_BYTES:,} bytes: name groups instead of chores.",
        )
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and media_type != "application/json":
        return problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "It is to be JSON (application/json).")
    if _depth(body) > MAX_JSON_DEPTH:
        return problem(HTTPStatus.BAD_REQUEST, "The JSON is nested too deeply.")
    return None


def _depth(text: bytes) -> int:
    """Return how deeply the brackets of a JSON text are nested."""
    depth = deepest = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", text)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what hands over a body that was read already, and then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


def _cache_rule(path: str, status: int) -> str:
    # The names of assets hold a hash of their content.
    if path.startswith(ASSETS_PREFIX) and status < HTTPStatus.BAD_REQUEST:
        return "private, max-age=31536000, immutable"
    return "no-store"


def _host_name(request: Request) -> str | None:
    match = _HOST.fullmatch(request.headers.get("host", "").lower())
    return match and (match[1] or match[2])


def _is_foreign(request: Request) -> bool:
    """Tell whether a page of another origin sent a request.

    Reading needs no origin, since programs send none; what changes something does.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site not in _own_sites(request.method)
    origin = request.headers.get("origin")
    if origin is None:
        return request.method != "GET"
    return origin != f"{request.url.scheme}://{request.headers['host']}"


def _own_sites(method: str) -> Iterable[str]:
    # "none" is an address typed by the user, which can only be a GET.
    return ("same-origin", "none") if method == "GET" else ("same-origin",)
