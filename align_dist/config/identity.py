"""What names a run: a hash of what determines its result, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from typing import Any

# Where a run lies, how fast it goes, what is shown and how it is measured.
SILENT = {
    "": ("experiment", "runs", "variant", "evaluation", "distributed"),
    "data": ("workers",),
    "training": ("log_every", "pictures_every", "checkpoint_every", "device", "threads", "until"),
    "benchmark": ("root", "masks", "metadata", "betons"),
}


def identity_of(told: dict[str, Any]) -> str:
    """Eight hexadecimal digits of a run's description as plain values, which holds no other method's options."""
    kept = {key: dict(value) if isinstance(value, dict) else value for key, value in told.items()}
    for section, keys in SILENT.items():
        for key in keys:
            (kept[section] if section else kept).pop(key)
    if kept["benchmark"]["pictures"] is None:
        kept["benchmark"].pop("pictures")  # of a run whose beton is not made yet
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]
