"""Which figures of a text stand in the tool results that it cites.

A text cites results by number, as [2] or [1, 3], in the sentence that uses them or right behind it.
A figure may be rounded, written with commas, or be the percentage of a fraction; it may not be
converted or computed. What the person who asked had named counts as known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_CITATION = re.compile(r"\[(\d{1,4}(?:\s*,\s*\d{1,4})*)\]")
_SENTENCE = re.compile(r"[^\n]+?(?:[.!?](?=\s|$)(?:\s*\[[\d,\s]+\])*|(?=\n|$))")
_FIGURE = re.compile(r"(?<![\w.])(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?(?P<rest>\w*)(?P<percent>\s?%)?")
_LIST_NUMBER = re.compile(r"^\s*\d+[.)]\s", re.MULTILINE)
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?!\w)")
_UNITS = ("", "ms", "us", "s", "min", "h", "x", "B", "KiB", "MiB", "GiB", "KB", "MB", "GB")
"""What may follow a number without a space; other letters make it an id."""
_UNMARKED = "(?)"


@dataclass(frozen=True)
class CheckedText:
    """A text whose figures were looked up; text: with `(?)` behind those that were not found;
    cited: the numbers of the results that it names."""

    text: str
    unsupported: tuple[str, ...]
    cited: tuple[int, ...] = ()


def check_figures(text: str, *, results: Mapping[int, str], known: str = "") -> CheckedText:
    """Look up every figure of a text in the results that its sentence cites.

    results: by the number that they are cited by; known: figures in it need no citation.
    """
    lost, cited = list(_unsupported(text, results, known)), {*_cited(text)} & {*results}
    for end, _ in reversed(lost):
        text = f"{text[:end]} {_UNMARKED}{text[end:]}"
    return CheckedText(text, tuple(figure for _, figure in lost), tuple(sorted(cited)))


def _unsupported(text: str, results: Mapping[int, str], known: str) -> Iterator[tuple[int, str]]:
    """Where each of them ends, and it."""
    for sentence in _SENTENCE.finditer(_LIST_NUMBER.sub(_blank, text)):
        words = sentence.group()
        told = "\n".join([known, *(results.get(number, "") for number in _cited(words))])
        tokens = set(re.findall(r"\w+", told))
        numbers = [float(each) for each in _NUMBER.findall(told)]
        for found in _FIGURE.finditer(_CITATION.sub(_blank, words)):
            if found.group().strip() not in tokens and not _is_among(found, numbers):
                yield sentence.start() + found.end(), found.group().strip()


def _cited(words: str) -> list[int]:
    return [int(number) for found in _CITATION.findall(words) for number in found.split(",")]


def _blank(found: re.Match[str]) -> str:
    return " " * len(found.group())


def _is_among(figure: re.Match[str], numbers: list[float]) -> bool:
    if figure.group("rest") not in _UNITS:
        return False
    whole, decimals = figure.group(1).replace(",", ""), figure.group(2) or ""
    value = float(whole + decimals)
    scales = (1.0, 100.0) if figure.group("percent") else (1.0,)
    half = 0.5 * 10.0 ** -max(len(decimals) - 1, 0) * (1 + 1e-9)
    return any(abs(scale * number - value) <= half for number in numbers for scale in scales)
