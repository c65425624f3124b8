"""What a search maximises, and which of two it prefers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from align_dist.search.objective import Accuracy, Combined, Pareto, front, goodness_of, selected, value_of
from align_dist.search.outcome import Report

METRICS = {"accuracy": 0.8, "sufficiency": 0.3, "comprehensiveness": 0.4, "insertion_auc": 0.6}
points = st.lists(st.tuples(st.integers(0, 5).map(float), st.integers(0, 5).map(float)), min_size=1, max_size=12)


def test_better_explanations_are_worth_more_whichever_way_their_metric_goes() -> None:
    assert value_of(Accuracy(), METRICS) == 0.8
    for metric, better in (("sufficiency", -0.1), ("comprehensiveness", 0.1), ("insertion_auc", 0.1)):
        objective = Combined(kind="combined", metric=metric, weight=0.5)
        improved = METRICS | {metric: METRICS[metric] + better}
        assert abs(value_of(objective, improved) - value_of(objective, METRICS) - 0.05) < 1e-12
        pareto = Pareto(kind="pareto", metric=metric)
        assert goodness_of(pareto, improved)[1] > goodness_of(pareto, METRICS)[1]


def test_selection_takes_the_best_accuracy_and_of_equals_the_latest() -> None:
    reports = [
        Report(step, 1.0, {"accuracy": accuracy}) for step, accuracy in ((8, 0.5), (16, 0.9), (24, 0.9), (32, 0.7))
    ]
    assert selected(reports).step == 24


@given(points)
def test_nothing_is_better_than_the_front_and_all_else_is_worse_than_it(given: list[tuple[float, float]]) -> None:
    kept = [given[i] for i in front(given)]
    assert kept == sorted(kept)

    def beaten(point: tuple[float, float], others: list[tuple[float, float]]) -> bool:
        return any(a >= point[0] and b >= point[1] and (a, b) != point for a, b in others)

    assert not any(beaten(point, given) for point in kept)
    assert all(point in kept or beaten(point, kept) for point in given)
