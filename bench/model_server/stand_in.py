"""A stand-in for a model server: answers at random, takes the best what-if line, or fails.

    python -m rudder.bench.model_server.stand_in --port 8399               # answers at random
    python -m rudder.bench.model_server.stand_in --port 8399 --best        # takes the best line
    python -m rudder.bench.model_server.stand_in --port 8399 --fault hang  # or any fault, or mixed
    python -m rudder.bench.model_server.stand_in --port 8399 --persona kimi    # or another provider

For trying out an installation, and for measuring what a bad model and one that reads do.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import sys
import threading
from typing import Any, Final, Literal

from rudder.agents.llm.messages import SCHEMA_IN_WORDS, ToolForm
from rudder.bench.model_server.best_line import BestLineChat
from rudder.bench.model_server.personas import PERSONAS
from rudder.bench.model_server.random_model import RandomChat
from rudder.bench.model_server.scripted_server import (
    FAULTS,
    CallTool,
    ChatRequest,
    Fail,
    Fault,
    Say,
    Script,
    ScriptedServer,
    Slow,
    Step,
)

MIXED: Final = "mixed"
"""All faults in turn."""


def at_random(seed: int, *, wildness: float = 0.0, delay_s: float = 0.0) -> Script:
    """Answers in the mode that is asked for; the same for the same seed and order of requests.

    wildness: chance of each value to break its schema; delay_s: seconds before each answer.
    """
    return _answering(RandomChat(seed, wildness=wildness), delay_s=delay_s)


def at_best(*, delay_s: float = 0.0) -> Script:
    """Takes the best what-if line of each prompt; delay_s: seconds before each answer."""
    return _answering(BestLineChat(), delay_s=delay_s)


def _answering(model: RandomChat | BestLineChat, *, delay_s: float) -> Script:
    def script(request: ChatRequest) -> Step:
        step = _answer(model, request.body)
        return Slow(step, delay_s) if delay_s > 0 else step

    return script


def like(persona: str, answers: Script) -> Script:
    """Refuses what this provider refuses, and writes answers as its models do."""
    return lambda request: PERSONAS[persona].step(request, answers)


def failing(fault: Fault | Literal["mixed"]) -> Script:
    """Every request meets this fault; `mixed`: all of them in turn."""
    faults = itertools.cycle(FAULTS if fault == MIXED else (fault,))
    return lambda request: Fail(next(faults))


def _answer(model: RandomChat | BestLineChat, body: dict[str, Any]) -> Say | CallTool:
    prompt = str(body["messages"][-1]["content"])
    if "tools" in body:
        forms = (_form(tool["function"]) for tool in body["tools"])
        reply = model.reply(tuple(forms), prompt)
        calls = [(call.name, call.arguments) for call in reply.calls]
        return CallTool(calls) if calls else Say(reply.text)
    if "response_format" in body:
        return Say(model.arguments(body["response_format"]["json_schema"]["schema"], prompt))
    words = prompt.partition(SCHEMA_IN_WORDS)[2].strip()
    if not words:
        return Say("There is no schema in this question.")
    schema = json.JSONDecoder().raw_decode(words)[0]
    return Say(model.arguments(schema, prompt) if "properties" in schema else "ready")


def _form(function: dict[str, Any]) -> ToolForm:
    return ToolForm.model_validate({name: function[name] for name in ToolForm.model_fields})


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    parser.add_argument("--seed", type=int, default=0, help="of the random answers")
    parser.add_argument(
        "--wildness", type=float, default=0.0, help="share of broken values, 0 to 1"
    )
    parser.add_argument("--best", action="store_true", help="take the best what-if line instead")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--fault", choices=[*FAULTS, MIXED], help="fail this way instead")
    parser.add_argument(
        "--persona", choices=PERSONAS, help="refuse and write as this provider does"
    )
    told = parser.parse_args()
    answers = at_random(told.seed, wildness=told.wildness, delay_s=told.delay)
    if told.best:
        answers = at_best(delay_s=told.delay)
    if told.persona:
        answers = like(told.persona, answers)
    try:
        server = ScriptedServer(failing(told.fault) if told.fault else answers, port=told.port)
    except OSError as error:
        parser.error(f"port {told.port} cannot be used: {error.strerror}")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in the background
    with server:
        _say(f"--llm {server.url} --llm-model stand-in")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            _say(f"{len(server.requests)} requests")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
