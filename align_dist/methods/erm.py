"""ERM: empirical risk minimisation, L = CE(f(x), y). The baseline of everything."""

from __future__ import annotations

from collections.abc import Iterator

from align_dist import objectives
from align_dist.data.loader import Batch
from align_dist.methods.base import Forward, Method, scalars
from align_dist.parallel.engine import Terms


class ERM(Method):
    def step(self, batch: Batch, step: int) -> Terms:
        parts = batch.parts(self.context.micro_batches)
        return scalars("classifier", self.classifier.update(lambda part: self._terms(self.classifier, part), parts))

    def probe(self, batch: Batch, step: int) -> Iterator[tuple[str, Terms]]:
        yield "classifier", self._terms(self.classifier.module, batch)

    def _terms(self, classifier: Forward, batch: Batch) -> Terms:
        return {"classification": objectives.classification(classifier(batch.images), batch.labels)}
