"""Optuna's own pictures of a search, of what the trials' folders say."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from align_dist.files import write_whole
from align_dist.search.config import SIGNS, Objective, SearchConfig
from align_dist.search.sampler import study_of
from align_dist.search.trials import Trial

FEWEST = 2  # trials that a setting's importance can be told from


def draw_plots(search: SearchConfig, trials: Sequence[Trial]) -> list[Path]:
    """Writes the pictures that there are trials enough for into the search's folder; returns their paths."""
    study = study_of(search, trials)
    if not study.trials:
        return []
    from matplotlib import pyplot, use
    from optuna.visualization import matplotlib as plots

    use("Agg")
    of_objective = {"target": _first_value, "target_name": objective_name(search.objective)}
    figures: dict[str, Callable[[], Any]] = {
        "history": partial(plots.plot_optimization_history, study, **of_objective),
        "slice": partial(plots.plot_slice, study, **of_objective),
    }
    if len(study.trials) >= FEWEST:
        figures["parallel"] = partial(plots.plot_parallel_coordinate, study, **of_objective)
        figures["importances"] = partial(plots.plot_param_importances, study, **of_objective)
    if search.objective.kind == "pareto":
        names = [objective_name(search.objective), _signed(search.objective)]
        figures["front"] = partial(plots.plot_pareto_front, study, target_names=names)
    paths = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls its pictures by matplotlib experimental
        for name, draw in figures.items():
            figure = np.atleast_1d(draw()).flat[0].figure
            paths.append(search.folder() / f"{name}.png")
            write_whole(paths[-1], lambda file, figure=figure: figure.savefig(file, format="png", bbox_inches="tight"))
            pyplot.close(figure)
    return paths


def objective_name(objective: Objective) -> str:
    """What is maximised, for an axis."""
    if objective.kind != "combined":
        return "source validation accuracy"
    return f"source validation accuracy + {objective.weight:g} · ({_signed(objective)})"


def _signed(objective: Objective) -> str:
    metric = str(objective.metric)
    return metric if SIGNS[metric] > 0 else f"−{metric}"


def _first_value(trial: FrozenTrial) -> float:
    return float(trial.values[0])
