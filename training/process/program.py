"""What the trainers of a run execute: a module that the job names.

The worker imports the module `job.program` and calls two functions of it, first
`start_controllers`, then `run`. This module is the default: it trains. A package that wants to do
something else in the same processes, such as a benchmark, brings a module with the same two
functions. Importing it must not import torch or dgl, because controllers are started first.
"""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from rudder.training.control.controller_process import start_early
from rudder.training.events import Emit
from rudder.training.job import Job


class Program(Protocol):
    """The functions of a program's module."""

    def start_controllers(self, job: Job, *, rank: int) -> None:
        """Start the controllers of this trainer; they take as long to import as a trainer."""

    def run(self, job: Job, *, rank: int, emit: Emit) -> None:
        """Be trainer `rank`, from connecting to the report; `emit` sends events to the launcher."""


def program_of(job: Job) -> Program:
    """The program of a job; raises ImportError if its module cannot be imported."""
    return cast("Program", importlib.import_module(job.program))


def start_controllers(job: Job, *, rank: int) -> None:
    """Start the controller of the run, if it has one."""
    if job.steering is not None:
        start_early(job.socket_of(rank), rank=rank, options=job.steering, folder=job.run_dir)


def run(job: Job, *, rank: int, emit: Emit) -> None:
    """Train, evaluate, and report."""
    from rudder.training.trainer import run_trainer

    run_trainer(job, rank, emit)
