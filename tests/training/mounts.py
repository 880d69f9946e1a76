"""Python in a mount namespace of its own, with file systems as tests need them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_python(code: str, *, mounts: str, **variables: str | Path) -> list[str]:
    """Lines of standard output, then of standard error; mounts: shell commands that come first."""
    root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    named = {name: str(value) for name, value in variables.items()}
    done = subprocess.run(
        ["unshare", "--mount", *root, "sh", "-ec", f'{mounts}\nexec "$@"', "sh",
         sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], **named},
        capture_output=True, text=True, check=True, timeout=120, cwd="/",
    )  # fmt: skip
    return [*done.stdout.splitlines(), *done.stderr.splitlines()]
