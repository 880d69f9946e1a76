"""From a memory of past episodes to a model in a file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rudder.agents.learned.classifiers import make_classifier
from rudder.agents.learned.examples import Label, read_examples, split
from rudder.agents.learned.model_file import Header, measure, write_model
from rudder.training.steering_options import ClassifierName


@dataclass(frozen=True)
class Fitted:
    """counts: episodes of the memory by what they teach."""

    header: Header
    counts: Counter[Label]


def fit(memory: Path, *, planner: ClassifierName, out: Path, seed: int = 0) -> Fitted:
    """Fit on three quarters of the runs, measure on the others, write what was measured.

    Deterministic for one machine, memory and seed. Raises DataError where the memory has too
    little, MachineError where the classifier's library is missing.
    """
    classifier = make_classifier(planner, seed=seed)
    examples, counts = read_examples(memory)
    train, test = split(examples, seed=seed)
    classifier.fit(train)
    metrics = measure(classifier, train=train, test=test)
    header = write_model(
        out, classifier, planner=planner, seed=seed, metrics=metrics, examples=train
    )
    return Fitted(header, counts)
