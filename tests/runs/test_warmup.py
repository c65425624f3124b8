"""A run that begins with a shared warm-up is the same run from scratch, bit for bit."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from refusals import raises
from weights import assert_same_weights

from align_dist.config import RunConfig, parse_config, to_yaml
from align_dist.errors import CheckpointError, NonFiniteError
from align_dist.evaluation.reevaluate import reevaluate_run
from align_dist.run import train_run
from align_dist.runs.folder import RunFolder, find_run_folders
from align_dist.runs.metrics import read_metrics
from align_dist.runs.results import read_rows
from align_dist.runs.warmup import branch_step, cost_of, trunk_of, warmup_of
from align_dist.training_plan import schedule_of


def changed(config: RunConfig, **parts: dict[str, Any]) -> RunConfig:
    values = config.model_dump(mode="json")
    for name, entries in parts.items():
        values[name] |= entries
    return parse_config(values)


def under(config: RunConfig, path: Path) -> RunConfig:
    return config.model_copy(update={"runs": path})


ACCURACY = "validation/accuracy"


def quiet(_line: str) -> None: ...


@pytest.mark.parametrize(
    "other",
    [
        {"align": {"lambda1": 7.0, "lambda2": 0.7, "lambda3": 3.0}},
        {"training": {"warmup": "16 steps"}},
        {"align": {"masker": {"width": 6}}},
    ],
    ids=lambda other: ".".join(next(iter(other.items()))[1]),
)
def test_what_is_silent_in_warmup_shares_a_trunk(squares: RunConfig, other: dict[str, dict[str, Any]]) -> None:
    assert trunk_of(changed(squares, **other)).folder == trunk_of(squares).folder


@pytest.mark.parametrize(
    "other",
    [
        {"align": {"lambda4": 1.0}},
        {"data": {"batch_size": 16}},
        {"classifier": {"optimiser": {"learning_rate": 1e-4}}},
        {"training": {"precision": "bfloat16"}},
    ],
    ids=lambda other: ".".join(next(iter(other.items()))[1]),
)
def test_what_acts_in_warmup_does_not(squares: RunConfig, other: dict[str, dict[str, Any]]) -> None:
    assert trunk_of(changed(squares, **other)).folder != trunk_of(squares).folder


@pytest.mark.parametrize("method", ["erm", "fixed_mask", "haics", "gradia", "care", "res"])
def test_erm_is_the_warmup_of_every_method_that_only_guides(squares: RunConfig, method: str) -> None:
    plain = changed(squares, align={"lambda4": 0.0})
    trunk = trunk_of(plain)
    assert trunk.method == "erm"
    other = plain.with_method(method)
    if method == "fixed_mask":
        other = changed(other, fixed_mask={"lambda4": 0.0})
    assert trunk_of(other).folder == trunk.folder


def test_a_grid_pays_once_for_its_warmup(squares: RunConfig) -> None:
    """24 steps of which 10 are warm-up."""
    cost = cost_of([squares, changed(squares, align={"lambda1": 7.0})])
    assert cost.sharing == pytest.approx((10 + 2 * 14) / schedule_of(squares).epoch)
    assert cost.alone == pytest.approx(2 * 24 / schedule_of(squares).epoch)


@pytest.mark.parametrize("method", ["dre", "sgt", "mixup", "rsc", "cgc"])
def test_what_trains_otherwise_from_the_start_shares_nothing(squares: RunConfig, method: str) -> None:
    assert branch_step(squares.with_method(method)) == 0


def test_a_run_leaves_its_trunk_where_its_own_part_begins(squares: RunConfig) -> None:
    assert branch_step(squares) == 10
    assert branch_step(squares.with_method("erm")) == 10
    assert branch_step(changed(squares, align={"masker_head_start": "4 steps"})) == 6


def test_runs_with_a_shared_warmup_equal_the_same_runs_from_scratch(squares: RunConfig, tmp_path: Path) -> None:
    """The longest warm-up first, so that the trunk has to go back for the others; λ1 to λ3 and the masker differ.

    Whatever saved the trunk has died between its two renames each time: the newest checkpoint is the previous one.
    """
    plain = changed(squares, align={"lambda4": 0.0})
    runs = [
        changed(plain, training={"warmup": "13 steps"}, align={"lambda1": 3.0, "lambda3": 0.3}),
        changed(plain, training={"warmup": "5 steps"}, align={"masker": {"width": 6}}),
        changed(plain, align={"masker_head_start": "3 steps", "lambda2": 1.0}),
        plain.with_method("erm"),
    ]
    stops: list[list[str]] = []
    for run in runs:
        shared, lines = under(run, tmp_path / "shared"), list[str]()
        train_run(shared, lines.append, share_warmup=True)
        train_run(under(run, tmp_path / "alone"), quiet)
        assert_same_weights(shared.folder, under(run, tmp_path / "alone").folder)
        trunk = RunFolder(trunk_of(shared).folder)
        stops.append(sorted(path.stem for path in (trunk.path / "branches").glob("*.ckpt")))
        (trunk.checkpoints / "last.ckpt").rename(trunk.checkpoints / "previous.ckpt")
    assert [len(stems) for stems in stops] == [1, 2, 3, 4], "one trunk keeps where each of them left it"
    assert find_run_folders([tmp_path / "shared"]) == sorted(under(run, tmp_path / "shared").folder for run in runs)


def test_a_run_tells_its_warmup_too_where_the_trunk_went_back_since(squares: RunConfig, tmp_path: Path) -> None:
    plain = changed(squares, align={"lambda4": 0.0}, training={"warmup": "13 steps"})
    early = changed(plain, training={"warmup": "5 steps"})
    for run in (plain.with_method("erm"), early):
        train_run(under(run, tmp_path / "shared"), quiet, sources_only=True, share_warmup=True)
    shared, alone = (under(plain, tmp_path / name) for name in ("shared", "alone"))
    train_run(shared, quiet, share_warmup=True)
    train_run(alone, quiet)

    def validations(config: RunConfig) -> dict[int, dict[str, float]]:
        """Of source validation, by step: a warm-up that others share looks at no target."""
        records = [record for record in read_metrics(RunFolder(config.folder).metrics) if ACCURACY in record.values]
        return {r.step: {k: v for k, v in r.values.items() if k.startswith("validation/")} for r in records}

    assert list(validations(shared)) == [8, 16, 24]
    assert validations(shared) == validations(alone)
    assert [path.name for path in RunFolder(shared.folder).events.iterdir()]


def test_steps_where_others_leave_the_trunk_are_kept_on_the_way(squares: RunConfig, tmp_path: Path) -> None:
    late = under(changed(squares, training={"warmup": "13 steps"}), tmp_path)
    train_run(late, quiet, sources_only=True, share_warmup=True, passing=(5, 10, 20))
    stems = sorted(path.stem for path in (trunk_of(late).folder / "branches").glob("*.ckpt"))
    assert [int(stem) for stem in stems] == [5, 10, 13]


def test_a_grid_never_goes_back_whichever_method_comes_first(squares: RunConfig, tmp_path: Path) -> None:
    """ERM leaves the trunk at step 10 and ALIGN at step 6; ERM's run keeps the state that ALIGN begins with."""
    align = under(changed(squares, align={"masker_head_start": "4 steps", "lambda4": 0.0}), tmp_path)
    train_run(align.with_method("erm"), quiet, sources_only=True, share_warmup=True)
    trunk = RunFolder(trunk_of(align).folder)
    assert sorted(int(path.stem) for path in (trunk.path / "branches").glob("*.ckpt")) == [6, 10]
    starts = trunk.path.joinpath("environment.json").read_text()
    train_run(align, quiet, sources_only=True, share_warmup=True)
    assert trunk.path.joinpath("environment.json").read_text() == starts


def test_a_warmup_that_diverges_ends_every_run_that_shares_it(squares: RunConfig, tmp_path: Path) -> None:
    wild = under(changed(squares, classifier={"optimiser": {"name": "sgd", "learning_rate": 1e30}}), tmp_path)
    others = [wild, changed(wild, align={"lambda1": 9.0})]
    for config in others:
        with pytest.raises(NonFiniteError):
            train_run(config, quiet, share_warmup=True)
        ending = RunFolder(config.folder).ending()
        assert ending is not None and ending.error is NonFiniteError
    starts = json.loads((warmup_of(wild).trunk.folder / "environment.json").read_text())
    assert len(starts) == 1, "it is trained once"


def test_without_targets_a_run_trains_to_the_same_weights(squares: RunConfig, tmp_path: Path) -> None:
    measured = squares.model_copy(
        update={"evaluation": squares.evaluation.model_copy(update={"explain_validation": True})}
    )
    blind, plain = under(measured, tmp_path / "blind"), under(squares, tmp_path / "plain")
    folder = train_run(blind, quiet, sources_only=True)
    assert not folder.results.exists() and not folder.done.exists()
    assert [path.name for path in folder.pictures.iterdir()] == ["validation-bright.png"]
    records = read_metrics(folder.metrics)
    assert not any(tag.startswith("oracle/") for record in records for tag in record.values)
    explained = [record.step for record in records if "validation/insertion_auc" in record.values]
    assert explained == [16, 24], "validation at step 8 was in warm-up"
    accuracies = {r.step: r.values["validation/accuracy"] for r in records if "validation/accuracy" in r.values}
    selected = folder.trained_steps()
    assert selected is not None and selected["last"] == 24
    assert accuracies[selected["validation"]] == max(accuracies[step] for step in (16, 24))
    train_run(plain, quiet)
    assert_same_weights(blind.folder, plain.folder)
    train_run(blind, quiet)
    rows = [json.loads(line) for line in folder.results.read_text().splitlines()]
    assert {row["domain"] for row in rows} == {"bright", "dark"}, "the ordinary command measures it afterwards"


def test_a_run_that_is_all_warmup_ends_as_alone_when_it_shares_it(squares: RunConfig, tmp_path: Path) -> None:
    whole = changed(squares, training={"length": "16 steps", "warmup": "16 steps"})
    shared, alone = (under(whole, tmp_path / kind) for kind in ("shared", "alone"))
    train_run(shared, quiet, share_warmup=True)
    train_run(alone, quiet)
    assert_same_weights(shared.folder, alone.folder)
    assert RunFolder(shared.folder).trained_steps() == RunFolder(alone.folder).trained_steps()
    assert {row.selection for row in read_rows(RunFolder(shared.folder).results)} == {"validation", "last", "oracle"}


@pytest.mark.parametrize("measured", [True, False])
def test_a_trained_run_without_checkpoints_loses_nothing_more(
    squares: RunConfig, tmp_path: Path, measured: bool
) -> None:
    config = under(squares, tmp_path)
    folder = train_run(config, quiet, sources_only=not measured)
    shutil.rmtree(folder.checkpoints)
    kept = [*folder.selected.glob("*.pt"), folder.metrics, folder.trained]
    contents = [path.read_bytes() for path in kept]
    for share_warmup in (True, False):
        with nullcontext() if measured else raises(CheckpointError, folder.checkpoints, "align-dist evaluate"):
            train_run(config, quiet, share_warmup=share_warmup)
        assert [path.read_bytes() for path in kept] == contents
    assert reevaluate_run(folder.path, None) == folder.results


@pytest.mark.parametrize("watched_first", [True, False])
def test_an_oracle_of_a_part_of_the_run_is_none(squares: RunConfig, tmp_path: Path, watched_first: bool) -> None:
    config = under(squares, tmp_path)
    first = config.model_copy(update={"training": config.training.model_copy(update={"until": "18 steps"})})
    train_run(first, quiet, sources_only=not watched_first)
    assert (RunFolder(config.folder).selected / "oracle.pt").exists() == watched_first
    folder = train_run(config, quiet, sources_only=watched_first)
    train_run(config, quiet)
    assert {row.selection for row in read_rows(folder.results)} == {"validation", "last"}


def test_two_processes_train_one_warmup_once(squares: RunConfig, tmp_path: Path) -> None:
    runs = [under(changed(squares, align={"lambda1": value}), tmp_path / "runs") for value in (1.0, 2.0)]
    processes = []
    for number, run in enumerate(runs):
        (tmp_path / f"{number}.yaml").write_text(to_yaml(run))
        command = ["-m", "align_dist.cli", "train", str(tmp_path / f"{number}.yaml"), "--share-warmup"]
        processes.append(Forked(command))
    assert [process.wait() for process in processes] == [0, 0]
    starts = json.loads((trunk_of(runs[0]).folder / "environment.json").read_text())
    assert len(starts) == 1
    assert all(RunFolder(run.folder).done.exists() for run in runs)
