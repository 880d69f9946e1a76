"""`rudder predict` looks at the model before it starts a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from rudder.cli.commands.predict import _check
from rudder.training.checkpoint.reader import model_file
from rudder.training.errors import DataError
from tests.training.checkpoint.test_checkpoints import DATA
from tests.training.model.test_saved import evaluation, keep_all


def test_model_for_other_features_is_refused_also_without_its_readable_card(tmp_path: Path) -> None:
    keep_all(tmp_path, [evaluation(0, 0.5)])
    (tmp_path / "model" / "best.json").unlink()
    with pytest.raises(DataError, match="takes 6 features a node, but the graph has 4"):
        _check(model_file(tmp_path), DATA, embeddings=False)


def test_damaged_model_is_named(tmp_path: Path) -> None:
    keep_all(tmp_path, [evaluation(0, 0.5)])
    model_file(tmp_path).write_bytes(b"")
    with pytest.raises(DataError, match=r"best\.safetensors is no model that a run wrote"):
        _check(model_file(tmp_path), DATA, embeddings=False)
