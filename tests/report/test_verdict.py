"""Sentences on differences, by hand."""

from __future__ import annotations

import pytest
from made_rows import accuracies, row

from align_dist.report.verdict import verdicts


def test_a_sentence_has_the_paired_difference_and_its_standard_error() -> None:
    """Differences of 18, 20, 22: mean 20, standard error 2 / sqrt 3, t = 17. Seeds of one method alone do not count."""
    rows = [
        *accuracies("erm", "out", [0.5, 0.5, 0.5]),
        *accuracies("align", "out", [0.68, 0.7, 0.72, 0.1]),
        *accuracies("align", "in", [0.9, 0.9, 0.9, 0.9]),
    ]
    (sentence,) = verdicts(rows, "validation", "erm")
    assert sentence.startswith("align from in") and "20.0 points above erm" in sentence
    assert "1.2 over 3 seeds" in sentence and sentence.endswith("more than chance explains.")
    assert "no more" not in sentence


@pytest.mark.parametrize(
    ("values", "ending"),
    [
        ([0.4], "seed=2)."),
        # Differences of 10, 20, 30: t = 3.46, and 4.303 is the 97.5th percentile of t with two degrees of freedom.
        ([0.6, 0.7, 0.8], "up to 24.8 points."),
        # Of 10 and 11: t = 21, and 12.706 the percentile with one.
        ([0.6, 0.61], ": more than chance explains."),
        ([0.6, 0.62], "up to 12.7 points."),
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
