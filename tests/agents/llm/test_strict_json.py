"""Only one JSON object, whole and finite, is an answer."""

from __future__ import annotations

import json
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.agents.llm.answers import bare, read_object
from rudder.agents.llm.errors import InvalidAnswerError
from rudder.agents.llm.messages import MAX_TEXT

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd\x00")
    ),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
    max_leaves=8,
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "empty"),
        ("   \n", "empty"),
        ("null", "schema"),
        ("[]", "schema"),
        ("0", "schema"),
        ('""', "schema"),
        ("{", "json"),
        ('{"a": 1} and more', "json"),
        ('{"a": 1}{"a": 1}', "json"),
        ('{"a": NaN}', "number"),
        ('{"a": -Infinity}', "number"),
        ('{"a": 1e999}', "number"),
        ('{"a": ' + "9" * 400 + "}", "number"),
        ('{"a": 1, "a": 1}', "duplicate_key"),
        ('{"b": {"a": 1, "a": 2}}', "duplicate_key"),
        ('{"a": "\\ud800"}', "encoding"),
        ('{"\\udfff": 1}', "encoding"),
        ('{"a": "\ufffd"}', "encoding"),
        ('{"a": "\\u0000"}', "encoding"),
        ("[" * 50_00 + "]" * 50_00, "json"),
        ('{"a": "' + "x" * MAX_TEXT + '"}', "size"),
    ],
)
def test_anything_else_is_refused_with_its_kind(text: str, kind: str) -> None:
    with pytest.raises(InvalidAnswerError) as caught:
        read_object(text)
    assert caught.value.kind == kind


@settings(max_examples=30)
@given(st.dictionaries(st.text("abcdef"), VALUES))
def test_every_plain_object_is_read_as_it_is(value: dict[str, object]) -> None:
    assert read_object(json.dumps(value)) == value


@given(st.text())
def test_any_text_is_an_object_or_refused(text: str) -> None:
    with suppress(InvalidAnswerError):
        assert isinstance(read_object(bare(text)), dict)


@pytest.mark.parametrize(
    "text",
    [
        '<think>{"a": 2}</think>{"a": 1}',
        'Let me see: {"a": 2}.</think>\n{"a": 1}',
        '<think>no</think>\n\n```json\n{"a": 1}\n```\n',
        '```\n{"a": 1}\n```',
        '  {"a": 1}  ',
    ],
)
def test_reasoning_and_fences_around_the_answer_are_taken_off(text: str) -> None:
    assert read_object(bare(text)) == {"a": 1}


@pytest.mark.parametrize(
    "text", ['<think>{"a": 1}', 'Sure: {"a": 1}', '```json\n{"a": 1}', 'x <think></think> {"a": 1}']
)
def test_an_object_inside_something_else_is_not_searched_for(text: str) -> None:
    with pytest.raises(InvalidAnswerError):
        read_object(bare(text))


@pytest.mark.parametrize("piece", ["\n", "```\n", "<think>", "</think>", " ", "{", "```"])
def test_reading_takes_no_time_whatever_the_text_repeats(piece: str) -> None:
    began = time.thread_time()
    with pytest.raises(InvalidAnswerError):
        read_object(bare(piece * (MAX_TEXT // len(piece))))
    assert time.thread_time() - began < 0.5
