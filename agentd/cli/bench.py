"""`agentd bench`: parses, looks whether the extra is there, and leaves the rest to the bench."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from agentd.cli.chat import Json
from agentd.cli.failure import DONE, FAILED, USAGE, Failure

INSTALL = "pip install 'agentd[bench]'"
PACKAGES = ("hdrh", "numpy", "matplotlib")
QUICK_S = 1.5
NORMAL_S = 10.0


def bench(
    *scenarios: Annotated[str, Parameter(help="Which ones, all when none is named; or `compare OLD NEW`.")],
    seconds: Annotated[float | None, Parameter(help="How long each load lasts. [default: 10; quick: 1.5]")] = None,
    sessions: Annotated[int, Parameter(help="Sessions that ask at once.")] = 64,
    rate: Annotated[float, Parameter(help="Requests offered a second; 0 looks for the peak first.")] = 0.0,
    arrivals: Annotated[Literal["poisson", "constant"], Parameter(help="How requests are spread.")] = "poisson",
    repeats: Annotated[int, Parameter(help="How often each load is measured.")] = 1,
    seed: Annotated[int, Parameter(help="Of the arrivals.")] = 1,
    quick: Annotated[bool, Parameter(negative="", help="Short loads: everything in two minutes.")] = False,
    floor: Annotated[bool, Parameter(negative="", help="Measure the floor server beside it (chat).")] = False,
    fault: Annotated[str | None, Parameter(help="Spoil a frame on its way: the bench has to fail.")] = None,
    out: Annotated[Path | None, Parameter(help="Folder for bench.json and bench.html.")] = None,
    json: Json = False,
    threshold: Annotated[float, Parameter(help="Percent from which compare calls a figure worse.")] = 10.0,
    url: Annotated[str | None, Parameter(help="A server that runs; its token in AGENTD_TOKEN.")] = None,
) -> int:
    """Load a server, check that the work happened, tell how fast it was. Exit 1 when a law was broken, or when a
    comparison finds something worse."""
    if any(importlib.util.find_spec(name) is None for name in PACKAGES):
        raise Failure("the bench needs packages that are not installed", f"Install them: {INSTALL}", code=USAGE)
    runner: Any = importlib.import_module("agentd.bench.runner")  # not before the check: it needs the extra
    if scenarios[:1] == ("compare",):
        return _compared(runner, scenarios[1:], threshold, json)
    options = runner.Options(
        seconds=seconds if seconds is not None else QUICK_S if quick else NORMAL_S,
        sessions=sessions, rate=rate, arrivals=arrivals, repeats=repeats, seed=seed, quick=quick, floor=floor,
        fault=fault, url=url.rstrip("/") if url else None, token=os.environ.get("AGENTD_TOKEN"),
    )  # fmt: skip
    try:
        result = runner.run(scenarios or tuple(runner.SCENARIOS), options, " ".join(["agentd", *sys.argv[1:]]))
        runner.show(result, out, as_json=json)
    except runner.Unusable as error:
        raise Failure(str(error), error.hint, code=USAGE) from error
    except runner.Failed as error:
        raise Failure(str(error)) from error
    return DONE if result.ok else FAILED


def _compared(runner: Any, names: tuple[str, ...], threshold: float, as_json: bool) -> int:
    try:
        return DONE if runner.compared(names, threshold, as_json=as_json) else FAILED
    except runner.Unusable as error:
        raise Failure(str(error), error.hint, code=USAGE) from error
