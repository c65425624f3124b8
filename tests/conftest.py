"""A small real benchmark that the tests of whole runs share."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from local_slurm import CHECKOUT, cluster, obstacle
from PIL import Image

from align_dist.config import RunConfig, parse_config
from align_dist.data.manifest import with_fingerprint
from align_dist.data.prepare import prepare

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
# Runs in tests are compared bit by bit: one thread, whatever the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell's background job ignores Ctrl-C, and so would every process that the tests start from there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Folders and files whose tests are slow, those to come included; a slow test elsewhere is marked where it stands.
SLOW = (
    "cluster/test_ray_cluster.py",
    "cluster/test_study.py",
    "cluster/test_submission.py",
    "data/test_compiling.py",
    "deployment/test_explain.py",
    "evaluation/test_theory.py",
    "methods/test_compared_runs.py",
    "methods/test_learning.py",
    "methods/test_readme.py",
    "parallel/test_batchnorm.py",
    "parallel/test_equality.py",
    "parallel/test_group.py",
    "parallel/test_health.py",
    "parallel/test_input_attribution.py",
    "parallel/test_resume.py",
    "parallel/test_threads.py",
    "runs/test_details.py",
    "runs/test_warmup.py",
    "report/test_curves.py",
    "report/test_page_in_browser.py",
    "search",
    "selftest",
    "slurm",
    "test_tensorboard.py",
    "training",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what lies in SLOW."""
    slow = [Path(__file__).parent / name for name in SLOW]
    for item in items:
        if any(item.path.is_relative_to(place) for place in slow):
            item.add_marker(pytest.mark.slow)


def make_pictures(root: Path, per_class: int = 24, side: int = 32) -> None:
    """Two domains of two classes: a light square on the left or on the right, over noise."""
    for domain, brightness in (("bright", 120), ("dark", 40)):
        for label, column in (("left", 4), ("right", 20)):
            folder = root / "images" / domain / label
            masks = root / "masks" / domain / label
            folder.mkdir(parents=True)
            masks.mkdir(parents=True)
            for index in range(per_class):
                random = np.random.default_rng([brightness, column, index])
                pixels = random.integers(0, brightness, (side, side, 3), dtype=np.uint8)
                row = int(random.integers(4, 20))
                mask = np.zeros((side, side), np.uint8)
                mask[row : row + 8, column : column + 8] = 255
                pixels[mask > 0] = 230
                Image.fromarray(pixels).save(folder / f"{index:02}.png")
                Image.fromarray(mask).save(masks / f"{index:02}.png")


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A run's description whose beton is made: 96 pictures, 4 batches an epoch, a second or two an epoch."""
    root = tmp_path_factory.mktemp("squares")
    make_pictures(root)
    config = parse_config(
        {
            "experiment": "test",
            "runs": str(root / "runs"),
            "method": "align",
            "benchmark": {
                "name": "folders",
                "root": str(root / "images"),
                "masks": str(root / "masks"),
                "betons": str(root / "betons"),
                "storage": "raw",
            },
            "protocol": {"kind": "single_source", "source": "bright"},
            "data": {"image_size": 32, "batch_size": 8, "workers": 1, "augmentation": {"flip": 0.0}},
            "classifier": {
                "backbone": "resnet8",
                "pretrained": False,
                "batchnorm": "synchronised",
                "optimiser": {"name": "adamw", "learning_rate": 1e-3},
            },
            "align": {"lambda1": 1.0, "lambda4": 0.5, "masker": {"width": 4}},
            "fixed_mask": {"lambda4": 0.5},
            "training": {
                "length": "24 steps",
                "warmup": "10 steps",
                "validate_every": "8 steps",
                "checkpoint_every": "4 steps",
                "pictures_every": "12 steps",
                "log_every": 2,
                "threads": 1,
                "precision": "float32",
                "channels_last": False,
            },
            "evaluation": {"faithfulness_images": 4},
        }
    )
    prepare(config.benchmark)
    return with_fingerprint(config)


@pytest.fixture(scope="session")
def grouped(squares: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """Squares in groups by class and by whether the picture's number is below ten; half of each group trains."""
    folder, root = tmp_path_factory.mktemp("grouped"), squares.benchmark.root
    lines = [
        (path.relative_to(root).as_posix(), "low" if int(path.stem) < 10 else "high", int(path.stem) % 4)
        for path in sorted(root.glob("*/*/*.png"))
    ]
    with (folder / "m.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("image", "attribute", "split"))
        writer.writerows((name, level, ("train", "train", "validation", "test")[part]) for name, level, part in lines)
    update = {"metadata": folder / "m.csv", "betons": folder, "fingerprint": None}
    benchmark = squares.benchmark.model_copy(update=update)
    prepare(benchmark)
    protocol = squares.protocol.model_copy(update={"kind": "fixed", "source": None})
    selections = ("validation", "validation_worst_group", "last")
    evaluation = squares.evaluation.model_copy(update={"selections": selections})
    update = {"benchmark": benchmark, "protocol": protocol, "evaluation": evaluation, "runs": folder, "method": "erm"}
    return with_fingerprint(squares.model_copy(update=update))


@pytest.fixture(scope="session")
def slurm() -> Iterator[Path]:
    """The folder of a real Slurm of two nodes, made when first asked for: sbatch and the like find it, and its jobs
    find the package under test.
    """
    reason = obstacle()
    if reason:
        pytest.skip(reason)
    with cluster() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.setenv("PYTHONPATH", str(CHECKOUT))
        yield folder
