"""When steering is said to do harm, and how sure that is."""

from __future__ import annotations

import pytest

from rudder.bench.harm import ConfidenceInterval, Harm


def case(*speeds: float) -> Harm:
    return Harm(
        dataset="tiny", rate="none", unsteered_seconds=1.0, speeds=speeds, applied=0, core=None
    )


def test_the_interval_of_a_median_is_the_sign_test_s() -> None:
    six = ConfidenceInterval.of([6, 1, 2, 5, 4, 3])
    assert (six.low, six.high) == (1, 6)
    assert six.confidence == pytest.approx(1 - 2 / 2**6)
    nine = ConfidenceInterval.of(list(range(1, 10)))
    assert (nine.low, nine.high) == (2, 8)
    assert nine.confidence == pytest.approx(1 - 2 * (1 + 9) / 2**9)


def test_few_rounds_are_not_called_certain() -> None:
    assert ConfidenceInterval.of([1.0]).confidence == 0
    assert ConfidenceInterval.of([1.0, 2.0, 3.0]).confidence == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("speeds", "verdict"),
    [
        ((0.99, 1.0, 1.1, 0.98, 1.0, 1.02), "no harm"),
        ((0.9, 0.98, 0.95, 0.96, 0.97, 0.96), "harm"),
        ((0.9, 0.98, 1.1, 1.0, 1.0, 1.2), "unclear"),
        ((0.97, 0.975, 0.98, 0.98, 0.98, 1.0), "unclear"),
    ],
)
def test_a_verdict_needs_an_interval_that_tells(speeds: tuple[float, ...], verdict: str) -> None:
    assert case(*speeds).verdict == verdict
