"""Evaluation of a run: rows of results for every model selection and test domain."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from align_dist.evaluation import accuracy
from align_dist.evaluation.examples import examples_of
from align_dist.evaluation.explanations import DELETION, INSERTION, explain, means_of
from align_dist.evaluation.inference import probabilities_on
from align_dist.evaluation.lemmas import broken_assumptions
from align_dist.evaluation.moving import collapse_on
from align_dist.evaluation.subset import subset
from align_dist.evaluation.theory import LEARNED, masks_of, measure_theory
from align_dist.messages import Say
from align_dist.runs.checkpoint import refusing_other_networks
from align_dist.runs.details import Curves, Details
from align_dist.runs.results import (
    IN_DOMAIN,
    OUT_OF_DOMAIN,
    Row,
    benchmark_settings_of,
    group_of,
    settings_of,
    variant_of,
)
from align_dist.runs.selection import load_selected, selected_path

if TYPE_CHECKING:
    from align_dist.assembly import Assembly
    from align_dist.runs.folder import RunFolder

Ids = NDArray[np.int64]
Metrics = dict[str, float]


class Measured(NamedTuple):
    """One domain's metrics and what those are made of: probabilities (N, C), labels (N,), and explanation values per
    image as `explanations.explain` returns them, empty where explanations were not measured.
    """

    metrics: Metrics
    probabilities: NDArray[np.float64]
    labels: Ids
    explanations: dict[str, Tensor]


class Evaluated(NamedTuple):
    """A run's rows, and the details of each test domain under the first selection."""

    rows: list[Row]
    details: dict[str, Details]


def evaluate_run(
    run: Assembly,
    folder: RunFolder,
    say: Say,
    check: Callable[[], None] = lambda: None,
    with_details: bool = True,
) -> Evaluated:
    """One row per selection and test domain, and details of each domain. Collective.

    The networks end up with the last selection's weights.

    say: prints a line. check: called between domains; may raise to stop early, on all ranks. with_details: whether
    details are computed; without, they are empty.
    """
    masks = run.group.run_on_all(lambda: masks_of(run)) if run.config.evaluation.theory else ""
    if masks == LEARNED:
        say(f"{folder.path.name}: the lemmas assume true masks; here the run's own masks define the objects")
    evaluated = Evaluated([], {})
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
            with refusing_other_networks(folder.selected, name):
                engine.load_weights(state["networks"][name])
        local_run = run.with_local_networks()
        theory = theory_on(local_run, check) if masks and first_selection == selection else {}
        for domain, samples in run.split.tests.items():
            check()
            key = (state["step"], domain)
            if key not in measured:
                measurement = measure(local_run, samples)
                measured[key] = measurement.metrics | theory.get(domain, {})
                if with_details and domain not in evaluated.details:
                    evaluated.details[domain] = details_of(local_run, samples, measurement, selection, state["step"])
                top1 = measured[key]["accuracy"]
                say(f"{folder.path.name}: {domain}: accuracy {top1:.3f} ({selection}, {len(samples)} images)")
                for line in broken_assumptions(measured[key], len(run.manifest.classes)):
                    say(f"{folder.path.name}: {domain}: {line}")
            row = _row(run, folder.path.name, selection, state["step"], domain, measured[key], masks)
            evaluated.rows.append(row)
    return evaluated


def _load(folder: RunFolder, selection: str) -> dict[str, Any] | None:
    """A selection's weights; None where training selected none: the oracle without target images, the worst group
    without groups.
    """
    if selection in ("oracle", "validation_worst_group") and not selected_path(folder.selected, selection).exists():
        return None
    return load_selected(folder.selected, selection)


def measure(run: Assembly, samples: Ids) -> Measured:
    """Everything measured of the current networks on the given samples, unaugmented, each image once. Collective."""
    settings = run.config.evaluation
    probabilities, labels = probabilities_on(run.method.classifier, run.loader, samples, settings.batch_size, run.group)
    metrics = {
        "accuracy": accuracy.accuracy(probabilities, labels),
        "worst_class_accuracy": accuracy.worst_class_accuracy(probabilities, labels),
        "roc_auc": accuracy.roc_auc(probabilities, labels),
        "cross_entropy": accuracy.cross_entropy(probabilities, labels),
    }
    names = run.manifest.classes
    per_class = accuracy.per_class_accuracy(probabilities, labels)
    metrics |= {f"accuracy_of/{names[label]}": value for label, value in per_class.items()}
    metrics |= group_metrics_of(run, samples, probabilities, labels)
    explained = subset(samples, settings.faithfulness_images)
    explanations = explain(run, explained) if len(explained) else {}
    if explanations:
        metrics |= means_of(explanations) | collapse_of(run, explained)
    return Measured(metrics, probabilities, labels, explanations)


def details_of(run: Assembly, samples: Ids, measured: Measured, selection: str, step: int) -> Details:
    """Details of a domain. selection, step: of the networks' weights. Collective, because examples are computed."""
    _, probabilities, labels, explanations = measured
    curves = examples = None
    if explanations:
        insertion, deletion = (explanations[name].double().mean(0).numpy() for name in (INSERTION, DELETION))
        curves = Curves(insertion, deletion, len(explanations[INSERTION]))
        examples = examples_of(run, subset(samples, run.config.evaluation.faithfulness_images))
    confusion = accuracy.confusion_matrix(probabilities, labels)
    calibration = accuracy.calibration_bins(probabilities, labels)
    return Details(
        selection,
        step,
        run.manifest.fingerprint,
        tuple(run.manifest.classes),
        confusion,
        calibration,
        curves,
        examples,
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
        benchmark_settings=benchmark_settings_of(config.benchmark),
        theory_masks=theory_masks,
    )
