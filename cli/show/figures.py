"""How numbers are written for people: one place, and "-" for what was not measured."""

from __future__ import annotations

ABSENT = "-"
_MEBIBYTE = 2**20


def count(value: int | None) -> str:
    """12,345."""
    return ABSENT if value is None else f"{value:,}"


def seconds(value: float | None) -> str:
    """1.234, or 12.3 from ten seconds on; a clock never reads 0, so 0 was not measured."""
    if not value:
        return ABSENT
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def percent(value: float | None) -> str:
    """63.2 %, of a fraction."""
    return ABSENT if value is None else f"{100 * value:.1f} %"


def decimal(value: float | None) -> str:
    """0.8123."""
    return ABSENT if value is None else f"{value:.4f}"


def mebibytes(value: int | None) -> str:
    """12.3 MiB."""
    return ABSENT if value is None else f"{value / _MEBIBYTE:,.1f} MiB"


def plain(value: object) -> str:
    """Any value: whole numbers with commas, others with four digits, the rest as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
