from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from methods.making import changed, in_plain_engine, make_batch, make_method, moved, state_of, states_of
from shares import look, take_step, with_share
from torch import Tensor, nn

from align_dist import objectives
from align_dist.data.batch import Batch
from align_dist.data.share import GlobalBatch, pair_within_class
from align_dist.methods.ramp import ramp_weight
from align_dist.networks.backbones import build_pretrained
from align_dist.sampling import logistic_noise, relaxed_sample

RATE, EPSILON = 0.01, 1e-2


# One step, written out with torch alone


def features_and_logits(network: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """resnet8's stages one by one: the last feature map and the logits."""
    hidden = torch.relu(network.bn1(network.conv1(images)))
    features = network.layer3(network.layer2(network.layer1(hidden)))
    return features, features.mean((2, 3)) @ network.fc.weight.T + network.fc.bias


def attribution(network: Any, features: Tensor, labels: Tensor) -> Tensor:
    weights = network.fc.weight.detach()[labels]
    cam: Tensor = (features * weights[:, :, None, None]).sum(1) / features[0, 0].numel()
    low, high = cam.amin((1, 2), keepdim=True), cam.amax((1, 2), keepdim=True)
    scale = cam.detach().abs().amax((1, 2), keepdim=True)
    return (cam - low) / (high - low + EPSILON * scale)


def area_in(mask: Tensor) -> Tensor:
    """Means around pixels 0, 8, 16 and 24, where resnet8's cells look: a pixel half-way between two is half of either,
    and the last cell has all that is left.
    """
    shares = torch.zeros(4, 32)
    for cell, (first, last) in enumerate([(0, 4), (4, 12), (12, 20), (20, 31)]):
        shares[cell, first : last + 1] = 1
    shares[:, [4, 12, 20]] /= 2
    return torch.einsum("ah,bhw,cw->bac", shares, mask, shares) / (shares.sum(1)[:, None] * shares.sum(1))


def masker_loss(masker: nn.Module, network: Any, batch: Batch, lambda1: float, lambda2: float) -> Tensor:
    """mean (f_y(x M) - f_y(x (1 - M)) - 1)^2 + lambda1 |M| + lambda2 TV(M), BatchNorm in evaluation mode."""
    mask, of_true_class = masker(batch.images), batch.labels[:, None]
    network.eval()
    kept, removed = (
        features_and_logits(network, batch.images * part[:, None])[1].softmax(1).gather(1, of_true_class)
        for part in (mask, 1 - mask)
    )
    network.train()
    variation = (mask[:, 1:] - mask[:, :-1]).abs().mean() + (mask[:, :, 1:] - mask[:, :, :-1]).abs().mean()
    return (kept - removed - 1).square().mean() + lambda1 * mask.mean() + lambda2 * variation


def classifier_loss(network: Any, mask: Tensor, batch: Batch, lambda3: float, lambda4: float, seed: int) -> Tensor:
    """CE + lambda3 BCE(attribution, M) + lambda4 L_reg, the picture and its mixture in one batch."""
    images, labels = batch.images, batch.labels
    pairs = pair_within_class(GlobalBatch(batch.sample_keys, labels.numpy(), 3), seed)
    partners, share = (torch.from_numpy(array) for array in pairs)
    fraction = share[:, None, None, None]
    mixed = fraction * images + (1 - fraction) * images[partners]
    both = torch.cat([images, mixed]) if lambda4 else images
    features, logits = features_and_logits(network, both)
    guided = attribution(network, features[: len(images)], labels)
    area = area_in(mask)
    loss = F.cross_entropy(logits[: len(images)], labels)
    loss = loss + lambda3 * F.binary_cross_entropy(EPSILON + (1 - 2 * EPSILON) * guided, area)
    if lambda4:
        guided_mixed, weight = attribution(network, features[len(images) :], labels), share[:, None, None]
        distance = (guided_mixed - weight * guided - (1 - weight) * guided[partners]).abs().mean((1, 2))
        size = (guided.mean((1, 2)) + guided_mixed.mean((1, 2))) / 2
        entropy = F.cross_entropy(logits[len(images) :], labels, reduction="none")
        each = distance + 0.5 * size + 0.1 * entropy
        loss = loss + lambda4 * torch.stack([each[labels == label].mean() for label in range(3)]).sum() / 3
    return loss


@pytest.mark.parametrize("lambda4", [0.0, 0.7])
@pytest.mark.parametrize("warmup", [0, 9])
def test_steps_are_those_written_out_by_hand(lambda4: float, warmup: int) -> None:
    method = make_method(
        "align",
        engine=in_plain_engine(rate=RATE),
        seed=3,
        warmup=warmup,
        **{"lambda1": 0.8, "lambda2": 0.3, "lambda3": 1.5, "lambda4": lambda4},
    )
    masker, classifier = (copy.deepcopy(method.networks[name].module) for name in ("masker", "classifier"))
    network: Any = classifier.network
    optimisers = {
        name: torch.optim.SGD(net.parameters(), RATE, momentum=0.9)
        for name, net in (("masker", masker), ("classifier", network))
    }
    for step in range(2):
        batch = make_batch(step)
        take_step(method, batch, step)
        for name in ("classifier",) if warmup else ("masker", "classifier"):
            for other in optimisers.values():
                other.zero_grad()
            if name == "masker":
                loss = masker_loss(masker, network, batch, 0.8, 0.3)
            else:
                mask, lambda3 = masker(batch.images).detach(), 0.0 if warmup else 1.5
                loss = classifier_loss(network, mask, batch, lambda3, lambda4, seed=3)
            loss.backward()
            optimisers[name].step()
    for name, net in (("masker", masker), ("classifier", network)):
        module = getattr(method.networks[name].module, "network", method.networks[name].module)
        for key, value in net.state_dict().items():
            torch.testing.assert_close(module.state_dict()[key], value, rtol=0, atol=1e-6, msg=f"{name} {key}")


def test_joint_training_follows_the_gradient_of_the_sum_of_both_losses() -> None:
    method = make_method(
        "align", engine=in_plain_engine(rate=RATE), freeze_batchnorm=True, alternation="joint", lambda4=0.0, lambda3=1.5
    )
    masker, classifier = (copy.deepcopy(method.networks[name].module) for name in ("masker", "classifier"))
    batch, network = make_batch(), classifier.network
    take_step(method, batch, 0)
    mask, labels = masker(batch.images), batch.labels[:, None]
    features, logits = features_and_logits(network, batch.images)
    kept, removed = (
        features_and_logits(network, batch.images * part[:, None])[1].softmax(1).gather(1, labels)
        for part in (mask, 1 - mask)
    )
    guided, area = attribution(network, features, batch.labels), area_in(mask)
    variation = (mask[:, 1:] - mask[:, :-1]).abs().mean() + (mask[:, :, 1:] - mask[:, :, :-1]).abs().mean()
    guidance = F.binary_cross_entropy(EPSILON + (1 - 2 * EPSILON) * guided, area)
    loss = F.cross_entropy(logits, batch.labels) + (kept - removed - 1).square().mean() + 1.5 * guidance
    (loss + 1.0 * mask.mean() + 0.1 * variation).backward()
    for name, net in (("masker", masker), ("classifier", classifier)):
        torch.optim.SGD(net.parameters(), RATE).step()
        for key, value in net.state_dict().items():
            tensor = method.networks[name].module.state_dict()[key]
            torch.testing.assert_close(tensor, value, rtol=0, atol=1e-6, msg=f"{name} {key}")


def masker_terms(method: Any, batch: Batch) -> dict[str, Tensor]:
    losses = method.masker_loss(method.networks["masker"].module, with_share(batch, method), 0)
    return {name: value for name, (_, value) in losses.items()}


@pytest.mark.parametrize("sampling", ["none", "relaxed"])
def test_the_masker_is_told_by_the_classifiers_gradient(sampling: str) -> None:
    method = make_method("align", mask_sampling=sampling)
    weights = list(method.networks["masker"].module.parameters())
    gradients = torch.autograd.grad(masker_terms(method, make_batch())["distinction"], weights)
    assert all(torch.isfinite(gradient).all() and gradient.abs().max() > 0 for gradient in gradients)


def test_taking_turns_by_epoch_updates_one_network_in_each() -> None:
    """Warm-up of three steps, then epochs of two and a half: the masker has 3 to 5 and 8 to 10."""
    method = make_method("align", warmup=3, epoch=2.5, alternation="epoch", lambda4=0.0)
    turns = []
    for step in range(13):
        states = states_of(method)
        take_step(method, make_batch(step), step)
        (network,) = moved(method, states)
        turns.append(network[0])
    assert "".join(turns) == "ccc" + "mmm" + "cc" + "mmm" + "cc"


@pytest.mark.parametrize("alternation", ["batch", "epoch"])
def test_a_head_start_trains_the_masker_beside_an_unguided_classifier(alternation: str) -> None:
    method = make_method("align", warmup=4, masker_head_start="2 steps", alternation=alternation, lambda4=0.0)
    erm = make_method("erm")
    for step in range(4):
        states = states_of(method)
        take_step(method, make_batch(step), step)
        take_step(erm, make_batch(step), step)
        assert moved(method, states) == ({"classifier"} if step < 2 else {"classifier", "masker"})
        assert changed(method.classifier.module, state_of(erm.classifier.module)) == []


def test_the_classifier_is_guided_by_the_updated_masker() -> None:
    method, batch = make_method("align", lambda1=2.0, lambda2=3.0), make_batch()
    before = method.networks["masker"].module(batch.images)
    logged = take_step(method, batch, 0)
    torch.testing.assert_close(logged["masker/sparsity"], before.mean().detach())
    assert (logged["masker/weight/sparsity"], logged["masker/weight/smoothness"]) == (2.0, 3.0)
    torch.testing.assert_close(logged["masker/smoothness"], objectives.smoothness(before).detach())
    mask = method.learned_mask(batch)
    assert mask is not None and not mask.requires_grad and mask.shape == (6, 32, 32)
    assert torch.equal(mask, method.networks["masker"].module(batch.images).detach())
    torch.testing.assert_close(logged["mask/area"], mask.mean())
    torch.testing.assert_close(logged["mask/binariness"], (2 * mask - 1).abs().mean())


def test_sparsity_waits_half_its_ramp_and_then_grows() -> None:
    """From the masker's step 2 on, over 8 steps: nothing for 4, then a quarter more each step."""
    assert [ramp_weight(2.0, step, 2, 8) for step in range(2, 13)] == [0, 0, 0, 0, 0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert {ramp_weight(2.0, step, 2, 0) for step in range(2, 9)} == {2.0}
    options: dict[str, Any] = {"masker_head_start": "2 steps", "sparsity_ramp": "2 epochs"}
    method = make_method("align", warmup=4, lambda1=2.0, lambda4=0.0, **options)
    for step, weight in ((2, 0.0), (7, 0.5), (12, 2.0)):
        sparsity = look(method, make_batch(), step)["masker"]["sparsity"]
        mask = method.learned_mask(make_batch())
        assert mask is not None
        torch.testing.assert_close(sparsity.detach(), weight * mask.mean())
    assert take_step(method, make_batch(), 7)["masker/weight/sparsity"] == 0.5


# A sampled mask


def test_a_sampled_mask_is_seen_by_distinction_alone() -> None:
    """Written out: the classifier sees x times the sample, sparsity, smoothness and guidance the mask itself."""
    batch = make_batch()
    plain = make_method("align", seed=3)
    sampled = make_method("align", seed=3, mask_sampling="relaxed", sampling_grid=5, sampling_temperature=0.4)
    terms, without = masker_terms(sampled, batch), masker_terms(plain, batch)
    assert torch.equal(terms["sparsity"], without["sparsity"])
    assert torch.equal(terms["smoothness"], without["smoothness"])
    mask = plain.learned_mask(batch)
    assert mask is not None
    keep = relaxed_sample(mask, logistic_noise(3, batch.sample_keys, 5), 0.4)[:, None]
    network = plain.classifier.module.eval()
    expected = objectives.distinction(network(batch.images * keep), network(batch.images * (1 - keep)), batch.labels)
    torch.testing.assert_close(terms["distinction"], expected)
    assert (terms["distinction"] - without["distinction"]).abs() > 1e-6


def test_samples_are_new_in_every_pass_and_the_same_in_parts_of_a_batch() -> None:
    batch, grey = make_batch(), torch.full((6, 32, 32), 0.5)
    method: Any = make_method("align", mask_sampling="relaxed")
    whole = method.sampled_mask(grey, with_share(batch, method))
    later = replace(batch, sample_keys=batch.sample_keys + np.uint64(1 << 32))
    assert float((method.sampled_mask(grey, with_share(later, method)) - whole).abs().mean()) > 0.1
    for rank in range(2):
        share = with_share(batch, method, rank=rank, ranks=2)
        assert torch.equal(method.sampled_mask(grey[rank::2], share), whole[rank::2])
    for part, rows in zip(with_share(batch, method).parts(2), (slice(0, None, 2), slice(1, None, 2)), strict=True):
        assert torch.equal(method.sampled_mask(grey[rows], part), whole[rows])


@pytest.mark.parametrize(("area", "advice"), [(0.01, "lower align.lambda1"), (0.3, None), (0.9, "raise align.lambda1")])
def test_masks_that_fill_or_leave_the_picture_are_warned_of(area: float, advice: str | None) -> None:
    warning = make_method("align").warning({"mask/area": area})
    assert warning is None if advice is None else warning is not None and advice in warning
    assert make_method("align").warning({}) is None


# Whose evidence a mask marks, and what is shown where it takes something away


def test_another_image_is_shown_where_a_mask_takes_something_away() -> None:
    batch = make_batch()
    method = make_method("align", removed_pixels="another_image", lambda4=0.0)
    network, mask = method.classifier.module.eval(), method.learned_mask(batch)
    assert mask is not None
    keep, rest, of_true_class = mask[:, None], batch.images[[3, 4, 5, 0, 1, 2]], batch.labels[:, None]
    kept, removed = (
        network(batch.images * part + rest * (1 - part)).softmax(1).gather(1, of_true_class)
        for part in (keep, 1 - keep)
    )
    expected = (kept - removed - 1).square().mean()
    torch.testing.assert_close(look(method, batch, 0)["masker"]["distinction"], expected)


def test_of_a_fixed_networks_evidence_the_classifier_has_no_say() -> None:
    """L_dist is of ImageNet's network and the classes that it finds itself: whatever the labels and the classifier."""
    batch = make_batch()
    method = make_method("align", evidence="efficientnet_lite0", evidence_classes=3, lambda4=0.0)
    network, mask = build_pretrained("efficientnet_lite0"), method.learned_mask(batch)
    assert mask is not None
    classes = network(batch.images).topk(3, dim=1).indices
    kept, removed = (
        network(batch.images * part[:, None]).softmax(1).gather(1, classes).sum(1) for part in (mask, 1 - mask)
    )
    expected = (kept - removed - 1).square().mean()
    torch.testing.assert_close(look(method, batch, 0)["masker"]["distinction"], expected)
    with torch.no_grad():
        method.classifier.module.network.fc.weight.mul_(-3)
    other = replace(batch, labels=batch.labels.roll(1))
    torch.testing.assert_close(look(method, other, 0)["masker"]["distinction"], expected)
    kept_state = states_of(method)
    take_step(method, batch, 0)
    assert moved(method, kept_state) == {"masker", "classifier"}
    assert changed(method.reference, state_of(network)) == []


def test_a_fixed_network_takes_no_random_number_of_the_run() -> None:
    """A run that goes on builds it at another step, and its dropout must be that of a run without a break."""
    method = make_method("align", evidence="efficientnet_lite0")
    before = torch.get_rng_state()
    twin = type(method)(method.networks, method.options, method.context)
    assert torch.equal(torch.get_rng_state(), before)
    assert changed(twin.reference, state_of(method.reference)) == []


def test_once_the_masker_has_learnt_every_turn_is_the_classifiers() -> None:
    method = make_method("align", epoch=2.0, alternation="epoch", masker_length="1 epochs")
    assert [list(method.losses(step)) for step in (0, 1)] == [["masker"]] * 2
    assert all(list(method.losses(step)) == ["classifier"] for step in range(2, 12))
