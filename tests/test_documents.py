"""The documents say what the code does: every setting, every frame, every example, every variable and door."""

import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from agentd.config import describe
from agentd.protocol import commands, errors, facts, replies, signals
from agentd.protocol.codec import decode_command
from agentd.settings import SECTIONS

ROOT = Path(__file__).resolve().parent.parent
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```json\n(.*?)```", PROTOCOL, re.DOTALL)

ASKED: tuple[type[msgspec.Struct], ...] = get_args(commands.AnyCommand)
TOLD: tuple[type[msgspec.Struct], ...] = (
    *get_args(facts.AnyFact),
    *get_args(signals.AnySignal),
    *get_args(replies.AnyReply),
    errors.ErrorFrame,
)


def type_of(frame: type[msgspec.Struct]) -> str:
    return str(frame.__struct_config__.tag)


def section(title: str) -> str:
    """The text of one chapter of the protocol."""
    return PROTOCOL.split(f"\n## {title}", 1)[1].split("\n## ", 1)[0]


def in_toml(value: Any) -> str:
    """Of the types that settings have, JSON writes what TOML does."""
    return msgspec.json.encode(value).decode()


@pytest.mark.parametrize("name", SECTIONS)
def test_every_setting_stands_in_the_settings_page_with_its_default_and_bounds(name: str) -> None:
    text = SETTINGS.split(f"\n## [{name}]\n", 1)[1].split("\n## ", 1)[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (`.*?` \| .*?) \| .+ \|$", text, re.MULTILINE))
    expected = {
        field.name: f"`{in_toml(msgspec.convert(getattr(SECTIONS[name](), field.name), field.type))}`"
        f" | {describe(field.type)}"
        for field in msgspec.structs.fields(SECTIONS[name])
    }
    assert rows == expected


@pytest.mark.parametrize("frame", ASKED, ids=type_of)
def test_every_client_frame_stands_in_the_protocol_page_with_its_fields(frame: type[msgspec.Struct]) -> None:
    text = section("1.") + section("4. Client frames")
    assert f"`{type_of(frame)}`" in text
    own = {field.encode_name for field in msgspec.structs.fields(frame)} - {"id", "session"}
    assert not {name for name in own if not re.search(rf"\b{name}\b", text)}


@pytest.mark.parametrize("frame", TOLD, ids=type_of)
def test_every_server_frame_stands_in_the_protocol_page(frame: type[msgspec.Struct]) -> None:
    assert re.search(rf"[`\"]{re.escape(type_of(frame))}[`\"]", PROTOCOL)


def test_every_error_code_stands_in_the_protocol_page() -> None:
    text = section("3. Errors")
    assert not [error.code for error in errors.ALL if f"`{error.code}`" not in text]


def test_every_action_stands_in_the_protocol_page() -> None:
    text = section("4. Client frames")
    assert not [action for action in get_args(commands.Action) if f"`{action}`" not in text]


def test_the_page_shows_examples() -> None:
    assert len(EXAMPLES) >= 10


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_read_by_the_code_and_has_no_field_that_the_code_does_not_know(example: str) -> None:
    given = msgspec.json.decode(example)
    if "ts" not in given and given["type"] != "error":
        frame: msgspec.Struct = decode_command(example.encode())
    else:
        known = {type_of(kind): kind for kind in TOLD}
        frame = msgspec.json.decode(example, type=known[given["type"]])
        given.pop("request", None)  # may stand on any fact that is a reply
    fields = {field.encode_name: field.name for field in msgspec.structs.fields(frame)}
    for name in set(given) - {"type"}:
        assert msgspec.to_builtins(getattr(frame, fields[name])) == given[name]


def test_every_link_between_documents_leads_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{document.name}: {target}"
        for document in documents
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
        if not (document.parent / target).exists()
    ]
    assert not broken


def test_every_file_that_the_readme_wants_read_is_there() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    order = readme.split("## Read the code in this order", 1)[1].split("\n## ", 1)[0]
    missing = []
    for line in re.findall(r"^\d+\. .*\n(?:   .*\n)*", order, re.MULTILINE):
        folder = ROOT
        for name in re.findall(r"`([\w/]+\.py)`", line):
            path = ROOT / name if name.startswith("agentd/") else folder / name
            folder = path.parent
            if not path.exists():
                missing.append(path.relative_to(ROOT).as_posix())
    assert not missing


def test_every_door_of_the_makefile_is_told_to_newcomers() -> None:
    doors = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert doors
    texts = (ROOT / "Makefile").read_text(encoding="utf-8").split("\n\n", 1)[0]
    assert not [door for door in doors[1].split() if f"make {door}" not in texts]
