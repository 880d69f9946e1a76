"""What the studies share: their command line, output and exit code, jobs, and spreads."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rudder.training.errors import RudderError

_RUDDER = Path(sys.executable).parent / "rudder"


def run_study(
    doc: str | None,
    measure: Callable[[argparse.Namespace, Path], Any],
    *,
    positional: tuple[str, str | None] | None = None,
    holds: Callable[[Any], bool] = lambda found: True,
    **defaults: float | str | Path,
) -> None:
    """Parse the options, measure, and print what was found as JSON: an iterator's values as lines.

    measure: takes the options and an empty folder, which is removed at the end; positional: name
    and number (as argparse's nargs) of the paths to give; holds: whether a value is as it should
    be; defaults: of the options. Exits 1 where one does not hold, and after an error of the user's.
    """
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=doc, formatter_class=shape)
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    if positional is not None:
        parser.add_argument(positional[0], type=Path, nargs=positional[1])
    options, wrong = parser.parse_args(), 0
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(options, Path(folder))
            are_lines = isinstance(found, Iterator)
            for each in found if are_lines else [found]:
                print(json.dumps(each, indent=None if are_lines else 2), flush=True)
                wrong += not holds(each)
    except RudderError as error:
        sys.exit(f"error: {error}")
    sys.exit(wrong > 0)


def train(*options: str, meanwhile: Callable[[int], None] | None = None) -> dict[str, Any]:
    """The summary of a `rudder train` with these options.

    meanwhile: called with the launcher's process id, again and again while it runs.
    """
    command = [str(_RUDDER), "train", "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        while meanwhile is not None and run.poll() is None:
            meanwhile(run.pid)
        out, error = run.communicate()
    if run.returncode:
        raise RuntimeError(error.decode())
    return dict(json.loads(out))


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median, the 99th percentile and the largest value."""
    ranked = sorted(values)
    places = {"p50": len(ranked) // 2, "p99": int(len(ranked) * 0.99), "max": -1}
    return {name: round(ranked[place], 3) for name, place in places.items()}


def middle(values: Sequence[float]) -> dict[str, float]:
    """The median and its range."""
    found = {"least": min(values), "median": statistics.median(values), "most": max(values)}
    return {name: round(value, 4) for name, value in found.items()}
