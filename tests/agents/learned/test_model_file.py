"""Model files: what is written is read; anything else is one clear error, and runs no code."""

from __future__ import annotations

import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import skops.io
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from rudder.agents.learned.planner import fit, read_planner
from rudder.training.errors import DataError, MachineError


@pytest.fixture(scope="module")
def model(memory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "lr.model"
    fit(memory, planner="lr", out=path)
    return path


def changed(model: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The file with other parts."""
    with zipfile.ZipFile(model) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    change(parts)
    path = tmp_path / "changed.model"
    with zipfile.ZipFile(path, "w") as file:
        for name, data in parts.items():
            file.writestr(name, data)
    return path


def header_with(**values: object) -> Callable[[dict[str, bytes]], None]:
    def change(parts: dict[str, bytes]) -> None:
        parts["header.json"] = json.dumps({**json.loads(parts["header.json"]), **values}).encode()

    return change


def disguised(data: bytes) -> Callable[[dict[str, bytes]], None]:
    """Another model."""
    return lambda parts: parts.update(model=data)


def test_the_header_tells_what_the_model_is(model: Path) -> None:
    header = read_planner(model, kind="lr").header
    assert header.library.startswith("scikit-learn ")
    assert header.metrics.test_episodes > 0
    assert read_planner(model).name == f"lr:{header.model_sha256[:8]}"


def test_the_examples_are_kept_for_learning_on(model: Path) -> None:
    kept = read_planner(model)
    assert len(kept.examples) == kept.header.metrics.train_episodes


def test_a_model_of_another_planner_is_refused(model: Path) -> None:
    with pytest.raises(DataError, match="holds a model of lr, not of rf") as error:
        read_planner(model, kind="rf")
    assert "--planner lr" in error.value.remedy


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no model"):
        read_planner(tmp_path / "none")


def test_a_model_whose_library_is_missing_is_told_with_what_to_install(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_xgb = changed(model, tmp_path, header_with(planner="xgb", library="xgboost 99.0.0"))
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(MachineError) as error:
        read_planner(of_xgb)
    assert "rudder-gnn[xgb]" in error.value.remedy


@pytest.mark.parametrize("end", [0, 10, 1000, -1])
def test_a_file_that_is_cut_short_is_refused(model: Path, tmp_path: Path, end: int) -> None:
    path = tmp_path / "short.model"
    path.write_bytes(model.read_bytes()[:end])
    with pytest.raises(DataError, match="no model that can be used"):
        read_planner(path)


def test_a_flipped_byte_is_refused_or_does_not_matter(model: Path, tmp_path: Path) -> None:
    data, path = bytearray(model.read_bytes()), tmp_path / "flipped.model"
    refused = 0
    for place in range(0, len(data), 97):
        data[place] ^= 0x55
        path.write_bytes(data)
        data[place] ^= 0x55
        try:
            assert read_planner(path).name == read_planner(model).name
        except DataError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: parts.pop("header.json"),
        lambda parts: parts.pop("model"),
        lambda parts: parts.update(model=parts["model"][:-9]),
        lambda parts: parts.update({"examples.npz": b""}),
        header_with(format="something else"),
        header_with(version=2),
        header_with(planner="oracle"),
        header_with(features=["hit share"]),
        header_with(library="scikit-learn 0.1.0"),
        header_with(surprise=1),
    ],
)
def test_a_foreign_file_is_refused(
    model: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], None]
) -> None:
    path = changed(model, tmp_path, change)
    with pytest.raises(DataError) as error:
        read_planner(path)
    assert str(path) in error.value.message


class _Exploit:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch exploited",)


def test_a_pickle_is_refused_unread(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="no model that can be used"):
        read_planner(changed(model, tmp_path, disguised(pickle.dumps(_Exploit()))))
    (tmp_path / "raw.model").write_bytes(pickle.dumps(_Exploit()))
    with pytest.raises(DataError, match="no model that can be used"):
        read_planner(tmp_path / "raw.model")
    assert not (tmp_path / "exploited").exists()


def test_a_model_that_would_call_a_function_is_refused(model: Path, tmp_path: Path) -> None:
    pipeline = Pipeline([("scale", FunctionTransformer(os.system)), ("model", None)])
    with pytest.raises(DataError, match="types that no model of this kind has"):
        read_planner(changed(model, tmp_path, disguised(skops.io.dumps(pipeline))))


def test_what_was_there_is_replaced_whole(memory: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "some.model"
    fit(memory, planner="lr", out=out)
    fit(memory, planner="svm", out=out)
    assert read_planner(out).header.planner == "svm"
    assert [path.name for path in out.parent.iterdir()] == ["some.model"]
