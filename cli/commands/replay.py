"""`rudder replay`: makes recorded decisions again. It contacts no running trainer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from rich.console import Group

from rudder.cli.options import AsJson, LlmModel, check_run, long_command
from rudder.cli.show.progress import counting, emit
from rudder.memory.run.run_reader import RunReader
from rudder.training.errors import ConfigError
from rudder.training.steering_options import SteeringOptions

if TYPE_CHECKING:
    from rudder.agents.replay.other import Alternative
    from rudder.agents.replay.recorded import Replayed
    from rudder.agents.replay.recorded_run import WantedEpisodes
    from rudder.agents.replay.what_if import WhatIfs


@long_command
def replay(
    episodes: Annotated[
        list[str] | None, typer.Argument(help="Ids, or beginnings of ids.", show_default=False)
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="A run's folder, or one rank's file; default episodes: all of it."),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All episodes of all runs in runs/.")] = False,
    planner: Annotated[
        str | None, typer.Option(help="Ask this planner what it would decide.")
    ] = None,
    planner_model: Annotated[
        Path | None, typer.Option(help="Ask this fitted model: a file that `rudder fit` wrote.")
    ] = None,
    planner_refit_every: Annotated[
        int | None,
        typer.Option(help="The value that the run had, if its planner learned on.", min=1),
    ] = None,
    llm: Annotated[
        str | None, typer.Option(help="Ask the language model at this address, up to /v1.")
    ] = None,
    model: LlmModel = None,
    what_if: Annotated[
        bool, typer.Option("--what-if", help="Show what other settings would have fetched.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Make recorded decisions again, without a trainer and without a network.

    As they were recorded, unless another planner or --what-if is named. Decisions that this version
    made must come out equal, else the exit code is 1; other versions may have decided otherwise.

    Example: rudder replay --run runs/demo

    Example: rudder replay --run runs/demo --planner heuristic
    """
    found = _found(episodes or [], run, all_)
    options = _options(planner, planner_model, planner_refit_every, llm, model)
    if what_if and options is not None:
        raise ConfigError("--what-if cannot be given with a planner", remedy="give one of both")
    if what_if:
        _show_what_ifs(found, json=json)
    elif options is not None:
        _show_alternatives(asyncio.run(_alternatives(found, options)), json=json)
    else:
        _show_recorded(asyncio.run(_recorded(found)), json=json)


def _found(names: list[str], run: Path | None, all_: bool) -> list[WantedEpisodes]:
    from rudder.agents.replay.recorded_run import find

    if not names and run is None and not all_:
        raise ConfigError("nothing to replay", remedy="name an episode, --run FOLDER, or --all")
    if all_ and (names or run is not None):
        raise ConfigError("--all cannot be given with an episode or --run", remedy="leave it out")
    if run is not None:
        check_run(run, name="run")
    return find(names, run=run)


def _options(
    planner: str | None,
    planner_model: Path | None,
    refit_every: int | None,
    llm: str | None,
    model: str | None,
) -> SteeringOptions | None:
    """Of the other planner, if one is wanted; raises ConfigError for what does not go together."""
    from rudder.agents.team import check_models

    if planner is None and planner_model is None and llm is None and model is None:
        return None
    if planner is None:
        planner = "learned" if planner_model is not None else "llm"
    wanted = (llm is not None, model is not None, planner_model is None)
    fits = all(wanted) if planner == "llm" else not any(wanted[:2])
    if not fits:
        raise ConfigError(
            f"planner {planner} does not go with these options",
            remedy="--llm URL and --model NAME for a language model, --planner-model FILE for a"
            " fitted one, --planner NAME for any other",
        )
    try:
        options = SteeringOptions(
            planner=planner,
            planner_model=planner_model,
            planner_refit_every=refit_every,
            llm_url=llm,
            llm_model=model,
        )
    except ValidationError as error:
        raise ConfigError(str(error).splitlines()[0], remedy="see rudder replay --help") from None
    check_models(options)
    return options


async def _recorded(found: list[WantedEpisodes]) -> list[Replayed]:
    from rudder.agents.replay.recorded import replay as replayed

    results: list[Replayed] = []
    with _counting(found) as advance:
        for reader, names in _readers(found):
            async for result in replayed(reader, names=names):
                results.append(result)
                advance(1)
    return results


def _show_recorded(results: list[Replayed], *, json: bool) -> None:
    from rudder.cli.show.replay import difference_table, recorded_lines, recorded_values

    others = [result for result in results if result.result != "equal"]
    tables = [difference_table(others)] if others else []
    emit(recorded_values(results), Group(*tables, recorded_lines(results)), json=json)
    if any(each.is_wrong for each in results) or all(each.reason for each in results):
        raise typer.Exit(1)


async def _alternatives(found: list[WantedEpisodes], options: SteeringOptions) -> list[Alternative]:
    from rudder.agents.replay.other import OtherPlanner

    results: list[Alternative] = []
    other = OtherPlanner(options)
    try:
        with _counting(found) as advance:
            for reader, names in _readers(found):
                async for one in other.replay(reader, names=names):
                    results.append(one)
                    advance(1)
    finally:
        await other.close()
    return results


def _show_alternatives(results: list[Alternative], *, json: bool) -> None:
    from rudder.cli.show.replay import alternative_table, alternative_values

    decided = [result for result in results if result.other is not None]
    same = sum(result.is_same for result in decided)
    line = f"the same is proposed in {same} of {len(decided)} decisions"
    emit(alternative_values(results), Group(alternative_table(results), line), json=json)


def _show_what_ifs(found: list[WantedEpisodes], *, json: bool) -> None:
    from rudder.agents.replay.what_if import what_if
    from rudder.cli.show.replay import what_if_table, what_if_values

    results: list[WhatIfs] = []
    with _counting(found) as advance:
        for reader, names in _readers(found):
            for one in what_if(reader, names=names):
                results.append(one)
                advance(1)
    line = "* fetches least of all settings that were allowed; OPT is no setting"
    emit(what_if_values(results), Group(what_if_table(results), line), json=json)


def _counting(found: list[WantedEpisodes]) -> AbstractContextManager[Callable[[int], None]]:
    """Tell how many decisions were replayed."""
    total = 0
    for each in found:
        with RunReader(each.path) as reader:
            total += len(reader.episode_ids() if each.names is None else each.names)
    return counting("replaying", total=total, unit="decisions")


def _readers(found: list[WantedEpisodes]) -> Iterator[tuple[RunReader, Collection[str] | None]]:
    """Each file, open for as long as it is looked at, with the episodes wanted of it."""
    for each in found:
        with RunReader(each.path) as reader:
            yield reader, each.names
