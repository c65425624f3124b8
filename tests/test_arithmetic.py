"""What `auto` means: by hardware and by kinds of networks, whose names are checked against the networks themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from align_dist.arithmetic import choose_precision, expected_device, has_bfloat16_units, is_depthwise
from align_dist.networks.backbones import BACKBONES, build_backbone

# RegNets cannot be built without memory: one of each kind has to do.
REGNETS = ("regnet_x_400mf", "regnet_y_400mf")
# Initial weights of these cannot be drawn without memory.
DRAWN_BY_SCIPY = ("googlenet", "inception_v3")


def torchvisions() -> list[str]:
    import torchvision
    from torchvision.models import list_models

    return [name for name in list_models(module=torchvision.models) if not name.startswith("regnet")]


def has_depthwise_convolutions(network: nn.Module) -> bool:
    kernels = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    return any(1 < kernel.groups == kernel.in_channels for kernel in kernels)


def test_the_depthwise_families_are_those_whose_networks_are() -> None:
    """Of torchvision's networks and ours."""
    from torchvision.models import get_model_builder

    with torch.device("meta"):
        keywords = {name: {"init_weights": False} if name in DRAWN_BY_SCIPY else {} for name in torchvisions()}
        built = {name: get_model_builder(name)(weights=None, **some) for name, some in keywords.items()}
    built |= {name: get_model_builder(name)(weights=None) for name in REGNETS}
    built |= {name: build_backbone(name, 3, False, False) for name in BACKBONES}
    depthwise = {name for name, network in built.items() if has_depthwise_convolutions(network)}
    assert {name for name in built if is_depthwise(name)} == {n for n in depthwise if not n.startswith("convnext")}
    assert len(built) > 50


@pytest.mark.parametrize(
    ("device", "backbone", "units", "expected"),
    [
        ("cuda", "efficientnet_lite0", False, "bfloat16"),
        ("cpu", "resnet18", True, "bfloat16"),
        ("cpu", "resnet8", True, "bfloat16"),
        ("cpu", "convnext_tiny", True, "bfloat16"),
        ("cpu", "efficientnet_lite0", True, "float32"),
        ("cpu", "mobilenet_v3_large", True, "float32"),
        ("cpu", "resnet18", False, "float32"),
    ],
)
def test_precision_by_device_and_backbone(device: str, backbone: str, units: bool, expected: str) -> None:
    assert choose_precision(device, backbone, units) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu avx2 avx512f avx512_bf16 erms\n", True),
        ("flags\t\t: fpu amx_tile amx_bf16\n", True),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("flags\t\t: fpu avx2 avx512f\n", False),
        ("model name : bf16 avx512_bf16\n", False),
        ("", False),
    ],
)
def test_units_are_read_from_the_processors_flags(tmp_path: Path, text: str, expected: bool) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert has_bfloat16_units(tmp_path / "cpuinfo") is expected


def test_a_machine_without_that_list_has_none(tmp_path: Path) -> None:
    assert has_bfloat16_units(tmp_path / "none") is False


def test_the_likely_device_is_the_one_that_torch_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert expected_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert expected_device("cuda") == "cuda" and expected_device("cpu") == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert expected_device("auto") == "cpu"
