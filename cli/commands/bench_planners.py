"""`rudder bench planners`: planners side by side, in the simulator or in real jobs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rudder.agents.learned.planner import read_planner
from rudder.agents.team import Team, check_models, make_team, open_chat
from rudder.bench.plan import MAX_ROUNDS
from rudder.bench.planners_live import (
    PUBLISHED,
    PUBLISHED_LLM,
    UNSTEERED,
    LiveReport,
    compare_live,
    variant_of,
)
from rudder.bench.results import results_in
from rudder.bench.run import new_folder
from rudder.cli.options import AsJson, LlmModel, NewFolder, long_command, parts
from rudder.cli.show.bench import TurnLines, live_table, planner_table
from rudder.cli.show.progress import Verbosity, counting, emit, say
from rudder.training.config import run_config
from rudder.training.errors import ConfigError
from rudder.training.steering_options import SteeringOptions

if TYPE_CHECKING:
    from rudder.bench.simulated.compare import TeamMaker
    from rudder.bench.variants import Variant
    from rudder.training.workload import Workload

PLAIN = ("fixed", "periodic", "heuristic", "embedded")
_LIVE_BATCH = 64


@long_command
def planners(
    planners: Annotated[
        str,
        typer.Option(
            help="Planners to compare: fixed, periodic, heuristic, embedded; with --live or"
            " --policy score also published, which steers that policy."
        ),
    ] = ",".join(PLAIN),
    model_file: Annotated[
        list[Path] | None,
        typer.Option(help="File that `rudder fit` wrote: a further planner; repeatable."),
    ] = None,
    llm: Annotated[
        str | None, typer.Option(help="Address of an LLM, for a further planner; needs --model.")
    ] = None,
    model: LlmModel = None,
    policy: Annotated[
        Literal["lookahead", "score"], typer.Option(help="Policy of the buffer.")
    ] = "lookahead",
    seeds: Annotated[int, typer.Option(help="Random variants of every workload.", min=1)] = 2,
    windows: Annotated[
        int, typer.Option(help="Length of a simulated run, in windows of 16 steps.", min=4)
    ] = 40,
    live: Annotated[
        bool,
        typer.Option("--live", help="Compare in real jobs, and with a run without controller."),
    ] = False,
    dataset: Annotated[str, typer.Option(help="Graph of --live.")] = "synthetic:tiny",
    rate: Annotated[str, typer.Option(help="Rate of each host's link, with --live.")] = "10mbit",
    buffer: Annotated[str, typer.Option(help="Buffer that --live starts with.")] = "0.01",
    lookahead: Annotated[int, typer.Option(help="Lookahead that --live starts with.", min=0)] = 0,
    turns: Annotated[
        int, typer.Option(help="Turns of 3 epochs that each takes in a job.", min=2, max=MAX_ROUNDS)
    ] = 4,
    jobs: Annotated[int, typer.Option(help="Jobs, one after the other, with --live.", min=1)] = 3,
    llm_deadline: Annotated[
        float, typer.Option(help="Seconds for one decision, with --live.")
    ] = 20.0,
    out: NewFolder = None,
    json: AsJson = False,
) -> None:
    """Compare planners on the same workloads: simulated, or with --live in real jobs.

    Simulated times are the same on every machine; while a model is asked, the simulated trainer
    goes on at real time. Live, all planners take turns in the same trainers, from the same start:
    by default a buffer that is far too small.

    Example: rudder bench planners --live --llm http://localhost:11434/v1 --model NAME
    """
    where, names, files = out or new_folder(), parts("planners", planners), model_file or []
    if not live:
        allowed = (*PLAIN, PUBLISHED) if policy == "score" else PLAIN
        teams = (
            _plain_teams(names, allowed=allowed)
            | dict(map(_learned_team, files))
            | _llm_team(llm, model)
        )
        _compare_simulated(teams, policy=policy, seeds=seeds, windows=windows, out=where, json=json)
        return
    config = run_config(
        dataset=dataset, batch_size=_LIVE_BATCH, llm=llm, llm_model=model, llm_deadline=llm_deadline
    )
    check_models(config.steering)

    def show(report: LiveReport) -> None:
        if report.jobs_done < report.jobs_planned:
            say(f"stopped after {report.jobs_done} of {report.jobs_planned} jobs")
        emit(report, live_table(report.planners), json=json)

    start = f"buffer={buffer}+lookahead={lookahead}"
    if llm is not None:
        names += ["llm", *[PUBLISHED_LLM] * (PUBLISHED in names)]
    chosen = _live_variants(names, files, start=start)
    compare_live(
        chosen, config, rate=rate, turns=turns, jobs=jobs, out=where, say=say, watch=TurnLines(),
        show=show,
    )  # fmt: skip


def _compare_simulated(
    teams: dict[str, TeamMaker], *, policy: Literal["lookahead", "score"], seeds: int,
    windows: int, out: Path, json: bool,
) -> None:  # fmt: skip
    from rudder.bench.simulated.cases import all_cases
    from rudder.bench.simulated.compare import Comparison, compare

    def show(report: Comparison) -> None:
        say(f"{report.workloads_done} of {report.workloads_planned} workloads are done")
        emit(report, planner_table(report.standings), json=json)

    cases = all_cases(seeds=seeds, policy=policy)
    report = Comparison(workloads_planned=len(cases))
    with (
        results_in(out / "planners.json", say=say, show=show) as keep,
        counting("comparing", total=len(cases), unit="workloads") as advance,
    ):
        for case in cases:
            say(f"{case.stream}, {case.row_ms} ms a row, {case.start}", least=Verbosity.VERBOSE)
            report = report.with_workload(compare(teams, case, windows=windows))
            keep(report)
            advance(1)


def _plain_teams(names: list[str], *, allowed: tuple[str, ...]) -> dict[str, TeamMaker]:
    if unknown := next((name for name in names if name not in allowed), None):
        raise ConfigError.for_field("planners", value=unknown, allowed=", ".join(allowed))

    def maker(name: str) -> TeamMaker:
        options = SteeringOptions.model_validate({"planner": name})
        return lambda workload: make_team(options, workload)

    return {name: maker(name) for name in names}


def _learned_team(file: Path) -> tuple[str, TeamMaker]:
    planner = read_planner(file)

    def make(workload: Workload) -> Team:
        roles = make_team(SteeringOptions(), workload)
        return Team(roles.observer, planner, roles.critic)

    return planner.name, make


def _llm_team(url: str | None, model: str | None) -> dict[str, TeamMaker]:
    if url is None:
        return {}
    options = SteeringOptions(planner="llm", llm_url=url, llm_model=model)
    open_chat(options)
    return {f"llm:{model}": lambda workload: make_team(options, workload)}


def _live_variants(names: list[str], files: list[Path], *, start: str) -> dict[str, Variant]:
    found = {name: variant_of(name, start=start) for name in (UNSTEERED, *names)}
    for file in files:
        kind = read_planner(file).header.planner
        found[f"{kind}:{file.name}"] = variant_of(kind, model_file=file, start=start)
        if PUBLISHED in names:
            fitted = variant_of(PUBLISHED, model_file=file, start=start)
            found[f"{PUBLISHED}:{file.name}"] = fitted
    return found
