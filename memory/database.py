"""sqlite-utils, imported without pandas.

sqlite-utils imports pandas, where it is installed, for the sake of one type that no record has.
That would take half a second of each command and of each controller's start.
"""

from __future__ import annotations

import sys

_HIDDEN = "pandas"
_is_hidden = _HIDDEN not in sys.modules
if _is_hidden:
    sys.modules[_HIDDEN] = None  # type: ignore[assignment]  # has its import fail
try:
    from sqlite_utils import Database
    from sqlite_utils.migrations import Migrations
finally:
    if _is_hidden:
        del sys.modules[_HIDDEN]

__all__ = ["Database", "Migrations"]
