"""The names that a run's description may hold, checked before anything heavy is imported."""

from __future__ import annotations

from align_dist.config import RunConfig
from align_dist.errors import ConfigError

# Known without asking torchvision, whose import takes seconds.
COMMON_BACKBONES = ("resnet8", "resnet18", "resnet34", "resnet50", "resnet101", "efficientnet_lite0")


def check_folder(config: RunConfig) -> None:
    """Raises ConfigError for a run's folder with bytes in its name that are no text: TensorBoard takes text alone."""
    folder = str(config.folder.absolute())
    try:
        folder.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{folder!a}: the run's folder has a name that is no text in this locale; name runs, experiment, "
            "variant and domain otherwise, or set LC_ALL=C.UTF-8"
        ) from None


def check_names(config: RunConfig) -> None:
    """Raises ConfigError for a benchmark or a backbone that does not exist, or a folder that is no text."""
    from align_dist.data.benchmarks import find_reader

    check_folder(config)
    find_reader(config.benchmark.name)
    if config.classifier.backbone not in COMMON_BACKBONES:
        from align_dist.networks.backbones import find_builder

        find_builder(config.classifier.backbone)
