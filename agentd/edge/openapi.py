"""The OpenAPI document of `/v1`: what there is over HTTP, made from the same structs that the answers are made of.

One table of doors; a test holds it to the routes that are served, and a copy is checked in (docs/openapi.json).
"""

from functools import cache
from typing import Any

import msgspec

from agentd import __version__
from agentd.core.export import Header
from agentd.protocol.errors import ErrorFrame
from agentd.protocol.facts import AnyFact
from agentd.protocol.replies import HistoryReply, SessionListReply
from agentd.protocol.signals import AgentState
from agentd.protocol.web import RunView, SessionView, StreamOpened
from agentd.store.backup import Made

JSON, NDJSON, SSE = "application/json", "application/x-ndjson", "text/event-stream"


class Door(msgspec.Struct, frozen=True):
    """One path. `answer` is what stands in a 200, or for a stream what its lines or data are; `fields` of the address
    with their JSON Schema type; `codes` other than 200 that it answers beside 400, 401, 403, 429 and 503."""

    path: str
    says: str
    scope: str
    answer: type[msgspec.Struct] | None
    media: str = JSON
    fields: tuple[tuple[str, str, str], ...] = ()
    codes: tuple[int, ...] = ()
    method: str = "get"


AFTER = (
    ("after", "integer", "go on behind the fact with this seq; the header Last-Event-ID comes first"),
    ("log", "string", "the log that `after` belongs to"),
)
MINE = "the owner (scope chat) or operator"

DOORS: tuple[Door, ...] = (
    Door("/healthz", "Alive.", "", None),
    Door("/readyz", "Ready for clients; 503 names the reasons.", "", None),
    Door("/metrics", "Figures for Prometheus; from elsewhere for operators.", "", None, "text/plain"),
    Door("/v1/backup", "Copy the database, on the server's machine.", "admin", Made, method="post"),
    Door(
        "/v1/import", "Import the older format of a directory of the server's machine; a line for each step.", "admin",
        None, NDJSON, (("dir", "string", "the directory, an absolute path; required"),), (404,), "post",
    ),
    Door("/v1/openapi.json", "This document.", "", None),
    Door("/v1/status", "The load of the whole server.", "operator", AgentState),
    Door(
        "/v1/sessions", "The sessions, by key.", "operator", SessionListReply,
        fields=(("limit", "integer", "1 to 500, else 100"), ("cursor", "string", "`next` of the page before")),
    ),
    Door("/v1/sessions/{key}", "One session.", MINE, SessionView, codes=(404,)),
    Door(
        "/v1/sessions/{key}/history", "The newest entries of a path, oldest first.", MINE, HistoryReply, codes=(404,),
        fields=(
            ("limit", "integer", "1 to 500, else 50"),
            ("before", "string", "only entries before this one"),
            ("leaf_id", "string", "the path that ends in this entry, else the active one"),
        ),
    ),
    Door(
        "/v1/sessions/{key}/events", "Facts and signals of a session as they happen.", MINE, None, SSE, AFTER, (404,)
    ),
    Door("/v1/sessions/{key}/export", "Everything that the log holds of a session.", MINE, Header, NDJSON, (), (404,)),
    Door("/v1/runs/{run}", "One run.", MINE, RunView, codes=(404,)),
    Door("/v1/runs/{run}/trace", "The facts of a run, one a line.", MINE, None, NDJSON, (), (404,)),
    Door(
        "/v1/runs/{run}/events", "The facts of a run from its first to its end; 204 for who has heard the end.", MINE,
        None, SSE, AFTER, (204, 404),
    ),
)  # fmt: skip

_WORDS = {
    204: "The run has ended and you have heard its end.",
    400: "A field is malformed, or a token stands in the address.",
    401: "No credential, or a wrong one.",
    403: "A scope is missing, it is another principal's, or the origin may not ask.",
    404: "There is no such session or run.",
    429: "Too many failed credentials, or followers of the session.",
    503: "The server is starting, stopping or full.",
}
_ALWAYS = (400, 401, 403, 429, 503)


@cache
def document_bytes() -> bytes:
    """The document as it is served and checked in."""
    return msgspec.json.format(msgspec.json.encode(document(), order="deterministic"), indent=1) + b"\n"


def document() -> dict[str, Any]:
    """The document as values."""
    types = [ErrorFrame, StreamOpened, *AnyFact.__args__]
    types += [door.answer for door in DOORS if door.answer is not None]
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schemas["Fact"] = {"oneOf": [{"$ref": f"#/components/schemas/{kind.__name__}"} for kind in AnyFact.__args__]}
    return {
        "openapi": "3.1.0",
        "info": {"title": "agentd", "version": "1", "description": f"Made by agentd {__version__}."},
        "paths": {door.path: {door.method: _operation(door)} for door in DOORS},
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(door: Door) -> dict[str, Any]:
    names = [part[1:-1] for part in door.path.split("/") if part.startswith("{")]
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    parameters += [
        {"name": name, "in": "query", "required": False, "description": says, "schema": {"type": kind}}
        for name, kind, says in door.fields
    ]
    guarded = bool(door.scope)
    answers: dict[str, Any] = {"200": {"description": door.says, "content": {door.media: {"schema": _schema(door)}}}}
    for code in sorted({*door.codes, *(_ALWAYS if guarded else ())}):
        answers[str(code)] = {"description": _WORDS[code]}
        if code >= 400:
            error = {"$ref": "#/components/schemas/ErrorFrame"}
            answers[str(code)]["content"] = {JSON: {"schema": error}}
    found: dict[str, Any] = {"summary": door.says, "parameters": parameters, "responses": answers}
    if guarded:
        found["security"] = [{"token": []}]
        found["description"] = f"Needs: {door.scope}."
    return found


def _schema(door: Door) -> dict[str, Any]:
    if door.answer is not None:
        return {"$ref": f"#/components/schemas/{door.answer.__name__}"}
    if door.media in (SSE, NDJSON) and door.method == "get":
        return {"$ref": "#/components/schemas/Fact"}
    return {"type": "object"} if door.media in (JSON, NDJSON) else {"type": "string"}
