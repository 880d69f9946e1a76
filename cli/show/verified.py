"""Whether a run's record is as it was written, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rudder.cli.show.progress import counting
from rudder.memory.past.experience import Catalog
from rudder.memory.run.audit import Head
from rudder.memory.run.run_reader import LogOrigin, RunReader, run_files
from rudder.memory.run.verify import Verification
from rudder.memory.run.verify_run import Finding, Known, verify_run
from rudder.training.errors import DataError
from rudder.training.steering_options import default_memory


def verified(
    where: Path,
    *,
    memory: Path | None = None,
    anchor: Path | None = None,
    key: bytes | None = None,
) -> list[Finding]:
    """What verify finds in each file of a run, and which files are missing; or in one file.

    memory: keeps where logs ended; default: memory.db in the data folder; anchor, key: as
    `verify_run` takes them. How far it is, is told.
    """
    total = sum(_num_rows(path) for path in run_files(where))
    with counting("verifying", total=total, unit="rows") as advance:
        return verify_run(where, known=_known_to(memory), anchor=anchor, key=key, on_row=advance)


def _num_rows(path: Path) -> int:
    """0 for a file that cannot be read, which verify tells of."""
    try:
        with RunReader(path) as reader:
            return reader.num_chained_rows()
    except DataError:
        return 0


def _known_to(memory: Path | None) -> Known:
    """The heads that a memory has, if there is one."""
    path = memory or default_memory()
    if memory is None and not path.exists():
        return lambda origin: ()

    def known(origin: LogOrigin) -> tuple[Head, ...]:
        with Catalog(path) as catalog:
            head = catalog.head(origin)
        return () if head is None else (head,)

    return known


def findings_text(findings: Sequence[Finding], *, is_whole: bool) -> str:
    """A line for each file, and what could not be known; is_whole: of all files of a run."""
    texts = [finding_text(each) for each in findings]
    return "\n".join([*texts, *(f"not known: {text}" for text in _limits(findings, is_whole))])


def finding_text(finding: Finding) -> str:
    """What was found in a file, and who else knows it."""
    return "\n".join(_finding_lines(finding))


def _finding_lines(finding: Finding) -> Iterator[str]:
    found = finding.found
    if not found.holds:
        row = "" if found.broken_row is None else f"row {found.broken_row}: "
        yield f"{finding.file}: BROKEN: {row}{found.reason}"
        return
    yield f"{finding.file}: {_held(found)}"
    for head in finding.known_to:
        yield f"  {head.keeper} knows its rows up to {head.number}"
    if finding.is_signed:
        yield "  the lines that know it have the key's signature"
    for number in found.unannounced:
        yield f"  row {number}: an effect without an intent"


def _held(found: Verification) -> str:
    """How much is as it was written, and what cannot be checked."""
    end, begun = f"{found.rows:,} rows hold", found.chained_from
    if begun is None:
        return f"{end}; an earlier version, without digests of other tables, wrote it"
    tables = f"{end}, and {found.table_rows:,} rows of other tables"
    return tables if begun == 1 else f"{tables}, as they were when row {begun} was written"


def _limits(findings: Sequence[Finding], is_whole: bool) -> Iterator[str]:
    """What an attacker could have done without being found."""
    sound = [each for each in findings if each.found.holds]
    if not is_whole:
        yield "whether other ranks' files are there and say the same: only one file was looked at"
    for each in sound:
        if each.unknown_rows and (each.known_to or len(sound) > 1):
            last = f"the last rows of {each.file.name}, {each.unknown_rows} of them, were"
            what = last if each.known_to else f"{each.file.name} was"
            yield f"whether {what} written anew with all hashes: nobody else knows these rows"
    if sound and not any(each.is_known_outside for each in sound):
        done = "set back" if all(each.is_signed for each in sound) else "written anew, or set back,"
        yield (
            f"whether all files were {done} together: nothing outside the run's folder knows where"
            " its logs ended (`rudder train --audit-anchor`, or a memory)"
        )
