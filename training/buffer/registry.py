"""The policies by name, with the options that only some of them have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from rudder.training.buffer.policies.lfu import LfuBuffer
from rudder.training.buffer.policies.lookahead import LookaheadBuffer
from rudder.training.buffer.policies.none import NoBuffer
from rudder.training.buffer.policies.score import DEFAULT_INTERVAL, ScoreBuffer, Start
from rudder.training.buffer.policies.static import StaticBuffer, StaticSource
from rudder.training.buffer.policy import IntArray, Policy
from rudder.training.buffer.vip import InclusionProbability
from rudder.training.errors import ConfigError
from rudder.training.partition_view import PartitionView
from rudder.training.settings import MAX_INTERVAL_BATCHES, BufferSettings
from rudder.training.workload import POLICY_CHOICES, LivePolicy

POLICIES: tuple[str, ...] = get_args(LivePolicy)

_KEYS: dict[str, dict[str, str]] = {
    "score": {
        "interval": "replacement_interval",
        "alpha": "alpha",
        "start": "start",
        "faithful": "faithful",
    },
    "static": {"source": "source"},
}
"""Per policy, the keys of a variant and the options that they set."""


@dataclass(frozen=True)
class PolicyOptions:
    """What a policy may be told at the start, beside its settings.

    Choices: replacement_interval, alpha, start and faithful are score's, source is static's.
    What is known of the run: fanouts, input layer first, None where the sampler has none;
    batch_size and epoch_batches of this trainer; seeds: int64 global ids, None: all inner nodes;
    seed of random choices.
    """

    replacement_interval: int = DEFAULT_INTERVAL
    alpha: float = 0.05
    start: Start = "degree"
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
    """Make the policy of that name; raises ConfigError where there is none, or it lacks a thing."""
    vip = None
    if options.fanouts is not None:
        vip = InclusionProbability(view, options.fanouts, options.batch_size, options.seeds)
    if name == "none":
        return NoBuffer(lookahead_batches=settings.lookahead_batches)
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
    if name in _PLAIN:
        return _PLAIN[name](view, settings, vip)
    raise ConfigError.for_field("policy", value=name, allowed=POLICY_CHOICES)


_PLAIN: dict[str, Callable[[PartitionView, BufferSettings, InclusionProbability | None], Policy]]
_PLAIN = {
    "lookahead": lambda view, settings, vip: LookaheadBuffer(view, settings, vip=vip),
    "lfu": lambda view, settings, vip: LfuBuffer(view, settings, vip=vip),
}


def _with_interval(settings: BufferSettings, interval: int) -> BufferSettings:
    """Keeps apart what was set and what is a default, as `model_copy` does."""
    if settings.replacement_interval is not None:
        return settings
    return settings.model_copy(update={"replacement_interval": interval})


def parse_variant(
    text: str, defaults: PolicyOptions | None = None, *, allowed: tuple[str, ...] = POLICIES
) -> tuple[str, PolicyOptions]:
    """Read `policy` or `policy:key=value+key=value`, such as `score:interval=32+alpha=0.05`.

    Variants may stand in a list with commas. Raises ConfigError that names what is allowed.
    """
    options = defaults or PolicyOptions()
    name, _, rest = text.strip().partition(":")
    if name not in allowed:
        choices = POLICY_CHOICES if allowed == POLICIES else ", ".join(allowed)
        raise ConfigError.for_field("policy", value=name, allowed=choices)
    keys = _KEYS.get(name, {})
    for item in filter(None, rest.split("+")):
        key, _, value = item.partition("=")
        if key not in keys:
            known = ", ".join(keys) or f"none, {name} has no options"
            raise ConfigError.for_field(f"{name} option", value=key, allowed=known)
        given: dict[str, Any] = {keys[key]: _value(f"{name}:{key}", key, value)}
        options = replace(options, **given)
    return name, options


def _value(where: str, key: str, text: str) -> object:
    read, allowed = _READERS[key]
    try:
        return read(text)
    except (ValueError, KeyError):
        raise ConfigError.for_field(where, value=text, allowed=allowed) from None


def _interval(text: str) -> int:
    if not 0 <= int(text) <= MAX_INTERVAL_BATCHES:
        raise ValueError
    return int(text)


def _alpha(text: str) -> float:
    if not 0 < float(text) < 1:
        raise ValueError
    return float(text)


def _one_of(choices: tuple[str, ...]) -> tuple[Callable[[str], object], str]:
    return {choice: choice for choice in choices}.__getitem__, ", ".join(choices)


_SWITCH = {"true": True, "1": True, "false": False, "0": False}
_READERS: dict[str, tuple[Callable[[str], object], str]] = {
    "interval": (_interval, f"0 to {MAX_INTERVAL_BATCHES} batches"),
    "alpha": (_alpha, "between 0 and 1"),
    "start": _one_of(get_args(Start)),
    "source": _one_of(get_args(StaticSource)),
    "faithful": (_SWITCH.__getitem__, ", ".join(_SWITCH)),
}
