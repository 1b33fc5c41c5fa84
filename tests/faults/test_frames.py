"""Mutated frames: each has exactly one reply or a legal close, and the server lives, answers and throws nothing.

`AGENTD_FRAMES=1000000` for the large number. The seed is fixed; a failure names its batch and prints its frames.
"""

import asyncio
import json
import os
import random
from collections import Counter
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from agentd.protocol.codec import BadFrame, decode_command
from tests.child import Frame, ask
from tests.faults.conftest import MAKE, Faulty
from tests.faults.test_storm import place, upgrade

FRAMES = int(os.environ.get("AGENTD_FRAMES", "20000"))
SOCKETS = 4
BATCH = 32
WIRE_SHARE = 0.05  # of all frames are spoiled below JSON, as WebSocket frames
BATCH_S = 30.0
LEGAL = {1002, 1007, 1009}
FRAME_BYTES = 1 << 20

SEEDS: list[Frame] = [
    {"type": "ping"},
    {"type": "chat.send", "content": "hello"},
    {"type": "chat.send", "content": "What is 12 * 7?", "input_mode": "enqueue", "idempotency_key": "k"},
    {"type": "chat.send", "content": "/goal a; b; then c", "leaf_id": "x"},
    {"type": "agent.control", "action": "state"},
    {"type": "agent.control", "action": "goal", "goal": "a; b", "overflow": "drop"},
    {"type": "agent.control", "action": "cancel", "run": "run_0", "task": "t1"},
    {"type": "agent.control", "action": "steer", "text": "shorter"},
    {"type": "agent.control", "action": "retry", "task": "t1"},
    {"type": "agent.control", "action": "approve", "gate": "g", "note": "n"},
    {"type": "agent.control", "action": "answer", "task": "t", "value": {"a": [1, 2.5, None, True]}},
    {"type": "agent.heartbeat"},
    {"type": "session.new", "reason": "r"},
    {"type": "session.history", "limit": 5, "before": "x"},
    {"type": "session.tree"},
    {"type": "session.set_leaf", "leaf_id": "x"},
    {"type": "session.list", "limit": 5, "cursor": "a"},
    {"type": "session.resume", "after": 100_000_000},
    {"type": "events.read", "run": "run_0", "after": 3, "limit": 5},
    {"type": "trace.get", "run": "run_0"},
    {"type": "identity.get"},
    {"type": "session.context"},
    {"type": "memory.recall", "limit": 5},
    {"type": "memory.query", "topic": "x", "kind": "all"},
    {"type": "connect", "token": "x"},
    {"type": "plan.apply", "plan": {}},
]
VALUES = [
    "null", "true", "-1", "0", "1e400", "-1e-400", "9" * 400, "0.1e+99999", '""', '"\\ud800"', '"\\u0000"', "[]", "{}",
    '"' + "x" * 200 + '"', '"*"', '"_server"', "[[[[]]]]", '{"a":{"a":{}}}', '"\\uD83D\\uDE00"', "NaN", "-", "01",
]  # fmt: skip


def mutated(chance: random.Random, name: str) -> bytes:
    """A valid frame with the id `name`, spoiled in one to three ways, or not at all."""
    frame = {**chance.choice(SEEDS), "id": name}
    data = bytearray(json.dumps(frame, ensure_ascii=False).encode())
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
        at = chance.randrange(len(data)) if data else 0
        match chance.randrange(9):
            case 0 if data:
                data[at] ^= 1 << chance.randrange(7)  # stays ASCII
            case 1:
                del data[at : at + chance.randrange(1, 12)]
            case 2:
                data[at:at] = data[at : at + chance.randrange(1, 30)]
            case 3:  # another value
                colon = data.find(b": ", at)
                end = min((p for p in (data.find(b",", colon), data.find(b"}", colon)) if p > 0), default=len(data))
                if colon > 0:
                    data[colon + 2 : end] = chance.choice(VALUES).encode()
            case 4:  # a key twice, or a key that nobody knows
                key = chance.choice(list(frame))
                member = f'"{chance.choice((key, "session", "id", "wait", "x"))}": {chance.choice(VALUES)}, '
                data[1:1] = member.encode()
            case 5:
                depth = chance.choice((1, 5, 200, 2_000))
                data[at:at] = b'{"a":' * depth + b"1" + b"}" * depth
            case 6:
                data = data[:at]
            case 7:
                data[at:at] = chance.randbytes(chance.randrange(1, 6))  # may be no UTF-8 any more
            case 8:
                data[at:at] = "é😀\u2028\ufeff".encode()[: chance.randrange(1, 12)]
    return bytes(data)


def reply_wanted(text: str) -> str | None:
    """The `request` that the one reply to this frame bears: by the reader that the server uses, and None without."""
    try:
        return decode_command(text.encode()).id
    except BadFrame as bad:
        return bad.request


class Talker:
    """One socket after another; counts what it sent and what came back."""

    def __init__(self, server: Faulty, number: int) -> None:
        self.server = server
        self.session = f"frames{number}"
        self.chance = random.Random(number)
        self.asked = 0
        self.closes: Counter[int] = Counter()
        self.replies: Counter[str] = Counter()

    async def talk(self, frames: int) -> None:
        while self.asked < frames:
            async with self.server.connect(self.session) as socket:
                await socket.recv()
                with suppress(ConnectionClosed):
                    while self.asked < frames:
                        await self.batch(socket, min(BATCH, frames - self.asked))
                    continue
            assert socket.close_code in LEGAL, (socket.close_code, self.asked)
            self.closes[socket.close_code or 0] += 1

    async def batch(self, socket: ClientConnection, size: int) -> None:
        wanted: Counter[str | None] = Counter()
        spoiled: list[bytes] = []
        batch: list[str] = []
        for number in range(size):
            data = mutated(self.chance, f"{self.session}.{self.asked + number}")
            try:
                text = data.decode()
            except UnicodeDecodeError:
                spoiled.append(data)  # at the end, because it closes
                continue
            batch.append(text)
            wanted[reply_wanted(text)] += 1
        self.asked += size
        for text in batch:
            await socket.send(text)
        await self.answers(socket, wanted, batch)
        if spoiled:
            await socket.send(spoiled[0], text=True)
            async with asyncio.timeout(BATCH_S):
                while True:
                    await socket.recv()

    async def answers(self, socket: ClientConnection, wanted: Counter[str | None], batch: list[str]) -> None:
        """All of them, each once; what waits for a run is ended, so that it has its answer too."""
        found: Counter[str | None] = Counter()
        nameless = wanted.pop(None, 0)
        errors = 0
        for action, target in (("resume", "*"), ("resume", None), ("cancel", None)):
            end: dict[str, Any] = {"type": "agent.control", "action": action, "id": f"end {action} {target}"}
            await socket.send(json.dumps(end if target is None else {**end, "session": target}))
            wanted[end["id"]] += 1
        try:
            async with asyncio.timeout(BATCH_S):
                while found != wanted:
                    frame = json.loads(await socket.recv())
                    request = frame.get("request")
                    if request is None:
                        errors += frame["type"] == "error"
                    elif frame["type"] != "trace.page":
                        found[request] += 1
                        self.replies[frame["code"] if frame["type"] == "error" else frame["type"]] += 1
                        assert found[request] <= wanted[request], (frame, batch)
        except TimeoutError:
            raise AssertionError(f"no reply to {dict(wanted - found)}; sent {batch}") from None
        assert errors <= nameless, batch


def spoiled_wire(chance: random.Random) -> bytes:
    """A few frames as bytes of the wire, with some bits flipped, some bytes lost or made up."""
    data = bytearray()
    for number in range(chance.randrange(1, 5)):
        payload = mutated(chance, f"w{number}")
        mask = chance.randbytes(4)
        size = len(payload)
        head = bytes((0x81, 0x80 | size)) if size < 126 else b"\x81\xfe" + size.to_bytes(2, "big")
        if size >= 1 << 16:
            head = b"\x81\xff" + size.to_bytes(8, "big")
        data += head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload[:5_000]))
    for _ in range(chance.randrange(1, 4)):
        at = chance.choice((0, 1, chance.randrange(len(data))))
        match chance.randrange(3):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                del data[at : at + chance.randrange(1, 8)]
            case 2:
                data[at:at] = chance.randbytes(chance.randrange(1, 8))
        data = data or bytearray(b"\x00")
    return bytes(data)


async def wire(server: Faulty, chance: random.Random) -> int | None:
    """What the server closes with, 0 without a close frame; the client ends its direction when it has said all."""
    reader, writer = await asyncio.open_connection(*place(server))
    writer.write(upgrade(server, "wire"))
    async with asyncio.timeout(BATCH_S):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        writer.write(spoiled_wire(chance))
        writer.write_eof()
        code = 0
        try:
            while True:
                first, second = await reader.readexactly(2)
                assert first & 0x70 == 0
                assert second & 0x80 == 0
                size = second & 0x7F
                if size >= 126:
                    size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
                payload = await reader.readexactly(size)
                if first & 0x0F == 8:
                    code = int.from_bytes(payload[:2], "big") if payload else 1005
        except (asyncio.IncompleteReadError, ConnectionResetError):
            writer.close()
            return code


async def test_each_mutated_frame_has_one_reply_or_a_legal_close(make: MAKE) -> None:
    server = make("AGENTD_LIMITS__SOCKETS_PER_SESSION=64")
    await server.start()
    talkers = [Talker(server, number) for number in range(SOCKETS)]
    on_wire = int(FRAMES * WIRE_SHARE)
    share = (FRAMES - on_wire) // SOCKETS
    codes: Counter[int | None] = Counter()

    async def all_wire() -> None:
        chance = random.Random(99)
        for _ in range(on_wire):
            codes[await wire(server, chance)] += 1

    async with server.connect("watch") as watch:
        await watch.recv()
        everything = asyncio.gather(*(talker.talk(share) for talker in talkers), all_wire())
        while not everything.done():
            assert (await ask(watch, type="agent.control", action="state"))["type"] == "agent.state"
            await asyncio.wait({everything}, timeout=0.2)
        await everything
        assert (await ask(watch, type="chat.send", content="still there?", wait=True))["state"] == "completed"
    assert set(codes) <= LEGAL | {0, 1000, 1005} | set(range(3000, 5000)), codes
    replies = sum((talker.replies for talker in talkers), Counter())
    assert {"error", "pong", "invalid_frame", "invalid_payload", "unknown_type", "run.accepted"} <= {*replies, "error"}
    assert not replies["internal"], "no frame is our fault"
    assert sum((talker.closes for talker in talkers), Counter())[1007] > 0


async def test_oversized_and_deep_frames_are_refused_in_the_time_of_any_other(make: MAKE) -> None:
    deep = 100_000
    frames = {
        "as deep as it goes": "[" * (FRAME_BYTES - 100),
        "deep and closed": '{"type": "chat.send", "id": "q", "content": ' + "[" * deep + "]" * deep + "}",
        "deep where nobody looks": '{"type": "ping", "id": "q", "x": ' + "[" * deep + "]" * deep + "}",
        "deep objects": '{"a":' * deep + "1" + "}" * deep,
        "a long number": '{"type": "session.history", "id": "q", "limit": ' + "9" * 900_000 + "}",
        "a long fraction": '{"type": "session.history", "id": "q", "limit": 0.' + "3" * 900_000 + "}",
        "escapes": '{"type": "chat.send", "id": "q", "content": "' + "\\u0041" * 170_000 + '"}',
        "one key a hundred thousand times": '{"type": "ping", "id": "q"' + ', "x": 1' * deep + "}",
        "many keys": '{"type": "ping", "id": "q"' + "".join(f', "k{n}": {n}' for n in range(60_000)) + "}",
        "a value of many parts": json.dumps(
            {
                "type": "agent.control",
                "action": "answer",
                "task": "t",
                "value": [[n] for n in range(100_000)],
                "id": "q",
            }
        ),
    }
    server = make()
    await server.start()
    async with server.connect("large") as socket, server.connect("other") as other:
        await socket.recv()
        await other.recv()
        for name, text in frames.items():
            assert len(text) <= FRAME_BYTES, name
            await socket.send(text)
            began = asyncio.get_running_loop().time()
            assert (await ask(other, type="agent.control", action="state"))["type"] == "agent.state"
            assert asyncio.get_running_loop().time() - began < 0.25, name
            await socket.send('{"type": "ping", "id": "after"}')
            frame = json.loads(await socket.recv())
            heard = [frame]
            while heard[-1].get("request") != "after":
                heard.append(json.loads(await socket.recv()))
            assert len(heard) == 2, (name, heard)
            assert heard[0]["type"] in ("error", "pong"), (name, heard)
            assert heard[0].get("code") != "internal", (name, heard)
        await socket.send("x" * (FRAME_BYTES + 1))
        await socket.wait_closed()
        assert socket.close_code == 1009
