from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from refusals import raises
from scipy.stats import sem

from align_dist.cli import main
from align_dist.errors import ConfigError
from align_dist.report.rows import read_runs
from align_dist.report.sweep import sweep, sweep_table

# Out-of-domain accuracies by agreement, method and seed; the mean over two domains that differ by 0.2.
FOUND = {
    0.5: {"erm": [0.8, 0.7, 0.6], "align": [0.9, 0.75, 0.75]},
    0.95: {"erm": [0.3, 0.2], "align": [0.2, 0.2, 0.9]},
}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for agreement, methods in FOUND.items():
        for method, accuracies in methods.items():
            for seed, accuracy in enumerate(accuracies):
                write_run(tmp_path / f"{agreement}-{method}-{seed}", agreement, method, seed, accuracy)
    return tmp_path


def write_run(folder: Path, agreement: float, method: str, seed: int, accuracy: float) -> None:
    common = {
        "run": folder.name, "benchmark": "embedded", "method": method, "backbone": "resnet8", "seed": seed,
        "protocol": "single_source", "source": "in", "selection": "last", "step": 9, "images": 5,
        "benchmark_settings": {"agreement": agreement},
    }  # fmt: skip
    domains = {"in": ("in_domain", 1.0), "a": ("out_of_domain", accuracy - 0.1), "b": ("out_of_domain", accuracy + 0.1)}
    rows = [
        {**common, "domain": domain, "role": role, "metrics": {"accuracy": value}}
        for domain, (role, value) in domains.items()
    ]
    folder.mkdir()
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.yaml").write_text(f"method: {method}\nbenchmark: {{agreement: {agreement}}}\n")
    (folder / "done").touch()


def test_gains_are_over_ERM_at_the_same_value_paired_by_seed(runs: Path) -> None:
    points = {
        (point.value, point.line.method): point for point in sweep(read_runs([runs]), "benchmark.agreement", "last")
    }
    half, most = points[0.5, "align"], points[0.95, "align"]
    assert (half.accuracy, half.gain, half.gain_error) == pytest.approx((80.0, 10.0, sem([10.0, 5.0, 15.0])))
    # The third seed has no ERM run to be compared with.
    assert (most.seeds, most.gain, most.gain_error) == (3, pytest.approx(-5.0), pytest.approx(sem([-10.0, 0.0])))
    assert points[0.5, "erm"].gain is None


def test_table_and_figure_hold_every_method(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = sweep(read_runs([runs]), "benchmark.agreement", "last")
    assert [row[:3] for row in sweep_table(points, "k", "last").rows] == [
        ("0.5", "erm", "3"), ("0.5", "align", "3"), ("0.95", "erm", "2"), ("0.95", "align", "3")
    ]  # fmt: skip
    figure = tmp_path / "gain.png"
    command = ["report", str(runs), "--selection", "last", "--against", "benchmark.agreement", "--figure", str(figure)]
    assert main(command) == 0
    assert Image.open(figure).size > (400, 300)
    assert "0.95" in capsys.readouterr().out


def test_one_value_shows_no_change(tmp_path: Path) -> None:
    write_run(tmp_path / "erm", 0.7, "erm", 0, 0.5)
    with raises(ConfigError, "benchmark.agreement", "0.7"):
        sweep(read_runs([tmp_path]), "benchmark.agreement", "last")


def test_collected_rows_make_the_same_table_as_their_runs(runs: Path, tmp_path: Path) -> None:
    collected = tmp_path / "rows.jsonl"
    collected.write_text("".join((folder / "results.jsonl").read_text() for folder in runs.iterdir()))
    points = sweep(read_runs([collected]), "benchmark.agreement", "last")
    assert points == sweep(read_runs([runs]), "benchmark.agreement", "last")
    with raises(ConfigError, "align.lambda1", collected.name):
        sweep(read_runs([collected]), "align.lambda1", "last")


def test_of_another_methods_key_ERM_knows_nothing_and_counts_everywhere(tmp_path: Path) -> None:
    write_run(tmp_path / "erm", 0.7, "erm", 0, 0.5)
    for value in (1.0, 4.0):
        write_run(tmp_path / f"align-{value}", 0.7, "align", 0, 0.5 + value / 10)
        config = tmp_path / f"align-{value}" / "config.yaml"
        config.write_text(config.read_text() + f"align: {{lambda1: {value}}}\n")
    points = sweep(read_runs([tmp_path]), "align.lambda1", "last")
    gains = {(point.value, point.line.method): point.gain for point in points}
    assert gains == {
        (1.0, "erm"): None, (4.0, "erm"): None, (1.0, "align"): pytest.approx(10), (4.0, "align"): pytest.approx(40)
    }  # fmt: skip


def test_runs_of_several_tasks_and_of_no_other_domain_are_refused(runs: Path) -> None:
    for change in ({"source": "elsewhere"}, {"role": "in_domain"}):
        for path in runs.glob("0.5-erm-*/results.jsonl") if "source" in change else runs.glob("*/results.jsonl"):
            rows = [json.loads(line) | change for line in path.read_text().splitlines()]
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        with pytest.raises(ConfigError):
            sweep(read_runs([runs]), "benchmark.agreement", "last")


def test_a_key_that_is_no_number_is_refused(runs: Path) -> None:
    for key in ("method", "benchmark.nothing"):
        with pytest.raises(ConfigError):
            sweep(read_runs([runs]), key, "last")
    assert main(["report", str(runs), "--figure", "x.png"]) == 2
