from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rudder.training.datasets.checks import check_graph
from rudder.training.datasets.graph import Graph
from rudder.training.datasets.synthetic import PRESETS, Preset, draw_graph, load_synthetic

TINY = PRESETS["tiny"]
SMALL = Preset(2_000, 12, 64, 4, 0.3, 0.1, 0.2, num_communities=8)


@pytest.fixture(scope="module")
def tiny() -> Graph:
    return check_graph(load_synthetic("tiny", seed=7))


@pytest.fixture(scope="module")
def small() -> Graph:
    """No label noise and one class a community: labels are the communities."""
    preset = replace(SMALL, num_classes=8, label_noise=0.0)
    return check_graph(draw_graph(preset, name="small", seed=3))


def test_equal_seeds_give_equal_graphs_and_others_do_not() -> None:
    one, same, other = (draw_graph(SMALL, name="small", seed=seed) for seed in (1, 1, 2))
    for name in ("src", "dst", "features", "labels", "train_mask", "val_mask", "test_mask"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
        assert not np.array_equal(getattr(one, name), getattr(other, name))


def test_the_presets_of_the_documentation_exist() -> None:
    assert {name: (preset.num_nodes, preset.mean_degree) for name, preset in PRESETS.items()} == {
        "tiny": (20_000, 10),
        "community-200k": (200_000, 20),
        "products-s": (245_000, 50),
        "reddit-s": (46_000, 200),
        "papers-s": (1_100_000, 29),
        "drift": (245_000, 50),
    }


def test_tiny_has_the_size_and_degree_that_it_promises(tiny: Graph) -> None:
    assert tiny.num_nodes == 20_000
    assert tiny.features.shape == (20_000, 32)
    assert tiny.features.dtype == np.float32
    assert tiny.num_edges / tiny.num_nodes == pytest.approx(10, rel=0.01)


def test_splits_have_their_shares(tiny: Graph) -> None:
    assert tiny.train_mask.sum() == 6_000
    assert tiny.val_mask.sum() == 2_000
    assert tiny.test_mask.sum() == 4_000


def test_edges_go_both_ways_once_and_never_to_oneself(tiny: Graph) -> None:
    forward = tiny.src * tiny.num_nodes + tiny.dst
    backward = tiny.dst * tiny.num_nodes + tiny.src
    assert len(np.unique(forward)) == tiny.num_edges
    np.testing.assert_array_equal(np.sort(forward), np.sort(backward))
    assert (tiny.src != tiny.dst).all()


def test_every_node_has_an_edge_and_few_have_very_many(tiny: Graph) -> None:
    degrees = np.bincount(tiny.dst, minlength=tiny.num_nodes)
    assert degrees.min() >= 1
    assert np.median(degrees) < degrees.mean()
    assert degrees.max() > 10 * degrees.mean()


def test_four_of_five_edges_stay_within_a_community(small: Graph) -> None:
    inside = small.labels[small.src] == small.labels[small.dst]
    assert inside.mean() == pytest.approx(0.8, abs=0.01)


def test_ids_say_nothing_of_the_community(small: Graph) -> None:
    neighbours_in_order = small.labels[:-1] == small.labels[1:]
    assert neighbours_in_order.mean() == pytest.approx(1 / 8, abs=0.03)


def test_a_tenth_of_the_labels_is_drawn_at_random() -> None:
    preset = replace(SMALL, num_nodes=20_000)
    noisy = draw_graph(preset, name="noisy", seed=5)
    clean = draw_graph(replace(preset, label_noise=0.0), name="clean", seed=5)
    changed = (noisy.labels != clean.labels).mean()
    assert changed == pytest.approx(0.1 * (1 - 1 / preset.num_classes), abs=0.01)


def test_features_tell_the_class_in_part_and_neighbours_tell_more(small: Graph) -> None:
    def accuracy(features: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> float:
        train = small.train_mask
        means = [features[train & (small.labels == c)].mean(axis=0) for c in range(8)]
        distance = np.stack([((features - mean) ** 2).sum(axis=1) for mean in means])
        guess = distance.argmin(axis=0)
        return float((guess == small.labels)[small.test_mask].mean())

    own = small.features.astype(np.float64)
    sums = np.zeros_like(own)
    np.add.at(sums, small.dst, own[small.src])
    degrees = np.bincount(small.dst, minlength=small.num_nodes)[:, None]
    alone, with_neighbours = accuracy(own), accuracy(sums / degrees)
    assert 0.2 < alone < 0.7
    assert with_neighbours > alone + 0.15


def test_training_visits_the_communities_in_blocks_where_a_preset_says_so() -> None:
    preset = replace(SMALL, num_classes=8, label_noise=0.0, num_phases=4)
    graph = check_graph(draw_graph(preset, name="drifting", seed=1))
    assert graph.seed_phase is not None
    for community in range(8):
        assert len(set(graph.seed_phase[graph.labels == community])) == 1
    assert np.bincount(graph.seed_phase).tolist() == [500] * 4
    assert PRESETS["drift"] == replace(PRESETS["products-s"], num_phases=4)
    assert draw_graph(SMALL, name="still", seed=1).seed_phase is None


def test_a_community_too_small_for_its_edges_ends_with_fewer_of_them() -> None:
    crowded = Preset(40, 30, 4, 2, 0.3, 0.1, 0.2, num_communities=10)
    graph = check_graph(draw_graph(crowded, name="crowded", seed=0))
    assert graph.num_edges < 40 * 30
