"""Which versions of the training stack Rudder needs, and which are installed."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from functools import cache

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from rudder.training.errors import MachineError, complain

DISTRIBUTION = "rudder-gnn"
STACK = ("dgl", "torch", "torchdata", "numpy")
"""What has to fit together for `import dgl` to work."""
PAIRS = {("2.1", "2.2"): "tested", ("2.3", "2.3"): "read"}
"""Releases of dgl and torch that Rudder works with. tested: its tests run on them; read: not on
PyPI; all that Rudder uses of DGL's own code is the same there (compared from 2.1.0 to 2.3.0)."""
ANY_VARIABLE = "RUDDER_ANY_VERSIONS"
"""Environment variable, `1`: the user wants to try another pair."""


def own_version() -> str:
    """Rudder's."""
    return importlib.metadata.version(DISTRIBUTION)


def required_versions() -> dict[str, str]:
    """Version ranges of the training stack (`==2.1.0`), as this distribution declares them."""
    texts = importlib.metadata.requires(DISTRIBUTION) or []
    required = [requirement for text in texts if not (requirement := Requirement(text)).marker]
    return {each.name: str(each.specifier) for each in required if each.name in STACK}


def installed_version(name: str) -> str | None:
    """Version of an installed distribution; None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def installed_versions(*others: tuple[str, str] | None) -> dict[str, str]:
    """Python's version, Rudder's, and those of the training stack, as a run records them.

    others: name and version of each package that adds something to the run.
    """
    versions = {"python": platform.python_version()}
    for name in (DISTRIBUTION, *STACK):
        if (version := installed_version(name)) is not None:
            versions[name] = version
    return versions | dict(filter(None, others))


@cache
def check_stack() -> None:
    """Raise MachineError for a dgl and a torch that Rudder was not made for; warn once of a pair
    that its tests do not run on."""
    dgl, torch = (installed_version(name) or "none" for name in ("dgl", "torch"))
    if (problem := problem_of_pair(dgl, torch)) is None:
        return
    if "none" in (dgl, torch) or os.environ.get(ANY_VARIABLE) == "1":
        return
    if _pair(dgl, torch) in PAIRS:
        complain(f"rudder: {problem}")
        return
    known = " or ".join(f"dgl {a} with torch {b}" for a, b in PAIRS)
    raise MachineError(
        problem, remedy=f"install {known}; to try this pair all the same: {ANY_VARIABLE}=1"
    )


def problem_of_pair(dgl: str, torch: str) -> str | None:
    """What speaks against this pair; None where Rudder's tests run on it."""
    known = PAIRS.get(_pair(dgl, torch))
    if known == "tested":
        return None
    what = "is not tested" if known else "is none that Rudder works with"
    return f"dgl {dgl} with torch {torch} {what}"


def _pair(dgl: str, torch: str) -> tuple[str, str]:
    """Both without their last number, as in 2.1 and 2.2."""
    first, second = (".".join(each.split("+")[0].split(".")[:2]) for each in (dgl, torch))
    return first, second


def fits(version: str, wanted: str) -> bool:
    """Whether a version lies in a range such as `>=2.2.0,<2.2.2`.

    Raises ValueError for what is not a range.
    """
    return SpecifierSet(wanted).contains(version, prereleases=True)
