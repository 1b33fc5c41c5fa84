"""The contract as files: JSON Schema of every frame by family, made from the types, checked in beside them (N7).

A family is what one end may say: commands from clients; facts, signals and replies from the server. `agent.progress`
and `agent.state` are in two of them: what has `seq` is the fact, what has `request` the reply (rulings 51). After a
change of a frame, `REWRITE=1 pytest tests/protocol/test_contract.py` writes the files anew; until then that test fails.
"""

from typing import Any

import msgspec

from agentd.protocol.commands import AnyCommand
from agentd.protocol.errors import ErrorFrame
from agentd.protocol.facts import AnyFact
from agentd.protocol.replies import AnyReply, RunAcceptedAgain
from agentd.protocol.signals import AnySignal

FAMILIES: dict[str, tuple[type[msgspec.Struct], ...]] = {
    "commands": AnyCommand.__args__,
    "facts": AnyFact.__args__,
    "signals": AnySignal.__args__,
    "replies": (*AnyReply.__args__, RunAcceptedAgain, ErrorFrame),
}


def schema_of(family: str) -> dict[str, Any]:
    """The JSON Schema of a family: any one of its frames."""
    types = FAMILIES[family]
    shown, components = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"agentd wire contract, version 1: {family}",
        "oneOf": list(shown),
        "$defs": dict(sorted(components.items())),
    }


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI document: one channel, what each end sends on it."""
    messages = {
        f"{family}.{kind.__name__}": {
            "name": str(kind.__struct_config__.tag),
            "payload": {"$ref": f"{family}.json#/$defs/{kind.__name__}"},
        }
        for family, types in FAMILIES.items()
        for kind in types
    }
    channel = {
        "address": "/v1/agents/{agent_id}/stream",
        "parameters": {"agent_id": {"description": "1 to 64 letters, digits, _ and -"}},
        "messages": messages,
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "agentd", "version": "1"},
        "channels": {"stream": channel},
        "operations": {
            "ask": {"action": "receive", "channel": {"$ref": "#/channels/stream"}, "messages": _said(("commands",))},
            "tell": {
                "action": "send",
                "channel": {"$ref": "#/channels/stream"},
                "messages": _said(("facts", "signals", "replies")),
            },
        },
    }


def files() -> dict[str, bytes]:
    """Every file of the contract by name."""
    documents = {f"{family}.json": schema_of(family) for family in FAMILIES} | {"asyncapi.json": asyncapi()}
    return {
        name: msgspec.json.format(msgspec.json.encode(document, order="deterministic"), indent=1) + b"\n"
        for name, document in documents.items()
    }


def _said(families: tuple[str, ...]) -> list[dict[str, str]]:
    return [
        {"$ref": f"#/channels/stream/messages/{family}.{kind.__name__}"}
        for family in families
        for kind in FAMILIES[family]
    ]
