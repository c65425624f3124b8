from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from shares import look, take_step
from torch import Tensor, nn

from align_dist import objectives
from align_dist.data.loader import Batch
from align_dist.data.share import GlobalBatch, pair_within_class
from align_dist.methods.align import ALIGN
from align_dist.methods.erm import ERM

RATE, EPSILON = 0.01, 1e-2


def flags(module: nn.Module) -> tuple[list[bool], list[bool]]:
    return [child.training for child in module.modules()], [p.requires_grad for p in module.parameters()]


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
    pairs = pair_within_class(GlobalBatch(batch.draws, labels.numpy(), 3), seed)
    partners, share = (torch.from_numpy(array) for array in pairs)
    kept = share[:, None, None, None]
    mixed = kept * images + (1 - kept) * images[partners]
    both = torch.cat([images, mixed]) if lambda4 else images
    features, logits = features_and_logits(network, both)
    guided = attribution(network, features[: len(images)], labels)
    area = mask.unfold(1, 8, 8).unfold(2, 8, 8).mean((3, 4))
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
def test_steps_are_those_written_out_by_hand(
    lambda4: float, make_networks: Any, make_context: Any, make_batch: Any
) -> None:
    engines = make_networks(rate=RATE)
    masker, network = (copy.deepcopy(engines[name].module) for name in ("masker", "classifier"))
    network = network.network
    optimisers = [torch.optim.SGD(net.parameters(), RATE, momentum=0.9) for net in (masker, network)]
    context = make_context(seed=3, lambda1=0.8, lambda2=0.3, lambda3=1.5, lambda4=lambda4)
    method = ALIGN(engines, context)
    for step in range(2):
        batch = make_batch(step)
        take_step(method, batch, step)
        for optimiser, net in zip(optimisers, ("masker", "classifier"), strict=True):
            for other in optimisers:
                other.zero_grad()
            if net == "masker":
                loss = masker_loss(masker, network, batch, 0.8, 0.3)
            else:
                loss = classifier_loss(network, masker(batch.images).detach(), batch, 1.5, lambda4, seed=3)
            loss.backward()
            optimiser.step()
    for name, net in (("masker", masker), ("classifier", network)):
        found = getattr(engines[name].module, "network", engines[name].module)
        for key, value in net.state_dict().items():
            torch.testing.assert_close(found.state_dict()[key], value, rtol=0, atol=1e-6, msg=f"{name} {key}")


# A sampled mask


@pytest.mark.parametrize("freeze_batchnorm", [False, True])
def test_each_half_leaves_the_other_network_alone_to_the_bit(
    freeze_batchnorm: bool, make_networks: Any, make_context: Any, make_batch: Any, state_of: Any, changed: Any
) -> None:
    """By epochs of one step: the masker's turn, then the classifier's. Running statistics count as changes."""
    engines = make_networks("adam", 1e-3, freeze_batchnorm)
    classifier, masker = engines["classifier"].module, engines["masker"].module
    method = ALIGN(engines, make_context(epoch=1.0, alternation="epoch"))
    before = (flags(classifier), flags(masker))
    kept_classifier, kept_masker = state_of(classifier), state_of(masker)
    take_step(method, make_batch(), 0)
    assert changed(classifier, kept_classifier) == []
    assert set(changed(masker, kept_masker)) == set(kept_masker)
    assert all(parameter.grad is None for parameter in classifier.parameters())
    kept_masker = state_of(masker)
    take_step(method, make_batch(), 1)
    assert changed(masker, kept_masker) == []
    moved = changed(classifier, kept_classifier)
    assert any("running_mean" in name for name in moved) is not freeze_batchnorm
    assert "network.fc.weight" in moved and "network.conv1.weight" in moved
    assert (flags(classifier), flags(masker)) == before


def test_the_masker_is_told_by_the_classifiers_gradient(make_networks: Any, make_context: Any, make_batch: Any) -> None:
    """Without sparsity and smoothness only L_dist moves it, and that passes through the classifier."""
    engines = make_networks()
    method = ALIGN(engines, make_context(lambda1=0.0, lambda2=0.0))
    terms = method.masker_terms(engines["masker"].module, make_batch(), (), 0)
    found = torch.autograd.grad(terms["distinction"], list(engines["masker"].module.parameters()))
    assert all(gradient.abs().max() > 0 for gradient in found)
    assert float(terms["sparsity"]) == float(terms["smoothness"]) == 0


def test_taking_turns_by_epoch_updates_one_network_in_each(
    make_networks: Any, make_context: Any, make_batch: Any, state_of: Any, changed: Any
) -> None:
    """Warm-up of three steps, then epochs of two and a half: the masker has 3 to 5 and 8 to 10."""
    engines = make_networks()
    method = ALIGN(engines, make_context(warmup=3, epoch=2.5, alternation="epoch", lambda4=0.0))
    turns = []
    for step in range(13):
        kept = {name: state_of(engine.module) for name, engine in engines.items()}
        logged = take_step(method, make_batch(step), step)
        moved = [name for name, engine in engines.items() if changed(engine.module, kept[name])]
        assert len(moved) == 1 and all(key.startswith((*moved, "mask/")) for key in logged)
        turns.append(moved[0][0])
    assert "".join(turns) == "ccc" + "mmm" + "cc" + "mmm" + "cc"


def test_by_batch_both_networks_move_in_every_guided_step(
    make_networks: Any, make_context: Any, make_batch: Any, state_of: Any, changed: Any
) -> None:
    engines = make_networks()
    method = ALIGN(engines, make_context())
    for step in range(2):
        kept = {name: state_of(engine.module) for name, engine in engines.items()}
        take_step(method, make_batch(step), step)
        assert all(changed(engine.module, kept[name]) for name, engine in engines.items())


# Warm-up


def test_warm_up_without_a_regulariser_is_erm_to_the_bit(
    make_networks: Any, make_context: Any, make_batch: Any, state_of: Any, changed: Any
) -> None:
    engines, plain = make_networks(), make_networks()["classifier"]
    method = ALIGN(engines, make_context(warmup=3, lambda4=0.0))
    erm = ERM({"classifier": plain}, make_context())
    kept = state_of(engines["masker"].module)
    for step in range(3):
        take_step(method, make_batch(step), step)
        take_step(erm, make_batch(step), step)
    assert changed(engines["classifier"].module, state_of(plain.module)) == []
    assert changed(engines["masker"].module, kept) == []


def test_warm_up_is_classification_and_the_regulariser(
    make_networks: Any, make_context: Any, make_batch: Any, state_of: Any, changed: Any
) -> None:
    engines = make_networks(rate=RATE)
    network = copy.deepcopy(engines["classifier"].module.network)
    optimiser = torch.optim.SGD(network.parameters(), RATE, momentum=0.9)
    method = ALIGN(engines, make_context(warmup=9, lambda3=5.0, lambda4=0.7))
    kept = state_of(engines["masker"].module)
    for step in range(2):
        logged = take_step(method, make_batch(step), step)
        optimiser.zero_grad()
        classifier_loss(network, torch.zeros(6, 32, 32), make_batch(step), 0.0, 0.7, seed=0).backward()
        optimiser.step()
        assert set(logged) == {
            "classifier/classification",
            "classifier/regulariser",
            "classifier/gradient_norm",
        }
    for key, value in network.state_dict().items():
        found = engines["classifier"].module.network.state_dict()[key]
        torch.testing.assert_close(found, value, rtol=0, atol=1e-6)
    assert changed(engines["masker"].module, kept) == []


@pytest.mark.parametrize("alternation", ["batch", "epoch"])
def test_a_head_start_trains_the_masker_beside_an_unguided_classifier(
    alternation: str, make_networks: Any, make_context: Any, make_batch: Any, state_of: Any, changed: Any
) -> None:
    engines, plain = make_networks(), make_networks()["classifier"]
    method = ALIGN(engines, make_context(warmup=4, masker_start=2, lambda4=0.0, alternation=alternation))
    erm = ERM({"classifier": plain}, make_context())
    for step in range(4):
        kept = state_of(engines["masker"].module)
        take_step(method, make_batch(step), step)
        take_step(erm, make_batch(step), step)
        assert bool(changed(engines["masker"].module, kept)) is (step >= 2)
    assert changed(engines["classifier"].module, state_of(plain.module)) == []


# Randomness, logging, probing


def test_a_step_depends_on_nothing_but_weights_batch_and_seed(
    make_networks: Any, make_context: Any, make_batch: Any, state_of: Any, changed: Any
) -> None:
    def after(batch: Batch, seed: int, noise: int) -> tuple[nn.Module, dict[str, Tensor]]:
        engines = make_networks()
        torch.manual_seed(noise)
        take_step(ALIGN(engines, make_context(seed=seed, lambda4=1.0)), batch, 0)
        return engines["classifier"].module, state_of(engines["classifier"].module)

    batch = make_batch()
    module, first = after(batch, seed=0, noise=1)
    assert changed(module, after(batch, seed=0, noise=2)[1]) == []
    assert changed(module, after(batch, seed=1, noise=1)[1])
    other_pass = copy.copy(batch)
    object.__setattr__(other_pass, "draws", batch.draws + (1 << 32))
    assert changed(module, after(other_pass, seed=0, noise=1)[1])
    assert changed(module, first) == []


def test_what_is_logged_is_what_was_minimised(make_networks: Any, make_context: Any, make_batch: Any) -> None:
    engines, batch = make_networks(), make_batch()
    mask_before = engines["masker"].module(batch.images)
    logged = take_step(ALIGN(engines, make_context(lambda1=2.0, lambda2=3.0)), batch, 0)
    assert set(logged) == {
        *(f"masker/{name}" for name in ("distinction", "sparsity", "smoothness", "gradient_norm")),
        *(f"classifier/{name}" for name in ("classification", "guidance", "regulariser", "gradient_norm")),
        "mask/area",
        "mask/binariness",
    }
    assert all(value.ndim == 0 and not value.requires_grad for value in logged.values())
    torch.testing.assert_close(logged["masker/sparsity"], 2 * mask_before.mean().detach())
    torch.testing.assert_close(logged["masker/smoothness"], 3 * objectives.smoothness(mask_before).detach())
    mask = engines["masker"].module(batch.images)  # the classifier is guided by the updated masker
    torch.testing.assert_close(logged["mask/area"], mask.mean().detach())
    torch.testing.assert_close(logged["mask/binariness"], (2 * mask - 1).abs().mean().detach())


def test_the_mask_that_guides_is_a_constant(make_networks: Any, make_context: Any, make_batch: Any) -> None:
    engines, batch = make_networks(), make_batch()
    mask = ALIGN(engines, make_context()).mask(batch)
    assert not mask.requires_grad
    assert mask.shape == (6, 32, 32) and mask.min() >= 0 and mask.max() <= 1
    assert torch.equal(mask, engines["masker"].module(batch.images).detach())


@pytest.mark.parametrize(("step", "networks"), [(0, ["classifier"]), (5, ["classifier", "masker"])])
def test_a_probe_tells_each_networks_terms_and_moves_nothing(
    step: int, networks: list[str], make_networks: Any, make_context: Any, make_batch: Any, state_of: Any, changed: Any
) -> None:
    engines = make_networks()
    for engine in engines.values():
        engine.module.eval()
    kept = {name: state_of(engine.module) for name, engine in engines.items()}
    terms = look(ALIGN(engines, make_context(warmup=5)), make_batch(), step)
    assert sorted(terms) == networks
    assert ("guidance" in terms["classifier"]) is (step == 5)
    for name, engine in engines.items():
        assert changed(engine.module, kept[name]) == []
        if name in terms:
            found = torch.autograd.grad(sum(terms[name].values()), list(engine.module.parameters()), allow_unused=True)
            assert any(gradient is not None and gradient.abs().max() > 0 for gradient in found)


def test_sparsity_waits_half_its_ramp_and_then_grows(make_networks: Any, make_context: Any, make_batch: Any) -> None:
    """From the masker's step 2 on, over 8 steps: nothing for 4, then a quarter more each step."""
    context = make_context(warmup=4, masker_start=2, sparsity_ramp=8, lambda1=2.0, lambda4=0.0)
    method = ALIGN(make_networks(), context)
    assert [method.lambda1(step) for step in range(2, 13)] == [0, 0, 0, 0, 0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    batch = make_batch()
    mean = method.mask(batch).mean()
    for step, share in ((2, 0.0), (7, 0.25), (12, 1.0)):
        found = look(method, batch, step)["masker"]["sparsity"]
        torch.testing.assert_close(found.detach(), 2.0 * share * mean)
    assert take_step(method, batch, 2)["masker/sparsity"] == 0.0


def test_without_a_ramp_sparsity_is_constant(make_networks: Any, make_context: Any) -> None:
    method = ALIGN(make_networks(), make_context(warmup=4, masker_start=2, lambda1=2.0))
    assert {method.lambda1(step) for step in range(2, 9)} == {2.0}
