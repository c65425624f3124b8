"""README's own method: its file, its one line in the registry, and nothing else, trained as a user would."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from ranks import ALONE, described

from align_dist.config import RunConfig
from align_dist.parallel.local import start_ranks

ROOT = Path(__file__).parents[2]
RUNNER = "import sys; sys.path.insert(0, sys.argv.pop(1)); from align_dist import cli; sys.exit(cli.main(sys.argv[1:]))"


def with_readmes_method(folder: Path) -> Path:
    """A copy of the package with what README says of a method."""
    text = (ROOT / "align_dist" / "README.md").read_text()
    match = re.search(r"`(align_dist/methods/(\w+)\.py)`:\n```python\n(.*?)```.*?```python\n(.*?)```", text, re.DOTALL)
    assert match is not None
    path, _name, code, line = match.groups()
    shutil.copytree(ROOT / "align_dist", folder / "align_dist", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / path).write_text(code)
    registry = folder / "align_dist" / "options" / "registry.py"
    registry.write_text(re.sub(r"(METHODS = \{\n)", lambda start: start.group(1) + line, registry.read_text()))
    return folder


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_readmes_method(tmp_path_factory.mktemp("package"))


@pytest.mark.parametrize("ranks", [1, 2])
def test_it_trains_with_its_own_option(package: Path, squares: RunConfig, tmp_path: Path, ranks: int) -> None:
    described(squares, tmp_path)
    options = ["method=label_smoothing", "label_smoothing.smoothing=0.25", "training.length=12 steps"]
    command = ["-c", RUNNER, str(package), "train", str(tmp_path / "run.yaml"), *options]
    for process in start_ranks(ranks, command, ALONE):
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, output + errors
    (folder,) = (tmp_path / "runs" / "test").iterdir()
    assert "label_smoothing:\n  smoothing: 0.25\n" in (folder / "config.yaml").read_text()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["classifier/classification"] for line in lines if "classifier/classification" in line]
    # A smoothed target is never met: the least cross-entropy of two classes at 0.25 is its entropy, 0.377.
    assert losses and min(losses) > 0.376 and (folder / "done").exists() and os.path.getsize(folder / "results.jsonl")
