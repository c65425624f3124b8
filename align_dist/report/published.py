"""The tables of papers, their shapes and the numbers printed in them: a YAML file for each paper in `published/`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from align_dist.errors import ConfigError, nearest_name
from align_dist.report.measures import Measure, measure
from align_dist.schema.text import Described, read_description, typed
from align_dist.schema.values import Positive

FOLDER = Path(__file__).with_name("published")


class Notation(Described):
    """How a paper writes a metric, where that is not how ours is written (`Measure`).

    unmeasured: why no run has the metric, for one that is the paper's own.
    """

    name: str | None = None
    better: Literal[-1, 0, 1] | None = None
    scale: Positive | None = None
    decimals: Annotated[int, Field(ge=0)] | None = None
    unmeasured: str = ""

    def measure(self, metric: str) -> Measure:
        """The metric as the paper writes it."""
        return replace(measure(metric), **self.model_dump(exclude={"unmeasured"}, exclude_none=True))


class Numbers(Described):
    """What was printed of a metric on a benchmark, in the table's unit: method -> a number for each domain, and last
    their average where the table has averages. A number that was not printed is null.
    """

    domains: tuple[str, ...]
    methods: dict[str, tuple[float | None, ...]]


class PaperTable(Described):
    """A table's shape and its numbers. Benchmarks, domains, methods and metrics have the names that results have.

    source: where the numbers stand. protocol: of the runs that fill the table: a domain is the one trained on
    (in_domain), held out (leave_one_out), or tested on by runs of one other domain (single_source).
    metrics_in: columns, a table for each benchmark, or rows, a block for each metric and the benchmarks side by side.
    methods: method, with its variant in brackets -> the paper's name of it. other_methods: whether further methods of
    ours have rows too. numbers: benchmark -> metric -> what was printed.
    """

    title: str
    source: str = ""
    protocol: Literal["in_domain", "single_source", "leave_one_out"]
    metrics: dict[str, Notation]
    metrics_in: Literal["columns", "rows"] = "columns"
    methods: dict[str, str]
    other_methods: bool = True
    average: bool = False
    numbers: dict[str, dict[str, Numbers]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> PaperTable:
        for benchmark, metrics in self.numbers.items():
            for metric, numbers in metrics.items():
                place = f"{benchmark} {metric}"
                if metric not in self.metrics:
                    raise ValueError(f"{place}: is not among the table's metrics")
                for method, printed in numbers.methods.items():
                    if method not in self.methods:
                        raise ValueError(f"{place} {method}: is not among the table's methods")
                    if len(printed) != (wanted := len(numbers.domains) + self.average):
                        raise ValueError(f"{place} {method}: takes {wanted} numbers, got {len(printed)}")
        return self

    def domains(self, benchmark: str) -> list[str]:
        """The domains of a benchmark that numbers were printed of, in the paper's order; none for another benchmark."""
        printed = self.numbers.get(benchmark, {})
        return list(dict.fromkeys(domain for numbers in printed.values() for domain in numbers.domains))

    def has(self, benchmark: str, domain: str, metric: str) -> bool:
        """Whether the table has such a column. On a benchmark that is not the paper's it has one for everything."""
        printed = self.numbers.get(benchmark)
        return printed is None or (metric in printed and domain in printed[metric].domains)

    def number(self, benchmark: str, domain: str, metric: str, method: str) -> float | None:
        """What was printed there; None for nothing. domain: empty for the average over the benchmark's domains."""
        numbers = self.numbers.get(benchmark, {}).get(metric)
        if numbers is None or method not in numbers.methods:
            return None
        places = [*numbers.domains, *([""] if self.average else [])]
        return dict(zip(places, numbers.methods[method], strict=True)).get(domain)


class Paper(Described):
    """A paper's short name, its title, where it can be read, and its tables."""

    name: str
    title: str
    url: str
    tables: tuple[PaperTable, ...]


def known_papers() -> list[str]:
    """The names that `read_paper` takes: those of the files."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_paper(name: str) -> Paper:
    """A paper's tables by the name of their file. Raises ConfigError for an unknown one and for one that is damaged."""
    known = known_papers()
    if name not in known:
        raise ConfigError(f"report --table: unknown {name!r}{nearest_name(name, known)}; known: {', '.join(known)}")
    return parse_paper(FOLDER / f"{name}.yaml")


def parse_paper(path: Path) -> Paper:
    """A file's tables. Raises ConfigError, one line: the file, the first wrong key and what is wrong with it."""
    try:
        return Paper.model_validate(typed(read_description(path, "paper's tables")))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {key}: {first['msg'].removeprefix('Value error, ')}; mend the file") from None
