"""Choosing a provider costs no import of a client; a child process shows it, this one has imported everything."""

import subprocess
import sys

SCRIPT = """
import sys
import agentd.providers.choose
print(sorted({"openai", "httpx2", "aiohttp", "pydantic"} & set(sys.modules)))
"""


def test_neither_the_package_nor_its_clients_are_imported_by_choosing() -> None:
    said = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "[]"
