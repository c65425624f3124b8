"""The precision that pays, by a written rule. No torch in here: a config is read without it."""

from __future__ import annotations

import ctypes
import os
from importlib import metadata
from pathlib import Path
from typing import Literal

Precision = Literal["float32", "bfloat16"]
# Families of depthwise convolutions, which have a group for each channel. Multiplying matrices is what bfloat16 units
# are for, and a group of one has none: a training step on a CPU takes 1.2 to 2.7 times as long as in float32. ConvNeXt
# is not among them: it is depthwise as well, but most of its time is in 1 by 1 layers, and bfloat16 takes 0.7 times.
DEPTHWISE = ("efficientnet", "maxvit", "mnasnet", "mobilenet", "shufflenet")
# As Linux names them, on x86 (/proc/cpuinfo: flags) and on Arm (Features).
BFLOAT16_UNITS = {"amx_bf16", "avx512_bf16", "bf16"}


def settled_precision(asked: Precision | Literal["auto"], device: str, backbone: str) -> Precision:
    """What is asked for; of `auto`, what pays on this machine. device: as training.device has it."""
    return choose_precision(likely_device(device), backbone, has_bfloat16_units()) if asked == "auto" else asked


def choose_precision(device: str, backbone: str, has_bfloat16: bool) -> Precision:
    """bfloat16 on CUDA, and on a CPU with units for it unless the backbone is depthwise; else float32."""
    if device == "cuda":
        return "bfloat16"
    return "bfloat16" if has_bfloat16 and not is_depthwise(backbone) else "float32"


def is_depthwise(backbone: str) -> bool:
    """Whether a backbone, by its name, is one of the depthwise families."""
    return backbone.startswith(DEPTHWISE)


def has_bfloat16_units(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this machine's processor multiplies bfloat16 itself."""
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    flags = [line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))]
    return any(BFLOAT16_UNITS & set(names) for names in flags)


def likely_device(asked: str) -> str:
    """`cuda` or `cpu`: what training.device asks for; of `auto`, what the driver and torch's build will make."""
    if asked != "auto":
        return asked
    return "cuda" if _builds_for_cuda() and _has_cuda_device() else "cpu"


def _builds_for_cuda() -> bool:
    try:
        return not metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return False


def _has_cuda_device() -> bool:
    """Asked of NVIDIA's management library: unlike CUDA itself it leaves the process able to fork."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        count = ctypes.c_uint(0)
        failed = library.nvmlInit_v2() or library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        return not failed and count.value > 0
    except (OSError, AttributeError):
        return False
