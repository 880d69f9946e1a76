"""`rudder doctor --llm`: what a model endpoint can do, and how to start one that can do more."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import typer
from rich.console import Console
from rich.table import Table

from rudder.agents.llm.endpoint import Endpoint
from rudder.agents.llm.probe import ProbeReport, probe
from rudder.cli.show.progress import say
from rudder.training.steering_options import DEFAULT_ANSWER_TOKENS


@dataclass(frozen=True)
class Recipe:
    """How one server is started; why: what each flag is for."""

    server: str
    command: str
    url: str
    why: str


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "vLLM",
        "vllm serve MODEL --enable-auto-tool-choice --tool-call-parser hermes"
        " --max-model-len 8192 --enable-prefix-caching",
        "http://HOST:8000/v1",
        "the parser goes with the model (hermes: Qwen 2.5 and 3, qwen3_coder: Qwen3-Coder,"
        " llama3_json: Llama 3, with --chat-template, mistral: Mistral); for a model that reasons"
        " add --reasoning-parser with its name",
    ),
    Recipe(
        "Ollama",
        "OLLAMA_CONTEXT_LENGTH=8192 OLLAMA_KEEP_ALIVE=-1 OLLAMA_NUM_PARALLEL=4 ollama serve",
        "http://HOST:11434/v1",
        "the default context may be no more than 4096, and longer prompts are cut silently;"
        " memory is for parallel times context; keep-alive keeps the model loaded between"
        " decisions; tool_choice is ignored, so structured mode may be found",
    ),
    Recipe(
        "llama.cpp",
        "llama-server -m MODEL.gguf --jinja -c 8192 --parallel 1 --reasoning-budget 0",
        "http://HOST:8080/v1",
        "--jinja turns tool calling on (newer builds do by themselves); the context is divided"
        " among --parallel slots; --reasoning-budget 0 keeps a reasoning model from using up the"
        " answer",
    ),
)


_FAILED = 4
_ERROR_WIDTH = 24


def doctor_llm(
    url: str,
    *,
    model: str,
    deadline_s: float = 20.0,
    warm_up_s: float = 180.0,
    answer_tokens: int = DEFAULT_ANSWER_TOKENS,
    extra: str | None = None,
    json: bool = False,
) -> None:
    """Try every mode, print what was found, and exit with 4 if none works.

    warm_up_s: for the first answer, as a server may have to load the model; extra: JSON object of
    further fields. Raises ConfigError for an address that cannot be one.
    """
    endpoint = Endpoint.of(
        url,
        model=model,
        deadline_s=max(warm_up_s, deadline_s, 1.0),
        answer_tokens=answer_tokens,
        extra=extra,
    )
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
    from rudder.agents.llm.openai_chat import OpenAIChat  # imports an HTTP client

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
    for words in dict.fromkeys(each.words for each in report.modes if each.words):
        console.print(f"the server says: {words}", markup=False)
    if report.request_changes:
        console.print(
            f"requests are changed for this endpoint: {', '.join(report.request_changes)}"
        )
    for remedy in dict.fromkeys(each.remedy for each in report.modes if each.remedy):
        console.print(f"what to do: {remedy}", markup=False)
    best = report.best or "none: the embedded agents would decide everything"
    console.print(f"a run would use: {best}")
    console.print("flags that help:")
    for recipe in RECIPES:
        console.print(f"- {recipe.server}: {recipe.command}", markup=False, soft_wrap=True)
        console.print(f"  --llm {recipe.url}; {recipe.why}", markup=False, soft_wrap=True)
