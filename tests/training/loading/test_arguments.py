"""Whatever a script passes is taken as DGL takes it, or refused by name with what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from rudder.training.errors import ConfigError
from rudder.training.loading.arguments import (
    TensorNames,
    device_of,
    phases_of,
    seed_ids,
    tensor_names,
    whole_number,
)


@pytest.mark.parametrize(
    "nodes",
    [
        torch.tensor([3, 1]),
        torch.tensor([3, 1], dtype=torch.int32),
        np.array([3, 1], dtype=np.uint8),
        np.arange(8)[3:0:-2],
        [3, 1],
        (3, np.int64(1)),
        range(3, 0, -2),
    ],
)
def test_ids_are_taken_in_any_form_that_dgl_takes(nodes: Any) -> None:
    ids = seed_ids("nodes", nodes, below=4)
    assert ids.tolist() == [3, 1]
    assert ids.dtype == np.int64


@pytest.mark.parametrize("nodes", [torch.empty(0, dtype=torch.int64), torch.empty(0), [], ()])
def test_a_trainer_may_have_no_seeds(nodes: Any) -> None:
    assert seed_ids("nodes", nodes, below=4).shape == (0,)


def test_ids_are_a_copy_that_the_script_may_not_change() -> None:
    nodes = torch.tensor([3, 1])
    ids = seed_ids("nodes", nodes, below=4)
    nodes[0] = 0
    assert ids.tolist() == [3, 1]


def names_of(*, mutable: Any = ()) -> TensorNames:
    return TensorNames.of(
        of_edges=True,
        inputs=["feat"],
        outputs=["class"],
        edge_inputs=["weight"],
        mutable=mutable,
    )


@pytest.mark.parametrize(
    ("refused", "parts"),
    [
        (lambda: whole_number("batch_size", 0, least=1), ["batch_size = 0", "at least 1"]),
        (lambda: whole_number("batch_size", True, least=1), ["batch_size = True"]),
        (lambda: whole_number("batch_size", 2.0, least=1), ["batch_size = 2.0", "whole number"]),
        (lambda: whole_number("batch_size", "512", least=1), ["batch_size = '512'"]),
        (lambda: whole_number("lookahead", 9, least=0, most=8), ["lookahead = 9", "0 to 8"]),
        (lambda: tensor_names("inputs", "feat"), ["inputs = 'feat'", "inputs=['feat']"]),
        (lambda: tensor_names("inputs", ["a", "b", "a"]), ["['a', 'b', 'a']", "name a once"]),
        (lambda: tensor_names("outputs", [1]), ["outputs = [1]", "different names"]),
        (lambda: tensor_names("outputs", None), ["outputs = None"]),
        (
            lambda: names_of(mutable=["turn"]),
            ["mutable = ['turn']", "['feat', 'weight', 'class']", "add turn to `inputs`"],
        ),
        (lambda: device_of("gpu"), ["device = 'gpu'", 'device="cpu"']),
        (lambda: device_of(None) and device_of("cuda:99"), ["device = 'cuda:99'"]),
        (lambda: seed_ids("nodes", {"_N": [1]}, below=4), ["['_N']", "pass the ids alone"]),
        (lambda: seed_ids("nodes", [[1]], below=4), ["nodes = ", "shape (1, 1)"]),
        (lambda: seed_ids("nodes", [[1], [2, 3]], below=4), ["nodes = ", "one-dimensional"]),
        (lambda: seed_ids("nodes", torch.tensor([True]), below=4), ["bool", "nonzero"]),
        (lambda: seed_ids("nodes", [0.5], below=4), ["float64"]),
        (lambda: seed_ids("nodes", None, below=4), ["nodes = ", "one-dimensional"]),
        (lambda: seed_ids("nodes", 7, below=4), ["shape ()"]),
        (lambda: seed_ids("nodes", [4], below=4), ["4 to 4", "0 to 3"]),
        (lambda: seed_ids("nodes", [-1, 2], below=4), ["-1 to 2"]),
        (lambda: phases_of([1, 2], num_nodes=3), ["order = ", "each of 3"]),
    ],
)
def test_what_cannot_be_is_refused_by_name(refused: Callable[[], Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        refused()
    for part in parts:
        assert part in str(raised.value)


def test_what_can_be_is_taken_whatever_its_type() -> None:
    assert whole_number("batch_size", np.int32(5), least=1) == 5
    assert whole_number("batch_size", torch.tensor(5), least=1) == 5
    assert tensor_names("inputs", ("a", "b")) == ("a", "b")
    assert names_of(mutable=["weight"]).mutable == ("weight",)
    assert list(names_of().each()) == [
        ("inputs", "feat"), ("edge_inputs", "weight"), ("pair_outputs", "class")
    ]  # fmt: skip
    assert device_of("cpu") == torch.device("cpu")
    assert phases_of(None, num_nodes=3) is None
    assert phases_of(torch.tensor([2, 0, 1]), num_nodes=3) is not None
