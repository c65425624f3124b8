"""align_dist: image classifiers that are right for the right reasons, at the scale of a cluster."""

from align_dist.networks.torchvision_compat import watch_for_torchvision

__version__ = "0.1.0"

watch_for_torchvision()
