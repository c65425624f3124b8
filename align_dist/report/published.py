"""Published tables: their shapes and numbers, one YAML file per paper in `published/`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from align_dist.errors import ConfigError, nearest_name
from align_dist.report.measures import Measure, measure
from align_dist.schema.text import Section, read_description, with_yaml_types
from align_dist.schema.values import Positive

FOLDER = Path(__file__).with_name("published")


class Notation(Section):
    """A paper's presentation of a metric, where different from `Measure`.

    unmeasured: the reason why no run has the metric, for a metric of the paper alone.
    """

    name: str | None = None
    better: Literal[-1, 0, 1] | None = None
    scale: Positive | None = None
    decimals: Annotated[int, Field(ge=0)] | None = None
    unmeasured: str = ""

    def measure(self, metric: str) -> Measure:
        """The metric in the paper's presentation."""
        return replace(measure(metric), **self.model_dump(exclude={"unmeasured"}, exclude_none=True))


class Numbers(Section):
    """Published numbers of a metric on a benchmark, in the table's unit: method -> one number per domain, then the
    average where the table has averages. A missing number is null.
    """

    domains: tuple[str, ...]
    methods: dict[str, tuple[float | None, ...]]


class PaperTable(Section):
    """A table's shape and numbers. Benchmarks, domains, methods and metrics have the same names as in results.

    source: where the numbers were published. protocol: of the runs that fill the table; a domain is trained on
    (in_domain), held out (leave_one_out), or tested on by runs of one other domain (single_source). metrics_in:
    columns, with one table per benchmark, or rows, with one block per metric and the benchmarks side by side. methods:
    method, with its variant in brackets -> the paper's name. other_methods: whether methods that are not in the paper
    have rows. note: printed below the table. numbers: benchmark -> metric -> published numbers.
    """

    title: str
    source: str = ""
    protocol: Literal["in_domain", "single_source", "leave_one_out"]
    metrics: dict[str, Notation]
    metrics_in: Literal["columns", "rows"] = "columns"
    methods: dict[str, str]
    other_methods: bool = True
    note: str = ""
    average: bool = False
    numbers: dict[str, dict[str, Numbers]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> PaperTable:
        for benchmark, metrics in self.numbers.items():
            for metric, numbers in metrics.items():
                place = f"{benchmark} {metric}"
                if metric not in self.metrics:
                    raise ValueError(f"{place}: is not among the table's metrics")
                for method, values in numbers.methods.items():
                    if method not in self.methods:
                        raise ValueError(f"{place} {method}: is not among the table's methods")
                    if len(values) != (count := len(numbers.domains) + self.average):
                        raise ValueError(f"{place} {method}: takes {count} numbers, got {len(values)}")
        return self

    def domains(self, benchmark: str) -> list[str]:
        """Domains of a benchmark with published numbers, in the paper's order; empty for other benchmarks."""
        numbers_by_metric = self.numbers.get(benchmark, {})
        return list(dict.fromkeys(domain for numbers in numbers_by_metric.values() for domain in numbers.domains))

    def has(self, benchmark: str, domain: str, metric: str) -> bool:
        """Return whether the table has such a column; True for every column of a benchmark that is not in the paper."""
        numbers_by_metric = self.numbers.get(benchmark)
        return numbers_by_metric is None or (
            metric in numbers_by_metric and domain in numbers_by_metric[metric].domains
        )

    def number(self, benchmark: str, domain: str, metric: str, method: str) -> float | None:
        """The published number or None. domain: empty for the average over the benchmark's domains."""
        numbers = self.numbers.get(benchmark, {}).get(metric)
        if numbers is None or method not in numbers.methods:
            return None
        places = [*numbers.domains, *([""] if self.average else [])]
        return dict(zip(places, numbers.methods[method], strict=True)).get(domain)


class Paper(Section):
    """A paper's short name, title, URL and tables."""

    name: str
    title: str
    url: str
    tables: tuple[PaperTable, ...]


def known_papers() -> list[str]:
    """The names of papers that `read_paper` accepts."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_paper(name: str) -> Paper:
    """A paper's tables by the name of the file. Raises ConfigError for an unknown name or an invalid file."""
    known = known_papers()
    if name not in known:
        raise ConfigError(f"report --table: unknown {name!r}{nearest_name(name, known)}; known: {', '.join(known)}")
    return parse_paper(FOLDER / f"{name}.yaml")


def parse_paper(path: Path) -> Paper:
    """The tables in a file. Raises ConfigError in one line: the file, the first invalid key and the problem."""
    try:
        return Paper.model_validate(with_yaml_types(read_description(path, "paper's tables")))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {key}: {first['msg'].removeprefix('Value error, ')}; correct the file") from None
