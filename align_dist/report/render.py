"""A table of text cells, rendered as terminal text, Markdown, LaTeX, CSV or HTML."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table as RichTable

MISSING = "\N{EN DASH}"
GAP = 3  # characters between the columns of a text table
# A value with its standard error, and the number of seeds where different from the line's.
_CELL = re.compile(r"(?P<value>[+-]?[\d.]+)(?: ± (?P<error>[\d.]+))?(?: \(n=(?P<count>\d+)\))?")
_ARROWS = str.maketrans("", "", "\N{UPWARDS ARROW}\N{DOWNWARDS ARROW}")


@dataclass(frozen=True)
class Table:
    """A title, a header, rows of text cells, and notes on the whole table.

    The first `names` columns name the row and align left; the others hold values and align right.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    names: int = 1


def to_rich(table: Table) -> RichTable:
    """The table for a rich console."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    rich = RichTable(box=box.SIMPLE_HEAD, title=Text(table.title), title_justify="left", pad_edge=False)
    for index, name in enumerate(table.header):
        rich.add_column(Text(name), justify="left" if index < table.names else "right", no_wrap=True)
    for row in table.rows:
        rich.add_row(*map(Text, row))
    if table.notes:
        rich.caption, rich.caption_justify = Text("\n".join(table.notes)), "left"
    return rich


def to_text(table: Table) -> str:
    """Plain text, as wide as the table, without colours; title and notes are not wrapped."""
    from rich.console import Console

    stream = io.StringIO()
    width = sum(max(map(len, column)) + GAP + 1 for column in zip(table.header, *table.rows, strict=True))
    bare = replace(table, title="", notes=())
    Console(file=stream, width=width, color_system=None, force_terminal=False).print(to_rich(bare))
    body_lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    return "\n".join([*([table.title] if table.title else []), *body_lines, *table.notes]) + "\n"


def split_to_width(table: Table, width: int) -> list[Table]:
    """Tables of the same rows whose text is at most `width` characters wide, as far as single columns are.

    Each has the columns that name the rows; the first has the title, the last the notes.
    """
    widths = [max(map(len, column)) + GAP for column in zip(table.header, *table.rows, strict=True)]
    parts, used = [list(range(table.names))], sum(widths[: table.names])
    for index in range(table.names, len(widths)):
        if used + widths[index] > width and len(parts[-1]) > table.names:
            parts.append(list(range(table.names)))
            used = sum(widths[: table.names])
        parts[-1].append(index)
        used += widths[index]
    bare = replace(table, title="", notes=())
    tables = [
        replace(bare, header=_cells(table.header, part), rows=tuple(_cells(row, part) for row in table.rows))
        for part in parts
    ]
    tables[0] = replace(tables[0], title=table.title)
    tables[-1] = replace(tables[-1], notes=table.notes)
    return tables


def _cells(row: Sequence[str], indices: Sequence[int]) -> tuple[str, ...]:
    return tuple(row[index] for index in indices)


def to_markdown(table: Table) -> str:
    """A GitHub-flavoured Markdown table below its title, with notes at the end."""
    rules = [":---" if index < table.names else "---:" for index in range(len(table.header))]
    lines = [_markdown_line(cells) for cells in (table.header, rules, *table.rows)]
    parts = [f"**{table.title}**", "\n".join(lines), *table.notes]
    return "\n\n".join(parts) + "\n"


def to_latex(table: Table) -> str:
    """A LaTeX table environment with caption and notes; needs the package booktabs."""
    form = "l" * table.names + "r" * (len(table.header) - table.names)
    rows = [
        " & ".join([*map(_latex, row[: table.names]), *map(_latex_value, row[table.names :])]) + r" \\"
        for row in (table.header, *table.rows)
    ]
    notes = "".join(f"\\par\\smallskip\\footnotesize {_latex(note)}\n" for note in table.notes)
    return (
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{_latex(table.title)}}}\n\\begin{{tabular}}{{{form}}}\n\\toprule\n{rows[0]}\n\\midrule\n"
        + "\n".join(rows[1:])
        + f"\n\\bottomrule\n\\end{{tabular}}\n{notes}\\end{{table}}\n"
    )


_LATEX = {
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # At the start of a row these would be arguments of the preceding line break.
    "[": "{[}",
    "*": "{*}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{UPWARDS ARROW}": r"$\uparrow$",
    "\N{DOWNWARDS ARROW}": r"$\downarrow$",
    "ε": r"$\varepsilon$",
    "Δ": r"$\Delta$",
    MISSING: "--",
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _latex_value(text: str) -> str:
    """A value, whose minus is no hyphen."""
    return re.sub(r"^-(?=\d)", "$-$", _latex(text))


def to_csv(table: Table) -> str:
    """Header and rows for programs: names without arrows, empty missing values, separate columns for standard errors
    and differing numbers of seeds. Title and notes are left out, so that the file stays a table.
    """
    columns = [[name, *(row[index] for row in table.rows)] for index, name in enumerate(table.header)]
    plain = [part for index, column in enumerate(columns) for part in _csv_columns(column, index < table.names)]
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(zip(*plain, strict=True))
    return stream.getvalue()


def _csv_columns(column: Sequence[str], names: bool) -> list[list[str]]:
    """A column of values, followed by columns of the other parts of the cells."""
    title = column[0].translate(_ARROWS).strip()
    if names:
        return [[title, *column[1:]]]
    matches = [_CELL.fullmatch(cell) for cell in column[1:]]
    values = ["" if cell == MISSING else cell for cell in column[1:]]
    parts = [[title, *(match["value"] if match else cell for match, cell in zip(matches, values, strict=True))]]
    for part, name in (("error", "standard error"), ("count", "seeds")):
        parts_of_cells = [(match and match[part]) or "" for match in matches]
        parts += [[f"{title} {name}", *parts_of_cells]] if any(parts_of_cells) else []
    return parts


def to_html(table: Table) -> str:
    """A <figure> with the table, its title and its notes, all escaped; headers are buttons, by which a script sorts."""
    head = _html_line("th", table.header, table.names)
    body = "\n".join(_html_line("td", row, table.names) for row in table.rows)
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in table.notes)
    return (
        f'<figure class="table"><figcaption>{html.escape(table.title)}</figcaption>\n'
        f'<div class="scroll"><table><thead>{head}</thead>\n<tbody>\n{body}\n</tbody></table></div>\n'
        f'<div class="notes">{notes}</div></figure>'
    )


def _markdown_line(cells: Sequence[str]) -> str:
    escaped = (cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ") for cell in cells)
    return "| " + " | ".join(escaped) + " |"


def _html_line(tag: str, cells: tuple[str, ...], names: int) -> str:
    parts = []
    for index, cell in enumerate(cells):
        style = ' class="name"' if index < names else ""
        if tag == "th":
            parts.append(f'<th scope="col"{style}><button type="button">{_html_header(cell)}</button></th>')
        else:
            parts.append(f"<td{style}>{_html_value(cell)}</td>")
    return f"<tr>{''.join(parts)}</tr>"


def _html_header(cell: str) -> str:
    """A header that wraps only between words, not at the hyphen of "in-domain"."""
    return " ".join(f"<span>{html.escape(word)}</span>" for word in cell.split())


def _html_value(cell: str) -> str:
    """A value with its error in a smaller font."""
    value, sign, error = cell.partition(" \N{PLUS-MINUS SIGN} ")
    small = f" <small>{sign.strip()} {html.escape(error)}</small>" if sign else ""
    return html.escape(value) + small


RENDERERS: dict[str, Callable[[Table], str]] = {
    "text": to_text,
    "markdown": to_markdown,
    "latex": to_latex,
    "csv": to_csv,
}


def rendered(tables: Sequence[Table], form: str) -> str:
    """Tables in one of the forms of `RENDERERS`; in CSV, each of several tables follows a comment with its title."""
    titles = [f"# {table.title}\n" if form == "csv" and len(tables) > 1 else "" for table in tables]
    return "\n".join(title + RENDERERS[form](table) for title, table in zip(titles, tables, strict=True))
