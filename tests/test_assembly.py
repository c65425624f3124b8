from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from refusals import raises

from align_dist.assembly import assemble, warnings_of
from align_dist.config import RunConfig
from align_dist.data.sample_keys import sample_ids
from align_dist.errors import ConfigError
from align_dist.input_attribution import INPUT_ATTRIBUTIONS
from align_dist.training_plan import training_order


@pytest.mark.parametrize(("batchnorm", "warned"), [("frozen", True), ("synchronised", False), ("local", False)])
def test_statistics_that_nothing_has_learnt_are_warned_of(squares: RunConfig, batchnorm: str, warned: bool) -> None:
    classifier = squares.classifier.model_copy(update={"batchnorm": batchnorm})
    lines = warnings_of(assemble(squares.model_copy(update={"classifier": classifier})))
    assert any("classifier.batchnorm" in line for line in lines) == warned


@pytest.mark.parametrize("attribution", INPUT_ATTRIBUTIONS)
def test_an_attribution_that_no_loss_could_train_is_refused(squares: RunConfig, attribution: str) -> None:
    update = {"backbone": "mobilenet_v3_small", "attribution": attribution}
    classifier = squares.classifier.model_copy(update=update)
    with raises(ConfigError, "classifier.attribution: ", "mobilenet_v3_small"):
        assemble(squares.model_copy(update={"classifier": classifier}))


@pytest.mark.parametrize("update", [{}, {"cam_places": "even"}, {"attribution": "input_gradient"}])
def test_a_map_of_one_cell_is_refused(squares: RunConfig, update: dict[str, str]) -> None:
    classifier = squares.classifier.model_copy(update={"backbone": "resnet18", **update})
    with raises(ConfigError, "data.image_size: ", "resnet18"):
        assemble(squares.model_copy(update={"classifier": classifier}))


def test_a_method_is_told_how_many_training_pictures_domains_and_groups_have(
    squares: RunConfig, grouped: RunConfig
) -> None:
    for config in (squares, grouped):
        run = assemble(config)
        context, manifest, train = run.method.context, run.manifest, run.split.train.tolist()
        assert context.domain_counts == tuple(
            sum(manifest.domain_indices[sample] == number for sample in train) for number in range(2)
        )
        assert sum(context.group_counts) == (len(train) if config is grouped else 0)
    assert assemble(squares).method.context.domain_counts[1] == 0, "a domain that is no source"
    assert len(context.group_counts) == 4 and all(context.group_counts)


def test_a_batch_has_equal_parts_of_what_is_balanced(squares: RunConfig, grouped: RunConfig) -> None:
    def shares(balance: str, sizes: tuple[int, ...]) -> set[tuple[int, ...]]:
        """Images of each group in the batches of some passes, where only so many of each group train."""
        data = grouped.data.model_copy(update={"balance": balance, "batch_size": 8})
        manifest, split = (run := assemble(grouped)).manifest, run.split
        groups = np.asarray(manifest.group_indices)
        members = [split.train[groups[split.train] == group][:size] for group, size in enumerate(sizes)]
        rare = replace(split, train=np.concatenate(members))
        order = training_order(manifest, rare, grouped.model_copy(update={"data": data}))
        return {tuple(np.bincount(groups[sample_ids(order.batch(step))], minlength=4).tolist()) for step in range(9)}

    assert shares("groups", (8, 1, 3, 8)) == {(2, 2, 2, 2)}
    assert len(shares("none", (8, 1, 3, 8))) > 1
    by_group = squares.data.model_copy(update={"balance": "groups"})
    with raises(ConfigError, "data.balance: ", "benchmark.metadata"):
        assemble(squares.model_copy(update={"data": by_group}))
    few = grouped.data.model_copy(update={"balance": "groups", "batch_size": 3})
    with raises(ConfigError, "data.batch_size: ", "4 groups"):
        assemble(grouped.model_copy(update={"data": few}))


@pytest.mark.parametrize("distance", [2, 4])
def test_with_equal_groups_an_image_meets_images_of_every_group(grouped: RunConfig, distance: int) -> None:
    """At the distances of `exchange` and of shuffled masks, half and a quarter of a batch."""
    data = grouped.data.model_copy(update={"balance": "groups", "batch_size": 8})
    run = assemble(grouped)
    groups = np.asarray(run.manifest.group_indices)
    order = training_order(run.manifest, run.split, grouped.model_copy(update={"data": data}))
    batches = [groups[sample_ids(order.batch(step))] for step in range(200)]
    pairs = np.zeros((4, 4))
    for batch in batches:
        np.add.at(pairs, (batch, np.roll(batch, distance)), 1)
    # 1,600 pairs: an image meets its own group with 1/7, each other one with 2/7; 5 standard deviations are below 0.12.
    expected = np.full((4, 4), 2 / 7) - np.eye(4) / 7
    assert np.abs(pairs / pairs.sum(1, keepdims=True) - expected).max() < 0.12
