"""Makes the policies that runs can train with, by name, with the options of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np

from rudder.training.buffer.own import NewBuffer
from rudder.training.buffer.policies.lfu import LfuBuffer
from rudder.training.buffer.policies.lookahead import LookaheadBuffer
from rudder.training.buffer.policies.score import DEFAULT_INTERVAL, ScoreBuffer, StartContents
from rudder.training.buffer.policies.static import StaticBuffer, StaticSource
from rudder.training.buffer.policy import BatchPlan, IntArray, Policy
from rudder.training.buffer.targets import InclusionProbability
from rudder.training.errors import ConfigError
from rudder.training.partition_view import PartitionView
from rudder.training.settings import MAX_INTERVAL_BATCHES, BufferSettings, Change
from rudder.training.workload import OWN_POLICIES, POLICY_CHOICES, LivePolicy


class NoBuffer(Policy):
    """No buffer: every remote row is fetched whenever a batch needs it; lookahead hides latency."""

    def plan(self, nodes: IntArray) -> BatchPlan:
        """Everything is a miss."""
        nothing = np.empty(0, dtype=np.int64)
        return BatchPlan(hits=nothing, hit_slots=nothing, misses=np.arange(len(nodes)))

    def refusal(self, change: Change) -> str | None:
        """Only the lookahead can be changed."""
        for name, unchanged in Change():
            if name != "lookahead_batches" and getattr(change, name) != unchanged:
                return f"{name} means nothing to the policy `none`, which has no buffer"
        return None


_Read = Callable[[str], object]
POLICIES: tuple[str, ...] = get_args(LivePolicy)


@dataclass(frozen=True)
class PolicyOptions:
    """What a policy is told at the start, beside its settings.

    Options of `score`: replacement_interval, alpha, start, faithful; of `static`: source.
    Facts of the run: fanouts, input layer first, None if the sampler has none; batch_size and
    epoch_batches of this trainer; seeds: int64 global ids, None: all inner nodes; seed: of random
    choices.
    """

    replacement_interval: int = DEFAULT_INTERVAL
    alpha: float = 0.05
    start: StartContents = "degree"
    faithful: bool = False
    source: StaticSource = "presample"
    fanouts: tuple[int, ...] | None = None
    batch_size: int = 1
    epoch_batches: int = 100
    seeds: IntArray | None = field(default=None, compare=False)
    seed: int = 0


def make_policy(
    name: str,
    view: PartitionView,
    settings: BufferSettings,
    options: PolicyOptions = PolicyOptions(),
) -> Policy:
    """Make the policy of that name; raises ConfigError if there is none, or it needs fan-outs.

    name: NAME or NAME:ARGUMENT for a policy of an installed package.
    """
    vip = None
    if options.fanouts is not None:
        vip = InclusionProbability(view, options.fanouts, options.batch_size, options.seeds)
    if name == "none":
        return NoBuffer(settings.model_copy(update={"capacity_rows": 0}))
    if name == "lookahead":
        return LookaheadBuffer(view, settings, vip=vip)
    if name == "lfu":
        return LfuBuffer(view, settings, vip=vip)
    if name == "score":
        return ScoreBuffer(
            view,
            _with_interval(settings, options.replacement_interval),
            alpha=options.alpha,
            start=options.start,
            faithful=options.faithful,
            seed=options.seed,
            vip=vip,
        )
    if name == "static":
        if options.source == "vip" and vip is None:
            raise ConfigError(
                "the policy `static` with source vip needs fan-outs",
                remedy="use a NeighborSampler that is uniform, or source presample or degree",
            )
        return StaticBuffer(
            view, settings, source=options.source, epoch_batches=options.epoch_batches, vip=vip
        )
    return _own_policy(name, view, settings, options)


def _own_policy(
    name: str, view: PartitionView, settings: BufferSettings, options: PolicyOptions
) -> Policy:
    OWN_POLICIES.check(name, choices=POLICY_CHOICES)
    new = NewBuffer(
        view=view,
        settings=settings,
        fanouts=options.fanouts,
        batch_size=options.batch_size,
        epoch_batches=options.epoch_batches,
        seed=options.seed,
    )
    policy = OWN_POLICIES.make(name, new)
    if not isinstance(policy, Policy):
        returned = f"its function returned {type(policy).__name__}, no OwnBuffer"
        raise OWN_POLICIES.failure(name, returned)
    return policy


def _with_interval(settings: BufferSettings, interval: int) -> BufferSettings:
    """Set the interval if it is not set; `score` needs to know which other fields are not set."""
    if settings.replacement_interval is not None:
        return settings
    return settings.model_copy(update={"replacement_interval": interval})


def parse_variant(
    text: str, defaults: PolicyOptions | None = None, *, allowed: tuple[str, ...] = POLICIES
) -> tuple[str, PolicyOptions]:
    """Read `policy` or `policy:key=value+key=value`, such as `score:interval=32+alpha=0.05`.

    allowed: names of policies; those of installed packages are, too, and keep their argument.
    Raises ConfigError that names what is allowed.
    """
    options = defaults or PolicyOptions()
    name, _, rest = text.strip().partition(":")
    choices = POLICY_CHOICES if allowed == POLICIES else ", ".join(allowed)
    if OWN_POLICIES.is_own(name):
        OWN_POLICIES.check(name, choices=choices)
        return text.strip(), options
    if name not in allowed:
        raise ConfigError.for_field("policy", value=name, allowed=choices)
    keys = _VARIANT_OPTIONS.get(name, {})
    for item in filter(None, rest.split("+")):
        key, _, value = item.partition("=")
        if key not in keys:
            known = ", ".join(keys) or f"none, {name} has no options"
            raise ConfigError.for_field(f"{name} option", value=key, allowed=known)
        option, read, values = keys[key]
        try:
            given: dict[str, Any] = {option: read(value)}
        except (ValueError, KeyError):
            where = f"{name}:{key}"
            raise ConfigError.for_field(where, value=value, allowed=values) from None
        options = replace(options, **given)
    return name, options


def _number(read: Callable[[str], float], is_allowed: Callable[[float], bool]) -> _Read:
    def read_checked(text: str) -> object:
        if not is_allowed(read(text)):
            raise ValueError
        return read(text)

    return read_checked


def _one_of(choices: Mapping[str, object]) -> tuple[_Read, str]:
    return choices.__getitem__, ", ".join(choices)


_VARIANT_OPTIONS: dict[str, dict[str, tuple[str, _Read, str]]] = {
    "score": {
        "interval": (
            "replacement_interval",
            _number(int, lambda value: 0 <= value <= MAX_INTERVAL_BATCHES),
            f"0 to {MAX_INTERVAL_BATCHES} batches",
        ),
        "alpha": ("alpha", _number(float, lambda value: 0 < value < 1), "between 0 and 1"),
        "start": ("start", *_one_of({choice: choice for choice in get_args(StartContents)})),
        "faithful": (
            "faithful",
            *_one_of({"true": True, "1": True, "false": False, "0": False}),
        ),
    },
    "static": {"source": ("source", *_one_of({each: each for each in get_args(StaticSource)}))},
}
"""Per policy and key of a variant: the option that it sets, its reader, and the allowed values."""
