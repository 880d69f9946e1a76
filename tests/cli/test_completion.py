"""Completion in real shells: commands, options, and folders of runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rudder.cli.main import COMMANDS

RUDDER = Path(sys.executable).parent / "rudder"
_BASH = """source <(_RUDDER_COMPLETE=source_bash rudder)
complete -p rudder >&2
COMP_WORDS=({words}) COMP_CWORD={last}
_rudder_completion rudder
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
_ZSH = """compdef() {{ print -u2 compdef $@ }}
source <(_RUDDER_COMPLETE=source_zsh rudder)
words=({words}) CURRENT={last}+1
_arguments() {{ print -r -- ${{(F)@}} }}
_rudder_completion
"""


def completed(shell: str, *words: str, folder: Path) -> str:
    """What a shell offers for the last of these words."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = {"bash": _BASH, "zsh": _ZSH}[shell]
    quoted = " ".join(f"'{word}'" for word in words)
    done = subprocess.run(
        [shell, "-c", script.format(words=quoted, last=len(words) - 1)],
        cwd=folder, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PATH": f"{RUDDER.parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert "_rudder_completion rudder" in done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_commands_options_and_runs(shell: str, tmp_path: Path) -> None:
    (tmp_path / "runs" / "one").mkdir(parents=True)
    commands = completed(shell, "rudder", "", folder=tmp_path)
    assert [name for name in COMMANDS if name not in commands] == []
    assert "wait" in completed(shell, "rudder", "runs", "wa", folder=tmp_path)
    assert "--detach" in completed(shell, "rudder", "train", "--det", folder=tmp_path)
    assert "runs/one" in completed(shell, "rudder", "top", "", folder=tmp_path)
    assert "runs/one" in completed(shell, "rudder", "set", "--run", "runs/o", folder=tmp_path)
