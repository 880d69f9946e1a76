"""`rudder train` on partitions that Rudder did not write, as their owner runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rudder.training.datasets.registry import load_dataset
from tests.end_to_end.jobs import SCRIPTS
from tests.end_to_end.test_train import train

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of `tiny_parts`, before it is cut."""
    graph = load_dataset("synthetic:tiny", seed=0, progress=lambda text: None)
    path = tmp_path_factory.mktemp("arrays") / "arrays.npz"
    np.savez(path, src=graph.src, dst=graph.dst, features=graph.features, labels=graph.labels,
             train_mask=graph.train_mask, test_mask=graph.test_mask)  # fmt: skip
    return path


def cut(script: str, arrays: Path, out: Path) -> Path:
    command = [sys.executable, "-W", "ignore", str(SCRIPTS / script), str(arrays), str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out


def test_partitions_of_others_train_as_rudders_own(
    arrays: Path, tiny_parts: Path, tmp_path: Path
) -> None:
    dgl_alone = cut("cut_with_dgl.py", arrays, tmp_path / "dgl")
    chunked = cut("cut_in_chunks.py", arrays, tmp_path / "chunked")
    named = ("--feature", "first,second", "--edge-weight", "weight")
    accuracies = []
    for data, name, more in (
        (tiny_parts, "own", ()),
        (chunked / "metadata.json", "chunks", ()),
        (dgl_alone, "weighted", named),
        (dgl_alone, "stock", (*named, "--loader", "stock")),
    ):
        (tmp_path / name).mkdir()
        summary = train(data, tmp_path / name, "--epochs", "4", "--batch-size", "256", *more)
        accuracies.append(summary["test_accuracy"])
    assert accuracies[0] > 0.6
    assert accuracies[1:] == pytest.approx([accuracies[0]] * 3, abs=0.03)
