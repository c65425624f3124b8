"""Synthetic images for the self-test, and a config that uses all of ALIGN's terms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from align_dist.config import parse_config, to_yaml

SIDE, PICTURES, CLASSES = 64, 24, 3
# Domains, each with the brightness of the square that marks the class.
LIGHTS = {"day": 60, "night": 20}


def make_run(folder: Path) -> Path:
    """Paint images below `folder` and write the YAML of a run on these images: warm-up, the masker's head start,
    guidance, relaxed masks, mixtures. SGD, because Adam's first steps amplify rounding.
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
    """Write `<domain>/<class>/<number>.png`: noise with a bright square whose height in the image is the class."""
    for domain, light in LIGHTS.items():
        for label in range(CLASSES):
            subfolder = folder / domain / f"class{label}"
            subfolder.mkdir(parents=True)
            for number in range(PICTURES):
                pixels = np.random.default_rng([light, label, number]).integers(0, 120, (SIDE, SIDE, 3))
                pixels[20 * label : 20 * label + 20, 20:44] += light
                Image.fromarray(pixels.astype(np.uint8)).save(subfolder / f"{number}.png")
