"""A user's DeepSpeed JSON, completed by the run's config; contradictions are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from align_dist.errors import ConfigError

READY = "configs/deepspeed/zero0.json to zero3.json"


def read_settings(path: Path) -> dict[str, Any]:
    """Read a DeepSpeed JSON file. Raises ConfigError, in one line, for a missing file or anything but a JSON object."""
    try:
        settings = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"distributed.deepspeed: {path}: {error.strerror}; use {READY}") from None
    except ValueError as error:
        raise ConfigError(f"distributed.deepspeed: {path}: not JSON ({error}); use {READY}") from None
    if not isinstance(settings, dict):
        raise ConfigError(
            f"distributed.deepspeed: {path}: takes a JSON object, got {type(settings).__name__}; use {READY}"
        )
    return settings


def complete_settings(
    settings: dict[str, Any],
    *,
    batch_size: int,
    world_size: int,
    micro_batches: int,
    gradient_clip: float | None,
) -> dict[str, Any]:
    """The settings of one engine: the keys below come from the run, all others from the JSON.

    batch_size: of the global batch. DeepSpeed clips at 1.0 by default, so clipping is always set; without ZeRO the
    engine clips. Raises ConfigError where the JSON contradicts the run.
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
    for key, (value, source) in owned.items():
        if settings.get(key, "auto") not in ("auto", value):
            raise ConfigError(
                f"distributed.deepspeed: {key}={settings[key]!r} contradicts {value!r} from {source}; remove it"
            )
    for key, source in refused.items():
        value_in_json = settings.get(key)
        if value_in_json and not (isinstance(value_in_json, dict) and value_in_json.get("enabled") is False):
            raise ConfigError(f"distributed.deepspeed: {key} is set by {source}; remove it from the JSON")
    run_settings = {key: value for key, (value, _) in owned.items()}
    if stage == 0:
        run_settings["gradient_clipping"] = 0.0
    return {"steps_per_print": 10**9, **settings, **run_settings}


def zero_stage(settings: dict[str, Any]) -> int:
    """ZeRO's stage, 0 to 3. Raises ConfigError for any other value."""
    part = settings.get("zero_optimization", {})
    stage = part.get("stage", 0) if isinstance(part, dict) else None
    if stage not in (0, 1, 2, 3):
        raise ConfigError(f"distributed.deepspeed: zero_optimization.stage takes 0, 1, 2 or 3, got {stage!r}")
    return int(stage)
