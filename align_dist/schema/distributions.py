"""Where a search looks for a setting's value."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator

# A value as a YAML file holds it.
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
    """One of a list."""

    choice: Annotated[tuple[Value, ...], Field(min_length=1)]

    def extremes(self) -> tuple[Value, ...]:
        return self.choice


KINDS = ("loguniform", "uniform", "choice")


def _kind(given: Any) -> str | None:
    """The key that says which it is, for the errors of that kind alone."""
    return next((kind for kind in KINDS if (kind in given if isinstance(given, dict) else hasattr(given, kind))), None)


Distribution = Annotated[
    Annotated[LogUniform, Tag("loguniform")] | Annotated[Uniform, Tag("uniform")] | Annotated[Choice, Tag("choice")],
    Discriminator(_kind),
]


def _check_order(bounds: tuple[float, float]) -> tuple[float, float]:
    if not bounds[0] < bounds[1] < math.inf:
        raise ValueError(f"takes [low, high] with low < high, got {list(bounds)}")
    return bounds


def rounded(value: float, low: float, high: float) -> float:
    """To 4 significant digits, so that a config's text and its id are the same everywhere, within the bounds."""
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)
