"""`rudder fit`: a planner that learns from past episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rudder.agents.learned import planner as learned
from rudder.cli.options import AsJson, writing_to
from rudder.cli.show import figures
from rudder.cli.show.progress import emit
from rudder.training.steering_options import ClassifierName, default_memory


def fit(
    planner: Annotated[
        ClassifierName,
        typer.Option(
            help="lr, rf, svm, mlp (scikit-learn), xgb (rudder-gnn\\[xgb]) or tabnet"
            " (rudder-gnn\\[tabnet])."
        ),
    ],
    memory: Annotated[
        Path | None,
        typer.Option(help="Memory to learn from; default: memory.db in the data folder."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File of the model; default: rudder-PLANNER.model.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split and of the classifier.", min=0)] = 0,
    json: AsJson = False,
) -> None:
    """Fit a classifier to past episodes: does a change lower wait or rows by more than noise?

    A quarter of the runs is left out of the fit, and the classifier is measured on it.
    `rudder train --collect` makes episodes.

    Example: rudder fit --planner xgb --memory memory.db --out xgb.model
    """
    where = out or Path(f"rudder-{planner}.model")
    with writing_to(where, name="out"):
        header = learned.fit(memory or default_memory(), planner=planner, out=where, seed=seed)
    metrics = header.metrics
    constant = max(metrics.base_rate, 1 - metrics.base_rate)
    text = f"""\
episodes: {learned.in_words(header.episodes)}
fitted to {metrics.train_episodes:,} changes of {metrics.train_runs} runs;\
 measured on {metrics.test_episodes:,} changes of {metrics.test_runs} other runs:
  ROC AUC            {metrics.roc_auc:.3f}
  accuracy           {figures.percent(metrics.accuracy)}\
 (a constant answer: {figures.percent(constant)})
  balanced accuracy  {figures.percent(metrics.balanced_accuracy)}
  base rate          {figures.percent(metrics.base_rate)} of the changes helped
written: {where}"""
    emit({"file": where, "episodes": header.episodes, "header": header}, text, json=json)
