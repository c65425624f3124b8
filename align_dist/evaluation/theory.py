"""The lemmas of ALIGN measured on a trained run: which masks, which pictures, against which others."""

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
# Backgrounds of each kind that an image is shown before.
PARTNERS = 4
LEARNED = "learned"


class Reading(NamedTuple):
    """What a network says of a domain's images that have an object: as they are, and before others' backgrounds.

    sensitivity: of `lemmas.sensitivity`.
    """

    original: Answers
    same: Answers
    random: Answers
    sensitivity: Metrics


def reading_of(mixed: Mixed, is_another: Flags) -> Reading:
    """is_another: (N, 2, K), whether a background is another image's; an image before its own counts for nothing."""
    has_object = mixed.has_object.numpy()
    labels, _, original, same, random, distance = (values.numpy()[has_object] for values in mixed)
    of_same, of_random = is_another[has_object, 0], is_another[has_object, 1]
    return Reading(
        Answers(original, labels),
        _pairs(same, labels, of_same),
        _pairs(random, labels, of_random),
        lemmas.sensitivity(original, random, np.where(of_random, distance, 0)),
    )


def _pairs(mixed: NDArray[np.float64], labels: Ids, is_pair: Flags) -> Answers:
    """The answers (N, K, C) of those (N, K) that are pairs, one after another."""
    return Answers(mixed[is_pair], np.broadcast_to(labels[:, None], is_pair.shape)[is_pair])


def masks_of(run: Assembly) -> str:
    """Where the masks come from that say what object and background are: `learned`, or `given` and which.

    Raises ConfigError where the benchmark has none and the run learns none.
    """
    if run.manifest.has_masks:
        return f"given {run.manifest.masks}"
    if type(run.method).learned_mask is not Method.learned_mask:
        return LEARNED
    raise ConfigError(
        f"evaluation.theory: needs masks of the objects, {run.config.benchmark.beton} has none and {run.config.method} "
        "learns none; name them in benchmark.masks, or leave it out with evaluation.theory=false"
    )


def read(run: Assembly, samples: Ids, pool: Ids) -> Reading:
    """What the run's classifier says of samples (N,) before backgrounds of a pool of images. Collective.

    Each image lies in a batch together with its partners.
    """
    others = partners(samples, pool, run.loader.labels, run.config.seed, PARTNERS)
    groups = np.concatenate([samples[:, None], others.reshape(len(samples), -1)], axis=1)
    group_size = groups.shape[1]
    batch_size = max(1, run.config.evaluation.batch_size // group_size) * group_size
    with torch.no_grad(), frozen(run.method.classifier) as classifier:

        def probabilities(images: Tensor) -> Tensor:
            return predict(classifier, images)

        def work(batch: Batch) -> Mixed:
            masks = batch.masks if batch.masks is not None else run.method.learned_mask(batch)
            if masks is None:
                raise ValueError("no masks: see masks_of")
            images, masks = (values.unflatten(0, (-1, group_size)) for values in (batch.images, masks))
            return answers(probabilities, images, masks, batch.labels.view(-1, group_size)[:, 0])

        parts = over_batches(run.loader, groups.ravel(), batch_size, run.group, work)
    whole = Mixed(*(torch.cat(values) for values in zip(*parts, strict=True)))
    return reading_of(whole, others != samples[:, None, None])


def measure_theory(run: Assembly, chosen: Mapping[str, Ids], check: Callable[[], None]) -> dict[str, Metrics]:
    """Domain → measures of the lemmas, by the networks as they are; of images without an object nothing. Collective.

    chosen: of each test domain the images, whose backgrounds come from the whole domain. S of lemmas 2 and 3 is the
    sources' test part and T the domain; where the domain is a source, or no source is tested, S is the domain's images
    and T these objects before random backgrounds. check: called between domains; may raise, on all ranks.
    """
    readings: dict[str, Reading] = {}
    for domain, samples in chosen.items():
        check()
        readings[domain] = read(run, samples, run.split.tests[domain])
    sources = [readings[domain].original for domain in readings if domain in run.source_domains]
    return {
        domain: measures(reading, None if domain in run.source_domains else joined(sources))
        for domain, reading in readings.items()
    }


def joined(parts: list[Answers]) -> Answers | None:
    """The answers of several domains as one's; None for none."""
    return Answers(*(np.concatenate(values) for values in zip(*parts, strict=True))) if parts else None


def measures(reading: Reading, source: Answers | None) -> Metrics:
    """All measures of a domain. source: S; None for the domain's own images, against random backgrounds."""
    metrics = {"theory_images": float(len(reading.original.labels)), **reading.sensitivity}
    metrics |= lemmas.background_accuracy(reading.original, reading.same, reading.random)
    first, second = (reading.original, reading.random) if source is None else (source, reading.original)
    if not (len(first.labels) and len(second.labels)):
        return metrics
    change = reading.sensitivity["background_change"]
    return metrics | lemmas.squared_error_gap(first, second) | lemmas.cross_entropy_gap(first, second, change)
