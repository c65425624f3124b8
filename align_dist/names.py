"""The names that a run's description may hold, checked before anything heavy is imported."""

from __future__ import annotations

from align_dist.config import RunConfig

# Known without asking torchvision, whose import takes seconds.
COMMON_BACKBONES = ("resnet8", "resnet18", "resnet34", "resnet50", "resnet101", "efficientnet_lite0")


def check_names(config: RunConfig) -> None:
    """Raises ConfigError for a method, a benchmark or a backbone that does not exist."""
    from align_dist.data.benchmarks import find_reader
    from align_dist.methods.registry import check_method

    check_method(config.method)
    find_reader(config.benchmark.name)
    if config.classifier.backbone not in COMMON_BACKBONES:
        from align_dist.networks.backbones import find_builder

        find_builder(config.classifier.backbone)
