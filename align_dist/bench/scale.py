"""Scaling of a run: measured for one rank's step and this machine's all-reduce, predicted for 1 to 1,024 ranks."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from align_dist.bench.scale_model import RANKS, ScalingMeasurement, efficiency
from align_dist.config import RunConfig, to_yaml
from align_dist.errors import MachineError, last_line
from align_dist.files import write_text
from align_dist.machine import available_cores, describe_machine
from align_dist.parallel.local import start_ranks

# Share of a step behind which DDP can hide communication: the backward pass.
BACKWARD_SHARE = 2 / 3
# Assumed for comparison: bytes per second and latency in seconds of a 200 Gbit/s fabric.
FABRIC = (25e9 * 0.8, 5e-6)


def bench(config: RunConfig) -> None:
    """Print and draw the measurements and the predictions. Raises MachineError if no rank can start."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.yaml"
        write_text(path, to_yaml(config))
        single, pair, unconnected = _ranks(1, path), _ranks(2, path), _ranks(2, path, is_connected=False)
    measurement = ScalingMeasurement(
        single["seconds"], int(single["gradient_bytes"]), int(pair["messages"]), pair["bandwidth"], pair["latency"]
    )
    assumption = ScalingMeasurement(measurement.seconds, measurement.gradient_bytes, measurement.messages, *FABRIC)
    print(
        f"{config.classifier.backbone}, {config.method}, guided step of {config.data.batch_size} images per rank on "
        f"{_threads()} of the cores of {describe_machine()}: {measurement.seconds:.3f} s, "
        f"{measurement.gradient_bytes / 2**20:.1f} MiB of gradients, {measurement.messages} messages; all-reduce "
        f"over 2 ranks: {measurement.bandwidth / 2**20:.0f} MiB/s, {measurement.latency * 1e6:.0f} µs per hop"
    )
    measured_efficiency, shared_efficiency = (
        single["seconds"] / pair["seconds"],
        single["seconds"] / unconnected["seconds"],
    )
    print(
        f"measured on 2 ranks under DDP: efficiency {measured_efficiency:.2f}; "
        f"predicted {efficiency(measurement, 'ddp', 2):.2f}"
    )
    print(f"2 such processes without communication: {shared_efficiency:.2f}, the effect of sharing this machine")
    if available_cores() < 2:
        print("note: both ranks shared one core, which the prediction ignores")
    print("\npredicted efficiency, fixed batch per rank (pessimistic: nothing hidden – optimistic: hidden by backward)")
    print(f"{'ranks':>6}  {'DDP, ZeRO-0/1/2, here':>24}  {'ZeRO-3, here':>16}  {'DDP, 200 Gbit/s (assumed)':>26}")
    for ranks in RANKS:
        cells = [
            _range(measurement, "ddp", ranks),
            _range(measurement, "zero3", ranks),
            _range(assumption, "ddp", ranks),
        ]
        print(f"{ranks:>6}  {cells[0]:>24}  {cells[1]:>16}  {cells[2]:>26}")
    print("Predicted for a ring without contention or stragglers. Nothing beyond 2 ranks was run here.")
    print(_draw(measurement, assumption, measured_efficiency, config.runs))


def _range(measured: ScalingMeasurement, engine: str, ranks: int) -> str:
    return f"{efficiency(measured, engine, ranks):.2f} – {efficiency(measured, engine, ranks, BACKWARD_SHARE):.2f}"


def _ranks(count: int, config: Path, is_connected: bool = True) -> dict[str, float]:
    """Measurement of the first of `count` processes, connected over the loopback or each on its own."""
    command = ["-m", "align_dist.bench.scale_rank", str(config)]
    threads = {"OMP_NUM_THREADS": str(_threads())}
    if is_connected:
        ranks = start_ranks(count, command, threads)
    else:
        ranks = [process for _ in range(count) for process in start_ranks(1, command, threads)]
    outputs = [process.communicate() for process in ranks]
    for process, (_, errors) in zip(ranks, outputs, strict=True):
        if process.returncode:
            reason = f"a rank of {count} ended with {process.returncode}: {last_line(errors)}"
            raise MachineError(f"bench scale: {reason}; run `align-dist doctor`")
    measurement: dict[str, float] = json.loads(outputs[0][0].strip().splitlines()[-1])
    return measurement


def _threads() -> int:
    """Threads per rank: half the cores, so that one rank and two ranks have the same threads each."""
    return max(1, available_cores() // 2)


def _draw(
    measurement: ScalingMeasurement, assumption: ScalingMeasurement, measured_efficiency: float, folder: Path
) -> Path:
    """Draw predicted bands and measured points over the number of ranks."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for label, model, engine in [
        ("DDP, this machine", measurement, "ddp"),
        ("ZeRO-3, this machine", measurement, "zero3"),
        ("DDP, 200 Gbit/s (assumed)", assumption, "ddp"),
    ]:
        low = [efficiency(model, engine, ranks) for ranks in RANKS]
        high = [efficiency(model, engine, ranks, BACKWARD_SHARE) for ranks in RANKS]
        axes.fill_between(RANKS, low, high, alpha=0.25, label=label)
    axes.plot([1, 2], [1.0, measured_efficiency], "ko", label="measured")
    axes.set(
        xscale="log", ylim=(0, 1.05), xlabel="ranks", ylabel="efficiency", title="Predicted: ring, fixed batch per rank"
    )
    axes.set_xticks(RANKS, [str(ranks) for ranks in RANKS])
    axes.legend()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "scale.png"
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path
