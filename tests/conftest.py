"""What all tests share: a place of their own for what commands keep across runs, and Ctrl-C."""

from __future__ import annotations

import os
import shutil
import signal
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")  # a busy machine makes no property untrue
settings.register_profile("campaign", settings.get_profile("any machine"), max_examples=20_000)


def pytest_configure() -> None:
    """Ctrl-C and SIGHUP reach what tests start, also in the background and under nohup."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda number, frame: None)


@pytest.fixture(scope="session", autouse=True)
def _own_data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes the user's memory of past episodes, nor does what it starts."""
    folder = tmp_path_factory.mktemp("data-home")
    before = os.environ.get("XDG_DATA_HOME")
    os.environ["XDG_DATA_HOME"] = str(folder)
    yield folder
    if before is None:
        del os.environ["XDG_DATA_HOME"]
    else:
        os.environ["XDG_DATA_HOME"] = before


@pytest.fixture(scope="session")
def own_plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example package as pip installs it, to be put on the path."""
    source = Path(__file__).parents[1] / "examples" / "own_plugins"
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(source / "own_plugins.py", folder)
    facts = folder / f"own_plugins-{project['version']}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = "".join(
        f"[{group}]\n" + "".join(f"{name}={place}\n" for name, place in each.items())
        for group, each in project["entry-points"].items()
    )
    (facts / "entry_points.txt").write_text(points)
    return folder
