"""Where a search's next trial comes from, in the form that Ray Tune asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ray.tune.search import Searcher

from align_dist.search.folders import Trial, mark_suggested
from align_dist.search.plan import Ended, Next


class Suggestions(Searcher):  # type: ignore[misc]
    """Hands out trials and puts them on record. Ray keeps nothing of it: a search goes on from its run folders."""

    def __init__(self, following: Next, ended: Ended, passing: Callable[[Trial], Sequence[int]]) -> None:
        super().__init__(metric="objective", mode="max")
        self._following, self._ended, self._passing = following, ended, passing
        self._given: dict[str, Trial] = {}

    def set_search_properties(self, metric: str, mode: str, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        trial = self._following()
        if trial is None:
            return str(Searcher.FINISHED)
        mark_suggested(trial)
        self._given[trial_id] = trial
        return {
            "number": trial.number,
            "run": trial.config.model_dump(mode="json"),
            "passing": list(self._passing(trial)),
        }

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._ended(self._given[trial_id])

    def save(self, checkpoint_path: str) -> None:
        """Nothing."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""
