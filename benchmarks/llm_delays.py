"""What a model that answers late, or never, costs a real job: time over the embedded planner's.

    python -m benchmarks.llm_delays --rounds 4 --epochs 12 --job 0

The embedded planner, and the same one hearing models that take the best what-if line after 0, 2, 8
and 20 seconds or never answer, take turns in the same trainers: from a buffer that is far too
small, over a slow link, with the default deadline. Each --job begins with another of them. Prints a
line for each model: seconds of its turns over those of the embedded planner in the same round, the
first round included.
"""

from __future__ import annotations

import statistics
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from benchmarks.shared import run_study
from rudder.agents.controller.report import read_reports
from rudder.bench.model_server.scripted_server import ChatRequest, Fail, ScriptedServer, Slow, Step
from rudder.bench.model_server.stand_in import at_best
from rudder.bench.plan import BenchPlan
from rudder.bench.run import run
from rudder.bench.variants import Variant
from rudder.training.config import run_config

NEVER = "never"
DELAYS = ("0", "2", "8", "20", NEVER)
"""Seconds to an answer, by which the models are called."""
_START = "buffer=0.01+lookahead=0+controller=on"


def late(request: ChatRequest) -> Step:
    """The best what-if line, as late as the model's name says."""
    name = str(request.body["model"])
    answer = at_best()(request)
    return Fail("hang") if name == NEVER else Slow(answer, float(name))  # type: ignore[arg-type]


def measure(told: Namespace, folder: Path) -> Iterator[dict[str, object]]:
    """One job in which all take turns."""
    texts = {name: f"lookahead:{_START}+planner=llm+llm_model={name}" for name in DELAYS}
    variants = [Variant(text=f"lookahead:{_START}"), *(Variant(text=t) for t in texts.values())]
    first = told.job % len(variants)
    plan = BenchPlan(
        variants=(*variants[first:], *variants[:first]),
        repeats=told.rounds - 1,
        epochs_per_turn=told.epochs,
    )
    with ScriptedServer(late) as server:
        config = run_config(
            dataset="synthetic:tiny", batch_size=64, llm=server.url, llm_model=DELAYS[0]
        )
        report = run(plan, config, rates=["10mbit"], out=folder / "job", say=_say)
    turns = {e.variant: list(map(sum, e.epochs_of_turns)) for e in report.results}
    embedded = turns[variants[0].text]
    for name, variant in zip(DELAYS, variants[1:], strict=True):
        ratios = [own / base for own, base in zip(turns[variant.text], embedded, strict=True)]
        steered = folder / "job" / "rate-10mbit" / plan.folder_of(variant)
        models = [e.counts.model for e in read_reports(steered) if e.counts.model is not None]
        yield {
            "answers_after_s": name,
            "to_embedded": [round(each, 4) for each in ratios],
            "mean": round(statistics.geometric_mean(ratios), 4),
            "questions": sum(each.questions for each in models),
            "fallbacks": [dict(each.fallbacks) for each in models if each.fallbacks],
        }


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    run_study(__doc__, measure, rounds=4, epochs=12, job=0)
