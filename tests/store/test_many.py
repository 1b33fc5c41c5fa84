"""Many rows in few statements."""

import sqlite3
from collections.abc import Iterator

import pytest

from agentd.store.many import SIZES, Many


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    made = sqlite3.connect(":memory:")
    made.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, word TEXT)")
    yield made
    made.close()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 31, 32, 33, 97])
def test_all_rows_are_written_in_their_order_by_few_statements(connection: sqlite3.Connection, count: int) -> None:
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    rows = [(count - number, f"w{number}") for number in range(count)]
    Many("t (id, word)", 2).execute(connection, rows)
    connection.set_trace_callback(None)
    assert connection.execute("SELECT id, word FROM t ORDER BY id DESC").fetchall() == rows
    assert sum(sql.startswith("INSERT") for sql in asked) <= count // max(SIZES) + len(SIZES) - 1


def test_what_follows_the_rows_holds_for_each_of_them(connection: sqlite3.Connection) -> None:
    many = Many("t (id, word)", 2, "ON CONFLICT (id) DO UPDATE SET word = excluded.word")
    many.execute(connection, [(1, "a"), (2, "b")])
    many.execute(connection, [(number, "new") for number in (1, 2, 3)])
    assert connection.execute("SELECT id, word FROM t").fetchall() == [(1, "new"), (2, "new"), (3, "new")]


def test_a_row_that_is_refused_takes_the_transaction_back(connection: sqlite3.Connection) -> None:
    connection.isolation_level = None
    connection.execute("BEGIN")
    Many("t (id, word)", 2).execute(connection, [(1, "a")])
    with pytest.raises(sqlite3.IntegrityError):
        Many("t (id, word)", 2).execute(connection, [(2, "b"), (1, "again")])
    assert not connection.in_transaction
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
