from __future__ import annotations

import pytest

from align_dist.config import RunConfig
from align_dist.training.assembly import assemble, warnings_of


@pytest.mark.parametrize(("batchnorm", "warned"), [("frozen", True), ("synchronised", False), ("local", False)])
def test_statistics_that_nothing_has_learnt_are_warned_of(squares: RunConfig, batchnorm: str, warned: bool) -> None:
    classifier = squares.classifier.model_copy(update={"batchnorm": batchnorm})
    lines = warnings_of(assemble(squares.model_copy(update={"classifier": classifier})))
    assert any("classifier.batchnorm" in line for line in lines) == warned
