"""`rudder fit`: a planner that learns from past episodes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rudder.training.steering_options import ClassifierName

if TYPE_CHECKING:
    from rudder.agents.learned.model_file import Fitted


def fit(
    planner: Annotated[
        ClassifierName,
        typer.Option(
            help="lr, rf, svm, mlp (scikit-learn), xgb (rudder-gnn\\[xgb]) or tabnet"
            " (rudder-gnn\\[tabnet])."
        ),
    ],
    memory: Annotated[
        Path | None, typer.Option(help="File; default: memory.db in the data folder.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File of the model; default: rudder-PLANNER.model.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split and of the model.", min=0)] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fit a classifier to past episodes: does a change lower wait or rows by more than noise?

    A quarter of the runs is left out of the fit, and the classifier is measured on it.
    `rudder train --collect` makes episodes.

    Example: rudder fit --planner xgb --memory memory.db --out xgb.model
    """
    from rudder.agents.learned.model_file import fit as fit_to
    from rudder.training.steering_options import default_memory

    where = out or Path(f"rudder-{planner}.model")
    fitted = fit_to(memory or default_memory(), planner=planner, out=where, seed=seed)
    typer.echo(_as_json(fitted, where) if json else _as_text(fitted, where))


def _as_json(fitted: Fitted, out: Path) -> str:
    import json

    told = {
        "file": str(out),
        "episodes": {label.value: count for label, count in fitted.counts.items()},
        "header": fitted.header.model_dump(mode="json"),
    }
    return json.dumps(told, indent=2)


def _as_text(fitted: Fitted, out: Path) -> str:
    from rudder.agents.learned.examples import in_words
    from rudder.cli.show import figures

    metrics = fitted.header.metrics
    constant = max(metrics.base_rate, 1 - metrics.base_rate)
    return "\n".join(
        [
            f"episodes: {in_words(fitted.counts)}",
            f"fitted to {metrics.train_episodes:,} changes of {metrics.train_runs} runs;"
            f" measured on {metrics.test_episodes:,} changes of {metrics.test_runs} other runs:",
            f"  ROC AUC            {metrics.roc_auc:.3f}",
            f"  accuracy           {figures.percent(metrics.accuracy)}"
            f" (a constant answer: {figures.percent(constant)})",
            f"  balanced accuracy  {figures.percent(metrics.balanced_accuracy)}",
            f"  base rate          {figures.percent(metrics.base_rate)} of the changes helped",
            f"written: {out}",
        ]
    )
