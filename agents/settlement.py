"""What a restarted controller does about the change that the one before it left on trial."""

from __future__ import annotations

from rudder.agents.act import Actuator, Sender
from rudder.memory.records import Episode, Outcome
from rudder.memory.sqlite_journal import SqliteJournal
from rudder.training.settings import Change


async def settle(journal: SqliteJournal, sender: Sender, *, actuator: Actuator) -> Episode | None:
    """Undo a change whose trial nobody has seen to its end, if it is still in force.

    Nothing is ever sent twice: the trainer is asked what is in force. Returns the episode that was
    closed, or None. Raises RunError, TimeoutError where the trainer does not answer.
    """
    episode, _ = journal.unfinished()
    if episode is None:
        return None
    now = (await sender.send(Change(), issued_at_step=None)).settings
    before = episode.observation.settings
    change = episode.verdict.change if episode.verdict else episode.plan.change
    if now != change.over(before):
        return _close(journal, episode, "the controller was restarted: other settings are in force")
    undo = Change.between(now, before)
    if not undo.is_empty:
        await actuator.carry_out(
            undo,
            observation=episode.observation,
            episode_id=episode.episode_id,
            purpose="revert_change",
        )
    return _close(journal, episode, "the controller was restarted during the trial: undone")


def _close(journal: SqliteJournal, episode: Episode, reason: str) -> Episode:
    closed = episode.model_copy(update={"outcome": Outcome(result="abandoned", reason=reason)})
    journal.save(closed)
    return closed
