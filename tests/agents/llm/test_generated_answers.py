"""No answer whatsoever leads to a change out of bounds."""

from __future__ import annotations

import os

import pytest

from rudder.agents.llm.answers import CriticAnswer, ObserverAnswer, form_of
from rudder.agents.llm.errors import InvalidAnswerError
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
