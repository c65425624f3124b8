from __future__ import annotations

from typing import Any

import pytest
from methods.making import changed, in_plain_engine, make_batch, make_method, state_of
from shares import take_step

READINGS = ("mean", "column_maximum")


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("warmup", [0, 2, 9])
def test_it_is_align_without_guidance_to_the_bit(reading: str, warmup: int) -> None:
    """The ablation "w/o EG": whatever the masker does meanwhile, in warm-up and out of it."""
    common: dict[str, Any] = {"seed": 3, "warmup": warmup, "lambda4": 0.7, "regulariser_sparsity": reading}
    dre, align = make_method("dre", **common), make_method("align", lambda3=0.0, exchange=0.0, **common)
    for step in range(4):
        take_step(dre, make_batch(step), step)
        take_step(align, make_batch(step), step)
        assert changed(dre.classifier.module, state_of(align.classifier.module)) == []


def test_what_the_code_computes_is_not_what_the_paper_means() -> None:
    methods = [make_method("dre", regulariser_sparsity=reading) for reading in READINGS]
    logged = [float(take_step(method, make_batch(), 0)["classifier/regulariser"]) for method in methods]
    assert logged[1] > logged[0] + 0.01, "a column's maximum is more than its mean"


def test_without_weight_it_is_erm_to_the_bit() -> None:
    method, erm = make_method("dre", lambda4=0.0), make_method("erm")
    for step in range(3):
        take_step(method, make_batch(step), step)
        take_step(erm, make_batch(step), step)
    assert changed(method.classifier.module, state_of(erm.classifier.module)) == []


@pytest.mark.parametrize("reading", READINGS)
def test_a_step_lowers_its_own_loss(reading: str) -> None:
    method = make_method("dre", regulariser_sparsity=reading, engine=in_plain_engine(rate=0.02))
    losses = [float(take_step(method, make_batch(), step)["classifier/loss"]) for step in range(15)]
    assert losses[-1] < 0.8 * losses[0]
