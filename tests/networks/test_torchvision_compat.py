"""torchvision imports wherever align_dist does, in processes that have imported nothing yet."""

from __future__ import annotations

import subprocess
import sys

import pytest

USES = "; assert torchvision.models.resnet18(num_classes=5).fc.out_features == 5; import torchvision.transforms.v2"


@pytest.mark.parametrize(
    "order",
    [
        "import align_dist, torchvision",
        "import torch, align_dist, torchvision",
        "import align_dist.errors; from torchvision import models; import torchvision",
        "from align_dist.training.checkpoint import load_weights; import torchvision",
        # Where torchvision comes first and fails, whoever catches that may try again.
        "import contextlib\nwith contextlib.suppress(RuntimeError):\n import torchvision\n"
        "import align_dist, torchvision",
    ],
)
def test_torchvision_works_after_any_part_of_the_package(order: str) -> None:
    subprocess.run([sys.executable, "-c", order + USES], check=True)


def test_the_package_itself_is_light() -> None:
    check = "import sys, align_dist; print([m for m in ('torch', 'numpy', 'torchvision', 'yaml') if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "[]"
