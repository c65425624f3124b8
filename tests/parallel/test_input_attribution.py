"""Attributions that take further passes within forward train on several ranks as on one."""

from __future__ import annotations

import pytest
from parallel.trials import Result, Settings, assert_same_training, mean_terms, run_trials, trial

from align_dist.input_attribution import INPUT_ATTRIBUTIONS

ZERO = ("zero0", "zero1", "zero2")
# In float64, and with BatchNorm over the global batch: the further passes are in evaluation mode, and no rank waits
# there for another.
PRECISE: Settings = {"optimiser": "adamw", "batchnorm": "synchronised", "dtype": "float64", "steps": 4}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    folder = tmp_path_factory.mktemp("trials")
    kinds = ("grad_cam", *INPUT_ATTRIBUTIONS)
    on_one = {name: trial("plain", attribution=name, **PRECISE) for name in kinds}
    on_one["float32"] = trial("plain", attribution="input_gradient", steps=4)
    on_two = {f"{name}-ddp": trial("ddp", attribution=name, **PRECISE) for name in INPUT_ATTRIBUTIONS}
    on_two |= {engine: trial(engine, attribution="input_gradient", steps=4) for engine in ("ddp", *ZERO)}
    on_two |= {f"{name}-zero3": trial("zero3", attribution=name) for name in INPUT_ATTRIBUTIONS}
    return {**run_trials(folder, 1, on_one), **run_trials(folder, 2, on_two)}


@pytest.mark.parametrize("name", INPUT_ATTRIBUTIONS)
def test_two_ranks_train_as_one_process_does(trained: dict[str, Result], name: str) -> None:
    assert_same_training(trained[f"{name}-ddp"], trained[name], weights=1e-9, state=1e-8, terms=1e-6)


@pytest.mark.parametrize("engine", ["ddp", *ZERO])
def test_so_they_do_in_any_engine_in_float32(trained: dict[str, Result], engine: str) -> None:
    assert_same_training(trained[engine], trained["float32"])


@pytest.mark.parametrize("name", INPUT_ATTRIBUTIONS)
def test_what_is_compared_is_not_grad_cams_training(trained: dict[str, Result], name: str) -> None:
    guidance = [mean_terms(trained[kind], 3)["classifier/guidance"] for kind in (name, "grad_cam")]
    assert abs(float(guidance[0] - guidance[1])) > 1e-3


@pytest.mark.parametrize("name", INPUT_ATTRIBUTIONS)
def test_zero3_is_refused_before_the_first_step(trained: dict[str, Result], name: str) -> None:
    error = trained[f"{name}-zero3"]["error"]
    assert "ConfigError: classifier.attribution" in error and "\n" not in error
