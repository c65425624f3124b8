"""Papers' tables as files: what is shipped, and what a file with a mistake is answered with."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest
from refusals import raises

from align_dist.data.counts import TERRA_COUNTS, VLCS_COUNTS
from align_dist.errors import ConfigError
from align_dist.options.registry import METHODS
from align_dist.report.published import known_papers, parse_paper, read_paper

SMALL = """
name: Small
title: A small paper
url: https://example.org
tables:
  - title: a table
    protocol: leave_one_out
    average: true
    metrics: {accuracy: {decimals: 0}}
    methods: {erm: ERM}
    numbers: {toy: {accuracy: {domains: [1, b], methods: {erm: [90, null, 91]}}}}
"""


DOMAINS = {"vlcs": VLCS_COUNTS, "terra_incognita": TERRA_COUNTS}


def test_names_are_those_of_our_benchmarks_domains_and_methods() -> None:
    for paper in map(read_paper, known_papers()):
        for table in paper.tables:
            assert {label.partition(" (")[0] for label in table.methods} <= set(METHODS)
            for benchmark in table.numbers:
                assert set(table.domains(benchmark)) <= set(DOMAINS[benchmark])


def test_averages_of_DRE_are_those_of_its_numbers() -> None:
    """But for one, which its figure prints as .840 and which would be .831."""
    (table,) = read_paper("dre").tables
    for benchmark, metrics in table.numbers.items():
        for metric, numbers in metrics.items():
            for method, printed in numbers.methods.items():
                *values, average = [value for value in printed if value is not None]
                tolerance = 0.06 if metric == "accuracy" else 0.0015
                if (benchmark, metric, method) != ("vlcs", "insertion_auc", "dre"):
                    assert fmean(values) == pytest.approx(average, abs=tolerance), (benchmark, metric, method)


def test_a_printed_number_is_found_by_its_place(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.replace("[1, b]", "['1', b]"))
    (table,) = parse_paper(path).tables
    assert [table.number("toy", domain, "accuracy", "erm") for domain in ("1", "b", "", "c")] == [90, None, 91, None]
    assert table.number("other", "1", "accuracy", "erm") is None and table.number("toy", "1", "accuracy", "dre") is None
    assert table.has("toy", "1", "accuracy") and not table.has("toy", "c", "accuracy") and table.has("other", "c", "x")


@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        ("[90, null, 91]", "[90, 91]", "erm"),
        ("methods: {erm: [", "methods: {emr: [", "emr"),
        ("{toy: {accuracy", "{toy: {acuracy", "acuracy"),
        ("average: true", "averages: true", "averages"),
        ("[90, null, 91]", "[90, high, 91]", "erm"),
        ("leave_one_out", "fixed", "protocol"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_key(tmp_path: Path, right: str, wrong: str, named: str) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.replace("[1, b]", "[a, b]").replace(right, wrong))
    with raises(ConfigError, path, named):
        parse_paper(path)


def test_an_unknown_paper_is_answered_with_the_known_ones() -> None:
    with raises(ConfigError, "dre, paper"):
        read_paper("align")
