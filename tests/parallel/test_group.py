from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks
from refusals import raises

from align_dist.errors import ConfigError
from align_dist.machine import available_cores
from align_dist.parallel.group import Group

Answers = list[dict[str, Any]]
SCRIPT = Path(__file__).parent / "agreement.py"


@pytest.fixture(scope="module", params=[2, 3])
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What each rank got, by rank."""
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(request.param, [str(SCRIPT), str(folder)])
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(request.param)]


def column(answers: Answers, name: str) -> list[Any]:
    return [answer[name] for answer in answers]


def test_one_rank_is_enough_for_any(answers: Answers) -> None:
    assert column(answers, "any") == [[False, True, True, True]] * len(answers)


def test_gather_is_by_rank_on_every_rank(answers: Answers) -> None:
    for gathered in column(answers, "gather"):
        assert [entry["rank"] for entry in gathered] == list(range(len(answers)))
        assert [entry["tensor"].tolist() for entry in gathered] == [[float(r)] * 2 for r in range(len(answers))]


def test_first_acts_on_rank_0_alone_and_tells_all(answers: Answers) -> None:
    others = len(answers) - 1
    assert column(answers, "is_first") == [True] + [False] * others
    assert column(answers, "calls") == [["0"]] + [[]] * others
    assert column(answers, "first") == [{"by": 0}] * len(answers)


def test_an_error_of_the_first_is_everybodys_and_known_to_be(answers: Answers) -> None:
    assert column(answers, "first fails") == [["CheckpointError", "no file, says 0", True]] * len(answers)


def test_together_each_has_its_own_value(answers: Answers) -> None:
    assert column(answers, "together") == [10 * rank for rank in range(len(answers))]


def test_an_error_of_one_rank_is_raised_on_all_the_lowest_ones_of_several(answers: Answers) -> None:
    assert column(answers, "last fails") == [["ConfigError", "last", True]] * len(answers)
    assert column(answers, "all fail") == [["ConfigError", "rank 0", True]] * len(answers)


def test_read_gives_every_rank_what_the_first_has(answers: Answers) -> None:
    for state in column(answers, "read"):
        assert torch.equal(state["networks"]["weight"], torch.arange(6.0).view(2, 3))
        assert torch.equal(state["networks"]["half"], torch.ones(3, dtype=torch.bfloat16))
        assert (state["step"], state["names"], state["empty"]) == (7, ["a", "b"], {})
    assert column(answers, "read none") == [None] * len(answers)
    assert column(answers, "read fails") == [["CheckpointError", "torn, says 0", True]] * len(answers)


def test_the_mean_is_taken_in_place(answers: Answers) -> None:
    mean = sum(range(len(answers))) / len(answers)
    for values, same in column(answers, "mean_"):
        assert values == pytest.approx([mean, 2.0]) and same


def test_after_all_of_it_the_ranks_are_in_step(answers: Answers) -> None:
    assert column(answers, "still in step") == [list(range(len(answers)))] * len(answers)


def test_ranks_of_one_machine_divide_its_cores(answers: Answers) -> None:
    assert column(answers, "cores") == [max(1, available_cores() // len(answers))] * len(answers)


def test_alone_nothing_communicates() -> None:
    assert not dist.is_initialized()
    group, values = Group(), torch.tensor([1.0, 2.0])
    assert group.is_first and group.any(True) and not group.any(False)
    assert group.gather("mine") == ["mine"]
    assert group.run_on_first(lambda: 1) == 1 and group.run_on_all(lambda: 2) == 2
    assert (
        group.broadcast_from_first(lambda: {"step": 3}) == {"step": 3}
        and group.broadcast_from_first(lambda: None) is None
    )
    assert group.mean_(values) is values and values.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("method", [Group.run_on_first, Group.run_on_all, Group.broadcast_from_first])
def test_alone_an_error_is_raised_as_it_is(method: Callable[[Group, Callable[[], None]], None]) -> None:
    def fail() -> None:
        raise ConfigError("wrong")

    with raises(ConfigError, "wrong"):
        method(Group(), fail)
