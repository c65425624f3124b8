"""Partners and mixed pictures: what is drawn, what is pasted, and what networks of known habits say of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from align_dist.evaluation.faithfulness import Predict
from align_dist.evaluation.lemmas import background_accuracy
from align_dist.evaluation.mixing import answers, background_of, partners
from align_dist.evaluation.theory import Predictions, predictions_of

COUNT, CLASSES, SIDE, PARTNERS = 90, 3, 6, 4
OBJECT = slice(2, 4)


def test_partners_are_of_the_classes_asked_for_and_of_nothing_but_seed_and_image() -> None:
    labels = np.array([0, 1] * 10 + [1] * 80)
    pool = np.arange(100)
    drawn = partners(pool, pool, labels, seed=3, count=5)
    assert drawn.shape == (100, 2, 5)
    assert (labels[drawn[:, 0]] == labels[:, None]).all() and (drawn != pool[:, None, None]).all()
    # Of a random class, not of a random image: a class of one image in ten is drawn half of the time.
    assert np.mean(labels[drawn[:, 1]] == 0) == pytest.approx(0.5, abs=0.06)
    some = np.array([71, 4, 12])
    np.testing.assert_array_equal(partners(some, pool[::-1], labels, 3, 5), drawn[some])
    np.testing.assert_array_equal(partners(some, pool, labels, 3, 2), drawn[some, :, :2])
    assert (partners(pool, pool, labels, 4, 5) != drawn).any()


def test_an_image_alone_in_its_class_stands_in_for_itself() -> None:
    drawn = partners(np.array([2]), np.array([0, 1, 2]), np.array([0, 0, 1]), seed=0, count=20)
    assert (drawn[:, 0] == 2).all() and set(drawn[0, 1]) == {0, 1, 2}


def test_an_object_is_taken_out_and_filled_with_the_rest_by_hand() -> None:
    images = torch.tensor([[1.0, 2.0], [6.0, 100.0]]).expand(1, 3, 2, 2)
    corner = torch.tensor([[[0.0, 0.0], [0.0, 1.0]]])
    torch.testing.assert_close(background_of(images, corner)[0, 1], torch.tensor([[1.0, 2.0], [6.0, 3.0]]))
    # A soft mask: (1 + 2 + 6 + 100 / 2) / 3.5 = 16.857, half of it and half of the pixel.
    half = background_of(images, corner / 2)[0, 1, 1, 1]
    torch.testing.assert_close(half, torch.tensor(50 + 59 / 3.5 / 2))
    torch.testing.assert_close(background_of(images, torch.ones(1, 2, 2)), torch.zeros(1, 3, 2, 2))


def pictures() -> tuple[Tensor, Tensor, Tensor]:
    """Images (N, 3, S, S), masks and labels: object and background each in a colour of the class, with some noise."""
    labels = torch.arange(COUNT) % CLASSES
    colour = torch.eye(3)[labels][:, :, None, None]
    images = colour + 0.1 * torch.randn(COUNT, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(COUNT, SIDE, SIDE)
    masks[:, OBJECT, OBJECT] = 1
    return images, masks, labels


def of_object(images: Tensor) -> Tensor:
    """Probabilities by the colour of the object alone."""
    return (9 * images[:, :, OBJECT, OBJECT].mean((2, 3))).softmax(1)


def of_background(images: Tensor) -> Tensor:
    """Probabilities by the colour of the upper edge alone."""
    return (9 * images[:, :, 0].mean(2)).softmax(1)


def predict_all(predict: Predict, masks: Tensor | None = None) -> tuple[Predictions, NDArray[np.int64]]:
    images, true_masks, labels = pictures()
    marked = true_masks if masks is None else masks
    ids = np.arange(COUNT)
    drawn = partners(ids, ids, labels.numpy(), 0, PARTNERS)
    shown = torch.from_numpy(np.concatenate([ids[:, None], drawn.reshape(COUNT, -1)], 1))
    mixed = answers(predict, images[shown], marked[shown], labels)
    return predictions_of(mixed, drawn != ids[:, None, None]), drawn


def test_a_network_that_reads_the_object_is_not_sensitive_and_has_no_gap() -> None:
    predictions, _ = predict_all(of_object)
    assert set(predictions.sensitivity.values()) == {0.0}
    metrics = background_accuracy(predictions.original, predictions.same, predictions.random)
    assert metrics["background_gap"] == 0
    assert metrics["mixed_random_accuracy"] == metrics["original_accuracy"] == 1


def test_a_network_that_reads_the_background_is_right_before_its_class_and_at_chance_otherwise() -> None:
    predictions, drawn = predict_all(of_background)
    metrics = background_accuracy(predictions.original, predictions.same, predictions.random)
    own = np.mean(drawn[:, 1] % CLASSES == np.arange(COUNT)[:, None] % CLASSES)
    assert metrics["original_accuracy"] == metrics["mixed_same_accuracy"] == 1
    assert metrics["mixed_random_accuracy"] == pytest.approx(own)
    assert own == pytest.approx(1 / CLASSES, abs=0.08)
    assert metrics["background_gap"] == pytest.approx(1 - own)
    assert (
        predictions.sensitivity["background_lipschitz_max"] >= predictions.sensitivity["background_lipschitz_mean"] > 0
    )


def test_images_without_an_object_count_for_nothing() -> None:
    """Neither as objects nor as backgrounds: without a mask the partner's object would be pasted too."""
    images, masks, _ = pictures()
    masks[::2] = 0.4
    predictions, drawn = predict_all(of_background, masks)
    is_pair = (drawn[1::2] % 2 == 1) & (drawn[1::2] != np.arange(1, COUNT, 2)[:, None, None])
    assert [len(predictions.same.labels), len(predictions.random.labels)] == is_pair.sum((0, 2)).tolist()
    assert len(predictions.original.labels) == COUNT / 2
    np.testing.assert_allclose(predictions.original.probabilities, of_background(images[1::2]).numpy(), rtol=1e-6)
    nothing, _ = predict_all(of_background, masks * 0)
    assert len(nothing.random.labels) == 0 and np.isnan(list(nothing.sensitivity.values())).all()
