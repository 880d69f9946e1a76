"""docs/schema.md, and ten example queries for sqlite-utils and Datasette."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib.resources import files

from rudder.memory.database import Migrations
from rudder.memory.migrations import EXPERIENCE, RUN_FILE, fresh_database

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
    """database: rank0 (any rank's file) or memory."""

    name: str
    title: str
    database: str
    sql: str


def queries() -> tuple[Query, ...]:
    """Those of queries.sql, which stands beside this file."""
    text = files("rudder.memory").joinpath("queries.sql").read_text()
    found = re.findall(r"^-- (rank0|memory) (\w+): (.+)\n([^;]+);", text, re.MULTILINE)
    return tuple(Query(name, title, database, sql) for database, name, title, sql in found)


def queries_page() -> str:
    """docs/queries.md: Markdown, ending with a line break."""
    head = (
        "# Ten queries\n\nMade by `rudder memory queries`; do not edit. Run one with"
        ' `sqlite-utils FILE "SQL"`, or have all\nas pages of'
        " [Datasette](https://datasette.io), here of a made-up run:\n\n"
        "    rudder memory sample runs/sample\n"
        "    rudder memory merge runs/sample --memory memory.db\n"
        "    rudder memory queries --datasette > metadata.json\n"
        "    datasette runs/sample/steering/rank0.db memory.db --metadata metadata.json\n\n"
        "A run of yours is in `runs/RUN/steering/`, one file a rank, and what runs have left behind"
        " in `memory.db` of the data folder\n(`rudder memory stats` reads it). Queries of a rank"
        " are kept for a file named `rank0.db`. Datasette 1.0\ntakes the file by `--config`.\n"
    )
    return head + "".join(
        f"\n## {query.title}\n\nIn `{query.database}.db`:\n\n```sql\n{query.sql};\n```\n"
        for query in queries()
    )


def datasette_metadata() -> str:
    """A metadata file for Datasette: JSON, ending with a line break."""
    databases: dict[str, dict[str, dict[str, object]]] = {}
    for query in queries():
        stored = databases.setdefault(query.database, {"queries": {}})["queries"]
        stored[query.name] = {"title": query.title, "sql": query.sql}
    content = {"title": "Rudder: decisions and their outcomes", "databases": databases}
    return json.dumps(content, indent=2) + "\n"
