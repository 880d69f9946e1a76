"""A run folder that cannot hold sockets has them on the local disk; files are written whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rudder.training.control.steering import OFF_FILE
from rudder.training.launch.run import _sockets_in
from rudder.training.local_disk import control_folder_of, local_folder_of, replacing
from tests.training.mounts import run_python

_LISTEN = """
import sys
from pathlib import Path
from rudder.training.control import unix_socket
from rudder.training.local_disk import control_folder_of

run = Path(sys.argv[1]) if len(sys.argv) > 1 else Path({run!r})
for turn in range(2):  # two trainers
    path = control_folder_of(run) / f"rank{{turn}}.sock"
    listener = unix_socket.listen(path)
    unix_socket.connect(run / "control" / path.name, timeout_s=1).close()
    print(path.resolve())
"""


def write_half(path: Path) -> None:
    path.write_text("half")
    raise InterruptedError


def test_a_file_takes_the_place_of_another_when_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("before")
    (tmp_path / "link").symlink_to("one")
    with pytest.raises(InterruptedError), replacing(tmp_path / "link") as unfinished:
        write_half(unfinished)
    assert (tmp_path / "one").read_text() == "before"
    with replacing(tmp_path / "link") as unfinished:
        unfinished.write_text("after")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "one").read_text() == "after"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "one"]


def test_a_pipe_or_a_device_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", Path("/dev/null"), tmp_path, tmp_path / "no" / "file"):
        with pytest.raises(OSError, match="no place for a file"), replacing(place):
            pass
    assert (tmp_path / "pipe").is_fifo()


def test_sockets_stay_in_a_folder_that_can_hold_them(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert control_folder_of(tmp_path / "run") == tmp_path / "run" / "control"
    assert not (tmp_path / "run" / "control").is_symlink()
    assert capfd.readouterr().err == ""


def test_a_folder_without_room_for_sockets_gets_a_link_that_commands_follow(
    tmp_path: Path,
) -> None:
    """A file system of two inodes: one for its root, one for a folder or a link."""
    run, local = tmp_path / "run", tmp_path / "local"
    run.mkdir()
    local.mkdir()
    lines = run_python(
        _LISTEN.format(run=str(run)),
        mounts=f"mount -t tmpfs -o nr_inodes=2 tmpfs {run}",
        TMPDIR=tmp_path / "none", SLURM_TMPDIR=local,
    )  # fmt: skip
    *paths, said = lines
    assert [Path(path).name for path in paths] == ["rank0.sock", "rank1.sock"]
    assert all(Path(path).is_relative_to(local) for path in paths)
    assert "cannot hold sockets (No space left on device)" in said
    assert f"--run {run}" in said


def test_where_there_can_be_no_link_either_the_local_folder_is_named(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    code = "from pathlib import Path; from rudder.training.local_disk import control_folder_of as f"
    path, said = run_python(
        f"{code}; print(f(Path({str(run)!r})))",
        mounts=f"mount --bind -o ro {run} {run}", TMPDIR=tmp_path,
    )  # fmt: skip
    assert Path(path).is_dir()
    assert "Read-only file system" in said
    assert f"--run {Path(path).parent}" in said


def test_a_local_folder_that_others_may_write_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_TMPDIR", str(tmp_path))
    folder = local_folder_of(Path("run"))
    assert folder == local_folder_of(Path.cwd() / "run")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder.name.startswith(f"rudder-{os.getuid()}-")
    folder.chmod(0o770)
    with pytest.raises(PermissionError, match="open to other users"):
        local_folder_of(Path("run"))


@pytest.mark.parametrize("is_switched_off", [False, True])
def test_a_run_that_ends_removes_the_link_unless_it_leads_to_a_switch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_switched_off: bool
) -> None:
    monkeypatch.setenv("SLURM_TMPDIR", str(tmp_path))
    control, local = tmp_path / "run" / "control", local_folder_of(tmp_path / "run") / "control"
    control.parent.mkdir()
    control.symlink_to(local)
    with _sockets_in(control):
        (control / "rank0.pid").touch()
        if is_switched_off:
            (control / OFF_FILE).touch()
    assert [path.name for path in local.glob("*")] == [OFF_FILE] * is_switched_off
    assert control.is_symlink() == local.exists() == is_switched_off
