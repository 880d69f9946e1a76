"""Whether a change helped, as its trial measured it: what classifiers learn."""

from __future__ import annotations

from enum import Enum

from rudder.memory.records import Episode, Outcome

NOISES = 2.0
"""Spreads between windows that a difference must exceed."""
MIN_ROWS_FRACTION = 0.02
MIN_WAIT_FRACTION = 0.01
_JUDGED = ("confirmed", "reverted")


class Label(Enum):
    """What an episode teaches; the last two teach nothing."""

    HELPED = "helped"
    DID_NOT_HELP = "did not help"
    NOT_MEASURED = "not measured"
    MOVING = "moving by itself"


def label_of(episode: Episode) -> Label:
    """HELPED: the trainer waits less by more than noise, or no longer and fetches fewer rows.

    Noise: two spreads between windows, at least 1 % of the step and 2 % of the rows. Kept, refused
    and abandoned episodes were not measured; where the wait was moving before anything was
    changed, what came after is not the change's doing.
    """
    outcome = episode.outcome
    if outcome is None or outcome.result not in _JUDGED or episode.applied is None:
        return Label.NOT_MEASURED
    gains = _gains(outcome)
    if gains is None:
        return Label.NOT_MEASURED
    if episode.observation.trend in ("better", "worse"):
        return Label.MOVING
    rows_gain, wait_gain = gains
    rows_noise, wait_noise = _noise(episode, outcome)
    waits_less, waits_longer = wait_gain > wait_noise, wait_gain < -wait_noise
    helped = waits_less or (rows_gain > rows_noise and not waits_longer)
    return Label.HELPED if helped else Label.DID_NOT_HELP


def _gains(outcome: Outcome) -> tuple[float, float] | None:
    """Fewer rows per step, and milliseconds of wait per step; None where not all was measured."""
    rows, wait_ms = outcome.rows_before, outcome.wait_ms_before
    rows_after, wait_ms_after = outcome.rows_after, outcome.wait_ms_after
    if rows is None or wait_ms is None or rows_after is None or wait_ms_after is None:
        return None
    return rows - rows_after, wait_ms - wait_ms_after


def _noise(episode: Episode, outcome: Outcome) -> tuple[float, float]:
    seen = episode.observation
    rows = max(NOISES * (outcome.noise_rows or 0.0), MIN_ROWS_FRACTION * seen.rows_fetched)
    wait_ms = max(NOISES * (outcome.noise_wait_ms or 0.0), MIN_WAIT_FRACTION * seen.step_ms)
    return rows, wait_ms
