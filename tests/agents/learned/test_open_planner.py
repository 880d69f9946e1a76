"""From options to a learned planner, and what is imported on the way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rudder.agents.learned.planner import fit
from rudder.agents.team import check_models, make_team, planner_of
from rudder.training.config import run_config
from rudder.training.errors import ConfigError, DataError
from rudder.training.steering_options import SteeringOptions
from tests.agents.steered import toolbox_after, trainer_of


@pytest.fixture(scope="module")
def model_file(memory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("planner") / "lr.model"
    fit(memory, planner="lr", out=path)
    return path


def test_options_name_planner_and_file(model_file: Path) -> None:
    for name in ("lr", "learned"):
        steering = run_config(planner=name, planner_model=model_file).steering
        assert steering is not None
        assert planner_of(steering).name.startswith("lr:")
        told = SteeringOptions.model_validate_json(steering.model_dump_json())
        team = make_team(told, toolbox_after(trainer_of(), windows=1).history.workload)
        assert (team.planner.name[:3], team.critic.name) == ("lr:", "embedded")


def test_a_missing_or_wrong_file_is_told_before_the_run(model_file: Path) -> None:
    check_models(None)
    check_models(SteeringOptions())
    check_models(SteeringOptions(planner="learned", planner_model=model_file))
    with pytest.raises(ConfigError, match="planner_model"):
        check_models(SteeringOptions(planner="learned"))
    with pytest.raises(DataError, match="not of xgb"):
        check_models(SteeringOptions(planner="xgb", planner_model=model_file))


def test_a_controller_imports_no_library_of_models_unless_it_is_asked_to() -> None:
    code = (
        "import sys, rudder.agents.controller, rudder.agents.learned.planner as planner\n"
        "from rudder.agents.team import planner_of\n"
        "from rudder.training.steering_options import ClassifierName, SteeringOptions\n"
        "planner_of(SteeringOptions()), planner_of(SteeringOptions(planner='collect'))\n"
        "heavy = ('sklearn', 'skops', 'xgboost', 'pytorch_tabnet', 'torch')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_libraries_of_roles_are_imported_before_a_workload_is_known(model_file: Path) -> None:
    code = (
        "import sys\n"
        "from rudder.agents.team import import_ahead\n"
        "from rudder.training.steering_options import SteeringOptions\n"
        "def told(**options):\n"
        "    import_ahead(SteeringOptions(**options))\n"
        "    print([name for name in ('sklearn', 'httpx2') if name in sys.modules])\n"
        "told()\n"
        "told(planner='lr', planner_model='/nowhere')\n"
        f"told(planner='learned', planner_model={str(model_file)!r})\n"
        "told(planner='llm', llm_url='http://localhost:1/v1', llm_model='none')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "[]", "[]", "['sklearn']", "['sklearn', 'httpx2']"
    ]  # fmt: skip
