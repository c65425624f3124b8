"""What methods' options say of themselves, without torch."""

from __future__ import annotations

from typing import Any

import pytest
from refusals import raises

from align_dist.errors import ConfigError
from align_dist.options import AlignOptions, FixedMaskOptions, Options
from align_dist.options.baselines import (
    CareOptions,
    DreOptions,
    GradiaOptions,
    HaicsOptions,
    ResOptions,
    SgtOptions,
)
from align_dist.options.clock import Clock


@pytest.mark.parametrize(
    ("lengths", "key"),
    [
        ({"masker_head_start": "2 epochs"}, "masker_head_start: "),
        ({"sparsity_ramp": "2 epochs"}, "align.sparsity_ramp: "),
    ],
)
def test_lengths_that_would_make_a_masker_do_something_else_are_refused(lengths: dict[str, str], key: str) -> None:
    with raises(ConfigError, key, "2 epochs", "15 steps", "10 steps"):
        AlignOptions(**lengths).check(Clock(20, 10, 7.5))


@pytest.mark.parametrize("alternation", ["epoch", "joint"])
def test_turns_that_would_never_come_are_refused(alternation: str) -> None:
    brief = {"masker_head_start": "5 steps", "masker_length": "5 steps", "alternation": alternation}
    with pytest.raises(ConfigError):
        AlignOptions(**brief).check(Clock(20, 10, 7.5))
    AlignOptions(**{**brief, "masker_length": "6 steps"}).check(Clock(20, 10, 7.5))


def test_a_masker_may_begin_with_the_run_and_reach_its_sparsity_at_the_end() -> None:
    AlignOptions(masker_head_start="10 steps", sparsity_ramp="20 steps").check(Clock(20, 10, 7.5))


def test_warm_up_is_what_a_method_does_before_its_own_options_act() -> None:
    clock = Clock(20, 10, 4.0)
    assert AlignOptions().shared_warmup(clock) == FixedMaskOptions().shared_warmup(clock) == 10
    assert AlignOptions(masker_head_start="1 epochs").shared_warmup(clock) == 6
    assert Options().shared_warmup(clock) == 0, "nothing guides ERM, so there is no warm-up to share"
    assert AlignOptions().shared_warmup(Clock(20, 20, 4.0)) == 20, "without guidance"


def test_only_given_masks_are_read() -> None:
    kinds = ("constant", "grey", "given")
    assert [FixedMaskOptions(mask=kind).reads_masks for kind in kinds] == [False, False, True]
    assert not AlignOptions().reads_masks


@pytest.mark.parametrize("options", [HaicsOptions, GradiaOptions, CareOptions, ResOptions])
def test_supervision_is_by_given_masks_unless_told_otherwise_and_begins_after_warm_up(options: type[Any]) -> None:
    assert options().reads_masks and not options(mask="grey").reads_masks
    assert (options(shuffled=True).part_divisor, options().part_divisor) == (4, 1)
    assert options().shared_warmup(Clock(20, 10, 4.0)) == 10


@pytest.mark.parametrize("options", [DreOptions, SgtOptions])
def test_what_acts_from_the_first_step_reads_no_masks_and_has_no_warm_up_to_share(options: type[Any]) -> None:
    assert not options().reads_masks and options().shared_warmup(Clock(20, 10, 4.0)) == 0
