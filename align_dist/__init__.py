"""align_dist: image classifiers that are right for the right reasons, at the scale of a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from align_dist.networks.torchvision_compat import watch_for_torchvision

if TYPE_CHECKING:
    from align_dist.deployment.model import Model

__version__ = "0.1.0"

watch_for_torchvision()


def load(run: str | Path, selection: str = "validation", device: str = "auto") -> Model:
    """The model that a run has trained: `load(run).explain(["cat.jpg"])`. See `deployment.model.load`."""
    from align_dist.deployment.model import load as load_model  # torch takes seconds to import

    return load_model(run, selection, device)
