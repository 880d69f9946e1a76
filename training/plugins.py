"""What installed packages add to Rudder under names of their own: entry points of a group.

A person chooses one with `NAME` or `NAME:ARGUMENT`; the function at the entry point gets the text
behind the colon, or "", and what the kind of plugin needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any

from pydantic import AfterValidator

from rudder.training.errors import ConfigError

_CHOSEN = re.compile(r"[a-z][A-Za-z0-9_-]{0,31}(:[A-Za-z0-9_.,=+-]{1,100})?\Z")


def _to_chosen(text: str) -> str:
    if _CHOSEN.match(text) is None:
        raise ValueError("it is NAME or NAME:ARGUMENT, of letters, digits and _ - . , = +")
    return text


ChosenName = Annotated[str, AfterValidator(_to_chosen)]
"""A name of Rudder's, or of a plugin with its argument, as runs record it."""


@dataclass(frozen=True)
class Plugins:
    """One kind of plugin.

    group: of the entry points; field: the setting that names one; ours: the names that Rudder
    brings, which plugins cannot take.
    """

    group: str
    field: str
    ours: tuple[str, ...]

    def is_own(self, text: str) -> bool:
        """Whether a package has to bring what this text names."""
        return text.partition(":")[0] not in self.ours

    def problem(self, text: str) -> str | None:
        """Why a recorded choice cannot be made again here, or None."""
        name = text.partition(":")[0]
        if name in self.ours or name in self._installed():
            return None
        return (
            f"its {self.field}, {name}, is an entry point of {self.group} that no installed"
            " package has: install the package that the run had"
        )

    def check(self, text: str, *, choices: str = "") -> None:
        """Raise ConfigError with all names where there is no such name; choices: Rudder's own, in
        words."""
        if self.is_own(text):
            self._find(text, choices or ", ".join(self.ours))

    def package(self, text: str) -> tuple[str, str] | None:
        """Name and version of the package that brings it; None for Rudder's own."""
        point = self._installed().get(text.partition(":")[0]) if self.is_own(text) else None
        dist = None if point is None else point.dist
        return None if dist is None else (dist.name, dist.version)

    def load(self, text: str) -> Callable[..., Any]:
        """The function of the entry point; raises ConfigError where it cannot be imported."""
        found = self._find(text, ", ".join(self.ours))
        try:
            return found.load()  # type: ignore[no-any-return]  # whatever a package has there
        except Exception as error:  # code of others
            raise self.failure(text, error) from error

    def make(self, text: str, *facts: Any) -> Any:
        """What the function returns; raises ConfigError with what it raised."""
        function = self.load(text)
        try:
            return function(text.partition(":")[2], *facts)
        except ConfigError:
            raise
        except Exception as error:  # code of others
            raise self.failure(text, error) from error

    def failure(self, text: str, error: Exception | str) -> ConfigError:
        """A plugin that cannot be used."""
        why = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        brought = self.package(text)
        whose = " ".join(brought) if brought else "its package"
        return ConfigError(
            f"{self.field} = {text!r} cannot be used: {why}",
            remedy=f"mend {whose}, which brings it, or choose another {self.field}",
        )

    def _installed(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def _find(self, text: str, choices: str) -> EntryPoint:
        installed = self._installed()
        if (found := installed.get(text.partition(":")[0])) is not None:
            return found
        others = sorted(installed.keys() - set(self.ours))
        own = f"of installed packages {', '.join(others)}" if others else "no package adds others"
        raise ConfigError.for_field(
            self.field,
            value=text,
            allowed=f"{choices}; {own}",
            remedy=f"name one of them, or install a package with an entry point of {self.group}",
        )
