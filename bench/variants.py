"""The loaders that a benchmark compares, each with its options in one word of text."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from rudder.training.config import NO_MEMORY, RunConfig, run_config
from rudder.training.errors import ConfigError
from rudder.training.settings import Frozen

STOCK, FLOOR = "stock", "floor"
_OF_CONTROLLERS = ("planner", "planner_model", "llm_model", "objective", "asks")
_OPTIONS = ("buffer", "lookahead", "eviction_threshold", "controller", *_OF_CONTROLLERS)


class Variant(Frozen):
    """`name`, or `name:key=value+key=value`.

    Names: stock (plain DistDGL), floor (Rudder's sampling, no feature reads: the limit of any
    prefetcher), and every policy. Options: those of the policy, and buffer, lookahead,
    eviction_threshold, controller (none unless it is on), planner, planner_model, objective, asks
    and llm_model; the run's language model, or another one of that name at the same endpoint, is
    asked by planner=llm, and by planner=published+asks=llm.
    """

    text: str

    @property
    def name(self) -> str:
        """The part before the colon."""
        return self.text.partition(":")[0]

    def config(self, base: RunConfig) -> RunConfig:
        """The config of this variant; raises ConfigError if its text or its options are wrong."""
        if self.name in (STOCK, FLOOR):
            if self.text != self.name:
                raise ConfigError.for_field("variants", value=self.text, allowed=self.name)
            loader = "stock" if self.name == STOCK else "rudder"
            return _changed(base, {"loader": loader, "policy": "none", "controller": "none"})
        common, own = self._options()
        fixed = {"loader": "rudder", "controller": "none", "memory": NO_MEMORY}
        planner = common.get("planner", base.planner)
        asks = planner == "llm" or common.pop("asks", None) == "llm"
        asked = {} if asks else {"llm": None, "llm_model": None}
        config = _changed(base, fixed | asked | _of_policy(own, base) | common)
        self._check_controller(config, common)
        return config

    def _options(self) -> tuple[dict[str, object], str]:
        """The options that every policy has, and the text without them."""
        _, _, rest = self.text.partition(":")
        pairs = [item.partition("=") for item in rest.split("+") if item]
        common: dict[str, object] = {key: value for key, _, value in pairs if key in _OPTIONS}
        own = "+".join("".join(pair) for pair in pairs if pair[0] not in _OPTIONS)
        return common, f"{self.name}:{own}" if own else self.name

    def _check_controller(self, config: RunConfig, options: dict[str, object]) -> None:
        """Raise ConfigError if the controller is off and an option of it is given."""
        told = [name for name in _OF_CONTROLLERS if name in options]
        if told and config.controller == "none":
            allowed = f"{told[0]} with controller=on only"
            raise ConfigError.for_field("variants", value=self.text, allowed=allowed)


def _changed(base: RunConfig, changes: dict[str, object]) -> RunConfig:
    return run_config(**(base.model_dump() | changes))


def _of_policy(text: str, base: RunConfig) -> dict[str, object]:
    """The values of a config that a policy's own options mean."""
    from rudder.training.buffer.registry import PolicyOptions, parse_variant

    name, options = parse_variant(
        text,
        PolicyOptions(
            replacement_interval=base.replacement_interval,
            alpha=base.alpha,
            start=base.start,
            faithful=base.score_faithful,
            source=base.static_source,
        ),
    )
    return {
        "policy": name,
        "replacement_interval": options.replacement_interval,
        "alpha": options.alpha,
        "start": options.start,
        "score_faithful": options.faithful,
        "static_source": options.source,
    }


def parse_variants(text: str) -> tuple[Variant, ...]:
    """Read `stock,lookahead:buffer=0.5`; raises ConfigError for one that is named twice."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names or len(set(names)) < len(names):
        raise ConfigError.for_field(
            "variants", value=text, allowed="different names with commas between them"
        )
    return tuple(Variant(text=name) for name in names)


@dataclass(frozen=True)
class Grid:
    """Every capacity with every lookahead: capacities as RunConfig's `buffer` is written, and
    lookaheads in batches."""

    capacities: tuple[str, ...]
    lookaheads: tuple[int, ...]

    @property
    def variants(self) -> tuple[Variant, ...]:
        """One per point, capacity by capacity."""
        return tuple(
            self.variant(*point) for point in itertools.product(self.capacities, self.lookaheads)
        )

    def variant(self, capacity: str, lookahead: int) -> Variant:
        """The variant with these fixed settings."""
        return Variant(text=f"lookahead:buffer={capacity}+lookahead={lookahead}")
