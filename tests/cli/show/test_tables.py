"""Every table fits in 80 columns, with large numbers, and cuts or breaks no word."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from rudder.agents.controller.report import SteeringReport, write_report
from rudder.agents.replay.compare import Decision, Difference
from rudder.agents.replay.other import Alternative
from rudder.agents.replay.recorded import Replayed
from rudder.agents.replay.what_if import Outlook, WhatIfs
from rudder.bench.harm import Harm, HarmReport, Round, TurnCost
from rudder.bench.planners_live import LivePlanner
from rudder.bench.policy_cost import Cost
from rudder.bench.results import BenchReport, MachineFacts, Skipped, Spread, VariantResult
from rudder.bench.simulated.compare import Standing
from rudder.bench.variants import Grid
from rudder.cli.show import figures
from rudder.cli.show import summary as report
from rudder.cli.show.bench import (
    grid_table,
    harm_table,
    live_table,
    planner_table,
    report_text,
)
from rudder.cli.show.display import RunProgress
from rudder.cli.show.memory import memory_table
from rudder.cli.show.policies import cost_table, traffic_table
from rudder.cli.show.replay import alternative_table, difference_table, what_if_table
from rudder.cli.show.runs import comparison, diagnosis_table, run_table
from rudder.cli.show.steering_lines import SteeringWatch
from rudder.memory.run.diagnosis import diagnose
from rudder.memory.run.run_folder import RunFacts
from rudder.memory.run.series import RankSeries
from rudder.memory.sample import sample_episode, sample_workload
from rudder.training.config import RunConfig
from rudder.training.events import PhaseEntered
from rudder.training.metrics import (
    LastChange,
    ModelUse,
    OwnerTraffic,
    RowCounts,
    RowsFetched,
    Seconds,
    SteeringCounts,
)
from rudder.training.settings import Change
from tests.cli.show import test_display, test_memory, test_policies, test_summary
from tests.memory.run import test_series

WIDE = Spread(min=99.01, median=99.12, max=99.23)
MODEL = ModelUse(
    name="m", questions=12_345, fallbacks={"RefusedError": 12_000}, valid_first=99, calls=12_345,
    input_tokens=7_000_000, output_tokens=700_000, latency_ms_p50=12_345.0,
)  # fmt: skip
EPISODE = sample_episode(2, workload=sample_workload())
CHANGE = Change(capacity_rows=1_234_567, lookahead_batches=1024, eviction_threshold=0.125)


def summary(console: Console) -> None:
    rows = RowCounts(
        input_rows=10**8, remote_rows=10**7, hits=10**7, bytes_fetched=2**34,
        rows_fetched=RowsFetched(miss=10**7, target=10**5, seed=10**5),
    )  # fmt: skip
    last = LastChange(step=123_456, change="capacity 71,290 -> 102,973, " * 3, judgement="unjudged")
    counts = [
        SteeringCounts(
            rank=rank, decisions=12_345, confirmed=12_345, rows_errors=(12.345,),
            ages_steps=(12_345,), model=MODEL, last_change=last,
        )
        for rank in range(5)
    ]  # fmt: skip
    epochs = [test_summary.epoch(number, seconds=1234.5, rows=rows) for number in range(120)]
    made = test_summary.summary_of(test_summary.report(0, *epochs))
    report.print_summary(made.model_copy(update={"steering": tuple(counts)}), console)


def live(console: Console, folder: Path) -> None:
    watch = SteeringWatch(folder)
    counts = SteeringCounts(confirmed=12_345, reverted=1_234)
    write_report(SteeringReport(rank=0, planner="p", phase="on trial", counts=counts), folder)
    progress = RunProgress(num_ranks=64, epochs=1200, watch=watch)
    for rank in range(64):
        progress.note(PhaseEntered(role="trainer", rank=rank, phase="evaluating"))
        event = test_display.progress(rank, step=16, epoch=999)
        many = RowCounts(remote_rows=10**8, hits=10**8, rows_fetched=RowsFetched(miss=123_456_789))
        assert event.window is not None
        window = event.window.model_copy(update={"rows": many})
        progress.note(event.model_copy(update={"window": window, "steps_in_epoch": 1234}))
    console.print(progress.table())


def result(variant: str) -> VariantResult:
    return VariantResult(
        rate="200mbit", variant=variant, epoch_seconds=WIDE, turn_seconds=(99.1,),
        first_epoch_seconds=123.4, speedup_vs_stock=12.3, paired_speedup_vs_stock=WIDE,
        first_epoch_speedup_vs_stock=None, rows_fetched=12_345_678, remote_rows=12_345_678,
        bytes_fetched=1, breakdown=Seconds(sample=12.3, pull=12.3, assemble=12.3, compute=99.9),
    )  # fmt: skip


def bench_of(*variants: str) -> BenchReport:
    return BenchReport(
        dataset="synthetic:community-200k", command="rudder bench epochs",
        started="2025-01-02T03:04:05", results=tuple(map(result, variants)), repeats=3,
        turns_done=8, turns_planned=8, epochs_per_turn=2, network="namespace",
        config=RunConfig(), versions={},
        machine=MachineFacts(cpu="Some CPU", cores=2, memory_bytes=2**33, kernel="6"),
    )  # fmt: skip


def grid() -> RenderableType:
    made = Grid(capacities=("0.02", "0.05"), lookaheads=(0, 8, 16, 40))
    return grid_table(made, bench_of(*[each.text for each in made.variants]))


def harm_report() -> HarmReport:
    skipped = Skipped(rate="1gbit", reason="no namespaces " * 9, remedy="have some")
    return HarmReport(setup="2 hosts", cases=(harm(),), skipped=(skipped,))


def harm() -> Harm:
    cost = TurnCost(seconds=12.34, cpu_seconds=24.0)
    rounds = (Round(unsteered=cost, steered=cost),) * 14
    return Harm(
        dataset="synthetic:community-200k", rate="200mbit", rounds=rounds, applied=12, core=0.01
    )


def standing() -> Standing:
    return Standing(
        planner="tabnet:a-fitted-model.bin", cases=99, to_fixed=10.123, worst_to_fixed=10.123,
        to_best=10.123, worst_to_best=10.123, capacity_rows=1_234_567, decisions=1, proposed=12_345,
        applied=12_345, reverted=1_234, rows_error=1.234,
    )  # fmt: skip


def lived() -> LivePlanner:
    return LivePlanner(
        planner="tabnet:a-fitted-model.bin", seconds=1234.5, to_unsteered=Spread.of([1.1, 0.9]),
        to_embedded=Spread.of([1.1, 0.9]), step_ms_p99=123.4, applied=1234, confirmed=1,
        reverted=123, rows_error=0.999, models=(MODEL,),
    )  # fmt: skip


def cost() -> Cost:
    return Cost(
        variant="score:interval=32+alpha=0.05", capacity=10_000_000, num_remote=10_000_000,
        inputs=1, num_touched=1, num_batches=1, layout="spread", ms_per_batch=123.45,
        ms_per_batch_min=123.45,
        ms_per_batch_p95=1, hit_fraction=1.0, policy_bytes=1, flatness=12.34,
    )  # fmt: skip


def facts() -> RunFacts:
    return RunFacts(
        name="20261126-115355-synthetic-community-200k", folder="runs/x", state="cut short",
        began_at=datetime(2026, 11, 26, tzinfo=UTC), trained_on="synthetic:community-200k",
        hosts=250, trainers_per_host=64, rate="12.25gbit", model="sage", loader="rudder",
        planner="embedded", llm_model="a-language-model:70b", epochs=1_000_000,
        epoch_seconds=1234.5, all_epochs_seconds=1.2e9, hit_fraction=1.0, rows_fetched=10**12,
        bytes_fetched=10**14, score_name="accuracy", score=1.0,
    )  # fmt: skip


def bound() -> list[RankSeries]:
    """Ranks that a slow owner binds, with large numbers."""
    owners = tuple(
        OwnerTraffic(part=part, rows=10**9, pulls=10, seconds=999.0 if part == 2 else 1.0)
        for part in (1, 2, 3)
    )
    values = {"compute": 12_345.6, "wait": 12_345.6, "pull": 12_345.6}
    return [test_series.rank(number, owners=owners, **values) for number in range(63, 65)]


def replays() -> Iterator[RenderableType]:
    other = Difference("plan.change.capacity_rows", list(range(200)), {"reason": "word " * 20})
    yield difference_table(
        [Replayed(EPISODE, differences=(other,)), Replayed(EPISODE, reason="why " * 20)]
    )
    stored = Decision.of_episode(EPISODE)
    yield alternative_table(
        [
            Alternative(EPISODE, stored, stored),
            Alternative(EPISODE, stored, None, "no window is left " * 5),
        ]
    )
    effect = EPISODE.plan.expected
    assert effect is not None
    outlook = Outlook("refused plan", CHANGE, 1_234_567, effect)
    yield what_if_table([WhatIfs(EPISODE, (outlook,)), WhatIfs(EPISODE, reason="gone " * 20)])


def printed(show: Callable[[Console], object]) -> str:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    show(console)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


SHOWN: dict[str, Callable[[Console], object]] = {
    "summary": summary,
    "bench": lambda console: console.print(
        report_text(bench_of("stock", "lookahead:controller=on", "score:interval=32+alpha=0.05"))
    ),
    "grid": lambda console: console.print(grid()),
    "harm": lambda console: console.print(harm_table(harm_report())),
    "planners": lambda console: console.print(planner_table([standing()])),
    "live planners": lambda console: console.print(live_table([lived()])),
    "costs": lambda console: console.print(cost_table([cost()])),
    "traffic": lambda console: console.print(traffic_table(test_policies.ROWS, title="t")),
    "memory": lambda console: console.print(memory_table([test_memory.line()])),
    "runs": lambda console: console.print(run_table([facts()] * 2)),
    "runs side by side": lambda console: console.print(comparison([facts()] * 3)),
    "what binds ranks": lambda console: console.print(diagnosis_table(diagnose(bound()))),
    "replays": lambda console: console.print(Group(*replays())),
}


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> list[Table]:
    """The tables that a test makes."""
    made: list[Table] = []
    make = figures.table

    def note(*args: object, **options: object) -> Table:
        made.append(make(*args, **options))  # type: ignore[arg-type]  # passed on as they are
        return made[-1]

    monkeypatch.setattr(figures, "table", note)
    return made


def broken(table: Table, text: str) -> list[str]:
    """Words and numbers of a table that the text does not show as they are."""
    lost: list[str] = []
    for column in table.columns:
        for cell in (column.header, *column.cells):
            plain = cell.plain if isinstance(cell, Text) else str(cell)
            is_number = column.justify == "right"
            pieces = plain.split("\n") if is_number else re.findall(r"\b\w{1,15}\b", plain)
            lost += [piece for piece in pieces if piece not in text]
    return lost


@pytest.mark.parametrize("name", [*SHOWN, "live"])
def test_a_table_is_whole_at_80_columns(name: str, tables: list[Table], tmp_path: Path) -> None:
    text = printed(SHOWN.get(name, lambda console: live(console, tmp_path)))
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert "…" not in text
    assert tables
    assert [lost for table in tables for lost in broken(table, text)] == []


def test_words_beside_long_names_are_whole() -> None:
    """One column may hold two short lines, and others one long word."""
    names = ("", "20261126-130838-demo-stock", "20261126-130838-demo-rudder", "llama")
    rows = [
        ("hits of remote rows", "-", "91.7 %", "84.7 %"),
        ("trained on", "community-200k", "community-200k", "synthetic:tiny"),
        ("hosts, trainers", *["2, 1 trainer each"] * 3),
    ]
    made = figures.table(names, rows, text=names)
    text = printed(lambda console: console.print(made))
    assert broken(made, text) == []
    assert "synthetic:tiny" in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80


words = st.text("abcdefghij", min_size=1, max_size=9)
texts = st.lists(words, min_size=1, max_size=12).map(" ".join)


@settings(deadline=None)  # the time depends on what else the machine does
@given(st.lists(st.tuples(texts, texts, st.integers(0, 10**9), st.floats(0, 1)), min_size=1))
def test_any_words_and_numbers_are_whole(values: list[tuple[str, str, int, float]]) -> None:
    rows = [
        (one, other, figures.count(number), figures.percent(share))
        for one, other, number, share in values
    ]
    made = figures.table(
        ("a name", "what", "rows of it", "share of all"), rows, text=("a name", "what")
    )
    text = printed(lambda console: console.print(Group(made)))
    assert broken(made, text) == []
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
