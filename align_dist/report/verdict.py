"""The verdict of a comparison in a sentence: the distance of each method from the baseline, and its certainty."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean

from scipy.special import stdtrit

from align_dist.report.aggregate import Column, lines_of, standard_error, values_of
from align_dist.report.measures import measure
from align_dist.report.tables import summary_columns
from align_dist.runs.results import OUT_OF_DOMAIN, Row

CHANCE = 0.05  # two-sided: of differences that chance alone makes, so many are called more than chance


def verdicts(rows: Iterable[Row], selection: str, baseline: str) -> list[str]:
    """A sentence for each method: accuracy against the baseline's of the same group, paired by seed.

    Accuracy is the mean over target domains, else in-domain accuracy. Empty without the baseline. Raises DataError as
    `tables.summary_table` does.
    """
    lines = lines_of(rows, selection)
    bases = {line.group: line for line in lines if line.label == baseline}
    column = _main_column(summary_columns(lines))
    form = measure(column.metric)
    sentences: list[str] = []
    for line in lines:
        if line.label == baseline or line.group not in bases:
            continue
        ours, theirs = (values_of(lines, each, column) for each in (line, bases[line.group]))
        differences = [form.scale * (ours[seed] - theirs[seed]) for seed in ours if seed in theirs]
        if differences:
            source = f" from {line.group.source}" if line.group.source else ""
            target = f" with {line.group.target} held out" if line.group.target else ""
            settings = ", ".join(filter(None, (line.group.data, line.group.evaluation)))
            measured = f" ({settings})" if settings else ""
            where = f"{line.label}{source}{target}{measured}, {column.title}"
            sentences.append(f"{where}: {_certainty(differences, baseline)}")
    return sentences


def _main_column(columns: list[Column]) -> Column:
    means = [c for c in columns if c.metric == "accuracy" and c.role == OUT_OF_DOMAIN and c.domain is None]
    return [*means, *columns][0]


def _certainty(differences: list[float], baseline: str) -> str:
    """The mean difference, and whether Student's t test tells it from 0."""
    mean, error = fmean(differences), standard_error(differences)
    text = f"{abs(mean):.1f} points {'above' if mean >= 0 else 'below'} {baseline}"
    if error is None:
        return f"{text} on one seed, which does not tell chance from a difference; run others (seed=1, seed=2)."
    estimate = f"{text}, standard error {error:.1f} over {len(differences)} seeds"
    least = float(stdtrit(len(differences) - 1, 1 - CHANCE / 2)) * error
    if abs(mean) > least:
        return f"{estimate}: more than chance explains."
    return f"{estimate}: no more than chance explains, with so many seeds up to {least:.1f} points."
