"""One set of tests for all six classifiers: they learn, are kept, and answer the same again."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from rudder.agents.learned.classifier import Classifier
from rudder.agents.learned.planner import (
    FEATURES,
    Examples,
    metrics_of,
    new_classifier,
    read_examples,
    split,
)
from rudder.training.steering_options import ClassifierName

KINDS = get_args(ClassifierName)
QUICK = [kind for kind in KINDS if kind != "tabnet"]


@pytest.fixture(scope="module")
def sides(memory: Path) -> tuple[Examples, Examples]:
    return split(read_examples(memory), seed=0)


def loaded(kind: ClassifierName, data: bytes) -> Classifier:
    classifier = new_classifier(kind, seed=0)
    classifier.load(data)
    return classifier


@pytest.mark.parametrize("kind", KINDS)
def test_it_tells_what_helps_on_runs_that_it_has_not_seen(
    kind: ClassifierName, sides: tuple[Examples, Examples]
) -> None:
    train, test = sides
    classifier = new_classifier(kind, seed=0)
    classifier.fit(train)
    metrics = metrics_of(classifier, train=train, test=test)
    assert metrics.roc_auc >= 0.75
    assert metrics.train_runs + metrics.test_runs == 12
    again = loaded(kind, classifier.dump())
    np.testing.assert_array_equal(again.probabilities(test.x), classifier.probabilities(test.x))


@pytest.mark.parametrize("kind", QUICK)
def test_the_same_examples_and_seed_give_the_same_answers(
    kind: ClassifierName, sides: tuple[Examples, Examples]
) -> None:
    train, test = sides
    answers = []
    for _ in range(2):
        classifier = new_classifier(kind, seed=5)
        classifier.fit(train)
        answers.append(classifier.probabilities(test.x))
    np.testing.assert_array_equal(answers[0], answers[1])
    assert ((answers[0] >= 0) & (answers[0] <= 1)).all()


@pytest.mark.parametrize("kind", QUICK)
def test_shuffled_labels_teach_nothing(
    kind: ClassifierName, sides: tuple[Examples, Examples]
) -> None:
    train, test = sides
    aucs = []
    for seed in range(5):
        shuffled = np.random.default_rng(seed).permutation(train.y)
        classifier = new_classifier(kind, seed=0)
        lied_to = Examples(train.x, shuffled, train.run_keys)
        classifier.fit(lied_to)
        aucs.append(metrics_of(classifier, train=lied_to, test=test).roc_auc)
    assert np.mean(aucs) < 0.75


@pytest.mark.parametrize("kind", QUICK)
def test_it_learns_on(kind: ClassifierName, sides: tuple[Examples, Examples]) -> None:
    train, test = sides
    classifier = new_classifier(kind, seed=0)
    classifier.fit(train)
    before = classifier.probabilities(test.x)
    denied = Examples(test.x, np.zeros(len(test), dtype=np.bool_), test.run_keys)
    learned = train
    for _ in range(5):
        learned += denied + denied
        classifier.fit(learned)
    assert classifier.probabilities(test.x).mean() < before.mean()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", [b"", b"nothing of the kind", b"{}", b"PK\x05\x06" + bytes(18)])
def test_bytes_that_are_no_model_are_refused(kind: ClassifierName, data: bytes) -> None:
    with pytest.raises(ValueError):
        loaded(kind, data)


@pytest.mark.parametrize("kind", QUICK)
def test_a_model_of_another_kind_or_other_features_is_refused(kind: ClassifierName) -> None:
    rng = np.random.default_rng(0)
    y, keys = np.arange(40) % 2 == 0, np.full(40, "run")
    other_kind: ClassifierName = "lr" if kind != "lr" else "svm"
    other = new_classifier(other_kind, seed=0)
    other.fit(Examples(rng.random((40, len(FEATURES)), dtype=np.float32), y, keys))
    with pytest.raises(ValueError):
        loaded(kind, other.dump())
    narrow = new_classifier(kind, seed=0)
    narrow.fit(Examples(rng.random((40, 3), dtype=np.float32), y, keys))
    with pytest.raises(ValueError):
        loaded(kind, narrow.dump())
