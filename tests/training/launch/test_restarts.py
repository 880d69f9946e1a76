"""What a run that lost a process or a machine is started again with."""

from __future__ import annotations

from pathlib import Path

import pytest

from rudder.training.config import run_config
from rudder.training.errors import ConfigError, MachineError, RunError, StoppedError
from rudder.training.launch import restarts

MACHINES = run_config(hosts="node1 10.0.0.1,node2 10.0.0.2", spare_hosts="node3,node4")
FAILED = RunError("a trainer was killed", remedy="")


def lost(*names: str) -> RunError:
    return RunError("lost", remedy="", lost_hosts=names)


def test_spare_takes_the_place_of_the_machine_that_was_lost() -> None:
    told: list[str] = []
    config = restarts._with_other_machines(MACHINES, lost("node2"), told.append)
    assert config.machines == ("node1 10.0.0.1", "node3")
    assert config.spare_hosts == ("node4",)
    assert told == ["node3 takes the place of node2"]
    config = restarts._with_other_machines(config, lost("node1", "node3"), told.append)
    assert config.machines == ("node4", "node3")


def test_machines_stay_where_only_a_process_was_lost() -> None:
    assert restarts._with_other_machines(MACHINES, FAILED, print) == MACHINES


@pytest.mark.parametrize(
    ("error", "has_begun", "helps"),
    [
        (FAILED, False, True),
        (StoppedError("told to", remedy=""), False, False),
        (RunError("Ctrl-C", remedy="", is_wanted=True), False, False),
        (MachineError("node1 is not reached", remedy=""), False, False),
        (MachineError("node1 is not reached", remedy=""), True, True),
    ],
)
def test_only_what_may_go_well_next_time_is_tried_again(
    error: RunError | MachineError, has_begun: bool, helps: bool
) -> None:
    assert restarts._may_help(error, has_begun=has_begun) is helps


def test_mistake_of_the_user_is_not_tried_again() -> None:
    error = RunError("a trainer failed: model = ... is not allowed", remedy="")
    error.exit_code = ConfigError.exit_code
    assert not restarts._may_help(error, has_begun=True)


def test_folder_without_a_checkpoint_is_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarts, "newest_checkpoint", lambda *_: None)
    for number in (1, 2):
        run = tmp_path / "run"
        run.mkdir()
        assert restarts._place_to_go_on(run_config(), None, run) is None  # type: ignore[arg-type]
        assert not run.exists()
        assert (tmp_path / f"run-failed{number}").is_dir()


@pytest.mark.parametrize("spares", ["node3,,node4", "-o ProxyCommand=x", "a,a"])
def test_spare_that_is_no_machine_is_refused(spares: str) -> None:
    with pytest.raises(ConfigError, match="spare_hosts"):
        run_config(hosts="node1,node2", spare_hosts=spares)


def test_local_hosts_have_no_spares() -> None:
    with pytest.raises(ConfigError, match="spare_hosts are for runs with --hosts node1,node2"):
        run_config(hosts=2, spare_hosts="node3")
