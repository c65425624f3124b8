"""Sentences on differences, by hand."""

from __future__ import annotations

import pytest
from made_rows import accuracies, row

from align_dist.report.verdict import verdicts


def test_a_sentence_has_the_paired_difference_and_its_standard_error() -> None:
    """Differences of 10, 20, 30: mean 20, standard error 10 / sqrt 3. Seeds of one method alone do not count."""
    rows = [
        *accuracies("erm", "out", [0.5, 0.5, 0.5]),
        *accuracies("align", "out", [0.6, 0.7, 0.8, 0.1]),
        *accuracies("align", "in", [0.9, 0.9, 0.9, 0.9]),
    ]
    (sentence,) = verdicts(rows, "validation", "erm")
    assert sentence.startswith("align from in") and "20.0 points above erm" in sentence
    assert "5.8 over 3 seeds" in sentence and sentence.endswith("more than chance explains.")
    assert "no more" not in sentence


@pytest.mark.parametrize(
    ("values", "ending"),
    [
        ([0.4], "seed=2)."),
        ([0.7, 0.4, 0.5], "no more than chance explains."),
        ([0.6, 0.61], "run more seeds to be sure."),
    ],
)
def test_few_seeds_and_small_differences_claim_nothing(values: list[float], ending: str) -> None:
    rows = [*accuracies("erm", "out", [0.5] * len(values)), *accuracies("align", "out", values)]
    (sentence,) = verdicts(rows, "validation", "erm")
    assert sentence.endswith(ending)


def test_without_the_baseline_in_a_comparison_there_is_no_sentence() -> None:
    rows = [row("erm", metrics={"accuracy": 0.5}, source="in"), row("align", metrics={"accuracy": 0.6}, source="other")]
    assert verdicts(rows, "validation", "erm") == []
    assert verdicts(rows, "validation", "sgt") == []
