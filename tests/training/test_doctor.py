from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rudder.training import doctor
from rudder.training.doctor import Check
from rudder.training.hosts.shared_memory import Claim


def test_every_finding_that_is_not_ok_has_a_remedy() -> None:
    found = doctor.checks()
    assert {check.name for check in found} >= {"Python", "dgl", "torch", "import dgl", "ports"}
    assert [check for check in found if check.state != "ok" and not check.remedy] == []
    assert [check for check in found if check.name == "import dgl"] == [
        Check("import dgl", "ok", "works")
    ]


def test_old_python_fails() -> None:
    assert doctor.check_python("3.10.4").state == "fail"
    assert doctor.check_python("3.11.7").state == "ok"


def test_missing_package_fails_and_another_version_warns() -> None:
    missing = doctor.check_version("dgl", wanted="==2.1.0", installed=None)
    newer = doctor.check_version("dgl", wanted="==2.1.0", installed="2.4.0")
    assert (missing.state, newer.state) == ("fail", "warn")
    assert "pip install 'dgl==2.1.0'" in newer.remedy


def test_broken_import_is_told_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torchdata.py").write_text("raise ImportError('wrong torchdata')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check = doctor.check_import()
    assert check.state == "fail"
    assert check.found == "ImportError: wrong torchdata"
    assert "torchdata==" in check.remedy


def test_shared_memory_of_a_dead_run_is_found(tmp_path: Path) -> None:
    assert doctor.check_leftovers(tmp_path).state == "ok"
    claim = Claim("5.6", folder=tmp_path)
    assert claim.take()
    (tmp_path / f"{claim.prefix}0.features").write_bytes(bytes(10))
    assert doctor.check_leftovers(tmp_path).state == "ok"
    claim.unlock()
    check = doctor.check_leftovers(tmp_path)
    assert check.state == "warn"
    assert f"{tmp_path}/rudder.5.6.*" in check.remedy


def test_machine_without_package_lists_cannot_make_the_debian_graph(tmp_path: Path) -> None:
    check = doctor.check_apt(tmp_path)
    assert check.state == "warn"
    assert "apt-get update" in check.remedy


def test_small_machine_is_warned() -> None:
    assert doctor.check_memory(2**30).state == "warn"
    assert doctor.check_memory(2**36).state == "ok"
    assert doctor.check_cores(1).state == "warn"


def test_folder_that_is_not_there_yet_is_judged_by_its_parent(tmp_path: Path) -> None:
    check = doctor.check_disk("run folder", tmp_path / "not" / "yet")
    assert str(tmp_path) in check.found
    assert check.state == ("ok" if shutil.disk_usage(tmp_path).free >= 2**31 else "warn")
