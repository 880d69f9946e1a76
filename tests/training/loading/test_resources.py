"""A loader's thread, endpoint and trace end with it."""

from __future__ import annotations

import atexit
from typing import cast

import pytest

from rudder.training.control.endpoint import ControlEndpoint
from rudder.training.loading.loader_thread import LoaderThread
from rudder.training.loading.resources import LoaderResources
from tests.training.loading.test_loader_thread import ScriptedPipeline, batches, thread_of
from tests.waiting import WAIT_SECONDS


class Owner:
    """In place of a loader."""


class Closed:
    """Counts how often it was closed."""

    def __init__(self) -> None:
        self.num_closed = 0

    def close(self) -> None:
        self.num_closed += 1


def make() -> tuple[Owner, LoaderThread, Closed, LoaderResources]:
    owner, endpoint, thread = Owner(), Closed(), thread_of(ScriptedPipeline())
    resources = LoaderResources(owner, thread, cast("ControlEndpoint", endpoint), None)
    thread.add(batches(0, 100))
    return owner, thread, endpoint, resources


def test_a_loader_that_is_no_longer_used_ends_without_being_waited_for() -> None:
    owner, thread, endpoint, resources = make()
    with thread._changed:  # whoever collects it may hold any lock
        del owner
    thread._thread.join(WAIT_SECONDS)
    assert not thread._thread.is_alive()
    assert endpoint.num_closed == 1
    resources.close()


def test_a_loader_whose_thread_has_failed_is_closed_at_once() -> None:
    owner, thread, endpoint, _ = make()
    thread.stop()
    del owner
    assert endpoint.num_closed == 1


def test_closed_resources_are_not_closed_again_at_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, resources = make()
    unregistered: list[object] = []
    monkeypatch.setattr(atexit, "unregister", unregistered.append)
    resources.close()
    assert unregistered == [resources.close]
