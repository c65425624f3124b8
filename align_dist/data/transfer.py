"""Transfer of batches from the host to the device, without the host waiting for the device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from align_dist.data.compiling import compiled_for
from align_dist.data.kernels import Pixels, Plane

_NORMALISE = "void(uint8[:, :, :, ::1], float32[::1], float32[::1], float32[:, :, :, ::1])"
Send = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def make_sender(device: torch.device) -> Send:
    """A function that copies host tensors, by name, to the device.

    CPU: returns the tensors without a copy. CUDA: copies through pinned memory on a separate stream, for which the
    computing stream waits and the host does not. torch keeps a pinned block until its copy is done, so the host may
    overwrite the host tensors at once.
    """
    if device.type != "cuda":
        return lambda tensors: tensors
    copying = torch.cuda.Stream(device)

    def send(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        with torch.cuda.stream(copying):
            sent = {name: tensor.pin_memory().to(device, non_blocking=True) for name, tensor in tensors.items()}
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(copying)
        for tensor in sent.values():
            tensor.record_stream(computing)
        return sent

    return send


def make_normaliser(device: torch.device, mean: Tensor, std: Tensor) -> Callable[[Tensor], Tensor]:
    """A function from pixels (B, 3, H, W) uint8 on the device to normalised float32 pixels. mean, std: (3,).

    On a CPU one thread makes one pass, because torch's threads would wait for each other beside the decoding threads.
    """
    scale, offset = 1 / (255 * std), mean / std
    if device.type != "cpu":
        wide_scale, wide_offset = scale.to(device).view(1, 3, 1, 1), offset.to(device).view(1, 3, 1, 1)
        return lambda pixels: pixels.float().mul_(wide_scale).sub_(wide_offset)

    normalise = compiled_for(_normalise, _NORMALISE)

    def on_host(pixels: Tensor) -> Tensor:
        normalised = torch.empty(pixels.shape, dtype=torch.float32)
        normalise(pixels.numpy(), scale.numpy(), offset.numpy(), normalised.numpy())
        return normalised

    return on_host


def _normalise(pixels: Pixels, scale: Plane, offset: Plane, normalised: Plane) -> None:
    """normalised (B, C, H, W) <- pixels (B, C, H, W) · scale (C,) − offset (C,), in one pass, on the calling thread."""
    for image in range(pixels.shape[0]):
        for channel in range(pixels.shape[1]):
            source, target = pixels[image, channel].reshape(-1), normalised[image, channel].reshape(-1)
            factor, constant = scale[channel], offset[channel]
            for place in range(len(source)):
                target[place] = np.float32(source[place]) * factor - constant
