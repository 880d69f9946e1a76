"""`rudder doctor`: what this machine lacks, and how to mend it."""

from __future__ import annotations

import dataclasses
import json as json_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from rudder.cli.options import AsJson
from rudder.cli.show import figures
from rudder.training.steering_options import DEFAULT_ANSWER_TOKENS

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(
    data: Annotated[Path | None, typer.Option(help="Folder where data will be.")] = None,
    run_dir: Annotated[Path | None, typer.Option(help="Folder where runs will be.")] = None,
    llm: Annotated[
        str | None, typer.Option(help="Try this language model instead: its address, up to /v1.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "--llm-model", help="The model's name, with --llm.")
    ] = None,
    deadline: Annotated[
        float,
        typer.Option("--deadline", "--llm-deadline", help="Seconds for an answer, with --llm."),
    ] = 20.0,
    warm_up: Annotated[
        float, typer.Option(help="Seconds for the first answer, which loads the model.")
    ] = 180.0,
    llm_answer_tokens: Annotated[
        int, typer.Option(help="Tokens of one answer, with reasoning; with --llm.")
    ] = DEFAULT_ANSWER_TOKENS,
    llm_extra: Annotated[
        str | None, typer.Option(help="JSON object of further fields of each request, with --llm.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Check versions, shared memory, namespaces, ports, apt lists, memory and disk.

    Example: rudder doctor --llm http://localhost:11434/v1 --model NAME
    """
    if llm is not None:
        from rudder.cli.commands.doctor_llm import doctor_llm

        doctor_llm(
            llm,
            model=model or "",
            deadline_s=deadline,
            warm_up_s=warm_up,
            answer_tokens=llm_answer_tokens,
            extra=llm_extra,
            json=json,
        )
        return
    if model is not None:
        from rudder.training.errors import ConfigError

        raise ConfigError(f"there is no endpoint to try {model} at", remedy="give its --llm URL")
    from rudder.training.doctor import checks

    found = checks(data_dir=data, run_dir=run_dir)
    if json:
        typer.echo(json_module.dumps([dataclasses.asdict(check) for check in found], indent=2))
    else:
        rows = [
            (check.name, Text(check.state, _COLOURS[check.state]), check.found, check.remedy)
            for check in found
        ]
        names = ("check", "state", "found", "how to mend it")
        Console().print(figures.table(names, rows, text=names), highlight=False)
    if any(check.state == "fail" for check in found):
        raise typer.Exit(4)
