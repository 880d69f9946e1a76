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
from rudder.tools.catalog import MAX_REASON, SPECS, tool_schemas
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
    "expected_rows": 300.0,
    "expected_wait_ms": 2.5,
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
    assert WRITES == ["set"]
    assert set(READS) == {
        "read_metrics", "read_buffer_state", "read_workload", "read_access_profile",
        "recall_episodes", "estimate_effect",
    }  # fmt: skip
    assert all(len(spec.description) > 100 and "\n" not in spec.description for spec in SPECS)


@pytest.mark.parametrize("schema", tool_schemas(), ids=lambda each: each["function"]["name"])
def test_schemas_are_flat_and_ask_for_no_more_than_is_needed(schema: dict[str, Any]) -> None:
    function = schema["function"]
    parameters = function["parameters"]
    assert schema["type"] == "function"
    assert parameters["type"] == "object"
    assert parameters["additionalProperties"] is False
    assert set(parameters["required"]) <= {"reason", "num_windows", "num_episodes"}
    text = json.dumps(parameters)
    for word in ("$ref", "$defs", "anyOf", "oneOf", "allOf", "pattern", "default", "null"):
        assert f'"{word}"' not in text
    for field in parameters["properties"].values():
        assert field["type"] in ("integer", "number", "string", "boolean")
        if field["type"] in ("integer", "number"):
            assert {"minimum", "maximum"} <= set(field)


def test_a_reason_comes_before_values_and_expectations_come_last() -> None:
    fields = list(SPECS[-1].schema()["properties"])
    assert fields[0] == "reason"
    assert fields[-2:] == ["expected_rows", "expected_wait_ms"]


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
    return read(toolbox, EstimateReading, "estimate_effect", capacity_rows=capacity_rows)


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


def test_several_knobs_and_calls_make_one_change_with_the_widest_expectation(
    toolbox: Toolbox,
) -> None:
    toolbox.call(write("set", capacity_rows=3000, lookahead_batches=32, eviction_threshold=None))
    staged = toolbox.call(write("set", fetch_row_budget=2000, expected_rows=400.0))
    assert staged.outcome == "staged"
    targets = FetchTargets(source="observed", row_budget=2000, while_idle=True)
    assert toolbox.staging.change == Change(
        capacity_rows=3000, lookahead_batches=32, fetch_targets=targets
    )
    assert toolbox.expected is not None
    assert (toolbox.expected.rows_fetched.low, toolbox.expected.rows_fetched.high) == (300, 400)
    assert toolbox.expected.buffer_bytes == 3000 * ROW_BYTES
    assert len(toolbox.staging.calls) == 2
    apart = toolbox.apart()
    apart.call(write("set", capacity_rows=5))
    assert toolbox.staging.change.capacity_rows == 3000
    toolbox.begin()
    assert toolbox.staging.is_empty
    assert toolbox.expected is None


def test_the_same_knob_twice_is_refused(toolbox: Toolbox) -> None:
    assert toolbox.call(write("set", lookahead_batches=4)).outcome == "staged"
    before = toolbox.staging.change
    result = toolbox.call(write("set", lookahead_batches=16, capacity_rows=5))
    assert (result.outcome, result.error_type) == ("refused", "conflict")
    assert toolbox.staging.change == before
    assert len(toolbox.staging.calls) == 1


@pytest.mark.parametrize("same", [{}, {"capacity_rows": 1200}, {"replace_now": False}])
def test_a_reason_alone_or_what_is_in_force_already_keeps_things(
    toolbox: Toolbox, same: dict[str, Any]
) -> None:
    assert toolbox.call(call_of("set", reason="all is well", **same)).outcome == "staged"
    assert toolbox.staging.keeps
    assert toolbox.expected is None
    assert not toolbox.staging.is_empty


def test_a_reason_that_is_too_long_is_cut(toolbox: Toolbox) -> None:
    assert toolbox.call(write("set", reason="because " * 100)).outcome == "staged"
    assert len(toolbox.staging.reason) == MAX_REASON


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"capacity_rows": NUM_REMOTE + 1}, "out_of_bounds"),
        ({"replacement_interval": 4}, "out_of_bounds"),
        ({"fetch_row_budget": 1201}, "out_of_bounds"),
        ({"capacity_rows": 2.5}, "invalid_arguments"),
        ({"capacity_rows": True}, "invalid_arguments"),
        ({"capacity_rows": "100"}, "invalid_arguments"),
        ({"capacity_rows": 5, "extra": 1}, "invalid_arguments"),
        ({"eviction_threshold": float("nan")}, "invalid_arguments"),
        ({"lookahead_batches": -1}, "invalid_arguments"),
        ({"lookahead_batches": 4, "reason": None}, "invalid_arguments"),
        ({"lookahead_batches": 4, "expected_rows": -1.0}, "invalid_arguments"),
        ({"lookahead_batches": 4, "expected_wait_ms": float("inf")}, "invalid_arguments"),
    ],
)
def test_wrong_calls_stage_nothing_and_say_what_to_do(
    toolbox: Toolbox, arguments: dict[str, Any], kind: str
) -> None:
    result = toolbox.call(write("set", **arguments))
    assert (result.outcome, result.error_type) == ("refused", kind)
    told = json.loads(result.content)
    assert told["message"]
    assert told["what_to_do"]
    assert toolbox.staging.is_empty


def test_a_tool_that_is_not_there_is_refused(toolbox: Toolbox) -> None:
    assert toolbox.call(write("drop_tables")).error_type == "unknown_tool"


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
    sorted({name for spec in SPECS for name in spec.arguments.model_fields} - {"reason"})
)


@settings(
    max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(names, wild_numbers, max_size=6))
def test_no_arguments_stage_a_change_that_is_out_of_bounds(
    history: History, chosen: dict[str, Any]
) -> None:
    toolbox = toolbox_of(history, budget=3000 * ROW_BYTES)
    arguments = {"reason": "x", **chosen}
    call = ToolCall.model_construct(call_id="1", tool="set", arguments=arguments)
    result = toolbox.call(call)
    change = toolbox.staging.change
    assert toolbox.limits.problem(change, settings=SETTINGS) is None
    assert (change.capacity_rows or 0) <= 3000
    assert 0 <= (change.eviction_threshold or 0) <= 1
    assert change.replacement_interval is None
    assert result.is_error == toolbox.staging.is_empty
    json.loads(result.content)
