"""Whether all files of a run are as they were written, as far as anybody can know.

A file is compared with its own chain, with what other ranks' logs say of it, and with heads that
were written down elsewhere: in a memory, and in anchors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rudder.memory.run.audit import Head
from rudder.memory.run.heads import SIGNED_FILE, HeadsLine, read_anchor
from rudder.memory.run.run_reader import LogOrigin, RunReader, run_file, run_files
from rudder.memory.run.verify import Verification, unlike, why_unlike
from rudder.memory.store import LaterVersionError
from rudder.training.control.messages import LogHead
from rudder.training.errors import DataError

Known = Callable[[LogOrigin], Sequence[Head]]
"""Heads that somebody else knows of a rank's log."""


@dataclass(frozen=True)
class Finding:
    """What was found in a file, or in a run's folder.

    known_to: who else knows the log, each with the last row that it knows; is_known_outside: some
    of them are not in the run's folder; is_signed: a line with the key's signature knows it.
    """

    file: Path
    found: Verification
    known_to: tuple[Head, ...] = ()
    is_known_outside: bool = False
    is_signed: bool = False

    @classmethod
    def broken(cls, file: Path, reason: str) -> Finding:
        """A file that is not as it was written."""
        return cls(file, Verification(rows=0, reason=reason))

    @property
    def unknown_rows(self) -> int:
        """Rows at the log's end that nobody else knows."""
        return self.found.head.number - max((head.number for head in self.known_to), default=0)


def verify_run(
    where: Path,
    *,
    known: Known = lambda origin: (),
    anchor: Path | None = None,
    key: bytes | None = None,
    on_row: Callable[[int], object] = lambda count: None,
) -> list[Finding]:
    """Verify a run's folder or one rank's file.

    known: heads that a memory has; anchor: a file of HeadsLines; key: what lines must be signed
    with, those in the run's folder, too; on_row: as `RunReader.verify` calls it.
    """
    findings = [_verified(path, on_row) for path in run_files(where)]
    run_dir = where if where.is_dir() else where.absolute().parent.parent
    anchors: dict[Path, list[HeadsLine]] = {}
    damaged: list[Finding] = []
    for path in (anchor, run_dir / SIGNED_FILE):
        if path is not None and path.exists():
            try:
                anchors[path] = list(read_anchor(path))
            except DataError as error:
                damaged.append(Finding.broken(path, error.message))
    outside = _Outside(known, anchor, anchors, key)
    findings = [_compared(each, findings, outside) for each in findings]
    if where.is_dir():
        findings = [*map(_in_its_place, findings), *_not_of_the_run(findings, where)]
        findings += _another_run(findings, where, anchors.get(anchor, ()) if anchor else ())
    return findings + damaged


def _verified(path: Path, on_row: Callable[[int], object]) -> Finding:
    """What verify found; if the file cannot even be opened, why."""
    try:
        with RunReader(path) as reader:
            return Finding(path, reader.verify(on_row=on_row))
    except LaterVersionError:
        raise
    except DataError as error:
        return Finding.broken(path, error.message)


@dataclass(frozen=True)
class _Outside:
    """What is known beside the logs themselves; lines: of each file, one of which is the anchor."""

    known: Known
    anchor: Path | None
    lines: dict[Path, list[HeadsLine]]
    key: bytes | None

    def about(self, origin: LogOrigin) -> Iterator[tuple[Path, HeadsLine, LogHead]]:
        """Lines about a rank's log, each with the file that it is from."""
        for path, lines in self.lines.items():
            for line in lines:
                for head in line.heads:
                    if (line.run_key, head.rank) == (origin.run_key, origin.rank):
                        yield path, line, head

    def why_unsigned(self, origin: LogOrigin) -> str | None:
        """What is wrong with the signatures of these lines; None where all have the key's, or there
        is no key to check them with."""
        key = self.key
        if key is None:
            return None
        about = list(self.about(origin))
        wrong = [path for path, line, _ in about if not line.is_signed_with(key)]
        if wrong:
            return f"{wrong[0]} has a line about it without this key's signature"
        return None if about else "no signed line says where it ended"


def _compared(finding: Finding, others: Sequence[Finding], outside: _Outside) -> Finding:
    """With what others know of the log; broken where it is not the one that they know."""
    found = finding.found
    if not found.holds or found.run_key is None or found.rank is None:
        return finding
    origin = LogOrigin(found.run_key, found.rank)
    if (reason := outside.why_unsigned(origin)) is not None:
        return _broken(finding, reason)
    remembered, about = outside.known(origin), list(outside.about(origin))
    is_anchored = outside.anchor in [path for path, _, _ in about]
    if outside.anchor is not None and not is_anchored:
        return _broken(finding, f"{outside.anchor} has no line about it")
    told = (Head(head.number, head.hash, keeper=str(path)) for path, _, head in about)
    heads = [*_of_ranks(origin, others), *remembered, *told]
    with RunReader(finding.file) as reader:
        if (wrong := reader.read(lambda: unlike(reader.db, heads))) is not None:
            found = replace(found, broken_row=wrong.number, reason=why_unlike(wrong, found.head))
    furthest = {head.keeper: head for head in sorted(heads, key=lambda head: head.number)}
    return Finding(
        finding.file,
        found,
        known_to=tuple(furthest.values()),
        is_known_outside=bool(remembered) or is_anchored,
        is_signed=outside.key is not None,
    )


def _of_ranks(origin: LogOrigin, findings: Sequence[Finding]) -> Iterator[Head]:
    """What the logs of a run's other ranks say of this one."""
    for each in findings:
        if each.found.holds and each.found.run_key == origin.run_key:
            for head in each.found.heads:
                if head.rank == origin.rank != each.found.rank:
                    yield Head(head.number, head.hash, keeper=f"rank {each.found.rank}'s log")


def _broken(finding: Finding, reason: str) -> Finding:
    return replace(finding, found=replace(finding.found, reason=reason))


def _in_its_place(finding: Finding) -> Finding:
    """Broken where the file is of another rank than its name says."""
    rank = finding.found.rank
    if not finding.found.holds or rank is None or finding.file.stem == f"rank{rank}":
        return finding
    return _broken(finding, f"it is the record of rank {rank}")


def _not_of_the_run(findings: Sequence[Finding], where: Path) -> Iterator[Finding]:
    """Broken findings for files of a run that are not there, or that are of another run."""
    runs = {each.found.run_key for each in findings if each.found.run_key is not None}
    if len(runs) > 1:
        yield Finding.broken(where, f"its files are of {len(runs)} runs")
    for rank in range(max((each.found.num_ranks or 0 for each in findings), default=0)):
        path = run_file(where, rank=rank)
        if not path.exists():
            yield Finding.broken(path, "it is missing")


def _another_run(
    findings: Sequence[Finding], where: Path, lines: Sequence[HeadsLine]
) -> Iterator[Finding]:
    """A broken finding where an anchor knows this folder, but with another run in it."""
    runs = {each.found.run_key for each in findings}
    known = {line.run_key for line in lines if line.run_dir == str(where.absolute())}
    if known and not known & runs:
        yield Finding.broken(where, f"the anchor knows it with another run, {min(known)}, in it")
