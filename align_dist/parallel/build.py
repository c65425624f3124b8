"""Which engine a run's network gets."""

from __future__ import annotations

import torch
from torch import nn

from align_dist.config import RunConfig
from align_dist.errors import ConfigError
from align_dist.parallel.batchnorm import synchronise_batchnorm
from align_dist.parallel.ddp import DDPEngine
from align_dist.parallel.deepspeed_settings import complete_settings, read_settings, zero_stage
from align_dist.parallel.engine import Engine
from align_dist.parallel.group import Group
from align_dist.parallel.plain import PlainEngine, make_optimiser
from align_dist.parallel.zero import ZeroEngine
from align_dist.schema.values import OptimiserConfig

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def engine_name(config: RunConfig, group: Group) -> str:
    """`auto` is plain on one rank and DDP on several."""
    if config.distributed.engine != "auto":
        return config.distributed.engine
    return "ddp" if group.world_size > 1 else "plain"


def make_engine(
    config: RunConfig, module: nn.Module, chosen: OptimiserConfig, device: torch.device, group: Group
) -> Engine:
    """The network on its device, in the engine that the run's config and ranks ask for."""
    name = engine_name(config, group)
    # DeepSpeed lays weights out in one row and sends them as bytes, both only where they are contiguous; convolutions
    # then take the layout of the pictures.
    own = config.training.channels_last and name != "deepspeed"
    layout = torch.channels_last if own else torch.contiguous_format
    module = module.to(device, memory_format=layout)  # type: ignore[call-overload]
    if group.world_size > 1 and config.classifier.batchnorm == "synchronised":
        module = synchronise_batchnorm(module, device)
    module.train()
    optimiser = make_optimiser(module, chosen.name, chosen.learning_rate, chosen.weight_decay)
    clip, precision = config.training.gradient_clip, PRECISIONS[config.training.precision]
    if name == "plain":
        return PlainEngine(module, optimiser, gradient_clip=clip, precision=precision)
    if name == "ddp":
        return DDPEngine(module, optimiser, group, gradient_clip=clip, precision=precision)
    told = read_settings(config.distributed.deepspeed)
    if zero_stage(told) == 3 and not getattr(module, "closed_form", True):
        raise ConfigError(
            f"distributed.deepspeed: ZeRO-3 cannot explain {config.classifier.backbone}, whose Grad-CAM goes through "
            "autograd; take stage 2, or a backbone that ends in pooling and one linear layer"
        )
    if zero_stage(told) == 3 and config.classifier.attribution != "grad_cam":
        raise ConfigError(
            f"classifier.attribution: {config.classifier.attribution} needs gradients within forward, where ZeRO-3 has "
            "released weights; take stage 2 in distributed.deepspeed, or grad_cam"
        )
    settings = complete_settings(
        told,
        batch_size=config.data.batch_size,
        world_size=group.world_size,
        micro_batches=config.data.micro_batches,
        gradient_clip=clip,
    )
    return ZeroEngine(module, optimiser, settings, group, gradient_clip=clip, precision=precision)


def check_shares(config: RunConfig, group: Group) -> None:
    """Raises ConfigError where the global batch has no equal parts for all ranks."""
    size, ranks, parts = config.data.batch_size, group.world_size, config.data.micro_batches
    if size % (ranks * parts):
        raise ConfigError(
            f"data.batch_size: {size} images are no equal shares for {ranks} ranks of {parts} micro-batches; "
            f"take a multiple of {ranks * parts}"
        )
    paired = config.options.part_multiple
    if size % (paired * ranks * parts):
        raise ConfigError(
            f"data.batch_size: {config.method} pairs images here, and the parts of {size} on {ranks} ranks of {parts} "
            f"micro-batches are no multiple of {paired}; take a multiple of {paired * ranks * parts}"
        )
