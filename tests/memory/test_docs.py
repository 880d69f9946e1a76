from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from rudder.memory.exchange import fill
from rudder.memory.queries import QUERIES, Query, datasette_metadata, queries_page
from rudder.memory.sample import write_sample_run
from rudder.memory.schema_page import schema_page

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


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_every_query_runs_and_finds_something(files: dict[str, Path], query: Query) -> None:
    connection = sqlite3.connect(files[query.database])
    found = connection.execute(query.sql).fetchall()
    connection.close()
    assert bool(found) == (query.name != "unanswered")


def test_datasette_gets_all_ten_queries() -> None:
    databases = json.loads(datasette_metadata())["databases"]
    names = [name for each in databases.values() for name in each["queries"]]
    assert sorted(names) == sorted(query.name for query in QUERIES)
    assert len(names) == 10
