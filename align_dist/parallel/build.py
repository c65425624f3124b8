"""The choice of a network's engine."""

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
    """The engine in the config; `auto` is plain on one rank and DDP on several."""
    if config.distributed.engine != "auto":
        return config.distributed.engine
    return "ddp" if group.world_size > 1 else "plain"


def make_engine(
    config: RunConfig, module: nn.Module, settings: OptimiserConfig, device: torch.device, group: Group
) -> Engine:
    """A network on its device, wrapped in the engine that the config and the world size determine."""
    name = engine_name(config, group)
    # DeepSpeed flattens weights and broadcasts them as bytes, which needs contiguous weights; convolutions then take
    # the memory format of the images.
    is_channels_last = config.training.channels_last and name != "deepspeed"
    memory_format = torch.channels_last if is_channels_last else torch.contiguous_format
    module = module.to(device, memory_format=memory_format)  # type: ignore[call-overload]
    if group.world_size > 1 and config.classifier.batchnorm == "synchronised":
        module = synchronise_batchnorm(module, device)
    module.train()
    optimiser = make_optimiser(module, settings.name, settings.learning_rate, settings.weight_decay)
    clip, precision = config.training.gradient_clip, PRECISIONS[config.training.precision]
    if name == "plain":
        return PlainEngine(module, optimiser, gradient_clip=clip, precision=precision)
    if name == "ddp":
        return DDPEngine(module, optimiser, group, gradient_clip=clip, precision=precision)
    zero_settings = read_settings(config.distributed.deepspeed)
    if zero_stage(zero_settings) == 3 and not getattr(module, "closed_form", True):
        raise ConfigError(
            f"distributed.deepspeed: ZeRO-3 cannot explain {config.classifier.backbone}: its Grad-CAM needs autograd; "
            "set stage 2, or a backbone that ends in pooling and one linear layer"
        )
    if zero_stage(zero_settings) == 3 and config.classifier.attribution != "grad_cam":
        raise ConfigError(
            f"classifier.attribution: {config.classifier.attribution} needs gradients inside forward, where ZeRO-3 has "
            "released weights; set stage 2 in distributed.deepspeed, or grad_cam"
        )
    engine_settings = complete_settings(
        zero_settings,
        batch_size=config.data.batch_size,
        world_size=group.world_size,
        micro_batches=config.data.micro_batches,
        gradient_clip=clip,
    )
    return ZeroEngine(module, optimiser, engine_settings, group, gradient_clip=clip, precision=precision)


def check_batch_size(config: RunConfig, group: Group) -> None:
    """Raise ConfigError where the global batch cannot be split into equal parts for all ranks."""
    size, ranks, parts = config.data.batch_size, group.world_size, config.data.micro_batches
    if size % (ranks * parts):
        raise ConfigError(
            f"data.batch_size: {size} images cannot be split equally over {ranks} ranks of {parts} micro-batches; "
            f"set a multiple of {ranks * parts}"
        )
    multiple = config.options.part_divisor
    if size % (multiple * ranks * parts):
        raise ConfigError(
            f"data.batch_size: {config.method} pairs images, and the parts of {size} on {ranks} ranks of {parts} "
            f"micro-batches are not a multiple of {multiple}; set a multiple of {multiple * ranks * parts}"
        )
