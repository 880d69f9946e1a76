"""docs/schema.md, and ten example queries for sqlite-utils and Datasette."""

from __future__ import annotations

import json
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Query:
    """database: rank0 (any rank's file) or memory."""

    name: str
    title: str
    database: str
    sql: str


QUERIES = (
    Query("decisions", "Every decision and what it brought", "rank0",
          "SELECT number, step, planner, decision, result,\n"
          "       round(rows_before) AS rows_before, round(rows_after) AS rows_after,\n"
          "       round(wait_ms_before, 2) AS wait_ms_before,\n"
          "       round(wait_ms_after, 2) AS wait_ms_after, episode_id\n"
          "FROM episodes ORDER BY number"),
    Query("reverted", "What was tried and taken back, and why", "rank0",
          "SELECT number, step,\n"
          "       json_patch('{}', json_extract(content, '$.verdict.change')) AS change,\n"
          "       json_extract(content, '$.outcome.reason') AS reason, episode_id\n"
          "FROM episodes WHERE result = 'reverted' ORDER BY number"),
    Query("prediction_error", "How far predictions of rows fetched were off, by planner", "rank0",
          "SELECT planner, count(rows_error) AS measured_changes,\n"
          "       round(avg(abs(rows_error)), 3) AS mean_error\n"
          "FROM episodes GROUP BY planner"),
    Query("hits_by_epoch", "Hit share and exposed wait, epoch by epoch", "rank0",
          "SELECT epoch, round(1.0 * sum(hits) / sum(remote_rows), 3) AS hit_share,\n"
          "       round(1000 * sum(exposed_wait_s) / sum(num_steps), 2) AS wait_ms_per_step\n"
          "FROM windows GROUP BY epoch ORDER BY epoch"),
    Query("settings_over_time", "From which step on which settings held", "rank0",
          "SELECT json_extract(result, '$.step') AS since_step, agent, tool,\n"
          "       json_extract(result, '$.settings.capacity_rows') AS capacity_rows,\n"
          "       json_extract(result, '$.settings.lookahead_batches') AS lookahead_batches,\n"
          "       json_extract(result, '$.settings.eviction_threshold') AS eviction_threshold,\n"
          "       json_extract(result, '$.settings.replacement_interval')\n"
          "           AS replacement_interval\n"
          "FROM audit WHERE outcome = 'applied' ORDER BY number"),
    Query("calls_by_tool", "Calls, refusals and time, by agent and tool", "rank0",
          "SELECT agent, tool, sum(kind = 'call') AS calls, sum(outcome = 'refused') AS refused,\n"
          "       round(avg(latency_ms), 2) AS mean_ms\n"
          "FROM audit WHERE kind IN ('call', 'result') GROUP BY agent, tool"),
    Query("tokens", "Tokens and waiting by model, and who counted them", "rank0",
          "SELECT model, tokens_source, count(*) AS calls, sum(input_tokens) AS input_tokens,\n"
          "       sum(output_tokens) AS output_tokens, round(avg(latency_ms), 1) AS mean_ms\n"
          "FROM model_calls GROUP BY model, tokens_source"),
    Query("unanswered", "Intents that no effect followed", "rank0",
          "SELECT number, time, step, tool, arguments FROM audit AS intent\n"
          "WHERE kind = 'intent' AND NOT EXISTS (\n"
          "    SELECT 1 FROM audit WHERE kind = 'effect' AND call_id = intent.call_id)"),
    Query("what_works", "What works, by policy: confirmed and reverted, rows saved", "memory",
          "SELECT json_extract(workloads.content, '$.policy') AS policy, result,\n"
          "       count(*) AS episodes, round(avg(1 - rows_after / rows_before), 3) AS rows_saved\n"
          "FROM episodes JOIN workloads ON workloads.number = episodes.workload\n"
          "GROUP BY policy, result"),
    Query("best_settings", "The best settings that each kind of work has come to", "memory",
          "SELECT json_extract(workloads.content, '$.policy') AS policy,\n"
          "       json_extract(workloads.content, '$.num_halo') AS num_halo,\n"
          "       json_extract(workloads.content, '$.batch_size') AS batch_size,\n"
          "       round(min(wait_ms_after), 2) AS wait_ms,\n"
          "       json_patch('{}', json_extract(episodes.content, '$.applied.settings'))\n"
          "           AS settings, signature\n"
          "FROM episodes JOIN workloads ON workloads.number = episodes.workload\n"
          "WHERE result = 'confirmed' GROUP BY signature"),
)  # fmt: skip


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
        for query in QUERIES
    )


def datasette_metadata() -> str:
    """A metadata file for Datasette: JSON, ending with a line break."""
    databases: dict[str, dict[str, dict[str, object]]] = {}
    for query in QUERIES:
        stored = databases.setdefault(query.database, {"queries": {}})["queries"]
        stored[query.name] = {"title": query.title, "sql": query.sql}
    content = {"title": "Rudder: decisions and their outcomes", "databases": databases}
    return json.dumps(content, indent=2) + "\n"
