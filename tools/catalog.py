"""The tools by name, described for a model, with the schemas of their arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from rudder.tools import controls

_STAGED = (
    " Nothing happens at once: the change is staged, then reviewed against estimates and bounds."
    " State the rows fetched and the exposed wait per step that you expect once the buffer has"
    " filled, as a low and a high end: estimate_effect says what to expect."
)


@dataclass(frozen=True)
class ToolSpec:
    """A tool: reads answer at once, writes only stage a change.

    arguments: the pydantic model of what it is told.
    """

    name: str
    kind: Literal["read", "write"]
    description: str
    arguments: type[controls.Arguments]

    def schema(self) -> dict[str, Any]:
        """JSON schema of the arguments: flat, every field required, nothing else allowed."""
        return _flat(self.arguments.model_json_schema())

    def function(self) -> dict[str, Any]:
        """The tool as OpenAI-compatible endpoints take it."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "strict": True,
                "parameters": self.schema(),
            },
        }


def _flat(schema: dict[str, Any]) -> dict[str, Any]:
    """Without titles and class docs, which only cost tokens."""
    kept = {key: value for key, value in schema.items() if key not in ("title", "description")}
    kept["properties"] = {
        name: {key: value for key, value in of.items() if key != "title"}
        for name, of in schema.get("properties", {}).items()
    }
    kept.setdefault("required", [])
    return kept


SPECS: tuple[ToolSpec, ...] = (
    ToolSpec(
        "read_metrics",
        "read",
        "Reads the last measured windows of this trainer, per step: remote rows, rows fetched over"
        " the network, hit share, exposed wait (the trainer standing still for data) and step"
        " time; with the noise between windows, trends, how far loading is ahead of training, and"
        " the pace of the other trainers. A difference below the noise means nothing.",
        controls.ReadMetrics,
    ),
    ToolSpec(
        "read_buffer_state",
        "read",
        "Reads the settings in force, how many rows the buffer holds, its memory, the largest"
        " capacity allowed, and whether the measurements have settled since the last change."
        " Before they have, estimates beat measurements.",
        controls.NoArguments,
    ),
    ToolSpec(
        "read_workload",
        "read",
        "Reads what does not change: sizes of graph and partition, bytes of a row, batch size,"
        " fan-outs, steps left, memory room, the buffer's policy, and for each knob the values"
        " allowed. Knobs that are not allowed with this policy must be left alone.",
        controls.NoArguments,
    ),
    ToolSpec(
        "read_access_profile",
        "read",
        "Reads how remote nodes are used, from a sample of the last batches: working set, reuse"
        " distances in batches, the share of nodes used once only (no buffer helps them), how much"
        " the hottest tenth is used, drift against earlier windows, and rows and time per owner"
        " partition. High drift asks for less history: a longer lookahead rather than capacity.",
        controls.NoArguments,
    ),
    ToolSpec(
        "recall_episodes",
        "read",
        "Recalls past decisions in circumstances like these, nearest first: what was changed, what"
        " it was expected to bring, and what it brought. Do not repeat what was reverted.",
        controls.RecallEpisodes,
    ),
    ToolSpec(
        "estimate_effect",
        "read",
        "Estimates what settings would bring per step once the buffer has filled: rows fetched,"
        " exposed wait and memory, each as low, mid and high, next to keeping things and to the"
        " best that any buffer of that capacity could do (OPT). Changes nothing. Give the present"
        " value of a knob to leave it as it is.",
        controls.EstimateEffect,
    ),
    ToolSpec(
        "set_buffer_capacity",
        "write",
        "Sets how many remote rows the buffer keeps. More rows save traffic and take memory; the"
        " smallest buffer that hides communication is best. Growing takes some batches to fill;"
        " shrinking drops the rows worth least." + _STAGED,
        controls.SetBufferCapacity,
    ),
    ToolSpec(
        "set_eviction_threshold",
        "write",
        "Sets the uses per batch from which on a buffered row may not be displaced. 1 lets every"
        " row go, which is right with a lookahead; lower values hold on to rows that are used"
        " often, and stop adapting." + _STAGED,
        controls.SetEvictionThreshold,
    ),
    ToolSpec(
        "set_fetch_targets",
        "write",
        "Fetches rows eagerly, once: the ones observed most, those of highest degree or inclusion"
        " probability (vip), those of one owner partition, or given ids. Costs their rows at once,"
        " and pays only if misses are saved soon: to warm up or after a change of phase. The"
        " budget may not exceed the capacity." + _STAGED,
        controls.SetFetchTargets,
    ),
    ToolSpec(
        "set_lookahead",
        "write",
        "Sets how many batches are sampled ahead. Knowing the next uses brings evictions nearer to"
        " OPT; waiting batches take memory, and beyond the reuse distances nothing is gained."
        + _STAGED,
        controls.SetLookahead,
    ),
    ToolSpec(
        "set_replacement_interval",
        "write",
        "Sets the batches between replacement rounds, for policies that have them; 0 means on"
        " request only. Each round fetches rows: rare rounds save traffic, frequent ones adapt."
        + _STAGED,
        controls.SetReplacementInterval,
    ),
    ToolSpec(
        "replace_now",
        "write",
        "Runs one replacement round at the next batch: rows of little use go, the most missed ones"
        " are fetched. Worth it after a change of phase, seldom otherwise." + _STAGED,
        controls.ReplaceNow,
    ),
    ToolSpec(
        "keep_current",
        "write",
        "Changes nothing, and says why. Right when what could be gained is below the noise, or the"
        " last change has not settled. Goes with no other write tool. State the rows fetched and"
        " the exposed wait per step that you expect to go on.",
        controls.KeepCurrent,
    ),
)


def tool_schemas() -> list[dict[str, Any]]:
    """All tools in the form of OpenAI's function calling, strict."""
    return [spec.function() for spec in SPECS]
