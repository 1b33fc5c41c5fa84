"""Who may connect: origin, credential, rate of failures, and what an upgrade's address asks for.

Every check applies on loopback too: a web page open in the user's browser reaches loopback as well as the user does.
Scopes come from the server's own token files and from nowhere else. No message, detail or log line repeats a
credential or the part of an address in which one may stand.
"""

import ipaddress
import math
import re
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

import msgspec

from agentd.clock import Clock
from agentd.edge.door import Upgrade
from agentd.edge.refusal import CREDENTIALS_CAP
from agentd.edge.tokens import Principal, Tokens
from agentd.protocol.errors import Forbidden, InvalidPayload, NotFound, Overloaded, Unauthorized

FAILURES_MAX = 10
FAILURES_WINDOW_S = 60.0
FAILURES_PAIRS_MAX = 4_096
ORIGIN_CHARS_MAX = 512
TOKEN_FIELDS = frozenset(
    {"token", "access_token", "auth_token", "auth", "authorization", "bearer", "key", "api_key", "apikey", "secret"}
)
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_STREAM = re.compile(r"/v1/agents/(.*)/stream", re.DOTALL)
_AGENT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SESSION = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_COUNT = re.compile(r"[0-9]{1,18}")
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_FORWARDED = frozenset({"forwarded", "x-forwarded-for", "x-real-ip"})

Headers = Iterable[tuple[str, str]]


class ConnectRequest(msgspec.Struct, frozen=True):
    """What an upgrade asks for, checked. `principal` is None when no credential came with it: then the first frame
    has to be `connect`, and what needs a scope is checked there."""

    agent: str
    session: str | None
    after: int | None
    log: str | None
    principal: Principal | None
    address: str
    origin: str | None


class FailureLimit:
    """Counts failed credentials of each (address, Origin) in windows of a minute; a bounded table."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pairs: dict[tuple[str, str | None], tuple[float, int]] = {}  # window's end, failures; by window's begin

    def __len__(self) -> int:
        return len(self._pairs)

    def check(self, address: str, origin: str | None) -> None:
        """Raises Overloaded (429) while the pair has used up its failures."""
        ends_s, failures = self._pairs.get((address, origin), (0.0, 0))
        left_s = ends_s - self._clock.monotonic_s()
        if failures >= FAILURES_MAX and left_s > 0:
            raise Overloaded(
                "too many failed credentials",
                hint="Wait, then use a valid token.",
                details={"cap": CREDENTIALS_CAP, "limit": FAILURES_MAX},
                retry_after_ms=math.ceil(left_s * 1000),
            )

    def failed(self, address: str, origin: str | None) -> None:
        now = self._clock.monotonic_s()
        pair = (address, origin)
        ends_s, failures = self._pairs.get(pair, (0.0, 0))
        if ends_s > now:
            self._pairs[pair] = (ends_s, failures + 1)
            return
        self._pairs.pop(pair, None)  # back in at the end, so that the oldest window stays first
        if len(self._pairs) >= FAILURES_PAIRS_MAX:
            del self._pairs[next(iter(self._pairs))]
        self._pairs[pair] = (now + FAILURES_WINDOW_S, 1)


class Auth:
    """The checks of one server, for upgrades, first frames and HTTP requests alike."""

    def __init__(self, tokens: Tokens, clock: Clock, *, origins: Sequence[str] = ()) -> None:
        """`origins`: what pages of other servers may connect from, as `https://host[:port]`.

        Raises:
            ValueError: one of them is no origin.
        """
        self._tokens = tokens
        self._failures = FailureLimit(clock)
        self._origins = frozenset(map(_configured, origins))

    def authenticate(self, token: str, address: str, origin: str | None) -> Principal:
        """Whose credential it is.

        Raises:
            Overloaded: too many failures of this address and origin; a right one is not looked at either.
            Unauthorized: nobody's.
        """
        self._failures.check(address, origin)
        principal = self._tokens.check(token)
        if principal is None:
            self._failures.failed(address, origin)
            raise Unauthorized("the token is not valid", hint="`agentd token add NAME` makes one.")
        return principal

    def bearer(self, headers: Headers, address: str) -> Principal | None:
        """The principal of the `Authorization` header; None without one.

        Raises:
            Overloaded, Unauthorized: as `authenticate`; also for another scheme than Bearer.
            InvalidPayload: the header is repeated.
        """
        header = _single(headers, "authorization")
        if header is None:
            return None
        scheme, _, token = header.strip().partition(" ")
        origin = _single(headers, "origin")
        return self.authenticate(token.strip() if scheme.lower() == "bearer" else "", address, origin)

    def check_origin(self, headers: Headers, *, secure: bool) -> str | None:
        """The Origin, if there is one and it may connect.

        Raises:
            Forbidden: it is neither the server's own, as reached by the Host header, nor configured.
        """
        text = _single(headers, "origin")
        if text is None:
            return None
        origin = _origin(text)
        if origin is None or (origin not in self._origins and origin != _own(_single(headers, "host"), secure)):
            raise Forbidden("this origin may not connect", hint="Add it to server.origins if it should.")
        return text


def read_upgrade(upgrade: Upgrade, auth: Auth) -> ConnectRequest:
    """Check an upgrade for the stream of a session.

    Raises:
        NotFound: another path. InvalidPayload: a malformed id or field, or a token in the address.
        Forbidden: the origin, or a session key of the server's own. Unauthorized, Overloaded: the credential.
    """
    path = _STREAM.fullmatch(upgrade.path)
    if path is None:
        raise NotFound("there is no such stream", kind="path", hint="Connect to /v1/agents/{agent_id}/stream.")
    refuse_token_fields(name for name, _ in upgrade.query)
    origin = auth.check_origin(upgrade.headers, secure=upgrade.secure)
    principal = auth.bearer(upgrade.headers, upgrade.address)
    session, after, log = (_field(upgrade, name) for name in ("session", "after", "log"))
    if after is not None and not _COUNT.fullmatch(after):
        raise InvalidPayload("after must be a whole number from 0", path="after")
    if session is not None:
        check_session(session)
        if principal is not None:
            check_reserved(session, principal)
    return ConnectRequest(
        agent=check_agent(path[1]),
        session=session,
        after=None if after is None else int(after),
        log=log,
        principal=principal,
        address=upgrade.address,
        origin=origin,
    )


def check_agent(agent: str) -> str:
    """Raises InvalidPayload unless it is an agent id; nothing that is one can lead to another path."""
    if not _AGENT.fullmatch(agent):
        raise InvalidPayload("not an agent id", path="agent", hint="Use 1 to 64 letters, digits, _ and -.")
    return agent


def check_session(session: str) -> str:
    """Raises InvalidPayload unless it is a session key."""
    if not _SESSION.fullmatch(session):
        raise InvalidPayload("not a session key", path="session", hint="Use 1 to 128 letters, digits, . _ : and -.")
    return session


def check_reserved(session: str, principal: Principal) -> None:
    """Raises Forbidden when the key is the server's own and the principal no operator."""
    if session.startswith("_") and "operator" not in principal.scopes:
        raise Forbidden("keys that begin with _ are the server's own", details={"required": "operator"})


def refuse_token_fields(names: Iterable[str]) -> None:
    """Raises InvalidPayload for a credential in an address: addresses end up in logs and histories."""
    if any(name.lower() in TOKEN_FIELDS for name in names):
        raise InvalidPayload(
            "a token does not belong in the address",
            path="query",
            hint="Send `Authorization: Bearer TOKEN`, or the first frame `connect`. Consider that token known.",
        )


def from_this_machine(headers: Headers, address: str) -> bool:
    """A direct request of a program on this machine: not through a proxy, nor by a name that was rebound to it."""
    if not is_loopback(address) or any(name in _FORWARDED for name, _ in headers):
        return False
    host = _single(headers, "host")
    return host is not None and _hostname(f"//{host}") in LOOPBACK_NAMES


def is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool((mapped or parsed).is_loopback)


def _single(headers: Headers, name: str) -> str | None:
    values = [value for key, value in headers if key == name]
    if len(values) > 1:
        raise InvalidPayload(f"the header {name} is repeated", path=name)
    return values[0] if values else None


def _field(upgrade: Upgrade, name: str) -> str | None:
    values = [value for key, value in upgrade.query if key == name]
    if len(values) > 1:
        raise InvalidPayload(f"{name} is given twice", path=name)
    return values[0] if values else None


def _configured(text: str) -> tuple[str, str, int]:
    origin = _origin(text)
    if origin is None:
        raise ValueError(f"{text!r} is no origin; write it as https://host or https://host:port")
    return origin


def _own(host: str | None, secure: bool) -> tuple[str, str, int] | None:
    return None if host is None else _origin(f"{'https' if secure else 'http'}://{host}")


def _origin(text: str) -> tuple[str, str, int] | None:
    """Scheme, host, port, with all names of loopback made one; None for what is no origin, `null` included."""
    if len(text) > ORIGIN_CHARS_MAX:
        return None
    try:
        parts = urlsplit(text)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    host = _hostname(text)
    if port is None or not host or parts.username is not None or parts.path not in ("", "/"):
        return None
    return parts.scheme, "localhost" if host in LOOPBACK_NAMES else host, port


def _hostname(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""
