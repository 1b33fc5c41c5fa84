"""What HTTP says beside the frames, as documented in docs/http.md and the OpenAPI document (rulings 36, T10)."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentd.protocol.web import RunView, SessionView, StreamOpened

OPENAPI = json.loads((Path(__file__).resolve().parents[2] / "docs" / "openapi.json").read_text())
OPENED = StreamOpened(session="s", ts=1, log="l", first=1, seq=4)
SESSION = SessionView(
    session="s", ts=1, agent="default", owner="local", created=1, mode="running", epoch=0, leaf=None, first=1, seq=4,
    log="l", unfinished=0, last_goal=None,
)  # fmt: skip
RUN = RunView(
    session="s", ts=1, run="r", kind="chat", state="failed", accepted=1, started=None, ended=3,
    cause=msgspec.Raw(b'{"code":"x","message":"y"}'), first=1, last=3,
)  # fmt: skip


def sent(document: Any) -> dict[str, Any]:
    return dict(msgspec.json.decode(msgspec.json.encode(document)))


def test_the_opening_of_a_stream_tells_a_reset_only_where_there_is_one() -> None:
    """Rulings 36: `stream.opened {log, first, seq, reset?}`."""
    assert sent(OPENED) == {"type": "stream.opened", "session": "s", "ts": 1, "log": "l", "first": 1, "seq": 4}
    assert sent(msgspec.structs.replace(OPENED, reset="pruned", run="r"))["reset"] == "pruned"


def test_a_document_says_what_is_not_there_as_null() -> None:
    """L3: a run's record can be looked up at any time; a reader need not know which fields may be missing."""
    assert sent(SESSION)["leaf"] is None
    assert sent(RUN) == {
        "type": "run", "session": "s", "ts": 1, "run": "r", "kind": "chat", "state": "failed", "accepted": 1,
        "started": None, "ended": 3, "cause": {"code": "x", "message": "y"}, "first": 1, "last": 3,
    }  # fmt: skip


@pytest.mark.parametrize("document", [SESSION, RUN], ids=["SessionView", "RunView"])
def test_the_openapi_document_has_exactly_these_fields(document: Any) -> None:
    schema = OPENAPI["components"]["schemas"][type(document).__name__]
    assert set(schema["properties"]) == set(sent(document))
    assert set(schema["required"]) == set(sent(document))
