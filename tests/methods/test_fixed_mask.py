from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from methods.making import changed, in_plain_engine, make_batch, make_method, state_of
from shares import look, take_step
from torch import Tensor

from align_dist import objectives
from align_dist.methods.masks.fixed import erode, gaussian, luminance
from align_dist.places import Places


def random_images(seed: int) -> Tensor:
    return torch.randn(3, 3, 8, 9, generator=torch.Generator().manual_seed(seed))


def test_given_the_maskers_masks_it_is_aligns_classifier_half_to_the_bit() -> None:
    """ALIGN by epochs, in the classifier's turn, against a fixed mask that is what the masker gave."""
    by_turns = make_method("align", epoch=1.0, alternation="epoch")
    by_given = make_method("fixed_mask", mask="given")
    mask = by_turns.learned_mask(make_batch())
    take_step(by_turns, make_batch(), 1)
    take_step(by_given, make_batch(masks=mask), 1)
    assert changed(by_turns.classifier.module, state_of(by_given.classifier.module)) == []


@pytest.mark.parametrize("kind", ["constant", "grey", "given"])
def test_each_kind_guides_with_its_own_mask(kind: str) -> None:
    batch = make_batch()
    method = make_method("fixed_mask", mask=kind, constant=0.14, lambda3=2.0, lambda4=0.0)
    assert batch.masks is not None
    expected = {"constant": torch.full((6, 32, 32), 0.14), "grey": luminance(batch.images), "given": batch.masks}[kind]
    cam = method.classifier.module.eval()(batch.images, explain=batch.labels).cam
    guidance = look(method, batch, 0)["classifier"]["guidance"]
    torch.testing.assert_close(guidance, 2 * objectives.guidance(cam, expected, places=Places(0, 8)))
    assert method.learned_mask(batch) is None


def test_shuffled_guides_each_image_by_the_mask_of_another_one() -> None:
    batch = make_batch()
    assert batch.masks is not None
    # Of the one a quarter of a batch away, six images have it at a distance of one.
    others = make_batch(masks=batch.masks[[5, 0, 1, 2, 3, 4]])
    shuffled, own = (make_method("fixed_mask", mask="given", shuffled=value, exchange=1.0) for value in (True, False))
    take_step(shuffled, batch, 0)
    take_step(own, others, 0)
    assert changed(shuffled.classifier.module, state_of(own.classifier.module)) == []


def test_an_eroded_mask_is_what_has_the_mask_all_around_it() -> None:
    masks = torch.zeros(6, 32, 32)
    masks[:, 4:9, 10:13] = 1
    masks[:, 30:, :4] = 0.5
    expected = torch.zeros(6, 32, 32)
    expected[:, 5:8, 11] = 1
    expected[:, 31, :3] = 0.5
    assert torch.equal(erode(masks, 1), expected)
    plain, shrunk = (make_method("fixed_mask", mask="given", erosion=pixels) for pixels in (0, 1))
    take_step(shrunk, make_batch(masks=masks), 0)
    take_step(plain, make_batch(masks=expected), 0)
    assert changed(shrunk.classifier.module, state_of(plain.classifier.module)) == []


def test_an_exchanged_picture_is_what_the_mask_marks_on_another_image() -> None:
    batch = make_batch()
    method = make_method("fixed_mask", mask="given", lambda3=0.0, lambda4=0.0, exchange=0.5, freeze_batchnorm=True)
    assert batch.masks is not None
    keep, rest = batch.masks[:, None], batch.images[[3, 4, 5, 0, 1, 2]]
    logits = method.classifier.module.eval()(batch.images * keep + rest * (1 - keep))
    terms = look(method, batch, 0)["classifier"]
    torch.testing.assert_close(terms["exchange"], 0.5 * F.cross_entropy(logits, batch.labels))


@pytest.mark.parametrize("erosion", [0, 4])
def test_an_image_without_an_object_in_its_mask_is_neither_guided_nor_exchanged(erosion: int) -> None:
    """Images 1 and 4 have faint masks, or objects that erosion leaves nothing of; each is the other's background."""
    images, masks = make_batch().images, torch.zeros(6, 32, 32)
    masks[:, 8:24, 8:20] = 1
    masks[[1, 4]] = 0.4
    masks[[1, 4], 3:8, 3:8] = 1.0 if erosion else 0.4
    batch = replace(make_batch(masks=masks), images=images)
    other = replace(batch, images=images + torch.randn_like(images) * torch.tensor([0, 1, 0, 0, 1, 0]).view(6, 1, 1, 1))
    method = make_method("fixed_mask", mask="given", exchange=1.0, lambda4=0.0, erosion=erosion, freeze_batchnorm=True)
    terms, of_others = (look(method, shown, 0)["classifier"] for shown in (batch, other))
    for name in ("guidance", "exchange"):
        torch.testing.assert_close(terms[name], of_others[name])
    assert not torch.allclose(terms["classification"], of_others["classification"], atol=1e-3)
    of_constant = make_method("fixed_mask", mask="constant", constant=0.0, lambda4=0.0, freeze_batchnorm=True)
    guided, otherwise = (look(of_constant, shown, 0)["classifier"]["guidance"] for shown in (batch, other))
    assert not torch.allclose(guided, otherwise, atol=1e-3), "a control's mask that is empty on purpose guides"


def test_the_gaussian_is_one_in_the_middle_and_the_same_for_every_picture() -> None:
    masks = gaussian(make_batch())
    assert masks.shape == (6, 32, 32) and torch.equal(masks[0], masks[5])
    torch.testing.assert_close(masks, masks.flip(1, 2))
    # A standard deviation of a fifth of the side from the middle: exp(-1/2), between pixels.
    distance = (torch.arange(32) - 15.5) / (0.2 * 31)
    torch.testing.assert_close(masks[0, 15], torch.exp(-(distance**2 + distance[15] ** 2) / 2))


@pytest.mark.parametrize("kind", ["constant", "grey", "given"])
def test_a_step_lowers_its_own_loss(kind: str) -> None:
    masks = torch.zeros(6, 32, 32)
    masks[:, 8:24, 8:20] = 1
    batch = make_batch(masks=masks)
    method = make_method("fixed_mask", mask=kind, engine=in_plain_engine(rate=0.02))
    losses = [float(take_step(method, batch, step)["classifier/loss"]) for step in range(15)]
    assert losses[-1] < 0.8 * losses[0]


@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10), offset=st.floats(-3, 3))
def test_luminance_spans_the_unit_interval_and_ignores_brightness_and_contrast(
    seed: int, scale: float, offset: float
) -> None:
    images = random_images(seed)
    luminances = luminance(images)
    assert luminances.shape == (3, 8, 9)
    assert (luminances.amin((1, 2)) == 0).all()
    torch.testing.assert_close(luminances.amax((1, 2)), torch.ones(3))
    torch.testing.assert_close(luminance(scale * images + offset), luminances, rtol=1e-3, atol=1e-4)
    assert torch.equal(luminance(images[1:2])[0], luminances[1])


def test_luminance_weighs_green_most_and_blue_least() -> None:
    image = torch.zeros(1, 3, 1, 4)
    image[0, 0, 0, 1] = image[0, 1, 0, 2] = image[0, 2, 0, 3] = 1.0
    assert luminance(image)[0, 0].tolist() == pytest.approx([0, 0.2989 / 0.587, 1, 0.114 / 0.587])


def test_a_picture_of_one_colour_has_no_luminance_to_tell() -> None:
    assert (luminance(torch.full((1, 3, 4, 4), 0.7)) == 0).all()
