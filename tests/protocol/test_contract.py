"""The contract files are what the code says, and version 1 only grows."""

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from agentd.protocol import contract
from agentd.protocol.codec import decode_fact, encode
from agentd.protocol.contract import FAMILIES, files

HERE = Path(__file__).parent
FOLDER = Path(contract.__file__).with_name("schema")
EXAMPLES = sorted((HERE / "examples").glob("*.json"))


def test_the_files_are_what_the_code_says() -> None:
    if os.environ.get("REWRITE"):
        for name, content in files().items():
            (FOLDER / name).write_bytes(content)
    assert {path.name: path.read_bytes() for path in FOLDER.glob("*.json")} == files()


def definitions(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = schema["$defs"]
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_version_1_only_grows(family: str) -> None:
    """Against the first release: no type, field or required field went, and the server demands nothing more."""
    first = definitions(json.loads((HERE / "v1" / f"{family}.json").read_text()))
    now = definitions(json.loads(files()[f"{family}.json"]))
    for name, old in first.items():
        assert name in now, f"{name} is gone"
        missing = set(old.get("properties", {})) - set(now[name].get("properties", {}))
        assert not missing, f"{name} lost {missing}"
        if family == "commands":
            assert set(now[name].get("required", [])) <= set(old.get("required", []))
        else:
            assert set(old.get("required", [])) <= set(now[name].get("required", []))
        kind = old.get("properties", {}).get("type", {}).get("enum")
        assert kind is None or now[name]["properties"]["type"]["enum"] == kind


def test_there_is_an_example_of_each_fact() -> None:
    shown = {path.stem for path in EXAMPLES}
    assert shown == {str(kind.__struct_config__.tag) for kind in FAMILIES["facts"]}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_stored_fact_is_read_for_ever_and_fits_the_schema(path: Path) -> None:
    """Facts are for ever: these bytes stay as they are, whatever is added."""
    body = path.read_bytes().rstrip(b"\n")
    fact = decode_fact(body)
    assert str(fact.__struct_config__.tag) == path.stem
    assert encode(fact) == body
    schema = json.loads((FOLDER / "facts.json").read_text())
    name = type(fact).__name__
    jsonschema.validate(msgspec.json.decode(body), {"$ref": f"#/$defs/{name}", "$defs": schema["$defs"]})
