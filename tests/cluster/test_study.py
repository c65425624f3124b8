"""launch/study.sh, and with it launch/submit.py before a study: every kind of run of a file, over seeds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from local_slurm import CHECKOUT

from align_dist.cluster.study import kinds_of
from align_dist.config import RunConfig, to_yaml

STUDIES = sorted((CHECKOUT / "configs" / "studies").glob("*.txt"))


def run_study(study: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", "launch/study.sh", str(study), *arguments]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=300)


def test_every_kind_is_run_and_none_twice(squares: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(to_yaml(squares))
    study = tmp_path / "study.txt"
    study.write_text(
        f"# a comment\nconfig {tmp_path / 'run.yaml'}\ncommon runs={tmp_path} training.length=8\n\n"
        "method=erm\nmethod=fixed_mask fixed_mask.mask=gaussian variant=middle experiment=its_own\n"
    )
    assert run_study(study, "0").returncode != 0  # a length needs its unit
    study.write_text(study.read_text().replace("training.length=8", "experiment=studied"))
    first = run_study(study, "0")
    assert first.returncode == 0, first.stderr
    times = {path.parent: path.stat().st_mtime_ns for path in tmp_path.rglob("done")}
    assert sorted(folder.parent.name for folder in times) == ["its_own", "studied"]
    assert "fixed_mask (middle)" in first.stdout.rpartition("finished")[2], "the table of what it trained"
    assert run_study(study, "0").returncode == 0
    assert {path.parent: path.stat().st_mtime_ns for path in tmp_path.rglob("done")} == times


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("config configs/quickstart.yaml\n")
    for arguments in ((tmp_path / "nowhere.txt", "0"), (empty, "0"), (empty,)):
        process = run_study(*arguments)
        assert process.returncode == 2 and len(process.stderr.strip().splitlines()) <= 3


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.stem)
def test_every_kind_of_every_shipped_study_is_a_run(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)
    runs = kinds_of(study, [])
    assert len({(run.identity, run.benchmark.agreement) for run in runs}) == len(runs)
