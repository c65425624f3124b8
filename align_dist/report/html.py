"""The HTML report: compared runs, their results, and what the models look at, in one file.

The file is self-contained and loads nothing from the network.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from align_dist import __version__
from align_dist.errors import DataError, StorageError
from align_dist.files import write_text
from align_dist.report.inspection import RunDetails, details_of
from align_dist.report.markup import links, paragraph
from align_dist.report.rows import Run, finished_rows, read_runs
from align_dist.report.script import DIALOG, SCRIPT, SCRIPT_HASH
from align_dist.report.sections import BASELINE, Section, sections_of
from align_dist.report.style import STYLE

# Makes the browser refuse external content and every script but the page's own.
POLICY = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{SCRIPT_HASH}'"


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
    """The page as text, a function of the runs' folders and origin. Raises DataError as `write_report` does.

    origin: facts about the report, such as `provenance()`.
    """
    if not finished_rows(runs):
        raise DataError(f"none of the {len(runs)} runs has finished with results; finish a run first")
    finished = [details_of(run) for run in _in_order(runs)]
    title = "Comparison of " + ", ".join(dict.fromkeys(run.label for run, _ in finished))
    sections = sections_of(runs, finished, origin)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style></head>\n<body>\n"
        f"<header><h1>{escape(title)}</h1>{_overview(runs, finished)}{links([s.link for s in sections])}</header>\n"
        f"<main>\n{''.join(section.html for section in sections)}\n</main>\n{DIALOG}\n"
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def _in_order(runs: Sequence[Run]) -> list[Run]:
    """The finished runs in the order of the page: the baseline first, then by label and seed."""
    finished = [run for run in runs if run.finished and run.rows]
    return sorted(finished, key=lambda r: (r.label != BASELINE, r.label, r.rows[0].seed, str(r.folder)))


def _overview(runs: Sequence[Run], finished: Sequence[RunDetails]) -> str:
    """Counts in one sentence."""
    rows = [row for run, _ in finished for row in run.rows]
    seeds = ", ".join(map(str, sorted({row.seed for row in rows})))
    domains = ", ".join(sorted({row.domain for row in rows}))
    left = len(runs) - len(finished)
    unfinished = f", {left} not finished" if left else ""
    return paragraph(f"{len(finished)} finished runs{unfinished}; seeds {seeds}; domains {domains}.", "soft")


__all__ = ["Section", "provenance", "report_page", "write_report"]
