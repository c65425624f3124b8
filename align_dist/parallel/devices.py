"""Which GPU is a rank's own, and how it computes."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

import torch

from align_dist.errors import MachineError
from align_dist.parallel.ranks import Ranks

# Of a GPU: its host and its own number, the same however a process sees it.
Identity = tuple[str, str]


def index_of(ranks: Ranks, visible: int) -> int:
    """Which of the `visible` GPUs is a rank's. One alone is its own: Slurm's --gpus-per-task=1 shows no other.

    Raises MachineError for a rank that has none left.
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
    """Host and UUID of a visible GPU; of a MIG slice, what names the slice."""
    visible = environment.get("CUDA_VISIBLE_DEVICES", "")
    slices = visible.split(",")[index] if visible.startswith("MIG-") else ""
    return socket.gethostname(), slices or str(torch.cuda.get_device_properties(index).uuid)


def refuse_shared(identities: Sequence[Identity]) -> None:
    """Raises MachineError where two ranks, by number, have the same GPU."""
    owners: dict[Identity, int] = {}
    for rank, identity in enumerate(identities):
        owner = owners.setdefault(identity, rank)
        if owner != rank:
            raise MachineError(
                f"ranks {owner} and {rank} have one GPU of {identity[0]} between them; "
                "start as many ranks as there are GPUs (with Slurm: --gpus-per-task=1)"
            )


def set_arithmetic(device: torch.device, precision: str) -> None:
    """Sets what is the process's own on CUDA; nothing on a CPU.

    float32 is float32: TF32 serves only what bfloat16's autocast leaves in float32. Shapes stay the same, so cuDNN
    may try its algorithms once and keep the fastest.
    """
    if device.type != "cuda":
        return
    tf32 = precision != "float32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
