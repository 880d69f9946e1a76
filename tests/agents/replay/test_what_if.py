"""What the stored accesses say of other settings."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from rudder.agents.replay.what_if import WhatIfs, what_if
from rudder.memory.run.run_reader import RunReader


def outlooks(path: Path) -> list[WhatIfs]:
    with RunReader(path) as reader:
        return list(what_if(reader))


def known(path: Path) -> list[WhatIfs]:
    return [each for each in outlooks(path) if each.reason is None]


def test_first_the_settings_in_force_then_the_decision(steered: Path) -> None:
    found = known(steered)
    assert found
    for each in found:
        kinds = [outlook.kind for outlook in each.outlooks]
        assert kinds[0] == "in force"
        assert ("decision" in kinds) == (each.episode.applied is not None)
        assert "alternative" in kinds
        assert "OPT" in kinds


def test_what_is_told_of_a_decision_is_what_its_critic_expected(steered: Path) -> None:
    decided = 0
    for each in known(steered):
        for outlook in each.outlooks:
            if outlook.kind == "decision":
                assert each.episode.verdict is not None
                assert outlook.effect == each.episode.verdict.expected
                decided += 1
    assert decided > 2


def test_no_settings_beat_opt_at_the_same_capacity_but_by_a_warm_start(steered: Path) -> None:
    """Of a buffer that grows the rows are those of batches to come, OPT's of those that came; those
    of a replacement round do not count what it moves."""
    for each in known(steered):
        best = {o.capacity_rows: o.effect for o in each.outlooks if o.kind == "OPT"}
        present = each.episode.observation.settings.capacity_rows
        for outlook in each.outlooks:
            is_round = outlook.change is not None and outlook.change.replace_now
            if outlook.capacity_rows in best and outlook.capacity_rows <= present and not is_round:
                opt = best[outlook.capacity_rows].rows_fetched.mid
                seen = each.episode.observation.remote_rows
                assert opt <= outlook.effect.rows_fetched.mid + 0.01 * seen


def test_the_best_is_legal_and_fetches_least(steered: Path) -> None:
    for each in known(steered):
        assert each.best is not None
        assert each.best.kind in ("in force", "decision", "alternative")
        rows = [o.effect.rows_fetched.mid for o in each.outlooks if o.change is not None]
        assert each.best.effect.rows_fetched.mid == min(rows)


def test_where_accesses_are_too_few_or_gone_it_is_said(file: Path) -> None:
    assert outlooks(file)[0].reason == "too few accesses had been seen"
    with sqlite3.connect(file) as db:
        db.execute("DELETE FROM slices")
    db.close()
    reasons = {each.reason for each in outlooks(file)}
    assert reasons == {"sampled accesses that it rested on were pruned"}
