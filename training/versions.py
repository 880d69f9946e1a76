"""Which versions of the training stack Rudder needs, and which are installed."""

from __future__ import annotations

import importlib.metadata
import operator
import platform
import re

DISTRIBUTION = "rudder-gnn"
STACK = ("dgl", "torch", "torchdata", "numpy", "setuptools")
"""What has to fit together for `import dgl` to work."""
_CLAUSE = re.compile(r"^(==|!=|>=|<=|>|<)\s*(\S+)$")
_COMPARISONS = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_REQUIREMENT = re.compile(r"^([A-Za-z0-9_.-]+)\s*([<>=!~][^;]*)?")


def required_versions() -> dict[str, str]:
    """Version ranges of the training stack (`==2.1.0`), as this distribution declares them."""
    found: dict[str, str] = {}
    for requirement in importlib.metadata.requires(DISTRIBUTION) or []:
        match = _REQUIREMENT.match(requirement)
        if match and match.group(1) in STACK and "extra ==" not in requirement:
            found[match.group(1)] = (match.group(2) or "").strip()
    return found


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
    """Whether a version lies in a range such as `>=2.2.0,<2.2.2`; only numbers are compared."""
    mine = _numbers(version)
    for clause in filter(None, (part.strip() for part in wanted.split(","))):
        match = _CLAUSE.match(clause)
        if match is None:
            raise ValueError(f"not a version range: {wanted!r}")
        if not _COMPARISONS[match.group(1)](mine, _numbers(match.group(2))):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    """2.2.1+cu121 -> (2, 2, 1), and 2 -> (2, 0, 0), so that they compare."""
    release = re.match(r"\d+(?:\.\d+)*", version)
    parts = [int(part) for part in release.group().split(".")] if release else []
    return tuple([*parts, 0, 0, 0][: max(3, len(parts))])
