"""Conversion between DeepSpeed's shards and the common form of checkpoints. All functions are collective.

The common form is torch's: a module's state dict, and an optimiser's `{"state": {i: {...}}, "param_groups": [...]}`
with tensors of the parameters' shapes, where i counts parameters in the module's order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from align_dist.parallel.engine import in_memory_format_of, trainable_parameters


def gather_weights(module: nn.Module, stage: int) -> dict[str, Tensor]:
    """A copy of the whole state dict, because parameters are views of flat buffers, which a file would contain."""
    whole = {name: value.detach().clone() for name, value in module.state_dict().items()}
    if stage == 3:
        for name, parameter in module.named_parameters():
            whole[name] = _whole_parameter(parameter)
    return whole


def scatter_weights(module: nn.Module, weights: dict[str, Tensor], stage: int) -> None:
    """Load weights into the network and into ZeRO's float32 copy."""
    if stage < 3:
        module.load_state_dict(weights)
    else:
        names = {name for name, _ in module.named_parameters()}
        module.load_state_dict({k: v for k, v in weights.items() if k not in names}, strict=False)
        _fill_shards(module, weights)
    if stage > 0:
        for name, parameter in trainable_parameters(module).items():
            _set_master(parameter, weights[name], stage)


def gather_optimiser(sharded: Any, optimiser: torch.optim.Optimizer, module: nn.Module, stage: int) -> dict[str, Any]:
    """The optimiser's state in torch's form for one process."""
    if stage == 0:
        return _copied(optimiser.state_dict())
    from deepspeed.utils import safe_get_full_optimizer_state

    parameters = list(trainable_parameters(module).values())
    settings = {key: value for key, value in optimiser.param_groups[0].items() if key != "params"}
    groups = [{**settings, "params": list(range(len(parameters)))}]
    shards = [optimiser.state[flat] for flat in _flat_parameters(sharded, stage) if optimiser.state.get(flat)]
    if not shards:
        return {"state": {}, "param_groups": groups}
    counts = {key: value for key, value in shards[0].items() if value.dim() == 0}
    keys = [key for key in shards[0] if key not in counts]
    state = {}
    for index, parameter in enumerate(parameters):
        whole = {key: safe_get_full_optimizer_state(parameter, key).detach().clone() for key in keys}
        state[index] = {**{key: value.clone() for key, value in counts.items()}, **whole}
    return {"state": state, "param_groups": groups}


def scatter_optimiser(
    sharded: Any, optimiser: torch.optim.Optimizer, module: nn.Module, stage: int, saved: dict[str, Any]
) -> None:
    """Load an optimiser's state in torch's form into the shards of this rank."""
    if stage == 0:
        optimiser.load_state_dict(in_memory_format_of(list(trainable_parameters(module).values()), saved))
        return
    for group in optimiser.param_groups:
        group.update({k: v for k, v in saved["param_groups"][0].items() if k != "params"})
    if not saved["state"]:
        optimiser.state.clear()
        return
    first, parameters = saved["state"][0], list(trainable_parameters(module).values())
    counts = {key: value for key, value in first.items() if value.dim() == 0}
    keys = [key for key in first if key not in counts]
    for flat in _flat_parameters(sharded, stage):
        zeros = {key: torch.zeros_like(flat, dtype=torch.float32) for key in keys}
        optimiser.state[flat] = {**{key: value.to(flat.device).clone() for key, value in counts.items()}, **zeros}
    if stage < 3:
        sharded._hp_optimizer_states_linked = False
        sharded._lazy_init_hp_params_optimizer_state()
    for index, parameter in enumerate(parameters):
        for key in keys:
            _set_state(parameter, saved["state"][index][key], key, stage)


def _set_master(parameter: nn.Parameter, value: Tensor, stage: int) -> None:
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_local_fp32_param

    whole = value.to(parameter.device, torch.float32)
    if stage < 3:
        safe_set_full_fp32_param(parameter, whole)
    else:
        safe_set_local_fp32_param(parameter, _shard_of(parameter, whole))


def _set_state(parameter: nn.Parameter, value: Tensor, key: str, stage: int) -> None:
    from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

    whole = value.to(parameter.device, torch.float32)
    if stage < 3:
        safe_set_full_optimizer_state(parameter, whole, key)
    else:
        safe_set_local_optimizer_state(parameter, _shard_of(parameter, whole), key)


def _shard_of(parameter: nn.Parameter, whole: Tensor) -> Tensor:
    """This rank's shard under ZeRO-3, with the last shard padded, because DeepSpeed's setter (0.19) fails where a
    parameter's size is not a multiple of the world size.
    """
    import torch.distributed as dist
    from deepspeed.utils import safe_get_local_fp32_param

    size = safe_get_local_fp32_param(parameter).numel()
    padded = torch.nn.functional.pad(whole.flatten(), (0, size * dist.get_world_size() - whole.numel()))
    return padded.narrow(0, size * dist.get_rank(), size)


def _flat_parameters(sharded: Any, stage: int) -> Iterator[Tensor]:
    """The inner optimiser's flat parameters: one tensor per group (ZeRO 1, 2) or sub-group (ZeRO 3)."""
    yield from sharded.single_partition_of_fp32_groups if stage < 3 else sharded.fp32_partitioned_groups_flat


def _whole_parameter(parameter: nn.Parameter) -> Tensor:
    import deepspeed

    with deepspeed.zero.GatheredParameters([parameter]):
        return parameter.detach().clone()


def _fill_shards(module: nn.Module, weights: dict[str, Tensor]) -> None:
    import deepspeed

    for name, parameter in module.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0), torch.no_grad():
            parameter.copy_(weights[name])


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    entries = {
        index: {key: value.clone() if isinstance(value, Tensor) else value for key, value in entry.items()}
        for index, entry in state["state"].items()
    }
    return {"state": entries, "param_groups": state["param_groups"]}
