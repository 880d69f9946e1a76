"""`rudder ask`: a language model answers a question about a run, and cites what it looked up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rudder.cli.options import AsJson, LlmModel
from rudder.cli.show.progress import emit, say
from rudder.training.errors import ConfigError
from rudder.training.steering_options import DEFAULT_ANSWER_TOKENS, SteeringOptions

if TYPE_CHECKING:
    from rudder.agents.ask import LookedUp
    from rudder.tools.figures import CheckedText


def ask(
    run: Annotated[Path, typer.Argument(help="Folder of a run, finished or not.")],
    question: Annotated[str, typer.Argument(help="In your words.")],
    llm: Annotated[
        str | None, typer.Option(help="Address of an OpenAI-compatible endpoint, up to /v1.")
    ] = None,
    model: LlmModel = None,
    llm_extra: Annotated[
        str | None, typer.Option(help="JSON object with further fields for each request.")
    ] = None,
    llm_deadline: Annotated[
        float, typer.Option(help="Seconds for each turn of the model.", min=1)
    ] = 120.0,
    llm_answer_tokens: Annotated[
        int, typer.Option(help="Most tokens of one answer, reasoning included.")
    ] = DEFAULT_ANSWER_TOKENS,
    json: AsJson = False,
) -> None:
    """Have a language model answer a question about a run, which may be training now.

    The model reads the record with tools, which change nothing. Each figure of its answer must
    stand in a tool's answer that it cites; one that does not is marked with (?). An answer that
    cites nothing is told of, too: small models make answers up. Without --llm you get `rudder
    diagnose RUN`.

    Example: rudder ask runs/demo "why is rank 1 slow?" --llm http://localhost:8000/v1 --model NAME
    """
    if llm is None or model is None:
        _diagnose(run, llm=llm, model=model, json=json)
        return
    options = SteeringOptions(
        planner="llm",
        llm_url=llm,
        llm_model=model,
        llm_extra=llm_extra,
        llm_deadline_s=llm_deadline,
        llm_answer_tokens=llm_answer_tokens,
    )
    checked, looked = asyncio.run(_asked(run, question, options))
    sources = [{"number": each.number, "call": each.call} for each in looked]
    found = {
        "answer": checked.text,
        "unsupported": checked.unsupported,
        "cited": checked.cited,
        "sources": sources,
    }
    emit(found, _page(checked, looked, run), json=json)


def _diagnose(run: Path, *, llm: str | None, model: str | None, json: bool) -> None:
    from rudder.cli.commands.watch import diagnose

    if llm is not None or model is not None:
        raise ConfigError(
            "a question needs an endpoint and a model",
            remedy="give both, --llm URL and --model NAME; or none, for `rudder diagnose`",
        )
    say(f"no model is named (--llm URL --model NAME); by plain rules, `rudder diagnose {run}`:")
    diagnose(run, json=json)


async def _asked(
    run: Path, question: str, options: SteeringOptions
) -> tuple[CheckedText, tuple[LookedUp, ...]]:
    from rudder.agents.ask import ask as answered
    from rudder.agents.llm.errors import ChatError, InvalidAnswerError, TooSlowError
    from rudder.agents.team import asker_of, open_chat
    from rudder.cli.run_record import RecordTools, RunRecord
    from rudder.memory.run.run_folder import StoredRun

    tools = RecordTools(RunRecord(StoredRun(run)))
    asker = asker_of(open_chat(options), options=options)
    say(f"asking {options.llm_model}: at most {options.llm_deadline_s:g} s for each answer")
    try:
        return await answered(question, asker=asker, tools=tools, on_look=_tell)
    except ChatError as error:
        if isinstance(error, InvalidAnswerError | TooSlowError):
            error.remedy = (
                "this model may be too weak or too slow for questions: use another one, or raise"
                " --llm-answer-tokens and --llm-deadline"
            )
        error.remedy += f"; without a model: rudder diagnose {run}"
        raise
    finally:
        await asker.close()


def _tell(looked: LookedUp) -> None:
    say(f"[{looked.number}] {looked.call}")


def _page(checked: CheckedText, looked: tuple[LookedUp, ...], run: Path) -> str:
    lines = ["".join(c for c in checked.text if c.isprintable() or c == "\n")]
    if looked:
        lines += ["", "Looked up:", *(f"  [{each.number}] {each.call}" for each in looked)]
    doubts = []
    if checked.unsupported:
        doubts += ["(?) marks figures that are in none of the answers that they cite."]
    if not checked.cited:
        doubts += ["The answer cites nothing that was looked up: it may be made up."]
    if doubts:
        lines += [
            "",
            *doubts,
            f"If the model is too weak: rudder diagnose {run} tells by plain rules.",
        ]
    return "\n".join(lines)
