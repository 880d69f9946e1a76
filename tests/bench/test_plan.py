"""Whose turn it is."""

from __future__ import annotations

from rudder.bench.plan import BenchPlan
from rudder.bench.variants import parse_variants

PLAN = BenchPlan(variants=parse_variants("stock,lookahead,none"), repeats=3, epochs_per_turn=2)


def test_every_variant_has_one_turn_a_round() -> None:
    for number in range(4):
        turns = [turn for turn in PLAN.turns if turn.round == number]
        assert {turn.variant for turn in turns} == set(PLAN.variants)
        assert len(turns) == 3


def test_rounds_begin_with_one_variant_after_the_other() -> None:
    firsts = [PLAN.turns[3 * number].variant.text for number in range(4)]
    assert firsts == ["stock", "lookahead", "none", "stock"]


def test_turns_share_out_all_epochs_in_order() -> None:
    epochs = [epoch for turn in PLAN.turns for epoch in turn.epochs]
    assert epochs == list(range(24))
    assert all(epoch in PLAN.turn_of(epoch).epochs for epoch in epochs)


def test_a_plan_survives_its_way_through_a_job_file() -> None:
    assert BenchPlan.model_validate_json(PLAN.model_dump_json()) == PLAN


def test_variants_have_folders_of_their_own_and_know_how_long_they_train() -> None:
    assert len({PLAN.folder_of(variant) for variant in PLAN.variants}) == 3
    own = [turn for turn in PLAN.turns if turn.variant == PLAN.variants[0]]
    assert PLAN.epochs_of_variant == sum(turn.num_epochs for turn in own) == 8


def test_turns_of_few_steps_get_more_epochs() -> None:
    plan = PLAN.model_copy(update={"least_turn_steps": 180})
    assert [plan.for_epochs_of(n).epochs_per_turn for n in (5, 58, 90, 1000)] == [36, 4, 2, 2]
    assert PLAN.for_epochs_of(0) == PLAN
