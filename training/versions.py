"""Which versions of the training stack Rudder needs, and which are installed."""

from __future__ import annotations

import importlib.metadata
import platform

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

DISTRIBUTION = "rudder-gnn"
STACK = ("dgl", "torch", "torchdata", "numpy")
"""What has to fit together for `import dgl` to work."""


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


def installed_versions() -> dict[str, str]:
    """Python's version, Rudder's, and those of the training stack, as a run records them."""
    versions = {"python": platform.python_version()}
    for name in (DISTRIBUTION, *STACK):
        if (version := installed_version(name)) is not None:
            versions[name] = version
    return versions


def fits(version: str, wanted: str) -> bool:
    """Whether a version lies in a range such as `>=2.2.0,<2.2.2`.

    Raises ValueError for what is not a range.
    """
    return SpecifierSet(wanted).contains(version, prereleases=True)
