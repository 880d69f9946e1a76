"""The tables of `memory.db`, the experience across runs, as they were released."""

from __future__ import annotations

EXPERIENCE_TABLES = (
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
