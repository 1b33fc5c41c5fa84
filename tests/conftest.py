"""For all tests: a test that sets up logging leaves nothing of it to the next one."""

import logging
import sys
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Loggers that were bound in a test write to its captured stream, which is closed after it."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:], logging.root.level = handlers, level
    structlog.reset_defaults()
    for name, module in list(sys.modules.items()):
        log = getattr(module, "log", None) if name.startswith("agentd.") else None
        if log is not None and "bind" in vars(log):  # cached on its first use
            del log.bind
