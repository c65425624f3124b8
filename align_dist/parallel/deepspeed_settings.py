"""A user's DeepSpeed JSON with what the run's own config decides filled in; a contradiction is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from align_dist.errors import ConfigError


def read_settings(path: Path) -> dict[str, Any]:
    """The JSON of a file. Raises ConfigError, one line, for one that is missing or not a JSON object."""
    try:
        settings = json.loads(path.read_text("utf-8"))
    except OSError as error:
        ready = "configs/deepspeed/zero0.json to zero3.json"
        raise ConfigError(f"distributed.deepspeed: {path}: {error.strerror}; ready ones are {ready}") from None
    except ValueError as error:
        raise ConfigError(f"distributed.deepspeed: {path}: not JSON ({error})") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"distributed.deepspeed: {path}: takes a JSON object, got {type(settings).__name__}")
    return settings


def complete_settings(
    settings: dict[str, Any],
    *,
    batch_size: int,
    world_size: int,
    micro_batches: int,
    gradient_clip: float | None,
) -> dict[str, Any]:
    """The settings of one engine: DeepSpeed's own keys pass through, those below are the run's.

    batch_size: of the global batch. DeepSpeed clips at 1.0 unless told otherwise, so clipping is always told;
    without ZeRO the engine clips itself. Raises ConfigError where the JSON says something else than the run.
    """
    stage = zero_stage(settings)
    clip = 0.0 if gradient_clip is None else gradient_clip
    owned: dict[str, tuple[Any, str]] = {
        "train_batch_size": (batch_size, "data.batch_size"),
        "train_micro_batch_size_per_gpu": (batch_size // world_size // micro_batches, "data.batch_size and the ranks"),
        "gradient_accumulation_steps": (micro_batches, "data.micro_batches"),
        "gradient_clipping": (clip, "training.gradient_clip"),
        "zero_allow_untested_optimizer": (True, "classifier.optimiser and masker.optimiser"),
    }
    refused = {
        "optimizer": "classifier.optimiser and masker.optimiser",
        "scheduler": "classifier.optimiser.schedule and masker.optimiser.schedule",
        "fp16": "training.precision (bfloat16; float16 needs a loss scale and is not offered)",
        "bf16": "training.precision",
        "torch_autocast": "training.precision",
    }
    for key, (value, ours) in owned.items():
        if settings.get(key, "auto") not in ("auto", value):
            raise ConfigError(
                f"distributed.deepspeed: {key}={settings[key]!r} contradicts {value!r} from {ours}; remove it"
            )
    for key, ours in refused.items():
        wanted = settings.get(key)
        if wanted and not (isinstance(wanted, dict) and wanted.get("enabled") is False):
            raise ConfigError(f"distributed.deepspeed: {key} is set by {ours}; remove it from the JSON")
    told = {key: value for key, (value, _) in owned.items()}
    if stage == 0:
        told["gradient_clipping"] = 0.0
    return {"steps_per_print": 10**9, **settings, **told}


def zero_stage(settings: dict[str, Any]) -> int:
    """ZeRO's stage, 0 to 3. Raises ConfigError for another."""
    part = settings.get("zero_optimization", {})
    stage = part.get("stage", 0) if isinstance(part, dict) else None
    if stage not in (0, 1, 2, 3):
        raise ConfigError(f"distributed.deepspeed: zero_optimization.stage takes 0, 1, 2 or 3, got {stage!r}")
    return int(stage)
