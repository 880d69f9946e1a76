"""Audit rows under the names of OpenTelemetry's semantic conventions for generative AI.

https://opentelemetry.io/docs/specs/semconv/gen-ai/; what they have no name for is `rudder.*`.
"""

from __future__ import annotations

from dataclasses import asdict

from rudder.memory.audit import AuditRow, Value

ATTRIBUTES = {
    "agent": "gen_ai.agent.name",
    "tool": "gen_ai.tool.name",
    "call_id": "gen_ai.tool.call.id",
    "arguments": "gen_ai.tool.call.arguments",
    "result": "gen_ai.tool.call.result",
    "model": "gen_ai.request.model",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "error_type": "error.type",
}


def attributes(row: AuditRow) -> dict[str, Value]:
    """What is not null, under its conventional name."""
    named: dict[str, Value] = {
        ATTRIBUTES.get(name, f"rudder.{name}"): value
        for name, value in asdict(row).items()
        if value is not None
    }
    return {"gen_ai.operation.name": "execute_tool", **named}
