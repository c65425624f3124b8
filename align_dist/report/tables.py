"""The tables of a report: means over seeds with standard errors, and differences from a baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from align_dist.errors import ConfigError, nearest_name
from align_dist.report.aggregate import (
    Column,
    Line,
    SeedValues,
    differences_of,
    domain_columns,
    domains_of,
    lines_of,
    standard_error,
    values_of,
)
from align_dist.report.measures import OF_GROUP, Measure, measure
from align_dist.report.render import MISSING, Table
from align_dist.runs.results import IN_DOMAIN, OUT_OF_DOMAIN, Group, Row

SELECTIONS = {
    "validation": "checkpoint selected on source validation",
    "validation_worst_group": "checkpoint selected on the worst group of source validation",
    "last": "last checkpoint",
    "oracle": "checkpoint selected on the target (oracle)",
}
EXPLANATION_METRICS = (
    "roc_auc",
    "insertion_auc",
    "deletion_auc",
    "sufficiency",
    "comprehensiveness",
    "mask_iou",
    "energy_inside",
    "commonest_cell",
    "map_following",
    "map_likeness",
)
OF_LEMMA_1 = (
    "original_accuracy",
    "mixed_same_accuracy",
    "mixed_random_accuracy",
    "background_gap",
    "background_lipschitz_mean",
    "background_lipschitz_max",
    "background_change",
)
OF_LEMMAS_2_AND_3 = (
    "mse_gap",
    "mse_bound",
    "lemma2_holds",
    "true_class_distance",
    "background_change",
    "cross_entropy_gap",
    "cross_entropy_ratio",
)
THEORY_METRICS = tuple(dict.fromkeys((*OF_LEMMA_1, *OF_LEMMAS_2_AND_3)))
WORST_GROUP = "worst_group_accuracy"
AVERAGE_AND_WORST = ("accuracy", "adjusted_accuracy", WORST_GROUP)
LEAVE_ONE_OUT = "leave_one_out"
ONE_SEED_NOTE = "One seed each: no standard error, and no telling a difference from chance."
ERROR_NOTE = "Mean \N{PLUS-MINUS SIGN} standard error over seeds (sample standard deviation / sqrt n)."

Lines = Mapping[Line, Sequence[Row]]
Values = Callable[[Line, Column], SeedValues]


def usual_tables(rows: Sequence[Row], selection: str) -> list[Table]:
    """The tables of a report: the summary, and if present in the results, groups, lemmas and held-out domains.

    Raises DataError as `summary_table` does.
    """
    groups = group_table(rows, selection)
    held_out = len(targets_of(rows)) > 1
    return [
        summary_table(rows, selection),
        *([groups] if groups is not None else []),
        *theory_tables(rows, selection),
        *([held_out_table(rows, "accuracy", selection)] if held_out else []),
    ]


def summary_table(rows: Iterable[Row], selection: str) -> Table:
    """One line per method: accuracy in-domain, on every other domain and their mean, then explanation metrics averaged
    over the out-of-domain domains (over the in-domain domains where there are no others).

    Metrics that no method has are left out. Raises DataError for a selection without rows and for two rows of the same
    place.
    """
    lines = lines_of(rows, selection)
    role = "out-of-domain" if domains_of(lines, OUT_OF_DOMAIN) else "in-domain"
    note = f"Accuracy % by domain; other metrics are means over the {role} domains."
    title = f"Summary, {_setting(lines, selection)}"
    return make_table(title, lines, summary_columns(lines), (note, ERROR_NOTE), plain_values(lines))


def summary_columns(lines: Lines) -> list[Column]:
    """The columns of `summary_table`."""
    inside, outside = domains_of(lines, IN_DOMAIN), domains_of(lines, OUT_OF_DOMAIN)
    source = f"{inside[0]} (in-domain)" if len(inside) == 1 else "in-domain mean"
    columns = [Column(source, "accuracy", IN_DOMAIN)] if inside else []
    columns += [column for column in domain_columns(lines, "accuracy") if column.role == OUT_OF_DOMAIN]
    grouped = [(role, name) for role in (IN_DOMAIN, OUT_OF_DOMAIN) for name in domains_of(lines, role, WORST_GROUP)]
    columns += [Column(f"worst group of {name}", WORST_GROUP, role, name) for role, name in grouped]
    role = OUT_OF_DOMAIN if outside else IN_DOMAIN
    return [*columns, *(Column(measure(m).title, m, role) for m in EXPLANATION_METRICS if domains_of(lines, role, m))]


def background_columns(lines: Lines) -> list[Column]:
    """Accuracy on exchanged backgrounds, in-domain where measured, else out of domain; empty where no run has any."""
    metrics = ("original_accuracy", "mixed_same_accuracy", "mixed_random_accuracy", "background_gap")
    roles = [role for role in (IN_DOMAIN, OUT_OF_DOMAIN) if domains_of(lines, role, metrics[0])]
    return [Column(measure(metric).title, metric, roles[0]) for metric in metrics] if roles else []


def group_table(rows: Iterable[Row], selection: str) -> Table | None:
    """One line per method: average, adjusted and worst-group accuracy, then each group's accuracy, by domain.

    None where no result has groups. Raises DataError as `summary_table` does.
    """
    lines = lines_of(rows, selection)
    metric_names = {name for line_rows in lines.values() for row in line_rows for name in row.metrics}
    metrics = [*AVERAGE_AND_WORST, *sorted(name for name in metric_names if name.startswith(OF_GROUP))]
    role_domains = [
        (role, domain) for role in (IN_DOMAIN, OUT_OF_DOMAIN) for domain in domains_of(lines, role, WORST_GROUP)
    ]
    columns = [
        Column(measure(metric).title + (f", {domain}" if len(role_domains) > 1 else ""), metric, role, domain)
        for role, domain in role_domains
        for metric in metrics
        if domain in domains_of(lines, role, metric)
    ]
    if not columns:
        return None
    return make_table(f"Groups, {_setting(lines, selection)}", lines, columns, (ERROR_NOTE,), plain_values(lines))


def theory_tables(rows: Iterable[Row], selection: str) -> list[Table]:
    """Lemma 1 in-domain, where the network has learned the backgrounds, and lemmas 2 and 3 out of domain; each in the
    other role where the first has no results. Empty where no run has measured the lemmas.

    Runs measured with different masks have separate lines. Raises DataError as `summary_table` does.
    """
    measured_rows = [
        replace(row, group=row.group._replace(evaluation=", ".join(filter(None, (row.group.evaluation, masks)))))
        for row in rows
        if row.selection == selection
        and row.metrics.keys() & set(THEORY_METRICS)
        and (masks := row.theory_masks and f"masks {row.theory_masks}")
    ]
    if not measured_rows:
        return []
    lines = lines_of(measured_rows, selection)
    tables = []
    for name, metrics, roles in (
        ("Lemma 1", OF_LEMMA_1, (IN_DOMAIN, OUT_OF_DOMAIN)),
        ("Lemmas 2 and 3", OF_LEMMAS_2_AND_3, (OUT_OF_DOMAIN, IN_DOMAIN)),
    ):
        role = next(role for role in roles if domains_of(lines, role))
        columns = [Column(measure(metric).title, metric, role) for metric in metrics if domains_of(lines, role, metric)]
        title = f"{name}, {role.replace('_', '-')} mean, {_setting(lines, selection)}"
        tables.append(make_table(title, lines, columns, (ERROR_NOTE,), plain_values(lines)))
    return tables


def held_out_table(rows: Iterable[Row], metric: str, selection: str) -> Table:
    """Leave-one-domain-out, one column per target, each from the runs that held the target out, and the mean over seeds
    with all targets (DomainBed's "Avg").

    Raises DataError as `summary_table` does; `targets_of` says whether there is more than one target.
    """
    held_out = [
        replace(row, group=row.group._replace(target=""))
        for row in rows
        if row.group.protocol == LEAVE_ONE_OUT and row.role == OUT_OF_DOMAIN
    ]
    lines = lines_of(held_out, selection)
    title = f"{named(metric)}, each domain held out in turn, {_setting(lines, selection)}"
    return make_table(title, lines, domain_columns(lines, metric), (ERROR_NOTE,), plain_values(lines))


def targets_of(rows: Iterable[Row]) -> set[str]:
    """The domains that leave-one-domain-out runs have held out."""
    return {row.group.target for row in rows if row.group.protocol == LEAVE_ONE_OUT}


def difference_table(rows: Iterable[Row], baseline: str, selection: str) -> Table:
    """Each line of `summary_table` minus a baseline of the same group, paired by seed: mean difference and its standard
    error.

    baseline: a label of the tables, such as "erm" or "align (constant 0.14)". Raises ConfigError where no row has the
    label or no other line is in a group of the baseline, and DataError as `summary_table` does.
    """
    lines = lines_of(rows, selection)
    bases = {line.group: line for line in lines if line.label == baseline}
    if not bases:
        labels = sorted({line.label for line in lines})
        hint = nearest_name(baseline, labels)
        raise ConfigError(f"no finished result of {baseline!r}{hint}, {selection!r}; there are: {', '.join(labels)}")

    def difference(line: Line, column: Column) -> SeedValues:
        ours, theirs = values_of(lines, line, column), values_of(lines, bases[line.group], column)
        return {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}

    other_lines = {key: line_rows for key, line_rows in lines.items() if key.group in bases and key.label != baseline}
    title = f"Difference to {baseline}, {_setting(lines, selection)}"
    note = f"Differences are paired by seed: only seeds with a run of {baseline} count."
    alone = _without_base(lines, bases, baseline)
    if not other_lines:
        raise ConfigError(f"minus {baseline}: nothing to compare; {alone or f'all runs are of {baseline}'}")
    notes = (note, ERROR_NOTE, *filter(None, [alone]))
    return make_table(title, other_lines, summary_columns(lines), notes, difference, signed=True)


def _without_base(lines: Lines, bases: Mapping[Group, Line], baseline: str) -> str:
    """A note on the lines that have no baseline in their group, and what tells the groups apart; empty without any."""
    alone = [line for line in lines if line.group not in bases]
    labels = ", ".join(sorted({line.label for line in alone}))
    groups = {*bases, *(line.group for line in alone)}
    return f"no run of {baseline} to compare with for {labels}; {differences_of(groups)}" if alone else ""


def plain_values(lines: Lines) -> Values:
    return lambda line, column: values_of(lines, line, column)


def make_table(
    title: str,
    lines: Lines,
    columns: Sequence[Column],
    notes: tuple[str, ...],
    values: Values,
    signed: bool = False,
) -> Table:
    """A table of lines and columns. values: returns the value of every seed in a cell."""
    varying = [i for i, parts in enumerate(_parts(lines)) if len(parts) > 1]
    header = ("method", *(Group._fields[i] for i in varying), "seeds", *(c.title for c in columns))
    cells: list[tuple[str, ...]] = []
    for line in lines:
        values_by_column = [values(line, column) for column in columns]
        seeds = len(set().union(*values_by_column))
        texts = [cell_text(v, measure(c.metric), seeds, signed) for v, c in zip(values_by_column, columns, strict=True)]
        cells.append((line.label, *(line.group[i] for i in varying), str(seeds), *texts))
    final_notes = tuple(error_note(cells) if note == ERROR_NOTE else note for note in notes)
    return Table(title, header, tuple(cells), final_notes, 1 + len(varying))


def error_note(rows: Iterable[Sequence[str]]) -> str:
    """The note on standard errors, or on their absence for single seeds."""
    return ERROR_NOTE if any("\N{PLUS-MINUS SIGN}" in cell for row in rows for cell in row) else ONE_SEED_NOTE


def cell_text(values: SeedValues, form: Measure, seeds: int, signed: bool = False) -> str:
    """Mean and standard error over the seeds of a cell, with n where different from the line's `seeds`."""
    if not values:
        return MISSING
    numbers = list(values.values())
    error = standard_error(numbers)
    text = form.write(fmean(numbers), signed)
    text += "" if error is None else f" \N{PLUS-MINUS SIGN} {form.write(error)}"
    return text if len(numbers) == seeds else f"{text} (n={len(numbers)})"


def _parts(lines: Lines) -> list[list[str]]:
    """The values of each field of the group."""
    return [sorted({line.group[i] for line in lines}) for i in range(len(Group._fields))]


def named(metric: str) -> str:
    name = measure(metric).name
    return name[:1].upper() + name[1:]


def _setting(lines: Lines, selection: str) -> str:
    """Settings shared by all lines, for the title."""
    prefixes = {"source": "source ", "target": "target "}
    shared = [
        f"{prefixes.get(field, '')}{parts[0]}"
        for field, parts in zip(Group._fields, _parts(lines), strict=True)
        if len(parts) == 1 and parts[0]
    ]
    return ", ".join([*shared, SELECTIONS.get(selection, selection)])
