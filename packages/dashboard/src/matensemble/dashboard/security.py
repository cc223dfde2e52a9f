"""Who may ask, and what a browser may do with the answer.

Owns the token, the list of allowed hosts, the checks before any route and the headers on every
answer. They stand in one place in front of the routes, so that no route can forget them. The page
itself needs no token: it holds nothing. Everything under ``/api/`` does.

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

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

API_PREFIX = "/api/"
ASSETS_PREFIX = "/assets/"
ALLOWED_METHODS = ("GET", "POST")
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
        if not request.url.path.startswith(API_PREFIX):
            return None
        if _is_foreign(request):
            return problem(HTTPStatus.FORBIDDEN, "The request came from another page.")
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
        # A browser sends cookies on its own; what changes something needs the header as well.
        return request.method == "GET" and self._matches(request.cookies.get(self.cookie, ""))

    def _matches(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.token.encode())

    def start_session(self, response: Response) -> None:
        """Put the session cookie on a response.

        It is not marked ``Secure``, because the dashboard is reached over plain HTTP on loopback.
        """
        response.set_cookie(
            self.cookie,
            self.token,
            path=API_PREFIX,
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

        async def send_dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                headers.update(SECURITY_HEADERS)
                headers["cache-control"] = _cache_rule(scope["path"], message["status"])
                message["headers"] = headers.raw
            await send(message)

        refusal = self._access.refuse(Request(scope))
        await (refusal or self._app)(scope, receive, send_dressed)


def problem(status: HTTPStatus, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an answer that says why there is no other (`schemas.Problem`)."""
    return JSONResponse(
        {"title": status.phrase, "detail": detail}, status_code=status, headers=headers
    )


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
