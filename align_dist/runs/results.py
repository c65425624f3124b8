"""The rows of results: one line of a run's results.jsonl is one run, checkpoint and domain.

The only place that knows the line's form: evaluation writes rows here, reports read them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from align_dist.config import BenchmarkConfig, EvaluationConfig, RunConfig
from align_dist.config.sections import USUAL_AGREEMENT
from align_dist.errors import DataError
from align_dist.files import write_text

IN_DOMAIN, OUT_OF_DOMAIN = "in_domain", "out_of_domain"

USUAL_BENCHMARK = {"agreement": USUAL_AGREEMENT}
_TEXTS = ("run", "benchmark", "method", "backbone", "protocol", "selection", "domain", "role")
_NUMBERS = ("seed", "step", "images")


class Group(NamedTuple):
    """Settings that two results must share to be comparable.

    evaluation, data: settings of the evaluation and of the benchmark that are not the default ones.
    """

    benchmark: str
    backbone: str
    protocol: str
    source: str
    target: str
    evaluation: str = ""
    data: str = ""


@dataclass(frozen=True)
class Row:
    """One domain's measurements of one selected checkpoint of one run.

    metrics: one without a value is left out or not finite. fingerprint: of `Manifest.fingerprint`. evaluation: the
    settings that metrics depend on. benchmark_settings: see `benchmark_settings_of`. theory_masks: which masks the
    lemmas were measured with; empty where they were not.
    """

    run: str
    experiment: str
    group: Group
    method: str
    variant: str
    seed: int
    selection: str
    step: int
    domain: str
    role: str
    images: int
    metrics: Mapping[str, float]
    fingerprint: str = ""
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    benchmark_settings: Mapping[str, Any] = field(default_factory=dict)
    theory_masks: str = ""

    @property
    def label(self) -> str:
        """The method as tables name it."""
        return label_of(self.method, self.variant)


def label_of(method: str, variant: str) -> str:
    """The method as tables name it, with the variant where there is one."""
    return f"{method} ({variant})" if variant else method


def group_of(config: RunConfig) -> Group:
    """The settings that a run shares with the runs that it may be compared with."""
    protocol = config.protocol
    return Group(
        config.benchmark.name,
        config.classifier.backbone,
        protocol.kind,
        protocol.source or "",
        protocol.target or "",
        _differing_evaluation(settings_of(config.evaluation)),
        _differing(benchmark_settings_of(config.benchmark), USUAL_BENCHMARK),
    )


def variant_of(config: RunConfig) -> str:
    """A run's variant as results have it: with what maps are made by, where it is not Grad-CAM by receptive fields.

    Accuracy may be compared between them, faithfulness may not.
    """
    classifier = config.classifier
    even = "even cells" if classifier.cam_places == "even" else ""
    attribution = even if classifier.attribution == "grad_cam" else classifier.attribution
    return ", ".join(part for part in dict.fromkeys((config.variant, attribution)) if part)


def settings_of(evaluation: EvaluationConfig) -> dict[str, Any]:
    """The settings that a row's metrics depend on: all but the selections, and whether lemmas were measured too."""
    return {key: value for key, value in evaluation.settings.items() if key not in ("selections", "theory")}


def benchmark_settings_of(benchmark: BenchmarkConfig) -> dict[str, Any]:
    """The settings that decide what a benchmark's pictures show: the embedded benchmark has one, others have none."""
    return {"agreement": benchmark.agreement} if benchmark.name == "embedded" else {}


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write a results.jsonl whole. Raises StorageError."""
    write_text(path, "".join(json.dumps(record_of(row)) + "\n" for row in rows))


def record_of(row: Row) -> dict[str, Any]:
    """A row as plain values, which `parse_row` reads; a metric that is not finite becomes null, which JSON has."""
    return {
        "run": row.run,
        "experiment": row.experiment,
        "benchmark": row.group.benchmark,
        "method": row.method,
        "variant": row.variant,
        "backbone": row.group.backbone,
        "protocol": row.group.protocol,
        "source": row.group.source or None,
        "target": row.group.target or None,
        "seed": row.seed,
        "selection": row.selection,
        "step": row.step,
        "domain": row.domain,
        "role": row.role,
        "images": row.images,
        "fingerprint": row.fingerprint,
        "evaluation": dict(row.evaluation),
        **({"benchmark_settings": dict(row.benchmark_settings)} if row.benchmark_settings else {}),
        "metrics": {name: _rounded(value) if math.isfinite(value) else None for name, value in row.metrics.items()},
        **({"theory_masks": row.theory_masks} if row.theory_masks else {}),
    }


def _rounded(value: float) -> float:
    """A value to six decimals, or to six digits where these are finer: a Lipschitz ratio is small."""
    return round(value, 6) if abs(value) >= 0.1 else float(f"{value:.6g}")


def read_rows(path: Path) -> list[Row]:
    """The rows of one results.jsonl. Raises DataError naming file and line for one that is not a row."""
    rows = []
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read, {error.strerror}; check its permissions") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(parse_row(json.loads(line)))
        except ValueError as error:
            reason = "not JSON" if isinstance(error, json.JSONDecodeError) else str(error)
            message = f"{path} line {number}: {reason}; expected one result a line, evaluate the run again"
            raise DataError(message) from error
    return rows


def parse_row(record: Any) -> Row:
    """A row from a decoded JSON object. Raises ValueError saying what is wrong with it."""
    if not isinstance(record, dict):
        raise ValueError("not an object")
    for keys, kind, name in ((_TEXTS, str, "text"), (_NUMBERS, int, "a whole number")):
        for key in keys:
            if not isinstance(record.get(key), kind) or isinstance(record[key], bool):
                raise ValueError(f"{key!r} is missing or not {name}")
    if record["role"] not in (IN_DOMAIN, OUT_OF_DOMAIN):
        raise ValueError(f"'role' is {record['role']!r}, neither {IN_DOMAIN} nor {OUT_OF_DOMAIN}")
    evaluation, benchmark_settings = _settings(record, "evaluation"), _settings(record, "benchmark_settings")
    fields = {key: record[key] for key in ("run", "method", "selection", "domain", "role", *_NUMBERS)}
    return Row(
        group=Group(
            record["benchmark"],
            record["backbone"],
            record["protocol"],
            _domains(record, "source"),
            _domains(record, "target"),
            _differing_evaluation(evaluation),
            _differing(benchmark_settings, USUAL_BENCHMARK),
        ),
        experiment=str(record.get("experiment") or ""),
        variant=str(record.get("variant") or ""),
        metrics=_metrics(record.get("metrics")),
        fingerprint=str(record.get("fingerprint") or ""),
        evaluation=evaluation,
        benchmark_settings=benchmark_settings,
        theory_masks=str(record.get("theory_masks") or ""),
        **fields,
    )


def _domains(record: Mapping[str, Any], key: str) -> str:
    """A domain, or several as one text; empty for none."""
    value = record.get(key) or []
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{key!r} is neither a domain nor a list of domains")
    return ", ".join(names)


def _settings(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The settings that a row tells; older rows tell none."""
    value = record.get(key)
    if not isinstance(value, dict | None):
        raise ValueError(f"{key!r} is not an object")
    return value or {}


def _differing_evaluation(settings: Mapping[str, Any]) -> str:
    return _differing(settings, EvaluationConfig().settings)


def _differing(settings: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    """The settings that differ from the usual ones, as overrides are written."""
    return " ".join(f"{key}={value}" for key, value in sorted(settings.items()) if value != usual.get(key))


def _metrics(values: Any) -> dict[str, float]:
    """The metrics that have a value: null and non-finite ones count as not measured."""
    if not isinstance(values, dict):
        raise ValueError("'metrics' is missing or not an object")
    for name, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"metric {name!r} is not a number")
    return {k: float(v) for k, v in values.items() if v is not None and math.isfinite(v)}
