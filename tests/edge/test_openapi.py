"""The document is whole, valid in itself, checked in, and names every type it speaks of."""

import json
import os
from pathlib import Path
from typing import Any

from agentd.edge import openapi

COPY = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"
PAGE = (COPY.parent / "http.md").read_text(encoding="utf-8")


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if "$ref" in value else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_the_checked_in_copy_is_what_the_code_says() -> None:
    """`REWRITE=1` writes it anew; a field that went is a break of the contract."""
    if os.environ.get("REWRITE"):
        COPY.write_bytes(openapi.document_bytes())
    assert COPY.read_bytes() == openapi.document_bytes()


def test_every_type_that_is_named_is_there() -> None:
    document = json.loads(openapi.document_bytes())
    schemas = document["components"]["schemas"]
    assert {name.removeprefix("#/components/schemas/") for name in references(document)} <= set(schemas)


def test_every_door_has_its_parameters_answers_and_needs() -> None:
    paths = openapi.document()["paths"]
    for door in openapi.DOORS:
        operation = paths[door.path][door.method]
        named = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
        assert named == {part.strip("{}") for part in door.path.split("/") if part.startswith("{")}
        assert {"200", *map(str, door.codes)} <= set(operation["responses"])
        assert bool(door.scope) == ("security" in operation)


def test_the_page_tells_of_every_door() -> None:
    assert not [door.path for door in openapi.DOORS if f"`{door.method.upper()} {door.path}`" not in PAGE]
