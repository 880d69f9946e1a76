"""A host that runs short of memory gets some back from its buffers."""

from __future__ import annotations

from dataclasses import dataclass, field

from rudder.tools.memory_watch import CALM_S, CUT_PAUSE_S, LOOK_S, MemoryWatch
from rudder.training.host_memory import HostMemory

MIB = 2**20
SHORT = HostMemory(1000 * MIB, 8000 * MIB, 0.3)
CALM = HostMemory(4000 * MIB, 8000 * MIB, 0.0)


@dataclass
class Host:
    """A clock and a machine whose memory the test sets."""

    memory: HostMemory = CALM
    seconds: float = 0.0
    watch: MemoryWatch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = MemoryWatch(look=lambda: self.memory, clock=lambda: self.seconds)

    def after(self, seconds: float, *, held: int) -> int | None:
        self.seconds += seconds
        self.watch.refresh(held_bytes=held)
        return self.watch.budget_bytes


def test_a_shortage_halves_what_is_held_again_and_again() -> None:
    host = Host(SHORT)
    assert host.after(0, held=800 * MIB) == 400 * MIB
    assert "short of memory: processes stood still for memory in 30%" in str(host.watch.reason)
    assert host.after(LOOK_S, held=400 * MIB) == 400 * MIB
    assert host.after(CUT_PAUSE_S, held=400 * MIB) == 200 * MIB


def test_buffers_that_hold_next_to_nothing_are_left_alone() -> None:
    assert Host(SHORT).after(0, held=7 * MIB) is None


def test_after_a_long_calm_with_much_left_the_cut_is_undone() -> None:
    host = Host(SHORT)
    host.after(0, held=800 * MIB)
    host.memory = CALM
    assert host.after(LOOK_S, held=400 * MIB) == 400 * MIB
    assert host.after(CALM_S - 1, held=400 * MIB) == 400 * MIB
    host.memory = HostMemory(700 * MIB, 8000 * MIB, 0.0)
    assert host.after(2 * LOOK_S, held=400 * MIB) == 400 * MIB, "too little is left"
    host.memory = CALM
    assert host.after(LOOK_S, held=400 * MIB) is None
    assert host.watch.reason is None


def test_a_kernel_that_tells_nothing_changes_nothing() -> None:
    def fail() -> HostMemory:
        raise OSError

    watch = MemoryWatch(look=fail)
    watch.refresh(held_bytes=800 * MIB)
    assert watch.budget_bytes is None
