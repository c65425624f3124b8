"""Types of config values, and the metadata of a field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field
from pydantic.fields import FieldInfo

from align_dist.schema.distributions import Distribution
from align_dist.schema.text import Section


def _check_duration(value: Any) -> str:
    match = re.fullmatch(r"\s*([0-9]+)\s*(step|epoch)s?\s*", str(value))
    if match is None:
        raise ValueError("takes a length such as '12 epochs' or '200 steps'")
    return f"{int(match[1])} {match[2]}s"


Duration = Annotated[str, BeforeValidator(_check_duration)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
# torch's generators take 64 bits; the seeds of further networks lie slightly above this seed.
LARGEST_SEED = 2**63 - 1
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]


class OptimiserConfig(Section):
    """A network's optimiser. schedule: `cosine` is half a cosine from the rate to 0 over the network's training."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: Positive = 5e-5
    weight_decay: Weight = 0.0
    schedule: Literal["constant", "cosine"] = "constant"


def to_steps(duration: Duration, steps_per_epoch: float) -> int:
    """A duration in steps; epochs are rounded to the nearest whole step."""
    count, unit = duration.split()
    return int(count) if unit == "steps" else round(int(count) * steps_per_epoch)


def option(default: Any, *, after_warmup: bool = False, search: Distribution | None = None) -> Any:
    """A pydantic field with metadata.

    after_warmup: the field has no effect before guidance starts, so runs that differ only in such fields share their
    warm-up. search: the default search space of the field.
    """
    space = None if search is None else search.model_dump(mode="json")
    return Field(default, json_schema_extra={"after_warmup": after_warmup, "search": space})


def leaves(part: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every dotted key of a config with its field, nested sections included."""
    for name, field in part.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from leaves(nested, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def option_metadata(field: FieldInfo, what: Literal["after_warmup", "search"]) -> Any:
    """The metadata of a field made by `option`; None for any other field."""
    extra = field.json_schema_extra
    return extra.get(what) if isinstance(extra, dict) else None
