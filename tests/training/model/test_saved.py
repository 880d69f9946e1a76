"""The model that a run writes is the one that is loaded, and the best one is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rudder.training.checkpoint.reader import model_file
from rudder.training.errors import ConfigError, DataError
from rudder.training.metrics import Evaluation, Score
from rudder.training.model.models import ModelOptions
from rudder.training.model.predict import as_table
from rudder.training.model.saved import ModelCard, SavedModels, load_model, read_card

CARD = ModelCard(
    model="gat",
    in_dim=6,
    num_outputs=3,
    options=ModelOptions(hidden=8, num_layers=2, heads=2, dropout=0.3),
    multilabel=False,
    fanout=(5, 10),
    dataset="synthetic:tiny",
    data="0123",
    versions={"torch": torch.__version__},
)


def evaluation(epoch: int, val: float | None, *, higher_is_better: bool = True) -> Evaluation:
    score = Score(name="accuracy", test=0.5, val=val, higher_is_better=higher_is_better)
    return Evaluation(epoch=epoch, scores=(score,), seconds=0.1)


def keep_all(run_dir: Path, evaluations: list[Evaluation], *, earlier: int = 0) -> None:
    """Write a model after each, whose weights are the epoch's number."""
    models = SavedModels(run_dir, CARD, earlier=evaluations[:earlier])
    for each in evaluations[earlier:]:
        model = CARD.build(run_dir)
        for weights in model.parameters():
            torch.nn.init.constant_(weights, each.epoch)
        models.keep(model, each)


def epochs_of(run_dir: Path) -> tuple[int, int]:
    """Of the best and of the last model, by their weights."""
    best, last = (load_model(run_dir, which) for which in ("best", "last"))
    return tuple(int(next(model.parameters()).flatten()[0]) for model in (best, last))  # type: ignore[return-value]


def test_a_loaded_model_is_the_one_that_was_saved(tmp_path: Path) -> None:
    model = CARD.build(tmp_path)
    SavedModels(tmp_path, CARD, earlier=()).keep(model, evaluation(4, 0.7))
    loaded = load_model(tmp_path)
    assert not loaded.training
    wanted, found = model.state_dict(), loaded.state_dict()
    assert list(wanted) == list(found)
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    card = read_card(tmp_path / "model" / "last.safetensors")
    assert (card.epoch, card.scores[0].val, card.options) == (4, 0.7, CARD.options)
    readable = json.loads((tmp_path / "model" / "best.json").read_text())
    assert ModelCard.model_validate(readable) == card


@pytest.mark.parametrize("earlier", [0, 2])
def test_the_best_model_is_the_first_with_the_best_validation_score(
    earlier: int, tmp_path: Path
) -> None:
    values = [0.2, 0.3, 0.8, 0.8, 0.1]
    keep_all(tmp_path, [evaluation(*each) for each in enumerate(values)], earlier=earlier)
    assert epochs_of(tmp_path) == (2, 4)


def test_the_best_model_has_the_lowest_score_where_lower_is_better(tmp_path: Path) -> None:
    values = [0.9, 0.4, 0.5]
    told = [evaluation(*each, higher_is_better=False) for each in enumerate(values)]
    keep_all(tmp_path, told)
    assert epochs_of(tmp_path) == (1, 2)


def test_a_model_that_a_full_disk_did_not_take_is_written_with_the_next(tmp_path: Path) -> None:
    models, model = SavedModels(tmp_path, CARD, earlier=()), CARD.build(tmp_path)
    (tmp_path / "model").mkdir()
    full = tmp_path / "model" / ".best.safetensors.part"
    full.symlink_to("/dev/full")
    torch.nn.init.constant_(next(model.parameters()), 0)
    error = models.keep(model, evaluation(0, 0.9))
    assert error is not None
    assert "No space left on device" in error
    full.unlink()
    torch.nn.init.constant_(next(model.parameters()), 1)
    assert models.keep(model, evaluation(1, 0.1)) is None
    assert epochs_of(tmp_path) == (0, 1)


def test_without_validation_nodes_the_last_model_is_the_best(tmp_path: Path) -> None:
    keep_all(tmp_path, [evaluation(0, None), evaluation(1, None)])
    assert epochs_of(tmp_path) == (1, 1)


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run = .*model/best.safetensors"):  # noqa: RUF043
        load_model(tmp_path)
    with pytest.raises(ConfigError, match=r"which = 'first'.*best or last"):
        model_file(tmp_path, "first")
    for content in (b"", b"rubbish", b"\x00" * 100):
        path = tmp_path / "some.safetensors"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"some\.safetensors is no model that a run wrote"):
            load_model(path)


def test_equal_models_are_equal_files(tmp_path: Path) -> None:
    model = CARD.build(tmp_path)
    found = set()
    for _ in range(8):
        SavedModels(tmp_path, CARD, earlier=()).keep(model, evaluation(4, 0.7))
        found.add(model_file(tmp_path).read_bytes())
    assert len(found) == 1


def test_no_flipped_bit_makes_another_model(tmp_path: Path) -> None:
    model = CARD.build(tmp_path)
    SavedModels(tmp_path, CARD, earlier=()).keep(model, evaluation(4, 0.7))
    path = model_file(tmp_path)
    whole, wanted = path.read_bytes(), torch.cat([each.flatten() for each in model.parameters()])
    for place in range(0, len(whole), 7):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            loaded = load_model(path)
        except DataError:
            continue
        assert place < len(whole) - 4 * len(wanted)
        assert torch.equal(wanted, torch.cat([each.flatten() for each in loaded.parameters()]))


def test_rows_become_columns_that_parquet_knows() -> None:
    table = as_table(
        {
            "node_id": torch.tensor([7, 8]),
            "split": torch.tensor([0, 3], dtype=torch.int8),
            "prediction": torch.tensor([[True, False, True], [False, False, False]]),
            "probability": torch.tensor([[0.5, 0.25], [1.0, 0.0]]),
        }
    )
    assert table.to_pydict() == {
        "node_id": [7, 8],
        "split": ["train", "none"],
        "prediction": [[0, 2], []],
        "probability": [[0.5, 0.25], [1.0, 0.0]],
    }
    assert np.dtype(table.column("node_id").type.to_pandas_dtype()) == np.int64


@pytest.mark.parametrize(
    "change",
    [
        {"in_dim": 0}, {"in_dim": -1}, {"in_dim": 10**13}, {"in_dim": 10**30}, {"num_outputs": -3},
        {"options": ModelOptions(hidden=8, heads=0)},
    ],
)  # fmt: skip
def test_card_that_makes_no_model_for_the_weights_is_named(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    SavedModels(tmp_path, CARD.model_copy(update=change), earlier=()).keep(
        CARD.build(tmp_path), evaluation(0, 0.5)
    )
    with pytest.raises(DataError, match=r"weights in .*best\.safetensors do not fit the model"):
        load_model(tmp_path)
