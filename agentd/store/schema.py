"""The shape of the database: numbered migrations, and the refusal of what this version does not know.

`migrations/NNNN_title.sql` brings a database from version NNNN-1 to NNNN (`user_version`), each in a transaction of
its own, so that a crash in the middle leaves the version before. A file is never changed after its release. A
database of a newer version is refused before anything in it is touched.
"""

import sqlite3
from importlib.resources import files

from agentd.store.errors import StoreError

APPLICATION_ID = 0x61676E74  # "agnt": tells our file from any other SQLite database
TABLES = ("meta", "events", "sessions", "runs", "entries", "keys", "snapshots")


def migrations() -> list[str]:
    """The SQL of each version, the first at index 0."""
    folder = files("agentd.store").joinpath("migrations")
    found = sorted((item for item in folder.iterdir() if item.name.endswith(".sql")), key=lambda item: item.name)
    numbers = [int(item.name[:4]) for item in found]
    assert numbers == list(range(1, len(found) + 1)), f"migrations are not numbered from 1 on: {numbers}"
    return [item.read_text(encoding="utf-8") for item in found]


def version_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def require_known(connection: sqlite3.Connection) -> None:
    """Refuse a database of a newer agentd or of another program.

    Raises:
        StoreError: with the remedy.
    """
    version, known = version_of(connection), len(migrations())
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    if application not in (0, APPLICATION_ID) or (application == 0 and version != 0):
        raise StoreError(
            "the database file belongs to another program",
            hint="choose another state directory ([server] state_dir), or move that file away",
        )
    if version > known:
        raise StoreError(
            f"the database has version {version}, this agentd knows up to {known}: it was written by a newer one",
            hint="start that newer agentd again, or restore a backup made before the upgrade",
        )


def migrate(connection: sqlite3.Connection, log_id: str, now_ms: int) -> bool:
    """Bring the database to the newest version; True when it was made anew, then under `log_id`."""
    version = version_of(connection)
    for number, sql in enumerate(migrations()[version:], start=version + 1):
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nPRAGMA application_id = {APPLICATION_ID};"
            )
            if number == 1:
                connection.executemany(
                    "INSERT INTO meta (key, value) VALUES (?, ?)", [("log_id", log_id), ("created", str(now_ms))]
                )
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return version == 0


def missing(connection: sqlite3.Connection) -> list[str]:
    """Tables and indexes that a database of this version must have and that are not there."""
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    reference = sqlite3.connect(":memory:")
    try:
        for sql in migrations():
            reference.executescript(sql)
        wanted = [name for (name,) in reference.execute("SELECT name FROM sqlite_master ORDER BY name")]
    finally:
        reference.close()
    return [name for name in wanted if name not in there and not name.startswith("sqlite_stat")]
