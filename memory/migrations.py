"""Numbered steps from an empty file to the present tables; each is recorded in the file itself.

A released step never changes: a change of the tables is a new step. docs/schema.md is made of the
SQL here, comments and all.
"""

from __future__ import annotations

import functools
import sqlite3

from rudder.memory.database import Database, Migrations

FIRST_HASH = "0" * 64
RUN_FILE = Migrations("run")
EXPERIENCE = Migrations("experience")

_EXPERIENCE_TABLES = (
    """CREATE TABLE origins (
    -- Where episodes came from.
    origin TEXT PRIMARY KEY,      -- random name of the memory that saw them first
    is_own INTEGER NOT NULL,      -- 1: this memory's own runs
    added_at TEXT NOT NULL
) STRICT""",
    """CREATE TABLE workloads (
    -- One trainer's run.
    number INTEGER PRIMARY KEY,
    origin TEXT NOT NULL REFERENCES origins (origin),
    run_key TEXT NOT NULL,
    rank INTEGER NOT NULL,
    signature TEXT NOT NULL,      -- equal for equal work: partition, batch, fan-outs, policy
    content TEXT NOT NULL,        -- JSON: Workload
    audit_number INTEGER,         -- where its audit log ended when it was merged
    audit_hash TEXT,
    UNIQUE (origin, run_key, rank)
) STRICT""",
    """CREATE TABLE episodes (
    -- Finished episodes.
    number INTEGER PRIMARY KEY,   -- higher: newer in this memory
    workload INTEGER NOT NULL REFERENCES workloads (number),
    episode_id TEXT NOT NULL,
    planner TEXT NOT NULL,
    result TEXT NOT NULL,
    rows_before REAL,
    rows_after REAL,
    wait_ms_before REAL,
    wait_ms_after REAL,
    ended_at TEXT NOT NULL,       -- UTC, ISO 8601
    trusted INTEGER NOT NULL,     -- 0: imported and not used until `rudder memory trust`
    content TEXT NOT NULL,        -- JSON: Episode
    checksum INTEGER NOT NULL,    -- CRC-32 of content
    UNIQUE (workload, episode_id)
) STRICT""",
    """CREATE TABLE recall_keys (
    -- The circumstances of trusted episodes with a measured effect, as recall compares them.
    number INTEGER PRIMARY KEY REFERENCES episodes (number),
    policy TEXT NOT NULL,
    result TEXT NOT NULL,
    signature TEXT NOT NULL,
    wait_ms_after REAL,
    vector BLOB NOT NULL          -- uint8 per feature, in 1/64
) STRICT""",
    "CREATE INDEX recall_best ON recall_keys (signature, result, wait_ms_after)",
    "CREATE INDEX episodes_by_id ON episodes (episode_id)",
)


_AUDIT_TABLES = (
    """CREATE TABLE audit (
    -- The append-only log of calls and what became of them, chained by hash.
    number INTEGER PRIMARY KEY,   -- 1, 2, 3 without a gap
    time TEXT NOT NULL,           -- UTC, ISO 8601 with microseconds
    run_key TEXT NOT NULL,        -- random hexadecimal name of the run
    rank INTEGER NOT NULL,
    kind TEXT NOT NULL,           -- call, result, intent, effect or note
    call_id TEXT NOT NULL,        -- joins call and result, intent and effect
    agent TEXT NOT NULL,          -- observer, planner, critic, guard, act or user
    tool TEXT NOT NULL,
    step INTEGER NOT NULL,        -- of the trainer
    episode_id TEXT,
    arguments TEXT,               -- JSON
    result TEXT,                  -- JSON
    outcome TEXT,                 -- staged, approved, refused, applied, confirmed, reverted, ...
    error_type TEXT,
    model TEXT,
    input_tokens INTEGER,
    output_tokens INTEGER,
    latency_ms REAL,
    previous_hash TEXT NOT NULL,  -- hash of the row before; 64 zeros for the first
    hash TEXT NOT NULL            -- SHA-256 of this row's canonical JSON without hash and nulls
) STRICT""",
    """CREATE TABLE audit_head (
    -- Where the log ends, so that rows cut off its end are missed.
    id INTEGER PRIMARY KEY CHECK (id = 1),
    number INTEGER NOT NULL,      -- of the last row of audit
    hash TEXT NOT NULL            -- of the last row of audit
) STRICT""",
    "CREATE INDEX audit_of_episode ON audit (episode_id)",
    """CREATE TRIGGER audit_refuses_update BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
    """CREATE TRIGGER audit_refuses_delete BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
    """CREATE TRIGGER audit_head_moves_by_one BEFORE UPDATE ON audit_head
WHEN new.number <> old.number + 1
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
    """CREATE TRIGGER audit_head_refuses_delete BEFORE DELETE ON audit_head
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
    f"INSERT INTO audit_head VALUES (1, 0, '{FIRST_HASH}')",
)

_RUN_TABLES = (
    """CREATE TABLE sessions (
    -- One row each time a controller began or went on.
    number INTEGER PRIMARY KEY,
    run_key TEXT NOT NULL,
    rank INTEGER NOT NULL,
    began_at TEXT NOT NULL,       -- UTC, ISO 8601
    ended_at TEXT,                -- null: running, or killed
    version TEXT NOT NULL,        -- of Rudder
    workload TEXT NOT NULL        -- JSON: Workload
) STRICT""",
    """CREATE TABLE windows (
    -- One rank's measurements over consecutive steps.
    number INTEGER PRIMARY KEY,
    window INTEGER NOT NULL,      -- the trainer's count; starts again with the trainer
    epoch INTEGER NOT NULL,
    first_step INTEGER NOT NULL,
    num_steps INTEGER NOT NULL,
    capacity_rows INTEGER NOT NULL,
    remote_rows INTEGER NOT NULL,
    hits INTEGER NOT NULL,
    rows_fetched INTEGER NOT NULL,
    exposed_wait_s REAL NOT NULL, -- the trainer standing still for data
    wall_s REAL,
    content TEXT NOT NULL         -- JSON: Window, without its slice
) STRICT""",
    "CREATE INDEX windows_by_window ON windows (window)",
    """CREATE TABLE slices (
    -- Sampled accesses of a window. Over the file's cap the oldest go first, those that no
    -- episode was decided on before those that one was.
    number INTEGER PRIMARY KEY REFERENCES windows (number),
    window INTEGER NOT NULL,
    rate REAL NOT NULL,           -- share of the nodes that are sampled
    sizes BLOB NOT NULL,          -- sampled nodes of each batch: little-endian int32, zlib
    nodes BLOB NOT NULL,          -- their remote numbers in order: little-endian int32, zlib
    num_bytes INTEGER NOT NULL
) STRICT""",
    """CREATE TABLE episodes (
    -- One decision, from what was seen to what it brought.
    episode_id TEXT PRIMARY KEY,
    run_key TEXT NOT NULL,
    rank INTEGER NOT NULL,
    number INTEGER NOT NULL,      -- the controller's count
    step INTEGER NOT NULL,
    window INTEGER NOT NULL,      -- the last one that was seen
    planner TEXT NOT NULL,
    decision TEXT,                -- the critic's: approve, trim or refuse
    result TEXT,                  -- confirmed, reverted, refused, expired, kept or abandoned
    rows_before REAL,             -- rows fetched per step
    rows_after REAL,
    wait_ms_before REAL,          -- exposed wait per step
    wait_ms_after REAL,
    rows_error REAL,              -- (measured - expected) / expected rows fetched
    began_at TEXT NOT NULL,
    saved_at TEXT NOT NULL,
    content TEXT NOT NULL,        -- JSON: Episode
    checksum INTEGER NOT NULL     -- CRC-32 of content
) STRICT""",
    "CREATE INDEX episodes_by_number ON episodes (number)",
    """CREATE TABLE recalls (
    -- What recall answered, for replay: memory goes on changing.
    number INTEGER PRIMARY KEY,
    step INTEGER NOT NULL,
    window INTEGER NOT NULL,
    content TEXT NOT NULL         -- JSON: list of Recalled
) STRICT""",
    """CREATE TABLE model_calls (
    -- One question to a language model and its answer.
    number INTEGER PRIMARY KEY,
    time TEXT NOT NULL,
    call_id TEXT NOT NULL,
    episode_id TEXT,
    agent TEXT NOT NULL,
    step INTEGER NOT NULL,
    model TEXT NOT NULL,
    messages TEXT NOT NULL,       -- JSON, as sent
    answer TEXT,                  -- JSON, as it came; null: none came
    input_tokens INTEGER,
    output_tokens INTEGER,
    tokens_source TEXT NOT NULL,  -- server, estimated or missing
    latency_ms REAL NOT NULL,
    error_type TEXT
) STRICT""",
    "CREATE INDEX model_calls_of_episode ON model_calls (episode_id)",
)

_REPLAY_TABLES = (
    """CREATE TABLE decision_inputs (
    -- What a decision rested on besides windows, recalls and model calls; written before it acts.
    episode_id TEXT PRIMARY KEY,
    session INTEGER NOT NULL REFERENCES sessions (number),
    first_window INTEGER NOT NULL, -- number of the first row of windows that the session wrote
    content TEXT NOT NULL          -- JSON: DecisionInputs
) STRICT""",
)

_PRUNING_TABLES = (
    "ALTER TABLE slices RENAME TO old_slices",
    _RUN_TABLES[3].replace(
        "the oldest go first, those that no\n"
        "    -- episode was decided on before those that one was.",
        "the oldest go; pruned_uses has their sums.",
    ),
    "INSERT INTO slices SELECT * FROM old_slices",
    "DROP TABLE old_slices",
    """CREATE TABLE pruned_uses (
    -- What a session's pruned slices said: how often each node was used, later uses weighing more.
    first_window INTEGER PRIMARY KEY, -- number of the first row of windows that the session wrote
    rate REAL NOT NULL,
    nodes BLOB NOT NULL,              -- distinct remote numbers: little-endian int32, zlib
    sums BLOB NOT NULL,               -- of each node's uses: little-endian float64
    total REAL NOT NULL,              -- the sum of a node used in every batch
    weight REAL NOT NULL              -- of a use in the next batch
) STRICT""",
)

_CHAIN_TABLES = (
    "ALTER TABLE audit RENAME TO old_audit",
    _AUDIT_TABLES[0]
    .replace("intent, effect or note", "intent, effect, note, or record: rows of other tables only")
    .replace("act or user", "act, user or trainer")
    .replace(
        "    previous_hash",
        "    digests TEXT,                 -- JSON: rows of other tables written with this row,\n"
        "                                  -- each with its SHA-256 (null: deleted)\n"
        "    previous_hash",
    ),
    "INSERT INTO audit SELECT number, time, run_key, rank, kind, call_id, agent, tool, step,"
    " episode_id, arguments, result, outcome, error_type, model, input_tokens, output_tokens,"
    " latency_ms, NULL, previous_hash, hash FROM old_audit",
    "DROP TABLE old_audit",
    *_AUDIT_TABLES[2:5],
)


def _step(migrations: Migrations, name: str, *statements: str) -> None:
    @migrations(name=name)
    def apply(db: Database) -> None:
        for statement in statements:
            db.execute(statement)


_HOT_SETS = """CREATE TABLE hot_sets (
    -- The remote nodes that the last run on the same work used most, for the start of the next one.
    signature TEXT PRIMARY KEY,   -- of the workload
    added_at TEXT NOT NULL,
    nodes BLOB NOT NULL,          -- global ids, the hottest first: little-endian int64, zlib
    uses BLOB NOT NULL            -- of each, recent ones weighing more: little-endian float32, zlib
) STRICT"""


_HEADS = """CREATE TABLE heads (
    -- Where the audit logs of runs ended when they were last seen.
    run_key TEXT NOT NULL,        -- of the log's first row
    rank INTEGER NOT NULL,
    number INTEGER NOT NULL,      -- of the last row
    hash TEXT NOT NULL,
    PRIMARY KEY (run_key, rank)
) STRICT"""


_step(RUN_FILE, "0001_first_release", *_RUN_TABLES, *_AUDIT_TABLES)
_step(RUN_FILE, "0002_decision_inputs", *_REPLAY_TABLES)
_step(RUN_FILE, "0003_pruned_uses", *_PRUNING_TABLES)
_step(RUN_FILE, "0004_digests", *_CHAIN_TABLES)
_step(EXPERIENCE, "0001_first_release", *_EXPERIENCE_TABLES)
_step(EXPERIENCE, "0002_hot_sets", _HOT_SETS)
_step(
    EXPERIENCE,
    "0003_heads",
    _HEADS,
    "INSERT OR IGNORE INTO heads SELECT run_key, rank, audit_number, audit_hash FROM workloads"
    " WHERE audit_number IS NOT NULL ORDER BY audit_number DESC",
)


def is_newer(db: Database, migrations: Migrations) -> bool:
    """Whether a later version of Rudder wrote the file: all our steps, and more."""
    applied = {each.name for each in migrations.applied(db)}
    return not migrations.pending(db) and len(applied) > len(_fresh(migrations)[1])


def is_foreign(db: Database, migrations: Migrations) -> bool:
    """Whether the file holds something, and nothing that these steps made."""
    sql = "SELECT 1 FROM sqlite_master WHERE name NOT LIKE '%sqlite_%' LIMIT 1"
    return not migrations.applied(db) and db.execute(sql).fetchone() is not None


def wrong_objects(db: Database, migrations: Migrations) -> list[str]:
    """Tables, indexes and triggers that are missing, changed, or triggers that were added."""
    expected, _ = _fresh(migrations)
    found = _objects(db)
    missing = [name for name, sql in expected.items() if found.get(name) != sql]
    added = [name for name in found if name[0] == "trigger" and name not in expected]
    return [f"{kind} {name}" for kind, name in (*missing, *added)]


def fresh_database(migrations: Migrations) -> Database:
    """An empty database in memory with the present tables."""
    db = Database(sqlite3.connect(":memory:"), execute_plugins=False)
    migrations.apply(db)
    return db


@functools.cache
def _fresh(migrations: Migrations) -> tuple[dict[tuple[str, str], str | None], set[str]]:
    db = fresh_database(migrations)
    try:
        return _objects(db), {each.name for each in migrations.applied(db)}
    finally:
        db.close()


def _objects(db: Database) -> dict[tuple[str, str], str | None]:
    rows = db.execute("SELECT type, name, sql FROM sqlite_master WHERE type <> 'view'").fetchall()
    return {(kind, name): sql for kind, name, sql in rows}
