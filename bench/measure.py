"""The jobs of a benchmark: one per rate, in which all variants take their turns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rudder.bench.plan import PROGRAM, BenchPlan
from rudder.bench.results import Skipped, TurnDone
from rudder.training.checkpoint.format import NEVER
from rudder.training.config import RunConfig, run_config
from rudder.training.errors import ConfigError, MachineError
from rudder.training.events import EpochDone, Event
from rudder.training.hosts.local import open_cluster
from rudder.training.launch.run import launch
from rudder.training.metrics import EpochMetrics
from rudder.training.partitioned_graph import PartitionedGraph

UNLIMITED = "none"
"""The rate of a link without a limit."""


@dataclass(frozen=True)
class Links:
    """The rates that this machine can give to the links of hosts, and those that it cannot."""

    network: str
    rates: tuple[str, ...]
    skipped: tuple[Skipped, ...]

    def tell_skipped(self, say: Callable[[str], None]) -> None:
        """Say which rates are left out, and why."""
        for each in self.skipped:
            say(f"rate {each.rate} is left out: {each.reason}")


def links_for(config: RunConfig, rates: Sequence[str]) -> Links:
    """Which rates can be measured here; without namespaces, hosts share the loopback.

    Raises ConfigError for what is no rate or is named twice, MachineError where `config` insists
    on namespaces and the machine has none, or no rate would be left.
    """
    for rate in rates:
        if rate != UNLIMITED:
            run_config(rate=rate)
    if len(set(rates)) < len(rates):
        raise ConfigError.for_field("rate", value=list(rates), allowed="different rates")
    refusal = _refusal(config)
    if refusal is None:
        return Links("namespace", tuple(rates), ())
    limited = [rate for rate in rates if rate != UNLIMITED]
    if len(limited) == len(rates):
        raise refusal
    skipped = [Skipped(rate=r, reason=refusal.message, remedy=refusal.remedy) for r in limited]
    return Links("loopback", tuple(rate for rate in rates if rate == UNLIMITED), tuple(skipped))


def measure(
    plan: BenchPlan,
    config: RunConfig,
    *,
    links: Links,
    graph: PartitionedGraph,
    out: Path,
    on_turn: Callable[[TurnDone], None],
) -> None:
    """Run a job per rate, each in a folder of `out`; hands over every turn once it is done.

    Raises what `launch` raises.
    """
    for rate in links.rates:
        update = {
            "rate": None if rate == UNLIMITED else rate,
            "network": links.network,
            "checkpoint_every": NEVER,
        }
        launch(
            config.model_copy(update=update),
            graph=graph,
            run_dir=out / f"rate-{rate}",
            on_event=Turns(plan, rate=rate, num_ranks=config.num_trainers, on_turn=on_turn),
            program=PROGRAM,
            program_options=plan.model_dump(mode="json"),
        )


class Turns:
    """Listens to the events of a job, and hands over a turn when all ranks have done it."""

    def __init__(
        self, plan: BenchPlan, *, rate: str, num_ranks: int, on_turn: Callable[[TurnDone], None]
    ) -> None:
        self._plan, self._rate, self._num_ranks = plan, rate, num_ranks
        self._on_turn = on_turn
        self._epochs: defaultdict[int, list[EpochMetrics]] = defaultdict(list)

    def __call__(self, event: Event) -> None:
        """Take in an event."""
        if not isinstance(event, EpochDone):
            return
        self._epochs[event.metrics.epoch].append(event.metrics)
        turn = self._plan.turn_of(event.metrics.epoch)
        epochs = tuple(tuple(self._epochs[number]) for number in turn.epochs)
        if all(len(ranks) == self._num_ranks for ranks in epochs):
            self._on_turn(TurnDone(rate=self._rate, turn=turn, epochs=epochs))


def _refusal(config: RunConfig) -> MachineError | None:
    """Why hosts cannot have a network of their own here, with a limited rate; None if they can."""
    if config.network == "loopback":
        return MachineError(
            "rates need namespaces, and the network is loopback",
            remedy="use --network auto",
        )
    try:
        with open_cluster("namespace", num_hosts=1, rate="1gbit"):
            return None
    except MachineError as refusal:
        if config.network == "namespace":
            raise
        return refusal
