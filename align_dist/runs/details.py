"""Details behind results, by domain: confusion, calibration, curves and examples, for reports.

One details/<domain>.npz a domain, of the weights of the first selection. The only place that knows the file's form:
evaluation writes it, reports read it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from align_dist.files import write_atomically

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Bytes = NDArray[np.uint8]

JPEG_QUALITY = 90


@dataclass(frozen=True)
class Curves:
    """Mean probability of the predicted class, (points,) each, at even steps from no pixel to all pixels.

    insertion: while true pixels replace a blurred image's, the most salient first. deletion: while the mean colour
    replaces the image's. images: how many the means are over.
    """

    insertion: Floats
    deletion: Floats
    images: int


@dataclass(frozen=True)
class Examples:
    """Images with what the classifier made of them, n of each.

    samples, labels, predictions: (n,). confidences: (n,), the probability of the predicted class. images:
    (n, H, W, 3). saliency: (n, H, W), of the true class, 255 for 1. masks: the learned ones, and objects: the true
    ones, (n, H, W) or empty (0, 0, 0).
    """

    samples: Integers
    labels: Integers
    predictions: Integers
    confidences: Floats
    images: Bytes
    saliency: Bytes
    masks: Bytes
    objects: Bytes


@dataclass(frozen=True)
class Details:
    """Details of one domain's results.

    selection, step: of the weights. fingerprint: `Manifest.fingerprint`. classes: their names. confusion: (C, C), how
    many images by true and predicted class. calibration: (bins, 3), of images by the probability of their predicted
    class, evenly spaced over [0, 1]: how many, the sum of those probabilities, how many are right.
    """

    selection: str
    step: int
    fingerprint: str
    classes: tuple[str, ...]
    confusion: Integers
    calibration: Floats
    curves: Curves | None = None
    examples: Examples | None = None

    @property
    def calibration_error(self) -> float:
        """Expected calibration error, in [0, 1]: mean of |accuracy - confidence| over bins, weighted by their images.

        Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599, equation 3. NaN for no images.
        """
        count, confidence, right = self.calibration.T
        return float(np.abs(right - confidence).sum() / count.sum()) if count.sum() else float("nan")


def write_details(folder: Path, details: Mapping[str, Details]) -> None:
    """Write one file a domain, each atomically. Raises StorageError."""
    for domain, domain_details in details.items():
        save: Any = np.savez_compressed  # whose stub takes no other names than its own
        write_atomically(folder / f"{domain}.npz", partial(save, **_arrays(domain_details)))


def read_details(path: Path, with_examples: bool = True) -> Details | None:
    """The details in a file; None where there is none, or it is damaged or of another form."""
    try:
        with np.load(path, allow_pickle=False) as file:
            names = [name for name in file.files if with_examples or name not in Examples.__dataclass_fields__]
            return _details({name: file[name] for name in names})
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _arrays(details: Details) -> dict[str, NDArray[np.generic]]:
    arrays: dict[str, NDArray[np.generic]] = {
        "selection": np.array(details.selection),
        "step": np.array(details.step),
        "fingerprint": np.array(details.fingerprint),
        "classes": np.array(details.classes),
        "confusion": details.confusion,
        "calibration": details.calibration,
    }
    if details.curves is not None:
        curves = details.curves
        arrays |= {"insertion": curves.insertion, "deletion": curves.deletion, "curve_images": np.array(curves.images)}
    if details.examples is not None:
        arrays |= vars(details.examples) | {"images": _to_jpeg(details.examples.images)}
    return arrays


def _details(arrays: Mapping[str, NDArray[Any]]) -> Details:
    """Details from arrays. Raises KeyError or ValueError for arrays of another form."""
    curves = examples = None
    if "insertion" in arrays:
        insertion, deletion = (arrays[name].astype(np.float64) for name in ("insertion", "deletion"))
        curves = Curves(insertion, deletion, int(arrays["curve_images"]))
    if "samples" in arrays:
        fields = {name: arrays[name] for name in Examples.__dataclass_fields__}
        fields["images"] = _from_jpeg(arrays["images"].astype(np.uint8), len(arrays["samples"]))
        examples = Examples(**fields)
    return Details(
        str(arrays["selection"]),
        int(arrays["step"]),
        str(arrays["fingerprint"]),
        tuple(map(str, arrays["classes"])),
        arrays["confusion"].astype(np.int64),
        arrays["calibration"].astype(np.float64),
        curves,
        examples,
    )


def _to_jpeg(images: Bytes) -> Bytes:
    """Images one below the other as one JPEG, a tenth of their size."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(images.reshape(-1, *images.shape[2:])).save(stream, "JPEG", quality=JPEG_QUALITY)
    return np.frombuffer(stream.getvalue(), np.uint8)


def _from_jpeg(data: Bytes, count: int) -> Bytes:
    from PIL import Image

    strip = np.asarray(Image.open(io.BytesIO(data.tobytes())).convert("RGB"))
    return strip.reshape(count, -1, *strip.shape[1:])
