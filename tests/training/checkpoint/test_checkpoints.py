"""A checkpoint is there whole or not at all; one that does not fit is refused with the reason."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rudder.training.checkpoint.format import (
    FOLDER,
    MANIFEST,
    MAY_CHANGE,
    NEVER,
    CheckpointInterval,
    CheckpointManifest,
    Identity,
    Written,
    checkpoints_of,
    read_manifest,
)
from rudder.training.checkpoint.reader import find_checkpoint, resumed_config, run_of
from rudder.training.checkpoint.writer import CheckpointWriter, write_checkpoint
from rudder.training.checksums import sealed_json
from rudder.training.config import CONFIG_FILE, RunConfig, run_config, write_config
from rudder.training.errors import ConfigError, DataError
from rudder.training.partitioned_graph import PartInfo, PartitionedGraph, TensorInfo

DATA = PartitionedGraph(
    dataset="synthetic:tiny", graph_name="tiny", part_config=Path("/nowhere/tiny.json"),
    num_nodes=10, num_edges=20, parts=(PartInfo(num_nodes=5, num_edges=10, num_bytes=1),) * 2,
    features=(TensorInfo(name="feat", row_shape=(4,), dtype="float32"),),
    label=TensorInfo(name="label", row_shape=(), dtype="int64"),
    train_mask="train_mask", val_mask=None, test_mask="test_mask", num_train=2, num_classes=3,
    multilabel=False,
)  # fmt: skip
CONFIG = run_config(lr=0.01)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    write_config(CONFIG, tmp_path / CONFIG_FILE)
    return tmp_path


def write(
    run_dir: Path, *, step: int, config: RunConfig = CONFIG, data: PartitionedGraph = DATA
) -> Path:
    identity = Identity.of(config, data)
    manifest = CheckpointManifest(
        epoch=1, batch=step, step=step, num_ranks=1, identity=identity, files=()
    )
    write_checkpoint(run_dir, manifest, {"shared.pt": lambda: b"weights", "rank0.pt": bytes})
    return checkpoints_of(run_dir)[0]


@pytest.mark.parametrize(
    ("text", "interval", "again"),
    [
        ("10min", CheckpointInterval(amount=600, unit="seconds"), "10min"),
        ("1.5 h", CheckpointInterval(amount=5400, unit="seconds"), "90min"),
        ("45s", CheckpointInterval(amount=45, unit="seconds"), "45s"),
        ("1epoch", CheckpointInterval(amount=1, unit="epochs"), "1epochs"),
        ("none", NEVER, "none"),
    ],
)
def test_an_interval_is_written_as_it_is_read(
    text: str, interval: CheckpointInterval, again: str
) -> None:
    assert CheckpointInterval.parse(text) == interval
    assert str(interval) == again
    assert CheckpointInterval.parse(again) == interval


@pytest.mark.parametrize("text", ["", "5", "0s", "-1min", "1.5epochs", "5 minutes", "nan s"])
def test_what_is_no_interval_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(ConfigError, match=r"checkpoint_every = .*2epochs.*\n.*--checkpoint-every"):
        run_config(checkpoint_every=text)


def test_an_interval_is_due_after_so_much_time_or_so_many_epochs() -> None:
    times, epochs = (
        CheckpointInterval(amount=60, unit="seconds"),
        CheckpointInterval(amount=2, unit="epochs"),
    )
    assert [times.is_due(seconds=at, epochs=9) for at in (59, 60)] == [False, True]
    assert [epochs.is_due(seconds=1e9, epochs=count) for count in (1, 2)] == [False, True]
    assert not NEVER.is_due(seconds=1e9, epochs=10**9)


def test_a_configuration_keeps_its_interval_on_disk(run_dir: Path) -> None:
    write_config(run_config(checkpoint_every="2epochs"), run_dir / CONFIG_FILE)
    assert resumed_config(run_dir).checkpoint_every == CheckpointInterval(amount=2, unit="epochs")
    assert resumed_config(run_dir, checkpoint_every="none").checkpoint_every == NEVER


def test_the_newest_stay_and_what_was_never_finished_goes(tmp_path: Path) -> None:
    told: list[Written] = []
    writer = CheckpointWriter(tmp_path, keep=2, on_written=told.append)
    torn = tmp_path / FOLDER / ".step-00000003"
    torn.mkdir(parents=True)
    identity = Identity.of(CONFIG, DATA)
    for step in (1, 2, 4):
        manifest = CheckpointManifest(
            epoch=0, batch=step, step=step, num_ranks=1, identity=identity, files=()
        )
        writer.begin(manifest, {"shared.pt": lambda: b"1234"})
    last = writer.wait()
    assert [path.name for path in checkpoints_of(tmp_path)] == ["step-00000004", "step-00000002"]
    assert sorted(path.name for path in torn.parent.iterdir()) == ["step-00000002", "step-00000004"]
    assert [each.step for each in told] == [1, 2, 4]
    assert last == told[-1]
    assert (last.num_bytes, last.error) == (4, None)


def test_a_checkpoint_that_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    told: list[Written] = []
    writer = CheckpointWriter(tmp_path, keep=1, on_written=told.append)
    identity = Identity.of(CONFIG, DATA)
    manifest = CheckpointManifest(
        epoch=0, batch=1, step=1, num_ranks=1, identity=identity, files=()
    )
    writer.begin(manifest, {"shared.pt": lambda: b""})
    writer.wait()
    assert told[0].error is not None
    assert "checkpoints" in told[0].error


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.training.checkpoint.test_checkpoints import write
step = 0
while True:
    step += 1
    print(step, flush=True)
    write(Path({run_dir!r}), step=step)
"""


def test_a_kill_at_any_time_leaves_only_whole_checkpoints(run_dir: Path) -> None:
    code = KILLED.format(root=str(Path(__file__).parents[3]), run_dir=str(run_dir))
    for wait_s in (0.002, 0.005, 0.009, 0.013, 0.02):
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, env=dict(os.environ)
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(wait_s)
            process.send_signal(signal.SIGKILL)
        for folder in checkpoints_of(run_dir):
            read_manifest(folder)


def test_the_newest_checkpoint_of_a_run_is_found_and_any_that_is_named(run_dir: Path) -> None:
    older, newer = write(run_dir, step=3), write(run_dir, step=20)
    for place, wanted in ((run_dir, newer), (older, older), (newer, newer)):
        found = find_checkpoint(place, CONFIG, DATA)
        assert found.folder == wanted
        assert run_of(place) == run_dir


def tear(folder: Path) -> None:
    (folder / "shared.pt").write_bytes(b"weights"[:-1])


def wear(folder: Path) -> None:
    (folder / "shared.pt").write_bytes(b"wEights")


def lose(folder: Path) -> None:
    (folder / "rank0.pt").unlink()


def garble(folder: Path) -> None:
    (folder / MANIFEST).write_text("{")


def misplace(folder: Path) -> None:
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace('"epoch": 1', '"epoch": 3'))


def outdate(folder: Path) -> None:
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace('"format_version": 1', '"format_version": 7'))


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (tear, "shared.pt has 6 bytes, not 7"),
        (wear, "shared.pt is not as it was written"),
        (lose, "rank0.pt: No such file"),
        (garble, "its manifest.json is damaged"),
        (misplace, "its manifest.json is damaged"),
        (outdate, "it has format 7"),
    ],
)
def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_offered(
    harm: object, reason: str, run_dir: Path
) -> None:
    older, newer = write(run_dir, step=3), write(run_dir, step=20)
    assert callable(harm)
    harm(newer)
    with pytest.raises(DataError) as caught:
        find_checkpoint(run_dir, CONFIG, DATA)
    assert reason in caught.value.message
    assert f"rudder train --resume {older}" in caught.value.remedy
    harm(older)
    with pytest.raises(DataError) as caught:
        find_checkpoint(run_dir, CONFIG, DATA)
    assert "--resume" not in caught.value.remedy


@pytest.mark.parametrize(
    ("config", "data", "reason"),
    [
        (CONFIG, DATA.model_copy(update={"num_edges": 21}), "it is of other data"),
        (run_config(lr=0.02), DATA, "lr is 0.01 in it, not 0.02"),
        (run_config(lr=0.01, hosts=3), DATA, "hosts is 2 in it, not 3"),
        (run_config(lr=0.01, trainers_per_host=2), DATA, "trainers_per_host is 1 in it, not 2"),
        (run_config(lr=0.01, model="gat"), DATA, "model is 'sage' in it, not 'gat'"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    config: RunConfig, data: PartitionedGraph, reason: str, run_dir: Path
) -> None:
    write(run_dir, step=3)
    with pytest.raises(DataError, match=reason):
        find_checkpoint(run_dir, config, data)


def test_a_checkpoint_of_another_version_is_refused(run_dir: Path) -> None:
    folder = write(run_dir, step=3)
    manifest = read_manifest(folder)
    manifest.identity.versions["dgl"] = "2.0.0"
    (folder / MANIFEST).write_text(sealed_json(manifest))
    with pytest.raises(DataError, match=r"the version of dgl is '2.0.0' in it, not '2.1.0'"):
        find_checkpoint(run_dir, CONFIG, DATA)


def test_what_decides_neither_batches_nor_model_may_change(run_dir: Path) -> None:
    write(run_dir, step=3)
    changed = resumed_config(
        run_dir, epochs=50, buffer="0.1", controller="none", rate="1gbit", port=4000
    )
    assert find_checkpoint(run_dir, changed, DATA).manifest.step == 3
    assert changed.lr == CONFIG.lr


def test_of_every_setting_it_is_known_whether_a_resumed_run_may_change_it() -> None:
    assert set(RunConfig.model_fields) - MAY_CHANGE == {
        "batch_size", "class_weights", "dataset", "dropout", "edge_weight", "fanout", "feature",
        "heads", "hidden", "hosts", "label", "loader", "lr", "max_seeds", "metric", "model",
        "num_layers", "optimizer", "scheduler", "seed", "servers_per_host", "task", "test_mask",
        "train_mask", "trainers_per_host", "valid_mask", "weight_decay",
    }  # fmt: skip
    assert set(RunConfig.model_fields) >= MAY_CHANGE


def test_a_folder_that_is_no_run_or_has_no_checkpoint_is_named(run_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"resume = .*config.toml"):
        run_of(run_dir / "nowhere")
    with pytest.raises(DataError, match="has no checkpoint"):
        find_checkpoint(run_dir, CONFIG, DATA)
