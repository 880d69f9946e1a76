"""A trained model is loaded by a script of five lines, and predicts as well as the run reported."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

import rudder
from rudder.training.datasets.registry import load_dataset
from rudder.training.errors import DataError
from rudder.training.metrics import Summary

pytestmark = pytest.mark.distributed
RUDDER = Path(sys.executable).parent / "rudder"
PAGE = Path(__file__).parents[2] / "docs" / "model.md"


@pytest.fixture(scope="module")
def run(tiny_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Summary:
    """A run by `rudder.train`."""
    return rudder.train(
        data=tiny_parts,
        hosts=2,
        epochs=3,
        eval_every=1,
        batch_size=128,
        controller="none",
        run_dir=tmp_path_factory.mktemp("model") / "run",
        quiet=True,
    )


def predictions(run: Summary, out: Path, *options: str) -> Any:
    """What `rudder predict` writes, and what it says of it."""
    command = [str(RUDDER), "predict", run.run_dir, "--out", str(out), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return pyarrow.parquet.read_table(out).to_pandas(), json.loads(done.stdout)


def test_training_from_python_returns_the_summary_and_says_nothing(
    run: Summary, capfd: pytest.CaptureFixture[str]
) -> None:
    written = Summary.model_validate_json((Path(run.run_dir) / "summary.json").read_text())
    assert written == run
    assert [each.epoch for each in run.evaluations] == [0, 1, 2]
    with pytest.raises(rudder.ConfigError, match=r"epochs = 3 .*more than 3"):
        rudder.train(resume=run.run_dir, quiet=True)
    assert capfd.readouterr() == ("", "")


def test_the_script_of_the_documentation_loads_the_model(run: Summary) -> None:
    found = re.search(r"```python\n(import rudder\n\nmodel = .*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    script = found[1].replace("runs/mine", run.run_dir)
    assert len([line for line in script.splitlines() if line]) <= 5
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "BlockModel" in done.stdout
    assert "parameters" in done.stdout


def test_a_damaged_model_is_refused_before_a_process_starts(run: Summary, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run.run_dir, copy)
    weights = copy / "model" / "best.safetensors"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 4
    weights.write_bytes(content)
    command = [str(RUDDER), "predict", str(copy), "--out", str(tmp_path / "rows.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == DataError.exit_code
    assert f"error: {weights} is damaged: it is not as it was written" in done.stderr


@pytest.mark.parametrize("which", ["best", "last"])
def test_predictions_are_as_good_as_the_run_reported(
    which: str, run: Summary, tmp_path: Path
) -> None:
    rows, said = predictions(run, tmp_path / "test.parquet", "--split", "test", "--which", which)
    scores = [each.scores[0] for each in run.evaluations]
    best = max(range(len(scores)), key=lambda epoch: scores[epoch].val or 0.0)
    reported = scores[best if which == "best" else -1].test
    assert (rows["label"] == rows["prediction"]).mean() == pytest.approx(reported, abs=1e-12)
    assert said["accuracy"]["test"] == pytest.approx(reported, abs=1e-12)
    assert set(rows["split"]) == {"test"}
    assert rows["probability"].between(0, 1).all()


def test_all_nodes_have_the_ids_and_labels_of_the_users_graph_and_embeddings(
    run: Summary, tmp_path: Path
) -> None:
    rows, said = predictions(run, tmp_path / "all.parquet", "--split", "all", "--embeddings")
    graph = load_dataset("synthetic:tiny", seed=0, undirected=False, progress=lambda text: None)
    assert said["num_rows"] == len(rows) == graph.num_nodes
    assert sorted(rows["node_id"]) == list(range(graph.num_nodes))
    ids = rows["node_id"].to_numpy()
    assert np.array_equal(rows["label"].to_numpy(), graph.labels[ids])
    assert np.array_equal((rows["split"] == "test").to_numpy(), graph.test_mask[ids])
    assert {len(each) for each in rows["embedding"]} == {run.config.hidden}


def test_what_cannot_be_predicted_is_named(run: Summary, tmp_path: Path) -> None:
    for options, said in (
        ((run.run_dir, "--out", str(tmp_path / "no" / "x.parquet")), "out = "),
        ((str(tmp_path), "--out", str(tmp_path / "x.parquet")), "run = "),
    ):
        command = [str(RUDDER), "predict", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert said in done.stderr
        assert "Traceback" not in done.stderr
