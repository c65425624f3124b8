"""Optuna's own pictures of a search, of what the trials' folders say."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial

import numpy as np

from align_dist.files import write_atomically
from align_dist.search.config import Objective, SearchConfig
from align_dist.search.sampler import study_of
from align_dist.search.trials import Trial


def draw_plots(search: SearchConfig, trials: Sequence[Trial]) -> None:
    """Write the plots that there are enough scored trials for into the search's folder."""
    study, names = study_of(search, trials), names_of(search.objective)
    if not study.trials:
        return
    from matplotlib import pyplot, use
    from optuna.visualization import matplotlib as plots

    use("Agg")
    of_objective = {"target": lambda trial: trial.values[0], "target_name": names[0]}
    drawers = {
        "history": partial(plots.plot_optimization_history, study, **of_objective),
        "slice": partial(plots.plot_slice, study, **of_objective),
    }
    if len(study.trials) > 1:
        drawers["parallel"] = partial(plots.plot_parallel_coordinate, study, **of_objective)
        drawers["importances"] = partial(plots.plot_param_importances, study, **of_objective)
    if len(names) > 1:
        drawers["front"] = partial(plots.plot_pareto_front, study, target_names=names)
    for name, draw in drawers.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls its pictures by matplotlib experimental
            figure = np.atleast_1d(draw()).flat[0].figure
        write_atomically(search.folder() / f"{name}.png", partial(figure.savefig, format="png", bbox_inches="tight"))
        pyplot.close(figure)


def names_of(objective: Objective) -> list[str]:
    """The objectives, for axes: one name, or two of a Pareto search."""
    accuracy, sign = "source validation accuracy", "−" if objective.metric == "sufficiency" else ""
    metric = f"{sign}{objective.metric}"
    if objective.kind == "combined":
        return [f"{accuracy} + {objective.weight:g} · ({metric})"]
    return [accuracy, metric] if objective.kind == "pareto" else [accuracy]
