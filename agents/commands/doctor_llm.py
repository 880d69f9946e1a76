"""`rudder doctor --llm`: what a model endpoint can do, and how to start one that can do more."""

from __future__ import annotations

import asyncio

import typer
from rich.console import Console
from rich.table import Table

from rudder.agents.llm.endpoint import Endpoint
from rudder.agents.llm.probe import ProbeReport, probe
from rudder.agents.llm.server_flags import RECIPES
from rudder.agents.progress import say

_FAILED = 4
_ERROR_WIDTH = 24


def doctor_llm(
    url: str,
    *,
    model: str,
    deadline_s: float = 20.0,
    warm_up_s: float = 180.0,
    json: bool = False,
) -> None:
    """Try every mode, print what was found, and exit with 4 where none works.

    warm_up_s: for the first answer, as a server may have to load the model. Raises ConfigError for
    an address that cannot be one.
    """
    endpoint = Endpoint.of(url, model=model, deadline_s=max(warm_up_s, deadline_s, 1.0))
    say(f"waiting for a first answer, at most {warm_up_s:g} s")
    report = asyncio.run(probed(endpoint, deadline_s=deadline_s, warm_up_s=warm_up_s))
    if json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        show(report, endpoint, Console())
    if report.best is None:
        raise typer.Exit(_FAILED)


async def probed(endpoint: Endpoint, *, deadline_s: float, warm_up_s: float) -> ProbeReport:
    """The endpoint's report, with the connection closed again."""
    from rudder.agents.llm.openai_chat import OpenAIChat  # takes seconds to import

    chat = OpenAIChat(endpoint)
    try:
        return await probe(chat, deadline_s=deadline_s, warm_up_s=warm_up_s)
    finally:
        await chat.close()


def show(report: ProbeReport, endpoint: Endpoint, console: Console) -> None:
    """Print a report for people."""
    key = "none" if endpoint.key_from is None else f"from {endpoint.key_from}"
    console.print(f"endpoint {endpoint.url}, model {endpoint.model}, key {key}", markup=False)
    warm_up = "no answer" if report.warm_up_ms is None else f"{report.warm_up_ms:.0f} ms"
    console.print(f"first answer (loads the model): {warm_up}")
    table = Table("mode", "usable", "latency\nms", "tokens\nin/out", "counted\nby")
    table.add_column("error", overflow="fold", min_width=_ERROR_WIDTH)
    for each in report.modes:
        latency = ", ".join(f"{value:.0f}" for value in each.latencies_ms) or "-"
        tokens = f"{each.input_tokens or '-'}/{each.output_tokens or '-'}"
        usable = f"{each.usable} of {each.asked}"
        table.add_row(each.mode, usable, latency, tokens, each.tokens_source, each.error or "none")
    console.print(table)
    for remedy in dict.fromkeys(each.remedy for each in report.modes if each.remedy):
        console.print(f"what to do: {remedy}", markup=False)
    best = report.best or "none: the embedded agents would decide everything"
    console.print(f"a run would use: {best}")
    console.print("flags that help:")
    for recipe in RECIPES:
        console.print(f"- {recipe.server}: {recipe.command}", markup=False, soft_wrap=True)
        console.print(f"  --llm {recipe.url}; {recipe.why}", markup=False, soft_wrap=True)
