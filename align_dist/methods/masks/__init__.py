"""Sources of guiding masks: functions from a batch to masks (B, H, W) in [0, 1].

Every mask follows the crop and flip of its image: masks of the benchmark are read with the image's sample key, other
masks are functions of the augmented image.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from align_dist.data.batch import Batch

MaskSource = Callable[[Batch], Tensor]
