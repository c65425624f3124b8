"""The HTML report: compared runs, their results, and what the models look at, in one self-contained file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from align_dist import __version__
from align_dist.errors import DataError
from align_dist.files import write_text
from align_dist.pages.markup import links, paragraph
from align_dist.pages.page import page
from align_dist.report.inspection import RunDetails, details_of, in_order
from align_dist.report.rows import Run, finished_rows
from align_dist.report.sections import sections_of

MOST_NAMES = 5  # in the title


def write_report(runs: Sequence[Run], destination: Path) -> None:
    """Write the report on the runs to one HTML file, atomically.

    Raises DataError without a finished run, for an invalid line of results and for runs that must not be averaged;
    StorageError where the file cannot be written. An older report then stays unchanged.
    """
    write_text(destination, report_page(runs, provenance()))


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
    finished = [details_of(run) for run in in_order(runs)]
    labels = list(dict.fromkeys(run.label for run, _ in finished))
    title = "Comparison of " + (", ".join(labels) if len(labels) <= MOST_NAMES else f"{len(labels)} methods")
    sections = sections_of(runs, finished, origin)
    header = _overview(runs, finished) + links([section.link for section in sections])
    return page(title, header, "".join(section.html for section in sections))


def _overview(runs: Sequence[Run], finished: Sequence[RunDetails]) -> str:
    """Counts in one sentence."""
    rows = [row for run, _ in finished for row in run.rows]
    seeds = ", ".join(map(str, sorted({row.seed for row in rows})))
    domains = ", ".join(sorted({row.domain for row in rows}))
    left = len(runs) - len(finished)
    unfinished = f", {left} not finished" if left else ""
    return paragraph(f"{len(finished)} finished runs{unfinished}; seeds {seeds}; domains {domains}.", "soft")
