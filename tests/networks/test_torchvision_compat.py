"""torchvision imports wherever align_dist does, in processes that have imported nothing yet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

USES = "; assert torchvision.models.resnet18(num_classes=5).fc.out_features == 5; import torchvision.transforms.v2"


@pytest.mark.parametrize(
    "order",
    [
        "import torch, align_dist, torchvision",
        "from align_dist.runs.checkpoint import load_weights; import torchvision",
        # Where torchvision comes first and fails, whoever catches that may try again.
        "import contextlib\nwith contextlib.suppress(RuntimeError):\n import torchvision\n"
        "import align_dist, torchvision",
    ],
)
def test_torchvision_works_after_any_part_of_the_package(order: str) -> None:
    subprocess.run([sys.executable, "-c", order + USES], check=True)


def test_where_the_package_is_installed_torchvision_may_come_first(tmp_path: Path) -> None:
    """With the entry points that an installation leaves, made from setup.py."""
    checkout = Path(__file__).parents[2]
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)]
    subprocess.run(command, check=True, cwd=checkout, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    paths = os.pathsep.join([str(tmp_path), str(checkout)])
    environment = {**os.environ, "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", "import torchvision, align_dist" + USES], check=True, env=environment)


def test_the_package_itself_is_light() -> None:
    check = "import sys, align_dist; print([m for m in ('torch', 'numpy', 'torchvision', 'yaml') if m in sys.modules])"
    output = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
