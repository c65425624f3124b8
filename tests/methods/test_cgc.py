from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from methods.making import SIDE, make_batch, make_method
from shares import look, with_share
from torch import Tensor
from weights import trained_with_and_without_a_pause

from align_dist.config import RunConfig
from align_dist.methods.cgc import info_nce, similarity
from align_dist.places import Places, cells_transform

IDENTITY = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
MIRRORED = IDENTITY * torch.tensor([[-1.0], [1.0]])


def test_the_contrast_of_two_images_by_hand() -> None:
    """Positives 1 and 1/2, one negative of 0 and of 1/2, temperature 1/2: ln(1 + e^-2) and ln 2. An image is no
    negative of its own.
    """
    similarities = torch.tensor([[9.0, 0.0], [0.5, 9.0]])
    loss = info_nce(torch.tensor([1.0, 0.5]), similarities, torch.tensor([0, 1]), 0.5)
    torch.testing.assert_close(loss, (torch.tensor(-2.0).exp().log1p() + torch.tensor(2.0).log()) / 2)
    assert float(info_nce(torch.tensor([0.3]), torch.ones(1, 1), torch.tensor([0]), 0.5)) == 0


def test_maps_are_alike_where_the_picture_was_moved_as_the_map() -> None:
    first = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(similarity(first, first, IDENTITY.expand(2, 2, 3)), torch.ones(2))
    torch.testing.assert_close(similarity(first, 3 * first.flip(2), MIRRORED.expand(2, 2, 3)), torch.ones(2))
    assert (similarity(first, first, MIRRORED.expand(2, 2, 3)) < 0.99).all()


def test_only_what_both_views_see_is_compared() -> None:
    """The second view's right half lies where the first does not reach."""
    geometry = torch.tensor([[[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]])
    first = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(1))
    second = torch.cat([first[:, :, 2:], torch.full((1, 4, 2), 5.0)], 2)
    torch.testing.assert_close(similarity(first, second, geometry), torch.ones(1))


def test_maps_without_evidence_are_like_nothing_and_have_finite_gradients() -> None:
    first = torch.zeros(1, 4, 4, requires_grad=True)
    likeness = similarity(first, torch.rand(1, 4, 4), IDENTITY)
    (gradient,) = torch.autograd.grad(likeness.sum(), first)
    assert float(likeness.detach()) == 0 and gradient.isfinite().all()


def test_terms_are_those_written_out() -> None:
    method = make_method("cgc", contrast=0.7, temperature=0.4, freeze_batchnorm=True)
    batch = with_share(make_batch(), method)
    assert batch.second is not None
    network: Any = method.classifier.module

    def maps(images: Tensor) -> Tensor:
        return network(images, explain=batch.labels).cam.clamp_min(0).detach()

    first, second = maps(batch.images), maps(batch.second)
    geometry = cells_transform(batch.values["geometry"], (4, 4), (SIDE, SIDE), Places(0, 8))
    grid = F.affine_grid(geometry, [6, 1, *first.shape[1:]], align_corners=False)
    moved, reached = (F.grid_sample(m[:, None], grid, align_corners=False)[:, 0] for m in (first, first * 0 + 1))
    each = []
    for i in range(6):
        positive = F.cosine_similarity(moved[i].flatten(), (second[i] * reached[i]).flatten(), dim=0)
        others = [F.cosine_similarity(second[i].flatten(), second[j].flatten(), dim=0) for j in range(6) if j != i]
        every = torch.stack([positive, *others]) / 0.4
        each.append(-every.log_softmax(0)[0])
    terms = look(method, make_batch(), 0)["classifier"]
    torch.testing.assert_close(terms["contrast"], 0.7 * torch.stack(each).mean())
    views = [F.cross_entropy(network(images), batch.labels) for images in (batch.images, batch.second)]
    torch.testing.assert_close(terms["classification"], views[0] + views[1])


def test_the_term_reaches_the_weights_through_the_features_alone() -> None:
    method = make_method("cgc")
    term = look(method, make_batch(), 0)["classifier"]["contrast"]
    network: Any = method.classifier.module
    gradients = torch.autograd.grad(term, [network.network.fc.weight, network.network.conv1.weight], allow_unused=True)
    assert gradients[0] is None and gradients[1] is not None and gradients[1].abs().max() > 0


def test_a_paused_run_goes_on_bit_for_bit(squares: RunConfig, tmp_path: Any) -> None:
    """On the pictures of a real beton: second views and their geometry among it."""
    trained_with_and_without_a_pause(squares.with_method("cgc"), tmp_path, "9 steps")
