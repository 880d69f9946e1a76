"""What each other partition sent, and how long it took."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rudder.training.metrics import OwnerTraffic


@dataclass(frozen=True)
class Pull:
    """Rows that one partition sent in one answer; seconds: from asking to having it."""

    owner: int
    rows: int
    seconds: float


def sum_of_owners(pulls: Iterable[Pull]) -> tuple[OwnerTraffic, ...]:
    """All pulls of each owner together, in the order of partitions."""
    by_owner: dict[int, list[Pull]] = {}
    for pull in pulls:
        by_owner.setdefault(pull.owner, []).append(pull)
    return tuple(
        OwnerTraffic(
            part=owner,
            rows=sum(pull.rows for pull in own),
            pulls=len(own),
            seconds=sum(pull.seconds for pull in own),
        )
        for owner, own in sorted(by_owner.items())
    )
