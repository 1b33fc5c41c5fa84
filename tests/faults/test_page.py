"""A page of another origin in a real browser on this machine reaches nothing; one that may connect, works (F8)."""

import json

import pytest

from tests import browser
from tests.child import Child, ask, until
from tests.faults.conftest import MAKE

TRIES = """
const address = SERVER, token = TOKEN;
const told = {};
const ended = (name, url, first) => new Promise(done => {
  const socket = new WebSocket(url);
  const seen = {opened: false, frames: []};
  socket.onopen = () => {
    seen.opened = true;
    if (first) socket.send(JSON.stringify(first)); else setTimeout(() => socket.close(), 300);
  };
  socket.onmessage = event => {
    const frame = JSON.parse(event.data);
    seen.frames.push(frame.type);
    if (frame.type === 'session.ack') socket.send(JSON.stringify(
      {type: 'chat.send', id: 'q', content: 'What is 12 * 7?', wait: true}));
    if (frame.type === 'run.result') { seen.content = frame.content; socket.close(1000); }
  };
  socket.onclose = event => { seen.code = event.code; told[name] = seen; done(); };
});
const asked = async (name, path, options) => {
  try {
    const answer = await fetch(address.replace('ws', 'http') + path, options);
    told[name] = {status: answer.status, type: answer.type, text: await answer.text()};
  } catch (error) { told[name] = {error: error.name}; }
};
const stream = address + '/v1/agents/default/stream?session=page';
await ended('without a token', stream, null);
await ended('with the first frame', stream, {type: 'connect', token});
await ended('token in the address', stream + '&token=' + token, null);
await asked('metrics', '/metrics', {});
await asked('metrics without reading', '/metrics', {mode: 'no-cors'});
await asked('backup', '/v1/backup', {method: 'POST', mode: 'no-cors', credentials: 'include'});
await asked('backup with the token', '/v1/backup', {method: 'POST', headers: {Authorization: 'Bearer ' + token}});
await fetch('/report', {method: 'POST', body: JSON.stringify(told)});
"""


def script(server: Child) -> str:
    return TRIES.replace("SERVER", json.dumps(server.url)).replace("TOKEN", json.dumps(server.token))


@pytest.fixture
def program() -> str:
    found = browser.found()
    if found is None:
        pytest.skip(browser.NONE)
    return found


async def test_a_page_of_another_origin_reaches_nothing_even_with_the_right_token(make: MAKE, program: str) -> None:
    server = make()
    await server.start()
    page = browser.Page()
    told = await page.opened(await page.listen(), program, script(server))
    for name in ("without a token", "with the first frame", "token in the address"):
        assert (told[name]["opened"], told[name]["frames"]) == (False, []), (name, told[name])
    assert told["metrics"] == {"error": "TypeError"}, "it may not read the answer"
    assert (told["metrics without reading"]["type"], told["metrics without reading"]["text"]) == ("opaque", "")
    assert told["backup with the token"] == {"error": "TypeError"}, "no preflight was answered"
    assert not (server.state / "backups").exists()
    async with server.connect("_server") as socket:
        assert "page" not in str(await ask(socket, type="session.list"))


async def test_a_page_whose_origin_is_configured_chats_with_a_token(make: MAKE, program: str) -> None:
    """The same page; so the test above would notice if nothing was refused."""
    page = browser.Page()
    origin = await page.listen()
    server = make(f"AGENTD_SERVER__ORIGINS={origin}")
    await server.start()
    told = await page.opened(origin, program, script(server))
    assert told["with the first frame"]["opened"] is True
    assert "84" in told["with the first frame"]["content"]
    assert told["with the first frame"]["code"] == 1000
    assert "run.accepted" not in told["without a token"]["frames"]
    assert told["token in the address"]["opened"] is False
    async with server.connect("page", after=0) as socket:
        await until(socket, lambda frame: frame["type"] == "run.completed")
