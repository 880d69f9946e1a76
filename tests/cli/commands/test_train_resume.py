"""What `--resume` takes, and what it refuses before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from rudder.cli.commands.train import config_of_resumed
from rudder.training.checkpoint.format import CheckpointInterval
from rudder.training.config import CONFIG_FILE, run_config, write_config
from rudder.training.errors import ConfigError


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """The folder of a run of 5 epochs."""
    config = run_config(epochs=5, lr=0.02, run_dir="elsewhere", checkpoint_every="2epochs")
    write_config(config, tmp_path / CONFIG_FILE)
    return tmp_path


def test_a_resumed_run_has_its_settings_with_those_that_are_given(run_dir: Path) -> None:
    config = config_of_resumed(run_dir, config_file=None, lookahead=7, epochs=None, run_dir=None)
    assert (config.lr, config.epochs, config.lookahead, config.run_dir) == (0.02, 5, 7, run_dir)
    assert config.checkpoint_every == CheckpointInterval(amount=2, unit="epochs")
    assert config_of_resumed(run_dir / "checkpoints" / "step-1", config_file=None) == (
        config_of_resumed(run_dir, config_file=None)
    )


def test_a_finished_run_needs_more_epochs(run_dir: Path) -> None:
    (run_dir / "summary.json").write_text("{}")
    for epochs in (None, 5):
        with pytest.raises(ConfigError, match=r"epochs = 5 .*more than 5, as .* is finished"):
            config_of_resumed(run_dir, config_file=None, epochs=epochs)
    assert config_of_resumed(run_dir, config_file=None, epochs=6).epochs == 6


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"config_file": Path("mine.toml")}, "config = 'mine.toml'"),
        ({"config_file": None, "run_dir": Path("new")}, "run_dir = 'new'"),
        ({"config_file": None, "epochs": 0}, "epochs = 0"),
    ],
)
def test_what_cannot_stand_beside_resume_is_named(
    given: dict[str, Path | int | None], named: str, run_dir: Path
) -> None:
    with pytest.raises(ConfigError, match=named):
        config_of_resumed(run_dir, **given)  # type: ignore[arg-type]  # as the command line gives


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"resume = .*config\.toml"):
        config_of_resumed(tmp_path, config_file=None)
