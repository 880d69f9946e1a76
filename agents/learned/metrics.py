"""How well a classifier tells what helps, on runs that it has not seen."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from rudder.agents.learned.classifiers import Classifier
from rudder.agents.learned.examples import Examples

THRESHOLD = 0.5
"""From which probability on a change is said to help."""


class Metrics(BaseModel):
    """On the test runs: accuracies with the threshold, ROC AUC without one; base rate: share of
    the changes that helped, so that max(base_rate, 1 - base_rate) is what a constant gets right."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    accuracy: float = Field(ge=0, le=1)
    balanced_accuracy: float = Field(ge=0, le=1)
    roc_auc: float = Field(ge=0, le=1)
    base_rate: float = Field(ge=0, le=1)
    train_runs: int = Field(ge=1)
    test_runs: int = Field(ge=1)
    train_episodes: int = Field(ge=1)
    test_episodes: int = Field(ge=1)


def measure(classifier: Classifier, *, train: Examples, test: Examples) -> Metrics:
    """train: what the classifier has learned from; test: of other runs, with both kinds."""
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

    probabilities = classifier.probabilities(test.x)
    said = probabilities > THRESHOLD
    return Metrics(
        accuracy=float(accuracy_score(test.y, said)),
        balanced_accuracy=float(balanced_accuracy_score(test.y, said)),
        roc_auc=float(roc_auc_score(test.y, probabilities)),
        base_rate=float(test.y.mean()),
        train_runs=train.num_runs,
        test_runs=test.num_runs,
        train_episodes=len(train),
        test_episodes=len(test),
    )
