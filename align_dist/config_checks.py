"""Checks of the names in a config, before anything heavy is imported."""

from __future__ import annotations

from align_dist.config import RunConfig
from align_dist.errors import ConfigError

# Known without importing torchvision, which takes seconds.
COMMON_BACKBONES = ("resnet8", "resnet18", "resnet34", "resnet50", "resnet101", "efficientnet_lite0")


def check_folder(config: RunConfig) -> None:
    """Raise ConfigError where the path of a run's folder is not valid UTF-8, which TensorBoard needs."""
    folder = str(config.folder.absolute())
    try:
        folder.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{folder!a}: the run's folder has a name that is not text in this locale; change runs, experiment, "
            "variant or domain, or set LC_ALL=C.UTF-8"
        ) from None


def check_names(config: RunConfig) -> None:
    """Raise ConfigError for an unknown benchmark or backbone, or a folder whose path is not text."""
    from align_dist.data.benchmarks import find_reader

    check_folder(config)
    find_reader(config.benchmark.name)
    if config.classifier.backbone not in COMMON_BACKBONES:
        from align_dist.networks.backbones import find_builder

        find_builder(config.classifier.backbone)
