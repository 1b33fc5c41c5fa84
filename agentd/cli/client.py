"""A client of the wire contract: one session followed over one connection at a time, each fact once and in order.

What holds: facts come in the order of `seq` with none missing or doubled, across connections; a request with an
idempotency key that was not answered when a connection ended is sent again under the same key, so it counts once; after
a reconnect the greeting comes as a frame, so that who reads can tell. A lost connection is tried again for
`RECONNECT_S`, the address being looked up each time, because a server that was started anew may have another one.
"""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus, InvalidURI

from agentd import __version__
from agentd.cli.address import DEFAULT_AGENT, Server
from agentd.cli.failure import FAILED, UNREACHABLE, Failure, refused
from agentd.clock import Clock

FRAME_BYTES_MAX = 64 << 20  # pages of facts are larger than what a client may send
CONNECT_S = 10.0  # for one handshake, the greeting included
STARTING_S = 15.0  # how long a server that says "starting" is waited for
RECONNECT_S = 60.0  # how long a lost one is tried again
BACKOFF_S = (0.1, 3.0)  # the first wait and the longest
ASK_S = 40.0  # the server itself answers within 30
CLOSE_S = 2.0
UNANSWERED_MAX = 64
FINAL_CODES = frozenset({1002, 1003, 1007, 1008, 1009, 1010})  # another try would end the same way

Fields = dict[str, Any]
_decode = msgspec.json.Decoder(Fields).decode


class Frame:
    """What the server sent: the bytes and what they say."""

    __slots__ = ("fields", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.fields: Fields = _decode(raw)

    @property
    def type(self) -> str:
        return str(self.fields.get("type", ""))

    @property
    def run(self) -> str | None:
        return self.fields.get("run")

    @property
    def request(self) -> str | None:
        return self.fields.get("request")

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.fields.get(name, default)


class _Again(Exception):
    """No connection now, but there may be one soon. `failure` is what to say when there is none in the end."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Client:
    """Follows one session; without `session` the server names one that nothing is stored in."""

    def __init__(
        self, locate: Callable[[], Server], clock: Clock, *, agent: str = DEFAULT_AGENT, session: str | None = None,
        reconnect_s: float = RECONNECT_S, starting_s: float = STARTING_S,
    ) -> None:  # fmt: skip
        self.ack: Fields = {}
        self.session = session
        self.seq: int | None = None  # the last fact that was read
        self._locate = locate
        self._clock = clock
        self._agent = agent
        self._reconnect_s = reconnect_s
        self._starting_s = starting_s
        self._socket: ClientConnection | None = None
        self._unanswered: dict[str, bytes] = {}
        self._count = 0
        self._last_error: Fields | None = None
        self._greeting: Frame | None = None

    @property
    def connected(self) -> bool:
        return self._socket is not None

    async def __aenter__(self) -> "Client":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect for the first time.

        Raises:
            Failure: no server answers, or it refuses this client.
        """
        await self._connected(self._starting_s, lost=False)
        self._greeting = None

    async def close(self) -> None:
        if self._socket is not None:
            socket, self._socket = self._socket, None
            await socket.close()

    async def send(self, frame: Fields) -> str:
        """Send a request; the id under which its reply comes. With an `idempotency_key` it survives a reconnect.

        Raises:
            Failure: too many requests are unanswered, or the connection ended and the request may not be repeated.
        """
        self._count += 1
        request = f"cli-{self._count}"
        body = msgspec.json.encode({**frame, "id": request})
        repeatable = "idempotency_key" in frame
        if repeatable:
            if len(self._unanswered) >= UNANSWERED_MAX:
                raise Failure(f"{UNANSWERED_MAX} requests are unanswered", "Wait for an answer first.")
            self._unanswered[request] = body
        try:
            if self._socket is None:
                await self._connected(self._reconnect_s, lost=True)
                if repeatable:
                    return request  # went out with the others that were unanswered
            assert self._socket is not None
            await self._socket.send(body.decode())
        except ConnectionClosed as closed:
            self._ended(closed)
            if not repeatable:
                raise Failure(
                    "the connection ended while a request was sent", "Look with `agentd ctl state`.", code=UNREACHABLE
                ) from None
        return request

    async def read(self) -> Frame:
        """The next frame; waits, and connects again where it has to. Cancelling this loses nothing.

        Raises:
            Failure: the server refuses this client or can't be reached for too long.
        """
        while True:
            if self._socket is None:
                await self._connected(self._reconnect_s, lost=True)
            if self._greeting is not None:
                greeting, self._greeting = self._greeting, None
                return greeting
            assert self._socket is not None
            try:
                frame = Frame(await self._socket.recv(decode=False))
            except ConnectionClosed as closed:
                self._ended(closed)
                continue
            if self._is_new(frame):
                return frame

    async def ask(self, frame: Fields) -> Frame:
        """Send a request and wait for its reply, passing over what else comes. Not repeated on a new connection.

        Raises:
            Failure: the reply is an error, or the connection ended before it.
        """
        request = await self.send(frame)
        try:
            async with asyncio.timeout(ASK_S):
                return await self.reply_to(request)
        except TimeoutError:
            raise Failure(f"no answer within {ASK_S:.0f} s", "Look with `agentd status`.") from None

    async def reply_to(self, request: str) -> Frame:
        """The next frame that answers `request`. Raises as `ask` does."""
        while True:
            found = await self.read()
            if found.type == "session.ack":
                raise Failure(
                    "the connection ended before the answer came", "Look with `agentd ctl state`.", code=UNREACHABLE
                )
            if found.request == request:
                if found.type == "error":
                    raise refused(found.fields)
                return found

    # ---- what comes in ----------------------------------------------------------------------------------------------

    def _is_new(self, frame: Frame) -> bool:
        request, seq = frame.request, frame.get("seq")
        if request is not None:
            self._unanswered.pop(request, None)
        if frame.type == "error" and request is None:
            self._last_error = frame.fields
        if not isinstance(seq, int) or frame.get("session") != self.session or frame.type == "stream.lagged":
            return True
        assert self.seq is not None
        if seq <= self.seq:
            return request is not None
        if seq > self.seq + 1:
            raise Failure(f"the server left out the facts {self.seq + 1} to {seq - 1} of {self.session}", code=FAILED)
        self.seq = seq
        return True

    def _ended(self, closed: ConnectionClosed) -> None:
        """The connection is gone. Raises Failure when another one would end the same way."""
        self._socket = None
        code = closed.rcvd.code if closed.rcvd is not None else 1006
        if code in FINAL_CODES:
            if self._last_error is not None:
                raise refused(self._last_error)
            reason = closed.rcvd.reason if closed.rcvd is not None else ""
            raise Failure(f"the server closed the connection: {reason or code}")

    # ---- connecting -------------------------------------------------------------------------------------------------

    async def _connected(self, patience_s: float, *, lost: bool) -> None:
        """Connect, with growing waits where trying again makes sense."""
        ends_s = self._clock.monotonic_s() + patience_s
        wait_s = BACKOFF_S[0]
        while True:
            try:
                await self._connect(lost=lost)
                return
            except _Again as again:
                if self._clock.monotonic_s() + wait_s > ends_s:
                    raise again.failure from None
            await self._clock.sleep(wait_s * (0.5 + self._clock.random() / 2))
            wait_s = min(wait_s * 2, BACKOFF_S[1])

    async def _connect(self, *, lost: bool) -> None:
        """One try. Raises _Again where another may help: always once a connection stood, else if it is starting."""
        server = self._locate()
        self._last_error = None
        try:
            socket = await connect(
                self._address(server),
                additional_headers={"Authorization": f"Bearer {server.token}"},
                user_agent_header=f"agentd/{__version__}",
                compression=None, proxy=None, open_timeout=CONNECT_S, close_timeout=CLOSE_S, max_size=FRAME_BYTES_MAX,
            )  # fmt: skip
        except InvalidStatus as error:
            failure = _refused_upgrade(error)
            if error.response.status_code == 503 or (lost and error.response.status_code == 429):
                raise _Again(failure) from None
            raise failure from None
        except InvalidMessage as error:  # it hung up in the middle of the handshake, or is no HTTP server
            failure = _unreachable(server, "does not speak HTTP, or hung up")
            raise (_Again(failure) if lost else failure) from error
        except (InvalidURI, InvalidHandshake) as error:
            raise Failure(f"{server.url} is no agentd: {error}", "Check the address.", code=UNREACHABLE) from None
        except (OSError, TimeoutError) as error:
            failure = _unreachable(server, _reason(error))
            raise (_Again(failure) if lost else failure) from None
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._greeted(socket)
        except TimeoutError:
            await socket.close()
            failure = _unreachable(server, f"no greeting within {CONNECT_S:.0f} s")
            raise (_Again(failure) if lost else failure) from None
        except BaseException:
            await socket.close()
            raise

    async def _greeted(self, socket: ClientConnection) -> None:
        """Take the greeting, then send again what was not answered."""
        try:
            frame = Frame(await socket.recv(decode=False))
            while frame.type != "session.ack":
                if frame.type == "error":
                    raise refused(frame.fields)
                frame = Frame(await socket.recv(decode=False))
            self._take_ack(frame)
            for body in self._unanswered.values():
                await socket.send(body.decode())
        except ConnectionClosed as closed:
            self._ended(closed)
            raise _Again(Failure("the server hung up after the greeting", code=UNREACHABLE)) from None
        self._socket = socket

    def _take_ack(self, frame: Frame) -> None:
        first = self.seq is None
        if first:
            self.session = str(frame["session"])
            self.seq = int(frame["seq"])
        elif frame.get("reset"):
            self.seq = int(frame["first"]) - 1
        self.ack = frame.fields
        self._greeting = frame

    def _address(self, server: Server) -> str:
        fields = {"session": self.session}
        if self.seq is not None:
            fields |= {"after": str(self.seq), "log": str(self.ack["log"])}
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items() if value is not None)
        scheme, rest = server.url.split("://", 1)
        base = f"{'wss' if scheme == 'https' else 'ws'}://{rest}/v1/agents/{quote(self._agent, safe='')}/stream"
        return f"{base}?{query}" if query else base


def _refused_upgrade(error: InvalidStatus) -> Failure:
    """The error object in the body of the refusal, where it is one of ours."""
    status = error.response.status_code
    try:
        said = _decode(error.response.body or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        said = {}
    if "code" in said:
        return refused(said)
    return Failure(f"the server answered {status} and is no agentd", "Check the address.", code=UNREACHABLE)


def _unreachable(server: Server, reason: str) -> Failure:
    return Failure(
        f"no server answers at {server.url}: {reason}",
        "Start one with `agentd serve`, or set AGENTD_URL and AGENTD_TOKEN.", code=UNREACHABLE,
    )  # fmt: skip


def _reason(error: OSError | TimeoutError) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_S:.0f} s"
    return error.strerror or str(error)
