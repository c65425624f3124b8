"""The same run gives the same numbers on one process, on DDP and on ZeRO; and a mistake in that would be seen."""

from __future__ import annotations

import pytest
import torch
from parallel.trials import Result, Settings, assert_same_training, mean_terms, movement, run_trials, trial

from align_dist.options.registry import METHODS

PLAIN = ("align", "erm", "fixed_mask", "mixup", "irm", "groupdro", "rsc", "cgc")
ZERO = ("zero0", "zero1", "zero2", "zero3")
ENGINES = ("ddp", *ZERO)
# One run, said in other ways: each holds for one process and for every engine.
VARIANTS: dict[str, Settings] = {
    **{method: {"method": method} for method in PLAIN},
    **{name: {"method": name, name: {"mask": "grey"}} for name in ("haics", "gradia", "care", "res")},
    **{name: {"method": name} for name in ("dre", "sgt")},
    "given": {"method": "haics"},
    "irm": {"method": "irm", "irm": {"penalty": 3.0, "penalty_anneal": "2 steps"}},
    "groupdro": {"method": "groupdro", "groupdro": {"eta": 0.5}},
    "mixup-parts": {"method": "mixup", "data": {"batch_size": 12, "micro_batches": 3}},
    "sgt-random": {"method": "sgt", "sgt": {"replacement": "random", "fraction": 0.5}},
    "salient": {"method": "made_up_salient"},
    "parts": {
        "data": {"batch_size": 12, "micro_batches": 2},
        "training": {"gradient_clip": 0.5},
        "batchnorm": "frozen",  # any other normalises each part on its own
    },
    "autograd": {"closed_form": False},
    "mixed": {"align": {"lambda4": 0.7}},
    "exchanged": {
        "align": {"exchange": 1.0, "removed_pixels": "another_image", "shuffled": True},
        "data": {"batch_size": 16},
    },
    "mixed-parts": {"align": {"lambda4": 0.7}, "data": {"batch_size": 12, "micro_batches": 3}},
}
# Of momentum, in float32: some terms have corners (|·|, the smallest and largest cell of a map) where rounding turns a
# gradient. In float64 nothing is left of it, see below; of exchanged pictures neither, by hand.
CORNERS = 3e-3
STATE = dict.fromkeys(("align", "autograd", "parts", "mixed", "mixed-parts", "dre", "exchanged"), CORNERS)
# Of a term: two versions of a picture are told so nearly the same that their divergence is what is left of numbers of
# 1, to a rounding of those.
TERMS = {"sgt": 1e-3, "sgt-random": 1e-3}
# What an engine does to gradients and weights it does whatever the loss is. Every variant under DDP; under ZeRO-2, that
# shares gradients and states, and under ZeRO-3, which releases weights, what differs in passes or steps; ZeRO-0 and 1
# with what differs in the steps themselves: an optimiser that is reset, a state of the method's own, parts, a second
# backward.
OF_STEPS = ("align", "irm", "groupdro", "parts", "mixed-parts", "autograd")
OF_PASSES = (*OF_STEPS, "rsc", "cgc", "sgt", "salient", "exchanged")
# Under ZeRO-3 a second backward inside forward finds the head's weights released.
PAIRS = [
    (variant, engine)
    for variant in VARIANTS
    for engine in ENGINES
    if (engine == "ddp" or variant in (OF_PASSES if engine in ("zero2", "zero3") else OF_STEPS))
    and (variant, engine) != ("autograd", "zero3")
]
# Sums over more than two ranks: of gradients, domains, groups and pairs of pictures.
ON_FOUR = ("align", "irm", "groupdro", "mixed")
PRECISE: Settings = {"optimiser": "adamw", "batchnorm": "synchronised", "dtype": "float64"}
IN_FLOAT64 = ("mixed", "autograd", "parts", "exchanged", "dre")
BFLOAT16: Settings = {"training": {"precision": "bfloat16"}}
# What really comes of each planted mistake. `leak` is harmless under DDP, for `update` clears gradients first, and
# `wrapper` is as well, where the graph may change.
PLANTED = {
    ("wrapper", "zero0"): "RuntimeError: Direct calls to tensor.backward",
    ("wrapper", "zero1"): "IndexError: list index out of range",
    ("wrapper", "zero2"): "IndexError: list index out of range",
    ("wrapper", "zero3"): "not close|not equal",
    ("leak", "zero0"): "not close|not equal",
    ("leak", "zero1"): "not close|not equal",
    ("leak", "zero2"): "AssertionError: .*already been reduced",
    ("leak", "zero3"): "AssertionError",
    ("alone", "ddp"): "not close|not equal",
}


def on_one_process() -> dict[str, Settings]:
    return {
        "start": trial("plain", steps=0),
        **{f"{name}-plain": trial("plain", **settings) for name, settings in VARIANTS.items()},
        **{f"float64-{name}-plain": trial("plain", **{**PRECISE, **VARIANTS[name]}) for name in IN_FLOAT64},
        "bfloat16-plain": trial("plain", **BFLOAT16),
        **{f"align-{engine}-of-1": trial(engine) for engine in ("ddp", "zero1", "zero3")},
    }


def on_two_ranks() -> dict[str, Settings]:
    return {
        **{f"{variant}-{engine}": trial(engine, **VARIANTS[variant]) for variant, engine in PAIRS},
        "sharded": trial("sharded"),
        **{f"float64-{name}-ddp": trial("ddp", **{**PRECISE, **VARIANTS[name]}) for name in IN_FLOAT64},
        **{f"bfloat16-{engine}": trial(engine, **BFLOAT16) for engine in ("ddp", "zero1", "zero3")},
        **{f"synchronised-{engine}": trial(engine, batchnorm="synchronised") for engine in ("ddp", "zero1", "zero3")},
        "first-synchronised": trial("ddp", batchnorm="synchronised", method="erm", steps=1),
        **{f"first-local-{e}": trial(e, batchnorm="local", method="erm", steps=1) for e in ("ddp", "zero1")},
        "none": trial("ddp", plant="none"),
        **{f"{plant}-{engine}": trial(engine, plant=plant) for plant, engine in PLANTED},
    }


def test_every_method_is_among_them() -> None:
    assert {settings.get("method", "align") for settings in VARIANTS.values()} >= {*METHODS}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    folder = tmp_path_factory.mktemp("trials")
    return {
        **run_trials(folder, 1, on_one_process()),
        **run_trials(folder, 2, on_two_ranks()),
        **run_trials(folder, 4, {f"{name}-ddp-of-4": trial("ddp", **VARIANTS[name]) for name in ON_FOUR}),
    }


@pytest.mark.parametrize(("variant", "engine"), PAIRS)
def test_two_ranks_train_as_one_process_does(trained: dict[str, Result], variant: str, engine: str) -> None:
    state, terms = STATE.get(variant, 1e-4), TERMS.get(variant, 1e-4)
    assert_same_training(trained[f"{variant}-{engine}"], trained[f"{variant}-plain"], state=state, terms=terms)


@pytest.mark.parametrize("method", ON_FOUR)
def test_so_do_four(trained: dict[str, Result], method: str) -> None:
    state = STATE.get(method, 1e-4)
    assert_same_training(trained[f"{method}-ddp-of-4"], trained[f"{method}-plain"], state=state)


@pytest.mark.parametrize("engine", ["ddp", "zero1", "zero3"])
def test_so_does_one_in_any_engine(trained: dict[str, Result], engine: str) -> None:
    assert_same_training(trained[f"align-{engine}-of-1"], trained["align-plain"])


def test_so_does_zero3_where_every_parameter_is_a_shard(trained: dict[str, Result]) -> None:
    assert_same_training(trained["sharded"], trained["align-plain"], state=CORNERS)


def test_what_is_compared_has_moved_and_would_have_been_clipped(trained: dict[str, Result]) -> None:
    """By much more than the tolerance; and DeepSpeed's own clipping, at 1, would have shown."""
    plain, start = trained["align-plain"], trained["start"]
    for network in ("classifier", "masker"):
        assert movement(plain, start, network).abs().max() > 1e-3
    assert mean_terms(plain, 3)["classifier/gradient_norm"] > 1
    logged = [mean_terms(trained["align-plain"], step) for step in range(5)]
    assert ["masker/distinction" in terms for terms in logged] == [False, True, True, True, True]
    assert ["classifier/guidance" in terms for terms in logged] == [False, False, True, True, True]


def test_mixtures_are_the_same_whatever_parts_a_batch_is_taken_in(trained: dict[str, Result]) -> None:
    """Partners and class weights are those of the whole batch, and a part brings its partners' pictures."""
    assert_same_training(trained["mixed-parts-plain"], trained["mixed-plain"], state=STATE["mixed"])
    with pytest.raises(AssertionError):
        assert_same_training(trained["mixed-plain"], trained["align-plain"])


def test_clipping_and_parts_matter_where_they_are_set(trained: dict[str, Result]) -> None:
    clipped, free = (movement(trained[name], trained["start"], "classifier") for name in ("parts-ddp", "align-ddp"))
    assert clipped.norm() < free.norm() / 2


@pytest.mark.parametrize("name", IN_FLOAT64)
def test_in_float64_two_ranks_and_one_differ_by_nothing(trained: dict[str, Result], name: str) -> None:
    """So what is left in float32 is rounding. AdamW and BatchNorm over the global batch, where it grows fastest."""
    one, two = trained[f"float64-{name}-plain"], trained[f"float64-{name}-ddp"]
    assert_same_training(two, one, weights=1e-10, state=1e-9, terms=1e-6)


@pytest.mark.parametrize("engine", ["zero1", "zero3"])
def test_synchronised_batchnorm_is_every_engines(trained: dict[str, Result], engine: str) -> None:
    assert_same_training(trained[f"synchronised-{engine}"], trained["synchronised-ddp"])


@pytest.mark.parametrize("engine", ["zero1", "zero3"])
def test_bfloat16_is_the_same_in_every_engine(trained: dict[str, Result], engine: str) -> None:
    """Autocast's, in all of them: on the same shares weights agree as they do in float32."""
    assert_same_training(trained[f"bfloat16-{engine}"], trained["bfloat16-ddp"])
    with pytest.raises(AssertionError):
        assert_same_training(trained[f"bfloat16-{engine}"], trained["align-ddp"])


def test_bfloat16_on_two_ranks_goes_where_it_goes_on_one(trained: dict[str, Result]) -> None:
    """Not closer: a convolution's weight gradient is rounded to 8 bits after the sum over a rank's pictures."""
    shift, wanted = (movement(trained[f"bfloat16-{name}"], trained["start"], "classifier") for name in ("ddp", "plain"))
    assert (shift - wanted).norm() < 0.2 * wanted.norm()


@pytest.mark.parametrize("engine", ["ddp", "zero1"])
def test_local_batchnorm_leaves_every_rank_the_mean_of_their_statistics(
    trained: dict[str, Result], engine: str
) -> None:
    """After a step from equal weights: the mean of means is the global one, the mean of variances is less."""
    local, synchronised = trained[f"first-local-{engine}"], trained["first-synchronised"]
    assert "error" not in local, local["error"]
    ranks = [weights["classifier"] for weights in local["weights"]]
    statistics = [name for name in ranks[0] if "running" in name]
    assert len(statistics) > 4 and all(torch.equal(ranks[0][name], ranks[1][name]) for name in statistics)
    first, wanted = ranks[0], synchronised["networks"]["classifier"]["module"]
    torch.testing.assert_close(first["network.bn1.running_mean"], wanted["network.bn1.running_mean"])
    assert (wanted["network.bn1.running_var"] - first["network.bn1.running_var"]).abs().max() > 1e-5


@pytest.mark.parametrize(("plant", "engine"), PLANTED)
def test_a_planted_mistake_is_seen(trained: dict[str, Result], plant: str, engine: str) -> None:
    with pytest.raises(AssertionError, match=PLANTED[plant, engine]):
        assert_same_training(trained[f"{plant}-{engine}"], trained["align-plain"], state=CORNERS)


def test_the_frame_around_the_mistakes_is_none(trained: dict[str, Result]) -> None:
    assert_same_training(trained["none"], trained["align-plain"], state=CORNERS)
