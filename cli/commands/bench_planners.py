"""`rudder bench planners`: planners side by side, in the simulator or in real jobs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rudder.cli.options import NewFolder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel
    from rich.table import Table

    from rudder.bench.simulated.cases import Case
    from rudder.bench.simulated.compare import TeamMaker
    from rudder.bench.variants import Variant
    from rudder.training.config import RunConfig
    from rudder.training.workload import Workload


PLAIN = ("fixed", "periodic", "heuristic", "embedded")
_LIVE_BATCH = 64


def planners(
    planners: Annotated[
        str, typer.Option(help="Those without a model: fixed, periodic, heuristic, embedded.")
    ] = ",".join(PLAIN),
    model_file: Annotated[
        list[Path] | None,
        typer.Option(help="What `rudder fit` wrote: a further planner; repeatable."),
    ] = None,
    llm: Annotated[
        str | None, typer.Option(help="Address of an LLM, for a further planner; needs --model.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "--llm-model", help="Name of the LLM.")
    ] = None,
    policy: Annotated[
        Literal["lookahead", "score"], typer.Option(help="Of the buffer; score has rounds.")
    ] = "lookahead",
    seeds: Annotated[int, typer.Option(help="Draws of every workload.", min=1)] = 2,
    windows: Annotated[int, typer.Option(help="Length of a run; 16 steps each.", min=4)] = 40,
    live: Annotated[
        bool, typer.Option("--live", help="Real jobs instead; beside a run without controller.")
    ] = False,
    dataset: Annotated[str, typer.Option(help="Graph of --live.")] = "synthetic:tiny",
    rate: Annotated[str, typer.Option(help="Rate of each host's link, with --live.")] = "10mbit",
    buffer: Annotated[str, typer.Option(help="Buffer that --live starts with.")] = "0.01",
    lookahead: Annotated[int, typer.Option(help="Lookahead that --live starts with.", min=0)] = 0,
    turns: Annotated[int, typer.Option(help="Turns of 3 epochs in a job.", min=2)] = 4,
    jobs: Annotated[int, typer.Option(help="Jobs of --live.", min=1)] = 3,
    llm_deadline: Annotated[float, typer.Option(help="Seconds for a decision of --live.")] = 20.0,
    out: NewFolder = None,
    json: Annotated[bool, typer.Option("--json", help="Print standings and cases.")] = False,
) -> None:
    """Compare planners on the same workloads: simulated, or with --live in real jobs.

    Simulated times are the same on every machine; a decision takes none of them, which is kind to
    an LLM. Live, all planners take turns in the same trainers, from the same start: by default a
    buffer that is far too small.

    Example: rudder bench planners --live --llm http://localhost:11434/v1 --model NAME
    """
    from rudder.bench.run import new_folder
    from rudder.bench.simulated.cases import all_cases
    from rudder.cli.options import parts

    where = out or new_folder()
    names = parts("planners", planners)
    if live:
        config = _live_config(dataset, llm, model, llm_deadline)
        start = f"buffer={buffer}+lookahead={lookahead}"
        told = _live_variants(names, model_file or [], start=start, asks=llm is not None)
        _compare_live(told, config, rate=rate, turns=turns, jobs=jobs, out=where, json=json)
        return
    teams = _plain_teams(names) | _learned_teams(model_file or [])
    if llm is not None:
        teams |= _llm_team(llm, model)
    _compare_simulated(
        teams, all_cases(seeds=seeds, policy=policy), windows=windows, out=where, json=json
    )


def _compare_live(
    variants: dict[str, Variant],
    config: RunConfig,
    *,
    rate: str,
    turns: int,
    jobs: int,
    out: Path,
    json: bool,
) -> None:
    from rudder.bench.planners_live import LiveReport, compare_live
    from rudder.cli.show.bench import tell_turn
    from rudder.cli.show.planners import live_table
    from rudder.cli.show.progress import say

    def show(report: LiveReport) -> None:
        if report.jobs_done < report.jobs_planned:
            say(f"stopped after {report.jobs_done} of {report.jobs_planned} jobs")
        _print(report, live_table(report.planners), json=json)

    compare_live(
        variants, config, rate=rate, turns=turns, jobs=jobs, out=out, say=say, watch=tell_turn,
        show=show,
    )  # fmt: skip


def _compare_simulated(
    teams: dict[str, TeamMaker], cases: Sequence[Case], *, windows: int, out: Path, json: bool
) -> None:
    from rudder.bench.results import check_new, write_json
    from rudder.bench.simulated.compare import Comparison, compare
    from rudder.cli.show.planners import planner_table
    from rudder.cli.show.progress import say

    file = check_new(out / "planners.json")
    report = Comparison(workloads_planned=len(cases))
    try:
        for number, case in enumerate(cases, start=1):
            what = f"{case.stream}, {case.row_ms} ms a row, {case.start}"
            say(f"workload {number}/{len(cases)}: {what}")
            report = report.with_workload(compare(teams, case, windows=windows))
            write_json(report, file)
    finally:
        say(f"results: {file}, {report.workloads_done} of {len(cases)} workloads")
        if report.cases:
            _print(report, planner_table(report.standings), json=json)


def _plain_teams(names: list[str]) -> dict[str, TeamMaker]:
    from rudder.agents.team import make_team
    from rudder.training.errors import ConfigError
    from rudder.training.steering_options import SteeringOptions

    if unknown := next((name for name in names if name not in PLAIN), None):
        raise ConfigError.for_field("planners", value=unknown, allowed=", ".join(PLAIN))

    def maker(name: str) -> TeamMaker:
        options = SteeringOptions.model_validate({"planner": name})
        return lambda workload: make_team(options, workload)

    return {name: maker(name) for name in names}


def _learned_teams(files: list[Path]) -> dict[str, TeamMaker]:
    from rudder.agents.learned.model_file import read_model
    from rudder.agents.learned.planner import LearnedPlanner
    from rudder.agents.team import Team, make_team
    from rudder.training.steering_options import SteeringOptions

    def maker(file: Path) -> tuple[str, TeamMaker]:
        planner = LearnedPlanner(read_model(file))

        def make(workload: Workload) -> Team:
            roles = make_team(SteeringOptions(), workload)
            return Team(roles.observer, planner, roles.critic)

        return planner.name, make

    return dict(maker(file) for file in files)


def _llm_team(url: str, model: str | None) -> dict[str, TeamMaker]:
    from rudder.agents.team import make_team, open_chat
    from rudder.training.steering_options import SteeringOptions

    options = SteeringOptions(planner="llm", llm_url=url, llm_model=model)
    open_chat(options)
    return {f"llm:{model}": lambda workload: make_team(options, workload)}


def _live_config(
    dataset: str, llm: str | None, model: str | None, llm_deadline: float
) -> RunConfig:
    from rudder.agents.llm.endpoint import check_endpoint
    from rudder.training.config import run_config

    config = run_config(
        dataset=dataset, batch_size=_LIVE_BATCH, llm=llm, llm_model=model, llm_deadline=llm_deadline
    )
    check_endpoint(config.steering)
    return config


def _live_variants(
    names: list[str], files: list[Path], *, start: str, asks: bool
) -> dict[str, Variant]:
    from rudder.agents.learned.model_file import read_header
    from rudder.bench.planners_live import UNSTEERED, variant_of

    found = {name: variant_of(name, start=start) for name in (UNSTEERED, *names)}
    for file in files:
        kind = read_header(file).planner
        found[f"{kind}:{file.name}"] = variant_of(kind, model_file=file, start=start)
    return found | ({"llm": variant_of("llm", start=start)} if asks else {})


def _print(report: BaseModel, table: Table, *, json: bool) -> None:
    from rich.console import Console

    if json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        Console().print(table, highlight=False)
