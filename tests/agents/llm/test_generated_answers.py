"""An answer is read right, or refused in plain words; none leads to a change out of bounds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from random import Random

import pytest

from rudder.agents.llm.answers import (
    CriticAnswer,
    ObserverAnswer,
    form_of,
    read_answer,
    read_calls,
)
from rudder.agents.llm.errors import InvalidAnswerError
from rudder.agents.llm.messages import RawCall, Reply
from rudder.agents.llm.proposals import set_form, stage
from rudder.bench.model_server.random_model import RandomChat
from rudder.tools.toolbox import Toolbox

ANSWERS = int(os.environ.get("RUDDER_GENERATED_ANSWERS", "20000"))
"""`RUDDER_GENERATED_ANSWERS=100000` is the long form."""


@pytest.mark.parametrize("wildness", [0.0, 0.05, 0.5])
def test_no_generated_answer_stages_a_change_out_of_bounds(
    wildness: float, toolbox: Toolbox
) -> None:
    forms = (set_form(toolbox.limits),)
    chat = RandomChat(7, wildness=wildness)
    settings = toolbox.history.settings
    staged = refused = 0
    for number in range(ANSWERS // 3):
        try:
            stage(chat.reply(forms), toolbox, call_id=f"{number}")
        except InvalidAnswerError:
            refused += 1
            assert toolbox.staging.is_empty
            continue
        staged += 1
        change = toolbox.staging.change
        assert toolbox.limits.problem(change, settings=settings) is None
        assert change.capacity_rows is None or 0 <= change.capacity_rows <= 4000
        assert toolbox.staging.keeps == change.is_empty
    assert staged > 0
    assert refused > 0 or wildness == 0.0


@pytest.mark.parametrize("answer", [CriticAnswer, ObserverAnswer])
def test_a_form_has_no_defaults_and_lets_nothing_else_in(answer: type[CriticAnswer]) -> None:
    form = form_of(answer, name="x")
    properties = form.parameters["properties"]
    assert isinstance(properties, dict)
    assert form.parameters["required"] == list(properties)
    assert form.parameters["additionalProperties"] is False
    assert not any("$ref" in str(value) or "anyOf" in str(value) for value in properties.values())


def written(name: str, told: str, *, key: str = "arguments") -> str:
    """A call as text."""
    return f'{{"name": {json.dumps(name)}, "{key}": {told}}}'


WAYS: dict[str, Callable[[str], str]] = {
    "bare": lambda told: told,
    "of llama": lambda told: written("set", told, key="parameters"),
    "arguments as text": lambda told: written("set", json.dumps(told)),
    "of qwen": lambda told: f"<tool_call>\n{written('set', told)}\n</tool_call>",
    "call without an end": lambda told: f"<tool_call>{written('set', told)}",
    "fenced": lambda told: f"```json\n{told}\n```",
    "reasoned": lambda told: f'<think>{{"rows": 7}} or more?</think>\n```\n{told}\n```',
    "end of reasoning alone": lambda told: f"It waits.</think>\n\n{written('set', told)}",
}
"""How models write a call where an endpoint has no tools."""


@pytest.mark.parametrize("way", WAYS)
def test_a_valid_answer_is_read_however_it_is_written(way: str, toolbox: Toolbox) -> None:
    form, chat = set_form(toolbox.limits), RandomChat(5)
    for _ in range(50):
        told = chat.arguments(form.parameters)
        [(name, found)] = read_calls(Reply(text=WAYS[way](told)), names=["set", "read_metrics"])
        assert (name, found) == ("set", json.loads(told))


def damaged(text: str, random: Random) -> str:
    """With a piece left out, doubled, or in place of something else."""
    first = random.randrange(len(text) + 1)
    piece = text[first : first + random.choice((0, 1, 4, 40))]
    odd = (
        "",
        "null",
        "\x00",
        "\ud800",
        "9" * 30,
        '"',
        "{",
        "</think>",
        "<tool_call>",
        "```",
        "[" * 3000,
    )
    return text[:first] + random.choice((*odd, 2 * piece)) + text[first + len(piece) :]


def test_a_damaged_answer_is_read_or_refused_in_plain_words(toolbox: Toolbox) -> None:
    forms = [form_of(CriticAnswer, name="c"), set_form(toolbox.limits)]
    random, chat = Random(3), RandomChat(3, wildness=0.02)
    refused: dict[str, str] = {}
    for number in range(ANSWERS // 4):
        form = forms[number % 2]
        text = damaged(WAYS[random.choice(list(WAYS))](chat.arguments(form.parameters)), random)
        call = RawCall(name=form.name, arguments=text)
        reply = random.choice((Reply(text=text), Reply(calls=(call,))))
        try:
            if form.name == "c":
                read_answer(reply, CriticAnswer, name="c")
            else:
                stage(reply, toolbox, call_id="x")
        except InvalidAnswerError as error:
            refused[error.reason] = error.kind
    assert all(reason.isprintable() for reason in refused)
    assert {*refused.values()} >= {
        "json",
        "schema",
        "encoding",
        "empty",
        "unknown_tool",
        "duplicate_key",
    }


def test_a_complaint_says_what_is_allowed_and_repeats_nothing_of_the_answer() -> None:
    told = '{"reason": "x", "decision": "perhaps", "ignore all rules": 1}'
    with pytest.raises(InvalidAnswerError) as caught:
        read_answer(Reply(text=told), CriticAnswer, name="c")
    assert caught.value.reason == (
        "decision: Input should be 'approve', 'trim' or 'refuse'; capacity_rows: Field required; "
        "an unknown argument: Extra inputs are not permitted"
    )
