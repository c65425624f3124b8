"""Evaluation of a run: rows of results for every model selection and test domain."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from align_dist import attribution
from align_dist.attribution import size_of
from align_dist.data.batch import Batch
from align_dist.data.sample_keys import permutation
from align_dist.evaluation import accuracy, faithfulness, localisation
from align_dist.evaluation.inference import over_batches, probabilities_on
from align_dist.evaluation.lemmas import broken_assumptions
from align_dist.evaluation.moving import collapse_on
from align_dist.evaluation.theory import LEARNED, masks_of, measure_theory
from align_dist.networks.classifier import predict
from align_dist.parallel.engine import frozen
from align_dist.runs.results import IN_DOMAIN, OUT_OF_DOMAIN, Row, group_of, settings_of, variant_of
from align_dist.runs.selection import load_selected, selected_path

if TYPE_CHECKING:
    from align_dist.assembly import Assembly
    from align_dist.runs.folder import RunFolder

Ids = NDArray[np.int64]
Metrics = dict[str, float]


def evaluate_run(
    run: Assembly, folder: RunFolder, say: Callable[[str], None], check: Callable[[], None] = lambda: None
) -> list[Row]:
    """One row per selection and test domain. The networks end up with the last selection's weights. Collective.

    say: prints a line. check: called between domains; may raise to stop early, on all ranks.
    """
    masks = run.group.run_on_all(lambda: masks_of(run)) if run.config.evaluation.theory else ""
    if masks == LEARNED:
        say(f"{folder.path.name}: the lemmas assume true masks; here the run's own masks define the objects")
    rows: list[Row] = []
    measured: dict[tuple[int, str], Metrics] = {}
    first: dict[int, str] = {}
    for selection in run.config.evaluation.selections:
        state = run.group.broadcast_from_first(partial(_load, folder, selection))
        if state is None:
            say(f"{folder.path.name}: {selection}: left out, the run was trained without it")
            continue
        first_selection = first.setdefault(state["step"], selection)
        if first_selection != selection:
            say(f"{folder.path.name}: {selection}: the same weights as {first_selection} (step {state['step']})")
        for name, engine in run.method.networks.items():
            engine.load_weights(state["networks"][name])
        reading = run.with_local_networks()
        theory = theory_on(reading, check) if masks and first_selection == selection else {}
        for domain, samples in run.split.tests.items():
            check()
            key = (state["step"], domain)
            if key not in measured:
                measured[key] = measure(reading, samples) | theory.get(domain, {})
                top1 = measured[key]["accuracy"]
                say(f"{folder.path.name}: {domain}: accuracy {top1:.3f} ({selection}, {len(samples)} images)")
                for line in broken_assumptions(measured[key], len(run.manifest.classes)):
                    say(f"{folder.path.name}: {domain}: {line}")
            rows.append(_row(run, folder.path.name, selection, state["step"], domain, measured[key], masks))
    return rows


def _load(folder: RunFolder, selection: str) -> dict[str, Any] | None:
    """A selection's weights; None where training selected none: the oracle without target images, the worst group
    without groups.
    """
    if selection in ("oracle", "validation_worst_group") and not selected_path(folder.selected, selection).exists():
        return None
    return load_selected(folder.selected, selection)


def measure(run: Assembly, samples: Ids) -> Metrics:
    """All metrics of the current networks on the given samples, unaugmented, each image once. Collective."""
    probabilities, labels = probabilities_on(
        run.method.classifier, run.loader, samples, run.config.evaluation.batch_size, run.group
    )
    metrics = {
        "accuracy": accuracy.accuracy(probabilities, labels),
        "worst_class_accuracy": accuracy.worst_class_accuracy(probabilities, labels),
        "roc_auc": accuracy.roc_auc(probabilities, labels),
        "cross_entropy": accuracy.cross_entropy(probabilities, labels),
    }
    names = run.manifest.classes
    per_class = accuracy.per_class_accuracy(probabilities, labels)
    metrics |= {f"accuracy_of/{names[label]}": value for label, value in per_class.items()}
    explained_samples = subset(samples, run.config.evaluation.faithfulness_images)
    metrics |= group_metrics_of(run, samples, probabilities, labels)
    return metrics | (
        explanation_metrics(run, explained_samples) | collapse_of(run, explained_samples)
        if len(explained_samples)
        else {}
    )


def theory_on(run: Assembly, check: Callable[[], None]) -> dict[str, Metrics]:
    """`measure_theory` on the images on which explanations are measured, by domain. Collective."""
    limit = run.config.evaluation.faithfulness_images
    samples_by_domain = {domain: subset(samples, limit) for domain, samples in run.split.tests.items()}
    return measure_theory(run, samples_by_domain, check)


def group_metrics_of(run: Assembly, samples: Ids, probabilities: NDArray[np.float64], labels: Ids) -> Metrics:
    """`accuracy.group_metrics` of the samples; empty for a benchmark without groups."""
    groups, names = run.loader.groups, run.manifest.group_names
    if groups is None:
        return {}
    training = np.bincount(groups[run.split.train], minlength=len(names))
    return accuracy.group_metrics(probabilities, labels, groups[samples], names, training)


def collapse_of(run: Assembly, samples: Ids) -> Metrics:
    """The metrics of collapse of the classifier's maps. Collective."""
    return collapse_on(run.method.classifier, run.loader, samples, run.config.evaluation.batch_size, run.group)


def explanation_metrics(run: Assembly, samples: Ids) -> Metrics:
    """Faithfulness and localisation, averaged over images; NaN (an image without an object) is left out. Collective."""
    with torch.no_grad(), frozen(run.method.classifier) as classifier:

        def work(batch: Batch) -> dict[str, Tensor]:
            return {name: values.float().cpu() for name, values in _explanation_of(run, classifier, batch).items()}

        batch_values = over_batches(run.loader, samples, run.config.evaluation.batch_size, run.group, work)
    return {name: float(torch.cat([values[name] for values in batch_values]).nanmean()) for name in batch_values[0]}


def _explanation_of(run: Assembly, classifier: torch.nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Explanation metrics per image, (B,) each, for attributions of the true class."""
    settings, size = run.config.evaluation, size_of(batch.images)
    cam = classifier(batch.images, explain=batch.labels).cam
    saliency = attribution.saliency(cam, size, run.method.places)

    def probability(images: Tensor) -> Tensor:
        return predict(classifier, images)

    pixels = -(-size[0] * size[1] // settings.insertion_steps)
    sufficiency, comprehensiveness = faithfulness.sufficiency_comprehensiveness(
        probability, batch.images, saliency, fill=settings.fill
    )
    values = {
        "insertion_auc": faithfulness.insertion_auc(probability, batch.images, saliency, pixels_per_step=pixels),
        "sufficiency": sufficiency,
        "comprehensiveness": comprehensiveness,
    }
    if settings.soft:
        soft = faithfulness.soft_sufficiency_comprehensiveness(probability, batch.images, saliency)
        values |= {"soft_sufficiency": soft[0], "soft_comprehensiveness": soft[1]}
    return values | _localisation_of(run, batch, saliency)


def _localisation_of(run: Assembly, batch: Batch, saliency: Tensor) -> dict[str, Tensor]:
    values: dict[str, Tensor] = {}
    mask = run.method.learned_mask(batch)
    if mask is not None:
        values |= {"mask_area": localisation.mask_area(mask), "mask_binariness": localisation.binariness(mask)}
    if batch.masks is not None:
        values |= {
            "energy_inside": localisation.energy_inside(saliency, batch.masks),
            "pointing_game": localisation.pointing_game(saliency, batch.masks),
        }
        if mask is not None:
            values["mask_iou"] = localisation.mask_iou(mask, batch.masks)
    return values


def subset(samples: Ids, limit: int) -> Ids:
    """At most `limit` samples, the same for every run, because explanations take many forward passes per image."""
    if len(samples) <= limit:
        return samples
    return np.sort(permutation(samples, 0, 0, 0)[:limit])


def _row(run: Assembly, name: str, selection: str, step: int, domain: str, metrics: Metrics, theory_masks: str) -> Row:
    config = run.config
    return Row(
        run=name,
        experiment=config.experiment,
        group=group_of(config),
        method=config.method,
        variant=variant_of(config),
        seed=config.seed,
        selection=selection,
        step=step,
        domain=domain,
        role=IN_DOMAIN if domain in run.source_domains else OUT_OF_DOMAIN,
        images=len(run.split.tests[domain]),
        metrics=metrics,
        fingerprint=run.manifest.fingerprint,
        evaluation=settings_of(config.evaluation),
        theory_masks=theory_masks,
    )
