"""The command as a user types it: help, wrong input, exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from forked import completed
from PIL import Image

from align_dist.config import RunConfig, load_config, to_yaml
from align_dist.runs.folder import RunFolder

MODULE = ["-m", "align_dist.cli"]
LAUNCH = Path(__file__).parents[1] / "launch"


# Without UTF-8 in any of the ways that Python would bring it back.
NO_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return completed(*MODULE, *arguments)


def run_and_name_loaded(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, whose last line names which of the heavy packages it has loaded."""
    script = "import atexit, sys; from align_dist.cli import main; "
    script += (
        "atexit.register(lambda: print([name for name in ('torch', 'numpy', 'pydantic') if name in sys.modules])); "
    )
    script += "sys.exit(main(sys.argv[1:]))"
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def described(squares: RunConfig, tmp_path: Path) -> Path:
    """A valid run whose folders are this test's own; only the beton is shared."""
    (tmp_path / "run.yaml").write_text(to_yaml(squares.model_copy(update={"runs": tmp_path / "runs"})))
    return tmp_path / "run.yaml"


def assert_one_line(finished: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    lines = finished.stderr.strip().splitlines()
    assert finished.returncode == code, finished.stderr
    assert "Traceback" not in finished.stderr
    assert lines[-1].startswith("align-dist: ")
    for part in parts:
        assert part in lines[-1], (part, lines[-1])


def test_help_names_every_verb_and_loads_nothing_heavy() -> None:
    finished = run("--help")
    assert finished.returncode == 0
    for verb in ("doctor", "data", "train", "status", "evaluate", "report", "bench", "exit codes"):
        assert verb in finished.stdout
    loaded = run_and_name_loaded("--help")
    assert loaded.returncode == 0 and loaded.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
@pytest.mark.parametrize(
    "command",
    [
        ["-m", "align_dist.cli", "--help"],
        ["-m", "align_dist.cli", "doctor"],
        [str(LAUNCH / "tune.py"), "--help"],
        [str(LAUNCH / "submit.py"), "--help"],
        ["-m", "align_dist.cli", "evaluate", "λ/⅓"],
    ],
    ids=lambda command: " ".join(command[1:])[-20:],
)
def test_no_output_depends_on_what_letters_its_encoding_has(command: list[str], encoding: str) -> None:
    environment = {**os.environ, **NO_UTF8, "PYTHONIOENCODING": encoding}
    finished = subprocess.run([sys.executable, *command], capture_output=True, env=environment, check=False)
    assert b"Traceback" not in finished.stderr
    assert finished.returncode == (4 if "evaluate" in command else 0), finished.stderr
    (finished.stdout + finished.stderr).decode(encoding)


def test_print_config_shows_the_resolved_run(described: Path) -> None:
    finished = run("train", str(described), "align.lambda3=0.25", "--print-config")
    assert finished.returncode == 0
    assert "lambda3: 0.25" in finished.stdout


def test_overrides_may_stand_on_both_sides_of_a_flag(described: Path) -> None:
    finished = run("train", str(described), "seed=3", "--print-config", "method=erm", "seed=4")
    assert finished.returncode == 0, finished.stderr
    assert "method: erm" in finished.stdout and "seed: 4" in finished.stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["train", "x.yaml", "--colour", "a=1"], "--colour"),
        (["train", "x.yaml", "--print-config", "word"], "word"),
        (["report", "x", "--format", "csv", "a=1"], "a=1"),
    ],
)
def test_what_is_no_override_is_still_refused(arguments: list[str], word: str) -> None:
    finished = run(*arguments)
    assert finished.returncode == 2 and finished.stderr.splitlines()[-1].endswith(f"unrecognized arguments: {word}")


@pytest.mark.parametrize("wrong", ["method=dinosaur", "benchmark.name=imagenet", "classifier.backbone=nonet"])
def test_print_config_refuses_names_that_do_not_exist(described: Path, wrong: str) -> None:
    key, _, name = wrong.partition("=")
    finished = run("train", str(described), "--print-config", wrong)
    assert_one_line(finished, 2, key, name)
    assert not finished.stdout and "did you mean" not in finished.stderr


def test_print_config_loads_no_torch(described: Path) -> None:
    finished = run_and_name_loaded("train", str(described), "--print-config")
    assert finished.returncode == 0 and "method: align" in finished.stdout
    assert "torch" not in finished.stdout.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "code", "parts"),
    [
        (["align.lamda1=2"], 2, ["align.lamda1", "align.lambda1"]),
        (["protocol.source=brihgt"], 2, ["brihgt", "bright"]),
        (["data.batch_size=4096"], 2, ["data.batch_size", "4096"]),
        (["benchmark.betons=/nowhere"], 3, ["/nowhere", "align-dist data prepare"]),
        (["training.device=cuda"], 5, ["training.device", "doctor"]),
        (["runs=/proc/none"], 7, ["/proc/none"]),
    ],
)
def test_wrong_input_to_train(described: Path, overrides: list[str], code: int, parts: list[str]) -> None:
    assert_one_line(run("train", str(described), *overrides), code, *parts)
    assert not (described.parent / "runs").exists()


@pytest.mark.slow
def test_a_truncated_beton_is_found_before_training(squares: RunConfig, described: Path, tmp_path: Path) -> None:
    copy = tmp_path / "betons"
    copy.mkdir()
    for path in (squares.benchmark.beton, squares.benchmark.beton.with_name(squares.benchmark.beton.name + ".json")):
        (copy / path.name).write_bytes(path.read_bytes())
    beton = copy / squares.benchmark.beton.name
    beton.write_bytes(beton.read_bytes()[:-1000])
    assert_one_line(run("train", str(described), f"benchmark.betons={copy}"), 3, str(beton), "align-dist data prepare")
    assert_one_line(run("data", "verify", str(described), f"benchmark.betons={copy}"), 3, str(beton))


@pytest.mark.slow
def test_runs_with_other_masks_are_other_runs_side_by_side(squares: RunConfig, described: Path, tmp_path: Path) -> None:
    other = tmp_path / "other masks"
    shutil.copytree(squares.benchmark.masks or tmp_path, other)
    for path in other.rglob("*.png"):
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    on_others = [f"benchmark.masks={other}", f"benchmark.betons={tmp_path / 'b'}", "benchmark.fingerprint=null"]
    assert_one_line(run("train", str(described), on_others[0]), 3, "96", "benchmark.betons=FOLDER")
    assert run("data", "prepare", str(described), *on_others).returncode == 0
    assert_one_line(run("train", str(described), *on_others[:2]), 3, "benchmark.fingerprint=null")
    short = ["training.length=2 steps", "training.warmup=1 steps", "method=fixed_mask", "fixed_mask.mask=given"]
    finished = [run("train", str(described), *short, *overrides) for overrides in ([], on_others)]
    assert all(each.returncode == 0 for each in finished), finished
    folders = [Path(each.stdout.strip().splitlines()[-1]) for each in finished]
    assert folders[0] != folders[1] and all((folder / "done").exists() for folder in folders)
    assert leaves_alone(folders[1], "train", str(described), *short, *on_others)
    assert run("data", "prepare", str(described), "--force", on_others[1], on_others[2]).returncode == 0
    assert_one_line(run("evaluate", str(folders[1])), 3, str(tmp_path / "b"))


def test_preparing_bad_folders(described: Path, tmp_path: Path) -> None:
    def prepare(root: Path) -> subprocess.CompletedProcess[str]:
        places = [f"benchmark.root={root}", f"benchmark.betons={tmp_path / 'b'}", "benchmark.masks=null"]
        return run("data", "prepare", str(described), *places)

    assert_one_line(prepare(tmp_path / "none"), 3, str(tmp_path / "none"))
    (tmp_path / "data" / "a" / "cat").mkdir(parents=True)
    assert_one_line(prepare(tmp_path / "data"), 3, "cat")
    assert not list(tmp_path.glob("b/*"))


@pytest.mark.slow
def test_a_run_without_a_usable_checkpoint_ends_and_the_advice_works(described: Path) -> None:
    folder = load_config(described).folder
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("last.ckpt", "previous.ckpt"):
        (folder / "checkpoints" / name).write_bytes(b"torn")
    finished = run("train", str(described))
    assert_one_line(finished, 4, str(folder))
    assert "last.ckpt" in finished.stderr and "previous.ckpt" in finished.stderr
    shutil.rmtree(folder)
    retry = run("train", str(described), "training.length=2 steps", "training.warmup=1 steps")
    assert retry.returncode == 0, retry.stderr


def test_evaluate_and_report_need_a_trained_run(tmp_path: Path) -> None:
    assert_one_line(run("evaluate", str(tmp_path)), 4, str(tmp_path))
    assert run("report", str(tmp_path)).returncode != 0


def leaves_alone(folder: Path, *arguments: str) -> bool:
    """Return whether a command succeeds and writes no file of a run."""
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    finished = run(*arguments)
    assert finished.returncode == 0, finished.stderr
    return times == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def measured(folder: Path, name: str = "results.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in folder.joinpath(name).read_text().splitlines()]


@pytest.mark.slow
def test_train_evaluate_report(described: Path, tmp_path: Path) -> None:
    finished = run("train", str(described))
    assert finished.returncode == 0, finished.stderr
    folder = Path(finished.stdout.strip().splitlines()[-1])
    before = folder.joinpath("results.jsonl").read_text()
    whole = run("evaluate", str(folder))
    assert whole.returncode == 0 and str(folder) not in whole.stderr
    assert folder.joinpath("results.jsonl").read_text() == before
    renamed = shutil.copytree(folder, tmp_path / "other-00000000")
    assert f"{renamed}: the id" in run("evaluate", str(renamed)).stderr
    other_evaluation = run("evaluate", str(folder), "--on", str(described))
    assert other_evaluation.returncode == 0, other_evaluation.stderr
    (results,) = folder.glob("results-folders-*.jsonl")
    rows = measured(folder, results.name)
    assert {(row["domain"], row["images"]) for row in rows} == {("bright", 48), ("dark", 48)}
    assert_one_line(run("evaluate", str(folder), "seed=3"), 2, "seed=3", "evaluation.*")
    pictures = {path: path.read_bytes() for path in folder.glob("pictures/*.png")}
    second = run("train", str(described), "evaluation.fill=blur", "evaluation.soft=true")
    assert second.returncode == 0 and RunFolder(folder).first_steps == [0], "measured again, and not trained"
    assert pictures and {path: path.read_bytes() for path in folder.glob("pictures/*.png")} == pictures
    blurred = measured(folder)
    assert {json.dumps(row["evaluation"]) for row in blurred}.isdisjoint(json.dumps(row["evaluation"]) for row in rows)
    assert all("soft_sufficiency" in row["metrics"] for row in blurred)
    assert leaves_alone(folder, "train", str(described), "evaluation.fill=blur", "evaluation.soft=true")
    assert run("evaluate", str(folder), "evaluation.fill=zero", "evaluation.soft=false").returncode == 0
    assert folder.joinpath("results.jsonl").read_text() == before
    assert leaves_alone(folder, "train", str(described))
    report = run("report", str(tmp_path / "runs"), "--html", str(tmp_path / "report.html"))
    assert report.returncode == 0, report.stderr
    assert "bright" in report.stdout and (tmp_path / "report.html").stat().st_size > 10_000
    assert_report_in_ascii(tmp_path)
    weights = folder / "selected" / "validation.pt"
    for spoil in (lambda: weights.write_bytes(weights.read_bytes()[:5000]), weights.unlink):
        spoil()
        assert_one_line(run("evaluate", str(folder)), 4, str(weights), str(folder))
        assert folder.joinpath("results.jsonl").read_text() == before


def assert_report_in_ascii(path: Path) -> None:
    """The same tables on a terminal that knows no other letters; the page is UTF-8 all the same."""
    command = [sys.executable, *MODULE, "report", str(path / "runs"), "--html", str(path / "ascii.html")]
    environment = {**os.environ, **NO_UTF8, "PYTHONIOENCODING": "ascii"}
    finished = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert finished.returncode == 0, finished.stderr
    assert b"bright" in finished.stdout and b"?" in finished.stdout
    page = (path / "ascii.html").read_bytes().decode("utf-8")
    assert "bright" in page and not page.isascii()


def test_doctor_names_the_folder_whose_images_are_missing(tmp_path: Path) -> None:
    finished = run("doctor", "configs/pacs.yaml", f"benchmark.root={tmp_path / 'absent'}")
    (line,) = [line for line in finished.stdout.splitlines() if str(tmp_path) in line]
    assert "benchmark.root" in line and "art_painting" in line


def test_doctor_says_what_is_there() -> None:
    finished = run("doctor")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    for part in ("Python", "torch", "ffcv", "cores", "free", "threads", "channels_last", "bfloat16 units"):
        assert part in finished.stdout
