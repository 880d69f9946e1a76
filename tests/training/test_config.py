"""Every option of a run: its forms, its bounds, and errors that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rudder.training.config import BufferSize, RunConfig, run_config, write_config
from rudder.training.errors import ConfigError
from rudder.training.steering_options import default_memory


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("0.25", 0.25, "halo_fraction"),
        ("0.0", 0.0, "halo_fraction"),
        ("1.0", 1.0, "halo_fraction"),
        ("1", 1, "rows"),
        ("20000", 20_000, "rows"),
        ("64MiB", 64 * 2**20, "bytes"),
        ("64MB", 64 * 2**20, "bytes"),
        ("1.5 GiB", 1.5 * 2**30, "bytes"),
        ("512b", 512, "bytes"),
    ],
)
def test_a_buffer_is_a_share_of_the_halo_rows_or_bytes(text: str, amount: float, unit: str) -> None:
    size = BufferSize.parse(text)
    assert (size.amount, size.unit) == (amount, unit)


@pytest.mark.parametrize("text", ["", "many", "-1", "1.5", "-0.25", "64XB", "0.25 rows", "nan"])
def test_any_other_buffer_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="buffer"):
        run_config(buffer=text)


@pytest.mark.parametrize(
    ("text", "expected_rows"),
    [
        ("0.25", 250),
        ("1.0", 1000),
        ("300", 300),
        ("5000", 5000),
        ("4KiB", 10),
        ("1b", 0),
        ("auto", 7),
    ],
)  # fmt: skip
def test_a_buffers_rows_follow_from_the_halo_and_the_row(text: str, expected_rows: int) -> None:
    assert BufferSize.parse(text).rows(num_halo=1000, row_bytes=400, auto=7) == expected_rows


sizes = st.one_of(
    st.integers(0, 1000).map(lambda n: BufferSize(amount=n / 1000, unit="halo_fraction")),
    st.integers(0, 2**40).map(lambda n: BufferSize(amount=n, unit="rows")),
    st.integers(0, 2**40).map(lambda n: BufferSize(amount=n, unit="bytes")),
    st.just(run_config().buffer),
)


@given(sizes)
def test_a_buffers_text_is_read_back_as_the_same(size: BufferSize) -> None:
    assert BufferSize.parse(str(size)) == size


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"hosts": 0}, "hosts"),
        ({"hosts": 251}, "hosts"),
        ({"model": "mlp"}, "model"),
        ({"model": "gat", "hidden": 8, "heads": 3}, "heads is 3"),
        ({"loader": "fast"}, "loader"),
        ({"fanout": "5,x"}, "fanout"),
        ({"fanout": "5,0"}, "fanout"),
        ({"fanout": "-2"}, "fanout"),
        ({"fanout": ""}, "fanout"),
        ({"dropout": 1.0}, "dropout"),
        ({"lr": 0}, "lr"),
        ({"lookahead": 1025}, "lookahead"),
        ({"rate": "fast"}, "rate"),
        ({"rate": "0mbit"}, "1kbit to 1000gbit"),
        ({"rate": "1001gbit"}, "1kbit to 1000gbit"),
        ({"rate": "0.5kbit"}, "1kbit to 1000gbit"),
        ({"task": "regression", "class_weights": "balanced"}, "class_weights are of classes"),
        ({"task": "link-prediction", "metric": "MRR"}, r"link-prediction has MRR and Hits@10"),
        ({"memory_budget": "9" * 400 + "gib"}, "more bytes than any machine has"),
        ({"rate": "200mbit", "network": "loopback"}, "rate"),
        ({"num_layers": 3}, "num_layers"),
        ({"port": 80}, "port"),
        ({"seed": -1}, "seed"),
        ({"policy": "lru"}, "only in `rudder simulate`"),
        ({"colour": "red"}, "colour"),
        ({"controller": "off"}, "controller"),
        ({"planner": "clever"}, "planner"),
        ({"objective": "speed"}, "objective"),
        ({"tolerance": 2}, "tolerance"),
        ({"memory_budget": "lots"}, "64MiB"),
    ],
)
def test_a_bad_option_is_named_with_a_remedy(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=name) as raised:
        run_config(**options)
    assert raised.value.remedy
    assert raised.value.exit_code == 2


def test_a_fanout_says_how_many_layers_there_are() -> None:
    config = run_config(fanout="5,10,-1", num_layers=3)
    assert config.fanout == (5, 10, -1)
    assert config.layers == 3


def test_trainers_are_counted_over_all_hosts() -> None:
    assert run_config(hosts=3, trainers_per_host=4).num_trainers == 12


def test_the_command_line_wins_over_the_file(file: Path) -> None:
    file.write_text("epochs = 7\nhidden = 32\nbuffer = 0.5\nfanout = [3, 4]\n")
    config = run_config(file, epochs=9, hidden=None)
    assert (config.epochs, config.hidden) == (9, 32)
    assert config.buffer == BufferSize(amount=0.5, unit="halo_fraction")
    assert config.fanout == (3, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = ", "cannot be read"),
        ("epochs = " + "9" * 5000, "cannot be read"),
        ("epochs = " + "[" * 5000, "cannot be read"),
        ("epochs = 0", r"epochs = 0 is not allowed.*config\.toml"),
        ("colour = 1", r"colour is not a setting.*config\.toml"),
        ("buffer = true", "buffer"),
    ],
)
def test_a_bad_file_is_named(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        run_config(file)


def test_a_missing_file_is_named(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no config file .*config\.toml"):
        run_config(file)


@pytest.mark.parametrize(
    "config",
    [
        RunConfig(),
        run_config(
            dataset="debian",
            data=Path("parts"),
            model="gat",
            fanout="10,25",
            buffer="64MiB",
            rate="200mbit",
            run_dir=Path("runs/a"),
            port=4000,
            controller="none",
            planner="heuristic",
            memory_budget="2GiB",
            memory="none",
        ),
    ],
    ids=["defaults", "many options"],
)
def test_a_written_config_is_read_back_as_the_same(config: RunConfig, file: Path) -> None:
    write_config(config, file)
    assert run_config(file) == config


def test_the_objective_of_an_earlier_version_has_its_new_name(file: Path) -> None:
    file.write_text('objective = "wait"')
    assert run_config(file).objective == run_config().objective == "time"


def test_a_config_survives_its_way_as_json() -> None:
    config = run_config(buffer="64MiB", fanout="-1", data=Path("parts"))
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_a_run_is_steered_unless_it_says_not() -> None:
    assert run_config(controller="none").steering is None
    assert run_config(loader="stock").steering is None
    assert run_config(controller="on").steering is not None


def test_steering_is_told_what_the_run_says(tmp_path: Path) -> None:
    steering = run_config(
        planner="periodic",
        objective="memory",
        tolerance=0.05,
        memory_budget="1.5GiB",
        memory=tmp_path / "past.db",
    ).steering
    assert steering is not None
    assert (steering.planner, steering.objective) == ("periodic", "memory")
    assert steering.tolerance == 0.05
    assert steering.memory_budget_bytes == 1.5 * 2**30
    assert steering.memory == tmp_path / "past.db"


def test_past_episodes_are_the_users_own_unless_none_are_wanted() -> None:
    own, none = run_config().steering, run_config(memory="none").steering
    assert own is not None
    assert own.memory == default_memory()
    assert own.memory_budget_bytes is None
    assert none is not None
    assert none.memory is None
