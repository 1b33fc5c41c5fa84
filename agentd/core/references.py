"""Results of earlier tasks in the input of later ones: `{{task}}` stands for what that task brought."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from agentd.core.state import Run

_REFERENCE = re.compile(r"\{\{ ?([\w.-]{1,64}) ?\}\}")


def named_outputs(run: Run, results: Mapping[str, Any]) -> dict[str, Any]:
    """What can be referred to: results by task, and by the key that tasks write. Several writers of one key are merged
    in the order they are declared, whatever order they ended in (L10)."""
    found = dict(results)
    for name, task in run.tasks.items():
        key = task.spec.output
        if key is None or name not in results:
            continue
        if task.spec.merge == "append":
            found.setdefault(key, [])
            found[key] = [*found[key], results[name]]
        else:
            found[key] = results[name]
    return found


def filled(value: Any, results: Mapping[str, Any]) -> Any:
    """`value` with its references replaced; a text that is one reference becomes the value, unknown ones stay."""
    if isinstance(value, str):
        whole = _REFERENCE.fullmatch(value)
        if whole is not None and whole[1] in results:
            return results[whole[1]]
        return _REFERENCE.sub(lambda found: _text(results, found), value)
    if isinstance(value, dict):
        return {key: filled(inner, results) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, results) for inner in value]
    return value


def _text(results: Mapping[str, Any], found: "re.Match[str]") -> str:
    if found[1] not in results:
        return found[0]
    result = results[found[1]]
    return result if isinstance(result, str) else msgspec.json.encode(result).decode()
