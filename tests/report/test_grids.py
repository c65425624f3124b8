"""The tables of a paper: a method a row, a domain a column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from align_dist.report.grids import Place, grid_tables
from align_dist.report.render import Table, to_latex
from align_dist.runs.results import Row, parse_row

WANTED = [Place(domain, method, "", seed) for domain in ("a", "b") for method in ("erm", "align") for seed in (0, 1)]


def rows(method: str, home: str, seed: int, accuracies: Mapping[str, float], **changes: Any) -> list[Row]:
    """A run's rows: accuracy by test domain."""
    return [
        parse_row(
            {
                "run": f"{method}-{home}-{seed}", "benchmark": "folders", "method": method, "variant": "",
                "backbone": "resnet8", "protocol": "single_source", "source": home, "target": None, "seed": seed,
                "selection": "validation", "step": 10, "domain": domain, "images": 5,
                "role": "in_domain" if domain == home else "out_of_domain", "metrics": {"accuracy": value},
            } | changes
        )
        for domain, value in accuracies.items()
    ]  # fmt: skip


def cells(table: Table) -> dict[str, list[str]]:
    return {line[0]: list(line[1:]) for line in table.rows}


def test_single_source_gives_in_domain_and_the_mean_of_the_others() -> None:
    results = [
        *rows("erm", "a", 0, {"a": 0.5, "b": 0.25, "c": 0.75}),
        *rows("erm", "a", 1, {"a": 0.7, "b": 0.35, "c": 0.85}),
        *rows("erm", "b", 0, {"a": 0.1, "b": 0.9, "c": 0.3}),
        *rows("align", "b", 1, {"a": 0.2, "b": 1.0, "c": 0.4}),
    ]
    inside, outside = (t for t in grid_tables(results, WANTED, "single_source", "validation") if "Accuracy" in t.title)
    assert inside.header == ("method", "seeds", "a", "b", "mean")
    assert cells(inside) == {
        "erm": ["2", "60.0 ± 10.0", "90.0 (n=1)", "70.0 (n=1)"],
        "align": ["1", "–", "100.0", "–"],
    }
    assert cells(outside)["erm"] == ["2", "55.0 ± 5.0", "20.0 (n=1)", "35.0 (n=1)"]
    assert inside.notes[-1] == ("Missing, 4 of 8 runs: a align seed 0; a align seed 1; b erm seed 1; b align seed 0.")


def test_leave_one_out_takes_each_target_from_the_runs_that_held_it_out() -> None:
    held_out = {"protocol": "leave_one_out", "source": "", "target": "a"}
    results = [
        *rows("erm", "b", 0, {"b": 0.8, "a": 0.4}, **held_out),
        *rows("erm", "b", 0, {"b": 0.7, "a": 0.5}, **held_out, selection="last"),
    ]
    accuracy, *_ = grid_tables(results, [p for p in WANTED if p.domain == "a"], "leave_one_out", "validation")
    assert cells(accuracy) == {"erm": ["1", "40.0"], "align": ["0", "–"]}


def test_a_method_with_nothing_yet_is_a_row_of_gaps() -> None:
    table = grid_tables(rows("erm", "a", 0, {"a": 0.5}), WANTED, "single_source", "validation")[0]
    assert cells(table)["align"] == ["0", "–", "–", "–"]


def test_latex_escapes_what_latex_means() -> None:
    text = to_latex(Table("50 % of a_b", ("method", "x ↑"), (("m & n", "1.0 ± 0.1"), ("{}", "–")), ("$5 ~ ^",)))
    assert r"\caption{50 \% of a\_b}" in text and r"m \& n & 1.0 $\pm$ 0.1 \\" in text
    assert r"\{\} & -- \\" in text and r"x $\uparrow$" in text and r"\$5 \textasciitilde{} \textasciicircum{}" in text
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


def test_no_row_of_latex_begins_as_an_argument_of_the_line_before_it() -> None:
    text = to_latex(Table("a|b <c>", ("method", "x"), (("[5pt]", "1"), ("*", "2"))))
    assert not any(line.startswith(("[", "*")) for line in text.splitlines())
    assert r"a\textbar{}b \textless{}c\textgreater{}" in text
