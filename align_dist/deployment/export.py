"""A trained model as files that need nothing of align_dist."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from align_dist.attribution import saliency, size_of
from align_dist.errors import ConfigError, MachineError, first_line, missing_package
from align_dist.files import unwritable, write_text

if TYPE_CHECKING:
    from align_dist.deployment.model import Model

# Between the original and the exported model, of probabilities and of maps in [0, 1].
TOLERANCE = 1e-3
OUTPUTS = ("probabilities", "attribution", "mask")


class Explaining(nn.Module):
    """Normalised images (B, 3, S, S) → probabilities (B, C), attribution (B, S, S) of the likeliest class in [0, 1],
    and the mask (B, S, S) in [0, 1] of a model that has a masker.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.classifier, self.masker = model.classifier, model.masker
        self.places = model.classifier.places

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        probabilities = torch.softmax(self.classifier(images).float(), dim=1)
        cam = self.classifier(images, explain=probabilities.argmax(1)).cam
        attribution = saliency(cam, size_of(images), self.places)
        return (
            (probabilities, attribution) if self.masker is None else (probabilities, attribution, self.masker(images))
        )


def export_model(model: Model, pictures: Sequence[Path], path: Path) -> float:
    """Write the model to `path`, and to `<path>.json` what it takes: classes, side, mean and std.

    `.pth` is the plain torchvision state dict of the classifier. `.pt2` (torch.export) and `.onnx` are the classifier
    with its map and the masker, for any number of images; what they give for `pictures` is compared with the original.
    Returns the largest difference. What was at `path` stays where the export fails. Raises ConfigError for another
    suffix, MachineError where torch cannot export the network or the exported model differs by more than 1e-3,
    StorageError.
    """
    writers: dict[str, Callable[[Model, Tensor, Path], float]] = {
        ".pth": _write_weights,
        ".pt2": _write_program,
        ".onnx": _write_onnx,
    }
    if path.suffix not in writers:
        raise ConfigError(f"{path}: takes one of {', '.join(writers)} as its suffix")
    images = model.normalise(model.pixels(pictures)).cpu()
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        difference = writers[path.suffix](model, images, partial)
        os.replace(partial, path)
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        with suppress(OSError):  # where the folder is missing, so is the file
            partial.unlink()
    write_text(path.with_name(f"{path.name}.json"), json.dumps(_description(model, path.suffix), indent=1) + "\n")
    return difference


def _description(model: Model, suffix: str) -> dict[str, Any]:
    return {
        "backbone": model.config.classifier.backbone,
        "small_images": model.config.classifier.small_images,
        "classes": list(model.classes),
        "image_size": model.size,
        "max_side": model.max_side,
        "mean": [round(value, 6) for value in model.mean.tolist()],
        "std": [round(value, 6) for value in model.std.tolist()],
        "input": "RGB / 255, resized whole to image_size × image_size (antialiased bilinear), then (x - mean) / std",
        **(_loading(model) if suffix == ".pth" else {"outputs": _outputs(model)}),
    }


def _outputs(model: Model) -> list[str]:
    return list(OUTPUTS if model.masker is not None else OUTPUTS[:2])


def _loading(model: Model) -> dict[str, Any]:
    """The line of Python that builds a state dict's network, and the network's outputs."""
    from torchvision.models import list_models

    backbone, small = model.config.classifier.backbone, model.config.classifier.small_images
    # GoogLeNet loses its auxiliary heads with ImageNet's weights, and torchvision would build them.
    if backbone in list_models() and backbone != "googlenet" and not small:
        network = f"torchvision.models.get_model({backbone!r}, num_classes={len(model.classes)})"
    else:
        arguments = f"{backbone!r}, {len(model.classes)}, pretrained=False, small_images={small}"
        network = f"align_dist.networks.backbones.build_backbone({arguments})"
    return {"network": network, "outputs": ["logits"]}


def _write_weights(model: Model, images: Tensor, path: Path) -> float:
    torch.save(model.classifier.export(), path)
    state = torch.load(path, weights_only=True)
    own = model.classifier.network.state_dict()
    return max(float((state[name].float() - value.cpu().float()).abs().max()) for name, value in own.items())


def _write_program(model: Model, images: Tensor, path: Path) -> float:
    program = _exported(model, images)
    torch.export.save(program, path)
    return _checked(model, images, torch.export.load(path).module())


def _write_onnx(model: Model, images: Tensor, path: Path) -> float:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise missing_package(str(error.name), "writing .onnx", "export") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of the exporter's own code, for its authors
            torch.onnx.export(
                Explaining(model).eval().cpu(),
                (images,),
                path,
                input_names=["images"],
                output_names=_outputs(model),
                dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise MachineError(
            f"torch cannot export {_name(model)}: {first_line(error)}; use align_dist.load in Python"
        ) from None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def exported(batch: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(output) for output in session.run(None, {"images": batch.numpy()}))

    return _checked(model, images, exported)


def _exported(model: Model, images: Tensor) -> torch.export.ExportedProgram:
    """The exported program, for batches of any size: an example of two shows that the size may vary."""
    example = images if len(images) > 1 else images.repeat(2, 1, 1, 1)
    try:
        return torch.export.export(
            Explaining(model).eval().cpu(),
            (example,),
            dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}},
        )
    except Exception as error:  # torch raises a dozen kinds
        raise MachineError(f"torch cannot export {_name(model)}: {first_line(error)}; write .pth") from None


def _checked(model: Model, images: Tensor, exported: Callable[[Tensor], tuple[Tensor, ...]]) -> float:
    with torch.no_grad():
        ours, theirs = Explaining(model).eval().cpu()(images), exported(images)
    difference = max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))
    if not difference <= TOLERANCE:
        raise MachineError(
            f"the exported {_name(model)} differs from the run's by {difference:.2g}, at most {TOLERANCE} is taken; "
            "use align_dist.load in Python"
        )
    return difference


def _name(model: Model) -> str:
    return f"{model.config.method} on {model.config.classifier.backbone}"
