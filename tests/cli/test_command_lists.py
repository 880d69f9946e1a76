"""Lists on the command line are read, or refused by name."""

from __future__ import annotations

import pytest

from rudder.cli.options import parts, whole_numbers
from rudder.training.errors import ConfigError


def test_values_are_taken_once_each_in_their_order() -> None:
    assert parts("policies", "lru, lfu,,lru") == ["lru", "lfu"]
    assert whole_numbers("lookahead", "16, 0,16") == (16, 0)


@pytest.mark.parametrize("text", ["", " , "])
def test_an_empty_list_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="policies"):
        parts("policies", text)


@pytest.mark.parametrize("text", ["3", "11", "-5", "4.5", "many"])
def test_numbers_out_of_bounds_and_what_is_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="from 4 to 10"):
        whole_numbers("capacity", text, at_least=4, at_most=10)
