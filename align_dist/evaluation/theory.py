"""Measurement of ALIGN's lemmas on a trained run: the choice of masks, images and backgrounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from align_dist.data.batch import Batch
from align_dist.errors import ConfigError
from align_dist.evaluation import lemmas
from align_dist.evaluation.inference import over_batches
from align_dist.evaluation.lemmas import Answers, Flags
from align_dist.evaluation.mixing import Mixed, answers, partners
from align_dist.methods.base import Method
from align_dist.networks.classifier import predict
from align_dist.parallel.engine import frozen

if TYPE_CHECKING:
    from align_dist.assembly import Assembly

Ids = NDArray[np.int64]
Metrics = dict[str, float]
# Number of backgrounds of each kind per image.
PARTNERS = 4
LEARNED = "learned"


class Predictions(NamedTuple):
    """A network's probabilities for a domain's images with an object: original, and on other images' backgrounds.

    sensitivity: the metrics of `lemmas.sensitivity`.
    """

    original: Answers
    same: Answers
    random: Answers
    sensitivity: Metrics


def predictions_of(mixed: Mixed, is_another: Flags) -> Predictions:
    """A domain's predictions from mixed probabilities. is_another: (N, 2, K), whether a background is another image's.

    Images on their own background, and on that of an image whose mask marks no object, are left out.
    """
    has_object = mixed.has_object.numpy()
    labels, _, has_background, original, same, random, distance = (values.numpy()[has_object] for values in mixed)
    is_pair = is_another[has_object] & has_background
    of_same, of_random = is_pair[:, 0], is_pair[:, 1]
    return Predictions(
        Answers(original, labels),
        _pairs(same, labels, of_same),
        _pairs(random, labels, of_random),
        lemmas.sensitivity(original, random, np.where(of_random, distance, 0)),
    )


def _pairs(mixed: NDArray[np.float64], labels: Ids, is_pair: Flags) -> Answers:
    """The probabilities (N, K, C) of the pairs (N, K) that are set, concatenated."""
    return Answers(mixed[is_pair], np.broadcast_to(labels[:, None], is_pair.shape)[is_pair])


def masks_of(run: Assembly) -> str:
    """The source of the masks that separate object and background: `learned`, or `given` with their fingerprint.

    Raises ConfigError where the method learns no masks and the benchmark has none, or learned ones are asked for.
    """
    asked = run.config.evaluation.theory
    if run.manifest.has_masks and asked != LEARNED:
        return f"given {run.manifest.masks}"
    if type(run.method).learned_mask is not Method.learned_mask:
        return LEARNED
    if asked == LEARNED:
        raise ConfigError(f"evaluation.theory: {run.config.method} learns no mask; set evaluation.theory=true")
    raise ConfigError(
        f"evaluation.theory: needs masks of the objects, {run.config.benchmark.beton} has none and {run.config.method} "
        "learns none; set benchmark.masks, or evaluation.theory=false"
    )


def predict_mixed(run: Assembly, samples: Ids, pool: Ids) -> Predictions:
    """Predictions of the run's classifier for samples (N,) with backgrounds from a pool of images. Collective.

    Each image shares a batch with its partners.
    """
    others = partners(samples, pool, run.loader.labels, run.config.seed, PARTNERS)
    groups = np.concatenate([samples[:, None], others.reshape(len(samples), -1)], axis=1)
    group_size, by_learned = groups.shape[1], masks_of(run) == LEARNED
    batch_size = max(1, run.config.evaluation.batch_size // group_size) * group_size
    with torch.no_grad(), frozen(run.method.classifier) as classifier:

        def probabilities(images: Tensor) -> Tensor:
            return predict(classifier, images)

        def work(batch: Batch) -> Mixed:
            masks = run.method.learned_mask(batch) if by_learned else batch.masks
            if masks is None:
                raise ValueError("no masks: see masks_of")
            images, masks = (values.unflatten(0, (-1, group_size)) for values in (batch.images, masks))
            return answers(probabilities, images, masks, batch.labels.view(-1, group_size)[:, 0])

        parts = over_batches(run.loader, groups.ravel(), batch_size, run.group, work)
    mixed = Mixed(*(torch.cat(values) for values in zip(*parts, strict=True)))
    return predictions_of(mixed, others != samples[:, None, None])


def measure_theory(
    run: Assembly, samples_by_domain: Mapping[str, Ids], check: Callable[[], None]
) -> dict[str, Metrics]:
    """Metrics of the lemmas by domain, from the current networks and images with an object. Collective.

    samples_by_domain: images of each test domain, with backgrounds from the whole domain. S of lemmas 2 and 3 is the
    sources' test part and T the domain; where the domain is a source, or no source is tested, S is the domain's images
    and T the same objects on random backgrounds. check: called between domains; may raise, on all ranks.
    """
    by_domain: dict[str, Predictions] = {}
    for domain, samples in samples_by_domain.items():
        check()
        by_domain[domain] = predict_mixed(run, samples, run.split.tests[domain])
    sources = [by_domain[domain].original for domain in by_domain if domain in run.source_domains]
    return {
        domain: measures(predictions, None if domain in run.source_domains else joined(sources))
        for domain, predictions in by_domain.items()
    }


def joined(parts: list[Answers]) -> Answers | None:
    """The concatenated probabilities of several domains; None for no domain."""
    return Answers(*(np.concatenate(values) for values in zip(*parts, strict=True))) if parts else None


def measures(predictions: Predictions, source: Answers | None) -> Metrics:
    """All metrics of a domain. source: S; None to compare the domain's images with random backgrounds."""
    metrics = {"theory_images": float(len(predictions.original.labels)), **predictions.sensitivity}
    metrics |= lemmas.background_accuracy(predictions.original, predictions.same, predictions.random)
    first, second = (predictions.original, predictions.random) if source is None else (source, predictions.original)
    if not (len(first.labels) and len(second.labels)):
        return metrics
    change = predictions.sensitivity["background_change"]
    return metrics | lemmas.squared_error_gap(first, second) | lemmas.cross_entropy_gap(first, second, change)
