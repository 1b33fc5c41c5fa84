"""Clients that nobody here wrote: the websockets library's (asyncio and threads), `ws` from npm, a browser's."""

import asyncio
import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.sync.client import connect as connect_in_thread

from tests import browser
from tests.child import Child, all_facts, ask, of_type, until
from tests.edge.rig import make_certificate

NPM_S = 60
NODE_S = 30
WS = "8.18.0"

# What each client does: connect, be greeted, say a large text in pieces, be answered, ping, leave in order.
STORY = """
import WebSocket from 'ws';
import fs from 'node:fs';
const told = {frames: [], deltas: ''};
const socket = new WebSocket(process.argv[2], {
  headers: {Authorization: 'Bearer ' + process.argv[3]}, perMessageDeflate: true,
  ca: process.argv[4] ? fs.readFileSync(process.argv[4]) : undefined});
const send = (frame) => socket.send(JSON.stringify(frame));
socket.on('open', () => { told.extensions = socket.extensions; socket.ping('are you there'); });
socket.on('pong', data => { told.pong = data.toString(); });
socket.on('message', (data, binary) => {
  const frame = JSON.parse(data);
  told.frames.push(frame.type);
  if (binary) told.binary = true;
  if (frame.type === 'session.ack') {
    const content = '[[chunks=30]] ' + 'ä'.repeat(20000);
    const text = JSON.stringify({type: 'chat.send', id: 'q', content, wait: true});
    for (let at = 0; at < text.length; at += 1000)
      socket.send(text.slice(at, at + 1000), {fin: at + 1000 >= text.length});
  }
  if (frame.type === 'session.delta') told.deltas += frame.text;
  if (frame.type === 'run.result') { told.content = frame.content; send({type: 'nope', id: 'x'}); }
  if (frame.code === 'unknown_type') { told.error = frame.code; socket.send(Buffer.from([1, 2, 3])); }
  if (frame.code === 'invalid_frame') socket.close(4001, 'enough');
});
socket.on('close', (code, reason) => { told.code = code; told.reason = reason.toString();
  console.log(JSON.stringify(told)); });
socket.on('error', error => { told.failed = String(error); });
"""


@pytest.fixture
async def child(tmp_path: Path) -> AsyncIterator[Child]:
    server = Child(tmp_path / "state")
    await server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a program finds `ws`."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("NOT RUN: node and npm are not here")
    folder = tmp_path_factory.mktemp("npm")
    (folder / "package.json").write_text('{"type": "module", "private": true}')
    done = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", f"ws@{WS}"],
        cwd=folder, capture_output=True, text=True, timeout=NPM_S, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip("NOT RUN: npm could not install ws")
    (folder / "story.js").write_text(STORY)
    return folder


def node(folder: Path, *arguments: str) -> Any:
    done = subprocess.run(
        ["node", "story.js", *arguments], cwd=folder, capture_output=True, text=True, timeout=NODE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(told: Any) -> None:
    assert told["frames"][0] == "session.ack"
    assert told["extensions"] == "", "compression was offered and not taken"
    assert told["pong"] == "are you there"
    assert told["deltas"] == told["content"]
    assert told["error"] == "unknown_type"
    assert "binary" not in told
    assert (told["code"], told["reason"]) == (4001, "enough")


async def test_ws_from_npm(child: Child, ws: Path) -> None:
    told = await asyncio.to_thread(node, ws, child.address("ws"), child.token)
    check(told)
    (accepted,) = [fact for fact in await all_facts(child, "ws") if fact["type"] == "run.accepted"]
    assert accepted["content"].endswith("ä" * 20_000)


async def test_ws_from_npm_over_tls(tmp_path: Path, ws: Path) -> None:
    certificate = make_certificate(tmp_path)
    server = Child(
        tmp_path / "state", f"AGENTD_SERVER__TLS_CERT={certificate.cert}", f"AGENTD_SERVER__TLS_KEY={certificate.key}"
    )
    await server.start()
    assert server.url.startswith("wss://")
    try:
        check(await asyncio.to_thread(node, ws, server.address("ws"), server.token, str(certificate.cert)))
        trust = ssl.create_default_context(cafile=str(certificate.cert))
        headers = {"Authorization": f"Bearer {server.token}"}
        async with connect(server.address("tls"), additional_headers=headers, ssl=trust) as socket:
            assert (await ask(socket, type="chat.send", content="What is 12 * 7?", wait=True))["state"] == "completed"
    finally:
        server.kill()


async def test_the_librarys_client_with_fragments_pings_and_compression_offered(child: Child) -> None:
    async with connect(
        child.address("library"), additional_headers={"Authorization": f"Bearer {child.token}"}, compression="deflate"
    ) as socket:
        await until(socket, of_type("session.ack"))
        assert socket.protocol.extensions == []
        text = json.dumps({"type": "chat.send", "id": "q", "content": "é" * 5_000, "wait": True}, ensure_ascii=False)
        await socket.send(text[at : at + 700] for at in range(0, len(text), 700))
        await (await socket.ping(b"p" * 125))
        assert (await until(socket, lambda frame: frame.get("request") == "q"))[-1]["state"] == "completed"
        await socket.close(4000, "done")
    assert socket.close_code == 4000


async def test_the_librarys_client_of_threads(child: Child) -> None:
    """Without a header: the token goes in the first frame. Ten at once."""
    results: list[str] = []

    def talk(number: int) -> None:
        with connect_in_thread(child.address(f"thread{number}")) as socket:
            socket.send(json.dumps({"type": "connect", "token": child.token}))
            assert json.loads(socket.recv(10))["type"] == "session.ack"
            socket.send(json.dumps({"type": "chat.send", "id": "q", "content": "What is 12 * 7?", "wait": True}))
            while (frame := json.loads(socket.recv(10))).get("request") != "q":
                pass
            results.append(frame["content"])

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join, 20)
    assert len(results) == 10
    assert all("84" in content for content in results)


PAGE = """
const told = {frames: [], deltas: ''};
const socket = new WebSocket(ADDRESS);
socket.onopen = () => socket.send(JSON.stringify({type: 'connect', token: TOKEN}));
socket.onmessage = event => {
  const frame = JSON.parse(event.data);
  told.frames.push(frame.type);
  if (frame.type === 'session.ack') socket.send(JSON.stringify(
    {type: 'chat.send', id: 'q', content: '[[chunks=30]] ' + 'ä'.repeat(20000), wait: true}));
  if (frame.type === 'session.delta') told.deltas += frame.text;
  if (frame.type === 'run.result') { told.content = frame.content; socket.close(4001, 'enough'); }
};
socket.onclose = event => {
  Object.assign(told, {code: event.code, reason: event.reason, clean: event.wasClean, extensions: socket.extensions});
  fetch('/report', {method: 'POST', body: JSON.stringify(told)});
};
"""


async def test_a_browser(tmp_path: Path) -> None:
    program = browser.found()
    if program is None:
        pytest.skip(browser.NONE)
    page = browser.Page()
    origin = await page.listen()
    server = Child(tmp_path / "state", f"AGENTD_SERVER__ORIGINS={origin}")
    await server.start()
    try:
        script = PAGE.replace("ADDRESS", json.dumps(server.address("page"))).replace("TOKEN", json.dumps(server.token))
        told = await page.opened(origin, program, script)
    finally:
        server.kill()
    assert told["frames"][0] == "session.ack"
    assert told["deltas"] == told["content"]
    assert (told["code"], told["reason"], told["clean"], told["extensions"]) == (4001, "enough", True, "")
