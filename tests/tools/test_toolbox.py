"""The tools as agents call them: contracts, staging, audit, and what raw arguments can do."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from rudder.tools.calls import Argument, ToolCall, ToolResult
from rudder.tools.catalog import SPECS, WriteArguments, tool_schemas
from rudder.tools.estimate.history import History
from rudder.tools.estimate.whatif import WhatIf
from rudder.tools.limits import Limits
from rudder.tools.readings import (
    AccessReading,
    BufferReading,
    EstimateReading,
    MetricsReading,
    RecallReading,
    WorkloadReading,
)
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings, Change, FetchTargets
from tests.tools.runs import NUM_REMOTE, ROW_BYTES, call_of, history_of, workload, zipf

SETTINGS = BufferSettings(capacity_rows=1200, lookahead_batches=8)
EXPECTED: dict[str, Any] = {
    "expected_rows_low": 100.0,
    "expected_rows_high": 300.0,
    "expected_wait_ms_low": 0.0,
    "expected_wait_ms_high": 2.5,
    "reason": "less traffic",
}
READS = [spec.name for spec in SPECS if spec.kind == "read"]
WRITES = [spec.name for spec in SPECS if spec.kind == "write"]

R = TypeVar("R", bound=BaseModel)


class Past(BaseModel):
    distance: float


class Log:
    def __init__(self) -> None:
        self.entries: list[tuple[ToolCall, ToolResult, float]] = []

    def __call__(self, call: ToolCall, result: ToolResult, latency_ms: float) -> None:
        self.entries.append((call, result, latency_ms))


@pytest.fixture(scope="module")
def history() -> History:
    return history_of(zipf(96, seed=1), SETTINGS)


def toolbox_of(history: History, *, budget: int | None = None, log: Log | None = None) -> Toolbox:
    limits = Limits.of(history.workload, memory_budget_bytes=budget)
    recall = [Past(distance=0.1 * i) for i in range(20)]
    return Toolbox(
        history, limits, WhatIf(history), lambda limit: recall[:limit], on_call=log or Log()
    )


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def toolbox(history: History, log: Log) -> Toolbox:
    return toolbox_of(history, log=log)


def write(tool: str, **arguments: Any) -> ToolCall:
    return call_of(tool, **{**EXPECTED, **arguments})


# -- schemas ------------------------------------------------------------------------------


def test_all_tools_are_there_and_described() -> None:
    assert set(WRITES) == {
        "set_buffer_capacity", "set_eviction_threshold", "set_fetch_targets", "set_lookahead",
        "set_replacement_interval", "replace_now", "keep_current",
    }  # fmt: skip
    assert set(READS) == {
        "read_metrics", "read_buffer_state", "read_workload", "read_access_profile",
        "recall_episodes", "estimate_effect",
    }  # fmt: skip
    assert all(len(spec.description) > 100 and "\n" not in spec.description for spec in SPECS)


@pytest.mark.parametrize("schema", tool_schemas(), ids=lambda each: each["function"]["name"])
def test_schemas_are_strict_and_flat(schema: dict[str, Any]) -> None:
    function = schema["function"]
    parameters = function["parameters"]
    assert schema["type"] == "function"
    assert function["strict"] is True
    assert parameters["type"] == "object"
    assert parameters["additionalProperties"] is False
    assert set(parameters["required"]) == set(parameters["properties"])
    text = json.dumps(parameters)
    for word in ("$ref", "$defs", "anyOf", "oneOf", "allOf", "pattern", "default"):
        assert f'"{word}"' not in text
    for field in parameters["properties"].values():
        assert field["type"] in ("integer", "number", "string", "boolean", "array")
        if field["type"] in ("integer", "number"):
            assert {"minimum", "maximum"} <= set(field)


@pytest.mark.parametrize("spec", [s for s in SPECS if s.kind == "write"], ids=lambda s: s.name)
def test_writes_have_no_defaults_and_state_what_they_expect(spec: Any) -> None:
    assert issubclass(spec.arguments, WriteArguments)
    assert all(field.is_required() for field in spec.arguments.model_fields.values())
    assert set(EXPECTED) <= set(spec.arguments.model_fields)


def test_importing_the_tools_brings_in_neither_langchain_nor_torch() -> None:
    code = (
        "import sys, rudder.tools.toolbox;"
        "print([m for m in ('torch', 'dgl', 'langchain_core') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- reading ------------------------------------------------------------------------------


def test_reads_answer_numbers_and_are_logged(toolbox: Toolbox, log: Log) -> None:
    metrics = read(toolbox, MetricsReading, "read_metrics", num_windows=3)
    assert [each.first_step for each in metrics.windows] == [48, 64, 80]
    assert metrics.windows[-1].remote_rows == 1200
    state = read(toolbox, BufferReading, "read_buffer_state")
    assert state.settings == SETTINGS
    assert state.has_settled
    assert state.buffer_bytes == 1200 * ROW_BYTES
    work = read(toolbox, WorkloadReading, "read_workload")
    assert work.room_bytes == (NUM_REMOTE - 1200) * ROW_BYTES
    allowed = {bound.knob: bound.allowed for bound in work.bounds}
    assert allowed == {
        "capacity_rows": True, "eviction_threshold": True, "lookahead_batches": True,
        "replacement_interval": False, "fetch_targets": True, "replace_now": True,
    }  # fmt: skip
    recalled = read(toolbox, RecallReading, "recall_episodes", num_episodes=4)
    assert len(recalled.episodes) == 4
    assert [entry[0].tool for entry in log.entries] == [
        "read_metrics", "read_buffer_state", "read_workload", "recall_episodes",
    ]  # fmt: skip
    assert all(entry[1].outcome == "answered" and entry[2] >= 0 for entry in log.entries)
    assert len({entry[0].call_id for entry in log.entries}) == 4


def read(toolbox: Toolbox, kind: type[R], tool: str, **arguments: Argument) -> R:
    return kind.model_validate_json(toolbox.call(call_of(tool, **arguments)).content)


def estimate(toolbox: Toolbox, *, capacity_rows: int) -> EstimateReading:
    """Of the settings in force but for the capacity."""
    return read(
        toolbox, EstimateReading, "estimate_effect", capacity_rows=capacity_rows,
        eviction_threshold=SETTINGS.eviction_threshold,
        lookahead_batches=SETTINGS.lookahead_batches, replacement_interval=0, fetch_row_budget=0,
        replace_now=False,
    )  # fmt: skip


def test_the_access_profile_adds_up(toolbox: Toolbox) -> None:
    profile = read(toolbox, AccessReading, "read_access_profile")
    reuse = profile.reuse
    total = sum(reuse.model_dump().values())
    assert total == pytest.approx(1)
    assert 0.8 * NUM_REMOTE < profile.working_set_rows < 1.2 * NUM_REMOTE
    assert 0.1 < profile.hot_fraction < 1
    assert profile.drift is not None
    assert profile.drift < 0.05


def test_an_estimate_compares_with_keeping_things_and_with_opt(toolbox: Toolbox) -> None:
    reading = estimate(toolbox, capacity_rows=6000)
    assert reading.changed.rows_fetched.mid < 0.7 * reading.present.rows_fetched.mid
    assert reading.opt.rows_fetched.mid <= reading.changed.rows_fetched.mid
    assert reading.changed.buffer_bytes == 6000 * ROW_BYTES
    same = estimate(toolbox, capacity_rows=1200)
    assert same.changed == same.present


def test_what_is_not_known_yet_is_an_error_to_act_on() -> None:
    log = Log()
    toolbox = toolbox_of(History(workload()), log=log)
    calls = [call_of(name) for name in ("read_buffer_state", "read_access_profile")]
    for call in [*calls, call_of("read_metrics", num_windows=1)]:
        result = toolbox.call(call)
        assert (result.outcome, result.error_type) == ("refused", "not_ready")
        assert json.loads(result.content)["what_to_do"]
    assert [entry[1].error_type for entry in log.entries] == ["not_ready"] * 3


# -- writing ------------------------------------------------------------------------------


def test_several_knobs_make_one_change_with_the_widest_expectation(toolbox: Toolbox) -> None:
    toolbox.call(write("set_buffer_capacity", capacity_rows=3000))
    toolbox.call(write("set_lookahead", lookahead_batches=32, expected_rows_high=400.0))
    staged = toolbox.call(
        write("set_fetch_targets", source="observed", row_budget=2000, owner=0, ids=[])
    )
    assert staged.outcome == "staged"
    assert toolbox.staging.change == Change(
        capacity_rows=3000,
        lookahead_batches=32,
        fetch_targets=FetchTargets(source="observed", row_budget=2000),
    )
    assert toolbox.expected is not None
    assert (toolbox.expected.rows_fetched.low, toolbox.expected.rows_fetched.high) == (100, 400)
    assert toolbox.expected.buffer_bytes == 3000 * ROW_BYTES
    assert [call.tool for call in toolbox.staging.calls] == [
        "set_buffer_capacity", "set_lookahead", "set_fetch_targets",
    ]  # fmt: skip
    toolbox.begin()
    assert toolbox.staging.is_empty
    assert toolbox.expected is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("set_lookahead", {"lookahead_batches": 4}), ("set_lookahead", {"lookahead_batches": 8})),
        (("keep_current", {}), ("set_lookahead", {"lookahead_batches": 8})),
        (("set_lookahead", {"lookahead_batches": 8}), ("keep_current", {})),
        (("keep_current", {}), ("keep_current", {})),
        (("replace_now", {}), ("replace_now", {})),
    ],
)
def test_writes_that_contradict_each_other_are_refused(
    toolbox: Toolbox, first: tuple[str, dict[str, Any]], second: tuple[str, dict[str, Any]]
) -> None:
    assert toolbox.call(write(first[0], **first[1])).outcome == "staged"
    before = toolbox.staging.change
    result = toolbox.call(write(second[0], **second[1]))
    assert (result.outcome, result.error_type) == ("refused", "conflict")
    assert toolbox.staging.change == before
    assert len(toolbox.staging.calls) == 1


def test_keeping_things_is_staged_as_no_change(toolbox: Toolbox) -> None:
    assert toolbox.call(write("keep_current")).outcome == "staged"
    assert toolbox.staging.keeps
    assert toolbox.staging.change.is_empty
    assert not toolbox.staging.is_empty


@pytest.mark.parametrize(
    ("tool", "arguments", "kind"),
    [
        ("set_buffer_capacity", {"capacity_rows": NUM_REMOTE + 1}, "out_of_bounds"),
        ("set_replacement_interval", {"replacement_interval": 4}, "out_of_bounds"),
        ("set_fetch_targets",
         {"source": "observed", "row_budget": 1201, "owner": 0, "ids": []}, "out_of_bounds"),
        ("set_buffer_capacity", {"capacity_rows": 2.5}, "invalid_arguments"),
        ("set_buffer_capacity", {"capacity_rows": True}, "invalid_arguments"),
        ("set_buffer_capacity", {"capacity_rows": "100"}, "invalid_arguments"),
        ("set_buffer_capacity", {"capacity_rows": 5, "extra": 1}, "invalid_arguments"),
        ("set_buffer_capacity", {}, "invalid_arguments"),
        ("set_eviction_threshold", {"eviction_threshold": float("nan")}, "invalid_arguments"),
        ("set_lookahead", {"lookahead_batches": -1}, "invalid_arguments"),
        ("set_lookahead", {"lookahead_batches": 4, "reason": ""}, "invalid_arguments"),
        ("set_lookahead",
         {"lookahead_batches": 4, "expected_rows_high": 1.0}, "invalid_arguments"),
        ("set_lookahead",
         {"lookahead_batches": 4, "expected_wait_ms_low": float("inf")}, "invalid_arguments"),
        ("drop_tables", {}, "unknown_tool"),
    ],
)  # fmt: skip
def test_wrong_calls_stage_nothing_and_say_what_to_do(
    toolbox: Toolbox, tool: str, arguments: dict[str, Any], kind: str
) -> None:
    result = toolbox.call(write(tool, **arguments))
    assert (result.outcome, result.error_type) == ("refused", kind)
    told = json.loads(result.content)
    assert told["message"]
    assert told["what_to_do"]
    assert toolbox.staging.is_empty


@pytest.mark.parametrize("tool", WRITES)
def test_an_empty_call_is_never_a_write(toolbox: Toolbox, tool: str) -> None:
    assert toolbox.call(call_of(tool)).error_type == "invalid_arguments"
    assert toolbox.staging.is_empty


wild_numbers = st.one_of(
    st.integers(-10, 13_000),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([float("nan"), float("inf"), -0.0, 1e308, True, None, "7"]),
)
names = st.sampled_from(
    sorted({name for spec in SPECS for name in spec.arguments.model_fields} - set(EXPECTED))
)
wild_values = st.one_of(
    wild_numbers, st.sampled_from(["observed", "owner", "ids", "x"]), st.lists(st.integers(-5, 20))
)


@settings(
    max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(WRITES), st.dictionaries(names, wild_values, max_size=5), st.data())
def test_no_arguments_stage_a_change_that_is_out_of_bounds(
    history: History, tool: str, extra: dict[str, Any], data: st.DataObject
) -> None:
    toolbox = toolbox_of(history, budget=3000 * ROW_BYTES)
    wanted = next(spec for spec in SPECS if spec.name == tool).arguments.model_fields
    own = {
        name: data.draw(wild_numbers if name not in ("source", "ids") else wild_values)
        for name in set(wanted) - set(EXPECTED)
    }
    chosen = extra if data.draw(st.booleans()) else {}
    call = ToolCall.model_construct(call_id="1", tool=tool, arguments={**EXPECTED, **chosen, **own})
    result = toolbox.call(call)
    change = toolbox.staging.change
    assert toolbox.limits.problem(change, settings=SETTINGS) is None
    assert (change.capacity_rows or 0) <= 3000
    assert 0 <= (change.eviction_threshold or 0) <= 1
    assert change.replacement_interval is None
    assert result.is_error == toolbox.staging.is_empty
    json.loads(result.content)
