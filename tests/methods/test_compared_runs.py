"""The methods that ALIGN is compared with, as runs on the pictures and masks of a real beton."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from refusals import raises
from weights import trained_with_and_without_a_pause

from align_dist.config import RunConfig
from align_dist.data.prepare import prepare
from align_dist.errors import ConfigError
from align_dist.run import train_run

TERMS = {
    "haics": ["guidance"],
    "gradia": ["guidance"],
    "care": ["attention"],
    "res": ["disagreement", "imputation"],
    "dre": ["regulariser"],
    "sgt": ["divergence"],
}


@pytest.mark.parametrize("name", TERMS)
def test_a_paused_run_goes_on_bit_for_bit_and_logs_its_terms(name: str, squares: RunConfig, tmp_path: Path) -> None:
    straight, _ = trained_with_and_without_a_pause(squares.with_method(name), tmp_path, "13 steps")
    lines = [json.loads(line) for line in (straight.folder / "metrics.jsonl").read_text().splitlines()]
    for term in TERMS[name]:
        steps = [line["step"] for line in lines if f"classifier/{term}" in line]
        assert steps and (min(steps) < 10) == (name in ("dre", "sgt")), "warm-up has 10 steps"


def test_given_masks_that_are_not_there_are_missed_before_anything_begins(squares: RunConfig, tmp_path: Path) -> None:
    changed = {"masks": None, "betons": tmp_path / "betons", "fingerprint": None}
    benchmark = squares.benchmark.model_copy(update=changed)
    prepare(benchmark)
    bare = squares.model_copy(update={"benchmark": benchmark, "runs": tmp_path / "runs"})
    for name in ("haics", "gradia", "care", "res"):
        with raises(ConfigError, "method: ", name):
            train_run(bare.with_method(name), say=lambda _: None)
