"""What one estimator has learned, another one knows when it is told."""

from __future__ import annotations

from rudder.tools.estimate.calibration import Learned
from rudder.tools.estimate.whatif import WhatIf
from tests.agents.steered import toolbox_after, trainer_of

WRONG = Learned(sampled=0.5, measured=0.3, is_measured=False, error_fraction=0.4)


def test_a_fresh_estimator_knows_nothing() -> None:
    whatif = toolbox_after(trainer_of(), windows=1).whatif
    assert whatif.learned == Learned(
        sampled=0.5, measured=0.5, is_measured=False, error_fraction=None
    )


def test_two_estimators_of_the_same_windows_agree_only_if_they_have_learned_the_same() -> None:
    toolbox = toolbox_after(trainer_of())
    one, history = toolbox.whatif, toolbox.history
    rows = one.present().rows_fetched.mid
    one.note_error(expected_rows=rows, rows_fetched=2 * rows)
    learned = one.learned
    other = WhatIf(history)
    assert other.present() != one.present()
    other.learn(learned)
    assert other.present() == one.present()
    assert other.learned == learned


def test_what_windows_tell_replaces_what_was_told() -> None:
    toolbox = toolbox_after(trainer_of())
    other = WhatIf(toolbox.history)
    other.learn(WRONG)
    assert other.present().rows_fetched.mid == toolbox.whatif.present().rows_fetched.mid
    assert other.learned.is_measured
