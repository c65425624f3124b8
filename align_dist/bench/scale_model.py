"""A model of a step's cost on n ranks: pure functions of measured numbers."""

from __future__ import annotations

from dataclasses import dataclass

# Bytes that a rank sends in an update for n → ∞, as a multiple of the gradient's bytes: all-reduce = reduce-scatter +
# all-gather; ZeRO-3 gathers the weights for forward and for backward. Source: Rajbhandari et al. 2020, section 7
# (https://arxiv.org/abs/1910.02054).
VOLUME = {"ddp": 2, "zero0": 2, "zero1": 2, "zero2": 2, "zero3": 3}
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class ScalingMeasurement:
    """seconds: of one step on one rank with its share of the batch. gradient_bytes: of all updates of a step.

    messages: all-reduces in a step (one per network and bucket, four per synchronised BatchNorm). bandwidth: bytes per
    second that a rank sends in a ring. latency: seconds per hop.
    """

    seconds: float
    gradient_bytes: int
    messages: int
    bandwidth: float
    latency: float


def communication_seconds(measured: ScalingMeasurement, engine: str, ranks: int) -> float:
    """Communication time of a ring over n ranks:
    volume · (n − 1)/n · bytes / bandwidth + volume · (n − 1) · messages · latency.
    """
    volume = VOLUME[engine]
    transfer = volume * (ranks - 1) / ranks * measured.gradient_bytes / measured.bandwidth
    return transfer + volume * (ranks - 1) * measured.messages * measured.latency


def efficiency(measured: ScalingMeasurement, engine: str, ranks: int, overlap: float = 0.0) -> float:
    """Images per second per rank relative to a single rank, for a fixed batch per rank; in (0, 1].

    overlap: share of the step behind which communication can hide (backward is about two thirds of a step).
    """
    hidden_seconds = overlap * measured.seconds
    exposed_seconds = max(0.0, communication_seconds(measured, engine, ranks) - hidden_seconds)
    return measured.seconds / (measured.seconds + exposed_seconds)
