from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from rudder.memory.pages import datasette_metadata, queries_page, schema_page
from rudder.memory.past.transfer import fill
from rudder.memory.run.export import export_run
from rudder.memory.sample import write_sample_run

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sample")
    export_run(write_sample_run(folder), folder / "run.db")
    fill(folder / "memory.db", folder)
    return {"run": folder / "run.db", "memory": folder / "memory.db"}


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
        (episode,) = connection.execute("SELECT episode_id FROM episodes LIMIT 1").fetchone()
        cursor = connection.execute(sql, {"rank": "", "episode_id": episode})
        columns = [column for column, *_ in cursor.description]
        rows = cursor.fetchall()
    assert rows, name
    assert all(column.isidentifier() for column in columns), columns
    assert not any(all(row[n] is None for row in rows) for n in _wanted(columns)), columns


def _wanted(columns: list[str]) -> list[int]:
    """All but the setting that only policies of rounds have."""
    return [n for n, column in enumerate(columns) if column != "replacement_interval"]


def test_a_query_asks_all_ranks_or_one(files: dict[str, Path]) -> None:
    (sql,) = (sql for _, name, sql in stored_queries() if name == "decisions")
    with closing(sqlite3.connect(files["run"])) as connection:
        ranks = [
            {row[0] for row in connection.execute(sql, {"rank": rank})} for rank in ("", "1", "7")
        ]
    assert ranks == [{0, 1}, {1}, set()]


def test_an_export_has_every_row_of_each_rank_and_links_them_to_episodes(tmp_path: Path) -> None:
    ranks = write_sample_run(tmp_path, num_episodes=3)
    counts = export_run(ranks, tmp_path / "run.db")
    for table, count in counts.items():
        found = 0
        for rank in ranks:
            with closing(sqlite3.connect(rank)) as one:
                found += one.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        assert count == found > 0, table
    with closing(sqlite3.connect(tmp_path / "run.db")) as db:
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        links = [row[2:5] for row in db.execute("PRAGMA foreign_key_list(audit)")]
    assert links == [("episodes", "episode_id", "episode_id")]
    assert not list(tmp_path.glob("*.tmp"))


def test_datasette_knows_what_tables_and_columns_hold(files: dict[str, Path]) -> None:
    databases = json.loads(datasette_metadata())["databases"]
    audit = databases["run"]["tables"]["audit"]
    assert audit["description"].startswith("The append-only log of calls")
    assert audit["columns"]["step"] == "of the trainer"
    assert audit["facets"] == ["rank", "kind", "agent", "tool", "outcome", "model"]
    for name, content in databases.items():
        with closing(sqlite3.connect(f"file:{files[name]}?mode=ro", uri=True)) as connection:
            for table, about in content["tables"].items():
                rows = connection.execute(f"SELECT name FROM pragma_table_info('{table}')")
                known = {column for (column,) in rows}
                assert {*about["columns"], *about["facets"]} <= known, table
