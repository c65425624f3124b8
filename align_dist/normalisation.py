"""Mean and std by which a backbone's images are normalised, for pixels in [0, 1]."""

from __future__ import annotations

InputNormalisation = tuple[tuple[float, ...], tuple[float, ...]]

IMAGENET: InputNormalisation = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# EfficientNet-Lite was trained on (x - 127) / 128.
LITE: InputNormalisation = ((127 / 255,) * 3, (128 / 255,) * 3)


def input_normalisation(name: str) -> InputNormalisation:
    """Mean and std of the backbone's input normalisation."""
    return LITE if name == "efficientnet_lite0" else IMAGENET
