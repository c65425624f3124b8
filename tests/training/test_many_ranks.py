"""Whole runs on several real ranks: equal, elastic, and through every fault that we know of."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from forked import Forked, completed, on_a_full_disk
from ranks import described, finish, free_port, start_ranks
from weights import assert_same_weights, weights

from align_dist.assembly import make_classifier
from align_dist.config import RunConfig
from align_dist.runs.checkpoint import load_weights
from align_dist.runs.folder import RunFolder

TRAIN = ["-m", "align_dist.cli", "train"]
TORCHRUN = ["-m", "torch.distributed.run"]


def start(world_size: int, path: Path, port: int | None = None) -> list[Forked]:
    return start_ranks(world_size, [*TRAIN, str(path / "run.yaml")], port)


def torchrun(path: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, *TORCHRUN, *options, *TRAIN, str(path / "run.yaml")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(world_size: int, path: Path) -> list[str]:
    """To the end; what each rank said."""
    results = finish(start(world_size, path))
    assert all(code == 0 for code, _ in results), results
    return [output for _, output in results]


def largest_difference(left: Path, right: Path) -> float:
    ours, theirs = weights(left), weights(right)
    assert ours.keys() == theirs.keys()
    return max(float((value - theirs[name]).abs().max()) for name, value in ours.items() if value.is_floating_point())


def assert_same_training(left: Path, right: Path, config: RunConfig) -> None:
    """Apart by rounding: by less than a hundredth of what training changed."""
    first = make_classifier(config, classes=2).state_dict()
    last = load_weights(right / "selected" / "last.pt")["networks"]["classifier"]
    moved = max(float((value - first[name]).abs().max()) for name, value in last.items() if value.is_floating_point())
    assert moved > 1e-3
    assert largest_difference(left, right) < moved / 100


def wait_for_step(folder: Path, step: int, processes: Sequence[Forked | subprocess.Popen[str]]) -> None:
    """Until rank 0 has logged `step`."""
    metrics = folder / "metrics.jsonl"
    for _ in range(6000):
        assert all(process.poll() is None for process in processes), finish(processes)
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        if any(json.loads(line)["step"] >= step for line in lines if line.endswith("}")):
            return
        time.sleep(0.02)
    raise AssertionError("the run never came so far")


@pytest.fixture(scope="module")
def smooth(squares: RunConfig) -> RunConfig:
    """A run whose result is the same on any number of ranks to rounding, and rounding is not amplified."""
    rate = {"name": "sgd", "learning_rate": 0.001}
    options: Any = squares.options
    masker = options.masker.model_copy(update={"optimiser": options.masker.optimiser.model_copy(update=rate)})
    return squares.model_copy(
        update={
            "methods": {"align": options.model_copy(update={"lambda4": 0.0, "masker": masker})},
            "classifier": squares.classifier.model_copy(
                update={"batchnorm": "frozen", "optimiser": squares.classifier.optimiser.model_copy(update=rate)}
            ),
        }
    )


@pytest.fixture(scope="module")
def two_ranks(squares: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Adam, BatchNorm over both ranks, mixup pairs within each: bit for bit on the same ranks."""
    path = tmp_path_factory.mktemp("two")
    config = described(squares, path)
    first, second = run(2, path)
    assert str(config.folder) in first and str(config.folder) not in second
    return RunFolder(config.folder)


@pytest.fixture(scope="module")
def alone(smooth: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    path = tmp_path_factory.mktemp("alone")
    config = described(smooth, path)
    run(1, path)
    return RunFolder(config.folder)


def test_two_ranks_leave_what_one_leaves_and_say_so(two_ranks: RunFolder) -> None:
    rows = [json.loads(line) for line in two_ranks.results.read_text().splitlines()]
    assert {row["domain"] for row in rows} == {"bright", "dark"} and two_ranks.done.exists()
    assert json.loads(two_ranks.environment.read_text())[0]["ranks"] == 2
    steps = [json.loads(line)["step"] for line in two_ranks.metrics.read_text().splitlines()]
    assert steps == sorted(steps) and steps[-1] == 24


def test_evaluation_over_ranks_gives_the_numbers_of_one_process(two_ranks: RunFolder) -> None:
    """10 and 48 images in batches of 64 and 4: ranks with nothing to do, and a short last batch."""
    before = two_ranks.results.read_text()
    assert completed("-m", "align_dist.cli", "evaluate", str(two_ranks.path)).returncode == 0
    assert two_ranks.results.read_text() == before


def test_a_rank_killed_in_the_middle_of_a_step_costs_nothing_but_time(
    squares: RunConfig, two_ranks: RunFolder, tmp_path: Path
) -> None:
    config = described(squares, tmp_path)
    job = torchrun(tmp_path, "--nproc-per-node", "2", "--max-restarts", "1")
    wait_for_step(config.folder, 14, [job])
    ranks = [child for child in psutil.Process(job.pid).children() if "align_dist.cli" in " ".join(child.cmdline())]
    assert len(ranks) == 2
    ranks[1].send_signal(signal.SIGKILL)
    ((code, output),) = finish([job])
    assert code == 0, output
    first, second = RunFolder(config.folder).first_steps
    assert first == 0 < second, output
    assert_same_weights(config.folder, two_ranks.path)


def test_a_rank_that_dies_takes_the_others_out_with_one_line(squares: RunConfig, tmp_path: Path) -> None:
    config = described(squares, tmp_path)
    processes = start(2, tmp_path)
    wait_for_step(config.folder, 4, processes)
    processes[1].kill()
    (code, output), _ = finish(processes)
    assert code == 8, output
    assert "rank 0 of 2" in output.strip().splitlines()[-1]


def test_a_rank_that_stalls_is_given_up_after_the_timeout(squares: RunConfig, tmp_path: Path) -> None:
    config = described(squares, tmp_path, timeout=8.0)
    processes = start(2, tmp_path)
    wait_for_step(config.folder, 4, processes)
    processes[1].send_signal(signal.SIGSTOP)
    output = processes[0].communicate(timeout=120)[0]
    processes[1].kill()
    assert processes[0].returncode == 8, output
    assert "distributed.timeout" in output.strip().splitlines()[-1]


@pytest.mark.parametrize("targets", [[1], [0, 1]], ids=str)
def test_a_signal_to_some_ranks_saves_all_at_one_step(
    squares: RunConfig, two_ranks: RunFolder, tmp_path: Path, targets: list[int]
) -> None:
    config = described(squares, tmp_path)
    processes = start(2, tmp_path)
    wait_for_step(config.folder, 12, processes)
    for rank in targets:
        processes[rank].send_signal(signal.SIGUSR2)
    (first, output), (second, silent) = finish(processes)
    assert (first, second) == (75, 75), output + silent
    assert output.strip().splitlines()[-1].startswith("align-dist: SIGUSR2: "), output
    assert "SIGUSR2" not in silent, "one rank speaks for all"
    run(2, tmp_path)
    assert_same_weights(config.folder, two_ranks.path)


def test_slurms_time_limit_is_a_signal_in_advance(
    squares: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 50))
    described(squares, tmp_path, grace=50.0)
    (first, output), (second, _) = finish(start(2, tmp_path))
    assert (first, second) == (75, 75), output
    # Asked for after the first step, and read by both ranks after the next: no step waits for the other rank.
    assert "time limit: saved at step 2 " in output


def test_a_rendezvous_port_that_is_taken_is_one_line(squares: RunConfig, tmp_path: Path) -> None:
    described(squares, tmp_path, timeout=5.0)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        first, second = start(2, tmp_path, port)
        output = first.communicate(timeout=120)[0]
        # It talks to a stranger, which torch's store does without a limit; a launcher ends it.
        second.kill()
        second.communicate()
    assert first.returncode == 5, output
    last = output.strip().splitlines()[-1]
    assert str(port) in last and "MASTER_PORT" in last


def test_a_full_disk_on_the_rank_that_writes_stops_all_with_7(squares: RunConfig, tmp_path: Path) -> None:
    described(squares, tmp_path)
    processes = start_ranks(2, [*TRAIN, str(tmp_path / "run.yaml")], before=on_a_full_disk)
    (first, output), (second, silent) = finish(processes)
    assert (first, second) == (7, 7), output + silent
    assert "Traceback" not in output + silent
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 4)], ids=str)
def test_a_run_goes_on_with_another_number_of_ranks(
    smooth: RunConfig, alone: RunFolder, tmp_path: Path, before: int, after: int
) -> None:
    config = described(smooth, tmp_path)
    processes = start(before, tmp_path)
    wait_for_step(config.folder, 12, processes)
    processes[0].send_signal(signal.SIGTERM)
    assert [code for code, _ in finish(processes)] == [75] * before
    run(after, tmp_path)
    assert RunFolder(config.folder).first_steps[-1] >= 12
    assert_same_training(config.folder, alone.path, smooth)


@pytest.mark.parametrize("stage", [1, 3])
def test_a_run_under_deepspeed_is_measured_without_it(
    smooth: RunConfig, alone: RunFolder, tmp_path: Path, stage: int
) -> None:
    settings = tmp_path / "zero.json"
    settings.write_text(json.dumps({"zero_optimization": {"stage": stage}}))
    config = described(smooth, tmp_path, engine="deepspeed", deepspeed=settings)
    run(2, tmp_path)
    assert_same_training(config.folder, alone.path, smooth)
    before = RunFolder(config.folder).results.read_text()
    without = (
        "import sys; sys.modules['deepspeed'] = None; from align_dist.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", without, "evaluate", str(config.folder)]
    assert subprocess.run(command, check=False).returncode == 0
    assert RunFolder(config.folder).results.read_text() == before


def test_two_nodes_are_as_good_as_one(squares: RunConfig, two_ranks: RunFolder, tmp_path: Path) -> None:
    """Two torchrun agents on two loopback addresses, rendezvous over c10d."""
    config = described(squares, tmp_path)
    port = free_port()
    nodes = [
        torchrun(
            tmp_path,
            *("--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "drill"),
            *("--rdzv-endpoint", f"127.0.0.1:{port}", "--local-addr", f"127.0.0.{node + 1}"),
        )
        for node in range(2)
    ]
    results = finish(nodes)
    assert [code for code, _ in results] == [0, 0], results
    assert json.loads(RunFolder(config.folder).environment.read_text())[0]["ranks"] == 2
    assert_same_weights(config.folder, two_ranks.path)


def test_a_batch_without_equal_shares_is_refused(squares: RunConfig, tmp_path: Path) -> None:
    described(squares, tmp_path)
    results = finish(start(3, tmp_path))
    assert [code for code, _ in results] == [2, 2, 2]
    assert "data.batch_size: 8" in results[0][1] and sum("data.batch_size" in output for _, output in results) == 1
