"""One set of tests for all six classifiers: they learn, are kept, and answer the same again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import skops.io

from rudder.agents.learned.classifier import ForeignModelError, balanced_weights
from rudder.agents.learned.examples import FEATURES, Examples, read_examples, split
from rudder.agents.learned.model_file import classifier_class, measure
from rudder.training.steering_options import ClassifierName

KINDS = get_args(ClassifierName)
QUICK = [kind for kind in KINDS if kind != "tabnet"]


@pytest.fixture(scope="module")
def sides(memory: Path) -> tuple[Examples, Examples]:
    return split(read_examples(memory)[0], seed=0)


@pytest.mark.parametrize("kind", KINDS)
def test_it_tells_what_helps_on_runs_that_it_has_not_seen(
    kind: ClassifierName, sides: tuple[Examples, Examples]
) -> None:
    train, test = sides
    classifier = classifier_class(kind)(kind, seed=0)
    classifier.fit(train)
    metrics = measure(classifier, train=train, test=test)
    assert metrics.roc_auc >= 0.75
    assert metrics.train_runs + metrics.test_runs == 12
    again = classifier_class(kind).load(kind, classifier.dump(), seed=0)
    np.testing.assert_array_equal(again.probabilities(test.x), classifier.probabilities(test.x))


@pytest.mark.parametrize("kind", QUICK)
def test_the_same_examples_and_seed_give_the_same_answers(
    kind: ClassifierName, sides: tuple[Examples, Examples]
) -> None:
    train, test = sides
    answers = []
    for _ in range(2):
        classifier = classifier_class(kind)(kind, seed=5)
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
        classifier = classifier_class(kind)(kind, seed=0)
        lied_to = Examples(train.x, shuffled, train.run_keys)
        classifier.fit(lied_to)
        aucs.append(measure(classifier, train=lied_to, test=test).roc_auc)
    assert np.mean(aucs) < 0.75


@pytest.mark.parametrize("kind", QUICK)
def test_it_learns_on(kind: ClassifierName, sides: tuple[Examples, Examples]) -> None:
    train, test = sides
    classifier = classifier_class(kind)(kind, seed=0)
    classifier.fit(train)
    before = classifier.probabilities(test.x)
    denied = Examples(test.x, np.zeros(len(test), dtype=np.bool_))
    learned = train
    for _ in range(5):
        learned += denied + denied
        classifier.update(learned, num_new=2 * len(denied))
    assert classifier.probabilities(test.x).mean() < before.mean()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", [b"", b"nothing of the kind", b"{}", b"PK\x05\x06" + bytes(18)])
def test_bytes_that_are_no_model_are_refused(kind: ClassifierName, data: bytes) -> None:
    with pytest.raises(ForeignModelError):
        classifier_class(kind).load(kind, data, seed=0)


@pytest.mark.parametrize("kind", QUICK)
def test_a_model_of_another_kind_or_other_features_is_refused(kind: ClassifierName) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2 == 0
    other_kind: ClassifierName = "lr" if kind != "lr" else "svm"
    other = classifier_class(other_kind)(other_kind, seed=0)
    other.fit(Examples(rng.random((40, len(FEATURES)), dtype=np.float32), y))
    with pytest.raises(ForeignModelError):
        classifier_class(kind).load(kind, other.dump(), seed=0)
    narrow = classifier_class(kind)(kind, seed=0)
    narrow.fit(Examples(rng.random((40, 3), dtype=np.float32), y))
    with pytest.raises(ForeignModelError):
        classifier_class(kind).load(kind, narrow.dump(), seed=0)


def test_both_kinds_weigh_alike() -> None:
    y = np.array([True, False, False, False])
    weights = balanced_weights(y)
    assert weights[y].sum() == pytest.approx(weights[~y].sum())
    assert weights.mean() == pytest.approx(1)
    assert (balanced_weights(np.array([True, True])) == 1).all()


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("left_children", 10**6),
        ("right_children", 0),
        ("split_indices", 999),
        ("split_indices", -1),
    ],
)
def test_boosted_trees_that_point_outside_of_themselves_are_refused(
    part: str, value: int, sides: tuple[Examples, Examples]
) -> None:
    classifier = classifier_class("xgb")("xgb", seed=0)
    classifier.fit(sides[0])
    document = json.loads(classifier.dump())
    tree = document["learner"]["gradient_booster"]["model"]["trees"][0]
    tree[part][0] = value
    with pytest.raises(ForeignModelError):
        classifier_class("xgb").load("xgb", json.dumps(document).encode(), seed=0)


def test_a_forest_that_points_outside_of_itself_is_refused(
    sides: tuple[Examples, Examples],
) -> None:
    classifier = classifier_class("rf")("rf", seed=0)
    classifier.fit(sides[0])
    pipeline = skops.io.loads(classifier.dump(), trusted=["sklearn.tree._tree.Tree"])
    pipeline["model"].estimators_[3].tree_.children_left[0] = 10**6
    with pytest.raises(ForeignModelError):
        classifier_class("rf").load("rf", skops.io.dumps(pipeline), seed=0)
