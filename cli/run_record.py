"""One run as programs and language models read it: the answers of `rudder mcp` and `rudder ask`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import Field, ValidationError

from rudder.agents.llm.messages import JsonObject, ToolForm
from rudder.agents.replay.recorded_run import toolbox_of
from rudder.cli.show.changes import change_text
from rudder.cli.show.episode import recorded_page
from rudder.memory.run.diagnosis import diagnose
from rudder.memory.run.run_folder import RunFacts, StoredRun
from rudder.memory.run.run_reader import RunReader, read_runs, run_file
from rudder.tools.calls import ToolCall
from rudder.tools.catalog import SPECS, Arguments, ToolSpec, flat_schema, problems
from rudder.training.errors import ConfigError, RudderError

_POINTS = 400
_NOT_TOLD = ("name", "folder", "trained_on")
"""Of a run's facts: texts from outside, which no model needs."""


class RunRecord:
    """Reads what a run has recorded until now, also while it trains; raises RudderError."""

    def __init__(self, run: StoredRun) -> None:
        self._run = run

    def facts(self) -> dict[str, Any]:
        """State, settings and results, without names and paths."""
        facts = asdict(RunFacts.of(self._run))
        return {name: value for name, value in facts.items() if name not in _NOT_TOLD}

    def diagnosis(self) -> list[dict[str, Any]]:
        """What binds each trainer, by plain rules."""
        return [each.to_dict() for each in diagnose(self._run.series(num_points=_POINTS))]

    def decisions(self, last: int) -> list[dict[str, Any]]:
        """The last decisions of each trainer."""
        return [
            {
                "episode_id": each.episode_id,
                "rank": each.rank,
                "step": each.observation.step,
                "planner": each.plan.planner,
                "change": change_text(each.plan.change, before=each.observation.settings),
                "reason": each.plan.reason,
                "result": each.outcome.result if each.outcome else None,
            }
            for reader in read_runs(self._run.files)
            for each in reader.episodes()[-last:]
        ]

    def story(self, episode: str) -> str:
        """One decision in full; episode: its id, or the beginning of it."""
        for reader in read_runs(self._run.files):
            if (found := reader.episode(episode)) is not None:
                return recorded_page(reader, found)
        raise ConfigError(
            f"there is no episode {episode}", remedy="list_decisions has the ids of episodes"
        )

    def reader(self, rank: int) -> RunReader:
        """The record of one trainer, to be closed."""
        path = run_file(self._run.folder, rank=rank)
        if path not in self._run.files:
            ranks = ", ".join(each.stem.removeprefix("rank") for each in self._run.files)
            raise ConfigError.for_field(
                "rank", value=rank, allowed=ranks or "none: the run has no record of decisions"
            )
        return RunReader(path)

    def without_paths(self, text: str) -> str:
        """A message without the path of the run's folder."""
        folder = self._run.folder
        return text.replace(str(folder.absolute()), "the run").replace(str(folder), "the run")

    def read(self, spec: ToolSpec, rank: int, arguments: dict[str, Any]) -> Any:
        """What a read tool of the agents answers after the last window of a trainer."""
        with self.reader(rank) as reader:
            call = ToolCall(call_id="record", tool=spec.name, arguments=arguments)
            result = toolbox_of(reader).call(call)
        content = json.loads(result.content)
        if result.is_error:
            raise ConfigError(content["message"], remedy=content["what_to_do"])
        return content


class ReadRun(Arguments):
    """Reads the run's state, its hosts and trainers, and what has come of it."""


class DiagnoseRun(Arguments):
    """Says by plain rules what binds each trainer (compute, processors, link, owner, imbalance,
    memory), with the figures that say so and what helps."""


class ListDecisions(Arguments):
    """Lists the last decisions of each trainer: what was changed, why, and what came of it."""

    last: Annotated[int, Field(ge=1, le=50, description="decisions of each rank, the last ones")]


class ExplainDecision(Arguments):
    """Tells one decision in full."""

    episode: Annotated[str, Field(min_length=4, max_length=64, description="id, or its beginning")]


class _OfRank(Arguments):
    rank: Annotated[int, Field(ge=0, description="number of the trainer")]


_OF_RUN: dict[type[Arguments], Callable[[RunRecord, Any], object]] = {
    ReadRun: lambda record, _: record.facts(),
    DiagnoseRun: lambda record, _: record.diagnosis(),
    ListDecisions: lambda record, given: record.decisions(given.last),
    ExplainDecision: lambda record, given: record.story(given.episode),
}
_SPECS = (*map(ToolSpec.of, _OF_RUN), *(spec for spec in SPECS if spec.kind == "read"))


class RecordTools:
    """The tools that a model may call about one run; none changes anything."""

    def __init__(self, record: RunRecord) -> None:
        self._record = record

    @property
    def forms(self) -> tuple[ToolForm, ...]:
        """All of them, as a model is offered them."""
        return tuple(map(_form, _SPECS))

    def call(self, name: str, arguments: JsonObject) -> str:
        """The answer as JSON, or what is wrong with the call."""
        spec = next(each for each in _SPECS if each.name == name)
        try:
            answer = self._answer(spec, arguments)
        except ValidationError as error:
            answer = {"error": problems(error, known=("rank", *spec.arguments.model_fields))}
        except RudderError as error:
            answer = {"error": error.message, "what_to_do": error.remedy}
        return self._record.without_paths(json.dumps(answer, default=str))

    def _answer(self, spec: ToolSpec, arguments: JsonObject) -> object:
        if spec.arguments in _OF_RUN:
            given = spec.arguments.model_validate(arguments)
            return _OF_RUN[spec.arguments](self._record, given)
        of_rank = _OfRank.model_validate({"rank": arguments.get("rank")})
        rest = {name: value for name, value in arguments.items() if name != "rank"}
        return self._record.read(spec, of_rank.rank, rest)


def _form(spec: ToolSpec) -> ToolForm:
    """One of the agents' own tools is also asked which trainer it is to read."""
    schema = spec.schema()
    if spec.arguments not in _OF_RUN:
        rank = flat_schema(_OfRank)
        properties = {**rank["properties"], **schema["properties"]}
        required = [*rank["required"], *schema["required"]]
        schema |= {"properties": properties, "required": required}
    return ToolForm(name=spec.name, description=spec.description, parameters=schema)
