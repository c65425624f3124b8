from __future__ import annotations

import math
import random
from collections.abc import Iterable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from made_rows import accuracies, row
from refusals import raises
from scipy.stats import sem

from align_dist.config import EvaluationConfig
from align_dist.errors import ConfigError, DataError
from align_dist.report.aggregate import domain_columns, lines_of, standard_error
from align_dist.report.render import Table
from align_dist.report.tables import (
    ERROR_NOTE,
    ONE_SEED_NOTE,
    difference_table,
    group_table,
    held_out_table,
    make_table,
    named,
    plain_values,
    summary_table,
    targets_of,
    theory_tables,
)
from align_dist.runs.results import Row

PM = "\N{PLUS-MINUS SIGN}"
NONE = "\N{EN DASH}"


def metric_table(rows: Iterable[Row], metric: str, selection: str) -> Table:
    """One metric on every domain, one line per method: in-domain first, then the other domains and their mean."""
    lines = lines_of(rows, selection)
    return make_table(named(metric), lines, domain_columns(lines, metric), (ERROR_NOTE,), plain_values(lines))


def cells(table: Table, label: str) -> dict[str, str]:
    lines = [dict(zip(table.header, line, strict=True)) for line in table.rows if line[0] == label]
    assert len(lines) == 1
    return lines[0]


def test_a_table_of_groups_has_averages_then_each_group() -> None:
    metrics = {"accuracy": 0.8, "worst_group_accuracy": 0.5, "adjusted_accuracy": 0.9}
    groups = {"accuracy_of_group/bird on water": 0.5, "accuracy_of_group/bird on land": 0.95}
    rows = [row("erm", 0, "in", {**metrics, **groups}), row("erm", 0, "out", {"accuracy": 0.7})]
    table = group_table(rows, "validation")
    assert table is not None
    assert table.rows == (("erm", "1", "80.0", "90.0", "50.0", "95.0", "50.0"),)
    order = ["accuracy", "adjusted", "worst-group", "bird on land", "bird on water"]
    assert all(word in title for word, title in zip(order, table.header[2:], strict=True))
    assert "50.0" in summary_table(rows, "validation").rows[0]
    assert group_table(rows[1:], "validation") is None


def test_hand_worked_mean_and_standard_error() -> None:
    """.7 .8 .9: mean .8, sd .1, s.e. .1 / sqrt 3 = .0577; means over domains .6 .6 .75: .65, s.e. .05."""
    rows = accuracies("erm", "a", [0.7, 0.8, 0.9]) + accuracies("erm", "b", [0.5, 0.4, 0.6])
    table = metric_table(rows, "accuracy", "validation")
    assert table.header == ("method", "seeds", "a", "b", "out-of-domain mean")
    assert table.rows == (("erm", "3", f"80.0 {PM} 5.8", f"50.0 {PM} 5.8", f"65.0 {PM} 5.0"),)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=20))
def test_standard_error_agrees_with_scipy(values: list[float]) -> None:
    error = standard_error(values)
    assert error is not None
    assert math.isclose(error, float(sem(np.array(values))), rel_tol=1e-9, abs_tol=1e-12)


def test_one_seed_has_no_standard_error() -> None:
    table = metric_table(accuracies("erm", "a", [0.5]), "accuracy", "validation")
    assert cells(table, "erm")["a"] == "50.0"
    assert table.notes == (ONE_SEED_NOTE,)


def test_in_domain_comes_first_and_counts_in_no_mean_over_the_others() -> None:
    rows = accuracies("erm", "in", [1.0]) + accuracies("erm", "a", [0.2]) + accuracies("erm", "b", [0.4])
    table = metric_table(rows, "accuracy", "validation")
    assert table.header[2:] == ("in (in-domain)", "a", "b", "out-of-domain mean")
    assert table.rows[0][2:] == ("100.0", "20.0", "40.0", "30.0")


def random_rows(seed: int) -> list[Row]:
    draw = random.Random(seed)
    return [
        row(method, number, domain, {"accuracy": draw.random(), "mask_iou": draw.random()}, variant=variant)
        for method, variant in (("erm", ""), ("align", ""), ("align", "constant 0.1"), ("dre", ""))
        for number in range(3)
        for domain in ("in", "a", "b")
    ]


@given(st.integers(0, 1000), st.randoms(use_true_random=False))
def test_tables_do_not_depend_on_the_order_of_rows(seed: int, shuffler: random.Random) -> None:
    rows = random_rows(seed)
    shuffled = rows[:]
    shuffler.shuffle(shuffled)
    assert summary_table(shuffled, "validation") == summary_table(rows, "validation")
    assert metric_table(shuffled, "mask_iou", "validation") == metric_table(rows, "mask_iou", "validation")
    differences = [difference_table(some, "erm", "validation") for some in (rows, shuffled)]
    assert differences[0] == differences[1]


def test_erm_is_first_and_variants_are_lines_of_their_own() -> None:
    labels = [line[0] for line in summary_table(random_rows(0), "validation").rows]
    assert labels == ["erm", "align", "align (constant 0.1)", "dre"]


def test_a_missing_seed_is_counted_and_leaves_the_mean_over_domains() -> None:
    rows = accuracies("erm", "a", [0.2, 0.4, 0.6]) + accuracies("erm", "b", [0.4, 0.6])
    line = cells(metric_table(rows, "accuracy", "validation"), "erm")
    assert line["seeds"] == "3"
    assert line["b"] == f"50.0 {PM} 10.0 (n=2)"
    assert line["out-of-domain mean"] == f"40.0 {PM} 10.0 (n=2)"


def test_missing_cells_are_marked() -> None:
    rows = [row("erm", 0, "a", {"accuracy": 0.5}), row("align", 0, "a", {"accuracy": 0.5, "mask_iou": 0.25})]
    table = summary_table(rows, "validation")
    assert cells(table, "erm")["mask IoU \N{UPWARDS ARROW}"] == NONE
    assert cells(table, "align")["mask IoU \N{UPWARDS ARROW}"] == "0.250"
    assert not any("insertion" in name for name in table.header)


def test_summary_averages_explanation_measures_out_of_domain_only() -> None:
    values = {"in": 0.9, "a": 0.1, "b": 0.3}
    rows = [row("erm", 0, d, {"accuracy": 0.5, "sufficiency": s}) for d, s in values.items()]
    assert cells(summary_table(rows, "validation"), "erm")["sufficiency \N{DOWNWARDS ARROW}"] == "0.200"


def test_summary_without_other_domains_is_about_the_source() -> None:
    table = summary_table([row("erm", 0, "in", {"accuracy": 0.5, "sufficiency": 0.9})], "validation")
    assert table.rows == (("erm", "1", "50.0", "0.900"),)


def test_selections_are_kept_apart_and_an_absent_one_is_an_error() -> None:
    rows = accuracies("erm", "a", [0.5]) + accuracies("erm", "a", [0.9], selection="oracle")
    assert cells(metric_table(rows, "accuracy", "oracle"), "erm")["a"] == "90.0"
    with raises(DataError, "'last'", "oracle, validation"):
        metric_table(rows, "accuracy", "last")


def test_two_runs_that_claim_the_same_place_are_not_averaged() -> None:
    rows = [*accuracies("align", "a", [0.5]), *accuracies("align", "a", [0.9], run="other")]
    with raises(DataError, "align-0", "other", "align, seed 0, a"):
        summary_table(rows, "validation")


def test_groups_are_not_averaged_and_show_what_tells_them_apart() -> None:
    rows = accuracies("erm", "a", [0.5]) + accuracies("erm", "a", [0.7], backbone="resnet18")
    table = metric_table(rows, "accuracy", "validation")
    assert table.header[:3] == ("method", "backbone", "seeds")
    assert [line[1:4] for line in table.rows] == [("resnet18", "1", "70.0"), ("resnet8", "1", "50.0")]


def test_what_was_measured_differently_is_not_averaged() -> None:
    usual = EvaluationConfig().settings
    rows = accuracies("erm", "a", [0.5], evaluation=usual)
    rows += accuracies("erm", "a", [0.7], evaluation=usual | {"fill": "blur"})
    rows += accuracies("align", "a", [0.8])
    table = metric_table(rows, "accuracy", "validation")
    assert table.header[:3] == ("method", "evaluation", "seeds")
    assert [line[:4] for line in table.rows] == [
        ("erm", "", "1", "50.0"), ("align", "", "1", "80.0"), ("erm", "fill=blur", "1", "70.0")
    ]  # fmt: skip


def test_lemmas_under_different_masks_are_not_averaged_and_stand_in_tables_of_their_own() -> None:
    metrics = {"accuracy": 0.5, "background_gap": 0.2, "background_change": 0.3, "mse_gap": 0.04}
    rows = [
        row("align", seed, domain, metrics, theory_masks=masks)
        for seed, masks in enumerate(("learned", "learned", "given 0a1b2c3d"))
        for domain in ("in", "a")
    ]
    rows += [row("erm", 0, domain, {"accuracy": 0.4}) for domain in ("in", "a")]
    first, second = theory_tables(rows, "validation")
    assert [line[:4] for line in first.rows] == [
        ("align", "masks given 0a1b2c3d", "1", "20.0"), ("align", "masks learned", "2", f"20.0 {PM} 0.0")
    ]  # fmt: skip
    assert "in-domain" in first.title and "out-of-domain" in second.title
    assert [line[3] for line in second.rows] == ["0.040", f"0.040 {PM} 0.000"]
    assert cells(summary_table(rows, "validation"), "align")["seeds"] == "3"
    assert theory_tables(rows[-2:], "validation") == theory_tables(rows, "oracle") == []


def test_leave_one_domain_out_keeps_each_domains_two_roles_apart() -> None:
    rows = [
        row("erm", 0, d, {"accuracy": 0.3 if d == t else 0.9}, target=t, source=None,
            role="out_of_domain" if d == t else "in_domain")
        for t in ("a", "b") for d in ("a", "b", "c")
    ]  # fmt: skip
    table = metric_table(rows, "accuracy", "validation")
    inside = ("a (in-domain)", "b (in-domain)", "c (in-domain)")
    assert table.header[3:] == (*inside, "a", "b", "out-of-domain mean")
    assert table.rows[0] == ("erm", "a", "1", NONE, "90.0", "90.0", "30.0", NONE, "30.0")


def test_lemmas_that_no_image_could_measure_have_no_table() -> None:
    assert theory_tables([row("align", 0, "in", {"theory_images": 0.0}, theory_masks="learned")], "validation") == []


def test_differences_are_paired_by_seed() -> None:
    """Common seeds 0 and 1: +.2 and +.3, mean .25, s.e. .05; unpaired means would differ by .15."""
    rows = accuracies("erm", "a", [0.1, 0.5, 0.6]) + accuracies("align", "a", [0.3, 0.8])
    table = difference_table(rows, "erm", "validation")
    assert cells(table, "align")["a"] == f"+25.0 {PM} 5.0"
    assert cells(table, "align")["seeds"] == "2"
    assert [line[0] for line in table.rows] == ["align"]


def test_differences_take_the_baseline_of_the_same_group() -> None:
    rows = [
        *accuracies("erm", "a", [0.5]), *accuracies("align", "a", [0.6]),
        *accuracies("erm", "a", [0.1], backbone="big"), *accuracies("align", "a", [0.9], backbone="big"),
        *accuracies("align", "a", [0.2], backbone="alone"),
    ]  # fmt: skip
    table = difference_table(rows, "erm", "validation")
    assert [line[1:4] for line in table.rows] == [("big", "1", "+80.0"), ("resnet8", "1", "+10.0")]
    assert any("alone / big / resnet8" in note for note in table.notes), "what has no baseline is named"


def test_runs_that_share_nothing_with_the_baseline_are_refused_by_what_tells_them_apart() -> None:
    rows = [*accuracies("erm", "a", [0.5]), *accuracies("align", "a", [0.6], evaluation={"fill": "blur"})]
    with raises(ConfigError, "fill=blur", "align-dist evaluate"):
        difference_table(rows, "erm", "validation")
    with raises(ConfigError, "erm"):
        difference_table(accuracies("erm", "a", [0.5]), "erm", "validation")


def test_an_absent_baseline_is_an_error() -> None:
    with raises(ConfigError, "'sgt'", "erm"):
        difference_table(accuracies("erm", "a", [0.5]), "sgt", "validation")


def test_a_metric_without_a_name_of_its_own_is_still_shown() -> None:
    table = metric_table([row("erm", 0, "a", {"lemma_two_bound": 0.1234})], "lemma_two_bound", "validation")
    assert table.title == "Lemma two bound"
    assert cells(table, "erm")["a"] == "0.123"


def held_out(method: str, target: str, values: list[float]) -> list[Row]:
    """Runs that held `target` out; their in-domain rows must not enter."""
    setting = {"protocol": "leave_one_out", "source": None, "target": target}
    return [
        *accuracies(method, target, values, **setting),
        *accuracies(method, "elsewhere", [0.99] * len(values), role="in_domain", **setting),
    ]


def test_held_out_domains_are_averaged_over_the_seeds_that_have_them_all() -> None:
    """Seeds 0 and 1: (.2 + .6) / 2 = .4 and (.4 + .8) / 2 = .6, mean .5, s.e. .1; seed 2 lacks target b."""
    rows = held_out("erm", "a", [0.2, 0.4, 0.9]) + held_out("erm", "b", [0.6, 0.8])
    assert targets_of(rows) == {"a", "b"}
    table = held_out_table(rows, "accuracy", "validation")
    assert table.header == ("method", "seeds", "a", "b", "out-of-domain mean")
    assert table.rows[0][3:] == (f"70.0 {PM} 10.0 (n=2)", f"50.0 {PM} 10.0 (n=2)")
    assert table.rows[0][2].startswith("50.0")
    assert "elsewhere" not in str(table)


def test_single_source_runs_hold_nothing_out() -> None:
    assert targets_of(accuracies("erm", "a", [0.5])) == set()
