from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Tree = Mapping[str, Mapping[str, int]]


def make_pictures(root: Path, tree: Tree, side: int = 40, suffix: str = ".png") -> Path:
    """`tree` maps domain -> class -> number of random pictures, each unlike all others."""
    rng = np.random.default_rng(0)
    for domain, classes in tree.items():
        for label, count in classes.items():
            folder = root / domain / label
            folder.mkdir(parents=True)
            for index in range(count):
                coarse = rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)
                picture = Image.fromarray(coarse).resize((side, side * 3 // 4), Image.Resampling.BICUBIC)
                picture.save(folder / f"{label}_{index:03d}{suffix}")
    return root


@pytest.fixture
def pictures() -> Callable[..., Path]:
    return make_pictures
