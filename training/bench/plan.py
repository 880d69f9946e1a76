"""Who is measured when: all variants in every round, in an order that changes from round to round.

A round is a turn of each variant, a turn some epochs. Round 0 warms up: buffers, memory, threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from rudder.training.bench.variants import Variant


@dataclass(frozen=True)
class Turn:
    """A turn of one variant: the epochs first_epoch .. first_epoch + num_epochs - 1 of the run."""

    round: int
    variant: Variant
    first_epoch: int
    num_epochs: int

    @property
    def epochs(self) -> range:
        """Numbers of its epochs."""
        return range(self.first_epoch, self.first_epoch + self.num_epochs)


class BenchPlan(BaseModel):
    """A warm-up round, and `repeats` rounds that count."""

    model_config = ConfigDict(frozen=True)

    variants: tuple[Variant, ...] = Field(min_length=1)
    repeats: int = Field(3, ge=1, le=1000)
    epochs_per_turn: int = Field(2, ge=1, le=1000)

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns, in order. Every round begins with another variant."""
        order = [
            (number, self.variants[(number + place) % len(self.variants)])
            for number in range(self.repeats + 1)
            for place in range(len(self.variants))
        ]
        size = self.epochs_per_turn
        return tuple(Turn(number, who, i * size, size) for i, (number, who) in enumerate(order))

    @property
    def epochs_of_variant(self) -> int:
        """Epochs of each variant, in all its turns."""
        return (self.repeats + 1) * self.epochs_per_turn

    def folder_of(self, variant: Variant) -> Path:
        """Where in a job's folder a variant keeps what its controllers write."""
        return Path("variants") / str(self.variants.index(variant))

    def turn_of(self, epoch: int) -> Turn:
        """The turn that an epoch of the run belongs to."""
        return self.turns[epoch // self.epochs_per_turn]
