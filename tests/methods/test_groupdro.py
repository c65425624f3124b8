from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from methods.making import make_batch, make_method
from refusals import raises
from shares import look, take_step, with_share
from weights import trained_with_and_without_a_pause

from align_dist.assembly import assemble
from align_dist.config import RunConfig
from align_dist.errors import ConfigError
from align_dist.options.general import GroupDROOptions
from align_dist.run import train_run
from align_dist.runs.checkpoint import load_checkpoint
from align_dist.runs.folder import RunFolder

GROUPS = torch.tensor([0, 2, 2, 3, 0, 0])


@pytest.mark.parametrize("over", ["domains", "groups"])
def test_weights_follow_the_means_of_the_whole_batch(over: str) -> None:
    """Two domains; four groups, of which one has no training picture and another none in the batch."""
    counts = {"domains": (30, 30), "groups": (9, 0, 9, 9, 9)}[over]
    method = make_method("groupdro", eta=0.5, over=over, groups=(9, 0, 9, 9, 9))
    weights = torch.tensor(counts).sign() / sum(count > 0 for count in counts)
    for step in range(2):
        batch = replace(make_batch(step), groups=GROUPS)
        network = copy.deepcopy(method.classifier.module)
        each = F.cross_entropy(network(batch.images), batch.labels, reduction="none").detach()
        members = batch.domains if over == "domains" else GROUPS
        present = [members == number for number in range(len(counts))]
        means = torch.stack([each[own].mean() if own.any() else torch.zeros(()) for own in present])
        weights = weights * torch.exp(0.5 * means)
        weights = weights / weights.sum()
        logged = take_step(method, batch, step)
        torch.testing.assert_close(method.state["group_weights"], weights)
        torch.testing.assert_close(logged["classifier/robust"], weights @ means)
        torch.testing.assert_close(logged["classifier/largest_group_weight"], weights.max())


def test_by_hand() -> None:
    """Of losses 0 and ln 4 with eta 1/2, weights 1/3 and 2/3."""
    method = make_method("groupdro", eta=0.5)
    batch = replace(make_batch(), labels=torch.zeros(6, dtype=torch.int64))
    logits = torch.zeros(6, 3)
    logits[batch.domains == 0, 0] = 100.0
    logits[batch.domains == 1, 1:] = torch.tensor(1.5).log()  # p = 1 / (1 + 1.5 + 1.5)
    losses = method.classifier_loss(lambda images: logits, with_share(batch, method), 0)
    torch.testing.assert_close(method.state["group_weights"], torch.tensor([1 / 3, 2 / 3]))
    torch.testing.assert_close(losses["robust"][1], 2 / 3 * torch.tensor(4.0).log())


def test_auto_takes_groups_where_the_benchmark_has_them() -> None:
    counts = {
        (over, groups): len(make_method("groupdro", over=over, groups=groups).state["group_weights"])
        for over in ("auto", "domains")
        for groups in ((), (5, 5, 5))
    }
    assert counts == {("auto", ()): 2, ("auto", (5, 5, 5)): 3, ("domains", ()): 2, ("domains", (5, 5, 5)): 2}


def test_the_worst_domain_gains_weight_and_a_probe_changes_none() -> None:
    method, batch = make_method("groupdro", eta=5.0), make_batch()
    look(method, batch, 0)
    assert method.state["group_weights"].tolist() == [0.5, 0.5]
    take_step(method, batch, 0)
    assert method.state["group_weights"].max() > 0.5


@pytest.mark.parametrize(
    ("over", "domains", "groups", "lacking"),
    [
        ("auto", 1, 0, "domains"),
        ("domains", 1, 4, "domains"),
        ("groups", 3, 0, "groups"),
        ("auto", 3, 1, "groups"),
        ("auto", 2, 0, None),
        ("auto", 1, 2, None),
    ],
)
def test_one_domain_or_group_is_refused(over: Any, domains: int, groups: int, lacking: str | None) -> None:
    requirement = GroupDROOptions(over=over).unmet_requirement(domains, groups)
    assert requirement is None if lacking is None else requirement is not None and lacking in requirement


def test_a_single_source_domain_is_refused_before_the_first_step(squares: RunConfig) -> None:
    with raises(ConfigError, "method: groupdro", "protocol.kind=leave_one_out"):
        assemble(squares.with_method("groupdro"))


def test_a_method_of_global_means_takes_no_parts(squares: RunConfig) -> None:
    data = squares.data.model_copy(update={"micro_batches": 2})
    config = squares.with_method("groupdro").model_copy(update={"data": data, "experiment": "parts"})
    with raises(ConfigError, "data.micro_batches: ", "groupdro"):
        train_run(config, say=lambda _: None)


def test_a_paused_run_goes_on_bit_for_bit(grouped: RunConfig, tmp_path: Any) -> None:
    """Weights of the groups of a real beton among it."""
    runs = trained_with_and_without_a_pause(grouped.with_method("groupdro"), tmp_path, "9 steps")
    states = [load_checkpoint(RunFolder(c.folder).checkpoints, print) for c in runs]
    straight_weights, paused_weights = (state["method"]["group_weights"] for state in states if state is not None)
    assert torch.equal(straight_weights, paused_weights) and len(set(straight_weights.tolist())) == 4
