"""The WebSocket protocol to the letter, frame by frame over raw sockets (S1, S3, S4, L5)."""


import pytest

from agentd.edge.limits import Limits
from tests.edge.rig import (
    TEXT,
    frame,
    running,
    settle,
    upgrade_request,
)

SMALL = Limits(frame_bytes=1000, fragments=8, early_bytes=64)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 200_000])
async def test_a_text_of_any_length_comes_back_as_it_was(size: int) -> None:
    async with running() as rig:
        client = await rig.raw()
        client.write(frame(TEXT, b"x" * size))
        assert await client.read_text() == b"x" * size
        client.close()


async def test_the_greeting_comes_first_and_a_message_in_the_segment_of_the_upgrade_is_not_lost() -> None:
    async with running() as rig:
        rig.door.greeting = b"ack"
        client = await rig.connect()
        client.write(upgrade_request(), frame(TEXT, b"early"), frame(TEXT, b"earlier still")[:5])
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
        assert [await client.read_text() for _ in range(2)] == [b"ack", b"early"]
        client.write(frame(TEXT, b"earlier still")[5:])
        assert await client.read_text() == b"earlier still"
        client.close()


async def test_what_comes_while_the_door_decides_is_kept_and_its_socket_read_no_further() -> None:
    async with running(SMALL) as rig:
        rig.door.gate.clear()
        client = await rig.connect()
        client.write(upgrade_request())
        await rig.door.asked.wait()
        texts = [b"%03d" % number + b"." * 50 for number in range(40)]
        for text in texts:
            client.write(frame(TEXT, text))
            await settle(2)
        rig.door.gate.set()
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
        assert [await client.read_text() for _ in texts] == texts
        client.close()
