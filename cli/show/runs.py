"""Runs as people list and compare them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Group

from rudder.cli.show import figures
from rudder.memory.run.diagnosis import Diagnosis
from rudder.memory.run.run_folder import RunFacts


def _hosts(facts: RunFacts) -> str:
    if facts.hosts is None:
        return figures.ABSENT
    trainers = facts.trainers_per_host or 1
    return f"{facts.hosts}, {trainers} trainer{'s' if trainers > 1 else ''} each"


def _steered_by(facts: RunFacts) -> str:
    return ", ".join(filter(None, (facts.planner, facts.llm_model))) or "nobody"


def _seconds(value: float | None) -> str:
    return figures.ABSENT if value is None else f"{figures.seconds(value)} s"


_FACTS: dict[str, Callable[[RunFacts], str | None]] = {
    "state": lambda facts: facts.state,
    "began": lambda facts: f"{facts.began_at:%Y-%m-%d %H:%M} UTC",
    "trained on": lambda facts: facts.trained_on,
    "hosts, trainers": _hosts,
    "link": lambda facts: facts.rate or (None if facts.hosts is None else "no limit"),
    "model": lambda facts: facts.model,
    "loader": lambda facts: facts.loader,
    "steered by": _steered_by,
    "epochs": lambda facts: figures.count(facts.epochs),
    "epoch, median": lambda facts: _seconds(facts.epoch_seconds),
    "all epochs": lambda facts: _seconds(facts.all_epochs_seconds),
    "hits of remote rows": lambda facts: figures.percent(facts.hit_fraction),
    "rows fetched": lambda facts: figures.count(facts.rows_fetched),
    "bytes fetched": lambda facts: figures.mebibytes(facts.bytes_fetched),
    "test score": lambda facts: _score(facts),
}


def _score(facts: RunFacts) -> str | None:
    if facts.score_name is None:
        return None
    return f"{facts.score_name} {figures.score(facts.score, name=facts.score_name)}"


def fact_texts(facts: RunFacts) -> dict[str, str]:
    """Each fact in words."""
    return {name: of(facts) or figures.ABSENT for name, of in _FACTS.items()}


def run_table(runs: Sequence[RunFacts]) -> Group:
    """A line a run."""
    names = ("run", "state", "loader, agents", "epochs", "epoch seconds", "hits", "score")
    rows = [
        (
            facts.name,
            facts.state,
            f"{facts.loader or figures.ABSENT}, {_steered_by(facts)}",
            figures.count(facts.epochs),
            figures.seconds(facts.epoch_seconds),
            figures.percent(facts.hit_fraction),
            figures.score(facts.score, name=facts.score_name or ""),
        )
        for facts in runs
    ]
    return Group(figures.table(names, rows, text=names[:3]))


def comparison(runs: Sequence[RunFacts]) -> Group:
    """A column a run; the first one is what the speed-up compares with."""
    rows = [(name, *[of(each) or figures.ABSENT for each in runs]) for name, of in _FACTS.items()]
    if len(runs) > 1:
        rows.append(("faster than the first", *[_speed_up(runs[0], each) for each in runs]))
    names = ("", *[each.name for each in runs])
    return Group(figures.table(names, rows, text=names))


def _speed_up(first: RunFacts, other: RunFacts) -> str:
    if not first.epoch_seconds or not other.epoch_seconds:
        return figures.ABSENT
    return f"{first.epoch_seconds / other.epoch_seconds:.2f}x"


def diagnosis_table(found: Sequence[Diagnosis]) -> Group:
    """A line a rank, and below what helps."""
    rows = [(str(each.rank), each.bound, "; ".join(each.evidence)) for each in found]
    helps = {each.bound: f"{each.bound}: {each.remedy}" for each in found}
    table = figures.table(("rank", "bound by", "because"), rows, text=("bound by", "because"))
    return Group(table, "", "what helps", *helps.values())
