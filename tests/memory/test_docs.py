from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from rudder.memory.pages import datasette_metadata, queries, queries_page, schema_page
from rudder.memory.past.transfer import fill
from rudder.memory.sample import write_sample_run

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sample")
    rank0, _ = write_sample_run(folder)
    fill(folder / "memory.db", folder)
    return {"rank0": rank0, "memory": folder / "memory.db"}


def test_the_schema_in_the_docs_is_that_of_the_code() -> None:
    assert (DOCS / "schema.md").read_text() == schema_page()


def test_the_queries_in_the_docs_are_those_of_the_code() -> None:
    assert (DOCS / "queries.md").read_text() == queries_page()


def stored_queries() -> list[tuple[str, str, str]]:
    """Database, name and SQL, as Datasette reads them."""
    databases = json.loads(datasette_metadata())["databases"]
    return [
        (database, name, query["sql"])
        for database, content in databases.items()
        for name, query in content["queries"].items()
    ]


@pytest.mark.parametrize(("database", "name", "sql"), stored_queries())
def test_every_query_for_datasette_finds_rows_in_a_sample(
    files: dict[str, Path], database: str, name: str, sql: str
) -> None:
    with closing(sqlite3.connect(f"file:{files[database]}?mode=ro", uri=True)) as connection:
        cursor = connection.execute(sql)
        columns = [column for column, *_ in cursor.description]
        rows = cursor.fetchall()
    assert rows, name
    assert all(column.isidentifier() for column in columns), columns
    assert not any(all(row[n] is None for row in rows) for n in _wanted(columns)), columns


def _wanted(columns: list[str]) -> list[int]:
    """All but the setting that only policies of rounds have."""
    return [n for n, column in enumerate(columns) if column != "replacement_interval"]


def test_datasette_gets_all_ten_queries() -> None:
    assert sorted(name for _, name, _ in stored_queries()) == sorted(
        query.name for query in queries()
    )
    assert len(stored_queries()) == 10


def test_datasette_knows_what_tables_and_columns_hold(files: dict[str, Path]) -> None:
    databases = json.loads(datasette_metadata())["databases"]
    audit = databases["rank0"]["tables"]["audit"]
    assert audit["description"].startswith("The append-only log of calls")
    assert audit["columns"]["step"] == "of the trainer"
    assert audit["facets"] == ["kind", "agent", "tool", "outcome"]
    for name, content in databases.items():
        with closing(sqlite3.connect(f"file:{files[name]}?mode=ro", uri=True)) as connection:
            for table, about in content["tables"].items():
                rows = connection.execute(f"SELECT name FROM pragma_table_info('{table}')")
                known = {column for (column,) in rows}
                assert {*about["columns"], *about["facets"]} <= known, table
