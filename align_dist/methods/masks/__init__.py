"""Where a guiding mask comes from: a source is a function of a batch that gives masks (B, H, W) in [0, 1].

Every mask follows the crop and the flip of its image: those of the benchmark are read with the image's own draw, the
others are functions of the augmented image.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from align_dist.data.batch import Batch

MaskSource = Callable[[Batch], Tensor]
