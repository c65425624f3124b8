"""The HTML report: compared runs, results, and attribution maps in one file.

The file is self-contained and loads nothing from the network.
"""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

from align_dist import __version__
from align_dist.errors import DataError, StorageError
from align_dist.files import write_text
from align_dist.report.aggregate import Line
from align_dist.report.configurations import differing_settings, environments
from align_dist.report.curves import training_curves
from align_dist.report.measures import measure
from align_dist.report.render import Table, to_html
from align_dist.report.rows import Run, finished_rows, read_runs, unfinished
from align_dist.report.style import STYLE
from align_dist.report.tables import (
    AVERAGE_AND_WORST,
    EXPLANATION_METRICS,
    SELECTIONS,
    THEORY_METRICS,
    difference_table,
    usual_tables,
)
from align_dist.runs.folder import RunFolder
from align_dist.runs.results import Row

BASELINE = "erm"
SHEETS_NOTE = (
    "One sheet per domain, one row per image: the first image of each class, with "
    "true class \N{RIGHTWARDS ARROW} predicted class. Grad-CAM, or the input gradient in its place: the evidence "
    "for the true class, from 0 to 1, and as an overlay on the image; mask: the region that the masker keeps; masked: "
    "the image inside the mask."
)
# Makes the browser refuse scripts and external content.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(run_folders: Sequence[Path], destination: Path) -> None:
    """Write the report on all runs among and below the folders to one HTML file, atomically.

    Raises DataError without a finished run, for an invalid line of results and for runs that must not be averaged;
    StorageError where the file cannot be written. An older report then stays unchanged.
    """
    if not destination.parent.is_dir():
        raise StorageError(f"{destination}: cannot be written (no folder {destination.parent}); make it first")
    write_text(destination, report_page(read_runs(run_folders), provenance()))


def provenance() -> dict[str, str]:
    """Command, time and version of this report."""
    import shlex
    import time

    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "written": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "align_dist": __version__,
    }


def report_page(runs: Sequence[Run], origin: Mapping[str, str]) -> str:
    """The page as text, a pure function of runs and origin. Raises DataError as `write_report` does.

    origin: facts about the report, such as `provenance()`.
    """
    finished = _by_method([run for run in runs if run.finished and run.rows])
    rows = finished_rows(runs)
    if not rows:
        raise DataError(f"none of the {len(runs)} runs has finished with results; finish a run first")
    title = "Comparison of " + ", ".join(dict.fromkeys(run.label for run in finished))
    sections = [
        _overview(runs, rows, title),
        *(_first_table(name, section_rows) for name, section_rows in _sections(rows).items()),
        _meanings(rows),
        _pictures(finished),
        _curves(finished),
        *(_further_tables(name, section_rows) for name, section_rows in _sections(rows).items()),
        _configurations(finished),
        _environments(finished),
        _definitions("How this report was made", origin),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(filter(None, sections))
        + "\n</body></html>\n"
    )


def _by_method(runs: Sequence[Run]) -> list[Run]:
    """Runs in the order of the page: the baseline first, then by label and seed."""
    return sorted(runs, key=lambda r: (r.label != BASELINE, r.label, r.rows[0].seed, str(r.folder)))


def _sections(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows by benchmark, backbone and protocol, which one table should not mix."""
    parts: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.group):
        parts.setdefault(", ".join(row.group[:3]), []).append(row)
    return parts


def _overview(runs: Sequence[Run], rows: Sequence[Row], title: str) -> str:
    """Title, overview and warnings."""
    seeds = sorted({row.seed for row in rows})
    count = sum(run.finished and bool(run.rows) for run in runs)
    facts = {
        "runs": f"{count} finished, {len(unfinished(runs))} not finished",
        "seed numbers": ", ".join(map(str, seeds)),
        "experiments": ", ".join(sorted({row.experiment for row in rows} - {""})) or "unnamed",
        "domains": ", ".join(sorted({row.domain for row in rows})),
    }
    parts = [f"<header><h1>{escape(title)}</h1>{_list(facts)}</header>"]
    if missing := unfinished(runs):
        names = ", ".join(f"{run.folder.name} ({run.label}, {run.status.state})" for run in missing)
        parts.append(_warning(f"Not finished, and left out of everything below: {names}."))
    parts += [_warning(text) for text in _difference_warnings(runs)]
    return "\n".join(parts)


def _difference_warnings(runs: Sequence[Run]) -> list[str]:
    """A warning for every line whose runs differ in more than their seed."""
    differences: Mapping[Line, Mapping[str, Sequence[str]]] = differing_settings([run for run in runs if run.finished])
    sentences = []
    for line, keys in differences.items():
        values_text = "; ".join(f"{key}: {' / '.join(values)}" for key, values in keys.items())
        sentences.append(f"Runs averaged as {line.label} differ in more than their seed: {values_text}.")
    return sentences


def _first_table(name: str, rows: Sequence[Row]) -> str:
    """The first summary table."""
    return f"<section><h2>{escape(name)}</h2>\n{_tables_html(name, _tables(rows)[:1])}</section>"


def _further_tables(name: str, rows: Sequence[Row]) -> str:
    """Differences to the baseline, and the other selections."""
    tables = _tables_html(name, _tables(rows)[1:])
    return f"<section><h2>{escape(name)}, further tables</h2>\n{tables}</section>" if tables else ""


def _tables_html(name: str, tables: Sequence[Table]) -> str:
    """Tables below a heading `name`, which is removed from their titles."""
    return "\n".join(to_html(replace(table, title=table.title.replace(f", {name}", "", 1))) for table in tables)


def _meanings(rows: Sequence[Row]) -> str:
    """Explanations of the metrics in the tables."""
    names = (*AVERAGE_AND_WORST, *EXPLANATION_METRICS, *THEORY_METRICS)
    measures = [measure(name) for name in names if any(name in row.metrics for row in rows)]
    facts = {item.title: item.meaning for item in measures}
    return f'<section class="soft"><h3>What the measures say</h3>{_list(facts)}</section>'


def _tables(rows: Sequence[Row]) -> list[Table]:
    """A summary for each selection, and the differences to the baseline where the baseline has runs."""
    present = {row.selection for row in rows}
    tables: list[Table] = []
    for selection in [s for s in SELECTIONS if s in present] + sorted(present - set(SELECTIONS)):
        tables += usual_tables(rows, selection)
        if any(row.label == BASELINE and row.selection == selection for row in rows):
            tables.append(difference_table(rows, BASELINE, selection))
    return [table for table in tables if table.rows]


def _curves(runs: Sequence[Run]) -> str:
    """The training curves; empty without curves."""
    picture = training_curves(runs)
    if picture is None:
        return ""
    note = '<p class="soft">One line per run; runs of one method share a colour.</p>'
    return f"<section><h2>Training</h2>{note}{_image(picture, 'training curves')}</section>"


def _pictures(runs: Sequence[Run]) -> str:
    """Contact sheets: open for the first run of each method, folded for its other runs."""
    parts, open_labels = [], set()
    for run in runs:
        files = sorted(RunFolder(run.folder).pictures.glob("*.png"))
        if not files:
            continue
        sheets = '<div class="sheets">' + "".join(map(_sheet, files)) + "</div>"
        heading = escape(f"{run.label}, seed {run.rows[0].seed}")
        first = run.label not in open_labels
        open_labels.add(run.label)
        parts.append(f"<h3>{heading}</h3>{sheets}" if first else _folded(heading, sheets))
    note = f'<p class="soft">{escape(SHEETS_NOTE)}</p>'
    return f"<section><h2>What the models look at</h2>{note}{''.join(parts)}</section>" if parts else ""


def _configurations(runs: Sequence[Run]) -> str:
    """Every run's config.yaml, folded."""
    parts = []
    for run in runs:
        path = RunFolder(run.folder).description
        if path.exists():
            heading = f"{run.label}, seed {run.rows[0].seed}: {run.folder.name}"
            text = escape(path.read_text("utf-8", errors="replace"))
            parts.append(_folded(escape(heading), f"<pre>{text}</pre>"))
    return f"<section><h2>Configurations</h2>{''.join(parts)}</section>" if parts else ""


def _environments(runs: Sequence[Run]) -> str:
    """The environments of the runs, which may differ from the report's."""
    facts = {environment: f"{count} of {len(runs)} runs" for environment, count in environments(runs).items()}
    return _definitions("What the runs ran with", facts) if facts else ""


def _definitions(heading: str, facts: Mapping[str, str]) -> str:
    return f"<section><h2>{escape(heading)}</h2>{_list(facts)}</section>"


def _list(facts: Mapping[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items()) + "</dl>"


def _warning(text: str) -> str:
    return f'<p class="warning">{escape(text)}</p>'


def _folded(summary: str, content: str) -> str:
    """Content folded behind a summary; both are HTML."""
    return f"<details><summary>{summary}</summary>{content}</details>"


def _sheet(file: Path) -> str:
    name = file.stem.replace("_", " ")
    return f"<figure><figcaption>{escape(name)}</figcaption>{_image(file.read_bytes(), name)}</figure>"


def _image(png: bytes, name: str) -> str:
    return f'<img alt="{escape(name)}" src="data:image/png;base64,{b64encode(png).decode("ascii")}">'
