"""Choice of the faster precision by a fixed rule. Nothing here imports torch, so a config is read without torch."""

from __future__ import annotations

import ctypes
import os
from importlib import metadata
from pathlib import Path
from typing import Literal

Precision = Literal["float32", "bfloat16"]
# Backbone families of depthwise convolutions (one group per channel). bfloat16 units multiply matrices, and a group of
# one channel has none: a training step on a CPU takes 1.2 to 2.7 times as long as in float32. ConvNeXt is left out:
# ConvNeXt is depthwise too, but spends most of its time in 1×1 layers, and takes 0.7 times as long in bfloat16.
DEPTHWISE = ("efficientnet", "maxvit", "mnasnet", "mobilenet", "shufflenet")
# As Linux names them, on x86 (/proc/cpuinfo: flags) and on Arm (Features).
BFLOAT16_UNITS = {"amx_bf16", "avx512_bf16", "bf16"}


def resolve_precision(precision: Precision | Literal["auto"], device: str, backbone: str) -> Precision:
    """The given precision; for `auto`, the faster one on this machine. device: a value of training.device."""
    return (
        choose_precision(expected_device(device), backbone, has_bfloat16_units()) if precision == "auto" else precision
    )


def choose_precision(device: str, backbone: str, has_bfloat16: bool) -> Precision:
    """bfloat16 on CUDA, and on a CPU with bfloat16 units unless the backbone is depthwise; else float32."""
    if device == "cuda":
        return "bfloat16"
    return "bfloat16" if has_bfloat16 and not is_depthwise(backbone) else "float32"


def is_depthwise(backbone: str) -> bool:
    """Return whether a backbone's name belongs to a depthwise family."""
    return backbone.startswith(DEPTHWISE)


def has_bfloat16_units(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether this machine's processor has bfloat16 matrix instructions."""
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    flags = [line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))]
    return any(BFLOAT16_UNITS & set(names) for names in flags)


def expected_device(device: str) -> str:
    """`cuda` or `cpu`: the value of training.device; for `auto`, what the driver and torch's build allow."""
    if device != "auto":
        return device
    return "cuda" if _builds_for_cuda() and _has_cuda_device() else "cpu"


def _builds_for_cuda() -> bool:
    try:
        return not metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return False


def _has_cuda_device() -> bool:
    """Ask NVIDIA's management library, which unlike CUDA leaves the process able to fork."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        count = ctypes.c_uint(0)
        status = library.nvmlInit_v2() or library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        return not status and count.value > 0
    except (OSError, AttributeError):
        return False
