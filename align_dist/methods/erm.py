"""ERM: empirical risk minimisation, L = CE(f(x), y). The baseline of everything."""

from __future__ import annotations

from align_dist import objectives
from align_dist.data.loader import Batch
from align_dist.methods.base import Forward, Method, Terms, scalars, total


class ERM(Method):
    def step(self, batch: Batch, step: int) -> Terms:
        terms = self._terms(self.classifier, batch)
        return scalars("classifier", terms, self.classifier.update(total(terms)))

    def probe(self, batch: Batch, step: int) -> dict[str, Terms]:
        return {"classifier": self._terms(self.classifier.module, batch)}

    def _terms(self, classifier: Forward, batch: Batch) -> Terms:
        return {"classification": objectives.classification(classifier(batch.images), batch.labels)}
