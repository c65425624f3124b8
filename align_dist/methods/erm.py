"""ERM: empirical risk minimisation, the common baseline."""

from __future__ import annotations

from align_dist import objectives
from align_dist.data.batch import Batch
from align_dist.methods.base import Forward, Loss, Losses, Method
from align_dist.options import Options


class ERM(Method[Options]):
    """L = CE(f(x), y)."""

    def losses(self, step: int) -> dict[str, Loss]:
        return {"classifier": self.classification}

    def classification(self, classifier: Forward, batch: Batch, step: int) -> Losses:
        return {"classification": (1.0, objectives.classification(classifier(batch.images), batch.labels))}
