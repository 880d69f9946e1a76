"""Optimisers, schedules, losses that go wrong, and the early stop."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from rudder.training.config import OnNan, run_config
from rudder.training.errors import ConfigError, DataError, RunError
from rudder.training.metrics import Score
from rudder.training.model.optimisation import (
    EarlyStop,
    LossWatch,
    end_epoch,
    make_optimiser,
    make_schedule,
)


def model_of() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Linear(3, 1)


def test_the_default_is_adam_with_the_learning_rate() -> None:
    optimiser = make_optimiser(run_config(lr=0.5), model_of())
    assert type(optimiser) is torch.optim.Adam
    assert optimiser.defaults == torch.optim.Adam(model_of().parameters(), lr=0.5).defaults


def test_an_optimiser_gets_its_options() -> None:
    config = run_config(optimizer="sgd:momentum=0.9,nesterov=True", weight_decay=0.1)
    optimiser = make_optimiser(config, model_of())
    assert type(optimiser) is torch.optim.SGD
    found = {name: optimiser.defaults[name] for name in ("momentum", "nesterov", "weight_decay")}
    assert found == {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("step", [1.0, 1.0, 0.1, 0.1, 0.01]),
        ("StepLR:step_size=1,gamma=0.5", [1.0, 0.5, 0.25, 0.125, 0.0625]),
        ("exponential", [0.95**epoch for epoch in range(5)]),
        ("cosine", [(1 + math.cos(math.pi * epoch / 6)) / 2 for epoch in range(5)]),
        ("plateau:patience=1", [1.0, 1.0, 1.0, 0.1, 0.1]),
    ],
)
def test_a_schedule_sets_the_rate_of_each_epoch(name: str, rates: list[float]) -> None:
    optimiser = make_optimiser(run_config(lr=1.0, optimizer="SGD"), model_of())
    schedule = make_schedule(run_config(scheduler=name, epochs=6), optimiser)
    found = []
    for _ in rates:
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        end_epoch(schedule, merit=0.5)
    assert found == pytest.approx(rates)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "Adamm"}, "optimizer = 'Adamm' is not allowed; allowed: .*AdamW"),
        ({"optimizer": "Optimizer"}, "optimizer = 'Optimizer' is not allowed"),
        ({"optimizer": "SGD:speed=3"}, "cannot be made: .*speed"),
        ({"optimizer": "SGD:momentum=-1"}, "cannot be made: .*momentum"),
        ({"scheduler": "bend"}, "allowed: cosine, step, .*StepLR"),
        ({"scheduler": "StepLR"}, "cannot be made: .*step_size"),
    ],
)
def test_what_torch_does_not_have_is_refused(options: dict[str, Any], message: str) -> None:
    config = run_config(**options)
    with pytest.raises(ConfigError, match=message):
        make_schedule(config, make_optimiser(config, model_of()))


@pytest.mark.parametrize(
    "text", ["", "SGD:momentum", "SGD:0.9", "SGD:m=1)+f(n=2", "S GD", "A:**{}"]
)
def test_options_that_are_not_written_as_options_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"SGD:momentum=0\.9"):
        run_config(optimizer=text)


def one_step(watch: LossWatch, values: list[float]) -> tuple[list[str], bool]:
    """What two ranks, with a loss each, are told; and whether the step is made on both."""
    models = [model_of() for _ in values]
    told = []
    for model, value in zip(models, values, strict=True):
        loss, problem = watch.look(model(torch.ones(1, 3)).sum() * 0 + value)
        told += [problem.loss] if problem else []
        loss.backward()  # type: ignore[no-untyped-call]
    for pair in zip(*[model.parameters() for model in models], strict=True):
        mean = torch.stack([each.grad for each in pair if each.grad is not None]).mean(0)
        for each in pair:
            each.grad = mean.clone()
    taken = {watch.takes(model, loss=torch.tensor(0.0), where="here") for model in models}
    assert len(taken) == 1
    return told, taken.pop()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_ranks_bad_loss_is_told_once_and_skipped_by_all(bad: float) -> None:
    watch = LossWatch("skip")
    assert one_step(watch, [0.5, 0.7]) == ([], True)
    assert one_step(watch, [0.5, bad]) == ([str(bad)], False)
    assert one_step(watch, [bad, 0.5]) == ([], False)
    assert one_step(watch, [0.5, 0.7]) == ([], True)


def test_a_bad_loss_may_be_ignored() -> None:
    assert one_step(LossWatch("continue"), [0.5, math.nan]) == (["nan"], True)


def test_a_loss_that_explodes_is_told_and_trained_on() -> None:
    watch = LossWatch("stop")
    assert one_step(watch, [2.0, 1.0]) == ([], True)
    assert one_step(watch, [2001.0, 1.0]) == (["2e+03, far above the first one"], True)


@pytest.mark.parametrize(
    ("loss", "message"),
    [(math.nan, "the loss is nan at step 3"), (0.5, "gradients of another rank .*at step 3")],
)
def test_a_run_that_stops_says_whose_loss_it_was(loss: float, message: str) -> None:
    model = model_of()
    model(torch.full((1, 3), math.inf)).sum().backward()
    with pytest.raises(RunError, match=message):
        LossWatch("stop").takes(model, loss=torch.tensor(loss), where="at step 3")


def test_gradients_that_overflow_are_not_used() -> None:
    model = model_of()
    (model(torch.full((1, 3), 1e38)).sum() * 1e5).backward()
    watch: OnNan = "skip"
    assert not LossWatch(watch).takes(model, loss=torch.tensor(1.0), where="")


@pytest.mark.parametrize(
    ("higher_is_better", "values", "ends"),
    [
        (True, [0.5, 0.6, 0.6, 0.5], [False, False, False, True]),
        (False, [0.5, 0.6, 0.4, 0.5, 0.41], [False, False, False, False, True]),
        (True, [math.nan, math.nan], [False, True]),
    ],
)
def test_a_run_ends_when_the_score_was_not_better_for_so_long(
    higher_is_better: bool, values: list[float], ends: list[bool]
) -> None:
    stop = EarlyStop(2)
    scores = [
        Score(name="s", test=None, val=value, higher_is_better=higher_is_better) for value in values
    ]
    assert [stop.note(score) for score in scores] == ends


def test_an_early_stop_without_validation_nodes_is_an_error() -> None:
    with pytest.raises(DataError, match="no node is in the validation set"):
        EarlyStop(2).note(Score(name="s", test=0.5, val=None))


def test_without_patience_no_run_ends_early() -> None:
    stop = EarlyStop(None)
    assert not any(stop.note(Score(name="s", test=None, val=0.5)) for _ in range(99))
