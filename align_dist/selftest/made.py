"""What a self-test trains on: made-up pictures and a run of all of ALIGN's terms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from align_dist.config import parse_config, to_yaml

SIDE, PICTURES, CLASSES = 64, 24, 3
# Domains, each with the brightness of what tells the classes apart.
LIGHTS = {"day": 60, "night": 20}


def make_run(folder: Path) -> Path:
    """Paints pictures below `folder` and writes the YAML of a run on them: warm-up, the masker's head start, guidance,
    relaxed masks, mixtures. Plain gradient descent: Adam's first steps turn rounding into differences.
    """
    paint(folder / "pictures")
    slow, fast = ({"name": "sgd", "learning_rate": rate} for rate in (0.002, 0.05))
    config = parse_config(
        {
            "experiment": "reference",
            "runs": str(folder / "runs"),
            "benchmark": {"name": "folders", "root": str(folder / "pictures"), "betons": str(folder / "betons")},
            "protocol": {"kind": "single_source", "source": "day"},
            "data": {"image_size": 48, "batch_size": 16},
            "classifier": {
                "backbone": "resnet8",
                "pretrained": False,
                "batchnorm": "frozen",
                "optimiser": slow,
            },
            "align": {
                "lambda4": 0.5,
                "mask_sampling": "relaxed",
                "masker": {"width": 4, "optimiser": fast},
                "masker_head_start": "3 steps",
            },
            "training": {
                "length": "12 steps",
                "warmup": "6 steps",
                "validate_every": "6 steps",
                "checkpoint_every": "4 steps",
                "pictures_every": "12 steps",
                "log_every": 1,
                "precision": "float32",
                "device": "cpu",
            },
            "evaluation": {"selections": ["validation", "last"], "faithfulness_images": 4},
        }
    )
    path = folder / "run.yaml"
    path.write_text(to_yaml(config), "utf-8")
    (folder / "zero1.json").write_text('{"zero_optimization": {"stage": 1}}', "utf-8")
    return path


def paint(folder: Path) -> None:
    """`<domain>/<class>/<number>.png`: noise, and a square of light whose height in the picture is the class."""
    for domain, light in LIGHTS.items():
        for label in range(CLASSES):
            place = folder / domain / f"class{label}"
            place.mkdir(parents=True)
            for number in range(PICTURES):
                pixels = np.random.default_rng([light, label, number]).integers(0, 120, (SIDE, SIDE, 3))
                pixels[20 * label : 20 * label + 20, 20:44] += light
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
