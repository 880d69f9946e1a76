"""Who may import whom, and what must stay free of torch and dgl."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "training": {"training"},
    "tools": {"tools", "training"},
    "memory": {"memory", "tools", "training"},
    "agents": {"agents", "memory", "tools", "training"},
    "bench": {"bench", "agents", "memory", "tools", "training"},
    "cli": {"cli", "bench", "agents", "memory", "tools", "training"},
}
PLAIN = [
    "rudder.training.config",
    "rudder.training.control.messages",
    "rudder.training.control.endpoint",
    "rudder.training.control.port",
    "rudder.training.errors",
    "rudder.training.events",
    "rudder.training.job",
    "rudder.training.launch.run",
    "rudder.training.manifest",
    "rudder.training.metrics",
    "rudder.training.partition.prepare",
    "rudder.training.settings",
    "rudder.cli.main",
]
"""Modules that other folders import; controllers run where torch and dgl are not installed."""


def sources(folder: str) -> Iterator[Path]:
    yield from (ROOT / folder).rglob("*.py")


def imported_folders(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("rudder."))


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_folders_import_in_one_direction(folder: str) -> None:
    wrong = [
        f"{file.relative_to(ROOT)} imports rudder.{other}"
        for file in sources(folder)
        for other in imported_folders(file)
        if other not in MAY_IMPORT[folder]
    ]
    assert wrong == []


@pytest.mark.parametrize("module", PLAIN)
def test_plain_modules_import_neither_torch_nor_dgl(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'dgl') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_known_files_know_distributed_dgl() -> None:
    know = {
        str(file.relative_to(ROOT / "training"))
        for file in sources("training")
        if "dgl.distributed" in file.read_text()
    }
    allowed = {"distdgl.py", "metis.py", "trainer.py", "sources.py", "worker.py", "loader.py"}
    assert {name for name in know if "/" not in name} <= allowed | {
        "graph_server.py", "loopback_shim.py", "doctor.py", "inference.py", "partition.py",
        "partition_worker.py", "exchange.py", "shard.py", "inference_plan.py",
    }  # fmt: skip


def test_every_package_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = {
        ".".join(["rudder", *file.parent.relative_to(ROOT).parts])
        for folder in MAY_IMPORT
        for file in (ROOT / folder).rglob("__init__.py")
    }
    assert set(project["tool"]["setuptools"]["packages"]) == found


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_files_stay_small(folder: str) -> None:
    long = {
        str(file.relative_to(ROOT)): lines
        for file in sources(folder)
        if (lines := len(file.read_text().splitlines())) > 500
    }
    assert long == {}
