"""The HTTP side of the port: liveness, readiness, metrics, and whatever routes others register.

Every answer that is no success is the error object of the WebSocket side. Liveness and readiness are open to
everybody, for they say nothing of the content; metrics are open to programs on this machine and need an operator's
token from elsewhere (decision 024).
"""

from collections.abc import Callable, Mapping

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from agentd.clock import Clock
from agentd.edge.auth import Auth, from_this_machine, refuse_token_fields
from agentd.edge.refusal import error_body, wait_headers
from agentd.edge.tokens import Principal
from agentd.protocol.errors import (
    AgentdError,
    Forbidden,
    Internal,
    InvalidPayload,
    NotFound,
    TooLarge,
    Unauthorized,
)

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
NO_STORE = {"cache-control": "no-store"}

log = structlog.get_logger(__name__)


class HttpApp:
    """An ASGI application. Routes are added before the server starts; the first that matches answers."""

    def __init__(
        self, *, ready: Callable[[], list[str]], render: Callable[[], bytes], auth: Auth, clock: Clock
    ) -> None:
        """`ready` gives the reasons why the server is not ready, none when it is; `render` the metrics as text."""
        self._ready = ready
        self._render = render
        self._auth = auth
        self._clock = clock
        self._starlette = Starlette(
            routes=[
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
            ],
            exception_handlers={
                AgentdError: self._refused,
                HTTPException: self._not_served,
                Exception: self._failed,
            },
        )
        self._starlette.router.redirect_slashes = False

    def add(self, *routes: BaseRoute) -> None:
        self._starlette.router.routes.extend(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._starlette(scope, receive, send)
        except Exception:
            # Answered and logged by `_failed`; Starlette raises it again for servers that want to see it.
            return

    def require(self, request: Request, scope: str) -> Principal:
        """The principal of a request that needs `scope`. Raises what `principal` does, and Forbidden."""
        principal = self.principal(request)
        if scope not in principal.scopes:
            raise Forbidden(f"the scope {scope} is needed", details={"required": scope})
        return principal

    def principal(self, request: Request) -> Principal:
        """Whose request it is, after the same checks as an upgrade.

        Raises:
            InvalidPayload: a token in the address. Forbidden: the origin. Unauthorized, Overloaded: the credential.
        """
        headers = request_headers(request)
        refuse_token_fields(request.query_params.keys())
        self._auth.check_origin(headers, secure=request.url.scheme == "https")
        principal = self._auth.bearer(headers, client_address(request))
        if principal is None:
            raise Unauthorized("a token is needed", hint="Send `Authorization: Bearer TOKEN`.")
        return principal

    async def _healthz(self, request: Request) -> Response:
        return json_response({"alive": True})

    async def _readyz(self, request: Request) -> Response:
        reasons = self._ready()
        if reasons:
            return json_response({"ready": False, "reasons": reasons}, status=503, headers={"retry-after": "1"})
        return json_response({"ready": True})

    async def _metrics(self, request: Request) -> Response:
        if not from_this_machine(request_headers(request), client_address(request)):
            self.require(request, "operator")
        return Response(self._render(), headers={**NO_STORE, "content-type": METRICS_TYPE})

    def _refused(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, AgentdError)
        return error_response(error)

    def _not_served(self, request: Request, error: Exception) -> Response:
        """Starlette's own refusals: no such path, not with this method, a body that cannot be read."""
        assert isinstance(error, HTTPException)
        return error_response(_as_agentd(error), status=error.status_code, headers=error.headers)

    def _failed(self, request: Request, error: Exception) -> Response:
        fault = self._clock.new_id("err")
        log.error("http.fault", error_id=fault, path=request.url.path, exc_info=error)
        return error_response(Internal(f"internal error {fault}", hint="The id stands in the server's log."))


def request_headers(request: Request) -> list[tuple[str, str]]:
    """In order, names in lower case, as in `Upgrade`."""
    return request.headers.items()


def client_address(request: Request) -> str:
    return "" if request.client is None else request.client.host


def json_response(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    fields = {**NO_STORE, "content-type": "application/json", **(headers or {})}
    return Response(msgspec.json.encode(value), status_code=status, headers=fields)


def error_response(
    error: AgentdError, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """The error object with its status and the headers that belong to it."""
    status = error.http_status if status is None else status
    fields = {"content-type": "application/json", **NO_STORE, **wait_headers(error, status), **(headers or {})}
    if status == 401:
        fields["www-authenticate"] = "Bearer"
    return Response(error_body(error), status_code=status, headers=fields)


def _as_agentd(error: HTTPException) -> AgentdError:
    if error.status_code == 404:
        return NotFound("there is no such path", kind="path")
    if error.status_code == 405:
        return InvalidPayload("this path does not take that method", path="method")
    if error.status_code == 413:
        return TooLarge("the body is too large", limit=0)
    return InvalidPayload(str(error.detail), path="request")
