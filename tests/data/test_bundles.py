"""Bundles of pictures on disk: bursts by their time, the frames of a fixed camera by their looks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from manifests import make_manifest
from PIL import Image
from refusals import raises

from align_dist.data.bundles import bundles_within_domains
from align_dist.data.catalogue import Sample
from align_dist.data.duplicates import MAX_DISTANCE
from align_dist.data.scan import scan
from align_dist.data.splits import make_split
from align_dist.errors import DataError

WIDTH, HEIGHT = 128, 96


def scene(seed: int = 0) -> np.ndarray:
    """A landscape (H, W) in [40, 190]: noise of all sizes, the larger the stronger."""
    noise = np.random.default_rng(seed).normal(size=(HEIGHT, WIDTH))
    power = np.fft.fftfreq(HEIGHT)[:, None] ** 2 + np.fft.fftfreq(WIDTH)[None] ** 2
    power[0, 0] = 1
    smooth = np.fft.ifft2(np.fft.fft2(noise) / power**0.6).real
    return 40 + 150 * (smooth - smooth.min()) / np.ptp(smooth)


def save(path: Path, grey: np.ndarray, when: str | None = None) -> Sample:
    exif = Image.Exif()
    exif[0x010F] = "Reconyx"
    if when is not None:
        exif.get_ifd(0x8769)[0x9003] = when
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB").save(path, quality=85, exif=exif)
    return Sample(path, path.parent.parent.name, path.parent.name)


def test_times_decide_instead_of_looks(tmp_path: Path) -> None:
    folder = tmp_path / "wood" / "deer"
    samples = [
        save(folder / "a.jpg", scene(0), "2012:05:04 10:00:00"),
        save(folder / "b.jpg", scene(1), "2012:05:04 10:00:20"),  # unlike, of the same burst
        save(folder / "c.jpg", scene(0) + 2, "2012:05:04 12:00:00"),  # alike, two hours later
        save(folder / "d.jpg", scene(1) + 2),  # alike, of unknown time
        save(tmp_path / "hill" / "deer" / "a.jpg", scene(0), "2012:05:04 10:00:00"),  # another domain
    ]
    assert bundles_within_domains(samples, scan(samples, 128, 2)).tolist() == [0, 0, 2, 0, 4]


def frames(folder: Path, count: int, draw: Callable[[np.ndarray, float], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Bundles (N,) and hashes (N, 4) of a fixed camera's frames, each drawn over the scene at a time in [0, 1)."""
    rng = np.random.default_rng(1)
    samples = []
    for index in range(count):
        grey = draw(scene(), index / count) + rng.normal(0, 2, (HEIGHT, WIDTH))
        samples.append(save(folder / "wood" / "deer" / f"{index:03}.jpg", grey))
    facts = scan(samples, WIDTH, 2)
    return bundles_within_domains(samples, facts), np.stack([fact.difference for fact in facts])


def shadows(image: np.ndarray, time: float) -> np.ndarray:
    """Ten soft bands that wander over the scene."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    for _ in range(10):
        slope, start, width, speed = rng.uniform([0.3, 0, 5, 30], [1.2, WIDTH, 20, 90])
        away = np.abs((columns + slope * rows - start - speed * time + 500) % 250 - 125)
        image = image * (1 - 0.5 / (1 + np.exp((away - width) / 3)))
    return image


def animal(image: np.ndarray, time: float) -> np.ndarray:
    """A small dark ellipse that walks through."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    inside = ((columns - WIDTH * time) / 10) ** 2 + ((rows - 60) / 7) ** 2 < 1
    return np.where(inside, 40, image)


def test_drifting_shadows_are_no_chain_and_are_cut_near_the_fractions(tmp_path: Path) -> None:
    bundles, hashes = frames(tmp_path, 240, shadows)
    steps = np.bitwise_count(hashes[1:] ^ hashes[:-1]).sum(axis=1)
    assert (steps <= MAX_DISTANCE).mean() > 0.95  # single linkage would join nearly all
    assert len(np.unique(bundles)) > 8
    split = make_split(
        make_manifest(np.arange(240) % 2, [0] * 240, bundles),
        kind="in_domain",
        source="Caltech101",
        target=None,
        validation_fraction=0.2,
        test_fraction=0.2,
        seed=0,
    )
    assert abs(len(split.train) / 240 - 0.6) < 0.1 and abs(len(split.validation) / 240 - 0.2) < 0.1


def test_frames_that_are_all_alike_are_one_group_that_a_setting_opens(tmp_path: Path) -> None:
    bundles, _ = frames(tmp_path, 100, animal)
    assert len(np.unique(bundles)) == 1
    manifest = make_manifest(np.arange(100) % 2, [0] * 100, bundles)
    protocol = {"kind": "in_domain", "source": "Caltech101", "target": None, "seed": 0}
    fractions = {"validation_fraction": 0.2, "test_fraction": 0.2}
    with raises(DataError, "protocol.keep_together=copies"):
        make_split(manifest, **protocol, **fractions)
    split = make_split(manifest, **protocol, **fractions, keep_together="copies")
    assert [len(split.train), len(split.validation), len(split.tests["Caltech101"])] == [60, 20, 20]
