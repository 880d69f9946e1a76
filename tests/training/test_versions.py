from __future__ import annotations

import pytest

from rudder.training.versions import STACK, fits, installed_version, required_versions


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
