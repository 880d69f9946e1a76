"""From a memory of past episodes to a model in a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rudder.agents.learned.examples import Counts, read_examples, split
from rudder.agents.learned.model_file import Header, classifier_class, measure, write_model
from rudder.training.steering_options import ClassifierName


@dataclass(frozen=True)
class Fitted:
    """counts: episodes of the memory by label."""

    header: Header
    counts: Counts


def fit(memory: Path, *, planner: ClassifierName, out: Path, seed: int = 0) -> Fitted:
    """Fit on three quarters of the runs, measure on the others, and write the model.

    Deterministic for one machine, memory and seed. Raises DataError if the memory has too little,
    MachineError if the classifier's library is missing.
    """
    classifier = classifier_class(planner)(planner, seed=seed)
    examples, counts = read_examples(memory)
    train, test = split(examples, seed=seed)
    classifier.fit(train)
    metrics = measure(classifier, train=train, test=test)
    header = write_model(
        out, classifier, planner=planner, seed=seed, metrics=metrics, examples=train
    )
    return Fitted(header, counts)
