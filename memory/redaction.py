"""Secrets that found their way into a text are taken out before it is stored."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

HIDDEN = "[secret]"
_NAMES = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
_SHAPES = re.compile(r"\bsk-[A-Za-z0-9_-]{16,}|(?<=Bearer )[A-Za-z0-9._~+/-]{8,}=*")
_MIN_LENGTH = 8


class Redaction:
    """Replaces the values of the environment's secrets, and what is shaped like an API key."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        values = {
            value
            for name, value in environment.items()
            if _NAMES.search(name) and len(value) >= _MIN_LENGTH
        }
        patterns = [re.escape(value) for value in sorted(values, key=len, reverse=True)]
        self._known = re.compile("|".join(patterns)) if patterns else None

    def clean(self, text: str) -> str:
        """The text without secrets, and without what UTF-8 cannot hold."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        return _SHAPES.sub(HIDDEN, text).encode("utf-8", "replace").decode("utf-8")
