"""`agentd serve`: the settings of this start, the log, the event loop; everything else is the application's."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from agentd import config, logs
from agentd.app import StartError
from agentd.app import serve as run_server
from agentd.cli.failure import Failure

try:
    import uvloop
except ImportError:  # the extra `fast` is not installed
    LOOP: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    LOOP = uvloop.new_event_loop


def serve(
    *,
    host: Annotated[str | None, Parameter(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, Parameter(help="Port to listen on, 0 for any free one. [default: 18790]")] = None,
    state_dir: Annotated[str | None, Parameter(help="Where everything is kept. [default: the user's state]")] = None,
    config_file: Annotated[Path | None, Parameter(name="--config", help="A TOML file of settings.")] = None,
    provider: Annotated[str | None, Parameter(help="Who thinks: offline or openai. [default: offline]")] = None,
) -> int:
    """Start the server and run until SIGTERM or Ctrl-C, which drain it within 10 s."""
    flags = {"server.host": host, "server.port": port, "server.state_dir": state_dir, "provider.name": provider}
    env = dict(os.environ)
    try:
        settings = config.load(flags, env, config_file)
        logs.configure(env.get("AGENTD_LOG"), sys.stderr)
        with asyncio.Runner(loop_factory=LOOP) as runner:
            return runner.run(run_server(settings, env, announce=_announce))
    except (config.ConfigError, StartError) as error:
        raise Failure(error.message, error.hint) from error


def _announce(text: str) -> None:
    """What a person reads at the start. Nobody reading it is no reason to stop."""
    try:
        print(text, flush=True)
    except (BrokenPipeError, ValueError):
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process
