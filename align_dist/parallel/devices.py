"""The GPU of a rank, and its arithmetic."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

import torch

from align_dist.errors import MachineError
from align_dist.parallel.ranks import Ranks

# Host and UUID of a GPU, the same in every process.
Identity = tuple[str, str]


def gpu_index(ranks: Ranks, visible: int) -> int:
    """Index of a rank's GPU among the `visible` GPUs; 0 for a single one, as with Slurm's --gpus-per-task=1.

    Raises MachineError for more ranks than GPUs.
    """
    if visible == 1:
        return 0
    if ranks.local_rank >= visible:
        raise MachineError(
            f"rank {ranks.rank}: {ranks.local_world_size} ranks on a node of {visible} GPUs; "
            "start as many ranks as there are GPUs, or set training.device=cpu"
        )
    return ranks.local_rank


def identity_of(index: int, environment: Mapping[str, str]) -> Identity:
    """Host and UUID of a visible GPU; for a MIG slice, the slice's name."""
    visible = environment.get("CUDA_VISIBLE_DEVICES", "")
    slices = visible.split(",")[index] if visible.startswith("MIG-") else ""
    return socket.gethostname(), slices or str(torch.cuda.get_device_properties(index).uuid)


def check_distinct_gpus(identities: Sequence[Identity]) -> None:
    """Raise MachineError where two ranks have the same GPU. identities: by rank."""
    owners: dict[Identity, int] = {}
    for rank, identity in enumerate(identities):
        owner = owners.setdefault(identity, rank)
        if owner != rank:
            raise MachineError(
                f"ranks {owner} and {rank} share one GPU of {identity[0]}; "
                "start as many ranks as there are GPUs (with Slurm: --gpus-per-task=1)"
            )


def set_arithmetic(device: torch.device, precision: str) -> None:
    """Set TF32 and cuDNN's benchmark mode for this process; no effect on a CPU.

    With float32 precision TF32 is off; with bfloat16 TF32 is used for operations that autocast leaves in float32.
    Shapes stay the same, so cuDNN may benchmark its algorithms once.
    """
    if device.type != "cuda":
        return
    tf32 = precision != "float32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
