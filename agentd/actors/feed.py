"""Who follows a session: a follower is a cursor over the log (design 8).

While its cursor equals the published seq a follower is *live* and gets the bytes of each step as they are published.
When its outbox is full, or when it resumes from an older number, it is *behind*: it holds nothing, and its pager reads
the log as the outbox drains, until the cursor equals the published seq, which makes it live in that same loop turn.
There is no buffer between replay and live. Replies are never dropped; a reply that belongs behind a fact waits for the
cursor to reach it.

Deltas are text that grows: each follower has an offset into it. The first goes out at once, later ones are merged in
one window; who has no room simply stays behind in the text and gets the rest merged, or, when the message ends first,
hears `stream.lagged`.
"""

from collections.abc import Callable, Sequence

from agentd.actors.sink import Sink
from agentd.clock import Clock, Timer
from agentd.protocol import signals
from agentd.protocol.codec import encode, with_request
from agentd.protocol.errors import AgentdError
from agentd.store.store import Store
from agentd.supervisor import Supervisor

FLUSH_S = 0.010
FLUSH_CHARS = 1024
PAGE_FACTS = 500
PAGE_BYTES = 256 * 1024
STATE_EVERY_S = 0.25
READ_AGAIN_S = 0.5


class Followed:
    """Counted over all sessions of one server, since its start."""

    def __init__(self) -> None:
        self.lagged = 0
        self.replayed_facts = 0


class Follower:
    """One sink that follows one session from a cursor."""

    def __init__(self, feed: "Feed", sink: Sink, after: int) -> None:
        self.feed = feed
        self.sink = sink
        self.cursor = after
        self.operator = False
        self.principal = ""
        self.offset = 0  # code points of the running message that were sent
        self._requests: dict[int, str | None] = {}  # facts that are replies: seq -> request id
        self._replies: list[tuple[int, bytes]] = []  # frames that wait for the cursor
        self._paging = False
        self._lagged = False
        self._moves = 0

    def live(self) -> bool:
        """Level with what is published."""
        return self.cursor == self.feed.seq

    def follow(self) -> None:
        """Begin: page from the cursor until level. Call once, after the greeting was sent."""
        if self.live():
            self.catch_up()
        else:
            self.page()

    def move(self, after: int) -> None:
        """The client resumes from another number."""
        self.cursor = after
        self._moves += 1
        self.offset = 0
        self.follow()

    def published(self, first: int, bodies: Sequence[bytes]) -> None:
        """A step was stored. Called for each step, in order."""
        if self.cursor != first - 1 or self._paging:
            return
        if self.sink.full:
            self.page()
            return
        for body in bodies:
            self._send(body)
        self._release()

    def answer_with(self, seq: int, request: str | None) -> None:
        """The fact `seq` is the reply to `request`; call before it is published."""
        self._requests[seq] = request

    def reply(self, seq: int, frame: bytes) -> None:
        """A reply that belongs behind the fact `seq`."""
        if self.cursor >= seq:
            self.sink.send(frame)
        else:
            self._replies.append((seq, frame))

    def delta(self, frames: dict[int, bytes]) -> None:
        """Send what is missing of the running message; `frames` shares one frame among equal offsets."""
        stream = self.feed.stream
        if stream is None or not self.live() or self.offset >= len(stream.text):
            return
        if self.sink.full:
            return
        frame = frames.get(self.offset)
        if frame is None:
            frame = frames[self.offset] = stream.frame(self.offset)
        self.offset = len(stream.text)
        self.sink.send(frame)

    def message_ended(self) -> None:
        """The running message ends: who saw a part of it, or had no room for any, is told that the rest is missing.
        Who is only catching up with the log missed nothing that it was shown the beginning of."""
        stream = self.feed.stream
        if stream is not None and self.offset < len(stream.text) and (self.offset or self.sink.full):
            self._lagged = True
        self.offset = 0

    def catch_up(self) -> None:
        """Level with the log: the text so far of a message that is being said comes first."""
        self._release()
        self._tell_lagged()
        self.delta({})

    def page(self) -> None:
        """Read the log as far as the outbox has room; go on when it has drained."""
        if self._paging or self.sink.closed:
            return
        if self.sink.full:
            self.sink.on_drained = self._drained
            return
        self._paging = True
        self.feed.supervisor.start(f"page {self.feed.session}", self._read())

    def _drained(self) -> None:
        self.sink.on_drained = None
        if not self.live():
            self.page()
        else:
            self.catch_up()

    async def _read(self) -> None:
        try:
            while self._has_room() and not self.live():
                moves, after = self._moves, self.cursor
                page = await self.feed.store.read(self.feed.session, after, PAGE_FACTS, PAGE_BYTES)
                if moves != self._moves:
                    continue  # the client moved its cursor meanwhile
                self._tell_lagged()
                before = self.cursor
                for body in page.bodies:
                    # The log may be ahead of what is published: its step's replies are not known here yet.
                    if self.live() or not self._has_room():
                        break
                    self._send(body)
                self.feed.followed.replayed_facts += self.cursor - before
                self._release()
                if not page.bodies:
                    break
        except AgentdError:
            self.feed.clock.call_later(READ_AGAIN_S, self._catch_up_again)
            return
        finally:
            self._paging = False
        if self.sink.closed:
            return
        if self.live():
            self.catch_up()
        else:
            self.page()

    def _catch_up_again(self) -> None:
        """The log could not be read. Steps that were published meanwhile did not reach this follower either."""
        if not self.live():
            self.page()

    def _has_room(self) -> bool:
        return not (self.sink.closed or self.sink.full)

    def _send(self, body: bytes) -> None:
        self.cursor += 1
        if self._requests and self.cursor in self._requests:
            body = with_request(body, self._requests.pop(self.cursor))
        self.sink.send(body)

    def _release(self) -> None:
        while self._replies and self._replies[0][0] <= self.cursor:
            self.sink.send(self._replies.pop(0)[1])

    def _tell_lagged(self) -> None:
        if self._lagged and self.sink.full:
            self.sink.on_drained = self._drained  # whoever is level has nothing else that brings it back here
        elif self._lagged:
            self._lagged = False
            self.feed.followed.lagged += 1
            signal = signals.StreamLagged(
                session=self.feed.session,
                ts=self.feed.clock.now_ms(),
                last_seq=self.cursor,
                seq=self.feed.seq,
                reason="the outbox was full, deltas were dropped",
            )
            self.sink.send(encode(signal))


class Stream:
    """The words of one message so far."""

    def __init__(self, session: str, run: str, message: str, clock: Clock) -> None:
        self.message = message
        self.run = run
        self.text = ""
        self._session = session
        self._clock = clock
        self.parts: list[str] = []  # not in `text` yet
        self.pending = 0  # code points in them

    def gather(self) -> None:
        if self.parts:
            self.text += "".join(self.parts)
            self.parts.clear()
            self.pending = 0

    def frame(self, offset: int) -> bytes:
        return encode(
            signals.SessionDelta(
                session=self._session,
                ts=self._clock.now_ms(),
                run=self.run,
                message=self.message,
                offset=offset,
                text=self.text[offset:],
            )
        )


class Feed:
    """All followers of one session; `seq` is the last published fact."""

    def __init__(
        self,
        session: str,
        seq: int,
        store: Store,
        clock: Clock,
        supervisor: Supervisor,
        followed: Followed | None = None,
    ) -> None:
        self.session = session
        self.seq = seq
        self.store = store
        self.clock = clock
        self.supervisor = supervisor
        self.followers: list[Follower] = []
        self.stream: Stream | None = None
        self.followed = followed or Followed()
        self._flush: Timer | None = None
        self._state_timer: Timer | None = None
        self._state_at = float("-inf")

    def add(self, sink: Sink, after: int) -> Follower:
        follower = Follower(self, sink, after)
        self.followers.append(follower)
        return follower

    def remove(self, follower: Follower) -> None:
        self.followers.remove(follower)

    def publish(self, first: int, bodies: Sequence[bytes]) -> None:
        """The step that starts at `first` is stored. Deltas of its message have to be flushed before."""
        self.seq = first + len(bodies) - 1
        for follower in self.followers:
            follower.published(first, bodies)

    def signal(self, frame: bytes, chat: bytes | None = None) -> None:
        """Liveness and figures: to whoever is level and has room; `chat` instead for who is no operator."""
        for follower in self.followers:
            if follower.live() and not follower.sink.full:
                follower.sink.send(frame if chat is None or follower.operator else chat)

    # ---- deltas ---------------------------------------------------------------------------------------------------

    def begin_message(self, run: str, message: str) -> None:
        self.stream = Stream(self.session, run, message, self.clock)
        for follower in self.followers:
            follower.offset = 0

    def add_text(self, text: str) -> None:
        """More words of the running message: the first at once, then merged for 10 ms or 1 KiB."""
        stream = self.stream
        if stream is None or not text:
            return
        first = not stream.text and not stream.pending
        stream.parts.append(text)
        stream.pending += len(text)
        if first or stream.pending >= FLUSH_CHARS:
            self.flush()
        elif self._flush is None:
            self._flush = self.clock.call_later(FLUSH_S, self.flush)

    def flush(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        if self.stream is None:
            return
        self.stream.gather()
        frames: dict[int, bytes] = {}
        for follower in self.followers:
            follower.delta(frames)

    def end_message(self) -> None:
        """Flush what there is; the message's fact, or nothing, follows."""
        if self.stream is None:
            return
        self.flush()
        for follower in self.followers:
            follower.message_ended()
        self.stream = None

    # ---- figures on change ------------------------------------------------------------------------------------------

    def state_changed(self, make: Callable[[], bytes]) -> None:
        """Tell `agent.state` at once, so that it leaves with the facts that changed it, or at the end of the quarter of
        a second; the last one is always told."""
        if self._state_timer is not None or not self.followers:
            return
        wait_s = self._state_at + STATE_EVERY_S - self.clock.monotonic_s()
        if wait_s <= 0:
            self._tell_state(make)
        else:
            self._state_timer = self.clock.call_later(wait_s, lambda: self._tell_state(make))

    def _tell_state(self, make: Callable[[], bytes]) -> None:
        self._state_timer = None
        self._state_at = self.clock.monotonic_s()
        self.signal(make())
