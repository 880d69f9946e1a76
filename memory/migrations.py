"""Numbered steps from an empty file to the present tables; each is recorded in the file itself.

A released step never changes: a change of the tables is a new step.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterable

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from rudder.memory.schema import (
    AUDIT_TABLES,
    CHAIN_TABLES,
    EXPERIENCE_TABLES,
    PRUNING_TABLES,
    REPLAY_TABLES,
    RUN_TABLES,
)

FIRST_HASH = "0" * 64
RUN_FILE = Migrations("run")
EXPERIENCE = Migrations("experience")


@RUN_FILE(name="0001_first_release")
def _run_file(db: Database) -> None:
    _execute(db, (*RUN_TABLES, *AUDIT_TABLES))
    db.execute("INSERT INTO audit_head VALUES (1, 0, ?)", [FIRST_HASH])


@RUN_FILE(name="0002_decision_inputs")
def _decision_inputs(db: Database) -> None:
    _execute(db, REPLAY_TABLES)


@RUN_FILE(name="0003_pruned_uses")
def _pruned_uses(db: Database) -> None:
    _execute(db, PRUNING_TABLES)


@RUN_FILE(name="0004_digests")
def _digests(db: Database) -> None:
    _execute(db, CHAIN_TABLES)


@EXPERIENCE(name="0001_first_release")
def _experience(db: Database) -> None:
    _execute(db, EXPERIENCE_TABLES)


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


def _execute(db: Database, statements: Iterable[str]) -> None:
    for statement in statements:
        db.execute(statement)
