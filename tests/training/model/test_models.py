"""The models give what dgl's own layers give, and train."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import dgl
import numpy as np
import pytest
import torch
from dgl import nn as dgl_nn
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rudder.training.loading.batch import InFlightBatch
from rudder.training.model.aggregation import TensorBlock, mean_of_neighbours
from rudder.training.model.layers import GatLayer, GcnLayer, GinLayer, Layer, SageLayer
from rudder.training.model.models import BlockModel, ModelOptions, build_model
from rudder.training.model.own import MODEL_NAMES
from rudder.training.model.task import NodeClassification
from rudder.training.sampling.neighbor import SampledLayer

CPU = torch.device("cpu")


def assert_close(actual: object, expected: object) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def random_block(
    *, num_src: int, num_dst: int, num_edges: int, seed: int = 0, idtype: torch.dtype = torch.int64
) -> dgl.DGLGraph:
    generator = torch.Generator().manual_seed(seed)
    src = torch.randint(0, max(num_src, 1), (num_edges,), generator=generator)
    dst = torch.randint(0, max(num_dst, 1), (num_edges,), generator=generator)
    return dgl.create_block((src, dst), num_src_nodes=num_src, num_dst_nodes=num_dst, idtype=idtype)


def in_csc(block: dgl.DGLGraph) -> dgl.DGLGraph:
    """The same edges as a loader gives them: sorted by destination."""
    offsets, indices, _ = block.adj_tensors("csc")
    return dgl.create_block(
        ("csc", (offsets, indices, torch.arange(len(indices), dtype=offsets.dtype))),
        num_src_nodes=block.num_src_nodes(),
        num_dst_nodes=block.num_dst_nodes(),
    )


def two_blocks() -> Sequence[dgl.DGLGraph]:
    return [
        random_block(num_src=120, num_dst=40, num_edges=200, seed=1),
        random_block(num_src=40, num_dst=9, num_edges=30, seed=2),
    ]


def small_model(kind: str, *, dropout: float = 0.0, num_layers: int = 2) -> BlockModel:
    torch.manual_seed(0)
    options = ModelOptions(hidden=8, num_layers=num_layers, heads=2, dropout=dropout)
    model = build_model(kind, in_dim=12, num_classes=5, options=options)
    assert isinstance(model, BlockModel)
    return model


def dgl_sage(layer: SageLayer) -> torch.nn.Module:
    conv = dgl_nn.SAGEConv(layer.in_dim, layer.out_dim, "mean")
    with torch.no_grad():
        conv.fc_self.weight.copy_(layer.fc_self.weight)
        conv.fc_self.bias.copy_(layer.fc_self.bias)
        conv.fc_neigh.weight.copy_(layer.fc_neigh.weight)
    return conv  # type: ignore[no-any-return]


def dgl_gat(layer: GatLayer) -> torch.nn.Module:
    conv = dgl_nn.GATConv(
        layer.in_dim, layer.head_dim, layer.heads, residual=True, allow_zero_in_degree=True
    )
    with torch.no_grad():
        conv.fc.weight.copy_(layer.fc.weight)
        conv.res_fc.weight.copy_(layer.fc_res.weight)
        conv.res_fc.bias.copy_(layer.fc_res.bias)
        conv.attn_l.copy_(layer.attn_l)
        conv.attn_r.copy_(layer.attn_r)
    return conv  # type: ignore[no-any-return]


def gradients(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("in_dim", "out_dim"), [(24, 4), (4, 24)])
@pytest.mark.parametrize("num_src", [40, 400])
@pytest.mark.parametrize("needs_grad", [False, True])
@pytest.mark.parametrize("idtype", [torch.int32, torch.int64])
def test_sage_layer_equals_dgls_with_its_gradients(
    in_dim: int, out_dim: int, num_src: int, needs_grad: bool, idtype: torch.dtype
) -> None:
    layer = SageLayer(in_dim, out_dim)
    reference = dgl_sage(layer)
    block = random_block(num_src=num_src, num_dst=30, num_edges=90, idtype=idtype)
    x = torch.randn(num_src, in_dim, requires_grad=needs_grad)
    y = x.detach().clone().requires_grad_(needs_grad)
    out, expected = layer(block, x), reference(block, y)
    assert_close(out, expected)
    weight = torch.randn_like(out)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    assert_close(gradients(layer), gradients(reference))
    assert_close(x.grad, y.grad)


@pytest.mark.parametrize("num_src", [40, 400])
@pytest.mark.parametrize("needs_grad", [False, True])
def test_gat_layer_equals_dgls_with_its_gradients(num_src: int, needs_grad: bool) -> None:
    layer = GatLayer(12, 6, 3, last=False)
    reference = dgl_gat(layer)
    block = random_block(num_src=num_src, num_dst=30, num_edges=90)
    x = torch.randn(num_src, 12, requires_grad=needs_grad)
    y = x.detach().clone().requires_grad_(needs_grad)
    out, expected = layer(block, x), reference(block, y).flatten(1)
    assert_close(out, expected)
    weight = torch.randn_like(out)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    theirs = gradients(reference)
    ours = gradients(layer)
    pairs = {
        "fc.weight": "fc.weight",
        "fc_res.weight": "res_fc.weight",
        "fc_res.bias": "res_fc.bias",
        "attn_l": "attn_l",
        "attn_r": "attn_r",
    }
    assert set(ours) == set(pairs)
    for name, their_name in pairs.items():
        assert_close(ours[name], theirs[their_name].reshape(ours[name].shape))
    assert_close(x.grad, y.grad)


@pytest.mark.parametrize("kind", MODEL_NAMES)
@pytest.mark.parametrize("needs_grad", [False, True])
def test_the_layout_of_a_block_does_not_matter(kind: str, needs_grad: bool) -> None:
    torch.manual_seed(0)
    options = ModelOptions(hidden=64, num_layers=1, heads=4, dropout=0)
    model = build_model(kind, in_dim=64, num_classes=16, options=options)
    block = random_block(num_src=12_000, num_dst=5_000, num_edges=20_000)
    x = torch.randn(12_000, 64, requires_grad=needs_grad)
    results = []
    for same in (block, in_csc(block)):
        model.zero_grad()
        out = model([same], x)
        out.sum().backward()
        results.append({"out": out, **gradients(model)})
    assert_close(*results)


def test_gats_last_layer_averages_the_heads() -> None:
    layer = GatLayer(12, 6, 3, last=True)
    block = random_block(num_src=50, num_dst=20, num_edges=90)
    x = torch.randn(50, 12)
    assert_close(layer(block, x), dgl_gat(layer)(block, x).mean(1))


@settings(max_examples=60, deadline=None)
@given(
    num_src=st.integers(0, 30),
    num_dst=st.integers(0, 30),
    num_edges=st.integers(0, 60),
    seed=st.integers(0, 1000),
)
def test_mean_of_neighbours_equals_a_plain_loop(
    num_src: int, num_dst: int, num_edges: int, seed: int
) -> None:
    if num_src == 0 or num_dst == 0:
        num_edges = 0
    block = random_block(num_src=num_src, num_dst=num_dst, num_edges=num_edges, seed=seed)
    h = torch.randn(num_src, 3)
    expected = torch.zeros(num_dst, 3)
    src, dst = block.edges()
    for node in range(num_dst):
        if (dst == node).any():
            expected[node] = h[src[dst == node]].mean(0)
    assert_close(mean_of_neighbours(block, h), expected)


@pytest.mark.parametrize("kind", MODEL_NAMES)
def test_messages_and_update_give_what_forward_gives(kind: str) -> None:
    model = small_model(kind, num_layers=3)
    block = random_block(num_src=50, num_dst=20, num_edges=90)
    for layer in model.layers:
        assert isinstance(layer, Layer)
        h = torch.randn(50, layer.in_dim)
        messages = layer.messages(h)
        assert_close(layer.update(block, messages, h[:20]), layer(block, h))


@pytest.mark.parametrize("kind", MODEL_NAMES)
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_model_makes_one_row_of_classes_per_seed(kind: str, num_layers: int) -> None:
    sizes = [120, 60, 30, 9][-num_layers - 1 :]
    blocks = [
        random_block(num_src=src, num_dst=dst, num_edges=2 * src)
        for src, dst in itertools.pairwise(sizes)
    ]
    out = small_model(kind, num_layers=num_layers)(blocks, torch.randn(sizes[0], 12))
    assert out.shape == (9, 5)


@pytest.mark.parametrize("kind", MODEL_NAMES)
def test_float16_features_are_computed_in_float32(kind: str) -> None:
    model = small_model(kind)
    x = torch.randn(120, 12).half()
    out = model(two_blocks(), x)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, model(two_blocks(), x.float()), rtol=0, atol=0)


@pytest.mark.parametrize("kind", MODEL_NAMES)
@pytest.mark.parametrize("multilabel", [False, True])
def test_training_lowers_the_loss(kind: str, multilabel: bool) -> None:
    model = small_model(kind)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    loss_of = NodeClassification(5, multilabel=multilabel).loss_of
    x = torch.randn(120, 12)
    targets = torch.randint(0, 2, (9, 5)) if multilabel else torch.randint(0, 5, (9,))
    losses = []
    for _ in range(60):
        loss = loss_of(model(two_blocks(), x), targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_dropout_acts_in_training_only() -> None:
    model = small_model("sage", dropout=0.5)
    x = torch.randn(120, 12)
    blocks = two_blocks()
    assert not torch.equal(model(blocks, x), model(blocks, x))
    model.eval()
    assert torch.equal(model(blocks, x), model(blocks, x))


def test_equal_seeds_make_equal_models() -> None:
    for kind in MODEL_NAMES:
        one, two = small_model(kind).state_dict(), small_model(kind).state_dict()
        torch.testing.assert_close(one, two, rtol=0, atol=0)


def dgl_gcn(layer: GcnLayer) -> torch.nn.Module:
    conv = dgl_nn.SAGEConv(layer.in_dim, layer.out_dim, "gcn")
    with torch.no_grad():
        conv.fc_neigh.weight.copy_(layer.fc.weight)
        conv.bias.copy_(layer.fc.bias)
    return conv  # type: ignore[no-any-return]


def dgl_gin(layer: GinLayer) -> torch.nn.Module:
    update = torch.nn.Sequential(layer.fc_in, torch.nn.ReLU(), layer.fc_out)
    return dgl_nn.GINConv(update, "mean", learn_eps=True)  # type: ignore[no-any-return]


LAYERS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "sage down": (lambda: SageLayer(24, 4), dgl_sage),
    "sage up": (lambda: SageLayer(4, 24), dgl_sage),
    "gcn down": (lambda: GcnLayer(24, 4), dgl_gcn),
    "gcn up": (lambda: GcnLayer(4, 24), dgl_gcn),
    "gin": (lambda: GinLayer(12, 6), dgl_gin),
    "gat": (lambda: GatLayer(12, 6, 3, last=False), dgl_gat),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("num_src", [40, 400])
@pytest.mark.parametrize("as_tensors", [False, True])
def test_layers_equal_dgls_at_double_precision_and_repeat_bit_for_bit(
    name: str, num_src: int, as_tensors: bool
) -> None:
    make, dgls = LAYERS[name]
    layer = make().double()
    reference = dgls(layer).double()
    their_block = random_block(num_src=num_src, num_dst=30, num_edges=90)
    block = TensorBlock.of(their_block, CPU) if as_tensors else their_block
    x = torch.randn(num_src, layer.in_dim, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    outs = [layer(block, x), layer(block, x)]
    expected = reference(their_block, y).flatten(1)
    torch.testing.assert_close(outs[0], expected, rtol=1e-10, atol=1e-12)
    weight = torch.randn_like(expected)
    both = [torch.autograd.grad((out * weight).sum(), [x, *layer.parameters()]) for out in outs]
    (expected * weight).sum().backward()
    torch.testing.assert_close(both[0][0], y.grad, rtol=1e-10, atol=1e-12)
    for one, other in zip(both[0], both[1], strict=True):
        assert torch.equal(one, other)
    if not as_tensors:
        return
    plain = dict(zip(dict(layer.named_parameters()), both[0][1:], strict=True))
    grads = torch.autograd.grad((layer(their_block, x) * weight).sum(), list(layer.parameters()))
    torch.testing.assert_close(plain, dict(zip(plain, grads, strict=True)), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", MODEL_NAMES)
def test_a_model_on_tensors_gives_what_it_gives_on_dgls_blocks(kind: str) -> None:
    model = small_model(kind)
    x = torch.randn(120, 12)
    tensors = [TensorBlock.of(block, CPU) for block in two_blocks()]
    assert_close(model(tensors, x), model(two_blocks(), x))


def test_a_node_without_neighbours_is_finite_on_tensors() -> None:
    block = TensorBlock.of(random_block(num_src=9, num_dst=5, num_edges=0), CPU)
    for make, _ in LAYERS.values():
        layer = make()
        out = layer(block, torch.randn(9, layer.in_dim, requires_grad=True))
        out.sum().backward()
        assert all(torch.isfinite(grad).all() for grad in gradients(layer).values())


def test_dgls_layers_work_on_the_blocks_of_the_loader() -> None:
    layer = SampledLayer(
        nodes=np.arange(20_000),
        num_dst=3_000,
        indptr=np.arange(0, 30_001, 10),
        indices=np.random.default_rng(0).integers(20_000, size=30_000),
        edge_ids=None,
    )
    (block,) = InFlightBatch(number=0, seeds=layer.nodes[:3_000], layers=[layer]).make_blocks()
    x = torch.randn(20_000, 64, requires_grad=True)
    conv = dgl_nn.GATConv(64, 16, 4)
    conv(block, x).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
