"""Distributions from which a search samples a setting's value."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator

# Scalar values of YAML.
Value = float | int | str | bool | None
DIGITS = 4


class _Distribution(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LogUniform(_Distribution):
    """Positive numbers whose logarithm is uniform between two bounds."""

    loguniform: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], float]

    @field_validator("loguniform")
    @classmethod
    def _ordered(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        return _check_order(bounds)

    def extremes(self) -> tuple[float, float]:
        return self.loguniform


class Uniform(_Distribution):
    """Numbers between two bounds."""

    uniform: tuple[Annotated[float, Field(allow_inf_nan=False)], float]

    @field_validator("uniform")
    @classmethod
    def _ordered(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        return _check_order(bounds)

    def extremes(self) -> tuple[float, float]:
        return self.uniform


class Choice(_Distribution):
    """One of a list of values."""

    choice: Annotated[tuple[Value, ...], Field(min_length=1)]

    def extremes(self) -> tuple[Value, ...]:
        return self.choice


KINDS = ("loguniform", "uniform", "choice")


def _kind(value: Any) -> str | None:
    """The key that selects the kind of distribution, so that errors are about that kind alone."""
    return next((kind for kind in KINDS if (kind in value if isinstance(value, dict) else hasattr(value, kind))), None)


Distribution = Annotated[
    Annotated[LogUniform, Tag("loguniform")] | Annotated[Uniform, Tag("uniform")] | Annotated[Choice, Tag("choice")],
    Discriminator(_kind),
]


def _check_order(bounds: tuple[float, float]) -> tuple[float, float]:
    if not bounds[0] < bounds[1] < math.inf:
        raise ValueError(f"takes [low, high] with low < high, got {list(bounds)}")
    return bounds


def rounded(value: float, low: float, high: float) -> float:
    """Round to 4 significant digits within the bounds, so that a config's text and id are the same everywhere."""
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)
