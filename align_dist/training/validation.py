"""Measures of a run while it trains, and the weights that they select."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from align_dist.assembly import Assembly
from align_dist.evaluation.accuracy import accuracy
from align_dist.evaluation.evaluate import collapse_of, group_metrics_of
from align_dist.evaluation.explanations import explain, means_of
from align_dist.evaluation.inference import accuracy_on, probabilities_on
from align_dist.evaluation.subset import subset
from align_dist.runs.position import Position
from align_dist.runs.selection import Best, weights_now

Ids = NDArray[np.int64]
Values = dict[str, float]
WORST_GROUP = "validation/worst_group_accuracy"


def validate(run: Assembly, position: Position) -> Values:
    """Measures on the validation parts; selects the weights that are best by each rule, once warm-up is over."""
    step, local_run = position.step, run.with_local_networks()
    weights = cache(lambda: weights_now(step, run.method.networks, run.group))  # one copy for all that select it

    def better(name: str, best: Best, accuracy: float) -> Best:
        if accuracy < best.accuracy or not run.schedule.may_select(step):
            return best
        position.selected[name] = weights()
        position.unwritten.add(name)
        return Best(accuracy, step)

    values = {f"validation/{name}": value for name, value in _measure_validation(local_run, step).items()}
    # An oracle that begins later than validation would be the best of a part of the run.
    is_whole = position.oracle.step >= 0 or position.validation.step < 0
    position.validation = better("validation", position.validation, values["validation/accuracy"])
    if WORST_GROUP in values:
        position.worst_group = better("validation_worst_group", position.worst_group, values[WORST_GROUP])
    if watches_targets(run) and is_whole:
        targets = [_accuracy_on(local_run, samples) for samples in run.split.target_validation.values()]
        values["oracle/accuracy"] = sum(targets) / len(targets)
        position.oracle = better("oracle", position.oracle, values["oracle/accuracy"])
    return values


def watches_targets(run: Assembly) -> bool:
    """Return whether `oracle` looks at the target domains while this start of the run trains."""
    return "oracle" in run.config.evaluation.selections and bool(run.split.target_validation)


def explained_samples(run: Assembly) -> Ids:
    """The validation pictures whose explanations are measured."""
    return subset(run.split.validation, run.config.evaluation.faithfulness_images)


def _measure_validation(run: Assembly, step: int) -> Values:
    """Accuracy on the source domains' validation part, that of its groups, and of its maps whether they collapse and,
    after warm-up where asked for, how faithful they are. Collective.
    """
    samples, size = run.split.validation, run.config.evaluation.batch_size
    probabilities, labels = probabilities_on(run.method.classifier, run.loader, samples, size, run.group)
    values = {"accuracy": accuracy(probabilities, labels), **group_metrics_of(run, samples, probabilities, labels)}
    explained = explained_samples(run)
    if len(explained) == 0:
        return values
    if run.config.evaluation.explain_validation and run.schedule.may_select(step):
        values |= means_of(explain(run, explained, with_deletion=False))
    return values | collapse_of(run, explained)


def _accuracy_on(run: Assembly, samples: Ids) -> float:
    return accuracy_on(run.method.classifier, run.loader, samples, run.config.evaluation.batch_size, run.group)
