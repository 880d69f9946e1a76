"""Who may import whom, and what must stay free of torch and dgl."""

from __future__ import annotations

import ast
import re
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
WITHOUT_TORCH = ("tools", "memory", "agents", "cli")
"""Folders whose modules import neither torch nor dgl, so of `training` its plain types only:
controllers, and the command line, run where the training stack is not installed."""
ESTIMATORS = {"classifier.py"}
"""Adapters of libraries that use torch, or look whether it is there."""
KNOW_DISTRIBUTED_DGL = {
    "distdgl.py",
    "doctor.py",
    "loader.py",
    "model/inference.py",
    "partition/worker.py",
    "process/graph_server.py",
    "process/loopback_shim.py",
    "process/lost_trainers.py",
    "process/segment_names.py",
    "process/worker.py",
    "sources.py",
    "trainer.py",
    "wire/connections.py",
    "wire/lean.py",
    "wire/services.py",
    "wire/stock.py",
    "wire/wire.py",
    "loading/writes.py",
    "wire/rpc_gate.py",
}
"""Files of `training`: what is peculiar to DGL's servers and clients stays in them."""


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


@pytest.mark.parametrize("folder", WITHOUT_TORCH)
def test_folders_work_where_torch_and_dgl_are_not_installed(folder: str) -> None:
    names = [
        ".".join(["rudder", *file.relative_to(ROOT).with_suffix("").parts])
        for file in sources(folder)
        if file.name not in {"__init__.py", "__main__.py", *ESTIMATORS}
    ]
    code = f"""
import importlib, sys
sys.modules.update(torch=None, dgl=None)  # as if they were not installed
for name in {names}:
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_only_known_files_know_distributed_dgl() -> None:
    know = {
        str(file.relative_to(ROOT / "training"))
        for file in sources("training")
        if "dgl.distributed" in file.read_text()
    }
    assert know == KNOW_DISTRIBUTED_DGL


def test_every_package_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = {
        ".".join(["rudder", *file.parent.relative_to(ROOT).parts])
        for folder in MAY_IMPORT
        for file in (ROOT / folder).rglob("__init__.py")
    }
    assert set(project["tool"]["setuptools"]["packages"]) == found | {"rudder"}


def test_import_rudder_offers_what_is_public_and_needs_no_torch() -> None:
    code = """
import sys, rudder
assert "torch" not in sys.modules and "pydantic" not in sys.modules
assert sorted(rudder.__all__) == dir(rudder)
assert all(hasattr(rudder, name) for name in rudder.__all__)
assert not hasattr(rudder, "learn")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("command", ["train", "set", "steer", "prepare"])
def test_a_command_imports_no_library_that_it_does_not_need(command: str) -> None:
    code = f"""
import sys
from rudder.cli.main import make_app
make_app(["{command}"])
assert not {{"torch", "numba", "pandas", "scipy.special", "langgraph"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_public_class_or_type_has_one_meaning() -> None:
    meanings: dict[str, set[str]] = {}
    for file in (file for folder in MAY_IMPORT for file in sources(folder)):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef):
                meanings.setdefault(node.name, set()).add(str(file))
            elif isinstance(node, ast.Assign) and "TypeVar" not in ast.unparse(node.value):
                for name in (ast.unparse(target) for target in node.targets):
                    meanings.setdefault(name, set()).add(ast.unparse(node.value))
    is_public = re.compile(r"[A-Z]\w*[a-z]\w*")
    double = {name for name, found in meanings.items() if len(found) > 1}
    assert sorted(filter(is_public.fullmatch, double)) == []


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_files_stay_small(folder: str) -> None:
    long = {
        str(file.relative_to(ROOT)): lines
        for file in sources(folder)
        if (lines := len(file.read_text().splitlines())) > 500
    }
    assert long == {}
