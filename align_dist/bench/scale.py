"""How a run would scale: one rank's step and this machine's all-reduce, measured; 1 to 1,024 ranks, predicted."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from align_dist.bench.scale_model import RANKS, Measured, efficiency
from align_dist.config import RunConfig, to_yaml
from align_dist.errors import MachineError
from align_dist.files import write_text
from align_dist.machine import available_cores, describe_machine
from align_dist.parallel.local import start_ranks

# Of a backward pass, behind which DDP sends: about two thirds of a step.
OVERLAP = 2 / 3
# For comparison, assumed and not measured: bytes and seconds of a 200 Gbit/s fabric.
FABRIC = (25e9 * 0.8, 5e-6)


def bench(config: RunConfig) -> None:
    """Prints the measured points and the predictions, and draws them. Raises MachineError if no rank can start."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.yaml"
        write_text(path, to_yaml(config))
        one, two, apart = _ranks(1, path), _ranks(2, path), _ranks(2, path, joined=False)
    here = Measured(one["seconds"], int(one["gradient_bytes"]), int(two["messages"]), two["bandwidth"], two["latency"])
    there = Measured(here.seconds, here.gradient_bytes, here.messages, *FABRIC)
    print(
        f"{config.classifier.backbone}, {config.method}, guided step of {config.data.batch_size} images a rank on "
        f"{_threads()} of the cores of {describe_machine()}: {here.seconds:.3f} s, "
        f"{here.gradient_bytes / 2**20:.1f} MiB of gradients, {here.messages} messages; all-reduce "
        f"over 2 ranks: {here.bandwidth / 2**20:.0f} MiB/s, {here.latency * 1e6:.0f} µs a hop"
    )
    measured, shared = one["seconds"] / two["seconds"], one["seconds"] / apart["seconds"]
    print(f"measured on 2 ranks under DDP: efficiency {measured:.2f}; predicted {efficiency(here, 'ddp', 2):.2f}")
    print(
        f"2 such processes side by side that never talk: {shared:.2f}, which is what this machine shares, not the ring"
    )
    if available_cores() < 2:
        print("note: both ranks shared one core, which the prediction does not know")
    print("\npredicted efficiency, batch fixed a rank (pessimistic: nothing hidden – optimistic: hidden by backward)")
    print(f"{'ranks':>6}  {'DDP, ZeRO-0/1/2, here':>24}  {'ZeRO-3, here':>16}  {'DDP, 200 Gbit/s (assumed)':>26}")
    for ranks in RANKS:
        cells = [_range(here, "ddp", ranks), _range(here, "zero3", ranks), _range(there, "ddp", ranks)]
        print(f"{ranks:>6}  {cells[0]:>24}  {cells[1]:>16}  {cells[2]:>26}")
    print("On paper: a ring without contention or stragglers. Nothing beyond 2 ranks was run here.")
    print(_draw(here, there, measured, config.runs))


def _range(measured: Measured, engine: str, ranks: int) -> str:
    return f"{efficiency(measured, engine, ranks):.2f} – {efficiency(measured, engine, ranks, OVERLAP):.2f}"


def _ranks(count: int, config: Path, joined: bool = True) -> dict[str, float]:
    """The measurement by the first of `count` processes: ranks on the loopback, or (not joined) each for itself."""
    command = ["-m", "align_dist.bench.scale_rank", str(config)]
    threads = {"OMP_NUM_THREADS": str(_threads())}
    if joined:
        ranks = start_ranks(count, command, threads)
    else:
        ranks = [process for _ in range(count) for process in start_ranks(1, command, threads)]
    said = [process.communicate() for process in ranks]
    for process, (_, errors) in zip(ranks, said, strict=True):
        if process.returncode:
            last = errors.strip().splitlines()[-1] if errors.strip() else "no word"
            raise MachineError(f"bench scale: a rank of {count} ended with {process.returncode}: {last}")
    found: dict[str, float] = json.loads(said[0][0].strip().splitlines()[-1])
    return found


def _threads() -> int:
    """Of each rank, also of one alone: half the cores, so that two have what one has."""
    return max(1, available_cores() // 2)


def _draw(here: Measured, there: Measured, measured: float, folder: Path) -> Path:
    """Predicted bands and measured points, over the number of ranks."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for label, model, engine in [
        ("DDP, this machine", here, "ddp"),
        ("ZeRO-3, this machine", here, "zero3"),
        ("DDP, 200 Gbit/s (assumed)", there, "ddp"),
    ]:
        low = [efficiency(model, engine, ranks) for ranks in RANKS]
        high = [efficiency(model, engine, ranks, OVERLAP) for ranks in RANKS]
        axes.fill_between(RANKS, low, high, alpha=0.25, label=label)
    axes.plot([1, 2], [1.0, measured], "ko", label="measured")
    axes.set(
        xscale="log", ylim=(0, 1.05), xlabel="ranks", ylabel="efficiency", title="Predicted: ring, batch fixed a rank"
    )
    axes.set_xticks(RANKS, [str(ranks) for ranks in RANKS])
    axes.legend()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "scale.png"
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path
