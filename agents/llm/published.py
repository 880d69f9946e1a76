"""The published planner's question, asked of a language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rudder.agents.llm.answers import YesNoAnswer, clean, form_of, read_answer
from rudder.agents.llm.asker import Asker
from rudder.agents.llm.errors import ChatError
from rudder.agents.llm.messages import Question
from rudder.agents.planners.published import RoundAnswer
from rudder.memory.records import Episode, Observation
from rudder.tools.estimate.means import Means
from rudder.tools.toolbox import Toolbox

_TOOL = "answer"
_WINDOWS = 5
_SYSTEM = (
    "You watch a buffer of remote feature rows in distributed GNN training. A replacement round"
    " swaps rows that are seldom used for rows that were missed often. It fetches the new rows at"
    " once, over the network that training waits for, and saves misses later. Answer yes where a"
    " round now will bring more hits than it costs, no where the buffer is good as it is or the"
    " last rounds did not help."
)


class ModelAnswer:
    """Yes or no from a model, about the decision before; no where none has come, or none can be
    read."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    @property
    def name(self) -> str:
        """With the model's name."""
        return f"llm:{self._asker.model}"

    async def answer(
        self, observation: Observation, last: Sequence[Episode], toolbox: Toolbox
    ) -> RoundAnswer:
        """The answer that has come since the last decision; without one the model is asked."""
        background = self._asker.background
        heard: RoundAnswer | None = background.take()
        if heard is not None:
            return heard
        if background.is_idle:
            question = published_question(observation, last, toolbox)
            background.begin(self._ask(question, observation))
        return RoundAnswer(False, "the model has not answered yet")

    async def _ask(self, question: Question, observation: Observation) -> RoundAnswer:
        try:
            said = await self._asker.ask(
                question,
                lambda reply: read_answer(reply, YesNoAnswer, name=_TOOL),
                seen=observation,
            )
        except ChatError as error:
            return RoundAnswer(False, f"the model gave no answer: {type(error).__name__}")
        return RoundAnswer(said.replace_now == "yes", clean(said.reason))


def published_question(
    observation: Observation, last: Sequence[Episode], toolbox: Toolbox
) -> Question:
    """Hit shares and rows fetched of the last windows, and what the last rounds brought."""
    form = form_of(YesNoAnswer, name=_TOOL)
    return Question(
        role="planner",
        system=_SYSTEM,
        user="\n".join([*_windows(toolbox), *_rounds(last), *_present(observation)]),
        tools=(form,),
        schema_=form.parameters,
    )


def _windows(toolbox: Toolbox) -> Iterator[str]:
    yield "Windows, oldest first: hit share, rows fetched a step, wait a step (ms)"
    for window in toolbox.history.recent(_WINDOWS):
        means = Means.of([window])
        if means is not None:
            hits = means.hit_fraction or 0.0
            yield f"{hits:.3f} {means.rows_fetched:.0f} {means.exposed_wait_ms:.2f}"


def _rounds(last: Sequence[Episode]) -> Iterator[str]:
    yield "Your last rounds, newest first: step, rows fetched a step before and after"
    for episode in last:
        outcome = episode.outcome
        if outcome is not None and outcome.rows_before is not None:
            after = outcome.rows_after or 0.0
            yield f"{episode.observation.step} {outcome.rows_before:.0f} {after:.0f}"
    if not last:
        yield "none yet"


def _present(observation: Observation) -> Iterator[str]:
    rows = observation.settings.capacity_rows
    yield f"Step {observation.step}; the buffer holds {rows} rows. Replace now?"
