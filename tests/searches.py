"""Real searches by Ray, through `launch/tune.py`: written, started, watched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from align_dist.config import RunConfig, to_yaml
from align_dist.runs.folder import RunFolder
from align_dist.runs.metrics import write_metrics
from align_dist.search.config import SearchConfig, parse_search
from align_dist.search.trials import Trial, mark_begun

LIMIT = 600
WORKER = "align_dist.cli train"


def write_search(squares: RunConfig, path: Path, **changes: Any) -> tuple[Path, SearchConfig]:
    """A search of tiny runs, whose base run and folder lie under `path`."""
    written, values = write_values(squares, path, **changes)
    return written, parse_search(values)


def write_values(squares: RunConfig, path: Path, **changes: Any) -> tuple[Path, dict[str, Any]]:
    """The same, unread: it may be no search."""
    (path / "run.yaml").write_text(to_yaml(squares))
    overrides = ["training.length=16 steps", "training.validate_every=4 steps", "training.checkpoint_every=4 steps"]
    values = {
        "config": str(path / "run.yaml"),
        "overrides": [*overrides, f"runs={path / 'runs'}"],
        "experiment": "search",
        "samples": 4,
        **changes,
    }
    (path / "search.yaml").write_text(yaml.safe_dump(values))
    return path / "search.yaml", values


def record(search: SearchConfig, trial: Trial, scores: Mapping[int, float], ends: bool = True, **others: float) -> None:
    """Makes a trial's folder that of one with these accuracies at these steps, trained to its end if it `ends`.

    others: metrics of explanations, the same at every step.
    """
    mark_begun(trial, search.objective)
    folder, explained = RunFolder(trial.folder), {f"validation/{name}": value for name, value in others.items()}
    for step, accuracy in scores.items():
        write_metrics(folder.metrics, step, step / 4, {"validation/accuracy": accuracy, **explained})
    if ends:
        best = max(scores, key=lambda step: (scores[step], step))
        folder.write_trained(max(scores), {"validation": best, "last": max(scores)})


def start(path: Path, *options: str, in_group: bool = False) -> subprocess.Popen[str]:
    """in_group: in a process group of its own, as a shell starts it, which gets a Ctrl-C with all of Ray in it."""
    return subprocess.Popen(
        [sys.executable, "launch/tune.py", str(path), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=in_group,
        env={**os.environ, "COLUMNS": "200", "RAY_ADDRESS": "127.0.0.1:1"},  # of a cluster that is not asked for
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        stdout, stderr = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        stdout, stderr = process.communicate()
        raise AssertionError(f"the search did not end:\n{stdout}\n{stderr}") from None
    return process.returncode, stdout, stderr


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(LIMIT * 20):
        if condition():
            return
        assert process.poll() is None, finish(process)
        time.sleep(0.05)
    raise AssertionError("it never came so far")


def workers(runs: Path) -> list[psutil.Process]:
    """The processes that train trials whose runs lie there."""
    processes = []
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if WORKER in command and str(runs) in command:
            processes.append(process)
    return processes


def starts_of(folder: Path) -> int:
    return len(json.loads((folder / "environment.json").read_text()))
