"""The command `agentd`: its verbs, and the one place where a failure becomes a sentence and an exit code.

Verbs are registered by the path of their function, so that a command imports what it needs and no more: `agentd chat`
knows nothing of the store, and only `agentd serve` imports the server.
"""

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from agentd import __version__
from agentd.cli.failure import DONE, FAILED, INTERRUPTED, USAGE, Failure, told

EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 usage, 3 denied, 4 not found, 5 server not reachable, 130 interrupted.\n\n"
    "The server is found by AGENTD_URL and AGENTD_TOKEN, else by the state directory."
)

VERBS: tuple[tuple[str, str, str, str], ...] = (
    (
        "serve", "agentd.cli.serve:serve", "Start the server.",
        "agentd serve\nagentd serve --port 0 --state-dir /tmp/try\nAGENTD_PROVIDER__NAME=openai agentd serve",
    ),
    (
        "chat", "agentd.cli.chat:chat", "Say something, or talk until /quit.",
        'agentd chat "What is 12 * 7?"\nagentd chat\ngit diff | agentd chat --stdin --session review\n'
        'agentd chat "hello" --json',
    ),
    (
        "goal", "agentd.cli.goal:goal", "Have a goal planned, worked on and answered.",
        'agentd goal "list three colours; name a fruit for each"\nagentd goal "sum up the week" --no-wait\n'
        'agentd goal "..." --overflow drop --json',
    ),
    (
        "ctl", "agentd.cli.ctl:ctl", "Pause, resume, cancel, steer, approve and look at what runs.",
        "agentd ctl state\nagentd ctl pause --session '*'\nagentd ctl cancel --run RUN\n"
        'agentd ctl steer "shorter, please"\nagentd ctl approve --gate GATE --note "checked"\n'
        "agentd ctl answer '\"blue\"' --task TASK",
    ),
    (
        "status", "agentd.cli.status:status", "Show how the server is.",
        "agentd status\nagentd status --json",
    ),
    (
        "sessions", "agentd.cli.sessions:app",
        "List the sessions; show the tree of one, branch from an entry, go on from another one.", "",
    ),
    ("memory", "agentd.cli.memory:app", "Search, show, export and forget what a session remembers.", ""),
    (
        "trace", "agentd.cli.trace:trace", "Write the facts of a run, one JSON object a line, as the log holds them.",
        "agentd trace RUN > run.ndjson\nagentd trace RUN --follow\nagentd trace run.ndjson --check\n"
        "agentd trace RUN --check",
    ),
    (
        "export", "agentd.cli.export:export", "Write a session with all its facts, one JSON object a line.",
        "agentd export review > review.ndjson\nagentd export review --out review.ndjson",
    ),
    (
        "replay", "agentd.cli.replay:replay", "Show a session as it was, or have its rules decide again on its log.",
        "agentd replay review --verify\nagentd replay review.ndjson --verify --run RUN\n"
        "agentd replay review --until 120",
    ),
    (
        "doctor", "agentd.cli.doctor:doctor", "Look for what is wrong, change nothing, name a remedy for each finding.",
        "agentd doctor\nagentd doctor --json",
    ),
    (
        "backup", "agentd.cli.backup:backup", "Copy the database of the running server.",
        "agentd backup\nagentd backup /mnt/backups/agentd.db\nagentd backup --json",
    ),
    (
        "bench", "agentd.cli.bench:bench", "Load a server and check that the work happened.",
        "agentd bench --quick\nagentd bench chat --floor --seconds 20 --repeats 3 --out result\n"
        "agentd bench chat --rate 500 --url http://127.0.0.1:18790\nagentd bench chat --quick --fault double-end\n"
        "agentd bench compare before after --threshold 15",
    ),
    (
        "import", "agentd.cli.importing:import_", "Take in the snapshots of the older JSON format, each of them once.",
        "agentd import ~/old-state\nagentd import /srv/old --json",
    ),
    ("token", "agentd.cli.token:app", "Give out, list and revoke tokens of this state directory.", ""),
)  # fmt: skip
"""Name, where it is, what it does, examples (an App brings its own)."""


def build() -> App:
    """The command line, with nothing of a verb imported yet."""
    plain = not sys.stdout.isatty()
    app = App(
        name="agentd",
        help="agentd, a self-hosted agent server on a durable log.",
        help_epilogue=EXIT_CODES,
        version=__version__,
        help_format="plaintext",
        help_formatter="plain" if plain else None,
        error_formatter=lambda error: f"error: {error}\nhint: `--help` after a command shows what it takes.",
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for name, path, says, examples in VERBS:
        own = {"help_epilogue": examples_text(examples)} if examples else {}
        app.command(path, name=name, help=says, **own)
    return app


def examples_text(lines: str) -> str:
    return "Examples:\n\n" + "\n".join(f"    {line}" for line in lines.splitlines())


def run(arguments: Sequence[str] | None = None) -> int:
    """Do what `arguments` (default: the process's) ask for; the exit code."""
    try:
        result = build()(arguments, exit_on_error=False, print_error=True)
        sys.stdout.flush()
    except CycloptsError:  # already told
        return USAGE
    except Failure as failure:
        return told(failure)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read us is gone; what is still buffered must not be tried again at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return result if isinstance(result, int) else DONE


def main() -> None:
    sys.exit(run())
