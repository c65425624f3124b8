"""Pictures are chosen by rule."""

from __future__ import annotations

import numpy as np

from align_dist.training.pictures import choose


def test_classes_by_turns_in_the_order_of_ids() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    assert choose(np.arange(6), labels, 4).tolist() == [0, 3, 5, 1]
    assert choose(np.array([1, 2, 4]), labels, 8).tolist() == [1, 4, 2]
