"""align_dist: image classifiers that are right for the right reasons, at the scale of a cluster."""

__version__ = "0.1.0"
