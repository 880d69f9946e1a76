from __future__ import annotations

import pytest

from rudder.training import versions
from rudder.training.errors import MachineError
from rudder.training.versions import (
    ANY_VARIABLE,
    STACK,
    check_stack,
    fits,
    installed_version,
    problem_of_pair,
    required_versions,
)


@pytest.mark.parametrize(
    ("version", "wanted", "result"),
    [
        ("2.1.0", "==2.1.0", True),
        ("2.1.0+cu121", "==2.1.0", True),
        ("2.1", "==2.1.0", True),
        ("2.2.1", ">=2.2.0,<2.2.2", True),
        ("2.2.2", ">=2.2.0,<2.2.2", False),
        ("2.10.0", "<2.9", False),
        ("70.1", "<71", True),
        ("1.26.4", "", True),
        ("1.0", "!=1.0", False),
    ],
)
def test_version_fits_its_range(version: str, wanted: str, result: bool) -> None:
    assert fits(version, wanted) is result


def test_range_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="about 1"):
        fits("1.0", "about 1")


def test_every_part_of_the_stack_is_pinned_and_installed_as_pinned() -> None:
    required = required_versions()
    assert set(required) == set(STACK)
    for name, wanted in required.items():
        installed = installed_version(name)
        assert installed is not None
        assert fits(installed, wanted)


def test_package_that_is_missing_has_no_version() -> None:
    assert installed_version("no-such-package-at-all") is None


@pytest.mark.parametrize(
    ("dgl", "torch", "problem"),
    [
        ("2.1.0", "2.2.1+cpu", None),
        ("2.3.0+cu121", "2.3.1", "dgl 2.3.0+cu121 with torch 2.3.1 is not tested"),
        ("2.1.0", "2.3.0", "dgl 2.1.0 with torch 2.3.0 is none that Rudder works with"),
        ("2.10.0", "2.2.1", "dgl 2.10.0 with torch 2.2.1 is none that Rudder works with"),
    ],
)
def test_pair_of_dgl_and_torch_is_known(dgl: str, torch: str, problem: str | None) -> None:
    assert problem_of_pair(dgl, torch) == problem


@pytest.mark.parametrize("may_try", [False, True])
def test_unknown_pair_is_refused_unless_the_user_wants_to_try_it(
    monkeypatch: pytest.MonkeyPatch, may_try: bool
) -> None:
    monkeypatch.setattr(versions, "installed_version", lambda name: "2.4.0")
    monkeypatch.setenv(ANY_VARIABLE, str(int(may_try)))
    if may_try:
        check_stack.__wrapped__()
    else:
        with pytest.raises(MachineError, match=r"dgl 2\.4\.0 with torch 2\.4\.0 is none") as caught:
            check_stack.__wrapped__()
        assert f"{ANY_VARIABLE}=1" in caught.value.remedy
