"""What a comparison says in a sentence: how far each method is from the baseline, and how certain that is."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean

from align_dist.report.aggregate import Column, lines_of, standard_error, values_of
from align_dist.report.measures import measure
from align_dist.report.tables import summary_columns
from align_dist.runs.results import OUT_OF_DOMAIN, Row

# Of a difference that is as likely either way, fewer than one in twenty are as many standard errors from 0.
CERTAIN = 2.0


def verdicts(rows: Iterable[Row], selection: str, baseline: str) -> list[str]:
    """A sentence for each method: accuracy against the baseline's of the same group, paired by seed.

    Accuracy is the mean over target domains, else in-domain accuracy. Empty without the baseline. Raises DataError as
    `tables.metric_table` does.
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
            sentences.append(f"{line.label}{source}{target}, {column.title}: {_certainty(differences, baseline)}")
    return sentences


def _main_column(columns: list[Column]) -> Column:
    means = [c for c in columns if c.metric == "accuracy" and c.role == OUT_OF_DOMAIN and c.domain is None]
    return [*means, *(c for c in columns if c.role == OUT_OF_DOMAIN and c.metric == "accuracy"), *columns][0]


def _certainty(differences: list[float], baseline: str) -> str:
    mean, error = fmean(differences), standard_error(differences)
    text = f"{abs(mean):.1f} points {'above' if mean >= 0 else 'below'} {baseline}"
    if error is None:
        return f"{text} on one seed, which does not tell chance from a difference; run others (seed=1, seed=2)."
    told = f"{text}, standard error {error:.1f} over {len(differences)} seeds"
    if abs(mean) > CERTAIN * error:
        return f"{told}: more than chance explains." if len(differences) > 2 else f"{told}: run more seeds to be sure."
    return f"{told}: no more than chance explains."
