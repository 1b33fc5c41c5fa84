"""`agentd doctor`: everything that can be told to be wrong without changing anything.

Exit codes are the doctor's own (L18): 0 all is well, 1 there are warnings, 2 there are errors.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from agentd import config
from agentd.cli import checks
from agentd.cli.address import local_token
from agentd.cli.chat import Json
from agentd.cli.checks import Finding
from agentd.cli.failure import Failure
from agentd.cli.screen import one_line, print_json, quiet_logs

_EXIT = {"ok": 0, "warning": 1, "error": 2}


def doctor(
    *,
    state_dir: Annotated[str | None, Parameter(help="The state directory. [default: the user's]")] = None,
    config_file: Annotated[Path | None, Parameter(name="--config", help="A TOML file of settings.")] = None,
    json: Json = False,
) -> int:
    """Look for what is wrong. Exit 0 when all is well, 1 with warnings, 2 with errors."""
    quiet_logs()
    found = []
    for finding in examine(state_dir, config_file, os.environ):
        found.append(finding)
        if not json:
            _show(finding)
    worst = max(_EXIT[finding.level] for finding in found)
    if json:
        print_json({"exit": worst, "findings": found})
    else:
        counts = {level: sum(one.level == level for one in found) for level in ("error", "warning")}
        print(f"{counts['error']} errors, {counts['warning']} warnings")
    return worst


def examine(state_dir: str | None, config_file: Path | None, env: Mapping[str, str]) -> Iterator[Finding]:
    """All findings, in the order in which one would mend them."""
    yield from checks.interpreter()
    try:
        settings = config.load({"server.state_dir": state_dir}, env, config_file)
    except config.ConfigError as error:
        yield Finding("settings", "error", error.message, error.hint)
        return
    yield from checks.settings_shown(settings)
    state = Path(settings.server.state_dir)
    yield from checks.state_dir(state)
    yield from checks.backups(state)
    owner = checks.running(state)
    if owner is None:
        yield from checks.offline(settings, state)
    else:
        yield from checks.server(settings, state, _token(state), owner)
    yield from checks.provider(settings, env)


def _token(state: Path) -> str:
    """Empty when it can't be read: what is asked needs none."""
    try:
        return local_token(state)
    except Failure:
        return ""


def _show(finding: Finding) -> None:
    print(f"{finding.level:<8} {finding.subject:<9} {one_line(finding.what)}")
    if finding.remedy:
        print(f"{'':<8} {'':<9} remedy: {one_line(finding.remedy)}")
