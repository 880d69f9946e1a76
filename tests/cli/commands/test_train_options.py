"""Whatever is given to an option of `rudder train`, it is taken or refused: never a traceback."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from rudder.cli.main import make_app
from rudder.cli.options import settings as options_of
from rudder.training.config import RunConfig, run_config
from rudder.training.errors import ConfigError, DataError, MachineError, RudderError
from rudder.training.launch.rehearsal import try_training
from tests.training.partitioned import partitioned_graph

GRAPH = partitioned_graph(feature_dim=6, num_classes=4)
OWN = ["config", "hosts_file", "resume"]
NAMES = sorted([*OWN, *(option.name for option in options_of() if option.name != "data")])
NUMBERS = ["0", "-0", "1", "-1", "7", "0.5", "1e308", "-1e308", "1e-320", "inf", "-inf", "nan"]
TEXTS = [
    "", " ", "x", "none", "auto", "on", "balanced", "9" * 400, "9" * 400 + "mb", "9" * 5000,
    "64MiB", "5,10", "5,,10", "-1,-1", ",", "{}", "[]", "{\"a\": NaN}", "null", "http://", "http://[",
    "https://user:key@host:99999/v1", "file.py:make",
    "\u0661\u0662", "\ud83d\ude00", "../..", "~", "a=b",
    "SGD:lr=inf", "Adam:betas=(1,2,3)", "StepLR:step_size=0", "cosine:T_max=0", "200mbit", "0mbit",
    "9" * 99 + "gbit", "planner,critic", "F1Score:average=3", "((" * 500, "A:b=" + "[" * 500,
]  # fmt: skip
values = st.one_of(
    st.sampled_from(NUMBERS + TEXTS),
    st.integers().map(str),
    st.floats().map(str),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
)


def is_flag(name: str) -> bool:
    return name not in OWN and RunConfig.model_fields[name].annotation is bool


@pytest.mark.parametrize("num_values", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_all_values_of_options_end_in_an_error_or_a_run(num_values: int, tmp_path: Path) -> None:
    """The run ends where its data are looked for, after all options have been checked."""

    @settings(max_examples=num_values, deadline=None)
    @given(name=st.sampled_from(NAMES), value=values)
    def check(name: str, value: str) -> None:
        check_option(name, value, tmp_path)

    check()


def check_option(name: str, value: str, tmp_path: Path) -> None:
    option = f"--{name.replace('_', '-')}"
    arguments = [option] if is_flag(name) else [f"{option}={value}"]
    nowhere = str(tmp_path / "nowhere")
    result = CliRunner().invoke(make_app(), ["train", *arguments, "--data", nowhere])
    assert isinstance(result.exception, SystemExit | RudderError), repr(result.exception)
    if isinstance(result.exception, RudderError):
        assert isinstance(result.exception, ConfigError | DataError), result.exception
        assert result.exception.remedy


@pytest.mark.parametrize("name", ["start_timeout", "stall_timeout"])
@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "-1", "0", "1e30"])
def test_a_timeout_is_a_number_of_seconds(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        run_config(None, **{name: value})


ONLY_TORCH_KNOWS = {
    "optimizer": ["Adam", "SGD", "LBFGS", "SparseAdam", "Rprop", "Optimizer", "lr"],
    "scheduler": ["cosine", "step", "plateau", "OneCycleLR", "LambdaLR", "LRScheduler", "linear"],
    "metric": ["accuracy", "auc", "F1Score", "Metric", "MeanMetric", "AUROC", "BLEUScore"],
}  # fmt: skip
python_values = st.sampled_from(
    ["0", "-1", "1e400", "nan", "None", "True", "'macro'", "(0.9,0.99)", "[]", "{}", "'x'", "10**9"]
)
keywords = st.sampled_from(
    ["lr", "momentum", "betas", "gamma", "T_max", "step_size", "average", "top_k", "foreach",
     "milestones", "max_lr", "total_steps", "lr_lambda", "nan_strategy", "dist_sync_fn"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(ONLY_TORCH_KNOWS)))
def test_what_only_torch_knows_is_tried_before_the_run(data: Any, name: str) -> None:
    text = data.draw(st.sampled_from(ONLY_TORCH_KNOWS[name]))
    options = data.draw(st.dictionaries(keywords, python_values, max_size=2))
    listed = ",".join(f"{option}={value}" for option, value in options.items())
    with suppress(ConfigError):
        try_training(run_config(None, **{name: f"{text}:{listed}"}), GRAPH)


def test_a_gpu_that_is_not_there_is_told_before_the_run() -> None:
    with pytest.raises(MachineError, match="device = cuda, but torch"):
        try_training(run_config(device="cuda"), GRAPH)
