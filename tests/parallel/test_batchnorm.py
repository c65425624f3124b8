"""On ranks that share a batch, SynchronisedBatchNorm is torch's BatchNorm on the whole of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from parallel.normalisation import CASES, STEPS, make_module, steps_of
from ranks import run_ranks
from torch import Tensor, nn

from align_dist.parallel.batchnorm import SynchronisedBatchNorm, local_statistics, synchronise_batchnorm

SCRIPT = Path(__file__).parent / "normalisation.py"
CPU = torch.device("cpu")
Seen = dict[str, list[list[dict[str, Any]]]]


@pytest.fixture(scope="module", params=[1, 2])
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """By case and rank, what its steps gave; one rank is a group as well."""
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(request.param, [str(SCRIPT), str(folder), "ddp"])
    steps: Seen = torch.load(folder / f"{request.param}.pt", weights_only=True)
    return steps


def close(actual: Tensor, wanted: Tensor) -> None:
    """To 1e-12 of the largest entry."""
    torch.testing.assert_close(actual, wanted, rtol=0, atol=1e-12 * max(1.0, float(wanted.abs().max())))


def interleaved(shares: list[Tensor]) -> Tensor:
    return torch.stack(shares, dim=1).flatten(0, 1)


@pytest.mark.parametrize("step", range(STEPS + 1))
@pytest.mark.parametrize("case", [case for case in CASES if case != "without statistics"])
def test_ranks_together_are_the_whole_batch(results: Seen, case: str, step: int) -> None:
    """Outputs and gradients, and after each step the running statistics; the last step is one in evaluation."""
    compare([rank[step] for rank in results[case]], steps_of(make_module(case), slice(None))[step])


@pytest.mark.parametrize("step", range(STEPS))
def test_so_they_are_in_training_where_no_statistics_are_kept(results: Seen, step: int) -> None:
    """In evaluation each share is normalised by itself, as in torch's SyncBatchNorm."""
    case = "without statistics"
    compare([rank[step] for rank in results[case]], steps_of(make_module(case), slice(None))[step])


def compare(ranks: list[dict[str, Any]], whole: dict[str, Any]) -> None:
    close(interleaved([rank["outputs"] for rank in ranks]), whole["outputs"])
    close(interleaved([rank["inputs"] for rank in ranks]), whole["inputs"])
    for name, gradient in whole["weights"].items():
        close(torch.stack([rank["weights"][name] for rank in ranks]).sum(0), gradient)
    for rank in ranks:
        assert rank["buffers"].keys() == whole["buffers"].keys()
        for name, value in whole["buffers"].items():
            close(rank["buffers"][name].double(), value.double())


def make_network() -> nn.Sequential:
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=1e-3, momentum=None))
    return nn.Sequential(inner, nn.ReLU(), nn.BatchNorm2d(4, affine=False), nn.GroupNorm(2, 4))


def test_names_weights_and_buffers_stay_what_they_were() -> None:
    network = make_network()
    network[0][1].eval()
    parameters, buffers = dict(network.named_parameters()), dict(network.named_buffers())
    order, modes = list(network.state_dict()), {name: child.training for name, child in network.named_modules()}
    assert synchronise_batchnorm(network, CPU) is network
    assert list(network.state_dict()) == order
    assert all(value is parameters[name] for name, value in network.named_parameters())
    assert all(value is buffers[name] for name, value in network.named_buffers())
    assert {name: child.training for name, child in network.named_modules()} == modes
    assert {name for name, child in network.named_modules() if isinstance(child, SynchronisedBatchNorm)} == {"0.1", "2"}
    assert (network[0][1].eps, network[0][1].momentum, network[2].affine) == (1e-3, None, False)


def test_in_evaluation_it_needs_no_ranks() -> None:
    network = make_network().eval()
    images = torch.randn(2, 3, 6, 6)
    wanted = network(images)
    torch.testing.assert_close(synchronise_batchnorm(network, CPU)(images), wanted)


def test_local_statistics_are_those_that_training_moves_on_each_rank() -> None:
    network = make_network()
    network[0][1].eval()
    statistics = local_statistics(network)
    assert [id(value) for value in statistics] == [id(network[2].running_mean), id(network[2].running_var)]
    assert local_statistics(synchronise_batchnorm(make_network(), CPU)) == []
