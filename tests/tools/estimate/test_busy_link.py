"""What else goes over a link that rows fill."""

from __future__ import annotations

import pytest

from rudder.tools.estimate.pullcost import BusyLink, PullCost
from rudder.training.metrics import RowCounts, RowsFetched, Seconds, Window
from tests.agents.steered import SETTINGS, window_of


def window(rows: int, *, wall: float, pull: float, wait: float, blocked: float = 5.0) -> Window:
    """Milliseconds per step."""
    base = window_of(0, settings=SETTINGS)
    seconds = Seconds(pull=pull, exposed_wait=wait, blocked=blocked, compute=wall - wait)
    return base.model_copy(
        update={
            "rows": RowCounts(remote_rows=16 * 4000, rows_fetched=RowsFetched(miss=16 * rows)),
            "seconds": _scaled(seconds),
            "wall_seconds": 0.016 * wall,
        }
    )


def _scaled(seconds: Seconds) -> Seconds:
    return Seconds(**{name: 0.016 * value for name, value in seconds.model_dump().items()})


START = window(4000, wall=90, pull=70, wait=60)
FILLED = window(2000, wall=50, pull=38, wait=24, blocked=11)
CALM = window(400, wall=22, pull=2, wait=0, blocked=4)


def test_a_link_that_was_never_filled_delays_nothing() -> None:
    assert BusyLink.of([]) is None
    assert BusyLink.of([START, CALM, CALM]) is None


def test_the_first_window_of_a_run_waits_for_other_things() -> None:
    assert BusyLink.of([START]) is None
    assert BusyLink.of([START, FILLED]) is not None


def test_a_row_takes_no_longer_than_where_most_came() -> None:
    link = BusyLink.of([START, CALM, FILLED, CALM])
    assert link is not None
    assert link.ms_per_row == pytest.approx(0.025)
    assert link.blocked_ms == pytest.approx(4.0)
    faster = window(2000, wall=25, pull=5, wait=0)
    link = BusyLink.of([START, FILLED, faster])
    assert link is not None
    assert link.ms_per_row == pytest.approx(0.0125)


def test_the_delay_grows_with_the_part_of_the_time_that_rows_take() -> None:
    link = BusyLink(ms_per_row=0.025, blocked_ms=4.0)
    assert link.delay_ms(0, step_ms=20) == link.delay_ms(160, step_ms=20) == 0.0
    assert link.delay_ms(400, step_ms=20) == pytest.approx(4.0 * (2 - 1.25))
    assert link.delay_ms(10**6, step_ms=20) == pytest.approx(4.0 * (10 - 1.25))


def test_rows_that_a_trainer_does_not_stand_still_for_cost_something_on_a_busy_link() -> None:
    calm = PullCost.fit([START, CALM, CALM, CALM])
    busy = PullCost.fit([START, FILLED, CALM, CALM, CALM])
    assert calm is not None
    assert busy is not None
    assert calm.exposed_wait_ms(450) == calm.exposed_wait_ms(300)
    assert busy.exposed_wait_ms(450) > busy.exposed_wait_ms(300) > 0
