"""The sections of the HTML report, in order: results, what the models look at, training, cost, settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from align_dist.pages.markup import definitions, figure, folded, paragraph, preformatted, section, subheading
from align_dist.report.aggregate import Line, lines_of
from align_dist.report.configurations import differing_settings, environments, settings_table
from align_dist.report.cost import cost_table
from align_dist.report.coverage import coverage_table
from align_dist.report.curves import health_plot, loss_plot, read_curves, tag_meanings
from align_dist.report.dots import dot_plot
from align_dist.report.gallery import gallery, same_images
from align_dist.report.inspection import (
    BASELINE,
    RunDetails,
    by_domain,
    calibration_plot,
    calibration_table,
    confusion_plot,
    curve_plot,
)
from align_dist.report.measures import measure
from align_dist.report.render import Table, to_html
from align_dist.report.rows import Run, unfinished
from align_dist.report.tables import (
    AVERAGE_AND_WORST,
    EXPLANATION_METRICS,
    SELECTIONS,
    THEORY_METRICS,
    background_columns,
    difference_table,
    summary_columns,
    usual_tables,
)
from align_dist.report.verdict import verdicts
from align_dist.runs.folder import RunFolder
from align_dist.runs.results import Group, Row

GALLERY_NOTE = (
    "The same images for all methods, of one seed, chosen by rule: where Grad-CAM lies on the object most, middling "
    "and least (inside the learned mask, where the benchmark has no true masks), and where one method's Grad-CAM lies "
    "on other pixels than another's. First the image with its true class, and its true mask where the benchmark has "
    "one. For each method the predicted class with its probability, Grad-CAM of the true class (or the attribution in "
    "its place) from black, 0, to yellow, 1, the same over the image, and the learned mask where there is one. A click "
    "shows a picture large."
)
CURVES_NOTE = (
    "One line per run; runs of one method share a colour. Dashed thin lines: a term times its weight. Vertical line: "
    "the end of warm-up."
)
CALIBRATION_NOTE = (
    "Of images that a network is about equally sure of, the share that it gets right: on the dotted line it is right "
    "as often as it is sure. A larger point has more images; groups of fewer than ten have no point. The expected "
    "calibration error is the mean distance from that line over all images."
)
SAME_SETTINGS = "Nothing differs but the method, its own options and the seed."
MOST_NAMES = 3
WITHOUT_DETAILS = "Without details, and left out of these pictures (`align-dist evaluate RUN` makes them): "


class Section(NamedTuple):
    """A part of the page: anchor, heading, HTML."""

    name: str
    heading: str
    html: str

    @property
    def link(self) -> tuple[str, str]:
        """Anchor and heading."""
        return self.name, self.heading


def sections_of(runs: Sequence[Run], finished: Sequence[RunDetails], origin: Mapping[str, str]) -> list[Section]:
    """The sections that have content. finished: the finished runs in order. origin: facts about the report.

    Raises DataError for runs that must not be averaged.
    """
    rows = [row for run, _ in finished for row in run.rows]
    finished_runs = [run for run, _ in finished]
    makers: list[tuple[str, str, Callable[[], list[str]]]] = [
        ("missing", "What is missing", lambda: _missing(runs)),
        ("results", "Results", lambda: _results(rows)),
        ("gallery", "What the models look at", lambda: _galleries(finished)),
        ("faithfulness", "Insertion and deletion", lambda: _faithfulness(finished)),
        ("confusion", "Classes", lambda: _confusion(finished)),
        ("calibration", "Calibration", lambda: _calibration(finished)),
        ("training", "Training", lambda: _training(finished_runs)),
        ("cost", "Cost", lambda: [to_html(cost_table(finished_runs))]),
        ("tables", "Further tables", lambda: _further_tables(rows)),
        ("settings", "Settings", lambda: _settings(finished_runs)),
        ("origin", "How this report was made", lambda: [definitions(origin)]),
    ]
    sections = [Section(name, heading, section(heading, *make(), name=name)) for name, heading, make in makers]
    return [part for part in sections if part.html]


def _missing(runs: Sequence[Run]) -> list[str]:
    """Unfinished runs, cells of the grid without a run, and averages over runs that differ."""
    warnings = [f"{run.folder.name} ({run.label}): {run.status}" for run in unfinished(runs)]
    if warnings:
        warnings = ["Not finished, and left out of everything below: " + "; ".join(warnings) + "."]
    differences: Mapping[Line, Mapping[str, Sequence[str]]] = differing_settings([run for run in runs if run.finished])
    for line, keys in differences.items():
        values_text = "; ".join(f"{key}: {' / '.join(values)}" for key, values in keys.items())
        warnings.append(f"Runs averaged as {line.label} differ in more than their seed: {values_text}.")
    table = coverage_table(runs)
    return [*(paragraph(text, "warning") for text in warnings), to_html(table) if table else ""]


def _results(rows: Sequence[Row]) -> list[str]:
    """The first table of each comparison, the same as dots, and what the measures say."""
    parts: list[str] = []
    for name, comparison_rows in _comparisons(rows).items():
        tables = _tables(comparison_rows)
        parts += [_titled(name, tables[0])] if tables else []
        selection = _selections(comparison_rows)[0]
        parts += map(paragraph, verdicts(comparison_rows, selection, BASELINE))
        for group, lines in _by_group(lines_of(comparison_rows, selection)).items():
            parts.append(figure(dot_plot(lines, summary_columns(lines), BASELINE), _group_text(group)))
            if columns := background_columns(lines):
                caption = "Objects before their own background, another of their class, and one of any class."
                parts.append(figure(dot_plot(lines, columns, BASELINE), caption))
    return [*parts, _meanings(rows)]


def _by_group(lines: Mapping[Line, Sequence[Row]]) -> dict[Group, dict[Line, Sequence[Row]]]:
    groups: dict[Group, dict[Line, Sequence[Row]]] = {}
    for line, line_rows in lines.items():
        groups.setdefault(line.group, {})[line] = line_rows
    return groups


def _group_text(group: Group) -> str:
    source = f"source {group.source}" if group.source else ""
    target = f"target {group.target}" if group.target else ""
    told = (group.benchmark, group.data, group.backbone, group.protocol, source, target, group.evaluation)
    parts = ", ".join(filter(None, told))
    return f"{parts}: seeds, their mean and its standard error; below, differences to {BASELINE}."


def _further_tables(rows: Sequence[Row]) -> list[str]:
    """Groups, lemmas, differences to the baseline, and the other selections."""
    return [_titled(name, table) for name, part in _comparisons(rows).items() for table in _tables(part)[1:]]


def _comparisons(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows by benchmark, backbone and protocol, which one table should not mix."""
    parts: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.group):
        parts.setdefault(", ".join(row.group[:3]), []).append(row)
    return parts


def _titled(name: str, table: Table) -> str:
    """The table; its title begins with the name of the comparison."""
    return to_html(replace(table, title=f"{name}: {table.title.replace(f', {name}', '', 1)}"))


def _selections(rows: Sequence[Row]) -> list[str]:
    present = {row.selection for row in rows}
    return [name for name in SELECTIONS if name in present] + sorted(present - set(SELECTIONS))


def _tables(rows: Sequence[Row]) -> list[Table]:
    """A summary for each selection, and the differences to the baseline where the baseline has runs."""
    tables: list[Table] = []
    for selection in _selections(rows):
        tables += usual_tables(rows, selection)
        selected = [row for row in rows if row.selection == selection]
        bases = {row.group for row in selected if row.label == BASELINE}
        if any(row.label != BASELINE and row.group in bases for row in selected):
            tables.append(difference_table(rows, BASELINE, selection))
    return [table for table in tables if table.rows]


def _meanings(rows: Sequence[Row]) -> str:
    names = (*AVERAGE_AND_WORST, *EXPLANATION_METRICS, *THEORY_METRICS)
    measures = [measure(name) for name in names if any(name in row.metrics for row in rows)]
    return folded("What the measures say", definitions({item.title: item.meaning for item in measures}))


def _galleries(finished: Sequence[RunDetails]) -> list[str]:
    parts: list[str] = []
    for comparison, runs in _by_comparison(finished).items():
        for domain in sorted({domain for _, domains in runs for domain in domains}):
            seed, methods = same_images(runs, domain)
            if methods:
                heading = f"{comparison}{domain}, seed {seed}"
                classes = next(domains[domain].classes for _, domains in runs if domain in domains)
                parts += [subheading(heading), gallery(methods, classes)]
    if not parts:
        return []
    without = [run.folder.name for run, domains in finished if not domains]
    more = f" and {len(without) - MOST_NAMES} more" if len(without) > MOST_NAMES else ""
    note = [paragraph(WITHOUT_DETAILS + ", ".join(without[:MOST_NAMES]) + more, "soft")] if without else []
    return [paragraph(GALLERY_NOTE, "soft"), *note, *parts]


def _by_comparison(finished: Sequence[RunDetails]) -> dict[str, list[RunDetails]]:
    """Runs by what they may be compared in, with a prefix for headings where there are several."""
    groups: dict[Group, list[RunDetails]] = {}
    for run in finished:
        groups.setdefault(run.run.rows[0].group, []).append(run)
    if len(groups) == 1:
        return {"": next(iter(groups.values()))}
    return {", ".join(filter(None, group)) + ": ": runs for group, runs in sorted(groups.items())}


def _faithfulness(finished: Sequence[RunDetails]) -> list[str]:
    return [
        figure(plot, comparison.removesuffix(": "))
        for comparison, runs in _by_comparison(finished).items()
        if (plot := curve_plot(by_domain(runs)))
    ]


def _confusion(finished: Sequence[RunDetails]) -> list[str]:
    """Confusion matrices by domain."""
    return [
        folded(f"{comparison}{domain}", figure(plot))
        for comparison, runs in _by_comparison(finished).items()
        for domain, by_label in by_domain(runs).items()
        if (plot := confusion_plot(by_label, domain))
    ]


def _calibration(finished: Sequence[RunDetails]) -> list[str]:
    parts: list[str] = []
    for comparison, runs in _by_comparison(finished).items():
        domains = by_domain(runs)
        if domains:
            plot = figure(calibration_plot(domains), comparison.removesuffix(": "))
            parts += [plot, to_html(calibration_table(domains))]
    return [paragraph(CALIBRATION_NOTE, "soft"), *parts] if parts else []


def _training(runs: Sequence[Run]) -> list[str]:
    curves = [read_curves(run) for run in runs]
    plots = [plot for plot in (health_plot(curves), loss_plot(curves)) if plot]
    if not plots:
        return []
    meanings = folded("What the curves say", definitions(tag_meanings(curves)))
    return [paragraph(CURVES_NOTE, "soft"), *map(figure, plots), meanings]


def _settings(runs: Sequence[Run]) -> list[str]:
    """Differences first, then every config.yaml and the environments."""
    table = settings_table(runs)
    all_known = len(runs) > 1 and all(run.settings for run in runs)
    parts = [to_html(table) if table else paragraph(SAME_SETTINGS) if all_known else ""]
    for run in runs:
        path = RunFolder(run.folder).description
        if path.exists():
            heading = f"{run.label}, seed {run.rows[0].seed}: {run.folder.name}"
            parts.append(folded(heading, preformatted(path.read_text("utf-8", errors="replace"))))
    counts = environments(runs)
    versions = {environment: f"{count} of {len(runs)} runs" for environment, count in counts.items()}
    return [*parts, definitions(versions) if versions else ""]
