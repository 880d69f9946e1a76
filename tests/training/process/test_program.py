"""A job names the module that its trainers execute; training itself knows no benchmark."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from rudder.training.config import RunConfig
from rudder.training.events import Event, PhaseEntered
from rudder.training.job import Job
from rudder.training.process.program import program_of
from tests.training.partitioned import partitioned_graph

TRAINING = Path(__file__).parents[3] / "training"
OTHER = """
def start_controllers(job, *, rank):
    print("controllers of", rank)

def run(job, *, rank, emit):
    from rudder.training.events import PhaseEntered

    assert job.program_options == {"repeats": 3}
    emit(PhaseEntered(role="trainer", rank=rank, phase="finished"))
"""


def job(**values: object) -> Job:
    here = Path()
    return Job.model_validate({
        "config": RunConfig(), "graph": partitioned_graph(), "run_dir": here, "ip_config": here,
        "addresses": (), "network": "loopback", "master_port": 1, **values,
    })  # fmt: skip


def test_the_program_of_a_job_is_imported_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "another_program.py").write_text(OTHER)
    monkeypatch.syspath_prepend(tmp_path)
    sent: list[Event] = []
    told = job(program="another_program", program_options={"repeats": 3})
    read_back = Job.model_validate_json(told.model_dump_json())
    program_of(read_back).start_controllers(read_back, rank=1)
    program_of(read_back).run(read_back, rank=1, emit=sent.append)
    assert sent == [PhaseEntered(role="trainer", rank=1, phase="finished")]
    assert capsys.readouterr().out == "controllers of 1\n"


def test_a_job_that_names_no_program_trains() -> None:
    assert program_of(job()).run.__module__ == "rudder.training.process.program"


def test_training_imports_nothing_of_the_benchmarks() -> None:
    imports = [
        f"{file.relative_to(TRAINING)} imports {node.module}"
        for file in TRAINING.rglob("*.py")
        if "bench" not in file.relative_to(TRAINING).parts
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
    ]
    assert [line for line in imports if "rudder.bench" in line] == []
