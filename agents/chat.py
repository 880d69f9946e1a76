"""Who answers questions: a model over HTTP, or the record of a past run."""

from __future__ import annotations

from typing import Protocol

from rudder.agents.llm.messages import Mode, Question, Reply


class Chat(Protocol):
    """Something that answers questions."""

    @property
    def model(self) -> str:
        """The model's name, for the record."""

    @property
    def mode(self) -> Mode | None:
        """The one mode that it works in; None: to be found out."""

    async def complete(self, question: Question, *, mode: Mode) -> Reply:
        """One answer, as it came; raises ChatError."""

    async def close(self) -> None:
        """Let go of connections."""
