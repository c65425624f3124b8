"""The output of `align-dist report`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from shutil import get_terminal_size
from typing import TYPE_CHECKING

from align_dist.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from align_dist.report.render import Table
    from align_dist.report.rows import Run


def run_report(options: argparse.Namespace) -> None:
    """Print the tables that the command line asks for. Raises UserError."""
    from align_dist.report.configurations import unequal_settings
    from align_dist.report.rows import finished_rows, read_runs
    from align_dist.report.tables import difference_table, usual_tables

    if options.figure and not options.against:
        raise ConfigError("report --figure: is of --against KEY, such as --against benchmark.agreement; name both")
    if options.html and (options.against or options.table or options.minus or options.gallery):
        raise ConfigError("report --html: the page has the usual tables; leave out what takes their place, or --html")
    if options.domain and not options.gallery:
        raise ConfigError("report --domain: is of --gallery FILE; name both")
    runs = read_runs(options.folders)
    rows = finished_rows(runs)
    if not rows:
        raise CheckpointError(f"{options.folders[0]}: no finished run in it; `align-dist train` makes one")
    if options.gallery:
        return _report_gallery(options, runs)
    if options.against:
        return _report_sweep(options, runs)
    if options.table:
        return _report_paper(options, runs)
    if options.minus:
        _print([difference_table(rows, options.minus, options.selection)], options.format)
        return _say_left_out(runs, unequal_settings(runs))
    _print(usual_tables(rows, options.selection), options.format)
    _say_left_out(runs, unequal_settings(runs))
    if options.html:
        from align_dist.report.html import write_report

        write_report(runs, options.html)
        print(options.html)


def _print(tables: Sequence[Table], form: str) -> None:
    """Tables to standard output; as text, in parts that a terminal has room for."""
    from align_dist.report.render import rendered, split_to_width

    if form == "text" and sys.stdout.isatty():
        width = get_terminal_size().columns
        tables = [part for table in tables for part in split_to_width(table, width)]
    print(rendered(tables, form))


def _report_gallery(options: argparse.Namespace, runs: Sequence[Run]) -> None:
    from align_dist.report.gallery_figure import write_gallery
    from align_dist.report.inspection import details_of, in_order

    write_gallery([details_of(run) for run in in_order(runs)], options.domain or "", options.gallery)
    print(options.gallery)
    _say_left_out(runs)


def _say_left_out(runs: Sequence[Run], reasons: Sequence[str] = ()) -> None:
    from align_dist.report.rows import unfinished

    for line in (*(f"left out, {run.status}: {run.folder}" for run in unfinished(runs)), *reasons):
        print(line, file=sys.stderr)


def _report_sweep(options: argparse.Namespace, runs: Sequence[Run]) -> None:
    from align_dist.report.sweep import draw_sweep, sweep, sweep_table

    points = sweep(runs, options.against, options.selection)
    _print([sweep_table(points, options.against, options.selection)], options.format)
    if options.figure:
        draw_sweep(points, options.against, options.figure)
        print(options.figure)


def _report_paper(options: argparse.Namespace, runs: Sequence[Run]) -> None:
    from align_dist.report.configurations import unequal_settings
    from align_dist.report.papers import left_out, paper_tables
    from align_dist.report.published import read_paper
    from align_dist.report.rows import finished_rows

    paper = read_paper(options.table)
    tables = paper_tables(finished_rows(runs), paper, options.selection)
    reasons = left_out(runs, paper, options.selection)
    if not tables:
        raise ConfigError(f"report --table {options.table}: none of these runs has a place in it; {'; '.join(reasons)}")
    _print(tables, options.format)
    _say_left_out(runs, [*reasons, *unequal_settings(runs)])
