"""docs/schema.md, made of the tables themselves."""

from __future__ import annotations

from sqlite_utils.migrations import Migrations

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
