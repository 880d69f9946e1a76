"""docs/schema.md, and example queries for sqlite-utils and Datasette."""

from __future__ import annotations

import json
import re
from contextlib import closing
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from rudder.memory.database import Migrations
from rudder.memory.migrations import EXPERIENCE, RUN_FILE, fresh_database
from rudder.memory.run.export import TABLES

_FACETS = ("kind", "agent", "tool", "outcome", "planner", "decision", "result", "model", "epoch")
"""Columns of few values, which Datasette counts beside a table."""
_TITLE = """# Tables

Made by `rudder memory schema`; do not edit. JSON columns hold the types of the same name:
`Window` in training/metrics.py, `Workload` in training/workload.py, `Episode` and `Observation` in
memory/records.py, `Recalled` in memory/journal.py. Steps from version to version are in
memory/migrations.py and recorded in the table `_sqlite_migrations`.

"""


def schema_page() -> str:
    """Markdown; ends with a line break."""
    return (
        _TITLE
        + _section("A run: `RUN/steering/rankN.db`", RUN_FILE)
        + "\n"
        + _section("All runs: `memory.db` in the user's data folder", EXPERIENCE)
    )


def _section(title: str, migrations: Migrations) -> str:
    db = fresh_database(migrations)
    found = db.execute(
        "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE '%_sqlite_%'"
        " AND tbl_name NOT LIKE '%_sqlite_%' ORDER BY rowid"
    ).fetchall()
    db.close()
    return f"## {title}\n\n```sql\n" + "".join(f"{sql};\n" for (sql,) in found) + "```\n"


@dataclass(frozen=True)
class Query:
    """database: run (made by `rudder runs export`) or memory."""

    name: str
    title: str
    database: str
    sql: str


def queries() -> tuple[Query, ...]:
    """Those of queries.sql, which stands beside this file."""
    text = files("rudder.memory").joinpath("queries.sql").read_text()
    found = re.findall(r"^-- (run|memory) (\w+): (.+)\n([^;]+);", text, re.MULTILINE)
    return tuple(Query(name, title, database, sql) for database, name, title, sql in found)


def queries_page() -> str:
    """docs/queries.md: Markdown, ending with a line break."""
    head = (
        "# Queries\n\nMade by `rudder memory queries`; do not edit. `rudder runs export` copies the"
        " records of all ranks into one file, also while\nthe run goes on. Have its queries, and"
        " those of `memory.db`, as pages of [Datasette](https://datasette.io), here of a\nrecorded"
        " run:\n\n"
        "    rudder memory sample runs/sample\n"
        "    rudder runs export runs/sample run.db\n"
        "    rudder memory merge runs/sample --memory memory.db\n"
        "    rudder memory queries --datasette > metadata.json\n"
        "    datasette run.db memory.db --metadata metadata.json\n\n"
        "Datasette finds the queries by the names of the files. The page of an episode leads to its"
        " rows of the audit log, and each of these\nto its episode. Datasette 1.0 takes"
        " `metadata.json` by `--config`. Without Datasette, in which an empty rank means all of"
        " them:\n\n"
        "    sqlite-utils run.db \"SELECT ... WHERE :rank = '' OR rank = :rank\" -p rank 0\n\n"
        "What runs have left behind is in `memory.db` of the data folder; `rudder memory stats`"
        " reads it.\n"
    )
    return head + "".join(
        f"\n## {query.title}\n\nIn `{query.database}.db`:\n\n```sql\n{query.sql};\n```\n"
        for query in queries()
    )


def datasette_metadata() -> str:
    """A metadata file for Datasette: JSON, ending with a line break.

    It has the queries, what tables and columns hold, as their SQL says, and what to count by.
    """
    of_rank = _described(RUN_FILE)
    tables_of_run = {name: _with_rank(of_rank[name]) for name in TABLES}
    databases: dict[str, dict[str, Any]] = {
        "run": {"queries": {}, "tables": tables_of_run},
        "memory": {"queries": {}, "tables": _described(EXPERIENCE)},
    }
    for query in queries():
        stored = {"title": query.title, "sql": query.sql}
        databases[query.database]["queries"][query.name] = stored
    content = {"title": "Rudder: decisions and their outcomes", "databases": databases}
    return json.dumps(content, indent=2) + "\n"


def _with_rank(table: dict[str, Any]) -> dict[str, Any]:
    """A table of the file that has the rows of all ranks."""
    columns = {"rank": "of the trainer"} | table["columns"]
    return table | {"columns": columns, "facets": ["rank", *table["facets"]]}


def _described(migrations: Migrations) -> dict[str, dict[str, Any]]:
    """Tables of a file with the comments of their SQL."""
    with closing(fresh_database(migrations)) as db:
        found = dict(
            db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        )
    tables: dict[str, dict[str, Any]] = {}
    for name, sql in found.items():
        lines = sql.splitlines()
        about = [text for line in lines if (text := line.strip()).startswith("-- ")]
        columns = dict(re.findall(r"^ +(\w+) [^-\n]*-- (.+)$", sql, re.MULTILINE))
        facets = [
            each
            for each in _FACETS
            if re.search(rf"^ +{each} ", sql, re.MULTILINE)
            and not columns.get(each, "").startswith("JSON")
        ]
        if about or columns:
            tables[name] = {
                "description": " ".join(text.removeprefix("-- ") for text in about[:1]),
                "columns": columns,
                "facets": facets,
            }
    return tables
