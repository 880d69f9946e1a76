"""`rudder doctor`: checks this machine, or a model endpoint, and says how to repair what fails."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.text import Text

from rudder.agents.llm.endpoint import Endpoint
from rudder.cli.options import AsJson, LlmModel
from rudder.cli.show import figures
from rudder.cli.show.progress import emit, say
from rudder.training.config import run_config
from rudder.training.doctor import checks
from rudder.training.errors import ConfigError
from rudder.training.hosts.names import Machine, hosts_in
from rudder.training.steering_options import DEFAULT_ANSWER_TOKENS

if TYPE_CHECKING:
    from rudder.cli.endpoint_probe import ProbeReport

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
_FAILED = 4


def doctor(
    data: Annotated[
        Path | None, typer.Option(help="Folder for data, whose disk is checked.")
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Folder for runs, whose disk is checked.")
    ] = None,
    llm: Annotated[
        str | None, typer.Option(help="Try this language model instead: its address, up to /v1.")
    ] = None,
    model: LlmModel = None,
    deadline: Annotated[
        float,
        typer.Option("--deadline", "--llm-deadline", help="Seconds for an answer, with --llm."),
    ] = 20.0,
    warm_up: Annotated[
        float, typer.Option(help="Seconds for the first answer, which loads the model.")
    ] = 180.0,
    llm_answer_tokens: Annotated[
        int, typer.Option(help="Most tokens of one answer, reasoning included; with --llm.")
    ] = DEFAULT_ANSWER_TOKENS,
    llm_extra: Annotated[
        str | None,
        typer.Option(help="JSON object with further fields for each request, with --llm."),
    ] = None,
    hosts: Annotated[
        str | None, typer.Option(help="Check these machines instead, over ssh: node1,node2.")
    ] = None,
    hosts_file: Annotated[
        Path | None,
        typer.Option(help="File with a machine a line, instead of --hosts: NAME, or NAME ADDRESS."),
    ] = None,
    ssh: Annotated[str, typer.Option(help="Command that reaches a machine, with options.")] = "ssh",
    remote_python: Annotated[
        str | None,
        typer.Option(help="Interpreter on the machines; default: the same path as here."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Check versions, shared memory, namespaces, ports, apt lists, memory and disk.

    With --hosts or --hosts-file all machines are checked side by side, and whether each reaches
    the others; exit code 4 if one of them cannot train.

    Example: rudder doctor --hosts-file hosts.txt
    """
    if hosts_file is not None:
        hosts = hosts_in(hosts_file)
    if hosts is not None:
        doctor_machines(hosts, ssh=ssh, python=remote_python, json=json)
        return
    if llm is not None:
        doctor_llm(
            llm, model=model or "", deadline_s=deadline, warm_up_s=warm_up,
            answer_tokens=llm_answer_tokens, extra=llm_extra, json=json,
        )  # fmt: skip
        return
    if model is not None:
        raise ConfigError(f"the model {model} needs an endpoint", remedy="give its --llm URL")
    found = checks(data_dir=data, run_dir=run_dir)
    rows = [
        (check.name, Text(check.state, _COLOURS[check.state]), check.found, check.remedy)
        for check in found
    ]
    names = ("check", "state", "found", "how to mend it")
    emit(found, figures.table(names, rows, text=names), json=json)
    if any(check.state == "fail" for check in found):
        raise typer.Exit(_FAILED)


def doctor_machines(hosts: str, *, ssh: str, python: str | None, json: bool) -> None:
    """Check all machines at once, print what was found, and exit with 4 if one cannot train."""
    from rudder.training.hosts.inspection import inspect

    config = run_config(hosts=hosts, ssh=ssh)
    machines = [Machine.parse(each) for each in config.machines]
    if not machines:
        raise ConfigError.for_field("hosts", value=hosts, allowed="machines: node1,node2")
    found = inspect(machines, ssh=ssh, python=python)
    names = ("machine", "state", "address", "cores", "memory", "shared memory")
    states = [each.worst for each in found]
    rows: list[list[str | Text]] = [
        [each.machine, Text(state, _COLOURS[state]), *(each.found(name) for name in names[2:])]
        for each, state in zip(found, states, strict=True)
    ]
    problems = [
        f"{each.machine}: {check.name}: {check.found}\n  what to do: {check.remedy}"
        for each in found
        for check in each.checks
        if check.state != "ok"
    ]
    shown = figures.table(names, rows, text=names)
    emit(found, Group(shown, *map(Text, problems)), json=json)
    if "fail" in states:
        raise typer.Exit(_FAILED)


_SERVERS = (
    (
        "vLLM",
        "vllm serve MODEL --enable-auto-tool-choice --tool-call-parser hermes"
        " --max-model-len 8192 --enable-prefix-caching",
        "http://HOST:8000/v1",
        "the parser goes with the model (hermes: Qwen 2.5 and 3, qwen3_coder: Qwen3-Coder,"
        " llama3_json: Llama 3, with --chat-template, mistral: Mistral); for a model that reasons"
        " add --reasoning-parser with its name",
    ),
    (
        "Ollama",
        "OLLAMA_CONTEXT_LENGTH=8192 OLLAMA_KEEP_ALIVE=-1 OLLAMA_NUM_PARALLEL=4 ollama serve",
        "http://HOST:11434/v1",
        "the default context may be no more than 4096, and longer prompts are cut silently;"
        " memory is for parallel times context; keep-alive keeps the model loaded between"
        " decisions; tool_choice is ignored, so structured mode may be found",
    ),
    (
        "llama.cpp",
        "llama-server -m MODEL.gguf --jinja -c 8192 --parallel 1 --reasoning-budget 0",
        "http://HOST:8080/v1",
        "--jinja turns tool calling on (newer builds do by themselves); the context is divided"
        " among --parallel slots; --reasoning-budget 0 keeps a reasoning model from using up the"
        " answer",
    ),
)
"""Servers of models: name, how to start it, its address, and what the flags are for."""


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
    endpoint = Endpoint.of(url, model=model, answer_tokens=answer_tokens, extra=extra)
    say(f"waiting for a first answer, at most {warm_up_s:g} s")
    report = asyncio.run(_probed(endpoint, deadline_s=deadline_s, warm_up_s=warm_up_s))
    emit(report, llm_page(report, endpoint), json=json)
    if report.best is None:
        raise typer.Exit(_FAILED)


async def _probed(endpoint: Endpoint, *, deadline_s: float, warm_up_s: float) -> ProbeReport:
    """The endpoint's report, with the connection closed again."""
    from rudder.agents.llm.openai_chat import OpenAIChat  # its client takes a second
    from rudder.cli.endpoint_probe import probe

    chat = OpenAIChat(endpoint)
    try:
        return await probe(chat, deadline_s=deadline_s, warm_up_s=warm_up_s)
    finally:
        await chat.close()


def llm_page(report: ProbeReport, endpoint: Endpoint) -> Group:
    """What was found, a line for each mode, what to do, and the flags of servers."""
    key = "none" if endpoint.key_from is None else f"from {endpoint.key_from}"
    warm_up = "no answer" if report.warm_up_ms is None else f"{report.warm_up_ms:.0f} ms"
    rows = [
        (
            each.mode,
            f"{each.usable} of {each.asked}",
            "\n".join(f"{value:.0f}" for value in each.latencies_ms) or figures.ABSENT,
            f"{each.input_tokens or figures.ABSENT}/{each.output_tokens or figures.ABSENT}",
            each.tokens_source,
            each.error or "none",
        )
        for each in report.modes
    ]
    names = ("mode", "usable", "latency ms", "tokens in/out", "counted by", "error")
    best = report.best or "none: the embedded agents would decide everything"
    said = dict.fromkeys(f"the server says: {each.words}" for each in report.modes if each.words)
    remedies = dict.fromkeys(
        f"what to do: {each.remedy.replace('that `rudder doctor --llm` prints', 'below')}"
        for each in report.modes
        if each.remedy
    )
    changes = ", ".join(report.request_changes)
    flags = [f"- {name}: {command}\n  --llm {url}; {why}" for name, command, url, why in _SERVERS]
    lines = [
        *said,
        *([f"requests are changed for this endpoint: {changes}"] if changes else []),
        *remedies,
        *report.warnings,
        f"a run would use: {best}",
        "flags that help:",
        *flags,
    ]
    return Group(
        Text(f"endpoint {endpoint.url}, model {endpoint.model}, key {key}"),
        Text(f"first answer (loads the model): {warm_up}"),
        figures.table(names, rows, text=("mode", "counted by", "error")),
        *map(Text, lines),
    )
