"""Figures of a text are looked up in what it cites."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rudder.tools.figures import check_figures

RESULTS = {
    1: '{"rank": 3, "exposed_wait_ms": 12.3456, "hit_fraction": 0.8312, "rows": 20480}',
    2: '[{"rank": 0, "episode_id": "3fa91c07", "step_ms": 1.5e2}]',
}


@pytest.mark.parametrize(
    "text",
    [
        "Rank 3 waits 12.3 ms of each step [1].",
        "It waits 12 ms. [1]",
        "It hits 83 % [1], or 83.1% [1].",
        "The buffer has 20,480 rows [1].",
        "A step takes 150 ms on rank 0 [2], and 12.35ms of wait [1, 2].",
        "Decision 3fa91c07 did it [2].",
        "1. It waits 12.3 ms [1].\n2. It hits 0.83 [1].",
        "Nothing was measured.",
        "You asked about 7 hosts.",
        "p99 and H100 are names.",
    ],
)
def test_a_figure_of_a_cited_result_is_known(text: str) -> None:
    assert check_figures(text, results=RESULTS, known="why 7?").text == text


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("It waits 12.3 ms.", ["12.3"]),
        ("It waits 12.3 ms [2].", ["12.3"]),
        ("It waits 12.4 ms [1].", ["12.4"]),
        ("It waits 12.3 ms [1]. A step takes 150 ms.", ["150"]),
        ("It hits 84 % [1].", ["84 %"]),
        ("It hits 83 of them [1].", ["83"]),
        ("The buffer has 21,480 rows [1].", ["21,480"]),
        ("Decision 3fa91c08 did it [2].", ["3fa91c08"]),
        ("It waits 12.3 ms [9].", ["12.3"]),
        ("Half of 20480 is 10240 [1].", ["10240"]),
        ("It takes 5.5 s [1].\n- 20480 rows [1]\n- 31 rows [1]", ["5.5", "31"]),
    ],
)
def test_a_figure_of_no_cited_result_is_found_and_marked(text: str, lost: list[str]) -> None:
    checked = check_figures(text, results=RESULTS)
    assert list(checked.unsupported) == lost
    for figure in lost:
        assert f"{figure} (?)" in checked.text
    assert checked.text.replace(" (?)", "") == text


@given(st.text(alphabet="0123456789.,%[] \nabe!?", max_size=60))
def test_any_text_is_checked_and_nothing_of_it_is_lost(text: str) -> None:
    checked = check_figures(text, results=RESULTS)
    assert checked.text.replace(" (?)", "") == text.replace(" (?)", "")
    assert checked.text.count("(?)") == len(checked.unsupported)
