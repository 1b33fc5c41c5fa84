"""The floor: the least that a durable chat turn of 20 deltas costs with stock parts. Frozen, so that ratios last.

The stock websockets asyncio server, msgspec, SQLite with WAL and FULL, one group-committed append at each end of a
turn, 20 deltas sent one by one. No session, no plan, no figures: `python -m agentd.bench.floor STATE_DIR` prints its
port. It is bench/floor.py of the repository, here for an installed agentd; a test keeps the two the same.
"""

import asyncio
import queue
import sqlite3
import sys
import threading
from pathlib import Path

import msgspec
from websockets.asyncio.server import ServerConnection, serve

DELTAS = 20


class Log:
    """One thread that commits what waits."""

    def __init__(self, path: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]]] = queue.SimpleQueue()
        threading.Thread(target=self._write, args=(path,), daemon=True).start()

    async def append(self, body: bytes) -> None:
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting.put((body, done))
        await done

    def _write(self, path: Path) -> None:
        database = sqlite3.connect(path, isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, body BLOB)")
        while True:
            batch = [self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get())
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT INTO events (body) VALUES (?)", [(body,) for body, _ in batch])
            database.execute("COMMIT")
            self._loop.call_soon_threadsafe(_resolve, [done for _, done in batch])


def _resolve(futures: "list[asyncio.Future[None]]") -> None:
    for future in futures:
        future.set_result(None)


async def main(state: Path) -> None:
    log = Log(state / "floor.db")
    decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode
    numbers = iter(range(1, 1 << 62))

    async def turn(socket: ServerConnection) -> None:
        async for text in socket:
            asked = decode(text)
            body = encode({"type": "run.accepted", "seq": next(numbers), "content": asked["content"]})
            await log.append(body)
            await socket.send(body, text=True)
            for number in range(DELTAS):
                await socket.send(encode({"type": "session.delta", "offset": number, "text": " word"}), text=True)
            body = encode({"type": "run.completed", "seq": next(numbers), "content": " word" * DELTAS})
            await log.append(body)
            await socket.send(body, text=True)

    async with serve(turn, "127.0.0.1", 0, compression=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
