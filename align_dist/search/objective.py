"""What a search maximises: numbers of the source domains' validation part, and nothing else can be named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from align_dist.search.outcome import Report

Metric = Literal["sufficiency", "comprehensiveness", "insertion_auc"]
# Of sufficiency less is better: what the explanation keeps should be enough.
SIGNS: dict[str, float] = {"sufficiency": -1.0, "comprehensiveness": 1.0, "insertion_auc": 1.0}


class _Objective(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Accuracy(_Objective):
    """Source validation accuracy."""

    kind: Literal["accuracy"] = "accuracy"


class Combined(_Objective):
    """Accuracy + weight × metric; of sufficiency, which is better when less, − weight × metric."""

    kind: Literal["combined"]
    metric: Metric
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Pareto(_Objective):
    """Accuracy against a metric, neither traded for the other: the result is a front."""

    kind: Literal["pareto"]
    metric: Metric


Objective = Annotated[Accuracy | Combined | Pareto, Field(discriminator="kind")]

OBJECTIVE_KEYS = tuple(Combined.model_fields)


def is_faithful(objective: Accuracy | Combined | Pareto) -> bool:
    """Whether explanations have to be measured for it."""
    return not isinstance(objective, Accuracy)


def value_of(objective: Accuracy | Combined | Pareto, metrics: Mapping[str, float]) -> float:
    """The number to maximise; of a Pareto search, its accuracy."""
    if isinstance(objective, Combined):
        return metrics["accuracy"] + objective.weight * SIGNS[objective.metric] * metrics[objective.metric]
    return metrics["accuracy"]


def goodness_of(objective: Pareto, metrics: Mapping[str, float]) -> tuple[float, float]:
    """Accuracy and the metric, both the better the more."""
    return metrics["accuracy"], SIGNS[objective.metric] * metrics[objective.metric]


def selected(reports: Sequence[Report]) -> Report:
    """The report of the weights that model selection keeps: the best accuracy, of equals the latest."""
    return max(reports, key=lambda report: (report.metrics["accuracy"], report.step))


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The indices of points that no other is better than, in order of their first value."""
    kept = [i for i, (x, y) in enumerate(points) if not any(a >= x and b >= y and (a > x or b > y) for a, b in points)]
    return sorted(kept, key=lambda i: points[i])
