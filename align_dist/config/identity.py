"""The id of a run: a hash of everything that determines the run's result, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from typing import Any

# Keys without influence on the weights: where a run is stored, its speed, its logs and its evaluation.
NOT_HASHED = {
    "": ("experiment", "runs", "variant", "evaluation", "distributed"),
    "data": ("workers",),
    "training": ("log_every", "pictures_every", "checkpoint_every", "device", "threads", "until"),
    "benchmark": ("root", "masks", "metadata", "betons"),
}


def identity_of(values: dict[str, Any]) -> str:
    """Id of a run: eight hexadecimal digits. values: the config as plain values, without other methods' options."""
    hashed = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    for section, keys in NOT_HASHED.items():
        for key in keys:
            (hashed[section] if section else hashed).pop(key)
    if hashed["data"]["balance"] == "groups":
        hashed["data"]["balance"] = "groups in random order"  # since batches of equal groups are
    if hashed["benchmark"]["fingerprint"] is None:
        hashed["benchmark"].pop("fingerprint")  # a run whose beton is not written yet
    return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:8]
