"""Every asyncio task has an owner here: who started it, what happens when it fails, who waits for its end.

Two kinds. A *job* (`start`) runs once; its failure is reported and nobody else is disturbed. A *keeper* (`keep`) is
started again when it fails, at most `RESTARTS_MAX` times within `RESTART_WINDOW_S`; after that the whole server is
told to stop (`on_fatal`), because a part that cannot run is worse hidden than shown. `stop` cancels what is left in
the reverse order of starting and waits for it with a deadline.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from agentd.clock import Clock

RESTARTS_MAX = 5
RESTART_WINDOW_S = 30.0

log = structlog.get_logger(__name__)


class Supervisor:
    """Owns the tasks of one server."""

    def __init__(self, clock: Clock, on_fatal: Callable[[str], None]) -> None:
        self._clock = clock
        self._on_fatal = on_fatal
        self._tasks: dict[asyncio.Task[Any], str] = {}  # in the order they were started
        self._stopping = False

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` once. An exception is logged with the task's name; the caller may also await the task."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks[task] = name
        task.add_done_callback(self._ended)
        return task

    def keep(self, name: str, make: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[Any]:
        """Run `make()` and start it anew when it fails; a return without error ends it."""
        return self.start(name, self._kept(name, make))

    async def stop(self, timeout_s: float) -> list[str]:
        """Cancel what still runs, newest first, and wait; the names of tasks that did not end in time."""
        self._stopping = True
        me = asyncio.current_task()
        left = [task for task in reversed(self._tasks) if task is not me]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=timeout_s)
        return [task.get_name() for task in left if not task.done()]

    def _ended(self, task: asyncio.Task[Any]) -> None:
        name = self._tasks.pop(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not self._stopping:
            log.error("task.failed", task_name=name, exc_info=error)

    async def _kept(self, name: str, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        failures: deque[float] = deque(maxlen=RESTARTS_MAX)
        while True:
            try:
                return await make()
            except Exception as error:
                now = self._clock.monotonic_s()
                if len(failures) == RESTARTS_MAX and now - failures[0] < RESTART_WINDOW_S:
                    log.error("keeper.gave_up", task_name=name, exc_info=error)
                    self._on_fatal(name)
                    return
                failures.append(now)
                log.warning("keeper.restarted", task_name=name, failures=len(failures), exc_info=error)
