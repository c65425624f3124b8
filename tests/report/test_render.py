from __future__ import annotations

import csv
import io
from dataclasses import replace
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from align_dist.report.render import Table, split_to_width, to_csv, to_html, to_latex, to_markdown, to_text

TABLE = Table(
    "Summary <of> all",
    ("method", "acc|uracy"),
    (("erm", "1.0"), ("[bold]align[/bold]", "2 & 3")),
    ("A <note>.",),
)


class Cells(HTMLParser):
    """Collects the text of table cells, as a browser would read them."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


def parsed(page: str) -> Cells:
    cells = Cells()
    cells.feed(page)
    return cells


def test_text_shows_all_and_takes_no_markup_from_cells() -> None:
    text = to_text(TABLE)
    assert "Summary <of> all" in text and "[bold]align[/bold]" in text and "A <note>." in text
    assert "\x1b" not in text


def test_text_never_wraps_a_wide_table() -> None:
    header = tuple(f"column number {i}" for i in range(30))
    lines = to_text(Table("t", header, (tuple(f"value {i}" for i in range(30)),))).splitlines()
    assert sum("value" in line for line in lines) == 1


@given(widths=st.lists(st.integers(1, 30), min_size=1, max_size=12), width=st.integers(20, 120))
def test_a_split_table_has_every_column_once_and_fits(widths: list[int], width: int) -> None:
    header = ("method", *(f"{index:0{size}}" for index, size in enumerate(widths)))
    table = Table("Title", header, (tuple(f"{name}!" for name in header),), ("note",))
    parts = split_to_width(table, width)
    assert [name for part in parts for name in part.header[1:]] == list(header[1:])
    assert all(part.header[0] == "method" and part.rows[0][0] == "method!" for part in parts)
    assert (parts[0].title, parts[-1].notes) == ("Title", ("note",))
    lines = [(part, line) for part in parts for line in to_text(replace(part, title="", notes=())).splitlines()]
    assert all(len(line) <= width for part, line in lines if len(part.header) > 2)


def test_a_minus_in_latex_is_no_hyphen() -> None:
    table = Table("t", ("method", "gain"), (("a-b", "-0.5 \N{PLUS-MINUS SIGN} 0.1"),))
    assert r"a-b & $-$0.5 $\pm$ 0.1 \\" in to_latex(table)


def test_latex_has_its_own_names_of_greek_letters() -> None:
    table = Table("t", ("method", "ΔCE / ε"), (("erm", "1"),))
    assert to_latex(table).isascii()


def test_markdown_escapes_pipes() -> None:
    lines = to_markdown(TABLE).splitlines()
    assert lines[2:4] == ["| method | acc\\|uracy |", "| :--- | ---: |"]


MARKS = "\xa0\N{EN DASH}\N{UPWARDS ARROW}\N{DOWNWARDS ARROW}"
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=MARKS), max_size=12)


@given(st.lists(st.tuples(texts, texts), max_size=4))
def test_csv_reads_back(rows: list[tuple[str, str]]) -> None:
    table = Table("title", ("a", "b"), tuple(rows))
    read = list(csv.reader(io.StringIO(to_csv(table))))
    assert [tuple(line) for line in read] == [("a", "b"), *rows]


def test_csv_is_for_programs() -> None:
    pm, none, up = "\N{PLUS-MINUS SIGN}", "\N{EN DASH}", "\N{UPWARDS ARROW}"
    rows = (("erm", "3", f"93.8 {pm} 0.6", none), ("align", "3", f"+1.5 {pm} 0.2 (n=2)", "0.447"))
    table = Table("t", ("method", "seeds", "out", f"mask IoU {up}"), rows)
    assert to_csv(table).splitlines() == [
        "method,seeds,out,out standard error,out seeds,mask IoU",
        "erm,3,93.8,0.6,,",
        "align,3,+1.5,0.2,2,0.447",
    ]


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=4))
def test_html_shows_every_cell_and_takes_no_markup_from_it(rows: list[tuple[str, str]]) -> None:
    cells = parsed(to_html(Table("<script>", ("a", "b"), tuple(rows))))
    assert [tuple(line) for line in cells.rows] == [("a", "b"), *rows]
    assert "script" not in cells.tags


def test_html_keeps_value_and_error() -> None:
    value = "81.3 \N{PLUS-MINUS SIGN} 0.4 (n=2)"
    assert parsed(to_html(Table("t", ("method", "a <b>"), (("erm", value),)))).rows == [
        ["method", "a <b>"],
        ["erm", value],
    ]
